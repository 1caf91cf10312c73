//! Random IVs for an engine that has none of its own.

use rand_core::CryptoRng;

use super::{AeadAlg, CipherAlg, Forged, IntegAlg, NoIv, PacketCrypto, Purpose};

/// An engine with a generator for the IVs that nobody may know beforehand, those of CBC mode (RFC 3602 §3).
///
/// ```
/// use getrandom::SysRng;
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::crypto::ivs::WithIvs;
/// use ipsec_core::crypto::{NoIv, PacketCrypto};
/// use rand_core::UnwrapErr;
/// let mut iv = [0; 16];
/// assert_eq!(RustCrypto.iv(&mut iv), Err(NoIv));
/// // One that asks the system for each packet is slow: seed one from it.
/// let mut engine = WithIvs::new(RustCrypto, UnwrapErr(SysRng));
/// assert_eq!(engine.iv(&mut iv), Ok(()));
/// assert_ne!(iv, [0; 16]);
/// ```
pub struct WithIvs<P, R> {
    engine: P,
    random: R,
}

/// Neither the engine nor the state of its generator.
impl<P, R> core::fmt::Debug for WithIvs<P, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WithIvs").finish_non_exhaustive()
    }
}

impl<P, R> WithIvs<P, R> {
    /// Takes IVs from `random`.
    pub const fn new(engine: P, random: R) -> Self {
        Self { engine, random }
    }
}

impl<P: PacketCrypto, R: CryptoRng> PacketCrypto for WithIvs<P, R> {
    type AeadKey = P::AeadKey;
    type CipherKey = P::CipherKey;
    type IntegKey = P::IntegKey;
    type Place<T> = P::Place<T>;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey> {
        self.engine.aead_key(alg, key)
    }

    #[inline]
    fn seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        self.engine.seal(key, nonce, aad, text_and_tag);
    }

    #[inline]
    fn open(
        &mut self,
        key: &Self::AeadKey,
        nonce: &[u8; 12],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Forged> {
        self.engine.open(key, nonce, aad, text_and_tag)
    }

    fn cipher_key(&mut self, alg: CipherAlg, purpose: Purpose, key: &[u8]) -> Option<Self::CipherKey> {
        self.engine.cipher_key(alg, purpose, key)
    }

    #[inline]
    fn encrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        self.engine.encrypt(key, iv, text);
    }

    #[inline]
    fn decrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        self.engine.decrypt(key, iv, text);
    }

    fn integ_key(&mut self, alg: IntegAlg, key: &[u8]) -> Option<Self::IntegKey> {
        self.engine.integ_key(alg, key)
    }

    #[inline]
    fn icv(&mut self, key: &Self::IntegKey, parts: &[&[u8]], icv: &mut [u8]) {
        self.engine.icv(key, parts, icv);
    }

    fn iv(&mut self, iv: &mut [u8]) -> Result<(), NoIv> {
        self.random.fill_bytes(iv);
        Ok(())
    }
}
