//! The seam between the protocol and a crypto engine.
//!
//! A provider is an engine passed as `&mut`; a key is whatever the engine makes of it: a software key schedule or the
//! number of a hardware slot. Nonces, associated data and the layout of packets are composed once, by this crate, so
//! every provider interoperates by construction.

pub mod conformance;
#[cfg(feature = "rustcrypto")]
pub mod rustcrypto;

use core::ops::{Deref, DerefMut};

use crate::wipe;

/// An AEAD algorithm of ESP (RFC 4106) and of the IKEv2 SK payload (RFC 5282).
///
/// ```
/// use ipsec_core::crypto::AeadAlg;
/// let alg = AeadAlg::Aes256Gcm16;
/// assert_eq!(alg.key_len() + alg.salt_len(), 36); // octets of keying material for each direction
/// assert_eq!(alg.iv_len() + alg.tag_len(), 24); // octets that it adds to each packet
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AeadAlg {
    /// AES-128-GCM with a 16-octet ICV.
    Aes128Gcm16,
    /// AES-192-GCM with a 16-octet ICV.
    Aes192Gcm16,
    /// AES-256-GCM with a 16-octet ICV.
    Aes256Gcm16,
}

impl AeadAlg {
    /// Octets of the cipher key, without the salt.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 16,
            Self::Aes192Gcm16 => 24,
            Self::Aes256Gcm16 => 32,
        }
    }

    /// Octets of the salt that follows the cipher key in keying material (RFC 4106 §8.1, RFC 5282 §7.1).
    pub const fn salt_len(self) -> usize {
        4
    }

    /// Octets of the explicit IV in the packet.
    pub const fn iv_len(self) -> usize {
        8
    }

    /// Octets of the ICV.
    pub const fn tag_len(self) -> usize {
        16
    }
}

/// The ICV did not verify. Opaque on purpose: any more detail would be an oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Forged;

/// The engine makes no such key: it does not offer the algorithm, has no slot left, or the length is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoKey;

/// There is no random IV to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoIv;

/// Copies of a key that calls leave on the stack that return it by value, until it is where it stays. The tests `wiped` search
/// the memory of a process for what is left.
const COPIES: usize = 4;
/// Octets of stack beside those copies.
const FRAMES: usize = 512;

/// Has an engine make a key where it stays, and overwrites what the calls in between leave on the stack.
///
/// # Errors
/// [`NoKey`]; `place` is empty.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::crypto::{AeadAlg, NoKey, PacketCrypto, place_key};
/// let mut place = None;
/// assert_eq!(place_key(&mut RustCrypto, AeadAlg::Aes128Gcm16, &[7; 16], &mut place), Ok(()));
/// assert!(place.is_some());
/// assert_eq!(place_key(&mut RustCrypto, AeadAlg::Aes128Gcm16, &[7; 15], &mut place), Err(NoKey));
/// assert!(place.is_none());
/// ```
pub fn place_key<P: PacketCrypto>(
    crypto: &mut P,
    alg: AeadAlg,
    key: &[u8],
    place: &mut Option<P::AeadKey>,
) -> Result<(), NoKey> {
    let octets = COPIES.saturating_mul(size_of::<P::AeadKey>()).saturating_add(FRAMES);
    wipe::after(octets, || *place = crypto.aead_key(alg, key));
    if place.is_some() { Ok(()) } else { Err(NoKey) }
}

/// What a crypto engine does for packets.
///
/// It need not have every algorithm, but nobody asks it which: what IKE offers is what is configured. An SA of one that it lacks
/// is not installed ([`Refused::Algorithm`](crate::error::Refused::Algorithm)), so narrow the proposals to what it has.
///
/// An engine of your own has three functions to implement; [`conformance::check`] holds it to known answers (leave out those of
/// algorithms that it lacks):
///
/// ```
/// use ipsec_core::crypto::rustcrypto::{AeadKey, RustCrypto};
/// use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto, conformance};
/// /// Counts what it seals, and leaves the work to another engine.
/// struct Counting(u64);
///
/// impl PacketCrypto for Counting {
///     type AeadKey = AeadKey; // of a chip: the number of a key slot
///     type Place<T> = InPlace<T>;
///
///     fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<AeadKey> {
///         RustCrypto.aead_key(alg, key)
///     }
///     fn seal(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
///         self.0 += 1;
///         RustCrypto.seal(key, nonce, aad, text_and_tag);
///     }
///     fn open(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
///         RustCrypto.open(key, nonce, aad, text_and_tag)
///     }
/// }
///
/// let mut engine = Counting(0);
/// for case in conformance::SP800_38D {
///     conformance::check(&mut engine, case, &mut [0; 76]).unwrap();
/// }
/// assert_eq!(engine.0, 5);
/// ```
pub trait PacketCrypto {
    /// A key the engine is ready to use. Not `Clone`: two copies of a sending key would repeat nonces. Wiped on drop.
    type AeadKey;

    /// Where SAs lie that have such keys: [`InPlace`], in the caller's slots. An engine for whoever has a heap may name a box,
    /// so that an empty slot is small. A key is made where its SA lies, and nothing moves it from there.
    type Place<T>: DerefMut<Target = T> + From<T>;

    /// Prepares `key` (`alg.key_len()` octets, without salt) for use. `None`: this engine does not offer `alg`, has no
    /// slot left, or the length is wrong.
    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey>;

    /// Encrypts `text_and_tag` in place and writes the tag into its last 16 octets. A slice shorter than the tag is
    /// left as it is.
    fn seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]);

    /// Checks the tag in the last 16 octets of `text_and_tag` and decrypts what stands before it, in place.
    ///
    /// # Errors
    /// [`Forged`]; the text is then unspecified and must not be used.
    fn open(
        &mut self,
        key: &Self::AeadKey,
        nonce: &[u8; 12],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Forged>;

    /// Fills an IV that nobody may know beforehand from a cryptographically secure generator. An AEAD of ESP needs none: its
    /// IVs count.
    ///
    /// # Errors
    /// [`NoIv`]: this engine has no generator, as none has of itself.
    fn iv(&mut self, iv: &mut [u8]) -> Result<(), NoIv> {
        let _ = iv;
        Err(NoIv)
    }
}

/// In the slot itself.
///
/// ```
/// use ipsec_core::crypto::InPlace;
/// assert_eq!(*InPlace::from(7_u64), 7);
/// assert_eq!(size_of::<InPlace<u64>>(), 8);
/// ```
#[derive(Debug)]
#[repr(transparent)]
pub struct InPlace<T>(T);

impl<T> From<T> for InPlace<T> {
    #[inline]
    fn from(content: T) -> Self {
        Self(content)
    }
}

impl<T> Deref for InPlace<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for InPlace<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<P: PacketCrypto> PacketCrypto for &mut P {
    type AeadKey = P::AeadKey;
    type Place<T> = P::Place<T>;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey> {
        P::aead_key(self, alg, key)
    }

    #[inline]
    fn seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        P::seal(self, key, nonce, aad, text_and_tag);
    }

    #[inline]
    fn open(
        &mut self,
        key: &Self::AeadKey,
        nonce: &[u8; 12],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Forged> {
        P::open(self, key, nonce, aad, text_and_tag)
    }

    fn iv(&mut self, iv: &mut [u8]) -> Result<(), NoIv> {
        P::iv(self, iv)
    }
}
