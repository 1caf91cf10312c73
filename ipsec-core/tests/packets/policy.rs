//! Which packets leave how: rules, SAs by policy, and that nothing leaves in clear by mistake.

use crate::ends::{
    NOW, Out, POLICY, Ruled, Sa, a_to_b, addr, inbound, ip, later_fragment, net, open, outbound, ports, reversed, seal,
    site_a, site_b, tunnel,
};
use std::time::Duration;

use ipsec_core::buf::PacketBuf;
use ipsec_core::engine::Verdict;
use ipsec_core::error::{Discard, Refused};
use ipsec_core::net::{AddrRange, Encap, Path, PortRange, TrafficSelector};
use ipsec_core::sa::{Event, Lifetime, Limit};
use ipsec_core::spd::{Action, Direction, PolicyId, Rule, RuleId, Selector};

const ANY: Selector = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);

fn rule(id: u32, priority: u32, selector: Selector, action: Action) -> Rule {
    Rule { id: RuleId(id), priority, selector, action }
}

fn tcp(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Vec<u8> {
    ip(source, destination, 6, &ports(source_port, destination_port, 16))
}

fn icmp(source: &str, destination: &str, kind: u8, code: u8) -> Vec<u8> {
    ip(source, destination, 1, &[kind, code, 0, 0, 0, 0, 0, 0])
}

#[test]
fn without_a_matching_rule_every_packet_is_discarded() {
    let (mut out, mut inn) = (outbound(1), inbound(1));
    assert_eq!(out.classify(NOW, &a_to_b(8)), Err(Discard::OutNoPolicy));
    assert_eq!(inn.check_clear(NOW, Direction::In, &a_to_b(8)), Err(Discard::InNoPolicy));
    out.insert_rule(rule(1, 1, ANY, Action::Bypass)).unwrap();
    assert_eq!(out.classify(NOW, &ip("fd01::5", "fd02::9", 17, &ports(1, 2, 0))), Err(Discard::OutNoPolicy));
}

#[test]
fn ssh_bypasses_and_the_rest_is_protected_by_priority() {
    let (mut out, mut inn) = (outbound(1), inbound(1));
    let rules = [
        rule(1, 1000, ANY, Action::protect(POLICY)),
        rule(2, 900, ANY.protocol(6).remote_ports(PortRange::single(22)), Action::Bypass),
        rule(3, 900, ANY.protocol(6).local_ports(PortRange::single(22)), Action::Bypass),
        rule(4, 2000, ANY, Action::Discard), // never reached
        rule(5, 10, ANY.protocol(6).remote_ports(PortRange { start: 6000, end: 6999 }), Action::Discard),
    ];
    for rule in rules {
        out.insert_rule(rule).unwrap();
        inn.insert_rule(rule).unwrap();
    }
    let order: Vec<u32> = out.rules().map(|(rule, _)| rule.id.0).collect();
    assert_eq!(order, [5, 2, 3, 1, 4]);

    let (us, them) = ("10.1.0.5", "10.2.0.9");
    let protect = Ok(Verdict::Acquire(POLICY));
    assert_eq!(out.classify(NOW, &tcp(us, 40_000, them, 22)), Ok(Verdict::Clear));
    assert_eq!(out.classify(NOW, &tcp(us, 22, them, 40_000)), Ok(Verdict::Clear));
    assert_eq!(out.classify(NOW, &tcp(us, 40_000, them, 23)), protect);
    assert_eq!(out.classify(NOW, &tcp(us, 40_000, them, 21)), protect);
    assert_eq!(out.classify(NOW, &ip(us, them, 17, &ports(1, 22, 0))), protect, "UDP port 22 is not SSH");
    assert_eq!(out.classify(NOW, &tcp(us, 22, them, 6000)), Err(Discard::OutBlocked));
    assert_eq!(out.classify(NOW, &tcp(us, 22, them, 6999)), Err(Discard::OutBlocked));
    assert_eq!(out.classify(NOW, &tcp(us, 40_000, them, 7000)), protect);

    assert!(inn.check_clear(NOW, Direction::In, &tcp(them, 22, us, 40_000)).is_ok());
    assert!(inn.check_clear(NOW, Direction::Forward, &tcp(them, 40_000, us, 22)).is_ok());
    assert_eq!(inn.check_clear(NOW, Direction::In, &tcp(them, 40_000, us, 23)), Err(Discard::InClear));
    assert_eq!(inn.check_clear(NOW, Direction::In, &tcp(them, 6000, us, 22)), Err(Discard::InBlocked));

    let hits = |engine: &Out, id| engine.rules().find(|(rule, _)| rule.id == RuleId(id)).unwrap().1;
    assert_eq!([hits(&out, 2).outbound, hits(&out, 3).outbound, hits(&out, 5).outbound], [1, 1, 2]);
    let (_, ssh) = inn.rules().find(|(rule, _)| rule.id == RuleId(2)).unwrap();
    assert_eq!((ssh.outbound, ssh.inbound, ssh.forward), (0, 1, 0));
    let (_, ssh) = inn.rules().find(|(rule, _)| rule.id == RuleId(3)).unwrap();
    assert_eq!((ssh.inbound, ssh.forward), (0, 1));
}

#[test]
fn f_83_a_rule_knows_when_it_was_met_last() {
    let us_and_them = Selector::between(net("10.1.0.0/16"), net("10.2.0.0/16"));
    let rules = [(1, 100, us_and_them.protocol(6), Action::Discard), (2, 200, us_and_them, Action::Bypass)];
    let (mut out, mut inn) = (outbound(1), inbound(1));
    for (id, priority, selector, action) in rules {
        let rule = Rule { id: RuleId(id), priority, selector, action };
        out.insert_rule(rule).unwrap();
        inn.insert_rule(rule).unwrap();
    }
    let last = |engine: &Out| engine.rules().map(|(_, hits)| hits.last).collect::<Vec<_>>();
    assert_eq!(last(&out), [None, None]);
    let after = |seconds| NOW + Duration::from_secs(seconds);
    assert_eq!(out.classify(after(1), &a_to_b(8)), Ok(Verdict::Clear));
    let blocked = ip("10.1.0.5", "10.2.0.9", 6, &ports(1, 2, 16));
    assert_eq!(out.classify(after(2), &blocked), Err(Discard::OutBlocked));
    assert_eq!(out.classify(after(3), &a_to_b(8)), Ok(Verdict::Clear));
    assert_eq!(last(&out), [Some(after(2)), Some(after(3))], "what discarded is known as well");
    let back = ip("10.2.0.9", "10.1.0.5", 6, &ports(2, 1, 16));
    assert_eq!(inn.check_clear(after(4), Direction::Forward, &back), Err(Discard::InBlocked));
    assert_eq!(inn.rules().map(|(_, hits)| hits.last).collect::<Vec<_>>(), [Some(after(4)), None]);
    out.clear_rules();
    assert_eq!(out.classify(after(5), &a_to_b(8)), Err(Discard::OutNoPolicy));
    assert_eq!(out.rules().count(), 0);
}

#[test]
fn f_08_what_a_policy_before_the_child_discards_comes_out_of_no_tunnel_either() {
    let sa = Sa::default();
    let (mut out, mut inn) = tunnel(&sa);
    let mut arrives = |inn: &mut _| open(inn, &seal(&mut out, &a_to_b(8)).unwrap());
    let from_a = Selector::between(net("10.2.0.0/16"), net("10.1.0.0/16"));
    inn.insert_rule(rule(8, 2000, from_a, Action::Discard)).unwrap();
    assert!(arrives(&mut inn).is_ok(), "behind the child's own rule it says nothing");
    inn.insert_rule(rule(9, 50, from_a.protocol(6), Action::Discard)).unwrap();
    assert!(arrives(&mut inn).is_ok(), "it is of another protocol");
    inn.insert_rule(rule(10, 50, from_a, Action::Discard)).unwrap();
    assert_eq!(arrives(&mut inn), Err(Discard::InBlocked));
    assert!(inn.remove_rule(RuleId(10)));
    assert!(arrives(&mut inn).is_ok());
}

#[test]
fn e5_one_rule_is_three_entries() {
    let selector = Selector::between(net("10.1.0.0/16"), net("10.2.0.0/16")).protocol(6);
    let [out, inn, fwd] = rule(1, 7, selector, Action::protect(POLICY)).entries();
    assert_eq!((out.direction, inn.direction, fwd.direction), (Direction::Out, Direction::In, Direction::Forward));
    assert_eq!((out.source, out.destination), (selector.local, selector.remote));
    assert_eq!((inn.source, inn.destination), (selector.remote, selector.local));
    assert_eq!((fwd.source, fwd.destination), (selector.remote, selector.local));
    assert!([out, inn, fwd].iter().all(|entry| entry.priority == 7 && entry.action == Action::protect(POLICY)));
}

#[test]
fn icmp_types_are_selected_by_who_sends_them() {
    let echo = PortRange { start: 0x0800, end: 0x08ff };
    let reply = PortRange { start: 0x0000, end: 0x00ff };
    let (mut out, mut inn) = (outbound(1), inbound(1));
    // We may ping them; they may not ping us.
    for engine_rule in [
        rule(1, 1, ANY.protocol(1).local_ports(echo).remote_ports(reply), Action::Bypass),
        rule(2, 2, ANY, Action::Discard),
    ] {
        out.insert_rule(engine_rule).unwrap();
        inn.insert_rule(engine_rule).unwrap();
    }
    let (us, them) = ("10.1.0.5", "10.2.0.9");
    assert_eq!(out.classify(NOW, &icmp(us, them, 8, 0)), Ok(Verdict::Clear));
    assert_eq!(out.classify(NOW, &icmp(us, them, 0, 0)), Err(Discard::OutBlocked));
    assert!(inn.check_clear(NOW, Direction::In, &icmp(them, us, 0, 0)).is_ok());
    assert_eq!(inn.check_clear(NOW, Direction::In, &icmp(them, us, 8, 0)), Err(Discard::InBlocked));
    assert_eq!(inn.check_clear(NOW, Direction::In, &icmp(them, us, 3, 4)), Err(Discard::InBlocked));
}

#[test]
fn rules_come_and_go_while_packets_flow() {
    let mut out = outbound(1);
    let packet = tcp("10.1.0.5", 40_000, "10.2.0.9", 80);
    for id in 0..16 {
        out.insert_rule(rule(id, 100 - id, ANY, Action::Discard)).unwrap();
    }
    assert_eq!(out.insert_rule(rule(99, 1, ANY, Action::Bypass)), Err(Refused::Full));
    assert_eq!((out.rules().count(), out.room_for_rules()), (16, 16), "what was refused changed nothing");
    assert_eq!(out.insert_rule(rule(3, 1, ANY, Action::Bypass)), Err(Refused::Duplicate));
    assert_eq!(out.classify(NOW, &packet), Err(Discard::OutBlocked));
    assert!(out.remove_rule(RuleId(3)));
    assert!(!out.remove_rule(RuleId(3)));
    out.insert_rule(rule(3, 1, ANY, Action::Bypass)).unwrap();
    assert_eq!(out.classify(NOW, &packet), Ok(Verdict::Clear));
    for id in 0..16 {
        assert!(out.remove_rule(RuleId(id)), "{id}");
    }
    assert_eq!(out.rules().count(), 0);
    assert_eq!(out.classify(NOW, &packet), Err(Discard::OutNoPolicy));
}

#[test]
fn the_newest_sa_whose_selectors_fit_is_used() {
    let mut out = outbound(4);
    let selector = Selector::between(net("10.1.0.0/16"), net("10.2.0.0/16"));
    out.insert_rule(rule(1, 1, selector, Action::protect(POLICY))).unwrap();
    let wide = Sa { spi: 0x1001, ..Sa::default() };
    let host = |address: &str| vec![TrafficSelector::addrs(AddrRange::single(addr(address)))];
    let narrow = Sa { spi: 0x1002, site_b: host("10.2.0.9"), ..Sa::default() };
    let other_policy = Sa { spi: 0x1003, policy: PolicyId(8), ..Sa::default() };

    let to = |host: &str| ip("10.1.0.5", host, 17, &ports(1, 2, 0));
    assert_eq!(out.classify(NOW, &to("10.2.0.9")), Ok(Verdict::Acquire(POLICY)));
    out.install(NOW, &other_policy.outbound()).unwrap();
    assert_eq!(out.classify(NOW, &to("10.2.0.9")), Ok(Verdict::Acquire(POLICY)));
    let narrow_id = out.install(NOW, &narrow.outbound()).unwrap();
    assert_eq!(out.classify(NOW, &to("10.2.0.9")), Ok(Verdict::Protect(narrow_id)));
    assert_eq!(out.classify(NOW, &to("10.2.0.8")), Ok(Verdict::Acquire(POLICY)), "not what was negotiated");
    let wide_id = out.install(NOW, &wide.outbound()).unwrap();
    assert_eq!(out.classify(NOW, &to("10.2.0.9")), Ok(Verdict::Protect(wide_id)), "newest first");
    let newest_id = out.install(NOW, &Sa { spi: 0x1004, ..narrow }.outbound()).unwrap();
    assert_eq!(out.classify(NOW, &to("10.2.0.9")), Ok(Verdict::Protect(newest_id)));
    assert_eq!(out.classify(NOW, &to("10.2.0.8")), Ok(Verdict::Protect(wide_id)));

    // Remove from the middle, then the newest, then the last.
    assert!(out.remove(wide_id));
    assert_eq!(out.classify(NOW, &to("10.2.0.8")), Ok(Verdict::Acquire(POLICY)));
    assert!(out.remove(newest_id));
    assert_eq!(out.classify(NOW, &to("10.2.0.9")), Ok(Verdict::Protect(narrow_id)));
    assert!(out.remove(narrow_id));
    assert_eq!(out.classify(NOW, &to("10.2.0.9")), Ok(Verdict::Acquire(POLICY)));
    assert!(!out.remove(narrow_id));
}

#[test]
fn a_rule_that_comes_after_its_sas_finds_them() {
    let mut out = outbound(2);
    let first = out.install(NOW, &Sa::default().outbound()).unwrap();
    let second = out.install(NOW, &Sa::default().outbound()).unwrap();
    out.insert_rule(rule(1, 1, ANY, Action::protect(POLICY))).unwrap();
    assert_eq!(out.classify(NOW, &a_to_b(8)), Ok(Verdict::Protect(second)));
    out.remove_rule(RuleId(1));
    out.remove(second);
    out.insert_rule(rule(2, 1, ANY, Action::protect(POLICY))).unwrap();
    assert_eq!(out.classify(NOW, &a_to_b(8)), Ok(Verdict::Protect(first)));
}

#[test]
fn ids_of_removed_sas_are_never_valid_again() {
    let (mut out, mut inn) = tunnel(&Sa::default());
    let (out_id, in_id) = (out.sas().next().unwrap().id, inn.sas().next().unwrap().id);
    assert!(out.remove(out_id) && inn.remove(in_id));
    let again =
        (out.install(NOW, &Sa::default().outbound()).unwrap(), inn.install(NOW, &Sa::default().inbound()).unwrap());
    assert_ne!(again, (out_id, in_id));
    let mut bytes = [0; 200];
    let mut packet = PacketBuf::with_payload(&mut bytes, &a_to_b(8)).unwrap();
    assert_eq!(out.seal(NOW, out_id, &mut packet).unwrap_err(), Discard::OutNoSa);
    assert!(out.sa(out_id).is_none() && inn.sa(in_id).is_none());
    assert!(!out.set_path(out_id, crate::ends::path(), Encap::None));
}

#[test]
fn atk_59_nothing_that_must_be_protected_leaves_in_clear() {
    let lifetime = Lifetime { hard: Limit { packets: Some(3), ..Limit::default() }, ..Lifetime::default() };
    // What stands behind the rules that protect would let everything pass, or nothing.
    for behind in [Action::Bypass, Action::Discard] {
        let (mut out, _) = tunnel(&Sa { lifetime, ..Sa::default() });
        out.insert_rule(rule(50, 500, ANY, behind)).unwrap();
        let inner = a_to_b(64);
        // An SA that ends under traffic, is replaced, is removed: after every step, no clear packet.
        for step in 0..10 {
            match step {
                5 => _ = out.install(NOW, &Sa { spi: 0x2222, ..Sa::default() }.outbound()).unwrap(),
                7 => {
                    for status in out.sas().collect::<Vec<_>>() {
                        out.remove(status.id);
                    }
                }
                _ => {}
            }
            match out.classify(NOW, &inner) {
                Ok(Verdict::Protect(sa)) => {
                    let mut bytes = [0; 300];
                    let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
                    match out.seal(NOW, sa, &mut packet) {
                        Ok(_) => assert!(!packet.as_slice().windows(16).any(|part| part == [0x42; 16]), "step {step}"),
                        Err(discard) => assert_eq!(discard, Discard::OutExpired),
                    }
                }
                other => assert_eq!(other, Ok(Verdict::Acquire(POLICY)), "step {step}"),
            }
        }
        // Only when the rules are gone does what stands behind them decide.
        assert!(out.remove_rule(RuleId(0)) && out.remove_rule(RuleId(1)));
        let expected = if behind == Action::Bypass { Ok(Verdict::Clear) } else { Err(Discard::OutBlocked) };
        assert_eq!(out.classify(NOW, &inner), expected);
    }
}

#[test]
fn dscp_and_ecn_are_copied_out_and_dscp_may_be_hidden() {
    let sa = Sa::default();
    for copy_dscp in [true, false] {
        let (mut out, _) = tunnel(&sa);
        let id = out.install(NOW, &ipsec_core::sa::OutboundParams { copy_dscp, ..sa.outbound() }).unwrap();
        for traffic_class in 0..=255u8 {
            for inner in [
                crate::ends::ip_marked("10.1.0.5", "10.2.0.9", 17, traffic_class, &ports(1, 2, 0)),
                crate::ends::ip_marked("fd01::5", "fd02::9", 17, traffic_class, &ports(1, 2, 0)),
            ] {
                let mut bytes = [0; 200];
                let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
                let egress = out.seal(NOW, id, &mut packet).unwrap();
                let expected = if copy_dscp { traffic_class } else { traffic_class & 3 };
                assert_eq!(egress.traffic_class, expected);
            }
        }
    }
}

#[test]
fn inbound_spis_that_we_chose_carry_their_slot_and_others_still_work() {
    let mut inn = inbound(5); // not a power of two: slots 0–4 of 8
    let mut reserved = Vec::new();
    for random in [0xdead_0007u32, 0x0000_0000, 0xffff_ffff, 0x1234_5678, 0x0bad_cafe] {
        let spi = inn.reserve_spi(random).unwrap();
        assert!((spi.get() & 7) < 5, "{spi:?}");
        assert!(random < 256 || spi.get() >> 8 == random >> 8, "the rest is random");
        reserved.push(spi);
    }
    assert_eq!(inn.reserve_spi(1), Err(Refused::Full));
    assert!(reserved.iter().all(|spi| !inn.has(*spi)), "none has an SA");
    let mut slots: Vec<u32> = reserved.iter().map(|spi| spi.get() & 7).collect();
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2, 3, 4]);

    let foreign = Sa { spi: 0x5000_0001, ..Sa::default() };
    assert_eq!(inn.install(NOW, &foreign.inbound()).unwrap_err(), Refused::Full, "all slots are spoken for");
    inn.release_spi(reserved[1]);
    inn.install(NOW, &foreign.inbound()).unwrap();
    for spi in [reserved[0], reserved[2], reserved[3], reserved[4]] {
        inn.install(NOW, &Sa { spi: spi.get(), ..Sa::default() }.inbound()).unwrap();
    }
    for status in inn.sas().collect::<Vec<_>>() {
        let sa = Sa { spi: status.spi.get(), ..Sa::default() };
        let mut out = outbound(1);
        out.insert_rule(rule(1, 1, ANY, Action::protect(POLICY))).unwrap();
        out.install(NOW, &sa.outbound()).unwrap();
        assert!(open(&mut inn, &seal(&mut out, &a_to_b(8)).unwrap()).is_ok(), "{status:?}");
    }
    assert!(inn.sas().all(|sa| sa.packets == 1));
}

#[test]
fn a_peer_behind_a_new_mapping_is_reported_once_and_only_by_authentic_new_packets() {
    let (mut out, mut inn) = tunnel(&Sa::default());
    let home = reversed(crate::ends::path());
    let mut moved = home;
    moved.remote = "198.51.100.7:31337".parse().unwrap();
    let packets: Vec<_> = (0..6).map(|_| seal(&mut out, &a_to_b(8)).unwrap()).collect();
    let arrive = |inn: &mut crate::ends::In, from, esp: &[u8]| {
        let mut bytes = esp.to_vec();
        let mut packet = PacketBuf::new(&mut bytes, 0, esp.len()).unwrap();
        inn.open(NOW, from, ipsec_core::ecn::Ecn::NotEct, &mut packet).map(|_| ())
    };
    arrive(&mut inn, home, &packets[0]).unwrap();
    assert!(matches!(inn.poll_event(), Some(Event::FirstPacket { .. })));
    assert_eq!(inn.poll_event(), None);

    arrive(&mut inn, moved, &packets[0]).unwrap_err(); // a replay from elsewhere
    let mut forged = packets[1].clone();
    forged[20] ^= 1;
    arrive(&mut inn, moved, &forged).unwrap_err();
    assert_eq!(inn.poll_event(), None);

    arrive(&mut inn, home, &packets[2]).unwrap();
    arrive(&mut inn, moved, &packets[1]).unwrap(); // authentic, but old: may have been held back
    assert_eq!(inn.poll_event(), None);
    arrive(&mut inn, moved, &packets[3]).unwrap();
    arrive(&mut inn, moved, &packets[4]).unwrap();
    assert!(matches!(inn.poll_event(), Some(Event::PathChanged { path, .. }) if path == moved));
    assert_eq!(inn.poll_event(), None);
    let id = inn.sas().next().unwrap().id;
    assert_eq!(inn.sa(id).unwrap().path, home, "only the caller decides");
    assert!(inn.set_path(id, moved, moved.encap()));
    arrive(&mut inn, moved, &packets[5]).unwrap();
    assert_eq!(inn.poll_event(), None);
    assert_eq!(inn.sa(id).unwrap().path, moved);
}

#[test]
fn a_peer_that_comes_back_and_leaves_again_is_reported_again() {
    let (mut out, mut inn) = tunnel(&Sa::default());
    let home = reversed(crate::ends::path());
    let mut moved = home;
    moved.remote = "198.51.100.7:31337".parse().unwrap();
    let mut told = Vec::new();
    let further = Path { remote: "198.51.100.8:4500".parse().unwrap(), ..home };
    for from in [home, moved, home, moved, further] {
        let mut bytes = seal(&mut out, &a_to_b(8)).unwrap();
        let len = bytes.len();
        let mut packet = PacketBuf::new(&mut bytes, 0, len).unwrap();
        inn.open(NOW, from, ipsec_core::ecn::Ecn::NotEct, &mut packet).unwrap();
        told.push(std::iter::from_fn(|| inn.poll_event()).filter(|e| matches!(e, Event::PathChanged { .. })).count());
    }
    assert_eq!(told, [0, 1, 0, 1, 1]);
}

#[test]
fn an_sa_that_moves_takes_its_packets_along_in_the_new_encapsulation() {
    let (mut out, _) = tunnel(&Sa { encap: Encap::None, ..Sa::default() });
    let id = out.sas().next().unwrap().id;
    let path = Path { remote: "198.51.100.7:31337".parse().unwrap(), ..crate::ends::path() };
    assert!(out.set_path(id, path, Encap::Udp));
    let mut bytes = [0; 200];
    let mut packet = PacketBuf::with_payload(&mut bytes, &a_to_b(8)).unwrap();
    let egress = out.seal(NOW, id, &mut packet).unwrap();
    assert_eq!((egress.path, egress.encap), (path, Encap::Udp));
}

#[test]
fn an_sa_over_protocol_50_has_no_ports_whatever_path_it_was_given() {
    let (mut out, mut inn) = tunnel(&Sa { encap: Encap::None, ..Sa::default() });
    let (there, back) = (crate::ends::path(), reversed(crate::ends::path()));
    let (out_id, in_id) = (out.sas().next().unwrap().id, inn.sas().next().unwrap().id);
    for moved in [false, true] {
        if moved {
            assert!(out.set_path(out_id, there, Encap::None) && inn.set_path(in_id, back, Encap::None));
        }
        let paths = (out.sa(out_id).unwrap().path, inn.sa(in_id).unwrap().path);
        assert_eq!(paths, (there.carried(Encap::None), back.carried(Encap::None)));
        let mut bytes = seal(&mut out, &a_to_b(8)).unwrap();
        let len = bytes.len();
        let mut packet = PacketBuf::new(&mut bytes, 0, len).unwrap();
        inn.open(NOW, back.carried(Encap::None), ipsec_core::ecn::Ecn::NotEct, &mut packet).unwrap();
        let moves = std::iter::from_fn(|| inn.poll_event()).filter(|event| matches!(event, Event::PathChanged { .. }));
        assert_eq!(moves.count(), 0, "it came where it was expected");
    }
}

#[test]
fn a_peer_that_encapsulates_all_at_once_is_followed_and_reported_once() {
    // It may, whatever was found of NATs (RFC 7296 §2.23).
    let (mut out, mut inn) = tunnel(&Sa { encap: Encap::None, ..Sa::default() });
    let id = inn.sas().next().unwrap().id;
    let from = reversed(crate::ends::path());
    for moves in [1, 0, 0] {
        let mut bytes = seal(&mut out, &a_to_b(8)).unwrap();
        let len = bytes.len();
        let mut packet = PacketBuf::new(&mut bytes, 0, len).unwrap();
        inn.open(NOW, from, ipsec_core::ecn::Ecn::NotEct, &mut packet).unwrap();
        let mut told = 0;
        while let Some(event) = inn.poll_event() {
            if let Event::PathChanged { path, .. } = event {
                assert!(inn.set_path(id, path, path.encap()));
                told += 1;
            }
        }
        assert_eq!(told, moves);
    }
    let status = inn.sa(id).unwrap();
    assert_eq!((status.path, status.encap), (from, Encap::Udp));
}

#[test]
fn an_spi_stays_reserved_until_its_sa_is_there_or_it_is_given_back() {
    let mut inn = inbound(2);
    // Both ask for slot 0.
    let [first, second] = [0x1000, 0x2000].map(|random| inn.reserve_spi(random).unwrap());
    let short = Sa { spi: second.get(), keymat: vec![7; 4], ..Sa::default() };
    assert_eq!(inn.install(NOW, &short.inbound()).unwrap_err(), Refused::KeyLength);
    assert_eq!(inn.reserve_spi(0x3000), Err(Refused::Full), "what was refused changed nothing");
    inn.release_spi(second);
    let again = inn.reserve_spi(0x3000).unwrap();
    assert_eq!((first.get() & 1, again.get() & 1), (0, 1));
    for spi in [first, again] {
        inn.install(NOW, &Sa { spi: spi.get(), ..Sa::default() }.inbound()).unwrap();
        assert!(inn.has(spi));
    }
}

#[test]
fn an_spi_that_another_slot_holds_is_not_given_out() {
    let mut inn = inbound(4);
    let install = |inn: &mut crate::ends::In, spi| inn.install(NOW, &Sa { spi, ..Sa::default() }.inbound()).unwrap();
    // Two that the peer's side chose and that both belong into slot 1; the second one finds it taken.
    let first = install(&mut inn, 0x1000_0001);
    install(&mut inn, 0x2000_0001);
    assert!(inn.remove(first));
    let spi = inn.reserve_spi(0x2000_0001).unwrap();
    assert_ne!(spi.get(), 0x2000_0001);
}

#[test]
fn selectors_of_an_sa_can_be_shown() {
    let (out, inn) = tunnel(&Sa::default());
    let (out_id, in_id) = (out.sas().next().unwrap().id, inn.sas().next().unwrap().id);
    assert_eq!(out.selectors(out_id).unwrap(), (&site_a()[..], &site_b()[..]));
    assert_eq!(inn.selectors(in_id).unwrap(), (&site_b()[..], &site_a()[..]));
}

/// Protects a UDP port of the other side in both families, lets everything else pass.
fn one_port_protected() -> [Rule; 4] {
    const ANY_V6: Selector = Selector::between(AddrRange::ANY_V6, AddrRange::ANY_V6);
    let port = |any: Selector| any.protocol(17).remote_ports(PortRange::single(5000));
    [
        rule(1, 1000, port(ANY), Action::protect(POLICY)),
        rule(2, 1000, port(ANY_V6), Action::protect(POLICY)),
        rule(3, 2000, ANY, Action::Bypass),
        rule(4, 2000, ANY_V6, Action::Bypass),
    ]
}

#[test]
fn f_09_a_fragment_that_may_belong_to_a_protected_flow_does_not_pass_in_clear() {
    let (mut out, mut inn) = (outbound(1), inbound(1));
    for rule in one_port_protected() {
        out.insert_rule(rule).unwrap();
        inn.insert_rule(rule).unwrap();
    }
    for (us, them) in [("10.1.0.5", "10.2.0.9"), ("fd01::5", "fd02::9")] {
        let outbound = ip(us, them, 17, &ports(4000, 5000, 64));
        let inbound = ip(them, us, 17, &ports(5000, 4000, 64));
        assert_eq!(out.classify(NOW, &outbound), Ok(Verdict::Acquire(POLICY)));
        assert_eq!(out.classify(NOW, &later_fragment(&outbound)), Err(Discard::OutFragment));
        for way in [Direction::In, Direction::Forward] {
            assert_eq!(inn.check_clear(NOW, way, &later_fragment(&inbound)), Err(Discard::InFragment));
        }
        // What cannot be of that flow passes: another protocol, other ports, no fragment.
        for pass in [later_fragment(&ip(us, them, 6, &[0x42; 64])), ip(us, them, 17, &ports(4000, 5001, 8))] {
            assert_eq!(out.classify(NOW, &pass), Ok(Verdict::Clear));
        }
        // A first fragment that ends before its ports tells no more than a later one (RFC 1858).
        assert_eq!(out.classify(NOW, &ip(us, them, 17, &[0x13, 0x88, 0x13])), Err(Discard::OutFragment));
    }
    assert!(out.rules().all(|(rule, hits)| hits.outbound == if rule.action == Action::Bypass { 2 } else { 1 }));
}

#[test]
fn f_09_a_fragment_behind_which_the_protocol_hides_does_not_pass_in_clear() {
    let (mut out, mut inn) = (outbound(1), inbound(1));
    for rule in one_port_protected() {
        out.insert_rule(rule).unwrap();
        inn.insert_rule(rule).unwrap();
    }
    // Destination options (60) stand in front of UDP, and both lie in the first fragment.
    let hidden = later_fragment(&ip("fd01::5", "fd02::9", 60, &[0x42; 64]));
    assert_eq!(out.classify(NOW, &hidden), Err(Discard::OutFragment));
    let hidden = later_fragment(&ip("fd02::9", "fd01::5", 60, &[0x42; 64]));
    assert_eq!(inn.check_clear(NOW, Direction::In, &hidden), Err(Discard::InFragment));
}

#[test]
fn f_09_a_fragment_passes_in_clear_when_one_of_its_ends_has_nothing_to_protect() {
    let mut out = outbound(1);
    let protected = Selector::between(net("10.1.0.0/16"), net("10.2.0.0/16"));
    let protected = protected.protocol(17).remote_ports(PortRange::single(5000));
    out.insert_rule(rule(1, 1, protected, Action::protect(POLICY))).unwrap();
    out.insert_rule(rule(2, 2, ANY, Action::Bypass)).unwrap();
    let from_to = |from: &str, to: &str| later_fragment(&ip(from, to, 17, &[0x42; 64]));
    assert_eq!(out.classify(NOW, &from_to("10.1.0.5", "10.2.0.9")), Err(Discard::OutFragment));
    assert_eq!(out.classify(NOW, &from_to("10.1.0.5", "10.3.0.9")), Ok(Verdict::Clear));
    assert_eq!(out.classify(NOW, &from_to("10.3.0.5", "10.2.0.9")), Ok(Verdict::Clear));
}

#[test]
fn f_09_the_header_in_front_of_a_hidden_protocol_is_not_taken_for_it() {
    const ANY_V6: Selector = Selector::between(AddrRange::ANY_V6, AddrRange::ANY_V6);
    let options = |side: TrafficSelector| TrafficSelector { protocol: 60, ..side };
    let hidden = later_fragment(&ip("fd01::5", "fd02::9", 60, &[0x42; 64]));
    // The protocol is named on one side, or on the other.
    for selector in
        [Selector { local: options(ANY_V6.local), ..ANY_V6 }, Selector { remote: options(ANY_V6.remote), ..ANY_V6 }]
    {
        let mut out = outbound(1);
        out.insert_rule(rule(1, 1, selector, Action::Bypass)).unwrap();
        assert_eq!(out.classify(NOW, &hidden), Err(Discard::OutNoPolicy));
    }
}

#[test]
fn f_09_a_fragment_is_protected_by_what_protects_everything() {
    let mut out = outbound(1);
    let other = PolicyId(9);
    out.insert_rule(rule(1, 1, ANY.protocol(17).remote_ports(PortRange::single(5000)), Action::Bypass)).unwrap();
    out.insert_rule(rule(2, 2, ANY.protocol(17).remote_ports(PortRange::single(5001)), Action::protect(other)))
        .unwrap();
    out.insert_rule(rule(3, 3, ANY, Action::protect(POLICY))).unwrap();
    assert_eq!(out.classify(NOW, &later_fragment(&a_to_b(64))), Ok(Verdict::Acquire(POLICY)));
}
