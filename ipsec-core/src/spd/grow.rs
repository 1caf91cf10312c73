//! How an index grows out of a list of rules, in the memory of the index alone.

use core::num::NonZeroU32;

use super::cuts::{Cuts, run};
use super::order::{deal, sort};
use super::rule::Action;
use super::tree::{CUTS, DEPTH, Kind, Node, Part, RUN, Shape, Slot};
use crate::error::Refused;

/// Orders the rules, which are numbered in the order in which they came.
///
/// # Errors
/// [`Refused::Duplicate`].
pub(super) fn list(slots: &mut [Slot]) -> Result<Shape, Refused> {
    let [v4, v6] = order(slots)?;
    let (v4, v6) = (run_of(slots, 0, v4), run_of(slots, v4, v6));
    Ok(number(slots, Shape { v4, v6, ..Shape::NOTHING }))
}

/// The same, and parts them. Without enough nodes, runs stay longer.
///
/// # Errors
/// [`Refused::Duplicate`].
pub(super) fn grow(slots: &mut [Slot], nodes: &mut [Node]) -> Result<Shape, Refused> {
    let [v4, v6] = order(slots)?;
    let mut tree = Tree { slots, nodes, grown: 0 };
    let (v4, v6) = (tree.root(0, v4), tree.root(v4, v6));
    tree.grow(DEPTH);
    Ok(number(slots, Shape { v4, v6, ..Shape::NOTHING }))
}

/// Gives each rule its rank, and brings those of one family together. Returns where those of each end.
fn order(slots: &mut [Slot]) -> Result<[usize; 2], Refused> {
    sort(slots, |slot| (slot.rule.id, slot.rank));
    if slots.iter().zip(slots.iter().skip(1)).any(|(one, other)| one.rule.id == other.rule.id) {
        return Err(Refused::Duplicate);
    }
    // It moves with its rule, until there is a slot to note it in.
    for (place, slot) in (0..).zip(slots.iter_mut()) {
        slot.of_rank = place;
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
    Ok([v4, v6])
}

/// Notes in the slots where the rules stand now, by id and by rank.
fn number(slots: &mut [Slot], shape: Shape) -> Shape {
    for place in 0..slots.len() {
        let number = slots.get(place).map_or(0, |slot| slot.of_rank);
        if let Some(slot) = slots.get_mut(number as usize) {
            slot.of_id = place as u32;
        }
    }
    for place in 0..slots.len() {
        let rank = slots.get(place).map_or(0, |slot| slot.rank);
        if let Some(slot) = slots.get_mut(rank as usize) {
            slot.of_rank = place as u32;
        }
    }
    let discards = slots.iter().any(|slot| slot.rule.action == Action::Discard);
    Shape { rules: slots.len(), discards, ..shape }
}

/// The rules in these slots, in order.
fn run_of(slots: &mut [Slot], start: usize, end: usize) -> Part {
    let rules = slots.get_mut(start..end).unwrap_or_default();
    sort(rules, |slot| slot.rank);
    let len = u32::try_from(rules.len()).ok().and_then(NonZeroU32::new);
    len.map_or(Part::EMPTY, |len| Part::Run { start: start as u32, len })
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
        if end.saturating_sub(start) <= RUN || self.grown >= self.nodes.len() {
            return run_of(self.slots, start, end);
        }
        let root = self.grown as u32;
        self.sprout(start, end);
        Part::Node(root)
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

    /// Parts the roots, then what they were parted into, so many levels at most, one after the other: what most packets
    /// pass lies close together.
    fn grow(&mut self, levels: usize) {
        let (mut at, mut depth) = (0, 1_usize);
        while at < self.grown {
            let level = self.grown;
            for node in at..level {
                self.part(node, depth < levels);
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
    use core::net::{IpAddr, Ipv4Addr};
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::flow::{Flow, Ports};
    use crate::net::{AddrRange, PortRange};
    use crate::spd::query::Query;
    use crate::spd::{Direction, Rule, RuleId, Selector};

    /// What a rule says, of an address and of a port.
    type Make = fn(u32, u16) -> Selector;

    const ANY: AddrRange = AddrRange::ANY_V4;

    fn remote(number: u32, _: u16) -> Selector {
        Selector::between(ANY, net(number))
    }

    fn local(number: u32, _: u16) -> Selector {
        Selector::between(net(number), ANY)
    }

    fn remote_port(_: u32, port: u16) -> Selector {
        Selector::between(ANY, ANY).protocol(6).remote_ports(PortRange::single(port))
    }

    /// Named on one side.
    fn remote_protocol(protocol: u8) -> Selector {
        let any = Selector::between(ANY, ANY);
        Selector { remote: any.protocol(protocol).remote, ..any }
    }

    fn local_port(_: u32, port: u16) -> Selector {
        Selector::between(ANY, ANY).protocol(6).local_ports(PortRange::single(port))
    }

    fn net(number: u32) -> AddrRange {
        AddrRange::prefix(addr(number << 8), 24).unwrap()
    }

    fn addr(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn range(first: u32, last: u32) -> AddrRange {
        AddrRange::new(addr(first), addr(last)).unwrap()
    }

    /// Around two numbers, each in the next one of its kind.
    fn nested(number: u32) -> AddrRange {
        let (centre, reach) = ([1 << 20, 1 << 30][number as usize % 2], number * 64 + 1);
        range(centre - reach, centre + reach)
    }

    fn packet(remote: u32, protocol: u8, remote_port: u16) -> Flow {
        let ports = Ports::Pair { source: 1, destination: remote_port };
        Flow { source: addr(1), destination: addr(remote), protocol, ports, len: 20 }
    }

    struct Grown {
        nodes: Vec<Node>,
        shape: Shape,
    }

    impl Grown {
        fn of(selectors: impl IntoIterator<Item = Selector>) -> Self {
            let rule =
                |(id, selector)| Slot::new(Rule { id: RuleId(id), priority: 1, selector, action: Action::Bypass }, id);
            let mut slots: Vec<_> = (0..).zip(selectors).map(rule).collect();
            let mut nodes = vec![Node::EMPTY; (slots.len() * 3).div_ceil(8)];
            let shape = grow(&mut slots, &mut nodes).unwrap();
            Self { nodes, shape }
        }

        /// Rules of these kinds.
        fn any(count: u32, seed: u64, kinds: &[Make]) -> Self {
            let mut state = seed;
            let mut number = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u32
            };
            Self::of((0..count).map(|id| kinds[id as usize % kinds.len()](number(), number() as u16)))
        }

        /// Nodes that are in use.
        fn used(&self) -> usize {
            self.nodes.iter().filter(|node| node.first < u32::MAX || node.len > 0).count()
        }

        fn longest(&self) -> u32 {
            assert_eq!(self.shape.v4, Part::Node(0));
            self.nodes.iter().filter(|node| node.kind == Kind::Run).map(|node| node.len).max().unwrap()
        }

        /// Nodes above one another, from this one on.
        fn depth(&self, from: u32) -> usize {
            let node = &self.nodes[from as usize];
            let below = if node.kind == Kind::Run { 0..0 } else { node.start..node.start + node.len };
            1 + below.map(|child| self.depth(child)).max().unwrap_or(0)
        }

        /// Nodes and rules that a packet looks at which nothing fits.
        fn cost(&self, flow: &Flow) -> usize {
            let (query, mut left, mut cost) = (Query::fitting(Direction::Out, flow), vec![0], 0);
            while let Some(node) = left.pop().map(|number: u32| &self.nodes[number as usize]) {
                cost += 1;
                match node.kind {
                    Kind::Run if node.len as usize <= RUN => cost += node.candidates(&query).count_ones() as usize,
                    Kind::Run => cost += node.len as usize,
                    Kind::Branching { across } => {
                        left.extend(node.children(across, &query));
                        left.extend(across.then_some(node.start));
                    }
                }
            }
            cost
        }
    }

    #[test]
    fn rules_that_a_field_tells_apart_are_parted_whatever_numbers_they_have() {
        let sets: [&[Make]; 4] =
            [&[remote], &[remote, local], &[remote, remote_port], &[remote, local, remote_port, local_port]];
        for (set, kinds) in sets.into_iter().enumerate() {
            for count in [1000, 4000] {
                let longest = (0..20).map(|seed| Grown::any(count, seed, kinds).longest()).max();
                assert!(longest <= Some(4 * RUN as u32), "set {set} of {count}: a run of {longest:?}");
            }
        }
    }

    #[test]
    fn a_packet_looks_at_few_nodes_and_rules() {
        type Packet = fn(u32) -> Flow;
        type Set = (&'static str, u32, fn(u32) -> Selector, Packet, f64);
        const SETS: [Set; 10] = [
            ("networks", 4000, |n| remote(n, 0), |n| packet(n << 8, 6, 2), 6.0),
            ("few networks", 60, |n| remote(n, 0), |n| packet(n << 8, 6, 2), 3.5),
            ("networks far apart", 4000, |n| remote(n * 4001, 0), |n| packet((n * 4001) << 8, 6, 2), 6.0),
            (
                "ports in networks",
                4000,
                |n| remote(n / 4, 0).protocol(6).remote_ports(PortRange::single(n as u16 % 4)),
                |n| packet((n / 4) << 8, 6, n as u16 % 4),
                6.5,
            ),
            (
                "ranges that overlap",
                4000,
                |n| Selector::between(ANY, range(n * 200, n * 200 + 600)),
                |n| packet(n * 200 + 1, 6, 2),
                30.0,
            ),
            (
                "ports in ranges that overlap",
                1000,
                |n| Selector::between(ANY, nested(n)).protocol(6).remote_ports(PortRange::single(n as u16)),
                |n| packet(1 << 20, 6, n as u16),
                5.0,
            ),
            (
                "ports, in two networks on both sides",
                1000,
                |n| {
                    let selector = Selector::between(net(n / 2 % 2), net(n % 2));
                    selector.protocol(6).remote_ports(PortRange::single(n as u16))
                },
                |n| packet((n % 2) << 8, 6, n as u16),
                4.3,
            ),
            (
                "some ports among networks",
                4000,
                |n| if n.is_multiple_of(16) { remote_port(0, n as u16) } else { remote(n, 0) },
                |n| packet(n << 8, 6, n as u16),
                10.0,
            ),
            ("protocols", 200, |n| remote_protocol(n as u8 + 1), |n| packet(7 << 8, n as u8 + 1, 2), 5.5),
            (
                "protocols that hide",
                200,
                |n| remote_protocol(n as u8 + 1),
                |n| Flow { ports: Ports::Hidden, ..packet(7 << 8, n as u8 + 1, 2) },
                5.0,
            ),
        ];
        for (name, count, rule, packet, most) in SETS {
            let grown = Grown::of((0..count).map(rule));
            let costs = (0..count).map(|number| grown.cost(&packet(number))).sum::<usize>();
            let mean = costs as f64 / f64::from(count);
            assert!(mean <= most, "{name}: {mean:.2}");
        }
    }

    #[test]
    fn no_node_is_spent_where_nothing_is_gained() {
        let one_in_the_other = |number: u32| Selector::between(ANY, range(1000 - number, 1000 + number));
        let grown = Grown::of((0..40).map(one_in_the_other));
        assert_eq!((grown.shape.v4, grown.used()), (Part::Node(0), 1));
        // A run in its own right.
        let grown = Grown::of((0..RUN as u32).map(|number| remote(number, 0)));
        assert!(matches!(grown.shape.v4, Part::Run { start: 0, .. }));
    }

    #[test]
    fn no_tree_is_deeper_than_a_look_into_it_has_room_for() {
        for levels in 1..=3 {
            let rule = |id| Rule { id: RuleId(id), priority: 1, selector: remote(id, 0), action: Action::Bypass };
            let mut slots: Vec<_> = (0..8000).map(|id| Slot::new(rule(id), id)).collect();
            let mut nodes = vec![Node::EMPTY; 3000];
            let mut tree = Tree { slots: &mut slots, nodes: &mut nodes, grown: 0 };
            let shape = Shape { rules: 8000, v4: tree.root(0, 8000), ..Shape::NOTHING };
            tree.grow(levels);
            assert_eq!(Grown { nodes, shape }.depth(0), levels);
        }
    }
}
