//! The EAP payload (RFC 7296 §3.16). Read only.

use super::enclosed;
use crate::error::Malformed;
use ipsec_core::wire::cursor::Reader;

/// An EAP message (RFC 3748 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eap<'m> {
    /// Request 1, Response 2, Success 3, Failure 4.
    pub code: u8,
    /// Matches responses with requests.
    pub identifier: u8,
    /// Type and type data of a request or response; empty for the other two.
    pub data: &'m [u8],
}

impl<'m> Eap<'m> {
    /// Reads the body of an EAP payload.
    ///
    /// # Errors
    /// [`Malformed`] when the length field is not the length of the body, a request or response has no type, or another
    /// code has data.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let [code, identifier] = reader.array()?;
        let length = reader.u16()?;
        let data = enclosed(&mut reader, length, 4)?;
        let typed = matches!(code, 1 | 2);
        if !reader.rest().is_empty() || typed == data.is_empty() {
            return Err(Malformed);
        }
        Ok(Self { code, identifier, data })
    }
}
