//! What the operator is shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use gateway_core::policy::policy_of;
use ipsec_core::error::{Counters, Discard};

use super::snapshot::{Snapshot, told};
use super::state::Daemon;
use crate::control::protocol::{BoundaryStatus, PeerStatus};
use crate::doctor;

/// Why the guard drops, in the order in which it counts.
const GUARDED: [Discard; 4] = [Discard::InClear, Discard::InBlocked, Discard::OutNoPolicy, Discard::OutBlocked];
impl Daemon {
    /// How everything stands, or stood a moment ago.
    pub(super) fn snapshot(&mut self) -> Arc<Snapshot> {
        if let Some(snapshot) = self.served.shown() {
            return snapshot;
        }
        let begun = Instant::now();
        let snapshot = self.look();
        self.served.publish(snapshot, begun)
    }

    /// How everything stands.
    pub(super) fn look(&mut self) -> Snapshot {
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let (gateway, parts) = self.lend();
        let gateway = gateway.snapshot(now, &parts);
        let (lost, boundary, counters) = (self.plane.all_lost(), self.boundary(), self.counters());
        Snapshot { uptime, gateway, lost, boundary, counters }
    }

    /// The peer of this name, or what has manual keys.
    pub(crate) fn peer_named(&mut self, name: &str) -> Option<PeerStatus> {
        let Some(id) = self.endpoint.pad().named(name) else {
            return self.snapshot().manual_peer().filter(|all| all.name == name);
        };
        let now = self.clock.now();
        let (gateway, parts) = self.lend();
        let peer = gateway.peer_status(id, &parts)?;
        let lost: BTreeMap<_, _> = peer
            .children
            .iter()
            .filter_map(|child| Some((policy_of(child.id), self.plane.lost(policy_of(child.id))?)))
            .collect();
        Some(told(&peer, now, |child| lost.get(&child)))
    }

    pub(super) fn boundary(&self) -> BoundaryStatus {
        let boundary = self.machine.boundary();
        let health = &boundary.health;
        let (left, lax) = (&boundary.left_to_routes, &boundary.clear_meanwhile);
        let trouble = health.trouble.clone().or_else(|| self.vigil.led_past().map(str::to_owned));
        let state = match (&trouble, &health.unguarded) {
            (Some(_), _) => "trouble",
            (None, Some(_)) => "weak",
            (None, None) if !left.is_empty() || !lax.is_empty() => "weak",
            (None, None) => "closed",
        };
        let since_1970 = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        BoundaryStatus {
            state: state.to_owned(),
            guard: match (&health.unguarded, health.flush_proof) {
                (Some(_), _) => "none",
                (None, true) => "nftables",
                (None, false) => "nftables, not flush-proof",
            }
            .to_owned(),
            why: trouble
                .or_else(|| Some(format!("no guard: {}", health.unguarded.as_ref()?)))
                .or_else(|| doctor::left_to_routes(left.to_vec(), &self.machine.started().tun))
                .or_else(|| doctor::clear_meanwhile(lax.to_vec())),
            put_back: health.put_back,
            last_put_back: health.last_put_back.map(since_1970),
            reached_in_clear: boundary.spared.clone(),
            left_to_routes: left.clone(),
            clear_meanwhile: lax.clone(),
            led_outside: boundary.astray.clone(),
        }
    }

    /// By the engines and by the guard.
    pub(super) fn discarded(&self) -> Counters {
        let mut sum = self.plane.outbound().counters().clone();
        sum.add(self.plane.inbound().counters());
        for (reason, count) in GUARDED.into_iter().zip(self.machine.dropped()) {
            sum.count_many(reason, count);
        }
        sum
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let (sum, dropped) = (self.discarded(), self.machine.dropped());
        let mut counters: BTreeMap<String, u64> = sum.xfrm().map(|(name, count)| (name.to_owned(), count)).collect();
        // Each reason by itself as well: several share a name of Linux.
        counters.extend(sum.iter().map(|(reason, count)| (format!("{reason:?}"), count)));
        let discarded = self.gateway.discarded();
        let ike = [
            ("IkeMalformed", discarded.malformed),
            ("IkeForged", discarded.forged),
            ("IkeUnexpected", discarded.unexpected),
            ("IkeWindow", discarded.window),
            ("IkeVersion", discarded.version),
            ("IkeNoRoom", discarded.no_room),
            ("IkeStrangersUntold", self.gateway.untold()),
            ("PeerMoved", self.gateway.moves()),
        ];
        let [_, _, out, _, let_in] = dropped;
        let let_out = self.plane.outbound().passed_clear();
        let guard = [("GuardOut", out), ("ClearIn", let_in), ("ClearOut", let_out)];
        counters.extend(
            ike.into_iter().chain(guard).chain(self.plane.tally().read()).map(|(name, count)| (name.to_owned(), count)),
        );
        counters
    }
}
