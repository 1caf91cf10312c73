//! What an authentic packet may carry, and what none may look like.

use super::{padded, payload, suites};
use crate::ends::{In, Sa, a_to_b, ip, ip_marked, open, open_marked, ports, seal, tunnel};
use ipsec_core::ecn::Ecn;
use ipsec_core::error::Discard;
use ipsec_core::flow::{Flow, Ports};
use ipsec_core::net::{PortRange, TrafficSelector};
use ipsec_core::transform::Layout;

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
fn atk_05_a_pad_length_beyond_the_payload_is_refused_under_every_suite() {
    for protection in suites() {
        for esn in [false, true] {
            let sa = Sa { window: 1024, esn, ..Sa::default() }.under(protection);
            let (_, mut inn) = tunnel(&sa);
            // Nothing but padding, whatever its length says.
            let len = usize::from(Layout::of(protection).align) * 2;
            let pad: Vec<u8> = (1..=len as u8 - 2).collect();
            for pad_length in 0..=255u8 {
                let esp = sa.esp(1 + u64::from(pad_length), &[&pad[..], &[pad_length, 59]].concat());
                let right = pad_length == 0 || usize::from(pad_length) == pad.len();
                let expected = if right { Discard::InDummy } else { Discard::InPadding };
                assert_eq!(open(&mut inn, &esp), Err(expected), "{protection:?}, {pad_length} of {}", pad.len());
            }
            // Each was authentic: its number is used up, and nothing else has happened.
            let status = inn.sas().next().unwrap();
            assert_eq!((status.sequence, status.packets, inn.counters().get(Discard::InPadding)), (256, 256, 254));
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
fn atk_65_padding_dummies_and_traffic_flow_padding_are_one_to_every_suite() {
    let inner = a_to_b(9);
    for protection in suites() {
        let sa = Sa { esn: true, ..Sa::default() }.under(protection);
        let (_, mut inn) = tunnel(&sa);
        let align = Layout::of(protection).align;
        let hidden = [&inner[..], &[0xfc; 300]].concat();
        let good = padded(&inner, align, 4);
        let mut wrong = good.clone();
        let pad_at = good.len() - 3;
        wrong[pad_at] ^= 1;
        let expected = [
            (good, Ok(&inner[..])),
            (wrong, Err(Discard::InPadding)),
            (padded(&hidden, align, 4), Ok(&inner[..])),
            (padded(&inner, align, 59), Err(Discard::InDummy)),
            (padded(&[], align, 59), Err(Discard::InDummy)),
        ];
        for (sequence, (text, expected)) in (1..).zip(expected) {
            let opened = open(&mut inn, &sa.esp(sequence, &text));
            assert_eq!(opened.as_deref(), expected.as_ref().copied(), "{protection:?}, packet {sequence}");
        }
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
fn atk_66_inner_packets_outside_the_selectors_are_refused() {
    let sa = Sa::default();
    let (_, mut inn) = tunnel(&sa);
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
}

#[test]
fn atk_66_esp_in_esp_is_an_inner_packet_like_any_other() {
    for protection in suites() {
        let sa = Sa::default().under(protection);
        let (mut out, mut inn) = tunnel(&sa);
        let align = Layout::of(protection).align;
        let core = seal(&mut out, &a_to_b(8)).unwrap();
        // Within the selectors it passes, once, and is not looked into, though it is for the same SA.
        let nested = ip("10.1.0.5", "10.2.0.9", 50, &core);
        let esp = sa.esp(20, &padded(&nested, align, 4));
        assert_eq!(open(&mut inn, &esp).as_deref(), Ok(&nested[..]), "{protection:?}");
        assert_eq!(inn.sas().next().unwrap().packets, 1);
        // Outside of them it does not, and without a header it is none.
        let elsewhere = ip("10.9.0.5", "10.2.0.9", 50, &core);
        let esp = sa.esp(21, &padded(&elsewhere, align, 4));
        assert_eq!(open(&mut inn, &esp), Err(Discard::InSelectors), "{protection:?}");
        assert_eq!(open(&mut inn, &sa.esp(22, &padded(&core, align, 50))), Err(Discard::InMode), "{protection:?}");
    }
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
