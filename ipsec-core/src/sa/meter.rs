//! When an SA has done enough: what went through it against the limits of its lifetime (RFC 4301 §4.4.2.1).

use super::event::Event;
use super::ids::SaId;
use super::lifetime::{Lifetime, Limit, Reached};
use super::news::{Marked, Once};
use crate::error::Discard;
use crate::net::Spi;
use crate::time::Instant;

/// Packets, octets and time of an SA against its limits.
pub(crate) struct Meter {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// Octets that its key was used for.
    processed: u64,
    pub(super) since: Instant,
    pub(super) last_used: Instant,
    limits: Marked<Limits>,
}

/// What it is filed by.
struct Limits {
    soft: Threshold,
    hard: Threshold,
}

struct Threshold {
    at: Instant,
    bytes: u64,
    packets: u64,
    reached: Once<Reached>,
}

impl Threshold {
    fn new(now: Instant, limit: &Limit) -> Self {
        Self {
            at: limit.age.map_or(Instant::FAR_FUTURE, |age| now.after(age)),
            bytes: limit.bytes.unwrap_or(u64::MAX),
            packets: limit.packets.unwrap_or(u64::MAX),
            reached: Once::No,
        }
    }
}

impl Meter {
    pub(super) fn new(now: Instant, lifetime: &Lifetime) -> Self {
        let limits = Limits { soft: Threshold::new(now, &lifetime.soft), hard: Threshold::new(now, &lifetime.hard) };
        Self { packets: 0, bytes: 0, processed: 0, since: now, last_used: now, limits: Marked::new(limits) }
    }

    /// Only the first time is news.
    fn reach_soft(&mut self, reached: Reached) {
        if !self.limits.soft.reached.happened() {
            self.limits.soft.reached = Once::Due(reached);
        }
    }

    fn reach_hard(&mut self, reached: Reached) {
        if !self.is_dead() {
            self.limits.hard.reached = Once::Due(reached);
        }
    }

    /// Whether the key may be used for `len` more octets. Returns `false` for good once a hard limit is reached.
    #[inline]
    pub(crate) fn admits(&mut self, now: Instant, len: usize) -> bool {
        let hard = &self.limits.hard;
        let reached = if self.is_dead() {
            return false;
        } else if now >= hard.at {
            Reached::Age
        } else if self.packets >= hard.packets {
            Reached::Packets
        } else if self.processed.saturating_add(len as u64) > hard.bytes {
            Reached::Bytes
        } else {
            return true;
        };
        self.reach_hard(reached);
        false
    }

    /// Counts a packet that went through, with `len` octets that are somebody's, of `processed` ones that the key was used for.
    #[inline]
    pub(crate) fn record(&mut self, now: Instant, len: usize, processed: usize) {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(len as u64);
        self.processed = self.processed.saturating_add(processed as u64);
        self.last_used = now;
        let soft = &self.limits.soft;
        let reached = if self.packets >= soft.packets {
            Reached::Packets
        } else if self.processed >= soft.bytes {
            Reached::Bytes
        } else if now >= soft.at {
            Reached::Age
        } else {
            return;
        };
        self.reach_soft(reached);
    }

    /// The sequence numbers come near their end.
    #[inline]
    pub(crate) fn sequence_soft(&mut self) {
        self.reach_soft(Reached::Sequence);
    }

    /// The sequence numbers are used up.
    pub(crate) fn sequence_hard(&mut self) {
        self.reach_hard(Reached::Sequence);
    }

    /// Looks at the clock without a packet.
    pub(crate) fn tick(&mut self, now: Instant) {
        if now >= self.limits.soft.at {
            self.reach_soft(Reached::Age);
        }
        if now >= self.limits.hard.at {
            self.reach_hard(Reached::Age);
        }
    }

    /// When [`Meter::tick`] next has something to say.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let pending = |threshold: &Threshold| (!threshold.reached.happened()).then_some(threshold.at);
        let next = match (pending(&self.limits.soft), pending(&self.limits.hard)) {
            (Some(soft), Some(hard)) => Some(soft.min(hard)),
            (soft, hard) => soft.or(hard),
        };
        next.filter(|at| *at != Instant::FAR_FUTURE)
    }

    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        self.limits.hard.reached.happened()
    }

    /// Whether a limit is to be reported.
    pub(crate) fn tells(&self) -> bool {
        self.limits.soft.reached.is_due() || self.limits.hard.reached.is_due()
    }

    /// Whether what it is filed by may be another than when it was last [`settled`](Self::settled).
    #[inline]
    pub(crate) fn is_touched(&self) -> bool {
        self.limits.is_touched()
    }

    /// It is filed as it says.
    pub(crate) fn settled(&mut self) {
        self.limits.settled();
    }

    /// The next limit to report. A dead SA has no use for its soft limit.
    pub(crate) fn take_event(&mut self, sa: SaId, spi: Spi) -> Option<Event> {
        let Limits { soft, hard } = &mut *self.limits;
        if let Some(reached) = hard.reached.take() {
            soft.reached = Once::Done(soft.reached.what().unwrap_or(reached));
            return Some(Event::HardLifetime { sa, spi, reached });
        }
        soft.reached.take().map(|reached| Event::SoftLifetime { sa, spi, reached })
    }

    /// Why a packet does not go through a dead outbound SA.
    pub(crate) fn why_dead(&self) -> Discard {
        match self.limits.hard.reached.what() {
            Some(Reached::Sequence) => Discard::OutExhausted,
            _ => Discard::OutExpired,
        }
    }
}
