//! Proving who we are (RFC 7296 §2.15).

pub mod psk;

use core::fmt;

use crate::crypto::{Digest64, IkeCrypto, PrfAlg};
use crate::error::NoRoom;
use crate::pad::Authentication;
use crate::registry::AuthMethod;
use crate::wire::auth::Auth;
use crate::wire::id::Id;
use crate::wire::writer::MessageWriter;

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

/// Our proof, ready to be sent.
pub(crate) struct Proof {
    method: AuthMethod,
    value: Digest64,
}

impl Proof {
    /// Computes it.
    ///
    /// # Errors
    /// [`NoRoom`] when the message has more than 6 parts.
    pub(crate) fn make<C: IkeCrypto>(
        crypto: &mut C,
        prf: PrfAlg,
        auth: Authentication<'_>,
        signed: &SignedOctets<'_>,
    ) -> Result<Self, NoRoom> {
        let mut value = Digest64::new();
        let method = match auth {
            Authentication::Psk(key) => {
                psk::auth_value(crypto, prf, key, signed, &mut value)?;
                AuthMethod::SHARED_KEY
            }
        };
        Ok(Self { method, value })
    }

    /// Adds the AUTH payload.
    pub(crate) fn write(&self, message: &mut MessageWriter<'_>) -> Result<(), NoRoom> {
        message.auth(self.method, self.value.as_slice())
    }
}

/// Whether the peer's AUTH payload proves that it is who the connection expects, by the method that the connection says.
pub(crate) fn verify<C: IkeCrypto>(
    crypto: &mut C,
    prf: PrfAlg,
    auth: Authentication<'_>,
    signed: &SignedOctets<'_>,
    received: &Auth<'_>,
) -> bool {
    match auth {
        Authentication::Psk(key) => {
            received.method == AuthMethod::SHARED_KEY && psk::verify(crypto, prf, key, signed, received.data)
        }
    }
}
