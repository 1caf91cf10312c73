//! What a rule insists on: protection where it can be had, or nothing else (rows E1 and E2 of the requirements).

use crate::ends::{NOW, Out, POLICY, Ruled, Sa, a_to_b, inbound, ip, later_fragment, net, open, outbound, ports, seal};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{Outbound, OutboundSlot, Verdict};
use ipsec_core::error::Discard;
use ipsec_core::net::PortRange;
use ipsec_core::sa::{Lifetime, Limit};
use ipsec_core::spd::{Action, Changes, Direction, Hits, Level, PolicyId, Remembered, Rule, RuleId, Selector};

const USE: Action = Action::Protect { policy: POLICY, level: Level::Use };

fn a_and_b() -> Selector {
    Selector::between(net("10.1.0.0/16"), net("10.2.0.0/16"))
}

fn rule(id: u32, selector: Selector, action: Action) -> Rule {
    Rule { id: RuleId(id), priority: id, selector, action }
}

/// The other side sees itself at its own end.
fn seen_from_b(rule: Rule) -> Rule {
    let Selector { local, remote } = rule.selector;
    Rule { selector: Selector { local: remote, remote: local }, ..rule }
}

fn b_to_a() -> Vec<u8> {
    ip("10.2.0.9", "10.1.0.5", 17, &[0x42; 8])
}

#[test]
fn e1_with_level_use_packets_go_in_clear_until_there_is_an_sa_and_are_counted() {
    for remembers in [false, true] {
        let mut out = outbound(4);
        if remembers {
            out = out.remembering(vec![Remembered::NOTHING; 8].leak());
        }
        out.insert_rule(rule(1, a_and_b(), USE)).unwrap();
        let counted = |out: &Out| {
            let (_, hits) = out.rules().next().unwrap();
            (hits.outbound, hits.clear, hits.octets, out.passed_clear())
        };
        for _ in 0..2 {
            assert_eq!(out.judge(&a_to_b(8)), Ok(Verdict::ClearMeanwhile(POLICY)), "and an SA is wanted");
            assert_eq!(out.classify(NOW, &a_to_b(8)), Ok(Verdict::ClearMeanwhile(POLICY)));
        }
        assert_eq!(counted(&out), (2, 2, 56, 2));
        let hard = Limit { packets: Some(1), ..Limit::default() };
        let short = Sa { lifetime: Lifetime { hard, ..Lifetime::default() }, ..Sa::default() };
        let id = out.install(NOW, &short.outbound()).unwrap();
        for _ in 0..2 {
            assert_eq!(out.classify(NOW, &a_to_b(8)), Ok(Verdict::Protect(id)));
        }
        assert_eq!(counted(&out), (4, 2, 112, 2), "what is protected is not in clear");
        // Its last packet; then it is as good as gone, and removed it is gone.
        assert!(seal(&mut out, &a_to_b(8)).is_ok());
        assert_eq!(seal(&mut out, &a_to_b(8)), Err(Discard::OutExpired));
        assert_eq!(out.classify(NOW, &a_to_b(8)), Ok(Verdict::ClearMeanwhile(POLICY)));
        assert!(out.remove(id));
        assert_eq!(out.classify(NOW, &a_to_b(8)), Ok(Verdict::ClearMeanwhile(POLICY)));
        assert_eq!(out.classify_again(&a_to_b(8)), Ok(Verdict::ClearMeanwhile(POLICY)));
        assert_eq!(counted(&out).3, 4, "whoever waited is counted when it is classified");
    }
}

#[test]
fn e1_with_level_use_packets_come_in_clear_beside_sas_as_well() {
    let mut inn = inbound(2);
    inn.insert_rule(seen_from_b(rule(1, a_and_b(), USE))).unwrap();
    let mut out = outbound(2);
    out.insert_rule(rule(1, a_and_b(), USE)).unwrap();
    let ways = [Direction::In, Direction::Forward];
    assert!(ways.iter().all(|way| inn.check_clear(NOW, *way, &a_to_b(8)).is_ok()));
    // The peer has its SA later than we, and what it sent before is still under way.
    inn.install(NOW, &Sa::default().inbound()).unwrap();
    out.install(NOW, &Sa::default().outbound()).unwrap();
    let sealed = seal(&mut out, &a_to_b(8)).unwrap();
    assert_eq!(open(&mut inn, &sealed).as_deref(), Ok(&a_to_b(8)[..]));
    assert!(ways.iter().all(|way| inn.check_clear(NOW, *way, &a_to_b(8)).is_ok()));
    let (_, hits) = inn.rules().next().unwrap();
    assert_eq!((hits.inbound, hits.forward, hits.clear, hits.octets), (2, 2, 4, 4 * 28));
    assert_eq!(inn.passed_clear(), 4);
    assert_eq!(inn.check_clear(NOW, Direction::In, &b_to_a()), Err(Discard::InNoPolicy));
}

/// Two hosts that begin in clear, first have both `use`, and both `require` when nothing was in clear for a while: at no step
/// a packet is lost, either way, whoever is the first.
#[test]
fn e1_from_clear_over_use_to_require_no_packet_is_lost() {
    let selectors = [a_and_b(), seen_from_b(rule(1, a_and_b(), USE)).selector];
    let packets = [a_to_b(8), b_to_a()];
    let towards_a = Sa { spi: 0x2000, ..Sa::default() };
    for first in [0, 1] {
        let mut hosts = selectors.map(|selector| {
            let changes = vec![Changes::NONE; 1].leak();
            let mut host = (outbound(1).changing(&mut changes[..]), inbound(1));
            host.0.add_rule(rule(1, selector, Action::Bypass)).unwrap();
            host.1.insert_rule(rule(1, selector, Action::Bypass)).unwrap();
            host
        });
        let mut clear_before = 0;
        for step in ["clear", "use here", "use on both", "SAs", "require here", "require on both"] {
            for (host, (out, inn)) in hosts.iter_mut().enumerate() {
                let action = match step {
                    "use here" if host == first => USE,
                    "use on both" => USE,
                    "require here" if host == first => Action::protect(POLICY),
                    "require on both" => Action::protect(POLICY),
                    _ => continue,
                };
                assert_eq!(out.replace_rule(rule(1, selectors[host], action)), Ok(true));
                assert!(inn.remove_rule(RuleId(1)));
                inn.insert_rule(rule(1, selectors[host], action)).unwrap();
            }
            if step == "SAs" {
                let swapped =
                    Sa { site_a: towards_a.site_b.clone(), site_b: towards_a.site_a.clone(), ..towards_a.clone() };
                hosts[0].0.install(NOW, &Sa::default().outbound()).unwrap();
                hosts[1].1.install(NOW, &Sa::default().inbound()).unwrap();
                hosts[1].0.install(NOW, &swapped.outbound()).unwrap();
                hosts[0].1.install(NOW, &swapped.inbound()).unwrap();
            }
            for _ in 0..3 {
                for (from, to) in [(0, 1), (1, 0)] {
                    let verdict = hosts[from].0.classify(NOW, &packets[from]).unwrap();
                    match verdict {
                        Verdict::Clear | Verdict::ClearMeanwhile(_) => {
                            let passes = hosts[to].1.check_clear(NOW, Direction::In, &packets[from]);
                            assert!(passes.is_ok(), "{step}, {first} first: {passes:?}");
                        }
                        other => {
                            assert!(matches!(other, Verdict::Protect(_)), "{step}, {first} first: {other:?}");
                            let sealed = seal(&mut hosts[from].0, &packets[from]).unwrap();
                            let opened = open(&mut hosts[to].1, &sealed);
                            assert_eq!(opened.as_deref(), Ok(&packets[from][..]), "{step}, {first} first");
                        }
                    }
                }
            }
            // What says that it is time for the next step.
            let clear: u64 = hosts.iter().map(|(out, inn)| out.passed_clear() + inn.passed_clear()).sum();
            assert_eq!(clear > clear_before, step.starts_with("use"), "{step}, {first} first");
            clear_before = clear;
        }
        assert!(hosts[1].1.check_clear(NOW, Direction::In, &packets[0]).is_err(), "nothing is taken in clear any more");
    }
}

#[test]
fn f_09_a_fragment_passes_under_level_use_only_if_no_rule_before_insists() {
    let port = |port| a_and_b().protocol(17).remote_ports(PortRange::single(port));
    let other = PolicyId(9);
    let part = later_fragment(&a_to_b(64));
    for insists in [Action::protect(other), Action::Discard] {
        let (mut out, mut inn) = (outbound(1), inbound(1));
        for rule in [rule(1, port(5000), insists), rule(2, a_and_b(), USE)] {
            out.insert_rule(rule).unwrap();
            inn.insert_rule(seen_from_b(rule)).unwrap();
        }
        assert_eq!(out.classify(NOW, &part), Ok(Verdict::Acquire(POLICY)), "{insists:?}: protected, never in clear");
        assert_eq!(inn.check_clear(NOW, Direction::In, &part), Err(Discard::InClear), "{insists:?}");
        assert_eq!(out.classify(NOW, &a_to_b(64)), Ok(Verdict::ClearMeanwhile(POLICY)), "{insists:?}");
        let id = out.install(NOW, &Sa::default().outbound()).unwrap();
        assert_eq!(out.classify(NOW, &part), Ok(Verdict::Protect(id)));
        assert_eq!((out.passed_clear(), inn.passed_clear()), (1, 0));
    }
    // What may pass in clear itself keeps nobody from it.
    let mut out = outbound(1);
    for rule in [rule(1, port(5000), USE), rule(2, a_and_b(), Action::Bypass)] {
        out.insert_rule(rule).unwrap();
    }
    assert_eq!(out.classify(NOW, &part), Ok(Verdict::Clear));
}

#[test]
fn atk_59_no_rule_of_level_use_lets_pass_what_another_one_requires() {
    let port = a_and_b().protocol(17).remote_ports(PortRange::single(5000));
    let to_port = ip("10.1.0.5", "10.2.0.9", 17, &ports(1, 5000, 16));
    let (mut hits, mut sas) = ([Hits::NONE; 4], [OutboundSlot::<RustCrypto>::EMPTY]);
    let mut changes = [Changes::NONE];
    let mut out: Outbound<'_, _, crate::ends::Rules> =
        Outbound::new(RustCrypto, &mut hits, &mut sas).changing(&mut changes);
    let rules = [rule(1, port, Action::protect(PolicyId(9))), rule(2, a_and_b(), USE)];
    out.set_rules(crate::ends::index(&rules).unwrap()).unwrap();
    assert_eq!(out.classify(NOW, &to_port), Ok(Verdict::Acquire(PolicyId(9))));
    // The SA of the rule behind it, whose selectors would fit, is not used, nor is the level of that.
    out.install(NOW, &Sa::default().outbound()).unwrap();
    assert_eq!(out.classify(NOW, &to_port), Ok(Verdict::Acquire(PolicyId(9))));
    out.replace_rule(Rule { priority: 0, ..rules[1] }).unwrap();
    assert!(matches!(out.classify(NOW, &to_port), Ok(Verdict::Protect(_))), "by then it stands in front of it");
}

#[test]
fn b9_priorities_of_setkey_are_priorities_of_rules() {
    // `prio def + n` as the kernel is told it.
    let priority = |n: i64| u32::try_from((1 << 31) - n).unwrap();
    let any = a_and_b();
    let ssh = any.protocol(6);
    let port = PortRange::single(22);
    let rules = [
        Rule { priority: priority(0), ..rule(1, any, Action::protect(POLICY)) },
        Rule { priority: priority(100), ..rule(2, ssh.remote_ports(port), Action::Bypass) },
        Rule { priority: priority(100), ..rule(3, ssh.local_ports(port), Action::Bypass) },
        Rule { priority: priority(-100), ..rule(4, any, Action::Discard) },
        // The ends of what can be said.
        Rule { priority: priority(1 << 31), ..rule(5, ssh.remote_ports(PortRange::single(6000)), Action::Discard) },
        Rule { priority: priority(1 - (1 << 31)), ..rule(6, any, Action::Discard) },
    ];
    let mut out = outbound(1);
    for rule in rules {
        out.insert_rule(rule).unwrap();
    }
    assert!(out.rules().map(|(rule, _)| rule.id.0).eq([5, 2, 3, 1, 4, 6]));
    let tcp = |from, to| ip("10.1.0.5", "10.2.0.9", 6, &ports(from, to, 16));
    assert_eq!(out.classify(NOW, &tcp(40_000, 22)), Ok(Verdict::Clear));
    assert_eq!(out.classify(NOW, &tcp(22, 40_000)), Ok(Verdict::Clear));
    assert_eq!(out.classify(NOW, &tcp(40_000, 23)), Ok(Verdict::Acquire(POLICY)), "telnet is encrypted");
    assert_eq!(out.classify(NOW, &tcp(22, 6000)), Err(Discard::OutBlocked));
}
