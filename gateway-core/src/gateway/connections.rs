//! Connections that come about, move, and end.

use alloc::boxed::Box;
use core::net::SocketAddr;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::Endpoint;
use ike_core::event::{IkeId, Party};
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, Pad, PeerId};
use ike_core::registry::ExchangeType;
use ike_core::wire::id::ShortId;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::cause::{Cause, Kind};
use crate::config::Identity;
use crate::peers::Peers;
use crate::state::renewal::Renewal;
use crate::state::report::What;
use crate::state::unconfirmed::Unconfirmed;
use crate::state::uptime::LASTING;
use crate::state::{Gateway, Parts};

/// Who was at the other end of an IKE SA that is gone.
pub(super) struct Who {
    pub(super) peer: Option<PeerId>,
    pub(super) claimed: Option<PeerId>,
    pub(super) identity: Option<ShortId>,
    pub(super) party: Party,
}

impl Gateway {
    /// Somebody's request was refused, unproven who that is.
    pub(super) fn refused<C: IkeCrypto>(&mut self, remote: SocketAddr, cause: &Failure, parts: &Parts<'_, '_, C>) {
        let about = parts.endpoint.pad().only_one_at(remote.ip());
        let cause = Cause::of(cause, about.and_then(|id| parts.endpoint.pad().get(id)));
        let connected = about.is_some_and(|id| self.is_connected(id, parts.endpoint));
        // Of what a stranger may have begun only the cause is kept, for display.
        if let Some(entry) = about.and_then(|id| self.peers.get_mut(&id)).filter(|_| !connected) {
            entry.tries.cause = Some(cause.clone());
        }
        self.tell(about, None, What::Refused { remote }, Some(cause));
    }

    /// The peer is about to take us for nobody any more: we prove anew who we are, beside the connection that stands, with
    /// what that carries first.
    pub(super) fn reauthenticate(&mut self, peer: PeerId, carried: Option<ChildConfigId>) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let child = carried.or(entry.children.first().copied());
        if child.is_some_and(|child| entry.reauthenticate(child)) {
            self.tell(Some(peer), None, What::Renewing, Some(Cause::for_the_lifetime()));
        }
    }

    pub(super) fn established<C: IkeCrypto>(
        &mut self,
        now: Instant,
        ike: IkeId,
        peer: PeerId,
        endpoint: &Endpoint<'_, C, Peers>,
    ) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let view = endpoint.ike_sa(ike);
        let party = view.as_ref().map(|view| view.party);
        let mut took = None;
        if let Some(call) = entry.calling.end(ike) {
            took = Some(now.since(call.since));
            entry.party = party;
            if let Some(renewal) = entry.renew.take() {
                party.into_iter().for_each(|party| self.ikes.supersede(peer, party));
                if let Renewal::Refused(config) = renewal
                    && let Some(child) = self.children.get_mut(&config)
                {
                    child.renewed_at = Some(now);
                }
            }
        }
        self.ikes.insert(ike, peer, party.unwrap_or_default(), view.as_ref().and_then(|view| view.since));
        entry.trouble = None;
        // Of the one that we call it is no news that another one is there.
        if party.is_some_and(|party| entry.looks_after(party)) {
            entry.wanted = false;
            entry.tries.rest();
        }
        entry.established_at = Some(now);
        Unconfirmed::enter(&mut entry.unconfirmed, now, ike);
        self.agenda.touch(peer);
        let ike = view.map(Box::new);
        self.tell(Some(peer), None, What::Connected { ike, took }, None);
    }

    pub(super) fn rekeyed<C: IkeCrypto>(
        &mut self,
        old: IkeId,
        new: IkeId,
        peer: PeerId,
        endpoint: &Endpoint<'_, C, Peers>,
    ) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if !self.ikes.replace(old, new, endpoint.ike_sa(new).and_then(|view| view.since)) {
            return; // it was closed here meanwhile
        }
        self.sas.carry_over(old, new);
        for config in &entry.children {
            let Some(child) = self.children.get_mut(config) else { continue };
            if let Some(asked) = child.asked.as_mut().filter(|asked| asked.ike == old) {
                asked.ike = new;
            }
        }
        self.tell(Some(peer), None, What::Rekeyed, None);
    }

    /// Somebody says in clear why nothing will come of a handshake of ours.
    pub(super) fn noted<C: IkeCrypto>(
        &mut self,
        now: Instant,
        (ike, peer): (IkeId, PeerId),
        remote: SocketAddr,
        failure: &Failure,
        endpoint: &Endpoint<'_, C, Peers>,
    ) {
        let cause = Cause::of(failure, endpoint.pad().get(peer));
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let known = entry.tries.cause.as_ref() == Some(&cause);
        // Of several the last one, and of one in each attempt the first time.
        let call = entry.calling.of(ike).filter(|call| call.doubt.as_deref() != Some(&cause));
        let Some(call) = call else { return };
        call.doubt = Some(Box::new(cause.clone()));
        if !known && self.strangers.admit(now) {
            self.tell(Some(peer), None, What::Doubtful { remote, answers: true }, Some(cause));
        }
    }

    /// The peer is reached at another address or port.
    pub(super) fn moved<C: IkeCrypto>(&mut self, ike: IkeId, path: Path, parts: &mut Parts<'_, '_, C>) {
        let peer = parts.endpoint.ike_sa(ike).and_then(|view| view.peer);
        self.sas.change_over(ike, |sa| sa.move_to(path, parts.plane));
        self.moves = self.moves.saturating_add(1);
        self.tell(peer, None, What::Moved { remote: path.remote }, None);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one event")]
    pub(super) fn closed<C: IkeCrypto>(
        &mut self,
        now: Instant,
        ike: IkeId,
        &Who { peer, claimed, identity, party }: &Who,
        remote: SocketAddr,
        established: bool,
        failure: &Failure,
        parts: &mut Parts<'_, '_, C>,
    ) {
        if peer.is_none() && !established {
            self.knock(now);
        }
        // Strangers neither fill the log nor keep us busy.
        if peer.is_none() && !self.strangers.admit(now) {
            return;
        }
        let about = peer.or(claimed).or_else(|| parts.endpoint.pad().only_one_at(remote.ip()));
        let pad = parts.endpoint.pad();
        let config = about.and_then(|id| pad.get(id));
        let ours = about.and_then(|id| pad.connection(id)).map(|connection| Identity::from(connection.local_id));
        let mut cause = Cause::of_handshake(failure, remote, config, ours.as_ref(), identity.as_ref());
        let mut goes_on = false;
        if let Some(id) = about {
            let Some(entry) = self.peers.get_mut(&id) else { return };
            let call = entry.calling.end(ike);
            let (ours, at_its_place) = (call.is_some(), call.as_ref().is_some_and(|call| call.at_its_place));
            if let Some(call) = call {
                entry.tries.silent = *failure == Failure::PeerSilent(ExchangeType::IKE_SA_INIT);
                let unsent = call.unsent.filter(|_| matches!(failure, Failure::PeerSilent(_)));
                cause = unsent.map_or(cause, |unsent| *unsent);
            }
            if ours && failure.is_about_child() {
                let spoiler = entry.tries.spoil();
                if let Some(child) = spoiler.and_then(|spoiler| self.children.get_mut(&spoiler)) {
                    child.setbacks.count();
                }
            }
            let known = self.forget_ike(id, ike);
            if established && !known {
                return; // it was closed here, and told then
            }
            if established && *failure == Failure::Replaced {
                self.replaced(now, id, remote, parts.endpoint);
            }
            let connected = self.is_connected(id, parts.endpoint);
            goes_on = self.connections_with(id, party, parts.endpoint).next().is_some();
            let Some(entry) = self.peers.get_mut(&id) else { return };
            if established && !connected && cause.kind != Kind::Intent {
                entry.lost(now);
            }
            if ours && !established {
                if cause.kind != Kind::Intent {
                    self.fail(now, id, at_its_place, cause.clone());
                }
            } else if established && (entry.calling.ike().is_some() || !entry.looks_after(party)) {
                // Another one is made already, or it was nobody that we call.
            } else if !connected && cause.kind != Kind::Intent {
                let lasted = entry.established_at.is_some_and(|since| now.since(since) >= LASTING);
                match (established, lasted) {
                    (true, true) if *failure != Failure::ClosedByPeer => self.lose(id, cause.clone()),
                    (true, lasted) => {
                        entry.tries.failures = if lasted { 0 } else { entry.tries.failures };
                        self.fail(now, id, false, cause.clone());
                    }
                    // Of a handshake that a stranger began, only the cause is kept, for display.
                    (false, _) => entry.tries.cause = Some(cause.clone()),
                }
            }
        }
        let what = match (established, goes_on) {
            (true, true) => What::Merged,
            (true, false) => What::Closed,
            (false, _) => What::Failed { remote: Some(remote) },
        };
        // A handshake of ours that we ended ourselves ended because of something, and is no failure to who waits for the next.
        let entry = about.and_then(|id| self.peers.get_mut(&id));
        let cut = entry.and_then(|entry| entry.cut.take_if(|cut| cut.0 == ike));
        let cut = cut.map(|cut| Cause { kind: Kind::Intent, ..cut.1 });
        self.tell(about, None, what, cut.or(Some(cause)));
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;
    use crate::config::Config;

    #[test]
    fn f_63_a_peer_that_we_called_is_authenticated_anew_beside_the_connection_and_told_why() {
        let text = "[[peer]]\nname='a'\nlocal='192.0.2.2'\nremote='192.0.2.1'\nstart='passive'\n\
                    psk='a key of more than twenty octets'\n[[peer.child]]\nname='net'\nlocal-ts='10.2.0.0/16'\n\
                    remote-ts='10.1.0.0/16'\n";
        // Whether the operator took it down.
        for held in [false, true] {
            let renewed = !held;
            let (mut gateway, _) = Gateway::new(Config::parse(text).unwrap().0);
            let (id, entry) = gateway.peers.iter_mut().next().unwrap();
            let (id, child) = (*id, entry.children[0]);
            entry.held = held;
            // As often as the peer likes, and once at a time.
            entry.tries.retry_at = Some(Instant::from_millis(u64::MAX));
            gateway.reauthenticate(id, None);
            gateway.reauthenticate(id, None);
            let entry = &gateway.peers[&id];
            assert_eq!(
                (entry.renew, entry.tries.retry_at.is_none()),
                (renewed.then_some(Renewal::Proof(child)), renewed)
            );
            let told: Vec<_> = gateway.reports.iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), usize::from(renewed), "{told:?}");
            assert!(
                told.iter().all(|line| line.contains("anew") && line.contains("[authentication-lifetime]")),
                "{told:?}"
            );
        }
    }
}
