//! What the packets of an SA tell of the peer's: silence is found where packets go out and none comes in.

use core::time::Duration;

use ipsec_core::time::Instant;

/// What the packets of an SA tell of the peer's.
#[derive(Clone, Copy, Default)]
pub(crate) struct Silence {
    /// The last sign of life on it, which IKE was told of, or on what it replaced.
    pub(crate) heard: Option<Instant>,
    /// A packet that went out since.
    first: Option<Instant>,
    /// One that went out half an interval after that, or later.
    again: Option<Instant>,
    /// Since when it is silent, while it is not known yet whether the peer is away altogether.
    pub(crate) put_off: Option<Instant>,
    /// When it, or what it replaced, was last rekeyed for its silence.
    pub(crate) probed: Option<Instant>,
}

impl Silence {
    /// Counts anew, since this sign of life.
    pub(crate) fn hear(&mut self, last: Option<Instant>) {
        *self = Self { heard: last, first: None, again: None, put_off: None, ..*self };
    }

    /// What another SA heard before it ended counts for this one.
    pub(crate) fn take_over(&mut self, gone: Self) {
        if gone.heard > self.heard {
            self.probed = self.probed.max(gone.probed);
            self.hear(gone.heard);
        }
    }

    /// Looks at what was `sent` last. When that is silence, returns since when, and begins anew.
    pub(crate) fn look(&mut self, now: Instant, sent: Option<Instant>, interval: Duration) -> Option<Instant> {
        let sent = sent.filter(|sent| Some(*sent) > self.heard)?;
        let first = *self.first.get_or_insert(sent);
        if sent.since(first).saturating_mul(2) >= interval {
            self.again.get_or_insert(sent);
        }
        self.over(interval).filter(|over| *over <= now)?;
        self.hear(self.heard);
        Some(first)
    }

    /// One packet waits for an answer as long as an interval, and a later one a quarter: its answer may be on its way.
    fn over(&self, interval: Duration) -> Option<Instant> {
        self.first.zip(self.again).map(|(first, again)| (first + interval).max(again + quarters(1, interval)))
    }

    /// When to look again.
    pub(crate) fn next(&self, now: Instant, interval: Duration) -> Instant {
        let later = [3, 4].map(|count| self.first.map(|first| first + quarters(count, interval)));
        let mut looks = [self.over(interval)].into_iter().chain(later).flatten();
        looks.find(|at| *at > now).unwrap_or(now + interval)
    }
}

fn quarters(count: u32, interval: Duration) -> Duration {
    interval.saturating_mul(count).checked_div(4).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an SA that sends a packet in so many milliseconds and hears nothing: when that is found to be silence.
    fn noticed(period: u64) -> u64 {
        let (mut silence, interval, mut now) = (Silence::default(), Duration::from_secs(10), 0);
        for _ in 0..20 {
            let at = Instant::from_millis(now);
            let sent = now.checked_div(period).unwrap() * period;
            if silence.look(at, Some(Instant::from_millis(sent)), interval).is_some() {
                assert_eq!(silence.look(at, Some(Instant::from_millis(sent)), interval), None, "twice");
                return now;
            }
            now = silence.next(at, interval).since(Instant::ZERO).as_millis().try_into().unwrap();
        }
        panic!("never");
    }

    #[test]
    fn f_65_silence_is_found_as_soon_as_a_later_packet_has_waited_too() {
        assert_eq!([1000, 4000, 7000, 9000, 12_000].map(noticed), [10_000, 10_500, 10_000, 11_500, 20_000]);
    }
}
