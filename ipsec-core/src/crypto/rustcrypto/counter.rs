//! Counter mode of AES: what GCM, CCM and RFC 3686 have in common.

use aes::cipher::{
    Array, BlockCipherEncBackend, BlockCipherEncClosure, BlockSizeUser, ParBlocks, consts::U16, typenum::Unsigned,
};

use super::aes_key::{BLOCK_LEN, Cipher, KEYS_BORROWED};

/// Combines any number of octets with a key stream, of which `first` is the first counter block.
pub(super) fn apply(cipher: &Cipher, first: u128, text: &mut [u8]) {
    cipher.encrypt(Stream { first, text });
}

struct Stream<'p> {
    first: u128,
    text: &'p mut [u8],
}

impl BlockSizeUser for Stream<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Stream<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let (blocks, rest) = self.text.as_chunks_mut();
        let behind = usize::from(!rest.is_empty());
        let mut stream = KeyStream::new(backend, self.first);
        stream.fill(blocks.len().saturating_add(behind));
        stream.apply(blocks, behind);
        if behind != 0 {
            let mut last = [[0; BLOCK_LEN]];
            stream.apply(&mut last, 0);
            rest.iter_mut().zip(last.as_flattened()).for_each(|(octet, stream)| *octet ^= stream);
        }
    }
}

/// Whether a back end leaves round keys on the stack.
#[inline(always)]
pub(super) fn copies_keys<B: BlockCipherEncBackend<BlockSize = U16>>() -> bool {
    B::ParBlocksSize::USIZE != KEYS_BORROWED
}

#[inline(always)]
pub(super) fn xor(left: [u8; BLOCK_LEN], right: [u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
    (u128::from_ne_bytes(left) ^ u128::from_ne_bytes(right)).to_ne_bytes()
}

/// Counter blocks and what the cipher makes of them, a batch at a time.
pub(super) struct KeyStream<'b, B: BlockCipherEncBackend<BlockSize = U16>> {
    backend: &'b B,
    batch: ParBlocks<B>,
    /// Of those in the batch.
    used: usize,
    filled: usize,
    /// The upper 96 bits of the counter blocks.
    nonce: u128,
    counter: u32,
}

impl<'b, B: BlockCipherEncBackend<BlockSize = U16>> KeyStream<'b, B> {
    /// Begins with this counter block.
    #[inline(always)]
    pub(super) fn new(backend: &'b B, first: u128) -> Self {
        let (nonce, counter) = (first & !u128::from(u32::MAX), first as u32);
        Self { backend, batch: ParBlocks::<B>::default(), used: 0, filled: 0, nonce, counter }
    }

    /// Fills the batch with up to `wanted` blocks of key stream.
    #[inline(always)]
    pub(super) fn fill(&mut self, wanted: usize) {
        let size = B::ParBlocksSize::USIZE;
        for block in self.batch.iter_mut().take(wanted) {
            *block = Array((self.nonce | u128::from(self.counter)).to_be_bytes());
            self.counter = self.counter.wrapping_add(1);
        }
        // A bit-sliced back end takes as long for one block as for a batch; others win by leaving blocks out.
        if wanted.saturating_mul(2) >= size {
            self.backend.encrypt_par_blocks_inplace(&mut self.batch);
        } else {
            for block in self.batch.iter_mut().take(wanted) {
                self.backend.encrypt_block_inplace(block);
            }
        }
        (self.used, self.filled) = (0, wanted.min(size));
    }

    /// Fills the first batch for a text of `blocks` blocks and takes its first block, the mask of the tag.
    #[inline(always)]
    pub(super) fn first_batch(&mut self, blocks: usize) -> [u8; BLOCK_LEN] {
        self.fill(blocks.saturating_add(1));
        self.used = 1;
        self.batch.first().map_or([0; BLOCK_LEN], |block| block.0)
    }

    /// Combines the text with what is left of the batch, then with as many batches as it takes; so many blocks follow later.
    #[inline(always)]
    pub(super) fn apply(&mut self, text: &mut [[u8; BLOCK_LEN]], behind: usize) {
        let mut left = text;
        loop {
            let count = self.filled.saturating_sub(self.used).min(left.len());
            let Some((now, later)) = left.split_at_mut_checked(count) else { return };
            for (block, stream) in now.iter_mut().zip(self.batch.iter().skip(self.used)) {
                *block = xor(*block, stream.0);
            }
            self.used = self.used.saturating_add(count);
            if later.is_empty() {
                return;
            }
            self.fill(later.len().saturating_add(behind));
            left = later;
        }
    }
}
