//! The default engine, in portable Rust: AES-GCM and GMAC (NIST SP 800-38D) from the `aes` and `ghash` crates, and with the
//! features of their names the other suites. On x86 and aarch64 these crates find the processor's instructions by themselves.

use core::fmt;

mod aes_key;
#[cfg(feature = "ccm")]
mod ccm;
#[cfg(feature = "chacha20poly1305")]
mod chacha;
#[cfg(any(feature = "ccm", feature = "cipher-mac"))]
mod chain;
#[cfg(feature = "cipher-mac")]
mod cipher_mac;
mod counter;
mod gcm;
#[cfg(feature = "legacy")]
mod legacy;

use super::{AeadAlg, AeadMode, Forged, InPlace, PacketCrypto};
#[cfg(feature = "cipher-mac")]
use super::{CipherAlg, IntegAlg, Purpose};
#[cfg(any(feature = "ccm", feature = "chacha20poly1305"))]
use crate::wipe::after_packet;
#[cfg(feature = "cipher-mac")]
pub use cipher_mac::{CipherKey, IntegKey};

/// Software cryptography.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::crypto::{AeadAlg, PacketCrypto};
/// let mut crypto = RustCrypto;
/// let key = crypto.aead_key(AeadAlg::Aes128Gcm16, &[7; 16]).unwrap();
/// let mut text_and_tag = *b"a text..................";
/// crypto.seal(&key, &[0; 12], b"header", &mut text_and_tag);
/// assert!(crypto.open(&key, &[0; 12], b"header", &mut text_and_tag).is_ok());
/// assert_eq!(&text_and_tag[..8], b"a text..");
/// assert!(crypto.open(&key, &[0; 12], b"header", &mut text_and_tag).is_err());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RustCrypto;

/// The key of an AEAD, ready to use; the crates behind it wipe it on drop.
pub struct AeadKey(Aead);

enum Aead {
    Gcm(gcm::Key),
    #[cfg(feature = "ccm")]
    Ccm(ccm::Key),
    #[cfg(feature = "chacha20poly1305")]
    ChaCha(chacha::Key),
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeadKey").finish_non_exhaustive()
    }
}

#[cfg(feature = "cipher-mac")]
impl fmt::Debug for CipherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CipherKey").finish_non_exhaustive()
    }
}

#[cfg(feature = "cipher-mac")]
impl fmt::Debug for IntegKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntegKey").finish_non_exhaustive()
    }
}

impl PacketCrypto for RustCrypto {
    type AeadKey = AeadKey;
    type Place<T> = InPlace<T>;
    #[cfg(feature = "cipher-mac")]
    type CipherKey = CipherKey;
    #[cfg(feature = "cipher-mac")]
    type IntegKey = IntegKey;
    #[cfg(not(feature = "cipher-mac"))]
    crate::aead_only!();

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<AeadKey> {
        if key.len() != alg.key_len() {
            return None;
        }
        let key = match alg.mode() {
            AeadMode::Gcm | AeadMode::Gmac => Aead::Gcm(gcm::Key::new(key, alg.tag_len(), alg.hides())?),
            #[cfg(feature = "ccm")]
            AeadMode::Ccm => Aead::Ccm(ccm::Key::new(key, alg.tag_len())?),
            #[cfg(feature = "chacha20poly1305")]
            AeadMode::ChaCha20Poly1305 => Aead::ChaCha(chacha::Key::new(key)?),
            #[cfg(not(all(feature = "ccm", feature = "chacha20poly1305")))]
            _ => return None,
        };
        Some(AeadKey(key))
    }

    #[inline]
    fn seal(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        match &key.0 {
            Aead::Gcm(key) => key.seal(nonce, aad, text_and_tag),
            #[cfg(feature = "ccm")]
            Aead::Ccm(key) => after_packet::<{ aes_key::FRAMES }, _>(|| key.seal(nonce, aad, text_and_tag)),
            #[cfg(feature = "chacha20poly1305")]
            Aead::ChaCha(key) => after_packet::<{ chacha::FRAMES }, _>(|| key.seal(nonce, aad, text_and_tag)),
        }
    }

    #[inline]
    fn open(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        match &key.0 {
            Aead::Gcm(key) => key.open(nonce, aad, text_and_tag),
            #[cfg(feature = "ccm")]
            Aead::Ccm(key) => after_packet::<{ aes_key::FRAMES }, _>(|| key.open(nonce, aad, text_and_tag)),
            #[cfg(feature = "chacha20poly1305")]
            Aead::ChaCha(key) => after_packet::<{ chacha::FRAMES }, _>(|| key.open(nonce, aad, text_and_tag)),
        }
    }

    #[cfg(feature = "cipher-mac")]
    fn cipher_key(&mut self, alg: CipherAlg, purpose: Purpose, key: &[u8]) -> Option<CipherKey> {
        CipherKey::new(alg, purpose, key)
    }

    #[cfg(feature = "cipher-mac")]
    fn encrypt(&mut self, key: &CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        key.encrypt(iv, text);
    }

    #[cfg(feature = "cipher-mac")]
    fn decrypt(&mut self, key: &CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        key.decrypt(iv, text);
    }

    #[cfg(feature = "cipher-mac")]
    fn integ_key(&mut self, alg: IntegAlg, key: &[u8]) -> Option<IntegKey> {
        IntegKey::new(alg, key)
    }

    #[cfg(feature = "cipher-mac")]
    fn icv(&mut self, key: &IntegKey, parts: &[&[u8]], icv: &mut [u8]) {
        key.icv(parts, icv);
    }
}
