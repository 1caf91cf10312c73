//! Renewals of a connection that are wanted and that were, and for how long a child was up.

use alloc::vec::Vec;
use core::time::Duration;

use ike_core::pad::ChildConfigId;
use ipsec_core::time::Instant;

/// A connection, or a child, that was up this long was a good one: the pauses between attempts start anew.
pub(crate) const LASTING: Duration = Duration::from_secs(30);

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
    pub(crate) last: Option<Last>,
    pub(crate) in_vain: u32,
    /// When the connection was last to be made anew because a request stayed unanswered, and how many times in a row that
    /// brought none, or one on which another did.
    pub(crate) unanswered: Option<(Instant, u32)>,
}

pub(crate) struct Last {
    pub(crate) at: Instant,
    pub(crate) child: ChildConfigId,
    /// The other children that were up then.
    pub(crate) beside: Vec<ChildConfigId>,
}

/// For how long a child was up without a break; the last time, when it is not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    from: Instant,
    /// When the newest of its SAs came.
    pub(crate) newest: Instant,
    pub(crate) until: Option<Instant>,
    /// The last of its SAs had carried what it may: its end says nothing of whether the child is welcome.
    spent: bool,
}

impl Standing {
    /// An SA came up.
    pub(crate) fn enter(this: &mut Option<Self>, now: Instant) {
        match this {
            Some(standing) if standing.until.is_none() => standing.newest = now,
            _ => *this = Some(Self { from: now, newest: now, until: None, spent: false }),
        }
    }

    /// The last SA is gone, spent or not.
    pub(crate) fn leave(&mut self, now: Instant, spent: bool) {
        if self.until.is_none() {
            (self.until, self.spent) = (Some(now), spent);
        }
    }

    /// Whether it was a good one.
    pub(crate) fn lasted(&self, now: Instant) -> bool {
        self.spent || self.until.unwrap_or(now).since(self.from) >= LASTING
    }

    /// Whether it goes on, with an SA that came since `at`.
    pub(crate) fn is_up_since(&self, at: Instant) -> bool {
        self.until.is_none() && self.newest >= at
    }

    /// Whether it goes on, or went on for long since `at`.
    pub(crate) fn goes_on(&self, at: Instant) -> bool {
        self.until.is_none_or(|until| self.spent || until.since(self.from.max(at)) >= LASTING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_61_a_child_was_up_until_its_last_sa_went_whatever_drained_after_that() {
        let at = |seconds: u64| Instant::from_millis(1000 * seconds);
        let mut standing = None;
        Standing::enter(&mut standing, at(10));
        let mut standing = standing.unwrap();
        assert!(standing.is_up_since(at(10)) && !standing.is_up_since(at(11)), "what came before is nothing new");
        standing.leave(at(36), false);
        standing.leave(at(41), true);
        assert!(!standing.lasted(at(100)) && !standing.is_up_since(at(10)));
    }
}
