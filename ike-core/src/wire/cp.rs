//! The Configuration payload (RFC 7296 §3.15). Read only: nothing here is asked for or handed out yet.

use super::cursor::Cursor;
use crate::error::Malformed;
use crate::registry::{CpAttributeKind, CpKind};

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
        let mut cursor = Cursor::new(body);
        let &[kind, _, _, _] = cursor.array()?;
        let attributes = cursor.rest();
        while !cursor.is_empty() {
            attribute(&mut cursor)?;
        }
        Ok(Self { kind: CpKind(kind), attributes })
    }

    /// The attributes.
    pub fn attributes(&self) -> impl Iterator<Item = CpAttribute<'m>> + use<'m> {
        let mut cursor = Cursor::new(self.attributes);
        core::iter::from_fn(move || attribute(&mut cursor).ok())
    }
}

fn attribute<'m>(cursor: &mut Cursor<'m>) -> Result<CpAttribute<'m>, Malformed> {
    let kind = CpAttributeKind(cursor.u16()? & 0x7fff); // the first bit is RESERVED
    let length = cursor.u16()?;
    Ok(CpAttribute { kind, value: cursor.take(usize::from(length))? })
}
