//! When to try again what the kernel was not told.

use std::time::{Duration, Instant};

/// After the first failure.
const SOON: Duration = Duration::from_millis(250);
/// At most this long.
const LATEST: Duration = Duration::from_secs(8);

/// Nothing to do, or a time at which to do it; each failure in a row doubles the wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Retry {
    at: Option<Instant>,
    wait: Duration,
}

impl Retry {
    /// It failed, at `now`. A failure before its time moves nothing.
    pub(crate) fn failed(&mut self, now: Instant) {
        if self.at.is_some_and(|at| at > now) {
            return;
        }
        self.wait = if self.at.is_none() { SOON } else { self.wait.saturating_mul(2).clamp(SOON, LATEST) };
        self.at = Some(now + self.wait);
    }

    /// It is to be done now, and is no failure yet.
    pub(crate) fn wanted(&mut self, now: Instant) {
        if self.at.is_none() {
            (self.at, self.wait) = (Some(now), Duration::ZERO);
        }
    }

    /// It worked.
    pub(crate) fn done(&mut self) {
        self.at = None;
    }

    /// When it is tried again; `None`: it worked.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Whether it is time.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_01_what_failed_is_tried_again_soon_and_then_less_often() {
        let mut retry = Retry::default();
        let mut now = Instant::now();
        assert!(!retry.is_due(now + LATEST), "nothing has failed");
        let mut waits = Vec::new();
        for _ in 0..8 {
            retry.failed(now);
            let at = retry.at().unwrap();
            waits.push((at - now).as_millis());
            assert!(!retry.is_due(at - Duration::from_millis(1)) && retry.is_due(at));
            retry.failed(now);
            assert_eq!(retry.at(), Some(at), "somebody else's doing brought us here earlier");
            now = at;
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        let (at, before) = (retry.at(), now - LATEST);
        retry.wanted(before);
        assert_eq!(retry.at(), at, "no excuse");
        retry.done();
        assert_eq!(retry.at(), None);
        retry.wanted(now);
        assert!(retry.is_due(now));
        retry.failed(now);
        assert_eq!(retry.at(), Some(now + SOON), "wanted and failed");
        retry.done();
        retry.failed(now);
        assert_eq!(retry.at(), Some(now + SOON), "from the beginning");
    }
}
