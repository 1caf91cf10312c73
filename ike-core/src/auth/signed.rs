//! What a proof covers.

use core::fmt;

use crate::crypto::{Digest64, IkeCrypto, PrfAlg};
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

impl SignedOctets<'_> {
    /// prf(SK_p, IDi' or IDr').
    pub(crate) fn maced_id<C: IkeCrypto>(&self, crypto: &mut C, prf: PrfAlg, out: &mut Digest64) {
        // The RESERVED octets of the payload are covered too; whoever sends others than zero breaks a MUST of §2.5.
        let id_header = [self.id.kind.0, 0, 0, 0];
        crypto.prf(prf, self.sk_p.as_slice(), &[&id_header, self.id.data], out);
    }
}
