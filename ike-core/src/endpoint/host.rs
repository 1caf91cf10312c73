//! The endpoint itself: its tables, and the work on one SA in them.

use core::fmt;
use core::time::Duration;

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::desk::Desk;
use super::reply::{Fruitless, Reply};
use super::storage::Storage;
use crate::child::{Children, index_mask};
use crate::clock::Now;
use crate::cookie::Jar;
use crate::crypto::IkeCrypto;
use crate::env::{Env, draw_spi};
use crate::error::{NoRoom, WrongSize};
use crate::event::{ChildId, IkeId};
use crate::failure::Failure;
use crate::pad::{Pad, PeerId};
use crate::registry::{ExchangeType, NotifyKind};
use crate::room::{MARKER_LEN, Pair, Rooms};
use crate::sa::{Dead, IkeSlot, Sa, State};
use crate::settings::Settings;
use crate::table::{HashSecret, IndexBlock, Table};
use crate::wire::header::Header;
use crate::wire::outline::Outline;
use crate::wire::writer::MessageWriter;

/// Every IKE SA of a host.
///
/// Methods come in four kinds: inputs (`handle_*`), wishes (`initiate`, `create_child`, `rekey_*`, `close*`, …), outputs
/// (`poll_*`) and getters. After each input or wish, drain [`Endpoint::poll_event`] and then [`Endpoint::poll_transmit`] until
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
/// let (mut sas, mut children) = ([const { IkeSlot::EMPTY }; 4], [const { ChildSlot::EMPTY }; 4]);
/// let mut index = [const { IndexBlock::EMPTY }; IndexBlock::needed(4, 4)];
/// let (mut pairs, mut pool, blocks) = ([0; 4 * ROOM_PER_SA], [0; 2 * ROOM_PER_BLOCK], 2);
/// let (sas, children, index) = (&mut sas, &mut children, &mut index);
/// let storage = Storage { sas, children, index, pairs: &mut pairs, pool: &mut pool, blocks };
/// let mut endpoint = Endpoint::new(crypto, Nobody, storage, Settings::default()).expect("each part is large enough");
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
    pub(super) crypto: C,
    pub(super) pad: P,
    pub(super) settings: Settings,
    pub(super) sas: Table<'a, IkeSlot<C>>,
    pub(super) children: Children<'a>,
    pub(super) rooms: Rooms<'a>,
    pub(super) jar: Jar,
    /// Whose keys the last event lent.
    pub(super) lent: Option<ChildId>,
    pub(super) reply: Option<Reply>,
    pub(super) refused: Option<(Path, Failure)>,
    pub(super) fruitless: Fruitless,
    /// What the last datagram carried, as far as it could be read.
    pub(super) heard: Option<Outline>,
    /// When the next foreign version may be answered.
    pub(super) version_reply_at: Instant,
    /// When the next first message that is too long may be told of.
    pub(super) told_size_at: Instant,
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
    /// [`WrongSize`]: a part of the storage that is too small or too large.
    pub fn new(mut crypto: C, pad: P, storage: Storage<'a, C>, settings: Settings) -> Result<Self, WrongSize> {
        let Storage { sas, children, index, pairs, pool, blocks } = storage;
        if !(1..=0xffff).contains(&sas.len()) {
            return Err(WrongSize::Sas);
        }
        if children.len() > 0xffff {
            return Err(WrongSize::Children);
        }
        let split = index.split_at_mut_checked(IndexBlock::count(sas.len()));
        let (ike_index, child_index) = split.ok_or(WrongSize::Index)?;
        if child_index.len() < IndexBlock::count(children.len()) {
            return Err(WrongSize::Index);
        }
        let rooms = Rooms::new(pairs, sas.len(), pool, blocks)?;
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
            fruitless: Fruitless::NONE,
            heard: None,
            version_reply_at: Instant::ZERO,
            told_size_at: Instant::ZERO,
        })
    }

    /// The keys that the last event lent are where they are needed: they go from here.
    pub(super) fn take_back_keys(&mut self) {
        if let Some(mut child) = self.lent.take().and_then(|id| self.children.by_id_mut(id)) {
            child.untold.wipe_keys();
        }
    }

    /// The slot of the SA that a message belongs to.
    pub(super) fn find(&self, header: &Header) -> Option<u16> {
        let ours = if header.initiator { header.spi_r } else { header.spi_i };
        let slot = u16::try_from(ours & u64::from(index_mask(self.sas.len()))).ok()?;
        let sa = self.sas.get(slot)?;
        // The responder's SPI is learned from the answer to IKE_SA_INIT.
        let known = sa.spi_r == header.spi_r || (sa.spi_r == 0 && header.exchange == ExchangeType::IKE_SA_INIT);
        (sa.spi_i == header.spi_i && known && sa.initiator != header.initiator).then_some(slot)
    }

    /// An SPI of ours for the SA in `slot`.
    pub(super) fn spi(&mut self, slot: u16) -> u64 {
        draw_spi(&mut self.crypto, self.sas.len(), slot)
    }

    pub(super) fn id(&self, slot: u16) -> IkeId {
        IkeId { slot, generation: self.sas.generation(slot) }
    }

    /// Takes the endpoint apart for work on one SA.
    pub(super) fn work<R>(
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
    pub(super) fn open(
        &mut self,
        slot: u16,
        peer: Option<PeerId>,
        (spi_i, spi_r): (u64, u64),
        path: Path,
    ) -> Option<u32> {
        let nothing = State::Dead(Dead::default());
        self.sas.put(slot, Sa { peer, ..Sa::new(peer.is_some(), spi_i, spi_r, path, nothing) })
    }

    /// Works on an SA that begins; it is gone again when it does not.
    pub(super) fn begin<E>(
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
    pub(super) fn holder(&self, slot: u16) -> u16 {
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
    pub(super) fn kin(&self, slot: u16) -> impl Iterator<Item = (u16, &Sa<C>)> + Clone {
        let sa = self.sas.get(slot);
        let near = sa.map(|sa| self.sas.near(sa.by_party()).filter(move |(_, other)| other.is_of_party(sa)));
        near.into_iter().flatten()
    }

    /// Answers without an SA.
    pub(super) fn answer_in_clear(&mut self, path: Path, header: &Header, kind: NotifyKind, data: &[u8]) {
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
