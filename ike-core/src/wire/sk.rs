//! The Encrypted payload (RFC 7296 §3.14) with an AEAD (RFC 5282), and the Encrypted Fragment payload (RFC 7383 §2.5).

use super::chain::{Chain, GENERIC_LEN};
use super::header::Header;
use crate::crypto::IkeCrypto;
use crate::error::{Discard, Malformed, NoKey, NoRoom};
use crate::registry::PayloadType;
use ipsec_core::crypto::AeadAlg;
use ipsec_core::wire::cursor::Reader;
use zeroize::Zeroize;

pub(super) const IV_LEN: usize = 8;
pub(super) const TAG_LEN: usize = 16;
const SALT_LEN: usize = 4;

/// An AEAD key with its salt, one direction of SK_e.
struct SkKey<C: IkeCrypto> {
    key: C::AeadKey,
    salt: [u8; SALT_LEN],
}

impl<C: IkeCrypto> SkKey<C> {
    /// `sk_e`: the cipher key, then the salt (RFC 5282 §7.1).
    fn new(crypto: &mut C, alg: AeadAlg, sk_e: &[u8]) -> Result<Self, NoKey> {
        let (key, salt) = sk_e.split_last_chunk().ok_or(NoKey)?;
        Ok(Self { key: crypto.aead_key(alg, key).ok_or(NoKey)?, salt: *salt })
    }

    fn nonce(&self, iv: [u8; IV_LEN]) -> [u8; SALT_LEN + IV_LEN] {
        let mut nonce = [0; SALT_LEN + IV_LEN];
        for (to, from) in nonce.iter_mut().zip(self.salt.into_iter().chain(iv)) {
            *to = from;
        }
        nonce
    }
}

impl<C: IkeCrypto> Drop for SkKey<C> {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

/// The key of the messages we send.
pub struct SkSender<C: IkeCrypto> {
    key: SkKey<C>,
    /// The next IV. A counter never repeats (RFC 5282 §4).
    iv: u64,
}

impl<C: IkeCrypto> SkSender<C> {
    /// A sender from the octets of SK_ei or SK_er: cipher key, then salt.
    ///
    /// # Errors
    /// [`NoKey`] when the engine does not take the key.
    pub fn new(crypto: &mut C, alg: AeadAlg, sk_e: &[u8]) -> Result<Self, NoKey> {
        Ok(Self { key: SkKey::new(crypto, alg, sk_e)?, iv: 0 })
    }

    /// `payload`: IV, text with pad length, room for the ICV.
    pub(super) fn seal(&mut self, crypto: &mut C, aad: &[u8], payload: &mut [u8]) -> Result<(), NoRoom> {
        let (iv, text_and_tag) = payload.split_first_chunk_mut().ok_or(NoRoom)?;
        *iv = self.iv.to_be_bytes();
        self.iv = self.iv.checked_add(1).ok_or(NoRoom)?;
        crypto.seal(&self.key.key, &self.key.nonce(*iv), aad, text_and_tag);
        Ok(())
    }
}

/// The key of the messages the peer sends.
pub struct SkReceiver<C: IkeCrypto>(SkKey<C>);

impl<C: IkeCrypto> SkReceiver<C> {
    /// A receiver from the octets of SK_ei or SK_er: cipher key, then salt.
    ///
    /// # Errors
    /// [`NoKey`] when the engine does not take the key.
    pub fn new(crypto: &mut C, alg: AeadAlg, sk_e: &[u8]) -> Result<Self, NoKey> {
        SkKey::new(crypto, alg, sk_e).map(Self)
    }

    /// Verifies and decrypts the SK payload that ends `message`, in place, and returns the type of its first inner payload
    /// and the inner payloads. Payloads before SK are authenticated, but nothing may come from them: they are skipped.
    ///
    /// # Errors
    /// [`Discard::Malformed`] when there is no SK payload or it is too short, [`Discard::BadIcv`], and
    /// [`Discard::BadPadding`]; after the last two `message` is unspecified.
    pub fn open<'m>(&self, crypto: &mut C, message: &'m mut [u8]) -> Result<(PayloadType, &'m [u8]), Discard> {
        let header = Header::parse(message)?;
        let (_, body) = message.split_at_checked(Header::LEN).ok_or(Malformed)?;
        let mut last = None;
        for payload in Chain::new(header.next, body) {
            last = Some(payload?);
        }
        let sk = last.filter(|last| last.kind == PayloadType::SK).ok_or(Malformed)?;
        let (first_inner, sk_len) = (sk.next, sk.body.len());
        let aad_len = message.len().saturating_sub(sk_len);
        let (aad, payload) = message.split_at_mut_checked(aad_len).ok_or(Malformed)?;
        let (iv, text_and_tag) = payload.split_first_chunk_mut().ok_or(Malformed)?;
        // At least the pad length octet stands before the ICV.
        let text_len = text_and_tag.len().checked_sub(TAG_LEN).filter(|len| *len > 0).ok_or(Malformed)?;
        let Self(key) = self;
        crypto.open(&key.key, &key.nonce(*iv), aad, text_and_tag).map_err(|_| Discard::BadIcv)?;
        let (text, _) = text_and_tag.split_at_checked(text_len).ok_or(Malformed)?;
        let (&pad_len, padded) = text.split_last().ok_or(Malformed)?;
        let inner_len = padded.len().checked_sub(usize::from(pad_len)).ok_or(Discard::BadPadding)?;
        let inner = padded.get(..inner_len).ok_or(Discard::BadPadding)?;
        Ok((first_inner, inner))
    }
}

/// An Encrypted Fragment payload, not decrypted.
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
