//! Looks at what the plan depends on: our device, which is made what it should be, and the addresses of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use ipsec_core::net::AddrRange;

use super::health::Round;
use super::home::Outside;
use super::intent::Intent;
use super::net::{Net, is_default};
use super::numbers::MARK;
use super::plan::Seen;
use super::{kernel, legs, owner, ways};
use crate::netlink::Netlink;
use crate::tun::{Place, Tun};

/// Our device, switched on and under its own name: index and name, if it is there. `anew`: nobody has made it what it should
/// be before.
pub(super) fn device(
    netlink: &mut Netlink,
    device: &mut Tun,
    intent: &Intent,
    anew: bool,
    round: &mut Round,
) -> Option<(u32, String)> {
    let wanted = intent.tun.clone();
    let found = match device.place() {
        Ok(Place::Here(name)) => nix::net::if_::if_nametoindex(name.as_str()).ok().map(|index| (index, name)),
        Ok(_) => None,
        Err(error) => {
            round.fails(false, format!("the device {wanted} cannot be looked at: {error}"));
            return None;
        }
    };
    let Some((index, mut name)) = found else {
        round.fails(false, format!("the device {wanted} is not there"));
        return None;
    };
    if name != wanted {
        let taken = nix::net::if_::if_nametoindex(wanted.as_str()).is_ok();
        let renamed = if taken { Err(io::ErrorKind::AlreadyExists.into()) } else { netlink.rename(index, &wanted) };
        match renamed {
            Ok(()) => {
                round.put_back.push(format!("the name of {wanted}, which somebody had called {name}"));
                name = wanted;
            }
            Err(error) => round.fails(
                false,
                format!("the device is called {name} and not {wanted}, and that cannot be changed: {error}"),
            ),
        }
    }
    if !netlink.link_is(index, intent.mtu).unwrap_or(false) {
        match netlink.link_up(index, intent.mtu) {
            Ok(()) if anew => {}
            Ok(()) => round.put_back.push(format!("{name} as it was, up with an MTU of {}", intent.mtu)),
            Err(error) => round.fails(true, format!("{name} cannot be switched on: {error}")),
        }
    }
    Some((index, name))
}

/// What the kernel says of addresses and networks. `tun` is the index of our device.
pub(super) fn look(netlink: &mut Netlink, intent: &Intent, before: &Seen, tun: Option<u32>) -> io::Result<Seen> {
    let v6 = kernel::has_ipv6();
    let mut addresses = netlink.addresses()?;
    addresses.retain(|local| local.usable && Some(local.link) != tun && (v6 || local.addr.is_ipv4()));
    let named: BTreeSet<u32> =
        intent.outside.iter().filter_map(|name| nix::net::if_::if_nametoindex(name.as_str()).ok()).collect();
    // Of everything nothing is barred, wherever a part of it is led.
    let nets = intent.locals.iter().filter(|net| !is_default(net.is_ipv4(), net.prefix));
    let sites: Vec<AddrRange> = nets.map(|net| net.range()).collect();
    let ways = ways::ways(netlink, v6, &sites, tun)?;
    // Where the peers are, and where strangers are.
    let remotes = intent.remotes.iter().copied().take(64);
    let mut uplinks: BTreeSet<u32> =
        remotes.filter_map(|remote| Some(netlink.next_hop(remote, MARK).ok()?.link)).collect();
    uplinks.extend(ways.defaults.iter().map(|(_, link)| *link));
    uplinks.extend(addresses.iter().filter(|at| intent.outer.contains(&at.addr)).map(|at| at.link));
    uplinks.retain(|link| Some(*link) != tun);
    let facing = if named.is_empty() { &uplinks } else { &named };
    let seen = Seen {
        facing: addresses
            .iter()
            .filter(|local| facing.contains(&local.link))
            .map(|local| local.addr)
            .filter(|addr| !addr.is_loopback() && !is_link_local(*addr))
            .collect(),
        ours: addresses.iter().map(|local| local.addr).collect(),
        attached: kernel::attached(netlink, v6, tun)?,
        outside: Outside::default(),
        v6,
        device: None,
        sockets: false,
    };
    let mut outside = Outside::default();
    let plain = intent.outside.iter().filter(|name| kernel::is_plain(name));
    outside.interfaces.extend(plain.cloned());
    outside.interfaces.extend(named.union(&uplinks).filter_map(|link| kernel::plain_name(*link)));
    if uplinks.is_empty() && named.is_empty() {
        // Where the last ones were the next ones come.
        outside.interfaces.extend(before.outside.interfaces.iter().cloned());
    }
    let names = |links: BTreeSet<u32>| links.into_iter().map(name).collect::<BTreeSet<_>>();
    outside.defaults = ways.defaults.into_iter().map(|(v4, link)| (v4, name(link))).collect();
    // An interface that is switched off keeps its addresses of IPv4, and its networks nowhere else.
    for local in addresses.iter().filter(|local| !is_link_local(local.addr)) {
        outside.addresses.insert((local.addr, name(local.link)));
        if let Some(net) = Net::new(local.addr, local.prefix) {
            outside.addressed.entry(net).or_default().insert(name(local.link));
        }
    }
    let led = |ways: BTreeMap<Net, BTreeSet<u32>>| ways.into_iter().map(|(net, links)| (net, names(links))).collect();
    (outside.given, outside.routed) = (led(ways.given), led(ways.others));
    outside.several = match netlink.links() {
        Ok(links) => legs::several(&links, [tun, owner::index()]),
        // One that cannot be read is one more in any case.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => true,
        Err(error) => return Err(error),
    };
    outside.remember(&before.outside, &intent.locals, intent.outer.iter().copied());
    Ok(Seen { outside, ..seen })
}

/// The name of an interface, or something that stands for it.
fn name(link: u32) -> String {
    kernel::plain_name(link).unwrap_or_else(|| format!("#{link}"))
}

/// Nobody beyond the link meets us there.
fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use gateway_core::config::Config;

    use super::super::Boundary;
    use super::super::home::barred;
    use super::super::tests::{boundary, config, ip};
    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    /// What there is to see for this configuration, after these lines.
    fn sees(boundary: &mut Boundary, config: &Config, lines: &[&str]) -> Seen {
        lines.iter().for_each(|line| ip(line));
        boundary.intent = Intent::of(config).into();
        let tun = nix::net::if_::if_nametoindex("pcl0").unwrap();
        boundary.seen = look(&mut boundary.netlink, &boundary.intent, &boundary.seen, Some(tun)).unwrap();
        boundary.seen.clone()
    }

    fn net(text: &str) -> Net {
        let (addr, prefix) = text.split_once('/').unwrap();
        Net::new(addr.parse().unwrap(), prefix.parse().unwrap()).unwrap()
    }

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.map(str::to_owned).into()
    }

    /// An uplink, and a LAN that is switched off.
    const GATEWAY: [&str; 6] = [
        "tuntap add wan mode tun",
        "link set wan up",
        "addr add 192.0.2.2/24 dev wan",
        "route add default dev wan",
        "link add lan type veth peer name far",
        "addr add 10.2.0.1/16 dev lan",
    ];

    #[test]
    fn f_07_what_is_at_our_device_or_of_the_link_alone_or_not_usable_yet_is_neither_ours_nor_outside() {
        in_a_network_of_its_own(|| {
            let (mut boundary, _guard) = boundary();
            let mut config = config("10.1.0.0/16");
            config.peers[0].remote =
                vec!["203.0.113.9".parse::<IpAddr>().map(gateway_core::config::Remote::Address).unwrap()];
            let more = [
                "addr add 169.254.7.7/16 dev wan",
                "addr add fe80::7/64 dev wan",
                "addr add 127.0.0.9/32 dev wan",
                "addr add fd02::1/64 dev lan",
                "link set pcl0 up",
                "addr add 10.2.9.9/24 dev pcl0",
                "route add 203.0.113.9 dev pcl0",
            ];
            let seen = sees(&mut boundary, &config, &[&GATEWAY[..], &more].concat());
            let addr = |text: &str| text.parse::<IpAddr>().unwrap();
            assert!(["192.0.2.2", "10.2.0.1"].iter().all(|ours| seen.ours.contains(&addr(ours))), "{:?}", seen.ours);
            assert!(!["fd02::1", "10.2.9.9"].iter().any(|other| seen.ours.contains(&addr(other))), "{:?}", seen.ours);
            assert_eq!(seen.facing, [addr("192.0.2.2")]);
            assert_eq!(seen.outside.interfaces, names(["wan"]));
            let of_the_link = |at: &&(IpAddr, String)| is_link_local(at.0);
            assert_eq!(seen.outside.addresses.iter().find(of_the_link), None);
            assert!(seen.outside.addressed[&net("10.2.0.0/16")].contains("lan"), "as long as it has the address");
            let ours = net("10.2.9.0/24");
            assert!(!seen.attached.contains_key(&ours) && !seen.outside.given.contains_key(&ours));
        });
    }

    #[test]
    fn f_07_an_interface_with_an_address_that_peers_meet_us_at_is_outside_and_so_is_the_way_of_our_own_messages() {
        in_a_network_of_its_own(|| {
            let (mut boundary, _guard) = boundary();
            let mut config = config("10.1.0.0/16");
            config.peers[0].remote =
                vec!["203.0.113.9".parse::<IpAddr>().map(gateway_core::config::Remote::Address).unwrap()];
            let outside = |boundary: &mut Boundary, lines: &[&str]| sees(boundary, &config, lines).outside.interfaces;
            let alone = outside(&mut boundary, &GATEWAY[..3]);
            assert_eq!(alone, names(["wan"]), "without a route to anybody");
            let marked = format!("rule add fwmark {MARK:#x} lookup 200 pref 50");
            let by_mark =
                ["tuntap add two mode tun", "link set two up", "route add 203.0.113.9 dev two table 200", &marked];
            assert_eq!(outside(&mut boundary, &by_mark), names(["two", "wan"]));
        });
    }

    #[test]
    fn f_07_who_is_named_is_outside_by_whatever_name_and_before_it_is_there_and_faces_strangers_alone() {
        in_a_network_of_its_own(|| {
            let (mut boundary, _guard) = boundary();
            let mut config = config("10.1.0.0/16");
            config.peers[0].remote.clear();
            config.peers[0].local.clear();
            let seen = sees(&mut boundary, &config, &GATEWAY);
            assert_eq!(seen.outside.interfaces, names(["wan"]));
            let seen = sees(&mut boundary, &config, &["route del default dev wan"]);
            assert_eq!(seen.outside.interfaces, names(["wan"]), "where the last uplink was the next one comes");
            config.gateway.outside = vec!["uplink".to_owned(), "ppp0".to_owned()];
            let two = [
                "tuntap add two mode tun",
                "link property add dev two altname uplink",
                "link set two up",
                "addr add 198.51.100.2/24 dev two",
            ];
            let seen = sees(&mut boundary, &config, &two);
            assert_eq!(seen.outside.interfaces, names(["ppp0", "two", "uplink"]), "the operator says which");
            let seen = sees(&mut boundary, &config, &["route add default dev wan"]);
            assert_eq!(seen.outside.interfaces, names(["ppp0", "two", "uplink", "wan"]), "but a default route is one");
            assert_eq!(seen.facing, ["198.51.100.2".parse::<IpAddr>().unwrap()]);
        });
    }

    #[test]
    fn f_01_our_device_gets_its_name_back_unless_somebody_else_has_it() {
        in_a_network_of_its_own(|| {
            let (mut boundary, _guard) = boundary();
            boundary.intent = Intent::of(&config("10.1.0.0/16")).into();
            let index = nix::net::if_::if_nametoindex("pcl0").unwrap();
            let mut device = |anew: bool, taken: &[&str]| {
                ip("link set pcl0 name mine");
                taken.iter().for_each(|line| ip(line));
                let mut round = Round::default();
                (
                    device(&mut boundary.netlink, &mut boundary.tun, &boundary.intent, anew, &mut round),
                    round.put_back.len(),
                )
            };
            assert_eq!(device(true, &[]), (Some((index, "pcl0".to_owned())), 1));
            // It is not even tried: that takes the device down, and its routes with it.
            assert_eq!(device(false, &["tuntap add pcl0 mode tun"]), (Some((index, "mine".to_owned())), 0));
        });
    }

    #[test]
    fn f_29_a_device_that_cannot_be_switched_on_as_it_is_to_be_refuses_the_configuration() {
        in_a_network_of_its_own(|| {
            let (mut boundary, _guard) = boundary();
            let mut config = config("10.1.0.0/16");
            let mut refused = |mtu: u16| {
                config.gateway.mtu = mtu;
                let mut round = Round::default();
                device(&mut boundary.netlink, &mut boundary.tun, &Intent::of(&config), true, &mut round).unwrap();
                round.is_serious()
            };
            assert!(refused(60), "fewer octets than the kernel takes");
            assert!(!refused(1280));
        });
    }

    #[test]
    fn f_07_one_interface_is_one_beside_our_device_whatever_somebody_calls_it() {
        in_a_network_of_its_own(|| {
            let (mut boundary, _guard) = boundary();
            let lines = [&GATEWAY[..4], &["link set pcl0 up"]].concat();
            assert!(!sees(&mut boundary, &config("10.1.0.0/16"), &lines).outside.several);
            let mut alias = std::process::Command::new("ip");
            let words = std::ffi::OsStr::from_bytes(b"M\xfcnchen");
            assert!(alias.args(["link", "set", "wan", "alias"]).arg(words).status().unwrap().success());
            assert!(!sees(&mut boundary, &config("10.1.0.0/16"), &[]).outside.several);
        });
    }

    #[test]
    fn f_07_of_everything_no_part_is_looked_for_and_an_address_for_peers_is_ours_before_it_is_here() {
        in_a_network_of_its_own(|| {
            let (mut boundary, _guard) = boundary();
            let lines =
                [&GATEWAY[..], &["link set lan up", "link set far up", "route add 10.3.0.0/16 dev lan"]].concat();
            let seen = sees(&mut boundary, &config("0.0.0.0/0"), &lines);
            assert!(seen.outside.given.is_empty() && seen.outside.routed.is_empty(), "{:?}", seen.outside);
            let seen = sees(&mut boundary, &config("10.1.0.0/16"), &[]);
            assert!(seen.outside.given[&net("10.2.0.0/16")].contains("lan"));
            // Protected by itself, and somebody else may have it meanwhile.
            let mut config = config("10.1.0.0/16");
            config.peers[0].local = vec!["192.0.2.9".parse().unwrap()];
            let mut single = config.peers[0].children[0].local_ts[0];
            single.addrs = AddrRange::single("192.0.2.9".parse().unwrap());
            config.peers[0].children[0].local_ts.push(single);
            let seen = sees(&mut boundary, &config, &[]);
            let held = barred(boundary.intent.sites(), &seen.outside, &BTreeSet::new()).nets;
            assert_eq!(held[&net("192.0.2.9/32")], names(["wan"]));
        });
    }
}
