//! What a gateway remembers of each peer and child between calls.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use ike_core::child::within;
use ike_core::endpoint::IkeView;
use ike_core::event::{ChildId, ChildUp, IkeId, Party};
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::net::{IKE_PORT, NATT_PORT, TrafficSelector};
use ipsec_core::sa::{Lifetime, Limit};
use ipsec_core::time::Instant;

use super::contest::Contest;
use super::ikes::Ikes;
use super::merge::{COURTESY, Merges};
use super::names::Names;
use super::renewal::{Renewal, Renewals, Standing};
use super::uncovered::Uncovered;
use crate::cause::Cause;
use crate::config::{Child, Peer, Start};

/// A configured peer. What most never have is in boxes.
pub(super) struct PeerEntry {
    pub(super) id: PeerId,
    pub(super) name: String,
    pub(super) start: Start,
    /// Its children, in the order of the file.
    pub(super) children: Vec<ChildConfigId>,
    /// The operator took it down, and nobody here wanted it since: we do not call it. The peer may.
    pub(super) held: bool,
    /// Somebody wants it up although nobody would begin by himself.
    pub(super) wanted: bool,
    /// Whom we met when we called last: others may share what is configured for it, when they know the key and no identity
    /// is asked of them.
    pub(super) party: Option<Party>,
    /// The handshake that we began.
    pub(super) attempt: Option<IkeId>,
    /// The last one that we ended ourselves, and why.
    pub(super) cut: Option<Box<(IkeId, Cause)>>,
    /// When we last began one.
    pub(super) called_at: Option<Instant>,
    /// It is made where the connection that stands is, and not at a place whose turn it is.
    pub(super) at_its_place: bool,
    /// The child that the last one began with.
    pub(super) begun: Option<ChildConfigId>,
    /// The child for whose sake the peer ended one: the next one begins with another.
    pub(super) spoiler: Option<ChildConfigId>,
    /// That a message of the attempt could not even be sent, or somebody says that it does not arrive.
    pub(super) unsent: Option<Box<Cause>>,
    /// Nothing was heard of the peer in the attempt that ended last, whatever others say of why.
    pub(super) silent: bool,
    /// What somebody says in clear of why nothing will come of that.
    pub(super) doubt: Option<Box<Cause>>,
    /// The appliance was asked where it is.
    pub(super) locating: bool,
    /// How many places were tried, to try the next one.
    pub(super) turn: usize,
    /// How many places there are to try: only when all failed the pauses grow.
    pub(super) ways: u32,
    /// When its DNS names are asked for.
    pub(super) names: Option<Names>,
    /// Attempts that failed since it was last connected for a while.
    pub(super) failures: u32,
    pub(super) retry_at: Option<Instant>,
    pub(super) established_at: Option<Instant>,
    /// It is to be authenticated anew beside the IKE SA that stands.
    pub(super) renew: Option<Renewal>,
    pub(super) renewals: Renewals,
    pub(super) merges: Merges,
    /// When to look whether our call is answered.
    pub(super) look_at_call: Option<Instant>,
    /// When to look whether our answers arrive at one that called, and at whom they may not.
    pub(super) look_at_answers: Option<Instant>,
    pub(super) unconfirmed: BTreeSet<IkeId>,
    /// Why it is not connected.
    pub(super) cause: Option<Cause>,
    /// Why a request of the peer for a child was refused.
    pub(super) trouble: Option<Box<Cause>>,
    /// Whether callers from two places throw each other out.
    pub(super) contest: Contest,
    /// When it stands in the queue.
    pub(super) due: Option<Instant>,
}

impl PeerEntry {
    /// The peer wants to know anew who we are, as often as it likes; with `child` first.
    pub(super) fn reauthenticate(&mut self, child: ChildConfigId) -> bool {
        if self.held || matches!(self.renew, Some(Renewal::Proof(_))) {
            return false;
        }
        self.renew = Some(Renewal::Proof(child));
        self.retry_at = None;
        true
    }

    /// A configuration may give it names, and take them.
    pub(super) fn follow_names(&mut self, peer: &Peer) {
        self.names = Names::of(peer).map(|new| self.names.unwrap_or(new));
    }

    /// The peer was lost, or did not answer: it may be elsewhere by now. Whom we call we ask for then anyway.
    pub(super) fn lost(&mut self, now: Instant) {
        if let Some(names) = self.names.as_mut().filter(|_| self.start != Start::Active) {
            names.hurry(now);
        }
    }

    pub(super) fn new(id: PeerId, peer: &Peer) -> Self {
        Self {
            id,
            name: peer.name.clone(),
            start: peer.start,
            children: Vec::new(),
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
    pub(super) fn looks_after(&self, party: Party) -> bool {
        self.only_party().is_none_or(|ours| ours == party)
    }

    /// Whom alone we are to be connected with, of several that may share it.
    pub(super) fn only_party(&self) -> Option<Party> {
        self.party.filter(|_| self.is_active())
    }

    /// We call it by ourselves.
    pub(super) fn is_active(&self) -> bool {
        self.start == Start::Active && !self.held
    }

    /// Whether we are to connect it.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted || self.is_active()
    }

    /// A connection that was a good one is gone: it is made again at once.
    pub(super) fn lose(&mut self, cause: Cause) {
        self.failures = 0;
        self.retry_at = None;
        self.cause = Some(cause);
    }

    /// Why it is not connected, as far as that is known: of the handshake under way, or of what was before.
    pub(super) fn known(&self) -> Option<&Cause> {
        self.doubt.as_deref().filter(|_| self.attempt.is_some()).or(self.cause.as_ref())
    }

    /// Whether other places of the peer are tried before the first one is again.
    pub(super) fn has_other_places(&self) -> bool {
        self.is_wanted() && (1..self.ways).contains(&self.failures)
    }

    /// What our handshake waits for.
    pub(super) fn unanswered(&self, attempt: &IkeView) -> Option<Cause> {
        let (exchange, repeated) = attempt.waiting?;
        let unsent = self.unsent.as_deref().cloned();
        Some(unsent.unwrap_or_else(|| Cause::unanswered(exchange, attempt.path.remote, repeated)))
    }

    /// Until when missing children are left to the peer to ask for, where it was the one that called.
    pub(super) fn courtesy(&self) -> Option<Instant> {
        self.established_at.map(|since| since + COURTESY)
    }

    /// The port to call from, and at. A NAT whose own address changed may go on translating to the old one, each time for some
    /// minutes from our last packet, and calls at short intervals keep it at that: once a peer was silent for long, every third
    /// round leaves port 500 alone and begins at 4500, which was left alone for three minutes or more by then; and of 24 rounds
    /// the last six, so that port 500 is left alone for longer than a router has to remember (RFC 4787 §4.3).
    pub(super) fn port(&self) -> u16 {
        let round = self.failures.checked_div(self.ways).unwrap_or(0);
        let rests = round.is_multiple_of(3) || round.checked_rem(24) >= Some(18);
        if self.silent && round > 5 && rests { NATT_PORT } else { IKE_PORT }
    }

    /// The handshake that we began is over, and did not fail: where it was made says nothing of what fails later.
    pub(super) fn conclude(&mut self) {
        (self.attempt, self.at_its_place) = (None, false);
    }

    /// An attempt failed: the next one comes after a pause that grows.
    pub(super) fn fail(&mut self, now: Instant, cause: Cause) {
        self.attempt = None;
        self.locating = false;
        if !core::mem::take(&mut self.at_its_place) {
            self.turn = self.turn.wrapping_add(1);
        }
        self.renew.take_if(|renewal| matches!(renewal, Renewal::Refused(_)));
        self.failures = self.failures.saturating_add(1);
        let rounds = self.failures.saturating_sub(1).checked_div(self.ways).unwrap_or(0).saturating_add(1);
        self.retry_at = Some(now + super::pause(rounds, self.id.0));
        self.lost(now);
        if self.start != Start::Active && !self.has_other_places() {
            self.wanted = false;
        }
        self.cause = Some(cause);
    }
}

/// A question to a peer: for an SA of a child.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// The SA to be.
    pub(super) child: ChildId,
    /// The IKE SA that carries the question, and ends it when it ends.
    pub(super) ike: IkeId,
    /// For these only: a packet that the peer's narrowing left out, or what an SA carries on another IKE SA.
    pub(super) only: Option<(TrafficSelector, TrafficSelector)>,
}

/// A configured child.
pub(super) struct ChildEntry {
    pub(super) id: ChildConfigId,
    pub(super) peer: PeerId,
    pub(super) name: String,
    pub(super) lifetime: Lifetime,
    /// The operator took it down by itself, and nobody here wanted it since: we do not ask for it of our own accord. The peer
    /// may, and what it wants is kept up for it; that is no end to this.
    pub(super) held: bool,
    /// Somebody wants it although nobody would begin by himself.
    pub(super) wanted: bool,
    /// Its SAs in the data plane.
    pub(super) sas: BTreeSet<ChildId>,
    /// Those that only receive what is on its way, after another one took their place: they carry nothing on.
    pub(super) draining: BTreeSet<ChildId>,
    /// What we asked the peer for last; it counts only as long as the IKE SA does ([`ChildEntry::waits_in`]).
    pub(super) asked: Option<Asked>,
    /// What it has no SA for, although others of it are up.
    pub(super) uncovered: Uncovered,
    /// The last packet that wanted another SA found all places in use.
    pub(super) crowded: bool,
    /// The sides differ in perfect forward secrecy, as long as no rekey shows otherwise.
    pub(super) differs: bool,
    /// It was up before, with the one that we call: what refuses it now took it then.
    pub(super) was_up: bool,
    /// It was told as up, and not as down since.
    pub(super) told_up: bool,
    /// That it is up, or was.
    pub(super) standing: Option<Standing>,
    /// How often in a row it came up and was gone soon.
    pub(super) brief: u32,
    /// When its connection was last made anew for its sake.
    pub(super) renewed_at: Option<Instant>,
    pub(super) failures: u32,
    /// So many times in a row it could not even be asked for.
    pub(super) denied: u32,
    pub(super) retry_at: Option<Instant>,
    pub(super) cause: Option<Cause>,
    pub(super) rekeys: u64,
}

impl ChildEntry {
    pub(super) fn new(id: ChildConfigId, peer: PeerId, child: &Child) -> Self {
        Self {
            id,
            peer,
            name: child.name.clone(),
            lifetime: lifetime(child),
            held: false,
            wanted: false,
            sas: BTreeSet::new(),
            draining: BTreeSet::new(),
            asked: None,
            uncovered: Uncovered::default(),
            crowded: false,
            differs: false,
            was_up: false,
            told_up: false,
            standing: None,
            brief: 0,
            renewed_at: None,
            failures: 0,
            denied: 0,
            retry_at: None,
            cause: None,
            rekeys: 0,
        }
    }

    /// Takes over what may change without a new number.
    pub(super) fn follow(&mut self, child: &Child) {
        self.lifetime = lifetime(child);
    }

    /// What the peer was asked for and did not answer yet. A question ends without a word with the IKE SA that carries it.
    pub(super) fn waits_in(&self, ikes: &Ikes) -> Option<Asked> {
        self.asked.filter(|asked| ikes.has(self.peer, asked.ike))
    }

    /// All its SAs in the data plane, those that only drain too.
    pub(super) fn all(&self) -> impl Iterator<Item = &ChildId> {
        self.sas.iter().chain(&self.draining)
    }

    /// Whether a Child SA that came up is still wanted: not when the operator took the child down since it was asked for, or
    /// since the one was that it replaces. Whoever rekeys, what it replaces was wanted by somebody: by the peer, perhaps,
    /// since the operator took the child down; and so was what stands on another connection, when we ask for it on this one.
    pub(super) fn wants(&self, up: &ChildUp<'_>) -> bool {
        let taken_down = match up.replaces {
            Some(old) => self.all().all(|sa| *sa != old),
            None => up.ours && !self.wanted && self.sas.is_empty(),
        };
        !(self.held && taken_down)
    }

    /// Whether a Child SA carries what it was asked for.
    pub(super) fn covers(&self, up: &ChildUp<'_>) -> bool {
        let wanted = self.asked.filter(|asked| asked.child == up.child).and_then(|asked| asked.only);
        wanted.is_none_or(|(local, remote)| within(&[local], up.local) && within(&[remote], up.remote))
    }

    /// Whether somebody wants it, or may: what is held down here and up all the same, the peer wants, and with us.
    pub(super) fn serves(&self) -> bool {
        !self.held || self.wanted || !self.sas.is_empty()
    }

    /// It is to be up although it is not, or will not be for long. `active`: its peer is one that we call.
    pub(super) fn is_wanted(&self, active: bool) -> bool {
        self.wanted || (active && !self.held)
    }

    /// What it was refused counts no more.
    pub(super) fn trust(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    /// A question is answered, whatever the answer. Returns it when it was the last one.
    pub(super) fn answered(&mut self, child: ChildId) -> Option<Asked> {
        self.asked.take_if(|asked| asked.child == child)
    }

    /// It could not even be asked for, and is tried again for as long as that takes: nobody refused it.
    pub(super) fn put_off(&mut self, now: Instant, cause: Cause) {
        self.wanted = false;
        self.retry_at = Some(now + super::pause(self.denied, self.id.0));
        self.cause = Some(cause);
    }

    /// It is down again. `at_once`: one that was up for long comes again without a pause.
    pub(super) fn lose(&mut self, now: Instant, at_once: bool, cause: Cause) {
        let lasted = self.standing.is_some_and(|standing| standing.lasted(now));
        self.failures = if lasted { 0 } else { self.brief };
        self.brief = if lasted { 0 } else { self.brief.saturating_add(1) };
        self.fail(now, cause);
        if lasted && at_once {
            self.failures = 0;
            self.retry_at = None;
        }
    }

    pub(super) fn fail(&mut self, now: Instant, cause: Cause) {
        self.wanted = false;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + super::pause(self.failures, self.id.0));
        self.cause = Some(cause);
    }
}

/// What passes a fast line while a request for a rekey is lost and repeated: 8 s of a gigabit.
const SPARE_OCTETS: u64 = 1_000_000_000;

/// Ages are IKE's business, which knows when it can rekey; amounts only the data plane sees. The hard limit leaves a
/// quarter for rekeying, and of octets at least those that pass meanwhile.
fn lifetime(child: &Child) -> Lifetime {
    let hard = |soft: u64, least: u64| soft.saturating_add(soft.div_ceil(4).max(least));
    let (bytes, packets) = (child.rekey_bytes, child.rekey_packets);
    Lifetime {
        soft: Limit { age: None, bytes, packets },
        hard: Limit {
            age: None,
            bytes: bytes.map(|soft| hard(soft, SPARE_OCTETS)),
            packets: packets.map(|soft| hard(soft, 0)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::config::Config;
    use crate::gateway::{Gateway, pause};

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
