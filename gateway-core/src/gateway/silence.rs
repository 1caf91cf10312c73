//! A peer that lives and whose SAs are dead: it lost them, and nothing of what we send arrives.
//!
//! IKE answers, so liveness checks see nothing. What shows it is that packets go out and none comes in, where some came in
//! before. One rekey of the child then brings fresh SAs to both sides, or a new connection where the peer refuses that.
//! Traffic that is one-way by nature looks alike: it costs one rekey, and no other before something came in again.

use core::time::Duration;

use ike_core::crypto::IkeCrypto;
use ipsec_core::crypto::PacketCrypto;
use ipsec_core::time::Instant;

use super::install::Installed;
use super::report::What;
use super::{Gateway, Parts};
use crate::cause::Cause;

/// A child is not rekeyed for its silence more often than once in so many liveness intervals.
const REST: u32 = 10;

impl Gateway {
    /// Tells IKE of the signs of life that the data plane saw. [`Gateway::handle_timeout`] does so; an appliance that calls
    /// [`Endpoint::handle_timeout`](ike_core::endpoint::Endpoint::handle_timeout) itself, without locks on the engines, does
    /// it before.
    pub fn credit<C: IkeCrypto, P: PacketCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C, P>) {
        self.look_at = None;
        for (id, sa) in &mut self.sas {
            let interval = parts.endpoint.pad().get(sa.peer).map_or(Duration::ZERO, |peer| peer.dpd);
            let last = sa.last_heard(parts.inbound);
            if let Some(last) = last.filter(|_| last > sa.heard) {
                sa.heard = Some(last);
                sa.unanswered = None;
                parts.endpoint.heard(last, *id);
                if let Some(child) = self.children.get_mut(&sa.config) {
                    child.answered = true;
                }
            }
            let sent = sa.last_sent(parts.outbound).filter(|sent| Some(*sent) > sa.heard);
            let waits = sent.map(|sent| (sent, *sa.unanswered.get_or_insert(sent)));
            if interval.is_zero() {
                continue;
            }
            // One packet waits for an answer as long as this, and the last of those behind it was not sent only now.
            if waits
                .is_some_and(|(sent, since)| since + interval <= now && sent.since(since).saturating_mul(2) >= interval)
            {
                self.silent.push(*id);
            }
            let over = waits.map(|(_, since)| since + interval).filter(|over| *over > now);
            let next = over.unwrap_or(now + interval);
            self.look_at = Some(self.look_at.map_or(next, |at| at.min(next)));
        }
    }

    /// Rekeys what sends and hears nothing.
    pub(super) fn probe<C: IkeCrypto, P: PacketCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C, P>) {
        while let Some(id) = self.silent.pop() {
            let Some(sa) = self.sas.get(&id) else { continue };
            let (peer, config, party, since) = (sa.peer, sa.config, sa.party, sa.unanswered);
            // Another SA of the child may be the one that the peer uses.
            let heard = |sa: &Installed| sa.party == party && sa.heard > since;
            let Some(child) = self.children.get_mut(&config) else { continue };
            let others = child.sas.iter().filter_map(|sa| self.sas.get(sa)).any(heard);
            if others || !child.answered || child.probe_after.is_some_and(|at| at > now) {
                continue;
            }
            if parts.endpoint.rekey_child(now, id).is_err() {
                continue; // it is being replaced already
            }
            let interval = parts.endpoint.pad().get(peer).map_or(Duration::ZERO, |peer| peer.dpd);
            child.answered = false;
            child.probe_after = Some(now + interval.saturating_mul(REST));
            self.tell(Some(peer), Some(config), What::Waiting, Some(Cause::one_way()));
        }
    }
}
