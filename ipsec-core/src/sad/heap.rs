//! When the next SA ages: a heap by the time, in the slots.

use super::links::{Due, Linked};
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Heap {
    /// How many slots stand in it.
    pub(super) len: u32,
}

impl Heap {
    pub(super) const EMPTY: Self = Self { len: 0 };

    /// Which slot falls due first, and when.
    pub(super) fn first(&self, slots: &dyn Linked) -> Option<(Instant, u32)> {
        Some((self.due_at(slots, 0)?, self.slot_at(slots, 0)?))
    }

    /// From now on a slot falls due at this time, or never.
    pub(super) fn set(&mut self, slots: &mut dyn Linked, slot: u32, at: Option<Instant>) {
        let Some(due) = slots.links_mut(slot).map(|links| &mut links.due) else { return };
        match (due.as_mut(), at) {
            (Some(due), Some(at)) if due.at == at => {}
            (Some(due), Some(at)) => {
                due.at = at;
                let place = due.place;
                self.settle(slots, place);
            }
            (None, Some(at)) => {
                let last = self.len;
                *due = Some(Due { at, place: last });
                self.len = last.saturating_add(1);
                stand(slots, last, slot);
                self.settle(slots, last);
            }
            (Some(&mut Due { place, .. }), None) => {
                *due = None;
                self.len = self.len.saturating_sub(1);
                // The last one takes the place; if it was the last one itself, nothing does.
                if place != self.len
                    && let Some(last) = slots.links(self.len).map(|last| last.in_heap)
                {
                    stand(slots, place, last);
                    self.settle(slots, place);
                }
            }
            (None, None) => {}
        }
    }

    fn slot_at(&self, slots: &dyn Linked, place: u32) -> Option<u32> {
        slots.links(place).filter(|_| place < self.len).map(|links| links.in_heap)
    }

    fn due_at(&self, slots: &dyn Linked, place: u32) -> Option<Instant> {
        slots.links(self.slot_at(slots, place)?)?.due.map(|due| due.at)
    }

    /// Brings what stands at a place up or down to where it belongs.
    fn settle(&self, slots: &mut dyn Linked, mut place: u32) {
        while let Some(above) = place.checked_sub(1).map(|before| before / 2)
            && self.due_at(slots, place) < self.due_at(slots, above)
        {
            self.trade(slots, place, above);
            place = above;
        }
        loop {
            let first = place.saturating_mul(2).saturating_add(1);
            let below = [first, first.saturating_add(1)].into_iter();
            let earliest = below.filter_map(|below| Some((self.due_at(slots, below)?, below))).min();
            match earliest {
                Some((due, below)) if Some(due) < self.due_at(slots, place) => {
                    self.trade(slots, place, below);
                    place = below;
                }
                _ => return,
            }
        }
    }

    fn trade(&self, slots: &mut dyn Linked, one: u32, other: u32) {
        if let (Some(first), Some(second)) = (self.slot_at(slots, one), self.slot_at(slots, other)) {
            stand(slots, one, second);
            stand(slots, other, first);
        }
    }
}

/// Puts a slot at a place of the heap.
fn stand(slots: &mut dyn Linked, place: u32, slot: u32) {
    if let Some(at) = slots.links_mut(place) {
        at.in_heap = slot;
    }
    if let Some(due) = slots.links_mut(slot).and_then(|links| links.due.as_mut()) {
        due.place = place;
    }
}
