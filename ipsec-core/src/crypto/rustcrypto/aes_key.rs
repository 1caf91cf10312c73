//! AES, whatever the length of its key, and what its key schedules leave behind.

use aes::cipher::{
    BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16,
};
use aes::{Aes128Enc, Aes192Enc, Aes256Enc, Block};
use zeroize::zeroize_stack;

pub(super) const BLOCK_LEN: usize = 16;
/// The back ends that work on so many blocks at once (AES-NI, ARMv8) leave the round keys where they are. The others, the
/// portable one and those for VAES, spread them out on the stack for each packet, and the first of them is the key itself.
pub(super) const KEYS_BORROWED: usize = 8;
/// Octets of stack that those take. The tests `wiped` search the stack for what lies deeper. Words of half the size are spread
/// out to half as much.
pub(super) const FRAMES: usize = if cfg!(target_pointer_width = "64") { 4096 } else { 2048 };

/// Overwrites what the schedules leave on the stack.
#[inline]
pub(super) fn wipe() {
    zeroize_stack::<FRAMES>();
}

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

    /// In a frame of its own, so that what it leaves on the stack lies below the caller's.
    #[inline(never)]
    pub(super) fn encrypt(&self, job: impl BlockCipherEncClosure<BlockSize = U16>) {
        match self {
            Self::Aes128(aes) => aes.encrypt_with_backend(job),
            Self::Aes192(aes) => aes.encrypt_with_backend(job),
            Self::Aes256(aes) => aes.encrypt_with_backend(job),
        }
    }

    /// A single block.
    pub(super) fn encrypt_block(&self, block: &mut [u8; BLOCK_LEN]) {
        self.encrypt(One(block.into()));
        wipe();
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
