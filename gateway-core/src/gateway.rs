//! The glue between IKE and packets, sans-IO: what appliances share.
//!
//! A [`Gateway`] owns neither the IKE endpoint nor what carries the packets: they are lent for each call as [`Parts`]. The
//! data plane is asked for single steps, and can go on in threads of its own meanwhile. The appliance's loop:
//!
//! 1. An IKE message came: [`Gateway::handle_datagram`]. Time has passed: [`Gateway::handle_timeout`]. The data plane has
//!    something to tell: [`Gateway::handle_plane`]. A packet wants an SA: [`Gateway::acquire`]. The operator wants
//!    something: [`Gateway::up`], [`Gateway::down`], [`Gateway::rekey`], [`Gateway::reload`].
//! 2. Send what the endpoint's `poll_transmit` gives; tell what [`Gateway::poll_report`] gives; account for what
//!    [`Gateway::poll_ended`] gives; find out what [`Gateway::poll_locate`] asks and answer with [`Gateway::located`]; set numbers
//!    aside when [`Gateway::poll_reserve`] asks for some, and answer with [`Gateway::reserved`].
//! 3. Sleep until [`Gateway::poll_timeout`].
//!
//! Inside, what comes in ends in `settle`: what IKE tells is taken up in `events`, which has `coming` put Child SAs into the data
//! plane while their keys are lent, and then `children` and `connections` keep the story; `drive` begins what is due. What the data plane tells is in
//! `answers`, what packets ask for in `demand`, what the operator says in `operator`. Below them all, `presence` says what there
//! is with a peer, `ends` takes it away, and `tell` tells. What they all work on is in `state`.

mod answers;
mod ask;
mod children;
mod coming;
mod connections;
mod contest;
mod demand;
mod drive;
mod ends;
mod events;
mod failing;
mod install;
mod manual;
mod merge;
mod names;
mod operator;
mod presence;
mod probe;
mod renewal;
mod status;
mod tell;
mod usage;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::IpAddr;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{Endpoint, SaState};
use ike_core::error::Discard;
use ike_core::event::IkeId;
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, PeerId};
use ike_core::registry::ExchangeType;
use ike_core::wire::header::Header;
use ipsec_core::net::Path;
use ipsec_core::spd::{PolicyId, Rule};
use ipsec_core::time::Instant;

use crate::cause::{Cause, Unreachable, Unsent};
use crate::config::{Config, Diff, Settings};
use crate::peers::Peers;
use crate::plane::PlaneEvent;
use crate::policy;
use crate::state::agenda::Agenda;
use crate::state::child::ChildEntry;
use crate::state::children::Children;
use crate::state::ikes::Ikes;
use crate::state::manual::Manual;
use crate::state::peer::PeerEntry;
use crate::state::report::Strangers;
use crate::state::sas::Sas;

pub use crate::state::discarded::Discarded;
pub use crate::state::manual::{Numbers, Reserve, Ticket};
pub use crate::state::places::{Locate, Located, Way};
pub use crate::state::report::{Level, Report, What};
pub use crate::state::usage::{Account, Accounts, Ended, Totals};
pub use crate::state::{Gateway, Parts};
pub use operator::{Change, Unknown};
pub use status::{ChildStatus, Identities, ManualSaStatus, ManualStatus, PeerState, PeerStatus, SaStatus, Snapshot};

impl Gateway {
    /// A gateway for a configuration whose keys are loaded, and the peers for its endpoint.
    pub fn new(config: Config) -> (Self, Peers) {
        let Config { gateway: settings, peers: configured, policies, manual } = config;
        let mut peers = Peers::default();
        peers.replace(configured, &Diff::default());
        let mut gateway = Self {
            window: settings.replay_window,
            settings,
            rules: Vec::new(),
            ruled: Instant::ZERO,
            moves: 0,
            policies,
            order: Vec::new(),
            peers: BTreeMap::new(),
            children: Children::default(),
            ikes: Ikes::default(),
            sas: Sas::default(),
            last_pair: 0,
            agenda: Agenda::default(),
            silent: Vec::new(),
            looks: BTreeSet::new(),
            reports: VecDeque::new(),
            ended: VecDeque::new(),
            ending: BTreeMap::new(),
            accounts: Accounts::new(),
            most_sas: 0,
            questions: VecDeque::new(),
            discarded: Discarded::default(),
            strangers: Strangers::in_general(),
            ends: false,
            of_another_version: Strangers::of_another_version(),
            by_question: BTreeSet::new(),
            knocked: None,
            manual: Manual::default(),
        };
        gateway.manual.follow(manual); // nothing was there
        gateway.follow(&peers, &BTreeSet::new());
        (gateway, peers)
    }

    /// Hands the rules to the data plane and begins what is to begin at once.
    ///
    /// # Errors
    /// The data plane has no room for all the rules: those that do not fit are missing, the last ones first, and what they
    /// are about is discarded.
    pub fn start<C: IkeCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C>) -> Result<(), Cause> {
        // The data plane may be another one than at a start before.
        self.rules.clear();
        let rules = policy::rules(&self.policies, parts.endpoint.pad(), self.manual.traffic());
        let placed = self.place_rules(now, rules, parts.plane);
        self.place_manual(now, parts.plane);
        self.settle(now, parts);
        placed
    }

    /// An IKE message came, without non-ESP marker. It is decrypted in place. Returns why it was dropped without an answer, for
    /// a log: that is counted, and nothing to be done about.
    pub fn handle_datagram<C: IkeCrypto>(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &mut [u8],
        parts: &mut Parts<'_, '_, C>,
    ) -> Option<Discard> {
        let dropped = match self.ends && begins(datagram) {
            true => Some(Discard::Unexpected),
            false => parts.endpoint.handle_datagram(now, path, datagram).err(),
        };
        if let Some(discard) = dropped {
            self.discarded.count(discard);
            if discard == Discard::Version && self.of_another_version.admit(now) {
                self.refused(path.remote, &Failure::MajorVersion, parts);
            }
        }
        self.settle(now, parts);
        dropped
    }

    /// Time has passed.
    pub fn handle_timeout<C: IkeCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C>) {
        self.look(now, parts); // before IKE asks peers for signs of life
        parts.endpoint.handle_timeout(now);
        parts.plane.handle_timeout(now);
        self.settle(now, parts);
    }

    /// The data plane has something to tell.
    pub fn handle_plane<C: IkeCrypto>(&mut self, now: Instant, event: PlaneEvent, parts: &mut Parts<'_, '_, C>) {
        self.plane_event(now, event, parts);
        self.settle(now, parts);
    }

    /// A packet must be protected by this policy and there is no SA for it. Returns whether one is being negotiated, so that
    /// the packet is worth keeping: it can go when [`What::ChildUp`] is reported for this policy. When the peer narrowed the
    /// selectors of the child and this packet is left out, the peer is asked once for an SA for it.
    pub fn acquire<C: IkeCrypto>(
        &mut self,
        now: Instant,
        policy: PolicyId,
        packet: &[u8],
        parts: &mut Parts<'_, '_, C>,
    ) -> bool {
        let underway = !self.ends && self.want_for_packet(now, policy::child_of(policy), packet, parts);
        self.settle(now, parts);
        underway
    }

    /// The next thing to tell the operator.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// The next peer to find; to be answered with [`Gateway::located`].
    pub fn poll_locate(&mut self) -> Option<Locate> {
        core::iter::from_fn(|| self.questions.pop_front()).find(|question| self.peers.contains_key(&question.peer))
    }

    /// Where a peer is, or why its name has no address ([`Cause::unresolved`]).
    pub fn located<C: IkeCrypto>(
        &mut self,
        now: Instant,
        question: &Locate,
        answer: Result<Located, Cause>,
        parts: &mut Parts<'_, '_, C>,
    ) {
        self.found(now, question, answer, parts.endpoint);
        self.settle(now, parts);
    }

    /// What came of sending a message of this IKE SA, when it could not be sent the reason: what it was to begin is told as
    /// that, not as the peer's silence.
    pub fn sent<C: IkeCrypto>(&mut self, ike: IkeId, outcome: Result<(), Unsent>, endpoint: &Endpoint<'_, C, Peers>) {
        let Some(view) = endpoint.ike_sa(ike).filter(|view| view.state == SaState::Connecting) else { return };
        let call = view.peer.and_then(|peer| self.peers.get_mut(&peer)).and_then(|entry| entry.calling.of(ike));
        if let Some((call, (exchange, _))) = call.zip(view.waiting) {
            call.unsent = outcome.err().map(|why| Box::new(Cause::unsent(exchange, view.path.remote, &why)));
        }
    }

    /// Who is at `from` says that what we sent this way does not arrive, and why. Anybody can say that: it is told where we wait
    /// for an answer, and ends nothing.
    pub fn unreachable<C: IkeCrypto>(
        &mut self,
        now: Instant,
        path: Path,
        (from, why): (IpAddr, Unreachable),
        endpoint: &Endpoint<'_, C, Peers>,
    ) {
        let waits = |id: &PeerId| {
            let view = self.peers.get(id).and_then(|entry| endpoint.ike_sa(entry.calling.ike()?));
            view.is_some_and(|view| view.state == SaState::Connecting && view.path == path)
        };
        let cause = Cause::unreachable(from, path, why);
        let found = endpoint.pad().at(path.remote.ip()).find(waits).and_then(|id| self.peers.get_mut(&id));
        let Some(entry) = found else { return };
        // What the peer itself says does not give way to it.
        let call = entry.calling.call_mut().filter(|call| call.doubt.as_deref().is_none_or(|doubt| *doubt == cause));
        let Some(call) = call else { return };
        call.unsent = Some(Box::new(cause.clone()));
        let news = call.doubt.replace(Box::new(cause.clone())).is_none() && entry.tries.cause.as_ref() != Some(&cause);
        if news && self.strangers.admit(now) {
            let peer = Some(entry.id);
            self.tell(peer, None, What::Doubtful { remote: path.remote, answers: false }, Some(cause));
        }
    }

    /// Addresses or routes of this machine changed. `stands` tells of a pair of addresses whether packets still go that
    /// way. Connections whose way is gone and that we would make are made anew at once, and those that had no way are
    /// tried again.
    pub fn readdress<C: IkeCrypto>(
        &mut self,
        now: Instant,
        stands: impl FnMut(PeerId, Path) -> bool,
        parts: &mut Parts<'_, '_, C>,
    ) {
        self.follow_addresses(now, stands, parts);
        self.settle(now, parts);
    }

    /// Nothing was done for long: the machine slept, or the process was stopped. Peers may have given us up meanwhile, so each
    /// is asked for a sign of life at once.
    pub fn woke<C: IkeCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C>) {
        let ikes = parts.endpoint.ike_sas().filter(|ike| ike.state == SaState::Established);
        for ike in ikes.map(|ike| ike.id).collect::<Vec<_>>() {
            let _ = parts.endpoint.check_liveness(now, ike); // or it is about to end
        }
        self.settle(now, parts);
    }

    /// When to call [`Gateway::handle_timeout`]; `None` when nothing is waiting.
    pub fn poll_timeout<C: IkeCrypto>(&self, parts: &Parts<'_, '_, C>) -> Option<Instant> {
        let look = self.looks.first().map(|(at, _)| *at);
        let own = [self.agenda.next(), self.children.next(), look];
        own.into_iter().chain([parts.plane.poll_timeout(), parts.endpoint.poll_timeout()]).flatten().min()
    }

    /// `[gateway]` as it stands.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The rules as they stand, in the order in which they are tried.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How often a peer was found at another address or port, as behind a NAT that gave it another mapping; each is
    /// [told](What::Moved), and followed as an authenticated packet or message came from there.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Since when they stand, and what is counted of them is counted.
    pub fn ruled(&self) -> Instant {
        self.ruled
    }

    /// Refusals of strangers that were not told because there were too many of them.
    pub fn untold(&self) -> u64 {
        self.strangers.untold
    }

    /// IKE messages that were dropped without an answer.
    pub fn discarded(&self) -> Discarded {
        self.discarded
    }

    /// Takes up every event of the endpoint, then begins what is due. What strangers send makes nothing due.
    fn settle<C: IkeCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C>) {
        self.take_events(now, parts);
        self.probe(now, parts);
        self.take_events(now, parts);
        // Each look may make others due; what is due without end waits for the next call.
        let all = self.peers.len().saturating_add(self.children.len());
        for _ in 0..ROUNDS.saturating_add(all.saturating_mul(4)) {
            if let Some(peer) = self.agenda.pop(now) {
                self.drive(now, peer, parts.endpoint);
            } else if let Some(child) = self.children.pop(now) {
                self.drive_child(now, child, parts.endpoint);
            } else {
                return;
            }
            self.take_events(now, parts);
        }
    }

    /// Takes a peer out of everything.
    fn strike(&mut self, id: PeerId) {
        let Some(entry) = self.peers.remove(&id) else { return };
        self.agenda.strike(id, entry.due);
        for ike in self.ikes.of(id).collect::<Vec<_>>() {
            self.ikes.remove(ike);
        }
    }

    /// Brings the entries into line with the peers: numbers that are gone lose theirs, new ones get one. Who was there under
    /// the same name goes on counting rekeys, is known to have been up, is held down or wished for if it was, and is made anew if it
    /// was `ended` with its number.
    fn follow(&mut self, peers: &Peers, ended: &BTreeSet<ChildConfigId>) {
        self.order = peers.iter().map(|(id, _)| id).collect();
        let kept: BTreeSet<_> = self.order.iter().copied().collect();
        let leaving = self.peers.values().filter(|peer| !kept.contains(&peer.id));
        let words: BTreeMap<_, _> = leaving.map(|peer| (peer.name.clone(), (peer.held, peer.wanted))).collect();
        let mut gone = self.children.take();
        let mut new = Vec::new();
        for (id, peer) in peers.iter() {
            self.agenda.touch(id);
            let entry = self.peers.entry(id).or_insert_with(|| Box::new(PeerEntry::new(id, peer)));
            (entry.start, entry.anywhere) = (peer.start, peer.remote.is_empty());
            let (held, wanted) = words.get(&peer.name).copied().unwrap_or_default();
            entry.held |= held;
            entry.wanted |= wanted;
            entry.follow_names(peer);
            entry.children.clear();
            for (child_id, child) in peers.children_of(id) {
                entry.children.push(child_id);
                let known = gone.remove(&child_id);
                if known.is_none() {
                    new.push((child_id, (peer.name.clone(), child.name.clone())));
                }
                let mut known = known.unwrap_or_else(|| Box::new(ChildEntry::new(child_id, id, child)));
                known.follow(child);
                self.children.insert(known);
            }
        }
        let name = |child: &ChildEntry| Some((self.peers.get(&child.peer)?.name.clone(), child.name.clone()));
        let left: BTreeMap<_, _> = gone.values().filter_map(|child| Some((name(child)?, child))).collect();
        for (id, name) in new {
            if let (Some(child), Some(before)) = (self.children.get_mut(&id), left.get(&name)) {
                (child.rekeys, child.was_up) = (before.rekeys, before.was_up);
                child.held = before.held;
                // What is held down and yet was there, the peer wants.
                child.wanted = before.wanted || ended.contains(&before.id);
            }
        }
        for id in self.peers.keys().filter(|id| !kept.contains(id)).copied().collect::<Vec<_>>() {
            self.strike(id);
        }
        let asked = self.peers.iter().filter_map(|(id, entry)| Some((entry.names?.asked, *id)));
        self.by_question = asked.collect();
    }
}

/// Whether a message wants a new IKE SA.
fn begins(datagram: &[u8]) -> bool {
    Header::parse(datagram).is_ok_and(|header| header.exchange == ExchangeType::IKE_SA_INIT && !header.response)
}

/// Looks at peers and children in one call, besides four at each.
const ROUNDS: usize = 8;
