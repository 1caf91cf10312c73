//! The Authentication payload (RFC 7296 §3.8).

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{AuthMethod, PayloadType};
use ipsec_core::wire::cursor::Reader;

/// A proof of identity, not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'m> {
    /// How it was made.
    pub method: AuthMethod,
    /// MAC or signature.
    pub data: &'m [u8],
}

impl<'m> Auth<'m> {
    /// Reads the body of an AUTH payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is too short.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let method = AuthMethod(reader.u8()?);
        reader.array::<3>()?; // RESERVED
        Ok(Self { method, data: reader.rest() })
    }
}

impl MessageWriter<'_> {
    /// Adds an AUTH payload.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn auth(&mut self, method: AuthMethod, data: &[u8]) -> Result<(), NoRoom> {
        self.payload(PayloadType::AUTH, |out| {
            out.put(&[method.0, 0, 0, 0])?;
            out.put(data)
        })
    }
}
