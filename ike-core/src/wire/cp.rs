//! The Configuration payload (RFC 7296 §3.15). Read only: nothing here is asked for or handed out yet.

use crate::error::Malformed;
use crate::registry::{CpAttributeKind, CpKind};
use ipsec_core::wire::cursor::Reader;

/// A request for, or a set of, configuration attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cp<'m> {
    /// Request, reply, set or acknowledgement.
    pub kind: CpKind,
    attributes: &'m [u8],
}

/// One attribute; the length of its value is not checked against its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpAttribute<'m> {
    /// What it configures.
    pub kind: CpAttributeKind,
    /// The value; empty in a request for any.
    pub value: &'m [u8],
}

impl<'m> Cp<'m> {
    /// Reads the body of a CP payload.
    ///
    /// # Errors
    /// [`Malformed`] when the attributes do not fill the payload exactly.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let [kind, _, _, _] = reader.array()?;
        let attributes = reader.rest();
        while !reader.rest().is_empty() {
            attribute(&mut reader)?;
        }
        Ok(Self { kind: CpKind(kind), attributes })
    }

    /// The attributes.
    pub fn attributes(&self) -> impl Iterator<Item = CpAttribute<'m>> + use<'m> {
        let mut reader = Reader::new(self.attributes);
        core::iter::from_fn(move || attribute(&mut reader).ok())
    }
}

fn attribute<'m>(reader: &mut Reader<'m>) -> Result<CpAttribute<'m>, Malformed> {
    let kind = CpAttributeKind(reader.u16()? & 0x7fff); // the first bit is RESERVED
    let length = reader.u16()?;
    Ok(CpAttribute { kind, value: reader.take(usize::from(length))? })
}
