//! Queues of slots: which are free, and which have something to report.

use super::Table;

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Free,
    News,
}

/// The ends of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    first: Option<u32>,
    last: u32,
}

impl Queue {
    pub(super) const EMPTY: Self = Self { first: None, last: 0 };
}

/// Where a slot stands in a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    waits: bool,
    next: Option<u32>,
}

impl Queued {
    pub(super) const NOT: Self = Self { waits: false, next: None };
}

impl<T> Table<'_, T> {
    fn queue(&mut self, which: Which) -> &mut Queue {
        match which {
            Which::Free => &mut self.free,
            Which::News => &mut self.news,
        }
    }

    fn queued(&mut self, which: Which, slot: u32) -> Option<&mut Queued> {
        let slot = self.slots.get_mut(slot as usize)?;
        Some(match which {
            Which::Free => &mut slot.free,
            Which::News => &mut slot.news,
        })
    }

    /// The slot that waits longest.
    #[inline]
    pub(super) fn front(&self, which: Which) -> Option<u32> {
        match which {
            Which::Free => self.free.first,
            Which::News => self.news.first,
        }
    }

    /// Puts a slot at the end, unless it waits already.
    pub(super) fn enqueue(&mut self, which: Which, slot: u32) {
        let Some(queued) = self.queued(which, slot).filter(|queued| !queued.waits) else { return };
        *queued = Queued { waits: true, next: None };
        let queue = self.queue(which);
        let before = queue.first.is_some().then_some(queue.last);
        queue.first = queue.first.or(Some(slot));
        queue.last = slot;
        if let Some(before) = before.and_then(|before| self.queued(which, before)) {
            before.next = Some(slot);
        }
    }

    /// Takes the slot that waits longest away.
    pub(super) fn dequeue(&mut self, which: Which) {
        let first = self.front(which).and_then(|first| self.queued(which, first));
        let next = first.and_then(|first| core::mem::replace(first, Queued::NOT).next);
        self.queue(which).first = next;
    }
}
