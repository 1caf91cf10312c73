//! Transport and BEET mode: which part of a packet goes into ESP, and that the other end gets all of it back.

use crate::ends::{In, NOW, Out, Sa, inbound, ip, ip_marked, outbound, ports};
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::ecn::Ecn;
use ipsec_core::encap::{Arrival, pop_outer, push_outer};
use ipsec_core::error::{Discard, Refused};
use ipsec_core::net::{AddrRange, Encap, Path, TrafficSelector};
use ipsec_core::sa::{InboundParams, Mode, OutboundParams, SaId};
use ipsec_core::wire::checksum::Sum;
use ipsec_core::wire::ip::Marks;

const V4: (&str, &str) = ("192.0.2.1", "192.0.2.2");
const V6: (&str, &str) = ("2001:db8::1", "2001:db8::2");

fn host(addr: &str) -> Vec<TrafficSelector> {
    vec![TrafficSelector::addrs(AddrRange::single(addr.parse().unwrap()))]
}

fn path((local, remote): (&str, &str), encap: Encap) -> Path {
    let port = if encap == Encap::Udp { 4500 } else { 0 };
    let at = |addr: &str| std::net::SocketAddr::new(addr.parse().unwrap(), port);
    Path { local: at(local), remote: at(remote) }
}

/// Both ends of an SA between two outer addresses, for what the inner ones say to each other.
struct Pair {
    out: Out,
    inn: In,
    id: SaId,
    path: Path,
}

impl Pair {
    fn new(mode: Mode, outer: (&str, &str), inner: (&str, &str), encap: Encap) -> Self {
        Self::behind_nat(mode, outer, outer, inner, encap)
    }

    fn behind_nat(mode: Mode, outer: (&str, &str), seen: (&str, &str), inner: (&str, &str), encap: Encap) -> Self {
        let sa = Sa { mode, encap, site_a: host(inner.0), site_b: host(inner.1), ..Sa::default() };
        let (mut out, mut inn) = (outbound(1), inbound(1));
        let usual = sa.outbound();
        let there = path(outer, encap);
        let params = OutboundParams { sa: ipsec_core::sa::Params { path: there, ..usual.sa }, ..usual };
        let id = out.install(NOW, &params).unwrap();
        let there = if mode == Mode::Beet { inner } else { seen };
        let sa = Sa { site_a: host(there.0), site_b: host(there.1), ..sa };
        let usual = sa.inbound();
        let Path { local, remote } = path(seen, encap);
        let back = Path { local: remote, remote: local };
        let params = InboundParams { sa: ipsec_core::sa::Params { path: back, ..usual.sa }, ..usual };
        inn.install(NOW, &params).unwrap();
        Self { out, inn, id, path: back }
    }

    /// A packet on the wire, with all of its headers.
    fn whole(&mut self, inner: &[u8]) -> Result<Vec<u8>, Discard> {
        let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
        let mut packet = PacketBuf::with_payload(&mut bytes, inner).unwrap();
        let egress = self.out.seal(NOW, self.id, &mut packet)?;
        push_outer(&egress, &mut packet).unwrap();
        Ok(packet.as_slice().to_vec())
    }

    /// What the other end makes of it.
    fn receive(&mut self, whole: &[u8]) -> Result<Vec<u8>, Discard> {
        // Of two versions, the inner header may be longer than the outer one with ESP.
        let mut bytes = [&[0; 8], whole].concat();
        let mut packet = PacketBuf::new(&mut bytes, 8, whole.len()).unwrap();
        let Ok(Arrival::Esp { path, ecn }) = pop_outer(&mut packet) else { panic!("no ESP") };
        self.inn.open(NOW, path, ecn, &mut packet)?;
        Ok(packet.as_slice().to_vec())
    }

    /// The same through sockets, which keep the outer header for themselves.
    fn through_sockets(&mut self, inner: &[u8], room: usize) -> Result<Vec<u8>, Discard> {
        let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
        let mut packet = PacketBuf::with_payload(&mut bytes, inner).unwrap();
        self.out.seal(NOW, self.id, &mut packet)?;
        let mut bytes = [&vec![0; room][..], packet.as_slice()].concat();
        let len = packet.len();
        let mut packet = PacketBuf::new(&mut bytes, room, len).unwrap();
        self.inn.open(NOW, self.path, Ecn::NotEct, &mut packet)?;
        Ok(packet.as_slice().to_vec())
    }
}

fn udp(ends: (&str, &str), len: usize) -> Vec<u8> {
    let mut payload = ports(7, 9, len.max(4));
    let length = payload.len() as u16;
    payload[4..6].copy_from_slice(&length.to_be_bytes());
    payload[6..8].fill(0);
    let octets = |addr: &str| match addr.parse().unwrap() {
        std::net::IpAddr::V4(addr) => addr.octets().to_vec(),
        std::net::IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let sum =
        Sum::default().bytes(&octets(ends.0)).bytes(&octets(ends.1)).word(length).word(17).bytes(&payload).finish();
    payload[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(ends.0, ends.1, 17, &payload)
}

/// An IPv4 header with a valid checksum and these options.
fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut packet = [&packet[..20], options, &packet[20..]].concat();
    packet[0] += (options.len() / 4) as u8;
    let total = (packet.len() as u16).to_be_bytes();
    packet[2..4].copy_from_slice(&total);
    packet[10..12].fill(0);
    let sum = Sum::default().bytes(&packet[..20 + options.len()]).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// An IPv6 packet with extension headers in front of its payload: each with its number, and what is behind its first two octets.
fn with_extensions(packet: &[u8], extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let (mut header, last) = (packet[..40].to_vec(), packet[6]);
    header[6] = extensions.first().map_or(last, |(number, _)| *number);
    let followers = extensions.iter().skip(1).map(|(number, _)| *number).chain([last]);
    for ((number, content), next) in extensions.iter().zip(followers) {
        let len = if *number == 44 { 0 } else { (content.len() + 2) / 8 - 1 };
        header.extend([next, len as u8]);
        header.extend(*content);
    }
    header.extend(&packet[40..]);
    let behind = (header.len() - 40) as u16;
    header[4..6].copy_from_slice(&behind.to_be_bytes());
    header
}

#[test]
fn a_socket_is_told_the_hop_limit_of_a_packet_without_its_header() {
    for mode in [Mode::Transport, Mode::Beet, Mode::Tunnel] {
        for (ends, hops_at) in [(V4, 8), (V6, 7)] {
            let mut pair = Pair::new(mode, ends, ends, Encap::None);
            let mut inner = udp(ends, 100);
            inner[hops_at] = 255;
            let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
            let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
            let egress = pair.out.seal(NOW, pair.id, &mut packet).unwrap();
            assert_eq!(egress.hops, if mode == Mode::Tunnel { 64 } else { 255 }, "{mode:?}, {ends:?}");
        }
    }
}

#[test]
fn what_two_hosts_say_keeps_its_header_and_comes_back_as_it_was() {
    for encap in [Encap::None, Encap::Udp] {
        for ends in [V4, V6] {
            let mut pair = Pair::new(Mode::Transport, ends, ends, encap);
            for len in 0..80 {
                let inner = udp(ends, len);
                let whole = pair.whole(&inner).unwrap();
                let fixed = if ends == V4 { 20 } else { 40 };
                let protocol = whole[if ends == V4 { 9 } else { 6 }];
                assert_eq!(protocol, if encap == Encap::Udp { 17 } else { 50 });
                assert!(ends != V4 || Sum::default().bytes(&whole[..20]).is_valid());
                assert_eq!(whole.len() - fixed - if encap == Encap::Udp { 8 } else { 0 }, {
                    let text = inner.len() - fixed + 2;
                    16 + text.next_multiple_of(4) + 16
                });
                assert_eq!(pair.receive(&whole).unwrap(), inner, "{len} octets");
            }
        }
    }
}

#[test]
fn options_and_the_extension_headers_of_the_way_stay_in_front_of_esp() {
    let mut pair = Pair::new(Mode::Transport, V4, V4, Encap::None);
    let inner = with_options(&udp(V4, 30), &[0x94, 4, 0, 0, 1, 1, 1, 0]); // router alert
    let whole = pair.whole(&inner).unwrap();
    assert_eq!((whole[0], whole[9], &whole[20..28]), (0x47, 50, &[0x94, 4, 0, 0, 1, 1, 1, 0][..]));
    assert!(Sum::default().bytes(&whole[..28]).is_valid());
    assert_eq!(whole[28..32], 0x1234_5600_u32.to_be_bytes(), "ESP follows");
    assert_eq!(pair.receive(&whole).unwrap(), inner);

    const HOP_BY_HOP: (u8, &[u8]) = (0, &[5, 2, 0, 0, 1, 0]);
    const ROUTING: (u8, &[u8]) = (43, &[4, 0, 0, 0, 0, 0]);
    const WHOLE: (u8, &[u8]) = (44, &[0, 0, 0, 0, 0, 9]);
    const DESTINATION: (u8, &[u8]) = (60, &[1, 4, 0, 0, 0, 0]);
    for (extensions, front) in [
        (&[HOP_BY_HOP][..], 48),
        (&[ROUTING], 48),
        (&[WHOLE], 48),
        (&[DESTINATION], 40), // for the receiver: protected (RFC 4303 §3.1.1)
        (&[HOP_BY_HOP, DESTINATION], 48),
        (&[DESTINATION, ROUTING], 56), // for each on the way
        (&[HOP_BY_HOP, DESTINATION, ROUTING, WHOLE, DESTINATION], 72),
    ] {
        for encap in [Encap::None, Encap::Udp] {
            let mut pair = Pair::new(Mode::Transport, V6, V6, encap);
            let inner = with_extensions(&udp(V6, 30), extensions);
            let whole = pair.whole(&inner).unwrap();
            let esp = front + if encap == Encap::Udp { 8 } else { 0 };
            assert_eq!(whole[esp..esp + 4], 0x1234_5600_u32.to_be_bytes(), "{extensions:?}");
            assert_eq!(usize::from(u16::from_be_bytes([whole[4], whole[5]])) + 40, whole.len());
            assert_eq!(pair.receive(&whole).unwrap(), inner, "{extensions:?}");
        }
    }
}

#[test]
fn what_transport_mode_does_not_carry_is_discarded_and_left_as_it_was() {
    let mut fragment = udp(V4, 30);
    fragment[6] = 0x20;
    let mut later = udp(V4, 30);
    later[7] = 4;
    let part = with_extensions(&udp(V6, 30), &[(44, &[0, 1, 0, 0, 0, 9])]);
    let cases = [
        (V4, fragment),
        (V4, later),
        (V6, part),
        (V4, udp(("192.0.2.1", "192.0.2.9"), 8)),
        (V4, udp(("192.0.2.9", "192.0.2.2"), 8)),
        (V6, udp(("2001:db8::1", "2001:db8::9"), 8)),
    ];
    for (ends, inner) in cases {
        for mode in [Mode::Transport, Mode::Beet] {
            let mut pair = Pair::new(mode, ends, ends, Encap::None);
            let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
            let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
            assert_eq!(pair.out.seal(NOW, pair.id, &mut packet), Err(Discard::OutMode));
            assert_eq!(packet.as_slice(), inner);
            assert_eq!((pair.out.sa(pair.id).unwrap().sequence, pair.out.counters().get(Discard::OutMode)), (0, 1));
        }
    }
}

#[test]
fn sockets_give_no_header_so_a_new_one_is_made() {
    for (mode, outer, inner) in [
        (Mode::Transport, V4, V4),
        (Mode::Transport, V6, V6),
        (Mode::Beet, V4, ("10.9.0.1", "10.9.0.2")),
        (Mode::Beet, V6, ("10.9.0.1", "10.9.0.2")),
        (Mode::Beet, V4, ("fd09::1", "fd09::2")),
    ] {
        let fixed = if inner.0.contains(':') { 40 } else { 20 };
        let mut pair = Pair::new(mode, outer, inner, Encap::Udp);
        let sent = udp(inner, 30);
        let came = pair.through_sockets(&sent, fixed - 16).unwrap();
        assert_eq!(came[fixed..], sent[fixed..], "what follows is as it was");
        let flow = ipsec_core::flow::Flow::of(&came).unwrap();
        assert_eq!((flow.source.to_string(), flow.destination.to_string()), (inner.0.to_owned(), inner.1.to_owned()));
        assert_eq!(flow.len, came.len());
        assert!(fixed == 40 || Sum::default().bytes(&came[..20]).is_valid());
        // One octet less than the header needs beside that of ESP.
        assert_eq!(pair.through_sockets(&sent, fixed - 17), Err(Discard::InMode));
    }
}

#[test]
fn beet_mode_carries_hosts_between_other_addresses_of_either_version() {
    let hosts = [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")];
    for (outer, inner) in [V4, V6].into_iter().flat_map(|outer| hosts.map(|inner| (outer, inner))) {
        for encap in [Encap::None, Encap::Udp] {
            let mut pair = Pair::new(Mode::Beet, outer, inner, encap);
            let fixed = if inner.0.contains(':') { 40 } else { 20 };
            let mut sent = udp(inner, 30);
            sent[if fixed == 40 { 7 } else { 8 }] = 33;
            let whole = pair.whole(&sent).unwrap();
            assert_eq!(whole[if outer == V6 { 7 } else { 8 }], 33, "the TTL of the packet");
            let came = pair.receive(&whole).unwrap();
            assert_eq!(came[fixed..], sent[fixed..]);
            let ends = |packet: &[u8]| ipsec_core::flow::Flow::of(packet).map(|flow| (flow.source, flow.destination));
            assert_eq!(ends(&came), ends(&sent));
            assert_eq!(
                pair.whole(&with_options(&udp(("10.9.0.1", "10.9.0.2"), 4), &[1, 1, 1, 0])),
                Err(Discard::OutMode)
            );
        }
    }
}

#[test]
fn atk_66_a_whole_packet_out_of_an_sa_between_two_hosts_stays_in_a_packet_between_them() {
    let beet = ("10.9.0.1", "10.9.0.2");
    for (mode, ends) in [(Mode::Transport, V4), (Mode::Beet, beet)] {
        for (number, inside) in [(4, udp(("10.1.0.1", "10.2.0.1"), 8)), (41, udp(("fd01::1", "fd02::1"), 8))] {
            // As a tunnel of the system's own makes it, which an SA protects (RFC 3884).
            let mut pair = Pair::new(mode, V4, ends, Encap::None);
            let sent = ip(ends.0, ends.1, number, &inside);
            let whole = pair.whole(&sent).unwrap();
            let came = pair.receive(&whole).unwrap();
            assert_eq!((came[9], &came[12..]), (number, &sent[12..]), "{mode:?}");
            // Selectors say whether there may be one.
            let sa = Sa { mode, encap: Encap::None, site_a: host(ends.0), site_b: host(ends.1), ..Sa::default() };
            let only_udp =
                |addr: &str| host(addr).into_iter().map(|ts| TrafficSelector { protocol: 17, ..ts }).collect();
            let narrow = Sa { site_a: only_udp(ends.0), site_b: only_udp(ends.1), ..sa.clone() };
            let mut inn = inbound(1);
            inn.install(NOW, &narrow.inbound()).unwrap();
            let pad = &[1, 2, 3, 4][..(4 - (inside.len() + 2) % 4) % 4];
            let esp = sa.esp(1, &[&inside[..], pad, &[pad.len() as u8, number]].concat());
            let mut bytes = [&[0; 64][..], &esp].concat();
            let mut packet = PacketBuf::new(&mut bytes, 64, esp.len()).unwrap();
            let opened = inn.open(NOW, path((V4.1, V4.0), Encap::None), Ecn::NotEct, &mut packet);
            assert_eq!(opened.err(), Some(Discard::InSelectors), "{mode:?} {number}");
        }
    }
}

#[test]
fn octets_behind_a_packet_are_no_part_of_it() {
    // A bare ACK, in an Ethernet frame that is padded to its shortest length.
    let mut segment = vec![0, 80, 1, 187, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0];
    let ends = Sum::default().bytes(&[192, 0, 2, 1]).bytes(&[192, 0, 2, 2]);
    let checksum = ends.word(6).word(20).bytes(&segment).finish().to_be_bytes();
    segment[16..18].copy_from_slice(&checksum);
    let inner = ip(V4.0, V4.1, 6, &segment);
    for mode in [Mode::Tunnel, Mode::Transport, Mode::Beet] {
        for encap in [Encap::None, Encap::Udp] {
            let mut pair = Pair::new(mode, V4, V4, encap);
            let alone = pair.whole(&inner).unwrap();
            let framed = pair.whole(&[&inner[..], &[0xee; 6]].concat()).unwrap();
            assert_eq!(framed.len(), alone.len(), "{mode:?} {encap:?}");
            let came = pair.receive(&framed).unwrap();
            assert_eq!((came.len(), &came[20..]), (inner.len(), &segment[..]), "{mode:?} {encap:?}");
            assert_eq!(pair.out.sa(pair.id).unwrap().bytes, 2 * inner.len() as u64);
            // Nor is a packet one that is not all there.
            for len in 0..inner.len() {
                assert_eq!(pair.whole(&inner[..len]), Err(Discard::OutHeader), "{mode:?}, {len} octets");
            }
            let mut wrong = inner.clone();
            wrong[2..4].copy_from_slice(&[0, 19]);
            assert_eq!(pair.whole(&wrong), Err(Discard::OutHeader), "{mode:?}, shorter than a header");
        }
    }
}

#[test]
fn what_udp_does_not_count_is_not_under_its_checksum() {
    for ends in [V4, V6] {
        let (fixed, mut pair) = (if ends == V4 { 20 } else { 40 }, Pair::new(Mode::Transport, ends, ends, Encap::Udp));
        let datagram = udp(ends, 4)[fixed..].to_vec();
        for behind in [&[][..], &[0xee; 5], &[1, 1, 0, 0]] {
            // Options of UDP (RFC 9868), or what hides how long a packet is (RFC 4303 §2.7).
            let inner = ip(ends.0, ends.1, 17, &[&datagram[..], behind].concat());
            let whole = pair.whole(&inner).unwrap();
            assert_eq!(pair.receive(&whole).as_ref(), Ok(&inner), "{behind:?}");
        }
        // A length that cannot be.
        for length in [7, 9] {
            let mut inner = ip(ends.0, ends.1, 17, &datagram);
            inner[fixed + 5] = length;
            let whole = pair.whole(&inner).unwrap();
            assert_eq!(pair.receive(&whole).as_ref(), Ok(&inner), "{length}");
        }
    }
}

#[test]
fn beet_mode_gives_back_what_the_outer_header_carried() {
    let hosts = [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")];
    for (outer, inner) in [V4, V6].into_iter().flat_map(|outer| hosts.map(|inner| (outer, inner))) {
        for dont_fragment in [false, true] {
            let mut pair = Pair::new(Mode::Beet, outer, inner, Encap::Udp);
            let mut sent = ip_marked(inner.0, inner.1, 17, 0xba, &ports(1, 2, 30));
            let v4 = sent[0] == 0x45;
            sent[if v4 { 8 } else { 7 }] = 3;
            if v4 && dont_fragment {
                sent[6] |= 0x40;
            }
            let whole = pair.whole(&sent).unwrap();
            let came = pair.receive(&whole).unwrap();
            let marks = |packet: &[u8]| Marks::of(packet).unwrap();
            let (before, after) = (marks(&sent), marks(&came));
            assert_eq!((after.traffic_class, after.hops), (0xba, 3), "{inner:?} over {outer:?}");
            assert_eq!(after.dont_fragment, before.dont_fragment || outer == V6, "{inner:?} over {outer:?}");
            // Those that may be cut are told apart.
            assert_eq!(after.ident, if v4 && outer == V4 { pair.out.sa(pair.id).unwrap().sequence as u16 } else { 0 });
            assert!(!v4 || Sum::default().bytes(&came[..20]).is_valid());
        }
    }
}

#[test]
fn the_pseudo_header_of_beet_mode_is_no_protocol() {
    let hosts = ("10.9.0.1", "10.9.0.2");
    let mut pair = Pair::new(Mode::Beet, V4, hosts, Encap::None);
    // Router alert, as a peer takes it off a header with options, in front of UDP.
    let options = [17, 1, 0, 0, 0x94, 4, 0, 0, 0, 53, 0, 99, 0, 8, 0, 0];
    let esp = Sa { encap: Encap::None, ..Sa::default() }.esp(1, &[&options[..], &[1, 2, 2, 94]].concat());
    let mut bytes = [&[0; 64][..], &esp].concat();
    let mut packet = PacketBuf::new(&mut bytes, 64, esp.len()).unwrap();
    let opened = pair.inn.open(NOW, pair.path, Ecn::NotEct, &mut packet);
    assert_eq!((opened, pair.inn.counters().get(Discard::InMode)), (Err(Discard::InMode), 1));
    assert_eq!(pair.whole(&ip(hosts.0, hosts.1, 94, &options)), Err(Discard::OutMode), "nor is it made of one");
    // To others it is a protocol.
    let mut pair = Pair::new(Mode::Transport, V4, V4, Encap::None);
    let sent = ip(V4.0, V4.1, 94, &options);
    let whole = pair.whole(&sent).unwrap();
    assert_eq!(pair.receive(&whole), Ok(sent));
}

#[test]
fn esp_behind_destination_options_is_esp() {
    const HOP_BY_HOP: (u8, &[u8]) = (0, &[5, 2, 0, 0, 1, 0]);
    const DESTINATION: (u8, &[u8]) = (60, &[1, 4, 0, 0, 0, 0]);
    for encap in [Encap::None, Encap::Udp] {
        for (mode, inner) in [(Mode::Transport, V6), (Mode::Beet, ("fd09::1", "fd09::2")), (Mode::Tunnel, V6)] {
            for extensions in [&[DESTINATION][..], &[HOP_BY_HOP, DESTINATION]] {
                let mut pair = Pair::new(mode, V6, inner, encap);
                let sent = udp(inner, 30);
                let whole = with_extensions(&pair.whole(&sent).unwrap(), extensions);
                let came = pair.receive(&whole).unwrap();
                // In transport mode the header is the packet's own, and with it what stands in it.
                let expected = if mode == Mode::Transport { with_extensions(&sent, extensions) } else { sent };
                let from = |packet: &[u8]| packet[4..].to_vec();
                assert_eq!(from(&came), from(&expected), "{mode:?} {encap:?}");
            }
        }
    }
}

#[test]
fn a_checksum_follows_the_addresses_that_a_nat_changed() {
    /// Over the pseudo-header and what follows it; whether a checksum is right.
    fn valid(packet: &[u8]) -> bool {
        let len = (packet.len() - 20) as u16;
        let sum = Sum::default().bytes(&packet[12..20]).word(u16::from(packet[9])).word(len);
        sum.bytes(&packet[20..]).is_valid()
    }
    let ours = ("192.168.1.5", "198.51.100.7");
    let seen = ("203.0.113.9", "10.0.0.7");
    let address = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let translated = |mut whole: Vec<u8>| {
        whole[12..16].copy_from_slice(&address(seen.0)); // the NATs on the way
        whole[16..20].copy_from_slice(&address(seen.1));
        whole
    };
    for (protocol, at, len) in [(17, 26, 30), (6, 36, 40), (17, 26, 31)] {
        let mut sent = ip(ours.0, ours.1, protocol, &ports(7, 9, len));
        sent[at..at + 2].fill(0);
        let total = (sent.len() - 20) as u16;
        if protocol == 17 {
            sent[24..26].copy_from_slice(&total.to_be_bytes());
        }
        let sum = Sum::default().bytes(&sent[12..20]).word(u16::from(protocol)).word(total).bytes(&sent[20..]).finish();
        sent[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        assert!(valid(&sent));
        for (encap, right) in [(Encap::Udp, true), (Encap::None, false)] {
            let mut pair = Pair::behind_nat(Mode::Transport, ours, seen, seen, encap);
            let came = pair.whole(&sent).map(translated).and_then(|whole| pair.receive(&whole)).unwrap();
            assert_eq!((valid(&came), &came[12..16]), (right, &address(seen.0)[..]), "{protocol}, {len} octets");
            assert!(right || came[20..] == sent[20..], "without UDP there is no NAT, and it is as it was sent");
        }
    }
    // UDP without a checksum stays without.
    let mut sent = udp(ours, 30);
    sent[26..28].fill(0);
    let mut pair = Pair::behind_nat(Mode::Transport, ours, seen, seen, Encap::Udp);
    let came = pair.whole(&sent).map(translated).and_then(|whole| pair.receive(&whole)).unwrap();
    assert_eq!(came[26..28], [0, 0]);
}

#[test]
fn beet_mode_is_for_two_hosts() {
    let hosts = Sa { mode: Mode::Beet, site_a: host("10.9.0.1"), site_b: host("10.9.0.2"), ..Sa::default() };
    assert!(outbound(1).install(NOW, &hosts.outbound()).is_ok());
    let nets = Sa::default();
    for sa in [Sa { site_a: nets.site_a, ..hosts.clone() }, Sa { site_b: nets.site_b, ..hosts }] {
        assert_eq!(outbound(1).install(NOW, &sa.outbound()).err(), Some(Refused::Hosts));
        assert_eq!(inbound(1).install(NOW, &sa.inbound()).err(), Some(Refused::Hosts));
        assert!(format!("{:?}", sa.outbound()).contains("mode: Beet"));
    }
}
