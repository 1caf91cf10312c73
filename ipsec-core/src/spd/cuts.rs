//! Where a node parts rules, and which field a run is looked at by.

use super::order::sort;
use super::query::{Dimension, Span, span};
use super::rule::Rule;
use super::tree::{CUTS, Node, RUN, Scale, Slot};

/// Rules that the choice is made by, where there are more of them.
const JURY: usize = 255;
/// One of so many rules has to be told from the others.
const SHARE: usize = 64;

/// Cells of one field that rules are parted at.
pub(super) struct Cuts {
    pub(super) scale: Scale,
    at: heapless::Vec<u16, CUTS>,
}

impl Cuts {
    /// So that a packet has to look at as few of the rules as possible afterwards. `None`: it would see nearly all of them
    /// wherever that is.
    pub(super) fn of(rules: &[Slot]) -> Option<Self> {
        let mut best: Option<(usize, Self)> = None;
        for dimension in Dimension::ALL {
            let Some(cuts) = Self::by(dimension, rules) else { continue };
            let mut parts = [0_usize; CUTS + 2];
            for slot in jury(rules) {
                if let Some(part) = parts.get_mut(cuts.child(&slot.rule)) {
                    *part = part.saturating_add(1);
                }
            }
            let (across, between) = parts.split_first().map_or((0, &[][..]), |(across, between)| (*across, between));
            let all = rules.len().min(JURY);
            let most = across.saturating_add(between.iter().copied().max().unwrap_or_default());
            let seen = between.iter().map(|part| part.saturating_mul(*part)).sum::<usize>();
            let seen = seen.saturating_add(across.saturating_mul(all));
            let gains = all.saturating_sub(most) >= (all / SHARE).max(1);
            if gains && best.as_ref().is_none_or(|(fewest, _)| seen < *fewest) {
                best = Some((seen, cuts));
            }
        }
        best.map(|(_, cuts)| cuts)
    }

    /// By one field, between about as many rules each. `None`: the rules are all the same to it.
    fn by(dimension: Dimension, rules: &[Slot]) -> Option<Self> {
        let spans = jury(rules).map(|slot| span(&slot.rule, dimension));
        let scale = scale(dimension, spans.clone())?;
        let mut cells: heapless::Vec<u16, JURY> = heapless::Vec::new();
        // There is room: the jury is no larger.
        edges(spans).for_each(|edge| _ = cells.push(scale.cell(edge)));
        sort(&mut cells, |cell| *cell);
        // Of a part of the rules nobody knows how many a run would be.
        let run = if rules.len() > JURY { 1 } else { RUN };
        let mut part = cells.len().div_ceil(CUTS.saturating_add(1)).max(run);
        loop {
            if let Some(at) = cut(&cells, part) {
                return Some(Self { scale, at }).filter(|cuts| !cuts.at.is_empty());
            }
            part = part.saturating_add(part / 4).saturating_add(1);
        }
    }

    /// How many children there may be.
    pub(super) fn children(&self) -> usize {
        self.at.len().saturating_add(2)
    }

    /// The child that a rule belongs to: 0 when it is on both sides of a cut, otherwise the cuts that are not above it
    /// and one.
    pub(super) fn child(&self, rule: &Rule) -> usize {
        let (first, last) = self.scale.cells(span(rule, self.scale.dimension));
        let below = |cell: u16| self.at.iter().filter(|cut| **cut <= cell).count();
        let (first, last) = (below(first), below(last));
        if first == last { first.saturating_add(1) } else { 0 }
    }

    /// The cuts as a node has them.
    pub(super) fn cells(&self) -> [[u16; RUN]; 2] {
        let mut cells = [[u16::MAX; RUN]; 2];
        cells.as_flattened_mut().iter_mut().zip(&self.at).for_each(|(cell, at)| *cell = *at);
        cells
    }
}

/// Cuts between ordered cells, so that no more than `part` of them stay together unless they are the same. `None`: too many.
fn cut(cells: &[u16], part: usize) -> Option<heapless::Vec<u16, CUTS>> {
    let (mut at, mut together, mut left) = (heapless::Vec::new(), 0_usize, cells);
    while let Some(next) = left.first() {
        let same = left.iter().take_while(|cell| *cell == next).count();
        if together > 0 && together.saturating_add(same) > part {
            at.push(*next).ok()?;
            together = 0;
        }
        together = together.saturating_add(same);
        left = left.get(same..).unwrap_or_default();
    }
    Some(at)
}

/// A run of rules, in order, and the field by which fewest of them are taken for another.
pub(super) fn run(rules: &[Slot], start: u32) -> Node {
    let first = rules.first().map_or(u32::MAX, |slot| slot.rank);
    let mut run = Node::run(start, rules.len() as u32, first);
    if rules.len() > RUN {
        return run;
    }
    let mut fewest = usize::MAX;
    for dimension in Dimension::ALL {
        let spans = rules.iter().map(|slot| span(&slot.rule, dimension));
        let Some(scale) = scale(dimension, spans.clone()) else { continue };
        let cells = spans.map(|span| scale.cells(span));
        let meeting =
            |(first, last): Span<u16>| cells.clone().filter(|(from, to)| *from <= last && first <= *to).count();
        let meetings = cells.clone().map(meeting).sum();
        if meetings < fewest {
            fewest = meetings;
            run.scale = scale;
            let [firsts, lasts] = &mut run.cells;
            for ((from, to), (first, last)) in firsts.iter_mut().zip(lasts).zip(cells) {
                (*from, *to) = (first, last);
            }
        }
    }
    run
}

/// Cells that tell rules with these numbers apart. `None`: the numbers are all the same.
fn scale(dimension: Dimension, spans: impl Iterator<Item = Span<u128>> + Clone) -> Option<Scale> {
    let edges = edges(spans);
    Some(Scale::between(dimension, edges.clone().min()?, edges.max()?))
}

/// The number at which each rule begins or, where that says nothing, the one behind its end. Rules that say nothing of a
/// field have the numbers at its ends.
fn edges(spans: impl Iterator<Item = Span<u128>> + Clone) -> impl Iterator<Item = u128> + Clone {
    let least = spans.clone().map(|(first, _)| first).min().unwrap_or_default();
    let most = spans.clone().map(|(_, last)| last).max().unwrap_or_default();
    spans.filter_map(move |(first, last)| match (first > least, last < most) {
        (true, _) => Some(first),
        (false, true) => Some(last.saturating_add(1)),
        (false, false) => None,
    })
}

/// All rules, or so many from here and there: to even steps a pattern in the rules would look like all there is.
fn jury(rules: &[Slot]) -> impl Iterator<Item = &Slot> + Clone {
    let len = rules.len();
    let spread = move |number: usize| {
        let fraction = u64::from((number as u32).wrapping_mul(0x9e37_79b1));
        (fraction.wrapping_mul(len as u64) >> 32) as usize
    };
    let places = (0..JURY.min(len)).map(move |number| if len <= JURY { number } else { spread(number) });
    places.filter_map(move |place| rules.get(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{AddrRange, PortRange};
    use crate::spd::{Action, RuleId, Selector};

    #[test]
    fn cuts_lie_between_numbers_that_differ_and_leave_none_alone_that_there_is_room_for() {
        let at = |cells: &[u16], part| cut(cells, part).unwrap();
        assert_eq!(at(&[1, 2, 3, 4, 5, 6], 2), [3, 5]);
        assert_eq!(at(&[1, 1, 1, 2, 3], 2), [2], "what is the same stays together, and nothing is in front of it");
        assert_eq!(at(&[5; 9], 2), [0; 0]);
        let many: std::vec::Vec<u16> = (0..18).collect();
        assert!(cut(&many, 1).is_none(), "more than a node has room for");
        assert_eq!(cut(&many[1..], 1).unwrap().len(), CUTS);
    }

    #[test]
    fn what_few_of_many_rules_say_parts_them_as_finely_as_a_node_can() {
        let any = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
        let rule = |id: u32| {
            let ssh = any.protocol(6).remote_ports(PortRange::single(id as u16));
            let selector = if id.is_multiple_of(16) { ssh } else { any.protocol(6) };
            Slot::new(Rule { id: RuleId(id), priority: 1, selector, action: Action::Bypass }, id)
        };
        let rules: std::vec::Vec<Slot> = (0..4000).map(rule).collect();
        assert!(Cuts::of(&rules).unwrap().children() > CUTS / 2);
    }

    #[test]
    fn a_rule_is_known_by_the_end_that_says_something() {
        let spans = [(0, 9), (10, 20), (0, 20), (5, 20)];
        assert!(edges(spans.into_iter()).eq([10, 10, 5]));
    }
}
