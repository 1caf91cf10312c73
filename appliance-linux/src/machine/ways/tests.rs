use std::process::Command;

use gateway_core::config::Remote;
use ike_core::pad::PeerId;

use super::*;
use crate::namespace::in_a_network_of_its_own;

fn ip(line: &str) {
    let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
    assert!(Command::new("ip").args(line.split(' ')).env("PATH", path).status().unwrap().success(), "ip {line}");
}

#[test]
fn f_21_what_the_peer_made_with_the_second_uplink_stands_while_a_rule_leads_its_answers_there() {
    in_a_network_of_its_own(|| {
        let mut netlink = Netlink::open().unwrap();
        let _devices = ["wan0", "wan1"].map(|name| {
            let device = crate::tun::Tun::create(name).unwrap();
            netlink.link_up(nix::net::if_::if_nametoindex(name).unwrap(), 1500).unwrap();
            device
        });
        for line in [
            "addr add 198.51.100.2/24 dev wan0",
            "addr add 198.51.101.2/24 dev wan1",
            "route add default via 198.51.100.1",
            "route add default via 198.51.101.1 dev wan1 table 77",
            "rule add from 198.51.101.2 lookup 77",
            "-6 addr add 2001:db8:100::2/64 dev wan0 nodad",
            "-6 addr add 2001:db8:101::2/64 dev wan1 nodad",
            "-6 route add default via 2001:db8:100::1",
            "-6 route add default via 2001:db8:101::1 dev wan1 table 77",
            "-6 rule add from 2001:db8:101::2 lookup 77",
        ] {
            ip(line);
        }
        let mut ways = Ways::open(Vec::new()).unwrap();
        let ends = [("198.51.101.2", "192.0.2.1"), ("2001:db8:101::2", "2001:db8:9::1")];
        let mut astray = || {
            let mut ours: BTreeMap<IpAddr, BTreeSet<u32>> = BTreeMap::new();
            ways.addresses()
                .unwrap()
                .iter()
                .for_each(|local| _ = ours.entry(local.addr).or_default().insert(local.link));
            let open = ends.map(|(local, remote)| (local.parse().unwrap(), remote.parse().unwrap()));
            ways.astray(&ours, open.into(), None).len()
        };
        assert_eq!(astray(), 0, "each new link would end it");
        ip("rule del from 198.51.101.2 lookup 77");
        ip("-6 rule del from 2001:db8:101::2 lookup 77");
        assert_eq!(astray(), 2, "answers leave through the other uplink");
    });
}

#[test]
fn f_21_a_route_of_several_hops_leads_through_the_one_that_is_under_outside() {
    in_a_network_of_its_own(|| {
        let mut netlink = Netlink::open().unwrap();
        let devices = ["wan1", "wan2"].map(|name| {
            let device = crate::tun::Tun::create(name).unwrap();
            let link = nix::net::if_::if_nametoindex(name).unwrap();
            netlink.link_up(link, 1500).unwrap();
            (device, link)
        });
        for line in [
            "addr add 198.51.101.2/24 dev wan1",
            "addr add 203.0.113.2/24 dev wan2",
            "route add default nexthop via 198.51.101.1 dev wan1 nexthop via 203.0.113.1 dev wan2",
            "-6 addr add 2001:db8:1::2/64 dev wan1 nodad",
            "-6 addr add 2001:db8:2::2/64 dev wan2 nodad",
            "-6 route add default nexthop via 2001:db8:1::1 dev wan1 nexthop via 2001:db8:2::1 dev wan2",
        ] {
            ip(line);
        }
        let outside = ["wan1".to_owned()];
        for number in 1..=16 {
            for remote in [format!("192.0.2.{number}"), format!("2001:db8:9::{number}")] {
                let hop = netlink.next_hop_outside(&outside, None, remote.parse().unwrap(), MARK);
                let source = if remote.contains(':') { "2001:db8:1::2" } else { "198.51.101.2" };
                let wanted = crate::netlink::NextHop { source: Some(source.parse().unwrap()), link: devices[0].1 };
                assert_eq!(hop.ok(), Some(wanted), "{remote}");
            }
        }
    });
}

#[test]
fn f_22_an_address_that_no_peer_can_have_is_passed_over_and_told_where_there_is_no_other() {
    in_a_network_of_its_own(|| {
        let mut ways = Ways::open(Vec::new()).unwrap();
        let _wan = crate::tun::Tun::create("wan").unwrap();
        ip("link set wan up");
        ip("addr add 192.0.2.2/32 dev lo");
        ip("route add 192.0.2.0/24 dev wan");
        for local in [vec![], vec!["192.0.2.2".parse().unwrap()]] {
            let remote = Remote::Name("vpn.example.net".to_owned());
            let question = Locate { peer: PeerId(1), remote, local };
            let mut found = |addresses: &[&str]| {
                let resolved = addresses.iter().map(|address| address.parse().unwrap()).collect();
                let Located { ways, hindrance, .. } = ways.to(&question, resolved, None);
                let remotes = ways.iter().map(|way| way.remote.to_string()).collect::<Vec<_>>().join(" ");
                (remotes, hindrance.map(|cause| cause.text).unwrap_or_default())
            };
            let none = ["0.0.0.0", "::", "127.0.0.1", "::1", "::ffff:127.0.0.1", "224.0.0.5", "ff02::1", "192.0.2.2"];
            for address in none {
                let (remotes, why) = found(&[address]);
                assert_eq!(remotes, "", "{address}");
                assert!(why.contains(&format!("stands for {address}, which is ")), "{address}: {why}");
            }
            assert_eq!(found(&[&none[..], &["192.0.2.1"]].concat()).0, "192.0.2.1");
        }
    });
}
