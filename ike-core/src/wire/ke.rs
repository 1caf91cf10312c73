//! The Key Exchange payload (RFC 7296 §3.4).

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{GroupId, PayloadType};
use ipsec_core::wire::cursor::Reader;

/// A public value of a key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ke<'m> {
    /// The method.
    pub group: GroupId,
    /// The public value; its length is checked by whoever uses it.
    pub public: &'m [u8],
}

impl<'m> Ke<'m> {
    /// Reads the body of a KE payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is too short.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let group = GroupId(reader.u16()?);
        reader.u16()?; // RESERVED
        Ok(Self { group, public: reader.rest() })
    }
}

impl MessageWriter<'_> {
    /// Adds a KE payload.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn ke(&mut self, group: GroupId, public: &[u8]) -> Result<(), NoRoom> {
        self.payload(PayloadType::KE, |out| {
            out.put(&group.0.to_be_bytes())?;
            out.put(&[0; 2])?;
            out.put(public)
        })
    }
}
