//! What the caller hands over: an SA as it is negotiated.

use core::fmt;

use super::ids::PolicyId;
use super::lifetime::Lifetime;
use crate::crypto::Protection;
use crate::net::{Cpi, Encap, Path, Spi, TrafficSelector};

/// What an SA carries (RFC 4301 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Mode {
    /// Whole packets of others.
    #[default]
    Tunnel,
    /// What its two ends say to each other, behind their own IP header (RFC 4303 §3.1.1).
    Transport,
    /// What two hosts say to each other, whose addresses go without saying: they are the SA's selectors, one on each side. On the
    /// wire it looks like transport mode, between the ends of the path (draft-nikander-esp-beet-mode).
    Beet,
}

impl Mode {
    /// Whether this build has it: of other modes than tunnel mode the feature `transport` decides.
    pub(crate) const fn is_built(self) -> bool {
        matches!(self, Self::Tunnel) || cfg!(feature = "transport")
    }
}

/// The Don't Fragment bit of an outer IPv4 header (RFC 4301 §8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DontFragment {
    /// As in the inner IPv4 header; set above an inner IPv6 packet.
    #[default]
    Copy,
    /// Always set.
    Set,
    /// Never set: routers may fragment ESP packets.
    Clear,
}

/// How long inner packets look (traffic flow confidentiality, RFC 4303 §2.7): what is encrypted behind them, the peer cuts off
/// by their own length. Not for peers that said they do not (ESP_TFC_PADDING_NOT_SUPPORTED, RFC 7296 §1.3.1).
///
/// The room behind a packet has to do for it, and packets that are to fit a path are no longer than
/// [`Overhead::max_inner_len`](crate::mtu::Overhead::max_inner_len) says.
///
/// ```
/// use ipsec_core::sa::TfcPadding;
/// let steps = TfcPadding::Multiple { of: 256, up_to: 1400 };
/// assert_eq!([84, 1300, 1438].map(|len| steps.padded(len)), [256, 1400, 1438]);
/// assert_eq!([84, 1438].map(|len| TfcPadding::Length(1400).padded(len)), [1400, 1438]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TfcPadding {
    /// As they are.
    #[default]
    None,
    /// Multiples of `of` octets, but no more than `up_to`.
    Multiple {
        /// Octets of a step.
        of: u16,
        /// Octets of the longest packet that is padded to.
        up_to: u16,
    },
    /// All of so many octets, but for longer ones.
    Length(u16),
}

impl TfcPadding {
    /// Octets that a packet of `len` octets looks like.
    #[inline]
    pub fn padded(self, len: usize) -> usize {
        match self {
            Self::None => len,
            Self::Multiple { of, up_to } => {
                len.checked_next_multiple_of(of.into()).map_or(len, |padded| padded.min(up_to.into()).max(len))
            }
            Self::Length(padded) => len.max(padded.into()),
        }
    }
}

/// What both directions of an SA need.
///
/// ```
/// use ipsec_core::crypto::AeadAlg;
/// use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
/// use ipsec_core::sa::{Lifetime, Mode, Params};
/// use ipsec_core::spd::PolicyId;
/// let (ours, theirs) = (TrafficSelector::addrs(AddrRange::ANY_V4), TrafficSelector::addrs(AddrRange::ANY_V4));
/// let params = Params {
///     spi: Spi::new(0x1000).unwrap(),
///     mode: Mode::Tunnel,
///     protection: AeadAlg::Aes256Gcm16.into(),
///     keymat: &[7; 32 + 4], // key and salt, as they come out of KEYMAT
///     esn: true,
///     path: Path { local: "192.0.2.2:4500".parse().unwrap(), remote: "192.0.2.1:4500".parse().unwrap() },
///     encap: Encap::Udp,
///     policy: PolicyId(1),
///     local_ts: &[ours],
///     remote_ts: &[theirs],
///     lifetime: Lifetime::default(), compression: None,
/// };
/// assert_eq!(params.keymat.len(), params.protection.keymat_len());
/// ```
pub struct Params<'k> {
    /// Of an outbound SA chosen by the peer, of an inbound SA by us.
    pub spi: Spi,
    /// What it carries.
    pub mode: Mode,
    /// Algorithms.
    pub protection: Protection,
    /// Encryption key, its salt and integrity key: [`Protection::keymat_len`] octets (RFC 7296 §2.17, RFC 4106 §8.1).
    pub keymat: &'k [u8],
    /// Extended sequence numbers.
    pub esn: bool,
    /// Outer addresses, and ports, which are left out for [`Encap::None`].
    pub path: Path,
    /// Protocol 50 or UDP. An inbound SA takes both (RFC 7296 §2.23).
    pub encap: Encap,
    /// The policy this SA belongs to.
    pub policy: PolicyId,
    /// Negotiated selectors of our side; at least one.
    pub local_ts: &'k [TrafficSelector],
    /// Negotiated selectors of the peer's side; at least one.
    pub remote_ts: &'k [TrafficSelector],
    /// When it is to be replaced and when it ends.
    pub lifetime: Lifetime,
    /// What it carries may be compressed (IPComp, RFC 3173): with which index, of an outbound SA the peer's, of an inbound SA ours.
    /// Takes the feature `ipcomp`, and an engine that was lent something to do it with.
    pub compression: Option<Cpi>,
}

impl fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params")
            .field("spi", &self.spi)
            .field("mode", &self.mode)
            .field("protection", &self.protection)
            .field("esn", &self.esn)
            .field("path", &self.path)
            .field("encap", &self.encap)
            .field("policy", &self.policy)
            .field("local_ts", &self.local_ts)
            .field("remote_ts", &self.remote_ts)
            .field("lifetime", &self.lifetime)
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}

/// An SA to send with.
#[derive(Debug)]
pub struct OutboundParams<'k> {
    /// What both directions need.
    pub sa: Params<'k>,
    /// The last sequence number sent under this key: **0 for a fresh key**. A key that was used before, anywhere, must
    /// go on behind every number it may have used, or AEAD nonces repeat.
    pub last_sent: u64,
    /// The last sequence number that may be sent under it, if there are so many: `u64::MAX` for all. Three quarters of the way
    /// there, and behind it, the SA tells [`Reached::Sequence`](super::Reached::Sequence).
    pub last_number: u64,
    /// Whether the outer DSCP is the inner one (RFC 4301 §5.1.2.1); otherwise it is 0. ECN follows RFC 6040 regardless.
    pub copy_dscp: bool,
    /// DF bit of an outer IPv4 header.
    pub dont_fragment: DontFragment,
}

/// An SA to receive with.
#[derive(Debug)]
pub struct InboundParams<'k> {
    /// What both directions need.
    pub sa: Params<'k>,
    /// Size of the anti-replay window in packets: a power of two, at least 64. There is no SA without a window.
    pub window: usize,
    /// The highest sequence number already seen: 0 for a fresh key. It and everything below count as received.
    pub highest_seen: u64,
}
