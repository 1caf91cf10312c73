//! Attempts and connections that came to nothing, and what was wished for with them.

use core::net::SocketAddr;

use ike_core::pad::PeerId;
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::state::Gateway;
use crate::state::report::What;

impl Gateway {
    /// An attempt failed, or a connection did soon. Whoever wanted it or a child of it has to want that again, unless we call
    /// by ourselves.
    pub(super) fn fail(&mut self, now: Instant, id: PeerId, at_its_place: bool, cause: Cause) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        entry.fail(now, at_its_place, cause);
        self.forget_wishes(id);
    }

    /// A connection that was a good one is gone: it is made again at once.
    pub(super) fn lose(&mut self, id: PeerId, cause: Cause) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        entry.tries.lose(cause);
        self.forget_wishes(id);
    }

    /// What was wished for of a peer that we do not call by ourselves goes with the last connection.
    fn forget_wishes(&mut self, id: PeerId) {
        let Some(entry) = self.peers.get(&id).filter(|_| self.ikes.of(id).next().is_none()) else { return };
        for config in entry.children.iter().filter(|_| !entry.is_wanted()) {
            if let Some(child) = self.children.get_mut(config) {
                child.wanted = false;
            }
        }
    }

    /// An attempt could not even begin.
    pub(super) fn give_up(
        &mut self,
        now: Instant,
        id: PeerId,
        remote: Option<SocketAddr>,
        at_its_place: bool,
        cause: Cause,
    ) {
        self.fail(now, id, at_its_place, cause.clone());
        self.tell(Some(id), None, What::Failed { remote }, Some(cause));
    }
}
