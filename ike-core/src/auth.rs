//! Proving who we are (RFC 7296 §2.15).

#[doc(hidden)]
pub mod ask;
pub(crate) mod course;
pub mod psk;

use core::fmt;

use crate::crypto::{Digest64, IkeCrypto, PrfAlg};
use crate::error::NoRoom;
use crate::registry::AuthMethod;
use crate::wire::auth::Auth;
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

/// The peer has proved who it is. Nothing is established without one of these.
pub(crate) struct Authenticated(());

impl Authenticated {
    /// Whoever was asked for a verdict says so.
    pub(crate) const fn by_verdict() -> Self {
        Self(())
    }
}

/// Our proof that we hold a key: a pre-shared one, or what came of EAP (RFC 7296 §2.16).
pub(crate) struct Proof(Digest64);

impl Proof {
    /// Computes it.
    ///
    /// # Errors
    /// [`NoRoom`] when the message has more than 6 parts.
    pub(crate) fn make<C: IkeCrypto>(
        crypto: &mut C,
        prf: PrfAlg,
        key: &[u8],
        signed: &SignedOctets<'_>,
    ) -> Result<Self, NoRoom> {
        let mut value = Digest64::new();
        psk::auth_value(crypto, prf, key, signed, &mut value)?;
        Ok(Self(value))
    }

    /// As it goes into the AUTH payload.
    pub(crate) fn auth(&self) -> Auth<'_> {
        Auth { method: AuthMethod::SHARED_KEY, data: self.0.as_slice() }
    }
}

/// What the peer's AUTH payload proves when it shows that the peer holds this key.
pub(crate) fn verify<C: IkeCrypto>(
    crypto: &mut C,
    prf: PrfAlg,
    key: &[u8],
    signed: &SignedOctets<'_>,
    received: &Auth<'_>,
) -> Option<Authenticated> {
    let holds = received.method == AuthMethod::SHARED_KEY && psk::verify(crypto, prf, key, signed, received.data);
    holds.then_some(Authenticated(()))
}
