//! What is asked of whoever holds the keys of an authentication, and what it answers (RFC 7296 §2.15, §2.16).
//!
//! Not for use yet, and hidden for as long: no method that asks is built.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heapless::Vec;
use ipsec_core::net::{AddrRange, TrafficSelector};

use crate::crypto::Digest64;
use crate::registry::{AuthMethod, PayloadType};
use crate::wire::auth::Auth;
use crate::wire::cert::Cert;
use crate::wire::chain::Chain;
use crate::wire::id::Id;

/// What a proof of identity covers: the three one after the other (RFC 7296 §2.15).
pub struct Signed<'e> {
    /// The first message that its maker sent, from the IKE header on.
    pub message: &'e [u8],
    /// The nonce that its maker received.
    pub nonce: &'e [u8],
    /// prf(SK_p, IDi' or IDr') of its maker.
    pub maced_id: Digest64,
}

impl fmt::Debug for Signed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").finish_non_exhaustive()
    }
}

/// The peer's proof of who it is.
#[derive(Debug)]
pub struct Claim<'e> {
    /// Who it says to be; the connection accepts that.
    pub id: Id<'e>,
    /// The proof, not verified.
    pub auth: Auth<'e>,
    /// What it has to cover.
    pub signed: Signed<'e>,
    pub(crate) payloads: Chain<'e>,
}

impl<'e> Claim<'e> {
    /// The certificates that came with it; the first one is the peer's own.
    pub fn certs(&self) -> impl Iterator<Item = Cert<'e>> + use<'e> {
        let certs = self.payloads.clone().flatten().filter(|payload| payload.kind == PayloadType::CERT);
        certs.flat_map(|payload| Cert::parse(payload.body))
    }
}

/// Addresses that the peer has for as long as the IKE SA lives, and whatever takes its place (RFC 7296 §2.19). Whoever leases
/// them has them back with [`Event::LeaseOver`](crate::event::Event::LeaseOver), once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// The IPv4 address, if any.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address, if any.
    pub v6: Option<Ipv6Addr>,
}

impl Lease {
    /// What the peer's side of a child may be.
    pub(crate) fn selectors(&self) -> Vec<TrafficSelector, 2> {
        let addresses = [self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6)];
        addresses.into_iter().flatten().map(|address| TrafficSelector::addrs(AddrRange::single(address))).collect()
    }
}

/// What an IKE SA stands still for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Question<'e> {
    /// Our proof: [`Answer::Proof`].
    Proof(Signed<'e>),
    /// Whether the peer's proof holds: [`Answer::Verdict`].
    Verdict(Claim<'e>),
    /// Which addresses the peer is to have, which has proved who it is: [`Answer::Lease`]. When that is refused, the IKE SA
    /// comes up without a child (RFC 7296 §3.15.4).
    Lease {
        /// Who it is.
        id: Id<'e>,
    },
    /// What to say next in EAP: [`Answer::Eap`] or [`Answer::EapDone`].
    Eap {
        /// The EAP message of the peer (RFC 3748 §4); `None`: we begin.
        received: Option<&'e [u8]>,
    },
}

/// The answer to a [`Question`].
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// What goes into our AUTH payload.
    Proof(Auth<'a>),
    /// Whether the peer is who it says to be.
    Verdict(bool),
    /// The addresses of the peer. When the answer is taken, they are leased.
    Lease(Lease),
    /// Our next EAP message.
    Eap(&'a [u8]),
    /// EAP has authenticated both sides.
    EapDone {
        /// The last word of the EAP server, Success; empty on the other side.
        last: &'a [u8],
        /// The MSK, 1 to 64 octets: what both sides prove that they hold.
        key: &'a [u8],
    },
    /// To whatever was asked: this will not come about.
    Refused,
}

impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proof(_) => "Proof(..)",
            Self::Verdict(true) => "Verdict(true)",
            Self::Verdict(false) => "Verdict(false)",
            Self::Lease(_) => "Lease(..)",
            Self::Eap(_) => "Eap(..)",
            Self::EapDone { .. } => "EapDone { .. }",
            Self::Refused => "Refused",
        })
    }
}

impl<'a> Answer<'a> {
    /// A signature with its algorithm in front, as RFC 7427 §3 lays it out.
    pub const fn signature(data: &'a [u8]) -> Self {
        Self::Proof(Auth { method: AuthMethod::SIGNATURE, data })
    }
}
