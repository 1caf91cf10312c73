//! Packets and SAs that make no sense.

use crate::attacks::payload;
use crate::ends::{NOW, Sa, a_to_b, inbound, ip, open, outbound, tunnel};
use ipsec_core::buf::PacketBuf;
use ipsec_core::error::{Discard, Refused};
use ipsec_core::sa::Mode;

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
