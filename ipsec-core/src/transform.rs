//! What protects the packets of an SA: how it lays them out, and its keys, in one value.
//!
//! ```text
//!  | SPI | sequence | IV | payload | 1 2 3 … | pad length | next header | ICV |
//!  `----- headroom ------'         `------------- tailroom -------------------'
//! ```
//!
//! An AEAD, a cipher with a MAC beside it and a MAC alone (RFC 4303 §3.2) differ in what stands here and in nothing else.

use core::fmt;

use crate::crypto::{self, AeadAlg, Forged, NoKey, PacketCrypto};
use crate::error::{NoRoom, Refused};
use crate::net::Spi;
use crate::wire::esp::HEADER_LEN;
use zeroize::Zeroizing;

/// Octets of the longest IV there is room for: a block of AES.
pub const MAX_IV_LEN: usize = 16;

/// Octets of pad length and next header.
pub(crate) const TRAILER_LEN: usize = 2;

/// What an IV is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iv {
    /// The sequence number: it must not repeat, and may be known (RFC 4106 §3.1).
    Counter,
    /// Random octets: nobody may know it beforehand (RFC 3602 §3).
    Random,
}

/// Where things stand in a packet.
///
/// ```
/// use ipsec_core::buf::{HEADROOM, TAILROOM};
/// use ipsec_core::crypto::AeadAlg;
/// use ipsec_core::transform::{Iv, Layout};
/// let layout = Layout::of(AeadAlg::Aes256Gcm16);
/// assert_eq!((layout.headroom(), layout.tailroom(), layout.iv), (16, 21, Iv::Counter));
/// assert!(layout.headroom() <= HEADROOM && layout.tailroom() <= TAILROOM);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Octets of the IV in the packet, at most [`MAX_IV_LEN`].
    pub iv_len: usize,
    /// What the IV is made of.
    pub iv: Iv,
    /// Octets of the ICV.
    pub icv_len: usize,
    /// Payload and trailer are padded to a multiple of this many octets: a power of two, at least 4 (RFC 4303 §2.4).
    pub align: usize,
}

impl Layout {
    /// How packets of an AEAD are laid out.
    #[inline]
    pub const fn of(alg: AeadAlg) -> Self {
        Self { iv_len: alg.iv_len(), iv: Iv::Counter, icv_len: alg.tag_len(), align: 4 }
    }

    /// Octets in front of the payload: SPI, sequence number and IV.
    #[inline]
    pub const fn headroom(&self) -> usize {
        HEADER_LEN.saturating_add(self.iv_len)
    }

    /// Octets behind the payload at most: padding, pad length, next header and ICV.
    #[inline]
    pub const fn tailroom(&self) -> usize {
        self.align.saturating_sub(1).saturating_add(TRAILER_LEN).saturating_add(self.icv_len)
    }

    /// Octets of the shortest packet: it carries nothing.
    #[inline]
    pub const fn shortest(&self) -> usize {
        self.headroom().saturating_add(TRAILER_LEN).saturating_add(self.icv_len)
    }

    /// Octets of padding behind a payload of `len` octets.
    #[inline]
    pub(crate) const fn pad_len(&self, len: usize) -> usize {
        len.wrapping_add(TRAILER_LEN).wrapping_neg() & self.align.wrapping_sub(1)
    }
}

/// Which packet of which SA: what is authenticated beside the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) spi: Spi,
    pub(crate) sequence: u64,
    pub(crate) esn: bool,
}

/// Layout and keys.
pub(crate) trait Transform<P: PacketCrypto> {
    fn layout(&self) -> Layout;

    /// Encrypts a packet in place and writes its ICV. It is whole but for that: header, IV, payload with its trailer, and
    /// room for the ICV.
    ///
    /// # Errors
    /// [`NoRoom`]: it is not; it must not be sent.
    fn seal(&self, crypto: &mut P, number: &Number, packet: &mut [u8]) -> Result<(), NoRoom>;

    /// Checks the ICV of a packet and decrypts it in place; header, IV and ICV stay.
    ///
    /// # Errors
    /// [`Forged`]; the content is unspecified then.
    fn open(&self, crypto: &mut P, number: &Number, packet: &mut [u8]) -> Result<(), Forged>;
}

/// An AEAD with its key and its salt (RFC 4106).
pub(crate) struct Aead<K> {
    alg: AeadAlg,
    /// Made where it stays, when all else of the SA is there; nothing passes without it.
    key: Option<K>,
    salt: Zeroizing<[u8; 4]>,
}

impl<K> fmt::Debug for Aead<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aead").finish_non_exhaustive()
    }
}

impl<K> Aead<K> {
    /// Without key and salt.
    pub(crate) fn new(alg: AeadAlg) -> Self {
        Self { alg, key: None, salt: Zeroizing::new([0; 4]) }
    }

    /// Takes the key and the salt that follows it out of keying material (RFC 4106 §8.1). From here on it must not be moved:
    /// what a move leaves behind nobody wipes.
    ///
    /// # Errors
    /// [`Refused::KeyLength`], [`Refused::Algorithm`].
    pub(crate) fn set_keys<P>(&mut self, crypto: &mut P, keymat: &[u8]) -> Result<(), Refused>
    where
        P: PacketCrypto<AeadKey = K>,
    {
        let (key, salt) = keymat.split_at_checked(self.alg.key_len()).ok_or(Refused::KeyLength)?;
        let salt: &[u8; 4] = salt.try_into().map_err(|_| Refused::KeyLength)?;
        self.salt.copy_from_slice(salt);
        crypto::place_key(crypto, self.alg, key, &mut self.key).map_err(|NoKey| Refused::Algorithm)
    }

    pub(crate) const fn alg(&self) -> AeadAlg {
        self.alg
    }

    /// Salt and IV (RFC 4106 §4), with what is behind the IV.
    #[inline]
    fn nonce<'p>(&self, packet: &'p mut [u8]) -> Option<([u8; 12], &'p mut [u8])> {
        let (front, text_and_tag) = packet.split_at_mut_checked(Layout::of(self.alg).headroom())?;
        let (salt, iv) = (u32::from_be_bytes(*self.salt), u64::from_be_bytes(*front.last_chunk()?));
        let octets = (u128::from(salt) << 96 | u128::from(iv) << 32).to_be_bytes();
        Some((*octets.first_chunk()?, text_and_tag))
    }
}

impl<P: PacketCrypto> Transform<P> for Aead<P::AeadKey> {
    #[inline]
    fn layout(&self) -> Layout {
        Layout::of(self.alg)
    }

    #[inline]
    fn seal(&self, crypto: &mut P, number: &Number, packet: &mut [u8]) -> Result<(), NoRoom> {
        let (nonce, text_and_tag) = self.nonce(packet).ok_or(NoRoom)?;
        let key = self.key.as_ref().ok_or(NoRoom)?;
        crypto.seal(key, &nonce, Aad::new(number).as_slice(), text_and_tag);
        Ok(())
    }

    #[inline]
    fn open(&self, crypto: &mut P, number: &Number, packet: &mut [u8]) -> Result<(), Forged> {
        let (nonce, text_and_tag) = self.nonce(packet).ok_or(Forged)?;
        let key = self.key.as_ref().ok_or(Forged)?;
        crypto.open(key, &nonce, Aad::new(number).as_slice(), text_and_tag)
    }
}

/// Additional authenticated data: SPI and the 32- or 64-bit sequence number (RFC 4106 §5). Put together as a number, which
/// is stored in large steps: what is stored octet by octet has to be waited for when it is read.
struct Aad {
    octets: [u8; 16],
    esn: bool,
}

impl Aad {
    #[inline]
    fn new(number: &Number) -> Self {
        let (spi, sequence) = (u64::from(number.spi.get()) << 32, number.sequence);
        let (first, last) = match number.esn {
            true => (spi | sequence >> 32, sequence << 32),
            false => (spi | u64::from(sequence as u32), 0),
        };
        Self { octets: (u128::from(first) << 64 | u128::from(last)).to_be_bytes(), esn: number.esn }
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        let len = if self.esn { 12 } else { 8 };
        self.octets.get(..len).unwrap_or_default()
    }
}
