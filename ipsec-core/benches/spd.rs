//! What a decision about a packet costs with 10 to 100,000 policies, and to change one of them:
//! `cargo bench -p ipsec-core --bench spd`.
//!
//! `hit` is an engine that remembers nothing, asked about a flow of any policy in turn, so that what it reads is mostly in no
//! near cache; `miss` is the same about flows that meet no policy but the last one. `changed` is `hit` with 64 changes beside the
//! index. `known` is an engine that remembers flows, asked about few of them. All include reading the packet's headers. `list`
//! is a walk along the rules, which is what the index replaces. `add`, `replace` and `drop` change one policy of an engine that
//! remembers 4096 flows. `built` is a whole index, `swapped` to give one to an engine, `diff` to tell it from another one with as
//! many rules. Medians of short stretches; times are hints, growth counts. Memory is compared with that of a policy of Linux.

use std::net::Ipv4Addr;
use std::time::Instant;

use ipsec_core::engine::{Outbound, OutboundSlot, Verdict};
use ipsec_core::flow::Flow;
use ipsec_core::net::{AddrRange, PortRange};
use ipsec_core::spd::{
    Action, Changes, Hits, Index, Node, PolicyId, Remembered, Rule, RuleId, Rules as _, Selector, Slot, diff,
};
use ipsec_core::time::Instant as Tick;
use measure::{LOOKUPS, Nothing, SIZES, STRETCH, any_of, judged, median, network, once, packet, shown, timed, udp};

#[path = "measure/databases.rs"]
mod measure;

/// Flows that are asked about again and again.
const KNOWN: usize = 64;
/// Changes beside an index, for which there are eight blocks of memory.
const CHANGES: u32 = 64;
const ROUNDS: u32 = 9;
/// Octets that a policy takes in Linux, as was measured.
const LINUX: usize = 1_040;

const GOAL_LOOKUP: f64 = 300.0;
const GOAL_KNOWN: f64 = 20.0;
const GOAL_OCTETS: usize = 128;
const GOAL_CHANGE: f64 = 10_000.0;

/// A set of policies: the rule with a number, and a packet that meets it or one before it.
struct Policies {
    name: &'static str,
    rule: fn(u32) -> Selector,
    packet: fn(u32) -> [u8; 28],
}

fn to(addrs: AddrRange) -> Selector {
    Selector::between(AddrRange::ANY_V4, addrs)
}

const SETS: [Policies; 4] = [
    // A hub: a network behind each peer.
    Policies {
        name: "a network each",
        rule: |number| to(network(number, 24)),
        packet: |number| udp(1, 0x1000_0005 + (number << 8), 2),
    },
    // Four rules of ports and of the network itself for each peer, all overlapping each other.
    Policies {
        name: "ports, in networks",
        rule: |number| {
            let whole = to(network(number / 4, 24));
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
            to(AddrRange::new(at(number), at(number + 3)).expect("a range"))
        },
        packet: |number| udp(1, 0x1000_0001 + number * 200, 2),
    },
    // Prefixes of many lengths, protocols and ports of both sides.
    Policies {
        name: "mixed prefixes, protocols and ports",
        rule: |number| {
            let place = number / 8;
            let known = PortRange { start: 0, end: 1023 };
            match number % 8 {
                0 => to(network(place, 32)).protocol(6).remote_ports(PortRange::single(443)),
                1 => to(network(place, 30)).protocol(17).remote_ports(PortRange::single(53)),
                2 => to(network(place, 28)).protocol(17).local_ports(known),
                3 => to(network(place, 26)).protocol(6).remote_ports(known),
                4 => to(network(place, 25)).protocol(1),
                5 => to(network(place, 24)).protocol(6).local_ports(PortRange::single(22)),
                6 => to(network(place, 22)).protocol(17).remote_ports(PortRange::single(place as u16)),
                _ => to(network(place, 20)).protocol(47),
            }
        },
        packet: |number| {
            let (place, at) = (number / 8, 0x1000_0000 + ((number / 8) << 8));
            match number % 8 {
                0 => packet(6, 40_000, at, 443),
                1 => packet(17, 40_000, at + 3, 53),
                2 => packet(17, 123, at + 15, 40_000),
                3 => packet(6, 40_000, at + 63, 80),
                4 => packet(1, 0x0800, at + 127, 0),
                5 => packet(6, 22, at + 255, 40_000),
                6 => packet(17, 40_000, at + 255, place as u16),
                _ => packet(47, 0, at + 255, 0),
            }
        },
    },
];

/// What one change costs, of each kind: nanoseconds.
struct Change {
    add: f64,
    replace: f64,
    drop: f64,
}

fn rule(set: &Policies, number: u32) -> Rule {
    let (selector, action) = ((set.rule)(number), Action::protect(PolicyId(number)));
    Rule { id: RuleId(number), priority: 1, selector, action }
}

type Built = Index<Vec<Slot>, Vec<Node>>;

/// Rules change here and there.
fn change(set: &Policies, size: u32, index: &Built) -> Change {
    let (mut hits, mut flows) = (vec![Hits::NONE; index.view().len()], vec![Remembered::NOTHING; 4096]);
    let (mut none, mut changes): ([OutboundSlot<Nothing>; 0], _) = ([], [Changes::NONE; CHANGES as usize / 8]);
    let mut outbound = Outbound::new(Nothing, &mut hits, &mut none).remembering(&mut flows).changing(&mut changes);
    let mut any = any_of(size);
    let [mut add, mut replace, mut drop] = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        // Half of the memory is for what comes, half for what goes.
        outbound.set_rules(index).expect("room");
        let new: Vec<Rule> = (0..CHANGES / 2).map(|number| rule(set, size + 1 + number)).collect();
        add.push(once(&new, |rule| outbound.add_rule(*rule).expect("room")));
        drop.push(once(&new, |rule| assert_eq!(outbound.drop_rule(rule.id), Ok(true))));
        let mut old: Vec<u32> = (0..CHANGES / 2).map(|_| any()).collect();
        old.sort_unstable();
        old.dedup();
        let others: Vec<Rule> =
            old.iter().map(|number| Rule { action: Action::Bypass, ..rule(set, *number) }).collect();
        replace.push(once(&others, |rule| assert_eq!(outbound.replace_rule(*rule), Ok(true))));
        outbound.set_rules(index).expect("room");
        drop.push(once(&old, |number| assert_eq!(outbound.drop_rule(RuleId(*number)), Ok(true))));
    }
    Change { add: median(add), replace: median(replace), drop: median(drop) }
}

/// Returns whether what there are goals for was met, and what a hit costs.
fn measure(set: &Policies, size: u32) -> (bool, f64) {
    let selector = to(AddrRange::ANY_V4);
    let last = Rule { priority: 9, selector, action: Action::Bypass, ..rule(set, size) };
    let rules: Vec<Rule> = (0..size).map(|number| rule(set, number)).chain([last]).collect();
    let count = rules.len();
    let nodes = Index::nodes(count);
    let build = || Index::build(rules.iter().copied(), vec![Slot::EMPTY; count], vec![Node::EMPTY; nodes]);
    let begun = Instant::now();
    let index: Built = build().expect("room");
    let built = begun.elapsed();
    let other = build().expect("room");
    let begun = Instant::now();
    assert_eq!(diff(index.view(), other.view()).count(), 0);
    let compared = begun.elapsed();

    let mut any = any_of(size);
    let packets: Vec<_> = (0..LOOKUPS).map(|_| (set.packet)(any())).collect();
    let strangers: Vec<_> = (0..LOOKUPS).map(|_| udp(1, 0x0800_0000 + any(), 2)).collect();
    let few: Vec<_> = packets.iter().take(KNOWN).collect();
    let known: Vec<_> = few.into_iter().cycle().take(LOOKUPS).copied().collect();

    let (mut hits, mut none): (_, [OutboundSlot<Nothing>; 0]) = (vec![Hits::NONE; count], []);
    let mut changes = [Changes::NONE; CHANGES as usize / 8];
    let mut plain = Outbound::new(Nothing, &mut hits, &mut none).changing(&mut changes);
    plain.set_rules(&index).expect("room");
    let hit = timed(&packets, |packet| {
        assert!(matches!(plain.classify(Tick::ZERO, packet), Ok(Verdict::Acquire(_))));
    });
    let miss = timed(&strangers, |packet| assert_eq!(plain.classify(Tick::ZERO, packet), Ok(Verdict::Clear)));
    // Behind all others, and about others.
    for number in 0..CHANGES {
        plain.add_rule(Rule { priority: 8, ..rule(set, size + 1 + number) }).expect("room");
    }
    let changed = timed(&packets, |packet| {
        assert!(matches!(plain.classify(Tick::ZERO, packet), Ok(Verdict::Acquire(_))));
    });
    let begun = Instant::now();
    plain.set_rules(&index).expect("room");
    let swapped = begun.elapsed();
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
    let Change { add, replace, drop } = change(set, size, &index);
    let octets = size_of::<Slot>() + size_of::<Node>() * nodes / count;
    let met = [hit, miss, changed].into_iter().all(|ns| ns <= GOAL_LOOKUP)
        && known <= GOAL_KNOWN
        && octets <= GOAL_OCTETS
        && [add, replace, drop].into_iter().all(|ns| ns <= GOAL_CHANGE);
    println!(
        "{size:>8} {octets:>7} {hit:>8.1} {miss:>8.1} {changed:>8.1} {known:>8.1} {:>8} {add:>8.0} {replace:>8.0} {drop:>8.0} \
         {:>9.3} {:>9.3} {:>9.3}   {}",
        shown(list),
        built.as_secs_f64() * 1e3,
        swapped.as_secs_f64() * 1e3,
        compared.as_secs_f64() * 1e3,
        judged(met)
    );
    (met, hit)
}

fn main() {
    let mut met = true;
    for set in &SETS {
        println!("{}: medians of stretches of {STRETCH}, ns", set.name);
        println!(
            "{:>8} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9}",
            "policies",
            "octets",
            "hit",
            "miss",
            "changed",
            "known",
            "list",
            "add",
            "replace",
            "drop",
            "built ms",
            "swapped",
            "diff ms"
        );
        let measured = SIZES.map(|size| (size, measure(set, size)));
        let [(few, (_, before)), .., (many, (_, after))] = measured;
        let (growth, limit) = (after / before, f64::from(many).ln() / f64::from(few).ln());
        println!(
            "growth of a hit from {few} to {many}: {growth:.1}, of log n: {limit:.1}   {}",
            judged(growth <= limit)
        );
        met &= growth <= limit && measured.iter().all(|(_, (met, _))| *met);
    }
    println!(
        "goals: hit, miss and changed <= {GOAL_LOOKUP}, known <= {GOAL_KNOWN}, add, replace and drop <= {GOAL_CHANGE}, octets <= \
         {GOAL_OCTETS}, growth <= that of log n"
    );
    let beside = size_of::<Hits>();
    println!(
        "hits beside it, for each engine that counts: {beside} octets; a policy of Linux: {LINUX}, {:.1} times as many as both",
        LINUX as f64 / (GOAL_OCTETS + beside) as f64
    );
    println!("a flow remembered: {} octets; eight changes: {} octets", size_of::<Remembered>(), size_of::<Changes>());
    println!("goals {}", if met { "met" } else { "missed" });
}
