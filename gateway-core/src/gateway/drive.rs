//! Who is to be connected next, and when: `start`, attempts and the pauses between them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{Denied, Endpoint, IkeView, SaState};
use ike_core::event::IkeId;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::time::Instant;

use super::names::name_of;
use super::report::What;
use super::state::{COURTESY, ChildEntry, PeerEntry};
use super::{Gateway, Locate, Located};
use crate::cause::Cause;
use crate::config::{Peer, Remote, Start};
use crate::peers::Peers;

/// The newest IKE SA with a peer.
pub(super) fn connection<C: IkeCrypto>(peer: PeerId, endpoint: &Endpoint<'_, C, Peers>) -> Option<IkeView> {
    let sas = endpoint.ike_sas();
    sas.filter(|ike| ike.peer == Some(peer) && ike.state == SaState::Established).max_by_key(|ike| ike.since)
}

/// What decides about a peer's children.
struct Standing {
    ike: Option<IkeView>,
    active: bool,
    courtesy: Option<Instant>,
}

impl Gateway {
    /// Begins every attempt that is due, and notes when the next one is.
    pub(super) fn drive<C: IkeCrypto>(&mut self, now: Instant, endpoint: &mut Endpoint<'_, C, Peers>) {
        for (spare, _) in self.spares(endpoint).into_iter().filter(|(_, at)| *at <= now) {
            drop(endpoint.close(now, spare)); // denied: it is gone
        }
        let standings = self.standings(endpoint);
        let calls = self.calls(&standings).filter(|(at, _)| *at <= now);
        for id in calls.map(|(_, id)| id).collect::<Vec<_>>() {
            self.connect(now, id, endpoint);
        }
        self.ask_names(now, endpoint.pad());
        let missing = self.missing(&standings).filter(|(at, ..)| *at <= now);
        for (_, ike, config) in missing.collect::<Vec<_>>() {
            self.ask(now, ike, config, endpoint);
        }
        let standings = self.standings(endpoint);
        let calls = self.calls(&standings).map(|(at, _)| at);
        let missing = self.missing(&standings).map(|(at, ..)| at);
        let spares = self.spares(endpoint).into_iter().map(|(_, at)| at);
        // What is due and was not begun just now waits for an event, not for time.
        self.next = calls.chain(missing).chain(spares).chain(self.names_due()).filter(|at| *at > now).min();
    }

    fn standings<C: IkeCrypto>(&self, endpoint: &Endpoint<'_, C, Peers>) -> BTreeMap<PeerId, Standing> {
        let standing = |entry: &PeerEntry| {
            let active = entry.start == Start::Active && !entry.held;
            (entry.id, Standing { ike: None, active, courtesy: entry.courtesy() })
        };
        let mut standings: BTreeMap<_, _> = self.peers.iter().map(standing).collect();
        for ike in endpoint.ike_sas().filter(|ike| ike.state == SaState::Established) {
            if let Some(standing) = ike.peer.and_then(|peer| standings.get_mut(&peer))
                && standing.ike.is_none_or(|held| held.since < ike.since)
            {
                standing.ike = Some(ike);
            }
        }
        standings
    }

    /// The peers to call, and from when on.
    fn calls(&self, standings: &BTreeMap<PeerId, Standing>) -> impl Iterator<Item = (Instant, PeerId)> {
        let wanting = self.peers.iter().filter(|entry| {
            let connected = standings.get(&entry.id).is_some_and(|standing| standing.ike.is_some());
            !connected && entry.is_wanted() && entry.attempt.is_none() && !entry.locating
        });
        wanting.map(|entry| (entry.retry_at.unwrap_or(Instant::ZERO), entry.id))
    }

    /// The children to ask connected peers for, and from when on.
    fn missing(&self, standings: &BTreeMap<PeerId, Standing>) -> impl Iterator<Item = (Instant, IkeId, ChildConfigId)> {
        let up: BTreeSet<ChildConfigId> = self.sas.iter().map(|sa| sa.config).collect();
        self.children.iter().filter_map(move |child| {
            let standing = standings.get(&child.peer)?;
            let ike = standing.ike?;
            let wanted = child.wanted || (standing.active && !child.held);
            let missing = wanted && child.asked.is_none() && !up.contains(&child.id);
            let courtesy = standing.courtesy.filter(|_| !child.wanted);
            missing.then(|| (child.retry_at.max(courtesy).unwrap_or(Instant::ZERO), ike.id, child.id))
        })
    }

    /// When both sides called at once there are two connections: those that we are to close, and when. Both sides see the
    /// same one as spare, the smaller initiator's SPI, and only its initiator acts, once the other carries all.
    fn spares<C: IkeCrypto>(&self, endpoint: &Endpoint<'_, C, Peers>) -> Vec<(IkeId, Instant)> {
        let spi = |ike: &IkeView| if ike.initiator { ike.spi_local } else { ike.spi_remote };
        let established = || endpoint.ike_sas().filter(|ike| ike.state == SaState::Established);
        let mut kept: BTreeMap<PeerId, IkeView> = BTreeMap::new();
        for ike in established() {
            let Some(peer) = ike.peer else { continue };
            let best = kept.entry(peer).or_insert(ike);
            if spi(best) < spi(&ike) {
                *best = ike;
            }
        }
        let carried = |ike: IkeId| self.sas.iter().filter(move |sa| sa.ike == ike);
        let spare = |ike: IkeView| {
            let kept = kept.get(&ike.peer?).filter(|kept| kept.id != ike.id && ike.initiator)?;
            let all = carried(ike.id).all(|sa| carried(kept.id).any(|other| other.config == sa.config));
            let since = ike.since.max(kept.since)?;
            all.then(|| (ike.id, since + COURTESY))
        };
        established().filter_map(spare).collect()
    }

    /// Calls a peer that is wanted.
    fn connect<C: IkeCrypto>(&mut self, now: Instant, id: PeerId, endpoint: &mut Endpoint<'_, C, Peers>) {
        let Some(turn) = self.peer(id).map(|entry| entry.turn) else { return };
        let Some(peer) = endpoint.pad().get(id) else { return };
        match place(peer, turn) {
            Some(Place::Known(local, remote)) => {
                endpoint.pad_mut().set_path(id, local, remote);
                self.initiate(now, id, endpoint);
            }
            Some(Place::Unknown(question)) => {
                let question = Locate { peer: id, ..question };
                self.questions.push_back(question);
                if let Some(entry) = self.peer(id) {
                    entry.locating = true;
                }
            }
            None => {
                let cause = Cause::waiting();
                if let Some(entry) = self.peer(id) {
                    entry.fail(now, cause.clone());
                }
                self.tell(Some(id), None, What::Failed { remote: None }, Some(cause));
            }
        }
    }

    /// The appliance found a peer, or did not.
    pub(super) fn found<C: IkeCrypto>(
        &mut self,
        now: Instant,
        question: &Locate,
        answer: Result<Located, Cause>,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        let id = question.peer;
        if let Some(name) = name_of(&question.remote) {
            let addresses = answer.as_ref().map(|located| located.resolved.as_slice());
            self.named(now, id, name, addresses, endpoint);
        }
        let Some(entry) = self.peer(id).filter(|entry| entry.locating) else { return };
        let turn = entry.turn;
        let wanted = entry.is_wanted();
        // Another name of it may have been asked for than the one that is tried now.
        match endpoint.pad().get(id).and_then(|peer| place(peer, turn)) {
            Some(Place::Unknown(asked)) if asked.remote == question.remote => {}
            _ => return,
        }
        let places = endpoint.pad().get(id).map_or(1, |peer| peer.remote.len());
        let round = turn.checked_div(places).unwrap_or(0);
        let chosen = answer.and_then(|Located { ways, hindrance, .. }| {
            // In the order in which the addresses were first heard of: resolvers turn theirs.
            let known: Vec<_> = endpoint.pad().addresses(id).collect();
            let mut ways = ways;
            ways.sort_by_key(|way| known.iter().position(|address| *address == way.remote)); // stable
            let way = round.checked_rem(ways.len()).and_then(|index| ways.get(index)).copied();
            let none = || hindrance.unwrap_or_else(|| Cause::unroutable("no address of ours leads there"));
            way.map(|way| (way, ways.len())).ok_or_else(none)
        });
        let Some(entry) = self.peer(id) else { return };
        entry.locating = false;
        match chosen {
            Ok((way, ways)) => {
                entry.ways = u32::try_from(ways.saturating_mul(places)).unwrap_or(1);
                endpoint.pad_mut().set_path(id, way.local, way.remote);
                if wanted && connection(id, endpoint).is_none() {
                    self.initiate(now, id, endpoint);
                }
            }
            Err(cause) => {
                entry.fail(now, cause.clone());
                self.tell(Some(id), None, What::Failed { remote: None }, Some(cause));
            }
        }
    }

    /// Our own addresses or routes changed.
    pub(super) fn follow_addresses<C: IkeCrypto>(
        &mut self,
        now: Instant,
        mut stands: impl FnMut(PeerId, ipsec_core::net::Path) -> bool,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        let open = endpoint.ike_sas().filter(|ike| ike.state != SaState::Closing);
        let open: Vec<_> = open.map(|ike| (ike.id, ike.peer, ike.path)).collect();
        for (ike, peer, path) in open {
            let ours = |entry: &&mut PeerEntry| Some(entry.id) == peer || entry.attempt == Some(ike);
            // A peer that we do not call finds out by itself, and comes.
            let Some(entry) = self.peers.iter_mut().find(ours).filter(|entry| entry.start != Start::Passive) else {
                continue;
            };
            if stands(entry.id, path) {
                continue;
            }
            if entry.attempt == Some(ike) {
                entry.attempt = None;
            }
            entry.retry_at = None;
            entry.failures = 0;
            drop(endpoint.close(now, ike)); // denied: it is gone
        }
        for entry in &mut self.peers {
            if entry.cause.as_ref().is_some_and(|cause| cause.code == Cause::UNROUTABLE) {
                entry.retry_at = None;
            }
        }
    }

    fn initiate<C: IkeCrypto>(&mut self, now: Instant, id: PeerId, endpoint: &mut Endpoint<'_, C, Peers>) {
        let active = self.peers.iter().any(|entry| entry.id == id && entry.start == Start::Active && !entry.held);
        let due = |child: &&ChildEntry| child.peer == id && (child.wanted || (active && !child.held));
        let first = self.children.iter().find(due);
        let begun = endpoint.initiate(now, id, first.map(|child| child.id));
        let remote = endpoint.pad().path(id).map(|path| path.remote);
        match begun {
            Ok(ike) => {
                if let Some(entry) = self.peer(id) {
                    entry.attempt = Some(ike);
                }
                if let Some(remote) = remote {
                    self.tell(Some(id), None, What::Connecting { remote }, None);
                }
            }
            Err(denied) => {
                let cause = explained(&denied, endpoint.pad().get(id));
                if let Some(entry) = self.peer(id) {
                    entry.fail(now, cause.clone());
                }
                self.tell(Some(id), None, What::Failed { remote }, Some(cause));
            }
        }
    }

    /// Asks a connected peer for a child.
    fn ask<C: IkeCrypto>(
        &mut self,
        now: Instant,
        ike: IkeId,
        config: ChildConfigId,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        let asked = endpoint.create_child(now, ike, config);
        let about = endpoint.pad().get_child(config).map(|(_, peer, _)| peer);
        let cause = asked.as_ref().err().map(|denied| explained(denied, about));
        if let Some(child) = self.child(config) {
            match cause {
                None => child.asked = asked.ok(),
                Some(cause) => child.fail(now, cause),
            }
        }
    }

    /// A packet wants through a child. Returns whether an SA for it is, or will be, under way.
    pub(super) fn want_for_packet<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: ChildConfigId,
        endpoint: &Endpoint<'_, C, Peers>,
    ) -> bool {
        let Some(child) = self.children.iter_mut().find(|child| child.id == id) else { return false };
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == child.peer) else { return false };
        if peer.attempt.is_some() || peer.locating || child.asked.is_some() {
            return true;
        }
        let connected = connection(peer.id, endpoint).is_some();
        let willing = match peer.start {
            Start::OnDemand => true,
            Start::Active => !peer.held && !child.held,
            // We do not call, but once we are connected a child can be asked for.
            Start::Passive => connected && !child.held,
        };
        let tired = |retry_at: Option<Instant>| retry_at.is_some_and(|at| at > now);
        if !willing || tired(child.retry_at) || (!connected && tired(peer.retry_at)) {
            return false;
        }
        child.wanted = true;
        peer.wanted |= !connected;
        self.changed = true;
        true
    }
}

/// Where to call a peer.
enum Place {
    Known(core::net::IpAddr, core::net::IpAddr),
    Unknown(Locate),
}

/// The place to try at this turn: each of the peer's, with each of ours that fits, in turn.
fn place(peer: &Peer, turn: usize) -> Option<Place> {
    let remotes = peer.remote.len();
    let remote = peer.remote.get(turn.checked_rem(remotes)?)?;
    let round = turn.checked_div(remotes)?;
    let question = || Locate { peer: PeerId(0), remote: remote.clone(), local: peer.local.clone() };
    let Remote::Address(address) = remote else { return Some(Place::Unknown(question())) };
    let fitting: Vec<_> = peer.local.iter().filter(|local| local.is_ipv4() == address.is_ipv4()).collect();
    match round.checked_rem(fitting.len()).and_then(|index| fitting.get(index)) {
        Some(local) => Some(Place::Known(**local, *address)),
        None => Some(Place::Unknown(question())),
    }
}

pub(super) fn explained(denied: &Denied, peer: Option<&Peer>) -> Cause {
    match denied {
        Denied::Failed(failure) => Cause::of(failure, peer),
        Denied::Full => Cause::not_installed("the table of SAs is full"),
        Denied::NoAddress => Cause::unroutable("no address is known"),
        Denied::UnknownPeer | Denied::UnknownChild | Denied::UnknownSa => Cause::not_installed("it is gone"),
    }
}
