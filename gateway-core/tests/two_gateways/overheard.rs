//! What IKE is protected with here: reproducible numbers, and keys that the test can use too.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;

use ike_core::crypto::rustcrypto::RustCrypto as IkeRustCrypto;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};

/// A generator of reproducible numbers: for tests only.
pub(crate) struct Numbers(u64);

impl rand_core::TryRng for Numbers {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Ok(mixed ^ (mixed >> 27))
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for octet in out {
            *octet = (self.try_next_u64()? >> 24) as u8;
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Numbers {}

/// The engine that IKE protects its messages with. The test can use every key in it, and so say what no gateway says.
pub(crate) struct Overheard;

type Key = Rc<<RustCrypto as PacketCrypto>::AeadKey>;

type Keys = BTreeMap<(Vec<u8>, bool), (Key, [u8; 4])>;

thread_local! {
    /// By SPIs and direction: the key of a sender, and its salt.
    static KEYS: RefCell<Keys> = const { RefCell::new(BTreeMap::new()) };
}

/// The I flag of a message.
pub(crate) const INITIATOR: u8 = 0x08;

impl PacketCrypto for Overheard {
    type AeadKey = Key;
    type Place<T> = InPlace<T>;
    ipsec_core::aead_only!();

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Key> {
        RustCrypto.aead_key(alg, key).map(Rc::new)
    }

    fn seal(&mut self, key: &Key, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        let sender = (aad[..16].to_vec(), aad[19] & INITIATOR != 0);
        KEYS.with_borrow_mut(|keys| keys.insert(sender, (key.clone(), nonce[..4].try_into().unwrap())));
        RustCrypto.seal(key, nonce, aad, text_and_tag);
    }

    fn open(&mut self, key: &Key, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        RustCrypto.open(key, nonce, aad, text_and_tag)
    }
}

/// A message of IKE as its sender would protect it: the header without its length, and the first of the payloads.
pub(crate) fn sealed(header: &[u8], first: u8, payloads: &[u8]) -> Vec<u8> {
    let sender = (header[..16].to_vec(), header[19] & INITIATOR != 0);
    let (key, salt) = KEYS.with_borrow(|keys| keys[&sender].clone());
    let iv = (u64::MAX - u64::from(header[23])).to_be_bytes();
    let mut text = [payloads, &[0; 17]].concat();
    let sk_len = 4 + 8 + text.len() as u8;
    let aad = [header, &[0, 0, 0, 28 + sk_len, first, 0, 0, sk_len]].concat();
    RustCrypto.seal(&key, &[&salt[..], &iv].concat().try_into().unwrap(), &aad, &mut text);
    [&aad[..], &iv, &text].concat()
}

pub(crate) type Ike = IkeRustCrypto<Numbers, Overheard>;

pub(crate) fn overheard(seed: u64) -> Ike {
    Ike::new(Numbers(seed), Overheard)
}
