//! The table: SAs by their SPI, by their number and by what their slots are filed under.

use core::net::IpAddr;

#[cfg(test)]
mod check;

use super::filed::{Filed as _, Place};
use super::heap::Heap;
use super::links::Links;
use super::policies::{Chains, Home};
use super::queue::{Queue, Which};
use super::slot::{Slot, Vacant};
use crate::error::Refused;
use crate::net::Spi;
use crate::sa::{Event, PolicyId, SaId};
use crate::time::Instant;

/// SAs of one direction. An SA can only be changed through [`Table::edit`], whose end files its slot as the SA says then;
/// nobody else has to remember that.
pub(crate) struct Table<'a, T> {
    slots: &'a mut [Slot<T>],
    /// How many SAs there are: whoever looks at all of them stops at the last.
    live: usize,
    /// Slots that were freed. One may be taken from the middle; it leaves the queue when it comes to the front.
    free: Queue,
    /// Slots whose SA has something to report, or had.
    news: Queue,
    due: Heap,
    chains: Chains,
    /// Low bits of an SPI that name a slot.
    mask: usize,
}

impl<'a, T: Place> Table<'a, T> {
    /// Over the caller's slots, with the SAs that are in them.
    pub(crate) fn new(slots: &'a mut [Slot<T>]) -> Self {
        let mask = slots.len().checked_next_power_of_two().unwrap_or(1).wrapping_sub(1);
        slots.iter_mut().for_each(|slot| slot.links = Links::NONE);
        let (free, news) = (Queue::new(Which::Free), Queue::new(Which::News));
        let mut table = Self { slots, live: 0, free, news, due: Heap::EMPTY, chains: Chains::EMPTY, mask };
        for slot in 0..table.slots.len() as u32 {
            table.refile(slot);
        }
        table
    }

    /// Files a slot as its content says.
    fn refile(&mut self, slot: u32) {
        let Some(found) = self.slots.get_mut(slot as usize) else { return };
        let (due, tells, home) = found.live().map_or((None, false, None), |sa| (sa.due(), sa.tells(), sa.home()));
        let (was, is, free) = (found.links.live, found.live().is_some(), found.vacant() == Some(Vacant::Free));
        found.links.live = is;
        if let Some(sa) = found.live_mut() {
            sa.settled();
        }
        self.live = self.live.saturating_sub(was.into()).saturating_add(is.into());
        self.due.set(&mut self.slots, slot, due);
        self.chains.set(&mut self.slots, slot, home.as_ref());
        if tells {
            self.news.push(&mut self.slots, slot);
        }
        if free {
            self.free.push(&mut self.slots, slot);
        }
    }

    #[cold]
    #[inline(never)]
    fn touched(&mut self, slot: u32) {
        self.refile(slot);
    }

    /// A slot without an SA, filed as that.
    fn vacate(&mut self, slot: u32, vacant: Vacant) {
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.vacate(vacant);
        }
        self.refile(slot);
    }

    #[inline]
    pub(crate) fn get(&self, id: SaId) -> Option<&T::Target> {
        self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?.live()
    }

    /// Changes an SA. Its slot is filed anew if what it is filed under was touched, which packets hardly ever do. `none` is
    /// what there is to say when there is no such SA.
    #[inline]
    pub(crate) fn edit<R, E>(
        &mut self,
        id: SaId,
        none: E,
        change: impl FnOnce(&mut T::Target) -> Result<R, E>,
    ) -> Result<R, E> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation);
        let Some(sa) = slot.and_then(Slot::live_mut) else { return Err(none) };
        let changed = change(sa);
        if sa.is_touched() {
            self.touched(id.slot);
        }
        changed
    }

    /// The same where nothing can go wrong. `false`: there is no such SA.
    pub(crate) fn change(&mut self, id: SaId, change: impl FnOnce(&mut T::Target)) -> bool {
        let edited = self.edit(id, (), |sa| {
            change(sa);
            Ok(())
        });
        edited.is_ok()
    }

    /// [`Self::edit`] with the SA that has this SPI. One compare when the SPI carries its slot; others are found along a chain.
    #[inline]
    pub(crate) fn edit_by_spi<R, E>(
        &mut self,
        spi: Spi,
        none: E,
        change: impl FnOnce(SaId, &mut T::Target) -> Result<R, E>,
    ) -> Result<R, E> {
        let Some((index, slot)) = self.find(spi).and_then(|index| Some((index, self.slots.get_mut(index)?))) else {
            return Err(none);
        };
        let id = SaId { slot: index as u32, generation: slot.generation };
        let Some(sa) = slot.live_mut() else { return Err(none) };
        let changed = change(id, sa);
        if sa.is_touched() {
            self.touched(id.slot);
        }
        changed
    }

    /// The SA in a slot, whatever its generation.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> Option<(SaId, &T::Target)> {
        let found = self.slots.get(slot as usize)?;
        found.live().map(|sa| (SaId { slot, generation: found.generation }, sa))
    }

    /// The slot of an SPI: mostly its own.
    #[inline]
    fn find(&self, spi: Spi) -> Option<usize> {
        let home = self.home(spi.get());
        if self.spi_at(home) == Some(spi) { Some(home) } else { self.find_away(spi) }
    }

    #[inline(never)]
    fn find_away(&self, spi: Spi) -> Option<usize> {
        let is_it = |slot: u32| (self.spi_at(slot as usize) == Some(spi)).then_some(slot as usize);
        self.chains.of(&self.slots, &Home::of_spi(spi), is_it)
    }

    /// Whether there is an SA with this SPI. Costs what [`Self::edit_by_spi`] does.
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
            if let Some(spi) = self.is_free(index).then(|| self.spi_for(random, index)).flatten() {
                self.vacate(index, Vacant::Reserved(spi));
                return Ok(spi);
            }
            index = self.next_free().ok_or(Refused::Full)?;
            self.free.pop(&mut self.slots);
            self.free.push(&mut self.slots, index);
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
        self.find(spi).is_none().then_some(spi)
    }

    /// The slot that was free for the longest time.
    fn next_free(&mut self) -> Option<u32> {
        loop {
            let first = self.free.first()?;
            if self.is_free(first) {
                return Some(first);
            }
            self.free.pop(&mut self.slots);
        }
    }

    #[inline]
    fn is_free(&self, index: u32) -> bool {
        self.slots.get(index as usize).and_then(Slot::vacant) == Some(Vacant::Free)
    }

    /// Takes back an SPI that was given out and never used.
    pub(crate) fn release(&mut self, spi: Spi) {
        let home = self.home(spi.get());
        if self.slots.get(home).and_then(Slot::vacant) == Some(Vacant::Reserved(spi)) {
            self.vacate(home as u32, Vacant::Free);
        }
    }

    /// Where an SA that is looked up by its SPI goes: the slot that its SPI carries, reserved or free, or any that is free.
    pub(crate) fn place_by_spi(&mut self, spi: Spi) -> Result<usize, Refused> {
        if self.has(spi) {
            return Err(Refused::Duplicate);
        }
        let home = self.home(spi.get());
        match self.slots.get(home).and_then(Slot::vacant) {
            Some(Vacant::Reserved(kept)) if kept == spi => Ok(home),
            Some(Vacant::Free) => Ok(home),
            _ => self.place(),
        }
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
        let before = slot.vacant().ok_or(Refused::Full)?;
        slot.come_alive(spi, make)?;
        if let Err(refused) = slot.live_mut().map_or(Err(Refused::Full), keys) {
            slot.vacate(before);
            return Err(refused);
        }
        slot.generation = slot.generation.wrapping_add(1);
        let id = SaId { slot: index as u32, generation: slot.generation };
        self.refile(id.slot);
        Ok(id)
    }

    /// Drops an SA in its place, so that its key is wiped where it lies.
    pub(crate) fn remove(&mut self, id: SaId) -> bool {
        let found = self.get(id).is_some();
        if found {
            self.vacate(id.slot, Vacant::Free);
        }
        found
    }

    /// How many SAs came so far that are found without an SPI.
    #[inline]
    pub(crate) fn linked(&self) -> u64 {
        self.chains.linked()
    }

    /// The newest SA that carries packets of a policy to this address. What is found beside those of the policy and the
    /// network is for `carries` to refuse.
    #[inline]
    pub(crate) fn newest(
        &self,
        policy: PolicyId,
        remote: IpAddr,
        carries: impl Fn(&T::Target) -> bool,
    ) -> Option<SaId> {
        self.chains
            .newest(&self.slots, policy, remote, |slot| self.at(slot).filter(|(_, sa)| carries(sa)).map(|(id, _)| id))
    }

    /// Whether an SA has something to report, or had.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.news.first().is_some()
    }

    /// The next thing to report.
    #[inline]
    pub(crate) fn take_event(&mut self) -> Option<Event> {
        loop {
            let first = self.news.first()?;
            let found = self.at(first).map(|(id, _)| id);
            let event = found.and_then(|id| self.edit(id, (), |sa| sa.take_event(id).ok_or(())).ok());
            if event.is_some() {
                return event;
            }
            self.news.pop(&mut self.slots);
        }
    }

    /// When the first SA ages.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.due.first(&self.slots).map(|(due, _)| due)
    }

    /// Lets the SAs age whose time has come.
    pub(crate) fn tick(&mut self, now: Instant) {
        // Each time an SA falls due it has less left to fall due by.
        while let Some((due, slot)) = self.due.first(&self.slots)
            && due <= now
            && let Some((id, _)) = self.at(slot)
        {
            self.change(id, |sa| sa.tick(now));
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
}
