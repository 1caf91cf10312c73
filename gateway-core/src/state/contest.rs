//! How often callers from two places threw each other out.

use alloc::boxed::Box;
use core::time::Duration;

use ipsec_core::time::Instant;

use super::agenda::Soonest;
use crate::cause::Cause;

/// A machine that was made anew, or moved, takes its own connection over: once or twice in so much time, not more.
const PERIOD: Duration = Duration::from_secs(300);
const OFTEN: u32 = 3;

/// How often callers from elsewhere took a peer's connection over.
#[derive(Default)]
pub(crate) struct Contest {
    /// Until when that is counted.
    until: Option<Instant>,
    times: u32,
    /// Why that is told, while it goes on.
    pub(crate) cause: Option<Box<Cause>>,
}

impl Contest {
    /// Once more. Whether that is more than a machine does that was made anew.
    pub(crate) fn count(&mut self, now: Instant) -> bool {
        self.until.get_or_insert(now + PERIOD);
        self.times = self.times.saturating_add(1);
        self.times >= OFTEN
    }

    /// Forgets one that is over.
    pub(crate) fn calm_down(&mut self, soonest: &mut Soonest) {
        let Some(until) = self.until.filter(|until| soonest.reached(*until)) else { return };
        *self = match self.times >= OFTEN {
            true => Self { until: Some(until + PERIOD), times: 0, cause: self.cause.take() },
            false => Self::default(),
        };
        self.until.map(|until| soonest.reached(until));
    }
}
