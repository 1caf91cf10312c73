//! What an SA is found by, said in one place.

use core::ops::DerefMut;

use super::policies::Home;
use crate::sa::{self, Event, SaId};
use crate::time::Instant;

/// What an SA lies in.
pub(crate) trait Place: DerefMut<Target: Filed + Sized> + From<Self::Target> {}

impl<T: DerefMut<Target: Filed + Sized> + From<Self::Target>> Place for T {}

/// What the table asks of an SA.
pub(crate) trait Filed {
    /// When its age next has something to say.
    fn due(&self) -> Option<Instant>;
    /// Whether it has something to report.
    fn tells(&self) -> bool;
    /// Where packets find it: those that have no SPI yet, or one that does not carry its slot.
    fn home(&self) -> Option<Home>;
    /// Whether any of that may be another than when it was last [`settled`](Self::settled).
    fn is_touched(&self) -> bool;
    /// It is filed as it says.
    fn settled(&mut self);
    /// Looks at the clock without a packet.
    fn tick(&mut self, now: Instant);
    /// The next thing to report.
    fn take_event(&mut self, id: SaId) -> Option<Event>;
}

impl<K> Filed for sa::Outbound<K> {
    fn due(&self) -> Option<Instant> {
        self.common.meter.next_tick()
    }

    fn tells(&self) -> bool {
        self.common.meter.tells()
    }

    fn home(&self) -> Option<Home> {
        let (_, remote) = self.common.selectors();
        Some(Home::of(self.common.policy(), remote))
    }

    #[inline]
    fn is_touched(&self) -> bool {
        self.common.meter.is_touched()
    }

    fn settled(&mut self) {
        self.common.meter.settled();
    }

    fn tick(&mut self, now: Instant) {
        self.common.meter.tick(now);
    }

    fn take_event(&mut self, id: SaId) -> Option<Event> {
        self.common.meter.take_event(id, self.common.spi)
    }
}

impl<K> Filed for sa::Inbound<K> {
    fn due(&self) -> Option<Instant> {
        self.common.meter.next_tick()
    }

    fn tells(&self) -> bool {
        self.tells()
    }

    fn home(&self) -> Option<Home> {
        Some(Home::of_spi(self.common.spi))
    }

    #[inline]
    fn is_touched(&self) -> bool {
        self.is_touched()
    }

    fn settled(&mut self) {
        self.settled();
    }

    fn tick(&mut self, now: Instant) {
        self.common.meter.tick(now);
    }

    fn take_event(&mut self, id: SaId) -> Option<Event> {
        self.take_event(id)
    }
}
