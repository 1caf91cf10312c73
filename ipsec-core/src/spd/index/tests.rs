use core::net::IpAddr;
use std::vec::Vec;

use super::*;
use crate::flow::Ports;
use crate::net::{AddrRange, PortRange};
use crate::spd::query::Dimension;
use crate::spd::tree::Scale;
use crate::spd::{RuleId, Selector};

/// A tree as deep as any, in which a packet goes down both ways at every node and meets nothing, but for the last node that
/// is looked at.
#[test]
fn nothing_is_forgotten_in_the_deepest_tree() {
    let any = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
    let rule = |selector| Rule { id: RuleId(0), priority: 1, selector, action: Action::Discard };
    let elsewhere = rule(Selector::between(AddrRange::ANY_V4, AddrRange::single([10, 9, 9, 9].into())));
    let addr = |last| IpAddr::from([10, 0, 0, last]);
    let ports = Ports::Opaque;
    let flow = Flow { source: addr(1), destination: addr(2), protocol: 6, ports, len: 20 };
    let branching = |start, first| Node {
        scale: Scale::between(Dimension::RemotePort, 1, 60_000),
        kind: Kind::Branching { across: true },
        first,
        start,
        len: 3,
        cells: [[30_000, u16::MAX, u16::MAX, u16::MAX, u16::MAX, u16::MAX, u16::MAX, u16::MAX], [u16::MAX; RUN]],
    };
    // Each branching is followed by what lies across, the next branching, and a run on the other side of the cut. Runs have
    // a rule each.
    let mut nodes = Vec::new();
    nodes.push(branching(1, 0));
    for level in 1..DEPTH as u32 {
        let children = nodes.len() as u32;
        let next =
            if level + 1 < DEPTH as u32 { branching(children + 3, 0) } else { Node::run(2 * level, 1, 2 * level) };
        nodes.extend([Node::run(2 * level - 2, 1, 2 * level - 2), next, Node::run(2 * level - 1, 1, 2 * level - 1)]);
    }
    let rules = 2 * (DEPTH as u32 - 1) + 1;
    for meant in 0..rules {
        let slots: Vec<Slot> = (0..rules)
            .map(|rank| {
                Slot::new(if rank == meant { rule(any.remote_ports(PortRange::single(7))) } else { elsewhere }, rank)
            })
            .collect();
        let shape = Shape { rules: rules as usize, v4: Part::Node(0), ..Shape::NOTHING };
        let view = View { slots: &slots, nodes: &nodes, shape: &shape, meant_before: meant_in_tree };
        assert!(view.may_be_meant_before(u32::MAX, Direction::Out, flow), "rule {meant} of {rules}");
    }
}

#[test]
fn what_comes_after_what_was_found_is_left_out() {
    let everything = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
    let slot =
        |rank| Slot::new(Rule { id: RuleId(rank), priority: 1, selector: everything, action: Action::Bypass }, rank);
    let slots = [slot(1), slot(0)];
    let across = Node { kind: Kind::Branching { across: true }, first: 0, start: 1, len: 2, ..Node::EMPTY };
    let ports = Ports::Pair { source: 1, destination: 2 };
    let flow = Flow { source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into(), protocol: 6, ports, len: 20 };
    // What lies across is looked at last. Where it says that it comes after what was found, though that is not so, nobody
    // looks.
    for (first, found) in [(0, 0), (2, 1)] {
        let nodes = [across, Node::run(1, 1, first), Node::run(0, 1, 1)];
        let shape = Shape { rules: 2, v4: Part::Node(0), ..Shape::NOTHING };
        let view = View { slots: &slots, nodes: &nodes, shape: &shape, meant_before: meant_in_tree };
        assert_eq!(view.meet(Direction::Out, &flow).map(|(rank, _)| rank), Ok(found));
    }
}
