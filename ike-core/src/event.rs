//! What the endpoint tells its caller.

use crate::registry::ExchangeType;
use core::fmt;
use core::net::SocketAddr;

use ipsec_core::net::{Cpi, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::Mode;

use crate::auth::ask::{Lease, Question};
use crate::clock::UnixTime;
use crate::crypto::EspSuite;
use crate::failure::Failure;
use crate::pad::{ChildConfigId, PeerId};
use crate::wire::id::ShortId;
use crate::wire::outline::Outline;

/// Names an IKE SA for as long as it lives; a name is not used again soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IkeId {
    pub(crate) slot: u16,
    pub(crate) generation: u32,
}

/// Names a Child SA for as long as it lives; a name is not used again soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ChildId {
    pub(crate) slot: u16,
    pub(crate) generation: u32,
}

/// Names what an IKE SA stands still for, until it was answered or that SA is gone.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitId {
    pub(crate) ike: IkeId,
    pub(crate) number: u8,
}

/// Tells the parties apart that share a connection without `remote_id`: it is the same for IKE SAs in which the peer proved
/// the same identity. Says nothing before that.
///
/// ```
/// use ike_core::endpoint::IkeView;
/// use ike_core::event::Party;
/// /// How many IKE SAs one of those has that share a connection.
/// fn count(sas: impl Iterator<Item = IkeView>, party: Party) -> usize {
///     sas.filter(|sa| sa.party == party).count()
/// }
/// assert_eq!(count(core::iter::empty(), Party::default()), 0); // of `Endpoint::ike_sas`
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Party {
    /// The beginning of a hash of the identity: enough to tell whether two are the same.
    pub(crate) digest: [u8; 16],
}

/// A datagram to send.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'e> {
    /// Of which IKE SA; `None` for an answer that belongs to none.
    pub ike: Option<IkeId>,
    /// From and to.
    pub path: Path,
    /// The whole UDP payload, with the non-ESP marker where the path needs one (RFC 3948 §2.2).
    pub datagram: &'e [u8],
    /// What it carries, for a log; `None` for a NAT keepalive.
    pub outline: Option<Outline>,
    /// It was sent before.
    pub repeated: bool,
}

/// Something happened. Borrowed from the endpoint: what is lent is wiped or gone with the next call.
///
/// ```
/// use ike_core::event::{ChildId, Event, IkeId};
/// use ike_core::failure::Failure;
/// /// What the data plane has to do.
/// #[derive(Debug, PartialEq)]
/// enum Step {
///     Install { both_ways: bool },
///     Send(ChildId),
///     Remove(ChildId),
///     Move(IkeId),
/// }
/// fn step(event: &Event<'_>) -> Option<Step> {
///     Some(match event {
///         Event::ChildUp(up) => Step::Install { both_ways: up.outbound_ready },
///         Event::ChildOutbound { child } => Step::Send(*child),
///         Event::ChildDown { child, .. } => Step::Remove(*child),
///         Event::PathChanged { ike, .. } => Step::Move(*ike),
///         _ => return None, // for the operator, or for whoever connects anew
///     })
/// }
/// let path = ipsec_core::net::Path { local: "192.0.2.1:500".parse().unwrap(), remote: "192.0.2.2:500".parse().unwrap() };
/// assert_eq!(step(&Event::Refused { path, cause: Failure::UnknownAddress }), None);
/// ```
#[non_exhaustive]
#[derive(Debug)]
pub enum Event<'e> {
    /// An IKE SA is up: the peer is authenticated.
    Established {
        /// The new IKE SA.
        ike: IkeId,
        /// With whom.
        peer: PeerId,
    },
    /// An IKE SA was rekeyed; its children belong to `new`.
    IkeRekeyed {
        /// The SA that was replaced.
        old: IkeId,
        /// The SA that takes over.
        new: IkeId,
        /// With whom.
        peer: PeerId,
    },
    /// A Child SA was negotiated: install it.
    ChildUp(ChildUp<'e>),
    /// From now on send through this Child SA, and no longer through the one it replaces.
    ChildOutbound {
        /// The Child SA whose `outbound_ready` was false.
        child: ChildId,
    },
    /// Both sides deleted this Child SA after another one replaced it: send nothing through it any more. What is on its way
    /// is received until [`Event::ChildDown`].
    ChildDraining {
        /// The Child SA.
        child: ChildId,
    },
    /// Remove this Child SA from the data plane, both directions.
    ChildDown {
        /// The Child SA.
        child: ChildId,
        /// With whom.
        peer: PeerId,
        /// Its configuration.
        config: ChildConfigId,
        /// Why; [`Failure::Replaced`] after a rekey.
        cause: Failure,
    },
    /// A Child SA that we asked for, or the peer asked us for, did not come about; the IKE SA lives.
    ChildFailed {
        /// The IKE SA.
        ike: IkeId,
        /// With whom.
        peer: PeerId,
        /// Which one: that was asked for, or that was to be rekeyed and goes on; `None` when the peer asked.
        child: Option<ChildId>,
        /// Its configuration; `None` when the peer asked and nothing configured fits.
        config: Option<ChildConfigId>,
        /// Why.
        cause: Failure,
    },
    /// A rekey of the IKE SA did not come about, whoever began it; the SA goes on as it was, and ours is tried again.
    RekeyFailed {
        /// The IKE SA.
        ike: IkeId,
        /// With whom.
        peer: PeerId,
        /// Why.
        cause: Failure,
    },
    /// The peer does not answer a request, repeated as often as that is done, and is heard of all the same: the SA and its
    /// children stand for as long as it is, and nothing else can be asked on it. Make another IKE SA with
    /// [`Endpoint::initiate`](crate::endpoint::Endpoint::initiate) and close this one then.
    Unanswered {
        /// The IKE SA.
        ike: IkeId,
        /// With whom.
        peer: PeerId,
        /// What is not answered.
        exchange: ExchangeType,
    },
    /// The peer takes us for authenticated for a limited time, which is nearly over (AUTH_LIFETIME, RFC 4478): make another
    /// IKE SA with [`Endpoint::initiate`](crate::endpoint::Endpoint::initiate) and close this one then, or the peer ends it.
    Reauthenticate {
        /// The IKE SA.
        ike: IkeId,
        /// With whom.
        peer: PeerId,
    },
    /// Somebody answered our IKE_SA_INIT in clear with a reason why nothing will come of it. Nobody vouches for that: we go
    /// on asking, and only when no better answer comes it is the cause in [`Event::Closed`] (RFC 7296 §2.21.1).
    Noted {
        /// The IKE SA that we ask for.
        ike: IkeId,
        /// With whom.
        peer: PeerId,
        /// Where we ask.
        remote: SocketAddr,
        /// The reason.
        cause: Failure,
    },
    /// The peer is reached on another address or port now (NAT rebinding, RFC 7296 §2.23): move its Child SAs.
    PathChanged {
        /// The IKE SA whose children are concerned.
        ike: IkeId,
        /// The new path of IKE and of encapsulated ESP.
        path: Path,
    },
    /// A handshake stands still until [`Endpoint::answer`](crate::endpoint::Endpoint::answer) is called, or the time for it
    /// is over, which [`Event::Closed`] tells. What is asked is lent.
    #[doc(hidden)]
    Asked {
        /// To be named in the answer.
        wait: WaitId,
        /// The IKE SA.
        ike: IkeId,
        /// With whom; unproven.
        peer: PeerId,
        /// What the clock on the wall said when the question came up.
        wall: Option<UnixTime>,
        /// What is asked.
        question: Question<'e>,
    },
    /// What was leased to a peer is free: its IKE SA is gone, as was told before.
    #[doc(hidden)]
    LeaseOver {
        /// The IKE SA that had it last.
        ike: IkeId,
        /// What was leased.
        lease: Lease,
    },
    /// An IKE SA is gone, or a handshake failed. Its children were reported before.
    Closed {
        /// The IKE SA.
        ike: IkeId,
        /// With whom: the peer that proved who it is, or that we called. `None` for a stranger.
        peer: Option<PeerId>,
        /// The connection of the identity that a stranger claimed and did not prove. For diagnosis only: anybody can claim.
        claimed: Option<PeerId>,
        /// Who the other end said to be, if it came to that. For diagnosis only, unless it was `established`.
        identity: Option<ShortId>,
        /// Which of the parties that share the connection it was, when it was `established`.
        party: Party,
        /// The other end's address.
        remote: SocketAddr,
        /// Whether it had been established.
        established: bool,
        /// Why.
        cause: Failure,
    },
    /// A stranger's or a peer's IKE_SA_INIT request was refused, or not answered, without creating state.
    Refused {
        /// Who asked.
        path: Path,
        /// Why.
        cause: Failure,
    },
}

/// A Child SA with its keys, lent until the next call to `poll_event`.
///
/// ```
/// use ike_core::event::ChildUp;
/// use ipsec_core::sa::{DontFragment, Lifetime, Mode, OutboundParams, Params};
/// use ipsec_core::spd::PolicyId;
/// /// What the data plane has to install to send.
/// fn outbound<'e>(up: &ChildUp<'e>) -> OutboundParams<'e> {
///     let sa = Params {
///         spi: up.spi_out,
///         mode: Mode::Tunnel,
///         protection: up.suite.protection,
///         keymat: up.key_out,
///         esn: up.suite.esn,
///         path: up.path,
///         encap: up.encap,
///         policy: PolicyId(up.config.0),
///         local_ts: up.local,
///         remote_ts: up.remote,
///         lifetime: Lifetime::default(), // IKE rekeys by age; amounts are counted where the packets are
///         compression: None,
///     };
///     OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: false, dont_fragment: DontFragment::Copy }
/// }
/// ```
pub struct ChildUp<'e> {
    /// The new Child SA.
    pub child: ChildId,
    /// The IKE SA that carries it.
    pub ike: IkeId,
    /// With whom.
    pub peer: PeerId,
    /// Who that proved to be.
    pub party: Party,
    /// Its configuration.
    pub config: ChildConfigId,
    /// The Child SA this one replaces, when it is a rekey.
    pub replaces: Option<ChildId>,
    /// We asked for it, not the peer.
    pub ours: bool,
    /// False after a rekey that the peer began, and when it connected beside an IKE SA that carries this child: receive at
    /// once, send when [`Event::ChildOutbound`] comes. What it takes to send is lent here only: keep a copy until then.
    pub outbound_ready: bool,
    /// The negotiated mode.
    pub mode: Mode,
    /// The negotiated algorithms.
    pub suite: EspSuite,
    /// SPI of packets we receive.
    pub spi_in: Spi,
    /// SPI of packets we send.
    pub spi_out: Spi,
    /// The keys for packets we receive, in the order of RFC 7296 §2.17: the cipher key, then the salt of an AEAD (RFC 4106
    /// §8.1) or the integrity key. `suite.protection` says how long each is.
    pub key_in: &'e [u8],
    /// The keys for packets we send.
    pub key_out: &'e [u8],
    /// Negotiated selectors of our side.
    pub local: &'e [TrafficSelector],
    /// Negotiated selectors of the peer's side.
    pub remote: &'e [TrafficSelector],
    /// Addresses for ESP, and ports where it is encapsulated. Without ([`Encap::None`]) the ports are those of IKE: protocol
    /// 50 has none, and an SA of `ipsec-core` wants 0 there.
    pub path: Path,
    /// Protocol 50 or UDP.
    pub encap: Encap,
    /// What it carries may be compressed with DEFLATE (RFC 7296 §2.22): the index of packets we receive, and that of packets we send.
    pub compression: Option<(Cpi, Cpi)>,
    /// The peer takes packets in tunnel mode that look longer than they are (TFC, RFC 4303 §2.7): it did not say otherwise.
    pub takes_padding: bool,
}

impl fmt::Debug for ChildUp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildUp")
            .field("child", &self.child)
            .field("ike", &self.ike)
            .field("peer", &self.peer)
            .field("config", &self.config)
            .field("replaces", &self.replaces)
            .field("mode", &self.mode)
            .field("suite", &self.suite)
            .field("spi_in", &self.spi_in)
            .field("spi_out", &self.spi_out)
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("path", &self.path)
            .field("encap", &self.encap)
            .field("compression", &self.compression)
            .field("takes_padding", &self.takes_padding)
            .finish_non_exhaustive()
    }
}
