//! The Configuration payload (RFC 7296 §3.15). Read only: nothing here is asked for or handed out yet.

use ipsec_core::wire::cursor::Reader;

use crate::error::Malformed;
use crate::registry::{CpAttributeKind, CpKind};

/// A request for, or a set of, configuration attributes.
///
/// ```
/// use ike_core::registry::{CpAttributeKind, CpKind};
/// use ike_core::wire::cp::{Cp, CpAttribute};
/// let cp = Cp::parse(&[1, 0, 0, 0, 0, 1, 0, 0]).unwrap(); // asks for an IPv4 address, any
/// assert_eq!(cp.kind, CpKind(1));
/// assert!(cp.attributes().eq([CpAttribute { kind: CpAttributeKind(1), value: &[] }]));
/// ```
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_in_order() {
        let octets = [1, 0, 0, 0, 0, 1, 0, 0, 0x80, 3, 0, 4, 8, 8, 8, 8];
        let cp = Cp::parse(&octets).unwrap();
        assert_eq!(cp.kind, CpKind::REQUEST);
        assert!(cp.attributes().eq([
            CpAttribute { kind: CpAttributeKind::INTERNAL_IP4_ADDRESS, value: &[] },
            CpAttribute { kind: CpAttributeKind::INTERNAL_IP4_DNS, value: &[8, 8, 8, 8] },
        ]));
    }

    #[test]
    fn atk_11_values_of_every_length_are_read_and_none_reaches_out() {
        for kind in 0..=40 {
            for len in 0..=20u8 {
                let mut octets = [1, 0, 0, 0, 0, kind, 0, len].to_vec();
                octets.extend([7].repeat(usize::from(len)));
                let values = Cp::parse(&octets).unwrap().attributes().map(|attribute| attribute.value.len()).sum();
                assert_eq!(usize::from(len), values);
                for cut in 5..octets.len() {
                    assert_eq!(Cp::parse(&octets[..cut]), Err(Malformed));
                }
            }
        }
        for cut in 0..4 {
            assert_eq!(Cp::parse(&[1, 0, 0, 0][..cut]), Err(Malformed));
        }
    }
}
