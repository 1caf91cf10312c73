//! The Encrypted payload (RFC 7296 §3.14) with an AEAD (RFC 5282) or with a cipher and a MAC, and the Encrypted Fragment
//! payload (RFC 7383 §2.5).

use core::fmt;

use ipsec_core::crypto::{CipherAlg, Iv, NoKey as Unmade, Purpose, place_key, verify};
use ipsec_core::wire::cursor::Reader;
use zeroize::Zeroizing;

use super::chain::{Chain, GENERIC_LEN, Payload};
use super::header::Header;
use crate::crypto::{IkeCrypto, Protection};
use crate::error::{Discard, Malformed, NoKey, NoRoom};
use crate::registry::PayloadType;

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
    keys: Option<Keys<C>>,
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
        Self { keys: None, salt: Zeroizing::new([0; 4]), protection }
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
        place_key(&mut self.keys, make).map_err(|Unmade| NoKey)
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
        match key.keys.as_ref().ok_or(NoRoom)? {
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
        match key.keys.as_ref().ok_or(Discard::BadIcv)? {
            Keys::Aead(aead) => {
                let nonce = key.nonce(iv).ok_or(Malformed)?;
                crypto.open(aead, &nonce, aad, text_and_icv).map_err(|_| Discard::BadIcv)?;
                Ok(text_and_icv.get(..text_len).ok_or(Malformed)?)
            }
            Keys::CipherMac(cipher_key, integ_key) => {
                let Protection::CipherMac(cipher, _) = key.protection else { return Err(Discard::BadIcv) };
                if !text_len.is_multiple_of(block_len) {
                    return Err(Discard::Malformed);
                }
                let (text, icv) = text_and_icv.split_at_mut_checked(text_len).ok_or(Malformed)?;
                verify(crypto, integ_key, &[aad, iv, text], icv).map_err(|_| Discard::BadIcv)?;
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

/// A fragment of a message, decrypted (RFC 7383 §2.5): the texts of all of them, one behind the other, are its payloads.
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::crypto::{Protection, rustcrypto::RustCrypto};
/// use ike_core::registry::{ExchangeType, PayloadType};
/// use ike_core::wire::{header::Header, sk::{Fragment, SkReceiver}};
/// use ipsec_core::crypto::{AeadAlg, PacketCrypto, rustcrypto::RustCrypto as Packets};
/// let header = Header { next: PayloadType::SKF, length: 64, ..Header::new(1, 2, ExchangeType::IKE_AUTH, 1) };
/// let mut message = header.to_octets().to_vec();
/// message.extend([41, 0, 0, 36, 0, 1, 0, 2]); // a Notify payload begins in it; the first of two
/// message.extend([0; 8]); // IV
/// message.extend([0, 0, 0, 0]); // the text, and no padding
/// message.extend([0; 16]); // room for the ICV
/// let (before, rest) = message.split_at_mut(36);
/// let key = Packets.aead_key(AeadAlg::Aes128Gcm16, &[7; 16]).unwrap();
/// Packets.seal(&key, &[7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0], before, &mut rest[8..]);
///
/// let mut crypto = RustCrypto::new(rand_core::UnwrapErr(SysRng), Packets);
/// let receiver = SkReceiver::new(&mut crypto, Protection::Aead(AeadAlg::Aes128Gcm16), &[7; 20], &[]).unwrap();
/// let opened = receiver.open_fragment(&mut crypto, &mut message).unwrap();
/// assert_eq!(opened, Fragment { number: 1, total: 2, first: PayloadType::NOTIFY, text: &[0, 0, 0] });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment<'m> {
    /// Number of this fragment, from 1.
    pub number: u16,
    /// How many there are.
    pub total: u16,
    /// Type of the first payload of the message; only the first fragment says it.
    pub first: PayloadType,
    /// A part of the message's payloads.
    pub text: &'m [u8],
}

/// An Encrypted Fragment payload, not decrypted.
///
/// ```
/// use ike_core::wire::sk::Skf;
/// assert_eq!(Skf::parse(&[0, 1, 0, 2, 0xaa]), Ok(Skf { number: 1, total: 2, body: &[0xaa] }));
/// assert!(Skf::parse(&[0, 3, 0, 2]).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skf<'m> {
    /// Number of this fragment, from 1.
    pub number: u16,
    /// How many there are.
    pub total: u16,
    /// IV, encrypted text and ICV.
    pub body: &'m [u8],
}

impl<'m> Skf<'m> {
    /// Octets before the IV, with the generic header.
    pub const HEADER_LEN: usize = GENERIC_LEN + 4;

    /// Reads the body of an SKF payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is too short, or the number is not one of 1 to `total`.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let (number, total) = (reader.u16()?, reader.u16()?);
        if number == 0 || number > total {
            return Err(Malformed);
        }
        Ok(Self { number, total, body: reader.rest() })
    }
}

#[cfg(all(test, feature = "rustcrypto"))]
mod tests {
    extern crate std;
    use core::convert::Infallible;
    use std::vec::Vec;

    use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
    use ipsec_core::crypto::{AeadAlg, PacketCrypto};
    use rand_core::{TryCryptoRng, TryRng};

    use super::*;
    use crate::crypto::rustcrypto::RustCrypto;
    use crate::registry::ExchangeType;
    use crate::wire::writer::MessageWriter;

    struct NoRandom;

    impl TryRng for NoRandom {
        type Error = Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            panic!("nothing here is random")
        }
        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            panic!("nothing here is random")
        }
        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
            panic!("nothing here is random")
        }
    }

    impl TryCryptoRng for NoRandom {}

    const GCM: Protection = Protection::Aead(AeadAlg::Aes128Gcm16);
    const SK_E: [u8; 20] = *b"cipher key......salt";
    const HEADER: Header = Header::new(1, 2, ExchangeType::INFORMATIONAL, 3);

    fn engine() -> RustCrypto<NoRandom> {
        RustCrypto::new(NoRandom, Packets)
    }

    fn receiver() -> SkReceiver<RustCrypto<NoRandom>> {
        SkReceiver::new(&mut engine(), GCM, &SK_E, &[]).unwrap()
    }

    /// A message whose SK payload has this text, pad length included, rightly sealed.
    fn sealed(text: &[u8]) -> Vec<u8> {
        sealed_last(46, &[], text)
    }

    /// The same with a payload of this kind, which has something in clear before its IV.
    fn sealed_last(kind: u8, clear: &[u8], text: &[u8]) -> Vec<u8> {
        let mut message = HEADER.to_octets().to_vec();
        message[16] = kind;
        message.extend([42, 0]);
        message.extend(u16::try_from(4 + clear.len() + 8 + text.len() + 16).unwrap().to_be_bytes());
        message.extend(clear);
        message.extend(7u64.to_be_bytes());
        message.extend(text);
        message.extend([0; 16]);
        let len = u32::try_from(message.len()).unwrap();
        message[24..28].copy_from_slice(&len.to_be_bytes());
        let (aad, rest) = message.split_at_mut(32 + clear.len());
        let key = engine().aead_key(AeadAlg::Aes128Gcm16, &SK_E[..16]).unwrap();
        let nonce = *b"salt\0\0\0\0\0\0\0\x07";
        engine().seal(&key, &nonce, aad, &mut rest[8..]);
        message
    }

    #[test]
    fn what_is_sealed_opens_and_no_iv_comes_twice() {
        let mut crypto = engine();
        let mut sender = SkSender::new(&mut crypto, GCM, &SK_E, &[]).unwrap();
        for iv in 0..3u64 {
            let mut buf = [0; 128];
            let mut out = MessageWriter::protected(&mut buf, &HEADER, Layout::of(GCM)).unwrap();
            out.delete_ike().unwrap();
            let len = out.seal(&mut crypto, &mut sender).unwrap().len;
            assert_eq!(buf[32..40], iv.to_be_bytes());
            let opened = receiver().open(&mut crypto, &mut buf[..len]);
            assert_eq!(opened, Ok((PayloadType::DELETE, &[0, 0, 0, 8, 1, 0, 0, 0][..])));
        }
        sender.iv = u64::MAX;
        let mut buf = [0; 128];
        let out = MessageWriter::protected(&mut buf, &HEADER, Layout::of(GCM)).unwrap();
        assert_eq!(out.seal(&mut crypto, &mut sender), Err(NoRoom));
    }

    #[test]
    fn a_message_in_clear_is_not_sealed() {
        let mut crypto = engine();
        let mut sender = SkSender::new(&mut crypto, GCM, &SK_E, &[]).unwrap();
        let mut buf = [0; 128];
        let mut out = MessageWriter::new(&mut buf, &HEADER).unwrap();
        out.vendor(&[1; 32]).unwrap();
        assert_eq!(out.seal(&mut crypto, &mut sender), Err(NoRoom));
    }

    #[test]
    fn an_sk_payload_without_payloads_opens() {
        let mut crypto = engine();
        let mut sender = SkSender::new(&mut crypto, GCM, &SK_E, &[]).unwrap();
        let mut buf = [0; 64];
        let len = MessageWriter::protected(&mut buf, &HEADER, Layout::of(GCM))
            .unwrap()
            .seal(&mut crypto, &mut sender)
            .unwrap()
            .len;
        assert_eq!(receiver().open(&mut crypto, &mut buf[..len]), Ok((PayloadType::NONE, &[][..])));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let message = sealed(&[0, 0, 0, 8, 1, 0, 0, 0, 0]);
        assert!(receiver().open(&mut engine(), &mut message.clone()).is_ok());
        for at in 0..message.len() {
            for bit in 0..8 {
                let mut message = message.clone();
                message[at] ^= 1 << bit;
                assert!(receiver().open(&mut engine(), &mut message).is_err(), "{at} {bit}");
            }
        }
    }

    #[test]
    fn cut_anywhere_it_is_malformed() {
        let message = sealed(&[0, 0, 0, 8, 1, 0, 0, 0, 0]);
        for len in 0..message.len() {
            let mut message = message[..len].to_vec();
            assert_eq!(receiver().open(&mut engine(), &mut message), Err(Discard::Malformed));
            if let Some(length) = message.get_mut(24..28) {
                length.copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
            }
            assert_eq!(receiver().open(&mut engine(), &mut message), Err(Discard::Malformed));
            // The SK payload says what is left, too: then the text or the ICV is missing.
            if let Some(length) = message.get_mut(30..32) {
                length.copy_from_slice(&u16::try_from(len - 28).unwrap().to_be_bytes());
                let expected = if len < 32 + 8 + 17 { Discard::Malformed } else { Discard::BadIcv };
                assert_eq!(receiver().open(&mut engine(), &mut message), Err(expected), "{len}");
            }
        }
    }

    #[test]
    fn atk_10_pad_length_beyond_the_text_is_refused_for_every_value() {
        for text_len in 1..40usize {
            for pad_len in 0..=u8::MAX {
                let mut text = [0xee].repeat(text_len);
                text[text_len - 1] = pad_len;
                let mut message = sealed(&text);
                let opened = receiver().open(&mut engine(), &mut message).map(|(_, inner)| inner.len());
                let inner = (text_len - 1).checked_sub(usize::from(pad_len));
                assert_eq!(opened, inner.ok_or(Discard::BadPadding));
            }
        }
    }

    #[test]
    fn what_stands_before_the_sk_payload_is_skipped_unless_it_is_unknown_and_critical() {
        for (kind, critical, opens) in [(200, false, true), (200, true, false), (43, false, true), (43, true, true)] {
            let mut message = HEADER.to_octets().to_vec();
            message[16] = kind;
            message.extend([46, if critical { 0x80 } else { 0 }, 0, 4]);
            message.extend([42, 0, 0, 4 + 8 + 1 + 16]);
            message.extend([0; 7]);
            message.extend([7, 0]);
            message.extend([0; 16]);
            message[27] = u8::try_from(message.len()).unwrap();
            let (aad, rest) = message.split_at_mut(36);
            let key = engine().aead_key(AeadAlg::Aes128Gcm16, &SK_E[..16]).unwrap();
            engine().seal(&key, b"salt\0\0\0\0\0\0\0\x07", aad, &mut rest[8..]);
            let opened = receiver().open(&mut engine(), &mut message).map(|(first, _)| first);
            assert_eq!(opened, if opens { Ok(PayloadType(42)) } else { Err(Discard::Malformed) }, "{kind} {critical}");
        }
    }

    #[test]
    fn a_message_whose_last_payload_is_not_sk_is_malformed() {
        let mut message = HEADER.to_octets().to_vec();
        message[27] = 28;
        assert_eq!(receiver().open(&mut engine(), &mut message), Err(Discard::Malformed));
        message[16] = 43;
        message[27] = 32;
        message.extend([0, 0, 0, 4]);
        assert_eq!(receiver().open(&mut engine(), &mut message), Err(Discard::Malformed));
        for kind in (1..=u8::MAX).filter(|kind| *kind != 46) {
            let mut message = sealed(&[0]);
            message[16] = kind;
            message[28] = 0;
            assert_eq!(receiver().open(&mut engine(), &mut message), Err(Discard::Malformed));
        }
    }

    #[test]
    fn keys_of_the_wrong_length_are_refused() {
        for len in (0..64).filter(|len| *len != 20) {
            assert!(SkReceiver::new(&mut engine(), GCM, &[0; 64][..len], &[]).is_err());
            assert!(SkSender::new(&mut engine(), GCM, &[0; 64][..len], &[]).is_err());
        }
    }

    #[test]
    fn a_fragment_opens_with_its_number_and_nothing_of_it_may_change() {
        let mut message = sealed_last(53, &[0, 2, 0, 3], b"part\0");
        let opened = receiver().open_fragment(&mut engine(), &mut message.clone()).map(|fragment| {
            let Fragment { number, total, first, text } = fragment;
            (number, total, first, text.to_vec())
        });
        assert_eq!(opened, Ok((2, 3, PayloadType(42), b"part".to_vec())));
        assert_eq!(receiver().open(&mut engine(), &mut message.clone()), Err(Discard::Malformed));
        for at in 0..message.len() {
            message[at] ^= 1;
            assert!(receiver().open_fragment(&mut engine(), &mut message.clone()).is_err(), "{at}");
            message[at] ^= 1;
        }
        for len in 0..message.len() {
            assert!(receiver().open_fragment(&mut engine(), &mut message[..len].to_vec()).is_err());
        }
        let mut whole = sealed(&[0]);
        assert_eq!(receiver().open_fragment(&mut engine(), &mut whole), Err(Discard::Malformed));
    }

    #[test]
    fn a_fragment_has_a_number_within_its_total() {
        assert_eq!(Skf::parse(&[0, 2, 0, 3, 9]), Ok(Skf { number: 2, total: 3, body: &[9] }));
        for body in [&[][..], &[0, 1, 0], &[0, 0, 0, 3], &[0, 4, 0, 3], &[0, 0, 0, 0]] {
            assert_eq!(Skf::parse(body), Err(Malformed));
        }
    }
}
