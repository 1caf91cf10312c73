//! The whole boundary in a kernel of its own: packets are put in at one interface and looked for at another.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::tests::{ALL, config, ip, said};
use super::*;
use crate::namespace::in_a_network_of_its_own;

mod discard;
mod fragments;
mod level;
mod outside;

/// A gateway with a default route by `wan`.
struct Gateway {
    wan: Tun,
    lan: Tun,
    device: Tun,
    boundary: Boundary,
}

impl Gateway {
    /// With these addresses of its two interfaces.
    fn new(wan: &str, lan: &str, config: &Config) -> Self {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let (outer, inner) = (Tun::create("wan").unwrap(), Tun::create("lan").unwrap());
        for (name, address) in [("wan", wan), ("lan", lan)] {
            ip(&format!("addr add {address} dev {name}"));
            ip(&format!("link set {name} up"));
        }
        ip("route add default dev wan");
        let device = Tun::create("pcl0").unwrap();
        let handle = device.handle().unwrap();
        let boundary = Boundary::start(Owner::claim().unwrap(), handle, config, || {}).unwrap();
        Self { wan: outer, lan: inner, device, boundary }
    }

    fn look(&mut self) {
        self.boundary.reconcile(Touched::ALL).unwrap();
        self.boundary.wait_for_guard();
    }
}

/// A UDP packet.
fn packet(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    let octets = |addr: &str| addr.parse::<Ipv4Addr>().unwrap().octets();
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(octets(from.0).into_iter().chain(octets(to.0)));
    checked(&mut packet);
    for number in [from.1, to.1, 8, 0] {
        packet.extend(number.to_be_bytes());
    }
    packet
}

/// Puts the sum into a header of IPv4.
fn checked(header: &mut [u8]) {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// What comes out at an interface within a moment: ports and addresses of the first UDP packet.
fn out_of(interface: &Tun) -> Option<((IpAddr, u16), (IpAddr, u16))> {
    let until = Instant::now() + Duration::from_millis(200);
    let mut buffer = [0; 2048];
    while Instant::now() < until {
        match interface.recv(&mut buffer) {
            Ok(28..) if buffer[0] == 0x45 && buffer[9] == 17 => {
                let addr = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&buffer[at..at + 4]).unwrap());
                let port = |at: usize| u16::from_be_bytes([buffer[at], buffer[at + 1]]);
                return Some(((addr(12), port(20)), (addr(16), port(22))));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => panic!("{error}"),
        }
    }
    None
}

const PEER: (&str, u16) = ("10.1.0.9", 7);
const HOST: (&str, u16) = ("10.2.0.5", 9);

/// Another interface that is on, with this address.
fn another(name: &str, address: &str) -> Tun {
    let interface = Tun::create(name).unwrap();
    ip(&format!("addr add {address} dev {name}"));
    ip(&format!("link set {name} up"));
    interface
}

#[test]
fn f_07_what_the_tunnel_brings_for_our_network_leaves_nowhere_else_when_that_is_gone() {
    in_a_network_of_its_own(|| {
        let mut gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/16", &config("10.1.0.0/16"));
        let brought = packet(PEER, HOST);
        gateway.device.send(&brought).unwrap();
        assert!(out_of(&gateway.lan).is_some());
        ip("link set lan down");
        let way = said("route get 10.2.0.5 from 10.1.0.9 iif pcl0");
        assert!(way.contains("dev wan"), "{way}");
        for looked in [false, true] {
            gateway.device.send(&brought).unwrap();
            assert_eq!(out_of(&gateway.wan), None, "in clear to the provider; we know of it: {looked}");
            gateway.look();
        }
        assert!(gateway.boundary.dropped.dropped()[2] >= 2);
        // An operator who has it there after all says so.
        ip("route add 10.2.0.0/16 dev wan");
        gateway.look();
        gateway.device.send(&brought).unwrap();
        assert!(out_of(&gateway.wan).is_some());
    });
}

#[test]
fn f_07_what_is_dropped_is_counted_after_a_flush_as_before() {
    in_a_network_of_its_own(|| {
        let mut gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/16", &config("10.1.0.0/16"));
        let forged = packet(PEER, HOST);
        // The table that came first sees a packet first: where the copy was put back, the other one counts until it is flushed.
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            // The thread that looks after a copy ends with it.
            let children = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            for copy in children.split_whitespace() {
                kill(Pid::from_raw(copy.parse().unwrap()), Signal::SIGKILL).unwrap();
            }
        }
        gateway.look();
        let mut more = |count: usize| {
            let before = gateway.boundary.dropped.dropped()[0];
            (0..count).for_each(|_| gateway.wan.send(&forged).unwrap());
            assert_eq!(out_of(&gateway.lan), None);
            assert_eq!(gateway.boundary.dropped.dropped()[0] - before, u64::try_from(count).unwrap());
            nft::run(&["flush", "ruleset"], "", nft::deadline("")).unwrap();
            gateway.look();
        };
        more(20);
        more(3);
        more(5);
        (0..4).for_each(|_| gateway.wan.send(&forged).unwrap());
        assert_eq!(out_of(&gateway.lan), None);
        assert_eq!(Tally::begin().dropped(), Dropped::default(), "a daemon that starts now has dropped nothing");
    });
}

#[test]
fn f_01_an_interface_with_words_that_nobody_can_read_keeps_nothing_from_being_looked_at() {
    in_a_network_of_its_own(|| {
        use std::os::unix::ffi::OsStrExt;
        let words = std::ffi::OsStr::from_bytes(b"M\xfcnchen");
        for named in [&["set", "lo", "alias"][..], &["property", "add", "dev", "lo", "altname"]] {
            let mut command = std::process::Command::new("ip");
            assert!(command.arg("link").args(named).arg(words).status().unwrap().success());
        }
        assert!(Netlink::open().unwrap().links().is_ok_and(|links| links.len() == 1));
        for number in 0..30 {
            ip(&format!("link add near{number} type veth peer name far{number}"));
        }
        let mut gateway = Gateway::new("192.0.2.2/24", "172.16.0.1/30", &config("10.1.0.0/16"));
        let second = another("wan2", "198.51.100.2/24");
        ip("route replace default dev wan2");
        ip("link set lan down");
        gateway.look();
        assert!(gateway.boundary.health.trouble.is_none(), "{:?}", gateway.boundary.health);
        gateway.device.send(&packet(PEER, HOST)).unwrap();
        assert_eq!(out_of(&second), None, "the new uplink is seen");
    });
}

#[test]
fn f_01_an_interface_with_a_name_that_nobody_can_read_keeps_nothing_from_being_looked_at() {
    in_a_network_of_its_own(|| {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"M\xfcnchen");
        let run = |before: &[&str], after: &[&str]| {
            let mut command = std::process::Command::new("ip");
            assert!(command.args(before).arg(name).args(after).status().unwrap().success());
        };
        run(&["link", "add"], &["type", "veth", "peer", "name", "end"]);
        run(&["addr", "add", "10.7.0.1/24", "dev"], &[]);
        run(&["rule", "add", "iif"], &["lookup", "77"]);
        let mut gateway = Gateway::new("192.0.2.2/24", "172.16.0.1/30", &config("10.1.0.0/16"));
        let second = another("wan2", "198.51.100.2/24");
        ip("route add default dev wan2 table 77");
        gateway.look();
        assert!(gateway.boundary.health.trouble.is_none(), "{:?}", gateway.boundary.health);
        assert!(gateway.boundary.seen.outside.interfaces.contains("wan2"));
        assert!(gateway.boundary.seen.ours.contains(&"10.7.0.1".parse().unwrap()));
        gateway.device.send(&packet(PEER, HOST)).unwrap();
        assert_eq!(out_of(&second), None);
    });
}

#[test]
fn f_12_the_answer_to_a_question_of_ours_comes_in_where_the_address_that_asks_is_protected() {
    in_a_network_of_its_own(|| {
        let text = ALL.replace("10.2.0.0/16", "192.0.2.2");
        let gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/16", &Config::parse(&text).unwrap().0);
        let answer = |marked: bool| {
            let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            if marked {
                nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Mark, &MARK).unwrap();
                socket.send_to(b"?", "198.51.100.53:53").unwrap();
                assert!(out_of(&gateway.wan).is_some());
            }
            let port = socket.local_addr().unwrap().port();
            gateway.wan.send(&packet(("198.51.100.53", 53), ("192.0.2.2", port))).unwrap();
            socket.recv(&mut [0; 64]).is_ok()
        };
        assert!(answer(true), "nobody is ever found by name");
        assert!(!answer(false), "in clear for somebody else");
    });
}

#[test]
fn f_21_a_name_that_nft_would_read_as_more_than_a_name_does_not_spoil_the_guard() {
    in_a_network_of_its_own(|| {
        let mut config = config("10.1.0.0/16");
        config.gateway.outside = vec!["w\"{;".to_owned(), "wan".to_owned()];
        let gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/16", &config);
        assert_eq!(gateway.boundary.health.unguarded, None);
        ip("link set lan down");
        gateway.device.send(&packet(PEER, HOST)).unwrap();
        assert_eq!(out_of(&gateway.wan), None);
    });
}

#[test]
fn f_01_whatever_somebody_calls_our_device_it_is_made_ready_once_and_not_at_each_look() {
    in_a_network_of_its_own(|| {
        use std::os::unix::ffi::OsStrExt;
        let mut gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/16", &config("10.1.0.0/16"));
        for named in [&["set", "pcl0", "alias"][..], &["property", "add", "dev", "pcl0", "altname"]] {
            let mut command = std::process::Command::new("ip");
            command.arg("link").args(named).arg(std::ffi::OsStr::from_bytes(b"M\xfcnchen"));
            assert!(command.status().unwrap().success());
            let mut told = super::tests::heard(1, libc::RTM_NEWLINK);
            gateway.look();
            assert_eq!(told().len(), 0, "each would be a reason for another look: {named:?}");
        }
    });
}

#[test]
fn f_12_a_route_by_a_gateway_gets_the_interface_that_the_gateway_is_at_and_not_our_device() {
    in_a_network_of_its_own(|| {
        let full = Config::parse(ALL).unwrap().0;
        // The gateway is in the network of an interface, which is spared, or not even that.
        for (wan, via, config) in [
            ("192.0.2.2/24", "192.0.2.254", full),
            ("10.9.0.2/24", "10.9.0.1", config("10.0.0.0/8")),
            ("10.1.9.2/24", "10.1.9.1", config("10.1.0.0/16")),
        ] {
            let gateway = Gateway::new(wan, "172.16.0.1/30", &config);
            assert_eq!(gateway.boundary.health.trouble, None);
            ip("route del default dev wan");
            for line in [format!("default via {via}"), format!("default via {via} metric 100")] {
                ip(&format!("route add {line}"));
                let way = said("route show default");
                assert!(way.contains(" dev wan") && !way.contains("pcl0"), "{wan}: {way}");
                ip(&format!("route del {line}"));
            }
        }
    });
}

#[test]
fn f_12_what_is_to_go_to_its_link_alone_leaves_for_a_remote_network_there_as_little_as_anything_else() {
    in_a_network_of_its_own(|| {
        let gateway = Gateway::new("10.1.9.2/24", "10.2.0.1/16", &config("10.1.0.0/16"));
        let socket = UdpSocket::bind("10.2.0.1:0").unwrap();
        for dont_route in [false, true] {
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::DontRoute, &dont_route).unwrap();
            let before: u64 = gateway.boundary.dropped.dropped().iter().sum();
            let _ = socket.send_to(b"?", "10.1.9.1:9");
            assert_eq!(out_of(&gateway.wan), None, "in clear; {dont_route}");
            // No route of ours leads that, so it is left to the guard.
            assert_eq!(gateway.boundary.dropped.dropped().iter().sum::<u64>() > before, dont_route);
        }
    });
}
