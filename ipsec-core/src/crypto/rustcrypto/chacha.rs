//! ChaCha20 and Poly1305 (RFC 8439).

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use zeroize::zeroize_stack;

use crate::crypto::Forged;

const TAG_LEN: usize = 16;
/// Octets of stack on which state with the key in it is left. The tests `wiped` search for what lies deeper.
const FRAMES: usize = 2048;

/// The crate wipes it on drop.
pub(super) struct Key(ChaCha20Poly1305);

impl Key {
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        ChaCha20Poly1305::new_from_slice(key).ok().map(Self)
    }

    #[inline]
    pub(super) fn seal(&self, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        let Some((text, tag)) = text_and_tag.split_last_chunk_mut::<TAG_LEN>() else { return };
        if let Some(sealed) = self.encrypt(nonce, aad, text) {
            *tag = sealed;
        }
        zeroize_stack::<FRAMES>();
    }

    #[inline]
    pub(super) fn open(&self, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        let (text, tag) = text_and_tag.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
        let verdict = self.decrypt(nonce, aad, text, tag);
        zeroize_stack::<FRAMES>();
        verdict
    }

    /// In a frame of its own, so that what it leaves on the stack lies below the caller's.
    #[inline(never)]
    fn encrypt(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        self.0.encrypt_inout_detached(nonce.into(), aad, text.into()).ok().map(Into::into)
    }

    #[inline(never)]
    fn decrypt(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), Forged> {
        self.0.decrypt_inout_detached(nonce.into(), aad, text.into(), tag.into()).map_err(|_| Forged)
    }
}
