//! A crypto engine that protects nothing, so that a fuzzer gets behind the tag.

use ike_core::crypto::{Digest64, Group, IkeCrypto, PrfAlg, SharedSecret};
use ike_core::error::BadPublic;
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};

/// The tag of every message and packet.
pub const TAG: [u8; 16] = *b"the constant tag";

/// Text stays as it is, the tag is [`TAG`], and every PRF and hash gives constant octets: what the peer says of itself
/// is always proven. Nonces and SPIs differ, by counting.
#[derive(Default)]
pub struct FakeCrypto {
    drawn: u64,
}

impl FakeCrypto {
    /// An engine whose random numbers are its own.
    pub const fn new(seed: u64) -> Self {
        Self { drawn: seed << 32 }
    }
}

impl PacketCrypto for FakeCrypto {
    type AeadKey = ();
    type Place<T> = InPlace<T>;
    ipsec_core::aead_only!();

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<()> {
        (key.len() == alg.key_len()).then_some(())
    }

    fn seal(&mut self, (): &(), _: &[u8; 12], _: &[u8], text_and_tag: &mut [u8]) {
        if let Some((_, tag)) = text_and_tag.split_last_chunk_mut() {
            *tag = TAG;
        }
    }

    fn open(&mut self, (): &(), _: &[u8; 12], _: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        if text_and_tag.ends_with(&TAG) { Ok(()) } else { Err(Forged) }
    }
}

impl IkeCrypto for FakeCrypto {
    type KeSecret = Group;

    fn random(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.drawn += 1;
            let octets = self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            chunk.copy_from_slice(&octets[..chunk.len()]);
        }
    }

    fn ke_offer(&mut self, group: Group, public: &mut [u8]) -> Option<Group> {
        public.fill(0x4b);
        Some(group)
    }

    fn ke_finish(&mut self, secret: &Group, peer_public: &[u8], shared: &mut SharedSecret) -> Result<(), BadPublic> {
        if peer_public.len() != secret.answer_len() {
            return Err(BadPublic);
        }
        shared.resize(32).ok_or(BadPublic)?.fill(0x53);
        Ok(())
    }

    fn prf(&mut self, alg: PrfAlg, _: &[u8], _: &[&[u8]], out: &mut Digest64) {
        if let Some(out) = out.resize(alg.output_len()) {
            out.fill(0x5f);
        }
    }

    fn sha1(&mut self, _: &[&[u8]]) -> [u8; 20] {
        [0x51; 20]
    }
}
