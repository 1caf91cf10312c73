//! A peer that lives and whose SAs are dead: it lost them, and nothing of what we send arrives.
//!
//! IKE answers, so liveness checks see nothing. What shows it is that packets go out and none comes in, where some came in
//! before. One rekey then brings fresh SAs to both sides, or a new connection where the peer refuses that. Traffic that is
//! one-way by nature looks alike: it costs one rekey, and no other before something came in again. Each SA is looked at for
//! itself: those of a child may be for other hosts, or lead to another party.

use core::time::Duration;

use ike_core::crypto::IkeCrypto;
use ipsec_core::crypto::PacketCrypto;
use ipsec_core::net::TrafficSelector;
use ipsec_core::time::Instant;

use super::install::Installed;
use super::report::What;
use super::silence::Silence;
use super::{Gateway, Parts};
use crate::cause::Cause;
use crate::policy::Inbound;

/// An SA is not rekeyed for its silence more often than once in so many liveness intervals.
const REST: u32 = 10;

impl Installed {
    /// What replaces this SA has been heard as this was, and was rekeyed for its silence when this was.
    pub(super) fn silence_handed_on<P: PacketCrypto>(&self, inbound: &Inbound<'_, P>) -> Silence {
        let mut silence = self.silence;
        silence.hear(silence.heard.max(self.last_heard(inbound)));
        silence
    }

    /// Whether what comes through one SA may answer what goes through the other.
    pub(super) fn meets<P: PacketCrypto>(&self, other: &Self, inbound: &Inbound<'_, P>) -> bool {
        let selectors = inbound.selectors(self.inbound).zip(inbound.selectors(other.inbound));
        let meet = selectors.is_some_and(|(one, other)| meet(one.0, other.0) && meet(one.1, other.1));
        meet && self.party == other.party
    }

    /// Whether it is being rekeyed for its silence, and nothing came in since.
    pub(super) fn probed_in_vain<P: PacketCrypto>(&self, inbound: &Inbound<'_, P>) -> bool {
        let since = inbound.sa(self.inbound).map(|status| status.since);
        self.silence.probed > since.max(self.last_heard(inbound))
    }
}

impl Gateway {
    /// Tells IKE of the signs of life that the data plane saw. [`Gateway::handle_timeout`] does so; an appliance that calls
    /// [`Endpoint::handle_timeout`](ike_core::endpoint::Endpoint::handle_timeout) itself, without locks on the engines, does
    /// it before.
    pub fn credit<C: IkeCrypto, P: PacketCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C, P>) {
        self.look_at = None;
        for (id, sa) in &mut self.sas {
            let interval = parts.endpoint.pad().get(sa.peer).map_or(Duration::ZERO, |peer| peer.dpd);
            let last = sa.last_heard(parts.inbound).filter(|last| Some(*last) > sa.silence.heard);
            if let Some(last) = last {
                sa.silence.hear(Some(last));
                parts.endpoint.heard(last, *id);
            }
            if interval.is_zero() {
                continue;
            }
            let sent = sa.last_sent(parts.outbound);
            self.silent.extend(sa.silence.look(now, sent, interval).map(|since| (*id, since)));
            let next = sa.silence.next(now, interval);
            self.look_at = Some(self.look_at.map_or(next, |at| at.min(next)));
        }
    }

    /// Rekeys what sends and hears nothing.
    pub(super) fn probe<C: IkeCrypto, P: PacketCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C, P>) {
        for (id, since) in core::mem::take(&mut self.silent) {
            let Some(sa) = self.sas.get(&id) else { continue };
            // Where IKE waits for an answer too, that shows whether the peer is away altogether. Whoever has to be asked
            // again says nothing of the way of ESP, and is looked at anew.
            match parts.endpoint.ike_sa(sa.ike).and_then(|ike| ike.waiting) {
                Some((_, 0)) => {
                    self.silent.push((id, since));
                    continue;
                }
                Some(_) => continue,
                None => {}
            }
            let (peer, config, probed) = (sa.peer, sa.config, sa.silence.probed);
            let interval = parts.endpoint.pad().get(peer).map_or(Duration::ZERO, |peer| peer.dpd);
            if probed.is_some_and(|at| at + interval.saturating_mul(REST) > now) {
                continue;
            }
            let heard = self.heard_for(sa, parts.inbound);
            // The peer may use another one. Where nothing came in since it was tried last, it is not tried again.
            if heard > Some(since) || heard <= probed || parts.endpoint.rekey_child(now, id).is_err() {
                continue; // an error: it is being replaced already
            }
            let Some(sa) = self.sas.get_mut(&id) else { continue };
            sa.silence.probed = Some(now);
            self.tell(Some(peer), Some(config), What::Waiting, Some(Cause::one_way()));
        }
    }

    /// When this SA was last heard, or another one that may carry the answers to what goes through it.
    fn heard_for<P: PacketCrypto>(&self, sa: &Installed, inbound: &Inbound<'_, P>) -> Option<Instant> {
        let child = self.children.get(&sa.config);
        let others = child.into_iter().flat_map(|child| &child.sas).filter_map(|id| self.sas.get(id));
        let others = others.filter(|other| other.meets(sa, inbound));
        others.chain([sa]).map(|sa| sa.silence_handed_on(inbound).heard).max().flatten()
    }

    /// Those that carry on what an SA did that is `gone` are judged by what it heard, as one that replaces it is: of several
    /// the peer may have sent through this one alone, and have lost the others. One that `stood`, and was not replaced, says
    /// that the peer was there when it came up, although nothing was heard on it.
    pub(super) fn hand_silence_on<P: PacketCrypto>(&mut self, gone: &Installed, stood: bool, inbound: &Inbound<'_, P>) {
        let mut silence = gone.silence_handed_on(inbound);
        if let (true, None, Some(status)) = (stood, silence.heard, inbound.sa(gone.inbound)) {
            silence.hear(Some(status.since));
        }
        for id in self.children.get(&gone.config).into_iter().flat_map(|child| &child.sas) {
            if let Some(sa) = self.sas.get_mut(id).filter(|sa| sa.meets(gone, inbound)) {
                sa.silence.take_over(silence);
            }
        }
    }
}

fn meet(some: &[TrafficSelector], others: &[TrafficSelector]) -> bool {
    some.iter().any(|one| others.iter().any(|other| one.intersect(other).is_some()))
}
