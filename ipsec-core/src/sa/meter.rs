//! When an SA has done enough: what went through it against the limits of its lifetime (RFC 4301 §4.4.2.1).

use core::time::Duration;

use super::{Event, SaId};
use crate::error::Discard;
use crate::net::Spi;
use crate::time::Instant;

/// When something happens to an SA; `None` means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// Since the installation.
    pub age: Option<Duration>,
    /// Octets of inner packets.
    pub bytes: Option<u64>,
    /// Packets.
    pub packets: Option<u64>,
}

/// The lifetime of an SA (RFC 4301 §4.4.2.1). Never negotiated: a local matter.
///
/// ```
/// use core::time::Duration;
/// use ipsec_core::sa::{Lifetime, Limit};
/// let an_hour = Limit { age: Some(Duration::from_secs(3600)), ..Limit::default() };
/// let a_gigabyte = Limit { bytes: Some(1 << 30), ..Limit::default() };
/// let lifetime = Lifetime { soft: a_gigabyte, hard: an_hour };
/// assert_eq!(lifetime.hard.packets, None); // any number
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifetime {
    /// Raises [`Event::SoftLifetime`] once: time to rekey.
    pub soft: Limit,
    /// Raises [`Event::HardLifetime`] once: from here on every packet is discarded.
    pub hard: Limit,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Reached {
    /// [`Limit::age`].
    Age,
    /// [`Limit::bytes`].
    Bytes,
    /// [`Limit::packets`].
    Packets,
    /// Three quarters of the sequence numbers (soft), or the last one (hard). Not configurable.
    Sequence,
}

/// Something to be reported exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Once {
    /// Did not happen yet.
    No,
    /// Happened, not yet reported.
    Due,
    /// Reported.
    Done,
}

impl Once {
    /// Returns whether this was news.
    #[inline]
    pub(super) fn raise(&mut self) -> bool {
        let news = *self == Self::No;
        if news {
            *self = Self::Due;
        }
        news
    }

    pub(super) fn take(&mut self) -> bool {
        let due = *self == Self::Due;
        if due {
            *self = Self::Done;
        }
        due
    }
}

/// Packets, octets and time of an SA against its limits.
pub(crate) struct Meter {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) since: Instant,
    pub(super) last_used: Instant,
    soft: Threshold,
    hard: Threshold,
}

struct Threshold {
    at: Instant,
    bytes: u64,
    packets: u64,
    reached: Option<Reached>,
    report: Once,
}

impl Threshold {
    fn new(now: Instant, limit: &Limit) -> Self {
        Self {
            at: limit.age.map_or(Instant::FAR_FUTURE, |age| now.after(age)),
            bytes: limit.bytes.unwrap_or(u64::MAX),
            packets: limit.packets.unwrap_or(u64::MAX),
            reached: None,
            report: Once::No,
        }
    }

    #[inline]
    fn reach(&mut self, reached: Reached) {
        self.reached = self.reached.or(Some(reached));
        self.report.raise();
    }

    fn take(&mut self) -> Option<Reached> {
        if self.report.take() { self.reached } else { None }
    }
}

impl Meter {
    pub(super) fn new(now: Instant, lifetime: &Lifetime) -> Self {
        let (soft, hard) = (Threshold::new(now, &lifetime.soft), Threshold::new(now, &lifetime.hard));
        Self { packets: 0, bytes: 0, since: now, last_used: now, soft, hard }
    }

    /// Whether `len` more octets may go through. Returns `false` for good once a hard limit is reached.
    #[inline]
    pub(crate) fn admits(&mut self, now: Instant, len: usize) -> bool {
        if self.hard.reached.is_some() {
            return false;
        }
        let reached = if now >= self.hard.at {
            Reached::Age
        } else if self.packets >= self.hard.packets {
            Reached::Packets
        } else if self.bytes.saturating_add(len as u64) > self.hard.bytes {
            Reached::Bytes
        } else {
            return true;
        };
        self.hard.reach(reached);
        false
    }

    /// Counts an inner packet that went through. Returns whether there is something to report.
    #[inline]
    pub(crate) fn record(&mut self, now: Instant, len: usize) -> bool {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(len as u64);
        self.last_used = now;
        if self.packets >= self.soft.packets {
            self.soft.reach(Reached::Packets);
        } else if self.bytes >= self.soft.bytes {
            self.soft.reach(Reached::Bytes);
        } else if now >= self.soft.at {
            self.soft.reach(Reached::Age);
        }
        self.is_due()
    }

    /// The sequence numbers come near their end.
    #[inline]
    pub(crate) fn sequence_soft(&mut self) {
        self.soft.reach(Reached::Sequence);
    }

    /// The sequence numbers are used up.
    pub(crate) fn sequence_hard(&mut self) {
        self.hard.reach(Reached::Sequence);
    }

    /// Looks at the clock without a packet.
    pub(crate) fn tick(&mut self, now: Instant) {
        if now >= self.soft.at {
            self.soft.reach(Reached::Age);
        }
        if now >= self.hard.at {
            self.hard.reach(Reached::Age);
        }
    }

    /// When [`Meter::tick`] next has something to say.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let pending = |threshold: &Threshold| (threshold.reached.is_none()).then_some(threshold.at);
        let next = match (pending(&self.soft), pending(&self.hard)) {
            (Some(soft), Some(hard)) => Some(soft.min(hard)),
            (soft, hard) => soft.or(hard),
        };
        next.filter(|at| *at != Instant::FAR_FUTURE)
    }

    #[inline]
    pub(crate) const fn is_dead(&self) -> bool {
        self.hard.reached.is_some()
    }

    /// Whether a limit is to be reported.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.soft.report == Once::Due || self.hard.report == Once::Due
    }

    /// The next limit to report. A dead SA has no use for its soft limit.
    pub(crate) fn take_event(&mut self, sa: SaId, spi: Spi) -> Option<Event> {
        if let Some(reached) = self.hard.take() {
            self.soft.report = Once::Done;
            return Some(Event::HardLifetime { sa, spi, reached });
        }
        self.soft.take().map(|reached| Event::SoftLifetime { sa, spi, reached })
    }

    /// Why a packet does not go through a dead outbound SA.
    pub(crate) fn why_dead(&self) -> Discard {
        match self.hard.reached {
            Some(Reached::Sequence) => Discard::OutExhausted,
            _ => Discard::OutExpired,
        }
    }
}
