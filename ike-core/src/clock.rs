//! What time it is, as the caller's clocks say: nothing here reads one.

use ipsec_core::time::Instant;

/// Seconds since 1970-01-01 00:00:00 UTC, as certificates count them (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnixTime(pub u64);

/// Now: what everything goes by, and what the clock on the wall says, which may be set, or not be there.
///
/// Whoever has no clock on the wall, or no use for it, gives an [`Instant`].
///
/// ```
/// use ike_core::clock::{Now, UnixTime};
/// use ipsec_core::time::Instant;
/// let boot = Instant::from_millis(1_000);
/// assert_eq!(Now::from(boot), Now { at: boot, wall: None });
/// let _ = Now { at: boot, wall: Some(UnixTime(1_800_000_000)) };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Now {
    /// On the clock that never goes back; [`Instant`] says what if it does.
    pub at: Instant,
    /// On the wall; without it nothing that is valid for a time can be judged.
    pub wall: Option<UnixTime>,
}

impl From<Instant> for Now {
    fn from(at: Instant) -> Self {
        Self { at, wall: None }
    }
}
