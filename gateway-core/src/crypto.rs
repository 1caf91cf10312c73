//! SAs on the heap.

use alloc::boxed::Box;

use ipsec_core::crypto::{AeadAlg, CipherAlg, Forged, IntegAlg, NoIv, PacketCrypto, Purpose};

/// An engine whose SAs lie on the heap, each with its keys, so that a place for one takes little until there is one. Tables
/// have room for many more SAs than there are mostly.
///
/// ```
/// use gateway_core::crypto::Boxed;
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::OutboundSlot;
/// assert!(8 * size_of::<OutboundSlot<Boxed<RustCrypto>>>() < size_of::<OutboundSlot<RustCrypto>>());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Boxed<P>(pub P);

impl<P: PacketCrypto> PacketCrypto for Boxed<P> {
    type AeadKey = P::AeadKey;
    type CipherKey = P::CipherKey;
    type IntegKey = P::IntegKey;
    type Place<T> = Box<T>;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey> {
        self.0.aead_key(alg, key)
    }

    #[inline]
    fn seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        self.0.seal(key, nonce, aad, text_and_tag);
    }

    #[inline]
    fn open(
        &mut self,
        key: &Self::AeadKey,
        nonce: &[u8; 12],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Forged> {
        self.0.open(key, nonce, aad, text_and_tag)
    }

    fn cipher_key(&mut self, alg: CipherAlg, purpose: Purpose, key: &[u8]) -> Option<Self::CipherKey> {
        self.0.cipher_key(alg, purpose, key)
    }

    #[inline]
    fn encrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        self.0.encrypt(key, iv, text);
    }

    #[inline]
    fn decrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        self.0.decrypt(key, iv, text);
    }

    fn integ_key(&mut self, alg: IntegAlg, key: &[u8]) -> Option<Self::IntegKey> {
        self.0.integ_key(alg, key)
    }

    #[inline]
    fn icv(&mut self, key: &Self::IntegKey, parts: &[&[u8]], icv: &mut [u8]) {
        self.0.icv(key, parts, icv);
    }

    fn iv(&mut self, iv: &mut [u8]) -> Result<(), NoIv> {
        self.0.iv(iv)
    }
}

#[cfg(test)]
mod tests {
    use ipsec_core::crypto::conformance;
    use ipsec_core::crypto::rustcrypto::RustCrypto;

    use super::*;

    #[test]
    fn an_engine_with_sas_on_the_heap_computes_what_it_computed_before() {
        for case in conformance::SP800_38D {
            conformance::check(&mut Boxed(RustCrypto), case, &mut [0; 76]).unwrap();
        }
        assert!(Boxed(RustCrypto).aead_key(AeadAlg::Aes128Gcm16, &[7; 15]).is_none());
    }
}
