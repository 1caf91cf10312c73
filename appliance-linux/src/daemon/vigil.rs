//! What is kept from passing in clear, told now and then: a tunnel that is up and carries nothing, because somebody's route
//! leads past it, looks well from everywhere else.

use std::time::{Duration, Instant};

use tracing::warn;

/// How often the counters are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// So many packets between two looks are worth a line: single ones come in the moments in which somebody changes routes.
const MANY: u64 = 10;
/// One line in so much time is enough, and no more than strangers may cause.
const EVERY: Duration = Duration::from_secs(60);

const LED_PAST: &str = "packets that are to be protected were led past the tunnel's device, and the guard dropped them: a rule or \
                        route of somebody's comes before ours; `portcullis doctor` says where they go";

/// What was told of one counter.
struct Watched {
    seen: u64,
    /// How many looks in a row found many packets.
    looks: u32,
    quiet_until: Instant,
}

impl Watched {
    /// How many packets came since the last look, where that is worth a line.
    fn look(&mut self, now: Instant, count: u64) -> Option<u64> {
        let packets = count.saturating_sub(std::mem::replace(&mut self.seen, count));
        self.looks = if packets < MANY { 0 } else { self.looks.saturating_add(1) };
        if packets < MANY || now < self.quiet_until {
            return None;
        }
        self.quiet_until = now + EVERY;
        Some(packets)
    }
}

/// What was told of packets that would have passed in clear.
pub(super) struct Vigil {
    next: Instant,
    out: Watched,
    into: Watched,
}

impl Vigil {
    pub(super) fn new(now: Instant) -> Self {
        let watched = || Watched { seen: 0, looks: 0, quiet_until: now };
        Self { next: now + LOOK, out: watched(), into: watched() }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// Why packets that are to be protected do not reach the tunnel, if that goes on.
    pub(super) fn led_past(&self) -> Option<&'static str> {
        (self.out.looks > 1).then_some(LED_PAST)
    }

    /// Looks at how many packets the guard has dropped on their way out, and how many were dropped that came in, all in clear.
    pub(super) fn look(&mut self, now: Instant, out: u64, into: u64) {
        self.next = now + LOOK;
        if let Some(packets) = self.out.look(now, out) {
            warn!(packets, "{LED_PAST}");
        }
        if let Some(packets) = self.into.look(now, into) {
            warn!(
                packets,
                "packets came in clear that are to be protected, and were dropped: the peer sends them past its tunnel, or \
                 somebody sends in its name"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_07_packets_that_are_kept_in_for_long_are_told_once_a_minute_and_single_ones_are_not() {
        let start = Instant::now();
        let mut watched = Watched { seen: 0, looks: 0, quiet_until: start };
        assert_eq!(watched.look(start, MANY - 1), None);
        assert_eq!(watched.look(start, 2 * MANY - 1), Some(MANY));
        assert_eq!(watched.look(start + LOOK, 100), None, "it was told just now");
        assert_eq!(watched.look(start + EVERY, 100), None, "and is over");
        assert_eq!(watched.look(start + EVERY, 200), Some(100));
    }

    #[test]
    fn f_07_what_is_led_past_the_device_is_trouble_once_it_goes_on_and_as_long_as_it_does() {
        let start = Instant::now();
        let mut vigil = Vigil::new(start);
        let mut looks = |out| {
            vigil.look(start, out, 0);
            vigil.led_past().is_some()
        };
        assert_eq!([0, 100, 200, 300, 300, 400].map(&mut looks), [false, false, true, true, false, false]);
    }
}
