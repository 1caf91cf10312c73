//! The endpoint: every IKE SA of a host, initiator and responder, behind `handle_*` and `poll_*`.

use core::fmt;
use core::time::Duration;

use heapless::Vec;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::agenda;
use crate::agreement::share;
use crate::child::{Child, ChildSlot, Children, Phase, index_mask};
use crate::cookie::Jar;
use crate::crypto::IkeCrypto;
use crate::error::{Discard, NoRoom};
use crate::event::{ChildId, IkeId};
use crate::exchange;
use crate::failure::Failure;
use crate::pad::{Pad, PeerId};
use crate::registry::{ExchangeType, NotifyKind};
use crate::sa::{Effects, Env, Heir, Sa, Spare, State};
use crate::state;
use crate::succession;
use crate::wire::header::Header;
use crate::wire::outline::Outline;
use crate::wire::writer::{MessageWriter, Written};

mod calls;
mod doubt;
mod init;
mod poll;
mod view;

pub use crate::settings::Settings;
pub use calls::Denied;
pub use view::{ChildView, IkeView, Occupancy, SaState, SpiMeaning};

/// Octets before a message on port 4500 (RFC 3948 §2.2).
const MARKER_LEN: usize = 4;
/// The smallest half of a slot's message room with which a handshake can succeed.
const SMALLEST_MESSAGE: usize = 576;
/// Octets in [`Storage::messages`] for one IKE SA with which messages of 3,000 octets come and go (RFC 7296 §2): what
/// peers send first that offer everything they know.
pub const ROOM_PER_SA: usize = 2 * (3_000 + MARKER_LEN);
/// A NAT keepalive (RFC 3948 §2.3).
const KEEPALIVE: [u8; 1] = [0xff];

/// A place for one IKE SA in the caller's table.
pub struct IkeSlot<C: IkeCrypto> {
    generation: u32,
    sa: Option<Sa<C>>,
    /// The slot of the SA whose rekey keeps this one, as long as that rekey is outstanding.
    keeper: Option<u16>,
}

impl<C: IkeCrypto> fmt::Debug for IkeSlot<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IkeSlot").finish_non_exhaustive()
    }
}

impl<C: IkeCrypto> Default for IkeSlot<C> {
    fn default() -> Self {
        Self { generation: 0, sa: None, keeper: None }
    }
}

/// The caller's memory.
pub struct Storage<'a, C: IkeCrypto> {
    /// IKE SAs, with room for rekeys (one more per SA at worst) and half-open ones; at most 65,535.
    pub sas: &'a mut [IkeSlot<C>],
    /// Child SAs, with room for rekeys (twice as many as there are children); at most 65,535. The low bits of an
    /// inbound SPI are the number of its slot here, so an SAD of the same size finds it without a search.
    pub children: &'a mut [ChildSlot],
    /// Room for messages, shared out evenly to the SAs: [`ROOM_PER_SA`] octets for each take every first message seen in
    /// the field, half of that does for peers whose proposals are known to be few.
    pub messages: &'a mut [u8],
}

impl<C: IkeCrypto> fmt::Debug for Storage<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
    }
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
    message: Written,
    bytes: [u8; MARKER_LEN + 92],
}

/// What the work on one SA may need of another place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// A free one, for an SA that takes over.
    New,
    /// The one that its outstanding rekey keeps.
    Kept,
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
    /// Whose keys the last event lent.
    lent: Option<ChildId>,
    reply: Option<Reply>,
    refused: Option<(Path, Failure)>,
    fruitless: init::Fruitless,
    /// What the last datagram carried, as far as it could be read.
    heard: Option<Outline>,
    /// When the next foreign version may be answered.
    version_reply_at: Instant,
    /// When the next first message that is too long may be told of.
    told_size_at: Instant,
    /// There may be something to send.
    transmits: bool,
    /// There may be something to tell.
    events: bool,
}

impl<C: IkeCrypto, P: Pad> fmt::Debug for Endpoint<'_, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").finish_non_exhaustive()
    }
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
            fruitless: init::Fruitless::NONE,
            heard: None,
            version_reply_at: Instant::ZERO,
            told_size_at: Instant::ZERO,
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
        self.heard = None;
        let header = Header::parse(datagram)?;
        self.take_back_keys();
        if header.major != 2 {
            return self.refuse_version(now, path, &header);
        }
        self.transmits = true;
        self.events = true;
        if header.exchange == ExchangeType::IKE_SA_INIT {
            let payloads = datagram.get(Header::LEN..).unwrap_or_default();
            self.heard = Some(Outline::read(&header, header.next, payloads));
        }
        if header.exchange == ExchangeType::IKE_SA_INIT && !header.response {
            return self.handle_init(now, path, &header, datagram);
        }
        if doubt::is_claim(&header) {
            return Err(self.hear_claim(now, path, &header, datagram));
        }
        let slot = self.find(&header).ok_or(Discard::UnknownSa)?;
        let effects = self.step(now, slot, path, &header, datagram)?;
        if self.slots.get(usize::from(slot)).and_then(|place| place.sa.as_ref()).is_some_and(|sa| sa.report.established)
        {
            self.crowd(now, slot);
        }
        self.apply(now, slot, effects);
        Ok(())
    }

    /// What the SA in a slot makes of a message.
    fn step(
        &mut self,
        now: Instant,
        slot: u16,
        path: Path,
        header: &Header,
        datagram: &mut [u8],
    ) -> Result<Effects, Discard> {
        let beside = match header.exchange {
            ExchangeType::CREATE_CHILD_SA if header.response => Beside::Kept,
            ExchangeType::CREATE_CHILD_SA => Beside::New,
            _ => Beside::Nothing,
        };
        let (sa, mut env) = self.open(now, slot, beside).ok_or(Discard::UnknownSa)?;
        sa.window.receive(datagram);
        match sa.state {
            State::InitSent(_) => state::init_sent::on_message(sa, &mut env, path, header, datagram),
            State::InitAnswered(_) => state::init_answered::on_message(sa, &mut env, path, header, datagram),
            State::AuthSent(_) => state::auth_sent::on_message(sa, &mut env, path, header, datagram),
            State::Established(_) => state::established::on_message(sa, &mut env, path, header, datagram),
            State::Dead => state::deleting::on_message(sa, path, header),
        }
    }

    /// Time has passed: repeats, rekeys, deletes and gives up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.take_back_keys();
        self.transmits = true;
        self.events = true;
        for child in self.children.slots.iter_mut().filter_map(|place| place.child.as_mut()) {
            if child.on_time(now)
                && let Some(sa) = self.slots.get_mut(usize::from(child.ike)).and_then(|place| place.sa.as_mut())
            {
                sa.work = true;
            }
        }
        for slot in (0..=u16::MAX).take(self.slots.len()) {
            let Some((sa, mut env)) = self.open(now, slot, Beside::Nothing) else { continue };
            let effects = agenda::on_time(sa, &mut env);
            let over = matches!(sa.state, State::Dead) && sa.expires.is_some_and(|at| at <= now);
            if over && sa.report.closed.is_none() {
                if let Some(place) = self.slots.get_mut(usize::from(slot)) {
                    place.sa = None;
                }
                continue;
            }
            self.apply(now, slot, effects);
        }
    }

    /// The keys that the last event lent are where they are needed: they go from here.
    fn take_back_keys(&mut self) {
        if let Some(child) = self.lent.take().and_then(|id| self.children.by_id_mut(id)) {
            child.keys = None;
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

    /// A slot that is empty, or holds a dead SA that has nothing to tell any more, and that no rekey keeps.
    fn vacant(&self) -> Option<u16> {
        let mut free = (0..=u16::MAX).zip(self.slots.iter()).filter(|(slot, place)| {
            let over = |sa: &Sa<C>| matches!(sa.state, State::Dead) && sa.report.closed.is_none();
            place.sa.as_ref().is_none_or(over) && !self.is_kept(*slot)
        });
        let first = free.next()?;
        // Better one that is empty: a dead SA may still have to repeat its last answer.
        let empty = Some(first).filter(|(_, place)| place.sa.is_none());
        let slot = empty.or_else(|| free.find(|(_, place)| place.sa.is_none())).unwrap_or(first);
        Some(slot.0)
    }

    /// Whether an outstanding rekey keeps this slot for the SA that it is to make.
    fn is_kept(&self, slot: u16) -> bool {
        let place = self.slots.get(usize::from(slot));
        let keeper = place.and_then(|place| place.keeper).and_then(|keeper| self.slots.get(usize::from(keeper)));
        match keeper.and_then(|keeper| keeper.sa.as_ref()).map(|sa| &sa.state) {
            Some(State::Established(established)) => established.keeps().is_some_and(|(kept, _)| kept == slot),
            _ => false,
        }
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
        self.slots.get_mut(usize::from(slot))?.sa = Some(sa);
        self.renumber(slot)
    }

    /// There is another SA in a slot: it has an id of its own.
    fn renumber(&mut self, slot: u16) -> Option<IkeId> {
        let place = self.slots.get_mut(usize::from(slot))?;
        place.generation = place.generation.wrapping_add(1);
        Some(IkeId { slot, generation: place.generation })
    }

    /// Empties a slot whose SA did not even begin.
    fn take_back(&mut self, slot: u16) {
        if let Some(place) = self.slots.get_mut(usize::from(slot)) {
            place.sa = None;
        }
    }

    /// Takes the endpoint apart for work on one SA.
    fn open(&mut self, now: Instant, slot: u16, beside: Beside) -> Option<(&mut Sa<C>, Env<'_, 'a, C>)> {
        let holder = self.holder(slot);
        let sa = self.slots.get(usize::from(slot))?.sa.as_ref()?;
        let alone = matches!(sa.state, State::InitSent(_)) && !self.established_with(sa.peer);
        let spare = match &sa.state {
            State::Established(established) if beside == Beside::Kept => established.keeps(),
            State::Established(_) if beside == Beside::New && self.held(sa) < self.share(sa) => {
                self.vacant().map(|slot| (slot, self.spi(slot)))
            }
            _ => None,
        };
        let (place, spare) = match spare {
            Some((other, spi)) => {
                let [place, other_place] = self.slots.get_disjoint_mut([slot, other].map(usize::from)).ok()?;
                (place, Some(Spare { slot: other, spi, place: &mut other_place.sa }))
            }
            None => (self.slots.get_mut(usize::from(slot))?, None),
        };
        let sa = place.sa.as_mut()?;
        let (request, response) = self.messages.pair(slot)?;
        let env = Env {
            now,
            slot,
            holder,
            crypto: &mut self.crypto,
            children: &mut self.children,
            request: request.get_mut(MARKER_LEN..)?,
            response: response.get_mut(MARKER_LEN..)?,
            settings: &self.settings,
            pad: &self.pad,
            heard: &mut self.heard,
            alone,
            spare,
        };
        Some((sa, env))
    }

    /// The slot of the SA that has the children which the peer may mean on the one in `slot`. While a rekey goes on, either
    /// end may already name them on the new SA or still name them on the old one.
    fn holder(&self, slot: u16) -> u16 {
        let kin = |slot: &u16| {
            let State::Established(established) = &self.slots.get(usize::from(*slot))?.sa.as_ref()?.state else {
                return None;
            };
            let heir = established.kin.filter(|_| established.replaced || established.undecided)?;
            let sa = self.slots.get(usize::from(heir.slot))?.sa.as_ref()?;
            (sa.spi() == heir.spi && matches!(sa.state, State::Established(_))).then_some(heir.slot)
        };
        // From one that the peer made, over the old one, to the one that we made.
        core::iter::successors(Some(slot), kin).take(3).last().unwrap_or(slot)
    }

    /// Whether there is an IKE SA with this peer that is to stay: one that is about to go asks for nothing.
    fn established_with(&self, peer: Option<PeerId>) -> bool {
        let stays = |sa: &Sa<C>| matches!(&sa.state, State::Established(established) if !established.closing());
        self.slots.iter().filter_map(|place| place.sa.as_ref()).any(|sa| sa.peer == peer && stays(sa))
    }

    /// IKE SAs that the peer of `sa` may hold: one and its rekey in any case.
    fn share(&self, sa: &Sa<C>) -> usize {
        // One that makes Child SAs with IKE_AUTH alone has an IKE SA for each, and for each another one in its place.
        let own = sa.peer.map_or(0, |peer| (&self.pad as &dyn Pad).children(peer).count().saturating_mul(2));
        self.settings.ike_sas_per_peer.max(own).min(share(self.slots.len())).max(2)
    }

    /// The IKE SAs that the peer of `sa` holds under the same identity.
    fn held(&self, sa: &Sa<C>) -> usize {
        let same = |other: &&Sa<C>| {
            other.peer == sa.peer && other.party == sa.party && matches!(other.state, State::Established(_))
        };
        self.slots.iter().filter_map(|place| place.sa.as_ref()).filter(same).count()
    }

    /// A new SA is up. When its peer holds too many by now, the oldest goes: whoever begins anew all the time, without
    /// INITIAL_CONTACT, does not fill the table.
    fn crowd(&mut self, now: Instant, slot: u16) {
        let Some(new) = self.slots.get(usize::from(slot)).and_then(|place| place.sa.as_ref()) else { return };
        if self.held(new) <= self.share(new) {
            return;
        }
        let (peer, party) = (new.peer, new.party);
        let mut oldest: Option<(Instant, u16)> = None;
        for (other, place) in (0..=u16::MAX).zip(self.slots.iter()).filter(|(other, _)| *other != slot) {
            if let Some(sa) = &place.sa
                && let State::Established(established) = &sa.state
                && (sa.peer, sa.party) == (peer, party)
                && oldest.is_none_or(|(since, _)| established.since < since)
            {
                oldest = Some((established.since, other));
            }
        }
        // Its peer may not answer any more, and it must not stay until that is known.
        if let Some((sa, mut env)) = oldest.and_then(|(_, slot)| self.open(now, slot, Beside::Nothing)) {
            exchange::part(sa, &mut env, Failure::Replaced);
        }
    }

    /// Does in other slots what the work on one SA asked for, and then lets each of them go on.
    fn apply(&mut self, now: Instant, slot: u16, effects: Effects) {
        let Effects { made, heir, orphan, die, first_child, initial_contact } = effects;
        let mut touched: Vec<u16, 3> = [slot].into_iter().collect();
        if let Some(made) = made {
            self.renumber(made);
            touched.extend([made]);
        }
        if let Some(loser) = orphan.and_then(|loser| self.alive(loser)) {
            succession::orphan(loser);
        }
        if let Some(heir) = heir {
            self.inherit(now, slot, heir);
            if !touched.contains(&heir.slot) {
                touched.extend([heir.slot]);
            }
        }
        if let Some(cause) = die
            && let Some((sa, mut env)) = self.open(now, slot, Beside::Nothing)
        {
            sa.die(&mut env, cause);
        }
        if let Some(first) = first_child {
            self.hold_back(slot, first, initial_contact);
        }
        if let Some(begun) = initial_contact {
            self.forget_others(now, slot, begun);
        }
        for slot in touched {
            self.pursue(now, slot);
        }
    }

    /// The SA of ours with this SPI, when it is established.
    fn alive(&mut self, Heir { slot, spi }: Heir) -> Option<&mut Sa<C>> {
        let sa = self.slots.get_mut(usize::from(slot))?.sa.as_mut()?;
        (sa.spi() == spi && matches!(sa.state, State::Established(_))).then_some(sa)
    }

    /// Hands the children of `old` to the SA that replaced it, and what else it leaves. When that one is gone already,
    /// `old` goes on.
    fn inherit(&mut self, now: Instant, old: u16, heir: Heir) {
        let alive = self.alive(heir).is_some();
        let retry_at = now + self.settings.retry;
        let Some(place) = self.slots.get_mut(usize::from(old)) else { return };
        let id = IkeId { slot: old, generation: place.generation };
        let Some(sa) = place.sa.as_mut() else { return };
        if !alive {
            succession::stay(sa, retry_at);
            return;
        }
        let Some(estate) = succession::bequeath(sa, id, heir) else { return };
        for (_, child) in self.children.of(old) {
            child.ike = heir.slot;
        }
        if let Some(heir) = self.alive(heir) {
            succession::inherit(heir, estate);
        }
    }

    /// The party that connected with the child `first` may be done with its own call, because both called at once. Where
    /// another IKE SA with it carries the same, what works is not left for what only we have: before this one is sent
    /// through, the party has to show that it has it. Of what it has lost (`begun`) nothing works.
    fn hold_back(&mut self, slot: u16, first: ChildId, begun: Option<Instant>) {
        let party = |slot: u16| {
            let sa = self.slots.get(usize::from(slot)).and_then(|place| place.sa.as_ref())?;
            Some((sa.peer, sa.party))
        };
        let Some(config) = self.children.by_id(first).map(|child| child.config) else { return };
        let works = |child: &Child| child.phase == Phase::Up && begun.is_none_or(|begun| child.since > begun);
        let same = |child: &Child| child.ike != slot && child.config == config && party(child.ike) == party(slot);
        if !self.children.iter().any(|(_, child)| works(child) && same(child)) {
            return;
        }
        if let Some(child) = self.children.by_id_mut(first) {
            child.outbound_ready = false;
        }
        if let Some(State::Established(established)) =
            self.slots.get_mut(usize::from(slot)).and_then(|place| place.sa.as_mut()).map(|sa| &mut sa.state)
        {
            established.want_liveness = true;
        }
    }

    /// The peer has lost its other SAs with us (RFC 7296 §2.4), and is told in case it has not. Those that came up since it
    /// began the one that says so are not meant: when both call at once, what it says may come after the other SA did.
    fn forget_others(&mut self, now: Instant, keep: u16, begun: Instant) {
        let known = self.slots.get(usize::from(keep)).and_then(|place| place.sa.as_ref());
        let Some((peer, party)) = known.map(|sa| (sa.peer, sa.party)) else { return };
        for slot in (0..=u16::MAX).take(self.slots.len()).filter(|slot| *slot != keep) {
            if let Some((sa, mut env)) = self.open(now, slot, Beside::Nothing)
                && sa.peer == peer
                && sa.party == party
                && matches!(&sa.state, State::Established(established) if established.since <= begun)
            {
                exchange::part(sa, &mut env, Failure::Replaced);
            }
        }
    }

    /// Sends the next request that somebody waits for, when none is outstanding.
    fn pursue(&mut self, now: Instant, slot: u16) {
        let place = self.slots.get(usize::from(slot)).and_then(|place| place.sa.as_ref());
        let beside = match place.map(|sa| &sa.state) {
            Some(State::Established(established)) if established.want_rekey => Beside::New,
            Some(State::Established(_)) => Beside::Nothing,
            _ => return,
        };
        let Some((sa, mut env)) = self.open(now, slot, beside) else { return };
        state::established::pursue(sa, &mut env);
        let State::Established(established) = &sa.state else { return };
        if let Some(kept) = established.keeps().and_then(|(kept, _)| self.slots.get_mut(usize::from(kept))) {
            kept.keeper = Some(slot);
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
        let mut bytes = [0; MARKER_LEN + 92];
        let answer =
            Header { response: true, ..Header::new(header.spi_i, header.spi_r, header.exchange, header.message_id) };
        let written = bytes.get_mut(MARKER_LEN..).ok_or(NoRoom).and_then(|room| {
            let mut message = MessageWriter::new(room, &answer)?;
            message.notify_parts(kind, &[data])?;
            Ok(message.finish())
        });
        if let Ok(message) = written {
            self.transmits = true;
            self.reply = Some(Reply { path, waiting: true, message, bytes });
        }
    }
}
