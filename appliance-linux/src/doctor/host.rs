//! What this machine allows and has: privileges, the TUN device, settings of its kernel, interfaces, addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use gateway_core::config::{Action, Child, Config, Peer, Remote};
use ipsec_core::net::AddrRange;

use super::finding::{Finding, Grade, a_few, finding, fine};
use crate::boundary::{GuardState, prefixes};
use crate::netlink::{Link, LocalAddr, Netlink};
use crate::tun::CLONE_DEVICE;

const NET_BIND_SERVICE: u32 = 10;
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;

pub(super) fn privileges() -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    let needed = [(NET_ADMIN, "CAP_NET_ADMIN"), (NET_RAW, "CAP_NET_RAW"), (NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE")];
    let missing: Vec<_> =
        needed.into_iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| name).collect();
    if missing.is_empty() {
        return fine("privileges", "may create the TUN device, routes and raw sockets");
    }
    let fix = "run as root, or with these capabilities (the systemd unit grants them)";
    finding(Grade::Failure, "privileges", format!("{} missing", missing.join(", ")), fix)
}

pub(super) fn tun(config: &Config, running: bool, netlink: &mut Netlink) -> Finding {
    let name = &config.gateway.tun;
    match fs::OpenOptions::new().read(true).write(true).open(CLONE_DEVICE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fix = "modprobe tun; in a container: --device /dev/net/tun";
            return finding(Grade::Failure, "tun", format!("{CLONE_DEVICE} does not exist"), fix);
        }
        Err(error) => {
            let fix = "check the permissions of the device, and of the container";
            return finding(Grade::Failure, "tun", format!("{CLONE_DEVICE} cannot be opened: {error}"), fix);
        }
        Ok(_) => {}
    }
    if !running && let Ok(link) = nix::net::if_::if_nametoindex(name.as_str()) {
        let fix = match netlink.is_tun(link) {
            true => format!("ip link delete {name}, or another name with tun = \"…\" under [gateway]"),
            // It may well be the uplink.
            false => "another name with tun = \"…\" under [gateway]".to_owned(),
        };
        return finding(Grade::Failure, "tun", format!("an interface {name} exists already"), fix);
    }
    let free = if running { String::new() } else { format!(", and no interface {name} is in the way") };
    fine("tun", format!("{CLONE_DEVICE} can be opened{free}"))
}

/// The value of a setting below /proc/sys/net.
pub(super) fn setting(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/sys/net").join(name)).ok().map(|value| value.trim().to_owned())
}

/// Whether the kernel forwards packets of the families that children carry, and whether it has to.
pub(crate) fn forwarding(config: &Config) -> Vec<Finding> {
    let families = [
        (true, "ipv4/ip_forward", "net.ipv4.ip_forward"),
        (false, "ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"),
    ];
    let mut findings = Vec::new();
    for (v4, file, name) in families {
        let local: Vec<String> = config
            .traffic()
            .flat_map(|traffic| traffic.local)
            .filter(|selector| selector.addrs.is_ipv4() == v4 && selector.addrs.start() != selector.addrs.end())
            .flat_map(|selector| prefixes(&selector.addrs))
            .map(|net| net.to_string())
            .collect();
        if local.is_empty() {
            continue; // only single addresses, which may well be our own
        }
        findings.push(match setting(file).as_deref() {
            Some("0") => finding(
                Grade::Failure,
                "ip_forward",
                format!("{name} is 0: the kernel will not forward packets from and to {}", a_few(local)),
                format!("sysctl -w {name}=1 (and a line {name}=1 in /etc/sysctl.d/90-portcullis.conf to keep it)"),
            ),
            Some(_) => fine("ip_forward", format!("{name} is on")),
            None => finding(Grade::Warning, "ip_forward", format!("{name} cannot be read"), ""),
        });
    }
    findings
}

/// Whether frames that only cross a bridge meet the guard, where it takes what they carry for what is to be in a tunnel: under a
/// remote network that is everything.
pub(super) fn switched(config: &Config, links: &[Link], setting: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let ports = |bridge: &Link| links.iter().filter(|link| link.master == Some(bridge.index)).count();
    if !links.iter().any(|link| link.kind.as_deref() == Some("bridge") && ports(link) > 1) {
        return Vec::new();
    }
    let children = || config.peers.iter().flat_map(|peer| &peer.children);
    let all = |net: AddrRange| {
        let whole = |child: &Child| child.remote_ts.iter().any(|remote| remote.addrs == net);
        children().any(|child| whole(child) && !child.is_left_to_routes(&net))
    };
    let families = [(AddrRange::ANY_V4, "iptables", "IPv4"), (AddrRange::ANY_V6, "ip6tables", "IPv6")];
    let met = families.into_iter().filter(|(net, tables, _)| {
        all(*net) && setting(&format!("bridge/bridge-nf-call-{tables}")).is_some_and(|value| value == "1")
    });
    met.map(|(_, tables, family)| {
        let name = format!("net.bridge.bridge-nf-call-{tables}");
        finding(
            Grade::Warning,
            "bridge",
            format!(
                "{name} is 1: {family} frames that are only switched between bridge ports are dropped by the guard"
            ),
            format!("sysctl -w {name}=0"),
        )
    })
    .collect()
}

/// Whether a guard stands, or will from the start on.
pub(super) fn is_guarded(state: &GuardState, running: bool) -> bool {
    match state {
        GuardState::Stands => true,
        GuardState::Absent => !running,
        GuardState::NoNft | GuardState::NotRun(_) | GuardState::Refused(_) => false,
    }
}

/// A peer with an address of this family to which the route leads into its own tunnel. Our outside addresses pass by a remote
/// network that is everything, unless a child protects them.
pub(super) fn inside_its_own(config: &Config, v4: bool) -> Option<&Peer> {
    let locals = || config.peers.iter().flat_map(|peer| &peer.children).flat_map(|child| &child.local_ts);
    config.peers.iter().find(|peer| {
        let protected = peer.local.iter().any(|ours| locals().any(|local| local.addrs.contains(*ours)));
        let leads = |child: &Child, net: &AddrRange| {
            let all = [AddrRange::ANY_V4, AddrRange::ANY_V6].contains(net);
            (protected || !all) && !child.is_left_to_routes(net)
        };
        let inside = |child: &Child, addr: IpAddr| {
            let mut nets = child.remote_ts.iter().map(|net| net.addrs);
            nets.any(|net| net.contains(addr) && leads(child, &net))
        };
        let mut addrs = peer.remote.iter().filter_map(Remote::address).filter(|addr| addr.is_ipv4() == v4);
        addrs.any(|addr| peer.children.iter().any(|child| inside(child, addr)))
    })
}

/// Whether a policy lets something of this family through in clear.
pub(super) fn bypasses(config: &Config, v4: bool) -> bool {
    let of_family = |range: Option<AddrRange>| range.is_none_or(|range| range.is_ipv4() == v4);
    let mut bypasses = config.policies.iter().filter(|policy| policy.action == Action::Bypass);
    bypasses.any(|policy| of_family(policy.local) && of_family(policy.remote))
}

/// Without a guard, strict reverse path filtering makes it harder for others to inject clear packets in the name of
/// protected networks (over IPv4, and by another interface than that of the route back), but also drops what a bypass
/// policy, or a peer inside its own remote network, sends in clear.
pub(super) fn reverse_path(config: &Config, outside: &BTreeSet<String>, guarded: bool) -> Vec<Finding> {
    let value = |name: &str| setting(&format!("ipv4/conf/{name}/rp_filter")).and_then(|value| value.parse::<u8>().ok());
    let (inside, bypass) = (inside_its_own(config, true), bypasses(config, true));
    let grade = |name: &String| {
        let effective = value(name)?.max(value("all").unwrap_or(0));
        let setting = format!("net.ipv4.conf.{name}.rp_filter");
        Some(match (effective, inside, bypass) {
            (1, Some(peer), _) => finding(
                Grade::Failure,
                "rp_filter",
                format!(
                    "{setting} is 1, and the address of \"{}\" lies inside its own remote-ts: the kernel drops what it \
                     sends",
                    peer.name
                ),
                format!("sysctl -w {setting}=2"),
            ),
            (1, None, true) => finding(
                Grade::Warning,
                "rp_filter",
                format!(
                    "{setting} is 1: what a bypass policy lets in clear is dropped when it comes from a remote network"
                ),
                format!("sysctl -w {setting}=2 when such packets are expected, and a firewall rule for the others"),
            ),
            (1, None, false) => fine("rp_filter", format!("{setting} is 1")),
            _ if guarded => fine("rp_filter", format!("{setting} is {effective}; the guard does not need it")),
            _ => finding(
                Grade::Warning,
                "rp_filter",
                format!(
                    "{setting} is {effective}: whoever is outside can send clear packets in the name of a remote network, \
                     and the kernel takes them"
                ),
                match bypass || inside.is_some() {
                    true => {
                        "a firewall rule that drops what comes in there from the remote networks, but for what bypasses"
                            .to_owned()
                    }
                    false => format!("sysctl -w {setting}=1"),
                },
            ),
        })
    };
    outside.iter().filter_map(grade).collect()
}

pub(super) fn interfaces(config: &Config) -> Vec<Finding> {
    let exists = |name: &String| nix::net::if_::if_nametoindex(name.as_str()).is_ok();
    let missing = config.gateway.outside.iter().filter(|name| !exists(name));
    missing
        .map(|name| {
            let fix = "ip link shows which there are; correct outside under [gateway]";
            finding(Grade::Failure, "outside", format!("there is no interface {name}"), fix)
        })
        .collect()
}

pub(super) fn addresses(config: &Config, ours: &[LocalAddr]) -> Vec<Finding> {
    let ours_alone: BTreeSet<IpAddr> = ours.iter().map(|local| local.addr).collect();
    let here = |addr: &IpAddr| ours_alone.contains(addr);
    let mut absent: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    let mut strange = Vec::new();
    for peer in &config.peers {
        for addr in peer.local.iter().filter(|addr| !here(addr)) {
            absent.entry(*addr).or_default().push(format!("\"{}\"", peer.name));
        }
        for child in &peer.children {
            if !ours.iter().any(|local| child.local_ts.iter().any(|net| net.addrs.contains(local.addr))) {
                strange.push(format!("\"{}/{}\"", peer.name, child.name));
            }
        }
    }
    for pair in config.manual.iter().filter(|pair| !here(&pair.local)) {
        absent.entry(pair.local).or_default().push(format!("\"{}\"", pair.name()));
    }
    let absent = absent.into_iter().map(|(addr, peers)| {
        let text = format!("{addr}, from which {} is to be reached, is no address of this machine", a_few(peers));
        let fix = "`ip address` shows what it has; behind NAT (AWS, Azure, a home router) write the private address, \
                   or of a peer local = \"any\"";
        finding(Grade::Failure, "local", text, fix)
    });
    let mut findings: Vec<Finding> = absent.collect();
    if !strange.is_empty() {
        let text = format!(
            "this machine has no address in local-ts of {}: hosts behind it can use the tunnel, it cannot itself",
            a_few(strange)
        );
        findings.push(finding(Grade::Note, "local-ts", text, ""));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    #[test]
    fn f_07_a_guard_that_does_not_stand_while_the_daemon_runs_guards_nothing() {
        let guarded = |state: &GuardState| [false, true].map(|running| is_guarded(state, running));
        assert_eq!(guarded(&GuardState::Stands), [true, true]);
        assert_eq!(guarded(&GuardState::Absent), [true, false]);
        assert_eq!(guarded(&GuardState::NoNft), [false, false]);
    }

    #[test]
    fn f_12_a_peer_is_inside_its_own_network_where_the_way_to_it_leads_into_its_tunnel() {
        let inside = |(ours, theirs): (&str, &str), local: &str, remote: &str| {
            let text = format!(
                "[[peer]]\nname = \"a\"\nlocal = \"{ours}\"\nremote = \"{theirs}\"\npsk = \"a key of more than twenty \
                 characters\"\n[[peer.child]]\nname = \"n\"\nlocal-ts = \"{local}\"\nremote-ts = \"{remote}\"\n"
            );
            let config = Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0;
            [true, false].map(|v4| inside_its_own(&config, v4).is_some())
        };
        let (v4, v6) = (("192.0.2.2", "198.51.100.1"), ("2001:db8:a::2", "2001:db8:b::1"));
        let (of_v4, of_v6, neither) = ([true, false], [false, true], [false, false]);
        assert_eq!(inside(v4, "10.2.0.0/16", "198.51.100.0/24"), of_v4);
        assert_eq!(inside(v6, "fd02::/64", "2001:db8:b::/64"), of_v6, "a setting of IPv4 says nothing about it");
        assert_eq!(inside(v4, "10.2.0.0/16", "10.1.0.0/16"), neither);
        assert_eq!(inside(v4, "10.2.0.0/16", "0.0.0.0/0"), neither, "our outside address passes by that");
        assert_eq!(inside(v4, "192.0.2.2", "0.0.0.0/0"), of_v4, "but where it is protected");
        assert_eq!(inside(v4, "0.0.0.0/0", "0.0.0.0/0"), neither, "left to the operator's routes");
        assert_eq!(inside(v6, "fd02::/64", "::/0"), neither);
    }

    #[test]
    fn what_is_only_switched_between_ports_of_a_bridge_meets_the_guard_under_a_full_tunnel() {
        let config = |remote: &str| {
            let text = format!(
                "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\npsk = \"a key of more than twenty \
                 characters\"\n[[peer.child]]\nname = \"n\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"{remote}\"\n"
            );
            Config::parse(&text).unwrap().0
        };
        let link = |index, kind: Option<&str>, master| {
            let kind = kind.map(ToOwned::to_owned);
            Link { index, up: true, loopback: false, kind, master }
        };
        let bridge = [link(7, Some("bridge"), None), link(8, Some("veth"), Some(7)), link(9, None, Some(7))];
        let told = |remote: &str, links: &[Link], value: &str| {
            let found = switched(&config(remote), links, |name| {
                assert!(name.starts_with("bridge/bridge-nf-call-ip"), "{name}");
                Some(value.to_owned())
            });
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            told("0.0.0.0/0", &bridge, "1"),
            [
                "warn  bridge: net.bridge.bridge-nf-call-iptables is 1: IPv4 frames that are only switched between bridge ports \
              are dropped by the guard\n      fix: sysctl -w net.bridge.bridge-nf-call-iptables=0"
            ]
        );
        for (remote, links, value) in
            [("0.0.0.0/0", &bridge[..], "0"), ("10.1.0.0/16", &bridge, "1"), ("0.0.0.0/0", &bridge[..2], "1")]
        {
            assert_eq!(told(remote, links, value), [""; 0], "{remote} {value}");
        }
    }

    #[test]
    fn f_81_nobody_is_told_to_delete_an_interface_that_is_no_tun_device() {
        in_a_network_of_its_own(|| {
            let mut netlink = Netlink::open().unwrap();
            let _device = crate::tun::Tun::create("pcl0").unwrap();
            let text = "[gateway]\ntun = \"pcl0\"\n[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                        psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
                        local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.0.0/16\"\n";
            let mut fix = |name: &str| {
                let config = Config::parse(&text.replace("pcl0", name)).unwrap_or_else(|errors| panic!("{errors:?}")).0;
                tun(&config, false, &mut netlink).fix
            };
            assert!(fix("pcl0").contains("ip link delete pcl0"));
            assert!(!fix("lo").contains("delete") && fix("lo").contains("another name"), "{}", fix("lo"));
        });
    }
}
