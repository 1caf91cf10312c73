//! The crypto engine of the tests: the default one, which refuses for a while what a full or lesser engine would.

use std::cell::Cell;

use ike_core::crypto::rustcrypto::{KeSecret, RustCrypto};
use ike_core::crypto::{Digest64, Group, IkeCrypto, KePublic, PrfAlg, SharedSecret};
use ike_core::error::BadPublic;
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::crypto::{AeadAlg, Forged, PacketCrypto};

use crate::network::Seed;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refuse {
    Nothing,
    KeyExchanges,
    Keys,
}

thread_local! {
    static REFUSED: Cell<Refuse> = const { Cell::new(Refuse::Nothing) };
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
}

impl IkeCrypto for Engine {
    type KeSecret = KeSecret;

    fn random(&mut self, out: &mut [u8]) {
        self.0.random(out);
    }

    fn ke_generate(&mut self, group: Group, public: &mut KePublic) -> Option<KeSecret> {
        self.0.ke_generate(group, public).filter(|_| REFUSED.get() != Refuse::KeyExchanges)
    }

    fn ke_agree(&mut self, secret: &KeSecret, peer: &[u8], shared: &mut SharedSecret) -> Result<(), BadPublic> {
        self.0.ke_agree(secret, peer, shared)
    }

    fn prf(&mut self, alg: PrfAlg, key: &[u8], parts: &[&[u8]], out: &mut Digest64) {
        self.0.prf(alg, key, parts, out);
    }

    fn sha1(&mut self, parts: &[&[u8]]) -> [u8; 20] {
        self.0.sha1(parts)
    }
}
