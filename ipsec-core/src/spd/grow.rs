//! How an index grows out of a list of rules, in the memory of the index alone.

use core::cmp::Ordering;
use core::mem::swap;
use core::num::NonZeroU32;

use super::query::{Dimension, Span, span};
use super::tree::{DEPTH, Node, Part, Shape, Slot};
use super::{Action, Rule};
use crate::error::Refused;

/// A run of so many rules is looked at one by one: to part it gains nothing.
pub(super) const RUN: usize = 8;
/// Rules of which the numbers are taken that a node may stand at, and what part of all has to be gained there; where that is
/// nowhere, more of them and less.
const PROPOSALS: [(usize, usize); 2] = [(9, 8), (63, 64)];
/// Rules by which proposals are compared.
const JURY: usize = 255;

/// A part of the rules that is not in its place yet.
struct Task {
    start: usize,
    end: usize,
    depth: usize,
    /// Where the tree waits for it.
    parent: Parent,
}

#[derive(Clone, Copy)]
enum Parent {
    V4,
    V6,
    Below(u32),
    Across(u32),
    Above(u32),
}

/// Orders the rules, which are numbered in the order in which they came, and parts them. Without enough nodes, runs stay
/// longer.
///
/// # Errors
/// [`Refused::Duplicate`].
pub(super) fn grow(slots: &mut [Slot], nodes: &mut [Node]) -> Result<Shape, Refused> {
    sort(slots, |slot| (slot.rule.id, slot.rank));
    if slots.iter().zip(slots.iter().skip(1)).any(|(one, other)| one.rule.id == other.rule.id) {
        return Err(Refused::Duplicate);
    }
    sort(slots, |slot| (slot.rule.priority, slot.rank));
    for (rank, slot) in (0..).zip(slots.iter_mut()) {
        slot.rank = rank;
    }

    let mut shape = Shape {
        rules: slots.len(),
        v4: Part::EMPTY,
        v6: Part::EMPTY,
        discards: slots.iter().any(|slot| slot.rule.action == Action::Discard),
    };
    // Addresses of two families match no packet: such a rule is in no tree.
    let (v4, v6) =
        part(slots, |rule| match (rule.selector.local.addrs.is_ipv4(), rule.selector.remote.addrs.is_ipv4()) {
            (true, true) => Ordering::Less,
            (false, false) => Ordering::Equal,
            _ => Ordering::Greater,
        });
    // Each task leaves three, one of which comes next.
    let mut tasks: heapless::Vec<Task, { 2 * DEPTH + 4 }> = heapless::Vec::new();
    _ = tasks.push(Task { start: 0, end: v4, depth: 0, parent: Parent::V4 });
    _ = tasks.push(Task { start: v4, end: v6, depth: 0, parent: Parent::V6 });
    let mut grown = 0_u32;
    while let Some(Task { start, end, depth, parent }) = tasks.pop() {
        let rules = slots.get_mut(start..end).unwrap_or_default();
        let first = rules.iter().map(|slot| slot.rank).min().unwrap_or(u32::MAX);
        let room = nodes.get_mut(grown as usize).filter(|_| rules.len() > RUN && depth < DEPTH);
        let part = match room.and_then(|node| Some((node, place(rules)?))) {
            Some((node, (dimension, at))) => {
                let (below, across) = part(rules, |rule| side(span(rule, dimension), at));
                let (below, across) = (start.saturating_add(below), start.saturating_add(across));
                *node = Node { at, dimension, first, ..Node::EMPTY };
                let depth = depth.saturating_add(1);
                for (start, end, parent) in [
                    (start, below, Parent::Below(grown)),
                    (below, across, Parent::Across(grown)),
                    (across, end, Parent::Above(grown)),
                ] {
                    // There is room: tasks are no deeper than DEPTH.
                    _ = tasks.push(Task { start, end, depth, parent });
                }
                let part = Part::Node(grown);
                grown = grown.saturating_add(1);
                part
            }
            None => {
                sort(rules, |slot| slot.rank);
                let len = u32::try_from(rules.len()).ok().and_then(NonZeroU32::new);
                len.map_or(Part::EMPTY, |len| Part::Run { start: start as u32, len })
            }
        };
        let waiting = match parent {
            Parent::V4 => Some(&mut shape.v4),
            Parent::V6 => Some(&mut shape.v6),
            Parent::Below(at) => nodes.get_mut(at as usize).map(|node| &mut node.below),
            Parent::Across(at) => nodes.get_mut(at as usize).map(|node| &mut node.across),
            Parent::Above(at) => nodes.get_mut(at as usize).map(|node| &mut node.above),
        };
        if let Some(waiting) = waiting {
            *waiting = part;
        }
    }
    for place in 0..slots.len() {
        let rank = slots.get(place).map_or(0, |slot| slot.rank);
        if let Some(slot) = slots.get_mut(rank as usize) {
            slot.of_rank = place as u32;
        }
    }
    Ok(shape)
}

/// On which side of a number an interval lies: wholly below, across, or not below.
fn side((first, last): Span<u128>, at: u128) -> Ordering {
    match (last < at, first < at) {
        (true, _) => Ordering::Less,
        (false, true) => Ordering::Equal,
        (false, false) => Ordering::Greater,
    }
}

/// Where to part rules: so that a packet has to look at as few of them as possible afterwards. `None`: it would see nearly
/// all of them wherever that is.
fn place(rules: &[Slot]) -> Option<(Dimension, u128)> {
    PROPOSALS.into_iter().find_map(|(proposals, share)| best(rules, proposals, share))
}

fn best(rules: &[Slot], proposals: usize, share: usize) -> Option<(Dimension, u128)> {
    let mut best: Option<(usize, Dimension, u128)> = None;
    for dimension in Dimension::ALL {
        let spans = some(rules, proposals).map(|slot| span(&slot.rule, dimension));
        // Rules that say nothing of this field have the numbers at its ends, where nothing is parted.
        let ends = (spans.clone().map(|(first, _)| first).min(), spans.clone().map(|(_, last)| last).max());
        let (Some(least), Some(most)) = ends else { continue };
        let first = median(spans.clone().map(|(first, _)| first).filter(|first| *first > least));
        let behind_last = median(spans.filter(|(_, last)| *last < most).map(|(_, last)| last.saturating_add(1)));
        for at in [first, behind_last].into_iter().flatten() {
            let (mut below, mut across, mut above) = (0_usize, 0_usize, 0_usize);
            for slot in some(rules, JURY) {
                let part = match side(span(&slot.rule, dimension), at) {
                    Ordering::Less => &mut below,
                    Ordering::Equal => &mut across,
                    Ordering::Greater => &mut above,
                };
                *part = part.saturating_add(1);
            }
            let seen = across.saturating_add(below.max(above));
            let all = seen.saturating_add(below.min(above));
            let least = all.checked_div(share).unwrap_or_default().max(1);
            let gains = below.min(above) >= least;
            if gains && best.is_none_or(|(fewest, ..)| seen < fewest) {
                best = Some((seen, dimension, at));
            }
        }
    }
    best.map(|(_, dimension, at)| (dimension, at))
}

/// All rules, or so many from here and there: to even steps a pattern in the rules would look like all there is.
fn some(rules: &[Slot], count: usize) -> impl Iterator<Item = &Slot> + Clone {
    let len = rules.len();
    let spread = move |number: usize| {
        let fraction = u64::from((number as u32).wrapping_mul(0x9e37_79b1));
        (fraction.wrapping_mul(len as u64) >> 32) as usize
    };
    let places = (0..count.min(len)).map(move |number| if len <= count { number } else { spread(number) });
    places.filter_map(move |place| rules.get(place))
}

/// The number that as many of the others are below as are not.
fn median(numbers: impl Iterator<Item = u128> + Clone) -> Option<u128> {
    let half = numbers.clone().count() / 2;
    let below = |number: u128| numbers.clone().filter(|other| *other < number).count();
    numbers.clone().min_by_key(|number| below(*number).abs_diff(half))
}

/// Brings what is less to the front and what is greater to the back. Returns where the first and the second end.
fn part(slots: &mut [Slot], compare: impl Fn(&Rule) -> Ordering) -> (usize, usize) {
    let (mut less, mut at, mut greater) = (0_usize, 0_usize, slots.len());
    while at < greater {
        match slots.get(at).map_or(Ordering::Equal, |slot| compare(&slot.rule)) {
            Ordering::Less => {
                exchange(slots, less, at);
                less = less.saturating_add(1);
                at = at.saturating_add(1);
            }
            Ordering::Equal => at = at.saturating_add(1),
            Ordering::Greater => {
                greater = greater.saturating_sub(1);
                exchange(slots, at, greater);
            }
        }
    }
    (less, greater)
}

/// A heap sort: the library's may panic.
fn sort<K: Ord>(slots: &mut [Slot], key: impl Fn(&Slot) -> K) {
    if slots.is_sorted_by_key(&key) {
        return;
    }
    let len = slots.len();
    for at in (0..len / 2).rev() {
        sink(slots, at, &key);
    }
    for end in (1..len).rev() {
        exchange(slots, 0, end);
        sink(slots.get_mut(..end).unwrap_or_default(), 0, &key);
    }
}

/// Lets what stands at a place of a heap sink to where it belongs.
fn sink<K: Ord>(slots: &mut [Slot], mut at: usize, key: &impl Fn(&Slot) -> K) {
    loop {
        let left = at.saturating_mul(2).saturating_add(1);
        let children = (left..slots.len()).take(2);
        let largest = children.filter_map(|child| Some((key(slots.get(child)?), child))).max();
        match (largest, slots.get(at)) {
            (Some((largest, child)), Some(slot)) if largest > key(slot) => {
                exchange(slots, at, child);
                at = child;
            }
            _ => return,
        }
    }
}

fn exchange(slots: &mut [Slot], one: usize, other: usize) {
    if let Ok([one, other]) = slots.get_disjoint_mut([one, other]) {
        swap(one, other);
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::net::{AddrRange, PortRange};
    use crate::spd::{Index, RuleId, Selector};

    /// What a rule says, of an address and of a port.
    type Make = fn(u32, u16) -> Selector;

    /// The longest run of a tree over rules of these kinds.
    fn longest(count: u32, seed: u64, kinds: &[Make]) -> u32 {
        let mut state = seed;
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let rule = |id: u32| {
            let selector = kinds[id as usize % kinds.len()](number(), number() as u16);
            Rule { id: RuleId(id), priority: 1, selector, action: Action::Bypass }
        };
        let rules: Vec<_> = (0..count).map(rule).collect();
        let mut slots: Vec<_> = (0..).zip(rules).map(|(rank, rule)| Slot::new(rule, rank)).collect();
        let mut nodes = vec![Node::EMPTY; Index::nodes(count as usize)];
        let shape = grow(&mut slots, &mut nodes).unwrap();
        let parts = nodes.iter().flat_map(|node| [node.below, node.across, node.above]).chain([shape.v4]);
        let runs = parts.filter_map(|part| match part {
            Part::Run { len, .. } => Some(len.get()),
            Part::Node(_) => None,
        });
        runs.max().unwrap()
    }

    fn net(number: u32) -> AddrRange {
        let at = core::net::Ipv4Addr::from_bits(number << 8);
        AddrRange::prefix(core::net::IpAddr::V4(at), 24).unwrap()
    }

    #[test]
    fn rules_that_a_field_tells_apart_are_parted_whatever_numbers_they_have() {
        const ANY: AddrRange = AddrRange::ANY_V4;
        let remote = |number, _| Selector::between(ANY, net(number));
        let local = |number, _| Selector::between(net(number), ANY);
        let remote_port = |_, port| Selector::between(ANY, ANY).protocol(6).remote_ports(PortRange::single(port));
        let local_port = |_, port| Selector::between(ANY, ANY).protocol(6).local_ports(PortRange::single(port));
        let sets: [&[Make]; 4] =
            [&[remote], &[remote, local], &[remote, remote_port], &[remote, local, remote_port, local_port]];
        for (set, kinds) in sets.into_iter().enumerate() {
            for count in [1000, 4000] {
                let longest = (0..20).map(|seed| longest(count, seed, kinds)).max();
                assert!(longest <= Some(4 * RUN as u32), "set {set} of {count}: a run of {longest:?}");
            }
        }
    }
}
