//! AES with each block chained to the one before: CBC mode (NIST SP 800-38A §6.2), and the MACs that are made of it.
#![cfg_attr(
    not(all(feature = "ccm", feature = "cipher-mac")),
    allow(dead_code, reason = "CCM has one half of it, ciphers with a MAC the other")
)]

use aes::cipher::{
    Array, BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncBackend,
    BlockCipherEncClosure, BlockSizeUser, KeyInit, ParBlocks, consts::U16, typenum::Unsigned,
};
use aes::{Aes128Dec, Aes192Dec, Aes256Dec};

use super::aes_key::{BLOCK_LEN, Cipher};
use super::counter::xor;

/// Encrypts blocks in place, each combined with what became of the one before.
pub(super) fn encrypt(cipher: &Cipher, iv: &[u8; BLOCK_LEN], blocks: &mut [[u8; BLOCK_LEN]]) {
    cipher.encrypt(Encrypt { last: *iv, blocks });
}

struct Encrypt<'p> {
    last: [u8; BLOCK_LEN],
    blocks: &'p mut [[u8; BLOCK_LEN]],
}

impl BlockSizeUser for Encrypt<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Encrypt<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut last = Array(self.last);
        for block in self.blocks {
            last = Array(xor(last.0, *block));
            backend.encrypt_block_inplace(&mut last);
            *block = last.0;
        }
    }
}

/// For decryption of CBC.
pub(super) enum Reverse {
    Aes128(Aes128Dec),
    Aes192(Aes192Dec),
    Aes256(Aes256Dec),
}

impl Reverse {
    /// `None`: AES has no key of this length.
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        match key.len() {
            16 => Aes128Dec::new_from_slice(key).ok().map(Self::Aes128),
            24 => Aes192Dec::new_from_slice(key).ok().map(Self::Aes192),
            32 => Aes256Dec::new_from_slice(key).ok().map(Self::Aes256),
            _ => None,
        }
    }

    /// Decrypts blocks in place.
    pub(super) fn decrypt(&self, iv: &[u8; BLOCK_LEN], blocks: &mut [[u8; BLOCK_LEN]]) {
        let job = Decrypt { last: *iv, blocks };
        match self {
            Self::Aes128(aes) => aes.decrypt_with_backend(job),
            Self::Aes192(aes) => aes.decrypt_with_backend(job),
            Self::Aes256(aes) => aes.decrypt_with_backend(job),
        }
    }
}

struct Decrypt<'p> {
    last: [u8; BLOCK_LEN],
    blocks: &'p mut [[u8; BLOCK_LEN]],
}

impl BlockSizeUser for Decrypt<'_> {
    type BlockSize = U16;
}

impl BlockCipherDecClosure for Decrypt<'_> {
    #[inline(always)]
    fn call<B: BlockCipherDecBackend<BlockSize = U16>>(self, backend: &B) {
        let Self { mut last, blocks } = self;
        for blocks in blocks.chunks_mut(B::ParBlocksSize::USIZE) {
            let mut batch = ParBlocks::<B>::default();
            batch.iter_mut().zip(&*blocks).for_each(|(to, from)| to.0 = *from);
            backend.decrypt_par_blocks_inplace(&mut batch);
            for (block, clear) in blocks.iter_mut().zip(&batch) {
                let sealed = core::mem::replace(block, xor(clear.0, last));
                last = sealed;
            }
        }
    }
}

/// A MAC of chained blocks: the last one is combined with a mask, one if it is whole and another if it had to be padded.
pub(super) struct Mac {
    cipher: Cipher,
    whole: zeroize::Zeroizing<[u8; BLOCK_LEN]>,
    padded: zeroize::Zeroizing<[u8; BLOCK_LEN]>,
}

impl Mac {
    /// AES-CMAC (RFC 4493 §2.3): the masks come of zeros.
    pub(super) fn cmac(key: &[u8; BLOCK_LEN]) -> Option<Self> {
        let cipher = Cipher::new(key)?;
        let (mut whole, mut padded) =
            (zeroize::Zeroizing::new([0; BLOCK_LEN]), zeroize::Zeroizing::new([0; BLOCK_LEN]));
        cipher.encrypt_block(&mut whole);
        *whole = doubled(*whole);
        *padded = doubled(*whole);
        Some(Self { cipher, whole, padded })
    }

    /// AES-XCBC-MAC (RFC 3566 §4): three keys come of the given one.
    pub(super) fn xcbc(key: &[u8; BLOCK_LEN]) -> Option<Self> {
        let derive = Cipher::new(key)?;
        let [mut cipher_key, mut whole, mut padded] =
            [1, 2, 3].map(|octet| zeroize::Zeroizing::new([octet; BLOCK_LEN]));
        for block in [&mut cipher_key, &mut whole, &mut padded] {
            derive.encrypt_block(block);
        }
        Some(Self { cipher: Cipher::new(&*cipher_key)?, whole, padded })
    }

    /// The MAC over the concatenation of `parts`.
    pub(super) fn over(&self, parts: &[&[u8]]) -> [u8; BLOCK_LEN] {
        let mut chain = Chain::new(&self.cipher);
        parts.iter().for_each(|part| chain.put(part));
        let mask = if chain.filled == BLOCK_LEN { &self.whole } else { &self.padded };
        if let Some(end) = chain.block.get_mut(chain.filled) {
            *end = 0x80;
        }
        chain.block = xor(chain.block, **mask);
        chain.step();
        chain.last
    }
}

/// Multiplication by x in GF(2^128) (RFC 4493 §2.3).
fn doubled(block: [u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
    let number = u128::from_be_bytes(block);
    ((number << 1) ^ (number >> 127).wrapping_mul(0x87)).to_be_bytes()
}

/// Chained blocks of which only the last one is kept, over octets that come in pieces.
pub(super) struct Chain<'c> {
    cipher: &'c Cipher,
    last: [u8; BLOCK_LEN],
    block: [u8; BLOCK_LEN],
    filled: usize,
}

impl<'c> Chain<'c> {
    pub(super) const fn new(cipher: &'c Cipher) -> Self {
        Self { cipher, last: [0; BLOCK_LEN], block: [0; BLOCK_LEN], filled: 0 }
    }

    /// The last block that is whole stays, in case that it is the very last one.
    pub(super) fn put(&mut self, octets: &[u8]) {
        let mut left = octets;
        while !left.is_empty() {
            if self.filled == BLOCK_LEN {
                self.step();
            }
            let room = BLOCK_LEN.saturating_sub(self.filled).min(left.len());
            let Some((now, later)) = left.split_at_checked(room) else { return };
            let place = self.block.iter_mut().skip(self.filled);
            place.zip(now).for_each(|(to, from)| *to = *from);
            self.filled = self.filled.saturating_add(room);
            left = later;
        }
    }

    /// Fills the block that was begun with zeros. The last block of what there was.
    pub(super) fn padded(&mut self) -> [u8; BLOCK_LEN] {
        if self.filled > 0 {
            self.step();
        }
        self.last
    }

    fn step(&mut self) {
        encrypt(self.cipher, &self.last, core::slice::from_mut(&mut self.block));
        self.last = core::mem::replace(&mut self.block, [0; BLOCK_LEN]);
        self.filled = 0;
    }
}
