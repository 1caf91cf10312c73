//! What SAs have to report, and when the next one ages: a queue, and a heap by the time, both in the slots.

use super::queue::Which;
use super::{Filed as _, Place, Table};
use crate::sa::{Event, SaId};
use crate::time::Instant;

/// What a slot knows of the heap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agenda {
    /// When the SA in this slot falls due, and its place in the heap.
    due: Option<(Instant, u32)>,
    /// The slot that stands at the place of the heap with this slot's number.
    here: u32,
}

impl Agenda {
    pub(super) const NOTHING: Self = Self { due: None, here: 0 };
}

impl<T: Place> Table<'_, T> {
    /// Files an SA as its content says: when it falls due, and whether it has something to report. To be called after every
    /// change of that.
    pub(crate) fn file(&mut self, id: SaId) {
        let Some((due, news)) = self.get(id).map(|sa| (sa.next_tick(), sa.has_news())) else { return };
        self.set_due(id.slot, due);
        if news {
            self.enqueue(Which::News, id.slot);
        }
    }

    /// Whether an SA has something to report, or had.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.front(Which::News).is_some()
    }

    /// The next thing to report.
    #[inline]
    pub(crate) fn take_event(&mut self) -> Option<Event> {
        loop {
            let first = self.front(Which::News)?;
            let found = self.at(first).map(|(id, _)| id);
            let event = found.and_then(|id| self.get_mut(id)?.take_event(id));
            if event.is_some() {
                return event;
            }
            self.dequeue(Which::News);
        }
    }

    /// When the first SA ages.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.due_at(0)
    }

    /// Lets the SAs age whose time has come.
    pub(crate) fn tick(&mut self, now: Instant) {
        // Each time an SA falls due it has less left to fall due by.
        while self.due_at(0).is_some_and(|due| due <= now) {
            let first = self.slot_at(0).and_then(|slot| self.at(slot)).map(|(id, _)| id);
            let Some((id, sa)) = first.and_then(|id| Some((id, self.get_mut(id)?))) else { return };
            sa.tick(now);
            self.file(id);
        }
    }

    pub(super) fn set_due(&mut self, slot: u32, at: Option<Instant>) {
        let Some(agenda) = self.slots.get_mut(slot as usize).map(|slot| &mut slot.agenda) else { return };
        match (agenda.due.map(|(_, place)| place), at) {
            (Some(place), Some(at)) => {
                agenda.due = Some((at, place));
                self.settle(place as usize);
            }
            (None, Some(at)) => {
                let last = self.due;
                agenda.due = Some((at, last as u32));
                self.due = last.saturating_add(1);
                self.stand(last, slot);
                self.settle(last);
            }
            (Some(place), None) => {
                agenda.due = None;
                self.due = self.due.saturating_sub(1);
                // The last one takes the place; if it was the last one itself, nothing does.
                if place as usize != self.due
                    && let Some(last) = self.slots.get(self.due).map(|last| last.agenda.here)
                {
                    self.stand(place as usize, last);
                    self.settle(place as usize);
                }
            }
            (None, None) => {}
        }
    }

    fn slot_at(&self, place: usize) -> Option<u32> {
        self.slots.get(place).filter(|_| place < self.due).map(|slot| slot.agenda.here)
    }

    fn due_at(&self, place: usize) -> Option<Instant> {
        let slot = self.slot_at(place)?;
        self.slots.get(slot as usize)?.agenda.due.map(|(due, _)| due)
    }

    /// Puts a slot at a place of the heap.
    fn stand(&mut self, place: usize, slot: u32) {
        if let Some(at) = self.slots.get_mut(place) {
            at.agenda.here = slot;
        }
        if let Some((_, at)) = self.slots.get_mut(slot as usize).and_then(|slot| slot.agenda.due.as_mut()) {
            *at = place as u32;
        }
    }

    /// Brings what stands at a place up or down to where it belongs.
    fn settle(&mut self, mut place: usize) {
        while let Some(above) = place.checked_sub(1).map(|before| before / 2)
            && self.due_at(place) < self.due_at(above)
        {
            self.trade(place, above);
            place = above;
        }
        loop {
            let first = place.saturating_mul(2).saturating_add(1);
            let below = [first, first.saturating_add(1)].into_iter();
            let earliest = below.filter_map(|below| Some((self.due_at(below)?, below))).min();
            match earliest {
                Some((due, below)) if Some(due) < self.due_at(place) => {
                    self.trade(place, below);
                    place = below;
                }
                _ => return,
            }
        }
    }

    fn trade(&mut self, one: usize, other: usize) {
        if let (Some(first), Some(second)) = (self.slot_at(one), self.slot_at(other)) {
            self.stand(one, second);
            self.stand(other, first);
        }
    }
}
