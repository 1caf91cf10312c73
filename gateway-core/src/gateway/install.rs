//! Child SAs into the data plane, and what is kept of each while it is there.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::Endpoint;
use ike_core::event::{ChildId, ChildUp, IkeId, Party};
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::crypto::AeadAlg;
use ipsec_core::error;
use ipsec_core::net::{Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::Rule;
use ipsec_core::time::Instant;
use zeroize::Zeroizing;

use super::Gateway;
use super::report::Report;
use super::silence::Silence;
use super::usage::{Account, Last, Totals};
use crate::cause::Cause;
use crate::peers::Peers;
use crate::plane::{DataPlane, Half, Incomplete, Pair, Progress, Refused, Usage};
use crate::policy::policy_of;

/// A Child SA in the data plane.
pub(super) struct Installed {
    pub(super) child: ChildId,
    pub(super) ike: IkeId,
    pub(super) peer: PeerId,
    pub(super) config: ChildConfigId,
    /// Who is at its other end.
    pub(super) party: Party,
    /// On whose account it goes: known when it is entered, as IKE cannot be asked while it lends keys.
    pub(super) account: Arc<Account>,
    /// We asked for it, or for the first of those whose rekeys led to it.
    pub(super) ours: bool,
    /// What the data plane calls it.
    pub(super) pair: Pair,
    pub(super) spi_in: Spi,
    pub(super) spi_out: Spi,
    /// Whether its receiving half is in the data plane, or will be.
    pub(super) inbound: bool,
    pub(super) outbound: Sending,
    /// What the data plane has not answered yet.
    pub(super) underway: Option<Box<Underway>>,
    pub(super) encap: Encap,
    /// See [`Installed::selectors`].
    local: Box<[TrafficSelector]>,
    remote: Box<[TrafficSelector]>,
    /// When it came.
    pub(super) came: Instant,
    /// When it came, or what it replaced or carries on was last used.
    pub(super) since: Instant,
    pub(super) silence: Silence,
    /// When it is looked at.
    pub(super) look_at: Option<Instant>,
    /// Rekeys of it that were refused.
    pub(super) refused: u32,
    /// An amount of it is used up but for a quarter, which may pass in no time.
    pub(super) spent: bool,
    /// Why we had IKE delete it, when nobody here wished for that.
    pub(super) ended: Option<Cause>,
}

/// The sending half.
pub(super) enum Sending {
    /// In the data plane, or will be.
    Through,
    /// The peer began the rekey: to be used when it uses it too (RFC 7296 §2.8).
    Later(Box<Waiting>),
    /// Gone before the receiving half, which drains.
    Over(Last),
}

/// A data plane that answers later was asked for halves, and for these has not.
pub(super) struct Underway {
    pub(super) inbound: bool,
    pub(super) outbound: bool,
    /// To be told when both are there.
    pub(super) up: Option<Report>,
}

impl Underway {
    fn of(inbound: Progress, outbound: Progress) -> Option<Box<Self>> {
        let [inbound, outbound] = [inbound, outbound].map(|half| half == Progress::Underway);
        (inbound || outbound).then(|| Box::new(Self { inbound, outbound, up: None }))
    }

    /// Whether this half is waited for.
    pub(super) fn half(&mut self, half: Half) -> &mut bool {
        match half {
            Half::Inbound => &mut self.inbound,
            Half::Outbound => &mut self.outbound,
        }
    }
}

/// An outbound SA to be.
pub(super) struct Waiting {
    spi: Spi,
    mode: Mode,
    alg: AeadAlg,
    keymat: Zeroizing<Vec<u8>>,
    esn: bool,
    path: Path,
    local: Vec<TrafficSelector>,
    remote: Vec<TrafficSelector>,
    lifetime: Lifetime,
}

/// What a Child SA has besides what was negotiated.
pub(super) struct Terms {
    pub(super) pair: Pair,
    pub(super) lifetime: Lifetime,
    /// Size of the anti-replay window in packets.
    pub(super) window: u16,
}

/// Installs what was negotiated: the receiving half at once, the sending half when it may be used.
pub(super) fn install(
    now: Instant,
    up: &ChildUp<'_>,
    terms: &Terms,
    plane: &mut dyn DataPlane,
) -> Result<Installed, Refused> {
    let Terms { pair, lifetime, window } = *terms;
    let params = InboundParams {
        sa: Params {
            spi: up.spi_in,
            mode: up.mode,
            alg: up.aead().ok_or(error::Refused::Algorithm)?,
            keymat: up.key_in,
            esn: up.suite.esn,
            path: up.path,
            encap: up.encap,
            policy: policy_of(up.config),
            local_ts: up.local,
            remote_ts: up.remote,
            lifetime,
        },
        window: usize::from(window),
        highest_seen: 0,
    };
    let receiving = plane.install_inbound(now, pair, &params)?;
    let sa = Params { spi: up.spi_out, keymat: up.key_out, ..params.sa };
    let sending = match up.outbound_ready {
        true => install_outbound(now, pair, sa, plane).map(|progress| (Sending::Through, progress)),
        // Only what has to wait needs a key of its own: the other one goes from where it was made to where it stays.
        false => Ok((Sending::Later(Box::new(Waiting::of(&sa))), Progress::Done)),
    };
    let (outbound, sending) = sending.inspect_err(|_| {
        plane.remove(pair, Half::Inbound); // nothing went through it
    })?;
    Ok(Installed {
        child: up.child,
        ike: up.ike,
        peer: up.peer,
        config: up.config,
        party: up.party,
        account: Arc::default(),
        ours: up.ours,
        pair,
        spi_in: up.spi_in,
        spi_out: up.spi_out,
        inbound: true,
        outbound,
        underway: Underway::of(receiving, sending),
        encap: up.encap,
        local: up.local.into(),
        remote: up.remote.into(),
        came: now,
        since: now,
        silence: Silence::default(),
        look_at: None,
        refused: 0,
        spent: false,
        ended: None,
    })
}

/// A fresh key out of IKE: nothing was ever sent under it.
fn install_outbound(now: Instant, pair: Pair, sa: Params<'_>, plane: &mut dyn DataPlane) -> Result<Progress, Refused> {
    let params = OutboundParams { sa, last_sent: 0, copy_dscp: true, dont_fragment: DontFragment::Clear };
    plane.install_outbound(now, pair, &params)
}

impl Waiting {
    fn of(sa: &Params<'_>) -> Self {
        Self {
            spi: sa.spi,
            mode: sa.mode,
            alg: sa.alg,
            keymat: Zeroizing::new(sa.keymat.to_vec()),
            esn: sa.esn,
            path: sa.path,
            local: sa.local_ts.to_vec(),
            remote: sa.remote_ts.to_vec(),
            lifetime: sa.lifetime,
        }
    }

    fn install(
        &self,
        now: Instant,
        pair: Pair,
        config: ChildConfigId,
        encap: Encap,
        plane: &mut dyn DataPlane,
    ) -> Result<Progress, Refused> {
        let sa = Params {
            spi: self.spi,
            mode: self.mode,
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
        install_outbound(now, pair, sa, plane)
    }
}

impl Installed {
    /// Sends through this SA from now on.
    pub(super) fn send_through(&mut self, now: Instant, plane: &mut dyn DataPlane) -> Result<(), Refused> {
        if let Sending::Later(waiting) = &self.outbound {
            let progress = waiting.install(now, self.pair, self.config, self.encap, plane)?;
            self.outbound = Sending::Through;
            match &mut self.underway {
                Some(underway) => underway.outbound = progress == Progress::Underway,
                None => self.underway = Underway::of(Progress::Done, progress),
            }
        }
        Ok(())
    }

    /// The peer is reached on another path.
    pub(super) fn move_to(&mut self, path: Path, plane: &mut dyn DataPlane) {
        plane.move_path(self.pair, Half::Inbound, path, self.encap);
        match &mut self.outbound {
            Sending::Through => plane.move_path(self.pair, Half::Outbound, path, self.encap),
            Sending::Later(waiting) => waiting.path = path,
            Sending::Over(_) => {}
        }
    }

    /// Sends nothing through this SA any more, and receives on.
    pub(super) fn drain(&mut self, plane: &mut dyn DataPlane) {
        let last = match self.outbound {
            Sending::Through => Last::of(self.pair, Half::Outbound, plane),
            Sending::Later(_) => Last::default(),
            Sending::Over(last) => last,
        };
        self.outbound = Sending::Over(last);
    }

    /// Whether this half is in the data plane, or will be.
    pub(super) fn has(&self, half: Half) -> bool {
        match half {
            Half::Inbound => self.inbound,
            Half::Outbound => matches!(self.outbound, Sending::Through),
        }
    }

    /// Of our side and of the peer's, as they were negotiated.
    pub(super) fn selectors(&self) -> (&[TrafficSelector], &[TrafficSelector]) {
        (&self.local, &self.remote)
    }

    /// Whether what comes through one SA may answer what goes through the other.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.selectors(), other.selectors());
        self.party == other.party && meet(ours.0, theirs.0) && meet(ours.1, theirs.1)
    }

    /// What was received so far.
    fn received(&self, plane: &dyn DataPlane) -> Usage {
        plane.usage(self.pair, Half::Inbound).filter(|_| self.inbound).unwrap_or_default()
    }

    /// What was sent so far.
    fn sent(&self, plane: &dyn DataPlane) -> Usage {
        let usage = match &self.outbound {
            Sending::Through => plane.usage(self.pair, Half::Outbound),
            Sending::Over(last) => Some(last.usage),
            Sending::Later(_) => None,
        };
        usage.unwrap_or_default()
    }

    /// What went through so far.
    pub(super) fn totals(&self, plane: &dyn DataPlane) -> Totals {
        Totals::of(self.received(plane), self.sent(plane))
    }

    /// When the last packet came in.
    pub(super) fn last_heard(&self, plane: &dyn DataPlane) -> Option<Instant> {
        self.received(plane).last_used
    }

    /// When the last packet went out.
    pub(super) fn last_sent(&self, plane: &dyn DataPlane) -> Option<Instant> {
        self.sent(plane).last_used
    }

    /// When a packet last went through it, or through what it replaced; else when that came.
    pub(super) fn last_used(&self, plane: &dyn DataPlane) -> Instant {
        [self.last_heard(plane), self.last_sent(plane)].into_iter().flatten().fold(self.since, Instant::max)
    }
}

fn meet(some: &[TrafficSelector], others: &[TrafficSelector]) -> bool {
    some.iter().any(|one| others.iter().any(|other| one.intersect(other).is_some()))
}

impl Gateway {
    /// A number for a pair of SAs.
    pub(super) fn next_pair(&mut self) -> Pair {
        self.last_pair = self.last_pair.saturating_add(1);
        Pair(self.last_pair)
    }

    /// When that was last used what a new SA carries on from another connection with the same party.
    pub(super) fn used_before(&self, new: &Installed, plane: &dyn DataPlane) -> Option<Instant> {
        self.elsewhere(new).map(|other| other.last_used(plane)).max()
    }

    /// Whether a newer SA over another connection with the same party carries on what this one does.
    pub(super) fn is_carried_on(&self, sa: &Installed) -> bool {
        self.elsewhere(sa).any(|other| other.came > sa.came)
    }

    /// The SAs over other connections with the same party that carry what this one does.
    fn elsewhere(&self, sa: &Installed) -> impl Iterator<Item = &Installed> {
        let others = self.children.get(&sa.config).into_iter().flat_map(|child| self.sas_with(child, sa.party));
        others.filter(move |other| other.ike != sa.ike && other.meets(sa))
    }

    /// Has IKE delete a Child SA that is in the data plane, and says why when it is gone.
    pub(super) fn close_for<C: IkeCrypto>(
        &mut self,
        now: Instant,
        child: ChildId,
        cause: Cause,
        endpoint: &mut Endpoint<'_, C, Peers>,
    ) {
        drop(endpoint.close_child(now, child)); // denied: it is being deleted
        if let Some(sa) = self.sas.get_mut(child) {
            sa.ended = Some(cause);
        }
    }

    /// Replaces the rules. What stands afterwards is what is remembered, so that another try does not take for done what did
    /// not fit.
    pub(super) fn place_rules(&mut self, mut new: Vec<Rule>, plane: &mut dyn DataPlane) -> Result<(), Cause> {
        if self.rules == new {
            return Ok(());
        }
        let wanted = new.len();
        let outcome = plane.set_rules(&new);
        new.truncate(outcome.as_ref().err().map_or(wanted, |incomplete| incomplete.placed));
        self.rules = new;
        outcome.map_err(|Incomplete { placed, why }| {
            Cause::not_installed(&format!("{placed} of {wanted} rules are in place: {why}"))
        })
    }
}
