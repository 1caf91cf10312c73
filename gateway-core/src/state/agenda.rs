//! Which peers want to be looked at, and when: nothing here is linear in the number of peers.

use alloc::collections::BTreeSet;

use ike_core::pad::PeerId;
use ipsec_core::time::Instant;

/// Peers in the order in which they fall due.
#[derive(Default)]
pub(crate) struct Agenda {
    due: BTreeSet<(Instant, PeerId)>,
    /// Something happened to these: they are looked at as soon as possible.
    touched: BTreeSet<PeerId>,
}

impl Agenda {
    /// The next peer to look at.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<PeerId> {
        if let Some(peer) = self.touched.pop_first() {
            return Some(peer);
        }
        let first = self.due.first().filter(|(at, _)| *at <= now).copied()?;
        self.due.remove(&first);
        Some(first.1)
    }

    /// When the next peer falls due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(crate) fn touch(&mut self, peer: PeerId) {
        self.touched.insert(peer);
    }

    /// Moves a peer from one moment to another.
    pub(crate) fn plan(&mut self, peer: PeerId, old: Option<Instant>, new: Option<Instant>) {
        if let Some(old) = old {
            self.due.remove(&(old, peer));
        }
        if let Some(new) = new {
            self.due.insert((new, peer));
        }
    }

    /// Forgets a peer that falls due at `at`.
    pub(crate) fn strike(&mut self, peer: PeerId, at: Option<Instant>) {
        self.plan(peer, at, None);
        self.touched.remove(&peer);
    }
}

/// The soonest of several moments that are still to come.
pub(crate) struct Soonest {
    now: Instant,
    pub(crate) at: Option<Instant>,
}

impl Soonest {
    pub(crate) fn after(now: Instant) -> Self {
        Self { now, at: None }
    }

    /// Whether `at` has come; if not, it is noted.
    pub(crate) fn reached(&mut self, at: Instant) -> bool {
        if at > self.now {
            self.at = Some(self.at.map_or(at, |soonest| soonest.min(at)));
        }
        at <= self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_falls_due_once_at_the_moment_that_was_planned_last() {
        let (peer, at) = (PeerId(7), Instant::from_millis);
        let mut agenda = Agenda::default();
        agenda.plan(peer, None, Some(at(10)));
        assert_eq!(agenda.pop(at(9)), None);
        agenda.plan(peer, Some(at(10)), Some(at(20)));
        assert_eq!((agenda.next(), agenda.pop(at(19))), (Some(at(20)), None));
        assert_eq!((agenda.pop(at(20)), agenda.pop(at(20)), agenda.next()), (Some(peer), None, None));
    }
}
