//! Proofs with a key that both sides hold, and what comes of them.

use super::psk;
use super::signed::SignedOctets;
use crate::crypto::{Digest64, IkeCrypto, PrfAlg};
use crate::failure::{Failure, Side};
use crate::registry::AuthMethod;
use crate::wire::auth::Auth;

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
    /// [`Failure::EmptyKey`]; [`Failure::NoRoom`] when the message has more than 6 parts.
    pub(crate) fn make<C: IkeCrypto>(
        crypto: &mut C,
        prf: PrfAlg,
        key: &[u8],
        signed: &SignedOctets<'_>,
    ) -> Result<Self, Failure> {
        usable(key)?;
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
///
/// # Errors
/// [`Failure::EmptyKey`]; [`Failure::AuthenticationFailed`] when it does not.
pub(crate) fn verify<C: IkeCrypto>(
    crypto: &mut C,
    prf: PrfAlg,
    key: &[u8],
    signed: &SignedOctets<'_>,
    received: &Auth<'_>,
) -> Result<Authenticated, Failure> {
    usable(key)?;
    let holds = received.method == AuthMethod::SHARED_KEY && psk::verify(crypto, prf, key, signed, received.data);
    holds.then_some(Authenticated(())).ok_or(Failure::AuthenticationFailed(Side::Here))
}

/// Whoever holds nothing holds an empty key too, and HMAC takes zeros for none (RFC 2104 §2).
fn usable(key: &[u8]) -> Result<(), Failure> {
    if key.iter().all(|octet| *octet == 0) { Err(Failure::EmptyKey) } else { Ok(()) }
}
