//! AES-CCM (NIST SP 800-38C) with the parameters of RFC 4309: nonces of 11 octets, lengths of 4.

use subtle::ConstantTimeEq;

use super::aes_key::{BLOCK_LEN, Cipher};
use super::chain::Chain;
use super::counter::{self, xor};
use crate::crypto::{Forged, split_icv};

/// The key schedule; the crate wipes it on drop.
pub(super) struct Key {
    cipher: Cipher,
    /// Octets of the tag.
    tag_len: u8,
}

/// Octets of a length, less one.
const LENGTH: u8 = 3;

impl Key {
    pub(super) fn new(key: &[u8], tag_len: usize) -> Option<Self> {
        Some(Self { cipher: Cipher::new(key)?, tag_len: u8::try_from(tag_len).ok()? })
    }

    pub(super) fn seal(&self, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        let Some((text, tag)) = split_icv(text_and_tag, self.tag_len) else { return };
        let Some(sealed) = self.tag(nonce, aad, text) else { return };
        counter::apply(&self.cipher, block(LENGTH, nonce, 1), text);
        tag.iter_mut().zip(sealed).for_each(|(to, from)| *to = from);
    }

    pub(super) fn open(&self, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        let (text, tag) = split_icv(text_and_tag, self.tag_len).ok_or(Forged)?;
        counter::apply(&self.cipher, block(LENGTH, nonce, 1), text);
        let expected = self.tag(nonce, aad, text).ok_or(Forged)?;
        let expected = expected.get(..tag.len()).ok_or(Forged)?;
        if expected.ct_eq(tag).into() { Ok(()) } else { Err(Forged) }
    }

    /// The tag of a text in clear. `None`: something is too long.
    fn tag(&self, nonce: &[u8; 12], aad: &[u8], text: &[u8]) -> Option<[u8; BLOCK_LEN]> {
        let has_aad = if aad.is_empty() { 0 } else { 0x40 };
        let flags = has_aad | (self.tag_len.saturating_sub(2) / 2) << 3 | LENGTH;
        let mut chain = Chain::new(&self.cipher);
        chain.put(&block(flags, nonce, u32::try_from(text.len()).ok()?).to_be_bytes());
        if !aad.is_empty() {
            // A length in two octets says no more (SP 800-38C A.2.2), and that of ESP is 12 at most.
            let len = u16::try_from(aad.len()).ok().filter(|len| *len < 0xff00)?;
            chain.put(&len.to_be_bytes());
            chain.put(aad);
            chain.padded();
        }
        chain.put(text);
        let mut mask = block(LENGTH, nonce, 0).to_be_bytes();
        self.cipher.encrypt_block(&mut mask);
        Some(xor(chain.padded(), mask))
    }
}

/// Flags, the last 11 octets of a nonce, and a number: a counter or a length.
fn block(flags: u8, nonce: &[u8; 12], number: u32) -> u128 {
    let [_, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11] = *nonce;
    let [c0, c1, c2, c3] = number.to_be_bytes();
    u128::from_be_bytes([flags, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, c0, c1, c2, c3])
}
