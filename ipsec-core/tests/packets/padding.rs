//! Traffic flow confidentiality (RFC 4303 §2.6 and §2.7), and how long packets become.

use crate::ends::{NOW, Out, Rng, Sa, a_to_b, open, seal, tunnel};
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, PacketCrypto};
use ipsec_core::encap::push_outer;
use ipsec_core::error::Discard;
use ipsec_core::net::Encap;
use ipsec_core::sa::{Lifetime, Limit, TfcPadding};

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

#[test]
fn dummy_packets_use_sequence_numbers_and_nothing_else() {
    let hard = Limit { bytes: Some(100), packets: Some(2), ..Limit::default() };
    let (mut out, _) = tunnel(&Sa { lifetime: Lifetime { hard, ..Lifetime::default() }, ..Sa::default() });
    let (_, mut inn) = tunnel(&Sa::default());
    let sa = out.sas().next().unwrap().id;
    let mut rng = Rng(7);
    for (number, len) in (1..).zip([0, 1, 84, 1400]) {
        let mut bytes = vec![0; HEADROOM + len + TAILROOM];
        let content = rng.bytes(len);
        let mut packet = PacketBuf::with_payload(&mut bytes, &content).unwrap();
        let egress = out.seal_dummy(NOW, sa, &mut packet).unwrap();
        assert_eq!((egress.ident, egress.traffic_class, egress.dont_fragment), (number, 0, true));
        assert_eq!(packet.len(), 16 + (len + 2).next_multiple_of(4) + 16);
        assert_eq!(open(&mut inn, packet.as_slice()), Err(Discard::InDummy));
        assert_eq!(open(&mut inn, packet.as_slice()), Err(Discard::InReplayed));
    }
    let status = out.sas().next().unwrap();
    assert_eq!((status.packets, status.bytes, status.sequence, status.dead), (0, 0, 4, false));
    assert_eq!(status.last_used, None);
    let status = inn.sas().next().unwrap();
    assert_eq!((status.packets, status.bytes), (4, 0), "a sign of life, and no traffic");
    // They are as long as the others.
    assert!(out.set_padding(sa, TfcPadding::Length(500)));
    let mut bytes = [0; HEADROOM + 500 + TAILROOM];
    let mut packet = PacketBuf::with_payload(&mut bytes, &[]).unwrap();
    out.seal_dummy(NOW, sa, &mut packet).unwrap();
    assert_eq!(packet.len(), 16 + 504 + 16);
    // A dead SA sends none.
    let dead = a_to_b(20);
    assert!(seal(&mut out, &a_to_b(20)).is_err(), "no room");
    assert!(out.set_padding(sa, TfcPadding::None));
    assert_eq!([0; 3].map(|_| seal(&mut out, &dead).is_ok()), [true, true, false]);
    let mut packet = PacketBuf::with_payload(&mut bytes, &[]).unwrap();
    assert_eq!(out.seal_dummy(NOW, sa, &mut packet), Err(Discard::OutExpired));
}

#[test]
fn what_an_engine_says_of_its_overhead_is_what_comes_out() {
    for (encap, alg) in [Encap::None, Encap::Udp].into_iter().zip([AeadAlg::Aes256Gcm16, AeadAlg::Aes128Gcm16]) {
        let keymat = vec![7; alg.key_len() + alg.salt_len()];
        let (mut out, _) = tunnel(&Sa { encap, protection: alg.into(), keymat, ..Sa::default() });
        let sa = out.sas().next().unwrap().id;
        let overhead = out.overhead(sa).unwrap();
        for len in 20..200 {
            let mut bytes = vec![0; HEADROOM + len + TAILROOM];
            let mut packet = PacketBuf::with_payload(&mut bytes, &a_to_b(len - 20)).unwrap();
            let egress = out.seal(NOW, sa, &mut packet).unwrap();
            push_outer(&egress, &mut packet).unwrap();
            assert_eq!(overhead.outer_len(len), packet.len(), "{encap:?}, {len}");
        }
        assert!(out.remove(sa));
        assert_eq!(out.overhead(sa), None);
        assert!(!out.set_padding(sa, TfcPadding::None));
    }
}
