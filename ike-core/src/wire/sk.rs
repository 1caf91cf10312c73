//! The Encrypted payload (RFC 7296 §3.14) with an AEAD (RFC 5282) or with a cipher and a MAC, and the Encrypted Fragment
//! payload (RFC 7383 §2.5).

use core::fmt;

use ipsec_core::crypto::{CipherAlg, Iv, KeyPlace, NoKey as Unmade, Purpose, verify};
use zeroize::Zeroizing;

use super::chain::{Chain, Payload};
use super::header::Header;
use crate::crypto::{IkeCrypto, Protection};
use crate::error::{Discard, Malformed, NoKey, NoRoom};
use crate::registry::PayloadType;

mod fragment;
#[cfg(all(test, feature = "rustcrypto"))]
mod tests;

pub use fragment::{Fragment, Skf};

/// How an SK payload is laid out: IV, payloads, padding and its length, ICV.
///
/// ```
/// use ike_core::wire::sk::Layout;
/// use ipsec_core::crypto::AeadAlg;
/// let layout = Layout::of(AeadAlg::Aes256Gcm16.into());
/// assert_eq!(layout, Layout { iv_len: 8, icv_len: 16, block_len: 1 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Octets of the IV.
    pub iv_len: usize,
    /// Octets of the ICV.
    pub icv_len: usize,
    /// What the encrypted octets, padding and its length included, are a multiple of.
    pub block_len: usize,
}

impl Layout {
    /// The layout that goes with these algorithms.
    pub const fn of(protection: Protection) -> Self {
        match protection {
            // There is no message with an implicit IV (RFC 8750 §6): nobody gets a key for one.
            Protection::Aead(alg) | Protection::ImplicitIv(alg) => {
                Self { iv_len: alg.iv_len(), icv_len: alg.tag_len(), block_len: 1 }
            }
            Protection::CipherMac(cipher, integ) => {
                Self { iv_len: cipher.iv_len(), icv_len: integ.icv_len(), block_len: cipher.block_len() }
            }
        }
    }
}

/// Whether messages can be protected so: none stays readable, and each has an IV of its own (RFC 7296 §3.14, RFC 8750 §6).
pub(crate) const fn suits(protection: Protection) -> bool {
    protection.hides() && !matches!(protection, Protection::ImplicitIv(_))
}

/// The keys of one direction.
struct SkKey<C: IkeCrypto> {
    /// Made where they stay, and without them nothing is sealed or opened.
    keys: KeyPlace<Keys<C>>,
    /// In front of the IV; of one that is shorter these are the last octets.
    salt: Zeroizing<[u8; 4]>,
    protection: Protection,
}

enum Keys<C: IkeCrypto> {
    Aead(C::AeadKey),
    CipherMac(C::CipherKey, C::IntegKey),
}

impl<C: IkeCrypto> SkKey<C> {
    /// Without its keys.
    fn new(protection: Protection) -> Self {
        Self { keys: KeyPlace::EMPTY, salt: Zeroizing::new([0; 4]), protection }
    }

    /// `sk_e`: the cipher key, then its salt (RFC 5282 §7.1, RFC 5930 §2). `sk_a`: the integrity key, none for an AEAD.
    fn set(&mut self, crypto: &mut C, purpose: Purpose, sk_e: &[u8], sk_a: &[u8]) -> Result<(), NoKey> {
        let protection = self.protection;
        let lengths = (protection.encr_key_len(), protection.integ_key_len());
        if (sk_e.len(), sk_a.len()) != lengths || !suits(protection) {
            return Err(NoKey);
        }
        let (key, salt) = sk_e.split_at_checked(sk_e.len().saturating_sub(protection.salt_len())).ok_or(NoKey)?;
        let places = self.salt.iter_mut().rev();
        places.zip(salt.iter().rev()).for_each(|(to, from)| *to = *from);
        let make = || match protection {
            Protection::Aead(alg) | Protection::ImplicitIv(alg) => crypto.aead_key(alg, key).map(Keys::Aead),
            Protection::CipherMac(cipher, integ) => {
                Some(Keys::CipherMac(crypto.cipher_key(cipher, purpose, key)?, crypto.integ_key(integ, sk_a)?))
            }
        };
        self.keys.make(make).map_err(|Unmade| NoKey)
    }

    /// Salt and IV of an AEAD (RFC 5282 §4).
    fn nonce(&self, iv: &[u8]) -> Option<[u8; 12]> {
        self.first(iv, 0)?.first_chunk().copied()
    }

    /// The first block of a cipher: its IV, or nonce, IV and a counter that begins at 1 (RFC 5930 §2.1).
    fn block(&self, cipher: CipherAlg, iv: &[u8]) -> Option<[u8; 16]> {
        match cipher.iv() {
            Iv::Counter => self.first(iv, 1),
            Iv::Random => {
                let mut block = [0; 16];
                block.get_mut(..iv.len())?.copy_from_slice(iv);
                Some(block)
            }
        }
    }

    fn first(&self, iv: &[u8], counter: u32) -> Option<[u8; 16]> {
        let (salt, iv) = (u32::from_be_bytes(*self.salt), u64::from_be_bytes(iv.try_into().ok()?));
        Some((u128::from(salt) << 96 | u128::from(iv) << 32 | u128::from(counter)).to_be_bytes())
    }
}

/// The key of the messages we send.
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::crypto::{Protection, rustcrypto::RustCrypto};
/// use ike_core::registry::ExchangeType;
/// use ike_core::wire::{header::Header, sk::SkSender, writer::MessageWriter};
/// use ipsec_core::crypto::AeadAlg;
/// let mut crypto = RustCrypto::new(rand_core::UnwrapErr(SysRng), ipsec_core::crypto::rustcrypto::RustCrypto);
/// let protection = Protection::Aead(AeadAlg::Aes256Gcm16);
/// let mut sender = SkSender::new(&mut crypto, protection, &[7; 36], &[]).unwrap(); // SK_ei or SK_er, with the salt
/// let header = Header::new(1, 2, ExchangeType::INFORMATIONAL, 2);
/// let mut octets = [0; 256];
/// let mut message = MessageWriter::protected(&mut octets, &header, sender.layout()).unwrap();
/// message.delete_ike().unwrap();
/// let written = message.seal(&mut crypto, &mut sender).unwrap();
/// assert_eq!(written.outline.to_string(), "INFORMATIONAL request 2 [ D ]");
/// ```
pub struct SkSender<C: IkeCrypto> {
    key: SkKey<C>,
    /// The next IV where they count. A counter never repeats (RFC 5282 §4).
    iv: u64,
}

impl<C: IkeCrypto> fmt::Debug for SkSender<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkSender").finish_non_exhaustive()
    }
}

impl<C: IkeCrypto> SkSender<C> {
    /// A sender from the octets of SK_ei or SK_er (cipher key, then the salt of an AEAD) and of SK_ai or SK_ar, which is
    /// empty with an AEAD.
    ///
    /// # Errors
    /// [`NoKey`] when the engine does not take the keys.
    pub fn new(crypto: &mut C, protection: Protection, sk_e: &[u8], sk_a: &[u8]) -> Result<Self, NoKey> {
        let mut sender = Self::without_keys(protection);
        sender.set_keys(crypto, sk_e, sk_a)?;
        Ok(sender)
    }

    /// What is to stay where it is before it gets its keys: what a move leaves behind nobody wipes.
    pub(crate) fn without_keys(protection: Protection) -> Self {
        Self { key: SkKey::new(protection), iv: 0 }
    }

    pub(crate) fn set_keys(&mut self, crypto: &mut C, sk_e: &[u8], sk_a: &[u8]) -> Result<(), NoKey> {
        self.key.set(crypto, Purpose::Encrypt, sk_e, sk_a)
    }

    /// How its messages are laid out.
    pub const fn layout(&self) -> Layout {
        Layout::of(self.key.protection)
    }

    /// `payload`: room for the IV, text with padding and its length, room for the ICV.
    pub(super) fn seal(&mut self, crypto: &mut C, aad: &[u8], payload: &mut [u8]) -> Result<(), NoRoom> {
        let (Layout { iv_len, icv_len, .. }, key) = (self.layout(), &self.key);
        let (iv, text_and_icv) = payload.split_at_mut_checked(iv_len).ok_or(NoRoom)?;
        match key.keys.get().ok_or(NoRoom)? {
            Keys::Aead(aead) => {
                self.iv = count(self.iv, iv).ok_or(NoRoom)?;
                crypto.seal(aead, &key.nonce(iv).ok_or(NoRoom)?, aad, text_and_icv);
            }
            Keys::CipherMac(cipher_key, integ_key) => {
                let Protection::CipherMac(cipher, _) = key.protection else { return Err(NoRoom) };
                let text_len = text_and_icv.len().checked_sub(icv_len).ok_or(NoRoom)?;
                let (text, icv) = text_and_icv.split_at_mut_checked(text_len).ok_or(NoRoom)?;
                match cipher.iv() {
                    Iv::Counter => self.iv = count(self.iv, iv).ok_or(NoRoom)?,
                    // Nobody may foresee it (RFC 3602 §3).
                    Iv::Random => crypto.random(iv),
                }
                crypto.encrypt(cipher_key, &key.block(cipher, iv).ok_or(NoRoom)?, text);
                crypto.icv(integ_key, &[aad, iv, text], icv);
            }
        }
        Ok(())
    }
}

/// Writes an IV that counts. The next one; `None`: there is none, and this one must not be used.
fn count(next: u64, iv: &mut [u8]) -> Option<u64> {
    *iv.first_chunk_mut()? = next.to_be_bytes();
    next.checked_add(1)
}

/// The key of the messages the peer sends.
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::crypto::{Protection, rustcrypto::RustCrypto};
/// use ike_core::error::Discard;
/// use ike_core::registry::{ExchangeType, PayloadType};
/// use ike_core::wire::{header::Header, sk::{SkReceiver, SkSender}, writer::MessageWriter};
/// use ipsec_core::crypto::AeadAlg;
/// let mut crypto = RustCrypto::new(rand_core::UnwrapErr(SysRng), ipsec_core::crypto::rustcrypto::RustCrypto);
/// let protection = Protection::Aead(AeadAlg::Aes256Gcm16);
/// let mut sender = SkSender::new(&mut crypto, protection, &[7; 36], &[]).unwrap();
/// let mut octets = [0; 256];
/// let header = Header::new(1, 2, ExchangeType::INFORMATIONAL, 2);
/// let mut message = MessageWriter::protected(&mut octets, &header, sender.layout()).unwrap();
/// message.delete_ike().unwrap();
/// let len = message.seal(&mut crypto, &mut sender).unwrap().len;
///
/// let receiver = SkReceiver::new(&mut crypto, protection, &[7; 36], &[]).unwrap();
/// let mut forged = octets;
/// forged[len - 1] ^= 1;
/// assert_eq!(receiver.open(&mut crypto, &mut forged[..len]), Err(Discard::BadIcv));
/// assert_eq!(receiver.open(&mut crypto, &mut octets[..len]), Ok((PayloadType::DELETE, &[0, 0, 0, 8, 1, 0, 0, 0][..])));
/// ```
pub struct SkReceiver<C: IkeCrypto>(SkKey<C>);

impl<C: IkeCrypto> fmt::Debug for SkReceiver<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkReceiver").finish_non_exhaustive()
    }
}

impl<C: IkeCrypto> SkReceiver<C> {
    /// A receiver from the octets of SK_ei or SK_er (cipher key, then the salt of an AEAD) and of SK_ai or SK_ar, which is
    /// empty with an AEAD.
    ///
    /// # Errors
    /// [`NoKey`] when the engine does not take the keys.
    pub fn new(crypto: &mut C, protection: Protection, sk_e: &[u8], sk_a: &[u8]) -> Result<Self, NoKey> {
        let mut receiver = Self::without_keys(protection);
        receiver.set_keys(crypto, sk_e, sk_a)?;
        Ok(receiver)
    }

    /// What is to stay where it is before it gets its keys.
    pub(crate) fn without_keys(protection: Protection) -> Self {
        Self(SkKey::new(protection))
    }

    pub(crate) fn set_keys(&mut self, crypto: &mut C, sk_e: &[u8], sk_a: &[u8]) -> Result<(), NoKey> {
        self.0.set(crypto, Purpose::Decrypt, sk_e, sk_a)
    }

    /// Verifies and decrypts the SK payload that ends `message`, in place, and returns the type of its first inner payload
    /// and the inner payloads. Payloads before SK are authenticated, but nothing may come from them: they are skipped, unless
    /// the sender says that it must not be so of one that is unknown (RFC 7296 §2.5).
    ///
    /// # Errors
    /// [`Discard::Malformed`] when there is no SK payload, its length is none that it can have, or an unknown critical payload
    /// stands before it, [`Discard::BadIcv`], and
    /// [`Discard::BadPadding`]; after the last two `message` is unspecified.
    pub fn open<'m>(&self, crypto: &mut C, message: &'m mut [u8]) -> Result<(PayloadType, &'m [u8]), Discard> {
        let sk = last(message, PayloadType::SK)?;
        let (first_inner, sk_len) = (sk.next, sk.body.len());
        Ok((first_inner, self.open_end(crypto, message, sk_len)?))
    }

    /// Verifies and decrypts the SKF payload that ends `message`, in place (RFC 7383 §2.5). Whether it belongs to others, and
    /// whether all are there, is for the caller to say.
    ///
    /// # Errors
    /// As for [`open`](Self::open), with an SKF payload in the place of SK.
    pub fn open_fragment<'m>(&self, crypto: &mut C, message: &'m mut [u8]) -> Result<Fragment<'m>, Discard> {
        let skf = last(message, PayloadType::SKF)?;
        let (first, Skf { number, total, body }) = (skf.next, Skf::parse(skf.body)?);
        let body_len = body.len();
        Ok(Fragment { number, total, first, text: self.open_end(crypto, message, body_len)? })
    }

    /// Opens the last `len` octets of a message, which all before them are authenticated with. Gives the text without padding.
    fn open_end<'m>(&self, crypto: &mut C, message: &'m mut [u8], len: usize) -> Result<&'m [u8], Discard> {
        let aad_len = message.len().saturating_sub(len);
        let (aad, payload) = message.split_at_mut_checked(aad_len).ok_or(Malformed)?;
        let text = self.open_payload(crypto, aad, payload)?;
        let (&pad_len, padded) = text.split_last().ok_or(Malformed)?;
        let inner_len = padded.len().checked_sub(usize::from(pad_len)).ok_or(Discard::BadPadding)?;
        padded.get(..inner_len).ok_or(Discard::BadPadding)
    }

    /// `payload`: IV, encrypted text, ICV. Gives the text with padding and its length.
    fn open_payload<'m>(&self, crypto: &mut C, aad: &[u8], payload: &'m mut [u8]) -> Result<&'m [u8], Discard> {
        let Self(key) = self;
        let Layout { iv_len, icv_len, block_len } = Layout::of(key.protection);
        let (iv, text_and_icv) = payload.split_at_mut_checked(iv_len).ok_or(Malformed)?;
        // At least the pad length octet stands before the ICV.
        let text_len = text_and_icv.len().checked_sub(icv_len).filter(|len| *len > 0).ok_or(Malformed)?;
        match key.keys.get().ok_or(Discard::BadIcv)? {
            Keys::Aead(aead) => {
                let nonce = key.nonce(iv).ok_or(Malformed)?;
                crypto.open(aead, &nonce, aad, text_and_icv).map_err(|_| Discard::BadIcv)?;
                Ok(text_and_icv.get(..text_len).ok_or(Malformed)?)
            }
            Keys::CipherMac(cipher_key, integ_key) => {
                let Protection::CipherMac(cipher, integ) = key.protection else { return Err(Discard::BadIcv) };
                if !text_len.is_multiple_of(block_len) {
                    return Err(Discard::Malformed);
                }
                let (text, icv) = text_and_icv.split_at_mut_checked(text_len).ok_or(Malformed)?;
                verify(crypto, integ, integ_key, &[aad, iv, text], icv).map_err(|_| Discard::BadIcv)?;
                crypto.decrypt(cipher_key, &key.block(cipher, iv).ok_or(Malformed)?, text);
                Ok(text)
            }
        }
    }
}

/// The payload that ends a message; it has to be of this kind.
fn last(message: &[u8], kind: PayloadType) -> Result<Payload<'_>, Discard> {
    let header = Header::parse(message)?;
    let (_, body) = message.split_at_checked(Header::LEN).ok_or(Malformed)?;
    let mut last = None;
    for payload in Chain::new(header.next, body) {
        let payload = payload?;
        if payload.critical && !payload.kind.is_known() && payload.kind != kind {
            return Err(Discard::Malformed);
        }
        last = Some(payload);
    }
    Ok(last.filter(|last| last.kind == kind).ok_or(Malformed)?)
}
