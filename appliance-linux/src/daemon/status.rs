//! What the operator is shown: how things stood at a moment, and that in the words of the control socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gateway_core::config::selector::Selector;
use gateway_core::config::{Identity, Start};
use gateway_core::gateway::{self, Identities};
use gateway_core::policy::policy_of;
use ike_core::endpoint::IkeView;
use ipsec_core::error::{Counters, Discard};
use ipsec_core::net::{Encap, TrafficSelector};
use ipsec_core::spd::PolicyId;
use ipsec_core::time;

use super::Daemon;
use crate::control::protocol::{BoundaryStatus, Cause, ChildStatus, IkeStatus, PeerState, PeerStatus, Status};
use crate::doctor;
use crate::plane::Lost;

/// Why the guard drops, in the order in which it counts.
const GUARDED: [Discard; 4] = [Discard::InClear, Discard::InBlocked, Discard::OutNoPolicy, Discard::OutBlocked];
/// Where only counters change, one part in so many of this thread's time goes into snapshots at most, however often they are
/// asked for.
const SHARE: u32 = 10;

/// How everything stood at a moment.
pub(crate) struct Snapshot {
    uptime: Duration,
    gateway: gateway::Snapshot,
    /// What the kernel did not take of each child's packets.
    lost: BTreeMap<PolicyId, Lost>,
    boundary: BoundaryStatus,
    counters: BTreeMap<String, u64>,
}

impl Snapshot {
    /// The same in words.
    pub(crate) fn told(&self) -> Status {
        let peers = self.gateway.peers.iter();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.uptime.as_secs(),
            peers: peers.map(|peer| told(peer, self.gateway.at, |child| self.lost.get(&child))).collect(),
            boundary: self.boundary.clone(),
            counters: self.counters.clone(),
        }
    }
}

/// The snapshot that was made last.
#[derive(Default)]
pub(super) struct Published(Option<(Arc<Snapshot>, Instant)>);

impl Published {
    /// Something happened since, and who asks wants to see that. Counters may be a little older.
    pub(super) fn expire(&mut self) {
        self.0 = None;
    }
}

impl Daemon {
    /// How everything stands, or stood a moment ago.
    pub(super) fn snapshot(&mut self) -> Arc<Snapshot> {
        let begun = Instant::now();
        match &self.published.0 {
            Some((snapshot, until)) if begun < *until => Arc::clone(snapshot),
            _ => {
                let snapshot = Arc::new(self.look());
                let until = begun + begun.elapsed() * SHARE;
                self.published.0 = Some((Arc::clone(&snapshot), until));
                snapshot
            }
        }
    }

    /// How everything stands.
    pub(super) fn look(&mut self) -> Snapshot {
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let (gateway, parts) = self.lend();
        let gateway = gateway.snapshot(now, &parts);
        let (lost, boundary, counters) = (self.plane.all_lost(), self.boundary(), self.counters());
        Snapshot { uptime, gateway, lost, boundary, counters }
    }

    /// The peer of this name.
    pub(crate) fn peer_named(&mut self, name: &str) -> Option<PeerStatus> {
        let id = self.endpoint.pad().named(name)?;
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

    fn boundary(&self) -> BoundaryStatus {
        let boundary = self.machine.boundary();
        let health = &boundary.health;
        let left = &boundary.left_to_routes;
        let state = match (&health.trouble, &health.unguarded) {
            (Some(_), _) => "trouble",
            (None, Some(_)) => "weak",
            (None, None) if !left.is_empty() => "weak",
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
            why: health
                .trouble
                .clone()
                .or_else(|| Some(format!("no guard: {}", health.unguarded.as_ref()?)))
                .or_else(|| doctor::left_to_routes(left.to_vec(), &self.machine.started().tun)),
            put_back: health.put_back,
            last_put_back: health.last_put_back.map(since_1970),
            reached_in_clear: boundary.spared.clone(),
            left_to_routes: left.clone(),
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
        ];
        counters.insert("GuardOut".to_owned(), dropped[2]);
        counters.extend(ike.into_iter().chain(self.plane.tally().read()).map(|(name, count)| (name.to_owned(), count)));
        counters
    }
}

/// A peer in words.
fn told<'l>(peer: &gateway::PeerStatus, now: time::Instant, lost: impl Fn(PolicyId) -> Option<&'l Lost>) -> PeerStatus {
    let mut cause: Option<Cause> = peer.cause.as_ref().map(Into::into);
    let children = peer.children.iter().map(|child| {
        let mut shown = child_status(child, now);
        if let Some(lost) = lost(policy_of(child.id)) {
            let since = child.sa.map(|sa| sa.since);
            let why: Option<Cause> = lost.cause(since, child.last_out, now).map(Into::into);
            without(&mut shown, lost, why.clone());
            cause = cause.take().or(why);
        }
        shown
    });
    let children = children.collect();
    PeerStatus {
        name: peer.name.clone(),
        state: match peer.state {
            gateway::PeerState::Pending => PeerState::Pending,
            gateway::PeerState::Connected => PeerState::Connected,
            gateway::PeerState::Disconnected => PeerState::Disconnected,
            gateway::PeerState::Error => PeerState::Error,
        },
        cause,
        ike: peer.ike.as_ref().map(|view| ike_status(view, &peer.identities, now)),
        children,
        start: match peer.start {
            Start::Active => "active",
            Start::Passive => "passive",
            Start::OnDemand => "on-demand",
        }
        .to_owned(),
        held: peer.held,
        retry_ms: peer.retry_at.map(|at| u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX)),
    }
}

/// What the engine sealed and the kernel did not take was not sent; `cause`: neither was the last one.
fn without(child: &mut ChildStatus, lost: &Lost, cause: Option<Cause>) {
    child.packets_out = child.packets_out.saturating_sub(lost.packets);
    child.bytes_out = child.bytes_out.saturating_sub(lost.octets);
    if cause.is_some() {
        child.last_out_s = None; // that was when the last one was tried
        child.cause = cause;
    }
}

pub(super) fn ike_status(view: &IkeView, identities: &Identities, now: time::Instant) -> IkeStatus {
    let text = |identity: &Option<Identity>| identity.as_ref().map(ToString::to_string);
    let proven = view.identity.filter(|_| view.since.is_some()).map(|id| Identity::printed(&id));
    IkeStatus {
        initiator: view.initiator,
        called: view.called,
        spi_local: format!("{:016x}", view.spi_local),
        spi_remote: format!("{:016x}", view.spi_remote),
        suite: view.suite.map(|suite| suite.to_string()).unwrap_or_default(),
        local: view.path.local.to_string(),
        remote: view.path.remote.to_string(),
        nat: view.nat.found(),
        nat_local: view.nat.local,
        nat_remote: view.nat.remote,
        age_s: view.since.map_or(0, |since| now.since(since).as_secs()),
        heard_s: view.heard.map(|at| now.since(at).as_secs()),
        rekey_s: view.rekey_at.map(|at| at.since(now).as_secs()),
        local_id: text(&identities.local).unwrap_or_default(),
        remote_id: proven.or_else(|| text(&identities.remote)).unwrap_or_else(|| "any".to_owned()),
    }
}

fn child_status(child: &gateway::ChildStatus, now: time::Instant) -> ChildStatus {
    let sa = child.sa;
    ChildStatus {
        name: child.name.clone(),
        state: if sa.is_some() { "up" } else { "down" }.to_owned(),
        mode: child.mode.as_str().to_owned(),
        suite: sa.map(|sa| sa.suite.to_string()),
        spi_in: sa.map(|sa| spi(sa.spi_in.get())),
        spi_out: sa.map(|sa| spi(sa.spi_out.get())),
        local_ts: selectors(&child.local),
        remote_ts: selectors(&child.remote),
        bytes_in: child.totals.bytes_in,
        bytes_out: child.totals.bytes_out,
        packets_in: child.totals.packets_in,
        packets_out: child.totals.packets_out,
        rekeys: child.rekeys,
        encap: sa.map(|sa| carrier(sa.encap).to_owned()),
        age_s: sa.map(|sa| now.since(sa.since).as_secs()),
        held: child.held,
        last_in_s: child.last_in.map(|at| now.since(at).as_secs()),
        last_out_s: child.last_out.map(|at| now.since(at).as_secs()),
        rekey_s: sa.and_then(|sa| sa.rekey_at).map(|at| at.since(now).as_secs()),
        expires_s: sa.and_then(|sa| sa.expires_at).map(|at| at.since(now).as_secs()),
        cause: child.cause.as_ref().map(Into::into),
        retry_ms: child.retry_at.map(|at| u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX)),
    }
}

/// As the configuration writes them.
pub(super) fn selectors(list: &[TrafficSelector]) -> Vec<String> {
    list.iter().map(|selector| Selector(selector).to_string()).collect()
}

pub(super) fn spi(spi: u32) -> String {
    format!("{spi:#010x}")
}

pub(super) fn carrier(encap: Encap) -> &'static str {
    match encap {
        Encap::None => "esp",
        Encap::Udp => "esp-in-udp",
    }
}
