//! An IKE SA: an enum of states, each holding only what exists in it. One file below this one per state.

use heapless::Vec;
use ipsec_core::net::{Encap, Path};
use ipsec_core::time::Instant;

use crate::child::Children;
use crate::crypto::{Digest64, Group, IkeCrypto, KePublic, PrfAlg};
use crate::endpoint::Settings;
use crate::error::NoRoom;
use crate::event::{ChildId, IkeId};
use crate::failure::{Failure, Side};
use crate::keys::IkeKeys;
use crate::natd::Nat;
use crate::pad::{ChildConfigId, Pad, PeerId};
use crate::registry::{ExchangeType, GroupId, NotifyKind, PayloadType};
use crate::rules::Refused;
use crate::window::Window;
use crate::wire::chain::Chain;
use crate::wire::header::Header;
use crate::wire::id::Id;
use crate::wire::notify::Notify;
use crate::wire::writer::MessageWriter;

pub(crate) mod auth_sent;
pub(crate) mod child_agreed;
pub(crate) mod child_creating;
pub(crate) mod deleting;
pub(crate) mod established;
pub(crate) mod init_answered;
pub(crate) mod init_sent;
pub(crate) mod rekeying;

/// Octets of our nonces: at least half the key size of every PRF (RFC 7296 §2.10).
pub(crate) const NONCE_LEN: usize = 32;

/// The beginning of the lowest nonce of an exchange: decides which of two crossing rekeys stays (RFC 7296 §2.8.1).
/// Nonces are random, 32 octets of each are enough to tell which is lower.
pub(crate) type LowestNonce = Vec<u8, 32>;

/// The lower of the two nonces of an exchange.
pub(crate) fn lowest(one: &[u8], other: &[u8]) -> LowestNonce {
    one.min(other).iter().copied().take(32).collect()
}

/// What an error notification of the peer means.
pub(crate) fn cause_of(error: &Notify<'_>) -> Failure {
    match error.kind {
        NotifyKind::NO_PROPOSAL_CHOSEN => Failure::ProposalsRefused,
        NotifyKind::AUTHENTICATION_FAILED => Failure::AuthenticationFailed(Side::Peer),
        NotifyKind::TS_UNACCEPTABLE => Failure::TrafficSelectors(Side::Peer),
        NotifyKind::NO_ADDITIONAL_SAS => Failure::NoAdditionalSas(Side::Peer),
        NotifyKind::INVALID_SYNTAX => Failure::InvalidSyntax(Side::Peer),
        NotifyKind::INVALID_MAJOR_VERSION => Failure::MajorVersion,
        NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD => {
            let payload = error.data.first().copied().unwrap_or(0);
            Failure::UnsupportedCriticalPayload(Side::Peer, PayloadType(payload))
        }
        other => Failure::Notified(other),
    }
}

/// What it means that we refuse a message.
pub(crate) fn refused(why: Refused) -> Failure {
    match why {
        Refused::UnsupportedCritical(payload) => Failure::UnsupportedCriticalPayload(Side::Here, payload),
        _ => Failure::InvalidSyntax(Side::Here),
    }
}

/// Why we refuse a request, and what the peer is told of it.
pub(crate) struct Refusal {
    pub(crate) cause: Failure,
    pub(crate) kind: NotifyKind,
    data: Vec<u8, 2>,
}

impl Refusal {
    pub(crate) fn new(cause: Failure, kind: NotifyKind) -> Self {
        Self { cause, kind, data: Vec::new() }
    }

    /// The message itself is wrong (RFC 7296 §2.21).
    pub(crate) fn of(why: Refused) -> Self {
        let mut refusal = Self::new(refused(why), NotifyKind::INVALID_SYNTAX);
        if let Refused::UnsupportedCritical(payload) = why {
            refusal.kind = NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD;
            refusal.data.extend([payload.0]);
        }
        refusal
    }

    /// The peer guessed another group than the one we chose (RFC 7296 §1.3).
    pub(crate) fn group(chosen: Group) -> Self {
        let mut refusal = Self::new(Failure::GroupNotOffered(chosen.id().0), NotifyKind::INVALID_KE_PAYLOAD);
        refusal.data.extend(chosen.id().0.to_be_bytes());
        refusal
    }

    /// Not now (RFC 7296 §2.25).
    pub(crate) fn busy() -> Self {
        Self::new(Failure::Notified(NotifyKind::TEMPORARY_FAILURE), NotifyKind::TEMPORARY_FAILURE)
    }

    pub(crate) fn write(&self, message: &mut MessageWriter<'_>) -> Result<(), NoRoom> {
        message.notify_parts(self.kind, &[&self.data])
    }
}

/// The group that INVALID_KE_PAYLOAD asks for (RFC 7296 §1.3).
pub(crate) fn wanted_group(error: &Notify<'_>) -> Option<GroupId> {
    error.data.try_into().ok().map(|group| GroupId(u16::from_be_bytes(group)))
}

/// The nonce in a message in clear that was checked when it came.
pub(crate) fn nonce_of(message: &[u8]) -> &[u8] {
    let payloads = Header::parse(message).ok().zip(message.get(Header::LEN..));
    let nonce = payloads.and_then(|(header, body)| {
        Chain::new(header.next, body).flatten().find(|payload| payload.kind == PayloadType::NONCE)
    });
    nonce.map(|payload| payload.body).unwrap_or_default()
}

/// We asked for an IKE SA and wait for the responder's IKE_SA_INIT.
pub(crate) struct InitSent<C: IkeCrypto> {
    /// Taken when the answer comes.
    pub(crate) ke: Option<C::KeSecret>,
    pub(crate) public: KePublic,
    pub(crate) group: Group,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) cookie: Vec<u8, 64>,
    pub(crate) restarts: u8,
    pub(crate) child: Option<ChildConfigId>,
}

/// We answered IKE_SA_INIT and wait for IKE_AUTH. The request stands in the request buffer, our answer in the other.
pub(crate) struct InitAnswered<C: IkeCrypto> {
    pub(crate) keys: IkeKeys<C>,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) request_len: usize,
}

/// We sent IKE_AUTH. The responder's IKE_SA_INIT stands in the response buffer.
pub(crate) struct AuthSent<C: IkeCrypto> {
    pub(crate) keys: IkeKeys<C>,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) answer_len: usize,
    /// The child that travels with IKE_AUTH.
    pub(crate) child: u16,
}

/// Both sides are authenticated.
pub(crate) struct Established<C: IkeCrypto> {
    pub(crate) keys: IkeKeys<C>,
    pub(crate) since: Instant,
    /// The last authenticated sign of life.
    pub(crate) heard: Instant,
    /// What our outstanding request asks for.
    pub(crate) request: Option<Request<C>>,
    pub(crate) want_delete: bool,
    pub(crate) want_rekey: bool,
    pub(crate) want_liveness: bool,
    /// The group to begin our next rekey with.
    pub(crate) rekey_group: Group,
    pub(crate) rekey_at: Option<Instant>,
    /// The SA that took over; this one only waits to be deleted.
    pub(crate) replaced: bool,
    /// Made by a rekey of the peer that crossed ours: it is not known yet whether it stays.
    pub(crate) undecided: bool,
    /// When to delete it ourselves, because the peer that should have did not.
    pub(crate) orphan_at: Option<Instant>,
}

/// What an outstanding request asks for.
pub(crate) enum Request<C: IkeCrypto> {
    Child(ChildRequest<C>),
    Rekey(RekeyRequest<C>),
    DeleteChild,
    DeleteIke,
    Liveness,
}

/// CREATE_CHILD_SA for a Child SA, new or in place of another.
pub(crate) struct ChildRequest<C: IkeCrypto> {
    /// Slot of the new child.
    pub(crate) new: u16,
    /// The child to replace.
    pub(crate) old: Option<ChildId>,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) ke: Option<(Group, C::KeSecret)>,
    /// The peer's rekey of the same child that crossed ours.
    pub(crate) crossed: Option<Crossed<ChildId>>,
}

/// CREATE_CHILD_SA for a new IKE SA in place of this one.
pub(crate) struct RekeyRequest<C: IkeCrypto> {
    /// Slot and SPI of the new SA.
    pub(crate) new: u16,
    pub(crate) spi: u64,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) group: Group,
    /// Taken when the answer comes.
    pub(crate) ke: Option<C::KeSecret>,
    /// The peer's rekey that crossed ours.
    pub(crate) crossed: Option<Crossed<Heir>>,
}

/// What the peer's rekey that crossed ours came to: the SA it made, and the lowest nonce of its exchange.
pub(crate) struct Crossed<T> {
    pub(crate) made: T,
    pub(crate) lowest: LowestNonce,
}

/// An SA that takes over: its slot, and our SPI to tell whether it is still there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heir {
    pub(crate) slot: u16,
    pub(crate) spi: u64,
}

pub(crate) enum State<C: IkeCrypto> {
    /// The slot is kept for our rekey; there is no SA yet.
    Reserved,
    InitSent(InitSent<C>),
    InitAnswered(InitAnswered<C>),
    AuthSent(AuthSent<C>),
    Established(Established<C>),
    /// Over. Stays for a while to repeat its last response.
    Dead,
}

/// The beginning of a hash of an identity: enough to tell whether two are the same.
pub(crate) type IdentityDigest = [u8; 16];

pub(crate) fn identity<C: IkeCrypto>(crypto: &mut C, id: &Id<'_>) -> IdentityDigest {
    let mut digest = Digest64::new();
    crypto.prf(PrfAlg::HmacSha256, &[id.kind.0], &[id.data], &mut digest);
    digest.as_slice().first_chunk().copied().unwrap_or_default()
}

/// What the caller has to be told.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) established: bool,
    pub(crate) rekeyed_from: Option<IkeId>,
    pub(crate) moved: bool,
    /// The end: whether it had been established, and why it ended.
    pub(crate) closed: Option<(bool, Failure)>,
    /// A child that the peer asked for, or that had no slot yet, did not come about.
    pub(crate) child_failed: Option<(Option<ChildConfigId>, Failure)>,
}

pub(crate) struct Sa<C: IkeCrypto> {
    pub(crate) peer: Option<PeerId>,
    /// Tells the identities apart that share a connection without `remote_id`.
    pub(crate) identity: IdentityDigest,
    /// We are the original initiator: our SPI is `spi_i`.
    pub(crate) initiator: bool,
    pub(crate) spi_i: u64,
    pub(crate) spi_r: u64,
    pub(crate) path: Path,
    pub(crate) nat: Nat,
    /// How ESP of the children travels.
    pub(crate) encap: Encap,
    pub(crate) window: Window,
    pub(crate) state: State<C>,
    /// End of a half-open or dead SA.
    pub(crate) expires: Option<Instant>,
    pub(crate) keepalive_at: Option<Instant>,
    pub(crate) send_keepalive: bool,
    /// Something may be waiting for the window.
    pub(crate) work: bool,
    /// Octets of a last word in the request buffer, said once.
    pub(crate) farewell: Option<usize>,
    pub(crate) report: Report,
}

impl<C: IkeCrypto> Sa<C> {
    pub(crate) fn new(initiator: bool, spi_i: u64, spi_r: u64, path: Path, state: State<C>) -> Self {
        Self {
            peer: None,
            identity: IdentityDigest::default(),
            initiator,
            spi_i,
            spi_r,
            path,
            nat: Nat::default(),
            encap: Encap::None,
            window: Window::new(path),
            state,
            expires: None,
            keepalive_at: None,
            send_keepalive: false,
            work: false,
            farewell: None,
            report: Report::default(),
        }
    }

    /// The header of our next request; `None` while one is outstanding.
    pub(crate) fn request_header(&self, exchange: ExchangeType) -> Option<Header> {
        let id = self.window.request_id()?;
        Some(Header { initiator: self.initiator, ..Header::new(self.spi_i, self.spi_r, exchange, id) })
    }

    /// The header of our response to the request we expect next.
    pub(crate) fn response_header(&self, exchange: ExchangeType) -> Header {
        Header {
            initiator: self.initiator,
            response: true,
            ..Header::new(self.spi_i, self.spi_r, exchange, self.window.expected())
        }
    }

    /// The peer was heard from elsewhere: its NAT has a new mapping (RFC 7296 §2.23). Whoever initiated from behind a NAT
    /// of its own does not follow: its peer is the one that stays.
    pub(crate) fn follow(&mut self, path: Path) {
        if path.remote != self.path.remote && !(self.nat.local && self.initiator) {
            self.path.remote = path.remote;
            self.report.moved = true;
        }
    }

    /// Ends the SA and its children. `quiet`: the caller was told before, by a rekey, or never heard of it.
    pub(crate) fn die(&mut self, env: &mut Env<'_, '_, C>, cause: Failure) {
        let (established, quiet) = match &self.state {
            State::Dead => return,
            State::Established(established) => (true, established.replaced || established.undecided),
            _ => (false, false),
        };
        env.children.end_all(env.slot, &cause);
        if !quiet {
            self.report.closed = Some((established, cause));
        }
        self.window.restart();
        self.keepalive_at = None;
        self.send_keepalive = false;
        self.expires = Some(env.now + env.settings.linger);
        self.state = State::Dead;
    }
}

/// What a state works with besides its SA: the rest of the endpoint, taken apart so that each can be borrowed.
pub(crate) struct Env<'x, 'a, C> {
    pub(crate) now: Instant,
    /// Slot of the SA.
    pub(crate) slot: u16,
    pub(crate) crypto: &'x mut C,
    pub(crate) children: &'x mut Children<'a>,
    /// Our outstanding request, or what the handshake keeps there. Without the non-ESP marker.
    pub(crate) request: &'x mut [u8],
    /// Our last response, or what the handshake keeps there. Without the non-ESP marker.
    pub(crate) response: &'x mut [u8],
    pub(crate) settings: &'x Settings,
    pub(crate) pad: &'x dyn Pad,
    /// There is no other established SA with this peer.
    pub(crate) alone: bool,
    /// A free slot and an SPI for it, for a rekey of the IKE SA.
    pub(crate) spare: Option<(u16, u64)>,
}

/// What a state asks the endpoint to do in other slots.
pub(crate) struct Effects<C: IkeCrypto> {
    /// Put an SA into the spare or reserved slot.
    pub(crate) place: Option<(u16, Sa<C>)>,
    /// This SA takes over the children.
    pub(crate) heir: Option<Heir>,
    /// This SA lost against a crossing rekey: delete it after a while, should the peer not.
    pub(crate) orphan: Option<Heir>,
    /// The SA itself ends, after its children found their heir.
    pub(crate) die: Option<Failure>,
    /// Give back a reserved slot.
    pub(crate) release: Option<u16>,
    /// Other SAs with this peer under this identity are history (INITIAL_CONTACT).
    pub(crate) initial_contact: bool,
}

impl<C: IkeCrypto> Default for Effects<C> {
    fn default() -> Self {
        Self { place: None, heir: None, orphan: None, die: None, release: None, initial_contact: false }
    }
}
