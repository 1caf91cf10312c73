//! What strangers get without an SA.

use core::time::Duration;

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::room::MARKER_LEN;
use crate::wire::writer::Written;

/// A short answer that belongs to no SA.
pub(super) struct Reply {
    pub(super) path: Path,
    /// It was not sent yet.
    pub(super) waiting: bool,
    pub(super) message: Written,
    pub(super) bytes: [u8; MARKER_LEN + 92],
}

/// Requests of this second that cost and left no SA that could be counted.
pub(super) struct Fruitless {
    since: Instant,
    pub(super) count: usize,
}

impl Fruitless {
    pub(super) const NONE: Self = Self { since: Instant::ZERO, count: 0 };

    pub(super) fn lately(&mut self, now: Instant) -> usize {
        if now.since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, count: 0 };
        }
        self.count
    }
}
