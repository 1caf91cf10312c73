//! Whether everything is filed as it says, by a walk over all of it.

use core::cell::Cell;

use super::super::filed::{Filed as _, Place};
use super::super::links::{Links, Queued};
use super::super::policies::{Home, spot};
use super::super::queue::{Queue, Which};
use super::super::slot::Vacant;
use super::Table;
use crate::net::Spi;

/// What is not as it should be, and in which slot; that of no slot is one behind the last.
pub(crate) type Misfiled = (&'static str, u32);

impl<T: Place> Table<'_, T> {
    /// How many SAs are looked at for one with this SPI that does not carry its slot.
    pub(crate) fn looks(&self, spi: Spi) -> u32 {
        let looks = Cell::new(0);
        let is_it = |slot: u32| {
            looks.set(looks.get() + 1);
            (self.spi_at(slot as usize) == Some(spi)).then_some(())
        };
        self.chains.of(&self.slots, &Home::of_spi(spi), is_it);
        looks.get()
    }

    pub(crate) fn check(&self) -> Result<(), Misfiled> {
        let count = self.slots.len() as u32;
        let holds = |what, holds: bool, slot| if holds { Ok(()) } else { Err((what, slot)) };
        let links = |slot: u32| self.slots.get(slot as usize).map(|slot| slot.links);
        let all = || self.slots.iter().map(|slot| slot.links);
        let mut chained = 0;
        for (number, slot) in (0..).zip(self.slots.iter()) {
            let (links_of, sa) = (slot.links, slot.live());
            holds("live", links_of.live == sa.is_some(), number)?;
            holds("due", links_of.due.map(|due| due.at) == sa.and_then(|sa| sa.due()), number)?;
            holds("news", links_of.news != Queued::No || !sa.is_some_and(|sa| sa.tells()), number)?;
            holds("free", links_of.free != Queued::No || slot.vacant() != Some(Vacant::Free), number)?;
            let home = sa.and_then(|sa| sa.home()).map(|home| spot(self.slots.len(), &home));
            holds("home", links_of.chained.map(|chained| chained.spot) == home, number)?;
            holds("touched", !sa.is_some_and(|sa| sa.is_touched()), number)?;
            if let Some(due) = links_of.due {
                holds(
                    "heap",
                    due.place < self.due.len && links(due.place).map(|at| at.in_heap) == Some(number),
                    number,
                )?;
                let above = due.place.checked_sub(1).and_then(|before| links(links(before / 2)?.in_heap)?.due);
                holds("order", above.is_none_or(|above| above.at <= due.at), number)?;
            }
            // The chain that begins here, from the newest on.
            let (mut next, mut newer): (_, Option<u32>) = (links_of.newest, None);
            let mut age = u64::MAX;
            while let Some(slot) = next {
                let here = links(slot).and_then(|links| links.chained).ok_or(("chain", number))?;
                let mine = here.spot.start == number && here.newer == newer;
                holds("chain", mine && here.age.get() <= age && here.age.get() <= self.chains.linked(), slot)?;
                (age, newer, next) = (here.age.get().saturating_sub(1), Some(slot), here.older);
                chained += 1;
            }
        }
        holds("unchained", chained == all().filter(|links| links.chained.is_some()).count(), count)?;
        for (width, sas) in (0..).zip(self.chains.sas) {
            let of = |links: &Links| matches!(links.chained, Some(chained) if chained.spot.width == width);
            holds("width", all().filter(of).count() == sas as usize, count)?;
            holds("widths", (self.chains.used >> width & 1 == 1) == (sas > 0), count)?;
        }
        holds("heap", all().filter(|links| links.due.is_some()).count() == self.due.len as usize, count)?;
        holds("count", all().filter(|links| links.live).count() == self.live, count)?;
        self.queue(&self.free, Which::Free)?;
        self.queue(&self.news, Which::News)
    }

    /// Whether all that say so stand in a queue, each once.
    fn queue(&self, queue: &Queue, which: Which) -> Result<(), Misfiled> {
        let count = self.slots.len() as u32;
        let queued = |slot: u32| {
            self.slots.get(slot as usize).map(|slot| match which {
                Which::Free => slot.links.free,
                Which::News => slot.links.news,
            })
        };
        let mut next = queue.ends.map(|(first, _)| first);
        let mut found = 0;
        while let Some(slot) = next.filter(|_| found <= count) {
            found += 1;
            next = match queued(slot) {
                Some(Queued::Before(next)) => Some(next),
                Some(Queued::Last) if queue.ends.map(|(_, last)| last) == Some(slot) => None,
                _ => return Err(("queue", slot)),
            };
        }
        let all = (0..count).filter(|slot| queued(*slot) != Some(Queued::No)).count();
        if all == found as usize { Ok(()) } else { Err(("unqueued", count)) }
    }
}
