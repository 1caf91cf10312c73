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
const LED_OUTSIDE: &str = "packets were led outside that are for networks on our side, or past the tunnel's device, and the guard \
                           dropped them: networks on our side are led where nothing says that they lie, see `led_outside`";

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
    /// What these are, as far as that is known.
    what: &'static str,
    into: Watched,
}

impl Vigil {
    pub(super) fn new(now: Instant) -> Self {
        let watched = || Watched { seen: 0, looks: 0, quiet_until: now };
        Self { next: now + LOOK, out: watched(), what: LED_PAST, into: watched() }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// Why packets that are to be protected do not reach the tunnel, if that goes on.
    pub(super) fn led_past(&self) -> Option<&'static str> {
        (self.out.looks > 1).then_some(self.what)
    }

    /// Looks at how many packets the guard has dropped on their way out, and how many were dropped that came in, all in clear.
    /// `astray`: some of our own networks are led outside; what is for these is counted on its way out, too.
    pub(super) fn look(&mut self, now: Instant, (out, astray): (u64, bool), into: u64) {
        self.next = now + LOOK;
        self.what = if astray { LED_OUTSIDE } else { LED_PAST };
        if let Some(packets) = self.out.look(now, out) {
            warn!(packets, "{}", self.what);
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
    fn f_07_packets_are_gathered_from_one_look_to_the_next_and_counted_both_ways() {
        let start = Instant::now();
        let mut vigil = Vigil::new(start);
        for number in 1..4 {
            let now = start + LOOK * number;
            assert!(vigil.is_due(now));
            vigil.look(now, (100, false), 200);
            assert!(!vigil.is_due(now) && !vigil.is_due(now + LOOK - Duration::from_millis(1)));
            assert_eq!((vigil.out.seen, vigil.into.seen), (100, 200));
        }
    }

    #[test]
    fn f_07_what_is_led_past_the_device_is_trouble_once_it_goes_on_and_as_long_as_it_does() {
        let start = Instant::now();
        let mut vigil = Vigil::new(start);
        let mut looks = |out| {
            vigil.look(start, (out, false), 0);
            vigil.led_past().is_some()
        };
        assert_eq!([0, 10, 20, 30, 39, 139].map(&mut looks), [false, false, true, true, false, false]);
    }

    #[test]
    fn f_07_where_a_network_of_ours_is_led_outside_nobody_is_sent_to_look_for_rules_before_ours() {
        let mut vigil = Vigil::new(Instant::now());
        let mut what = |out, astray| {
            vigil.look(Instant::now(), (out, astray), 0);
            vigil.led_past()
        };
        what(100, true);
        assert_eq!(what(200, true), Some(LED_OUTSIDE));
        assert_eq!(what(300, false), Some(LED_PAST));
    }
}
