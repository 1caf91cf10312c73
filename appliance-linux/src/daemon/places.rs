//! Where peers are, and whether the ways to them still lead there.

use std::collections::BTreeSet;

use ike_core::pad::PeerId;
use ipsec_core::net;

use super::state::Daemon;
use crate::ask::{Ends, Question};

impl Daemon {
    /// Addresses or routes of this machine may have changed: asks which connections have no way any more.
    pub(super) fn readdress(&mut self) {
        let open = self.endpoint.ike_sas().map(|ike| (ike.path.local.ip(), ike.path.remote.ip())).collect();
        self.machine.ask(Question::Ways(open));
    }

    /// Connections whose way is gone do not wait for their end. What has come up since it was asked about is not meant.
    pub(super) fn readdressed(&mut self, gone: &BTreeSet<Ends>, astray: &BTreeSet<Ends>) {
        let now = self.clock.now();
        let peers = self.endpoint.pad();
        let anywhere: BTreeSet<PeerId> =
            peers.iter().filter(|(_, peer)| peer.local.is_empty()).map(|(id, _)| id).collect();
        let stands = |peer: PeerId, path: net::Path| {
            let ends = (path.local.ip(), path.remote.ip());
            !(gone.contains(&ends) || anywhere.contains(&peer) && astray.contains(&ends))
        };
        let (gateway, mut parts) = self.lend();
        gateway.readdress(now, stands, &mut parts);
    }
}
