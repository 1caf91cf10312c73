//! How patient we are with a peer that calls beside the connection that stands.

use core::time::Duration;

use ipsec_core::time::Instant;

/// The side that was called leaves this much time to the one that called to ask for the children itself.
pub(crate) const COURTESY: Duration = Duration::from_secs(10);
/// Two connections that come so long after the last ones are none of the same row.
const ROW: Duration = Duration::from_secs(3600);

/// How often in a row one of two connections had to be closed, and when last.
#[derive(Default)]
pub(crate) struct Merges {
    row: u32,
    last: Option<Instant>,
}

impl Merges {
    /// How many in a row were before two connections that there are since then.
    pub(crate) fn before(&self, since: Instant) -> u32 {
        self.last.filter(|last| since.since(*last) < ROW).map_or(0, |_| self.row)
    }

    /// How many times as long as the first time to wait with closing one of them.
    pub(crate) fn patience(&self, since: Instant) -> u32 {
        1u32.checked_shl(self.before(since).min(6)).unwrap_or(1)
    }

    /// One of them is closed.
    pub(crate) fn count(&mut self, now: Instant, since: Instant) {
        *self = Self { row: self.before(since).saturating_add(1), last: Some(now) };
    }
}
