//! What is asked of whoever holds the keys of an authentication, and what it answers (RFC 7296 §2.15, §2.16).
//!
//! Not for use yet, and hidden for as long: no method that asks is built.

use core::fmt;

use crate::crypto::Digest64;
use crate::registry::{AuthMethod, PayloadType};
use crate::wire::auth::Auth;
use crate::wire::cert::Cert;
use crate::wire::chain::Chain;
use crate::wire::id::Id;

/// What a proof of identity covers: the three one after the other (RFC 7296 §2.15).
pub struct Signed<'e> {
    /// The first message that its maker sent, from the IKE header on.
    pub message: &'e [u8],
    /// The nonce that its maker received.
    pub nonce: &'e [u8],
    /// prf(SK_p, IDi' or IDr') of its maker.
    pub maced_id: Digest64,
}

impl fmt::Debug for Signed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").finish_non_exhaustive()
    }
}

/// The peer's proof of who it is.
#[derive(Debug)]
pub struct Claim<'e> {
    /// Who it says to be; the connection accepts that.
    pub id: Id<'e>,
    /// The proof, not verified.
    pub auth: Auth<'e>,
    /// What it has to cover.
    pub signed: Signed<'e>,
    pub(crate) payloads: Chain<'e>,
}

impl<'e> Claim<'e> {
    /// The certificates that came with it; the first one is the peer's own.
    pub fn certs(&self) -> impl Iterator<Item = Cert<'e>> + use<'e> {
        let certs = self.payloads.clone().flatten().filter(|payload| payload.kind == PayloadType::CERT);
        certs.flat_map(|payload| Cert::parse(payload.body))
    }
}

/// What an IKE SA stands still for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Question<'e> {
    /// Our proof: [`Answer::Proof`].
    Proof(Signed<'e>),
    /// Whether the peer's proof holds: [`Answer::Verdict`].
    Verdict(Claim<'e>),
    /// What to say next in EAP: [`Answer::Eap`] or [`Answer::EapDone`].
    Eap {
        /// The EAP message of the peer (RFC 3748 §4); `None`: we begin.
        received: Option<&'e [u8]>,
    },
}

/// The answer to a [`Question`].
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// What goes into our AUTH payload.
    Proof(Auth<'a>),
    /// Whether the peer is who it says to be.
    Verdict(bool),
    /// Our next EAP message.
    Eap(&'a [u8]),
    /// EAP has authenticated both sides.
    EapDone {
        /// The last word of the EAP server, Success; empty on the other side.
        last: &'a [u8],
        /// The MSK, 1 to 64 octets: what both sides prove that they hold.
        key: &'a [u8],
    },
    /// To whatever was asked: this will not come about.
    Refused,
}

impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proof(_) => "Proof(..)",
            Self::Verdict(true) => "Verdict(true)",
            Self::Verdict(false) => "Verdict(false)",
            Self::Eap(_) => "Eap(..)",
            Self::EapDone { .. } => "EapDone { .. }",
            Self::Refused => "Refused",
        })
    }
}

impl<'a> Answer<'a> {
    /// A signature with its algorithm in front, as RFC 7427 §3 lays it out.
    pub const fn signature(data: &'a [u8]) -> Self {
        Self::Proof(Auth { method: AuthMethod::SIGNATURE, data })
    }
}
