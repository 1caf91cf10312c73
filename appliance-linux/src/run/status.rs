//! What the operator is shown: the gateway's view in the words of the control socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use gateway_core::config::selector::Selector;
use gateway_core::config::{Identity, Mode, Start};
use gateway_core::gateway::{self, Parts};
use gateway_core::peers::Peers;
use gateway_core::policy::policy_of;
use ike_core::endpoint::IkeView;
use ike_core::pad::{Pad, PeerId};
use ipsec_core::error::{Counters, Discard};
use ipsec_core::net::{Encap, TrafficSelector};

use super::{Crypto, Daemon, with_gateway};
use crate::control::protocol::{BoundaryStatus, Cause, ChildStatus, IkeStatus, PeerState, PeerStatus, Status};
use crate::doctor;
use crate::plane::Lost;

/// Why the guard drops, in the order in which it counts.
const GUARDED: [Discard; 4] = [Discard::InClear, Discard::InBlocked, Discard::OutNoPolicy, Discard::OutBlocked];

impl Daemon {
    /// Everything for `status`.
    pub(crate) fn status(&mut self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.clock.uptime().as_secs(),
            peers: self.peers().collect(),
            boundary: self.boundary(),
            counters: self.counters(),
        }
    }

    /// The peers, in the order of the file. The engines are locked for one peer at a time: packets go on in between.
    pub(super) fn peers(&mut self) -> impl Iterator<Item = PeerStatus> {
        let ids = self.gateway.peers().to_vec();
        ids.into_iter().filter_map(|id| self.peer(id))
    }

    /// The peer of this name.
    pub(crate) fn peer_named(&mut self, name: &str) -> Option<PeerStatus> {
        let id = self.endpoint.pad().named(name)?;
        self.peer(id)
    }

    fn peer(&mut self, id: PeerId) -> Option<PeerStatus> {
        let now = self.clock.now();
        let plane = Arc::clone(&self.plane);
        with_gateway!(self, |gateway, parts| {
            let peer = gateway.peer_status(id, &parts)?;
            let mut status = peer_status(&peer, &parts, now);
            for (shown, child) in status.children.iter_mut().zip(&peer.children) {
                if let Some(lost) = plane.lost(policy_of(child.id)) {
                    let cause = lost.cause(child.since, child.last_out, now).map(Into::into);
                    without(shown, &lost, cause.clone());
                    status.cause = status.cause.or(cause);
                }
            }
            Some(status)
        })
    }

    fn boundary(&self) -> BoundaryStatus {
        let boundary = self.machine.boundary();
        let health = boundary.health();
        let left = boundary.left_to_routes();
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
            reached_in_clear: boundary.spared(),
            left_to_routes: left.to_vec(),
            led_outside: boundary.astray(),
        }
    }

    /// By the engines and by the guard.
    pub(super) fn discarded(&self) -> Counters {
        let mut sum = self.plane.outbound().counters().clone();
        sum.add(self.plane.inbound().counters());
        for (reason, count) in GUARDED.into_iter().zip(self.machine.boundary().dropped()) {
            sum.count_many(reason, count);
        }
        sum
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let (sum, dropped) = (self.discarded(), self.machine.boundary().dropped());
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

type Lent<'x, 'e> = Parts<'x, 'e, Crypto, ipsec_core::crypto::rustcrypto::RustCrypto>;

fn peer_status(peer: &gateway::PeerStatus<'_>, parts: &Lent<'_, '_>, now: ipsec_core::time::Instant) -> PeerStatus {
    let config = parts.endpoint.pad().get(peer.id);
    PeerStatus {
        name: peer.name.to_owned(),
        state: match peer.state {
            gateway::PeerState::Pending => PeerState::Pending,
            gateway::PeerState::Connected => PeerState::Connected,
            gateway::PeerState::Disconnected => PeerState::Disconnected,
            gateway::PeerState::Error => PeerState::Error,
        },
        cause: peer.cause.as_ref().map(Into::into),
        ike: peer.ike.as_ref().map(|view| ike_status(view, parts.endpoint.pad(), now)),
        children: peer.children.iter().map(|child| child_status(child, parts, now)).collect(),
        start: match config.map(|config| config.start) {
            Some(Start::Active) | None => "active",
            Some(Start::Passive) => "passive",
            Some(Start::OnDemand) => "on-demand",
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

pub(super) fn ike_status(view: &IkeView, peers: &Peers, now: ipsec_core::time::Instant) -> IkeStatus {
    let peer = view.peer.and_then(|peer| peers.get(peer));
    let expected = peer.and_then(|peer| peer.remote_id.as_ref());
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
        local_id: view
            .peer
            .and_then(|peer| peers.connection(peer))
            .map(|connection| Identity::from(connection.local_id).to_string())
            .unwrap_or_default(),
        remote_id: proven.or(expected.map(ToString::to_string)).unwrap_or_else(|| "any".to_owned()),
    }
}

fn child_status(child: &gateway::ChildStatus<'_>, parts: &Lent<'_, '_>, now: ipsec_core::time::Instant) -> ChildStatus {
    let config = parts.endpoint.pad().get_child(child.id).map(|(_, _, config)| config);
    let configured = config.map(|config| (config.local_ts.as_slice(), config.remote_ts.as_slice()));
    let negotiated = child.sa.as_ref().map(|sa| (sa.local, sa.remote));
    let (local, remote) = negotiated.or(configured).unwrap_or_default();
    let sa = child.sa.as_ref();
    ChildStatus {
        name: child.name.to_owned(),
        state: if sa.is_some() { "up" } else { "down" }.to_owned(),
        mode: config.map_or(Mode::Tunnel, |config| config.mode).as_str().to_owned(),
        suite: sa.map(|sa| sa.suite.to_string()),
        spi_in: sa.map(|sa| spi(sa.spi_in.get())),
        spi_out: sa.map(|sa| spi(sa.spi_out.get())),
        local_ts: selectors(local),
        remote_ts: selectors(remote),
        bytes_in: child.totals.bytes_in,
        bytes_out: child.totals.bytes_out,
        packets_in: child.totals.packets_in,
        packets_out: child.totals.packets_out,
        rekeys: child.rekeys,
        encap: child.encap.map(|encap| carrier(encap).to_owned()),
        age_s: child.since.map(|since| now.since(since).as_secs()),
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
