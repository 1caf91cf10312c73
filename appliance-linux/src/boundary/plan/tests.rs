use gateway_core::config::Config;

use super::super::routes::Route;
use super::*;

fn config(children: &[(&str, &str)], policies: &str) -> Config {
    let mut text = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                    psk = \"a key of more than twenty characters\"\n"
        .to_owned();
    for (number, (local, remote)) in children.iter().enumerate() {
        text += &format!("[[peer.child]]\nname = \"n{number}\"\nlocal-ts = [{local}]\nremote-ts = [{remote}]\n");
    }
    Config::parse(&(text + policies)).unwrap_or_else(|errors| panic!("{errors:?}")).0
}

fn made(children: &[(&str, &str)], policies: &str, seen: &Seen) -> Plan {
    plan(&Intent::of(&config(children, policies)), seen)
}

#[test]
fn what_has_manual_keys_is_led_and_guarded_as_what_a_child_has() {
    let sa = |direction: &str, spi: u32, key: &str| {
        format!(
            "[[sa]]\ndirection = \"{direction}\"\nspi = {spi}\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
             suite = \"aes128gcm16\"\nkey = \"0x00{}\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = [\"10.1.0.0/16\", \
             \"10.2.7.0/24\"]\n",
            key.repeat(19)
        )
    };
    let manual = Config::parse(&(sa("out", 300, "01") + &sa("in", 301, "02"))).unwrap().0;
    let child = config(&[("\"10.2.0.0/16\"", "\"10.1.0.0/16\", \"10.2.7.0/24\"")], "");
    let ours = seen(&["192.0.2.2", "10.2.0.1"], &["10.1.9.0/24"]);
    let [manual, child] = [&manual, &child].map(|config| plan(&Intent::of(config), &ours));
    assert!(manual == child && manual.captured.len() == 2 && manual.guard.contains("10.1.0.0"), "{}", manual.guard);
}

#[test]
fn a_plan_is_made_anew_when_what_is_wanted_or_seen_is_another_and_not_before() {
    let of = |net| Arc::new(Intent::of(&config(&[("\"10.0.0.0/16\"", net)], "")));
    let (one, other, same) = (of("\"10.1.0.0/16\""), of("\"10.2.0.0/16\""), of("\"10.1.0.0/16\""));
    let (here, there) = (seen(&["10.0.0.1"], &[]), seen(&["10.0.0.2"], &[]));
    let mut planned = Planned::default();
    let first = planned.of(&one, &here);
    assert_eq!(*first, plan(&one, &here));
    assert!(Arc::ptr_eq(&first, &planned.of(&same, &here)));
    for (intent, seen) in [(&other, &here), (&other, &there), (&one, &there), (&one, &here)] {
        assert_eq!(*planned.of(intent, seen), plan(intent, seen));
    }
}

fn seen(ours: &[&str], attached: &[&str]) -> Seen {
    let net = |text: &&str| {
        let (addr, prefix) = text.split_once('/').unwrap();
        Net::new(addr.parse().unwrap(), prefix.parse().unwrap()).unwrap()
    };
    Seen {
        ours: ours.iter().map(|addr| addr.parse().unwrap()).collect(),
        facing: Vec::new(),
        outside: Outside::default(),
        attached: attached.iter().map(|text| (net(text), BTreeSet::from(["lan2".to_owned()]))).collect(),
        v6: true,
        device: Some("pcl0".to_owned()),
        sockets: true,
    }
}

fn shown(plan: &Plan) -> Vec<String> {
    let line = |((table, net, target), source): (&Route, &Option<IpAddr>)| {
        let from = source.map_or_else(String::new, |source| format!(" from {source}"));
        format!("{table} {net} {target:?}{from}")
    };
    plan.routes.iter().map(line).collect()
}

#[test]
fn atk_59_every_route_to_the_tunnel_has_an_unreachable_one_behind_it() {
    let ours = seen(&["127.0.0.1", "192.0.2.2", "10.2.0.1"], &[]);
    assert_eq!(
        shown(&made(&[("\"10.2.0.0/16\"", "\"10.1.0.0/16\", \"10.3.0.0/16\"")], "", &ours)),
        [
            "4500 10.1.0.0/16 Tun from 10.2.0.1",
            "4500 10.1.0.0/16 Unreachable",
            "4500 10.3.0.0/16 Tun from 10.2.0.1",
            "4500 10.3.0.0/16 Unreachable",
        ]
    );
}

#[test]
fn a_remote_network_that_covers_ours_leaves_ours_reachable() {
    let plan = made(&[("\"10.2.0.0/16\"", "\"10.0.0.0/8\"")], "", &seen(&[], &[]));
    assert_eq!(shown(&plan), ["4500 10.0.0.0/8 Tun", "4500 10.0.0.0/8 Unreachable", "4500 10.2.0.0/16 Throw"]);
}

#[test]
fn what_is_never_captured_is_so_when_it_is_named_and_everything_else_is_the_rest() {
    let of = |remote: &str| shown(&made(&[("\"10.2.0.0/16\"", remote)], "", &seen(&[], &[])));
    let (link, rest) = ("169.254.0.0/16", TABLE_OF_THE_REST);
    let all = of("\"0.0.0.0/0\"");
    assert!(all.contains(&format!("{rest} 0.0.0.0/0 Tun")) && !all.contains(&format!("{TABLE} 0.0.0.0/0 Tun")));
    assert!(all.contains(&format!("{rest} {link} Throw")), "{all:?}");
    let named = of(&format!("\"0.0.0.0/0\", \"{link}\""));
    assert!(named.contains(&format!("{TABLE} {link} Tun")), "{named:?}");
    assert!(!named.iter().any(|route| route.ends_with(&format!("{link} Throw"))), "{named:?}");
}

#[test]
fn two_children_to_one_network_share_a_route() {
    let children = [("\"10.2.0.0/24\"", "\"10.1.0.0/16\""), ("\"10.4.0.0/24\"", "\"10.1.0.0/16\"")];
    let plan = made(&children, "", &seen(&["10.4.0.1"], &[]));
    assert_eq!(shown(&plan), ["4500 10.1.0.0/16 Tun from 10.4.0.1", "4500 10.1.0.0/16 Unreachable"]);
}

#[test]
fn f_13_everything_to_everything_is_left_to_the_operators_routes_and_named() {
    let everything = config(&[("\"0.0.0.0/0\"", "\"0.0.0.0/0\""), ("\"10.2.0.0/16\"", "\"10.1.0.0/16\"")], "");
    let intent = Intent::of(&everything);
    assert_eq!(shown(&plan(&intent, &seen(&[], &[]))), ["4500 10.1.0.0/16 Tun", "4500 10.1.0.0/16 Unreachable"]);
    assert_eq!(intent.left_to_routes, ["a/n0"]);
}

#[test]
fn f_13_attached_networks_inside_all_stay_reachable_but_not_inside_a_network_that_is_named() {
    let attached = seen(&[], &["10.7.0.0/16", "10.1.5.0/24", "192.0.2.0/24", "10.1.0.0/16"]);
    let all = made(&[("\"10.2.0.0/16\"", "\"0.0.0.0/0\"")], "", &attached);
    let throws = |plan: &Plan| shown(plan).into_iter().filter(|line| line.contains("Throw")).collect::<Vec<_>>();
    for net in ["10.1.5.0/24", "10.7.0.0/16", "192.0.2.0/24", "10.2.0.0/16", "224.0.0.0/4"] {
        assert!(throws(&all).contains(&format!("4501 {net} Throw")), "{net} in {:?}", throws(&all));
    }
    let named = made(&[("\"10.2.0.0/16\"", "\"10.1.0.0/16\"")], "", &attached);
    assert!(throws(&named).is_empty(), "what a child names is protected: {:?}", throws(&named));
    let both = [("\"10.2.0.0/16\"", "\"0.0.0.0/0\""), ("\"10.2.0.0/16\"", "\"10.7.0.0/16\"")];
    let both = made(&both, "", &attached);
    assert!(!throws(&both).iter().any(|line| line.contains("10.7.0.0/16")), "{:?}", throws(&both));
    assert!(shown(&both).contains(&"4500 10.7.0.0/16 Tun".to_owned()));
}

#[test]
fn f_12_under_a_full_tunnel_the_outer_address_passes_by_the_rest_only() {
    let children = [("\"10.2.0.0/16\"", "\"0.0.0.0/0\""), ("\"10.2.0.0/16\"", "\"10.1.0.0/16\"")];
    let plan = made(&children, "", &seen(&["192.0.2.2", "10.2.0.1"], &[]));
    let leads: Vec<_> =
        plan.leads.iter().filter(|lead| lead.v4).map(|lead| (lead.priority, lead.from, lead.then)).collect();
    let outer = Net::new("192.0.2.2".parse().unwrap(), 32);
    let table = Then::Table;
    let around = (4501, outer, Then::Goto(4503));
    let last = (4503, None, Then::Nothing);
    let own = (4399, None, table(255));
    assert_eq!(leads, [own, (4500, None, table(4500)), around, (4502, None, table(4501)), last]);
    // A child that protects the outer address keeps it in.
    let inside = made(&[("\"192.0.2.2\"", "\"0.0.0.0/0\"")], "", &seen(&["192.0.2.2"], &[]));
    assert!(inside.leads.iter().all(|lead| lead.from.is_none()));
}

#[test]
fn f_37_without_ipv6_nothing_of_it_is_asked_of_the_kernel() {
    let without = Seen { v6: false, ..seen(&[], &[]) };
    let plan = made(&[("\"10.2.0.0/16\", \"fd02::/64\"", "\"10.1.0.0/16\", \"fd01::/64\"")], "", &without);
    assert!(plan.leads.iter().all(|lead| lead.v4));
    assert_eq!(shown(&plan), ["4500 10.1.0.0/16 Tun", "4500 10.1.0.0/16 Unreachable"]);
}

fn guard_of(children: &[(&str, &str)], policies: &str) -> Arc<str> {
    made(children, policies, &seen(&["192.0.2.2"], &["10.7.0.0/16"])).guard
}

#[test]
fn f_07_f_08_the_guard_drops_what_the_policy_protects_or_discards_in_the_order_of_the_policy() {
    let text = guard_of(
        &[("\"10.2.0.0/16\"", "\"10.1.0.0/16\"")],
        "[[policy]]\naction = \"bypass\"\nprotocol = \"tcp\"\nremote-port = \"22\"\nremote = \"10.1.0.0/16\"\n\
         [[policy]]\naction = \"discard\"\nremote = \"10.66.0.0/16\"\n",
    );
    let inward = "chain in4_0 {\n  meta l4proto 6 th sport 22 accept\n  \
                  ip daddr { 10.2.0.0-10.2.255.255 } counter name in_clear drop\n }";
    assert!(text.contains(inward), "{text}");
    let outward = "chain out4_0 {\n  meta l4proto 6 th dport 22 accept\n  \
                   ip saddr { 10.2.0.0-10.2.255.255 } counter name out_clear drop\n  counter name out_clear drop\n }";
    assert!(text.contains(outward), "{text}");
    assert!(text.contains("10.66.0.0-10.66.255.255 : goto out4_1"), "{text}");
    assert!(text.contains("chain out4_1 {\n  counter name out_discard drop\n }"), "{text}");
}

#[test]
fn e1_the_guard_lets_in_what_level_use_is_about_in_the_order_of_the_policy() {
    let child = "[[peer.child]]\nname = \"lax\"\nlevel = \"use\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.0.0/16[udp/7]\"\n";
    let guard = guard_of(&[("\"10.2.0.0/16\"", "\"10.1.5.0/24\"")], child);
    let lax = "  ip daddr { 10.2.0.0-10.2.255.255 } meta l4proto 17 th sport 7 counter name in_meanwhile accept\n";
    // Of it alone no fragment is dropped, nor anything else.
    assert!(guard.contains(&format!(" {{\n{lax} }}")), "{guard}");
    let both = format!("  ip daddr {{ 10.2.0.0-10.2.255.255 }} counter name in_clear drop\n{lax} }}");
    assert!(guard.contains(&both), "{guard}");
}

#[test]
fn f_07_later_fragments_count_as_protected_never_as_bypassed() {
    let text = guard_of(&[("\"10.2.0.0/16[udp/5000]\"", "\"10.1.0.0/16[udp]\"")], "");
    let first = "ip daddr { 10.2.0.0-10.2.255.255 } meta l4proto 17 th dport 5000 counter name in_clear drop";
    let later =
        "ip daddr { 10.2.0.0-10.2.255.255 } ip frag-off & 0x1fff != 0 meta l4proto 17 counter name in_clear drop";
    assert!(text.contains(first) && text.contains(later), "{text}");
}

#[test]
fn f_13_the_guard_spares_what_the_routes_spare() {
    let text = guard_of(&[("\"10.2.0.0/16\"", "\"0.0.0.0/0\"")], "");
    let map = text.lines().skip_while(|line| !line.contains("map out4")).nth(3).unwrap();
    assert!(map.contains("10.3.0.0-10.6.255.255 : goto out4_0"), "10.2/16 is spared: {map}");
    // An attached network is spared on its own interface alone: should it vanish, the default route is none for it.
    assert!(map.contains("10.7.0.0-10.7.255.255 : goto out4_1"), "{map}");
    assert!(text.contains("  oifname != { \"lan2\" } counter name out_clear drop\n }"), "{text}");
    assert!(text.contains("  ip saddr { 192.0.2.2 } accept\n  counter name out_clear drop"), "{text}");
}

#[test]
fn f_07_a_network_of_ours_inside_all_stays_protected_where_it_is_in_the_remote_network_of_another_child() {
    let all = ("\"10.1.5.0/24\"", "\"0.0.0.0/0\"");
    let throws = |children: &[(&str, &str)]| {
        let plan = made(children, "", &seen(&["192.0.2.2"], &["10.1.5.0/24"]));
        shown(&plan).iter().any(|line| line.contains("10.1.5.0/24 Throw"))
    };
    assert!(throws(&[all]));
    for lan in ["\"10.2.0.0/16\"", "\"0.0.0.0/0\""] {
        assert!(!throws(&[all, (lan, "\"10.1.0.0/16\"")]));
    }
    assert!(throws(&[all, ("\"10.1.5.0/24\"", "\"10.1.0.0/16\"")]), "whoever has that network says that it is ours");
    // The wider of the two says nothing about it.
    let inner = ("\"10.2.0.0/16\"", "\"10.1.0.0/16\"");
    assert!(!throws(&[("\"10.1.5.0/24\"", "\"10.0.0.0/8\""), all, inner]));
}

#[test]
fn f_13_an_attached_network_is_spared_where_ours_around_it_does_not_decide() {
    let children = [("\"10.0.0.0/8\"", "\"0.0.0.0/0\""), ("\"10.2.0.0/16\"", "\"10.0.0.0/12\"")];
    let plan = made(&children, "", &seen(&[], &["10.7.0.0/16", "10.128.0.0/16"]));
    let spared: Vec<_> = plan.spared.keys().map(ToString::to_string).collect();
    assert_eq!(spared, ["10.7.0.0/16"], "the other one is ours");
}

#[test]
fn f_13_a_huge_attached_network_is_not_spared() {
    let huge = seen(&[], &["128.0.0.0/1", "10.0.0.0/15", "10.7.0.0/16", "2000::/3", "2001:db8:1::/48"]);
    let plan = made(&[("\"10.2.0.0/16\", \"fd02::/64\"", "\"0.0.0.0/0\", \"::/0\"")], "", &huge);
    let names = |nets: Vec<&Net>| nets.into_iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(plan.spared.keys().collect()), ["10.7.0.0/16", "2001:db8:1::/48"]);
    assert_eq!(names(plan.unspared.iter().collect()), ["10.0.0.0/15", "128.0.0.0/1", "2000::/3"]);
    let throws = shown(&plan).into_iter().filter(|line| line.contains("Throw")).collect::<Vec<_>>();
    assert!(!throws.iter().any(|line| line.contains("128.0.0.0/1") || line.contains("2000::/3")), "{throws:?}");
}

#[test]
fn f_02_no_interface_stands_in_for_a_device_that_is_not_there() {
    let gone = Seen { device: None, ..seen(&[], &[]) };
    let text = made(&[("\"10.2.0.0/16\"", "\"10.1.0.0/16\"")], "", &gone).guard;
    assert!(!text.contains("pcl0") && text.contains("oifname { \"lo\" } accept"), "{text}");
    let renamed = Seen { device: Some("foo".to_owned()), ..seen(&[], &[]) };
    let text = made(&[("\"10.2.0.0/16\"", "\"10.1.0.0/16\"")], "", &renamed).guard;
    assert!(text.contains("iifname { \"lo\", \"foo\" } accept"), "{text}");
}

#[test]
fn f_07_of_ipv6_any_fragment_counts_as_protected_where_protocol_or_ports_decide() {
    for (local, remote) in
        [("\"fd02::/64[udp/5000]\"", "\"fd01::/64[udp]\""), ("\"fd02::/64[udp]\"", "\"fd01::/64[udp]\"")]
    {
        let text = guard_of(&[(local, remote)], "");
        let line = "ip6 daddr { fd02::-fd02::ffff:ffff:ffff:ffff } exthdr frag exists counter name in_clear drop";
        assert!(text.contains(line), "{text}");
    }
    let bypassed = guard_of(
        &[("\"fd02::/64\"", "\"fd01::/64\"")],
        "[[policy]]\naction = \"bypass\"\nprotocol = \"udp\"\nremote = \"fd01::/64\"\n",
    );
    assert!(!bypassed.contains("exthdr"), "no fragment is let through for what it could be: {bypassed}");
}

#[test]
fn f_31_thousands_of_children_with_one_local_network_share_a_chain() {
    let children: Vec<_> =
        (0..3000).map(|n| ("\"10.2.0.0/16\"", format!("\"172.{}.{}.0/24\"", 16 + n / 256, n % 256))).collect();
    let children: Vec<_> = children.iter().map(|(local, remote)| (*local, remote.as_str())).collect();
    let text = children.chunks(100).map(|some| guard_of(some, "")).max_by_key(|text| text.len()).unwrap();
    assert_eq!(text.matches("chain in4_").count(), 1, "{text}");
}
