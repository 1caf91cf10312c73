//! A new configuration, from when the boundary begins to follow it until whoever brought it knows what became of it.

use std::io;
use std::sync::Arc;

use super::intent::Intent;

/// What becomes of a new configuration.
#[derive(Default)]
pub(super) enum Change {
    /// There is none, or whoever brought it knows.
    #[default]
    Settled,
    /// Not everybody has said what they think of it. This is what the one before asked for.
    Undecided(Arc<Intent>),
    Decided(io::Result<()>),
}

impl Change {
    /// There is a new one instead of `before`. Where that was undecided itself, what stood before it counts.
    pub(super) fn begin(&mut self, before: Arc<Intent>) {
        if !self.is_undecided() {
            *self = Self::Undecided(before);
        }
    }

    pub(super) fn is_undecided(&self) -> bool {
        matches!(self, Self::Undecided(_))
    }

    /// Everybody has said what they think of it, if there is one. Returns what is to be made so again: where it is refused,
    /// what the one before asked for, if there was one.
    pub(super) fn decide(&mut self, outcome: io::Result<()>) -> Option<Arc<Intent>> {
        if !self.is_undecided() {
            return None;
        }
        let refused = outcome.is_err();
        match std::mem::replace(self, Self::Decided(outcome)) {
            Self::Undecided(before) if refused && before.mtu != 0 => Some(before),
            _ => None,
        }
    }

    /// What became of it, once; `None`: nobody knows yet.
    pub(super) fn outcome(&mut self) -> Option<io::Result<()>> {
        match std::mem::take(self) {
            Self::Decided(outcome) => Some(outcome),
            other => {
                *self = other;
                None
            }
        }
    }

    /// It has not happened, if nobody knows yet what becomes of it. Returns what the one before asked for then.
    pub(super) fn give_up(&mut self) -> Option<Arc<Intent>> {
        match std::mem::take(self) {
            Self::Undecided(before) => Some(before),
            other => {
                *self = other;
                None
            }
        }
    }
}
