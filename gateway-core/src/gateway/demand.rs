//! Packets that have no SA: `on-demand`, and what the peer's narrowing left out (RFC 7296 §2.9).

use core::time::Duration;

use alloc::vec::Vec;

use ike_core::child::within;
use ike_core::crypto::IkeCrypto;
use ike_core::event::{ChildId, IkeId};
use ike_core::pad::ChildConfigId;
use ipsec_core::flow::Flow;
use ipsec_core::net::{AddrRange, TrafficSelector};
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::config::{Child, Start};
use crate::state::child::ChildEntry;
use crate::state::installed::Installed;
use crate::state::report::What;
use crate::state::{Gateway, Parts};

/// SAs of one child, for the sake of single packets: the peer may give each of them one.
const SAS_OF_A_CHILD: usize = 16;
/// One that carried nothing for so long gives its place to the SA of a packet that has none.
const IDLE: Duration = Duration::from_secs(3600);

impl ChildEntry {
    /// Why a packet has to do without an SA although others of the child are up, when that is so.
    pub(super) fn too_many(&self) -> Option<Cause> {
        (self.crowded && self.sas.len() >= SAS_OF_A_CHILD).then(|| Cause::too_many_sas(SAS_OF_A_CHILD))
    }
}

impl Gateway {
    /// A packet wants through a child. Returns whether an SA for it is, or will be, under way.
    pub(super) fn want_for_packet<C: IkeCrypto>(
        &mut self,
        now: Instant,
        id: ChildConfigId,
        packet: &[u8],
        parts: &mut Parts<'_, '_, C>,
    ) -> bool {
        let Some(peer) = self.children.get(&id).map(|child| child.peer) else { return false };
        let endpoint = &*parts.endpoint;
        let connection = self.connection(peer, endpoint);
        let connected = self.is_connected(peer, endpoint);
        let shared = self.is_shared(peer, endpoint);
        let (Some(child), Some(entry)) = (self.children.get_mut(&id), self.peers.get_mut(&peer)) else { return false };
        if child.waits_in(&self.ikes).is_some() {
            return true;
        }
        // What the peer is called for may be another child: this one is asked for when it is there.
        let called = !connected && !entry.calling.is_idle();
        let willing = match entry.start {
            Start::OnDemand => true,
            Start::Active => !entry.held && !child.held,
            // We do not call, but once we are connected a child can be asked for.
            Start::Passive => (connected || called) && !child.held,
        };
        let tired = |retry_at: Option<Instant>| retry_at.is_some_and(|at| at > now);
        let rests = !connected && !called && tired(entry.tries.retry_at);
        if !willing || tired(child.setbacks.retry_at) || rests {
            return called && entry.tries.begun == Some(id);
        }
        if entry.start == Start::OnDemand {
            entry.held = false;
            child.held = false;
        }
        if let Some(ike) = connection.filter(|_| connected)
            && let Ok(flow) = Flow::of(packet)
            && !child.sas.is_empty()
        {
            // Of several parties nobody knows whose it is.
            if shared {
                return false;
            }
            let carries = |sa: &Installed| child.sas.contains(&sa.child) && carries(sa.selectors(), &flow);
            if !self.sas.with(id, ike.party).any(carries) {
                // They are up and not for this packet.
                let config = endpoint.pad().get_child(id);
                let wanted = config.and_then(|(_, _, config)| around(config, &flow));
                let Some(wanted) = wanted else { return false };
                if tired(child.uncovered.again(&wanted)) || !self.has_room(now, id, parts) {
                    return false;
                }
                self.ask(now, ike.id, id, Some(wanted), parts.endpoint);
                return self.children.get(&id).is_some_and(|child| child.asked.is_some());
            }
        }
        child.wanted = true;
        entry.wanted |= !connected && entry.start != Start::Passive;
        self.agenda.touch(peer);
        true
    }

    /// Whether a child may have another SA for a single packet: so many are not in use over one connection. That there is no
    /// place is told once, until there is one again.
    fn has_room<C: IkeCrypto>(&mut self, now: Instant, config: ChildConfigId, parts: &Parts<'_, '_, C>) -> bool {
        let Some(child) = self.children.get(&config) else { return false };
        let in_use = |ike: IkeId| {
            let sas = self.sas_of(child, ike);
            sas.filter(|sa| !(sa.ours && now.since(sa.last_used(parts.plane)) >= IDLE)).count()
        };
        // While a connection is made anew each network may have an SA over both.
        let crowded = self.ikes.of(child.peer).any(|ike| in_use(ike) >= SAS_OF_A_CHILD);
        let peer = child.peer;
        let Some(child) = self.children.get_mut(&config) else { return false };
        let known = core::mem::replace(&mut child.crowded, crowded);
        if crowded && !known {
            self.tell(Some(peer), Some(config), What::Narrowed, Some(Cause::too_many_sas(SAS_OF_A_CHILD)));
        }
        !crowded
    }

    /// An SA for a single packet is up: those of ours that were unused for longest give up their places, now that it is sure
    /// that another one has them.
    pub(super) fn make_room<C: IkeCrypto>(&mut self, now: Instant, newest: ChildId, parts: &mut Parts<'_, '_, C>) {
        let Some((ike, config)) = self.sas.get(newest).map(|sa| (sa.ike, sa.config)) else { return };
        let Some(child) = self.children.get(&config) else { return };
        let spare = self.sas_of(child, ike).count().saturating_sub(SAS_OF_A_CHILD);
        let ours = self.sas_of(child, ike).filter(|sa| sa.ours);
        let used = ours.map(|sa| (sa.last_used(parts.plane), sa.child));
        let mut unused: Vec<_> = used.filter(|(used, _)| now.since(*used) >= IDLE).collect();
        unused.sort_unstable();
        for (_, sa) in unused.into_iter().take(spare) {
            drop(parts.endpoint.close_child(now, sa)); // denied: it is being deleted
            self.uninstall(now, sa, parts);
        }
    }

    /// No SA comes of the question for what the peer's narrowing left out: `why`, or it made one that does not carry that.
    pub(super) fn uncovered(
        &mut self,
        now: Instant,
        config: ChildConfigId,
        only: (TrafficSelector, TrafficSelector),
        why: Option<&Cause>,
    ) {
        let Some(child) = self.children.get_mut(&config) else { return };
        let cause = Cause::not_covered(&only.0, &only.1, why);
        let peer = child.peer;
        child.wanted = false;
        child.cause = Some(cause.clone());
        let news = child.uncovered.refuse(now, only);
        self.agenda.touch(peer);
        if news {
            self.tell(Some(peer), Some(config), What::Narrowed, Some(cause));
        }
    }

    /// That a new SA carries less than its child is configured for, when that is news: another one does not carry just the
    /// same, as what it replaces mostly does.
    pub(super) fn narrowed_anew<C: IkeCrypto>(&self, child: ChildId, parts: &Parts<'_, '_, C>) -> Option<Cause> {
        let sa = self.sas.get(child)?;
        let mut others = self.sas.with(sa.config, sa.party).filter(|other| other.child != child);
        let (_, _, config) = parts.endpoint.pad().get_child(sa.config)?;
        let news = !others.any(|other| other.selectors() == sa.selectors());
        narrowed(config, &[sa.selectors()]).filter(|_| news)
    }
}

/// Of our side and of the peer's.
pub(super) type Selectors<'s> = (&'s [TrafficSelector], &'s [TrafficSelector]);

fn carries(sa: Selectors<'_>, flow: &Flow) -> bool {
    sa.0.iter().any(|local| flow.fits_source(local)) && sa.1.iter().any(|remote| flow.fits_destination(remote))
}

/// The configured selectors of a packet, for its two hosts only.
fn around(config: &Child, flow: &Flow) -> Option<(TrafficSelector, TrafficSelector)> {
    let local = config.local_ts.iter().find(|local| flow.fits_source(local))?;
    let remote = config.remote_ts.iter().find(|remote| flow.fits_destination(remote))?;
    let only = |selector: &TrafficSelector, host| TrafficSelector { addrs: AddrRange::single(host), ..*selector };
    Some((only(local, flow.source), only(remote, flow.destination)))
}

/// Why not all that a child is configured for went into these SAs of it, when that is so.
pub(super) fn narrowed(config: &Child, sas: &[Selectors<'_>]) -> Option<Cause> {
    let carried = |local, remote| sas.iter().any(|sa| within(&[local], sa.0) && within(&[remote], sa.1));
    let whole = config.local_ts.iter().all(|local| config.remote_ts.iter().all(|remote| carried(*local, *remote)));
    (!whole && !sas.is_empty()).then(|| Cause::narrowed((&config.local_ts, &config.remote_ts), sas))
}
