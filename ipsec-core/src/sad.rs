//! The Security Association Database (RFC 4301 §4.4.2): slots of the caller, one table for each direction.
//!
//! Each slot knows, beside its SA, where it stands in the queues, the chains and the heap of the table. So all of them are
//! the caller's memory, too, and nothing but a look at all SAs walks over the slots.

use core::fmt;
use core::ops::DerefMut;

mod agenda;
mod policies;
mod queue;

use crate::error::Refused;
use crate::net::Spi;
use crate::sa::{self, Event, SaId};
use crate::time::Instant;
use agenda::Agenda;
pub(crate) use policies::Home;
use policies::{Chain, Widths};
use queue::{Queue, Queued, Which};

/// Slots behind its own in which an SPI that was not chosen by us may live.
const PROBES: usize = 8;

/// Storage for one SA.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::{InboundSlot, OutboundSlot};
/// static SIZE: usize = core::mem::size_of::<InboundSlot<RustCrypto>>();
/// let outbound: [OutboundSlot<RustCrypto>; 4] = [const { OutboundSlot::<RustCrypto>::EMPTY }; 4];
/// # assert!(SIZE > 0); let _ = outbound;
/// ```
pub struct Slot<T> {
    generation: u32,
    free: Queued,
    news: Queued,
    agenda: Agenda,
    chain: Chain,
    state: State<T>,
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// `T` is what the SA lies in.
enum State<T> {
    Free,
    /// An SPI that was given out and has no SA yet.
    Reserved(Spi),
    Live(Spi, T),
}

impl<T> Slot<T> {
    /// A free slot.
    pub const EMPTY: Self = Self {
        generation: 0,
        free: Queued::NOT,
        news: Queued::NOT,
        agenda: Agenda::NOTHING,
        chain: Chain::NONE,
        state: State::Free,
    };

    #[inline]
    fn spi(&self) -> Option<Spi> {
        match self.state {
            State::Free => None,
            State::Reserved(spi) | State::Live(spi, _) => Some(spi),
        }
    }

    #[inline]
    fn is_free(&self) -> bool {
        matches!(self.state, State::Free)
    }

    fn is_reserved(&self, for_spi: Spi) -> bool {
        matches!(self.state, State::Reserved(spi) if spi == for_spi)
    }
}

impl<T: DerefMut<Target: Sized>> Slot<T> {
    /// In a frame of its own, which is gone when the keys are made: SAs are large.
    #[inline(never)]
    fn come_alive(&mut self, spi: Spi, make: impl FnOnce() -> Result<T::Target, Refused>) -> Result<(), Refused>
    where
        T: From<T::Target>,
    {
        self.state = State::Live(spi, T::from(make()?));
        Ok(())
    }

    fn live(&self) -> Option<&T::Target> {
        match &self.state {
            State::Live(_, sa) => Some(sa),
            _ => None,
        }
    }

    #[inline]
    fn live_mut(&mut self) -> Option<&mut T::Target> {
        match &mut self.state {
            State::Live(_, sa) => Some(sa),
            _ => None,
        }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// What an SA lies in.
pub(crate) trait Place: DerefMut<Target: Filed + Sized> + From<Self::Target> {}

impl<T: DerefMut<Target: Filed + Sized> + From<Self::Target>> Place for T {}

/// What the table asks of an SA.
pub(crate) trait Filed {
    /// When its age next has something to say.
    fn next_tick(&self) -> Option<Instant>;
    /// Looks at the clock without a packet.
    fn tick(&mut self, now: Instant);
    /// Whether it has something to report.
    fn has_news(&self) -> bool;
    /// The next thing to report.
    fn take_event(&mut self, id: SaId) -> Option<Event>;
}

impl<K> Filed for sa::Outbound<K> {
    fn next_tick(&self) -> Option<Instant> {
        self.common.meter.next_tick()
    }

    fn tick(&mut self, now: Instant) {
        self.common.meter.tick(now);
    }

    fn has_news(&self) -> bool {
        self.common.meter.is_due()
    }

    fn take_event(&mut self, id: SaId) -> Option<Event> {
        self.common.meter.take_event(id, self.common.spi)
    }
}

impl<K> Filed for sa::Inbound<K> {
    fn next_tick(&self) -> Option<Instant> {
        self.common.meter.next_tick()
    }

    fn tick(&mut self, now: Instant) {
        self.common.meter.tick(now);
    }

    fn has_news(&self) -> bool {
        self.has_news()
    }

    fn take_event(&mut self, id: SaId) -> Option<Event> {
        self.take_event(id)
    }
}

/// SAs of one direction.
pub(crate) struct Table<'a, T> {
    slots: &'a mut [Slot<T>],
    /// How many SAs there are: whoever looks at all of them stops at the last.
    live: usize,
    /// Slots that were freed. One may be taken from the middle; it leaves the queue when it comes to the front.
    free: Queue,
    /// Slots whose SA has something to report, or had.
    news: Queue,
    /// How many slots stand in the heap of what falls due.
    due: usize,
    /// The networks that SAs are found by.
    widths: Widths,
    /// Low bits of an SPI that name a slot.
    mask: usize,
}

impl<'a, T: Place> Table<'a, T> {
    /// Over the caller's slots, with the SAs that are in them.
    pub(crate) fn new(slots: &'a mut [Slot<T>]) -> Self {
        let mask = slots.len().checked_next_power_of_two().unwrap_or(1).wrapping_sub(1);
        let mut table =
            Self { slots, live: 0, free: Queue::EMPTY, news: Queue::EMPTY, due: 0, widths: Widths::NONE, mask };
        for slot in table.slots.iter_mut() {
            (slot.free, slot.news) = (Queued::NOT, Queued::NOT);
            (slot.agenda, slot.chain) = (Agenda::NOTHING, Chain::NONE);
        }
        for index in 0..table.slots.len() as u32 {
            match table.at(index).map(|(id, _)| id) {
                Some(id) => {
                    table.live = table.live.saturating_add(1);
                    table.file(id);
                }
                None if table.is_free(index) => table.enqueue(Which::Free, index),
                None => {}
            }
        }
        table
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(crate) fn get(&self, id: SaId) -> Option<&T::Target> {
        self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?.live()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: SaId) -> Option<&mut T::Target> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?.live_mut()
    }

    /// The SA in a slot, whatever its generation.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> Option<(SaId, &T::Target)> {
        let found = self.slots.get(slot as usize)?;
        found.live().map(|sa| (SaId { slot, generation: found.generation }, sa))
    }

    /// The SA with this SPI. One compare when the SPI carries its slot, a bounded number otherwise.
    #[inline]
    pub(crate) fn find_mut(&mut self, spi: Spi) -> Option<(SaId, &mut T::Target)> {
        let index = self.find(spi)?;
        let slot = self.slots.get_mut(index)?;
        let id = SaId { slot: index as u32, generation: slot.generation };
        slot.live_mut().map(|sa| (id, sa))
    }

    /// The slot of an SPI: mostly its own.
    #[inline]
    fn find(&self, spi: Spi) -> Option<usize> {
        let home = self.home(spi.get());
        if self.spi_at(home) == Some(spi) { Some(home) } else { self.find_away(spi) }
    }

    #[inline(never)]
    fn find_away(&self, spi: Spi) -> Option<usize> {
        self.probe(spi).find(|index| self.spi_at(*index) == Some(spi))
    }

    /// Whether there is an SA with this SPI. Costs what [`Self::find_mut`] does.
    pub(crate) fn has(&self, spi: Spi) -> bool {
        self.find(spi).and_then(|index| self.slots.get(index)).is_some_and(|slot| slot.live().is_some())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SaId, &T::Target)> {
        (0u32..)
            .zip(self.slots.iter())
            .filter_map(|(index, slot)| slot.live().map(|sa| (SaId { slot: index, generation: slot.generation }, sa)))
            .take(self.live)
    }

    /// Gives out an SPI whose low bits are a free slot, and keeps that slot for it.
    pub(crate) fn reserve(&mut self, random: u32) -> Result<Spi, Refused> {
        let mut index = self.home(random) as u32;
        // An SPI that is taken asks for the next slot; there are no more of those than slots.
        for _ in 0..=self.slots.len() {
            let spi = self.is_free(index).then(|| self.spi_for(random, index)).flatten();
            if let (Some(spi), Some(slot)) = (spi, self.slots.get_mut(index as usize)) {
                slot.state = State::Reserved(spi);
                return Ok(spi);
            }
            index = self.next_free().ok_or(Refused::Full)?;
            self.dequeue(Which::Free);
            self.enqueue(Which::Free, index);
        }
        Err(Refused::Full)
    }

    /// A random SPI that names this slot; `None`: it is taken.
    fn spi_for(&self, random: u32, index: u32) -> Option<Spi> {
        let mask = self.mask as u32;
        // 0–255 are reserved: the lowest bit above the mask and above them makes the SPI valid.
        let value = (random & !mask) | index;
        let floor = mask.wrapping_add(1).max(256);
        let spi = Spi::new(value).or_else(|| Spi::new(value | floor))?;
        let is_taken = self.probe(spi).any(|other| self.spi_at(other) == Some(spi));
        (!is_taken).then_some(spi)
    }

    /// The slot that was free for the longest time.
    fn next_free(&mut self) -> Option<u32> {
        loop {
            let first = self.front(Which::Free)?;
            if self.is_free(first) {
                return Some(first);
            }
            self.dequeue(Which::Free);
        }
    }

    #[inline]
    fn is_free(&self, index: u32) -> bool {
        self.slots.get(index as usize).is_some_and(Slot::is_free)
    }

    /// Takes back an SPI that was given out and never used.
    pub(crate) fn release(&mut self, spi: Spi) {
        let is = |index: &usize| matches!(self.slots.get(*index), Some(slot) if slot.is_reserved(spi));
        let found = self.probe(spi).find(is);
        if let Some((index, slot)) = found.and_then(|index| Some((index, self.slots.get_mut(index)?))) {
            slot.state = State::Free;
            self.enqueue(Which::Free, index as u32);
        }
    }

    /// Where an SA that is looked up by its SPI goes: its reserved slot, or a free one within reach.
    pub(crate) fn place_by_spi(&self, spi: Spi) -> Result<usize, Refused> {
        let mut free = None;
        for index in self.probe(spi) {
            match self.slots.get(index).map(|slot| &slot.state) {
                Some(State::Live(other, _)) if *other == spi => return Err(Refused::Duplicate),
                Some(State::Reserved(other)) if *other == spi => return Ok(index),
                Some(State::Free) => free = free.or(Some(index)),
                _ => {}
            }
        }
        free.ok_or(Refused::Full)
    }

    /// Where an SA that is known by its id alone goes.
    pub(crate) fn place(&mut self) -> Result<usize, Refused> {
        self.next_free().map(|index| index as usize).ok_or(Refused::Full)
    }

    /// Makes an SA in a slot that one of the `place` functions named, and then has its keys made there.
    ///
    /// # Errors
    /// [`Refused::Full`]: there is an SA already; or what `make` or `keys` says. Nothing changed.
    pub(crate) fn put(
        &mut self,
        index: usize,
        spi: Spi,
        make: impl FnOnce() -> Result<T::Target, Refused>,
        keys: impl FnOnce(&mut T::Target) -> Result<(), Refused>,
    ) -> Result<SaId, Refused> {
        let slot = self.slots.get_mut(index).ok_or(Refused::Full)?;
        let reserved = match slot.state {
            State::Free => None,
            State::Reserved(spi) => Some(spi),
            State::Live(..) => return Err(Refused::Full),
        };
        slot.come_alive(spi, make)?;
        if let Err(refused) = slot.live_mut().map_or(Err(Refused::Full), keys) {
            slot.state = reserved.map_or(State::Free, State::Reserved);
            return Err(refused);
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.live = self.live.saturating_add(1);
        let id = SaId { slot: index as u32, generation: slot.generation };
        self.file(id);
        Ok(id)
    }

    /// Drops an SA in its place, so that its key is wiped where it lies.
    pub(crate) fn remove(&mut self, id: SaId) -> bool {
        let found = self.slots.get_mut(id.slot as usize);
        match found.filter(|slot| slot.generation == id.generation && slot.live().is_some()) {
            Some(slot) => {
                slot.state = State::Free;
                self.live = self.live.saturating_sub(1);
                self.set_due(id.slot, None);
                self.enqueue(Which::Free, id.slot);
                true
            }
            None => false,
        }
    }

    #[inline]
    fn spi_at(&self, index: usize) -> Option<Spi> {
        self.slots.get(index).and_then(Slot::spi)
    }

    #[inline]
    fn home(&self, spi: u32) -> usize {
        let index = spi as usize & self.mask;
        if index < self.slots.len() { index } else { index.saturating_sub(self.slots.len()) }
    }

    /// The slots in which an SPI may live, its own first.
    #[inline]
    fn probe(&self, spi: Spi) -> impl Iterator<Item = usize> + use<T> {
        let (home, len) = (self.home(spi.get()), self.slots.len());
        (home..len).chain(0..home).take(PROBES)
    }
}
