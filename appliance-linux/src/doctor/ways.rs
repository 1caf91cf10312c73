//! Where packets go: to the remote networks through our device, and to the peers outside of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use gateway_core::config::{Action, Config, Remote};
use ipsec_core::net::AddrRange;

use super::finding::{Finding, Grade, a_few, finding, fine};
use crate::boundary::{self, MARK, prefixes};
use crate::netlink::{LocalAddr, Netlink, NextHop};
use crate::resolve;

/// Whether the kernel leads packets to the remote networks to our device, and what else has a say before our rules. What lies
/// `elsewhere` is not led there, and is not to be.
pub(super) fn ways(config: &Config, netlink: &mut Netlink, elsewhere: &[AddrRange]) -> Vec<Finding> {
    /// A question each for thousands of networks would take long; so many show what is wrong.
    const ASKED: usize = 256;
    let device = &config.gateway.tun;
    let index = nix::net::if_::if_nametoindex(device.as_str()).ok();
    let (mut astray, mut asked) = (Vec::new(), 0_usize);
    for child in config.peers.iter().flat_map(|peer| &peer.children) {
        for net in child.remote_ts.iter().map(|remote| &remote.addrs) {
            // Everything to everything is the operator's own to route.
            let everything = |net: &AddrRange| *net == AddrRange::ANY_V4 || *net == AddrRange::ANY_V6;
            let ours = child.local_ts.iter().any(|local| everything(&local.addrs)) && everything(net);
            let Some(addr) = inside(config, net, elsewhere).filter(|_| !ours && asked < ASKED) else { continue };
            asked += 1;
            match netlink.next_hop(addr, 0) {
                Ok(hop) if Some(hop.link) == index => {}
                Ok(hop) => {
                    let name = nix::net::if_::if_indextoname(hop.link).ok().and_then(|name| name.into_string().ok());
                    astray.push(format!("{addr} by {}", name.unwrap_or_default()));
                }
                Err(error) => astray.push(format!("{addr} nowhere ({error})")),
            }
        }
    }
    let mut findings = Vec::new();
    if !astray.is_empty() {
        let fix = "`ip rule` shows what comes before our rules, `ip route get ADDRESS` where a packet goes";
        let text = format!("packets to remote networks do not go to {device}: {}", a_few(astray));
        findings.push(finding(Grade::Failure, "routes", text, fix));
    } else if asked > 0 {
        findings.push(fine("routes", format!("an address of each of {asked} remote networks is led to {device}")));
    }
    match boundary::foreign_rules(netlink) {
        Ok(before) if before.is_empty() => {}
        Ok(before) => findings.push(finding(
            Grade::Note,
            "rules",
            format!("routing rules of others come before ours, at priority {}", a_few(before)),
            "what they take does not reach the tunnel, and is dropped by the guard where it would leave in clear",
        )),
        Err(error) => findings.push(finding(Grade::Warning, "rules", format!("cannot be read: {error}"), "")),
    }
    findings
}

/// Where no packet to a remote network goes to our device: our own addresses, and the attached networks that the daemon
/// says it spares. Where it cannot be asked, all of them.
pub(super) fn elsewhere(ours: &[LocalAddr], spared: Option<&[String]>) -> Vec<AddrRange> {
    let net = |text: &String| {
        let (addr, prefix) = text.split_once('/')?;
        AddrRange::prefix(addr.parse().ok()?, prefix.parse().ok()?)
    };
    let attached: Vec<AddrRange> = match spared {
        Some(spared) => spared.iter().filter_map(net).collect(),
        None => ours.iter().filter_map(|local| AddrRange::prefix(local.addr, local.prefix)).collect(),
    };
    ours.iter().map(|local| AddrRange::single(local.addr)).chain(attached).collect()
}

/// An address of a remote network that nothing but its route decides about: no policy, no network on our side, and nothing
/// that is reached `elsewhere` or never by a gateway.
fn inside(config: &Config, net: &AddrRange, elsewhere: &[AddrRange]) -> Option<IpAddr> {
    let locals = config.peers.iter().flat_map(|peer| &peer.children).flat_map(|child| &child.local_ts);
    let locals = locals.map(|local| local.addrs).filter(|local| local != net);
    let taken: Vec<AddrRange> = locals.chain(elsewhere.iter().copied()).collect();
    let bypassed = |addr: IpAddr| {
        let mut bypasses = config.policies.iter().filter(|policy| policy.action == Action::Bypass);
        bypasses.any(|policy| policy.remote.is_none_or(|range| range.contains(addr)))
    };
    let usual = ["198.51.100.77", "2001:db8:77::77"].into_iter().filter_map(|addr| addr.parse().ok());
    let own = prefixes(net).into_iter().map(|net| net.second());
    let mut candidates = usual.chain(own).chain(far_apart(net)).filter(|addr| net.contains(*addr));
    candidates
        .find(|addr| is_beyond_links(*addr) && !bypassed(*addr) && !taken.iter().any(|range| range.contains(*addr)))
}

/// The middle of a range, its quarters, and its last address but one: where one network lies inside there is room beside it.
fn far_apart(range: &AddrRange) -> impl Iterator<Item = IpAddr> {
    let number = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()),
        IpAddr::V6(addr) => addr.to_bits(),
    };
    let (v4, first, last) = (range.is_ipv4(), number(range.start()), number(range.end()));
    let quarter = (last - first).div_ceil(4);
    let parted = [2, 1, 3].map(|quarters| first.saturating_add(quarters * quarter));
    let address = move |number: u128| match v4 {
        true => u32::try_from(number).ok().map(|bits| IpAddr::V4(bits.into())),
        false => Some(IpAddr::V6(number.into())),
    };
    parted.into_iter().chain([last.saturating_sub(1)]).filter_map(address)
}

/// Whether an address can lie behind a gateway at all.
fn is_beyond_links(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => {
            v4.octets().first() != Some(&0)
                && !(v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast()),
    }
}

/// The interfaces that face the peers: those that are named, else those that the routes to the peers use.
pub(super) fn outside(config: &Config, netlink: &mut Netlink) -> BTreeSet<String> {
    if !config.gateway.outside.is_empty() {
        return config.gateway.outside.iter().cloned().collect();
    }
    let remotes = config.peers.iter().flat_map(|peer| peer.remote.iter().filter_map(Remote::address));
    let links = remotes.filter_map(|remote| netlink.next_hop(remote, MARK).ok());
    links.filter_map(|hop| nix::net::if_::if_indextoname(hop.link).ok()?.into_string().ok()).collect()
}

pub(super) fn peers(config: &Config, netlink: &mut Netlink) -> Vec<Finding> {
    let mut findings = Vec::new();
    for peer in &config.peers {
        for remote in &peer.remote {
            let addr = match remote {
                Remote::Address(addr) => *addr,
                Remote::Name(name) => match resolve::now(name).map(|all| all.first().copied()) {
                    Ok(Some(addr)) => addr,
                    failed => {
                        let why = failed.err().unwrap_or_default();
                        let fix = "check the name, and /etc/resolv.conf; it is asked for again at each attempt";
                        let text = format!("\"{name}\" of \"{}\" does not resolve: {why}", peer.name);
                        findings.push(finding(Grade::Failure, "peer", text, fix));
                        continue;
                    }
                },
            };
            findings.push(match netlink.next_hop(addr, MARK) {
                Ok(hop) => mtu(config, &peer.name, addr, hop, netlink),
                Err(error) => finding(
                    Grade::Failure,
                    "peer",
                    format!("no route to \"{}\" at {addr}: {error}", peer.name),
                    format!("ip route get {addr}; add a default route"),
                ),
            });
        }
    }
    findings
}

/// Octets around an inner packet at worst: IP, UDP, ESP with IV, padding and ICV.
fn overhead(addr: IpAddr) -> u32 {
    let ip = if addr.is_ipv4() { 20 } else { 40 };
    ip + 8 + 8 + 8 + 5 + 16
}

fn mtu(config: &Config, peer: &str, addr: IpAddr, hop: NextHop, netlink: &mut Netlink) -> Finding {
    let Ok(link) = netlink.link_mtu(hop.link) else {
        return finding(Grade::Warning, "peer", format!("\"{peer}\" at {addr}: the MTU of the way is unknown"), "");
    };
    let inner = u32::from(config.gateway.mtu);
    let fits = link.saturating_sub(overhead(addr));
    if inner > fits {
        let text = format!(
            "packets of {inner} octets to \"{peer}\" do not fit an MTU of {link} outside: they will be fragmented"
        );
        return finding(Grade::Warning, "mtu", text, format!("mtu = {fits} under [gateway]"));
    }
    let from = hop.source.map_or_else(String::new, |source| format!(" from {source}"));
    fine("peer", format!("\"{peer}\" is reached at {addr}{from}, MTU {link}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_is_asked_for_is_the_networks_own() {
        let text = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                    psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
                    local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.0.0.0/8\"\n[[policy]]\naction = \"bypass\"\n\
                    remote = \"198.51.100.0/24\"\n";
        let config = Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0;
        let asked = |net: &str, prefix| inside(&config, &AddrRange::prefix(net.parse().unwrap(), prefix).unwrap(), &[]);
        let addr = |text: &str| Some(text.parse().unwrap());
        assert_eq!(asked("10.0.0.0", 8), addr("10.0.0.1"));
        assert_eq!(asked("10.2.0.0", 24), None, "ours");
        assert_eq!(asked("2001:db8::", 32), addr("2001:db8:77::77"));
        assert_eq!(asked("198.51.100.0", 25), None, "goes by a policy");
    }

    #[test]
    fn f_13_what_is_reached_in_clear_and_what_is_ours_is_not_asked_for_and_the_rest_of_the_network_is() {
        let config = Config::parse("").unwrap_or_else(|errors| panic!("{errors:?}")).0;
        let ours = |addr: &str, prefix| LocalAddr { addr: addr.parse().unwrap(), prefix, link: 2, usable: true };
        let asked = |net: (&str, u8), ours: &[LocalAddr], spared: Option<&[String]>| {
            let net = AddrRange::prefix(net.0.parse().unwrap(), net.1).unwrap();
            inside(&config, &net, &elsewhere(ours, spared)).map(|addr| addr.to_string())
        };
        let wan = [ours("192.168.0.9", 24), ours("10.0.0.1", 24), ours("fd00:1::1", 64)];
        let spared = ["192.168.0.0/24".to_owned(), "fd00:1::/64".to_owned()];
        for spared in [Some(&spared[..]), None] {
            let asked = |net| asked(net, &wan, spared).unwrap();
            assert_eq!(asked(("192.168.0.0", 16)), "192.168.128.0");
            assert_eq!(asked(("fd00:1::", 32)), "fd00:1:8000::");
            assert_eq!(asked(("::", 0)), "2001:db8:77::77");
        }
        assert_eq!(
            asked(("10.0.0.0", 24), &wan, Some(&spared)).as_deref(),
            Some("10.0.0.128"),
            "protected but for ours"
        );
        assert_eq!(asked(("10.0.0.0", 24), &wan, None), None, "nobody tells");
        assert_eq!(asked(("0.0.0.0", 1), &[], None).as_deref(), Some("64.0.0.0"), "0.0.0.1 is nobody's");
        assert_eq!(asked(("10.0.0.5", 32), &[], None).as_deref(), Some("10.0.0.5"));
        assert_eq!(asked(("169.254.0.0", 16), &[], None), None, "stays on its link");
    }
}
