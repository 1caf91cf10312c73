//! Of a machine with several uplinks: whether what leaves from an address goes through the interface that has it. A provider
//! drops what is not of its own network, and nobody hears of that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_core::config::{Config, Remote};

use super::finding::{Finding, Grade, finding};
use super::ways::{name, our_device};
use crate::boundary::MARK;
use crate::netlink::{LocalAddr, Netlink, Nexthops};

/// Where a peer may be of which no address is known.
const STRANGERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0x77))];

/// The addresses of ours from which packets to peers leave through another interface than the one that has them, though that
/// leads there too.
pub(super) fn uplinks(config: &Config, netlink: &mut Netlink, ours: &[LocalAddr]) -> Vec<Finding> {
    /// For thousands of peers that would take long; so many show what is wrong.
    const ASKED: usize = 256;
    let device = our_device(config, netlink);
    let mut owners: BTreeMap<IpAddr, BTreeSet<u32>> = BTreeMap::new();
    for local in ours.iter().filter(|local| Some(local.link) != device) {
        owners.entry(local.addr).or_default().insert(local.link);
    }
    let outside = &config.gateway.outside;
    let mut found: BTreeMap<(IpAddr, u32, u32), (Grade, IpAddr)> = BTreeMap::new();
    for (local, remote, named) in ends(config, &owners).into_iter().take(ASKED) {
        let Some(owners) = owners.get(&local) else { continue };
        // An interface that is named has sockets of its own, which are taken for its addresses.
        if owners.iter().any(|link| name(*link).is_some_and(|name| outside.contains(&name))) {
            continue;
        }
        let through = through(netlink, outside, local, remote);
        let Some(through) = through.into_iter().find(|link| Some(*link) != device && !owners.contains(link)) else {
            continue;
        };
        let mut leading = owners.iter().copied();
        let leads = |link: &u32| netlink.next_hop_through(*link, Some(local), remote, MARK).is_ok();
        let Some(owner) = leading.find(leads) else { continue };
        // Else only what comes there is answered so.
        let begins =
            named || netlink.next_hop_outside(outside, None, remote, MARK).is_ok_and(|hop| hop.source == Some(local));
        let grade = if begins { Grade::Warning } else { Grade::Note };
        let held = found.entry((local, through, owner)).or_insert((grade, remote));
        if grade > held.0 {
            *held = (grade, remote);
        }
    }
    let told = |((local, through, owner), (grade, remote)): ((IpAddr, u32, u32), (Grade, IpAddr))| {
        let (through, owner) = (name(through)?, name(owner)?);
        let what = if grade == Grade::Note { "what answers calls to" } else { "what is sent to peers from" };
        let text = format!(
            "{what} {local} leaves through {through}, though {owner} has that address and leads there too (as to {remote}): \
             a provider drops what is not of its own network"
        );
        let names: BTreeSet<&String> = outside.iter().chain([&through, &owner]).collect();
        let names: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
        let fix = format!("outside = [{}] under [gateway], or routing rules by source", names.join(", "));
        Some(finding(grade, "uplinks", text, fix))
    };
    found.into_iter().filter_map(told).collect()
}

/// The interfaces that packets from an address of ours to a peer may leave through.
fn through(netlink: &mut Netlink, outside: &[String], local: IpAddr, remote: IpAddr) -> BTreeSet<u32> {
    let mut links = BTreeSet::new();
    links.extend(netlink.next_hop_outside(outside, Some(local), remote, MARK).map(|hop| hop.link));
    // Which of several hops a packet of IPv6 takes, its protocol and ports have a say in.
    if local.is_ipv6()
        && let Ok(Some(route)) = netlink.route_from(Some(local), remote, MARK)
    {
        links.extend(netlink.links_of(&route, &mut Nexthops::default()).unwrap_or_default());
    }
    links
}

/// From where to where packets may go, and whether the file names the first: each pair once.
fn ends(config: &Config, owners: &BTreeMap<IpAddr, BTreeSet<u32>>) -> BTreeSet<(IpAddr, IpAddr, bool)> {
    let mut ends = BTreeSet::new();
    for peer in &config.peers {
        let known: Vec<IpAddr> = peer.remote.iter().filter_map(Remote::address).collect();
        for remote in if known.is_empty() { &STRANGERS[..] } else { &known } {
            let named = !peer.local.is_empty();
            let locals: Vec<IpAddr> = if named { peer.local.clone() } else { owners.keys().copied().collect() };
            let locals = locals.into_iter().filter(|local| local.is_ipv4() == remote.is_ipv4());
            ends.extend(locals.map(|local| (local, *remote, named)));
        }
    }
    ends.extend(config.manual.iter().map(|pair| (pair.local, pair.remote, true)));
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    fn config(outside: &str, local: &str, remote: &str) -> Config {
        let text = format!(
            "[gateway]\n{outside}\n[[peer]]\nname = \"a\"\nlocal = \"{local}\"\nremote = \"{remote}\"\nlocal-id = \"a.lab\"\n\
             remote-id = \"b.lab\"\npsk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
             local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.0.0/16\"\n"
        );
        Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0
    }

    #[test]
    fn f_21_what_leaves_through_another_uplink_than_the_one_that_has_its_address_is_told() {
        in_a_network_of_its_own(|| {
            let ip = |line: &str| {
                let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
                let status = std::process::Command::new("ip").args(line.split(' ')).env("PATH", path).status().unwrap();
                assert!(status.success(), "ip {line}");
            };
            for (name, net) in [("wan", "192.0.2"), ("wan2", "192.0.3"), ("lan", "10.2.0")] {
                ip(&format!("link add {name} type veth peer name {name}-far"));
                ip(&format!("link set {name} up"));
                ip(&format!("link set {name}-far up"));
                ip(&format!("addr add {net}.2/24 dev {name}"));
            }
            ip("link set lo up");
            ip("addr add 203.0.113.9/32 dev lo");
            ip("route add default via 192.0.2.254");
            let mut netlink = Netlink::open().unwrap();
            let mut told = |outside: &str, local: &str, remote: &str| {
                let ours = netlink.addresses().unwrap();
                let found = uplinks(&config(outside, local, remote), &mut netlink, &ours);
                found.iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            assert_eq!(told("", "192.0.3.2", "198.51.100.1"), [""; 0], "its own interface leads nowhere");
            ip("route add default via 192.0.3.254 metric 200");
            let rest = "192.0.3.2 leaves through wan, though wan2 has that address and leads there too (as to";
            let fix = "a provider drops what is not of its own network\n      \
                       fix: outside = [\"wan\", \"wan2\"] under [gateway], or routing rules by source";
            let warned = format!("warn  uplinks: what is sent to peers from {rest} 198.51.100.1): {fix}");
            assert_eq!(told("", "192.0.3.2", "198.51.100.1"), [warned]);
            assert_eq!(told("outside = \"wan\"", "192.0.3.2", "198.51.100.1").len(), 1);
            let noted = format!("note  uplinks: what answers calls to {rest} 198.51.100.77): {fix}");
            assert_eq!(told("", "any", "any"), [noted]);
            for (outside, local) in [
                ("outside = [\"wan\", \"wan2\"]", "192.0.3.2"),
                ("outside = \"wan2\"", "192.0.3.2"),
                ("", "192.0.2.2"),
                // Told to others by a routing protocol.
                ("", "203.0.113.9"),
                ("", "10.2.0.2"),
            ] {
                assert_eq!(told(outside, local, "198.51.100.1"), [""; 0], "{outside} {local}");
            }
            for (name, net) in [("wan", "2001:db8:2"), ("wan2", "2001:db8:3")] {
                ip(&format!("-6 addr add {net}::2/64 dev {name} nodad"));
            }
            ip("-6 route add default nexthop via 2001:db8:2::fe nexthop via 2001:db8:3::fe");
            for (local, other) in [("2001:db8:2::2", "wan2"), ("2001:db8:3::2", "wan")] {
                let told = told("", local, "2001:db8:9::1");
                assert!(told.len() == 1 && told[0].contains(&format!("{local} leaves through {other},")), "{told:?}");
            }
            ip("rule add from 192.0.3.2 table 100");
            ip("route add default via 192.0.3.254 table 100");
            assert_eq!(told("", "192.0.3.2", "198.51.100.1"), [""; 0], "a rule leads it");
        });
    }
}
