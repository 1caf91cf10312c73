//! Who is to be connected next, and when: `start`, attempts and the pauses between them.

use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{Endpoint, IkeView, SaState};
use ike_core::event::IkeId;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::ask::explained;
use super::names::name_of;
use super::status::{OFTEN, unheard};
use crate::cause::Cause;
use crate::config::{Peer, Remote, Start};
use crate::peers::Peers;
use crate::state::agenda::Soonest;
use crate::state::calling::{Calling, LONG};
use crate::state::child::ChildEntry;
use crate::state::peer::PeerEntry;
use crate::state::places::{Locate, Located};
use crate::state::renewal::Renewal;
use crate::state::report::What;
use crate::state::{Gateway, Parts};

impl Gateway {
    /// Begins what is due for one peer, and notes when the next thing is.
    pub(super) fn drive<C: IkeCrypto>(&mut self, now: Instant, id: PeerId, endpoint: &mut Endpoint<'_, C, Peers>) {
        let mut soonest = Soonest::after(now);
        self.merge(now, id, &mut soonest, endpoint);
        self.merge_children(now, id, &mut soonest, endpoint);
        self.call(now, id, &mut soonest, endpoint);
        self.ask_for_names(now, id, &mut soonest, endpoint.pad());
        self.follow_connection(id, endpoint);
        self.watch(now, id, &mut soonest, endpoint);
        if let Some(entry) = self.peers.get_mut(&id) {
            entry.contest.calm_down(&mut soonest);
            let before = core::mem::replace(&mut entry.due, soonest.at);
            self.agenda.plan(id, before, soonest.at);
        }
    }

    /// Calls a peer that is wanted and not there, or that is to be authenticated anew.
    fn call<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        soonest: &mut Soonest,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        let connected = self.is_connected(id, endpoint);
        let begun = |entry: &PeerEntry| entry.calling.ike().is_some();
        let renewal = self.peers.get(&id).filter(|entry| !begun(entry)).and_then(|entry| entry.renew);
        let void = renewal.is_some_and(|renewal| self.is_void(renewal));
        if let Some(entry) = self.peers.get_mut(&id).filter(|_| !connected || void) {
            entry.renew = None; // there is nothing to make anew, or nobody to do it for
        }
        let Some(entry) = self.peers.get(&id) else { return };
        let due = entry.renew.is_some() || (!connected && entry.is_wanted());
        if !due || !entry.calling.is_idle() || self.first_child(entry).is_none() {
            return;
        }
        if soonest.reached(entry.tries.retry_at.unwrap_or(Instant::ZERO)) {
            self.connect(now, id, endpoint);
            // What could not even begin has its pause.
            let idle = self.peers.get(&id).filter(|entry| entry.calling.is_idle());
            let retry_at = idle.and_then(|entry| entry.tries.retry_at);
            retry_at.map(|at| soonest.reached(at));
        }
    }

    /// Where its children are asked for on another connection than when they were looked at last, or by ourselves now, they are
    /// looked at again.
    fn follow_connection<C: IkeCrypto>(&mut self, id: PeerId, endpoint: &Endpoint<'_, C, Peers>) {
        let ike = self.connection(id, endpoint).map(|ike| ike.id);
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let on = ike.map(|ike| (ike, entry.is_active()));
        if core::mem::replace(&mut entry.asked_on, on) != on {
            self.children.touch(&entry.children);
        }
    }

    /// Asks the peer for a child that is not up, and notes when that is due.
    pub(super) fn drive_child<C: IkeCrypto>(
        &mut self,
        now: Instant,
        config: ChildConfigId,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        let mut soonest = Soonest::after(now);
        if let Some((ike, _)) = self.missing(config, endpoint).filter(|(_, at)| soonest.reached(*at)) {
            self.ask(now, ike, config, None, endpoint);
        }
        self.children.plan(config, soonest.at);
    }

    /// Looks after exchanges that do not get on, so that nobody waits in the dark.
    fn watch<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        soonest: &mut Soonest,
        endpoint: &Endpoint<'_, C, Peers>,
    ) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let call = entry.calling.call_mut().and_then(|call| call.is_due(soonest).then_some(call));
        let view = call.and_then(|call| Some((endpoint.ike_sa(call.ike)?, call)));
        let silent = view.filter(|(view, _)| view.waiting.is_some_and(|(_, repeated)| repeated >= u32::from(OFTEN)));
        if let Some(cause) = silent.and_then(|(view, call)| call.unanswered(&view)) {
            self.tell(Some(id), None, What::Waiting, Some(cause));
        }
        // Some repeat what is not answered after half a second, others after many: who was called looks until it is heard.
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let due = entry.unconfirmed.take_if(|unconfirmed| soonest.reached(unconfirmed.look_at));
        let Some(mut looked_at) = due else { return };
        let open = |ike: &IkeView| ike.state == SaState::Established && !ike.confirmed;
        let unconfirmed = |ike: &IkeId| endpoint.ike_sa(*ike).filter(open);
        looked_at.ikes.retain(|ike| self.ikes.has(id, *ike) && unconfirmed(ike).is_some());
        let Some(ike) = looked_at.ikes.iter().filter_map(unconfirmed).max_by_key(|ike| ike.unheard) else { return };
        let cause = unheard(&ike);
        // Each is told once.
        if cause.is_some() {
            looked_at.ikes.remove(&ike.id);
        }
        if !looked_at.ikes.is_empty() {
            looked_at.look_at = now + LONG;
            soonest.reached(now + LONG);
            entry.unconfirmed = Some(looked_at);
        }
        if cause.is_some() {
            self.tell(Some(id), None, What::Waiting, cause);
        }
    }

    /// Calls a peer that is wanted.
    fn connect<C: IkeCrypto>(&mut self, now: Instant, id: PeerId, endpoint: &mut Endpoint<'_, C, Peers>) {
        // What stands is made anew where it stands, as long as that is a place of the peer's: other places may lead to other
        // machines, and nobody has to say what a name stands for.
        let known = |path: &Path| endpoint.pad().addresses(id).any(|address| address == path.remote.ip());
        let stands = self.connection(id, endpoint).map(|ike| ike.path).filter(known);
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let stands = stands.filter(|_| entry.renew.is_some());
        if let Some(path) = stands {
            endpoint.pad_mut_of(id).set_path(id, path.local.ip(), path.remote.ip(), entry.tries.port());
            return self.initiate(now, id, true, endpoint);
        }
        let Some(peer) = endpoint.pad().get(id) else { return };
        match place(peer, entry.tries.turn) {
            Some(Place::Known { local, remote, ways }) => {
                entry.tries.ways = ways;
                endpoint.pad_mut_of(id).set_path(id, local, remote, entry.tries.port());
                self.initiate(now, id, false, endpoint);
            }
            Some(Place::Unknown(question)) => {
                entry.calling = Calling::Locating;
                let question = Locate { peer: id, ..question };
                self.questions.push_back(question);
            }
            None => self.give_up(now, id, None, false, Cause::waiting()),
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
        self.agenda.touch(id);
        if let Some(name) = name_of(&question.remote) {
            let addresses = answer.as_ref().map(|located| located.resolved.as_slice());
            self.named(now, id, name, addresses, endpoint);
        }
        let Some(entry) = self.peers.get_mut(&id).filter(|entry| entry.calling.is_locating()) else { return };
        let turn = entry.tries.turn;
        let (wanted, renew) = (entry.is_wanted(), entry.renew.is_some());
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
        entry.calling.end_locating();
        match chosen {
            Ok((way, ways)) => {
                entry.tries.ways = u32::try_from(ways.saturating_mul(places)).unwrap_or(1);
                endpoint.pad_mut_of(id).set_path(id, way.local, way.remote, entry.tries.port());
                if renew || (wanted && !self.is_connected(id, endpoint)) {
                    self.initiate(now, id, false, endpoint);
                }
            }
            Err(cause) => self.give_up(now, id, None, false, cause),
        }
    }

    /// Our own addresses or routes changed. What goes nowhere any more takes no packet from here on.
    pub(super) fn follow_addresses<C: IkeCrypto>(
        &mut self,
        now: Instant,
        mut stands: impl FnMut(PeerId, Path) -> bool,
        parts: &mut Parts<'_, '_, C>,
    ) {
        let open = parts.endpoint.ike_sas().filter(|ike| ike.state != SaState::Closing);
        let open: Vec<_> = open.filter_map(|ike| Some((ike.id, ike.peer?, ike.path))).collect();
        for (ike, id, path) in open {
            // A peer that we do not call finds out by itself, and comes.
            let Some(entry) = self.peers.get_mut(&id).filter(|entry| entry.start != Start::Passive) else { continue };
            if stands(id, path) {
                continue;
            }
            entry.tries.forgive();
            self.end_ikes(now, id, &[ike], &Cause::readdressed(path.local.ip()), parts);
        }
        for (id, entry) in &mut self.peers {
            if entry.tries.cause.as_ref().is_some_and(|cause| cause.code == Cause::UNROUTABLE) {
                entry.tries.hurry();
                self.agenda.touch(*id);
            }
        }
    }

    /// Calls it where it is. `at_its_place`: where the connection stands.
    fn initiate<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        at_its_place: bool,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        let Some(first) = self.peers.get(&id).and_then(|entry| self.first_child(entry)) else { return };
        let begun = endpoint.initiate(now, id, Some(first));
        let remote = endpoint.pad().path(id).map(|path| path.remote);
        match begun {
            Ok(ike) => {
                if let Some(entry) = self.peers.get_mut(&id) {
                    entry.calling.begin(now, ike, at_its_place);
                    entry.tries.begun = Some(first);
                }
                self.agenda.touch(id);
                if let Some(remote) = remote {
                    self.tell(Some(id), None, What::Connecting { remote }, None);
                }
            }
            Err(denied) => {
                let cause = explained(&denied, endpoint.pad().get(id));
                self.give_up(now, id, remote, at_its_place, cause);
            }
        }
    }

    /// The child that a connection begins with; `None` when the operator wants none of them.
    fn first_child(&self, entry: &PeerEntry) -> Option<ChildConfigId> {
        let active = entry.is_active();
        // What is held down here and up all the same, the peer wants, and with us beside the connection that stands.
        let up = |child: &ChildEntry| entry.renew.is_some() && !child.sas.is_empty();
        let wanted = |child: &ChildEntry| !child.held || child.wanted || up(child);
        let child = |id: &ChildConfigId| self.children.get(id).filter(|child| wanted(child));
        // Best one that is not refused, and not the one for whose sake the peer ended the last handshake.
        let hope = |child: &&ChildEntry| (Some(child.id) == entry.tries.spoiler, child.setbacks.failures);
        let all = || entry.children.iter().filter_map(child);
        // What is to be renewed may have been taken down since, or be gone from the configuration.
        let renewed = entry
            .renew
            .map(Renewal::child)
            .filter(|id| entry.tries.spoiler != Some(*id) && entry.children.contains(id) && child(id).is_some());
        let due = || all().filter(|child| child.is_wanted(active)).min_by_key(hope);
        let any = || all().min_by_key(hope);
        renewed.or_else(|| due().or_else(any).map(|child| child.id))
    }
}

/// Where to call a peer.
enum Place {
    Known {
        local: core::net::IpAddr,
        remote: core::net::IpAddr,
        /// How many places there are, as far as one can see from this one.
        ways: u32,
    },
    Unknown(Locate),
}

/// The place to try at this turn: each of the peer's, with each of ours that fits, in turn.
fn place(peer: &Peer, turn: usize) -> Option<Place> {
    let remotes = peer.remote.len();
    let remote = peer.remote.get(turn.checked_rem(remotes)?)?;
    let round = turn.checked_div(remotes)?;
    let question = || Locate { peer: PeerId(0), remote: remote.clone(), local: peer.local.clone() };
    let Remote::Address(address) = remote else { return Some(Place::Unknown(question())) };
    let fitting = || peer.local.iter().filter(|local| local.is_ipv4() == address.is_ipv4());
    let ours = fitting().count();
    match round.checked_rem(ours).and_then(|index| fitting().nth(index)) {
        Some(local) => {
            let ways = u32::try_from(ours.saturating_mul(remotes)).unwrap_or(1);
            Some(Place::Known { local: *local, remote: *address, ways })
        }
        None => Some(Place::Unknown(question())),
    }
}
