//! What peers of another age have: Triple DES (RFC 2451), which RFC 8221 §5 says not to use.

use des::TdesEde3;
use des::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

use crate::wipe;

const BLOCK_LEN: usize = 8;
/// Octets of stack that may hold round keys.
pub(super) const FRAMES: usize = wipe::depth(512, 2048);

/// The crate wipes it on drop.
pub(super) struct TripleDes(TdesEde3);

impl TripleDes {
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        TdesEde3::new_from_slice(key).ok().map(Self)
    }

    pub(super) fn encrypt(&self, iv: &[u8; 16], text: &mut [u8]) {
        let mut last = first(iv);
        for block in text.as_chunks_mut::<BLOCK_LEN>().0 {
            let mut whole = Array((u64::from_ne_bytes(*block) ^ u64::from_ne_bytes(last)).to_ne_bytes());
            self.0.encrypt_block(&mut whole);
            (*block, last) = (whole.0, whole.0);
        }
    }

    pub(super) fn decrypt(&self, iv: &[u8; 16], text: &mut [u8]) {
        let mut last = first(iv);
        for block in text.as_chunks_mut::<BLOCK_LEN>().0 {
            let mut whole = Array(*block);
            self.0.decrypt_block(&mut whole);
            let clear = (u64::from_ne_bytes(whole.0) ^ u64::from_ne_bytes(last)).to_ne_bytes();
            last = core::mem::replace(block, clear);
        }
    }
}

/// The IV in front of what is left of a block of AES.
fn first(iv: &[u8; 16]) -> [u8; BLOCK_LEN] {
    iv.first_chunk().copied().unwrap_or_default()
}
