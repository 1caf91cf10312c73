//! The seam between the protocol and a crypto engine.
//!
//! A provider is an engine passed as `&mut`; a key is whatever the engine makes of it: a software key schedule or the
//! number of a hardware slot. Nonces, associated data and the layout of packets are composed once, by this crate, so
//! every provider interoperates by construction.

mod algorithms;
pub mod conformance;
pub mod deferred;
pub mod ivs;
#[cfg(feature = "rustcrypto")]
pub mod rustcrypto;

use core::fmt;
use core::ops::{Deref, DerefMut};

use crate::error::texts;
use crate::wipe;
pub use algorithms::{AeadAlg, AeadMode, CipherAlg, IntegAlg, Iv, Protection};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// The ICV did not verify. Opaque on purpose: any more detail would be an oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Forged;

texts! {
    Forged: Self => "it is not authentic",
}

/// The engine makes no such key: it does not offer the algorithm, has no slot left, or the length is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoKey;

texts! {
    NoKey: Self => "the crypto engine makes no such key",
}

/// There is no random IV to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoIv;

texts! {
    NoIv: Self => "there is no random IV",
}

/// Where a key is made and stays. Its end overwrites all of it: what makes a key takes along what it finds, and leaves that in
/// octets which the key does not use and does not wipe. Once the key is made it must not be moved.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::crypto::{AeadAlg, KeyPlace, NoKey, PacketCrypto};
/// let mut place = KeyPlace::EMPTY;
/// assert_eq!(place.make(|| RustCrypto.aead_key(AeadAlg::Aes128Gcm16, &[7; 16])), Ok(()));
/// assert!(place.get().is_some());
/// assert_eq!(place.make(|| RustCrypto.aead_key(AeadAlg::Aes128Gcm16, &[7; 15])), Err(NoKey));
/// assert!(place.get().is_none());
/// ```
pub struct KeyPlace<K>(Option<Placed<K>>);

/// A key, which wipes itself when it is dropped.
struct Placed<K>(K);

/// For the place around it.
impl<K> Zeroize for Placed<K> {
    fn zeroize(&mut self) {}
}

impl<K> fmt::Debug for KeyPlace<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPlace").finish_non_exhaustive()
    }
}

impl<K> KeyPlace<K> {
    /// Without a key.
    pub const EMPTY: Self = Self(None);

    /// Has a key made here in the place of another one, and overwrites what the calls in between leave on the stack.
    ///
    /// # Errors
    /// [`NoKey`]; the place is empty.
    pub fn make(&mut self, make: impl FnOnce() -> Option<K>) -> Result<(), NoKey> {
        self.clear();
        wipe::after_making::<K, _>(|| self.0 = make().map(Placed));
        if self.0.is_some() { Ok(()) } else { Err(NoKey) }
    }

    /// The key.
    #[inline]
    pub fn get(&self) -> Option<&K> {
        self.0.as_ref().map(|Placed(key)| key)
    }

    /// The key is dropped where it is, and what is nothing then is overwritten from its first octet to its last.
    fn clear(&mut self) {
        self.0 = None;
        self.0.zeroize();
    }
}

impl<K> Drop for KeyPlace<K> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// In an implementation of [`PacketCrypto`], what an engine with AEADs alone has of ciphers and integrity algorithms: none. Its
/// SAs have no room for such keys, and no code.
#[macro_export]
macro_rules! aead_only {
    () => {
        type CipherKey = ::core::convert::Infallible;
        type IntegKey = ::core::convert::Infallible;

        fn cipher_key(
            &mut self,
            _: $crate::crypto::CipherAlg,
            _: $crate::crypto::Purpose,
            _: &[u8],
        ) -> Option<Self::CipherKey> {
            None
        }

        fn encrypt(&mut self, key: &Self::CipherKey, _: &[u8; 16], _: &mut [u8]) {
            match *key {}
        }

        fn decrypt(&mut self, key: &Self::CipherKey, _: &[u8; 16], _: &mut [u8]) {
            match *key {}
        }

        fn integ_key(&mut self, _: $crate::crypto::IntegAlg, _: &[u8]) -> Option<Self::IntegKey> {
            None
        }

        fn icv(&mut self, key: &Self::IntegKey, _: &[&[u8]], _: &mut [u8]) {
            match *key {}
        }
    };
}

/// What a cipher key is for: with blocks that are chained an engine may need another schedule for each.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::crypto::{CipherAlg, PacketCrypto, Purpose};
/// # #[cfg(feature = "cipher-mac")] {
/// let [there, back] = [Purpose::Encrypt, Purpose::Decrypt]
///     .map(|purpose| RustCrypto.cipher_key(CipherAlg::Aes128Cbc, purpose, &[7; 16]).unwrap());
/// let mut text = *b"a block.........";
/// RustCrypto.encrypt(&there, &[1; 16], &mut text);
/// RustCrypto.decrypt(&back, &[1; 16], &mut text);
/// assert_eq!(&text, b"a block.........");
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// [`PacketCrypto::encrypt`].
    Encrypt,
    /// [`PacketCrypto::decrypt`].
    Decrypt,
}

/// What a crypto engine does for packets.
///
/// It need not have every algorithm, but nobody asks it which: what IKE offers is what is configured. An SA of one that it lacks
/// is not installed ([`Refused::Algorithm`](crate::error::Refused::Algorithm)), so narrow the proposals to what it has.
///
/// Calls wait for the result. An engine beside the processor, which finishes later, is [`Deferred`](deferred::Deferred) besides.
///
/// An engine of your own has three functions to implement for AEADs, and says with [`aead_only`] that it has
/// no other algorithms. [`conformance::check`] holds it to known answers (leave out those of algorithms that it lacks):
///
/// ```
/// use ipsec_core::aead_only;
/// use ipsec_core::crypto::rustcrypto::{AeadKey, RustCrypto};
/// use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto, conformance};
/// /// Counts what it seals, and leaves the work to another engine.
/// struct Counting(u64);
///
/// impl PacketCrypto for Counting {
///     type AeadKey = AeadKey; // of a chip: the number of a key slot
///     type Place<T> = InPlace<T>;
///     aead_only!(); // no ciphers, no integrity algorithms
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
    /// A key of an AEAD the engine is ready to use. Not `Clone`: two copies of a sending key would repeat nonces. Wiped on drop.
    type AeadKey;

    /// A key of a cipher, for one purpose. As above.
    type CipherKey;

    /// A key of an integrity algorithm, with what of it is computed beforehand. As above.
    type IntegKey;

    /// Where SAs lie that have such keys: [`InPlace`], in the caller's slots. An engine for whoever has a heap may name a box,
    /// so that an empty slot is small. A key is made where its SA lies, and nothing moves it from there.
    type Place<T>: DerefMut<Target = T> + From<T>;

    /// Prepares `key` (`alg.key_len()` octets, without salt) for use. `None`: this engine does not offer `alg`, has no
    /// slot left, or the length is wrong.
    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey>;

    /// Encrypts `text_and_tag` in place and writes the tag into its last `alg.tag_len()` octets. A slice shorter than the tag
    /// is left as it is. CCM takes the last 11 octets of the nonce (RFC 4309 §4); of an algorithm that does not
    /// [hide](AeadAlg::hides) its text, the text is what follows in the associated data.
    fn seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]);

    /// Checks the tag in the last octets of `text_and_tag` and decrypts what stands before it, in place.
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

    /// Prepares `key` (`alg.key_len()` octets, without salt) for one purpose. `None` as above; nobody asks for a key of
    /// [`CipherAlg::Null`].
    fn cipher_key(&mut self, alg: CipherAlg, purpose: Purpose, key: &[u8]) -> Option<Self::CipherKey>;

    /// Encrypts `text` in place. In CBC mode that is whole blocks (what is behind them stays as it is), and `iv` begins with the
    /// IV; in counter mode any number of octets, and `iv` is the first counter block.
    fn encrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]);

    /// Decrypts `text` in place.
    fn decrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]);

    /// Prepares `key` (`alg.key_len()` octets) for use, so that no packet pays for that. `None` as above.
    fn integ_key(&mut self, alg: IntegAlg, key: &[u8]) -> Option<Self::IntegKey>;

    /// The ICV over the concatenation of `parts`, cut to the length of `icv`, which is at most `alg.icv_len()`.
    fn icv(&mut self, key: &Self::IntegKey, parts: &[&[u8]], icv: &mut [u8]);

    /// Fills an IV that nobody may know beforehand from a cryptographically secure generator. An AEAD of ESP needs none: its
    /// IVs count. [`ivs::WithIvs`] gives an engine a generator.
    ///
    /// # Errors
    /// [`NoIv`]: this engine has no generator, as none has of itself. Then no SA is installed that needs one to send.
    fn iv(&mut self, iv: &mut [u8]) -> Result<(), NoIv> {
        let _ = iv;
        Err(NoIv)
    }
}

/// What stands in front of an ICV, and the ICV. `None`: shorter than that.
#[inline]
pub(crate) fn split_icv(octets: &mut [u8], icv_len: u8) -> Option<(&mut [u8], &mut [u8])> {
    octets.split_at_mut_checked(octets.len().checked_sub(icv_len.into())?)
}

/// Octets of the longest ICV.
const MAX_ICV_LEN: usize = 32;

/// Compares an ICV of `alg` with what an engine computes, in constant time.
///
/// # Errors
/// [`Forged`], also when it has another length: a part of an ICV proves less.
///
/// ```
/// # #[cfg(feature = "cipher-mac")] {
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::crypto::{Forged, IntegAlg, PacketCrypto, verify};
/// let key = RustCrypto.integ_key(IntegAlg::HmacSha256, &[7; 32]).unwrap();
/// let mut icv = [0; 16];
/// RustCrypto.icv(&key, &[b"header", b"text"], &mut icv);
/// assert_eq!(verify(&mut RustCrypto, IntegAlg::HmacSha256, &key, &[b"headertext"], &icv), Ok(()));
/// assert_eq!(verify(&mut RustCrypto, IntegAlg::HmacSha256, &key, &[b"headertext"], &icv[..15]), Err(Forged));
/// assert_eq!(verify(&mut RustCrypto, IntegAlg::HmacSha256, &key, &[b"another text"], &icv), Err(Forged));
/// # }
/// ```
pub fn verify<P: PacketCrypto>(
    crypto: &mut P,
    alg: IntegAlg,
    key: &P::IntegKey,
    parts: &[&[u8]],
    icv: &[u8],
) -> Result<(), Forged> {
    let mut octets = [0; MAX_ICV_LEN];
    let expected = octets.get_mut(..alg.icv_len()).filter(|expected| expected.len() == icv.len()).ok_or(Forged)?;
    crypto.icv(key, parts, expected);
    if expected.ct_eq(icv).into() { Ok(()) } else { Err(Forged) }
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
    type CipherKey = P::CipherKey;
    type IntegKey = P::IntegKey;
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

    fn cipher_key(&mut self, alg: CipherAlg, purpose: Purpose, key: &[u8]) -> Option<Self::CipherKey> {
        P::cipher_key(self, alg, purpose, key)
    }

    #[inline]
    fn encrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        P::encrypt(self, key, iv, text);
    }

    #[inline]
    fn decrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        P::decrypt(self, key, iv, text);
    }

    fn integ_key(&mut self, alg: IntegAlg, key: &[u8]) -> Option<Self::IntegKey> {
        P::integ_key(self, alg, key)
    }

    #[inline]
    fn icv(&mut self, key: &Self::IntegKey, parts: &[&[u8]], icv: &mut [u8]) {
        P::icv(self, key, parts, icv);
    }

    fn iv(&mut self, iv: &mut [u8]) -> Result<(), NoIv> {
        P::iv(self, iv)
    }
}
