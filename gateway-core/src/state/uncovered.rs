//! What the peer gave no SA for: it is asked for the same ever more rarely, and for all else as before.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use ipsec_core::net::TrafficSelector;
use ipsec_core::time::Instant;

/// Of our side and of the peer's.
type Traffic = (TrafficSelector, TrafficSelector);

/// So many are remembered of a child.
const REMEMBERED: usize = 16;
/// The pause after the first refusal of something; each further one is twice as long, up to 64 times.
const FIRST: Duration = Duration::from_secs(60);
/// The pause after a refusal for anything else: a host that sends everywhere makes more of them than are remembered.
const ANY: Duration = Duration::from_secs(1);

/// Questions for single packets of a child that came to nothing.
#[derive(Default)]
pub(crate) struct Uncovered {
    refused: Vec<Refused>,
    any: Option<Instant>,
}

struct Refused {
    traffic: Traffic,
    until: Instant,
    /// How often it was refused before.
    before: u32,
}

impl Uncovered {
    /// When the peer may be asked for this.
    pub(crate) fn again(&self, traffic: &Traffic) -> Option<Instant> {
        let same = self.refused.iter().find(|refused| refused.traffic == *traffic);
        same.map(|refused| refused.until).max(self.any)
    }

    /// The peer gives no SA for this. Whether that is worth a word: not while as many others wait as are remembered.
    pub(crate) fn refuse(&mut self, now: Instant, traffic: Traffic) -> bool {
        let known = self.refused.iter().find(|refused| refused.traffic == traffic).map(|refused| refused.before);
        let waiting = self.refused.iter().filter(|refused| refused.until > now).count();
        self.refused.retain(|refused| refused.traffic != traffic);
        // What may be asked for soonest gives its place.
        self.refused.sort_unstable_by_key(|refused| Reverse(refused.until));
        self.refused.truncate(REMEMBERED.saturating_sub(1));
        let before = known.map_or(0, |before| before.saturating_add(1));
        let pause = FIRST.saturating_mul(1u32.checked_shl(before.min(6)).unwrap_or(1));
        self.refused.push(Refused { traffic, until: now + pause, before });
        self.any = Some(now + ANY);
        known.is_some() || waiting < REMEMBERED
    }
}
