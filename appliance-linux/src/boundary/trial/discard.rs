//! A policy that discards everything, and what it leaves: loopback, our own IKE and ESP, neighbour discovery.

use super::*;
use crate::boundary::tests::with_policies;

const STRANGER: &str = "203.0.113.9";
const US: &str = "192.0.2.2";

/// A packet with this protocol, and eight octets behind the header.
fn with_protocol(to: &str, protocol: u8) -> Vec<u8> {
    let mut packet = packet((STRANGER, 7), (to, 500));
    packet[9] = protocol;
    packet[10..12].fill(0);
    checked(&mut packet[..20]);
    packet
}

/// An ICMPv6 message to us, with this hop limit.
fn icmp6(kind: u8, hop_limit: u8) -> Vec<u8> {
    let [from, to] = ["fe80::9", "2001:db8::2"].map(|addr| addr.parse::<std::net::Ipv6Addr>().unwrap().octets());
    let mut packet = vec![0x60, 0, 0, 0, 0, 24, 58, hop_limit];
    packet.extend(from.into_iter().chain(to));
    packet.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
    packet.extend(to); // of a solicitation: for whom
    packet
}

#[test]
fn f_08_a_policy_that_discards_everything_leaves_loopback_our_ike_and_esp_and_neighbour_discovery_and_no_more() {
    in_a_network_of_its_own(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        let everything = "[[policy]]\naction = \"discard\"\npriority = 1\n";
        let mut gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/16", &with_policies("10.1.0.0/16", everything));
        ip("-6 addr add 2001:db8::2/64 dev wan");
        gateway.look();
        let discarded = |interface: &Tun, packet: &[u8]| {
            let before = gateway.boundary.dropped.dropped()[1];
            interface.send(packet).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            gateway.boundary.dropped.dropped()[1] - before
        };
        // The kernel puts fragments of IPv4 together before the guard sees them, and those of IPv6 behind it.
        let later = |protocol| fragments::later_fragment("2001:db8::9", "2001:db8::2", protocol);
        for (what, packet) in [
            ("IKE", packet((STRANGER, 500), (US, 500))),
            ("IKE and ESP in UDP", packet((STRANGER, 61_000), (US, 4500))),
            ("ESP", with_protocol(US, 50)),
            ("a later fragment of IKE or ESP in UDP", later(17)),
            ("a router solicitation", icmp6(133, 255)),
            ("a router advertisement", icmp6(134, 255)),
            ("a neighbour solicitation", icmp6(135, 255)),
            ("a neighbour advertisement", icmp6(136, 255)),
            ("a redirect", icmp6(137, 255)),
        ] {
            assert_eq!(discarded(&gateway.wan, &packet), 0, "{what}");
        }
        for (what, packet) in [
            ("another port", packet((STRANGER, 500), (US, 501))),
            ("port 500 of TCP", with_protocol(US, 6)),
            ("AH", with_protocol(US, 51)),
            ("ICMP", with_protocol(US, 1)),
            ("a later fragment of TCP", later(6)),
            ("IKE to a host behind us", packet((STRANGER, 500), ("10.2.0.5", 500))),
            ("ESP to a host behind us", with_protocol("10.2.0.5", 50)),
            ("an echo request", icmp6(128, 255)),
            ("a solicitation that came from beyond the link", icmp6(135, 254)),
        ] {
            assert_eq!(discarded(&gateway.wan, &packet), 1, "{what}");
        }
        let ike_of_a_host = packet(("10.2.0.5", 500), (STRANGER, 500));
        assert_eq!(discarded(&gateway.lan, &ike_of_a_host), 1);

        let sent = |mark: u32| {
            let socket = UdpSocket::bind((US, 0)).unwrap();
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Mark, &mark).unwrap();
            let _ = socket.send_to(b"?", (STRANGER, 500)); // the kernel says that it was dropped
            out_of(&gateway.wan).is_some()
        };
        assert!(sent(MARK), "our own IKE");
        assert!(!sent(0), "somebody else's from here");
        let [here, there] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        there.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        here.send_to(b"?", there.local_addr().unwrap()).unwrap();
        assert!(there.recv(&mut [0; 8]).is_ok(), "loopback");
    });
}
