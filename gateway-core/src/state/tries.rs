//! How calling a peer went so far, and what comes of that for the next call: when, where and with what.

use ike_core::pad::ChildConfigId;
use ipsec_core::net::{IKE_PORT, NATT_PORT};
use ipsec_core::time::Instant;

use super::pause::pause;
use crate::cause::Cause;

/// Attempts to connect a peer.
pub(crate) struct Tries {
    /// How many places were tried, to try the next one.
    pub(crate) turn: usize,
    /// How many places there are to try: only when all failed the pauses grow.
    pub(crate) ways: u32,
    /// Attempts that failed since it was last connected for a while.
    pub(crate) failures: u32,
    pub(crate) retry_at: Option<Instant>,
    /// Nothing was heard of the peer in the attempt that ended last, whatever others say of why.
    pub(crate) silent: bool,
    /// The child that the last one began with.
    pub(crate) begun: Option<ChildConfigId>,
    /// The child for whose sake the peer ended one: the next one begins with another.
    pub(crate) spoiler: Option<ChildConfigId>,
    /// Why it is not connected.
    pub(crate) cause: Option<Cause>,
}

impl Default for Tries {
    fn default() -> Self {
        Self { turn: 0, ways: 1, failures: 0, retry_at: None, silent: false, begun: None, spoiler: None, cause: None }
    }
}

impl Tries {
    /// Whether other places are tried before the first one is again.
    pub(crate) fn go_on(&self) -> bool {
        (1..self.ways).contains(&self.failures)
    }

    /// The next one does not wait.
    pub(crate) fn hurry(&mut self) {
        self.retry_at = None;
    }

    /// What failed counts no more.
    pub(crate) fn forgive(&mut self) {
        self.failures = 0;
        self.hurry();
    }

    /// It is connected, or nobody wants that any more: there is nothing to say and to wait for.
    pub(crate) fn rest(&mut self) {
        self.cause = None;
        self.hurry();
    }

    /// A connection that was a good one is gone.
    pub(crate) fn lose(&mut self, cause: Cause) {
        self.forgive();
        self.cause = Some(cause);
    }

    /// One failed: the next one comes after a pause that grows, and at the next place. One that was made where the connection
    /// stands says nothing of the place whose turn it is.
    pub(crate) fn fail(&mut self, now: Instant, at_its_place: bool, salt: u32, cause: Cause) {
        if !at_its_place {
            self.turn = self.turn.wrapping_add(1);
        }
        self.failures = self.failures.saturating_add(1);
        let rounds = self.failures.saturating_sub(1).checked_div(self.ways).unwrap_or(0).saturating_add(1);
        self.retry_at = Some(now + pause(rounds, salt));
        self.cause = Some(cause);
    }

    /// The peer ended one for the sake of the child that it began with. Returns that.
    pub(crate) fn spoil(&mut self) -> Option<ChildConfigId> {
        self.spoiler = self.begun;
        self.begun
    }

    /// The next one may begin with this child again.
    pub(crate) fn clear(&mut self, child: ChildConfigId) {
        self.spoiler.take_if(|spoiler| *spoiler == child);
    }

    /// The port to call from, and at. A NAT whose own address changed may go on translating to the old one, each time for some
    /// minutes from our last packet, and calls at short intervals keep it at that: once a peer was silent for long, every third
    /// round leaves port 500 alone and begins at 4500, which was left alone for three minutes or more by then; and of 24 rounds
    /// the last six, so that port 500 is left alone for longer than a router has to remember (RFC 4787 §4.3).
    pub(crate) fn port(&self) -> u16 {
        let round = self.failures.checked_div(self.ways).unwrap_or(0);
        let rests = round.is_multiple_of(3) || round.checked_rem(24) >= Some(18);
        if self.silent && round > 5 && rests { NATT_PORT } else { IKE_PORT }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn fail(tries: &mut Tries) {
        tries.fail(Instant::from_millis(1000), false, 7, Cause::waiting());
    }

    #[test]
    fn f_63_a_renewal_that_fails_elsewhere_than_where_the_connection_stands_tries_the_next_place() {
        for (at_its_place, turn) in [(true, 0), (false, 1)] {
            let mut tries = Tries::default();
            tries.fail(Instant::ZERO, at_its_place, 7, Cause::waiting());
            assert_eq!(tries.turn, turn);
        }
    }

    #[test]
    fn f_25_a_silent_peer_is_called_at_the_other_port_every_third_time_from_the_seventh_on() {
        let calls = |silent: bool, ways: u32| {
            let mut tries = Tries { silent, ways, ..Tries::default() };
            let mut port = || {
                let port = tries.port();
                fail(&mut tries);
                port
            };
            (1..=28).filter(|_| port() == NATT_PORT).collect::<Vec<_>>()
        };
        assert_eq!(calls(true, 1), [7, 10, 13, 16, 19, 20, 21, 22, 23, 24, 25, 28]);
        assert_eq!(calls(true, 2), [13, 14, 19, 20, 25, 26], "rounds over all its places");
        assert_eq!(calls(false, 1), [], "who answers is where it is called");
    }

    #[test]
    fn f_53_pauses_grow_when_every_place_was_tried_and_not_with_each() {
        let mut tries = Tries { ways: 3, ..Tries::default() };
        let mut pauses = || {
            fail(&mut tries);
            tries.retry_at.map(|at| at.since(Instant::from_millis(1000)))
        };
        let pauses: Vec<_> = (0..9).map(|_| pauses()).collect();
        assert_eq!(pauses, [1, 1, 1, 2, 2, 2, 3, 3, 3].map(|round| Some(pause(round, 7))));
    }

    #[test]
    fn what_was_a_good_connection_is_made_again_as_if_nothing_had_failed() {
        let mut tries = Tries { begun: Some(ChildConfigId(3)), ..Tries::default() };
        fail(&mut tries);
        fail(&mut tries);
        tries.lose(Cause::waiting());
        assert_eq!((tries.failures, tries.retry_at, tries.cause.is_some()), (0, None, true));
        // The child for whose sake it failed, until that is up.
        assert_eq!((tries.spoil(), tries.spoiler), (Some(ChildConfigId(3)), Some(ChildConfigId(3))));
        tries.clear(ChildConfigId(4));
        assert_eq!(tries.spoiler, Some(ChildConfigId(3)));
        tries.clear(ChildConfigId(3));
        assert_eq!(tries.spoiler, None);
    }
}
