extern crate std;
use std::vec::Vec;

use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::crypto::{AeadAlg, CipherAlg, IntegAlg, PacketCrypto};

use super::*;
use crate::crypto::rustcrypto::{NoRandom, RustCrypto};
use crate::registry::ExchangeType;
use crate::wire::writer::MessageWriter;

const GCM: Protection = Protection::Aead(AeadAlg::Aes128Gcm16);
const SK_E: [u8; 20] = *b"cipher key......salt";
const HEADER: Header = Header::new(1, 2, ExchangeType::INFORMATIONAL, 3);

fn engine() -> RustCrypto<NoRandom> {
    RustCrypto::new(NoRandom, Packets)
}

fn receiver() -> SkReceiver<RustCrypto<NoRandom>> {
    SkReceiver::new(&mut engine(), GCM, &SK_E, &[]).unwrap()
}

/// A message whose SK payload has this text, pad length included, rightly sealed.
fn sealed(text: &[u8]) -> Vec<u8> {
    sealed_last(46, &[], text)
}

/// The same with a payload of this kind, which has something in clear before its IV.
fn sealed_last(kind: u8, clear: &[u8], text: &[u8]) -> Vec<u8> {
    let mut message = HEADER.to_octets().to_vec();
    message[16] = kind;
    message.extend([42, 0]);
    message.extend(u16::try_from(4 + clear.len() + 8 + text.len() + 16).unwrap().to_be_bytes());
    message.extend(clear);
    message.extend(7u64.to_be_bytes());
    message.extend(text);
    message.extend([0; 16]);
    let len = u32::try_from(message.len()).unwrap();
    message[24..28].copy_from_slice(&len.to_be_bytes());
    let (aad, rest) = message.split_at_mut(32 + clear.len());
    let key = engine().aead_key(AeadAlg::Aes128Gcm16, &SK_E[..16]).unwrap();
    let nonce = *b"salt\0\0\0\0\0\0\0\x07";
    engine().seal(&key, &nonce, aad, &mut rest[8..]);
    message
}

#[test]
fn what_is_sealed_opens_and_no_iv_comes_twice() {
    let mut crypto = engine();
    let mut sender = SkSender::new(&mut crypto, GCM, &SK_E, &[]).unwrap();
    for iv in 0..3u64 {
        let mut buf = [0; 128];
        let mut out = MessageWriter::protected(&mut buf, &HEADER, Layout::of(GCM)).unwrap();
        out.delete_ike().unwrap();
        let len = out.seal(&mut crypto, &mut sender).unwrap().len;
        assert_eq!(buf[32..40], iv.to_be_bytes());
        let opened = receiver().open(&mut crypto, &mut buf[..len]);
        assert_eq!(opened, Ok((PayloadType::DELETE, &[0, 0, 0, 8, 1, 0, 0, 0][..])));
    }
    sender.iv = u64::MAX;
    let mut buf = [0; 128];
    let out = MessageWriter::protected(&mut buf, &HEADER, Layout::of(GCM)).unwrap();
    assert_eq!(out.seal(&mut crypto, &mut sender), Err(NoRoom));
}

#[test]
fn beside_a_mac_no_counter_comes_twice_either_and_nothing_is_sealed_without() {
    let mut crypto = engine();
    let protection = Protection::CipherMac(CipherAlg::Aes128Ctr, IntegAlg::HmacSha256);
    let mut sender = SkSender::new(&mut crypto, protection, &SK_E, &[3; 32]).unwrap();
    for (iv, last) in [(u64::MAX - 1, false), (u64::MAX, true)] {
        sender.iv = iv;
        let mut buf = [0; 128];
        let mut out = MessageWriter::protected(&mut buf, &HEADER, Layout::of(protection)).unwrap();
        out.delete_ike().unwrap();
        let sealed = out.seal(&mut crypto, &mut sender).map(|written| written.len);
        assert_eq!(sealed.is_err(), last, "{sealed:?}");
        assert_eq!(sender.iv, u64::MAX, "it stays used up");
    }
}

#[test]
fn a_message_in_clear_is_not_sealed() {
    let mut crypto = engine();
    let mut sender = SkSender::new(&mut crypto, GCM, &SK_E, &[]).unwrap();
    let mut buf = [0; 128];
    let mut out = MessageWriter::new(&mut buf, &HEADER).unwrap();
    out.vendor(&[1; 32]).unwrap();
    assert_eq!(out.seal(&mut crypto, &mut sender), Err(NoRoom));
}

#[test]
fn an_sk_payload_without_payloads_opens() {
    let mut crypto = engine();
    let mut sender = SkSender::new(&mut crypto, GCM, &SK_E, &[]).unwrap();
    let mut buf = [0; 64];
    let len = MessageWriter::protected(&mut buf, &HEADER, Layout::of(GCM))
        .unwrap()
        .seal(&mut crypto, &mut sender)
        .unwrap()
        .len;
    assert_eq!(receiver().open(&mut crypto, &mut buf[..len]), Ok((PayloadType::NONE, &[][..])));
}

#[test]
fn every_changed_bit_is_noticed() {
    let message = sealed(&[0, 0, 0, 8, 1, 0, 0, 0, 0]);
    assert!(receiver().open(&mut engine(), &mut message.clone()).is_ok());
    for at in 0..message.len() {
        for bit in 0..8 {
            let mut message = message.clone();
            message[at] ^= 1 << bit;
            assert!(receiver().open(&mut engine(), &mut message).is_err(), "{at} {bit}");
        }
    }
}

#[test]
fn cut_anywhere_it_is_malformed() {
    let message = sealed(&[0, 0, 0, 8, 1, 0, 0, 0, 0]);
    for len in 0..message.len() {
        let mut message = message[..len].to_vec();
        assert_eq!(receiver().open(&mut engine(), &mut message), Err(Discard::Malformed));
        if let Some(length) = message.get_mut(24..28) {
            length.copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        }
        assert_eq!(receiver().open(&mut engine(), &mut message), Err(Discard::Malformed));
        // The SK payload says what is left, too: then the text or the ICV is missing.
        if let Some(length) = message.get_mut(30..32) {
            length.copy_from_slice(&u16::try_from(len - 28).unwrap().to_be_bytes());
            let expected = if len < 32 + 8 + 17 { Discard::Malformed } else { Discard::BadIcv };
            assert_eq!(receiver().open(&mut engine(), &mut message), Err(expected), "{len}");
        }
    }
}

#[test]
fn atk_10_pad_length_beyond_the_text_is_refused_for_every_value() {
    for text_len in 1..40usize {
        for pad_len in 0..=u8::MAX {
            let mut text = [0xee].repeat(text_len);
            text[text_len - 1] = pad_len;
            let mut message = sealed(&text);
            let opened = receiver().open(&mut engine(), &mut message).map(|(_, inner)| inner.len());
            let inner = (text_len - 1).checked_sub(usize::from(pad_len));
            assert_eq!(opened, inner.ok_or(Discard::BadPadding));
        }
    }
}

#[test]
fn what_stands_before_the_sk_payload_is_skipped_unless_it_is_unknown_and_critical() {
    for (kind, critical, opens) in [(200, false, true), (200, true, false), (43, false, true), (43, true, true)] {
        let mut message = HEADER.to_octets().to_vec();
        message[16] = kind;
        message.extend([46, if critical { 0x80 } else { 0 }, 0, 4]);
        message.extend([42, 0, 0, 4 + 8 + 1 + 16]);
        message.extend([0; 7]);
        message.extend([7, 0]);
        message.extend([0; 16]);
        message[27] = u8::try_from(message.len()).unwrap();
        let (aad, rest) = message.split_at_mut(36);
        let key = engine().aead_key(AeadAlg::Aes128Gcm16, &SK_E[..16]).unwrap();
        engine().seal(&key, b"salt\0\0\0\0\0\0\0\x07", aad, &mut rest[8..]);
        let opened = receiver().open(&mut engine(), &mut message).map(|(first, _)| first);
        assert_eq!(opened, if opens { Ok(PayloadType(42)) } else { Err(Discard::Malformed) }, "{kind} {critical}");
    }
}

#[test]
fn a_message_whose_last_payload_is_not_sk_is_malformed() {
    let mut message = HEADER.to_octets().to_vec();
    message[27] = 28;
    assert_eq!(receiver().open(&mut engine(), &mut message), Err(Discard::Malformed));
    message[16] = 43;
    message[27] = 32;
    message.extend([0, 0, 0, 4]);
    assert_eq!(receiver().open(&mut engine(), &mut message), Err(Discard::Malformed));
    for kind in (1..=u8::MAX).filter(|kind| *kind != 46) {
        let mut message = sealed(&[0]);
        message[16] = kind;
        message[28] = 0;
        assert_eq!(receiver().open(&mut engine(), &mut message), Err(Discard::Malformed));
    }
}

#[test]
fn keys_of_the_wrong_length_are_refused() {
    for len in (0..64).filter(|len| *len != 20) {
        assert!(SkReceiver::new(&mut engine(), GCM, &[0; 64][..len], &[]).is_err());
        assert!(SkSender::new(&mut engine(), GCM, &[0; 64][..len], &[]).is_err());
    }
}

#[test]
fn a_fragment_opens_with_its_number_and_nothing_of_it_may_change() {
    let mut message = sealed_last(53, &[0, 2, 0, 3], b"part\0");
    let opened = receiver().open_fragment(&mut engine(), &mut message.clone()).map(|fragment| {
        let Fragment { number, total, first, text } = fragment;
        (number, total, first, text.to_vec())
    });
    assert_eq!(opened, Ok((2, 3, PayloadType(42), b"part".to_vec())));
    assert_eq!(receiver().open(&mut engine(), &mut message.clone()), Err(Discard::Malformed));
    for at in 0..message.len() {
        message[at] ^= 1;
        assert!(receiver().open_fragment(&mut engine(), &mut message.clone()).is_err(), "{at}");
        message[at] ^= 1;
    }
    for len in 0..message.len() {
        assert!(receiver().open_fragment(&mut engine(), &mut message[..len].to_vec()).is_err());
    }
    let mut whole = sealed(&[0]);
    assert_eq!(receiver().open_fragment(&mut engine(), &mut whole), Err(Discard::Malformed));
}

#[test]
fn a_fragment_has_a_number_within_its_total() {
    assert_eq!(Skf::parse(&[0, 2, 0, 3, 9]), Ok(Skf { number: 2, total: 3, body: &[9] }));
    for body in [&[][..], &[0, 1, 0], &[0, 0, 0, 3], &[0, 4, 0, 3], &[0, 0, 0, 0]] {
        assert_eq!(Skf::parse(body), Err(Malformed));
    }
}
