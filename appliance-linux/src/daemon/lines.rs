//! How many lines about messages the log takes: strangers decide how many messages there are.

use std::time::{Duration, Instant};

use crate::logging::Throttle;

/// One throttle for each kind of line.
pub(super) struct Lines {
    /// About messages that came in.
    pub(super) received: Throttle,
    /// About those that answer them.
    pub(super) sent: Throttle,
    /// About those that could not be sent.
    pub(super) unsent: Throttle,
}

impl Lines {
    pub(super) fn new(now: Instant) -> Self {
        let (often, seldom) = (Duration::from_secs(10), Duration::from_secs(60));
        Self {
            received: Throttle::new(200, often, now),
            sent: Throttle::new(200, often, now),
            unsent: Throttle::new(10, seldom, now),
        }
    }
}
