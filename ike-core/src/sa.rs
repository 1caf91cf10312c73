//! The nouns: an IKE SA, what each of its states holds, and the questions one may ask them.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use heapless::Vec;
use ipsec_core::net::{Encap, Path};
use ipsec_core::time::Instant;

use crate::child::{Children, index_mask};
use crate::crypto::{Digest64, Group, IkeCrypto, PrfAlg};
use crate::event::{ChildId, IkeId, Party};
use crate::failure::Failure;
use crate::keys::IkeKeys;
use crate::natd::Nat;
use crate::pad::{ChildConfigId, Connection, Pad, PeerId};
use crate::registry::{ExchangeType, IdKind, NotifyKind};
use crate::rules::Payloads;
use crate::settings::{Settings, share};
use crate::table::{Filed, HashSecret, KINDS, Key, Others, Place, Slot};
use crate::timers::{self, Patience};
use crate::window::Window;
use crate::wire::header::Header;
use crate::wire::id::{Id, ShortId};
use crate::wire::outline::Outline;
use crate::wire::writer::Written;

/// Octets of our nonces: at least half the key size of every PRF (RFC 7296 §2.10).
pub(crate) const NONCE_LEN: usize = 32;

/// How many reasons why nothing will come of an attempt are told: anybody can make them up.
pub(crate) const NOTED: usize = 4;

/// The beginning of the lowest nonce of an exchange: decides which of two crossing rekeys stays (RFC 7296 §2.8.1).
/// Nonces are random, 32 octets of each are enough to tell which is lower.
pub(crate) type LowestNonce = Vec<u8, 32>;

/// We asked for an IKE SA and wait for the responder's IKE_SA_INIT.
pub(crate) struct InitSent {
    pub(crate) group: Group,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) cookie: Vec<u8, 64>,
    pub(crate) restarts: u8,
    /// Copies of earlier versions of our request that may still be answered.
    pub(crate) late: u8,
    /// What somebody gave as the reason why nothing will come of it: each is told once, and no more of them.
    pub(crate) noted: Vec<Failure, NOTED>,
    pub(crate) child: Option<ChildConfigId>,
}

/// We answered IKE_SA_INIT and wait for IKE_AUTH. The request stands in the request buffer, our answer in the other.
pub(crate) struct InitAnswered {
    pub(crate) since: Instant,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) request_len: usize,
}

/// We sent IKE_AUTH. The responder's IKE_SA_INIT stands in the response buffer.
pub(crate) struct AuthSent {
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) answer_len: usize,
    /// The child that travels with IKE_AUTH.
    pub(crate) child: u16,
}

/// Both sides are authenticated.
pub(crate) struct Established {
    pub(crate) since: Instant,
    /// The last authenticated sign of life.
    pub(crate) heard: Instant,
    /// What our outstanding request asks for.
    pub(crate) request: Option<Request>,
    /// Why the SA is to be deleted, as soon as no request is outstanding.
    pub(crate) leaving: Option<Failure>,
    pub(crate) want_rekey: bool,
    pub(crate) want_liveness: bool,
    /// Something was heard after our answer that made it. Until then the peer may have no such SA: its own attempt may be
    /// over, because both called at once and ours was answered first.
    pub(crate) confirmed: bool,
    /// When somebody's claim in clear may make us ask for a sign of life again.
    pub(crate) doubted_at: Option<Instant>,
    /// After what time without a sign of life to ask for one, as the connection says now; zero: never.
    pub(crate) dpd: Duration,
    /// The group to begin our next rekey with.
    pub(crate) rekey_group: Group,
    pub(crate) rekey_at: Option<Instant>,
    /// When to authenticate anew, because the peer said for how long it takes us for authenticated (RFC 4478). Passes on to
    /// the SA that takes over: a rekey proves nothing.
    pub(crate) reauthenticate_at: Option<Instant>,
    /// How often in a row the peer asked for another group.
    pub(crate) regroups: u8,
    /// What the peer's refusals of CREATE_CHILD_SA come to.
    pub(crate) busy: Patience,
    /// What the peer's refusals of our rekeys come to.
    pub(crate) refused: Patience,
    /// The caller knows this SA, so its end is told. Passes on to the SA that takes over.
    pub(crate) announced: bool,
    /// Another SA took over; this one only waits to be deleted.
    pub(crate) replaced: bool,
    /// Made by a rekey of the peer that crossed ours: it is not known yet whether it stays.
    pub(crate) undecided: bool,
    /// Who has the children while this one is replaced or undecided: the SA that took over, or the one that it was made from.
    pub(crate) kin: Option<Heir>,
    /// When to delete it ourselves, because the peer that should have did not.
    pub(crate) orphan_at: Option<Instant>,
}

impl Established {
    /// `ours`: we began the exchange that made it, so rekeying it is our turn first. Without a connection, which may have been
    /// removed, nothing falls due.
    pub(crate) fn new<C: IkeCrypto>(
        env: &mut Env<'_, '_, C>,
        group: Group,
        connection: Option<&Connection<'_>>,
        ours: bool,
    ) -> Self {
        let (rekey, dpd) = connection.map_or_else(Default::default, |connection| (connection.rekey, connection.dpd));
        Self {
            dpd,
            rekey_group: group,
            since: env.now,
            heard: env.now,
            request: None,
            leaving: None,
            want_rekey: false,
            want_liveness: false,
            confirmed: true,
            doubted_at: None,
            rekey_at: timers::rekey_at(env.crypto, env.now, rekey, Duration::MAX, ours),
            reauthenticate_at: None,
            regroups: 0,
            busy: Patience::default(),
            refused: Patience::default(),
            announced: false,
            replaced: false,
            undecided: false,
            kin: None,
            orphan_at: None,
        }
    }

    /// Whether the SA is about to go, or may be: nothing new may begin on it.
    pub(crate) fn closing(&self) -> bool {
        self.leaving.is_some() || self.replaced || self.undecided || matches!(self.request, Some(Request::DeleteIke(_)))
    }

    /// When the peer has to show that it lives; `None` while an outstanding request does that.
    pub(crate) fn liveness_at(&self) -> Option<Instant> {
        let asked = self.request.is_some() || self.want_liveness || self.closing();
        (!asked && !self.dpd.is_zero()).then(|| self.heard + self.dpd)
    }

    /// The slot that our outstanding rekey keeps for the new SA, and its SPI.
    pub(crate) fn keeps(&self) -> Option<(u16, u64)> {
        match &self.request {
            Some(Request::Rekey(rekey)) => Some((rekey.new, rekey.spi)),
            _ => None,
        }
    }
}

/// What an outstanding request asks for.
pub(crate) enum Request {
    Child(ChildRequest),
    Rekey(RekeyRequest),
    DeleteChild,
    /// Why the IKE SA goes.
    DeleteIke(Failure),
    Liveness,
}

/// CREATE_CHILD_SA for a Child SA, new or in place of another.
pub(crate) struct ChildRequest {
    /// Slot of the new child.
    pub(crate) new: u16,
    /// The child to replace.
    pub(crate) old: Option<ChildId>,
    pub(crate) nonce: [u8; NONCE_LEN],
    /// Whose private value stands in [`Sa::ke`].
    pub(crate) group: Option<Group>,
    /// Only the proposals with `group` were offered.
    pub(crate) narrow: bool,
    /// Asked for as a new one, without REKEY_SA: the peer may have lost `old`.
    pub(crate) fresh: bool,
    /// How often the same was asked before, with another group or other proposals.
    pub(crate) restarts: u8,
    /// The peer's rekey of the same child that crossed ours.
    pub(crate) crossed: Option<Crossed<ChildId>>,
}

/// CREATE_CHILD_SA for a new IKE SA in place of this one.
pub(crate) struct RekeyRequest {
    /// Slot and SPI of the new SA. The slot is kept as long as this request stands.
    pub(crate) new: u16,
    pub(crate) spi: u64,
    pub(crate) nonce: [u8; NONCE_LEN],
    /// Whose private value stands in [`Sa::ke`].
    pub(crate) group: Group,
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

#[allow(clippy::large_enum_variant, reason = "nothing is boxed here: the slot has the size of the largest anyway")]
pub(crate) enum State {
    InitSent(InitSent),
    InitAnswered(InitAnswered),
    AuthSent(AuthSent),
    Established(Established),
    /// Over. Stays for a while to repeat its last response.
    Dead,
}

/// The party that this identity stands for: the same one for all names that [match](Id::matches), as long as names of
/// hosts and mailboxes can be.
pub(crate) fn party<C: IkeCrypto>(crypto: &mut C, id: &Id<'_>) -> Party {
    let is_name = matches!(id.kind, IdKind::FQDN | IdKind::RFC822_ADDR);
    let mut name = Vec::<u8, 255>::new();
    let data = match name.extend_from_slice(id.data) {
        Ok(()) if is_name => {
            name.make_ascii_lowercase();
            name.as_slice()
        }
        _ => id.data,
    };
    let mut digest = Digest64::new();
    crypto.prf(PrfAlg::HmacSha256, &[id.kind.0], &[data], &mut digest);
    Party { digest: digest.as_slice().first_chunk().copied().unwrap_or_default() }
}

/// What the caller has to be told.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) established: bool,
    pub(crate) rekeyed_from: Option<IkeId>,
    pub(crate) moved: bool,
    /// What somebody in the peer's place says, unproven.
    pub(crate) noted: Option<Failure>,
    /// The end: whether it had been established, and why it ended.
    pub(crate) closed: Option<(bool, Failure)>,
    /// A child that the peer asked for, or that had no slot yet, did not come about.
    pub(crate) child_failed: Option<(Option<ChildConfigId>, Failure)>,
    /// It is time to authenticate anew.
    pub(crate) reauthenticate: bool,
    /// A rekey of this SA did not come about.
    pub(crate) rekey_failed: Option<Failure>,
    /// The peer lives and does not answer our request of this exchange.
    pub(crate) unanswered: Option<ExchangeType>,
}

pub(crate) struct Sa<C: IkeCrypto> {
    pub(crate) peer: Option<PeerId>,
    /// Tells the identities apart that share a connection without `remote_id`.
    pub(crate) party: Party,
    /// Who the peer says to be, to be shown; proven once the SA is established.
    pub(crate) named: Option<ShortId>,
    /// We are the original initiator of this SA: our SPI is `spi_i`. Of one that a rekey made, that is whoever rekeyed.
    pub(crate) initiator: bool,
    /// We began with IKE_SA_INIT. Passes on to the SA that takes over, whoever rekeys.
    pub(crate) called: bool,
    pub(crate) spi_i: u64,
    pub(crate) spi_r: u64,
    pub(crate) path: Path,
    pub(crate) nat: Nat,
    /// How ESP of the children travels.
    pub(crate) encap: Encap,
    pub(crate) window: Window,
    pub(crate) state: State,
    /// From IKE_SA_INIT to the end. Here and not in the states, so that no change of state moves them: what a move leaves
    /// behind nobody wipes.
    pub(crate) keys: Option<IkeKeys<C>>,
    /// Our secret of the key exchange that our outstanding request began; here for the same reason.
    pub(crate) ke: Option<C::KeSecret>,
    /// End of a half-open or dead SA; `None` for a dead one that only stays until its end was told.
    pub(crate) expires: Option<Instant>,
    pub(crate) keepalive_at: Option<Instant>,
    pub(crate) send_keepalive: bool,
    /// Something may be waiting for the window.
    pub(crate) work: bool,
    /// A last word in the request buffer, said once.
    pub(crate) farewell: Option<Written>,
    pub(crate) report: Report,
}

impl<C: IkeCrypto> Sa<C> {
    pub(crate) fn new(initiator: bool, spi_i: u64, spi_r: u64, path: Path, state: State) -> Self {
        Self {
            peer: None,
            party: Party::default(),
            named: None,
            initiator,
            called: initiator,
            spi_i,
            spi_r,
            path,
            nat: Nat::default(),
            encap: Encap::None,
            window: Window::new(path),
            state,
            keys: None,
            ke: None,
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

    /// The peer was heard from elsewhere: its NAT has a new mapping (RFC 7296 §2.23). Whoever called from behind a NAT of
    /// its own does not follow: its peer is the one that stays.
    pub(crate) fn follow(&mut self, path: Path) {
        if path.remote != self.path.remote && !(self.nat.local && self.called) {
            self.path.remote = path.remote;
            self.report.moved = true;
        }
    }

    /// The peer is authenticated.
    pub(crate) fn establish(&mut self, env: &mut Env<'_, '_, C>, connection: &Connection<'_>) {
        let Some(keys) = &mut self.keys else { return };
        keys.forget_auth();
        let established = Established::new(env, keys.suite.group, Some(connection), self.initiator);
        self.state = State::Established(Established { announced: true, ..established });
        self.expires = None;
        self.keep_alive(env.now, env.settings);
        self.work = true;
        self.report.established = true;
    }

    /// The peer may have said for how long it takes us for authenticated; what it says last counts.
    pub(crate) fn hear_lifetime(&mut self, env: &mut Env<'_, '_, C>, payloads: &Payloads<'_>) {
        if let State::Established(established) = &mut self.state
            && let Some(notify) = payloads.notify(NotifyKind::AUTH_LIFETIME)
            && let Some(at) = timers::reauthenticate_at(env.crypto, env.now, notify.data)
        {
            established.reauthenticate_at = Some(at);
        }
    }

    /// What our outstanding request asks for.
    pub(crate) fn expect(&mut self, request: Request) {
        if let State::Established(established) = &mut self.state {
            established.request = Some(request);
        }
    }

    /// Whoever is behind a NAT keeps its mapping alive (RFC 7296 §2.23).
    pub(crate) fn keep_alive(&mut self, now: Instant, settings: &Settings) {
        self.keepalive_at = (self.nat.local && !settings.keepalive.is_zero()).then(|| now + settings.keepalive);
    }

    /// Why an SA ends whose request of this exchange nobody answered in a way that we could go on with.
    pub(crate) fn silence(&self, exchange: ExchangeType) -> Failure {
        match &self.state {
            State::InitSent(InitSent { noted, .. }) => noted.last().cloned().unwrap_or(Failure::PeerSilent(exchange)),
            _ => Failure::PeerSilent(exchange),
        }
    }

    /// When something is to be done. What somebody waits for and may be asked for is due at once, and so is the end of an SA
    /// that has been over for long enough, when that was told.
    fn timeout(&self) -> Option<Instant> {
        let established = match &self.state {
            State::Dead => return self.expires.or(self.report.closed.is_none().then_some(Instant::ZERO)),
            State::Established(_) if self.work && self.window.outstanding.is_none() => return Some(Instant::ZERO),
            State::Established(established) => {
                [established.rekey_at, established.orphan_at, established.liveness_at(), established.reauthenticate_at]
            }
            _ => [None; 4],
        };
        let request = self.window.outstanding.as_ref().map(|request| request.due);
        [self.expires, self.keepalive_at, request].into_iter().chain(established).flatten().min()
    }

    /// Whether its beginning, or something that happens while it lives, is to be told. Of an SA of which it is not decided yet
    /// whether it takes over, the caller does not know.
    fn has_begun(&self) -> bool {
        let Report {
            established,
            rekeyed_from,
            moved,
            noted,
            closed: _,
            child_failed,
            reauthenticate,
            rekey_failed,
            unanswered,
        } = &self.report;
        *established
            || rekeyed_from.is_some()
            || (*moved && self.is_known())
            || *reauthenticate
            || rekey_failed.is_some()
            || unanswered.is_some()
            || noted.is_some()
            || child_failed.is_some()
    }

    /// Whether the caller knows it.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(&self.state, State::Established(established) if !established.announced)
    }

    /// Our own SPI.
    pub(crate) fn spi(&self) -> u64 {
        if self.initiator { self.spi_i } else { self.spi_r }
    }

    /// The SA is over. When the peer's rekey crossed ours and is done, the children live on in the SA that it made: what
    /// becomes of our own request does not matter to it.
    pub(crate) fn over(&mut self, cause: Failure) -> Effects {
        let mut effects = Effects { die: Some(cause), ..Effects::default() };
        if let State::Established(established) = &mut self.state
            && let Some(Request::Rekey(request)) = established.request.take()
        {
            effects.heir = request.crossed.map(|crossed| crossed.made);
        }
        effects
    }

    /// Ends the SA and its children. The caller is told when it knows the SA.
    pub(crate) fn die(&mut self, env: &mut Env<'_, '_, C>, cause: Failure) {
        let (established, told) = match &self.state {
            State::Dead => return,
            State::Established(established) => (true, established.announced),
            _ => (false, true),
        };
        env.children.end_all(env.slot, &cause);
        if told {
            self.report.closed = Some((established, cause));
        }
        self.window.restart();
        self.keepalive_at = None;
        self.send_keepalive = false;
        self.expires = Some(env.now + env.settings.linger);
        self.state = State::Dead;
        self.keys = None;
        self.ke = None;
    }
}

/// What a state works with besides its SA: the rest of the endpoint, taken apart so that each can be borrowed.
pub(crate) struct Env<'x, 'a, C: IkeCrypto> {
    pub(crate) now: Instant,
    /// Slot of the SA.
    pub(crate) slot: u16,
    /// Slot of the SA that has the children which the peer may mean on this one: another only while a rekey goes on.
    pub(crate) holder: u16,
    pub(crate) crypto: &'x mut C,
    pub(crate) children: &'x mut Children<'a>,
    /// Our outstanding request, or what the handshake keeps there. Without the non-ESP marker.
    pub(crate) request: &'x mut [u8],
    /// Our last response, or what the handshake keeps there. Without the non-ESP marker.
    pub(crate) response: &'x mut [u8],
    pub(crate) settings: &'x Settings,
    pub(crate) pad: &'x dyn Pad,
    /// What the datagram carries that is being handled, once it could be read.
    pub(crate) heard: &'x mut Option<Outline>,
    /// The other SAs, to be asked only once it is known who asks; gone when another slot was taken.
    pub(crate) others: Option<Others<'x, IkeSlot<C>>>,
}

impl<'x, C: IkeCrypto> Env<'x, '_, C> {
    /// Whether there is another established SA with this peer that is to stay: one that is about to go asks for nothing.
    pub(crate) fn is_alone(&self, peer: PeerId) -> bool {
        let stays = |sa: &Sa<C>| {
            sa.peer == Some(peer) && matches!(&sa.state, State::Established(established) if !established.closing())
        };
        !self.others.as_ref().is_some_and(|others| others.near(By::Peer(peer)).any(stays))
    }

    /// A slot for another SA with the peer of the established `sa`, and our SPI for it; `None` when there is none, or the
    /// peer has as many as it may.
    pub(crate) fn spare(&mut self, sa: &Sa<C>) -> Option<(u16, u64)> {
        let others = self.others.as_ref()?;
        let held = others.near(sa.by_party()).filter(|other| other.is_of_party(sa)).count().saturating_add(1);
        if held >= sa.share(self.settings, self.pad, others.len()) {
            return None;
        }
        let slot = others.vacant()?;
        Some((slot, draw_spi(self.crypto, others.len(), slot)))
    }

    /// The place of the SA that a rekey makes. Its keys are made there, and not moved.
    pub(crate) fn take(&mut self, slot: u16) -> Option<&'x mut Option<Sa<C>>> {
        self.others.take()?.take(slot)
    }
}

/// An SPI of ours for the SA in `slot` of so many.
pub(crate) fn draw_spi<C: IkeCrypto>(crypto: &mut C, slots: usize, slot: u16) -> u64 {
    let mask = u64::from(index_mask(slots));
    let mut random = [0; 8];
    crypto.random(&mut random);
    // Zero means "not known yet" on the wire.
    ((u64::from_be_bytes(random) & !mask) | u64::from(slot)).max(mask.saturating_add(1) | u64::from(slot))
}

/// What IKE SAs are looked up by.
pub(crate) enum By {
    /// The peer, of an established one.
    Peer(PeerId),
    /// The peer and who that proved to be, of an established one.
    Party(Option<PeerId>, Party),
    /// What one sender may have many of left out, of a half-open one.
    Source(IpAddr),
    /// What the stranger's request was, of a half-open one.
    Request(u64, SocketAddr),
    /// Our SPI where we are the initiator.
    Ours(u64),
}

impl Key for By {
    fn kind(&self) -> usize {
        // An SA is established or half-open, and half-open ours or a stranger's, never both. A stranger's source stands with
        // what we chose ourselves: of the same peer there may be as many as there are places, and nobody is to walk over those
        // before there is a cookie.
        match self {
            Self::Peer(_) => 0,
            Self::Party(..) | Self::Request(..) => 1,
            Self::Source(_) | Self::Ours(_) => 2,
        }
    }

    fn hash(&self, secret: &HashSecret) -> u64 {
        match self {
            Self::Peer(peer) => secret.hash(&[0, u64::from(peer.0)]),
            Self::Party(peer, party) => {
                let [high, low] = halves(u128::from_be_bytes(party.digest));
                secret.hash(&[1, peer.map_or(u64::MAX, |peer| u64::from(peer.0)), high, low])
            }
            Self::Source(IpAddr::V4(ip)) => secret.hash(&[2, u64::from(ip.to_bits())]),
            Self::Source(IpAddr::V6(ip)) => {
                let [network, _] = halves(ip.to_bits());
                secret.hash(&[3, network])
            }
            Self::Request(spi, from) => {
                let [high, low] = match from.ip() {
                    IpAddr::V4(ip) => [0, u64::from(ip.to_bits())],
                    IpAddr::V6(ip) => halves(ip.to_bits()),
                };
                secret.hash(&[4, *spi, u64::from(from.port()), high, low])
            }
            Self::Ours(spi) => secret.hash(&[5, *spi]),
        }
    }
}

fn halves(whole: u128) -> [u64; 2] {
    [whole >> 64, whole & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or(u64::MAX))
}

/// What one sender may have many of does not count: ports, and the addresses of an IPv6 /64.
pub(crate) fn same_source(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.octets().first_chunk::<8>() == other.octets().first_chunk::<8>(),
        _ => one == other,
    }
}

impl<C: IkeCrypto> Sa<C> {
    pub(crate) fn by_party(&self) -> By {
        By::Party(self.peer, self.party)
    }

    /// Whether it is established, with the same peer under the same identity as the other.
    pub(crate) fn is_of_party(&self, other: &Self) -> bool {
        self.peer == other.peer && self.party == other.party && matches!(self.state, State::Established(_))
    }

    /// IKE SAs that the peer may hold in a table of so many slots: one and its rekey in any case.
    pub(crate) fn share(&self, settings: &Settings, pad: &dyn Pad, slots: usize) -> usize {
        // One that makes Child SAs with IKE_AUTH alone has an IKE SA for each, and for each another one in its place.
        let own = self.peer.map_or(0, |peer| pad.children(peer).count().saturating_mul(2));
        settings.ike_sas_per_peer.max(own).min(share(slots)).max(2)
    }
}

impl<C: IkeCrypto> Filed for Sa<C> {
    type Key = By;

    fn keys(&self) -> [Option<By>; KINDS] {
        let ours = self.initiator.then_some(By::Ours(self.spi_i));
        match &self.state {
            State::Established(_) => [self.peer.map(By::Peer), Some(self.by_party()), ours],
            State::InitAnswered(_) => {
                let from = self.window.response_path.remote;
                [None, Some(By::Request(self.spi_i, from)), Some(By::Source(self.path.remote.ip()))]
            }
            _ => [None, None, ours],
        }
    }

    fn due(&self) -> Option<Instant> {
        self.timeout()
    }

    fn tells(&self) -> Option<u8> {
        if self.has_begun() { Some(0) } else { self.report.closed.as_ref().map(|_| 1) }
    }

    fn sends(&self) -> bool {
        self.window.sends() || self.farewell.is_some() || self.send_keepalive
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Dead) && self.tells().is_none()
    }

    /// A half-open one of a stranger.
    fn counts(&self) -> bool {
        matches!(self.state, State::InitAnswered(_))
    }

    fn keeps(&self) -> Option<u16> {
        match &self.state {
            State::Established(established) => established.keeps().map(|(slot, _)| slot),
            _ => None,
        }
    }
}

/// A place for one IKE SA in the caller's table.
pub struct IkeSlot<C: IkeCrypto>(Place<Sa<C>>);

impl<C: IkeCrypto> fmt::Debug for IkeSlot<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IkeSlot").finish_non_exhaustive()
    }
}

impl<C: IkeCrypto> Default for IkeSlot<C> {
    fn default() -> Self {
        Self(Place::EMPTY)
    }
}

impl<C: IkeCrypto> Slot for IkeSlot<C> {
    type Item = Sa<C>;

    fn place(&self) -> &Place<Sa<C>> {
        &self.0
    }

    fn place_mut(&mut self) -> &mut Place<Sa<C>> {
        &mut self.0
    }
}

/// What a state asks the endpoint to do in other slots.
#[derive(Default)]
pub(crate) struct Effects {
    /// There is a new SA in this slot, the spare one.
    pub(crate) made: Option<u16>,
    /// This SA takes over the children.
    pub(crate) heir: Option<Heir>,
    /// This SA lost against a crossing rekey: delete it after a while, should the peer not.
    pub(crate) orphan: Option<Heir>,
    /// The SA itself ends, after its children found their heir.
    pub(crate) die: Option<Failure>,
    /// The peer connected with this child.
    pub(crate) first_child: Option<ChildId>,
    /// Other SAs with this peer under this identity are history (INITIAL_CONTACT), but for those that came up after this
    /// moment: the peer did not know of them when it began.
    pub(crate) initial_contact: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_source_is_filed_by_stands_in_no_chain_that_peers_make_long() {
        let source = By::Source(IpAddr::from([192, 0, 2, 1])).kind();
        let request = By::Request(1, SocketAddr::from(([192, 0, 2, 1], 500))).kind();
        let peer = By::Peer(PeerId(0)).kind();
        assert!(source != peer && request != peer && source != request);
    }
}
