//! The ports of IKE and of ESP in UDP.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use gateway_core::config::{Config, Remote};

use super::finding::{Finding, Grade, finding, fine};
use crate::socket::{Carrier, Listen, Socket};

pub(super) fn ports(config: &Config, running: bool) -> Vec<Finding> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_nobody_holds_are_told_while_the_daemon_runs() {
        let line = |port: &str| format!(" 1: 00000000:{port} 00000000:0000 07 00000000:00000000");
        assert_eq!(held([line("01F4"), line("1194")]).grade, Grade::Fine);
        let found = held([line("01F4"), line("1195")]);
        assert_eq!((found.grade, found.text.as_str()), (Grade::Failure, "the daemon runs, and nobody holds UDP 4500"));
    }
}
