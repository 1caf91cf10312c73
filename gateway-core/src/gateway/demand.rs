//! Packets that have no SA: `on-demand`, and what the peer's narrowing left out (RFC 7296 §2.9).

use ike_core::child::within;
use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{ChildView, Endpoint};
use ike_core::pad::ChildConfigId;
use ipsec_core::flow::Flow;
use ipsec_core::net::{AddrRange, TrafficSelector};
use ipsec_core::time::Instant;

use super::Gateway;
use super::report::What;
use crate::cause::Cause;
use crate::config::{Child, Start};
use crate::peers::Peers;

/// SAs of one child, for the sake of single packets: the peer may give each of them one.
const SAS_OF_A_CHILD: usize = 16;

impl Gateway {
    /// A packet wants through a child. Returns whether an SA for it is, or will be, under way.
    pub(super) fn want_for_packet<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: ChildConfigId,
        packet: &[u8],
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) -> bool {
        let Some(peer) = self.children.get(&id).map(|child| child.peer) else { return false };
        let connection = self.connection(peer, endpoint);
        let connected = self.is_connected(peer, endpoint);
        let shared = self.is_shared(peer, endpoint);
        let (Some(child), Some(entry)) = (self.children.get_mut(&id), self.peers.get_mut(&peer)) else { return false };
        if entry.waits_for(child).is_some() || (!connected && (entry.attempt.is_some() || entry.locating)) {
            return true;
        }
        let willing = match entry.start {
            Start::OnDemand => true,
            Start::Active => !entry.held && !child.held,
            // We do not call, but once we are connected a child can be asked for.
            Start::Passive => connected && !child.held,
        };
        let tired = |retry_at: Option<Instant>| retry_at.is_some_and(|at| at > now);
        if !willing || tired(child.retry_at) || (!connected && tired(entry.retry_at)) {
            return false;
        }
        if entry.start == Start::OnDemand {
            entry.held = false;
            child.held = false;
        }
        if let Some(ike) = connection.filter(|_| connected)
            && let Ok(flow) = Flow::of(packet)
            && !child.sas.is_empty()
            && !child.sas.iter().filter_map(|sa| endpoint.child_sa(*sa)).any(|sa| carries(&sa, &flow))
        {
            // Its SAs are up and not for this packet. Of several parties nobody knows whose it is.
            if tired(child.uncovered_until) || child.sas.len() >= SAS_OF_A_CHILD || shared {
                return false;
            }
            let config = endpoint.pad().children_of(peer).find(|(child, _)| *child == id);
            let wanted = config.and_then(|(_, config)| around(config, &flow));
            let Some(wanted) = wanted else { return false };
            self.ask(now, ike.id, id, Some(wanted), endpoint);
            return self.children.get(&id).is_some_and(|child| child.asked.is_some());
        }
        child.wanted = true;
        entry.wanted |= !connected;
        self.agenda.touch(peer);
        true
    }

    /// No SA comes of the question for what the peer's narrowing left out: `why`, or it made one that does not carry that.
    pub(super) fn uncovered(
        &mut self,
        now: Instant,
        config: ChildConfigId,
        (local, remote): (TrafficSelector, TrafficSelector),
        why: Option<&Cause>,
    ) {
        let Some(child) = self.children.get_mut(&config) else { return };
        let cause = Cause::not_covered(&local, &remote, why);
        let peer = child.peer;
        child.uncover(now, cause.clone());
        self.agenda.touch(peer);
        self.tell(Some(peer), Some(config), What::ChildFailed, Some(cause));
    }
}

fn carries(sa: &ChildView<'_>, flow: &Flow) -> bool {
    sa.local.iter().any(|local| flow.fits_source(local)) && sa.remote.iter().any(|remote| flow.fits_destination(remote))
}

/// The configured selectors of a packet, for its two hosts only.
fn around(config: &Child, flow: &Flow) -> Option<(TrafficSelector, TrafficSelector)> {
    let local = config.local_ts.iter().find(|local| flow.fits_source(local))?;
    let remote = config.remote_ts.iter().find(|remote| flow.fits_destination(remote))?;
    let only = |selector: &TrafficSelector, host| TrafficSelector { addrs: AddrRange::single(host), ..*selector };
    Some((only(local, flow.source), only(remote, flow.destination)))
}

/// Why not all that a child is configured for went into its SA, when that is so.
pub(super) fn narrowed(config: &Child, local: &[TrafficSelector], remote: &[TrafficSelector]) -> Option<Cause> {
    let whole = within(&config.local_ts, local) && within(&config.remote_ts, remote);
    (!whole).then(|| Cause::narrowed((&config.local_ts, &config.remote_ts), (local, remote)))
}
