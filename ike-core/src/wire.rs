//! The only modules that touch octets of messages. Every file has the same rhythm: a view that borrows the message and is
//! checked once when it is made, then the method of [`writer::MessageWriter`] that writes the payload, then tests.

pub mod auth;
pub mod cert;
pub mod chain;
pub mod cp;
mod cursor;
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
