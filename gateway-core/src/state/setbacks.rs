//! How often asking for a child came to nothing, and when it is asked for again.

use ipsec_core::time::Instant;

use super::pause::pause;

/// What asking for a child met with.
#[derive(Default)]
pub(crate) struct Setbacks {
    pub(crate) failures: u32,
    /// So many times in a row it could not even be asked for.
    denied: u32,
    /// How often in a row it came up and was gone soon.
    brief: u32,
    pub(crate) retry_at: Option<Instant>,
}

impl Setbacks {
    /// What it was refused counts no more.
    pub(crate) fn trust(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    /// Nor does how often it was gone soon.
    pub(crate) fn forgive(&mut self) {
        self.trust();
        self.brief = 0;
    }

    /// It is asked for.
    pub(crate) fn ask(&mut self) {
        self.denied = 0;
    }

    /// It could not even be asked for.
    pub(crate) fn put_off(&mut self, now: Instant, salt: u32) {
        self.denied = self.denied.saturating_add(1);
        self.retry_at = Some(now + pause(self.denied, salt));
    }

    /// The peer refused more than it: that alone is no reason to wait with it.
    pub(crate) fn count(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// It is refused.
    pub(crate) fn fail(&mut self, now: Instant, salt: u32) {
        self.count();
        self.retry_at = Some(now + pause(self.failures, salt));
    }

    /// It came up and is down again. `lasted`: it was up for long. `at_once`: it comes again without a pause then.
    pub(crate) fn lose(&mut self, now: Instant, salt: u32, lasted: bool, at_once: bool) {
        self.failures = if lasted { 0 } else { self.brief };
        self.brief = if lasted { 0 } else { self.brief.saturating_add(1) };
        self.fail(now, salt);
        if lasted && at_once {
            self.trust();
        }
    }
}
