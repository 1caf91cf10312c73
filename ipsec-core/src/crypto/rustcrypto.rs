//! The default engine: AES-GCM (NIST SP 800-38D) from the `aes` and `ghash` crates, in portable Rust. On x86 and aarch64
//! these crates find the processor's instructions by themselves.

use core::fmt;

use super::{AeadAlg, Forged, InPlace, PacketCrypto};
use aes::cipher::{
    Array, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit, ParBlocks,
    consts::U16, typenum::Unsigned,
};
use aes::{Aes128Enc, Aes192Enc, Aes256Enc, Block};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;
use zeroize::{Zeroizing, zeroize_stack};

const BLOCK_LEN: usize = 16;
/// The back ends that work on so many blocks at once (AES-NI, ARMv8) leave the round keys where they are. The others, the
/// portable one and those for VAES, spread them out on the stack for each packet, and the first of them is the key itself.
const KEYS_BORROWED: usize = 8;
/// Octets of stack that those take. The tests `wiped` search the stack for what lies deeper. Words of half the size are spread
/// out to half as much.
const FRAMES: usize = if cfg!(target_pointer_width = "64") { 3072 } else { 1536 };

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

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeadKey").finish_non_exhaustive()
    }
}

enum Cipher {
    Aes128(Aes128Enc),
    Aes192(Aes192Enc),
    Aes256(Aes256Enc),
}

impl Cipher {
    /// In a frame of its own, so that what it leaves on the stack lies below the caller's.
    #[inline(never)]
    fn encrypt(&self, job: impl BlockCipherEncClosure<BlockSize = U16>) {
        match self {
            Self::Aes128(aes) => aes.encrypt_with_backend(job),
            Self::Aes192(aes) => aes.encrypt_with_backend(job),
            Self::Aes256(aes) => aes.encrypt_with_backend(job),
        }
    }
}

impl AeadKey {
    fn new(alg: AeadAlg, key: &[u8]) -> Option<Self> {
        let cipher = match alg {
            AeadAlg::Aes128Gcm16 => Cipher::Aes128(Aes128Enc::new_from_slice(key).ok()?),
            AeadAlg::Aes192Gcm16 => Cipher::Aes192(Aes192Enc::new_from_slice(key).ok()?),
            AeadAlg::Aes256Gcm16 => Cipher::Aes256(Aes256Enc::new_from_slice(key).ok()?),
        };
        let mut hash_key = Zeroizing::new([0; BLOCK_LEN]);
        let block: &mut Block = (&mut *hash_key).into();
        cipher.encrypt(One(block));
        zeroize_stack::<FRAMES>();
        let ghash = GHash::new(block);
        Some(Self { cipher, ghash })
    }

    #[inline]
    fn run(&self, nonce: &[u8; 12], blocks: &mut [[u8; BLOCK_LEN]], then: Then<'_>) {
        let mut copies_keys = false;
        self.cipher.encrypt(Counter { nonce, blocks, then, copies_keys: &mut copies_keys });
        if copies_keys {
            zeroize_stack::<FRAMES>();
        }
    }

    /// GHASH over the associated data, to go on with the ciphertext.
    #[inline(always)]
    fn hash(&self, aad: &[u8]) -> GHash {
        let mut ghash = self.ghash.clone();
        let (blocks, rest) = Array::<u8, U16>::slice_as_chunks(aad);
        if !blocks.is_empty() {
            ghash.update(blocks);
        }
        if !rest.is_empty() {
            ghash.update(&[Array(padded(rest).to_be_bytes())]);
        }
        ghash
    }
}

/// Fewer than 16 octets as a block, padded with zeros. In large steps: 8 and 12 octets are what ESP has.
#[inline]
fn padded(octets: &[u8]) -> u128 {
    let (mut block, mut shift, mut rest) = (0, 128u32, octets);
    if let Some((eight, behind)) = rest.split_first_chunk() {
        shift = shift.saturating_sub(64);
        block |= u128::from(u64::from_be_bytes(*eight)).wrapping_shl(shift);
        rest = behind;
    }
    if let Some((four, behind)) = rest.split_first_chunk() {
        shift = shift.saturating_sub(32);
        block |= u128::from(u32::from_be_bytes(*four)).wrapping_shl(shift);
        rest = behind;
    }
    for octet in rest {
        shift = shift.saturating_sub(8);
        block |= u128::from(*octet).wrapping_shl(shift);
    }
    block
}

/// The block with the lengths of associated data and text in bits, which ends the hash.
#[inline]
fn lengths(aad: &[u8], text_len: usize) -> Block {
    let bits = |len: usize| u128::from((len as u64).wrapping_mul(8));
    Array(((bits(aad.len()) << 64) | bits(text_len)).to_be_bytes())
}

/// A text with its tag behind it. The last block of the text may reach into the tag, so that it can be handled as a
/// whole.
struct Text<'t> {
    blocks: &'t mut [[u8; BLOCK_LEN]],
    /// Octets of the last block that are text; 0 when the text ends with a block.
    overhang: usize,
}

impl<'t> Text<'t> {
    /// `None`: shorter than a tag.
    #[inline]
    fn new(text_and_tag: &'t mut [u8]) -> Option<(Self, usize)> {
        let len = text_and_tag.len().checked_sub(BLOCK_LEN)?;
        let (blocks, _) = text_and_tag.as_chunks_mut();
        let blocks = blocks.get_mut(..len.div_ceil(BLOCK_LEN))?;
        Some((Self { blocks, overhang: len % BLOCK_LEN }, len))
    }

    /// Ends a hash with the text and the lengths.
    #[inline(always)]
    fn hash(&self, mut ghash: GHash, lengths: Block) -> [u8; BLOCK_LEN] {
        let whole = self.blocks.len().saturating_sub(usize::from(self.overhang != 0));
        let (whole, last) = self.blocks.split_at_checked(whole).unwrap_or_default();
        ghash.update(Array::cast_slice_from_core(whole));
        match last {
            [last] => {
                let beyond = (BLOCK_LEN as u32).saturating_sub(self.overhang as u32).saturating_mul(8);
                let text = u128::from_be_bytes(*last) & u128::MAX.wrapping_shl(beyond);
                ghash.update(&[Array(text.to_be_bytes()), lengths]);
            }
            _ => ghash.update(&[lengths]),
        }
        ghash.finalize().0
    }
}

impl PacketCrypto for RustCrypto {
    type AeadKey = AeadKey;
    type Place<T> = InPlace<T>;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<AeadKey> {
        AeadKey::new(alg, key)
    }

    #[inline]
    fn seal(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        let Some((text, len)) = Text::new(text_and_tag) else { return };
        let (ghash, lengths) = (key.hash(aad), lengths(aad, len));
        let mut mask = [0; BLOCK_LEN];
        key.run(nonce, text.blocks, Then::Seal(&mut mask));
        let sealed = xor(text.hash(ghash, lengths), mask);
        if let Some(tag) = text_and_tag.last_chunk_mut() {
            *tag = sealed;
        }
    }

    #[inline]
    fn open(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        let tag = *text_and_tag.last_chunk().ok_or(Forged)?;
        let (text, len) = Text::new(text_and_tag).ok_or(Forged)?;
        let mask = xor(text.hash(key.hash(aad), lengths(aad, len)), tag);
        let mut verdict = Err(Forged);
        key.run(nonce, text.blocks, Then::Open(&mask, &mut verdict));
        verdict
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

/// Counter mode over a packet. It runs inside the cipher's back end, so that the processor is asked for its instructions
/// once.
struct Counter<'p> {
    nonce: &'p [u8; 12],
    blocks: &'p mut [[u8; BLOCK_LEN]],
    then: Then<'p>,
    /// Told by the back end.
    copies_keys: &'p mut bool,
}

enum Then<'p> {
    /// Apply the key stream and hand out the mask of the tag.
    Seal(&'p mut [u8; BLOCK_LEN]),
    /// Apply the key stream only if this is the mask of the tag.
    Open(&'p [u8; BLOCK_LEN], &'p mut Result<(), Forged>),
}

impl BlockSizeUser for Counter<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Counter<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let Self { nonce, blocks, then, copies_keys } = self;
        *copies_keys = B::ParBlocksSize::USIZE != KEYS_BORROWED;
        let mut stream = KeyStream::new(backend, nonce);
        // Block 1 masks the tag, the text starts with block 2; the first batch holds both.
        let tag_mask = stream.first_batch(blocks.len());
        match then {
            Then::Seal(mask) => {
                stream.apply(blocks);
                *mask = tag_mask;
            }
            Then::Open(mask, verdict) => {
                if is_zero(xor(tag_mask, *mask)) {
                    stream.apply(blocks);
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

/// In constant time, and in two words: octet by octet takes a tenth of a short packet.
#[inline(always)]
fn is_zero(difference: [u8; BLOCK_LEN]) -> bool {
    let difference = u128::from_ne_bytes(difference);
    ((difference as u64) | ((difference >> 64) as u64)).ct_eq(&0).into()
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

    /// Fills the first batch for a text of `blocks` blocks and returns its first block, the mask of the tag.
    #[inline(always)]
    fn first_batch(&mut self, blocks: usize) -> [u8; BLOCK_LEN] {
        self.fill(blocks.saturating_add(1));
        self.batch.first().map_or([0; BLOCK_LEN], |block| block.0)
    }

    /// Combines the text with the rest of the first batch, then with as many batches as it takes.
    #[inline(always)]
    fn apply(&mut self, text: &mut [[u8; BLOCK_LEN]]) {
        let (mut left, mut skip) = (text, 1);
        loop {
            let count = B::ParBlocksSize::USIZE.saturating_sub(skip).min(left.len());
            let Some((now, later)) = left.split_at_mut_checked(count) else { return };
            for (block, stream) in now.iter_mut().zip(self.batch.iter().skip(skip)) {
                *block = xor(*block, stream.0);
            }
            if later.is_empty() {
                return;
            }
            self.fill(later.len());
            (left, skip) = (later, 0);
        }
    }
}
