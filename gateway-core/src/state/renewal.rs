//! Renewals of a connection that are wanted and that were.

use alloc::vec::Vec;

use ike_core::pad::ChildConfigId;
use ipsec_core::time::Instant;

/// Why a connection is to be made anew beside the one that stands, and with which child first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The peer refuses this child on the one that stands. It is tried once.
    Refused(ChildConfigId),
    /// The peer is about to take us for nobody any more. It is tried until the peer knows who we are.
    Proof(ChildConfigId),
}

impl Renewal {
    pub(crate) fn child(self) -> ChildConfigId {
        match self {
            Self::Refused(child) | Self::Proof(child) => child,
        }
    }
}

/// The last renewal of a connection for the sake of a child, and how many were in vain before it, one after the other.
#[derive(Default)]
pub(crate) struct Renewals {
    pub(crate) last: Option<Renewed>,
    pub(crate) in_vain: u32,
    /// When the connection was last to be made anew because a request stayed unanswered, and how many times in a row that
    /// brought none, or one on which another did.
    pub(crate) unanswered: Option<(Instant, u32)>,
}

/// A renewal for the sake of a child.
pub(crate) struct Renewed {
    pub(crate) at: Instant,
    pub(crate) child: ChildConfigId,
    /// The other children that were up then.
    pub(crate) beside: Vec<ChildConfigId>,
}
