//! Fragments: those behind the first one tell no ports, those of IPv6 not even their protocol (RFC 4301 §7).

use super::*;

/// Ends each packet here, so that it is known again behind whatever crosses it.
const TAIL: [u8; 8] = *b"fragment";

/// Protects what UDP port 5000 of ours says to the peer's networks, and lets the rest through in clear.
const NARROW: &str = r#"
[[peer]]
name = "a"
local = "192.0.2.2"
remote = "192.0.2.1"
psk = "a key of more than twenty characters"
[[peer.child]]
name = "v4"
local-ts = ["10.2.0.0/16[udp/5000]"]
remote-ts = ["10.1.0.0/16[udp]"]
[[peer.child]]
name = "v6"
local-ts = ["fd02::/64[udp/5000]"]
remote-ts = ["fd01::/64[udp]"]
[[policy]]
action = "bypass"
priority = 2000
"#;

/// A fragment behind the first one, of a packet of this protocol.
pub(super) fn later_fragment(from: &str, to: &str, protocol: u8) -> Vec<u8> {
    match (from.parse().unwrap(), to.parse().unwrap()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut packet = vec![0x45, 0, 0, 28, 0, 77, 0, 9, 64, protocol, 0, 0];
            packet.extend(from.octets().into_iter().chain(to.octets()));
            checked(&mut packet);
            packet.extend(TAIL);
            packet
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut packet = vec![0x60, 0, 0, 0, 0, 16, 44, 64];
            packet.extend(from.octets().into_iter().chain(to.octets()));
            packet.extend([protocol, 0, 0, 9 << 3, 0, 0, 0, 77]);
            packet.extend(TAIL);
            packet
        }
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// Whether a fragment comes out at an interface within a moment.
fn comes_out_of(interface: &Tun) -> bool {
    let until = Instant::now() + Duration::from_millis(200);
    let mut buffer = [0; 2048];
    while Instant::now() < until {
        match interface.recv(&mut buffer) {
            Ok(length) if buffer[..length].ends_with(&TAIL) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => panic!("{error}"),
        }
    }
    false
}

#[test]
fn f_09_a_later_fragment_that_could_be_of_a_protected_flow_crosses_the_guard_neither_way() {
    in_a_network_of_its_own(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        let config = Config::parse(NARROW).unwrap_or_else(|errors| panic!("{errors:?}")).0;
        let mut gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/16", &config);
        for line in ["addr add 2001:db8::2/64 dev wan", "addr add fd02::1/64 dev lan", "route add default dev wan"] {
            ip(&format!("-6 {line}"));
        }
        gateway.look();
        let families = [("10.2.0.5", "10.1.0.9", "10.9.0.9"), ("fd02::5", "fd01::9", "fd09::9")];
        for (ours, theirs, _) in families {
            gateway.lan.send(&later_fragment(ours, theirs, 17)).unwrap();
            assert!(comes_out_of(&gateway.device), "{ours}: led to the device, which drops it");
        }
        // The guard is the second wall: somebody removed the rules that lead to the device.
        for (family, (ours, theirs, elsewhere)) in ["-4", "-6"].into_iter().zip(families) {
            for rule in said(&format!("{family} rule list")).lines().filter_map(|line| line.split_once(':')) {
                if rule.0.starts_with("44") || rule.0.starts_with("450") {
                    ip(&format!("{family} rule del pref {}", rule.0));
                }
            }
            let leaves = |to: &str, protocol: u8| {
                gateway.lan.send(&later_fragment(ours, to, protocol)).unwrap();
                comes_out_of(&gateway.wan)
            };
            let enters = |from: &str, protocol: u8| {
                gateway.wan.send(&later_fragment(from, ours, protocol)).unwrap();
                comes_out_of(&gateway.lan)
            };
            assert!(leaves(elsewhere, 17) && enters(elsewhere, 17), "{family}: this kernel lets no fragment through");
            // Of IPv6 the protocol of a later fragment may be that of a header before it.
            let other = family == "-4";
            assert_eq!((leaves(theirs, 6), enters(theirs, 6)), (other, other), "{family}: of TCP");
            let before = gateway.boundary.dropped.dropped();
            assert!(!leaves(theirs, 17), "{family}: in clear");
            assert!(!enters(theirs, 17), "{family}: comes in in clear");
            let counted: Vec<u64> =
                gateway.boundary.dropped.dropped().into_iter().zip(before).map(|(now, before)| now - before).collect();
            assert_eq!(counted, [1, 0, 1, 0, 0], "{family}: as what is in clear, in and out");
        }
    });
}
