//! The endpoint: every IKE SA of a host, initiator and responder, behind `handle_*` and `poll_*`.
//!
//! A message goes from `handle_datagram` through `find` and `step` to the file of its SA's state, and what comes of it for
//! other SAs through `follow_up`; an IKE_SA_INIT request, which has no SA, through `init.rs`.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::agenda;
use crate::child::{Child, ChildSlot, Children, Phase, index_mask};
use crate::clock::Now;
use crate::cookie::Jar;
use crate::crypto::IkeCrypto;
use crate::effects::Effects;
use crate::env::{Env, draw_spi};
use crate::error::{Discard, NoRoom};
use crate::event::{ChildId, IkeId};
use crate::exchange;
use crate::failure::Failure;
use crate::pad::{Pad, PeerId};
use crate::registry::{ExchangeType, NotifyKind};
use crate::room::{MARKER_LEN, Pair, Rooms};
use crate::sa::{Begun, Dead, Heir, Sa, State};
use crate::state;
use crate::succession;
use crate::table::{Edit, HashSecret, Table};
use crate::wire::header::Header;
use crate::wire::outline::Outline;
use crate::wire::writer::{MessageWriter, Written};

mod calls;
mod desk;
mod doubt;
#[cfg(test)]
mod explorer;
mod init;
mod poll;
mod view;

pub use crate::sa::IkeSlot;
pub use crate::settings::Settings;
pub use crate::table::{IndexBlock, Misfiled};
pub use calls::Denied;

use desk::Desk;
pub use view::{ChildView, IkeView, Occupancy, PadMut, SaState, SpiMeaning};

/// Octets in [`Storage::pairs`] for one IKE SA in which the messages stay of most connections, from the first one on: with a
/// pre-shared key, one proposal or two, and a network or two on either side.
pub const ROOM_PER_SA: usize = 2 * (508 + MARKER_LEN);
/// Octets in [`Storage::pool`] for one block with which messages of 3,000 octets come and go (RFC 7296 §2): what peers send
/// first that offer everything they know.
pub const ROOM_PER_BLOCK: usize = 2 * (3_000 + MARKER_LEN);
/// A NAT keepalive (RFC 3948 §2.3).
const KEEPALIVE: [u8; 1] = [0xff];

/// The caller's memory.
pub struct Storage<'a, C: IkeCrypto> {
    /// IKE SAs, with room for rekeys (one more per SA at worst) and half-open ones; at most 65,535.
    pub sas: &'a mut [IkeSlot<C>],
    /// Child SAs, with room for rekeys (twice as many as there are children); at most 65,535. The low bits of an
    /// inbound SPI are the number of its slot here, so an SAD of the same size finds it without a search.
    pub children: &'a mut [ChildSlot],
    /// What stands where in the two tables: [`IndexBlock::needed`] for so many slots.
    pub index: &'a mut [IndexBlock],
    /// Room for messages, shared out evenly to the IKE SAs: for each its request that waits for an answer and its last
    /// answer, as long as they are short. [`ROOM_PER_SA`] octets do for most.
    pub pairs: &'a mut [u8],
    /// Room for long messages, shared out evenly to the [`blocks`](Self::blocks): [`ROOM_PER_BLOCK`] octets for each take
    /// every first message seen in the field, half of that does for peers whose proposals are known to be few. No message
    /// is longer than half a block.
    pub pool: &'a mut [u8],
    /// Blocks of the pool. Each message is worked on in one, and an SA keeps it as long as one of its messages is too long
    /// for its pair: a handshake, mostly. Strangers may have half of them, and handshakes all but one, which is for the
    /// SAs that stand; these go on with short messages where there is none. With one or two, a stranger who shows its
    /// address can still hold up all handshakes for as long as one may take: three or more are right for who is called.
    pub blocks: usize,
}

impl<C: IkeCrypto> fmt::Debug for Storage<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
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

/// Every IKE SA of a host.
///
/// Methods come in four kinds: inputs (`handle_*`), wishes (`initiate`, `create_child`, `rekey_*`, `close*`, …), outputs
/// (`poll_*`) and getters. After each input or wish, drain [`Endpoint::poll_transmit`] and [`Endpoint::poll_event`] until
/// both give `None`, then ask [`Endpoint::poll_timeout`].
///
/// The [crate's documentation](crate) has two that talk to each other. This one knows nobody:
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::child::ChildSlot;
/// use ike_core::crypto::rustcrypto::RustCrypto;
/// use ike_core::endpoint::{Denied, Endpoint, IkeSlot, IndexBlock, Occupancy, PadMut, Settings, SpiMeaning, Storage};
/// use ike_core::endpoint::{ROOM_PER_BLOCK, ROOM_PER_SA};
/// use ike_core::error::Discard;
/// use ike_core::pad::{ChildConfig, Connection, Initiator, Pad, PeerId};
/// use ipsec_core::{net::Path, time::Instant};
/// struct Nobody;
///
/// impl Pad for Nobody {
///     fn connection(&self, _: PeerId) -> Option<Connection<'_>> {
///         None
///     }
///     fn child(&self, _: PeerId, _: usize) -> Option<ChildConfig<'_>> {
///         None
///     }
///     fn candidate(&self, _: &Initiator<'_>, _: Option<PeerId>) -> Option<PeerId> {
///         None
///     }
/// }
///
/// let crypto = RustCrypto::new(rand_core::UnwrapErr(SysRng), ipsec_core::crypto::rustcrypto::RustCrypto);
/// let (mut sas, mut children): ([IkeSlot<_>; 4], [ChildSlot; 4]) = Default::default();
/// let mut index = [const { IndexBlock::EMPTY }; IndexBlock::needed(4, 4)];
/// let (mut pairs, mut pool, blocks) = ([0; 4 * ROOM_PER_SA], [0; 2 * ROOM_PER_BLOCK], 2);
/// let (sas, children, index) = (&mut sas, &mut children, &mut index);
/// let storage = Storage { sas, children, index, pairs: &mut pairs, pool: &mut pool, blocks };
/// let mut endpoint = Endpoint::new(crypto, Nobody, storage, Settings::default()).unwrap();
///
/// let now = Instant::from_millis(1);
/// assert_eq!(endpoint.initiate(now, PeerId(1), None), Err(Denied::UnknownPeer));
/// let path = Path { local: "192.0.2.1:500".parse().unwrap(), remote: "192.0.2.2:500".parse().unwrap() };
/// assert_eq!(endpoint.handle_datagram(now, path, &mut [0; 20]), Err(Discard::Malformed));
/// assert_eq!((endpoint.occupancy(), endpoint.poll_timeout()), (Occupancy::default(), None));
/// assert_eq!(endpoint.meaning_of(0x1000), SpiMeaning::None);
/// let connections: PadMut<'_, '_, _, _> = endpoint.pad_mut(); // every SA is looked at when it is dropped
/// drop(connections);
/// ```
pub struct Endpoint<'a, C: IkeCrypto, P: Pad> {
    crypto: C,
    pad: P,
    settings: Settings,
    sas: Table<'a, IkeSlot<C>>,
    children: Children<'a>,
    rooms: Rooms<'a>,
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
    /// [`NoRoom`] when the room for messages is too small for the number of SAs (2 × 160 octets each) or of blocks (2 × 580
    /// octets each, and no less than a pair), there is no block, there are too few blocks for the index, or a table has more
    /// than 65,535 slots.
    pub fn new(mut crypto: C, pad: P, storage: Storage<'a, C>, settings: Settings) -> Result<Self, NoRoom> {
        let Storage { sas, children, index, pairs, pool, blocks } = storage;
        let rooms = Rooms::new(pairs, sas.len(), pool, blocks)?;
        if sas.len() > 0xffff || children.len() > 0xffff {
            return Err(NoRoom);
        }
        let (ike_index, child_index) = index.split_at_mut_checked(IndexBlock::count(sas.len())).ok_or(NoRoom)?;
        if child_index.len() < IndexBlock::count(children.len()) {
            return Err(NoRoom);
        }
        let jar = Jar::new(&mut crypto);
        let mut secret = || {
            let mut random = [[0; 8]; 2];
            random.iter_mut().for_each(|half| crypto.random(half));
            HashSecret(random.map(u64::from_be_bytes))
        };
        let sas = Table::new(sas, ike_index, secret());
        let children = Table::new(children, child_index, secret());
        Ok(Self {
            crypto,
            pad,
            settings,
            sas,
            children: Children { table: children },
            rooms,
            jar,
            lent: None,
            reply: None,
            refused: None,
            fruitless: init::Fruitless::NONE,
            heard: None,
            version_reply_at: Instant::ZERO,
            told_size_at: Instant::ZERO,
        })
    }

    /// An IKE message arrived, without non-ESP marker. It is decrypted in place.
    ///
    /// # Errors
    /// [`Discard`]: no SA was changed; count it. Another major version and an unknown critical payload of a stranger may
    /// still be answered, without state, and a claim in clear that the peer lost an SA may still have it asked for a sign of
    /// life.
    pub fn handle_datagram(&mut self, now: impl Into<Now>, path: Path, datagram: &mut [u8]) -> Result<(), Discard> {
        self.handle(now.into(), path, datagram)
    }

    fn handle(&mut self, clocks: Now, path: Path, datagram: &mut [u8]) -> Result<(), Discard> {
        let now = clocks.at;
        self.heard = None;
        let header = Header::parse(datagram)?;
        self.take_back_keys();
        if header.major != 2 {
            return self.refuse_version(now, path, &header);
        }
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
        let replaced = self.replaced(slot);
        let effects = self.step(clocks, slot, path, &header, datagram)?;
        if let Some((heir, before)) = replaced
            && self.sas.get(slot).is_some_and(|sa| sa.path.remote != before)
            && let Some(mut heir) = self.sas.edit(heir).filter(|heir| heir.path.remote == before)
        {
            // On that one nothing may come from there for long, and what we send would be lost until then. Where it has heard
            // of another place since, it knows better: this message may have been under way for long.
            heir.follow(path);
        }
        self.follow_up(now, slot, effects);
        Ok(())
    }

    /// Where the SA in a slot only waits for its Delete: the slot of the one that took over, and where the peer is for all that
    /// the replaced one knows.
    fn replaced(&self, slot: u16) -> Option<(u16, SocketAddr)> {
        let sa = self.sas.get(slot)?;
        let State::Established(established) = &sa.state else { return None };
        established.standing.is_over().then(|| (self.holder(slot), sa.path.remote))
    }

    /// What has to be done after the work on an SA that may have come up.
    fn follow_up(&mut self, now: Instant, slot: u16, effects: Effects) {
        if self.sas.get(slot).is_some_and(|sa| sa.report.begun == Some(Begun::Established)) {
            self.crowd(now, slot);
        }
        self.apply(now, slot, effects);
    }

    /// What the SA in a slot makes of a message.
    #[inline(never)]
    fn step(
        &mut self,
        now: Now,
        slot: u16,
        path: Path,
        header: &Header,
        datagram: &mut [u8],
    ) -> Result<Effects, Discard> {
        // The peer says it again. What is established goes on with what room it has.
        if !self.rooms.has_spare() && self.sas.get(slot).is_some_and(|sa| sa.is_handshake() && sa.block.is_none()) {
            return Err(Discard::NoRoom);
        }
        let made = self.work(now, slot, |sa, env| {
            if sa.wait().is_some() {
                // The answer will come when whoever is asked has given its own; until then repetitions cost nothing.
                return Err(Discard::Unexpected);
            }
            sa.window.receive(datagram);
            match sa.state {
                State::InitSent(_) => state::init_sent::on_message(sa, env, path, header, datagram),
                State::InitAnswered(_) => state::init_answered::on_message(sa, env, path, header, datagram),
                State::AuthSent(_) => state::auth_sent::on_message(sa, env, path, header, datagram),
                State::Established(_) => {
                    let made = state::established::on_message(sa, env, path, header, datagram);
                    // What concerns nobody else goes on at once: so it is filed once.
                    if matches!(made, Ok(Effects::Nothing)) {
                        state::established::pursue(sa, env);
                    }
                    made
                }
                State::Dead(_) => state::deleting::on_message(sa, path, header),
            }
        });
        made.unwrap_or(Err(Discard::UnknownSa))
    }

    /// Time has passed: repeats, rekeys, deletes and gives up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.take_back_keys();
        // Children first: what falls due on several of one IKE SA goes into one request. What does nothing when it is due would
        // be met again and again: nobody is looked at more often than there are slots.
        for _ in 0..self.children.table.len() {
            let Some(mut child) = self.children.table.ripe(now).and_then(|slot| self.children.get_mut(slot)) else {
                break;
            };
            let ike = child.ike;
            if child.on_time(now)
                && let Some(established) = self.sas.edit(ike).as_deref_mut().and_then(Sa::established_mut)
            {
                established.work = true;
            }
        }
        for _ in 0..self.sas.len() {
            let Some(slot) = self.sas.ripe(now) else { break };
            match self.sas.get(slot).map(|sa| (&sa.state, sa.has_ended())) {
                Some((State::Dead(_), false)) => self.sas.clear(slot),
                // It goes as soon as that was told.
                Some((State::Dead(_), true)) => self.sas.edit(slot).into_iter().for_each(|mut sa| sa.only_to_tell()),
                _ => {
                    let done = self.work(now, slot, |sa, env| {
                        let effects = agenda::on_time(sa, env);
                        if matches!(effects, Effects::Nothing) {
                            state::established::pursue(sa, env);
                        }
                        effects
                    });
                    if let Some(effects) = done {
                        self.apply(now, slot, effects);
                    }
                }
            }
        }
    }

    /// The keys that the last event lent are where they are needed: they go from here.
    fn take_back_keys(&mut self) {
        if let Some(mut child) = self.lent.take().and_then(|id| self.children.by_id_mut(id)) {
            child.untold.wipe_keys();
        }
    }

    /// The slot of the SA that a message belongs to.
    fn find(&self, header: &Header) -> Option<u16> {
        let ours = if header.initiator { header.spi_r } else { header.spi_i };
        let slot = u16::try_from(ours & u64::from(index_mask(self.sas.len()))).ok()?;
        let sa = self.sas.get(slot)?;
        // The responder's SPI is learned from the answer to IKE_SA_INIT.
        let known = sa.spi_r == header.spi_r || (sa.spi_r == 0 && header.exchange == ExchangeType::IKE_SA_INIT);
        (sa.spi_i == header.spi_i && known && sa.initiator != header.initiator).then_some(slot)
    }

    /// An SPI of ours for the SA in `slot`.
    fn spi(&mut self, slot: u16) -> u64 {
        draw_spi(&mut self.crypto, self.sas.len(), slot)
    }

    fn id(&self, slot: u16) -> IkeId {
        IkeId { slot, generation: self.sas.generation(slot) }
    }

    /// Takes the endpoint apart for work on one SA.
    fn work<R>(
        &mut self,
        now: impl Into<Now>,
        slot: u16,
        work: impl FnOnce(&mut Sa<C>, &mut Env<'_, 'a, C>) -> R,
    ) -> Option<R> {
        let Now { at: now, wall } = now.into();
        let holder = self.holder(slot);
        let mut place = self.sas.edit(slot)?;
        let (sa, others) = place.parts();
        // What is due again at once would be looked at without end.
        let until = now + self.settings.orphan.max(Duration::from_secs(1));
        let mut desk = Desk::lay(&mut self.rooms, slot, sa, (now, until));
        let cramped = desk.is_cramped();
        let (sa, Pair { request, response }) = desk.parts()?;
        let mut env = Env {
            now,
            wall,
            slot,
            cramped,
            holder,
            crypto: &mut self.crypto,
            children: &mut self.children,
            request: request.get_mut(MARKER_LEN..)?,
            response: response.get_mut(MARKER_LEN..)?,
            settings: &self.settings,
            pad: &self.pad,
            heard: &mut self.heard,
            others: Some(others),
        };
        Some(work(sa, &mut env))
    }

    /// Puts an SA into a slot that has not begun yet, as initiator where it is known with whom.
    #[inline(never)]
    fn open(&mut self, slot: u16, peer: Option<PeerId>, (spi_i, spi_r): (u64, u64), path: Path) -> Option<u32> {
        let nothing = State::Dead(Dead::default());
        self.sas.put(slot, Sa { peer, ..Sa::new(peer.is_some(), spi_i, spi_r, path, nothing) })
    }

    /// Works on an SA that begins; it is gone again when it does not.
    fn begin<E>(
        &mut self,
        now: Instant,
        slot: u16,
        begin: impl FnOnce(&mut Sa<C>, &mut Env<'_, 'a, C>) -> Result<(), E>,
    ) -> Option<Result<(), E>> {
        let begun = self.work(now, slot, |sa, env| {
            let begun = begin(sa, env);
            if begun.is_err() {
                sa.state = State::Dead(Dead::default());
            }
            begun
        });
        if !matches!(begun, Some(Ok(()))) {
            self.sas.clear(slot);
        }
        begun
    }

    /// The slot of the SA that has the children which the peer may mean on the one in `slot`. While a rekey goes on, either
    /// end may already name them on the new SA or still name them on the old one.
    fn holder(&self, slot: u16) -> u16 {
        let kin = |slot: &u16| {
            let State::Established(established) = &self.sas.get(*slot)?.state else { return None };
            let heir = established.standing.kin()?;
            let sa = self.sas.get(heir.slot)?;
            (sa.spi() == heir.spi && matches!(sa.state, State::Established(_))).then_some(heir.slot)
        };
        // From one that the peer made, over the old one, to the one that we made, and on to whatever took the place of that.
        core::iter::successors(Some(slot), kin).take(self.sas.len()).last().unwrap_or(slot)
    }

    /// The established IKE SAs with the same peer under the same identity as the one in `slot`, that one included.
    fn kin(&self, slot: u16) -> impl Iterator<Item = (u16, &Sa<C>)> + Clone {
        let sa = self.sas.get(slot);
        let near = sa.map(|sa| self.sas.near(sa.by_party()).filter(move |(_, other)| other.is_of_party(sa)));
        near.into_iter().flatten()
    }

    /// A new SA is up. When its peer holds too many by now, the oldest goes: whoever begins anew all the time, without
    /// INITIAL_CONTACT, does not fill the table.
    #[inline(never)]
    fn crowd(&mut self, now: Instant, slot: u16) {
        let Some(new) = self.sas.get(slot) else { return };
        if self.kin(slot).count() <= new.share(&self.settings, &self.pad, self.sas.len()) {
            return;
        }
        let since = |sa: &Sa<C>| match &sa.state {
            State::Established(established) => Some(established.since),
            _ => None,
        };
        let others = self.kin(slot).filter(|(other, _)| *other != slot);
        let oldest = others.min_by_key(|(other, sa)| (since(sa), *other)).map(|(oldest, _)| oldest);
        // Its peer may not answer any more, and it must not stay until that is known.
        if let Some(oldest) = oldest {
            self.work(now, oldest, |sa, env| exchange::part(sa, env, Failure::Replaced));
        }
    }

    /// Does in other slots what the work on one SA asked for, and then lets each of them go on.
    #[inline(never)]
    fn apply(&mut self, now: Instant, slot: u16, effects: Effects) {
        // Whom to let go on besides.
        let others = match effects {
            Effects::Nothing => [None; 2],
            Effects::Made(made) => [Some(made), None],
            Effects::TakesOver { heir, loser } => {
                if let Some(mut loser) = loser.and_then(|loser| self.alive(loser)) {
                    succession::lose(&mut loser);
                }
                self.inherit(now, slot, heir);
                [loser.map(|loser| loser.slot), Some(heir.slot)]
            }
            Effects::Connected { child, alone_since } => {
                if let Some(child) = child {
                    self.hold_back(slot, child, alone_since);
                }
                if let Some(moment) = alone_since {
                    self.forget_others(now, slot, moment);
                }
                [None; 2]
            }
            Effects::Over { cause, heir } => {
                if let Some(heir) = heir {
                    self.inherit(now, slot, heir);
                }
                self.work(now, slot, |sa, env| sa.die(env, cause));
                [heir.map(|heir| heir.slot), None]
            }
        };
        for slot in [Some(slot)].into_iter().chain(others).flatten() {
            self.pursue(now, slot);
        }
    }

    /// The SA of ours with this SPI, when it is established.
    fn alive(&mut self, Heir { slot, spi }: Heir) -> Option<Edit<'_, 'a, IkeSlot<C>>> {
        let sa = self.sas.edit(slot)?;
        (sa.spi() == spi && matches!(sa.state, State::Established(_))).then_some(sa)
    }

    /// Hands the children of `old` to the SA that replaced it, and what else it leaves. When that one is gone already,
    /// `old` goes on.
    fn inherit(&mut self, now: Instant, old: u16, heir: Heir) {
        let alive = self.alive(heir).is_some();
        let id = self.id(old);
        let Some(mut sa) = self.sas.edit(old) else { return };
        if !alive {
            succession::stay(&mut sa, now + self.settings.retry);
            return;
        }
        let Some(estate) = succession::bequeath(&mut sa, id) else { return };
        drop(sa);
        self.children.each_of(old, |_| true, |child| child.ike = heir.slot);
        if let Some(mut heir) = self.alive(heir) {
            succession::inherit(&mut heir, estate);
        }
    }

    /// The party that connected with the child `first` may be done with its own call, because both called at once. Where
    /// another IKE SA with it carries the same, what works is not left for what only we have: before this one is sent
    /// through, the party has to show that it has it. Of what it has lost (`begun`) nothing works.
    fn hold_back(&mut self, slot: u16, first: ChildId, begun: Option<Instant>) {
        let Some(config) = self.children.by_id(first).map(|child| child.config) else { return };
        let works =
            |child: &Child| matches!(child.phase, Phase::Up(_)) && begun.is_none_or(|begun| child.since > begun);
        let carries = |ike: u16| self.children.of(ike).any(|(_, child)| child.config == config && works(child));
        if !self.kin(slot).any(|(other, _)| other != slot && carries(other)) {
            return;
        }
        if let Some(mut child) = self.children.by_id_mut(first) {
            child.outbound_ready = false;
        }
        if let Some(established) = self.sas.edit(slot).as_deref_mut().and_then(Sa::established_mut) {
            established.liveness.wanted = true;
        }
    }

    /// The peer has lost its other SAs with us (RFC 7296 §2.4), and is told in case it has not. Those that came up since it
    /// began the one that says so are not meant: when both call at once, what it says may come after the other SA did.
    fn forget_others(&mut self, now: Instant, keep: u16, begun: Instant) {
        let meant = |sa: &Sa<C>| matches!(&sa.state, State::Established(established) if established.since <= begun);
        for _ in 0..self.sas.len() {
            // Each that goes leaves the company.
            let other = self.kin(keep).find(|(slot, sa)| *slot != keep && meant(sa)).map(|(slot, _)| slot);
            let Some(slot) = other else { return };
            self.work(now, slot, |sa, env| exchange::part(sa, env, Failure::Replaced));
        }
    }

    /// Sends the next request that somebody waits for, when none is outstanding.
    fn pursue(&mut self, now: Instant, slot: u16) {
        let waits = |sa: &Sa<C>| matches!(&sa.state, State::Established(established) if established.work);
        if self.sas.get(slot).is_some_and(|sa| waits(sa) && sa.window.outstanding().is_none()) {
            self.work(now, slot, state::established::pursue);
        }
    }

    /// Another major version: say so once in a while and keep nothing (RFC 7296 §2.5, RFC 9395).
    fn refuse_version(&mut self, now: Instant, path: Path, header: &Header) -> Result<(), Discard> {
        // In IKEv1 the response bit is the commit bit, which a first message does not carry.
        if header.response || now < self.version_reply_at {
            return Err(Discard::Version);
        }
        self.version_reply_at = now + Duration::from_secs(1);
        self.answer_in_clear(path, header, NotifyKind::INVALID_MAJOR_VERSION, &[]);
        Err(Discard::Version)
    }

    /// Answers without an SA.
    fn answer_in_clear(&mut self, path: Path, header: &Header, kind: NotifyKind, data: &[u8]) {
        let mut bytes = [0; MARKER_LEN + 92];
        let answer =
            Header { response: true, ..Header::new(header.spi_i, header.spi_r, header.exchange, header.message_id) };
        let written = bytes.get_mut(MARKER_LEN..).ok_or(NoRoom).and_then(|room| {
            let mut message = MessageWriter::new(room, &answer)?;
            message.notify_parts(kind, &[data])?;
            Ok(message.finish())
        });
        if let Ok(message) = written {
            self.reply = Some(Reply { path, waiting: true, message, bytes });
        }
    }
}
