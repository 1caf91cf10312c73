//! AES, whatever the length of its key, and what its key schedules leave behind.

#[cfg(any(feature = "ccm", feature = "cipher-mac"))]
use crate::wipe;
use aes::cipher::{
    BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16,
};
use aes::{Aes128Enc, Aes192Enc, Aes256Enc, Block};

pub(super) const BLOCK_LEN: usize = 16;
/// The back ends that work on so many blocks at once (AES-NI, ARMv8) leave the round keys where they are. The others, the
/// portable one and those for VAES, spread them out on the stack for each packet, and the first of them is the key itself.
pub(super) const KEYS_BORROWED: usize = 8;
/// Octets of stack that any of the modes takes; CBC with VAES the most. Words of half the size are spread out to half as much.
#[cfg(any(feature = "ccm", feature = "cipher-mac"))]
pub(super) const FRAMES: usize = if cfg!(target_pointer_width = "64") { wipe::depth(5120, 28 * 1024) } else { 2048 };

/// For encryption.
pub(super) enum Cipher {
    Aes128(Aes128Enc),
    Aes192(Aes192Enc),
    Aes256(Aes256Enc),
}

impl Cipher {
    /// `None`: AES has no key of this length.
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        match key.len() {
            16 => Aes128Enc::new_from_slice(key).ok().map(Self::Aes128),
            24 => Aes192Enc::new_from_slice(key).ok().map(Self::Aes192),
            32 => Aes256Enc::new_from_slice(key).ok().map(Self::Aes256),
            _ => None,
        }
    }

    /// Leaves round keys on the stack. Of its own, or its frame is put into others for each back end that there is.
    #[inline(never)]
    pub(super) fn encrypt(&self, job: impl BlockCipherEncClosure<BlockSize = U16>) {
        match self {
            Self::Aes128(aes) => aes.encrypt_with_backend(job),
            Self::Aes192(aes) => aes.encrypt_with_backend(job),
            Self::Aes256(aes) => aes.encrypt_with_backend(job),
        }
    }

    /// A single block. Likewise.
    pub(super) fn encrypt_block(&self, block: &mut [u8; BLOCK_LEN]) {
        self.encrypt(One(block.into()));
    }
}

/// A single block.
struct One<'b>(&'b mut Block);

impl BlockSizeUser for One<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for One<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        backend.encrypt_block_inplace(self.0);
    }
}
