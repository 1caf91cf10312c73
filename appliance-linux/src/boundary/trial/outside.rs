//! Which interfaces are outside, and that what the tunnel brings for our networks does not leave there.

use super::*;

#[test]
fn f_07_every_hop_of_a_default_route_is_outside() {
    in_a_network_of_its_own(|| {
        let mut gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/16", &config("10.1.0.0/16"));
        let second = another("wan2", "198.51.100.2/24");
        ip("route replace default nexthop dev wan nexthop dev wan2");
        ip("link set lan down");
        gateway.look();
        for host in 1..=64 {
            gateway.device.send(&packet(PEER, (&format!("10.2.0.{host}"), 9))).unwrap();
        }
        assert_eq!((out_of(&gateway.wan), out_of(&second)), (None, None));
    });
}

#[test]
fn f_07_an_uplink_that_waits_behind_another_or_has_a_table_of_its_own_is_outside() {
    in_a_network_of_its_own(|| {
        let config = Config::parse(ALL).unwrap().0;
        let mut gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/24", &config);
        let (second, third) = (another("wan2", "198.51.100.2/24"), another("wan3", "203.0.113.2/24"));
        ip("route add default dev wan2 metric 200");
        ip("route add default dev wan3 table 102");
        ip("rule add from 203.0.113.2 lookup 102");
        gateway.look();
        for interface in [&second, &third] {
            interface.send(&packet(("10.2.0.7", 7), HOST)).unwrap();
            assert_eq!(out_of(&gateway.lan), None);
        }
    });
}

#[test]
fn f_07_what_has_the_default_route_is_outside_where_networks_of_documentation_lead_nowhere() {
    in_a_network_of_its_own(|| {
        for net in ["192.0.2.0/24", "198.51.100.0/24"] {
            ip(&format!("route add blackhole {net}"));
        }
        let mut config = config("10.1.0.0/16");
        config.peers[0].remote.clear();
        config.peers[0].local.clear();
        let mut gateway = Gateway::new("203.0.113.2/24", "10.2.0.1/16", &config);
        ip("link set lan down");
        for _ in 0..2 {
            gateway.device.send(&packet(PEER, HOST)).unwrap();
            assert_eq!(out_of(&gateway.wan), None);
            gateway.look();
        }
    });
}

#[test]
fn f_07_a_route_outside_of_its_own_is_good_for_its_own_network() {
    in_a_network_of_its_own(|| {
        let mut gateway = Gateway::new("192.0.2.2/24", "10.2.128.1/17", &config("10.1.0.0/16"));
        ip("route add 10.2.4.0/22 dev wan");
        gateway.look();
        let leaves = |to: &str| {
            gateway.device.send(&packet(PEER, (to, 9))).unwrap();
            out_of(&gateway.wan).is_some()
        };
        assert!(leaves("10.2.4.5"), "although its first address goes the default way");
        assert!(!leaves("10.2.0.1"));
        ip("link set lan down");
        assert!(!leaves("10.2.128.5"));
    });
}

#[test]
fn f_07_a_lan_beside_an_uplink_in_the_same_network_is_not_outside_when_its_cable_is_pulled() {
    in_a_network_of_its_own(|| {
        let text = ALL.replace("10.2.0.0/16", "192.168.0.0/16").replace("0.0.0.0/0", "10.1.0.0/16");
        let mut gateway = Gateway::new("192.168.1.2/24", "192.168.10.1/24", &Config::parse(&text).unwrap().0);
        ip("link set lan down");
        for _ in 0..2 {
            let leaves = |to: &str| {
                gateway.device.send(&packet(PEER, (to, 9))).unwrap();
                out_of(&gateway.wan).is_some()
            };
            assert!(!leaves("192.168.10.5") && leaves("192.168.1.5"));
            gateway.look();
        }
    });
}

#[test]
fn f_07_a_gateway_with_one_interface_gives_out_by_it_what_the_tunnel_brings_until_there_is_a_second_one() {
    in_a_network_of_its_own(|| {
        let Gateway { wan, lan, device, boundary } =
            Gateway::new("10.2.1.4/24", "172.16.0.1/30", &config("10.1.0.0/16"));
        drop((lan, boundary));
        let start = || {
            Boundary::start(Owner::claim().unwrap(), device.handle().unwrap(), &config("10.1.0.0/16"), || {}).unwrap()
        };
        let leaves = |to: &str| {
            device.send(&packet(PEER, (to, 9))).unwrap();
            out_of(&wan).is_some()
        };
        let mut boundary = start();
        assert!(leaves("10.2.77.5") && leaves("10.2.1.5"), "behind the router of a cloud");
        ip("link set portcullis-own up");
        boundary.reconcile(Touched::ALL).unwrap();
        boundary.wait_for_guard();
        assert!(leaves("10.2.77.5"), "what carries nothing is no second interface");
        drop(boundary);
        // A port without an address, which is not even switched on.
        ip("link add port type veth peer name end");
        ip("link set end up");
        let mut boundary = start();
        assert!(!leaves("10.2.77.5") && leaves("10.2.1.5"));
        assert_eq!(boundary.view().astray, ["the rest of 10.2.0.0/16"]);
        // It stays so when that is gone; the operator says what lies there.
        ip("link del port");
        boundary.reconcile(Touched::ALL).unwrap();
        boundary.wait_for_guard();
        assert!(!leaves("10.2.77.5"));
        ip("route add 10.2.0.0/16 dev wan");
        boundary.reconcile(Touched::ALL).unwrap();
        boundary.wait_for_guard();
        assert!(leaves("10.2.77.5"));
    });
}

#[test]
fn f_07_a_route_to_nowhere_leads_to_no_interface_and_is_no_uplink() {
    in_a_network_of_its_own(|| {
        let mut gateway = Gateway::new("192.0.2.2/24", "172.16.0.1/30", &config("10.1.0.0/16"));
        assert_eq!(gateway.boundary.view().astray, ["10.2.0.0/16"]);
        ip("-6 route add unreachable default metric 5");
        ip("route add unreachable 10.2.0.0/16 table 77");
        ip("rule add from 10.9.9.9 lookup 77");
        gateway.look();
        assert_eq!(gateway.boundary.seen.outside.interfaces, ["wan".to_owned()].into());
        assert_eq!(gateway.boundary.view().astray, ["10.2.0.0/16"], "for guests");
        ip("route add blackhole 10.2.0.0/16");
        gateway.look();
        assert!(gateway.boundary.view().astray.is_empty());
        gateway.device.send(&packet(PEER, HOST)).unwrap();
        assert_eq!(out_of(&gateway.wan), None);
    });
}

#[test]
fn f_07_an_uplink_that_a_default_route_names_only_by_the_number_of_its_hop_is_outside() {
    in_a_network_of_its_own(|| {
        let mut gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/16", &config("10.1.0.0/16"));
        let (second, third) = (another("wan2", "198.51.100.2/24"), another("wan3", "203.0.113.2/24"));
        std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", "0").unwrap();
        for (number, link) in [(7, "wan2"), (8, "wan3")] {
            ip(&format!("nexthop add id {number} dev {link}"));
        }
        ip("nexthop add id 9 group 7/8");
        ip("link set lan down");
        for number in [7, 9] {
            ip(&format!("route replace default nhid {number}"));
            gateway.look();
            for host in 1..=64 {
                gateway.device.send(&packet(PEER, (&format!("10.2.0.{host}"), 9))).unwrap();
            }
            assert_eq!((out_of(&second), out_of(&third)), (None, None), "{number}");
        }
    });
}

#[test]
fn f_07_a_route_with_hundreds_of_hops_hides_no_other_one() {
    in_a_network_of_its_own(|| {
        let mut gateway = Gateway::new("198.51.100.2/24", "172.16.0.1/30", &config("10.1.0.0/16"));
        let hops: Vec<_> = (3..250).map(|hop| format!(" nexthop via 198.51.100.{hop} dev wan")).collect();
        ip(&format!("route add 10.2.9.0/24{}", hops.concat()));
        ip("route add 10.2.77.0/24 dev wan");
        gateway.look();
        gateway.device.send(&packet(PEER, ("10.2.77.5", 9))).unwrap();
        assert!(out_of(&gateway.wan).is_some(), "the operator says that it is there");
    });
}

#[test]
fn f_07_a_network_at_two_interfaces_is_outside_where_a_route_says_so() {
    in_a_network_of_its_own(|| {
        let mut gateway = Gateway::new("10.2.1.4/24", "10.2.1.5/24", &config("10.1.0.0/16"));
        let leaves = |gateway: &Gateway| {
            gateway.device.send(&packet(PEER, ("10.2.1.7", 9))).unwrap();
            out_of(&gateway.wan).is_some()
        };
        assert!(!leaves(&gateway));
        assert_eq!(gateway.boundary.view().astray, ["10.2.0.0/16"]);
        ip("route add 10.2.1.0/24 dev wan metric 1");
        gateway.look();
        assert!(leaves(&gateway));
        assert_eq!(gateway.boundary.view().astray, ["the rest of 10.2.0.0/16"]);
    });
}

#[test]
fn f_07_under_a_remote_network_around_ours_the_rest_of_ours_is_not_in_clear_outside() {
    in_a_network_of_its_own(|| {
        let gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/24", &Config::parse(ALL).unwrap().0);
        let way = said("route get 10.2.77.1 from 10.2.0.5 iif lan");
        assert!(way.contains("dev wan"), "{way}");
        gateway.lan.send(&packet(HOST, ("10.2.77.1", 9))).unwrap();
        assert_eq!(out_of(&gateway.wan), None, "out");
        gateway.wan.send(&packet(("10.2.0.7", 7), HOST)).unwrap();
        assert_eq!(out_of(&gateway.lan), None, "in");
    });
}
