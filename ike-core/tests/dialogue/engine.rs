//! The crypto engine of the tests: the default one, which refuses for a while what a full or lesser engine would, and has a toy
//! in place of what it does not offer: a key exchange that is a KEM.

use std::cell::Cell;

use ike_core::crypto::rustcrypto::{self, RustCrypto};
use ike_core::crypto::{CipherAlg, Digest64, Group, IkeCrypto, IntegAlg, PrfAlg, SharedSecret};
use ike_core::error::{BadPublic, NoKey, Unkeyed};
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto, Purpose};

use crate::network::Seed;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refuse {
    Nothing,
    KeyExchanges,
    Keys,
    Ciphers,
}

thread_local! {
    static REFUSED: Cell<Refuse> = const { Cell::new(Refuse::Nothing) };
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// How many secrets of key exchanges somebody holds in this test.
pub(crate) fn held() -> usize {
    HELD.get()
}

/// From now on, in this test.
pub(crate) fn refuse(what: Refuse) {
    REFUSED.set(what);
}

pub(crate) struct Engine(RustCrypto<Seed>);

impl Engine {
    pub(crate) fn new(seed: Seed, packets: Packets) -> Self {
        Self(RustCrypto::new(seed, packets))
    }
}

impl PacketCrypto for Engine {
    type AeadKey = <RustCrypto<Seed> as PacketCrypto>::AeadKey;
    type CipherKey = <RustCrypto<Seed> as PacketCrypto>::CipherKey;
    type IntegKey = <RustCrypto<Seed> as PacketCrypto>::IntegKey;
    type Place<T> = InPlace<T>;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey> {
        self.0.aead_key(alg, key).filter(|_| REFUSED.get() != Refuse::Keys)
    }

    fn seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        self.0.seal(key, nonce, aad, text_and_tag);
    }

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
        self.0.cipher_key(alg, purpose, key).filter(|_| REFUSED.get() != Refuse::Ciphers)
    }

    fn encrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        self.0.encrypt(key, iv, text);
    }

    fn decrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        self.0.decrypt(key, iv, text);
    }

    fn integ_key(&mut self, alg: IntegAlg, key: &[u8]) -> Option<Self::IntegKey> {
        self.0.integ_key(alg, key)
    }

    fn icv(&mut self, key: &Self::IntegKey, parts: &[&[u8]], icv: &mut [u8]) {
        self.0.icv(key, parts, icv);
    }
}

/// What whoever begins a key exchange keeps.
pub(crate) enum KeSecret {
    Real(rustcrypto::KeSecret),
    /// Of the toy KEM: whoever holds it reads the seed of the shared secret out of the answer.
    Kem([u8; 32]),
}

impl KeSecret {
    fn hold(self) -> Self {
        HELD.set(HELD.get() + 1);
        self
    }
}

impl Drop for KeSecret {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

impl IkeCrypto for Engine {
    type KeSecret = KeSecret;

    fn random(&mut self, out: &mut [u8]) {
        self.0.random(out);
    }

    fn ke_offer(&mut self, group: Group, public: &mut [u8]) -> Option<KeSecret> {
        if REFUSED.get() == Refuse::KeyExchanges {
            return None;
        }
        if group != Group::MlKem768 {
            return self.0.ke_offer(group, public).map(|secret| KeSecret::Real(secret).hold());
        }
        let mut secret = [0; 32];
        self.0.random(&mut secret);
        let room: &mut [u8; 1184] = public.try_into().ok()?;
        room.fill(0x4b);
        room[..32].copy_from_slice(&secret);
        Some(KeSecret::Kem(secret).hold())
    }

    fn ke_answer(
        &mut self,
        group: Group,
        peer: &[u8],
        public: &mut [u8],
        shared: &mut SharedSecret,
    ) -> Result<(), Unkeyed> {
        if group != Group::MlKem768 {
            let secret = self.ke_offer(group, public).ok_or(Unkeyed::NoKey)?;
            return Ok(self.ke_finish(&secret, peer, shared)?);
        }
        let peer: &[u8; 1184] = peer.try_into().map_err(|_| BadPublic)?;
        let room: &mut [u8; 1088] = public.try_into().map_err(|_| NoKey)?;
        let seed = shared.resize(32).ok_or(NoKey)?;
        self.0.random(seed);
        room.fill(0x4c);
        room.iter_mut().zip(seed.iter().zip(peer)).for_each(|(to, (seed, key))| *to = seed ^ key);
        Ok(())
    }

    fn ke_finish(&mut self, secret: &KeSecret, peer: &[u8], shared: &mut SharedSecret) -> Result<(), BadPublic> {
        match secret {
            KeSecret::Real(secret) => self.0.ke_finish(secret, peer, shared),
            KeSecret::Kem(secret) => {
                let peer: &[u8; 1088] = peer.try_into().map_err(|_| BadPublic)?;
                let seed = shared.resize(32).ok_or(BadPublic)?;
                seed.iter_mut().zip(secret.iter().zip(peer)).for_each(|(to, (key, seed))| *to = key ^ seed);
                Ok(())
            }
        }
    }

    fn prf(&mut self, alg: PrfAlg, key: &[u8], parts: &[&[u8]], out: &mut Digest64) {
        self.0.prf(alg, key, parts, out);
    }

    fn sha1(&mut self, parts: &[&[u8]]) -> [u8; 20] {
        self.0.sha1(parts)
    }
}
