//! The slots, and in which order the packets in them began: so what has waited too long is found without a look at the others.

use super::datagram::Datagram;
use super::part::Key;
use crate::time::Instant;
use core::cmp::Reverse;

/// Storage for one packet that is not whole, beside its share of the octets.
///
/// ```
/// use ipsec_core::reassembly::{MAX_FRAGMENTS, Slot};
/// static SLOTS: [Slot; 64] = [const { Slot::EMPTY }; 64];
/// assert!(size_of_val(&SLOTS) <= 64 * (MAX_FRAGMENTS * 4 + 128));
/// ```
#[derive(Debug)]
pub struct Slot {
    datagram: Option<Datagram>,
    /// The slot whose packet began just before this one's.
    older: Option<u32>,
    newer: Option<u32>,
}

impl Slot {
    /// A free slot.
    pub const EMPTY: Self = Self { datagram: None, older: None, newer: None };
}

/// The slots with their order.
#[derive(Debug)]
pub(super) struct Ages<'a> {
    slots: &'a mut [Slot],
    oldest: Option<u32>,
    newest: Option<u32>,
}

impl<'a> Ages<'a> {
    /// All of them are free from now on.
    pub(super) fn new(slots: &'a mut [Slot]) -> Self {
        slots.fill_with(|| Slot::EMPTY);
        Self { slots, oldest: None, newest: None }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn datagram(&mut self, slot: usize) -> Option<&mut Datagram> {
        self.slots.get_mut(slot)?.datagram.as_mut()
    }

    /// Those of a set, with their numbers.
    fn set(&self, first: usize, ways: usize) -> impl Iterator<Item = (usize, &Slot)> + Clone {
        (first..).zip(self.slots.iter().skip(first).take(ways))
    }

    /// The slot of this packet.
    pub(super) fn find(&self, first: usize, ways: usize, key: &Key) -> Option<usize> {
        let is_it = |slot: &Slot| slot.datagram.as_ref().is_some_and(|datagram| datagram.key == *key);
        self.set(first, ways).find(|(_, slot)| is_it(slot)).map(|(at, _)| at)
    }

    pub(super) fn find_free(&self, first: usize, ways: usize) -> Option<usize> {
        self.set(first, ways).find(|(_, slot)| slot.datagram.is_none()).map(|(at, _)| at)
    }

    /// The oldest packet of whoever has most in a set, a newcomer included.
    pub(super) fn oldest_of_most(&self, first: usize, ways: usize, newcomer: &Key) -> Option<usize> {
        let keys = self.set(first, ways).filter_map(|(at, slot)| Some((at, slot.datagram.as_ref()?)));
        let most = keys.clone().max_by_key(|(_, datagram)| {
            let own = |key: &Key| key.sender() == datagram.key.sender();
            let number = keys.clone().filter(|(_, other)| own(&other.key)).count();
            (number.saturating_add(own(newcomer).into()), Reverse(datagram.due))
        });
        most.map(|(at, _)| at)
    }

    /// Puts a packet that begins now into a free slot.
    pub(super) fn put(&mut self, slot: usize, datagram: Datagram) {
        let Ok(number) = u32::try_from(slot) else { return };
        let Some(place) = self.slots.get_mut(slot) else { return };
        *place = Slot { datagram: Some(datagram), older: self.newest, newer: None };
        match self.newest.replace(number) {
            Some(before) => self.link(before, |before| before.newer = Some(number)),
            None => self.oldest = Some(number),
        }
    }

    /// Frees a slot.
    pub(super) fn forget(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot).filter(|place| place.datagram.is_some()) else { return };
        let (older, newer) = (place.older.take(), place.newer.take());
        place.datagram = None;
        match older {
            Some(older) => self.link(older, |older| older.newer = newer),
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.link(newer, |newer| newer.older = older),
            None => self.newest = older,
        }
    }

    fn link(&mut self, slot: u32, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            change(slot);
        }
    }

    /// The slot whose packet began first, and when that is given up.
    pub(super) fn oldest(&self) -> Option<(usize, Instant)> {
        let oldest = self.oldest? as usize;
        Some((oldest, self.slots.get(oldest)?.datagram.as_ref()?.due))
    }
}

#[cfg(test)]
impl Ages<'_> {
    /// The slots in use in their order, and when each is given up. Both directions and the slots themselves say the same.
    pub(super) fn waiting(&self) -> std::vec::Vec<(usize, Instant)> {
        let due = |slot: u32| self.slots[slot as usize].datagram.as_ref().unwrap().due;
        let walk = |from, step: fn(&Slot) -> Option<u32>| {
            let next = |slot: &u32| step(&self.slots[*slot as usize]);
            core::iter::successors(from, next).collect::<std::vec::Vec<u32>>()
        };
        let (mut forth, back) = (walk(self.newest, |slot| slot.older), walk(self.oldest, |slot| slot.newer));
        forth.reverse();
        assert_eq!(forth, back);
        assert_eq!(forth.len(), self.slots.iter().filter(|slot| slot.datagram.is_some()).count());
        forth.into_iter().map(|slot| (slot as usize, due(slot))).collect()
    }
}
