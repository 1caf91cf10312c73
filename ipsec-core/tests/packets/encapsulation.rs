//! Whole outer packets: IPv4 and IPv6 inside and outside, protocol 50 and UDP.

use crate::ends::{NOW, Out, POLICY, Ruled, Sa, ip_marked, outbound, ports, reversed, site_a, site_b, tunnel};
use ipsec_core::buf::{HEADROOM, PacketBuf};
use ipsec_core::ecn::Ecn;
use ipsec_core::encap::{Arrival, pop_outer, push_outer};
use ipsec_core::engine::Egress;
use ipsec_core::error::Discard;
use ipsec_core::net::{Encap, Path};
use ipsec_core::sa::DontFragment;
use ipsec_core::spd::{Action, Rule, RuleId, Selector};
use ipsec_core::wire::checksum::Sum;
use ipsec_core::wire::cursor::Reader;
use ipsec_core::wire::{ipv4, ipv6, udp};

const V4: (&str, &str) = ("192.0.2.1:31000", "198.51.100.2:4500");
const V6: (&str, &str) = ("[2001:db8::1]:31000", "[2001:db8:ffff::2]:4500");

fn path((local, remote): (&str, &str), encap: Encap) -> Path {
    Path { local: local.parse().unwrap(), remote: remote.parse().unwrap() }.carried(encap)
}

fn inner_v4() -> Vec<u8> {
    ip_marked("10.1.0.5", "10.2.0.9", 17, 0xba, &ports(1, 2, 33))
}

fn inner_v6() -> Vec<u8> {
    ip_marked("fd01::5", "fd02::9", 17, 0xba, &ports(1, 2, 33))
}

fn sender(path: Path, encap: Encap) -> Out {
    let mut out = outbound(1);
    for (id, (local, remote)) in (0..).zip(site_a().into_iter().zip(site_b())) {
        let selector = Selector { local, remote };
        out.insert_rule(Rule { id: RuleId(id), priority: 1, selector, action: Action::protect(POLICY) }).unwrap();
    }
    let sa = Sa { encap, ..Sa::default() };
    let mut params = sa.outbound();
    params.sa.path = path;
    out.install(NOW, &params).unwrap();
    out
}

#[test]
fn every_combination_crosses_with_a_well_formed_outer_packet() {
    for ends in [V4, V6] {
        for encap in [Encap::None, Encap::Udp] {
            for inner in [inner_v4(), inner_v6()] {
                let path = path(ends, encap);
                let mut out = sender(path, encap);
                let id = out.classify(NOW, &inner).unwrap().sa().unwrap();
                let mut bytes = [0; 400];
                let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
                let egress = out.seal(NOW, id, &mut packet).unwrap();
                assert_eq!(egress.traffic_class, 0xba);
                push_outer(&egress, &mut packet).unwrap();
                check_outer(&egress, packet.as_slice());

                // The other end sees the mirrored path.
                let arrival = pop_outer(&mut packet).unwrap();
                assert!(matches!(arrival, Arrival::Esp { path: from, ecn: Ecn::Ect0 } if from == reversed(path)));
                let (_, mut inn) = tunnel(&Sa::default());
                inn.open(NOW, reversed(path), Ecn::Ect0, &mut packet).unwrap();
                assert_eq!(packet.as_slice(), inner);
            }
        }
    }
}

fn check_outer(egress: &Egress, packet: &[u8]) {
    let mut reader = Reader::new(packet);
    let protocol = match packet[0] >> 4 {
        4 => {
            let header = ipv4::Header::read(&mut reader).unwrap();
            assert!(Sum::default().bytes(&packet[..20]).is_valid());
            assert_eq!((header.ttl, header.tos, usize::from(header.total_len)), (64, 0xba, packet.len()));
            assert_eq!(header.dont_fragment, egress.dont_fragment);
            header.protocol
        }
        _ => {
            let header = ipv6::Header::read(&mut reader).unwrap();
            assert_eq!((header.hop_limit, header.traffic_class), (64, 0xba));
            assert_eq!(usize::from(header.payload_len), packet.len() - 40);
            header.next_header
        }
    };
    assert_eq!(protocol, if egress.encap == Encap::Udp { 17 } else { 50 });
    if egress.encap == Encap::Udp {
        let datagram = reader.rest();
        let header = udp::Header::read(&mut reader).unwrap();
        assert_eq!((header.source, header.destination), (31000, 4500));
        assert_eq!(usize::from(header.length), datagram.len());
        if packet[0] >> 4 == 4 {
            assert_eq!(header.checksum, 0, "RFC 3948 §2.1");
        } else {
            let ip = ipv6::Header::read(&mut Reader::new(packet)).unwrap();
            let sum = Sum::default().pseudo_v6(ip.source, ip.destination, ip.payload_len, 17).bytes(datagram);
            assert!(sum.is_valid());
        }
    }
}

#[test]
fn the_df_bit_follows_the_policy() {
    let mut with_df = inner_v4();
    with_df[6] |= 0x40;
    let table = [
        (DontFragment::Copy, [false, true, true]),
        (DontFragment::Set, [true, true, true]),
        (DontFragment::Clear, [false, false, false]),
    ];
    for (dont_fragment, expected) in table {
        let mut out = outbound(1);
        let sa = Sa::default();
        let id = out.install(NOW, &ipsec_core::sa::OutboundParams { dont_fragment, ..sa.outbound() }).unwrap();
        for (inner, expected) in [inner_v4(), with_df.clone(), inner_v6()].iter().zip(expected) {
            let mut bytes = [0; 400];
            let mut packet = PacketBuf::with_payload(&mut bytes, inner).unwrap();
            assert_eq!(out.seal(NOW, id, &mut packet).unwrap().dont_fragment, expected, "{dont_fragment:?}");
        }
    }
}

fn outer(egress: &Egress, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADROOM + content.len()];
    let mut packet = PacketBuf::with_payload(&mut bytes, content).unwrap();
    push_outer(egress, &mut packet).unwrap();
    packet.as_slice().to_vec()
}

fn pop(packet: &[u8]) -> (Result<Arrival, Discard>, Vec<u8>) {
    let mut bytes = packet.to_vec();
    let mut buffer = PacketBuf::new(&mut bytes, 0, packet.len()).unwrap();
    let arrival = pop_outer(&mut buffer);
    (arrival, buffer.as_slice().to_vec())
}

#[test]
fn port_4500_carries_ike_keepalives_and_esp_and_other_packets_are_left_alone() {
    for ends in [V4, V6] {
        let path = path(ends, Encap::Udp);
        let egress = Egress { path, encap: Encap::Udp, traffic_class: 1, dont_fragment: true, ident: 0, hops: 64 };
        let ike = outer(&egress, &[0, 0, 0, 0, 0xaa, 0xbb]);
        assert_eq!(pop(&ike), (Ok(Arrival::Ike { path: reversed(path) }), vec![0xaa, 0xbb]));
        assert_eq!(pop(&outer(&egress, &[0xff])).0, Ok(Arrival::Keepalive));
        let esp = outer(&egress, &[1, 2, 3, 4, 5]);
        let (arrival, content) = pop(&esp);
        assert!(matches!(arrival, Ok(Arrival::Esp { path: from, ecn: Ecn::Ect1 }) if from == reversed(path)));
        assert_eq!(content, [1, 2, 3, 4, 5]);
        // Link-layer padding behind the packet is no part of it.
        assert_eq!(pop(&[&esp[..], &[0; 18]].concat()).1, [1, 2, 3, 4, 5]);
        assert_eq!(pop(&outer(&egress, &[])).0, Err(Discard::InHeader));

        let mut elsewhere = egress;
        elsewhere.path.remote.set_port(4501);
        let dns = outer(&elsewhere, &[1, 2, 3, 4]);
        assert_eq!(pop(&dns), (Ok(Arrival::Clear), dns));
    }
    let tcp = ip_marked("192.0.2.1", "192.0.2.2", 6, 0, &ports(1, 4500, 20));
    assert_eq!(pop(&tcp), (Ok(Arrival::Clear), tcp.clone()));
    let mut fragment = ip_marked("192.0.2.1", "192.0.2.2", 50, 0, &[1; 40]);
    fragment[6] |= 0x20;
    assert_eq!(pop(&fragment), (Ok(Arrival::Clear), fragment.clone()));
    assert_eq!(pop(&[]).0, Err(Discard::InHeader));
}

#[test]
fn what_lies_behind_the_end_of_a_udp_datagram_is_no_part_of_it() {
    let egress = Egress {
        path: path(V4, Encap::Udp),
        encap: Encap::Udp,
        traffic_class: 0,
        dont_fragment: true,
        ident: 0,
        hops: 64,
    };
    let mut longer = outer(&egress, &[1, 2, 3, 4, 5, 9, 9]);
    longer[24..26].copy_from_slice(&13u16.to_be_bytes());
    assert_eq!(pop(&longer).1, [1, 2, 3, 4, 5]);
}

#[test]
fn outer_headers_need_room() {
    for (ends, encap, needed) in
        [(V4, Encap::None, 20), (V4, Encap::Udp, 28), (V6, Encap::None, 40), (V6, Encap::Udp, 48)]
    {
        let path = path(ends, encap);
        let egress = Egress { path, encap, traffic_class: 0, dont_fragment: false, ident: 9, hops: 64 };
        for headroom in 0..=needed {
            let mut bytes = vec![0; headroom + 40];
            let mut packet = PacketBuf::new(&mut bytes, headroom, 40).unwrap();
            assert_eq!(push_outer(&egress, &mut packet).is_ok(), headroom == needed, "{headroom} of {needed}");
        }
    }
}

#[test]
fn a_udp_checksum_over_ipv6_is_never_zero() {
    let path = path(V6, Encap::Udp);
    let egress = Egress { path, encap: Encap::Udp, traffic_class: 0, dont_fragment: true, ident: 0, hops: 64 };
    let checksum = |word: [u8; 2]| {
        let packet = outer(&egress, &[&[1, 2, 3, 4, 5, 6][..], &word].concat());
        [packet[46], packet[47]]
    };
    // Putting the checksum itself under the sum makes it zero, which would mean that there is none (RFC 768).
    let word = checksum([0, 0]);
    assert_ne!(word, [0, 0]);
    assert_eq!(checksum(word), [0xff, 0xff]);
}
