//! Ciphers and MACs that stand beside each other.

use hmac::{Hmac, KeyInit};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::aes_key::{self, Cipher};
use super::chain::{self, Mac, Reverse};
use super::counter;
#[cfg(feature = "legacy")]
use super::legacy;
use crate::crypto::{CipherAlg, IntegAlg, Purpose};
use crate::wipe::{self, after_packet};

/// A cipher's key schedule, for one purpose; the crates wipe it on drop.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::{CipherKey, RustCrypto};
/// use ipsec_core::crypto::{CipherAlg, PacketCrypto, Purpose};
/// let key: CipherKey = RustCrypto.cipher_key(CipherAlg::Aes256Ctr, Purpose::Encrypt, &[7; 32]).unwrap();
/// assert_eq!(format!("{key:?}"), "CipherKey { .. }");
/// ```
pub struct CipherKey(Schedule);

/// Octets of stack that a hash takes, with the state it begins with.
const HASH_FRAMES: usize = wipe::depth(2560, 12 * 1024);

enum Schedule {
    CbcEncrypt(Cipher),
    CbcDecrypt(Reverse),
    Counter(Cipher),
    #[cfg(feature = "legacy")]
    TripleDes(legacy::TripleDes),
}

impl CipherKey {
    pub(super) fn new(alg: CipherAlg, purpose: Purpose, key: &[u8]) -> Option<Self> {
        if key.len() != alg.key_len() {
            return None;
        }
        let schedule = match (alg, purpose) {
            (CipherAlg::Null, _) => return None,
            (CipherAlg::Aes128Cbc | CipherAlg::Aes192Cbc | CipherAlg::Aes256Cbc, Purpose::Encrypt) => {
                Schedule::CbcEncrypt(Cipher::new(key)?)
            }
            (CipherAlg::Aes128Cbc | CipherAlg::Aes192Cbc | CipherAlg::Aes256Cbc, Purpose::Decrypt) => {
                Schedule::CbcDecrypt(Reverse::new(key)?)
            }
            (CipherAlg::Aes128Ctr | CipherAlg::Aes192Ctr | CipherAlg::Aes256Ctr, _) => {
                Schedule::Counter(Cipher::new(key)?)
            }
            #[cfg(feature = "legacy")]
            (CipherAlg::TripleDesCbc, _) => Schedule::TripleDes(legacy::TripleDes::new(key)?),
        };
        Some(Self(schedule))
    }

    pub(super) fn encrypt(&self, iv: &[u8; 16], text: &mut [u8]) {
        match &self.0 {
            Schedule::CbcEncrypt(cipher) => aes(|| chain::encrypt(cipher, iv, text.as_chunks_mut().0)),
            Schedule::Counter(cipher) => aes(|| counter::apply(cipher, u128::from_be_bytes(*iv), text)),
            // Made for the other purpose: nothing that could be taken for a text leaves here.
            Schedule::CbcDecrypt(_) => text.fill(0),
            #[cfg(feature = "legacy")]
            Schedule::TripleDes(cipher) => after_packet::<{ legacy::FRAMES }, _>(|| cipher.encrypt(iv, text)),
        }
    }

    pub(super) fn decrypt(&self, iv: &[u8; 16], text: &mut [u8]) {
        match &self.0 {
            Schedule::CbcDecrypt(cipher) => aes(|| cipher.decrypt(iv, text.as_chunks_mut().0)),
            Schedule::Counter(cipher) => aes(|| counter::apply(cipher, u128::from_be_bytes(*iv), text)),
            Schedule::CbcEncrypt(_) => text.fill(0),
            #[cfg(feature = "legacy")]
            Schedule::TripleDes(cipher) => after_packet::<{ legacy::FRAMES }, _>(|| cipher.decrypt(iv, text)),
        }
    }
}

/// A MAC's key with what of it is computed beforehand; the crates wipe it on drop.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::{IntegKey, RustCrypto};
/// use ipsec_core::crypto::{IntegAlg, PacketCrypto};
/// let key: IntegKey = RustCrypto.integ_key(IntegAlg::AesCmac, &[7; 16]).unwrap();
/// assert_eq!(format!("{key:?}"), "IntegKey { .. }");
/// ```
pub struct IntegKey(State);

enum State {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
    Chain(Mac),
    #[cfg(feature = "legacy")]
    Md5(Hmac<md5::Md5>),
}

impl IntegKey {
    pub(super) fn new(alg: IntegAlg, key: &[u8]) -> Option<Self> {
        if key.len() != alg.key_len() {
            return None;
        }
        let state = match alg {
            IntegAlg::HmacSha1 => State::Sha1(Hmac::new_from_slice(key).ok()?),
            IntegAlg::HmacSha256 => State::Sha256(Hmac::new_from_slice(key).ok()?),
            IntegAlg::HmacSha384 => State::Sha384(Hmac::new_from_slice(key).ok()?),
            IntegAlg::HmacSha512 => State::Sha512(Hmac::new_from_slice(key).ok()?),
            IntegAlg::AesXcbc => State::Chain(Mac::xcbc(key.try_into().ok()?)?),
            IntegAlg::AesCmac => State::Chain(Mac::cmac(key.try_into().ok()?)?),
            #[cfg(feature = "legacy")]
            IntegAlg::HmacMd5 => State::Md5(Hmac::new_from_slice(key).ok()?),
        };
        Some(Self(state))
    }

    pub(super) fn icv(&self, parts: &[&[u8]], icv: &mut [u8]) {
        match &self.0 {
            State::Sha1(state) => hash(state, parts, icv),
            State::Sha256(state) => hash(state, parts, icv),
            State::Sha384(state) => hash(state, parts, icv),
            State::Sha512(state) => hash(state, parts, icv),
            State::Chain(mac) => aes(|| cut(&mac.over(parts), icv)),
            #[cfg(feature = "legacy")]
            State::Md5(state) => hash(state, parts, icv),
        }
    }
}

fn aes(work: impl FnOnce()) {
    after_packet::<{ aes_key::FRAMES }, _>(work);
}

fn hash<M: hmac::Mac + Clone>(state: &M, parts: &[&[u8]], icv: &mut [u8]) {
    after_packet::<HASH_FRAMES, _>(|| {
        let mut state = state.clone();
        parts.iter().for_each(|part| state.update(part));
        cut(&state.finalize().into_bytes(), icv);
    });
}

fn cut(whole: &[u8], icv: &mut [u8]) {
    icv.iter_mut().zip(whole).for_each(|(to, from)| *to = *from);
}
