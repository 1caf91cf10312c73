//! A moment and whose it is, as one number.

use ipsec_core::time::Instant;

/// How many are looked at together: they fill a line of a cache.
pub(super) const FAMILY: usize = 8;
/// Octets that a place takes in a [`Due`].
const PLACE: u32 = 16;
/// What is later than this, some 8,900 years, never comes.
const LAST: u64 = u64::MAX >> PLACE;

/// A moment, and whose it is. The earlier comes first, and of several at the same moment the one with the lowest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due(u64);

impl Due {
    /// Nobody's.
    pub(super) const NEVER: Self = Self(u64::MAX);

    pub(super) fn of(moment: Instant, place: u16) -> Self {
        Self((moment.as_millis().min(LAST) << PLACE) | u64::from(place))
    }

    pub(super) fn moment(self) -> Instant {
        let millis = self.0 >> PLACE;
        if millis < LAST { Instant::from_millis(millis) } else { Instant::FAR_FUTURE }
    }

    pub(super) fn place(self) -> u16 {
        u16::try_from(self.0 & u64::from(u16::MAX)).unwrap_or(u16::MAX)
    }
}
