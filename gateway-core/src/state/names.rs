//! When the DNS names of a peer are asked for.

use core::time::Duration;

use ipsec_core::time::Instant;

use super::pause::pause;
use crate::config::Peer;

/// A name is asked for again after this time and up to a tenth more.
const FRESH: Duration = Duration::from_secs(300);
/// Whatever happens, one peer's names are not asked for more often.
const SPARING: Duration = Duration::from_secs(10);

/// When the names of one peer are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) due: Instant,
    pub(crate) asked: Option<Instant>,
    failures: u32,
}

impl Names {
    /// `None`: the peer has no names. Those of a peer that we call are asked for when we do.
    pub(crate) fn of(peer: &Peer) -> Option<Self> {
        let named = peer.remote.iter().any(|place| place.address().is_none());
        named.then_some(Self { due: Instant::ZERO, asked: None, failures: 0 })
    }

    /// They are being asked for.
    pub(crate) fn ask(&mut self, now: Instant, salt: u32) {
        self.asked = Some(now);
        self.due = now + FRESH + spread(salt);
    }

    /// They have addresses.
    pub(crate) fn resolved(&mut self) {
        self.failures = 0;
    }

    /// One of them has none, and is asked for again.
    pub(crate) fn unresolved(&mut self, now: Instant, salt: u32) {
        self.failures = self.failures.saturating_add(1);
        let again = now + pause(self.failures, salt).max(SPARING);
        self.due = self.due.min(again);
    }

    /// There is a reason to ask soon.
    pub(crate) fn hurry(&mut self, now: Instant) {
        let earliest = self.asked.map_or(now, |asked| (asked + SPARING).max(now));
        self.due = self.due.min(earliest);
    }
}

/// Who was asked for together is not asked for together again.
fn spread(salt: u32) -> Duration {
    Duration::from_secs(u64::from(salt.wrapping_mul(2_654_435_761) >> 24) >> 3) // 0 to 31 s
}
