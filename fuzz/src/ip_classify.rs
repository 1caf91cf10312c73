//! Policy over any IP packet: the engine's verdict beside that of a model that is too simple to be wrong. Half of the rules
//! are in an index, the others come one by one, and some of both are replaced or go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipsec_core::crypto::AeadAlg;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::error::{Discard, Refused};
use ipsec_core::flow::{Flow, Ports};
use ipsec_core::icmp::quoted;
use ipsec_core::net::{AddrRange, Encap, Path, PortRange, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, Lifetime, Mode, OutboundParams, Params, SaId};
use ipsec_core::spd::{
    Action, Changes, Direction, Hits, Index, Level, Node, PolicyId, Remembered, Rule, RuleId, Selector, Slot,
};
use ipsec_core::time::Instant;

use crate::crypto::FakeCrypto;
use crate::input::Input;

const MAX_RULES: usize = 12;
const MAX_SAS: usize = 4;

/// A number of rules, the rules of 4 or 5 octets each, a number of SAs, the SAs of 3 octets each, a number of changes, each with what
/// it is about, and a packet.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut slots, mut nodes) = ([Slot::EMPTY; MAX_RULES], [Node::EMPTY; Index::nodes(MAX_RULES)]);
    let mut flows = [Remembered::NOTHING; 2];
    let (mut hits, mut in_hits) = ([Hits::NONE; MAX_RULES], [Hits::NONE; MAX_RULES]);
    let mut sas = [const { OutboundSlot::<FakeCrypto>::EMPTY }; MAX_SAS];
    let mut in_sas: [InboundSlot<FakeCrypto>; 0] = [];
    let (mut changes, mut in_changes) = ([Changes::NONE; 1], [Changes::NONE; 1]);
    let mut outbound =
        Outbound::new(FakeCrypto::default(), &mut hits, &mut sas).remembering(&mut flows).changing(&mut changes);
    let mut inbound = Inbound::new(FakeCrypto::default(), &mut in_hits, &mut in_sas, &mut []).changing(&mut in_changes);
    let mut model = Model::default();
    let count = u32::from(input.octet()) % (MAX_RULES as u32 + 1);
    let rules: Vec<Rule> = (0..count).map(|id| Rule { id: RuleId(id), ..rule(&mut input) }).collect();
    let (built, added) = rules.split_at(rules.len() / 2);
    let index = Index::build(built.iter().copied(), &mut slots[..], &mut nodes[..]).expect("a free slot for each");
    outbound.set_rules(&index).expect("room to count in");
    inbound.set_rules(&index).expect("room to count in");
    for rule in added {
        outbound.add_rule(*rule).expect("an id of its own");
        inbound.add_rule(*rule).expect("an id of its own");
    }
    rules.into_iter().for_each(|rule| model.insert(rule));
    for _ in 0..usize::from(input.octet()) % (MAX_SAS + 1) {
        let (policy, local, remote) = (policy(&mut input), [selector(&mut input)], [selector(&mut input)]);
        let id = outbound.install(Instant::ZERO, &sa(policy, &local, &remote)).expect("a free slot");
        model.sas.insert(0, (policy, local[0], remote[0], id));
    }
    let changes: Vec<Change> = (0..input.octet() % 6).map(|_| change(&mut input)).collect();
    let packet = input.rest();
    let compare =
        |outbound: &mut Outbound<'_, FakeCrypto, _>, inbound: &mut Inbound<'_, FakeCrypto, _>, model: &Model| {
            assert_eq!(outbound.classify(Instant::ZERO, packet), model.outbound(packet));
            let direction = if packet.len().is_multiple_of(2) { Direction::In } else { Direction::Forward };
            assert_eq!(inbound.check_clear(Instant::ZERO, direction, packet).map(drop), model.inbound(packet));
            assert_eq!(
                outbound.classify(Instant::ZERO, packet),
                model.outbound(packet),
                "asked again, it says something else"
            );
        };
    compare(&mut outbound, &mut inbound, &model);
    for change in changes {
        let (done, same) = match change {
            Change::Replace(rule) => (outbound.replace_rule(rule), inbound.replace_rule(rule)),
            Change::Drop(id) => (outbound.drop_rule(id), inbound.drop_rule(id)),
        };
        assert_eq!(done, same);
        match done {
            Ok(done) => assert_eq!(done, model.change(change), "{change:?}"),
            // There is room for eight changes; nothing is different.
            Err(refused) => assert_eq!(refused, Refused::Full),
        }
        compare(&mut outbound, &mut inbound, &model);
    }
}

/// What becomes of one rule.
#[derive(Debug, Clone, Copy)]
enum Change {
    Replace(Rule),
    Drop(RuleId),
}

fn change(input: &mut Input<'_>) -> Change {
    let choices = input.octet();
    let id = RuleId(u32::from(choices >> 1) % (MAX_RULES as u32 + 1));
    if choices & 1 == 0 { Change::Replace(Rule { id, ..rule(input) }) } else { Change::Drop(id) }
}

fn policy(input: &mut Input<'_>) -> PolicyId {
    PolicyId(u32::from(input.octet() % 3))
}

fn selector(input: &mut Input<'_>) -> TrafficSelector {
    let net = |addr: [u8; 4], len| AddrRange::prefix(addr.into(), len).expect("a prefix length of IPv4");
    let net6 = |addr: [u16; 8], len| AddrRange::prefix(addr.into(), len).expect("a prefix length of IPv6");
    let kind = input.octet();
    let addrs = match kind % 8 {
        0 => AddrRange::ANY_V4,
        1 => net([10, 1, 0, 0], 16),
        2 => net([10, 2, 0, 0], 16),
        3 => net([10, 2, 9, 8], 32),
        4 => AddrRange::ANY_V6,
        5 => net6([0xfd01, 0, 0, 0, 0, 0, 0, 0], 64),
        6 => net6([0xfd02, 0, 0, 0, 0, 0, 0, 0], 64),
        _ => net([0, 0, 0, 0], 1),
    };
    let protocol = [0, 1, 6, 17, 50, 58, 132, 44][usize::from(kind >> 3) % 8];
    let ports = match kind >> 6 {
        0 | 1 => PortRange::ANY,
        2 => PortRange { start: 53, end: 2048 },
        _ => PortRange::OPAQUE,
    };
    TrafficSelector { addrs, protocol, ports }
}

fn rule(input: &mut Input<'_>) -> Rule {
    let priority = u32::from(input.octet() % 4);
    let action = match input.octet() % 4 {
        0 => Action::Bypass,
        1 => Action::Discard,
        2 => Action::Protect { policy: policy(input), level: Level::Use },
        _ => Action::protect(policy(input)),
    };
    let selector = Selector { local: selector(input), remote: selector(input) };
    Rule { id: RuleId(0), priority, selector, action }
}

fn sa<'k>(policy: PolicyId, local_ts: &'k [TrafficSelector], remote_ts: &'k [TrafficSelector]) -> OutboundParams<'k> {
    let at = |last| (Ipv4Addr::new(192, 0, 2, last), 4500).into();
    let sa = Params {
        spi: Spi::new(0x1000).expect("not reserved"),
        mode: Mode::Tunnel,
        protection: AeadAlg::Aes128Gcm16.into(),
        keymat: &[7; 20],
        esn: true,
        path: Path { local: at(1), remote: at(2) },
        encap: Encap::Udp,
        policy,
        local_ts,
        remote_ts,
        lifetime: Lifetime::default(),
        compression: None,
    };
    OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment: DontFragment::Copy }
}

/// Rules in order and SAs, newest first.
#[derive(Default)]
struct Model {
    rules: Vec<Rule>,
    sas: Vec<(PolicyId, TrafficSelector, TrafficSelector, SaId)>,
}

impl Model {
    /// In its place, unless its priority is another. `false`: there is no such rule.
    fn change(&mut self, change: Change) -> bool {
        let id = match change {
            Change::Replace(rule) => rule.id,
            Change::Drop(id) => id,
        };
        let Some(at) = self.rules.iter().position(|rule| rule.id == id) else { return false };
        match change {
            Change::Replace(rule) if rule.priority == self.rules[at].priority => self.rules[at] = rule,
            Change::Replace(rule) => {
                self.rules.remove(at);
                self.insert(rule);
            }
            Change::Drop(_) => _ = self.rules.remove(at),
        }
        true
    }

    fn insert(&mut self, rule: Rule) {
        self.rules.push(rule);
        self.rules.sort_by_key(|rule| rule.priority);
    }

    /// What the first rule that fits says. Of a fragment that may belong to what one before it keeps from passing in clear,
    /// nothing passes in clear.
    fn decide(
        &self,
        packet: &Packet,
        sides: impl Fn(&Rule) -> (TrafficSelector, TrafficSelector),
        none: Discard,
        fragment: Discard,
    ) -> Result<Action, Discard> {
        let passes = |action| matches!(action, Action::Bypass | Action::Protect { level: Level::Use, .. });
        let mut held = false;
        for rule in &self.rules {
            let (source, destination) = sides(rule);
            if packet.fits(&source, &destination) {
                return match rule.action {
                    Action::Protect { policy, .. } if held => Ok(Action::protect(policy)),
                    Action::Bypass if held => Err(fragment),
                    action => Ok(action),
                };
            }
            held |= packet.ports.is_none() && !passes(rule.action) && packet.may_fit(&source, &destination);
        }
        Err(none)
    }

    fn outbound(&self, packet: &[u8]) -> Result<Verdict, Discard> {
        let verdict = self.by_itself(packet);
        if matches!(
            verdict,
            Err(Discard::OutHeader | Discard::OutFragment | Discard::OutBlocked) | Ok(Verdict::Protect(_))
        ) {
            return verdict;
        }
        let clear = matches!(verdict, Ok(Verdict::Clear | Verdict::ClearMeanwhile(_)));
        match self.by_quote(packet) {
            Some((_, Some(sa))) => Ok(Verdict::Protect(sa)),
            Some((Level::Require, None)) if clear => Err(Discard::OutNoSa),
            _ => verdict,
        }
    }

    /// How what an ICMP error is about is protected, and the SA for answers to it.
    fn by_quote(&self, packet: &[u8]) -> Option<(Level, Option<SaId>)> {
        let about = Packet::of(&quoted(packet)?);
        let fits = |rule: &&Rule| about.fits(&rule.selector.remote, &rule.selector.local);
        let Action::Protect { policy, level } = self.rules.iter().find(fits)?.action else { return None };
        let mut of_policy = self.sas.iter().filter(|sa| sa.0 == policy);
        Some((level, of_policy.find(|(_, local, remote, _)| about.fits(remote, local)).map(|sa| sa.3)))
    }

    fn by_itself(&self, packet: &[u8]) -> Result<Verdict, Discard> {
        let packet = Packet::read(packet).ok_or(Discard::OutHeader)?;
        let sides = |rule: &Rule| (rule.selector.local, rule.selector.remote);
        match self.decide(&packet, sides, Discard::OutNoPolicy, Discard::OutFragment)? {
            Action::Bypass => Ok(Verdict::Clear),
            Action::Discard => Err(Discard::OutBlocked),
            Action::Protect { policy, level } => {
                let mut of_policy = self.sas.iter().filter(|sa| sa.0 == policy);
                let sa = of_policy.find(|(_, local, remote, _)| packet.fits(local, remote));
                let wanted = match level {
                    Level::Use => Verdict::ClearMeanwhile(policy),
                    Level::Require => Verdict::Acquire(policy),
                };
                Ok(sa.map_or(wanted, |sa| Verdict::Protect(sa.3)))
            }
        }
    }

    fn inbound(&self, packet: &[u8]) -> Result<(), Discard> {
        let packet = Packet::read(packet).ok_or(Discard::InHeader)?;
        let sides = |rule: &Rule| (rule.selector.remote, rule.selector.local);
        match self.decide(&packet, sides, Discard::InNoPolicy, Discard::InFragment)? {
            Action::Bypass | Action::Protect { level: Level::Use, .. } => Ok(()),
            Action::Discard => Err(Discard::InBlocked),
            Action::Protect { level: Level::Require, .. } => Err(Discard::InClear),
        }
    }
}

/// A packet, read by index with every length checked beforehand.
struct Packet {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Source and destination port; the second is absent where the first is a message type.
    ports: Option<(u16, Option<u16>)>,
    /// Of a fragment, further headers hide the protocol.
    hidden: bool,
}

impl Packet {
    /// What is left of one that is quoted, as the engine reads it.
    fn of(flow: &Flow) -> Self {
        let ports = match flow.ports {
            Ports::Pair { source, destination } => Some((source, Some(destination))),
            Ports::Message(message) => Some((message, None)),
            Ports::Opaque | Ports::Hidden => None,
        };
        let hidden = flow.ports == Ports::Hidden;
        Self { source: flow.source, destination: flow.destination, protocol: flow.protocol, ports, hidden }
    }

    fn read(p: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*p.get(at)?, *p.get(at + 1)?]));
        match p.first()? >> 4 {
            4 if p.len() >= 20 => {
                let (header, total) = (usize::from(p[0] & 15) * 4, usize::from(word(2)?));
                if header < 20 || total < header || total > p.len() {
                    return None;
                }
                let addr = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&p[at..at + 4]).expect("4 octets"));
                let ports = if word(6)? & 0x1fff == 0 { ports(p[9], &p[header..total]) } else { None };
                Some(Self { source: addr(12), destination: addr(16), protocol: p[9], ports, hidden: false })
            }
            6 if p.len() >= 40 => {
                let total = 40 + usize::from(word(4)?);
                let p = p.get(..total)?;
                let addr = |at: usize| {
                    let octets = <[u8; 16]>::try_from(&p[at..at + 16]).expect("16 octets");
                    IpAddr::from(Ipv6Addr::from(octets))
                };
                let (mut at, mut protocol, mut later, mut extensions) = (40, p[6], false, 0);
                while [0, 43, 44, 60].contains(&protocol) && !later {
                    let length = if protocol == 44 { 8 } else { 8 + 8 * usize::from(*p.get(at + 1)?) };
                    let header = p.get(at..at + length)?;
                    later = protocol == 44 && u16::from_be_bytes([header[2], header[3]]) >= 8;
                    (protocol, at, extensions) = (header[0], at + length, extensions + 1);
                    if extensions > 8 && !later {
                        return None;
                    }
                }
                let ports = if later { None } else { ports(protocol, &p[at..]) };
                let hidden = later && [0, 43, 44, 60].contains(&protocol);
                Some(Self { source: addr(8), destination: addr(24), protocol, ports, hidden })
            }
            _ => None,
        }
    }

    fn fits(&self, source: &TrafficSelector, destination: &TrafficSelector) -> bool {
        let named = |selector: &TrafficSelector| !self.hidden || selector.protocol == 0;
        let port_fits = |ports: PortRange, port: u16| (ports.start..=ports.end).contains(&port);
        let without = |ports: PortRange| [PortRange::ANY, PortRange::OPAQUE].contains(&ports);
        let ports_fit = match self.ports {
            None => without(source.ports) && without(destination.ports),
            Some((from, None)) => port_fits(source.ports, from),
            Some((from, Some(to))) => port_fits(source.ports, from) && port_fits(destination.ports, to),
        };
        self.may_fit(source, destination) && named(source) && named(destination) && ports_fit
    }

    /// Whatever cannot be read.
    fn may_fit(&self, source: &TrafficSelector, destination: &TrafficSelector) -> bool {
        let in_range = |range: &AddrRange, addr: IpAddr| match (range.start(), range.end(), addr) {
            (IpAddr::V4(start), IpAddr::V4(end), IpAddr::V4(addr)) => (start..=end).contains(&addr),
            (IpAddr::V6(start), IpAddr::V6(end), IpAddr::V6(addr)) => (start..=end).contains(&addr),
            _ => false,
        };
        let of_protocol = |selector: &TrafficSelector| self.hidden || [0, self.protocol].contains(&selector.protocol);
        in_range(&source.addrs, self.source)
            && in_range(&destination.addrs, self.destination)
            && of_protocol(source)
            && of_protocol(destination)
    }
}

fn ports(protocol: u8, payload: &[u8]) -> Option<(u16, Option<u16>)> {
    let word = |at: usize| Some(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?]));
    match protocol {
        6 | 17 | 33 | 132 | 136 => Some((word(0)?, Some(word(2)?))),
        1 | 58 => Some((word(0)?, None)),
        135 => Some((word(2)? & 0xff00, None)),
        _ => None,
    }
}
