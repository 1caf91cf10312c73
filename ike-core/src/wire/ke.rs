//! The Key Exchange payload (RFC 7296 §3.4).

use ipsec_core::wire::cursor::Reader;

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{GroupId, PayloadType};

/// A public value of a key exchange.
///
/// ```
/// use ike_core::registry::GroupId;
/// use ike_core::wire::ke::Ke;
/// assert_eq!(Ke::parse(&[0, 31, 0, 0, 0xaa]), Ok(Ke { group: GroupId::CURVE25519, public: &[0xaa] }));
/// ```
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

    /// Adds a KE payload whose public value of `len` octets is made where it stands: some are longer than a stack is deep.
    ///
    /// # Errors
    /// [`NoRoom`], and those of `make`; the message is then as it was before.
    pub fn ke_made<E: From<NoRoom>>(
        &mut self,
        group: GroupId,
        len: usize,
        make: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.payload(PayloadType::KE, |out| {
            out.put(&group.0.to_be_bytes())?;
            out.put(&[0; 2])?;
            make(out.room(len)?)
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
    fn a_value_that_cannot_be_made_leaves_the_message_as_it_was() {
        use crate::registry::ExchangeType;
        use crate::wire::header::Header;
        let mut buf = [0xaa; 64];
        let mut out = MessageWriter::new(&mut buf, &Header::new(1, 2, ExchangeType::IKE_SA_INIT, 0)).unwrap();
        let made = out.ke_made(GroupId::CURVE25519, 8, |room| {
            room.fill(7);
            Err(NoRoom)
        });
        assert_eq!(made, Err(NoRoom));
        assert_eq!(out.ke_made(GroupId::CURVE25519, 29, |_| Ok(())), Err(NoRoom));
        assert_eq!(out.finish().len, Header::LEN);
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
