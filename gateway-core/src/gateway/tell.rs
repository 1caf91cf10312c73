//! The operator is told.

use alloc::string::String;

use ike_core::pad::{ChildConfigId, PeerId};

use crate::cause::Cause;
use crate::state::Gateway;
use crate::state::report::{Report, What};

/// Reports that wait to be told; older ones make room.
const REPORTS: usize = 1024;

impl Gateway {
    pub(super) fn report(&mut self, report: Report) {
        if self.reports.len() >= REPORTS {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
    }

    pub(super) fn tell(
        &mut self,
        peer: Option<PeerId>,
        child: Option<ChildConfigId>,
        what: What,
        cause: Option<Cause>,
    ) {
        // Of a peer that is gone nobody wants to hear.
        let about = peer;
        let peer = about.and_then(|id| self.peer_name(id));
        if about.is_some() && peer.is_none() {
            return;
        }
        let child = child.and_then(|id| self.child_name(id));
        self.report(Report { peer, child, what, cause });
    }

    pub(super) fn peer_name(&self, id: PeerId) -> Option<String> {
        self.peers.get(&id).map(|entry| entry.name.clone())
    }

    pub(super) fn child_name(&self, id: ChildConfigId) -> Option<String> {
        self.children.get(&id).map(|entry| entry.name.clone())
    }
}
