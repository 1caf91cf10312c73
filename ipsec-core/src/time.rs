//! Time as the caller tells it: nothing in the cores reads a clock.

use core::time::Duration;

/// Milliseconds on the caller's monotonic clock; the origin is the caller's choice.
///
/// Where it goes back all the same, nothing breaks, but what was to happen at a time waits until the clock says that time again:
/// repetitions, rekeys, signs of life, the ends of SAs. A clock that jumps ahead makes them due at once.
///
/// ```
/// use core::time::Duration;
/// use ipsec_core::time::Instant;
/// let start = Instant::from_millis(1_000);
/// assert_eq!(start + Duration::from_secs(2), Instant::from_millis(3_000));
/// assert_eq!(start.since(Instant::from_millis(5_000)), Duration::ZERO); // saturates
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant(u64);

impl Instant {
    /// The origin of the caller's clock.
    pub const ZERO: Self = Self(0);
    /// Later than any instant a clock reaches.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// An instant `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the origin.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The instant `duration` later; saturates at [`Instant::FAR_FUTURE`]. The same as `+`.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Time passed since `earlier`; zero when `earlier` lies in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;
    /// Saturates at [`Instant::FAR_FUTURE`].
    fn add(self, duration: Duration) -> Self {
        self.after(duration)
    }
}
