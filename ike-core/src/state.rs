//! The states of an IKE SA: what arrives in each, what it sends.
//!
//! `init_sent` goes on to `auth_sent`, which it calls, on our side, `init_answered` on the other; both end in `established`.
//! That hands what it gets and what is due to the file of the exchange: `child_creating`, `rekeying`, or `deleting`, which
//! also has what comes when the SA is over. No other file here calls into another one.
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
