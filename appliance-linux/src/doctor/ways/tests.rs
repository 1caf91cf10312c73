use super::*;
use crate::namespace::in_a_network_of_its_own;

#[test]
fn the_address_that_is_asked_for_is_the_networks_own() {
    let text = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
                local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.0.0.0/8\"\n[[policy]]\naction = \"bypass\"\n\
                remote = \"198.51.100.0/24\"\n";
    let config = Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0;
    let child = &config.peers[0].children[0];
    let asked =
        |net: &str, prefix| inside(&config, child, &AddrRange::prefix(net.parse().unwrap(), prefix).unwrap(), &[]);
    let addr = |text: &str| Some(text.parse().unwrap());
    assert_eq!(asked("10.0.0.0", 8), addr("10.0.0.1"));
    assert_eq!(asked("10.2.0.0", 15), addr("10.3.0.0"), "the other half is ours");
    assert_eq!(asked("10.2.0.0", 24), addr("10.2.0.1"), "all of it is ours: so says a hub");
    assert_eq!(asked("2001:db8::", 32), addr("2001:db8:77::77"));
    assert_eq!(asked("198.51.100.0", 25), None, "goes by a policy");
}

#[test]
fn f_13_what_is_reached_in_clear_and_what_is_ours_is_not_asked_for_and_the_rest_of_the_network_is() {
    let text = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
                local-ts = \"172.16.0.0/16\"\nremote-ts = \"172.17.0.0/16\"\n";
    let config = Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0;
    let ours = |addr: &str, prefix| LocalAddr { addr: addr.parse().unwrap(), prefix, link: 2, usable: true };
    let asked = |net: (&str, u8), ours: &[LocalAddr], spared: Option<&[String]>| {
        let net = AddrRange::prefix(net.0.parse().unwrap(), net.1).unwrap();
        inside(&config, &config.peers[0].children[0], &net, &elsewhere(ours, spared)).map(|addr| addr.to_string())
    };
    let wan = [ours("192.168.0.9", 24), ours("10.0.0.1", 24), ours("fd00:1::1", 64)];
    let spared = ["192.168.0.0/24".to_owned(), "fd00:1::/64".to_owned()];
    for spared in [Some(&spared[..]), None] {
        let asked = |net| asked(net, &wan, spared).unwrap();
        assert_eq!(asked(("192.168.0.0", 16)), "192.168.128.0");
        assert_eq!(asked(("fd00:1::", 32)), "fd00:1:8000::");
        assert_eq!(asked(("::", 0)), "2001:db8:77::77");
    }
    assert_eq!(asked(("10.0.0.0", 24), &wan, Some(&spared)).as_deref(), Some("10.0.0.128"), "protected but for ours");
    assert_eq!(asked(("10.0.0.0", 24), &wan, None), None, "nobody tells");
    assert_eq!(asked(("0.0.0.0", 1), &[], None).as_deref(), Some("64.0.0.0"), "0.0.0.1 is nobody's");
    assert_eq!(asked(("10.0.0.5", 32), &[], None).as_deref(), Some("10.0.0.5"));
    assert_eq!(asked(("169.254.0.0", 16), &[], None), None, "stays on its link");
}

fn of_a_child(local: &str, remote: &str, rest: &str) -> Config {
    let text = format!(
        "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
         psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
         local-ts = {local}\nremote-ts = {remote}\n{rest}"
    );
    Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0
}

#[test]
fn of_many_peers_those_of_which_something_has_to_be_said_stand_out() {
    let told = |good: usize| {
        let good = (0..good).map(|number| fine("peer", format!("\"p{number}\" is reached")));
        let bad = finding(Grade::Failure, "peer", "no route to \"z\"", "add one");
        few_fine(good.chain([bad]).collect()).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(4).len(), 5);
    let lines = told(300);
    assert_eq!(lines[..5], told(4)[..]);
    assert_eq!(lines[5..], ["ok    peer: 296 more addresses of peers are reached"]);
}

#[test]
fn f_01_every_remote_network_is_asked_for_or_named_with_a_reason() {
    let asked = |local: &str, policy: &str| {
        let config = of_a_child(local, "\"10.1.0.0/16\"", &format!("[[policy]]\naction = \"bypass\"\n{policy}"));
        let Questions { asked, unasked } = questions(&config, &[], true);
        assert_eq!(asked.len() + unasked.values().flatten().count(), 1);
        asked.len() == 1
    };
    let lan = "\"10.2.0.0/16\"";
    assert!(!asked(lan, "priority = 100\n"));
    assert!(!asked(lan, "priority = 1000\n"), "of equals the policy comes first");
    assert!(!asked(lan, "priority = 100\nlocal = \"0.0.0.0/1\"\n"), "a packet without a source is among these");
    for other in [
        "priority = 2000\n",
        "priority = 100\nprotocol = \"tcp\"\nremote-port = \"22\"\n",
        "priority = 100\nlocal = \"10.2.0.0/16\"\n",
        "priority = 100\nremote = \"10.1.0.0/24\"\n",
    ] {
        assert!(asked(lan, other), "{other}");
    }
    assert!(!asked("\"10.2.0.0/16[udp]\"", "priority = 2000\n"), "of UDP alone is it not true");
    assert!(asked("\"10.0.0.0/8\"", "remote = \"192.0.2.9\"\n"), "a hub");
    let everything = of_a_child("\"0.0.0.0/0\"", "\"0.0.0.0/0\"", "");
    let Questions { asked, unasked } = questions(&everything, &[], true);
    assert!(asked.is_empty() && unasked.is_empty(), "the operator's own");
}

#[test]
fn f_37_without_ipv6_nothing_of_it_is_asked_for() {
    let config = of_a_child("[\"10.2.0.0/16\", \"fd02::/64\"]", "[\"10.1.0.0/16\", \"fd01::/64\"]", "");
    let Questions { asked, unasked } = questions(&config, &[], false);
    assert_eq!(asked, ["10.1.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(
        unasked.into_iter().collect::<Vec<_>>(),
        [("as this machine has no IPv6", vec!["fd01::/64".to_owned()])]
    );
    assert_eq!(questions(&config, &[], true).asked.len(), 2);
}

#[test]
fn a_peer_is_reached_from_the_address_that_local_names_at_whichever_of_its_own_and_no_mtu_is_proposed_that_check_refuses()
 {
    in_a_network_of_its_own(|| {
        let mut netlink = Netlink::open().unwrap();
        let _wan = crate::tun::Tun::create("wan").unwrap();
        let index = nix::net::if_::if_nametoindex("wan").unwrap();
        netlink.link_up(index, 1500).unwrap();
        let ip = |line: &str| {
            let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
            let status = std::process::Command::new("ip").args(line.split(' ')).env("PATH", path).status().unwrap();
            assert!(status.success(), "ip {line}");
        };
        ip("addr add 192.0.2.2/24 dev wan");
        ip("addr add 192.0.2.3/24 dev wan");
        let mut config = of_a_child("\"10.2.0.0/16\"", "\"10.1.0.0/16\"", "");
        config.peers[0].local = vec!["192.0.2.3".parse().unwrap()];
        let addrs = ["198.51.100.1", "2001:db8::1", "192.0.2.1"].map(|addr| addr.parse().unwrap());
        let mut told = |config: &Config, addrs: &[IpAddr]| {
            let found = reached(config, &config.peers[0], addrs, &mut netlink);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let lines = told(&config, &addrs);
        assert_eq!(lines[0], "ok    peer: \"a\" is reached at 192.0.2.1 from 192.0.2.3, MTU 1500");
        assert!(lines[1].starts_with("note  peer: no route to \"a\" at 198.51.100.1 from 192.0.2.3"), "{lines:?}");
        assert!(lines[2].contains("local names no address of its family"), "{lines:?}");
        assert!(told(&config, &addrs[..2]).iter().all(|line| line.starts_with("FAIL")));
        ip("rule add from 192.0.2.3 lookup 200");
        ip("route add 203.0.113.0/24 dev wan table 200");
        assert!(told(&config, &["203.0.113.1".parse().unwrap()])[0].starts_with("ok"), "by a rule for that source");
        config.peers[0].local.insert(0, "192.0.2.2".parse().unwrap());
        let lines = told(&config, &["203.0.113.1".parse().unwrap()]);
        assert!(lines[0].starts_with("ok") && lines[1].starts_with("note"), "one of ours is enough: {lines:?}");
        let near = ["192.0.2.1".parse().unwrap()];
        let from_first = "ok    peer: \"a\" is reached at 192.0.2.1 from 192.0.2.2, MTU 1500";
        assert_eq!(told(&config, &near), [from_first], "the first that does is taken");
        let anywhere = std::mem::take(&mut config.peers[0].local);
        assert_eq!(told(&config, &near), [from_first], "as the kernel has it");
        let _other = crate::tun::Tun::create("wan2").unwrap();
        ip("link set wan2 up");
        ip("addr add 198.51.101.2/24 dev wan2");
        ip("route add 192.0.2.1 dev wan2");
        assert!(told(&config, &near)[0].contains("from 198.51.101.2"), "{:?}", told(&config, &near));
        config.gateway.outside = vec!["wan".to_owned()];
        assert_eq!(told(&config, &near), [from_first], "as the daemon has it, whose sockets are bound to it");
        config.gateway.outside = vec!["wan2".to_owned()];
        let lines = told(&config, &["192.0.2.9".parse().unwrap()]);
        assert!(lines[0].starts_with("FAIL  peer: no route to \"a\" at 192.0.2.9 through wan2: "), "{lines:?}");
        assert!(lines[0].contains("fix: this machine's own route leads through wan: "), "{lines:?}");
        config.gateway.outside.clear();
        ip("route del 192.0.2.1 dev wan2");
        config.peers[0].local = anywhere;
        config.peers[0].local.remove(0);
        ip("link set wan mtu 1300");
        assert!(told(&config, &addrs)[0].contains("fix: mtu = 1235 under"), "{:?}", told(&config, &addrs));
        ip("link set wan mtu 600");
        assert!(told(&config, &addrs)[0].contains("fix: an MTU of 641 or more outside"), "{:?}", told(&config, &addrs));
    });
}

#[test]
fn f_11_a_way_to_a_peer_that_leads_into_our_own_device_is_told_and_nothing_is_measured_by_it() {
    in_a_network_of_its_own(|| {
        let mut netlink = Netlink::open().unwrap();
        let _devices = [("wan", 1500), ("pcl0", 1400)].map(|(name, mtu)| {
            let device = crate::tun::Tun::create(name).unwrap();
            netlink.link_up(nix::net::if_::if_nametoindex(name).unwrap(), mtu).unwrap();
            device
        });
        let ip = |line: &str| {
            let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
            let status = std::process::Command::new("ip").args(line.split(' ')).env("PATH", path).status().unwrap();
            assert!(status.success(), "ip {line}");
        };
        ip("addr add 198.51.100.2/24 dev wan");
        let mut config = of_a_child("\"10.2.0.0/16\"", "\"0.0.0.0/0\"", "");
        config.peers[0].local = vec!["198.51.100.2".parse().unwrap()];
        let mut told_of = |config: &Config, peer: &str| {
            let found = reached(config, &config.peers[0], &[peer.parse().unwrap()], &mut netlink);
            let lines = found.iter().map(ToString::to_string).collect::<Vec<_>>();
            (lines, outside(config, &mut netlink))
        };
        let mut told = |config: &Config| told_of(config, "192.0.2.1");
        let says = |fix: &str| {
            let what = "the way to \"a\" (192.0.2.1) leads into the tunnel's own device pcl0";
            (vec![format!("FAIL  peer: {what}\n      fix: ip route {fix}")], BTreeSet::new())
        };
        ip("route add default via 198.51.100.9 dev pcl0 onlink metric 100");
        let again = "replace default via 198.51.100.9 dev wan metric 100";
        assert_eq!(told(&config), says(again));
        config.peers[0].local.clear();
        assert_eq!(told(&config), says(again), "wherever it is sent from");
        ip("route add 192.0.2.0/24 via 203.0.113.1 dev pcl0 onlink table 77");
        ip("rule add fwmark 0x45000000 lookup 77");
        assert_eq!(told(&config), says("replace 192.0.2.0/24 via 203.0.113.1 dev INTERFACE table 77"));
        ip("route replace 192.0.2.0/24 dev pcl0 table 77");
        assert_eq!(told(&config), says("add 192.0.2.1 via GATEWAY dev INTERFACE"));
        config.peers[0].local = ["198.51.100.2", "198.51.100.3"].map(|addr| addr.parse().unwrap()).into();
        ip("addr add 198.51.100.3/24 dev wan");
        ip("route add default via 198.51.100.9 table 78");
        ip("rule add from 198.51.100.3 lookup 78 priority 5");
        let (lines, interfaces) = told(&config);
        assert!(lines[0].starts_with("ok    peer: ") && lines[1].starts_with("note  peer: the way"), "{lines:?}");
        assert!(lines[1].contains("(192.0.2.1 from 198.51.100.2)") && interfaces.is_empty(), "{lines:?}");
        ip("addr add 2001:db8:1::2/64 dev wan nodad");
        ip("addr add fe80::2/64 dev wan nodad");
        ip("route add default via fe80::9 dev pcl0");
        config.peers[0].local.clear();
        let (lines, _) = told_of(&config, "2001:db8:9::1");
        let fix = "fix: ip route replace default via fe80::9 dev INTERFACE metric 1024";
        assert!(lines[0].starts_with("FAIL  peer: the way") && lines[0].ends_with(fix), "{lines:?}");
    });
}

#[test]
fn f_13_where_peers_are_known_by_name_the_default_route_is_what_faces_them() {
    in_a_network_of_its_own(|| {
        let mut netlink = Netlink::open().unwrap();
        let _wan = crate::tun::Tun::create("wan").unwrap();
        netlink.link_up(nix::net::if_::if_nametoindex("wan").unwrap(), 1500).unwrap();
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let line = "route add default dev wan";
        assert!(std::process::Command::new("ip").args(line.split(' ')).env("PATH", path).status().unwrap().success());
        let mut config = of_a_child("\"10.2.0.0/16\"", "\"10.1.0.0/16\"", "");
        config.peers[0].remote = vec![Remote::Name("vpn.example.net".to_owned())];
        assert_eq!(outside(&config, &mut netlink), BTreeSet::from(["wan".to_owned()]));
    });
}

#[test]
fn f_12_a_full_tunnel_of_one_family_beside_a_default_route_of_the_other_is_warned_of() {
    in_a_network_of_its_own(|| {
        let mut netlink = Netlink::open().unwrap();
        let _wan = crate::tun::Tun::create("wan").unwrap();
        netlink.link_up(nix::net::if_::if_nametoindex("wan").unwrap(), 1500).unwrap();
        let mut found = |remote: &str, rest: &str| {
            let both = ["\"10.2.0.0/16\"", "[\"10.2.0.0/16\", \"fd02::/64\"]"];
            let config = of_a_child(both[usize::from(remote.contains(':'))], remote, rest);
            beside_a_full_tunnel(&config, &mut netlink).iter().map(|found| found.text.clone()).collect::<Vec<_>>()
        };
        assert!(found("\"0.0.0.0/0\"", "").is_empty(), "there is no IPv6");
        let ip = |line: &str| {
            let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
            let ip = std::process::Command::new("ip").args(line.split(' ')).env("PATH", path).status().unwrap();
            assert!(ip.success(), "ip {line}");
        };
        ip("-6 route add default dev wan");
        let told = found("\"0.0.0.0/0\"", "");
        assert!(told.len() == 1 && told[0].starts_with("all of IPv4 goes into a tunnel, and IPv6 has"), "{told:?}");
        assert_eq!(found("[\"0.0.0.0/0\", \"fd01::/64\"]", "").len(), 1, "a part of it is not all of it");
        assert!(found("[\"0.0.0.0/0\", \"::/0\"]", "").is_empty());
        assert!(found("\"10.1.0.0/16\"", "").is_empty(), "no full tunnel");
        let discarded = "[[policy]]\naction = \"discard\"\nremote = \"::/0\"\n";
        assert!(found("\"0.0.0.0/0\"", discarded).is_empty(), "somebody has thought of it");
        let _device = crate::tun::Tun::create("pcl0").unwrap();
        ip("link set pcl0 up");
        ip("-6 route replace default dev pcl0");
        assert!(found("\"0.0.0.0/0\"", "").is_empty(), "a route of the operator's leads it into the device");
    });
}
