//! Several connections with one peer: one stays.
//!
//! There are two when both sides called at once, and when a connection was made anew beside the one that stands. The rule
//! looks only at what both sides know, and needs nothing of the peer: whoever it is, what is spare is closed by us.

use core::time::Duration;

use alloc::vec::Vec;

use ike_core::child::narrow;
use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{ChildView, Endpoint, IkeView};
use ike_core::event::IkeId;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::net::TrafficSelector;
use ipsec_core::time::Instant;

use super::renewal::DRAIN;
use crate::peers::Peers;
use crate::state::Gateway;
use crate::state::agenda::Soonest;
use crate::state::merges::COURTESY;

/// Between two looks whether the connection that is to stay is one for the peer, too.
const LOOK: Duration = Duration::from_secs(1);
/// What the connection that stays is refused stays where it is.
const TRIES: u32 = 3;

impl Gateway {
    /// Closes what is spare. Both sides see the same one as spare, that with the smaller initiator's SPI, and its initiator
    /// closes it; the other side does so later, when that one knows nothing of this rule. A peer that calls again at once
    /// when that happens is met with ever more patience.
    pub(super) fn merge<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        soonest: &mut Soonest,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        // Other parties may share what is configured for this peer: to each its own connection.
        for party in self.ikes.several(id) {
            let same: Vec<_> = self.connections_with(id, party, endpoint).collect();
            self.merge_party(now, id, &same, soonest, endpoint);
        }
    }

    /// The same for `all` connections with one party.
    fn merge_party<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        all: &[IkeView],
        soonest: &mut Soonest,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        if all.len() < 2 {
            return;
        }
        let superseded: Vec<_> = all.iter().map(|ike| ike.id).filter(|ike| self.ikes.is_superseded(*ike)).collect();
        let renewed = |ike: &IkeView| superseded.contains(&ike.id);
        let spi = |ike: &IkeView| if ike.initiator { ike.spi_local } else { ike.spi_remote };
        let Some(kept) = all.iter().max_by_key(|ike| (!renewed(ike), spi(ike))).copied() else { return };
        let newest = all.iter().filter(|ike| ike.id != kept.id).filter_map(|ike| ike.since).max();
        let lives = kept.confirmed && (newest <= kept.since || newest < kept.heard);
        if !lives {
            // The peer may have given up the call that made it, or may have begun anew because nothing of it arrives any
            // more: nothing is closed for its sake before it was heard on it.
            drop(endpoint.check_liveness(now, kept.id)); // denied: it is asked already, or goes
            soonest.reached(now + LOOK);
            return;
        }
        for spare in all.iter().filter(|ike| ike.id != kept.id) {
            let since = spare.since.max(kept.since).unwrap_or(now);
            let patience = self.peers.get(&id).map_or(1, |entry| entry.merges.patience(since));
            let pause = match (renewed(spare), spare.initiator) {
                (true, _) => DRAIN,
                (false, true) => COURTESY.saturating_mul(patience),
                (false, false) => COURTESY.saturating_mul(2).saturating_mul(patience),
            };
            let over = soonest.reached(since + pause);
            if !over && !renewed(spare) {
                continue;
            }
            let lacking = self.lacking(id, spare.id, kept.id, endpoint);
            if lacking.is_empty() && over {
                drop(endpoint.close(now, spare.id)); // denied: it is gone
                if let Some(entry) = self.peers.get_mut(&id).filter(|_| !renewed(spare)) {
                    entry.merges.count(now, since);
                }
            }
            for (config, selectors) in lacking {
                let Some(child) = self.children.get(&config) else { continue };
                let again = child.setbacks.retry_at.max(selectors.and_then(|pair| child.uncovered.again(&pair)));
                if child.waits_in(&self.ikes).is_none()
                    && child.setbacks.failures < TRIES
                    && soonest.reached(again.unwrap_or(Instant::ZERO))
                {
                    self.ask(now, kept.id, config, selectors, endpoint);
                    // What could not even be asked for has its pause.
                    let retry_at = self.children.get(&config).and_then(|child| child.setbacks.retry_at);
                    retry_at.map(|at| soonest.reached(at));
                }
            }
        }
    }

    /// Closes one of two Child SAs for the same traffic that stand because both sides asked for one at once. What the peer
    /// asked for twice it means to have.
    pub(super) fn merge_children<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: PeerId,
        soonest: &mut Soonest,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        for (config, ike) in self.sas.several(id) {
            let Some(child) = self.children.get(&config) else { continue };
            let of = |wanted: bool| {
                let these = self.sas_of(child, ike).filter(move |sa| sa.ours == wanted);
                these.filter_map(|sa| endpoint.child_sa(sa.child)).filter(|sa| !sa.replaced)
            };
            let twins = |(ours, theirs): &(ChildView<'_>, ChildView<'_>)| {
                (ours.local, ours.remote) == (theirs.local, theirs.remote)
            };
            let pairs = of(true).flat_map(|ours| of(false).map(move |theirs| (ours, theirs)));
            let Some((ours, theirs)) = pairs.into_iter().find(twins) else { continue };
            // Both sides see the same one as spare. Whoever asked for it closes it, the other side later.
            let spis = |sa: &ChildView<'_>| (sa.spi_in.min(sa.spi_out), sa.spi_in.max(sa.spi_out));
            let (spare, kept, pause) = match spis(&ours) < spis(&theirs) {
                true => (ours.id, &theirs, COURTESY),
                false => (theirs.id, &ours, COURTESY.saturating_mul(2)),
            };
            // A peer may have given up its question, and have none but the spare one.
            if !kept.confirmed {
                soonest.reached(now + COURTESY);
                continue;
            }
            if soonest.reached(ours.since.max(theirs.since) + pause) {
                drop(endpoint.close_child(now, spare)); // denied: it is being deleted
            }
        }
    }

    /// What one IKE SA carries and another does not: for each such SA its child, with the first selectors of the SA where the
    /// child is not missing altogether. A peer may give each of its networks an SA of its own (RFC 7296 §2.9).
    fn lacking<C: IkeCrypto>(
        &self,
        peer: PeerId,
        spare: IkeId,
        kept: IkeId,
        endpoint: &Endpoint<'_, C, Peers>,
    ) -> Vec<(ChildConfigId, Option<(TrafficSelector, TrafficSelector)>)> {
        let sas = |config: &ChildConfigId, ike: IkeId| {
            let carried = self.children.get(config).into_iter().flat_map(move |child| self.sas_of(child, ike));
            carried.filter_map(|sa| endpoint.child_sa(sa.child))
        };
        let first = |sa: &ChildView<'_>| sa.local.first().copied().zip(sa.remote.first().copied());
        let children = self.peers.get(&peer).into_iter().flat_map(|entry| &entry.children);
        let lacking = |config: &ChildConfigId| {
            let there: Vec<_> = sas(config, kept).collect();
            let missing = sas(config, spare).filter(|sa| !there.iter().any(|other| meet(sa, other)));
            missing.map(|sa| (*config, first(&sa).filter(|_| !there.is_empty()))).collect::<Vec<_>>()
        };
        children.flat_map(lacking).collect()
    }
}

/// Whether two SAs have traffic in common: the peer may have become less, or more, generous since it gave the older one.
fn meet(one: &ChildView<'_>, other: &ChildView<'_>) -> bool {
    let common = |one: &[TrafficSelector], other: &[_]| !narrow(one.iter().copied(), other).is_empty();
    common(one.local, other.local) && common(one.remote, other.remote)
}
