//! Child SAs into the data plane, and what is kept of each while it is there.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use ike_core::event::{ChildId, ChildUp, IkeId, Party};
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::crypto::Protection;
use ipsec_core::net::{Cpi, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params, TfcPadding};
use ipsec_core::time::Instant;
use zeroize::Zeroizing;

use super::report::Report;
use super::silence::Silence;
use super::usage::{Account, Last, Totals};
use crate::cause::Cause;
use crate::config::Child;
use crate::plane::{DataPlane, Half, Pair, Progress, Refused, Usage};
use crate::policy::policy_of;

/// A Child SA in the data plane.
pub(crate) struct Installed {
    pub(crate) child: ChildId,
    pub(crate) ike: IkeId,
    pub(crate) peer: PeerId,
    pub(crate) config: ChildConfigId,
    /// Who is at its other end.
    pub(crate) party: Party,
    /// On whose account it goes: known when it is entered, as IKE cannot be asked while it lends keys.
    pub(crate) account: Arc<Account>,
    /// We asked for it, or for the first of those whose rekeys led to it.
    pub(crate) ours: bool,
    /// What the data plane calls it.
    pub(crate) pair: Pair,
    pub(crate) spi_in: Spi,
    pub(crate) spi_out: Spi,
    /// Whether its receiving half is in the data plane, or will be.
    pub(crate) inbound: bool,
    pub(crate) outbound: Sending,
    /// What the data plane has not answered yet.
    pub(crate) underway: Option<Box<Underway>>,
    pub(crate) encap: Encap,
    /// What it carries may be compressed.
    pub(crate) compressed: bool,
    /// What it sends looks longer than it is.
    pub(crate) padded: bool,
    /// See [`Installed::selectors`].
    local: Box<[TrafficSelector]>,
    remote: Box<[TrafficSelector]>,
    /// When it came.
    pub(crate) came: Instant,
    /// When it came, or what it replaced or carries on was last used.
    pub(crate) since: Instant,
    pub(crate) silence: Silence,
    /// When it is looked at.
    pub(crate) look_at: Option<Instant>,
    /// Rekeys of it that were refused.
    pub(crate) refused: u32,
    /// An amount of it is used up but for a quarter, which may pass in no time.
    pub(crate) spent: bool,
    /// It only receives what is on its way, after another one took its place.
    pub(crate) drains: bool,
    /// An address of the peer's side is this party's alone: one that has no SA for it must not have its packets.
    pub(crate) alone: bool,
    /// Why we had IKE delete it, when nobody here wished for that.
    pub(crate) ended: Option<Cause>,
}

/// The sending half.
pub(crate) enum Sending {
    /// In the data plane, or will be.
    Through,
    /// The peer began the rekey: to be used when it uses it too (RFC 7296 §2.8).
    Later(Box<Waiting>),
    /// Gone before the receiving half, which drains.
    Over(Last),
}

/// A data plane that answers later was asked for halves, and for these has not.
pub(crate) struct Underway {
    pub(crate) inbound: bool,
    pub(crate) outbound: bool,
    /// To be told when both are there.
    pub(crate) up: Option<Report>,
}

impl Underway {
    fn of(inbound: Progress, outbound: Progress) -> Option<Box<Self>> {
        let [inbound, outbound] = [inbound, outbound].map(|half| half == Progress::Underway);
        (inbound || outbound).then(|| Box::new(Self { inbound, outbound, up: None }))
    }

    /// Whether this half is waited for.
    pub(crate) fn half(&mut self, half: Half) -> &mut bool {
        match half {
            Half::Inbound => &mut self.inbound,
            Half::Outbound => &mut self.outbound,
        }
    }
}

/// An outbound SA to be.
pub(crate) struct Waiting {
    spi: Spi,
    mode: Mode,
    protection: Protection,
    keymat: Zeroizing<Vec<u8>>,
    esn: bool,
    path: Path,
    local: Vec<TrafficSelector>,
    remote: Vec<TrafficSelector>,
    lifetime: Lifetime,
    compression: Option<Cpi>,
    looks: Looks,
}

/// How what a child sends looks from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looks {
    /// Of outer IPv4 headers.
    dont_fragment: DontFragment,
    padding: TfcPadding,
}

impl Looks {
    /// As it is configured.
    pub(crate) const fn wanted(child: &Child) -> Self {
        let padding = match child.tfc_padding {
            Some(len) => TfcPadding::Length(len),
            None => TfcPadding::None,
        };
        Self { dont_fragment: child.dont_fragment, padding }
    }

    /// As it may be with a peer that takes padding, or does not.
    pub(crate) fn with_peer(self, takes_padding: bool) -> Self {
        let padding = if takes_padding { self.padding } else { TfcPadding::None };
        Self { padding, ..self }
    }

    /// Whether what it sends looks longer than it is.
    pub(crate) fn is_padded(self) -> bool {
        self.padding != TfcPadding::None
    }
}

/// What a Child SA has besides what was negotiated.
pub(crate) struct Terms {
    pub(crate) pair: Pair,
    pub(crate) lifetime: Lifetime,
    /// Size of the anti-replay window in packets.
    pub(crate) window: u16,
    pub(crate) looks: Looks,
    /// See [`Installed::alone`].
    pub(crate) alone: bool,
}

/// Installs what was negotiated: the receiving half at once, the sending half when it may be used.
pub(crate) fn install(
    now: Instant,
    up: &ChildUp<'_>,
    terms: &Terms,
    plane: &mut dyn DataPlane,
) -> Result<Installed, Refused> {
    let Terms { pair, lifetime, window, looks, alone } = *terms;
    let (ours, theirs) = up.compression.unzip();
    let params = InboundParams {
        sa: Params {
            spi: up.spi_in,
            mode: up.mode,
            protection: up.suite.protection,
            keymat: up.key_in,
            esn: up.suite.esn,
            path: up.path,
            encap: up.encap,
            policy: policy_of(up.config),
            local_ts: up.local,
            remote_ts: up.remote,
            lifetime,
            compression: ours,
        },
        window: usize::from(window),
        highest_seen: 0,
    };
    let receiving = plane.install_inbound(now, pair, &params)?;
    let sa = Params { spi: up.spi_out, keymat: up.key_out, compression: theirs, ..params.sa };
    let sending = match up.outbound_ready {
        true => install_outbound(now, pair, sa, looks, plane).map(|progress| (Sending::Through, progress)),
        // Only what has to wait needs a key of its own: the other one goes from where it was made to where it stays.
        false => Ok((Sending::Later(Box::new(Waiting::of(&sa, looks))), Progress::Done)),
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
        compressed: up.compression.is_some(),
        padded: looks.is_padded(),
        local: up.local.into(),
        remote: up.remote.into(),
        alone,
        came: now,
        since: now,
        silence: Silence::default(),
        look_at: None,
        refused: 0,
        spent: false,
        drains: false,
        ended: None,
    })
}

/// A fresh key out of IKE: nothing was ever sent under it.
fn install_outbound(
    now: Instant,
    pair: Pair,
    sa: Params<'_>,
    Looks { dont_fragment, padding }: Looks,
    plane: &mut dyn DataPlane,
) -> Result<Progress, Refused> {
    let params = OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment };
    plane.install_outbound(now, pair, &params, padding)
}

impl Waiting {
    fn of(sa: &Params<'_>, looks: Looks) -> Self {
        Self {
            spi: sa.spi,
            mode: sa.mode,
            protection: sa.protection,
            keymat: Zeroizing::new(sa.keymat.to_vec()),
            esn: sa.esn,
            path: sa.path,
            local: sa.local_ts.to_vec(),
            remote: sa.remote_ts.to_vec(),
            lifetime: sa.lifetime,
            compression: sa.compression,
            looks,
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
            protection: self.protection,
            keymat: &self.keymat,
            esn: self.esn,
            path: self.path,
            encap,
            policy: policy_of(config),
            local_ts: &self.local,
            remote_ts: &self.remote,
            lifetime: self.lifetime,
            compression: self.compression,
        };
        install_outbound(now, pair, sa, self.looks, plane)
    }
}

impl Installed {
    /// Sends through this SA from now on.
    pub(crate) fn send_through(&mut self, now: Instant, plane: &mut dyn DataPlane) -> Result<(), Refused> {
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
    pub(crate) fn move_to(&mut self, path: Path, plane: &mut dyn DataPlane) {
        plane.move_path(self.pair, Half::Inbound, path, self.encap);
        match &mut self.outbound {
            Sending::Through => plane.move_path(self.pair, Half::Outbound, path, self.encap),
            Sending::Later(waiting) => waiting.path = path,
            Sending::Over(_) => {}
        }
    }

    /// Sends nothing through this SA any more, and receives on.
    pub(super) fn drain(&mut self, plane: &mut dyn DataPlane) {
        self.drains = true;
        let last = match self.outbound {
            Sending::Through => Last::of(self.pair, Half::Outbound, plane),
            Sending::Later(_) => Last::default(),
            Sending::Over(last) => last,
        };
        self.outbound = Sending::Over(last);
    }

    /// Whether this half is in the data plane, or will be.
    pub(crate) fn has(&self, half: Half) -> bool {
        match half {
            Half::Inbound => self.inbound,
            Half::Outbound => matches!(self.outbound, Sending::Through),
        }
    }

    /// Of our side and of the peer's, as they were negotiated.
    pub(crate) fn selectors(&self) -> (&[TrafficSelector], &[TrafficSelector]) {
        (&self.local, &self.remote)
    }

    /// Whether what comes through one SA may answer what goes through the other.
    pub(crate) fn meets(&self, other: &Self) -> bool {
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
    pub(crate) fn totals(&self, plane: &dyn DataPlane) -> Totals {
        Totals::of(self.received(plane), self.sent(plane))
    }

    /// When the last packet came in.
    pub(crate) fn last_heard(&self, plane: &dyn DataPlane) -> Option<Instant> {
        self.received(plane).last_used
    }

    /// When the last packet went out.
    pub(crate) fn last_sent(&self, plane: &dyn DataPlane) -> Option<Instant> {
        self.sent(plane).last_used
    }

    /// When a packet last went through it, or through what it replaced; else when that came.
    pub(crate) fn last_used(&self, plane: &dyn DataPlane) -> Instant {
        [self.last_heard(plane), self.last_sent(plane)].into_iter().flatten().fold(self.since, Instant::max)
    }
}

fn meet(some: &[TrafficSelector], others: &[TrafficSelector]) -> bool {
    some.iter().any(|one| others.iter().any(|other| one.intersect(other).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_take_padding_gets_none() {
        let looks = Looks { dont_fragment: DontFragment::Set, padding: TfcPadding::Length(500) };
        for (takes, padding) in [(true, TfcPadding::Length(500)), (false, TfcPadding::None)] {
            let with_peer = looks.with_peer(takes);
            assert_eq!((with_peer.padding, with_peer.is_padded()), (padding, takes));
            assert_eq!(with_peer.dont_fragment, DontFragment::Set);
        }
    }
}
