//! What cannot be seen from this machine.

use std::fs;

use gateway_core::config::{Child, Config, Mode, Peer};

use super::finding::{Finding, Grade, a_few, finding};
use crate::boundary::prefixes;

/// What cannot be seen from here but has to be right.
pub(super) fn elsewhere(config: &Config) -> Vec<Finding> {
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
    // Two hosts speak for themselves.
    let children = children.filter(|(_, child)| child.mode == Mode::Tunnel);
    let line = |(peer, child): (&Peer, &Child)| {
        let (local, remote) = (nets(&child.local_ts), nets(&child.remote_ts));
        let hosts = if whole(&local) { "hosts behind it".to_owned() } else { format!("hosts in {}", a_few(local)) };
        let route = if whole(&remote) { "a default route".to_owned() } else { format!("a route to {}", a_few(remote)) };
        format!(
            "when this machine is not their default gateway, {hosts} need {route} by way of it (in a cloud: in the \
             subnet's route table); those behind \"{}\" need the reverse",
            peer.name
        )
    };
    let (mut lines, mut more) = (Vec::with_capacity(FEW + 1), 0);
    for child in children {
        if lines.len() == FEW {
            more += 1;
        } else {
            lines.push(line(child));
            lines.dedup(); // children of a peer often differ in protocols and ports alone
        }
    }
    if more > 0 {
        lines.push(format!("the same holds for the networks of {more} more children"));
    }
    lines
}
