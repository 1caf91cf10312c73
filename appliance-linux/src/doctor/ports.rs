//! The ports of IKE and of ESP in UDP, and IP protocol 50: opened as the daemon opens them.

use std::collections::BTreeSet;
use std::io;

use gateway_core::config::Config;

use super::finding::{Finding, Grade, a_few, finding, fine};
use crate::listen::{self, Opened};
use crate::plane::Sockets;
use crate::socket::{Carrier, Listen};

pub(super) fn ports(config: &Config, running: bool) -> Vec<Finding> {
    // An interface that is not there is told of by itself.
    let wanted = listen::wanted(config, &config.gateway.outside);
    match running {
        true => held(&wanted),
        false => free(&wanted),
    }
}

/// Whom no socket is opened for, as the kernel has no IPv6 (`v6`); the others are served all the same.
pub(super) fn without_ipv6(config: &Config, v6: bool) -> Option<Finding> {
    let peers: Vec<_> = listen::in_ipv6_alone(config).filter(|_| !v6).map(|name| format!("\"{name}\"")).collect();
    if peers.is_empty() {
        return None;
    }
    let text = format!(
        "this kernel has no IPv6, and there is no other way to meet {}: no socket is open for it",
        a_few(peers)
    );
    let fix = "switch IPv6 on (boot without ipv6.disable=1), or write an address of IPv4 under remote";
    Some(finding(Grade::Failure, "ports", text, fix))
}

/// Whether everything can be had that the daemon is going to ask for.
fn free(wanted: &BTreeSet<Listen>) -> Vec<Finding> {
    let refused = listen::open(wanted, &Sockets::default()).refused;
    let told = refused.into_iter().map(|(listen, error)| match (error.kind(), listen.carrier) {
        (io::ErrorKind::AddrInUse, Carrier::Udp(port)) => finding(
            Grade::Failure,
            "ports",
            format!("another program uses {listen}"),
            format!("`ss -ulpn sport = :{port}` names it; stop it (strongSwan: systemctl disable --now strongswan)"),
        ),
        _ => finding(Grade::Failure, "ports", format!("{listen} cannot be opened: {error}"), ""),
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() { vec![fine("ports", "UDP 500 and 4500 are free, and IP protocol 50 can be had")] } else { told }
}

/// Whether somebody has all that could be had once while the daemon runs. Protocol 50 anybody may have beside others.
fn held(wanted: &BTreeSet<Listen>) -> Vec<Finding> {
    let udp: BTreeSet<Listen> =
        wanted.iter().filter(|listen| matches!(listen.carrier, Carrier::Udp(_))).cloned().collect();
    of_a_running_daemon(&listen::open(&udp, &Sockets::default()))
}

fn of_a_running_daemon(opened: &Opened) -> Vec<Finding> {
    let nobodys = opened.sockets.iter().map(|socket| {
        let text = format!("the daemon runs, and nobody holds {}", socket.listen());
        let fix = match socket.listen().interface {
            Some(_) => "its log says why; or \"outside\" has changed since: restart it",
            None => "its log says why; or the configuration has changed since: `portcullis reload`",
        };
        finding(Grade::Failure, "ports", text, fix)
    });
    let untried = opened.refused.iter().filter(|(_, error)| error.kind() != io::ErrorKind::AddrInUse);
    let untried = untried.map(|(listen, error)| {
        let fix = if error.kind() == io::ErrorKind::PermissionDenied { "run doctor as root" } else { "" };
        finding(Grade::Note, "ports", format!("whether the daemon holds {listen} could not be tried: {error}"), fix)
    });
    let told: Vec<_> = nobodys.chain(untried).collect();
    let tried = opened.refused.iter().any(|(_, error)| error.kind() == io::ErrorKind::AddrInUse);
    match (told.is_empty(), tried) {
        (true, true) => vec![fine("ports", "UDP 500 and 4500 are in use, and the daemon runs")],
        // Where no interface under "outside" is there nothing is open.
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::namespace::in_a_network_of_its_own;
    use crate::socket::Socket;

    fn config(local: &str, remote: &str) -> Config {
        let text = format!(
            "[[peer]]\nname = \"a\"\nlocal = \"{local}\"\nlocal-id = \"us\"\nremote-id = \"them\"\nremote = \"{remote}\"\n\
             psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
             local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.0.0/16\"\n"
        );
        Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0
    }

    fn lines(config: &Config, running: bool) -> Vec<String> {
        ports(config, running).iter().map(|found| format!("{:?} {}", found.grade, found.text)).collect()
    }

    #[test]
    fn f_28_doctor_finds_in_the_way_what_would_be_in_the_way_of_the_daemon_and_nothing_else() {
        in_a_network_of_its_own(|| {
            let (named, everywhere) = (config("127.0.0.1", "127.0.0.9"), config("any", "gw.example"));
            let fine = "Fine UDP 500 and 4500 are free, and IP protocol 50 can be had";
            let other_address = UdpSocket::bind("127.0.0.2:4500").unwrap();
            assert_eq!(lines(&named, false), [fine]);
            assert_eq!(lines(&everywhere, false), ["Failure another program uses UDP port 4500 at 0.0.0.0"]);
            drop(other_address);
            let v6 = UdpSocket::bind("[::]:500").unwrap();
            assert!(lines(&everywhere, false).contains(&"Failure another program uses UDP port 500 at ::".to_owned()));
            drop(v6);
            assert_eq!(lines(&everywhere, false), [fine]);
        });
    }

    #[test]
    fn f_37_whom_only_ipv6_leads_to_is_told_where_there_is_none() {
        let told = |local: &str, remote: &str, outside: &[&str], v6: bool| {
            let mut config = config(local, remote);
            config.gateway.outside = outside.iter().map(|name| (*name).to_owned()).collect();
            without_ipv6(&config, v6).map(|found| found.to_string()).unwrap_or_default()
        };
        let line = told("any", "2001:db8::1", &[], false);
        assert!(
            line.starts_with("FAIL") && line.contains("meet \"a\"") && line.contains("fix: switch IPv6 on"),
            "{line}"
        );
        assert_eq!(told("2001:db8::2", "2001:db8::1", &["wan"], false), line);
        for (local, remote, v6) in [
            ("any", "2001:db8::1", true),
            ("any", "gw.example", false),
            ("any", "any", false),
            ("any", "192.0.2.1", false),
        ] {
            assert_eq!(told(local, remote, &[], v6), "", "{local}, {remote}");
        }
        assert_eq!(told("2001:db8::2", "2001:db8::1", &[], false), "", "its socket cannot be opened, which ends it");
    }

    #[test]
    fn f_28_doctor_does_not_call_in_use_what_it_could_not_try() {
        in_a_network_of_its_own(|| {
            let mut config = config("127.0.0.1", "127.0.0.9");
            config.gateway.outside = vec!["wan7".to_owned()];
            assert!(lines(&config, true).is_empty(), "there is no such interface, which is told by itself");
            config.gateway.outside.clear();
            let wanted = listen::wanted(&config, &[]);
            let denied = |listen: &Listen| (listen.clone(), io::ErrorKind::PermissionDenied.into());
            let refused = wanted.iter().take(2).map(denied).collect();
            let told = of_a_running_daemon(&Opened { sockets: Vec::new(), refused });
            let told: Vec<_> = told.iter().map(ToString::to_string).collect();
            assert!(told.len() == 2 && told.iter().all(|line| line.starts_with("note")), "{told:?}");
            assert!(
                told[0].contains("whether the daemon holds UDP port 500 at 127.0.0.1 could not be tried"),
                "{told:?}"
            );
        });
    }

    #[test]
    fn ports_that_nobody_holds_are_told_while_the_daemon_runs() {
        in_a_network_of_its_own(|| {
            let config = config("127.0.0.1", "127.0.0.9");
            let open = |addr: &str, port| {
                Socket::open(Listen { carrier: Carrier::Udp(port), addr: addr.parse().unwrap(), interface: None })
                    .unwrap()
            };
            let _ours = open("127.0.0.1", 500);
            let elsewhere = open("127.0.0.2", 4500);
            assert_eq!(
                lines(&config, true),
                ["Failure the daemon runs, and nobody holds UDP port 4500 at 127.0.0.1"],
                "what somebody has elsewhere is not ours"
            );
            drop(elsewhere);
            let _ours = open("0.0.0.0", 4500);
            assert_eq!(lines(&config, true), ["Fine UDP 500 and 4500 are in use, and the daemon runs"]);
        });
    }
}
