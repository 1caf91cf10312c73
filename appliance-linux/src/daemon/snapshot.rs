//! How things stood at a moment, in the words of the control socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::config::{Identity, MANUAL, Start};
use gateway_core::gateway::{self, Identities};
use gateway_core::policy::{policy_of, policy_of_manual};
use ike_core::endpoint::IkeView;
use ipsec_core::spd::PolicyId;
use ipsec_core::time;

use crate::control::protocol::{
    BoundaryStatus, Cause, ChildStatus, IkeStatus, ManualStatus, PeerState, PeerStatus, Status,
};
use crate::plane::Lost;
use crate::story::{carrier, selectors};

/// Where only counters change, one part in so many of the control thread's time goes into snapshots at most, however often
/// they are asked for.
const SHARE: u32 = 10;

/// How everything stood at a moment.
pub(crate) struct Snapshot {
    pub(super) uptime: Duration,
    pub(super) gateway: gateway::Snapshot,
    /// What the kernel did not take of each child's packets.
    pub(super) lost: BTreeMap<PolicyId, Lost>,
    pub(super) boundary: BoundaryStatus,
    pub(super) counters: BTreeMap<String, u64>,
}

impl Snapshot {
    /// The same in words.
    pub(crate) fn told(&self) -> Status {
        let peers = self.gateway.peers.iter();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.uptime.as_secs(),
            peers: peers.map(|peer| told(peer, self.gateway.at, |child| self.lost.get(&child))).collect(),
            manual: self.manual().collect(),
            boundary: self.boundary.clone(),
            counters: self.counters.clone(),
        }
    }
}

impl Snapshot {
    /// All that has manual keys, as the children of one peer: whoever takes it down or up waits as for those.
    pub(super) fn manual_peer(&self) -> Option<PeerStatus> {
        let children: Vec<_> = self.manual().map(child_of_manual).collect();
        (!children.is_empty()).then(|| PeerStatus {
            name: MANUAL.to_owned(),
            state: PeerState::Connected,
            cause: None,
            ike: None,
            children,
            start: "active".to_owned(),
            held: false,
            retry_ms: None,
        })
    }

    fn manual(&self) -> impl Iterator<Item = ManualStatus> {
        self.gateway.manual.iter().map(|pair| {
            let lost = self.lost.get(&policy_of_manual(pair.id));
            manual_status(pair, self.gateway.at, lost)
        })
    }
}

/// The snapshot that was made last.
#[derive(Default)]
pub(super) struct Published(Option<(Arc<Snapshot>, Instant)>);

impl Published {
    /// It, if it is not too old.
    pub(super) fn get(&self) -> Option<Arc<Snapshot>> {
        self.0.as_ref().filter(|(_, until)| Instant::now() < *until).map(|(snapshot, _)| Arc::clone(snapshot))
    }

    /// From now on it is this one, which took since then.
    pub(super) fn publish(&mut self, snapshot: Snapshot, begun: Instant) -> Arc<Snapshot> {
        let (snapshot, now) = (Arc::new(snapshot), Instant::now());
        self.0 = Some((Arc::clone(&snapshot), begun + (now - begun) * SHARE));
        snapshot
    }

    /// Something happened since, and who asks wants to see that. Counters may be a little older.
    pub(super) fn expire(&mut self) {
        self.0 = None;
    }
}

/// A peer in words.
pub(super) fn told<'l>(
    peer: &gateway::PeerStatus,
    now: time::Instant,
    lost: impl Fn(PolicyId) -> Option<&'l Lost>,
) -> PeerStatus {
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
        compressed: sa.is_some_and(|sa| sa.compressed),
        padded: sa.is_some_and(|sa| sa.padded),
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

fn manual_status(pair: &gateway::ManualStatus, now: time::Instant, lost: Option<&Lost>) -> ManualStatus {
    let gateway::ManualStatus { inbound, outbound, totals, .. } = pair;
    let ago = |at: Option<time::Instant>| at.map(|at| now.since(at).as_secs());
    let there = inbound.since.is_some() && outbound.since.is_some();
    let lost = lost.cloned().unwrap_or_default();
    let not_sent = lost.cause(outbound.since, outbound.last_used, now);
    ManualStatus {
        name: pair.name.clone(),
        state: if there { "up" } else { "down" }.to_owned(),
        mode: pair.mode.as_str().to_owned(),
        local: pair.local.to_string(),
        remote: pair.remote.to_string(),
        suite_in: inbound.suite.to_string(),
        suite_out: outbound.suite.to_string(),
        spi_in: spi(inbound.spi.get()),
        spi_out: spi(outbound.spi.get()),
        encap: carrier(outbound.encap).to_owned(),
        local_ts: selectors(&pair.local_ts),
        remote_ts: selectors(&pair.remote_ts),
        bytes_in: totals.bytes_in,
        // What the engine sealed and the kernel did not take was not sent.
        bytes_out: totals.bytes_out.saturating_sub(lost.octets),
        packets_in: totals.packets_in,
        packets_out: totals.packets_out.saturating_sub(lost.packets),
        held: pair.held,
        last_in_s: ago(inbound.last_used),
        last_out_s: ago(outbound.last_used).filter(|_| not_sent.is_none()),
        cause: outbound.cause.as_ref().or(inbound.cause.as_ref()).or(not_sent).map(Into::into),
    }
}

fn child_of_manual(pair: ManualStatus) -> ChildStatus {
    let there = pair.state == "up";
    let name = pair.name.split_once('/').map_or(pair.name.as_str(), |(_, name)| name).to_owned();
    ChildStatus {
        name,
        state: pair.state,
        mode: pair.mode,
        suite: there.then_some(pair.suite_out),
        spi_in: there.then_some(pair.spi_in),
        spi_out: there.then_some(pair.spi_out),
        local_ts: pair.local_ts,
        remote_ts: pair.remote_ts,
        bytes_in: pair.bytes_in,
        bytes_out: pair.bytes_out,
        packets_in: pair.packets_in,
        packets_out: pair.packets_out,
        rekeys: 0,
        encap: there.then_some(pair.encap),
        compressed: false,
        padded: false,
        age_s: None,
        held: pair.held,
        last_in_s: pair.last_in_s,
        last_out_s: pair.last_out_s,
        rekey_s: None,
        expires_s: None,
        cause: pair.cause,
        retry_ms: None,
    }
}

pub(super) fn spi(spi: u32) -> String {
    format!("{spi:#010x}")
}
