//! What a slot knows of where it stands in the lists of its table.

use core::num::NonZeroU64;

use crate::time::Instant;

/// Where a slot stands, and what stands at the places of lists that have its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    /// Whether it is counted as one that has an SA.
    pub(super) live: bool,
    pub(super) free: Queued,
    pub(super) news: Queued,
    pub(super) due: Option<Due>,
    /// The slot that stands at the place of the heap with this slot's number.
    pub(super) in_heap: u32,
    pub(super) chained: Option<Chained>,
    /// The newest slot of the networks that fall on the number of this one.
    pub(super) newest: Option<u32>,
}

impl Links {
    pub(super) const NONE: Self =
        Self { live: false, free: Queued::No, news: Queued::No, due: None, in_heap: 0, chained: None, newest: None };
}

/// Where a slot stands in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queued {
    No,
    Last,
    Before(u32),
}

/// When the SA in a slot falls due, and its place in the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) place: u32,
}

/// Where a slot stands in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chained {
    /// The newer of two SAs has the larger one.
    pub(super) age: NonZeroU64,
    /// Which chain, and of which width.
    pub(super) spot: Spot,
    pub(super) older: Option<u32>,
    pub(super) newer: Option<u32>,
}

/// A chain: the number of the slot that knows its newest one, and that of the width of the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) start: u32,
    pub(super) width: u8,
}

/// The slots of a table. Who files them has them as `dyn`, so that one copy of that does for tables of either way; packets do
/// not.
pub(super) trait Linked {
    fn count(&self) -> usize;
    fn links(&self, slot: u32) -> Option<&Links>;
    fn links_mut(&mut self, slot: u32) -> Option<&mut Links>;
}
