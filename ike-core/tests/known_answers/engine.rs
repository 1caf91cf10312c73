//! The engine under test, which also has AES-CBC: what the default one does not offer can be protected all the same.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16};
use aes::{Aes128, Aes192, Aes256};
use ike_core::crypto::rustcrypto::{KeSecret, RustCrypto};
use ike_core::crypto::{CipherAlg, Digest64, Group, IkeCrypto, PrfAlg, SharedSecret};
use ike_core::error::{BadPublic, NoKey};
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};

use crate::support::Octets;

pub(crate) struct Engine(pub(crate) RustCrypto<Octets>);

impl PacketCrypto for Engine {
    type AeadKey = <Packets as PacketCrypto>::AeadKey;
    type Place<T> = InPlace<T>;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey> {
        self.0.aead_key(alg, key)
    }

    fn seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        self.0.seal(key, nonce, aad, text_and_tag);
    }

    fn open(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> Result<(), Forged> {
        self.0.open(key, nonce, aad, text)
    }
}

impl IkeCrypto for Engine {
    type KeSecret = KeSecret;

    fn random(&mut self, out: &mut [u8]) {
        self.0.random(out);
    }

    fn ke_offer(&mut self, group: Group, public: &mut [u8]) -> Option<KeSecret> {
        self.0.ke_offer(group, public)
    }

    fn ke_finish(&mut self, secret: &KeSecret, peer: &[u8], shared: &mut SharedSecret) -> Result<(), BadPublic> {
        self.0.ke_finish(secret, peer, shared)
    }

    fn prf(&mut self, alg: PrfAlg, key: &[u8], parts: &[&[u8]], out: &mut Digest64) {
        self.0.prf(alg, key, parts, out);
    }

    fn encrypt_blocks(&mut self, cipher: CipherAlg, key: &[u8], iv: &[u8], text: &mut [u8]) -> Result<(), NoKey> {
        match cipher {
            CipherAlg::Aes128Cbc => encrypt(&Aes128::new_from_slice(key).map_err(|_| NoKey)?, iv, text),
            CipherAlg::Aes192Cbc => encrypt(&Aes192::new_from_slice(key).map_err(|_| NoKey)?, iv, text),
            CipherAlg::Aes256Cbc => encrypt(&Aes256::new_from_slice(key).map_err(|_| NoKey)?, iv, text),
            _ => return Err(NoKey),
        }
        Ok(())
    }

    fn decrypt_blocks(&mut self, cipher: CipherAlg, key: &[u8], iv: &[u8], text: &mut [u8]) -> Result<(), NoKey> {
        match cipher {
            CipherAlg::Aes128Cbc => decrypt(&Aes128::new_from_slice(key).map_err(|_| NoKey)?, iv, text),
            CipherAlg::Aes192Cbc => decrypt(&Aes192::new_from_slice(key).map_err(|_| NoKey)?, iv, text),
            CipherAlg::Aes256Cbc => decrypt(&Aes256::new_from_slice(key).map_err(|_| NoKey)?, iv, text),
            _ => return Err(NoKey),
        }
        Ok(())
    }

    fn sha1(&mut self, parts: &[&[u8]]) -> [u8; 20] {
        self.0.sha1(parts)
    }
}

type Block = Array<u8, U16>;

fn block(octets: &[u8]) -> Block {
    octets.try_into().expect("whole blocks")
}

fn encrypt(cipher: &impl BlockCipherEncrypt<BlockSize = U16>, iv: &[u8], text: &mut [u8]) {
    let mut previous = block(iv);
    for chunk in text.chunks_mut(16) {
        previous.iter_mut().zip(&*chunk).for_each(|(to, from)| *to ^= from);
        cipher.encrypt_block(&mut previous);
        chunk.copy_from_slice(&previous);
    }
}

fn decrypt(cipher: &impl BlockCipherDecrypt<BlockSize = U16>, iv: &[u8], text: &mut [u8]) {
    let mut previous = block(iv);
    for chunk in text.chunks_mut(16) {
        let received = block(chunk);
        let mut plain = received;
        cipher.decrypt_block(&mut plain);
        chunk.iter_mut().zip(plain.iter().zip(&previous)).for_each(|(to, (plain, before))| *to = plain ^ before);
        previous = received;
    }
}
