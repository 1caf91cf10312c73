//! The default engine: AES-GCM (NIST SP 800-38D) from the `aes` and `ghash` crates, in portable Rust. On x86 and aarch64
//! these crates find the processor's instructions by themselves.

use super::{AeadAlg, Forged, PacketCrypto};
use aes::cipher::{
    Array, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit, ParBlocks,
    consts::U16, typenum::Unsigned,
};
use aes::{Aes128Enc, Aes192Enc, Aes256Enc, Block};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;

const BLOCK_LEN: usize = 16;

/// Software AES-GCM with 128-, 192- and 256-bit keys.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::crypto::{AeadAlg, PacketCrypto};
/// let mut crypto = RustCrypto;
/// let key = crypto.aead_key(AeadAlg::Aes128Gcm16, &[7; 16]).unwrap();
/// let mut text_and_tag = *b"a text..................";
/// crypto.seal(&key, &[0; 12], b"header", &mut text_and_tag);
/// assert!(crypto.open(&key, &[0; 12], b"header", &mut text_and_tag).is_ok());
/// assert_eq!(&text_and_tag[..8], b"a text..");
/// assert!(crypto.open(&key, &[0; 12], b"header", &mut text_and_tag).is_err());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RustCrypto;

/// The key schedules of AES and GHASH; both crates wipe them on drop.
pub struct AeadKey {
    cipher: Cipher,
    ghash: GHash,
}

enum Cipher {
    Aes128(Aes128Enc),
    Aes192(Aes192Enc),
    Aes256(Aes256Enc),
}

impl AeadKey {
    fn new(alg: AeadAlg, key: &[u8]) -> Option<Self> {
        let cipher = match alg {
            AeadAlg::Aes128Gcm16 => Cipher::Aes128(Aes128Enc::new_from_slice(key).ok()?),
            AeadAlg::Aes192Gcm16 => Cipher::Aes192(Aes192Enc::new_from_slice(key).ok()?),
            AeadAlg::Aes256Gcm16 => Cipher::Aes256(Aes256Enc::new_from_slice(key).ok()?),
        };
        let mut hash_key = Block::default();
        match &cipher {
            Cipher::Aes128(aes) => aes.encrypt_block(&mut hash_key),
            Cipher::Aes192(aes) => aes.encrypt_block(&mut hash_key),
            Cipher::Aes256(aes) => aes.encrypt_block(&mut hash_key),
        }
        let ghash = GHash::new(&hash_key);
        zeroize::Zeroize::zeroize(hash_key.as_mut_slice());
        Some(Self { cipher, ghash })
    }

    #[inline]
    fn run(&self, job: Gcm<'_>) {
        match &self.cipher {
            Cipher::Aes128(aes) => aes.encrypt_with_backend(job),
            Cipher::Aes192(aes) => aes.encrypt_with_backend(job),
            Cipher::Aes256(aes) => aes.encrypt_with_backend(job),
        }
    }

    /// GHASH over associated data and ciphertext.
    #[inline]
    fn hash(&self, aad: &[u8], text: &[u8]) -> [u8; BLOCK_LEN] {
        let mut ghash = self.ghash.clone();
        absorb(&mut ghash, aad);
        absorb(&mut ghash, text);
        let bits = |octets: &[u8]| (octets.len() as u64).wrapping_mul(8);
        let lengths = (u128::from(bits(aad)) << 64) | u128::from(bits(text));
        ghash.update(&[Array(lengths.to_be_bytes())]);
        ghash.finalize().0
    }
}

/// Absorbs octets, padded with zeros to whole blocks.
#[inline]
fn absorb(ghash: &mut GHash, octets: &[u8]) {
    let (blocks, rest) = Array::<u8, U16>::slice_as_chunks(octets);
    if !blocks.is_empty() {
        ghash.update(blocks);
    }
    if !rest.is_empty() {
        let mut last = Block::default();
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        ghash.update(&[last]);
    }
}

impl PacketCrypto for RustCrypto {
    type AeadKey = AeadKey;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<AeadKey> {
        AeadKey::new(alg, key)
    }

    #[inline]
    fn seal(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        if let Some((text, tag)) = text_and_tag.split_last_chunk_mut() {
            key.run(Gcm { key, nonce, aad, text, task: Task::Seal(tag) });
        }
    }

    #[inline]
    fn open(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        let (text, tag) = text_and_tag.split_last_chunk_mut().ok_or(Forged)?;
        let mut verdict = Err(Forged);
        key.run(Gcm { key, nonce, aad, text, task: Task::Open(tag, &mut verdict) });
        verdict
    }
}

/// One packet. It runs inside the cipher's back end, so that the processor is asked for its instructions once.
struct Gcm<'p> {
    key: &'p AeadKey,
    nonce: &'p [u8; 12],
    aad: &'p [u8],
    text: &'p mut [u8],
    task: Task<'p>,
}

enum Task<'p> {
    Seal(&'p mut [u8; BLOCK_LEN]),
    Open(&'p [u8; BLOCK_LEN], &'p mut Result<(), Forged>),
}

impl BlockSizeUser for Gcm<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Gcm<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let Self { key, nonce, aad, text, task } = self;
        let mut stream = KeyStream::new(backend, nonce);
        // Block 1 masks the tag, the text starts with block 2; the first batch holds both.
        let tag_mask = stream.first_batch(text.len());
        match task {
            Task::Seal(tag) => {
                stream.apply(text);
                *tag = xor(key.hash(aad, text), tag_mask);
            }
            Task::Open(tag, verdict) => {
                if bool::from(xor(key.hash(aad, text), tag_mask).ct_eq(tag)) {
                    stream.apply(text);
                    *verdict = Ok(());
                }
            }
        }
    }
}

#[inline(always)]
fn xor(left: [u8; BLOCK_LEN], right: [u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
    (u128::from_ne_bytes(left) ^ u128::from_ne_bytes(right)).to_ne_bytes()
}

/// Counter blocks and what the cipher makes of them, a batch at a time.
struct KeyStream<'b, B: BlockCipherEncBackend<BlockSize = U16>> {
    backend: &'b B,
    batch: ParBlocks<B>,
    /// The nonce in the upper 96 bits.
    nonce: u128,
    counter: u32,
}

impl<'b, B: BlockCipherEncBackend<BlockSize = U16>> KeyStream<'b, B> {
    #[inline(always)]
    fn new(backend: &'b B, nonce: &[u8; 12]) -> Self {
        let [n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11] = *nonce;
        let nonce = u128::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, 0, 0, 0, 0]);
        Self { backend, batch: ParBlocks::<B>::default(), nonce, counter: 1 }
    }

    /// Fills the batch with up to `wanted` blocks of key stream.
    #[inline(always)]
    fn fill(&mut self, wanted: usize) {
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
    }

    /// Fills the first batch for a text of `len` octets and returns its first block, the mask of the tag.
    #[inline(always)]
    fn first_batch(&mut self, len: usize) -> [u8; BLOCK_LEN] {
        self.fill(len.div_ceil(BLOCK_LEN).saturating_add(1));
        self.batch.first().map_or([0; BLOCK_LEN], |block| block.0)
    }

    /// Combines the text with the rest of the first batch, then with as many batches as it takes.
    #[inline(always)]
    fn apply(&mut self, text: &mut [u8]) {
        let size = B::ParBlocksSize::USIZE;
        let (mut left, mut skip) = (text, 1);
        loop {
            let batch_len = size.saturating_sub(skip).saturating_mul(BLOCK_LEN).min(left.len());
            let Some((now, later)) = left.split_at_mut_checked(batch_len) else { return };
            let (blocks, rest) = now.as_chunks_mut::<BLOCK_LEN>();
            let mut stream = self.batch.iter().skip(skip);
            for (block, stream) in blocks.iter_mut().zip(&mut stream) {
                *block = xor(*block, stream.0);
            }
            if let Some(stream) = stream.next() {
                rest.iter_mut().zip(stream).for_each(|(octet, stream)| *octet ^= *stream);
            }
            if later.is_empty() {
                return;
            }
            self.fill(later.len().div_ceil(BLOCK_LEN));
            (left, skip) = (later, 0);
        }
    }
}
