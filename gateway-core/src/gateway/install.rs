//! SAs into the engines and out of them, and what went through.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::Endpoint;
use ike_core::event::{ChildId, ChildUp, IkeId, Party};
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::crypto::{AeadAlg, PacketCrypto};
use ipsec_core::error::Refused;
use ipsec_core::net::{Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, Event, InboundParams, Lifetime, Mode, OutboundParams, Params, SaId, Status};
use ipsec_core::spd::Rule;
use ipsec_core::time::Instant;
use zeroize::Zeroizing;

use super::renewal::Standing;
use super::silence::Silence;
use super::state::{ChildEntry, Totals};
use super::{Gateway, Parts};
use crate::cause::Cause;
use crate::peers::Peers;
use crate::policy::{self, Inbound, Outbound, child_of, policy_of};

/// A Child SA in the engines.
pub(super) struct Installed {
    pub(super) child: ChildId,
    pub(super) ike: IkeId,
    pub(super) peer: PeerId,
    pub(super) config: ChildConfigId,
    /// Who is at its other end.
    pub(super) party: Party,
    /// We asked for it, or for the first of those whose rekeys led to it.
    pub(super) ours: bool,
    pub(super) inbound: SaId,
    pub(super) outbound: Sending,
    pub(super) encap: Encap,
    /// When it came, or what it replaced or carries on was last used.
    pub(super) since: Instant,
    pub(super) silence: Silence,
    /// Rekeys of it that were refused.
    pub(super) refused: u32,
    /// An amount of it is used up but for a quarter, which may pass in no time.
    pub(super) spent: bool,
    /// Why we had IKE delete it, when nobody here wished for that.
    pub(super) ended: Option<Cause>,
}

/// The sending half.
pub(super) enum Sending {
    /// In the engine.
    Through(SaId),
    /// The peer began the rekey: to be used when it uses it too (RFC 7296 §2.8).
    Later(Box<Waiting>),
    /// Gone before the receiving half, which drains; as it stood then.
    Over(Option<Status>),
}

/// An outbound SA to be.
pub(super) struct Waiting {
    spi: Spi,
    alg: AeadAlg,
    keymat: Zeroizing<Vec<u8>>,
    esn: bool,
    path: Path,
    local: Vec<TrafficSelector>,
    remote: Vec<TrafficSelector>,
    lifetime: Lifetime,
}

/// The path of an SA: for protocol 50 without ports.
fn esp_path(path: Path, encap: Encap) -> Path {
    match encap {
        Encap::Udp => path,
        Encap::None => {
            let Path { mut local, mut remote } = path;
            local.set_port(0);
            remote.set_port(0);
            Path { local, remote }
        }
    }
}

/// Installs what was negotiated: the receiving half at once, the sending half when it may be used.
pub(super) fn install<P: PacketCrypto>(
    now: Instant,
    up: &ChildUp<'_>,
    lifetime: Lifetime,
    window: u16,
    outbound: &mut Outbound<'_, P>,
    inbound: &mut Inbound<'_, P>,
) -> Result<Installed, Refused> {
    let params = InboundParams {
        sa: Params {
            spi: up.spi_in,
            mode: Mode::Tunnel,
            alg: up.aead().ok_or(Refused::Algorithm)?,
            keymat: up.key_in,
            esn: up.suite.esn,
            path: esp_path(up.path, up.encap),
            encap: up.encap,
            policy: policy_of(up.config),
            local_ts: up.local,
            remote_ts: up.remote,
            lifetime,
        },
        window: usize::from(window),
        highest_seen: 0,
    };
    let receiving = inbound.install(now, &params)?;
    let sa = Params { spi: up.spi_out, keymat: up.key_out, ..params.sa };
    let sending = match up.outbound_ready {
        true => install_outbound(now, sa, outbound).map(Sending::Through),
        // Only what has to wait needs a key of its own: the other one goes from where it was made to where it stays.
        false => Ok(Sending::Later(Box::new(Waiting::of(&sa)))),
    };
    let outbound = sending.inspect_err(|_| {
        inbound.remove(receiving);
    })?;
    Ok(Installed {
        child: up.child,
        ike: up.ike,
        peer: up.peer,
        config: up.config,
        party: up.party,
        ours: up.ours,
        inbound: receiving,
        outbound,
        encap: up.encap,
        since: now,
        silence: Silence::default(),
        refused: 0,
        spent: false,
        ended: None,
    })
}

/// A fresh key out of IKE: nothing was ever sent under it.
fn install_outbound<P: PacketCrypto>(
    now: Instant,
    sa: Params<'_>,
    outbound: &mut Outbound<'_, P>,
) -> Result<SaId, Refused> {
    let params = OutboundParams { sa, last_sent: 0, copy_dscp: true, dont_fragment: DontFragment::Clear };
    outbound.install(now, &params)
}

impl Waiting {
    fn of(sa: &Params<'_>) -> Self {
        Self {
            spi: sa.spi,
            alg: sa.alg,
            keymat: Zeroizing::new(sa.keymat.to_vec()),
            esn: sa.esn,
            path: sa.path,
            local: sa.local_ts.to_vec(),
            remote: sa.remote_ts.to_vec(),
            lifetime: sa.lifetime,
        }
    }

    fn install<P: PacketCrypto>(
        &self,
        now: Instant,
        config: ChildConfigId,
        encap: Encap,
        outbound: &mut Outbound<'_, P>,
    ) -> Result<SaId, Refused> {
        let sa = Params {
            spi: self.spi,
            mode: Mode::Tunnel,
            alg: self.alg,
            keymat: &self.keymat,
            esn: self.esn,
            path: self.path,
            encap,
            policy: policy_of(config),
            local_ts: &self.local,
            remote_ts: &self.remote,
            lifetime: self.lifetime,
        };
        install_outbound(now, sa, outbound)
    }
}

impl Installed {
    /// Sends through this SA from now on.
    pub(super) fn send_through<P: PacketCrypto>(
        &mut self,
        now: Instant,
        outbound: &mut Outbound<'_, P>,
    ) -> Result<(), Refused> {
        if let Sending::Later(waiting) = &self.outbound {
            let id = waiting.install(now, self.config, self.encap, outbound)?;
            self.outbound = Sending::Through(id);
        }
        Ok(())
    }

    /// The peer is reached on another path.
    pub(super) fn move_to<P: PacketCrypto>(
        &mut self,
        path: Path,
        outbound: &mut Outbound<'_, P>,
        inbound: &mut Inbound<'_, P>,
    ) {
        let path = esp_path(path, self.encap);
        inbound.set_path(self.inbound, path);
        match &mut self.outbound {
            Sending::Through(id) => {
                outbound.set_path(*id, path, self.encap);
            }
            Sending::Later(waiting) => waiting.path = path,
            Sending::Over(_) => {}
        }
    }

    /// Sends nothing through this SA any more, and receives on.
    pub(super) fn drain<P: PacketCrypto>(&mut self, outbound: &mut Outbound<'_, P>) {
        let last = self.sent(outbound);
        if let Sending::Through(id) = self.outbound {
            outbound.remove(id);
        }
        self.outbound = Sending::Over(last);
    }

    /// How the sending half stands, or stood last.
    fn sent<P: PacketCrypto>(&self, outbound: &Outbound<'_, P>) -> Option<Status> {
        match &self.outbound {
            Sending::Through(id) => outbound.sa(*id),
            Sending::Over(last) => *last,
            Sending::Later(_) => None,
        }
    }

    /// What went through so far.
    pub(super) fn totals<P: PacketCrypto>(&self, outbound: &Outbound<'_, P>, inbound: &Inbound<'_, P>) -> Totals {
        let amount = |status: Option<Status>| status.map_or((0, 0), |status| (status.bytes, status.packets));
        let ((bytes_in, packets_in), (bytes_out, packets_out)) =
            (amount(inbound.sa(self.inbound)), amount(self.sent(outbound)));
        Totals { bytes_in, bytes_out, packets_in, packets_out }
    }

    /// When the last packet came in.
    pub(super) fn last_heard<P: PacketCrypto>(&self, inbound: &Inbound<'_, P>) -> Option<Instant> {
        inbound.sa(self.inbound).and_then(|status| status.last_used)
    }

    /// When the last packet went out.
    pub(super) fn last_sent<P: PacketCrypto>(&self, outbound: &Outbound<'_, P>) -> Option<Instant> {
        self.sent(outbound).and_then(|status| status.last_used)
    }

    /// When a packet last went through it, or through what it replaced; else when that came.
    pub(super) fn last_used<P: PacketCrypto>(&self, outbound: &Outbound<'_, P>, inbound: &Inbound<'_, P>) -> Instant {
        [self.last_heard(inbound), self.last_sent(outbound)].into_iter().flatten().fold(self.since, Instant::max)
    }

    /// Takes it out of the engines. What went through it is left.
    pub(super) fn remove<P: PacketCrypto>(
        self,
        outbound: &mut Outbound<'_, P>,
        inbound: &mut Inbound<'_, P>,
    ) -> Totals {
        let totals = self.totals(outbound, inbound);
        if let Sending::Through(id) = self.outbound {
            outbound.remove(id);
        }
        inbound.remove(self.inbound);
        totals
    }

    fn is(&self, sa: SaId, inbound: bool) -> bool {
        match (inbound, &self.outbound) {
            (true, _) => self.inbound == sa,
            (false, Sending::Through(id)) => *id == sa,
            (false, Sending::Later(_) | Sending::Over(_)) => false,
        }
    }
}

impl Gateway {
    /// Enters a Child SA that is in the engines.
    pub(super) fn enter(&mut self, now: Instant, installed: Installed) {
        if let Some(child) = self.children.get_mut(&installed.config) {
            child.sas.insert(installed.child);
            if self.peers.get(&child.peer).is_none_or(|entry| entry.looks_after(installed.party)) {
                Standing::enter(&mut child.standing, now);
            }
        }
        self.sas.insert(installed.child, installed);
        // At once: only then is it known when to look again.
        self.look_at = Some(Instant::ZERO);
    }

    /// When that was last used what a new SA carries on from another connection with the same party.
    pub(super) fn used_before<P: PacketCrypto>(
        &self,
        new: &Installed,
        outbound: &Outbound<'_, P>,
        inbound: &Inbound<'_, P>,
    ) -> Option<Instant> {
        self.elsewhere(new, inbound).map(|other| other.last_used(outbound, inbound)).max()
    }

    /// Whether a newer SA over another connection with the same party carries on what this one does.
    pub(super) fn is_carried_on<P: PacketCrypto>(&self, sa: &Installed, inbound: &Inbound<'_, P>) -> bool {
        let since = |sa: &Installed| inbound.sa(sa.inbound).map(|status| status.since);
        self.elsewhere(sa, inbound).any(|other| since(other) > since(sa))
    }

    /// The SAs over other connections with the same party that carry what this one does.
    fn elsewhere<P: PacketCrypto>(&self, sa: &Installed, inbound: &Inbound<'_, P>) -> impl Iterator<Item = &Installed> {
        let child = self.children.get(&sa.config);
        let others = child.into_iter().flat_map(|child| &child.sas).filter_map(|id| self.sas.get(id));
        others.filter(move |other| other.ike != sa.ike && other.meets(sa, inbound))
    }

    /// Takes a Child SA out of the engines and keeps what went through it. Whether it stood: `false` when it was gone
    /// already, or only received what was on its way.
    pub(super) fn uninstall<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        child: ChildId,
        parts: &mut Parts<'_, '_, C, P>,
    ) -> bool {
        let Some(sa) = self.sas.remove(&child) else { return false };
        let config = sa.config;
        let entry = self.children.get_mut(&config);
        let stood = entry.is_none_or(|entry| {
            entry.draining.remove(&child);
            entry.sas.remove(&child)
        });
        self.hand_silence_on(&sa, stood, parts.inbound);
        let spent = sa.spent;
        let totals = sa.remove(parts.outbound, parts.inbound);
        if let Some(entry) = self.children.get_mut(&config) {
            entry.past.add(totals);
        }
        self.leave(now, config, spent);
        stood
    }

    /// An SA of a child is gone, or carries nothing on: with the last one with whom we look after it is down.
    pub(super) fn leave(&mut self, now: Instant, config: ChildConfigId, spent: bool) {
        let Some(child) = self.children.get_mut(&config) else { return };
        let peer = self.peers.get(&child.peer);
        let ours = |sa: &Installed| peer.is_none_or(|entry| entry.looks_after(sa.party));
        if !child.sas.iter().filter_map(|sa| self.sas.get(sa)).any(ours)
            && let Some(standing) = child.standing.as_mut()
        {
            standing.leave(now, spent);
        }
    }

    /// Has IKE delete a Child SA that is in the engines, and says why when it is gone.
    pub(super) fn close_for<C: IkeCrypto>(
        &mut self,
        now: Instant,
        child: ChildId,
        cause: Cause,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        drop(endpoint.close_child(now, child)); // denied: it is being deleted
        if let Some(sa) = self.sas.get_mut(&child) {
            sa.ended = Some(cause);
        }
    }

    /// An engine has something to say about an SA.
    pub(super) fn sa_event<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        event: Event,
        inbound: bool,
        parts: &mut Parts<'_, '_, C, P>,
    ) {
        let (Event::SoftLifetime { sa, .. }
        | Event::HardLifetime { sa, .. }
        | Event::FirstPacket { sa, .. }
        | Event::PathChanged { sa, .. }) = event;
        // An SA that is gone already has nothing left to be done about.
        let status = if inbound { parts.inbound.sa(sa) } else { parts.outbound.sa(sa) };
        let child = status.and_then(|status| self.children.get(&child_of(status.policy)));
        let is = |installed: &&Installed| installed.is(sa, inbound);
        let installed = child.into_iter().flat_map(ChildEntry::all).filter_map(|id| self.sas.get(id)).find(is);
        let Some((child, encap)) = installed.map(|installed| (installed.child, installed.encap)) else { return };
        match event {
            Event::SoftLifetime { .. } => {
                if let Some(sa) = self.sas.get_mut(&child) {
                    sa.spent = true;
                }
                drop(parts.endpoint.rekey_child(now, child)); // denied: it is being replaced or deleted already
            }
            Event::HardLifetime { .. } => {
                self.close_for(now, child, Cause::of(&Failure::Expired, None), parts.endpoint)
            }
            Event::FirstPacket { .. } => parts.endpoint.heard(now, child),
            // Protocol 50 has no NAT mapping to follow.
            Event::PathChanged { path, .. } if encap == Encap::Udp && path.remote.port() != 0 => {
                parts.endpoint.moved(child, path);
            }
            Event::PathChanged { .. } => {}
        }
    }

    /// Replaces the rules of both engines by one index, which is built before either is touched. What stands afterwards is
    /// what is remembered, so that another try does not take for done what did not fit.
    pub(super) fn place_rules<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        mut new: Vec<Rule>,
        parts: &mut Parts<'_, '_, C, P>,
    ) -> Result<(), Cause> {
        if self.rules == new {
            return Ok(());
        }
        // As many as fit into both, the first ones: what stands behind what is missing must not overrule it.
        let (wanted, room) = (new.len(), parts.outbound.room_for_rules().min(parts.inbound.room_for_rules()));
        new.truncate(room);
        let index = policy::index(&new).map_err(|refused| Cause::not_installed(&refused.to_string()))?;
        let placed = parts.outbound.set_rules(Arc::clone(&index)).and_then(|_| parts.inbound.set_rules(index));
        let placed = if new.len() < wanted { Err(Refused::Full) } else { placed.map(drop) };
        let count = new.len();
        self.rules = new;
        placed.map_err(|refused| Cause::not_installed(&format!("{count} of {wanted} rules are in place: {refused}")))
    }
}
