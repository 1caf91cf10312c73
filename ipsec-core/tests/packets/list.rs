//! A list of rules to compare with: rule by rule, in order, and the first that matches decides. And rules, packets and flows
//! to ask about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ends::{Rng, later_fragment, ports};
use ipsec_core::flow::{Flow, Ports};
use ipsec_core::net::{AddrRange, PortRange, TrafficSelector};
use ipsec_core::spd::{Action, Decision, Direction, Level, PolicyId, Rule, RuleId, Selector, Undecided};

/// The rules in order, looked along from the first one for every packet.
pub(crate) struct List(pub(crate) Vec<Rule>);

impl List {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut rules = rules.to_vec();
        rules.sort_by_key(|rule| rule.priority); // stable: first come, first served
        Self(rules)
    }

    pub(crate) fn add(&mut self, rule: Rule) -> bool {
        let new = self.0.iter().all(|other| other.id != rule.id);
        if new {
            self.0.push(rule);
            self.0.sort_by_key(|rule| rule.priority);
        }
        new
    }

    /// In its place, unless its priority is another.
    pub(crate) fn replace(&mut self, rule: Rule) -> bool {
        let Some(old) = self.0.iter_mut().find(|other| other.id == rule.id) else { return false };
        if old.priority == rule.priority {
            *old = rule;
            return true;
        }
        self.remove(rule.id) && self.add(rule)
    }

    pub(crate) fn remove(&mut self, id: RuleId) -> bool {
        let before = self.0.len();
        self.0.retain(|rule| rule.id != id);
        self.0.len() < before
    }

    pub(crate) fn decide(&self, direction: Direction, flow: &Flow) -> Result<Decision, Undecided> {
        let ends = |rule: &Rule| match direction {
            Direction::Out => (rule.selector.local, rule.selector.remote),
            Direction::In | Direction::Forward => (rule.selector.remote, rule.selector.local),
        };
        let matches = |rule: &&Rule| flow.fits(&ends(rule).0, &ends(rule).1);
        let rank = self.0.iter().position(|rule| matches(&rule)).ok_or(Undecided::NoRule)?;
        let (action, before) = (self.0[rank].action, &self.0[..rank]);
        let clear = |action| matches!(action, Action::Bypass | Action::Protect { level: Level::Use, .. });
        let meant = |rule: &Rule| !clear(rule.action) && flow.may_fit(&ends(rule).0, &ends(rule).1);
        let unreadable = matches!(flow.ports, Ports::Opaque | Ports::Hidden);
        let action = match action {
            _ if !unreadable || !clear(action) || !before.iter().any(meant) => action,
            Action::Protect { policy, .. } => Action::protect(policy),
            _ => return Err(Undecided::Fragment),
        };
        Ok(Decision { action, rank: rank as u32 })
    }
}

/// What the rules and packets of a round are like.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Addresses are so many different ones.
    pub(crate) hosts: u64,
    pub(crate) ports: u64,
    pub(crate) v6: bool,
}

impl Kind {
    pub(crate) fn addr(self, rng: &mut Rng) -> IpAddr {
        let host = rng.below(self.hosts) as u32;
        match self.v6 && rng.below(2) == 0 {
            // Both halves of the number count.
            true if host & 1 == 0 => Ipv6Addr::from_bits(u128::from(host)).into(),
            true => Ipv6Addr::from_bits(u128::from(host) << 70).into(),
            false => Ipv4Addr::from_bits(host << 3).into(),
        }
    }

    pub(crate) fn addrs(self, rng: &mut Rng) -> AddrRange {
        let (one, other) = (self.addr(rng), self.addr(rng));
        match rng.below(6) {
            0 => AddrRange::single(one),
            1 if one.is_ipv4() => AddrRange::ANY_V4,
            1 => AddrRange::ANY_V6,
            2 => AddrRange::prefix(one, (rng.below(33)) as u8).unwrap(),
            _ => AddrRange::new(one.min(other), one.max(other)).unwrap_or(AddrRange::single(one)),
        }
    }

    fn port_range(self, rng: &mut Rng) -> PortRange {
        let (one, other) = (rng.below(self.ports) as u16, rng.below(self.ports) as u16);
        match rng.below(8) {
            0..3 => PortRange::ANY,
            3 => PortRange::OPAQUE,
            4 => PortRange { start: 0, end: one },
            // In no order: matches nothing, and stands in the list all the same.
            5 if one > other => PortRange { start: one, end: other },
            _ => PortRange { start: one.min(other), end: one.max(other) },
        }
    }

    fn side(self, rng: &mut Rng) -> TrafficSelector {
        let protocol = [0, 0, 1, 6, 17, 58][rng.below(6) as usize];
        TrafficSelector { addrs: self.addrs(rng), protocol, ports: self.port_range(rng) }
    }

    pub(crate) fn rule(self, rng: &mut Rng, id: u32) -> Rule {
        let action = match rng.below(3) {
            0 => Action::Discard,
            1 => Action::Bypass,
            _ => Action::Protect {
                policy: PolicyId(rng.below(5) as u32),
                level: [Level::Use, Level::Require][rng.below(2) as usize],
            },
        };
        let selector = Selector { local: self.side(rng), remote: self.side(rng) };
        // Mostly of one protocol on both sides: others match nothing.
        let selector = if rng.below(4) == 0 { selector } else { selector.protocol(selector.local.protocol) };
        Rule { id: RuleId(id), priority: rng.below(20) as u32, selector, action }
    }

    pub(crate) fn flow(self, rng: &mut Rng) -> Flow {
        let (source, mut destination) = (self.addr(rng), self.addr(rng));
        while destination.is_ipv4() != source.is_ipv4() {
            destination = self.addr(rng);
        }
        let (one, other) = (rng.below(self.ports) as u16, rng.below(self.ports) as u16);
        let ports = match rng.below(6) {
            0 => Ports::Opaque,
            1 => Ports::Hidden,
            2 => Ports::Message(one),
            _ => Ports::Pair { source: one, destination: other },
        };
        Flow { source, destination, protocol: [0, 1, 6, 17, 58][rng.below(5) as usize], ports, len: 20 }
    }

    /// A packet of such hosts, some of them fragments.
    pub(crate) fn packet(self, rng: &mut Rng) -> Vec<u8> {
        let Flow { source, destination, .. } = self.flow(rng);
        let payload = ports(rng.below(self.ports) as u16, rng.below(self.ports) as u16, rng.below(20) as usize);
        let part = rng.below(6) == 0;
        // Behind destination options, a fragment hides its protocol.
        let protocol = if part && rng.below(3) == 0 { 60 } else { [1, 6, 17, 58][rng.below(4) as usize] };
        let len = payload.len() as u16;
        let packet = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [high, low] = (20 + len).to_be_bytes();
                let header = [0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0];
                [&header[..], &source.octets(), &destination.octets(), &payload].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let [high, low] = len.to_be_bytes();
                let header = [0x60, 0, 0, 0, high, low, protocol, 64];
                [&header[..], &source.octets(), &destination.octets(), &payload].concat()
            }
            _ => panic!("mixed families"),
        };
        if part { later_fragment(&packet) } else { packet }
    }
}
