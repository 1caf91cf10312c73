//! Keys on the heap.

use alloc::boxed::Box;

use ipsec_core::crypto::{AeadAlg, Forged, NoIv, PacketCrypto, make_key};

/// An engine whose keys lie on the heap, so that a place for an SA takes a pointer for each until there is one. Tables have
/// room for many more SAs than there are mostly, and what software makes of a key is a third of an SA.
///
/// ```
/// use gateway_core::crypto::Boxed;
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::OutboundSlot;
/// assert!(256 + size_of::<OutboundSlot<Boxed<RustCrypto>>>() < size_of::<OutboundSlot<RustCrypto>>());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Boxed<P>(pub P);

impl<P: PacketCrypto> PacketCrypto for Boxed<P> {
    type AeadKey = Box<P::AeadKey>;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey> {
        make_key(&mut self.0, alg, key, |made| made.map(Box::new))
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
    fn an_engine_with_keys_on_the_heap_computes_what_it_computed_before() {
        for case in conformance::SP800_38D {
            conformance::check(&mut Boxed(RustCrypto), case, &mut [0; 76]).unwrap();
        }
        assert!(Boxed(RustCrypto).aead_key(AeadAlg::Aes128Gcm16, &[7; 15]).is_none());
    }
}
