//! The index of rules beside the list that it replaced.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::ends::{
    Engine, NOW, POLICY, Rng, Ruled, Rules as Owned, Sa, a_to_b, index, ip, net, open, outbound, seal, tunnel,
};
use crate::list::{Kind, List};
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::error::{Discard, Refused};
use ipsec_core::flow::{Flow, Ports};
use ipsec_core::net::{AddrRange, TrafficSelector};
use ipsec_core::sa::{Lifetime, Limit};
use ipsec_core::spd::{
    Action, Decision, Direction, Hits, Index, Node, PolicyId, Remembered, Rule, RuleId, Rules, Selector, Slot,
    Undecided,
};

const WAYS: [Direction; 3] = [Direction::Out, Direction::In, Direction::Forward];

#[test]
fn the_index_decides_as_the_list_does() {
    // Dense, where nearly everything overlaps, to sparse, where nearly nothing does.
    let kinds = [(4, 3, false), (40, 10, true), (1000, 300, false), (100_000, 65_536, true)];
    let mut decided = [0; 4];
    for seed in 0..400 {
        let mut rng = Rng(seed);
        let (hosts, ports, v6) = kinds[rng.below(4) as usize];
        let kind = Kind { hosts, ports, v6 };
        let count = [1, 8, 9, 30, 200, 700][rng.below(6) as usize];
        let rules: Vec<Rule> = (0..count).map(|id| kind.rule(&mut rng, id)).collect();
        let list = List::new(&rules);
        // Any number of nodes: too few are no fault, only slow.
        let nodes = [Index::nodes(count as usize), rng.below(20) as usize, 0][rng.below(3) as usize];
        let index = Index::build(rules, vec![Slot::EMPTY; count as usize], vec![Node::EMPTY; nodes]).unwrap();
        assert!(index.view().iter().eq(&list.0), "seed {seed}: the order");
        for _ in 0..400 {
            let flow = kind.flow(&mut rng);
            for way in WAYS {
                let expected = list.decide(way, &flow);
                assert_eq!(index.view().decide(way, &flow), expected, "seed {seed}: {way:?} {flow:?}");
                decided[match expected {
                    Ok(Decision { rank: 0..10, .. }) => 0,
                    Ok(_) => 1,
                    Err(Undecided::NoRule) => 2,
                    Err(Undecided::Fragment) => 3,
                }] += 1;
            }
        }
    }
    assert!(decided.iter().all(|count| *count > 5000), "{decided:?}: some answer is hardly ever asked for");
}

#[test]
fn at_its_edges_a_range_fits_as_the_list_says() {
    // Every range of a few neighbours, asked for every number around them: one off would be seen.
    let at = |host: u32| IpAddr::from(Ipv4Addr::from_bits(host));
    let ranges: Vec<(u32, u32)> = (0..12).flat_map(|start| (start..12).map(move |end| (start, end))).collect();
    let rules: Vec<Rule> = (0..)
        .zip(&ranges)
        .map(|(id, (start, end))| {
            let remote = AddrRange::new(at(*start), at(*end)).unwrap();
            let selector = Selector::between(AddrRange::ANY_V4, remote);
            Rule { id: RuleId(id), priority: 100 - (end - start), selector, action: Action::Bypass }
        })
        .collect();
    let (list, index) = (List::new(&rules), index(&rules).unwrap());
    for host in (0..14).chain([u32::MAX]) {
        let ports = Ports::Pair { source: 1, destination: 2 };
        let flow = Flow { source: at(7), destination: at(host), protocol: 6, ports, len: 20 };
        assert_eq!(index.view().decide(Direction::Out, &flow), list.decide(Direction::Out, &flow), "{host}");
    }
}

#[test]
fn an_engine_that_remembers_flows_says_what_one_that_does_not_says() {
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let kind = Kind { hosts: 30, ports: 5, v6: false };
        let hits = || vec![Hits::NONE; 400].leak();
        let slots = || (0..8).map(|_| OutboundSlot::<RustCrypto>::EMPTY).collect::<Vec<_>>().leak();
        let mut plain: Outbound<'_, _, Owned> = Outbound::new(RustCrypto, hits(), slots());
        // So few places that flows push each other out.
        let flows = vec![Remembered::NOTHING; 1 + rng.below(40) as usize].leak();
        let mut quick: Outbound<'_, _, Owned> = Outbound::new(RustCrypto, hits(), slots()).remembering(flows);
        let mut sas = Vec::new();
        for step in 0..1500 {
            match rng.below(100) {
                0 => {
                    let rules: Vec<Rule> = (0..rng.below(400) as u32).map(|id| kind.rule(&mut rng, id)).collect();
                    plain.put(index(&rules).unwrap()).unwrap();
                    quick.put(index(&rules).unwrap()).unwrap();
                }
                1..4 if sas.len() < 8 => {
                    let sa = Sa {
                        policy: PolicyId(rng.below(5) as u32),
                        site_a: vec![TrafficSelector::addrs(kind.addrs(&mut rng))],
                        site_b: vec![TrafficSelector::addrs(kind.addrs(&mut rng))],
                        ..Sa::default()
                    };
                    let ids = [&mut plain, &mut quick].map(|out| out.install(NOW, &sa.outbound()).unwrap());
                    assert_eq!(ids[0], ids[1]);
                    sas.push(ids[0]);
                }
                4..6 if !sas.is_empty() => {
                    let id = sas.swap_remove(rng.below(sas.len() as u64) as usize);
                    assert!(plain.remove(id) && quick.remove(id));
                }
                _ => {}
            }
            let (source, destination) = (kind.addr(&mut rng).to_string(), kind.addr(&mut rng).to_string());
            let (one, other) = (rng.below(5) as u16, rng.below(5) as u16);
            let protocol = [1, 6, 17][rng.below(3) as usize];
            let mut packet = ip(&source, &destination, protocol, &crate::ends::ports(one, other, 4));
            if rng.below(8) == 0 {
                packet = crate::ends::later_fragment(&packet);
            }
            let judged = plain.judge(&packet);
            assert_eq!(quick.classify(NOW, &packet), judged, "seed {seed}, step {step}");
            assert_eq!(quick.classify(NOW, &packet), judged, "seed {seed}, step {step}: asked again");
            for _ in 0..2 {
                assert_eq!(plain.classify(NOW, &packet), judged, "seed {seed}, step {step}");
            }
        }
        assert!(plain.rules().eq(quick.rules()), "seed {seed}: counted the same");
        assert_eq!(plain.counters(), quick.counters(), "seed {seed}");
    }
}

#[test]
fn a_remembered_flow_goes_through_the_newest_sa_at_once() {
    let slots = (0..3).map(|_| OutboundSlot::<RustCrypto>::EMPTY).collect::<Vec<_>>().leak();
    let flows = vec![Remembered::NOTHING].leak();
    let mut out: Outbound<'_, _, Owned> = Outbound::new(RustCrypto, &mut [], slots).remembering(flows);
    out.set_rules(hosts(2000, Action::protect(POLICY))).unwrap();
    let inner = a_to_b(8);
    let asked = |out: &mut Outbound<'_, _, Owned>| [out.classify(NOW, &inner), out.classify(NOW, &inner)];
    assert_eq!(asked(&mut out), [Ok(Verdict::Acquire(POLICY)); 2]);
    let first = out.install(NOW, &Sa::default().outbound()).unwrap();
    assert_eq!(asked(&mut out), [Ok(Verdict::Protect(first)); 2]);
    // One that ends with its first packet.
    let hard = Limit { packets: Some(1), ..Limit::default() };
    let short = Sa { lifetime: Lifetime { hard, ..Lifetime::default() }, ..Sa::default() };
    let newest = out.install(NOW, &short.outbound()).unwrap();
    assert_eq!(asked(&mut out), [Ok(Verdict::Protect(newest)); 2]);
    for ended in [false, true] {
        let mut bytes = [0; 200];
        let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
        assert_eq!(out.seal(NOW, newest, &mut packet).is_err(), ended);
    }
    assert_eq!(asked(&mut out), [Ok(Verdict::Protect(first)); 2], "dead, and not removed yet");
    assert!(out.remove(newest) && out.remove(first));
    assert_eq!(asked(&mut out), [Ok(Verdict::Acquire(POLICY)); 2]);
}

#[test]
fn what_was_decided_about_a_flow_is_said_of_no_other_way_family_or_engine() {
    // By their numbers, addresses of both families are the same.
    let networks = [("10.1.0.0/16", "10.1.0.5", "10.2.0.9"), ("::a01:0/112", "::a01:5", "::a02:9")];
    let packets = networks.map(|(_, from, to)| ip(from, to, 17, &crate::ends::ports(1, 2, 4)));
    let rules = |network: usize| {
        let any = [AddrRange::ANY_V4, AddrRange::ANY_V6][network];
        let selector = Selector::between(net(networks[network].0), any);
        index(&[Rule { id: RuleId(1), priority: 1, selector, action: Action::Bypass }]).unwrap()
    };
    // Both engines have the same memory, one after the other.
    let (mut flows, mut slots, mut windows) = ([Remembered::NOTHING; 1], [InboundSlot::<RustCrypto>::EMPTY], [0]);
    for of in [0, 1] {
        let mut inn = Inbound::<RustCrypto, Owned>::new(RustCrypto, &mut [], &mut slots, &mut windows);
        inn.set_rules(rules(of)).unwrap();
        let mut inn = inn.remembering(&mut flows);
        let (ours, other) = (of, 1 - of);
        let [out, into, forward] = WAYS;
        for (way, asked) in [(out, other), (out, ours), (into, ours), (out, ours), (forward, ours), (out, ours)]
            .into_iter()
            .chain([(out, other), (into, other), (out, ours)])
        {
            let passes = inn.check_clear(NOW, way, &packets[asked]).map(drop);
            let expected = if asked == ours && way == out { Ok(()) } else { Err(Discard::InNoPolicy) };
            assert_eq!(passes, expected, "rules {of}, packet {asked}, {way:?}");
        }
    }
    let (mut none, mut sas) = ([Hits::NONE; 0], [OutboundSlot::<RustCrypto>::EMPTY]);
    let mut out: Outbound<'_, _, Owned> = Outbound::new(RustCrypto, &mut none, &mut sas);
    out.set_rules(index(&[]).unwrap()).unwrap();
    let mut out = out.remembering(&mut flows);
    assert_eq!(out.classify(NOW, &packets[1]), Err(Discard::OutNoPolicy));
}

#[test]
fn an_index_needs_room_and_numbers_of_its_own() {
    let rule = |id| Rule {
        id: RuleId(id),
        priority: 1,
        selector: Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4),
        action: Action::Bypass,
    };
    let build = |rules: &[Rule], room| Index::build(rules.iter().copied(), vec![Slot::EMPTY; room], [Node::EMPTY; 0]);
    assert_eq!(build(&[rule(1), rule(2)], 1).unwrap_err(), Refused::Full);
    assert_eq!(build(&[rule(2), rule(1), rule(2)], 9).unwrap_err(), Refused::Duplicate);
    let built = build(&[rule(2), rule(1)], 9).unwrap();
    assert_eq!((built.view().len(), built.view().is_empty()), (2, false));
    assert!(built.view().iter().map(|rule| rule.id.0).eq([2, 1]), "one priority: first come, first");
    assert_eq!(built.into_memory().0.len(), 9);
    assert!(build(&[], 0).unwrap().view().is_empty());
}

#[test]
fn memory_of_a_rule_is_what_the_documentation_says() {
    assert_eq!((size_of::<Slot>(), size_of::<Node>()), (104, 64));
    assert_eq!(align_of::<Node>(), 64);
    for rules in [9, 100, 100_000] {
        assert!(rules * size_of::<Slot>() + Index::nodes(rules) * size_of::<Node>() <= 128 * rules);
    }
}

/// A rule for each host, all of one action.
fn hosts(count: u32, action: Action) -> Owned {
    let rules: Vec<Rule> = (0..count)
        .map(|host| {
            let remote = AddrRange::single(Ipv4Addr::from_bits(0x0a02_0000 + host).into());
            let selector = Selector::between(AddrRange::ANY_V4, remote);
            Rule { id: RuleId(host), priority: 1, selector, action }
        })
        .collect();
    index(&rules).unwrap()
}

#[test]
fn engines_in_several_threads_share_one_index() {
    let shared = hosts(1000, Action::protect(POLICY));
    let packet = |host: u32| ip("10.1.0.5", &Ipv4Addr::from_bits(0x0a02_0000 + host).to_string(), 17, &[0; 8]);
    thread::scope(|scope| {
        for worker in 0..2 {
            let (shared, packet) = (&shared, &packet);
            scope.spawn(move || {
                let (mut hits, mut sas) = (vec![Hits::NONE; 1000], [OutboundSlot::<RustCrypto>::EMPTY]);
                let mut out = Outbound::new(RustCrypto, &mut hits, &mut sas);
                out.set_rules(shared).unwrap();
                // Each has SAs of its own: one of them has one.
                let id = (worker == 0).then(|| out.install(NOW, &Sa::default().outbound()).unwrap());
                let expected = id.map_or(Verdict::Acquire(POLICY), Verdict::Protect);
                for round in 0..20 {
                    for host in 0..1000 {
                        assert_eq!(out.classify(NOW, &packet(host)), Ok(expected), "{worker}, {round}, {host}");
                    }
                    assert_eq!(out.classify(NOW, &packet(1000)), Err(Discard::OutNoPolicy));
                }
                assert!(out.rules().all(|(_, hits)| hits.outbound == 20), "what one counts is its own");
            });
        }
    });
}

#[test]
fn no_packet_meets_half_a_set_of_rules() {
    // All hosts are protected, or all are discarded. Rules are changed under way, by another thread; an engine takes them
    // as a whole.
    let engine = std::sync::Mutex::new({
        let hits = vec![Hits::NONE; 500].leak();
        let sas = Box::leak(Box::new([OutboundSlot::<RustCrypto>::EMPTY]));
        let mut out: Outbound<'_, _, Owned> = Outbound::new(RustCrypto, hits, sas);
        out.set_rules(hosts(500, Action::Discard)).unwrap();
        out.install(NOW, &Sa::default().outbound()).unwrap();
        out
    });
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for action in [Action::protect(POLICY), Action::Discard].into_iter().cycle() {
                let built = hosts(500, action); // beside the one in use
                let before = engine.lock().unwrap().set_rules(built).unwrap();
                assert_eq!(before.unwrap().view().len(), 500);
                if over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let mut met = [0_u64; 2];
        while met.iter().any(|count| *count < 1000) {
            for host in (0..500).step_by(7) {
                let packet = ip("10.1.0.5", &Ipv4Addr::from_bits(0x0a02_0000 + host).to_string(), 17, &[0; 8]);
                match engine.lock().unwrap().classify(NOW, &packet) {
                    Ok(Verdict::Protect(_)) => met[0] += 1,
                    Err(Discard::OutBlocked) => met[1] += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(engine.lock().unwrap().sas().count(), 1, "SAs stay");
}

#[test]
fn hits_are_of_the_rules_in_force() {
    let mut out = outbound(1);
    for action in [Action::protect(POLICY), Action::Bypass] {
        out.set_rules(hosts(10, action)).unwrap();
        assert!(out.rules().all(|(_, hits)| hits == Hits::NONE), "{action:?}");
        assert!(out.classify(NOW, &ip("10.1.0.5", "10.2.0.9", 17, &[0; 8])).is_ok());
        assert!(out.rules().map(|(_, hits)| hits.outbound).eq([0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
    }
}

#[test]
fn an_engine_without_room_for_hits_counts_nothing_and_takes_any_rules() {
    let (_, mut inn) = tunnel(&Sa::default());
    let mut sas = [OutboundSlot::<RustCrypto>::EMPTY];
    let mut out: Outbound<'_, _, Owned> = Outbound::new(RustCrypto, &mut [], &mut sas);
    out.set_rules(hosts(5000, Action::Bypass)).unwrap();
    assert_eq!(out.classify(NOW, &a_to_b(8)), Ok(Verdict::Clear));
    assert!(out.rules().all(|(_, hits)| hits == Hits::NONE));
    assert_eq!(inn.set_rules(hosts(17, Action::Bypass)).unwrap_err(), Refused::Full, "there is room for 16");
    assert_eq!(inn.rules().count(), 2);
    let mut sender = outbound(1);
    sender.insert_rule(Rule { action: Action::protect(POLICY), ..*out.rules().nth(9).unwrap().0 }).unwrap();
    sender.install(NOW, &Sa::default().outbound()).unwrap();
    assert!(open(&mut inn, &seal(&mut sender, &a_to_b(8)).unwrap()).is_ok());
    let old: Option<Owned> = inn.clear_rules();
    assert_eq!((old.unwrap().view().len(), inn.rules().count()), (2, 0));
    let _: &Inbound<'_, Engine, Owned> = &inn;
}
