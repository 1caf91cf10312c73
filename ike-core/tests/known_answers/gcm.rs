//! AES-GCM (NIST SP 800-38D) for tests only, written to be read.

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use ipsec_core::crypto::{AeadAlg, Forged, PacketCrypto};

pub(crate) struct Gcm;

pub(crate) struct Key(Box<dyn Fn([u8; 16]) -> [u8; 16]>);

fn block_cipher<A: BlockCipherEncrypt + KeyInit + 'static>(key: &[u8]) -> Option<Key> {
    let cipher = A::new_from_slice(key).ok()?;
    Some(Key(Box::new(move |block| {
        let mut out = aes::cipher::Block::<A>::default();
        out.copy_from_slice(&block);
        cipher.encrypt_block(&mut out);
        out.as_slice().try_into().unwrap()
    })))
}

impl Key {
    fn counter(nonce: &[u8; 12], count: u32) -> [u8; 16] {
        [nonce.as_slice(), &count.to_be_bytes()].concat().try_into().unwrap()
    }

    fn crypt(&self, nonce: &[u8; 12], text: &mut [u8]) {
        for (count, chunk) in (2..).zip(text.chunks_mut(16)) {
            let stream = (self.0)(Self::counter(nonce, count));
            chunk.iter_mut().zip(stream).for_each(|(octet, mask)| *octet ^= mask);
        }
    }

    fn tag(&self, nonce: &[u8; 12], aad: &[u8], text: &[u8]) -> [u8; 16] {
        let mut hash = GHash::new(&(self.0)([0; 16]).into());
        hash.update_padded(aad);
        hash.update_padded(text);
        let bits = |octets: &[u8]| (octets.len() as u64 * 8).to_be_bytes();
        let lengths: [u8; 16] = [bits(aad), bits(text)].concat().try_into().unwrap();
        hash.update(&[lengths.into()]);
        let mask = (self.0)(Self::counter(nonce, 1));
        let mut tag: [u8; 16] = hash.finalize().into();
        tag.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
        tag
    }
}

impl PacketCrypto for Gcm {
    type AeadKey = Key;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Key> {
        match alg {
            AeadAlg::Aes128Gcm16 => block_cipher::<Aes128>(key),
            AeadAlg::Aes192Gcm16 => block_cipher::<Aes192>(key),
            AeadAlg::Aes256Gcm16 => block_cipher::<Aes256>(key),
            _ => None,
        }
    }

    fn seal(&mut self, key: &Key, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        let (text, tag) = text_and_tag.split_last_chunk_mut::<16>().unwrap();
        key.crypt(nonce, text);
        *tag = key.tag(nonce, aad, text);
    }

    fn open(&mut self, key: &Key, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        let (text, tag) = text_and_tag.split_last_chunk_mut::<16>().unwrap();
        if *tag != key.tag(nonce, aad, text) {
            return Err(Forged);
        }
        key.crypt(nonce, text);
        Ok(())
    }
}
