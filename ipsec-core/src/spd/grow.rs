//! How an index grows out of a list of rules, in the memory of the index alone.

use core::num::NonZeroU32;

use super::Action;
use super::cuts::{Cuts, run};
use super::order::{deal, sort};
use super::tree::{CUTS, DEPTH, Kind, Node, Part, RUN, Shape, Slot};
use crate::error::Refused;

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

    // Addresses of two families match no packet: such a rule is in no tree.
    let [v4, v6, _] = deal(slots, |slot| {
        match (slot.rule.selector.local.addrs.is_ipv4(), slot.rule.selector.remote.addrs.is_ipv4()) {
            (true, true) => 0,
            (false, false) => 1,
            _ => 2,
        }
    });
    let mut tree = Tree { slots, nodes, grown: 0 };
    let (v4, v6) = (tree.root(0, v4), tree.root(v4, v6));
    tree.grow();

    for place in 0..slots.len() {
        let rank = slots.get(place).map_or(0, |slot| slot.rank);
        if let Some(slot) = slots.get_mut(rank as usize) {
            slot.of_rank = place as u32;
        }
    }
    let discards = slots.iter().any(|slot| slot.rule.action == Action::Discard);
    Ok(Shape { rules: slots.len(), v4, v6, discards })
}

struct Tree<'t> {
    slots: &'t mut [Slot],
    nodes: &'t mut [Node],
    /// Nodes there are so far.
    grown: usize,
}

impl Tree<'_> {
    /// Where the rules in these slots begin to be looked at.
    fn root(&mut self, start: usize, end: usize) -> Part {
        let rules = self.slots.get_mut(start..end).unwrap_or_default();
        if rules.len() > RUN && self.grown < self.nodes.len() {
            let root = self.grown as u32;
            self.sprout(start, end);
            return Part::Node(root);
        }
        sort(rules, |slot| slot.rank);
        let len = u32::try_from(rules.len()).ok().and_then(NonZeroU32::new);
        len.map_or(Part::EMPTY, |len| Part::Run { start: start as u32, len })
    }

    /// A node behind all others: a run, whose rules are in no order yet.
    fn sprout(&mut self, start: usize, end: usize) {
        let rules = self.slots.get(start..end).unwrap_or_default();
        let first = rules.iter().map(|slot| slot.rank).min().unwrap_or(u32::MAX);
        if let Some(node) = self.nodes.get_mut(self.grown) {
            *node = Node::run(start as u32, rules.len() as u32, first);
            self.grown = self.grown.saturating_add(1);
        }
    }

    /// Parts the roots, then what they were parted into, level by level: what most packets pass lies close together.
    fn grow(&mut self) {
        let (mut at, mut depth) = (0, 1_usize);
        while at < self.grown {
            let level = self.grown;
            for node in at..level {
                self.part(node, depth < DEPTH);
            }
            (at, depth) = (level, depth.saturating_add(1));
        }
    }

    /// Makes a branching of a run that is too long, and brings any other one into order.
    fn part(&mut self, at: usize, deeper: bool) {
        let Some(node) = self.nodes.get(at).copied() else { return };
        let start = node.start as usize;
        let rules = self.slots.get_mut(start..start.saturating_add(node.len as usize)).unwrap_or_default();
        let room = self.nodes.len().saturating_sub(self.grown);
        let cuts = if deeper && rules.len() > RUN { Cuts::of(rules) } else { None };
        let parted = match cuts.filter(|cuts| cuts.children() <= room) {
            Some(cuts) => {
                let ends: [usize; CUTS + 2] = deal(rules, |slot| cuts.child(&slot.rule));
                let (first_child, across) = (self.grown, ends.first().is_some_and(|end| *end > 0));
                let mut begin = start;
                for end in ends.into_iter().take(cuts.children()).skip(usize::from(!across)) {
                    let end = start.saturating_add(end);
                    self.sprout(begin, end);
                    begin = end;
                }
                Node {
                    scale: cuts.scale,
                    kind: Kind::Branching { across },
                    start: first_child as u32,
                    len: self.grown.saturating_sub(first_child) as u32,
                    cells: cuts.cells(),
                    ..node
                }
            }
            None => {
                sort(rules, |slot| slot.rank);
                run(rules, node.start)
            }
        };
        if let Some(node) = self.nodes.get_mut(at) {
            *node = parted;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::net::{AddrRange, PortRange};
    use crate::spd::{Index, Rule, RuleId, Selector};

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
        assert!(matches!(shape.v4, Part::Node(0)));
        nodes.iter().filter(|node| node.kind == Kind::Run).map(|node| node.len).max().unwrap()
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
