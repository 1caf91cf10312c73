//! `portcullis doctor`: is this machine ready for this configuration? Every finding says what it means and how to mend it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use gateway_core::config::{Action, Child, Config, Peer, Remote};
use ipsec_core::net::AddrRange;

use crate::boundary::{self, GuardState, MARK, prefixes};
use crate::configuration::reason;
use crate::control::client;
use crate::control::protocol::{Answer, BoundaryStatus, Request};
use crate::netlink::{LocalAddr, Netlink, NextHop};
use crate::resolve;
use crate::socket::{Carrier, Listen, Socket};
use crate::tun::CLONE_DEVICE;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    /// As it should be.
    Fine,
    /// Nothing is wrong here, but something has to be done elsewhere.
    Note,
    /// Works, but probably not as meant.
    Warning,
    /// Does not work.
    Failure,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) grade: Grade,
    /// What was looked at.
    pub(crate) about: &'static str,
    pub(crate) text: String,
    /// What to do; may be empty.
    pub(crate) fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grade = match self.grade {
            Grade::Fine => "ok  ",
            Grade::Note => "note",
            Grade::Warning => "warn",
            Grade::Failure => "FAIL",
        };
        write!(f, "{grade}  {}: {}", self.about, self.text)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "\n      fix: {}", self.fix) }
    }
}

fn finding(grade: Grade, about: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { grade, about, text: text.into(), fix: fix.into() }
}

fn fine(about: &'static str, text: impl Into<String>) -> Finding {
    finding(Grade::Fine, about, text, "")
}

/// Looks at everything.
pub(crate) fn examine(config: &Config) -> Vec<Finding> {
    let socket = Path::new(&config.gateway.control);
    let answer = client::call(socket, &Request::Status);
    // Who cannot be asked may run all the same: whether somebody does is for the kernel to say.
    let running = answer.is_ok() || boundary::is_claimed();
    let mut findings = vec![privileges(), tun(config, running)];
    if let Some(error) = answer.as_ref().err().filter(|_| running) {
        let text = format!("one runs, and cannot be asked at {}: {}", socket.display(), reason(error));
        let fix = "ask as root or as the daemon's user, with the configuration (or --control) that it was started with";
        findings.push(finding(Grade::Warning, "daemon", text, fix));
    }
    let status = match answer {
        Ok(Answer::Status { status }) => Some(status),
        _ => None,
    };
    findings.extend(forwarding(config));
    findings.extend(interfaces(config));
    findings.extend(ports(config, running));
    findings.extend(boundary(running));
    findings.extend(status.map(|status| as_the_daemon_sees_it(&status.boundary)));
    match Netlink::open() {
        Ok(mut netlink) => {
            if running {
                findings.extend(ways(config, &mut netlink));
            }
            let outside = outside(config, &mut netlink);
            findings.extend(reverse_path(config, &outside));
            findings.extend(addresses(config, &netlink.addresses().unwrap_or_default()));
            findings.extend(peers(config, &mut netlink));
        }
        Err(error) => findings.push(finding(Grade::Failure, "netlink", format!("cannot be opened: {error}"), "")),
    }
    findings.extend(elsewhere(config));
    findings
}

/// What keeps packets from crossing in clear, now and once the daemon runs.
fn boundary(running: bool) -> Vec<Finding> {
    let mut findings = vec![guard(&boundary::guard_state(), running)];
    if running {
        return findings;
    }
    match boundary::blocked() {
        Ok(None) => {}
        Ok(Some(nets)) => findings.push(finding(
            Grade::Note,
            "blocked",
            format!("no daemon runs, and {nets} stay blocked, so that nothing leaves in clear"),
            "start the daemon; or `portcullis release`, to reach them in clear",
        )),
        Err(error) => findings.push(finding(Grade::Warning, "blocked", format!("routes cannot be read: {error}"), "")),
    }
    findings
}

/// What the daemon itself says of the boundary.
fn as_the_daemon_sees_it(boundary: &BoundaryStatus) -> Finding {
    let why = || boundary.why.clone().unwrap_or_default();
    match boundary.state.as_str() {
        "closed" => fine("boundary", format!("closed, says the daemon; guard: {}", boundary.guard)),
        "weak" => finding(Grade::Warning, "boundary", format!("weak, says the daemon: {}", why()), "see guard"),
        state => finding(
            Grade::Failure,
            "boundary",
            format!("{state}, says the daemon: {}", why()),
            "it is tried again all the time; the log says since when",
        ),
    }
}

/// Whether the kernel leads packets to the remote networks to our device, and what else has a say before our rules.
fn ways(config: &Config, netlink: &mut Netlink) -> Vec<Finding> {
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
            let Some(addr) = inside(config, net).filter(|_| !ours && asked < ASKED) else { continue };
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

/// An address of a remote network that nothing but its route decides about: no policy, and no network on our side.
fn inside(config: &Config, net: &AddrRange) -> Option<IpAddr> {
    let locals = config.peers.iter().flat_map(|peer| &peer.children).flat_map(|child| &child.local_ts);
    let locals: Vec<AddrRange> = locals.map(|local| local.addrs).filter(|local| local != net).collect();
    let bypassed = |addr: IpAddr| {
        let mut bypasses = config.policies.iter().filter(|policy| policy.action == Action::Bypass);
        bypasses.any(|policy| policy.remote.is_none_or(|range| range.contains(addr)))
    };
    let usual = ["198.51.100.77", "2001:db8:77::77"].into_iter().filter_map(|addr| addr.parse().ok());
    let own = prefixes(net).into_iter().map(|net| net.second());
    let mut candidates = usual.chain(own).filter(|addr| net.contains(*addr));
    candidates.find(|addr| !bypassed(*addr) && !locals.iter().any(|local| local.contains(*addr)))
}

/// Whether what is protected is dropped where it would cross in clear.
fn guard(state: &GuardState, running: bool) -> Finding {
    let unguarded = "if somebody removes our routes or rules, packets leave in clear until they are put back, and nothing \
                     drops clear packets that come in in the name of a remote network";
    match (state, running) {
        (GuardState::Stands, true) => {
            fine("guard", "stands: what is protected is dropped where it would cross in clear")
        }
        (GuardState::Stands, false) => fine("guard", "still stands, until the next start or `portcullis release`"),
        (GuardState::Absent, false) => fine("guard", "nft answers: the guard will stand before the first route"),
        (GuardState::Absent, true) => finding(
            Grade::Failure,
            "guard",
            format!("does not stand although the daemon runs: {unguarded}"),
            "`portcullis status` says why; where nftables came later than the daemon: systemctl restart portcullis",
        ),
        (GuardState::NoNft, _) => finding(
            Grade::Warning,
            "guard",
            format!("nft is not installed: {unguarded}"),
            "install nftables (apt, dnf or apk: the package is nftables), then restart portcullis",
        ),
        (GuardState::Refused(why), _) => finding(
            Grade::Warning,
            "guard",
            format!("nft cannot be used ({why}): {unguarded}"),
            "run this as root; `modprobe nf_tables` tells whether the kernel has it",
        ),
    }
}

const NET_BIND_SERVICE: u32 = 10;
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;

fn privileges() -> Finding {
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

fn tun(config: &Config, running: bool) -> Finding {
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
    if !running && nix::net::if_::if_nametoindex(name.as_str()).is_ok() {
        let fix = format!("ip link delete {name}, or another name with tun = \"…\" under [gateway]");
        return finding(Grade::Failure, "tun", format!("an interface {name} exists already"), fix);
    }
    fine("tun", if running { format!("{CLONE_DEVICE} can be opened") } else { format!("{name} can be created") })
}

/// The value of a setting below /proc/sys/net.
fn setting(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/sys/net").join(name)).ok().map(|value| value.trim().to_owned())
}

/// Names or networks in words: each once, and no more than a reader takes in.
fn a_few(mut all: Vec<String>) -> String {
    const FEW: usize = 4;
    all.sort_unstable();
    all.dedup();
    let more = all.len().saturating_sub(FEW);
    all.truncate(FEW);
    let named = all.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// Whether the kernel forwards packets of the families that children carry, and whether it has to.
pub(crate) fn forwarding(config: &Config) -> Vec<Finding> {
    let families = [
        (true, "ipv4/ip_forward", "net.ipv4.ip_forward"),
        (false, "ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"),
    ];
    let children = || config.peers.iter().flat_map(|peer| &peer.children);
    let mut findings = Vec::new();
    for (v4, file, name) in families {
        let local: Vec<String> = children()
            .flat_map(|child| &child.local_ts)
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

/// Without a guard, strict reverse path filtering makes it harder for others to inject clear packets in the name of
/// protected networks (over IPv4, and by another interface than that of the route back), but also drops what a bypass policy, or a peer inside its own remote network, sends in clear.
fn reverse_path(config: &Config, outside: &BTreeSet<String>) -> Vec<Finding> {
    let value = |name: &str| setting(&format!("ipv4/conf/{name}/rp_filter")).and_then(|value| value.parse::<u8>().ok());
    let inside = config.peers.iter().find(|peer| {
        let nets = || peer.children.iter().flat_map(|child| &child.remote_ts);
        peer.remote.iter().filter_map(Remote::address).any(|addr| nets().any(|net| net.addrs.contains(addr)))
    });
    let guarded = !matches!(boundary::guard_state(), GuardState::NoNft | GuardState::Refused(_));
    let bypass = config.policies.iter().any(|policy| policy.action == Action::Bypass);
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

/// The interfaces that face the peers: those that are named, else those that the routes to the peers use.
fn outside(config: &Config, netlink: &mut Netlink) -> BTreeSet<String> {
    if !config.gateway.outside.is_empty() {
        return config.gateway.outside.iter().cloned().collect();
    }
    let remotes = config.peers.iter().flat_map(|peer| peer.remote.iter().filter_map(Remote::address));
    let links = remotes.filter_map(|remote| netlink.next_hop(remote, MARK).ok());
    links.filter_map(|hop| nix::net::if_::if_indextoname(hop.link).ok()?.into_string().ok()).collect()
}

fn interfaces(config: &Config) -> Vec<Finding> {
    let exists = |name: &String| nix::net::if_::if_nametoindex(name.as_str()).is_ok();
    let missing = config.gateway.outside.iter().filter(|name| !exists(name));
    missing
        .map(|name| {
            let fix = "ip link shows which there are; correct outside under [gateway]";
            finding(Grade::Failure, "outside", format!("there is no interface {name}"), fix)
        })
        .collect()
}

fn ports(config: &Config, running: bool) -> Vec<Finding> {
    if running {
        return vec![held(
            ["net/udp", "net/udp6"].map(|file| fs::read_to_string(Path::new("/proc").join(file)).unwrap_or_default()),
        )];
    }
    let v6 = config.peers.iter().any(|peer| {
        peer.local.iter().any(IpAddr::is_ipv6)
            || peer.remote.iter().any(|remote| matches!(remote, Remote::Address(IpAddr::V6(_))))
    });
    let mut findings = Vec::new();
    for addr in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        if addr.is_ipv6() && !v6 {
            continue;
        }
        for port in [500, 4500] {
            let listen = Listen { carrier: Carrier::Udp(port), addr, interface: None };
            match Socket::open(listen) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => findings.push(finding(
                    Grade::Failure,
                    "ports",
                    format!("another program uses UDP port {port}"),
                    format!(
                        "`ss -ulpn sport = :{port}` names it; stop it (strongSwan: systemctl disable --now strongswan)"
                    ),
                )),
                Err(error) => findings.push(finding(
                    Grade::Failure,
                    "ports",
                    format!("UDP port {port} cannot be opened: {error}"),
                    "",
                )),
            }
        }
    }
    if findings.is_empty() {
        findings.push(fine("ports", "UDP 500 and 4500 are free"));
    }
    findings
}

/// Whether somebody holds the ports while the daemon runs, in the lists of /proc/net.
fn held(lists: [String; 2]) -> Finding {
    // sl, local address and port in hexadecimal, …
    let open: BTreeSet<u16> = lists
        .iter()
        .flat_map(|list| list.lines())
        .filter_map(|line| u16::from_str_radix(line.split_whitespace().nth(1)?.rsplit_once(':')?.1, 16).ok())
        .collect();
    let missing: Vec<String> =
        [500, 4500].into_iter().filter(|port| !open.contains(port)).map(|port: u16| port.to_string()).collect();
    if missing.is_empty() {
        return fine("ports", "UDP 500 and 4500 are open, and the daemon runs");
    }
    let text = format!("the daemon runs, and nobody holds UDP {}", missing.join(" and "));
    finding(
        Grade::Failure,
        "ports",
        text,
        "its log says why; `local` may name an address that this machine does not have",
    )
}

fn addresses(config: &Config, ours: &[LocalAddr]) -> Vec<Finding> {
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
    let absent = absent.into_iter().map(|(addr, peers)| {
        let text = format!("{addr}, from which {} is to be reached, is no address of this machine", a_few(peers));
        let fix = "behind NAT (AWS, Azure, a home router) write the private address, or local = \"any\"";
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

fn peers(config: &Config, netlink: &mut Netlink) -> Vec<Finding> {
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

/// What cannot be seen from here but has to be right.
fn elsewhere(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        reminders(config).into_iter().map(|text| finding(Grade::Note, "other side", text, "")).collect();
    let vendor = fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    let (cloud, advice) = match vendor.trim() {
        "Amazon EC2" => (
            "aws",
            "disable the source/destination check of each network interface, allow UDP 500 and 4500 in the security group, \
             and route the remote networks to this instance in the VPC's route table",
        ),
        "Microsoft Corporation" => (
            "azure",
            "enable IP forwarding on each NIC, allow UDP 500 and 4500 in the network security group, and add a \
             user-defined route for the remote networks with this VM as virtual appliance",
        ),
        "Google" => (
            "gcp",
            "create the instance with --can-ip-forward, allow UDP 500 and 4500 in the firewall, and add routes for the \
             remote networks with this instance as next hop",
        ),
        _ => return findings,
    };
    findings.push(finding(Grade::Note, cloud, advice, ""));
    findings
}

/// The routes that have to be added outside this machine (row A12 of the requirements).
pub(crate) fn reminders(config: &Config) -> Vec<String> {
    /// A route of its own for each network on either side is too much to read.
    const FEW: usize = 4;
    let nets = |selectors: &[ipsec_core::net::TrafficSelector]| {
        let nets = selectors.iter().flat_map(|selector| prefixes(&selector.addrs)).map(|net| net.to_string());
        nets.collect::<Vec<_>>()
    };
    let whole = |nets: &[String]| nets.iter().any(|net| net.ends_with("/0"));
    let children = config.peers.iter().flat_map(|peer| peer.children.iter().map(move |child| (peer, child)));
    let line = |(peer, child): (&Peer, &Child)| {
        let (local, remote) = (nets(&child.local_ts), nets(&child.remote_ts));
        let hosts = if whole(&local) { "hosts behind it".to_owned() } else { format!("hosts in {}", a_few(local)) };
        let route = if whole(&remote) { "a default route".to_owned() } else { format!("a route to {}", a_few(remote)) };
        format!(
            "when this machine is not their default gateway, {hosts} need {route} by way of it (cloud: in the subnet's \
             route table); those behind \"{}\" need the reverse",
            peer.name
        )
    };
    let mut lines: Vec<String> = children.clone().take(FEW).map(line).collect();
    let more = children.count().saturating_sub(FEW);
    if more > 0 {
        lines.push(format!("the same holds for the networks of {more} more children"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    fn config(peers: usize) -> Config {
        let peer = |number: usize| {
            format!(
                "[[peer]]\nname = \"p{number}\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\nstart = \"passive\"\n\
                 remote-id = \"p{number}.lab\"\npsk = \"a key of more than twenty characters\"\n[[peer.child]]\n\
                 name = \"n\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"11.{}.{}.0/24\"\n",
                number / 250,
                number % 250
            )
        };
        let text: String = (0..peers).map(peer).collect();
        Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0
    }

    #[test]
    fn f_33_words_about_many_peers_are_few() {
        assert_eq!(a_few(vec!["10.0.0.0/16".to_owned(); 1000]), "10.0.0.0/16");
        let many: Vec<String> = (0..100).map(|net| format!("10.{net}.0.0/16")).collect();
        assert_eq!(a_few(many), "10.0.0.0/16, 10.1.0.0/16, 10.10.0.0/16, 10.11.0.0/16 and 96 more");
        let many = config(1000);
        let lines = reminders(&many);
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[4], "the same holds for the networks of 996 more children");
        let found = addresses(&many, &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        let texts = found.iter().chain(&forwarding(&many)).map(|found| found.text.len()).max().unwrap();
        assert!(texts < 300, "{texts} octets in one line");
    }

    #[test]
    fn f_01_doctor_fails_on_the_trouble_of_the_daemon() {
        let state = |state: &str| BoundaryStatus {
            state: state.to_owned(),
            why: Some("rule 4500: no".to_owned()),
            ..BoundaryStatus::default()
        };
        let grades = ["closed", "weak", "trouble"].map(|word| as_the_daemon_sees_it(&state(word)).grade);
        assert_eq!(grades, [Grade::Fine, Grade::Warning, Grade::Failure]);
        assert!(as_the_daemon_sees_it(&state("trouble")).text.contains("rule 4500: no"));
    }

    #[test]
    fn f_01_doctor_does_not_take_a_daemon_that_it_cannot_ask_for_none() {
        in_a_network_of_its_own(|| {
            let mut config = config(1);
            config.gateway.control = "/nowhere/control.sock".to_owned();
            let lines = || examine(&config).iter().map(ToString::to_string).collect::<Vec<_>>();
            let about = |lines: Vec<String>, what: &str| lines.into_iter().find(|line| line.contains(what));
            assert_eq!(about(lines(), "daemon: "), None, "nobody runs");
            let owner = boundary::Owner::claim().unwrap();
            let device = crate::tun::Tun::create(&config.gateway.tun).unwrap();
            let told = lines();
            assert!(
                about(told.clone(), "warn  daemon: one runs, and cannot be asked at /nowhere").is_some(),
                "{told:?}"
            );
            for wrong in ["ip link delete", "no daemon runs", "another program uses", "until the next start"] {
                assert_eq!(about(told.clone(), wrong), None);
            }
            drop(owner);
            assert!(about(lines(), "ip link delete").is_some(), "a device that nobody who owns the boundary has");
            drop(device);
        });
    }

    #[test]
    fn ports_that_nobody_holds_are_told_while_the_daemon_runs() {
        let line = |port: &str| format!(" 1: 00000000:{port} 00000000:0000 07 00000000:00000000");
        assert_eq!(held([line("01F4"), line("1194")]).grade, Grade::Fine);
        let found = held([line("01F4"), line("1195")]);
        assert_eq!((found.grade, found.text.as_str()), (Grade::Failure, "the daemon runs, and nobody holds UDP 4500"));
    }

    #[test]
    fn the_address_that_is_asked_for_is_the_networks_own() {
        let text = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                    psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
                    local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.0.0.0/8\"\n[[policy]]\naction = \"bypass\"\n\
                    remote = \"198.51.100.0/24\"\n";
        let config = Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0;
        let asked = |net: &str, prefix| inside(&config, &AddrRange::prefix(net.parse().unwrap(), prefix).unwrap());
        let addr = |text: &str| Some(text.parse().unwrap());
        assert_eq!(asked("10.0.0.0", 8), addr("10.0.0.1"));
        assert_eq!(asked("10.2.0.0", 24), None, "ours");
        assert_eq!(asked("2001:db8::", 32), addr("2001:db8:77::77"));
        assert_eq!(asked("198.51.100.0", 25), None, "goes by a policy");
    }

    #[test]
    fn whether_the_guard_stands_is_told_and_what_to_do_without_nft() {
        let told = |state: GuardState, running| {
            let found = guard(&state, running);
            (found.grade, found.text.split(':').next().unwrap().to_owned(), found.fix)
        };
        assert_eq!(told(GuardState::Stands, true), (Grade::Fine, "stands".to_owned(), String::new()));
        assert_eq!(told(GuardState::Absent, false).0, Grade::Fine);
        let (grade, text, fix) = told(GuardState::Absent, true);
        assert_eq!((grade, text.as_str()), (Grade::Failure, "does not stand although the daemon runs"));
        assert!(fix.contains("portcullis status"), "{fix}");
        let (grade, text, fix) = told(GuardState::NoNft, true);
        assert_eq!((grade, text.as_str()), (Grade::Warning, "nft is not installed"));
        assert!(fix.contains("install nftables"), "{fix}");
        assert_eq!(told(GuardState::Refused("no".to_owned()), false).0, Grade::Warning);
    }
}
