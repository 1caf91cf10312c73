//! What a gateway remembers of a peer between calls.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use ike_core::endpoint::IkeView;
use ike_core::event::{IkeId, Party};
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::net::{IKE_PORT, NATT_PORT};
use ipsec_core::time::Instant;

use super::contest::Contest;
use super::merges::{COURTESY, Merges};
use super::names::Names;
use super::pause::pause;
use super::renewal::{Renewal, Renewals};
use crate::cause::Cause;
use crate::config::{Peer, Start};

/// A configured peer. What most never have is in boxes.
pub(crate) struct PeerEntry {
    pub(crate) id: PeerId,
    pub(crate) name: String,
    pub(crate) start: Start,
    /// Its children, in the order of the file.
    pub(crate) children: Vec<ChildConfigId>,
    /// The connection on which they were asked for when they were looked at last, and whether by ourselves.
    pub(crate) asked_on: Option<(IkeId, bool)>,
    /// The operator took it down, and nobody here wanted it since: we do not call it. The peer may.
    pub(crate) held: bool,
    /// Somebody wants it up although nobody would begin by himself.
    pub(crate) wanted: bool,
    /// Whom we met when we called last: others may share what is configured for it, when they know the key and no identity
    /// is asked of them.
    pub(crate) party: Option<Party>,
    /// The handshake that we began.
    pub(crate) attempt: Option<IkeId>,
    /// The last one that we ended ourselves, and why.
    pub(crate) cut: Option<Box<(IkeId, Cause)>>,
    /// When we last began one.
    pub(crate) called_at: Option<Instant>,
    /// It is made where the connection that stands is, and not at a place whose turn it is.
    pub(crate) at_its_place: bool,
    /// The child that the last one began with.
    pub(crate) begun: Option<ChildConfigId>,
    /// The child for whose sake the peer ended one: the next one begins with another.
    pub(crate) spoiler: Option<ChildConfigId>,
    /// That a message of the attempt could not even be sent, or somebody says that it does not arrive.
    pub(crate) unsent: Option<Box<Cause>>,
    /// Nothing was heard of the peer in the attempt that ended last, whatever others say of why.
    pub(crate) silent: bool,
    /// What somebody says in clear of why nothing will come of that.
    pub(crate) doubt: Option<Box<Cause>>,
    /// The appliance was asked where it is.
    pub(crate) locating: bool,
    /// How many places were tried, to try the next one.
    pub(crate) turn: usize,
    /// How many places there are to try: only when all failed the pauses grow.
    pub(crate) ways: u32,
    /// When its DNS names are asked for.
    pub(crate) names: Option<Names>,
    /// Attempts that failed since it was last connected for a while.
    pub(crate) failures: u32,
    pub(crate) retry_at: Option<Instant>,
    pub(crate) established_at: Option<Instant>,
    /// It is to be authenticated anew beside the IKE SA that stands.
    pub(crate) renew: Option<Renewal>,
    pub(crate) renewals: Renewals,
    pub(crate) merges: Merges,
    /// When to look whether our call is answered.
    pub(crate) look_at_call: Option<Instant>,
    /// When to look whether our answers arrive at one that called, and at whom they may not.
    pub(crate) look_at_answers: Option<Instant>,
    pub(crate) unconfirmed: BTreeSet<IkeId>,
    /// Why it is not connected.
    pub(crate) cause: Option<Cause>,
    /// Why a request of the peer for a child was refused.
    pub(crate) trouble: Option<Box<Cause>>,
    /// Whether callers from two places throw each other out.
    pub(crate) contest: Contest,
    /// When it stands in the queue.
    pub(crate) due: Option<Instant>,
}

impl PeerEntry {
    /// The peer wants to know anew who we are, as often as it likes; with `child` first.
    pub(crate) fn reauthenticate(&mut self, child: ChildConfigId) -> bool {
        if self.held || matches!(self.renew, Some(Renewal::Proof(_))) {
            return false;
        }
        self.renew = Some(Renewal::Proof(child));
        self.retry_at = None;
        true
    }

    /// A configuration may give it names, and take them.
    pub(crate) fn follow_names(&mut self, peer: &Peer) {
        self.names = Names::of(peer).map(|new| self.names.unwrap_or(new));
    }

    /// The peer was lost, or did not answer: it may be elsewhere by now. Whom we call we ask for then anyway.
    pub(crate) fn lost(&mut self, now: Instant) {
        if let Some(names) = self.names.as_mut().filter(|_| self.start != Start::Active) {
            names.hurry(now);
        }
    }

    pub(crate) fn new(id: PeerId, peer: &Peer) -> Self {
        Self {
            id,
            name: peer.name.clone(),
            start: peer.start,
            children: Vec::new(),
            asked_on: None,
            held: false,
            wanted: false,
            party: None,
            attempt: None,
            cut: None,
            called_at: None,
            at_its_place: false,
            begun: None,
            spoiler: None,
            unsent: None,
            silent: false,
            doubt: None,
            locating: false,
            turn: 0,
            ways: 1,
            names: Names::of(peer),
            failures: 0,
            retry_at: None,
            established_at: None,
            renew: None,
            renewals: Renewals::default(),
            merges: Merges::default(),
            look_at_call: None,
            look_at_answers: None,
            unconfirmed: BTreeSet::new(),
            cause: None,
            trouble: None,
            contest: Contest::default(),
            due: None,
        }
    }

    /// Whether it is the one that we are to be connected with, when it is on us to see to that.
    pub(crate) fn looks_after(&self, party: Party) -> bool {
        self.only_party().is_none_or(|ours| ours == party)
    }

    /// Whom alone we are to be connected with, of several that may share it.
    pub(crate) fn only_party(&self) -> Option<Party> {
        self.party.filter(|_| self.is_active())
    }

    /// We call it by ourselves.
    pub(crate) fn is_active(&self) -> bool {
        self.start == Start::Active && !self.held
    }

    /// Whether we are to connect it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted || self.is_active()
    }

    /// A connection that was a good one is gone: it is made again at once.
    pub(crate) fn lose(&mut self, cause: Cause) {
        self.failures = 0;
        self.retry_at = None;
        self.cause = Some(cause);
    }

    /// Why it is not connected, as far as that is known: of the handshake under way, or of what was before.
    pub(crate) fn known(&self) -> Option<&Cause> {
        self.doubt.as_deref().filter(|_| self.attempt.is_some()).or(self.cause.as_ref())
    }

    /// Whether other places of the peer are tried before the first one is again.
    pub(crate) fn has_other_places(&self) -> bool {
        self.is_wanted() && (1..self.ways).contains(&self.failures)
    }

    /// What our handshake waits for.
    pub(crate) fn unanswered(&self, attempt: &IkeView) -> Option<Cause> {
        let (exchange, repeated) = attempt.waiting?;
        let unsent = self.unsent.as_deref().cloned();
        Some(unsent.unwrap_or_else(|| Cause::unanswered(exchange, attempt.path.remote, repeated)))
    }

    /// Until when missing children are left to the peer to ask for, where it was the one that called.
    pub(crate) fn courtesy(&self) -> Option<Instant> {
        self.established_at.map(|since| since + COURTESY)
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

    /// The handshake that we began is over, and did not fail: where it was made says nothing of what fails later.
    pub(crate) fn conclude(&mut self) {
        (self.attempt, self.at_its_place) = (None, false);
    }

    /// An attempt failed: the next one comes after a pause that grows.
    pub(crate) fn fail(&mut self, now: Instant, cause: Cause) {
        self.attempt = None;
        self.locating = false;
        if !core::mem::take(&mut self.at_its_place) {
            self.turn = self.turn.wrapping_add(1);
        }
        self.renew.take_if(|renewal| matches!(renewal, Renewal::Refused(_)));
        self.failures = self.failures.saturating_add(1);
        let rounds = self.failures.saturating_sub(1).checked_div(self.ways).unwrap_or(0).saturating_add(1);
        self.retry_at = Some(now + pause(rounds, self.id.0));
        self.lost(now);
        if self.start != Start::Active && !self.has_other_places() {
            self.wanted = false;
        }
        self.cause = Some(cause);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::config::Config;
    use crate::gateway::Gateway;

    const NAMED: &str = "[[peer]]\nname='a'\nlocal='192.0.2.2'\nremote='gw.lab'\npsk='a key of more than twenty octets'\n\
                         [[peer.child]]\nname='net'\nlocal-ts='10.2.0.0/16'\nremote-ts='10.1.0.0/16'\n";

    #[test]
    fn f_63_a_renewal_that_fails_elsewhere_than_where_the_connection_stands_tries_the_next_place() {
        let text = "[[peer]]\nname='a'\nlocal='192.0.2.2'\nremote='gw.lab'\npsk='a key of more than twenty octets'\n\
                    [[peer.child]]\nname='net'\nlocal-ts='10.2.0.0/16'\nremote-ts='10.1.0.0/16'\n";
        for (at_its_place, turn) in [(true, 0), (false, 1)] {
            let (mut gateway, _) = Gateway::new(Config::parse(text).unwrap().0);
            let entry = gateway.peers.values_mut().next().unwrap();
            let child = entry.children.first().copied().unwrap();
            (entry.renew, entry.at_its_place) = (Some(Renewal::Proof(child)), at_its_place);
            entry.fail(Instant::ZERO, Cause::waiting());
            assert_eq!((entry.turn, entry.at_its_place), (turn, false));
        }
    }

    #[test]
    fn f_25_a_silent_peer_is_called_at_the_other_port_every_third_time_from_the_seventh_on() {
        let (mut gateway, _) = Gateway::new(Config::parse(NAMED).unwrap().0);
        let (_, entry) = gateway.peers.iter_mut().next().unwrap();
        let mut calls = |silent: bool, ways: u32| {
            (entry.silent, entry.ways, entry.failures) = (silent, ways, 0);
            let mut port = || {
                let port = entry.port();
                entry.fail(Instant::from_millis(1000), Cause::waiting());
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
        let (mut gateway, _) = Gateway::new(Config::parse(NAMED).unwrap().0);
        let (_, entry) = gateway.peers.iter_mut().next().unwrap();
        let now = Instant::from_millis(1000);
        entry.ways = 3;
        let mut pauses = || {
            entry.fail(now, Cause::waiting());
            entry.retry_at.map(|at| at.since(now))
        };
        let pauses: Vec<_> = (0..9).map(|_| pauses()).collect();
        let expected = [1, 1, 1, 2, 2, 2, 3, 3, 3].map(|round| Some(pause(round, entry.id.0)));
        assert_eq!(pauses, expected);
    }
}
