//! What the operator wants: up, down, rekey, reload, shutdown.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::SaState;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::time::Instant;

use crate::cause::{Cause, Kind};
use crate::config::{Config, Diff, Start};
use crate::peers::Peers;
use crate::policy;
use crate::state::child::ChildEntry;
use crate::state::merges::Merges;
use crate::state::renewal::Renewals;
use crate::state::uncovered::Uncovered;
use crate::state::{Gateway, Parts};

/// There is no such peer or child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

/// A peer, or one child of it.
#[derive(Clone, Copy)]
struct Target {
    peer: PeerId,
    child: Option<ChildConfigId>,
}

/// A configuration that may be taken up, and what leads there from the one that runs.
///
/// ```
/// use gateway_core::config::Config;
/// use gateway_core::gateway::Gateway;
/// let (gateway, peers) = Gateway::new(Config::parse("").unwrap().0);
/// let (new, _) = Config::parse("[gateway]\nlog = \"debug\"\n").unwrap();
/// let change = gateway.compare(new, &peers); // `Gateway::take_up` does it
/// assert_eq!(change.diff().settings, ["log"]);
/// ```
#[derive(Debug)]
pub struct Change {
    config: Config,
    diff: Diff,
}

impl Change {
    /// What changes with it.
    pub fn diff(&self) -> &Diff {
        &self.diff
    }
}

impl Gateway {
    /// Connects a peer (`cloud`) or one child (`cloud/net`), or takes up SAs with manual keys (`sa`, `sa/0x00002001`). What comes of it: [`Gateway::outcome`]. After
    /// [`Gateway::shutdown`] nothing.
    ///
    /// # Errors
    /// [`Unknown`]
    pub fn up<C: IkeCrypto>(&mut self, now: Instant, name: &str, parts: &mut Parts<'_, '_, C>) -> Result<(), Unknown> {
        let manual = self.manual.named(name);
        if !manual.is_empty() {
            if !self.ends {
                self.raise_manual(now, &manual, parts.plane);
            }
            return Ok(());
        }
        let target = self.find(name, parts.endpoint.pad())?;
        if self.ends {
            return Ok(());
        }
        self.agenda.touch(target.peer);
        let connected = self.connection(target.peer, parts.endpoint).is_some();
        let peer = self.peers.get_mut(&target.peer).ok_or(Unknown)?;
        peer.held = false;
        // What is there is not wished for: that would be a wish to call later.
        peer.wanted = !connected;
        peer.tries.forgive();
        peer.tries.rest();
        peer.renewals = Renewals::default();
        peer.merges = Merges::default();
        for config in self.covered(target) {
            let Some(child) = self.children.get_mut(&config) else { continue };
            child.held = false;
            child.wanted = child.sas.is_empty();
            child.setbacks.forgive();
            child.uncovered = Uncovered::default();
            child.crowded = false;
            if child.wanted {
                child.cause = None;
            }
        }
        self.settle(now, parts);
        Ok(())
    }

    /// Disconnects a peer or one child, or takes down SAs with manual keys: nothing is sent or taken through its SAs from here on, whether the peer answers or
    /// not. Leaves it down until [`Gateway::up`], the peer, or with `on-demand` a packet
    /// wants it.
    ///
    /// # Errors
    /// [`Unknown`]
    pub fn down<C: IkeCrypto>(
        &mut self,
        now: Instant,
        name: &str,
        parts: &mut Parts<'_, '_, C>,
    ) -> Result<(), Unknown> {
        let manual = self.manual.named(name);
        if !manual.is_empty() {
            self.hold_manual(now, &manual, parts.plane);
            return Ok(());
        }
        let target = self.find(name, parts.endpoint.pad())?;
        self.agenda.touch(target.peer); // what was to begin for its sake may be over
        for config in self.covered(target) {
            if let Some(child) = self.children.get_mut(&config) {
                child.held |= target.child.is_some(); // what is held by itself stays so when its peer is taken down
                child.wanted = false;
                child.cause = None; // it is down because somebody wants that
            }
        }
        match target.child {
            Some(child) => {
                self.end_child(now, child, parts);
            }
            None => {
                self.hold(target.peer);
                self.end_peer(now, target.peer, parts);
            }
        }
        self.settle(now, parts);
        Ok(())
    }

    /// Negotiates fresh keys for the children of a peer, for one child, or (`ike`) for the peer's IKE SA.
    ///
    /// # Errors
    /// [`Unknown`]; a cause when there is nothing to rekey.
    pub fn rekey<C: IkeCrypto>(
        &mut self,
        now: Instant,
        name: &str,
        ike: bool,
        parts: &mut Parts<'_, '_, C>,
    ) -> Result<Result<(), Cause>, Unknown> {
        if !self.manual.named(name).is_empty() {
            return Ok(Err(Cause::not_negotiated()));
        }
        let target = self.find(name, parts.endpoint.pad())?;
        let mut begun = false;
        if ike {
            if let Some(ike) = self.connection(target.peer, parts.endpoint) {
                begun = parts.endpoint.rekey_ike(now, ike.id).is_ok();
            }
        } else {
            for child in self.covered(target).iter().filter_map(|config| self.children.get(config)) {
                for sa in &child.sas {
                    begun |= parts.endpoint.rekey_child(now, *sa).is_ok();
                }
            }
        }
        self.settle(now, parts);
        Ok(if begun { Ok(()) } else { Err(Cause::not_connected(name)) })
    }

    /// What came of [`Gateway::up`]: `None` while it is under way.
    ///
    /// # Errors
    /// [`Unknown`]
    pub fn outcome<C: IkeCrypto>(
        &self,
        name: &str,
        parts: &Parts<'_, '_, C>,
    ) -> Result<Option<Result<(), Cause>>, Unknown> {
        let manual = self.manual.named(name);
        if !manual.is_empty() {
            return Ok(self.manual_outcome(&manual));
        }
        let target = self.find(name, parts.endpoint.pad())?;
        let entry = self.peers.get(&target.peer).ok_or(Unknown)?;
        if !self.is_connected(target.peer, parts.endpoint) {
            let underway = !entry.calling.is_idle() || entry.has_other_places();
            return Ok(entry.tries.cause.clone().filter(|_| !underway).map(Err));
        }
        let party = self.connection(target.peer, parts.endpoint).map(|ike| ike.party);
        let mut waiting = false;
        for child in self.covered(target).iter().filter_map(|config| self.children.get(config)) {
            if party.is_some_and(|party| self.is_up_with(child, party)) {
                waiting |= party.is_some_and(|party| self.sas_with(child, party).any(|sa| sa.underway.is_some()));
                continue;
            }
            if let Some(cause) = &child.cause {
                return Ok(Some(Err(cause.clone())));
            }
            waiting = true;
        }
        Ok(if waiting { None } else { Some(Ok(())) })
    }

    /// What a reload of this configuration, whose keys are loaded, would do.
    pub fn compare(&self, config: Config, peers: &Peers) -> Change {
        let held: Vec<_> = peers.iter().map(|(_, peer)| peer).collect();
        let manual: Vec<_> = self.manual.iter().map(|entry| &entry.config).collect();
        let diff = Config::diff_from(&self.settings, &held, &self.policies, &manual, &config);
        Change { config, diff }
    }

    /// [`Gateway::compare`] and [`Gateway::take_up`] in one.
    ///
    /// # Errors
    /// Those of [`Gateway::take_up`].
    pub fn reload<C: IkeCrypto>(
        &mut self,
        now: Instant,
        config: Config,
        parts: &mut Parts<'_, '_, C>,
    ) -> (Diff, Result<(), Cause>) {
        let change = self.compare(config, parts.endpoint.pad());
        self.take_up(now, change, parts)
    }

    /// Takes up a new configuration: what did not change since it was compared goes on. Nothing is sent or taken through SAs
    /// of what is gone from here on, whether the peer answers or not. Returns what changed.
    ///
    /// # Errors
    /// The data plane has no room for all the new rules: those that do not fit are missing, the last ones first, and what
    /// they are about is discarded.
    pub fn take_up<C: IkeCrypto>(
        &mut self,
        now: Instant,
        Change { config, diff }: Change,
        parts: &mut Parts<'_, '_, C>,
    ) -> (Diff, Result<(), Cause>) {
        let mut peers = parts.endpoint.pad_mut();
        let changes = peers.replace(config.peers, &diff);
        self.settings = config.gateway;
        self.policies = config.policies;
        self.manual.note_heard(parts.plane);
        let leaving = self.manual.follow(config.manual);
        let rules = policy::rules(&self.policies, &peers, self.manual.traffic());
        drop(peers);
        // Rules first: from here on nothing goes where the new configuration does not want it.
        let placed = self.place_rules(now, rules, parts.plane);
        self.end_manual(now, leaving, parts.plane);
        self.place_manual(now, parts.plane);
        let mut ended: BTreeSet<_> =
            changes.children_gone.into_iter().filter(|child| self.end_child(now, *child, parts)).collect();
        for id in changes.peers_gone {
            // Who calls by himself does so again; whom somebody here wanted is wanted still, with what was up.
            let called = self.connections(id, parts.endpoint).any(|ike| ike.called);
            let entry = self.peers.get_mut(&id).filter(|entry| called && entry.start != Start::Active && !entry.held);
            if let Some(entry) = entry {
                entry.wanted = true;
                let up = |child: &ChildEntry| !child.sas.is_empty() && !child.held;
                ended.extend(entry.children.iter().filter(|child| self.children.get(child).is_some_and(up)));
            }
            self.end_peer(now, id, parts);
        }
        self.take_events(now, parts);
        self.follow(parts.endpoint.pad(), &ended);
        self.settle(now, parts);
        (diff, placed)
    }

    /// Deletes every SA, with the peers. From here on nobody is called or answered who wants a new one: it would be there for
    /// the peer alone. The appliance goes on until the endpoint has no IKE SA left, or for as long as it cares to wait.
    pub fn shutdown<C: IkeCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C>) {
        self.ends = true;
        let manual = self.manual.follow(Vec::new());
        self.end_manual(now, manual, parts.plane);
        for id in self.order.clone() {
            self.hold(id);
            self.end_peer(now, id, parts);
        }
        // Handshakes of strangers.
        let others: Vec<_> = parts.endpoint.ike_sas().filter(|ike| ike.state != SaState::Closing).collect();
        for ike in others {
            drop(parts.endpoint.close(now, ike.id)); // denied: it is gone
        }
        self.settle(now, parts);
    }

    /// From now on nobody here wants this peer.
    fn hold(&mut self, id: PeerId) {
        self.questions.retain(|question| question.peer != id);
        if let Some(entry) = self.peers.get_mut(&id) {
            entry.held = true;
            entry.party = None;
            entry.wanted = false;
            entry.renew = None;
            entry.trouble = None;
            entry.calling.end_locating();
            entry.tries.rest();
        }
    }

    fn find(&self, name: &str, peers: &Peers) -> Result<Target, Unknown> {
        let (peer, child) = match name.split_once('/') {
            Some((peer, child)) => (peer, Some(child)),
            None => (name, None),
        };
        let entry = peers.named(peer).and_then(|id| self.peers.get(&id)).ok_or(Unknown)?;
        let named = |child: &str| {
            let named = |id: &&ChildConfigId| self.children.get(id).is_some_and(|entry| entry.name == child);
            entry.children.iter().find(named).copied().ok_or(Unknown)
        };
        Ok(Target { peer: entry.id, child: child.map(named).transpose()? })
    }

    /// The children that are meant.
    fn covered(&self, target: Target) -> Vec<ChildConfigId> {
        let all = self.peers.get(&target.peer).map(|entry| entry.children.as_slice()).unwrap_or_default();
        all.iter().filter(|child| target.child.is_none_or(|only| only == **child)).copied().collect()
    }
}

impl Cause {
    fn not_connected(name: &str) -> Self {
        Self {
            code: "not-connected",
            text: "there is no SA to rekey".into(),
            hint: format!("connect it first: `portcullis up {name}`"),
            kind: Kind::Absence,
        }
    }
}
