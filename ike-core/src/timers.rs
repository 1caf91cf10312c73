//! When: moments of rekeys, and pauses that grow.

use core::time::Duration;

use ipsec_core::time::Instant;

use crate::crypto::IkeCrypto;

/// The most by which a pause grows.
const LONGEST: u32 = 32;

/// What a Child SA keeps before its end for three tries to replace it: a peer that refuses them is asked again after 30 s and
/// after 60 s more.
const ROOM: u64 = 120_000;

/// When to rekey: up to a tenth before `after` where we began, up to a tenth after it where the peer did, so that the
/// sides seldom start at the same moment; and not after `latest`.
pub(crate) fn rekey_at<C: IkeCrypto>(
    crypto: &mut C,
    now: Instant,
    after: Duration,
    latest: Duration,
    ours: bool,
) -> Option<Instant> {
    if after.is_zero() {
        return None;
    }
    let mut random = [0];
    crypto.random(&mut random);
    let [random] = random;
    Some(now + moved(after, latest, random, ours))
}

/// The latest age at which a rekey still has room for some tries before the SA ends at this one, zero for never.
pub(crate) fn in_time(lifetime: Duration) -> Duration {
    match millis(lifetime) {
        0 => Duration::MAX,
        all => Duration::from_millis(all.saturating_sub(ROOM.min(all / 4))),
    }
}

/// By up to 255/2560 earlier or later, in milliseconds: arithmetic on a Duration could panic.
fn moved(after: Duration, latest: Duration, random: u8, earlier: bool) -> Duration {
    let (after, latest) = (millis(after.min(latest)), millis(latest));
    let span = if earlier { after / 10 } else { latest.saturating_sub(after).min(after / 10) };
    let jitter = (span / 256).saturating_mul(u64::from(random));
    Duration::from_millis(if earlier { after.saturating_sub(jitter) } else { after.saturating_add(jitter) })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The least time that a peer can give us to authenticate anew, in milliseconds.
const SHORTEST: u64 = 10_000;
/// How long before the end at least: the SA that it is about has to be gone by then.
const AHEAD: u64 = 15_000;

/// When to authenticate anew, where the peer says in AUTH_LIFETIME for how many seconds it takes us for authenticated (RFC
/// 4478 §3): a tenth of it ahead, and some more. `None`: it does not say.
pub(crate) fn reauthenticate_at<C: IkeCrypto>(crypto: &mut C, now: Instant, data: &[u8]) -> Option<Instant> {
    let seconds = u32::from_be_bytes(data.try_into().ok()?);
    let whole = u64::from(seconds).saturating_mul(1_000);
    let millis = whole.saturating_sub(AHEAD.max(whole / 10)).max(whole / 2).max(SHORTEST);
    rekey_at(crypto, now, Duration::from_millis(millis), Duration::MAX, true)
}

/// When to do what may be due by itself, or because somebody wishes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum When {
    #[default]
    Never,
    At(Instant),
    /// As soon as the window is free.
    Now,
}

impl When {
    /// The moment that it waits for.
    pub(crate) fn at(self) -> Option<Instant> {
        match self {
            Self::At(at) => Some(at),
            Self::Never | Self::Now => None,
        }
    }

    /// Makes a wish of what is due. `true`: just now.
    pub(crate) fn ripen(&mut self, now: Instant) -> bool {
        let ripe = self.at().is_some_and(|at| at <= now);
        if ripe {
            *self = Self::Now;
        }
        ripe
    }

    /// Takes the wish, if there is one. What comes of it says when the next is due.
    pub(crate) fn take(&mut self) -> bool {
        let wished = *self == Self::Now;
        if wished {
            *self = Self::Never;
        }
        wished
    }
}

impl From<Option<Instant>> for When {
    fn from(at: Option<Instant>) -> Self {
        at.map_or(Self::Never, Self::At)
    }
}

/// How long after its pause the next try may still be refused for it to be in the same row: it may have to wait for the
/// window and for its answer. What is refused later begins anew.
const ROW: Duration = Duration::from_secs(60);

/// Refusals in a row: since when, and how long to wait before the next try.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Patience {
    since: Option<Instant>,
    /// When the row is over if nothing more is refused.
    until: Option<Instant>,
    refusals: u8,
}

impl Patience {
    /// Refused once more: the pause before the next try, twice as long each time, half of it by chance: what met the peer's
    /// request would meet it each time again when the peer pauses for the same reason.
    pub(crate) fn refused_by_chance<C: IkeCrypto>(
        &mut self,
        crypto: &mut C,
        now: Instant,
        first: Duration,
    ) -> Duration {
        let pause = u64::try_from(self.refused(now, first).as_millis()).unwrap_or(u64::MAX);
        let mut random = [0];
        crypto.random(&mut random);
        let [random] = random;
        Duration::from_millis((pause / 512).saturating_mul(u64::from(random)).saturating_add(pause / 2))
    }

    /// Refused once more: the pause before the next try, twice as long each time.
    pub(crate) fn refused(&mut self, now: Instant, first: Duration) -> Duration {
        if self.until.is_some_and(|until| until < now) {
            self.renew();
        }
        self.since.get_or_insert(now);
        let factor = 1u32.checked_shl(u32::from(self.refusals)).map_or(LONGEST, |factor| factor.min(LONGEST));
        self.refusals = self.refusals.saturating_add(1);
        let pause = first.saturating_mul(factor);
        self.until = Some(now + pause + ROW);
        pause
    }

    /// Whether nothing but refusals came for so long.
    pub(crate) fn is_over(&self, now: Instant, patience: Duration) -> bool {
        self.since.is_some_and(|since| since + patience <= now)
    }

    /// Since when nothing but refusals came.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// All that there is of it, for a test that compares states.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> (Option<Instant>, Option<Instant>, u8) {
        (self.since, self.until, self.refusals)
    }

    /// Not refused, or the peer shows otherwise that it goes on.
    pub(crate) fn renew(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_wished_for_once() {
        let mut when = When::At(Instant::from_millis(5));
        assert!(!when.ripen(Instant::from_millis(4)) && !when.take());
        assert!(when.ripen(Instant::from_millis(5)) && !when.ripen(Instant::from_millis(6)));
        assert_eq!(when.at(), None);
        assert!(when.take() && !when.take());
        assert_eq!(when, When::Never);
    }

    #[test]
    fn a_rekey_comes_up_to_a_tenth_earlier_or_later_and_no_more() {
        let (hour, tenth) = (Duration::from_secs(3600), Duration::from_secs(360));
        let moved = |after, random, earlier| moved(after, Duration::MAX, random, earlier);
        assert_eq!((moved(hour, 0, true), moved(hour, 0, false)), (hour, hour));
        let (earliest, latest) = (moved(hour, u8::MAX, true), moved(hour, u8::MAX, false));
        assert!(earliest >= hour - tenth && earliest < hour - tenth * 9 / 10, "{earliest:?}");
        assert!(latest <= hour + tenth && latest > hour + tenth * 9 / 10, "{latest:?}");
        assert_eq!(moved(Duration::MAX, u8::MAX, false), Duration::from_millis(u64::MAX));
    }

    #[test]
    fn f_61_a_rekey_comes_with_room_for_some_tries_before_the_lifetime_ends() {
        let secs = Duration::from_secs;
        for (rekey, lifetime) in [(3600, 3960), (600, 720), (600, 660), (3600, 3601), (60, 180), (60, 61)] {
            for random in [0, 1, 100, u8::MAX] {
                let moved = |earlier| moved(secs(rekey), in_time(secs(lifetime)), random, earlier);
                let room = secs(120).min(secs(lifetime) / 4);
                assert!(moved(false) + room <= secs(lifetime), "{rekey} {lifetime} {random}");
                assert!(random < 100 || moved(true) < moved(false), "{rekey} {lifetime} {random}: both at once");
            }
        }
        assert_eq!(in_time(Duration::ZERO), Duration::MAX);
    }

    #[test]
    fn pauses_grow_up_to_a_limit_and_start_anew() {
        let mut patience = Patience::default();
        let first = Duration::from_secs(2);
        let pauses: std::vec::Vec<_> = (0..7).map(|_| patience.refused(Instant::ZERO, first).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 64]);
        assert!(!patience.is_over(Instant::from_millis(179_999), Duration::from_secs(180)));
        assert!(patience.is_over(Instant::from_millis(180_000), Duration::from_secs(180)));
        patience.renew();
        assert!(!patience.is_over(Instant::from_millis(u64::MAX), Duration::ZERO));
        assert_eq!(patience.refused(Instant::ZERO, first), first);
        for _ in 0..300 {
            assert!(patience.refused(Instant::ZERO, first) <= first * LONGEST);
        }
    }

    #[test]
    fn what_is_refused_long_after_its_pause_is_in_no_row() {
        let first = Duration::from_secs(2);
        let (mut patience, mut now) = (Patience::default(), Instant::ZERO);
        for pause in [2, 4, 8] {
            assert_eq!(patience.refused(now, first).as_secs(), pause);
            now = now + Duration::from_secs(pause) + ROW;
        }
        assert!(patience.is_over(now, Duration::from_secs(180)));
        assert_eq!(patience.refused(now + Duration::from_millis(1), first), first);
        assert!(!patience.is_over(now + Duration::from_secs(180), Duration::from_secs(180)));
    }
}
