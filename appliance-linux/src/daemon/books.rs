//! How far the disk is with the accounts.

use std::mem;
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// How often it is written what changed: who kills the daemon loses so much.
const PERIOD: Duration = Duration::from_secs(10);

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
    /// The disk has said what an earlier run kept; `false`: there is no place to keep anything.
    pub(super) fn open(&mut self, place: bool) {
        *self = if place { Self::Open { due: Instant::now(), ordered: 0, late: false } } else { Self::None };
    }

    /// Whether it is known what an earlier run kept, or that it kept nothing.
    pub(super) fn are_open(&self) -> bool {
        !matches!(self, Self::Closed)
    }

    /// Whether it is time to write them. Where the disk is still busy with the last ones, the next time will do.
    pub(super) fn are_due(&mut self) -> bool {
        let now = Instant::now();
        let Self::Open { due, ordered, late } = self else { return false };
        if *due > now {
            return false;
        }
        *due = now + PERIOD;
        if *ordered > 0 && !mem::replace(late, true) {
            warn!(
                "the disk takes too long: what goes through is kept again when it answers, and lost with a kill until then"
            );
        }
        *ordered == 0
    }

    /// They are to be written; `false`: nowhere.
    pub(super) fn order(&mut self) -> bool {
        let Self::Open { ordered, .. } = self else { return false };
        *ordered += 1;
        true
    }

    /// Whether the disk has all that it was given.
    pub(super) fn are_written(&self) -> bool {
        !matches!(self, Self::Open { ordered: 1.., .. })
    }

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
