//! The only modules that touch octets of messages. Every file has the same rhythm: a view that borrows the message and is
//! checked once when it is made, then the method of [`writer::MessageWriter`] that writes the payload, then tests.

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
