//! DNS names of peers: asked at the start, again from time to time, when a stranger knocks, and when the peer is lost, so
//! that a peer that moved is known before it calls.

use alloc::string::String;
use core::time::Duration;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::Endpoint;
use ike_core::pad::PeerId;
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::config::{Remote, Start};
use crate::peers::Peers;
use crate::state::Gateway;
use crate::state::agenda::Soonest;
use crate::state::places::Locate;
use crate::state::report::What;

/// Strangers make us ask for names once in this time,
const KNOCKS: Duration = Duration::from_secs(1);
/// and then for those of this many peers, who were asked for longest ago.
const KNOCKED: usize = 16;

impl Gateway {
    /// Asks for the names of a peer when that is due.
    pub(super) fn ask_for_names(&mut self, now: Instant, id: PeerId, soonest: &mut Soonest, peers: &Peers) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let Some(names) = entry.names.as_mut() else { return };
        if soonest.reached(names.due) {
            let first = names.asked.is_none();
            self.by_question.remove(&(names.asked, id));
            names.ask(now, id.0);
            self.by_question.insert((names.asked, id));
            soonest.reached(names.due);
            let Some(peer) = peers.get(id) else { return };
            if first && entry.start == Start::Active && entry.calling.is_locating() && peer.remote.len() == 1 {
                return; // the first call asks already
            }
            let named = peer.remote.iter().filter(|place| place.address().is_none());
            let questions = named.map(|name| Locate { peer: id, remote: name.clone(), local: peer.local.clone() });
            self.questions.extend(questions);
        }
    }

    /// Somebody called whom we do not know: it may be a peer that moved.
    pub(super) fn knock(&mut self, now: Instant) {
        if self.knocked.is_some_and(|at| now.since(at) < KNOCKS) {
            return;
        }
        self.knocked = Some(now);
        for (_, id) in self.by_question.iter().take(KNOCKED) {
            if let Some(names) = self.peers.get_mut(id).and_then(|entry| entry.names.as_mut()) {
                names.hurry(now);
                self.agenda.touch(*id);
            }
        }
    }

    /// A name has these addresses now, or none.
    pub(super) fn named<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        name: &str,
        answer: Result<&[core::net::IpAddr], &Cause>,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        let connected = self.is_connected(id, endpoint);
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let Some(names) = entry.names.as_mut() else { return };
        match answer {
            Ok(addresses) => {
                names.resolved();
                if entry.tries.cause.as_ref().is_some_and(|cause| cause.code == Cause::UNRESOLVED) {
                    entry.tries.cause = None;
                }
                let attempt = entry.calling.ike();
                endpoint.pad_mut_of(id).set_resolved(id, name, addresses);
                let elsewhere = endpoint.pad().path(id).is_some_and(|path| {
                    let mut known = endpoint.pad().addresses(id);
                    !known.any(|address| address == path.remote.ip())
                });
                if let Some(attempt) = attempt.filter(|_| elsewhere) {
                    drop(endpoint.close(now, attempt)); // denied: it is gone
                }
            }
            Err(cause) => {
                names.unresolved(now, id.0);
                let told = entry.tries.cause.as_ref().is_some_and(|held| held.code == cause.code);
                if !connected && !told && entry.calling.is_idle() {
                    entry.tries.cause = Some(cause.clone());
                    self.tell(Some(id), None, What::Failed { remote: None }, Some(cause.clone()));
                }
            }
        }
    }
}

/// The name of a place, when it has one.
pub(super) fn name_of(place: &Remote) -> Option<&String> {
    match place {
        Remote::Name(name) => Some(name),
        Remote::Address(_) => None,
    }
}
