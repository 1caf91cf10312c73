//! Hostile and broken packets: every one ends in a counted discard and costs the SA nothing.

use crate::ends::{In, NOW, Rng, Sa, a_to_b, inbound, ip, ip_marked, open, open_marked, outbound, ports, seal, tunnel};
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::AeadAlg;
use ipsec_core::ecn::Ecn;
use ipsec_core::error::{Discard, Refused};
use ipsec_core::flow::{Flow, Ports};
use ipsec_core::net::{PortRange, Spi, TrafficSelector};
use ipsec_core::sa::Mode;

const SUITES: [AeadAlg; 3] = [AeadAlg::Aes128Gcm16, AeadAlg::Aes192Gcm16, AeadAlg::Aes256Gcm16];

fn suite(alg: AeadAlg) -> Sa {
    Sa { protection: alg.into(), keymat: vec![0x5a; alg.key_len() + 4], ..Sa::default() }
}

/// An inner packet with its trailer, as it stands before encryption.
fn payload(inner: &[u8], pad: &[u8], next_header: u8) -> Vec<u8> {
    [inner, pad, &[pad.len() as u8, next_header]].concat()
}

#[test]
fn atk_05_a_pad_length_beyond_the_payload_is_refused() {
    let sa = Sa::default();
    let (_, mut inn) = tunnel(&sa);
    for (sequence, pad_length) in (1..).zip(3..=255u8) {
        // Two octets that look like a pad, the length, the next header: never enough.
        let esp = sa.esp(sequence, &[1, 2, pad_length, 4]);
        assert_eq!(open(&mut inn, &esp), Err(Discard::InPadding), "{pad_length}");
    }
}

#[test]
fn atk_55_every_truncation_of_every_suite_is_refused_and_changes_nothing() {
    for alg in SUITES {
        let sa = suite(alg);
        let (mut out, mut inn) = tunnel(&sa);
        let esp = seal(&mut out, &a_to_b(44)).unwrap();
        assert!(esp.len() > 64);
        for len in 0..esp.len() {
            let expected = if len < 8 + 8 + 2 + 16 { Discard::InHeader } else { Discard::InForged };
            assert_eq!(open(&mut inn, &esp[..len]), Err(expected), "{alg:?}, {len} octets");
        }
        let status = inn.sas().next().unwrap();
        assert_eq!((status.packets, status.bytes, status.sequence), (0, 0, 0));
        assert_eq!(inn.poll_event(), None);
        assert!(open(&mut inn, &esp).is_ok());
    }
}

#[test]
fn atk_55_short_octets_with_a_valid_spi_are_refused() {
    let sa = Sa::default();
    let (_, mut inn) = tunnel(&sa);
    let mut rng = Rng(55);
    for len in 0..=64 {
        let mut esp = rng.bytes(len);
        let spi = sa.spi.to_be_bytes();
        let shared = len.min(4);
        esp[..shared].copy_from_slice(&spi[..shared]);
        assert!(open(&mut inn, &esp).is_err(), "{len} octets");
    }
    assert_eq!(inn.sas().next().unwrap().sequence, 0);
}

#[test]
fn atk_57_71_a_buffer_that_is_too_small_is_refused_and_left_alone() {
    for inner_len in 20..60 {
        let (mut out, _) = tunnel(&Sa::default());
        let inner = a_to_b(inner_len - 20);
        let id = out.classify(NOW, &inner).unwrap().sa().unwrap();
        let pad = (inner_len + 2).wrapping_neg() % 4;
        let (front, back) = (16, pad + 2 + 16);
        for headroom in 0..=front + 1 {
            for tailroom in 0..=back + 1 {
                let mut bytes = vec![0xee; headroom + inner_len + tailroom];
                bytes[headroom..headroom + inner_len].copy_from_slice(&inner);
                let before = bytes.clone();
                let mut packet = PacketBuf::new(&mut bytes, headroom, inner_len).unwrap();
                let sealed = out.seal(NOW, id, &mut packet);
                let fits = headroom >= front && tailroom >= back;
                assert_eq!(
                    sealed.err(),
                    (!fits).then_some(Discard::OutNoRoom),
                    "{headroom} + {inner_len} + {tailroom}"
                );
                if !fits {
                    assert_eq!(packet.len(), inner_len);
                    assert_eq!(bytes, before);
                }
            }
        }
        // The refused ones used no sequence number.
        assert_eq!(out.sas().next().unwrap().sequence, 2 * 2);
    }
}

#[test]
fn a_packet_that_would_exceed_what_ip_can_carry_is_refused() {
    let (mut out, _) = tunnel(&Sa::default());
    let id = out.classify(NOW, &a_to_b(8)).unwrap().sa().unwrap();
    for (len, fits) in [(65_470, true), (65_471, false), (65_535, false)] {
        let mut bytes = vec![0x45; 64 + len + 64];
        bytes[66..68].copy_from_slice(&(len as u16).to_be_bytes());
        let mut packet = PacketBuf::new(&mut bytes, 64, len).unwrap();
        assert_eq!(out.seal(NOW, id, &mut packet).is_ok(), fits, "{len}");
        assert!(!fits || packet.len() + 8 + 20 <= 65_535);
    }
}

#[test]
fn atk_60_spi_0_to_255_is_refused() {
    for spi in [0, 1, 255] {
        assert_eq!(Spi::new(spi), None);
        let (mut inn, sa) = (inbound(2), Sa { spi: 256, ..Sa::default() });
        inn.install(NOW, &sa.inbound()).unwrap();
        let mut esp = sa.esp(1, &payload(&a_to_b(8), &[1, 2], 4));
        esp[..4].copy_from_slice(&spi.to_be_bytes());
        assert_eq!(open(&mut inn, &esp), Err(Discard::InHeader));
    }
    // Nor does the table ever give one out.
    let mut inn = inbound(300);
    for random in 0..300 {
        assert!(inn.reserve_spi(random).unwrap().get() > 255);
    }
    assert_eq!(inn.reserve_spi(7), Err(Refused::Full));
}

#[test]
fn atk_64_a_tag_that_differs_in_any_bit_is_refused() {
    let (mut out, mut inn) = tunnel(&Sa::default());
    let esp = seal(&mut out, &a_to_b(44)).unwrap();
    for bit in 0..128 {
        let mut forged = esp.clone();
        let at = forged.len() - 16 + bit / 8;
        forged[at] ^= 1 << (bit % 8);
        assert_eq!(open(&mut inn, &forged), Err(Discard::InForged), "bit {bit}");
    }
    for octet in 8..esp.len() {
        let mut forged = esp.clone();
        forged[octet] ^= 0x10;
        assert_eq!(open(&mut inn, &forged), Err(Discard::InForged), "octet {octet}");
    }
    assert!(open(&mut inn, &esp).is_ok());
}

#[test]
fn atk_65_padding_is_checked_and_any_right_length_accepted() {
    let sa = Sa { window: 1024, ..Sa::default() };
    let (_, mut inn) = tunnel(&sa);
    let inner = a_to_b(9);
    for len in 0..=255u8 {
        let pad: Vec<u8> = (1..=len).collect();
        let esp = sa.esp(1 + u64::from(len), &payload(&inner, &pad, 4));
        assert_eq!(open(&mut inn, &esp).as_deref(), Ok(&inner[..]), "{len} pad octets");
    }
    for (sequence, pad) in (300..).zip([&[0][..], &[2], &[1, 1], &[1, 2, 4], &[0, 0, 0], &[2, 1]]) {
        let esp = sa.esp(sequence, &payload(&inner, pad, 4));
        assert_eq!(open(&mut inn, &esp), Err(Discard::InPadding), "{pad:?}");
    }
}

#[test]
fn atk_65_dummy_packets_are_dropped_and_counted() {
    let sa = Sa::default();
    let (_, mut inn) = tunnel(&sa);
    for (sequence, body) in (1..).zip([&[][..], &[0xff; 60], &a_to_b(8)]) {
        assert_eq!(open(&mut inn, &sa.esp(sequence, &payload(body, &[1, 2], 59))), Err(Discard::InDummy));
        assert_eq!(inn.counters().get(Discard::InDummy), sequence);
    }
    assert_eq!(inn.counters().xfrm().map(|(_, count)| count).sum::<u64>(), 0, "no error for Linux");
}

#[test]
fn atk_65_traffic_flow_padding_is_trimmed_by_the_inner_length() {
    let sa = Sa::default();
    let (_, mut inn) = tunnel(&sa);
    let v4 = a_to_b(9);
    let v6 = ip("fd01::5", "fd02::9", 17, &ports(1, 2, 4));
    for (sequence, (inner, next_header)) in (1..).zip([(&v4, 4), (&v6, 41), (&v4, 4), (&v6, 41)]) {
        let tfc = vec![sequence as u8; 700];
        let esp = sa.esp(sequence, &payload(&[&inner[..], &tfc].concat(), &[1, 2], next_header));
        assert_eq!(open(&mut inn, &esp).as_deref(), Ok(&inner[..]));
    }
}

#[test]
fn an_inner_packet_that_is_none_is_refused() {
    let sa = Sa::default();
    let (_, mut inn) = tunnel(&sa);
    let v4 = a_to_b(9);
    let mut too_long = v4.clone();
    too_long[3] += 1;
    let cases: [(&[u8], u8); 9] = [
        (&[], 4),
        (&[0x45], 4),
        (&v4[..19], 4),
        (&too_long, 4),
        (&v4, 41),
        (&v4, 6), // transport mode is another SA's business
        (&v4, 50),
        (&v4, 0),
        (&[0x55; 60], 4),
    ];
    for (sequence, (inner, next_header)) in (1..).zip(cases) {
        let esp = sa.esp(sequence, &payload(inner, &[1, 2], next_header));
        assert_eq!(open(&mut inn, &esp), Err(Discard::InMode), "case {sequence}");
    }
}

#[test]
fn atk_66_inner_packets_outside_the_selectors_are_refused() {
    let sa = Sa::default();
    let (mut out, mut inn) = tunnel(&sa);
    let outside = [
        ip("10.1.0.5", "10.3.0.9", 17, &ports(1, 2, 4)),
        ip("10.3.0.5", "10.2.0.9", 17, &ports(1, 2, 4)),
        ip("10.2.0.9", "10.1.0.5", 17, &ports(1, 2, 4)), // the other way round
        ip("fd01::5", "fd03::9", 17, &ports(1, 2, 4)),
        ip("127.0.0.1", "127.0.0.1", 6, &ports(1, 2, 4)),
    ];
    for (sequence, inner) in (1..).zip(&outside) {
        let next_header = if inner[0] >> 4 == 4 { 4 } else { 41 };
        let esp = sa.esp(sequence, &payload(inner, &[1, 2], next_header));
        assert_eq!(open(&mut inn, &esp), Err(Discard::InSelectors), "case {sequence}");
    }
    // ESP in ESP is an inner packet like any other: within the selectors it passes, once, and is not looked into.
    let nested = ip("10.1.0.5", "10.2.0.9", 50, &seal(&mut out, &a_to_b(8)).unwrap());
    let esp = sa.esp(20, &payload(&nested, &[1, 2], 4));
    assert_eq!(open(&mut inn, &esp).as_deref(), Ok(&nested[..]));
}

/// Receives one inner packet through an SA for UDP port 53 at site B.
fn through_port_selector(inn: &mut In, sa: &Sa, sequence: u64, inner: &[u8]) -> Result<Vec<u8>, Discard> {
    open(inn, &sa.esp(sequence, &payload(inner, &[1, 2], 4)))
}

#[test]
fn atk_66_inner_fragments_fit_selectors_without_ports_only() {
    let udp = |ts: &TrafficSelector, ports| TrafficSelector { protocol: 17, ports, ..*ts };
    let site = Sa::default();
    let narrow = Sa { site_b: vec![udp(&site.site_b[0], PortRange::single(53))], ..Sa::default() };
    let opaque = Sa { site_b: vec![udp(&site.site_b[0], PortRange::OPAQUE)], ..Sa::default() };
    let any = Sa { site_b: vec![udp(&site.site_b[0], PortRange::ANY)], ..Sa::default() };

    let whole = ip("10.1.0.5", "10.2.0.9", 17, &ports(1000, 53, 8));
    let mut first = whole.clone();
    first[6] |= 0x20;
    let mut later = whole.clone();
    later[7] = 2; // its payload looks like ports, but is none
    assert_eq!(Flow::of(&later).unwrap().ports, Ports::Opaque);

    let expectations = [(&narrow, [true, true, false]), (&opaque, [false, false, true]), (&any, [true, true, true])];
    for (sa, expected) in expectations {
        let (_, mut inn) = tunnel(sa);
        for ((sequence, inner), expected) in (1..).zip([&whole, &first, &later]).zip(expected) {
            let opened = through_port_selector(&mut inn, sa, sequence, inner);
            assert_eq!(opened.err(), (!expected).then_some(Discard::InSelectors), "{sequence} of {:?}", sa.site_b);
        }
    }
}

#[test]
fn atk_66_every_pair_of_inner_and_outer_ecn_through_the_engine() {
    let sa = Sa::default();
    let (_, mut inn) = tunnel(&sa);
    let mut sequence = 0;
    for inner_ecn in 0..4u8 {
        for outer in [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce] {
            for (source, destination, next_header) in [("10.1.0.5", "10.2.0.9", 4), ("fd01::5", "fd02::9", 41)] {
                sequence += 1;
                let inner = ip_marked(source, destination, 17, 0xb8 | inner_ecn, &ports(1, 2, 8));
                let esp = sa.esp(sequence, &payload(&inner, &[], next_header));
                let opened = open_marked(&mut inn, outer, &esp).map(|(_, inner)| inner);
                // A packet made with the expected mark in the first place, checksum included.
                let expected = Ecn::of(inner_ecn)
                    .decapsulate(outer)
                    .map(|ecn| ip_marked(source, destination, 17, 0xb8 | ecn as u8, &ports(1, 2, 8)));
                assert_eq!(opened, expected.ok_or(Discard::InCongestion), "{inner_ecn} under {outer:?}");
            }
        }
    }
}

#[test]
fn atk_61_an_error_at_any_step_leaves_engine_and_sa_in_order() {
    let sa = Sa { window: 64, ..Sa::default() };
    let (mut out, mut inn) = tunnel(&sa);
    let good: Vec<_> = (0..8).map(|_| seal(&mut out, &a_to_b(30)).unwrap()).collect();
    let mut forged = good[7].clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut unknown = good[2].clone();
    unknown[0] ^= 0x80;
    let steps: [(&[u8], Discard); 4] = [
        (&good[0][..10], Discard::InHeader),
        (&unknown, Discard::InUnknownSpi),
        (&good[0], Discard::InReplayed),
        (&forged, Discard::InForged),
    ];
    assert!(open(&mut inn, &good[0]).is_ok());
    for ((bad, expected), good) in steps.into_iter().zip(&good[1..]) {
        assert_eq!(open(&mut inn, bad), Err(expected));
        assert!(open(&mut inn, good).is_ok(), "after {expected:?}");
    }
}

#[test]
fn outbound_packets_that_are_no_ip_packets_are_refused() {
    let (mut out, _) = tunnel(&Sa::default());
    let id = out.classify(NOW, &a_to_b(8)).unwrap().sa().unwrap();
    for bytes in [&[][..], &[0x45], &[0x00; 40], &a_to_b(8)[..19], &ip("fd01::5", "fd02::9", 17, &[0; 8])[..39]] {
        assert_eq!(out.classify(NOW, bytes), Err(Discard::OutHeader));
    }
    let mut bytes = [0; 128];
    let mut packet = PacketBuf::new(&mut bytes, 64, 30).unwrap();
    assert_eq!(out.seal(NOW, id, &mut packet).unwrap_err(), Discard::OutHeader);
}

#[test]
fn installations_that_make_no_sense_are_refused() {
    let (mut out, mut inn) = (outbound(1), inbound(1));
    let usual = Sa::default();
    let cases = [
        (Sa { keymat: vec![0; 35], ..usual.clone() }, Refused::KeyLength),
        (Sa { keymat: vec![0; 37], ..usual.clone() }, Refused::KeyLength),
        (Sa { keymat: vec![], ..usual.clone() }, Refused::KeyLength),
        (Sa { site_a: vec![], ..usual.clone() }, Refused::Selectors),
        (Sa { site_b: vec![], ..usual.clone() }, Refused::Selectors),
        (Sa { site_a: usual.site_a.repeat(5), ..usual.clone() }, Refused::Selectors),
    ];
    for (sa, expected) in cases {
        assert_eq!(out.install(NOW, &sa.outbound()).unwrap_err(), expected);
        assert_eq!(inn.install(NOW, &sa.inbound()).unwrap_err(), expected);
    }
    let mut mixed = usual.outbound();
    mixed.sa.path.remote = "[2001:db8::1]:4500".parse().unwrap();
    assert_eq!(out.install(NOW, &mixed).unwrap_err(), Refused::Path);
    let (mut other, mut inbound) = (usual.outbound(), usual.inbound());
    (other.sa.mode, inbound.sa.mode) = (Mode::Beet, Mode::Beet);
    assert_eq!(out.install(NOW, &other).unwrap_err(), Refused::Hosts, "BEET mode is for two hosts");
    assert_eq!(inn.install(NOW, &inbound).unwrap_err(), Refused::Hosts);

    out.install(NOW, &usual.outbound()).unwrap();
    assert_eq!(out.install(NOW, &usual.outbound()).unwrap_err(), Refused::Full);
    inn.install(NOW, &usual.inbound()).unwrap();
    assert_eq!(inn.install(NOW, &usual.inbound()).unwrap_err(), Refused::Duplicate);
    let other = Sa { spi: 0x7777, ..usual };
    assert_eq!(inn.install(NOW, &other.inbound()).unwrap_err(), Refused::Full);
}
