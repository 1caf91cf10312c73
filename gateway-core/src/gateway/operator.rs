//! What the operator wants: up, down, rekey, reload, shutdown.

use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::SaState;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::crypto::PacketCrypto;
use ipsec_core::time::Instant;

use super::install::place_rules;
use super::{Gateway, Parts};
use crate::cause::{Cause, Kind};
use crate::config::{Config, Diff};
use crate::policy;

/// There is no such peer or child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

/// A peer, or one child of it.
#[derive(Clone, Copy)]
struct Target {
    peer: PeerId,
    child: Option<ChildConfigId>,
}

impl Target {
    fn covers(&self, peer: PeerId, child: ChildConfigId) -> bool {
        self.peer == peer && self.child.is_none_or(|only| only == child)
    }
}

impl Gateway {
    /// Connects a peer (`cloud`) or one child (`cloud/net`). What comes of it: [`Gateway::outcome`].
    ///
    /// # Errors
    /// [`Unknown`]
    pub fn up<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        name: &str,
        parts: &mut Parts<'_, '_, C, P>,
    ) -> Result<(), Unknown> {
        let target = self.find(name)?;
        self.changed = true;
        let peer = self.peer(target.peer).ok_or(Unknown)?;
        peer.held = false;
        peer.wanted = true;
        peer.failures = 0;
        peer.retry_at = None;
        peer.cause = None;
        for child in self.children.iter_mut().filter(|child| target.covers(child.peer, child.id)) {
            let up = self.sas.iter().any(|sa| sa.config == child.id);
            child.held = false;
            child.wanted = !up;
            child.failures = 0;
            child.retry_at = None;
            child.cause = None;
        }
        self.settle(now, parts);
        Ok(())
    }

    /// Disconnects a peer or one child, and leaves it down until [`Gateway::up`], the peer, or with `on-demand` a packet
    /// wants it.
    ///
    /// # Errors
    /// [`Unknown`]
    pub fn down<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        name: &str,
        parts: &mut Parts<'_, '_, C, P>,
    ) -> Result<(), Unknown> {
        let target = self.find(name)?;
        for child in self.children.iter_mut().filter(|child| target.covers(child.peer, child.id)) {
            child.held = target.child.is_some();
            child.wanted = false;
        }
        if target.child.is_some() {
            for sa in self.sas.iter().filter(|sa| target.covers(sa.peer, sa.config)) {
                drop(parts.endpoint.close_child(now, sa.child)); // denied: it is being deleted
            }
        } else {
            self.hold(target.peer);
            close_all(now, parts, |peer| peer == Some(target.peer));
        }
        self.settle(now, parts);
        Ok(())
    }

    /// Negotiates fresh keys for the children of a peer, for one child, or (`ike`) for the peer's IKE SA.
    ///
    /// # Errors
    /// [`Unknown`]; a cause when there is nothing to rekey.
    pub fn rekey<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        name: &str,
        ike: bool,
        parts: &mut Parts<'_, '_, C, P>,
    ) -> Result<Result<(), Cause>, Unknown> {
        let target = self.find(name)?;
        let mut begun = false;
        if ike {
            if let Some(ike) = super::drive::connection(target.peer, parts.endpoint) {
                begun = parts.endpoint.rekey_ike(now, ike.id).is_ok();
            }
        } else {
            for sa in self.sas.iter().filter(|sa| target.covers(sa.peer, sa.config)) {
                begun |= parts.endpoint.rekey_child(now, sa.child).is_ok();
            }
        }
        self.settle(now, parts);
        Ok(if begun { Ok(()) } else { Err(Cause::not_connected()) })
    }

    /// What came of [`Gateway::up`]: `None` while it is under way.
    ///
    /// # Errors
    /// [`Unknown`]
    pub fn outcome<C: IkeCrypto, P: PacketCrypto>(
        &self,
        name: &str,
        parts: &Parts<'_, '_, C, P>,
    ) -> Result<Option<Result<(), Cause>>, Unknown> {
        let target = self.find(name)?;
        let entry = self.peers.iter().find(|entry| entry.id == target.peer).ok_or(Unknown)?;
        if super::drive::connection(target.peer, parts.endpoint).is_none() {
            let underway = entry.attempt.is_some() || entry.locating;
            return Ok(entry.cause.clone().filter(|_| !underway).map(Err));
        }
        let mut waiting = false;
        for child in self.children.iter().filter(|child| target.covers(child.peer, child.id)) {
            if self.sas.iter().any(|sa| sa.config == child.id) {
                continue;
            }
            if let Some(cause) = &child.cause {
                return Ok(Some(Err(cause.clone())));
            }
            waiting = true;
        }
        Ok(if waiting { None } else { Some(Ok(())) })
    }

    /// Takes up a new configuration, whose keys are loaded: what did not change goes on. Returns what changed.
    ///
    /// # Errors
    /// A table of an engine is too small for the new rules: those that do not fit are missing, the last ones first, and
    /// what they are about is discarded.
    pub fn reload<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        config: Config,
        parts: &mut Parts<'_, '_, C, P>,
    ) -> (Diff, Result<(), Cause>) {
        let peers = parts.endpoint.pad_mut();
        let held: Vec<_> = peers.iter().map(|(_, peer)| peer).collect();
        let diff = Config::diff_from(&self.settings, &held, &self.policies, &config);
        let changes = peers.replace(config.peers, &diff);
        self.settings = config.gateway;
        self.policies = config.policies;
        let rules = policy::rules(&self.policies, peers);
        // Rules first: from here on nothing goes where the new configuration does not want it.
        let placed = place_rules(&self.rules, &rules, parts);
        self.rules = rules;
        for sa in self.sas.iter().filter(|sa| changes.children_gone.contains(&sa.config)) {
            drop(parts.endpoint.close_child(now, sa.child));
        }
        close_all(now, parts, |peer| peer.is_some_and(|peer| changes.peers_gone.contains(&peer)));
        self.take_events(now, parts);
        self.follow(parts.endpoint.pad());
        self.changed = true;
        self.settle(now, parts);
        (diff, placed)
    }

    /// What a reload with this configuration would change.
    pub fn compare<C: IkeCrypto, P: PacketCrypto>(&self, config: &Config, parts: &Parts<'_, '_, C, P>) -> Diff {
        let held: Vec<_> = parts.endpoint.pad().iter().map(|(_, peer)| peer).collect();
        Config::diff_from(&self.settings, &held, &self.policies, config)
    }

    /// Deletes every SA, with the peers. The appliance goes on until the endpoint has no IKE SA left, or for as long as
    /// it cares to wait.
    pub fn shutdown<C: IkeCrypto, P: PacketCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C, P>) {
        for id in self.peers.iter().map(|entry| entry.id).collect::<Vec<_>>() {
            self.hold(id);
        }
        close_all(now, parts, |_| true);
        self.settle(now, parts);
    }

    /// From now on nobody here wants this peer.
    fn hold(&mut self, id: PeerId) {
        self.questions.retain(|question| question.peer != id);
        if let Some(entry) = self.peer(id) {
            entry.held = true;
            entry.wanted = false;
            entry.locating = false;
            entry.retry_at = None;
            entry.cause = None;
        }
    }

    fn find(&self, name: &str) -> Result<Target, Unknown> {
        let (peer, child) = match name.split_once('/') {
            Some((peer, child)) => (peer, Some(child)),
            None => (name, None),
        };
        let peer = self.peers.iter().find(|entry| entry.name == peer).ok_or(Unknown)?.id;
        let named = |child: &str| {
            let mut children = self.children.iter().filter(|entry| entry.peer == peer);
            children.find(|entry| entry.name == child).map(|entry| entry.id).ok_or(Unknown)
        };
        Ok(Target { peer, child: child.map(named).transpose()? })
    }
}

fn close_all<C: IkeCrypto, P: PacketCrypto>(
    now: Instant,
    parts: &mut Parts<'_, '_, C, P>,
    which: impl Fn(Option<PeerId>) -> bool,
) {
    let sas = parts.endpoint.ike_sas().filter(|ike| which(ike.peer) && ike.state != SaState::Closing);
    for ike in sas.map(|ike| ike.id).collect::<Vec<_>>() {
        drop(parts.endpoint.close(now, ike)); // denied: it is gone
    }
}

impl Cause {
    fn not_connected() -> Self {
        Self {
            code: "not-connected",
            text: "there is no SA to rekey".into(),
            hint: "connect it first: up".into(),
            kind: Kind::Absence,
        }
    }
}
