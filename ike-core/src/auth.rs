//! Proving who we are (RFC 7296 §2.15).

pub mod psk;

use core::fmt;

use crate::crypto::Digest64;
use crate::wire::id::Id;

/// What an AUTH payload covers.
#[derive(Clone, Copy)]
pub struct SignedOctets<'a> {
    /// The first message its sender sent, from the IKE header on, in any number of parts (at most 6).
    pub message: &'a [&'a [u8]],
    /// The nonce its sender received.
    pub nonce: &'a [u8],
    /// Who its sender says to be.
    pub id: Id<'a>,
    /// SK_pi for the initiator's AUTH, SK_pr for the responder's.
    pub sk_p: &'a Digest64,
}

impl fmt::Debug for SignedOctets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedOctets").finish_non_exhaustive()
    }
}
