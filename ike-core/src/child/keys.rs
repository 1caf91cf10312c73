//! What of a Child SA is still to be told: its keys, or why nothing came of it.

use crate::crypto::Secret;
use crate::failure::Failure;

/// Octets of the keys of one direction at most: those of AES-256, and of HMAC-SHA2-512.
const MAX_KEYS: usize = 32 + 64;

/// The keys of a Child SA on their way to the caller (RFC 7296 §2.17).
pub(crate) struct ChildKeys {
    /// What the initiator of the exchange sends with, then as much that the responder sends with.
    keymat: Secret<{ 2 * MAX_KEYS }>,
    /// We began the exchange.
    ours: bool,
}

impl ChildKeys {
    /// Room for keys of `len` octets in each direction, and the octets to be filled in. They are made where they stay.
    pub(crate) fn make(place: &mut Untold, len: usize, ours: bool) -> Option<&mut [u8]> {
        *place = Untold::Keys(Self { keymat: Secret::new(), ours });
        match place {
            Untold::Keys(keys) => keys.keymat.resize(len.checked_mul(2)?),
            _ => None,
        }
    }

    /// What we receive with.
    pub(crate) fn inbound(&self) -> &[u8] {
        self.of_initiator(!self.ours)
    }

    /// What we send with.
    pub(crate) fn outbound(&self) -> &[u8] {
        self.of_initiator(self.ours)
    }

    fn of_initiator(&self, initiator: bool) -> &[u8] {
        let keymat = self.keymat.as_slice();
        let halves = keymat.split_at_checked(keymat.len() / 2);
        halves.map(|(first, second)| if initiator { first } else { second }).unwrap_or_default()
    }
}

/// What the caller gets with what it is told of a Child SA. Whoever has not even the keys is not told of rekeys.
#[derive(Default)]
pub(crate) enum Untold {
    #[default]
    Nothing,
    /// With [`Report::Up`](super::Report::Up); and then lent, until they are taken back.
    Keys(ChildKeys),
    /// Why a rekey came to nothing and left this SA as it was: `ChildFailed` is due.
    RekeyFailed(Failure),
}

impl Untold {
    pub(crate) fn keys(&self) -> Option<&ChildKeys> {
        match self {
            Self::Keys(keys) => Some(keys),
            _ => None,
        }
    }

    /// The keys are where they are needed, or needed no more.
    pub(crate) fn wipe_keys(&mut self) {
        if let Self::Keys(_) = self {
            *self = Self::Nothing;
        }
    }

    /// Whether a rekey failed.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self, Self::RekeyFailed(_))
    }

    /// Why, told from now on.
    pub(crate) fn take_failure(&mut self) -> Option<Failure> {
        match core::mem::take(self.has_failed().then_some(self)?) {
            Self::RekeyFailed(cause) => Some(cause),
            _ => None,
        }
    }
}
