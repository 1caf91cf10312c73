//! A crypto engine for `ipsec-core` on AWS-LC, for products with a standard library and a C compiler: its AES-GCM,
//! ChaCha20-Poly1305 and HMAC are the fastest that there are for them on large processors. What AWS-LC does not offer in a form
//! that ESP can use (ICVs of 8 and 12 octets, CCM, GMAC, CBC without padding of its own, XCBC and CMAC) is left to the engine in
//! portable Rust.
//!
//! ```
//! use ipsec_aws_lc::AwsLc;
//! use ipsec_core::crypto::conformance::power_on;
//! use ipsec_core::crypto::{AeadAlg, CipherAlg, IntegAlg};
//! let mut engine = AwsLc;
//! let all = AeadAlg::ALL.len() + CipherAlg::ALL.len() + IntegAlg::ALL.len() - 1; // NULL has no answer
//! assert_eq!(power_on(&mut engine), Ok(all));
//! ```
//!
//! It has no generator of its own for random IVs: [`WithIvs`](ipsec_core::crypto::ivs::WithIvs) gives it one.
#![forbid(unsafe_code)]

use core::fmt;

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use ipsec_core::crypto::rustcrypto::{self, RustCrypto};
use ipsec_core::crypto::{AeadAlg, CipherAlg, Forged, InPlace, IntegAlg, KeyPlace, PacketCrypto, Purpose};
use ipsec_core::wipe::{self, after_packet};

/// Octets of the tags of AWS-LC.
const TAG_LEN: usize = 16;
/// Octets of stack on which ChaCha20 leaves its key, and HMAC copies of its states: AWS-LC wipes only the last one.
const FRAMES: usize = wipe::depth(4096, 16 * 1024);

/// A key on the heap, made where it stays.
type Boxed<K> = Box<KeyPlace<K>>;

fn boxed<K>(make: impl FnOnce() -> Option<K>) -> Option<Boxed<K>> {
    let mut place = Box::new(KeyPlace::EMPTY);
    place.make(make).ok()?;
    Some(place)
}

/// Packets by AWS-LC.
///
/// ```
/// use ipsec_aws_lc::AwsLc;
/// use ipsec_core::crypto::{AeadAlg, PacketCrypto};
/// let mut crypto = AwsLc;
/// let key = crypto.aead_key(AeadAlg::ChaCha20Poly1305, &[7; 32]).unwrap();
/// let mut text_and_tag = *b"a text..................";
/// crypto.seal(&key, &[0; 12], b"header", &mut text_and_tag);
/// assert!(crypto.open(&key, &[0; 12], b"header", &mut text_and_tag).is_ok());
/// assert_eq!(&text_and_tag[..8], b"a text..");
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct AwsLc;

/// The key of an AEAD, in a box. AWS-LC wipes its own when it ends.
///
/// ```
/// use ipsec_aws_lc::{AeadKey, AwsLc};
/// use ipsec_core::crypto::{AeadAlg, PacketCrypto};
/// let key: AeadKey = AwsLc.aead_key(AeadAlg::Aes256Gcm16, &[7; 32]).unwrap();
/// assert_eq!(format!("{key:?}"), "AeadKey { .. }");
/// ```
pub struct AeadKey(Aead);

enum Aead {
    Gcm(Boxed<LessSafeKey>),
    /// It leaves its key on the stack.
    ChaCha(Boxed<LessSafeKey>),
    /// One that AWS-LC does not offer.
    Portable(Boxed<rustcrypto::AeadKey>),
}

/// The key of an integrity algorithm.
///
/// ```
/// use ipsec_aws_lc::{AwsLc, IntegKey};
/// use ipsec_core::crypto::{IntegAlg, PacketCrypto};
/// let key: IntegKey = AwsLc.integ_key(IntegAlg::HmacSha384, &[7; 48]).unwrap();
/// assert_eq!(format!("{key:?}"), "IntegKey { .. }");
/// ```
pub struct IntegKey(Integ);

enum Integ {
    Here(Boxed<hmac::Key>),
    Portable(Boxed<rustcrypto::IntegKey>),
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeadKey").finish_non_exhaustive()
    }
}

impl fmt::Debug for IntegKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntegKey").finish_non_exhaustive()
    }
}

impl PacketCrypto for AwsLc {
    type AeadKey = AeadKey;
    type CipherKey = rustcrypto::CipherKey;
    type IntegKey = IntegKey;
    type Place<T> = InPlace<T>;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<AeadKey> {
        let here = |alg| boxed(|| UnboundKey::new(alg, key).ok().map(LessSafeKey::new));
        let key = match alg {
            AeadAlg::Aes128Gcm16 => Aead::Gcm(here(&AES_128_GCM)?),
            AeadAlg::Aes192Gcm16 => Aead::Gcm(here(&AES_192_GCM)?),
            AeadAlg::Aes256Gcm16 => Aead::Gcm(here(&AES_256_GCM)?),
            AeadAlg::ChaCha20Poly1305 => Aead::ChaCha(here(&CHACHA20_POLY1305)?),
            _ => Aead::Portable(boxed(|| RustCrypto.aead_key(alg, key))?),
        };
        Some(AeadKey(key))
    }

    #[inline]
    fn seal(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        match &key.0 {
            Aead::Gcm(key) => seal(key, nonce, aad, text_and_tag),
            Aead::ChaCha(key) => after_packet::<FRAMES, _>(|| seal(key, nonce, aad, text_and_tag)),
            Aead::Portable(key) => match key.get() {
                Some(key) => RustCrypto.seal(key, nonce, aad, text_and_tag),
                None => text_and_tag.fill(0),
            },
        }
    }

    #[inline]
    fn open(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        match &key.0 {
            Aead::Gcm(key) => open(key, nonce, aad, text_and_tag),
            Aead::ChaCha(key) => after_packet::<FRAMES, _>(|| open(key, nonce, aad, text_and_tag)),
            Aead::Portable(key) => RustCrypto.open(key.get().ok_or(Forged)?, nonce, aad, text_and_tag),
        }
    }

    fn cipher_key(&mut self, alg: CipherAlg, purpose: Purpose, key: &[u8]) -> Option<Self::CipherKey> {
        RustCrypto.cipher_key(alg, purpose, key)
    }

    #[inline]
    fn encrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        RustCrypto.encrypt(key, iv, text);
    }

    #[inline]
    fn decrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        RustCrypto.decrypt(key, iv, text);
    }

    fn integ_key(&mut self, alg: IntegAlg, key: &[u8]) -> Option<IntegKey> {
        let here = |alg| boxed(|| Some(hmac::Key::new(alg, key)));
        if key.len() != alg.key_len() {
            return None;
        }
        let key = match alg {
            IntegAlg::HmacSha1 => Integ::Here(here(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY)?),
            IntegAlg::HmacSha256 => Integ::Here(here(hmac::HMAC_SHA256)?),
            IntegAlg::HmacSha384 => Integ::Here(here(hmac::HMAC_SHA384)?),
            IntegAlg::HmacSha512 => Integ::Here(here(hmac::HMAC_SHA512)?),
            _ => Integ::Portable(boxed(|| RustCrypto.integ_key(alg, key))?),
        };
        Some(IntegKey(key))
    }

    #[inline]
    fn icv(&mut self, key: &IntegKey, parts: &[&[u8]], icv: &mut [u8]) {
        match &key.0 {
            Integ::Here(key) => after_packet::<FRAMES, _>(|| sign(key, parts, icv)),
            Integ::Portable(key) => {
                if let Some(key) = key.get() {
                    RustCrypto.icv(key, parts, icv);
                }
            }
        }
    }
}

#[inline]
fn seal(key: &KeyPlace<LessSafeKey>, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
    let Some((text, room)) = text_and_tag.split_last_chunk_mut::<TAG_LEN>() else { return };
    let (nonce, aad) = (Nonce::assume_unique_for_key(*nonce), Aad::from(aad));
    match key.get().map(|key| key.seal_in_place_separate_tag(nonce, aad, text)) {
        Some(Ok(tag)) => room.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from),
        // No text of an IP packet is too long. What is not sealed must not leave as it is.
        _ => text_and_tag.fill(0),
    }
}

#[inline]
fn open(key: &KeyPlace<LessSafeKey>, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
    let (nonce, aad) = (Nonce::assume_unique_for_key(*nonce), Aad::from(aad));
    let opened = key.get().ok_or(Forged)?.open_in_place(nonce, aad, text_and_tag);
    opened.map(|_| ()).map_err(|_| Forged)
}

fn sign(key: &KeyPlace<hmac::Key>, parts: &[&[u8]], icv: &mut [u8]) {
    let Some(key) = key.get() else { return };
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    icv.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
}
