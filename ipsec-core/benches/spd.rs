//! What a decision about a packet costs with 10 to 100,000 policies, and to find one of as many SAs:
//! `cargo bench -p ipsec-core --bench spd`.
//!
//! `look-up` is an engine that remembers nothing, asked about a flow of any policy in turn, so that what it reads is mostly in
//! no near cache; `none` is the same about flows that meet no policy but the last one. `known` is an engine that remembers
//! flows, asked about few of them. All include reading the packet's headers. `list` is a walk along the rules, which the
//! index replaced. An SA is found by its SPI, any in turn; `of one` is the choice of the SA for a packet, by an engine that
//! remembers nothing, where one policy has all of them, `none` the same where none of them fits. Medians of short stretches; times are hints, growth counts.

use std::net::Ipv4Addr;
use std::time::Instant;

use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::flow::Flow;
use ipsec_core::net::{AddrRange, Encap, Path, PortRange, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::{Action, Hits, Index, Node, PolicyId, Remembered, Rule, RuleId, Selector, Slot};
use ipsec_core::time::Instant as Tick;

const SIZES: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];
const ROUNDS: usize = 5;
const LOOKUPS: usize = 20_000;
const STRETCH: usize = 100;
/// Flows that are asked about again and again.
const KNOWN: usize = 64;

const GOAL_LOOKUP: f64 = 300.0;
const GOAL_KNOWN: f64 = 20.0;
const GOAL_OCTETS: usize = 128;
const GOAL_SA: f64 = 30.0;
const GOAL_CHOICE: f64 = 1000.0;

const ANY: [TrafficSelector; 1] = [TrafficSelector::addrs(AddrRange::ANY_V4)];

/// Rules and the flows that go through them need no crypto.
struct Nothing;

impl PacketCrypto for Nothing {
    type AeadKey = ();
    type Place<T> = InPlace<T>;

    fn aead_key(&mut self, _: AeadAlg, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn seal(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) {}

    fn open(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Forged> {
        Err(Forged)
    }
}

/// A set of policies: the rule with a number, and a packet that meets it.
struct Policies {
    name: &'static str,
    rule: fn(u32) -> Selector,
    packet: fn(u32) -> [u8; 28],
}

fn network(number: u32, prefix: u8) -> AddrRange {
    AddrRange::prefix(Ipv4Addr::from_bits(0x1000_0000 + (number << 8)).into(), prefix).expect("a prefix of IPv4")
}

fn udp(local_port: u16, remote: u32, remote_port: u16) -> [u8; 28] {
    let mut packet = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0];
    packet[16..20].copy_from_slice(&remote.to_be_bytes());
    packet[20..22].copy_from_slice(&local_port.to_be_bytes());
    packet[22..24].copy_from_slice(&remote_port.to_be_bytes());
    packet
}

const SETS: [Policies; 3] = [
    // A hub: a network behind each peer.
    Policies {
        name: "a network each",
        rule: |number| Selector::between(AddrRange::ANY_V4, network(number, 24)),
        packet: |number| udp(1, 0x1000_0005 + (number << 8), 2),
    },
    // Four rules of ports and of the network itself for each peer, all overlapping each other.
    Policies {
        name: "ports, in networks",
        rule: |number| {
            let whole = Selector::between(AddrRange::ANY_V4, network(number / 4, 24));
            match number % 4 {
                3 => whole,
                port => whole.protocol(17).remote_ports(PortRange::single(port as u16)),
            }
        },
        packet: |number| udp(1, 0x1000_0005 + ((number / 4) << 8), (number % 4) as u16),
    },
    // Ranges that are no prefixes and reach into each other.
    Policies {
        name: "ranges that overlap",
        rule: |number| {
            let at = |number: u32| Ipv4Addr::from_bits(0x1000_0000 + number * 200).into();
            Selector::between(AddrRange::ANY_V4, AddrRange::new(at(number), at(number + 3)).expect("a range"))
        },
        packet: |number| udp(1, 0x1000_0001 + number * 200, 2),
    },
];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds for each of the packets: the median of short stretches, which a busy machine interrupts less often.
fn timed<T>(packets: &[T], mut call: impl FnMut(&T)) -> f64 {
    let mut stretches = Vec::new();
    for stretch in (0..ROUNDS).flat_map(|_| packets.chunks(STRETCH)) {
        let begun = Instant::now();
        stretch.iter().for_each(&mut call);
        stretches.push(begun.elapsed().as_nanos() as f64 / stretch.len() as f64);
    }
    median(stretches)
}

/// Numbers below `size` in an order that no cache foresees.
fn any_of(size: u32) -> impl FnMut() -> u32 {
    let mut number = 7_u32;
    move || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(number) * u64::from(size)) >> 32) as u32
    }
}

fn measure_sas(size: u32) -> bool {
    let (mut none, mut slots): ([Hits; 0], Vec<_>) = ([], (0..size).map(|_| InboundSlot::<Nothing>::EMPTY).collect());
    let mut windows = vec![0; size as usize];
    let mut inbound = Inbound::<Nothing>::new(Nothing, &mut none, &mut slots, &mut windows);
    let mut random = any_of(u32::MAX);
    let spis: Vec<Spi> = (0..size).map(|_| inbound.reserve_spi(random()).expect("room")).collect();
    for spi in &spis {
        let sa = params(*spi, &ANY);
        inbound.install(Tick::ZERO, &InboundParams { sa, window: 64, highest_seen: 0 }).expect("room");
    }
    let mut any = any_of(size);
    let asked: Vec<Spi> = (0..LOOKUPS).map(|_| spis[any() as usize]).collect();
    let found = timed(&asked, |spi| assert!(inbound.has(*spi)));

    // One policy, which has an SA for each network.
    let (mut none, mut slots): ([Hits; 0], Vec<_>) = ([], (0..size).map(|_| OutboundSlot::<Nothing>::EMPTY).collect());
    let mut outbound = Outbound::<Nothing>::new(Nothing, &mut none, &mut slots);
    let (mut rules, mut nodes) = ([Slot::EMPTY], []);
    let rule = Rule {
        id: RuleId(1),
        priority: 1,
        selector: Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4),
        action: Action::protect(PolicyId(1)),
    };
    outbound.set_rules(Index::build([rule], &mut rules[..], &mut nodes[..]).expect("room")).expect("room");
    for number in 0..size {
        let behind = [TrafficSelector::addrs(network(number, 24))];
        let sa = params(spis[number as usize], &behind);
        let sa = OutboundParams { sa, last_sent: 0, copy_dscp: true, dont_fragment: DontFragment::Copy };
        outbound.install(Tick::ZERO, &sa).expect("room");
    }
    let packets: Vec<_> = (0..LOOKUPS).map(|_| udp(1, 0x1000_0005 + (any() << 8), 2)).collect();
    let chosen = timed(&packets, |packet| {
        assert!(matches!(outbound.classify(Tick::ZERO, packet), Ok(Verdict::Protect(_))));
    });
    let strangers: Vec<_> = (0..LOOKUPS).map(|_| udp(1, 0x0800_0000 + any(), 2)).collect();
    let none = timed(&strangers, |packet| {
        assert!(matches!(outbound.classify(Tick::ZERO, packet), Ok(Verdict::Acquire(_))));
    });
    let met = found <= GOAL_SA && chosen <= GOAL_CHOICE && none <= GOAL_CHOICE;
    println!("{size:>8} {found:>9.1} {chosen:>9.1} {none:>9.1}   {}", if met { "met" } else { "MISSED" });
    met
}

fn params<'k>(spi: Spi, remote_ts: &'k [TrafficSelector]) -> Params<'k> {
    Params {
        spi,
        mode: Mode::Tunnel,
        alg: AeadAlg::Aes128Gcm16,
        keymat: &[7; 20],
        esn: true,
        path: Path { local: "192.0.2.2:4500".parse().unwrap(), remote: "192.0.2.1:4500".parse().unwrap() },
        encap: Encap::Udp,
        policy: PolicyId(1),
        local_ts: &ANY,
        remote_ts,
        lifetime: Lifetime::default(),
    }
}

fn measure(set: &Policies, size: u32) -> bool {
    let rule = |number: u32| Rule {
        id: RuleId(number),
        priority: 1,
        selector: (set.rule)(number),
        action: Action::protect(PolicyId(number)),
    };
    let last = Rule {
        priority: 9,
        selector: Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4),
        action: Action::Bypass,
        ..rule(size)
    };
    let rules: Vec<Rule> = (0..size).map(rule).chain([last]).collect();
    let count = rules.len();
    let nodes = Index::nodes(count);
    let begun = Instant::now();
    let index = Index::build(rules.iter().copied(), vec![Slot::EMPTY; count], vec![Node::EMPTY; nodes]).expect("room");
    let built = begun.elapsed();

    let mut any = any_of(size);
    let packets: Vec<_> = (0..LOOKUPS).map(|_| (set.packet)(any())).collect();
    let strangers: Vec<_> = (0..LOOKUPS).map(|_| udp(1, 0x0800_0000 + any(), 2)).collect();
    let few: Vec<_> = packets.iter().take(KNOWN).collect();
    let known: Vec<_> = few.into_iter().cycle().take(LOOKUPS).copied().collect();

    let mut hits = vec![Hits::NONE; count];
    let mut none: [OutboundSlot<Nothing>; 0] = [];
    let mut plain = Outbound::new(Nothing, &mut hits, &mut none);
    plain.set_rules(&index).expect("room");
    let lookup = timed(&packets, |packet| {
        assert!(matches!(plain.classify(Tick::ZERO, packet), Ok(Verdict::Acquire(_))));
    });
    let miss = timed(&strangers, |packet| assert_eq!(plain.classify(Tick::ZERO, packet), Ok(Verdict::Clear)));
    let list = (size <= 1000).then(|| {
        timed(&packets[..2000], |packet| {
            let flow = Flow::of(packet).expect("a packet");
            let first = rules.iter().find(|rule| flow.fits(&rule.selector.local, &rule.selector.remote));
            assert!(std::hint::black_box(first).is_some());
        })
    });
    let (mut hits, mut flows) = (vec![Hits::NONE; count], vec![Remembered::NOTHING; 4096]);
    let mut none: [OutboundSlot<Nothing>; 0] = [];
    let mut quick = Outbound::new(Nothing, &mut hits, &mut none).remembering(&mut flows);
    quick.set_rules(&index).expect("room");
    let known = timed(&known, |packet| {
        assert!(matches!(quick.classify(Tick::ZERO, packet), Ok(Verdict::Acquire(_))));
    });
    let octets = size_of::<Slot>() + size_of::<Node>() * nodes / count;
    let met = lookup <= GOAL_LOOKUP && miss <= GOAL_LOOKUP && known <= GOAL_KNOWN && octets <= GOAL_OCTETS;
    println!(
        "{size:>8} {octets:>7} {:>9.3} {lookup:>9.1} {miss:>9.1} {known:>9.1} {:>9}   {}",
        built.as_secs_f64() * 1e3,
        list.map_or_else(|| "-".to_owned(), |list| format!("{list:.1}")),
        if met { "met" } else { "MISSED" }
    );
    met
}

fn main() {
    let mut met = true;
    for set in &SETS {
        println!("{}: medians of stretches of {STRETCH} packets, ns a packet", set.name);
        println!(
            "{:>8} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}   goals: look-up and none <= {GOAL_LOOKUP}, known <= {GOAL_KNOWN}",
            "policies", "octets", "built ms", "look-up", "none", "known", "list"
        );
        for size in SIZES {
            met &= measure(set, size);
        }
    }
    println!("SAs: medians of stretches of {STRETCH}, ns");
    println!(
        "{:>8} {:>9} {:>9} {:>9}   goals: by SPI <= {GOAL_SA}, of one policy and none <= {GOAL_CHOICE}",
        "SAs", "by SPI", "of one", "none"
    );
    for size in SIZES {
        met &= measure_sas(size);
    }
    println!(
        "hits beside it, for each engine that counts: {} octets; a flow remembered: {} octets",
        size_of::<Hits>(),
        size_of::<Remembered>()
    );
    println!("goals {}", if met { "met" } else { "missed" });
}
