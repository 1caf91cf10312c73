//! The Encrypted Fragment payload (RFC 7383 §2.5).

use ipsec_core::wire::cursor::Reader;

use crate::error::Malformed;
use crate::registry::PayloadType;
use crate::wire::chain::GENERIC_LEN;

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
