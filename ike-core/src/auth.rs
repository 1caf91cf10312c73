//! Proving who we are (RFC 7296 §2.15).

#[doc(hidden)]
pub mod ask;
pub(crate) mod course;
mod proof;
pub mod psk;
mod signed;

pub(crate) use proof::{Authenticated, Proof, verify};
pub use signed::SignedOctets;
