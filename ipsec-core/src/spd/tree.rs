//! The parts of an index, as they lie in the caller's memory.

use core::num::NonZeroU32;
use core::ops::Range;

use super::query::{Dimension, Query, Span};
use super::rule::{Action, Rule, RuleId, Selector};
use crate::net::AddrRange;

/// Nodes above one another, at most.
pub(super) const DEPTH: usize = 24;
/// A run of so many rules is looked at one by one: to part it gains nothing.
pub(super) const RUN: usize = 8;
/// Cells at which one node parts rules, at most: it has room for two numbers for each rule of a run.
pub(super) const CUTS: usize = 2 * RUN;

/// Memory for one rule: 104 octets.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    pub(super) rule: Rule,
    /// Its place in the order of the rules.
    pub(super) rank: u32,
    /// The slot of the rule whose place in the order is the number of this slot.
    pub(super) of_rank: u32,
    /// The slot of the rule whose place in the order of the ids is the number of this slot.
    pub(super) of_id: u32,
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
        Self { rule, rank, of_rank: 0, of_id: 0 }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Cells that the numbers of one field lie in. What lies between two numbers lies between their cells, so what two cells
/// tell apart is apart; what shares a cell need not be the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// The first number of cell 1, as octets, which leave no gap in a node. What is below it is in cell 0.
    base: [u8; 16],
    /// A cell is 2^shift numbers wide; the last one is as wide as it takes.
    shift: u8,
    pub(super) dimension: Dimension,
}

impl Scale {
    const NONE: Self = Self { base: [0; 16], shift: 0, dimension: Dimension::Remote };

    /// With cells as narrow as leaves `least` and `most` in cells of their own. A network that is not narrower than a
    /// cell is whole cells.
    pub(super) fn between(dimension: Dimension, least: u128, most: u128) -> Self {
        let bits = u128::BITS.saturating_sub(most.saturating_sub(least).leading_zeros());
        let shift = bits.saturating_sub(u16::BITS);
        let base = least & u128::MAX.wrapping_shl(shift);
        Self { base: base.to_ne_bytes(), shift: shift as u8, dimension }
    }

    #[inline]
    pub(super) fn cell(&self, number: u128) -> u16 {
        let above = number.checked_sub(u128::from_ne_bytes(self.base));
        let cells = above.map(|above| u16::try_from(above.wrapping_shr(self.shift.into())).unwrap_or(u16::MAX));
        cells.map_or(0, |cells| cells.saturating_add(1))
    }

    #[inline]
    pub(super) fn cells(&self, (first, last): Span<u128>) -> Span<u16> {
        (self.cell(first), self.cell(last))
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A run of slots, in the order of their rules.
    Run,
    /// A branching: the rules between two cuts stand in the same child. `across`: the first child is the rules that are
    /// on both sides of a cut.
    Branching { across: bool },
}

/// Memory for one part of an index: 64 octets, a line of most caches.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct Node {
    pub(super) scale: Scale,
    pub(super) kind: Kind,
    /// The place in the order of the first of all rules in here.
    pub(super) first: u32,
    /// The first slot of a run, or the first child.
    pub(super) start: u32,
    /// How many slots or children.
    pub(super) len: u32,
    /// Of a branching the cuts, upwards: the cell above each. Of a run the first cells of its rules and their last ones,
    /// unless the rules are more than that.
    pub(super) cells: [[u16; RUN]; 2],
}

impl Node {
    /// Memory without a part of an index.
    pub const EMPTY: Self = Self::run(0, 0, u32::MAX);

    /// A run of slots, whose rules lie wherever a packet does.
    pub(super) const fn run(start: u32, len: u32, first: u32) -> Self {
        Self { scale: Scale::NONE, kind: Kind::Run, first, start, len, cells: [[0; RUN], [u16::MAX; RUN]] }
    }

    /// The children of a branching between whose cuts a packet is.
    #[inline]
    pub(super) fn children(&self, across: bool, query: &Query) -> Range<u32> {
        let (first, last) = self.scale.cells(query.span(self.scale.dimension));
        // What is no cut is above all.
        let below = |cell: u16| self.cells.as_flattened().iter().filter(|cut| **cut <= cell).count() as u32;
        let start = self.start.saturating_add(u32::from(across));
        let end = self.start.saturating_add(self.len);
        let child = |cell| start.saturating_add(below(cell)).min(end.saturating_sub(1));
        child(first)..child(last).saturating_add(1)
    }

    /// Rules of a run, a bit for each, that may fit a packet: all others lie elsewhere.
    #[inline]
    pub(super) fn candidates(&self, query: &Query) -> u32 {
        let (first, last) = self.scale.cells(query.span(self.scale.dimension));
        let [firsts, lasts] = &self.cells;
        let meet = firsts.iter().zip(lasts).map(|(from, to)| (*from <= last) & (first <= *to));
        meet.rev().fold(0, |bits, meets| bits << 1 | u32::from(meets))
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// All rules of one family: a run of slots in the order of their rules, or a node.
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

impl Shape {
    pub(super) const NOTHING: Self = Self { rules: 0, v4: Part::EMPTY, v6: Part::EMPTY, discards: false };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_two_numbers_lies_between_their_cells() {
        let numbers = (0..128).flat_map(|bit| [-1, 0, 1].map(|by| (1_u128 << bit).wrapping_add_signed(by)));
        let mut numbers: std::vec::Vec<u128> = numbers.chain([u128::MAX]).collect();
        numbers.sort_unstable();
        for (at, least) in numbers.iter().enumerate() {
            for most in &numbers[at..] {
                let scale = Scale::between(Dimension::Remote, *least, *most);
                let cells: std::vec::Vec<u16> = numbers.iter().map(|number| scale.cell(*number)).collect();
                assert!(cells.is_sorted(), "{least} to {most}");
                assert!(scale.cell(*least) > 0 && scale.cell(*most) > 0, "{least} to {most}");
                assert!(least == most || scale.cell(*least) < scale.cell(*most), "{least} to {most}");
                // The last cell is as wide as three at most.
                let before = most.checked_sub(3 << scale.shift);
                assert!(before.is_none_or(|before| scale.cell(before) < u16::MAX), "{least} to {most}");
                let inside = |number: &&u128| least < *number && *number <= most && scale.cell(**number - 1) < u16::MAX;
                for number in numbers.iter().filter(inside) {
                    let begins = number.trailing_zeros() >= scale.shift.into();
                    let apart = scale.cell(number - 1) < scale.cell(*number);
                    assert_eq!(
                        apart, begins,
                        "{least} to {most}: cells as wide as networks, from one on, end at {number}"
                    );
                }
            }
        }
    }
}
