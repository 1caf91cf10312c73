//! How far the disk is with the accounts.

use std::mem;
use std::time::Instant;

use tracing::info;

/// How far the disk is.
#[derive(Default)]
pub(super) enum Books {
    /// It has not said what an earlier run kept.
    #[default]
    Closed,
    /// There is no place to keep anything.
    None,
    /// They are to be written next at `due`; so many orders are under way, and whether it was told that they take long.
    Open { due: Instant, ordered: usize, late: bool },
}

impl Books {
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Open { due, .. } => Some(*due),
            Self::Closed | Self::None => None,
        }
    }

    /// An order is done.
    pub(super) fn kept(&mut self) {
        if let Self::Open { ordered, late, .. } = self {
            *ordered = ordered.saturating_sub(1);
            if mem::take(late) {
                info!("the disk answers again");
            }
        }
    }
}
