//! An engine whose generator runs dry.

use ipsec_core::crypto::rustcrypto::{AeadKey, CipherKey, IntegKey, RustCrypto};
use ipsec_core::crypto::{AeadAlg, CipherAlg, Forged, InPlace, IntegAlg, NoIv, PacketCrypto, Purpose};

/// Has so many IVs.
pub(crate) struct Drained(pub(crate) u32);

impl PacketCrypto for Drained {
    type AeadKey = AeadKey;
    type CipherKey = CipherKey;
    type IntegKey = IntegKey;
    type Place<T> = InPlace<T>;

    fn aead_key(&mut self, _: AeadAlg, _: &[u8]) -> Option<AeadKey> {
        None
    }

    fn seal(&mut self, _: &AeadKey, _: &[u8; 12], _: &[u8], _: &mut [u8]) {}

    fn open(&mut self, _: &AeadKey, _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Forged> {
        Err(Forged)
    }

    fn cipher_key(&mut self, alg: CipherAlg, purpose: Purpose, key: &[u8]) -> Option<CipherKey> {
        RustCrypto.cipher_key(alg, purpose, key)
    }

    fn encrypt(&mut self, key: &CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        RustCrypto.encrypt(key, iv, text);
    }

    fn decrypt(&mut self, key: &CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        RustCrypto.decrypt(key, iv, text);
    }

    fn integ_key(&mut self, alg: IntegAlg, key: &[u8]) -> Option<IntegKey> {
        RustCrypto.integ_key(alg, key)
    }

    fn icv(&mut self, key: &IntegKey, parts: &[&[u8]], icv: &mut [u8]) {
        RustCrypto.icv(key, parts, icv);
    }

    fn iv(&mut self, iv: &mut [u8]) -> Result<(), NoIv> {
        self.0 = self.0.checked_sub(1).ok_or(NoIv)?;
        iv.fill(0x5a);
        Ok(())
    }
}
