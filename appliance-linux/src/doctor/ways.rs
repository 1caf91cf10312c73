//! Where packets go: to the remote networks through our device, and to the peers outside of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_core::config::{self, Action, Child, Config, Peer, Policy, Remote};
use ipsec_core::net::{AddrRange, TrafficSelector};
use netlink_packet_route::route::{RouteAttribute, RouteHeader};
use nix::net::if_::if_indextoname;

use super::finding::{Finding, Grade, a_few, finding, fine};
use crate::boundary::{self, GuardState, MARK, is_beyond_links, prefixes};
use crate::netlink::{LocalAddr, Netlink, NextHop, ip, route_table};
use crate::resolve;

/// Whether the kernel leads packets to the remote networks to our device, and what else has a say before our rules. What lies
/// `elsewhere` is not led there, and is not to be.
pub(super) fn ways(config: &Config, netlink: &mut Netlink, elsewhere: &[AddrRange]) -> Vec<Finding> {
    let index = our_device(config, netlink);
    let device = index.and_then(name).unwrap_or_else(|| config.gateway.tun.clone());
    let Questions { asked, unasked } = questions(config, elsewhere, boundary::has_ipv6());
    let mut astray = Vec::new();
    for &addr in &asked {
        match netlink.next_hop(addr, 0) {
            Ok(hop) if Some(hop.link) == index => {}
            Ok(hop) => astray.push(format!("{addr} by {}", name(hop.link).unwrap_or_default())),
            Err(error) => astray.push(format!("{addr} nowhere ({error})")),
        }
    }
    let mut findings = Vec::new();
    if !astray.is_empty() {
        let fix = "`portcullis reload`, where the file is newer than what the daemon runs with; `ip rule` shows what comes \
                   before our rules, `ip route get ADDRESS` where a packet goes, `ip route show table 4500` what is among ours";
        let text = format!("packets to remote networks do not go to {device}: {}", a_few(astray));
        findings.push(finding(Grade::Failure, "routes", text, fix));
    } else if !asked.is_empty() {
        let text = match asked.len() {
            1 => format!("an address of the remote network is led to {device}"),
            many => format!("an address of each of {many} remote networks is led to {device}"),
        };
        findings.push(fine("routes", text));
    }
    for (why, nets) in unasked {
        let were = if nets.len() == 1 { "network was" } else { "networks were" };
        let text = format!("{} remote {were} not asked for, {why}: {}", nets.len(), a_few(nets));
        findings.push(finding(Grade::Note, "routes", text, ""));
    }
    match boundary::foreign_rules(netlink) {
        Ok(before) if before.is_empty() => {}
        Ok(before) => {
            let text = format!("routing rules of others come before ours, at priority {}", a_few(before));
            let fix = match boundary::guard_state() {
                GuardState::Stands => {
                    "what they take does not reach the tunnel, and is dropped by the guard where it would leave in clear"
                }
                _ => "what they take does not reach the tunnel, and no guard keeps it from leaving in clear",
            };
            findings.push(finding(Grade::Note, "rules", text, fix));
        }
        Err(error) => findings.push(finding(Grade::Warning, "rules", format!("cannot be read: {error}"), "")),
    }
    findings
}

/// Our device: it may have another name than its own, where that is somebody else's.
pub(super) fn our_device(config: &Config, netlink: &mut Netlink) -> Option<u32> {
    boundary::device(netlink).or_else(|| nix::net::if_::if_nametoindex(config.gateway.tun.as_str()).ok())
}

/// The name of an interface.
pub(super) fn name(link: u32) -> Option<String> {
    if_indextoname(link).ok()?.into_string().ok()
}

/// What the kernel is asked for.
#[derive(Debug, Default)]
struct Questions {
    /// An address of each remote network.
    asked: Vec<IpAddr>,
    /// The networks that none is asked for, by the reason.
    unasked: BTreeMap<&'static str, Vec<String>>,
}

fn questions(config: &Config, elsewhere: &[AddrRange], v6: bool) -> Questions {
    /// A question each for thousands of networks would take long; so many show what is wrong.
    const ASKED: usize = 256;
    let mut questions = Questions::default();
    for child in config.peers.iter().flat_map(|peer| &peer.children) {
        for net in child.remote_ts.iter().map(|remote| &remote.addrs) {
            if child.is_left_to_routes(net) {
                continue;
            }
            let why = if !v6 && !net.is_ipv4() {
                "as this machine has no IPv6"
            } else if questions.asked.len() == ASKED {
                "as so many others were"
            } else if let Some(addr) = inside(config, child, net, elsewhere) {
                questions.asked.push(addr);
                continue;
            } else {
                "as all that was tried there is ours, attached to this machine, bypassed or never beyond its link"
            };
            let nets = prefixes(net).into_iter().take(1).map(|first| first.to_string());
            questions.unasked.entry(why).or_default().extend(nets);
        }
    }
    questions
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

/// An address of a child's remote network that nothing but its route decides about: no policy, no network on our side, and
/// nothing that is reached `elsewhere` or never by a gateway. The question has neither source nor protocol.
fn inside(config: &Config, child: &Child, net: &AddrRange, elsewhere: &[AddrRange]) -> Option<IpAddr> {
    let locals = config.peers.iter().flat_map(|peer| &peer.children).flat_map(|child| &child.local_ts);
    // Where ours is all of it, or more, the tunnel has it.
    let locals = locals.map(|local| local.addrs).filter(|local| local.intersect(net) != Some(*net));
    let taken: Vec<AddrRange> = locals.chain(elsewhere.iter().copied()).collect();
    let selectors = || child.local_ts.iter().chain(&child.remote_ts);
    // What such a child keeps from a bypass behind it a question without a protocol does not show.
    let narrow = selectors().any(|selector| selector.protocol != 0);
    let bypassed = |addr: IpAddr| {
        let before = |policy: &&Policy| narrow || policy.priority <= child.priority;
        let mut bypasses = config.policies.iter().filter(|policy| policy.action == Action::Bypass).filter(before);
        bypasses.any(|policy| {
            // A question without a source fits what fits everything, or no address yet.
            let none = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let all = policy.protocol == 0 && policy.local.is_none_or(|range| range.contains(none));
            all && policy.remote.is_none_or(|range| range.contains(addr))
        })
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

/// Whether one family leaves in clear by a default route while a child takes all of the other one.
pub(super) fn beside_a_full_tunnel(config: &Config, netlink: &mut Netlink) -> Vec<Finding> {
    let all = |everything: &AddrRange| {
        let mut children = config.peers.iter().flat_map(|peer| &peer.children);
        children.any(|child| {
            let whole = |list: &[TrafficSelector]| list.iter().any(|one| one.addrs == *everything && one.protocol == 0);
            // Everything to everything is the operator's own to route.
            whole(&child.remote_ts) && !child.local_ts.iter().any(|one| one.addrs == *everything)
        })
    };
    let discarded = |everything: &AddrRange| {
        let mut discards = config.policies.iter().filter(|policy| policy.action == Action::Discard);
        discards.any(|policy| policy.protocol == 0 && policy.remote.is_none_or(|range| range == *everything))
    };
    let families = [
        (&AddrRange::ANY_V4, "IPv4", &AddrRange::ANY_V6, "IPv6", "::/0", "2000::1"),
        (&AddrRange::ANY_V6, "IPv6", &AddrRange::ANY_V4, "IPv4", "0.0.0.0/0", "192.0.2.1"),
    ];
    let beside = families.into_iter().filter(|(full, _, other, ..)| all(full) && !all(other) && !discarded(other));
    let device = our_device(config, netlink);
    let led = beside.filter(|(.., somewhere)| {
        // Past our own routes: what a smaller network of ours takes says nothing about the rest. The operator's may lead to
        // the device.
        let hop = somewhere.parse().ok().and_then(|somewhere| netlink.next_hop(somewhere, MARK).ok());
        hop.is_some_and(|hop| Some(hop.link) != device)
    });
    led.map(|(_, full, _, other, net, _)| {
        let text =
            format!("all of {full} goes into a tunnel, and {other} has a route to the world: it leaves in clear");
        let fix =
            format!("{net} in \"remote-ts\" of a child, a [[policy]] with action = \"discard\", or no {other} here");
        finding(Grade::Warning, "full tunnel", text, fix)
    })
    .collect()
}

/// The interfaces that face the peers: those that are named, else those that the routes to the peers use.
pub(super) fn outside(config: &Config, netlink: &mut Netlink) -> BTreeSet<String> {
    if !config.gateway.outside.is_empty() {
        return config.gateway.outside.iter().cloned().collect();
    }
    let remotes: Vec<_> = config.peers.iter().flat_map(|peer| peer.remote.iter().map(Remote::address)).collect();
    // Where a peer is not known, where strangers would be: by the default route.
    let unknown = remotes.contains(&None) || config.peers.iter().any(|peer| peer.remote.is_empty());
    let strangers = ["192.0.2.1", "2001:db8::1"].into_iter().filter(|_| unknown).filter_map(|addr| addr.parse().ok());
    let device = our_device(config, netlink);
    let links = remotes.into_iter().flatten().chain(strangers).filter_map(|remote| netlink.next_hop(remote, MARK).ok());
    links.filter(|hop| Some(hop.link) != device).filter_map(|hop| name(hop.link)).collect()
}

/// How every peer is reached; of those where all is well a few are told.
pub(super) fn peers(config: &Config, netlink: &mut Netlink) -> Vec<Finding> {
    let mut findings = Vec::new();
    let places = config.peers.iter().flat_map(|peer| &peer.remote);
    let names = places.filter_map(|place| match place {
        Remote::Name(name) => Some(name.clone()),
        Remote::Address(_) => None,
    });
    let answers = resolve::now(names.collect());
    for peer in &config.peers {
        for remote in &peer.remote {
            let addrs = match remote {
                Remote::Address(addr) => vec![*addr],
                Remote::Name(name) => match answers.get(name) {
                    Some(Ok(addrs)) if !addrs.is_empty() => addrs.clone(),
                    failed => {
                        let why = failed.and_then(|answer| answer.as_ref().err()).map_or("", String::as_str);
                        let fix = "check the name, and /etc/resolv.conf; it is asked for again at each attempt";
                        let text = format!("\"{name}\" of \"{}\" does not resolve: {why}", peer.name);
                        findings.push(finding(Grade::Failure, "peer", text, fix));
                        continue;
                    }
                },
            };
            findings.extend(reached(config, peer, &addrs, netlink));
        }
    }
    few_fine(findings)
}

/// All of which something has to be said, and a few of the others: whoever has hundreds of peers wants to see the former.
fn few_fine(mut findings: Vec<Finding>) -> Vec<Finding> {
    const FEW: usize = 4;
    let mut count = 0_usize;
    findings.retain(|finding| {
        count += usize::from(finding.grade == Grade::Fine);
        finding.grade != Grade::Fine || count <= FEW
    });
    let more = count.saturating_sub(FEW);
    if more > 0 {
        findings.push(fine("peer", format!("{more} more addresses of peers are reached")));
    }
    findings
}

/// How the addresses of a peer, each of which will do, are reached from ours.
fn reached(config: &Config, peer: &Peer, addrs: &[IpAddr], netlink: &mut Netlink) -> Vec<Finding> {
    let device = our_device(config, netlink);
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let (others, nobodys): (Vec<&IpAddr>, Vec<&IpAddr>) =
        addrs.iter().partition(|addr| config::nobodys(**addr, &peer.local).is_none());
    for addr in others {
        // The daemon tries each of ours in turn.
        let same_family = peer.local.iter().filter(|local| local.is_ipv4() == addr.is_ipv4());
        let mut from: Vec<Option<IpAddr>> = same_family.copied().map(Some).collect();
        let no_route = |local: Option<IpAddr>, why: &str| {
            let from = local.map_or_else(String::new, |local| format!(" from {local}"));
            let fix = format!("ip route get {addr}{from}; add a default route");
            let through = match config.gateway.outside.as_slice() {
                [] => String::new(),
                outside => format!(" through {}", a_few(outside.to_vec())),
            };
            (format!("no route to \"{}\" at {addr}{from}{through}: {why}", peer.name), fix)
        };
        if peer.local.is_empty() {
            from.push(None);
        } else if from.is_empty() {
            bad.push(no_route(None, "local names no address of its family"));
        }
        let several = from.len() > 1;
        for local in from {
            match netlink.next_hop_outside(&config.gateway.outside, local, *addr, MARK) {
                Ok(hop) if Some(hop.link) == device => {
                    let from = local.filter(|_| several).map_or_else(String::new, |local| format!(" from {local}"));
                    let way = format!("the way to \"{}\" ({addr}{from})", peer.name);
                    let device = name(hop.link).unwrap_or_default();
                    let text = format!("{way} leads into the tunnel's own device {device}");
                    bad.push((text, way_out(*addr, local, hop.link, netlink)));
                }
                Ok(hop) => {
                    let hop = NextHop { source: local.or(hop.source), ..hop };
                    good.push(mtu(config, &peer.name, *addr, hop, netlink));
                    break;
                }
                Err(error) => {
                    let own = netlink.next_hop_from(local, *addr, MARK).ok().filter(|hop| Some(hop.link) != device);
                    let own = own.filter(|_| !config.gateway.outside.is_empty()).and_then(|hop| name(hop.link));
                    let (text, fix) = no_route(local, &error.to_string());
                    let fix = own.map_or(fix, |own| {
                        format!(
                            "this machine's own route leads through {own}: name that under \"outside\", or add a route"
                        )
                    });
                    bad.push((text, fix));
                }
            }
        }
    }
    let grade = if good.is_empty() { Grade::Failure } else { Grade::Note };
    good.extend(nobodys.into_iter().map(|addr| {
        let text = format!(
            "\"{}\" is at {addr}, says its name, {}",
            peer.name,
            config::nobodys(*addr, &peer.local).unwrap_or_default()
        );
        finding(grade, "peer", text, "correct what DNS, or /etc/hosts, says of it")
    }));
    good.extend(bad.into_iter().map(|(text, fix)| finding(grade, "peer", text, fix)));
    good
}

/// The route that would lead to a peer past our `device`, into which one does: that one by another interface where it names a
/// gateway, else one of the peer's own.
fn way_out(peer: IpAddr, local: Option<IpAddr>, device: u32, netlink: &mut Netlink) -> String {
    let route = netlink.route_from(local, peer, MARK).ok().flatten();
    let (mut gateway, mut net, mut rest) = (None, None, String::new());
    for attribute in route.iter().flat_map(|route| &route.attributes) {
        match attribute {
            RouteAttribute::Gateway(addr) => gateway = ip(addr),
            RouteAttribute::Destination(addr) => net = ip(addr),
            RouteAttribute::Priority(metric) => rest = format!(" metric {metric}"),
            _ => {}
        }
    }
    if let Some(table) = route.as_ref().map(route_table).filter(|table| *table != u32::from(RouteHeader::RT_TABLE_MAIN))
    {
        rest += &format!(" table {table}");
    }
    let Some(gateway) = gateway else {
        return format!("ip route add {peer} via GATEWAY dev INTERFACE");
    };
    let near = |at: &LocalAddr| AddrRange::prefix(at.addr, at.prefix).is_some_and(|net| net.contains(gateway));
    let ours = netlink.addresses().unwrap_or_default();
    // What never leaves its link is at every interface.
    let mut others = ours.iter().filter(|at| at.link != device && is_beyond_links(gateway));
    let interface = others.find(|at| near(at)).and_then(|at| name(at.link));
    let net = net.zip(route).map(|(net, route)| format!("{net}/{}", route.header.destination_prefix_length));
    format!(
        "ip route replace {} via {gateway} dev {}{rest}",
        net.as_deref().unwrap_or("default"),
        interface.as_deref().unwrap_or("INTERFACE")
    )
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
        let mut locals = config.peers.iter().flat_map(|peer| &peer.children).flat_map(|child| &child.local_ts);
        // What `check` takes (RFC 791, RFC 8200).
        let least = if locals.all(|local| local.addrs.is_ipv4()) { 576 } else { 1280 };
        let fix = match fits >= least {
            true => format!("mtu = {fits} under [gateway]"),
            false => format!(
                "an MTU of {} or more outside: mtu under [gateway] can be no smaller than {least}{}",
                least + overhead(addr),
                if least == 1280 { ", as there are children with IPv6" } else { "" }
            ),
        };
        return finding(Grade::Warning, "mtu", text, fix);
    }
    let from = hop.source.map_or_else(String::new, |source| format!(" from {source}"));
    fine("peer", format!("\"{peer}\" is reached at {addr}{from}, MTU {link}"))
}

#[cfg(test)]
mod tests;
