//! Queues of slots: which are free, and which have something to report.

use super::links::{Linked, Links, Queued};

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Free,
    News,
}

/// A queue. A slot may stand in it that has no reason to any more; whoever comes to it takes it away.
#[derive(Debug)]
pub(super) struct Queue {
    which: Which,
    /// The first one and the last one.
    pub(super) ends: Option<(u32, u32)>,
}

impl Queue {
    pub(super) const fn new(which: Which) -> Self {
        Self { which, ends: None }
    }

    fn of<'x>(&self, links: &'x mut Links) -> &'x mut Queued {
        match self.which {
            Which::Free => &mut links.free,
            Which::News => &mut links.news,
        }
    }

    /// The slot that waits longest.
    #[inline]
    pub(super) fn first(&self) -> Option<u32> {
        self.ends.map(|(first, _)| first)
    }

    /// Puts a slot at the end, unless it waits already.
    pub(super) fn push(&mut self, slots: &mut dyn Linked, slot: u32) {
        let Some(queued) = slots.links_mut(slot).map(|links| self.of(links)) else { return };
        if *queued != Queued::No {
            return;
        }
        *queued = Queued::Last;
        if let Some(before) = self.ends.and_then(|(_, last)| slots.links_mut(last)) {
            *self.of(before) = Queued::Before(slot);
        }
        self.ends = Some((self.ends.map_or(slot, |(first, _)| first), slot));
    }

    /// Takes the slot that waits longest away.
    pub(super) fn pop(&mut self, slots: &mut dyn Linked) {
        let Some((first, last)) = self.ends else { return };
        let queued = slots.links_mut(first).map(|links| core::mem::replace(self.of(links), Queued::No));
        self.ends = match queued {
            Some(Queued::Before(next)) => Some((next, last)),
            _ => None,
        };
    }
}
