//! Two machines with one identity: each that calls takes the connection of the other, and neither knows.

use alloc::boxed::Box;
use core::net::SocketAddr;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::Endpoint;
use ike_core::pad::PeerId;
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::peers::Peers;
use crate::state::Gateway;
use crate::state::report::What;

impl Gateway {
    /// The peer's connection with `before` ended because a newer one took over.
    pub(super) fn replaced<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        before: SocketAddr,
        endpoint: &Endpoint<'_, C, Peers>,
    ) {
        let Some(after) = self.connection(id, endpoint).map(|ike| ike.path.remote).filter(|after| *after != before)
        else {
            return;
        };
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let told = entry.contest.cause.is_some();
        if entry.contest.count(now) {
            let cause = Cause::two_places(before, after);
            entry.contest.cause = Some(Box::new(cause.clone()));
            if !told {
                self.tell(Some(id), None, What::Waiting, Some(cause));
            }
        }
        self.agenda.touch(id);
    }
}
