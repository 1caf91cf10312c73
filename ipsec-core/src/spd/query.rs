//! Rules and packets as intervals of numbers, so that one tree can part them by any field.
//!
//! A rule is an interval in each [`Dimension`], a packet asks with one: mostly with a single number, with all of them where
//! a field does not count. Where a rule's and a packet's intervals do not meet, the rule does not match. The reverse is not
//! promised: what is left is asked by [`Flow::fits`], the one place that says what fits.

use super::rule::{Direction, Rule};
use crate::flow::{Flow, Ports};
use crate::net::{PortRange, TrafficSelector, number};

/// A field that rules can be parted by. Fields that part many come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Remote,
    Local,
    RemotePort,
    LocalPort,
    Protocol,
}

impl Dimension {
    pub(super) const ALL: [Self; 5] = [Self::Remote, Self::Local, Self::RemotePort, Self::LocalPort, Self::Protocol];
}

/// From the first number to the last one.
pub(super) type Span<T> = (T, T);

/// The port of a packet whose ports cannot be read: only ANY and OPAQUE fit (RFC 4301 §4.4.1.1).
const UNREADABLE: u32 = 1 << 16;
/// Ports in no order match nothing; only who does not look at the ports finds the rule.
const NO_PORT: u32 = UNREADABLE + 1;
/// Whatever the port.
const ANY_PORT: Span<u32> = (0, NO_PORT);

/// The protocol of a packet that hides it: only rules for any protocol fit.
const HIDDEN: u32 = 1 << 8;
/// Two protocols that contradict each other match nothing; only who does not look at the protocol finds the rule.
const NO_PROTOCOL: u32 = HIDDEN + 1;
/// Whatever the protocol.
const ANY_PROTOCOL: Span<u32> = (0, NO_PROTOCOL);

/// The interval of a rule. The families of addresses have trees of their own: numbers of one do not stand for the other.
pub(super) fn span(rule: &Rule, dimension: Dimension) -> Span<u128> {
    let (local, remote) = (&rule.selector.local, &rule.selector.remote);
    let addrs = |side: &TrafficSelector| (number(side.addrs.start()), number(side.addrs.end()));
    match dimension {
        Dimension::Remote => addrs(remote),
        Dimension::Local => addrs(local),
        Dimension::RemotePort => wide(ports(&remote.ports)),
        Dimension::LocalPort => wide(ports(&local.ports)),
        Dimension::Protocol => wide(protocol(local.protocol, remote.protocol)),
    }
}

fn wide((first, last): Span<u32>) -> Span<u128> {
    (first.into(), last.into())
}

fn ports(ports: &PortRange) -> Span<u32> {
    match *ports {
        PortRange::ANY => (0, UNREADABLE),
        PortRange::OPAQUE => (UNREADABLE, UNREADABLE),
        PortRange { start, end } if start <= end => (start.into(), end.into()),
        _ => (NO_PORT, NO_PORT),
    }
}

fn protocol(local: u8, remote: u8) -> Span<u32> {
    match (local, remote) {
        (0, 0) => (0, HIDDEN),
        (0, only) | (only, 0) => (only.into(), only.into()),
        (local, remote) if local == remote => (local.into(), local.into()),
        _ => (NO_PROTOCOL, NO_PROTOCOL),
    }
}

/// What a packet asks with: an interval of each dimension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query([Span<u128>; Dimension::ALL.len()]);

impl Query {
    /// For the rules that fit a packet.
    #[inline]
    pub(super) fn fitting(direction: Direction, flow: &Flow) -> Self {
        let (source, destination) = match flow.ports {
            Ports::Opaque | Ports::Hidden => ((UNREADABLE, UNREADABLE), (UNREADABLE, UNREADABLE)),
            Ports::Pair { source, destination } => {
                ((source.into(), source.into()), (destination.into(), destination.into()))
            }
            // The sender's side alone decides about a message (RFC 4301 §4.4.1.3, B).
            Ports::Message(message) => ((message.into(), message.into()), ANY_PORT),
        };
        let protocol = if flow.ports == Ports::Hidden { HIDDEN } else { flow.protocol.into() };
        Self::between(direction, flow, (source, destination), (protocol, protocol))
    }

    /// For the rules that may be about the packet that a fragment is a part of: its ports are not known, and neither is
    /// the protocol where it hides.
    pub(super) fn possible(direction: Direction, flow: &Flow) -> Self {
        let protocol =
            if flow.ports == Ports::Hidden { ANY_PROTOCOL } else { (flow.protocol.into(), flow.protocol.into()) };
        Self::between(direction, flow, (ANY_PORT, ANY_PORT), protocol)
    }

    #[inline]
    fn between(
        direction: Direction,
        flow: &Flow,
        (source, destination): (Span<u32>, Span<u32>),
        protocol: Span<u32>,
    ) -> Self {
        let single = |addr| (number(addr), number(addr));
        let (from, to) = ((single(flow.source), wide(source)), (single(flow.destination), wide(destination)));
        let ((local, local_port), (remote, remote_port)) = match direction {
            Direction::Out => (from, to),
            Direction::In | Direction::Forward => (to, from),
        };
        Self([remote, local, remote_port, local_port, wide(protocol)])
    }

    #[inline]
    pub(super) fn span(&self, dimension: Dimension) -> Span<u128> {
        self.0.get(dimension as usize).copied().unwrap_or((0, u128::MAX))
    }
}
