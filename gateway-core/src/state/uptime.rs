//! For how long a child was up.

use core::time::Duration;

use ipsec_core::time::Instant;

/// A connection, or a child, that was up this long was a good one: the pauses between attempts start anew.
pub(crate) const LASTING: Duration = Duration::from_secs(30);

/// For how long a child was up without a break; the last time, when it is not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uptime {
    from: Instant,
    /// When the newest of its SAs came.
    pub(crate) newest: Instant,
    pub(crate) until: Option<Instant>,
    /// The last of its SAs had carried what it may: its end says nothing of whether the child is welcome.
    spent: bool,
}

impl Uptime {
    /// An SA came up.
    pub(crate) fn enter(this: &mut Option<Self>, now: Instant) {
        match this {
            Some(uptime) if uptime.until.is_none() => uptime.newest = now,
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
        let mut uptime = None;
        Uptime::enter(&mut uptime, at(10));
        let mut uptime = uptime.unwrap();
        assert!(uptime.is_up_since(at(10)) && !uptime.is_up_since(at(11)), "what came before is nothing new");
        uptime.leave(at(36), false);
        uptime.leave(at(41), true);
        assert!(!uptime.lasted(at(100)) && !uptime.is_up_since(at(10)));
    }
}
