//! The only modules that touch octets of messages. Every file has the same rhythm: a view that borrows the message and is
//! checked once when it is made, then the method of [`writer::MessageWriter`] that writes the payload, then tests.
//!
//! What one side writes and the other one reads:
//!
//! ```
//! use ike_core::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId};
//! use ike_core::wire::{chain::{Chain, Payload}, header::Header, nonce::Nonce, notify::Notify, writer::{MessageWriter, Written}};
//! let mut octets = [0; 128];
//! let header = Header { initiator: true, ..Header::new(0x1122, 0, ExchangeType::IKE_SA_INIT, 0) };
//! let mut message = MessageWriter::new(&mut octets, &header).unwrap();
//! message.notify(ProtocolId::NONE, &[], NotifyKind::COOKIE, b"crumbs").unwrap();
//! message.nonce(&[7; 32]).unwrap();
//! let Written { len, .. } = message.finish();
//!
//! let header = Header::parse(&octets[..len]).unwrap();
//! let payloads: Vec<Payload<'_>> = Chain::new(header.next, &octets[Header::LEN..len]).collect::<Result<_, _>>().unwrap();
//! assert_eq!(payloads[0].kind, PayloadType::NOTIFY);
//! assert_eq!(Notify::parse(payloads[0].body).unwrap().data, b"crumbs");
//! assert_eq!(Nonce::parse(payloads[1].body).unwrap().as_slice(), [7; 32]);
//! ```

pub mod auth;
pub mod cert;
pub mod chain;
pub mod cp;
pub mod delete;
pub mod eap;
pub mod header;
pub mod id;
pub mod ke;
pub mod nonce;
pub mod notify;
pub mod outline;
pub mod sa;
pub mod sk;
pub mod ts;
pub mod vendor;
pub mod writer;

use ipsec_core::wire::cursor::Reader;

use crate::error::Malformed;

/// What a substructure holds whose length field, already read, also counts the `header` octets up to here.
fn enclosed<'m>(reader: &mut Reader<'m>, length: u16, header: usize) -> Result<&'m [u8], Malformed> {
    reader.take(usize::from(length).checked_sub(header).ok_or(Malformed)?)
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use alloc::vec::Vec;

    use super::header::Header;
    use super::writer::MessageWriter;
    use crate::error::NoRoom;
    use crate::registry::ExchangeType;

    /// The body of the one payload that `write` writes.
    pub(super) fn body(write: impl FnOnce(&mut MessageWriter<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
        let mut buf = [0xaa; 512];
        let mut out = MessageWriter::new(&mut buf, &Header::new(1, 2, ExchangeType::INFORMATIONAL, 3)).unwrap();
        write(&mut out).unwrap();
        let len = out.finish().len;
        let length = u16::from_be_bytes([buf[30], buf[31]]);
        assert_eq!(usize::from(length), len - Header::LEN);
        buf[32..len].to_vec()
    }
}
