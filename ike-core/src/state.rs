//! The states of an IKE SA, one file each: what arrives in it, what it sends. No file here calls into another state.
//!
//! Where one of several goes on, it has a frame of its own (`inline(never)`): together they would take the stack of all of them for
//! each message.

pub(crate) mod auth_sent;
pub(crate) mod child_creating;
pub(crate) mod deleting;
pub(crate) mod established;
pub(crate) mod init_answered;
pub(crate) mod init_sent;
pub(crate) mod rekeying;
