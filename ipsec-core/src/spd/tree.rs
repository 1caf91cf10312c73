//! The parts of an index, as they lie in the caller's memory.

use core::num::NonZeroU32;

use super::query::Dimension;
use super::{Action, Rule, RuleId, Selector};
use crate::net::AddrRange;

/// Nodes above one another, at most.
pub(super) const DEPTH: usize = 40;

/// Memory for one rule: 104 octets.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    pub(super) rule: Rule,
    /// Its place in the order of the rules.
    pub(super) rank: u32,
    /// The slot of the rule whose place in the order is the number of this slot.
    pub(super) of_rank: u32,
}

impl Slot {
    /// Memory without a rule.
    pub const EMPTY: Self = Self::new(
        Rule {
            id: RuleId(0),
            priority: 0,
            selector: Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4),
            action: Action::Discard,
        },
        0,
    );

    pub(super) const fn new(rule: Rule, rank: u32) -> Self {
        Self { rule, rank, of_rank: 0 }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Memory for one branching of an index: 48 octets.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub(super) at: u128,
    pub(super) dimension: Dimension,
    /// The place of the first rule of all three parts.
    pub(super) first: u32,
    pub(super) below: Part,
    pub(super) across: Part,
    pub(super) above: Part,
}

impl Node {
    /// Memory without a branching.
    pub const EMPTY: Self = Self {
        at: 0,
        dimension: Dimension::Remote,
        first: 0,
        below: Part::EMPTY,
        across: Part::EMPTY,
        above: Part::EMPTY,
    };
}

impl Default for Node {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A part of the tree: a node, or a run of slots in the order of their rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Run { start: u32, len: NonZeroU32 },
    Node(u32),
}

impl Part {
    /// A node that is not there: nothing.
    pub(super) const EMPTY: Self = Self::Node(u32::MAX);
}

/// What is where in the slots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) rules: usize,
    pub(super) v4: Part,
    pub(super) v6: Part,
    /// Some rule discards.
    pub(super) discards: bool,
}
