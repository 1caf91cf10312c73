//! The SK payload with a cipher and a MAC (RFC 7296 §3.14), octet by octet: AES-256-CBC with HMAC-SHA2-256-128.

use ike_core::crypto::rustcrypto::RustCrypto;
use ike_core::crypto::{CipherAlg, Digest64, IkeCrypto, IntegAlg, PrfAlg, Protection};
use ike_core::error::{Discard, NoKey, NoRoom};
use ike_core::keys::{SkReceiver, SkSender};
use ike_core::registry::{ExchangeType, PayloadType};
use ike_core::wire::header::Header;
use ike_core::wire::sk::Layout;
use ike_core::wire::writer::MessageWriter;
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto, Purpose};

use crate::support::{Engine, Octets, engine};

const SUITE: Protection = Protection::CipherMac(CipherAlg::Aes256Cbc, IntegAlg::HmacSha256);
const SK_E: [u8; 32] = *b"the key of a cipher, 32 octets..";
const SK_A: [u8; 32] = *b"the key of a MAC, 32 octets.....";
const HEADER: Header = Header::new(1, 2, ExchangeType::INFORMATIONAL, 3);
const IV: [u8; 16] = *b"not to be known.";
const TEXT_AT: usize = 28 + 4 + 16;

/// An engine without ciphers.
struct AeadsOnly;

impl PacketCrypto for AeadsOnly {
    type AeadKey = ();
    type Place<T> = InPlace<T>;
    ipsec_core::aead_only!();

    fn aead_key(&mut self, _: AeadAlg, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn seal(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) {}

    fn open(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Forged> {
        Err(Forged)
    }
}

fn receiver() -> SkReceiver<Engine> {
    SkReceiver::new(&mut engine(&IV), SUITE, &SK_E, &SK_A).unwrap()
}

/// A message whose SK payload has this text, whole blocks with padding and its length, rightly sealed.
fn sealed(text: &[u8]) -> Vec<u8> {
    let mut crypto = engine(&IV);
    let mut message = HEADER.to_octets().to_vec();
    message[16] = 46;
    message.extend([42, 0]);
    message.extend(u16::try_from(4 + 16 + text.len() + 16).unwrap().to_be_bytes());
    message.extend(IV);
    let mut text = text.to_vec();
    let key = crypto.cipher_key(CipherAlg::Aes256Cbc, Purpose::Encrypt, &SK_E).unwrap();
    crypto.encrypt(&key, &IV, &mut text);
    message.extend(text);
    let len = u32::try_from(message.len() + 16).unwrap();
    message[24..28].copy_from_slice(&len.to_be_bytes());
    let mut mac = Digest64::new();
    crypto.prf(PrfAlg::HmacSha256, &SK_A, &[&message], &mut mac);
    message.extend(&mac.as_slice()[..16]);
    message
}

#[test]
fn what_is_sealed_is_what_the_rfc_lays_out() {
    for payloads in 0..6 {
        let mut crypto = engine(&IV);
        let mut sender = SkSender::new(&mut crypto, SUITE, &SK_E, &SK_A).unwrap();
        let mut buf = [0xaa; 200];
        let mut out = MessageWriter::protected(&mut buf, &HEADER, sender.layout()).unwrap();
        let mut text = Vec::new();
        for number in 0..payloads {
            out.delete_ike().unwrap();
            let next = if number + 1 < payloads { 42 } else { 0 };
            text.extend([next, 0, 0, 8, 1, 0, 0, 0]);
        }
        let len = out.seal(&mut crypto, &mut sender).unwrap().len;
        let pad = 15 - text.len() % 16;
        text.extend(vec![0; pad]);
        text.push(u8::try_from(pad).unwrap());
        let mut expected = sealed(&text);
        expected[28] = if payloads == 0 { 0 } else { 42 };
        let mut mac = Digest64::new();
        let end = expected.len() - 16;
        crypto.prf(PrfAlg::HmacSha256, &SK_A, &[&expected[..end]], &mut mac);
        expected[end..].copy_from_slice(&mac.as_slice()[..16]);
        assert_eq!(buf[..len], expected);
        let (first, inner) = receiver().open(&mut crypto, &mut expected).unwrap();
        assert_eq!(first, if payloads == 0 { PayloadType::NONE } else { PayloadType::DELETE });
        assert_eq!(inner, &text[..text.len() - pad - 1]);
    }
}

#[test]
fn every_changed_bit_is_noticed_before_anything_is_decrypted() {
    let message = sealed(&[0; 32]);
    assert!(receiver().open(&mut engine(&IV), &mut message.clone()).is_ok());
    for at in 0..message.len() {
        for bit in 0..8 {
            let mut changed = message.clone();
            changed[at] ^= 1 << bit;
            let before = changed.clone();
            let opened = receiver().open(&mut engine(&IV), &mut changed).map(drop);
            assert!(matches!(opened, Err(Discard::BadIcv | Discard::Malformed)), "{at} {bit}");
            assert_eq!(changed, before);
        }
    }
}

#[test]
fn cut_anywhere_it_is_malformed_or_forged() {
    let message = sealed(&[0; 32]);
    for len in 28..message.len() {
        let mut message = message[..len].to_vec();
        message[24..28].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        if let Some(length) = message.get_mut(30..32) {
            length.copy_from_slice(&u16::try_from(len - 28).unwrap().to_be_bytes());
        }
        // Only what has whole blocks before its ICV is worth a MAC.
        let whole = len >= TEXT_AT + 16 + 16 && (len - TEXT_AT).is_multiple_of(16);
        let expected = if whole { Discard::BadIcv } else { Discard::Malformed };
        assert_eq!(receiver().open(&mut engine(&IV), &mut message), Err(expected), "{len}");
    }
}

#[test]
fn atk_10_pad_length_beyond_the_text_is_refused_for_every_value() {
    for blocks in 1..4usize {
        for pad_len in 0..=u8::MAX {
            let mut text = vec![0xee; 16 * blocks];
            *text.last_mut().unwrap() = pad_len;
            let mut message = sealed(&text);
            let opened = receiver().open(&mut engine(&IV), &mut message).map(|(_, inner)| inner.len());
            assert_eq!(opened, (16 * blocks - 1).checked_sub(pad_len.into()).ok_or(Discard::BadPadding));
        }
    }
}

#[test]
fn keys_of_the_wrong_length_and_ciphers_that_the_engine_lacks_are_refused() {
    let taken = |protection, sk_e: usize, sk_a: usize| {
        SkSender::new(&mut engine(&IV), protection, &[7; 64][..sk_e], &[7; 64][..sk_a]).is_ok()
    };
    for (sk_e, sk_a) in (0..64).flat_map(|sk_e| [0, 16, 31, 32, 33, 64].map(|sk_a| (sk_e, sk_a))) {
        assert_eq!(taken(SUITE, sk_e, sk_a), (sk_e, sk_a) == (32, 32), "{sk_e} {sk_a}");
        assert_eq!(taken(AeadAlg::Aes128Gcm16.into(), sk_e, sk_a), (sk_e, sk_a) == (20, 0), "{sk_e} {sk_a}");
    }
    let mut lesser = RustCrypto::new(Octets::default(), AeadsOnly);
    assert_eq!(SkSender::new(&mut lesser, SUITE, &SK_E, &SK_A).err(), Some(NoKey));
}

#[test]
fn a_message_that_was_laid_out_for_another_key_is_not_sealed() {
    let mut crypto = engine(&IV);
    let mut sender = SkSender::new(&mut crypto, SUITE, &SK_E, &SK_A).unwrap();
    let mut buf = [0; 200];
    let other = Layout::of(AeadAlg::Aes128Gcm16.into());
    let out = MessageWriter::protected(&mut buf, &HEADER, other).unwrap();
    assert_eq!(out.seal(&mut crypto, &mut sender), Err(NoRoom));
}
