//! Who is to be connected next, and when: `start`, attempts and the pauses between them.

use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{Denied, Endpoint, IkeView, SaState};
use ike_core::event::IkeId;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::time::Instant;

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

impl Gateway {
    /// Begins every attempt that is due.
    pub(super) fn drive<C: IkeCrypto>(&mut self, now: Instant, endpoint: &mut Endpoint<'_, C, Peers>) {
        for id in self.peers.iter().map(|entry| entry.id).collect::<Vec<_>>() {
            if let Some((spare, _)) = self.spare(id, endpoint).filter(|(_, at)| *at <= now) {
                drop(endpoint.close(now, spare)); // denied: it is gone
            }
            match connection(id, endpoint) {
                Some(ike) => self.complete(now, id, &ike, endpoint),
                None => self.connect(now, id, endpoint),
            }
        }
    }

    /// When both sides called at once there are two connections: the one that we are to close, and when. Both sides see
    /// the same one as spare, the smaller initiator's SPI, and only its initiator acts, once the other carries all.
    fn spare<C: IkeCrypto>(&self, id: PeerId, endpoint: &Endpoint<'_, C, Peers>) -> Option<(IkeId, Instant)> {
        let established = || endpoint.ike_sas().filter(|ike| ike.peer == Some(id) && ike.state == SaState::Established);
        let spi = |ike: &IkeView| if ike.initiator { ike.spi_local } else { ike.spi_remote };
        let kept = established().max_by_key(spi)?;
        let carried = |ike: IkeId| self.sas.iter().filter(move |sa| sa.ike == ike);
        let spare = established().find(|ike| {
            let all = carried(ike.id).all(|sa| carried(kept.id).any(|other| other.config == sa.config));
            ike.initiator && ike.id != kept.id && all
        })?;
        Some((spare.id, spare.since.max(kept.since)? + COURTESY))
    }

    /// When the next attempt is due. What is due already was begun by [`drive`](Self::drive).
    pub(super) fn next_attempt<C: IkeCrypto>(&self, endpoint: &Endpoint<'_, C, Peers>) -> Option<Instant> {
        let due = |entry: &PeerEntry| {
            if connection(entry.id, endpoint).is_none() {
                let waiting = entry.is_wanted() && entry.attempt.is_none() && !entry.locating;
                return entry.retry_at.filter(|_| waiting);
            }
            let missing = self.children.iter().filter(|child| child.peer == entry.id && self.is_missing(child));
            let missing = missing.filter_map(|child| child.retry_at.max(entry.courtesy().filter(|_| !child.wanted)));
            missing.chain(self.spare(entry.id, endpoint).map(|(_, at)| at)).min()
        };
        self.peers.iter().filter_map(due).min()
    }

    /// Calls a peer that is wanted.
    fn connect<C: IkeCrypto>(&mut self, now: Instant, id: PeerId, endpoint: &mut Endpoint<'_, C, Peers>) {
        let Some(entry) = self.peer(id) else { return };
        let due = entry.retry_at.is_none_or(|at| at <= now);
        if !entry.is_wanted() || !due || entry.attempt.is_some() || entry.locating {
            return;
        }
        let turn = entry.turn;
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
        id: PeerId,
        place: Result<Located, Cause>,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        let Some(entry) = self.peer(id).filter(|entry| entry.locating) else { return };
        entry.locating = false;
        match place {
            Ok(Located { local, remote, resolved }) => {
                let wanted = entry.is_wanted();
                endpoint.pad_mut().set_resolved(id, resolved);
                endpoint.pad_mut().set_path(id, local, remote);
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

    fn initiate<C: IkeCrypto>(&mut self, now: Instant, id: PeerId, endpoint: &mut Endpoint<'_, C, Peers>) {
        let first = self.children.iter().find(|child| child.peer == id && self.is_due(child.id));
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

    /// Whether we are to ask for this child.
    fn is_due(&self, id: ChildConfigId) -> bool {
        let Some(child) = self.children.iter().find(|child| child.id == id) else { return false };
        let active = self.peers.iter().any(|peer| peer.id == child.peer && peer.start == Start::Active && !peer.held);
        child.wanted || (active && !child.held)
    }

    /// Whether we are to ask for this child, and have not.
    fn is_missing(&self, child: &ChildEntry) -> bool {
        let up = self.sas.iter().any(|sa| sa.config == child.id);
        !up && child.asked.is_none() && self.is_due(child.id)
    }

    /// Asks a connected peer for the children that are missing.
    fn complete<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        ike: &IkeView,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        let courtesy = self.peer(id).and_then(|entry| entry.courtesy());
        let past = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        let due = self.children.iter().filter(|child| {
            child.peer == id && self.is_missing(child) && past(child.retry_at) && (child.wanted || past(courtesy))
        });
        for config in due.map(|child| child.id).collect::<Vec<_>>() {
            let asked = endpoint.create_child(now, ike.id, config);
            let cause = asked.as_ref().err().map(|denied| explained(denied, endpoint.pad().get(id)));
            if let Some(child) = self.child(config) {
                match cause {
                    None => child.asked = asked.ok(),
                    Some(cause) => child.fail(now, cause),
                }
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
