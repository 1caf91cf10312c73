//! The Key Exchange payload (RFC 7296 §3.4).

use ipsec_core::wire::cursor::Reader;

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{GroupId, PayloadType};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::body;

    const BODY: [u8; 7] = [0, 31, 0, 0, 7, 8, 9];

    #[test]
    fn reads_and_writes() {
        let ke = Ke::parse(&BODY).unwrap();
        assert_eq!(ke, Ke { group: GroupId::CURVE25519, public: &[7, 8, 9] });
        assert_eq!(body(|out| out.ke(ke.group, ke.public)), BODY);
    }

    #[test]
    fn cut_before_the_value_it_is_malformed() {
        for len in 0..4 {
            assert_eq!(Ke::parse(&BODY[..len]), Err(Malformed));
        }
        assert!(Ke::parse(&BODY[..4]).unwrap().public.is_empty());
    }

    #[test]
    fn atk_20_private_group_numbers_stay_what_they_are() {
        assert_eq!(Ke::parse(&[4, 1, 0, 0]).unwrap().group, GroupId(1025));
        assert_eq!(crate::crypto::Group::from_id(GroupId(1025)), None);
    }
}
