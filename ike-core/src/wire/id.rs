//! Identification payloads (RFC 7296 §3.5).

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use ipsec_core::wire::cursor::Reader;

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{IdKind, PayloadType};

/// Who somebody says to be. Any octets of any length can stand here: printing and comparing are total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id<'m> {
    /// How to read `data`.
    pub kind: IdKind,
    /// The identification data.
    pub data: &'m [u8],
}

impl<'m> Id<'m> {
    /// Reads the body of an IDi or IDr payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is too short. Data that does not fit its type is no error: it is nobody's identity.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let kind = IdKind(reader.u8()?);
        reader.array::<3>()?; // RESERVED
        Ok(Self { kind, data: reader.rest() })
    }
}

/// Text as text, addresses as addresses, a key id as `@hex:…`; whatever is not printable ASCII is escaped.
impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            IdKind::IPV4_ADDR => {
                if let Ok(addr) = <[u8; 4]>::try_from(self.data) {
                    return Ipv4Addr::from(addr).fmt(f);
                }
            }
            IdKind::IPV6_ADDR => {
                if let Ok(addr) = <[u8; 16]>::try_from(self.data) {
                    return Ipv6Addr::from(addr).fmt(f);
                }
            }
            IdKind::FQDN | IdKind::RFC822_ADDR => return self.data.escape_ascii().fmt(f),
            _ => {}
        }
        if self.kind == IdKind::KEY_ID {
            f.write_str("@hex:")?;
        } else {
            write!(f, "{}:", self.kind)?;
        }
        self.data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl MessageWriter<'_> {
    /// Adds an Identification payload; `payload` is [`PayloadType::ID_I`] or [`PayloadType::ID_R`].
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn id(&mut self, payload: PayloadType, id: &Id<'_>) -> Result<(), NoRoom> {
        self.payload(payload, |out| {
            out.put(&[id.kind.0, 0, 0, 0])?;
            out.put(id.data)
        })
    }
}
