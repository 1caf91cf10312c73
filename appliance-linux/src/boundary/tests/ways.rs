//! The routes and rules that the kernel has then, beside those of others and of older versions.

use super::*;

#[test]
fn f_11_what_has_no_source_yet_gets_the_protected_one_also_beside_a_bypass_behind_the_child() {
    const CHILD: &str = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
         psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
         local-ts = [\"10.2.0.0/16\", \"fd02::/64\"]\nremote-ts = [\"10.1.0.0/16\", \"fd01::/64\"]\n";
    const BYPASS: &str = "[[policy]]\naction = \"bypass\"\npriority = 2000\n";
    in_a_network_of_its_own(|| {
        for line in [
            "tuntap add wan mode tun",
            "link set wan up",
            "addr add 192.0.2.2/24 dev wan",
            "addr add 2001:db8::2/64 dev wan nodad",
            "addr add 10.2.0.1/16 dev lo",
            "addr add fd02::1/64 dev lo",
            "route add default via 192.0.2.254",
            "route add default via 2001:db8::9",
        ] {
            ip(line);
        }
        let (mut boundary, guard) = boundary();
        let index = nix::net::if_::if_nametoindex("pcl0").unwrap();
        for policies in ["", BYPASS] {
            guard.send(stands()).unwrap();
            boundary.follow(Intent::of(&Config::parse(&(CHILD.to_owned() + policies)).unwrap().0));
            boundary.wait_for_guard();
            boundary.followed().unwrap().unwrap();
            for (to, from) in [("10.1.0.5", "10.2.0.1"), ("fd01::5", "fd02::1")] {
                let hop = boundary.netlink.next_hop(to.parse().unwrap(), 0).unwrap();
                assert_eq!((hop.link, hop.source), (index, Some(from.parse().unwrap())), "{policies}");
            }
            // They are known again for what they are.
            boundary.reconcile(Touched::ALL).unwrap();
            assert_eq!((boundary.health.put_back, boundary.health.trouble.clone()), (0, None));
            guard.send(stands()).unwrap();
            boundary.wait_for_guard();
        }
        let around = |boundary: &Boundary| boundary.last.leads.iter().filter(|lead| lead.is_around()).count();
        assert_eq!(around(&boundary), 6);
        let other = boundary.netlink.next_hop("10.3.0.5".parse().unwrap(), 0).unwrap();
        assert_ne!(other.link, index, "bypassed");
    });
}

#[test]
fn f_12_the_outer_address_leaves_by_the_operators_own_rules_whether_a_guard_stands_or_not() {
    in_a_network_of_its_own(|| {
        for line in [
            "tuntap add wan mode tun",
            "tuntap add wan2 mode tun",
            "link set wan up",
            "link set wan2 up",
            "addr add 192.0.2.2/24 dev wan",
            "addr add 198.51.100.2/24 dev wan2",
            "route add default via 192.0.2.254",
            "route add default via 198.51.100.254 table 200",
            "rule add from 198.51.100.2 lookup 200",
        ] {
            ip(line);
        }
        let (mut boundary, guard) = boundary();
        let mut config = Config::parse(ALL).unwrap().0;
        config.gateway.outside = vec!["wan".to_owned(), "wan2".to_owned()];
        let unguarded = Report { stands: false, flush_proof: false, ..fails() };
        for report in [stands(), unguarded] {
            guard.send(report).unwrap();
            boundary.follow(Intent::of(&config));
            boundary.wait_for_guard();
            for (from, link) in [("192.0.2.2", "wan"), ("198.51.100.2", "wan2")] {
                let way = said(&format!("route get 203.0.113.5 from {from}"));
                assert!(way.contains(&format!("dev {link} ")), "{way}");
            }
            let way = said("route get 203.0.113.5");
            assert!(way.contains("dev pcl0"), "{way}");
        }
    });
}

#[test]
fn f_01_doctor_sees_rules_beside_ours_and_knows_the_device_by_our_routes() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        let index = nix::net::if_::if_nametoindex("pcl0").unwrap();
        for pref in ["100", "4450", "4500", "4501", "4502", "4503"] {
            ip(&format!("rule add pref {pref} lookup 200"));
        }
        for (config, expected) in [
            (config("10.1.0.0/16"), &["100", "4450", "4500"][..]),
            (Config::parse(ALL).unwrap().0, &["100", "4450", "4500", "4501", "4502"]),
        ] {
            guard.send(stands()).unwrap();
            boundary.follow(Intent::of(&config));
            boundary.wait_for_guard();
            boundary.followed().unwrap().unwrap();
            let found = foreign_rules(&mut boundary.netlink).unwrap();
            assert_eq!(found, expected);
            assert_eq!(device(&mut boundary.netlink), Some(index));
        }
    });
}

#[test]
fn f_12_a_rule_that_an_older_version_left_with_another_mark_goes_and_catches_none_of_our_packets() {
    in_a_network_of_its_own(|| {
        for line in ["tuntap add wan mode tun", "link set wan up", "addr add 192.0.2.2/24 dev wan"] {
            ip(line);
        }
        ip("route add default dev wan");
        ip("rule add not fwmark 0x4500 lookup 4500 priority 4500 protocol 45");
        let (mut boundary, guard) = boundary();
        guard.send(stands()).unwrap();
        boundary.follow(Intent::of(&config("10.1.0.0/16")));
        boundary.wait_for_guard();
        let rules = said("rule show priority 4500");
        assert_eq!(rules.lines().count(), 1, "{rules}");
        let ours = said(&format!("route get 10.1.0.9 mark {MARK:#x}"));
        assert!(ours.contains("dev wan "), "{ours}");
        let others = said("route get 10.1.0.9");
        assert!(others.contains("dev pcl0 "), "{others}");
    });
}

#[test]
fn f_37_where_ipv6_is_switched_off_at_our_device_alone_the_trouble_names_the_way_out() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        std::fs::write("/proc/sys/net/ipv6/conf/pcl0/disable_ipv6", "1").unwrap();
        let text = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                    psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
                    local-ts = [\"10.2.0.0/16\", \"fd02::/64\"]\nremote-ts = [\"10.1.0.0/16\", \"fd01::/64\"]\n";
        guard.send(stands()).unwrap();
        boundary.follow(Intent::of(&Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0));
        boundary.wait_for_guard();
        let trouble = boundary.health.trouble.clone().unwrap_or_default();
        assert!(
            trouble.contains("route to fd01::/64") && trouble.contains("net.ipv6.conf.pcl0.disable_ipv6=0"),
            "{trouble}"
        );
    });
}

#[test]
fn f_12_a_route_to_the_device_with_the_scope_of_older_versions_gives_its_place_to_one_as_they_are_now() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        guard.send(stands()).unwrap();
        boundary.follow(Intent::of(&config("10.1.0.0/16")));
        boundary.wait_for_guard();
        let shown = said("route show table 4500");
        ip("route replace 10.1.0.0/16 dev pcl0 table 4500 metric 1 proto 45 scope link");
        assert_ne!(said("route show table 4500"), shown);
        let mut removed = removed_routes();
        boundary.reconcile(Touched::ALL).unwrap();
        assert_eq!(said("route show table 4500"), shown);
        assert!(!shown.contains("scope link") && shown.contains("10.1.0.0/16 dev pcl0"), "{shown}");
        assert_eq!(removed(), 0, "there was one at any moment");
        assert_eq!(boundary.health.put_back, 1);
        boundary.reconcile(Touched::ALL).unwrap();
        assert_eq!(boundary.health.put_back, 1, "known for what it is");
    });
}
