//! What protects the packets of an SA: how it lays them out, and its keys, in one value.
//!
//! ```text
//!  | SPI | sequence | IV | payload | 1 2 3 … | pad length | next header | ICV |
//!  `----- headroom ------'         `------------- tailroom -------------------'
//! ```
//!
//! An AEAD, a cipher with a MAC beside it and a MAC alone (RFC 4303 §3.2) differ in what stands here and in nothing else.

use core::fmt;

use crate::crypto::deferred::Deferred;
use crate::crypto::{self, CipherAlg, Forged, Iv, KeyPlace, NoIv, NoKey, PacketCrypto, Protection, Purpose, split_icv};
use crate::error::{NoRoom, Refused};
use crate::net::Spi;
use crate::wire::esp::HEADER_LEN;
use zeroize::Zeroizing;

/// Octets of the longest IV there is room for: a block of AES.
pub const MAX_IV_LEN: usize = 16;

/// Octets of pad length and next header.
pub(crate) const TRAILER_LEN: usize = 2;

/// Where things stand in a packet.
///
/// ```
/// use ipsec_core::buf::{HEADROOM, TAILROOM};
/// use ipsec_core::crypto::{AeadAlg, Iv, Protection};
/// use ipsec_core::transform::Layout;
/// let layout = Layout::of(Protection::Aead(AeadAlg::Aes256Gcm16));
/// assert_eq!((layout.headroom(), layout.tailroom(), layout.iv), (16, 21, Iv::Counter));
/// assert!(layout.headroom() <= HEADROOM && layout.tailroom() <= TAILROOM);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Octets of the IV in the packet, at most [`MAX_IV_LEN`].
    pub iv_len: u8,
    /// What the IV is made of.
    pub iv: Iv,
    /// Octets of the ICV.
    pub icv_len: u8,
    /// Payload and trailer are padded to a multiple of this many octets: a power of two, at least 4 (RFC 4303 §2.4).
    pub align: u8,
}

impl Layout {
    /// How packets are laid out.
    #[inline]
    pub const fn of(protection: Protection) -> Self {
        match protection {
            Protection::Aead(alg) => {
                Self { iv_len: alg.iv_len() as u8, iv: Iv::Counter, icv_len: alg.tag_len() as u8, align: 4 }
            }
            Protection::ImplicitIv(alg) => Self { iv_len: 0, iv: Iv::Counter, icv_len: alg.tag_len() as u8, align: 4 },
            Protection::CipherMac(cipher, integ) => Self {
                iv_len: cipher.iv_len() as u8,
                iv: cipher.iv(),
                icv_len: integ.icv_len() as u8,
                align: if cipher.block_len() > 4 { cipher.block_len() as u8 } else { 4 },
            },
        }
    }

    /// Octets in front of the payload: SPI, sequence number and IV.
    #[inline]
    pub const fn headroom(&self) -> usize {
        HEADER_LEN.saturating_add(self.iv_len as usize)
    }

    /// Octets behind the payload at most: padding, pad length, next header and ICV.
    #[inline]
    pub const fn tailroom(&self) -> usize {
        (self.align as usize).saturating_sub(1).saturating_add(TRAILER_LEN).saturating_add(self.icv_len as usize)
    }

    /// Octets of the shortest packet: it carries nothing.
    #[inline]
    pub const fn shortest(&self) -> usize {
        self.headroom().saturating_add(TRAILER_LEN).saturating_add(self.icv_len as usize)
    }

    /// Octets of padding behind a payload of `len` octets.
    #[inline]
    pub(crate) const fn pad_len(&self, len: usize) -> usize {
        len.wrapping_add(TRAILER_LEN).wrapping_neg() & (self.align as usize).wrapping_sub(1)
    }
}

/// Which packet of which SA: what is authenticated beside the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) spi: Spi,
    pub(crate) sequence: u64,
    pub(crate) esn: bool,
}

/// The keys of an SA, as an engine has them.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::crypto::{AeadAlg, PacketCrypto};
/// use ipsec_core::transform::Keys;
/// let keys = Keys::<RustCrypto>::Aead(RustCrypto.aead_key(AeadAlg::Aes128Gcm16, &[7; 16]).unwrap());
/// assert_eq!(format!("{keys:?}"), "Keys { .. }"); // nothing prints one
/// ```
pub enum Keys<P: PacketCrypto> {
    /// Of an AEAD.
    Aead(P::AeadKey),
    /// Of a cipher and a MAC.
    CipherMac(P::CipherKey, P::IntegKey),
    /// Of a MAC alone (RFC 2410).
    Mac(P::IntegKey),
}

impl<P: PacketCrypto> fmt::Debug for Keys<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl<P: PacketCrypto> Keys<P> {
    fn new(
        crypto: &mut P,
        protection: Protection,
        purpose: Purpose,
        encr_key: &[u8],
        integ_key: &[u8],
    ) -> Option<Self> {
        match protection {
            Protection::Aead(alg) | Protection::ImplicitIv(alg) => crypto.aead_key(alg, encr_key).map(Self::Aead),
            Protection::CipherMac(CipherAlg::Null, integ) => crypto.integ_key(integ, integ_key).map(Self::Mac),
            Protection::CipherMac(cipher, integ) => {
                let cipher = crypto.cipher_key(cipher, purpose, encr_key)?;
                Some(Self::CipherMac(cipher, crypto.integ_key(integ, integ_key)?))
            }
        }
    }
}

/// Algorithms with their keys.
pub(crate) struct Transform<K> {
    protection: Protection,
    /// Of the algorithms; here, so that no packet has it worked out.
    layout: Layout,
    /// Of one that is shorter these are the last octets.
    salt: Zeroizing<[u8; 4]>,
    /// Made where they stay, when all else of the SA is there; nothing passes without them.
    keys: KeyPlace<K>,
}

impl<K> fmt::Debug for Transform<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transform").field("protection", &self.protection).finish_non_exhaustive()
    }
}

impl<K> Transform<K> {
    /// Without key and salt.
    pub(crate) fn new(protection: Protection) -> Self {
        Self { protection, layout: Layout::of(protection), salt: Zeroizing::new([0; 4]), keys: KeyPlace::EMPTY }
    }

    pub(crate) const fn protection(&self) -> Protection {
        self.protection
    }

    #[inline]
    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Salt and IV (RFC 4106 §4, RFC 4309 §4, RFC 7634 §2).
    #[inline]
    fn nonce(&self, iv: u64) -> [u8; 12] {
        let salt = u32::from_be_bytes(*self.salt);
        let octets = (u128::from(salt) << 96 | u128::from(iv) << 32).to_be_bytes();
        octets.first_chunk().copied().unwrap_or_default()
    }
}

impl<P: PacketCrypto> Transform<Keys<P>> {
    /// Takes keys out of keying material: encryption key, its salt, integrity key (RFC 7296 §2.17, RFC 4106 §8.1). From here on
    /// it must not be moved: what a move leaves behind nobody wipes.
    ///
    /// # Errors
    /// [`Refused::KeyLength`], [`Refused::Algorithm`], [`Refused::NoIv`].
    pub(crate) fn set_keys(&mut self, crypto: &mut P, purpose: Purpose, keymat: &[u8]) -> Result<(), Refused> {
        let protection = self.protection;
        // Or each packet would be discarded.
        if purpose == Purpose::Encrypt && self.layout.iv == Iv::Random {
            crypto.iv(&mut [0]).map_err(|NoIv| Refused::NoIv)?;
        }
        let (encr, integ) = keymat
            .split_at_checked(protection.encr_key_len())
            .filter(|(_, integ)| integ.len() == protection.integ_key_len())
            .ok_or(Refused::KeyLength)?;
        let at = encr.len().saturating_sub(protection.salt_len());
        let (encr, salt) = encr.split_at_checked(at).ok_or(Refused::KeyLength)?;
        let places = self.salt.iter_mut().rev();
        places.zip(salt.iter().rev()).for_each(|(to, from)| *to = *from);
        let make = || Keys::new(crypto, protection, purpose, encr, integ);
        self.keys.make(make).map_err(|NoKey| Refused::Algorithm)
    }

    /// Encrypts a packet in place and writes its ICV. It is whole but for that: header, IV, payload with its trailer, and
    /// room for the ICV.
    ///
    /// # Errors
    /// [`NoRoom`]: it is not; it must not be sent.
    #[inline]
    pub(crate) fn seal(&self, crypto: &mut P, number: &Number, packet: &mut [u8]) -> Result<(), NoRoom> {
        match self.keys.get().ok_or(NoRoom)? {
            Keys::Aead(key) => {
                let (nonce, aad, text_and_tag) = self.aead_parts(number, packet).ok_or(NoRoom)?;
                crypto.seal(key, &nonce, aad.as_slice(), text_and_tag);
                Ok(())
            }
            Keys::CipherMac(cipher, integ) => {
                let (iv, text) = self.cipher_parts(packet).ok_or(NoRoom)?;
                crypto.encrypt(cipher, &iv, text);
                self.write_icv(crypto, integ, number, packet)
            }
            Keys::Mac(integ) => self.write_icv(crypto, integ, number, packet),
        }
    }

    /// Checks the ICV of a packet and decrypts it in place; header, IV and ICV stay.
    ///
    /// # Errors
    /// [`Forged`]; the content is unspecified then.
    #[inline]
    pub(crate) fn open(&self, crypto: &mut P, number: &Number, packet: &mut [u8]) -> Result<(), Forged> {
        match self.keys.get().ok_or(Forged)? {
            Keys::Aead(key) => {
                let (nonce, aad, text_and_tag) = self.aead_parts(number, packet).ok_or(Forged)?;
                crypto.open(key, &nonce, aad.as_slice(), text_and_tag)
            }
            Keys::CipherMac(cipher, integ) => {
                self.check_icv(crypto, integ, number, packet)?;
                let (iv, text) = self.cipher_parts(packet).ok_or(Forged)?;
                // Who made the ICV made the length too: a peer that cannot count.
                if text.len() & usize::from(self.layout.align).wrapping_sub(1) != 0 {
                    return Err(Forged);
                }
                crypto.decrypt(cipher, &iv, text);
                Ok(())
            }
            Keys::Mac(integ) => self.check_icv(crypto, integ, number, packet),
        }
    }

    /// Where what an AEAD works on begins.
    #[inline]
    pub(crate) fn aead_front(&self) -> usize {
        if self.protection.hides() { self.layout.headroom() } else { HEADER_LEN }
    }

    /// Nonce, associated data, and what is behind that. Of one that does not hide its text, the IV is a part of it
    /// (RFC 4543 §3.3).
    #[inline]
    fn aead_parts<'p>(&self, number: &Number, packet: &'p mut [u8]) -> Option<([u8; 12], Aad, &'p mut [u8])> {
        let iv_len = usize::from(self.layout.iv_len);
        let iv = match iv_len {
            // RFC 8750 §4: without ESN with zeros in front.
            0 => number.sequence,
            _ => u64::from_be_bytes(*packet.get(HEADER_LEN..)?.first_chunk()?),
        };
        Some((self.nonce(iv), Aad::new(number), packet.get_mut(self.aead_front()..)?))
    }

    /// The first block of a cipher, and what it encrypts.
    #[inline]
    fn cipher_parts<'p>(&self, packet: &'p mut [u8]) -> Option<([u8; MAX_IV_LEN], &'p mut [u8])> {
        let (whole, _) = split_icv(packet, self.layout.icv_len)?;
        let (front, text) = whole.split_at_mut_checked(self.layout.headroom())?;
        let iv = front.get(HEADER_LEN..)?;
        let first = match self.layout.iv {
            // RFC 3686 §4: nonce, IV, and a counter that begins at 1.
            Iv::Counter => {
                let (nonce, iv) = (u32::from_be_bytes(*self.salt), u64::from_be_bytes(*iv.first_chunk()?));
                (u128::from(nonce) << 96 | u128::from(iv) << 32 | 1).to_be_bytes()
            }
            Iv::Random => {
                let mut block = [0; MAX_IV_LEN];
                block.get_mut(..iv.len())?.copy_from_slice(iv);
                block
            }
        };
        Some((first, text))
    }

    #[inline]
    fn write_icv(&self, crypto: &mut P, key: &P::IntegKey, number: &Number, packet: &mut [u8]) -> Result<(), NoRoom> {
        let (text, icv) = split_icv(packet, self.layout.icv_len).ok_or(NoRoom)?;
        crypto.icv(key, &[&*text, High::new(number).as_slice()], icv);
        Ok(())
    }

    #[inline]
    fn check_icv(&self, crypto: &mut P, key: &P::IntegKey, number: &Number, packet: &mut [u8]) -> Result<(), Forged> {
        let Protection::CipherMac(_, alg) = self.protection else { return Err(Forged) };
        let (text, icv) = split_icv(packet, self.layout.icv_len).ok_or(Forged)?;
        crypto::verify(crypto, alg, key, &[&*text, High::new(number).as_slice()], icv)
    }
}

/// What an engine has begun.
pub(crate) struct Begun<J> {
    /// `None`: it is finished already.
    pub(crate) job: Option<J>,
    /// Where what it works on begins in the packet.
    pub(crate) front: usize,
}

impl<P: Deferred> Transform<Keys<P>> {
    /// Begins what [`seal`](Self::seal) does. What is no AEAD is done at once.
    ///
    /// # Errors
    /// `Ok(None)`: the engine has no place for it; [`NoRoom`] as there.
    pub(crate) fn begin_seal(
        &self,
        crypto: &mut P,
        number: &Number,
        packet: &mut [u8],
    ) -> Result<Option<Begun<P::Job>>, NoRoom> {
        let front = self.aead_front();
        let Some(Keys::Aead(key)) = self.keys.get() else {
            return self.seal(crypto, number, packet).map(|()| Some(Begun { job: None, front }));
        };
        let (nonce, aad, text_and_tag) = self.aead_parts(number, packet).ok_or(NoRoom)?;
        let job = crypto.begin_seal(key, &nonce, aad.as_slice(), text_and_tag);
        Ok(job.map(|job| Begun { job: Some(job), front }))
    }

    /// Begins what [`open`](Self::open) does, likewise.
    ///
    /// # Errors
    /// `Ok(None)`: the engine has no place for it; [`Forged`] as there.
    pub(crate) fn begin_open(
        &self,
        crypto: &mut P,
        number: &Number,
        packet: &mut [u8],
    ) -> Result<Option<Begun<P::Job>>, Forged> {
        let front = self.aead_front();
        let Some(Keys::Aead(key)) = self.keys.get() else {
            return self.open(crypto, number, packet).map(|()| Some(Begun { job: None, front }));
        };
        let (nonce, aad, text_and_tag) = self.aead_parts(number, packet).ok_or(Forged)?;
        let job = crypto.begin_open(key, &nonce, aad.as_slice(), text_and_tag);
        Ok(job.map(|job| Begun { job: Some(job), front }))
    }
}

/// What a MAC covers behind the packet: the high half of an extended sequence number, which is not sent (RFC 4303 §2.2.1).
struct High {
    octets: [u8; 4],
    esn: bool,
}

impl High {
    #[inline]
    fn new(number: &Number) -> Self {
        Self { octets: ((number.sequence >> 32) as u32).to_be_bytes(), esn: number.esn }
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        if self.esn { &self.octets } else { &[] }
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
