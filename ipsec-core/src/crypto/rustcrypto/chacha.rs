//! ChaCha20 and Poly1305 (RFC 8439).

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};

use crate::crypto::Forged;
use crate::wipe;

const TAG_LEN: usize = 16;
/// Octets of stack on which state with the key in it is left.
pub(super) const FRAMES: usize = if cfg!(target_pointer_width = "64") { wipe::depth(4608, 48 * 1024) } else { 2048 };

/// The crate wipes it on drop.
pub(super) struct Key(ChaCha20Poly1305);

impl Key {
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        ChaCha20Poly1305::new_from_slice(key).ok().map(Self)
    }

    #[inline]
    pub(super) fn seal(&self, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        let Some((text, tag)) = text_and_tag.split_last_chunk_mut::<TAG_LEN>() else { return };
        if let Ok(sealed) = self.0.encrypt_inout_detached(nonce.into(), aad, text.into()) {
            *tag = sealed.into();
        }
    }

    #[inline]
    pub(super) fn open(&self, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        let (text, tag) = text_and_tag.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
        let tag = &*tag;
        self.0.decrypt_inout_detached(nonce.into(), aad, text.into(), tag.into()).map_err(|_| Forged)
    }
}
