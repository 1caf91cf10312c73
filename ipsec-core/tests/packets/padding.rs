//! Traffic flow confidentiality (RFC 4303 §2.6 and §2.7), and how long packets become.

use crate::ends::{NOW, Out, Rng, Sa, a_to_b, addr, ip, open, seal, tunnel};
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, PacketCrypto};
use ipsec_core::engine::Egress;
use ipsec_core::error::Discard;
use ipsec_core::net::{AddrRange, TrafficSelector};
use ipsec_core::sa::{Event, Lifetime, Limit, Mode, Reached, TfcPadding};

/// Seals a packet with so much room behind it.
fn seal_with(out: &mut Out, inner: &[u8], tailroom: usize) -> Result<Vec<u8>, Discard> {
    let sa = out.classify(NOW, inner)?.sa().unwrap();
    let mut bytes = vec![0xcc; HEADROOM + inner.len() + tailroom];
    let mut packet = PacketBuf::with_payload(&mut bytes, inner).unwrap();
    let sealed = out.seal(NOW, sa, &mut packet).map(drop);
    if sealed.is_err() {
        assert_eq!(packet.as_slice(), inner, "it is as it was");
    }
    sealed.map(|()| packet.as_slice().to_vec())
}

#[test]
fn padded_packets_look_alike_and_are_what_they_were() {
    let (mut out, mut inn) = tunnel(&Sa::default());
    let sa = out.sas().next().unwrap().id;
    let mut lengths = Vec::new();
    let cases = [
        (TfcPadding::None, [84, 300]),
        (TfcPadding::Length(1000), [1000, 1000]),
        (TfcPadding::Multiple { of: 128, up_to: 1400 }, [128, 384]),
        (TfcPadding::Multiple { of: 256, up_to: 400 }, [256, 400]),
        (TfcPadding::Multiple { of: 0, up_to: 400 }, [84, 300]),
        (TfcPadding::Length(100), [100, 300]),
    ];
    for (padding, looks) in cases {
        assert!(out.set_padding(sa, padding));
        for (len, looks) in [84, 300].into_iter().zip(looks) {
            let inner = a_to_b(len - 20);
            let sealed = seal_with(&mut out, &inner, 1000 + TAILROOM).unwrap();
            let expected = 16 + (looks + 2_usize).next_multiple_of(4) + 16;
            assert_eq!(sealed.len(), expected, "{padding:?}, {len}");
            assert_eq!(open(&mut inn, &sealed), Ok(inner));
            lengths.push(len as u64);
        }
    }
    // What was made up is nobody's traffic.
    let (sent, received) = (out.sas().next().unwrap(), inn.sas().next().unwrap());
    assert_eq!((sent.bytes, sent.packets), (lengths.iter().sum(), lengths.len() as u64));
    assert_eq!((received.bytes, received.packets), (sent.bytes, sent.packets));
}

#[test]
fn what_lay_behind_a_packet_is_not_sent_with_it() {
    let usual = Sa::default();
    let (mut out, _) = tunnel(&usual);
    let sa = out.sas().next().unwrap().id;
    assert!(out.set_padding(sa, TfcPadding::Length(200)));
    let sealed = seal_with(&mut out, &a_to_b(80), 200).unwrap();
    let key = RustCrypto.aead_key(AeadAlg::Aes256Gcm16, &usual.keymat[..32]).unwrap();
    let nonce: Vec<_> = usual.keymat[32..].iter().chain(&sealed[8..16]).copied().collect();
    let mut text_and_tag = sealed[16..].to_vec();
    RustCrypto.open(&key, nonce[..].try_into().unwrap(), &sealed[..8], &mut text_and_tag).unwrap();
    assert_eq!(text_and_tag[100..200], [0; 100]);
}

#[test]
fn a_packet_without_room_for_its_padding_is_as_it_was() {
    let (mut out, _) = tunnel(&Sa::default());
    let sa = out.sas().next().unwrap().id;
    assert!(out.set_padding(sa, TfcPadding::Length(200)));
    let inner = a_to_b(80);
    let needed = 100 + 2 + 2 + 16;
    for tailroom in 0..needed {
        assert_eq!(seal_with(&mut out, &inner, tailroom), Err(Discard::OutNoRoom), "{tailroom}");
    }
    assert_eq!(out.sas().next().unwrap().sequence, 0, "no number was used");
    assert!(seal_with(&mut out, &inner, needed).is_ok());
    assert!(out.set_padding(sa, TfcPadding::Length(u16::MAX)));
    assert_eq!(seal_with(&mut out, &inner, 70_000), Err(Discard::OutNoRoom), "longer than a packet can be");
}

/// Seals a dummy packet that carries this.
fn dummy(out: &mut Out, content: &[u8]) -> Result<(Egress, Vec<u8>), Discard> {
    let sa = out.sas().next().unwrap().id;
    let mut bytes = vec![0; HEADROOM + content.len() + 1000 + TAILROOM];
    let mut packet = PacketBuf::with_payload(&mut bytes, content).unwrap();
    let egress = out.seal_dummy(NOW, sa, &mut packet)?;
    Ok((egress, packet.as_slice().to_vec()))
}

#[test]
fn dummy_packets_use_sequence_numbers_and_are_nobodys_traffic() {
    let (mut out, mut inn) = tunnel(&Sa::default());
    let sa = out.sas().next().unwrap().id;
    let mut rng = Rng(7);
    for (number, len) in (1..).zip([0, 1, 84, 1400]) {
        let content = rng.bytes(len);
        let (egress, packet) = dummy(&mut out, &content).unwrap();
        assert_eq!((egress.ident, egress.traffic_class, egress.dont_fragment), (number, 0, true));
        assert_eq!(packet.len(), 16 + (len + 2).next_multiple_of(4) + 16);
        assert_eq!(open(&mut inn, &packet), Err(Discard::InDummy));
        assert_eq!(open(&mut inn, &packet), Err(Discard::InReplayed));
    }
    // Signs of life, and no traffic.
    let (sent, received) = (out.sas().next().unwrap(), inn.sas().next().unwrap());
    assert_eq!((sent.packets, sent.bytes, sent.sequence, sent.last_used), (4, 0, 4, Some(NOW)));
    assert_eq!((received.packets, received.bytes, received.sequence, received.last_used), (4, 0, 4, Some(NOW)));
    // They are as long as the others.
    assert!(out.set_padding(sa, TfcPadding::Length(500)));
    assert_eq!(dummy(&mut out, &[]).unwrap().1.len(), 16 + 504 + 16);
    // A dead SA sends none.
    let hard = Limit { packets: Some(2), ..Limit::default() };
    let (mut out, _) = tunnel(&Sa { lifetime: Lifetime { hard, ..Lifetime::default() }, ..Sa::default() });
    assert!(dummy(&mut out, &[]).is_ok() && seal(&mut out, &a_to_b(20)).is_ok());
    assert_eq!(dummy(&mut out, &[]).err(), Some(Discard::OutExpired));
}

#[test]
fn limits_count_all_that_a_key_is_used_for() {
    // What is not there makes 1,000 octets, with the trailer 1,004; a packet of 20 octets alone makes 24.
    let limited = |bytes| {
        let hard = Limit { bytes: Some(bytes), ..Limit::default() };
        Sa { lifetime: Lifetime { hard, ..Lifetime::default() }, ..Sa::default() }
    };
    let (mut out, mut inn) = (tunnel(&limited(2 * 1004 + 24)).0, tunnel(&limited(2 * 1004)).1);
    let sa = out.sas().next().unwrap().id;
    assert!(out.set_padding(sa, TfcPadding::Length(1000)));
    let padded = seal_with(&mut out, &a_to_b(0), 1000 + TAILROOM).unwrap();
    let (_, dummy_packet) = dummy(&mut out, &[]).unwrap();
    assert_eq!(dummy(&mut out, &[]).err(), Some(Discard::OutExpired));
    assert!(out.sas().next().unwrap().dead);
    assert_eq!((open(&mut inn, &padded), open(&mut inn, &dummy_packet)), (Ok(a_to_b(0)), Err(Discard::InDummy)));
    assert_eq!(inn.sas().next().map(|sa| (sa.bytes, sa.dead)), Some((20, false)));
    // The peer's dummies, too: the soft limit of the same figure is reached with the second.
    let soft = Limit { bytes: Some(2 * 1004), ..Limit::default() };
    let (_, mut inn) = tunnel(&Sa { lifetime: Lifetime { soft, ..Lifetime::default() }, ..Sa::default() });
    assert!(open(&mut inn, &padded).is_ok());
    assert!(matches!(inn.poll_event(), Some(Event::FirstPacket { .. })) && inn.poll_event().is_none());
    assert_eq!(open(&mut inn, &dummy_packet), Err(Discard::InDummy));
    assert!(matches!(inn.poll_event(), Some(Event::SoftLifetime { reached: Reached::Bytes, .. })));
}

#[test]
fn only_in_tunnel_mode_packets_look_longer_than_they_are() {
    let host = |text: &str| vec![TrafficSelector::addrs(AddrRange::single(addr(text)))];
    let (site_a, site_b) = (host("192.0.2.1"), host("192.0.2.2"));
    for (mode, len) in [(Mode::Tunnel, 500), (Mode::Transport, 60), (Mode::Beet, 60)] {
        let sa = Sa { mode, site_a: site_a.clone(), site_b: site_b.clone(), ..Sa::default() };
        let (mut out, _) = tunnel(&sa);
        let id = out.sas().next().unwrap().id;
        assert!(out.set_padding(id, TfcPadding::Length(500)));
        let sealed = seal_with(&mut out, &ip("192.0.2.1", "192.0.2.2", 17, &[7; 60]), 500 + TAILROOM).unwrap();
        assert_eq!(sealed.len(), 16 + (len + 2_usize).next_multiple_of(4) + 16, "{mode:?}");
    }
}

#[test]
fn of_an_sa_that_is_gone_nothing_is_said() {
    let (mut out, _) = tunnel(&Sa::default());
    let sa = out.sas().next().unwrap().id;
    assert!(out.overhead(sa).is_some());
    assert!(out.remove(sa));
    assert_eq!(out.overhead(sa), None);
    assert!(!out.set_padding(sa, TfcPadding::None));
}
