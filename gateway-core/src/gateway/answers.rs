//! What the data plane tells, taken up.

use alloc::string::ToString;

use ike_core::crypto::IkeCrypto;
use ike_core::event::ChildId;
use ike_core::failure::Failure;
use ipsec_core::net::Encap;
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::plane::{Half, Pair, PlaneEvent, Refused, Usage};
use crate::state::installed::Sending;
use crate::state::usage::Last;
use crate::state::{Gateway, Parts};

impl Gateway {
    /// Takes up one event. An SA that is gone already has nothing left to be done about.
    pub(super) fn plane_event<C: IkeCrypto>(&mut self, now: Instant, event: PlaneEvent, parts: &mut Parts<'_, '_, C>) {
        let Some(event) = self.manual_event(now, event, parts.plane) else { return };
        match event {
            PlaneEvent::Installed { pair, half } => self.installed(now, pair, half, parts),
            PlaneEvent::Refused { pair, half, why } => self.not_installed(now, pair, half, &why, parts),
            PlaneEvent::Removed { pair, half, usage } => self.removed(pair, half, usage),
            PlaneEvent::Used { pair } => {
                if let Some(child) = self.sas.of_pair(pair).map(|sa| sa.child) {
                    self.look_at(now, child, parts);
                }
            }
            PlaneEvent::SoftLifetime { pair, half } => {
                let Some((child, _)) = self.carrying(pair, half) else { return };
                if let Some(sa) = self.sas.get_mut(child) {
                    sa.spent = true;
                }
                drop(parts.endpoint.rekey_child(now, child)); // denied: it is being replaced or deleted already
            }
            PlaneEvent::HardLifetime { pair, half } => {
                let Some((child, _)) = self.carrying(pair, half) else { return };
                self.close_for(now, child, Cause::of(&Failure::Expired, None), parts.endpoint);
            }
            PlaneEvent::FirstPacket { pair } => {
                if let Some((child, _)) = self.carrying(pair, Half::Inbound) {
                    parts.endpoint.heard(now, child);
                }
            }
            PlaneEvent::PathChanged { pair, path } => {
                // Protocol 50 has no NAT mapping to follow.
                if let Some((child, Encap::Udp)) = self.carrying(pair, Half::Inbound)
                    && path.encap() == Encap::Udp
                {
                    parts.endpoint.moved(child, path);
                }
            }
        }
    }

    /// The Child SA that a half belongs to, as long as it is there.
    fn carrying(&self, pair: Pair, half: Half) -> Option<(ChildId, Encap)> {
        let sa = self.sas.of_pair(pair).filter(|sa| sa.has(half))?;
        Some((sa.child, sa.encap))
    }

    /// A half that was asked for is there. With the last one the child is up.
    fn installed<C: IkeCrypto>(&mut self, now: Instant, pair: Pair, half: Half, parts: &mut Parts<'_, '_, C>) {
        let Some(sa) = self.sas.of_pair_mut(pair) else { return };
        let Some(mut underway) = sa.underway.take() else { return };
        *underway.half(half) = false;
        if underway.inbound || underway.outbound {
            sa.underway = Some(underway);
            return;
        }
        let child = sa.child;
        if let Some(report) = underway.up {
            self.came_up(now, child, report, parts);
        }
    }

    /// A half that was asked for will not be there: better no SA than half a one. Of one that was asked to go meanwhile that is
    /// the end.
    fn not_installed<C: IkeCrypto>(
        &mut self,
        now: Instant,
        pair: Pair,
        half: Half,
        why: &Refused,
        parts: &mut Parts<'_, '_, C>,
    ) {
        let Some(sa) = self.sas.of_pair_mut(pair) else {
            return self.removed(pair, half, Usage::default());
        };
        // A repeated answer answers nothing.
        let Some(underway) = sa.underway.as_mut() else { return };
        if !core::mem::take(underway.half(half)) {
            return;
        }
        match half {
            Half::Inbound => sa.inbound = false,
            Half::Outbound => sa.outbound = Sending::Over(Last::default()),
        }
        let (child, config, cause) = (sa.child, sa.config, Cause::not_installed(&why.to_string()));
        match underway.up.take() {
            Some(report) => {
                self.uninstall(now, child, parts);
                drop(parts.endpoint.close_child(now, child)); // denied: it is being deleted
                self.not_up(now, (child, config), report, cause);
            }
            None => self.close_for(now, child, cause, parts.endpoint),
        }
    }
}
