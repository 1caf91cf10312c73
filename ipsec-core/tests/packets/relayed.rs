//! ICMP errors through an SA, from routers that no selector has (requirement B10; RFC 4301 §6.2).

use crate::ends::{
    NOW, Out, POLICY, Ruled, Sa, inbound, index, ip, later_fragment, net, open, outbound, ports, seal, site_a, site_b,
    tunnel,
};
use ipsec_core::engine::Verdict;
use ipsec_core::error::Discard;
use ipsec_core::net::{AddrRange, PortRange, TrafficSelector};
use ipsec_core::sa::{Lifetime, Limit};
use ipsec_core::spd::{Action, Level, PolicyId, Rule, RuleId, Selector};

/// "Time exceeded" of a router to somebody, about a packet, of which a router of IPv4 may quote no more than this.
fn error(router: &str, to: &str, about: &[u8]) -> Vec<u8> {
    let (protocol, kind, quoted) = if about[0] >> 4 == 4 { (1, 11, 28) } else { (58, 3, 1232) };
    let quoted = &about[..about.len().min(quoted)];
    ip(router, to, protocol, &[&[kind, 0, 0, 0, 0, 0, 0, 0], quoted].concat())
}

/// What site A sent to site B, and ran out of hops there. Beside it a router and the sender.
fn probes() -> [(Vec<u8>, &'static str, &'static str); 3] {
    let udp = ports(5000, 33_435, 60);
    [
        (ip("10.1.0.5", "10.2.0.9", 17, &udp), "198.51.100.1", "10.1.0.5"),
        (ip("10.1.0.5", "10.2.0.9", 1, &[8, 0, 0, 0, 0, 1, 0, 1, 7]), "198.51.100.1", "10.1.0.5"),
        (ip("fd01::5", "fd02::9", 17, &udp), "2001:db8::1", "fd01::5"),
    ]
}

/// An SA from site B, whose routers answer, to site A.
fn back() -> Sa {
    Sa { site_a: site_b(), site_b: site_a(), ..Sa::default() }
}

#[test]
fn b10_a_router_at_the_other_site_is_heard_through_the_tunnel() {
    let (mut out, mut inn) = tunnel(&back());
    for (probe, router, sender) in probes() {
        let message = error(router, sender, &probe);
        let sealed = seal(&mut out, &message).unwrap();
        assert_eq!(open(&mut inn, &sealed), Ok(message));
    }
    // For everybody else it is as before.
    let (probe, router, sender) = &probes()[0];
    assert_eq!(out.classify(NOW, &ip(router, sender, 17, &ports(1, 2, 9))), Err(Discard::OutNoPolicy));
    assert_eq!(out.classify(NOW, &error("10.2.0.9", sender, probe)).unwrap().sa(), out.sas().next().map(|sa| sa.id));
}

#[test]
fn a_quote_that_is_made_up_opens_nothing() {
    let (probe, router, sender) = &probes()[0];
    let forged = [
        ("to somebody else than the sender of what is quoted", error(router, "10.1.0.6", probe)),
        ("about what went to elsewhere", error(router, sender, &ip("10.1.0.5", "10.3.0.9", 17, &ports(1, 2, 9)))),
        ("about what came from elsewhere", error(router, "10.3.0.5", &ip("10.3.0.5", "10.2.0.9", 17, &ports(1, 2, 9)))),
        ("about what went the other way", error(router, "10.2.0.9", &ip("10.2.0.9", "10.1.0.5", 17, &ports(1, 2, 9)))),
        ("about the other family", error(router, sender, &ip("fd01::5", "fd02::9", 17, &ports(1, 2, 9)))),
        ("about nothing", ip(router, sender, 1, &[11, 0, 0, 0, 0, 0, 0, 0])),
        ("no error", ip(router, sender, 1, &[&[0, 0, 0, 0, 0, 0, 0, 0], &probe[..28]].concat())),
        ("a redirect", ip(router, sender, 1, &[&[5, 1, 0, 0, 10, 2, 0, 1], &probe[..28]].concat())),
        ("the rest of an error", later_fragment(&error(router, sender, probe))),
    ];
    for (what, message) in forged {
        let (mut out, mut inn) = tunnel(&back());
        assert_eq!(out.classify(NOW, &message), Err(Discard::OutNoPolicy), "{what}");
        assert_eq!(out.judge(&message), Err(Discard::OutNoPolicy), "{what}");
        // A peer that sends it all the same.
        let pad = &[1, 2, 3, 4][..(4 - (message.len() + 2) % 4) % 4];
        let payload = [&message[..], pad, &[pad.len() as u8, 4]].concat();
        assert_eq!(open(&mut inn, &back().esp(1, &payload)), Err(Discard::InSelectors), "{what}");
    }
}

#[test]
fn what_is_quoted_has_to_fit_protocol_and_ports_as_well() {
    let only = |site: &str, port| TrafficSelector { addrs: net(site), protocol: 17, ports: PortRange::single(port) };
    // Site A asks the name servers of site B.
    let sa = Sa { site_a: vec![only("10.2.0.0/16", 53)], site_b: vec![only("10.1.0.0/16", 5000)], ..Sa::default() };
    let about = |source, destination| {
        error("198.51.100.1", "10.1.0.5", &ip("10.1.0.5", "10.2.0.9", 17, &ports(source, destination, 9)))
    };
    let (mut out, mut inn) = tunnel(&sa);
    let sealed = seal(&mut out, &about(5000, 53)).unwrap();
    assert_eq!(open(&mut inn, &sealed), Ok(about(5000, 53)));
    for other in [about(53, 5000), about(5000, 54), about(5001, 53)] {
        assert_eq!(out.classify(NOW, &other), Err(Discard::OutNoPolicy));
    }
}

#[test]
fn an_sa_can_be_told_not_to_relay_and_rules_that_discard_are_kept() {
    let (probe, router, sender) = &probes()[0];
    let message = error(router, sender, probe);
    let sealed = seal(&mut tunnel(&back()).0, &message).unwrap();

    let (mut out, mut inn) = tunnel(&back());
    let (out_sa, in_sa) = (out.sas().next().unwrap().id, inn.sas().next().unwrap().id);
    assert!(out.relay_icmp_errors(out_sa, false) && inn.relay_icmp_errors(in_sa, false));
    assert_eq!(out.classify(NOW, &message), Err(Discard::OutNoPolicy));
    assert_eq!(open(&mut inn, &sealed), Err(Discard::InSelectors));
    assert!(out.relay_icmp_errors(out_sa, true));
    assert_eq!(out.classify(NOW, &message), Ok(Verdict::Protect(out_sa)));

    let discard = |local, remote| {
        let selector = Selector { local: TrafficSelector::addrs(local), remote: TrafficSelector::addrs(remote) };
        Rule { id: RuleId(99), priority: 9, selector, action: Action::Discard }
    };
    let (mut out, mut inn) = tunnel(&back());
    out.insert_rule(discard(net("198.51.100.0/24"), AddrRange::ANY_V4)).unwrap();
    inn.insert_rule(discard(AddrRange::ANY_V4, net("198.51.100.0/24"))).unwrap();
    assert_eq!(out.classify(NOW, &message), Err(Discard::OutBlocked));
    assert_eq!(open(&mut inn, &sealed), Err(Discard::InBlocked));
    assert!(!out.relay_icmp_errors(in_sa, true) || out.sa(in_sa).is_some());
}

#[test]
fn an_error_asks_for_no_sa_and_goes_by_a_narrow_one_where_its_own_would_be_wide() {
    let (probe, router, sender) = &probes()[0];
    let message = error(router, sender, probe);
    // All is to be protected that goes to site A; the SA that there is was narrowed to the two sites.
    let everything = |out: &mut Out| {
        let selector = Selector::between(AddrRange::ANY_V4, net("10.1.0.0/16"));
        out.put(index(&[Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(POLICY) }]).unwrap())
            .unwrap();
    };
    let mut out = outbound(4);
    everything(&mut out);
    assert_eq!(out.classify(NOW, &message), Ok(Verdict::Acquire(POLICY)), "as any other packet");
    let id = out.install(NOW, &back().outbound()).unwrap();
    assert_eq!(out.classify(NOW, &message), Ok(Verdict::Protect(id)));
    assert_eq!(out.classify_again(&message), Ok(Verdict::Protect(id)));
    assert_eq!(out.classify(NOW, &ip(router, sender, 17, &ports(1, 2, 9))), Ok(Verdict::Acquire(POLICY)));
    let elsewhere = error(router, sender, &ip("10.1.0.5", "10.3.0.9", 17, &ports(1, 2, 9)));
    assert_eq!(out.classify(NOW, &elsewhere), Ok(Verdict::Acquire(POLICY)), "about what the SA does not carry");
    assert!(out.remove(id));

    // Without a rule for it, and without an SA for what it is about, nobody is asked for one.
    let (mut out, _) = tunnel(&back());
    let only = out.sas().next().unwrap().id;
    assert!(out.remove(only));
    assert_eq!(out.classify(NOW, &message), Err(Discard::OutNoPolicy));
    let mut inn = inbound(1);
    assert!(!inn.relay_icmp_errors(only, true), "no such SA");
}

#[test]
fn an_sa_that_is_over_relays_nothing() {
    let (probe, router, sender) = &probes()[0];
    let hard = Limit { packets: Some(1), ..Limit::default() };
    let (mut out, _) = tunnel(&Sa { lifetime: Lifetime { hard, ..Lifetime::default() }, ..back() });
    let message = error(router, sender, probe);
    assert!(seal(&mut out, &message).is_ok());
    assert_eq!(seal(&mut out, &message), Err(Discard::OutExpired));
    assert_eq!(out.classify(NOW, &message), Err(Discard::OutNoPolicy));
}

#[test]
fn an_error_about_what_came_protected_never_leaves_in_clear() {
    let rest = |action| {
        [AddrRange::ANY_V4, AddrRange::ANY_V6].map(|addrs| {
            let id = RuleId(if addrs == AddrRange::ANY_V4 { 50 } else { 51 });
            Rule { id, priority: 1000, selector: Selector::between(addrs, addrs), action }
        })
    };
    for action in [Action::Bypass, Action::Protect { policy: PolicyId(99), level: Level::Use }] {
        for (probe, router, sender) in probes() {
            let (mut out, _) = tunnel(&back());
            rest(action).into_iter().for_each(|rule| out.insert_rule(rule).unwrap());
            let (sa, message) = (out.sas().next().unwrap().id, error(router, sender, &probe));
            assert_eq!(out.classify(NOW, &message), Ok(Verdict::Protect(sa)), "{action:?}");
            assert_eq!(out.judge(&message), Ok(Verdict::Protect(sa)));
            // Nor where the SA does not take it, or is gone.
            assert!(out.relay_icmp_errors(sa, false));
            assert_eq!(out.classify(NOW, &message), Err(Discard::OutNoSa), "{action:?}");
            assert!(out.remove(sa));
            assert_eq!(out.classify(NOW, &message), Err(Discard::OutNoSa), "{action:?}");
            assert_eq!(out.counters().get(Discard::OutNoSa), 2);
            assert_eq!(out.passed_clear(), 0, "{action:?}");
        }
        // About what came in clear it goes as it did.
        let (mut out, _) = tunnel(&back());
        rest(action).into_iter().for_each(|rule| out.insert_rule(rule).unwrap());
        let about = ip("10.3.0.5", "10.2.0.9", 17, &ports(5000, 33_435, 60));
        let verdict = out.classify(NOW, &error("198.51.100.1", "10.3.0.5", &about)).unwrap();
        assert!(matches!(verdict, Verdict::Clear | Verdict::ClearMeanwhile(_)), "{verdict:?}");
    }
    // So it may be about what a rule would have protected, had there been an SA.
    let mut out = outbound(1);
    let [rule, _] = rest(Action::Protect { policy: POLICY, level: Level::Use });
    out.insert_rule(rule).unwrap();
    let (probe, router, sender) = &probes()[0];
    assert_eq!(out.classify(NOW, &error(router, sender, probe)), Ok(Verdict::ClearMeanwhile(POLICY)));
}
