//! AES-GCM (NIST SP 800-38D), with the text encrypted or, as GMAC, only authenticated.

use aes::Block;
use aes::cipher::{Array, BlockCipherEncBackend, BlockCipherEncClosure, BlockSizeUser, consts::U16};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;
use zeroize::{Zeroizing, zeroize_stack};

use super::aes_key::{BLOCK_LEN, Cipher};
use super::counter::{self, KeyStream, copies_keys, xor};
use crate::crypto::{Forged, split_icv};
use crate::wipe;

/// Octets of stack that a packet takes where the back end leaves round keys on it.
const FRAMES: usize = if cfg!(target_pointer_width = "64") { wipe::depth(3584, 28 * 1024) } else { 2048 };
/// Where it does not: those of GHASH, which is moved.
const HASH_FRAMES: usize = wipe::depth(1536, 16 * 1024);

/// Overwrites what a packet leaves on the stack.
#[inline]
fn wipe_frames(copies_keys: bool) {
    if copies_keys {
        zeroize_stack::<FRAMES>();
    } else {
        zeroize_stack::<HASH_FRAMES>();
    }
}

/// The key schedules of AES and GHASH; both crates wipe them on drop.
pub(super) struct Key {
    cipher: Cipher,
    ghash: GHash,
    /// Octets of the tag.
    tag_len: u8,
    /// Whether the text is encrypted.
    hides: bool,
}

impl Key {
    pub(super) fn new(key: &[u8], tag_len: usize, hides: bool) -> Option<Self> {
        let cipher = Cipher::new(key)?;
        let mut hash_key = Zeroizing::new([0; BLOCK_LEN]);
        cipher.encrypt_block(&mut hash_key);
        let block: &mut Block = (&mut *hash_key).into();
        let ghash = GHash::new(block);
        Some(Self { cipher, ghash, tag_len: u8::try_from(tag_len).ok()?, hides })
    }

    #[inline]
    pub(super) fn seal(&self, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        wipe_frames(wipe::apart(|| self.sealing(nonce, aad, text_and_tag)));
    }

    #[inline]
    pub(super) fn open(&self, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        let mut verdict = Err(Forged);
        wipe_frames(wipe::apart(|| self.opening(nonce, aad, text_and_tag, &mut verdict)));
        verdict
    }

    /// Whether round keys are left on the stack.
    #[inline(always)]
    fn sealing(&self, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> bool {
        if !self.hides {
            let Some((text, tag)) = split_icv(text_and_tag, self.tag_len) else { return false };
            let (mask, copies_keys) = self.mask(nonce);
            tag.iter_mut().zip(xor(self.hash_all(aad, text), mask)).for_each(|(to, from)| *to = from);
            return copies_keys;
        }
        let Some((text, len)) = Text::new(text_and_tag, self.tag_len) else { return false };
        let mut mask = [0; BLOCK_LEN];
        let behind = 2_u32.wrapping_add(text.blocks.len() as u32);
        let copies_keys = self.run(nonce, text.blocks, Then::Seal(&mut mask));
        if !text.rest.is_empty() {
            counter::apply(&self.cipher, first(nonce, behind), text.rest);
        }
        let sealed = xor(self.hash(aad, &text, len), mask);
        match text_and_tag.last_chunk_mut() {
            Some(tag) if usize::from(self.tag_len) == BLOCK_LEN => *tag = sealed,
            _ => {
                let tag = text_and_tag.get_mut(len..).unwrap_or_default();
                tag.iter_mut().zip(sealed).for_each(|(to, from)| *to = from);
            }
        }
        copies_keys
    }

    /// Likewise. What is too short stays forged.
    #[inline(always)]
    fn opening(&self, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8], verdict: &mut Result<(), Forged>) -> bool {
        if !self.hides {
            let Some((text, tag)) = split_icv(text_and_tag, self.tag_len) else { return false };
            let (mask, copies_keys) = self.mask(nonce);
            let expected = xor(self.hash_all(aad, text), mask);
            if expected.get(..tag.len()).is_some_and(|expected| expected.ct_eq(tag).into()) {
                *verdict = Ok(());
            }
            return copies_keys;
        }
        let Some((tag, counts)) = self.tag(text_and_tag) else { return false };
        let Some((text, len)) = Text::new(text_and_tag, self.tag_len) else { return false };
        let mask = xor(self.hash(aad, &text, len), tag);
        let behind = 2_u32.wrapping_add(text.blocks.len() as u32);
        let copies_keys = self.run(nonce, text.blocks, Then::Open { mask: &mask, counts, verdict });
        if verdict.is_ok() && !text.rest.is_empty() {
            counter::apply(&self.cipher, first(nonce, behind), text.rest);
        }
        copies_keys
    }

    /// The tag as a block, and which bits of that count.
    #[inline(always)]
    fn tag(&self, text_and_tag: &[u8]) -> Option<([u8; BLOCK_LEN], u128)> {
        if usize::from(self.tag_len) == BLOCK_LEN {
            return Some((*text_and_tag.last_chunk()?, u128::MAX));
        }
        let tag = text_and_tag.get(text_and_tag.len().checked_sub(self.tag_len.into())?..)?;
        let beyond = u32::from(self.tag_len).saturating_mul(8);
        let counts = u128::MAX.checked_shr(beyond).map_or(u128::MAX, |beyond| !beyond);
        Some((padded(tag).to_be_bytes(), u128::from_ne_bytes(counts.to_be_bytes())))
    }

    /// What hides the tag: the first block of the key stream.
    fn mask(&self, nonce: &[u8; 12]) -> ([u8; BLOCK_LEN], bool) {
        let mut mask = [0; BLOCK_LEN];
        let copies_keys = self.run(nonce, &mut [], Then::Seal(&mut mask));
        (mask, copies_keys)
    }

    #[inline]
    fn run(&self, nonce: &[u8; 12], blocks: &mut [[u8; BLOCK_LEN]], then: Then<'_>) -> bool {
        let mut copies_keys = false;
        self.cipher.encrypt(Counter { first: first(nonce, 1), blocks, then, copies_keys: &mut copies_keys });
        copies_keys
    }

    /// GHASH over the associated data and a ciphertext of so many octets.
    #[inline(always)]
    fn hash(&self, aad: &[u8], text: &Text<'_>, len: usize) -> [u8; BLOCK_LEN] {
        let mut ghash = self.ghash.clone();
        let (blocks, rest) = Array::<u8, U16>::slice_as_chunks(aad);
        if !blocks.is_empty() {
            ghash.update(blocks);
        }
        if !rest.is_empty() {
            ghash.update(&[Array(padded(rest).to_be_bytes())]);
        }
        text.hash(&mut ghash, lengths(aad.len(), len));
        ghash.finalize().0
    }

    /// GHASH over associated data in two pieces, and no text.
    fn hash_all(&self, aad: &[u8], text: &[u8]) -> [u8; BLOCK_LEN] {
        let lengths = lengths(aad.len().saturating_add(text.len()), 0);
        let mut ghash = self.ghash.clone();
        let (whole, begun) = Array::<u8, U16>::slice_as_chunks(aad);
        ghash.update(whole);
        // The block that the first piece has begun goes on with the second one.
        let (joint, text) = text.split_at_checked(BLOCK_LEN.saturating_sub(begun.len())).unwrap_or((text, &[]));
        if !begun.is_empty() || !joint.is_empty() {
            let mut block = [0; BLOCK_LEN];
            block.iter_mut().zip(begun.iter().chain(joint)).for_each(|(to, from)| *to = *from);
            ghash.update(&[Array(block)]);
        }
        let (whole, rest) = Array::<u8, U16>::slice_as_chunks(text);
        ghash.update(whole);
        if !rest.is_empty() {
            ghash.update(&[Array(padded(rest).to_be_bytes())]);
        }
        ghash.update(&[lengths]);
        ghash.finalize().0
    }
}

/// The counter block with this counter.
#[inline(always)]
fn first(nonce: &[u8; 12], counter: u32) -> u128 {
    let [n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11] = *nonce;
    let [c0, c1, c2, c3] = counter.to_be_bytes();
    u128::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, c0, c1, c2, c3])
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
fn lengths(aad_len: usize, text_len: usize) -> Block {
    let bits = |len: usize| u128::from((len as u64).wrapping_mul(8));
    Array(((bits(aad_len) << 64) | bits(text_len)).to_be_bytes())
}

/// A text with its tag behind it. The last block of the text may reach into a tag of a whole block, so that it can be handled
/// as a whole.
struct Text<'t> {
    blocks: &'t mut [[u8; BLOCK_LEN]],
    /// Octets of the last block that are text; 0 when the text ends with a block.
    overhang: usize,
    /// What is behind the blocks, in front of a tag that is too short to reach into.
    rest: &'t mut [u8],
}

impl<'t> Text<'t> {
    /// With the length of the text. `None`: shorter than a tag.
    #[inline]
    fn new(text_and_tag: &'t mut [u8], tag_len: u8) -> Option<(Self, usize)> {
        let len = text_and_tag.len().checked_sub(tag_len.into())?;
        if usize::from(tag_len) == BLOCK_LEN {
            let (blocks, _) = text_and_tag.as_chunks_mut();
            let blocks = blocks.get_mut(..len.div_ceil(BLOCK_LEN))?;
            return Some((Self { blocks, overhang: len % BLOCK_LEN, rest: &mut [] }, len));
        }
        let (blocks, rest) = text_and_tag.get_mut(..len)?.as_chunks_mut();
        Some((Self { blocks, overhang: 0, rest }, len))
    }

    /// Ends a hash with the text and the lengths.
    #[inline(always)]
    fn hash(&self, ghash: &mut GHash, lengths: Block) {
        let whole = self.blocks.len().saturating_sub(usize::from(self.overhang != 0));
        let (whole, last) = self.blocks.split_at_checked(whole).unwrap_or_default();
        ghash.update(Array::cast_slice_from_core(whole));
        match last {
            [last] => {
                let beyond = (BLOCK_LEN as u32).saturating_sub(self.overhang as u32).saturating_mul(8);
                let text = u128::from_be_bytes(*last) & u128::MAX.wrapping_shl(beyond);
                ghash.update(&[Array(text.to_be_bytes()), lengths]);
            }
            _ if !self.rest.is_empty() => ghash.update(&[Array(padded(self.rest).to_be_bytes()), lengths]),
            _ => ghash.update(&[lengths]),
        }
    }
}

/// Counter mode over a packet. It runs inside the cipher's back end, so that the processor is asked for its instructions
/// once.
struct Counter<'p> {
    first: u128,
    blocks: &'p mut [[u8; BLOCK_LEN]],
    then: Then<'p>,
    /// Told by the back end.
    copies_keys: &'p mut bool,
}

enum Then<'p> {
    /// Apply the key stream and hand out the mask of the tag.
    Seal(&'p mut [u8; BLOCK_LEN]),
    /// Apply the key stream only if this is the mask of the tag, in the bits that count.
    Open { mask: &'p [u8; BLOCK_LEN], counts: u128, verdict: &'p mut Result<(), Forged> },
}

impl BlockSizeUser for Counter<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Counter<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let Self { first, blocks, then, copies_keys: copies } = self;
        *copies = copies_keys::<B>();
        let mut stream = KeyStream::new(backend, first);
        // Block 1 masks the tag, the text starts with block 2; the first batch holds both.
        let tag_mask = stream.first_batch(blocks.len());
        match then {
            Then::Seal(mask) => {
                stream.apply(blocks, 0);
                *mask = tag_mask;
            }
            Then::Open { mask, counts, verdict } => {
                if is_zero(xor(tag_mask, *mask), counts) {
                    stream.apply(blocks, 0);
                    *verdict = Ok(());
                }
            }
        }
    }
}

/// In constant time, and in two words: octet by octet takes a tenth of a short packet.
#[inline(always)]
fn is_zero(difference: [u8; BLOCK_LEN], counts: u128) -> bool {
    let difference = u128::from_ne_bytes(difference) & counts;
    ((difference as u64) | ((difference >> 64) as u64)).ct_eq(&0).into()
}
