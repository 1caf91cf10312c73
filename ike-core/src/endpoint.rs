//! The endpoint: every IKE SA of a host, initiator and responder, behind `handle_*` and `poll_*`.

use core::time::Duration;

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::child::{ChildKeys, ChildSlot, Children, index_mask};
use crate::cookie::Jar;
use crate::crypto::IkeCrypto;
use crate::error::{Discard, NoRoom};
use crate::event::IkeId;
use crate::failure::Failure;
use crate::pad::{Pad, PeerId};
use crate::registry::{ExchangeType, NotifyKind};
use crate::state::{self, Effects, Env, Heir, Sa, State};
use crate::window::Retransmission;
use crate::wire::header::Header;
use crate::wire::writer::MessageWriter;

mod calls;
mod init;
mod poll;
mod view;

pub use calls::Denied;
pub use view::{ChildView, IkeView, SaState};

/// Octets before a message on port 4500 (RFC 3948 §2.2).
const MARKER_LEN: usize = 4;
/// The smallest half of a slot's message room with which a handshake can succeed.
const SMALLEST_MESSAGE: usize = 576;
/// A NAT keepalive (RFC 3948 §2.3).
const KEEPALIVE: [u8; 1] = [0xff];

/// How the endpoint behaves; the defaults suit a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Our port for IKE without NAT traversal.
    pub ike_port: u16,
    /// Our port for IKE and ESP with NAT traversal: messages carry the non-ESP marker there.
    pub natt_port: u16,
    /// Repetition of requests.
    pub retransmission: Retransmission,
    /// Pause between NAT keepalives (RFC 7296 §2.23).
    pub keepalive: Duration,
    /// Half-open SAs of strangers above which each new one has to return a cookie first (RFC 7296 §2.6).
    pub cookie_threshold: usize,
    /// Half-open SAs of strangers above which no further is made, cookie or not.
    pub half_open_limit: usize,
    /// How long a stranger may take from IKE_SA_INIT to IKE_AUTH.
    pub half_open_life: Duration,
    /// How long a dead SA stays to repeat its last response.
    pub linger: Duration,
    /// How long a replaced Child SA receives what is still on its way.
    pub drain: Duration,
    /// How long we wait for the peer to delete an SA that its rekey replaced, before we do.
    pub orphan: Duration,
    /// How long a Child SA made by the peer's rekey waits for the Delete of the old one before we send through it.
    pub outbound_delay: Duration,
    /// How long we take for granted that the peer has our answer to its request for a Child SA, when nothing shows it.
    pub settle: Duration,
    /// How long to wait after the peer was busy (TEMPORARY_FAILURE) or a rekey failed.
    pub retry: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ike_port: 500,
            natt_port: 4500,
            retransmission: Retransmission::default(),
            keepalive: Duration::from_secs(20),
            cookie_threshold: 16,
            half_open_limit: 256,
            half_open_life: Duration::from_secs(30),
            linger: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            orphan: Duration::from_secs(30),
            outbound_delay: Duration::from_secs(3),
            settle: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A place for one IKE SA in the caller's table.
pub struct IkeSlot<C: IkeCrypto> {
    generation: u32,
    sa: Option<Sa<C>>,
}

impl<C: IkeCrypto> Default for IkeSlot<C> {
    fn default() -> Self {
        Self { generation: 0, sa: None }
    }
}

impl<C: IkeCrypto> IkeSlot<C> {
    fn vacant(&self) -> bool {
        self.sa.as_ref().is_none_or(|sa| matches!(sa.state, State::Dead) && sa.report.closed.is_none())
    }
}

/// The caller's memory.
pub struct Storage<'a, C: IkeCrypto> {
    /// IKE SAs, with room for rekeys (one more per SA at worst) and half-open ones; at most 65,535.
    pub sas: &'a mut [IkeSlot<C>],
    /// Child SAs, with room for rekeys (twice as many as there are children); at most 65,535. The low bits of an
    /// inbound SPI are the number of its slot here, so an SAD of the same size finds it without a search.
    pub children: &'a mut [ChildSlot],
    /// Room for messages, shared out evenly to the SAs: 2 × 1,280 octets for each are comfortable, 2 × 2,048 take
    /// every first message seen in the field.
    pub messages: &'a mut [u8],
}

/// Room for messages: for each SA one buffer for requests, one for responses.
struct Messages<'a> {
    bytes: &'a mut [u8],
    half: usize,
}

impl Messages<'_> {
    /// The request and response buffers of a slot, each with the room for the non-ESP marker in front.
    fn pair(&mut self, slot: u16) -> Option<(&mut [u8], &mut [u8])> {
        let start = self.half.checked_mul(2)?.checked_mul(usize::from(slot))?;
        self.bytes.get_mut(start..)?.get_mut(..self.half.checked_mul(2)?)?.split_at_mut_checked(self.half)
    }
}

/// A short answer that belongs to no SA.
struct Reply {
    path: Path,
    /// It was not sent yet.
    waiting: bool,
    len: usize,
    bytes: [u8; MARKER_LEN + 92],
}

/// Every IKE SA of a host.
///
/// Methods come in four kinds: inputs (`handle_*`), wishes (`initiate`, `create_child`, `rekey_*`, `close*`, …), outputs
/// (`poll_*`) and getters. After each input or wish, drain [`Endpoint::poll_transmit`] and [`Endpoint::poll_event`] until
/// both give `None`, then ask [`Endpoint::poll_timeout`].
pub struct Endpoint<'a, C: IkeCrypto, P: Pad> {
    crypto: C,
    pad: P,
    settings: Settings,
    slots: &'a mut [IkeSlot<C>],
    children: Children<'a>,
    messages: Messages<'a>,
    jar: Jar,
    /// Keys that the last event lent.
    lent: Option<ChildKeys>,
    reply: Option<Reply>,
    refused: Option<(Path, Failure)>,
    /// When the next foreign version may be answered.
    version_reply_at: Instant,
    /// There may be something to send.
    transmits: bool,
    /// There may be something to tell.
    events: bool,
}

impl<'a, C: IkeCrypto, P: Pad> Endpoint<'a, C, P> {
    /// An endpoint without SAs.
    ///
    /// # Errors
    /// [`NoRoom`] when the room for messages is too small for the number of SAs (2 × 580 octets each), or a table has
    /// more than 65,535 slots.
    pub fn new(mut crypto: C, pad: P, storage: Storage<'a, C>, settings: Settings) -> Result<Self, NoRoom> {
        let Storage { sas, children, messages } = storage;
        let half = messages.len().checked_div(sas.len().saturating_mul(2)).unwrap_or(0).min(usize::from(u16::MAX));
        if half < SMALLEST_MESSAGE + MARKER_LEN || sas.len() > 0xffff || children.len() > 0xffff {
            return Err(NoRoom);
        }
        // The marker in front of each buffer is zero from here on; messages are written behind it.
        messages.fill(0);
        let jar = Jar::new(&mut crypto);
        Ok(Self {
            crypto,
            pad,
            settings,
            slots: sas,
            children: Children { slots: children },
            messages: Messages { bytes: messages, half },
            jar,
            lent: None,
            reply: None,
            refused: None,
            version_reply_at: Instant::ZERO,
            transmits: false,
            events: false,
        })
    }

    /// An IKE message arrived, without non-ESP marker. It is decrypted in place.
    ///
    /// # Errors
    /// [`Discard`]: no SA was changed; count it. Another major version and an unknown critical payload of a stranger may
    /// still be answered, without state.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &mut [u8]) -> Result<(), Discard> {
        let header = Header::parse(datagram)?;
        if header.major != 2 {
            return self.refuse_version(now, path, &header);
        }
        self.transmits = true;
        self.events = true;
        if header.exchange == ExchangeType::IKE_SA_INIT && !header.response {
            return self.handle_init(now, path, &header, datagram);
        }
        let slot = self.find(&header).ok_or(Discard::UnknownSa)?;
        let (sa, mut env) = self.open(now, slot).ok_or(Discard::UnknownSa)?;
        let effects = match sa.state {
            State::InitSent(_) => state::init_sent::on_message(sa, &mut env, path, &header, datagram),
            State::InitAnswered(_) => state::init_answered::on_message(sa, &mut env, path, &header, datagram),
            State::AuthSent(_) => state::auth_sent::on_message(sa, &mut env, path, &header, datagram),
            State::Established(_) => state::established::on_message(sa, &mut env, path, &header, datagram),
            State::Dead => state::deleting::on_message(sa, &header),
            State::Reserved => Err(Discard::UnknownSa),
        }?;
        self.apply(now, slot, effects);
        self.pursue(now, slot);
        Ok(())
    }

    /// Time has passed: repeats, rekeys, deletes and gives up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transmits = true;
        self.events = true;
        for child in self.children.slots.iter_mut().filter_map(|place| place.child.as_mut()) {
            if child.on_time(now)
                && let Some(sa) = self.slots.get_mut(usize::from(child.ike)).and_then(|place| place.sa.as_mut())
            {
                sa.work = true;
            }
        }
        for slot in (0u16..).take(self.slots.len()) {
            let Some((sa, mut env)) = self.open(now, slot) else { continue };
            state::established::on_time(sa, &mut env);
            let over = matches!(sa.state, State::Dead) && sa.expires.is_some_and(|at| at <= now);
            if over && sa.report.closed.is_none() {
                if let Some(place) = self.slots.get_mut(usize::from(slot)) {
                    place.sa = None;
                }
                continue;
            }
            self.pursue(now, slot);
        }
    }

    /// The slot of the SA that a message belongs to.
    fn find(&self, header: &Header) -> Option<u16> {
        let ours = if header.initiator { header.spi_r } else { header.spi_i };
        let slot = u16::try_from(ours & u64::from(index_mask(self.slots.len()))).ok()?;
        let sa = self.slots.get(usize::from(slot))?.sa.as_ref()?;
        // The responder's SPI is learned from the answer to IKE_SA_INIT.
        let known = sa.spi_r == header.spi_r || (sa.spi_r == 0 && header.exchange == ExchangeType::IKE_SA_INIT);
        (sa.spi_i == header.spi_i && known && sa.initiator != header.initiator).then_some(slot)
    }

    /// A slot that is empty, or holds a dead SA that has nothing to tell any more.
    fn vacant(&self) -> Option<u16> {
        let empty = self.slots.iter().position(|place| place.sa.is_none());
        let slot = empty.or_else(|| self.slots.iter().position(IkeSlot::vacant))?;
        u16::try_from(slot).ok()
    }

    /// An SPI of ours for the SA in `slot`.
    fn spi(&mut self, slot: u16) -> u64 {
        let mask = u64::from(index_mask(self.slots.len()));
        let mut random = [0; 8];
        self.crypto.random(&mut random);
        // Zero means "not known yet" on the wire.
        ((u64::from_be_bytes(random) & !mask) | u64::from(slot)).max(mask.saturating_add(1) | u64::from(slot))
    }

    fn put(&mut self, slot: u16, sa: Sa<C>) -> Option<IkeId> {
        let place = self.slots.get_mut(usize::from(slot))?;
        place.generation = place.generation.wrapping_add(1);
        place.sa = Some(sa);
        Some(IkeId { slot, generation: place.generation })
    }

    /// Takes the endpoint apart for work on one SA.
    fn open(&mut self, now: Instant, slot: u16) -> Option<(&mut Sa<C>, Env<'_, 'a, C>)> {
        let sa = self.slots.get(usize::from(slot))?.sa.as_ref()?;
        let spare = match sa.state {
            State::Established(_) => self.vacant().map(|slot| (slot, self.spi(slot))),
            _ => None,
        };
        let sa = self.slots.get(usize::from(slot))?.sa.as_ref()?;
        let alone = matches!(sa.state, State::InitSent(_)) && !self.established_with(sa.peer);
        let sa = self.slots.get_mut(usize::from(slot))?.sa.as_mut()?;
        let (request, response) = self.messages.pair(slot)?;
        let env = Env {
            now,
            slot,
            crypto: &mut self.crypto,
            children: &mut self.children,
            request: request.get_mut(MARKER_LEN..)?,
            response: response.get_mut(MARKER_LEN..)?,
            settings: &self.settings,
            pad: &self.pad,
            alone,
            spare,
        };
        Some((sa, env))
    }

    fn established_with(&self, peer: Option<PeerId>) -> bool {
        let established = |sa: &Sa<C>| sa.peer == peer && matches!(sa.state, State::Established(_));
        self.slots.iter().filter_map(|place| place.sa.as_ref()).any(established)
    }

    /// Does in other slots what the work on one SA asked for.
    fn apply(&mut self, now: Instant, slot: u16, effects: Effects<C>) {
        let Effects { place, heir, orphan, die, release, initial_contact } = effects;
        if let Some((slot, sa)) = place {
            self.put(slot, sa);
        }
        if let Some(released) = release.and_then(|slot| self.slots.get_mut(usize::from(slot))) {
            released.sa = None;
        }
        let orphan_at = now + self.settings.orphan;
        if let Some(loser) = orphan.and_then(|loser| self.alive(loser)) {
            state::rekeying::orphan(loser, orphan_at);
        }
        if let Some(heir) = heir {
            self.inherit(slot, heir);
        }
        if let Some(cause) = die
            && let Some((sa, mut env)) = self.open(now, slot)
        {
            sa.die(&mut env, cause);
        }
        if initial_contact {
            self.forget_others(now, slot);
        }
    }

    /// The SA of ours with this SPI, when it is established.
    fn alive(&mut self, Heir { slot, spi }: Heir) -> Option<&mut Sa<C>> {
        let sa = self.slots.get_mut(usize::from(slot))?.sa.as_mut()?;
        let ours = if sa.initiator { sa.spi_i } else { sa.spi_r };
        (ours == spi && matches!(sa.state, State::Established(_))).then_some(sa)
    }

    /// Hands the children of `old` to the SA that replaced it; they end with it when it is gone already.
    fn inherit(&mut self, old: u16, heir: Heir) {
        let generation = self.slots.get(usize::from(old)).map_or(0, |place| place.generation);
        let Some(sa) = self.alive(heir) else {
            self.children.end_all(old, &Failure::ClosedByPeer);
            return;
        };
        if let State::Established(established) = &mut sa.state {
            established.undecided = false;
            established.orphan_at = None;
        }
        sa.report.rekeyed_from = Some(IkeId { slot: old, generation });
        sa.work = true;
        for (_, child) in self.children.of(old) {
            child.ike = heir.slot;
        }
    }

    /// The peer has lost its other SAs with us (RFC 7296 §2.4).
    fn forget_others(&mut self, now: Instant, keep: u16) {
        let known = self.slots.get(usize::from(keep)).and_then(|place| place.sa.as_ref());
        let Some((peer, identity)) = known.map(|sa| (sa.peer, sa.identity)) else { return };
        for slot in (0u16..).take(self.slots.len()).filter(|slot| *slot != keep) {
            if let Some((sa, mut env)) = self.open(now, slot)
                && sa.peer == peer
                && sa.identity == identity
                && matches!(sa.state, State::Established(_))
            {
                sa.die(&mut env, Failure::Replaced);
            }
        }
    }

    /// Sends the next request that somebody waits for, when none is outstanding.
    fn pursue(&mut self, now: Instant, slot: u16) {
        let Some((sa, mut env)) = self.open(now, slot) else { return };
        if let Some((slot, sa)) = state::established::pursue(sa, &mut env) {
            self.put(slot, sa);
        }
    }

    /// Another major version: say so once in a while and keep nothing (RFC 7296 §2.5, RFC 9395).
    fn refuse_version(&mut self, now: Instant, path: Path, header: &Header) -> Result<(), Discard> {
        // In IKEv1 the response bit is the commit bit, which a first message does not carry.
        if header.response || now < self.version_reply_at {
            return Err(Discard::Version);
        }
        self.version_reply_at = now + Duration::from_secs(1);
        self.answer(path, header, NotifyKind::INVALID_MAJOR_VERSION, &[]);
        Err(Discard::Version)
    }

    /// Answers in clear and without an SA.
    fn answer(&mut self, path: Path, header: &Header, kind: NotifyKind, data: &[u8]) {
        let mut reply = Reply { path, waiting: true, len: 0, bytes: [0; MARKER_LEN + 92] };
        let answer =
            Header { response: true, ..Header::new(header.spi_i, header.spi_r, header.exchange, header.message_id) };
        let written = reply.bytes.get_mut(MARKER_LEN..).ok_or(NoRoom).and_then(|room| {
            let mut message = MessageWriter::new(room, &answer)?;
            message.notify_parts(kind, &[data])?;
            Ok(message.finish())
        });
        if let Ok(len) = written {
            reply.len = len;
            self.transmits = true;
            self.reply = Some(reply);
        }
    }
}
