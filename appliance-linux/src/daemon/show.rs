//! The databases of RFC 4301 §4.4, as they are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gateway_core::config::ManualPair;
use gateway_core::config::selector::Selector;
use gateway_core::gateway::{Gateway, Identities};
use gateway_core::plane::{Half, Pair};
use gateway_core::policy::{child_of, manual_of, policy_of};
use ike_core::child::within;
use ike_core::endpoint::{ChildView, IkeView, SaState};
use ike_core::pad::PeerId;
use ipsec_core::error::Counters;
use ipsec_core::net::Path;
use ipsec_core::sa::Status;
use ipsec_core::spd::{self, Action, Direction, Hits, Level, PolicyId, Rule};
use ipsec_core::time::Instant;

use super::snapshot::{ike_status, spi};
use super::state::{Daemon, IkeEndpoint};
use crate::control::protocol::{Discarded, Flow, Sa, Show, ShownIke};
use crate::ledger::Entry;
use crate::story::{carrier, mode, selectors};

impl Daemon {
    /// Everything for `show`. An engine is held for single SAs, and for what it counted of a few rules: packets go on in
    /// between.
    pub(crate) fn show(&mut self) -> Show {
        let discards = discards(&self.discarded());
        let known = Known::of(&self.gateway, &self.endpoint, self.clock.now());
        let rules = self.gateway.rules().iter().zip(self.engines.hits());
        let spd = rules.flat_map(|(rule, hits)| known.flows(rule, hits)).collect();
        let of = |half| self.engines.sas(half).map(move |(pair, sa)| (half, pair, sa));
        let sas = of(Half::Inbound).chain(of(Half::Outbound));
        let sad = sas.map(|(half, pair, sa)| known.sa(half, pair, &sa)).collect();
        let accounts = self.gateway.accounts(&self.engines);
        let accounts = accounts.iter().map(|(account, totals)| Entry::of(account, totals)).collect();
        Show { spd, discards, sad, ike: known.ike_sas(), accounts }
    }
}

/// What IKE and the configuration know, by what is asked for: nothing is searched through for each rule and each SA.
struct Known<'d> {
    gateway: &'d Gateway,
    endpoint: &'d IkeEndpoint,
    now: Instant,
    /// From where to where connections with peers go; of several parties that share one, the first.
    connected: BTreeMap<PeerId, Path>,
    /// What SAs of the engines are the halves of.
    pairs: BTreeMap<Pair, ChildView<'d>>,
    /// The SAs of each child that none has replaced.
    standing: BTreeMap<PolicyId, Vec<ChildView<'d>>>,
}

impl<'d> Known<'d> {
    fn of(gateway: &'d Gateway, endpoint: &'d IkeEndpoint, now: Instant) -> Self {
        let (mut connected, mut standing) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for ike in endpoint.ike_sas().filter(|ike| ike.state == SaState::Established) {
            if let Some(peer) = ike.peer {
                connected.entry(peer).or_insert(ike.path);
            }
        }
        for view in endpoint.child_sas().filter(|view| !view.replaced) {
            standing.entry(policy_of(view.config)).or_default().push(view);
        }
        let pairs = gateway.pairs().filter_map(|(pair, child)| Some((pair, endpoint.child_sa(child)?))).collect();
        Self { gateway, endpoint, now, connected, pairs, standing }
    }

    /// Every IKE SA, those of one peer together.
    fn ike_sas(&self) -> Vec<ShownIke> {
        let peers = self.endpoint.pad();
        let mut children = BTreeMap::<_, usize>::new();
        for child in self.endpoint.child_sas() {
            *children.entry(child.ike).or_default() += 1;
        }
        let identities = |view: &IkeView| view.peer.map(|peer| Identities::of(peer, peers)).unwrap_or_default();
        let shown = self.endpoint.ike_sas().map(|view| ShownIke {
            peer: view.peer.and_then(|id| peers.get(id)).map(|peer| peer.name.clone()),
            state: match view.state {
                SaState::Connecting => "connecting",
                SaState::Established => "established",
                SaState::Closing => "closing",
            }
            .to_owned(),
            children: children.get(&view.id).copied().unwrap_or_default(),
            ike: ike_status(&view, &identities(&view), self.now),
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort_by(|a, b| a.peer.cmp(&b.peer)); // stable
        shown
    }

    /// A rule, both ways.
    fn flows(&self, rule: &Rule, hits: Hits) -> impl Iterator<Item = Flow> {
        let peers = self.endpoint.pad();
        let (action, policy, level) = match rule.action {
            Action::Protect { policy, level } => ("protect", Some(policy), Some(level)),
            Action::Bypass => ("bypass", None, None),
            Action::Discard => ("discard", None, None),
        };
        let child = policy.and_then(|policy| peers.get_child(child_of(policy)));
        let manual = policy.and_then(|policy| self.manual(policy));
        let shown = |address: Option<IpAddr>| address.map_or_else(|| "any".to_owned(), |address| address.to_string());
        let ends = child.map(|(id, peer, _)| match self.connected.get(&id) {
            Some(path) => (path.local.ip().to_string(), path.remote.ip().to_string()),
            None => (shown(peer.local.first().copied()), shown(peers.addresses(id).next())),
        });
        let ends = ends.or_else(|| manual.map(|pair| (pair.local.to_string(), pair.remote.to_string())));
        let (local, remote) = ends.unzip();
        let mode = child.map(|(.., child)| child.mode).or_else(|| manual.map(|pair| pair.mode));
        let age = self.now.since(self.gateway.ruled()).as_secs();
        let name = child.map(|(_, peer, child)| format!("{}/{}", peer.name, child.name));
        let name = name.or_else(|| manual.map(ManualPair::name));
        let narrowed = policy.and_then(|policy| self.standing.get(&policy)).is_some_and(|sas| {
            let spd::Selector { local, remote } = rule.selector;
            !sas.iter().any(|sa| within(&[local], sa.local) && within(&[remote], sa.remote))
        });
        rule.entries().into_iter().map(move |entry| {
            let direction = match entry.direction {
                Direction::Out => "out",
                Direction::In => "in",
                Direction::Forward => "fwd",
            };
            let outbound = entry.direction == Direction::Out;
            let peer = child.map(|(_, peer, _)| peer);
            Flow {
                direction: direction.to_owned(),
                action: action.to_owned(),
                level: level.map(|level| if level == Level::Use { "use" } else { "require" }.to_owned()),
                priority: entry.priority,
                rule: rule.id.0,
                age_s: age,
                mode: mode.map(|mode| mode.as_str().to_owned()),
                local: local.clone(),
                // Inbound packets meet the kernel's guard, or an SA and its selectors.
                hits: outbound.then_some(hits.outbound),
                clear: (outbound && level == Some(Level::Use)).then_some(hits.clear),
                last_s: hits.last.filter(|_| outbound).map(|at| self.now.since(at).as_secs()),
                from: Selector(&entry.source).to_string(),
                to: Selector(&entry.destination).to_string(),
                child: name.clone(),
                narrowed,
                peer: remote.clone(),
                local_id: peer.and_then(|peer| peer.local_id.as_ref()).map(ToString::to_string),
                remote_id: peer.and_then(|peer| peer.remote_id.as_ref()).map(ToString::to_string),
            }
        })
    }

    /// The pair of SAs with manual keys whose policy this is.
    fn manual(&self, policy: PolicyId) -> Option<&'d ManualPair> {
        self.gateway.manual_pair(manual_of(policy)?)
    }

    /// An SA of an engine, and what it is a half of.
    fn sa(&self, half: Half, pair: Pair, sa: &Status) -> Sa {
        let view = self.pairs.get(&pair);
        let child = self.endpoint.pad().get_child(child_of(sa.policy));
        let (local, remote) = (sa.path.local.ip().to_string(), sa.path.remote.ip().to_string());
        let (direction, from, to) = match half {
            Half::Inbound => ("in", remote, local),
            Half::Outbound => ("out", local, remote),
        };
        let age_s = self.now.since(sa.since).as_secs();
        let last_s = sa.last_used.map(|at| self.now.since(at).as_secs());
        let ike = view.and_then(|view| self.endpoint.ike_sa(view.ike));
        if let Some(pair) = self.manual(sa.policy) {
            let end = if half == Half::Inbound { &pair.inbound } else { &pair.outbound };
            return Sa {
                child: pair.name(),
                direction: direction.to_owned(),
                mode: pair.mode.as_str().to_owned(),
                from,
                to,
                spi: spi(sa.spi.get()),
                spi_in: spi(pair.inbound.spi.get()),
                spi_out: spi(pair.outbound.spi.get()),
                local_ts: selectors(&pair.local_ts),
                remote_ts: selectors(&pair.remote_ts),
                suite: end.suite.to_string(),
                esn: sa.esn,
                encap: carrier(sa.encap).to_owned(),
                bytes: sa.bytes,
                packets: sa.packets,
                age_s,
                last_s,
                sequence: sa.sequence,
                ..Sa::default()
            };
        }
        Sa {
            child: child.map(|(_, peer, child)| format!("{}/{}", peer.name, child.name)).unwrap_or_default(),
            direction: direction.to_owned(),
            mode: mode(sa.mode).to_owned(),
            from,
            to,
            spi: spi(sa.spi.get()),
            spi_in: view.map(|view| spi(view.spi_in.get())).unwrap_or_default(),
            spi_out: view.map(|view| spi(view.spi_out.get())).unwrap_or_default(),
            ike: ike.map(|ike| format!("{:016x}", ike.spi_local)).unwrap_or_default(),
            local_ts: view.map(|view| selectors(view.local)).unwrap_or_default(),
            remote_ts: view.map(|view| selectors(view.remote)).unwrap_or_default(),
            replaced: view.is_some_and(|view| view.replaced),
            suite: view.map(|view| view.suite.to_string()).unwrap_or_default(),
            esn: sa.esn,
            encap: carrier(sa.encap).to_owned(),
            bytes: sa.bytes,
            packets: sa.packets,
            age_s,
            last_s,
            sequence: sa.sequence,
        }
    }
}

/// Each reason that discarded something.
fn discards(counters: &Counters) -> Vec<Discarded> {
    let met = counters.iter().filter(|(_, packets)| *packets > 0);
    met.map(|(reason, packets)| {
        let reason = format!("{reason:?}");
        let direction = if reason.starts_with("Out") { "out" } else { "in" }.to_owned();
        Discarded { direction, reason, packets }
    })
    .collect()
}
