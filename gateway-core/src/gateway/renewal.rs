//! Connections that are made anew beside the one that stands, and whether that helped.
//!
//! A peer may refuse on the connection that stands what it takes with a new one (RFC 7296 §2.8), or refuse it for good. Which
//! of the two shows afterwards: a renewal is judged when the next one is asked for.

use core::time::Duration;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{Endpoint, IkeView};
use ike_core::event::IkeId;
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, PeerId};
use ike_core::registry::ExchangeType;
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::config::Start;
use crate::peers::Peers;
use crate::state::renewal::{Renewal, Renewed};
use crate::state::report::What;
use crate::state::{Gateway, Parts};

/// What is on its way through the SAs of a connection that was made anew may still arrive for as long as this.
pub(super) const DRAIN: Duration = Duration::from_secs(5);
/// A peer that is busy for so long has another state of the connection than we (RFC 7296 §2.25).
const MINUTES: Duration = Duration::from_secs(180);
/// The pause after a renewal that did not help; the first of several.
const RENEWAL: Duration = Duration::from_secs(60);

impl Gateway {
    /// The connection of a peer is to be made anew beside the one that stands, for the sake of this child and with it first; not
    /// again at once when that does not help. After each renewal in vain the pause is twice as long, whichever of the peer's
    /// children it was for. One that stands, and had none in vain itself, is carried on whatever that did for others.
    pub(super) fn renew(&mut self, now: Instant, config: ChildConfigId) -> bool {
        let Some(child) = self.children.get(&config).filter(|child| child.serves()) else { return false };
        let entry = self.peers.get(&child.peer).filter(|entry| !entry.held && entry.renew.is_none());
        let Some(entry) = entry else { return false };
        let judged = entry.renewals.last.as_ref().and_then(|last| Some((last.at, self.helped(last)?)));
        let in_vain = match judged {
            Some((_, false)) => entry.renewals.in_vain.saturating_add(1),
            Some((_, true)) | None => 0,
        };
        let pause = match in_vain.checked_sub(1) {
            Some(times) => RENEWAL.saturating_mul(1u32.checked_shl(times.min(6)).unwrap_or(1)),
            None => DRAIN,
        };
        let early = judged.is_some_and(|(at, _)| at + pause > now);
        let stands = child.uptime.is_some_and(|uptime| match child.renewed_at {
            Some(at) => at + DRAIN <= now && uptime.is_up_since(at),
            None => uptime.until.is_none(),
        });
        if early && !stands {
            return false;
        }
        let others = entry.children.iter().filter(|id| **id != config);
        let up = |id: &&ChildConfigId| self.children.get(id).is_some_and(|child| !child.sas.is_empty());
        let last = Renewed { at: now, child: config, beside: others.filter(up).copied().collect() };
        let Some(entry) = self.peers.get_mut(&child.peer) else { return false };
        if !early {
            (entry.renewals.last, entry.renewals.in_vain) = (Some(last), in_vain);
        }
        entry.renew = Some(Renewal::Refused(config));
        entry.tries.clear(config);
        entry.tries.hurry();
        true
    }

    /// Whether it is on us to make a connection anew: whoever was called waits for the one that calls.
    pub(super) fn makes_anew<C: IkeCrypto>(
        &self,
        peer: PeerId,
        ike: Option<&IkeView>,
        endpoint: &Endpoint<'_, C, Peers>,
    ) -> bool {
        let calls = self.peers.get(&peer).is_some_and(|entry| entry.start != Start::Passive);
        ike.is_some_and(|ike| ike.called) || (calls && !self.is_shared(peer, endpoint))
    }

    /// An IKE SA could not be rekeyed. When its peer has another state than we, it is made anew (RFC 7296 §2.25).
    pub(super) fn ike_rekey_failed<C: IkeCrypto>(
        &mut self,
        now: Instant,
        (ike, peer): (IkeId, PeerId),
        failure: &Failure,
        parts: &mut Parts<'_, '_, C>,
    ) {
        let cause = Cause::of(failure, parts.endpoint.pad().get(peer));
        self.tell(Some(peer), None, What::RekeyFailed, Some(cause.clone()));
        let view = parts.endpoint.ike_sa(ike).filter(|view| is_out_of_step(now, view, failure));
        if let Some(view) = view {
            self.make_anew(now, peer, &view, &cause, parts);
        }
    }

    /// A peer that lives does not answer: nothing else can be asked of it on this IKE SA.
    pub(super) fn unanswered<C: IkeCrypto>(
        &mut self,
        now: Instant,
        (ike, peer): (IkeId, PeerId),
        exchange: ExchangeType,
        parts: &mut Parts<'_, '_, C>,
    ) {
        let Some(view) = parts.endpoint.ike_sa(ike) else { return };
        let repeated = view.waiting.map_or(0, |(_, repeated)| repeated);
        let cause = Cause::unanswered(exchange, view.path.remote, repeated);
        self.tell(Some(peer), None, What::Waiting, Some(cause.clone()));
        let Some(entry) = self.peers.get(&peer) else { return };
        let pause = |times: u32| RENEWAL.saturating_mul(1u32.checked_shl(times.min(6)).unwrap_or(1));
        let before = entry.renewals.unanswered.filter(|(at, times)| *at + pause(*times).saturating_mul(2) > now);
        // Nothing shows that another one would be better than the last was; what would end here cannot wait for long.
        let children = entry.children.iter().filter_map(|id| self.children.get(id));
        let carried = children.flat_map(|child| self.sas_of(child, ike));
        let ends = carried.filter_map(|sa| parts.endpoint.child_sa(sa.child)).any(|view| view.rekey_due);
        let resting = before.is_some_and(|(at, times)| at + if ends { RENEWAL } else { pause(times) } > now);
        if resting && self.carried(peer, ike).is_some() {
            return;
        }
        let renewing = self.peers.get(&peer).is_some_and(|entry| entry.renew.is_some());
        self.make_anew(now, peer, &view, &cause, parts);
        let times = before.map_or(0, |(_, times)| times.saturating_add(1));
        if let Some(entry) = self.peers.get_mut(&peer).filter(|entry| !renewing && entry.renew.is_some()) {
            entry.renewals.unanswered = Some((now, times));
        }
    }

    /// An IKE SA that is no good any more is made anew with what it carries, where that is on us, and closed once it carries
    /// nothing.
    fn make_anew<C: IkeCrypto>(
        &mut self,
        now: Instant,
        peer: PeerId,
        view: &IkeView,
        cause: &Cause,
        parts: &mut Parts<'_, '_, C>,
    ) {
        let Some(child) = self.carried(peer, view.id) else {
            return self.end_ikes(now, peer, &[view.id], cause, parts);
        };
        let newest = self.connection(peer, parts.endpoint).is_some_and(|newest| newest.id == view.id);
        if newest && self.makes_anew(peer, Some(view), parts.endpoint) && self.renew(now, child) {
            self.tell(Some(peer), Some(child), What::Renewing, None);
        }
    }

    /// Whether a renewal helped: the child that it was for came up since, and that child and all that were up beside it are up or
    /// were for long. `None` when the child is gone from the configuration.
    fn helped(&self, last: &Renewed) -> Option<bool> {
        let came = self.children.get(&last.child)?.uptime.is_some_and(|uptime| uptime.newest >= last.at);
        let children = last.beside.iter().chain([&last.child]).filter_map(|id| self.children.get(id));
        let mut uptimes = children.filter_map(|child| child.uptime);
        Some(came && uptimes.all(|uptime| uptime.goes_on(last.at)))
    }

    /// Whether a renewal is for the sake of a child that nobody here wants any more.
    pub(super) fn is_void(&self, renewal: Renewal) -> bool {
        match renewal {
            Renewal::Refused(id) => self.children.get(&id).is_none_or(|child| !child.serves()),
            Renewal::Proof(_) => false,
        }
    }
}

/// Whether the peer refuses something because it was busy on this IKE SA for several minutes: its state is another than ours,
/// and only another IKE SA helps (RFC 7296 §2.25).
pub(super) fn is_out_of_step(now: Instant, ike: &IkeView, failure: &Failure) -> bool {
    failure.is_busy() && ike.busy.is_some_and(|since| since + MINUTES <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn f_61_a_renewal_is_void_once_nobody_here_wants_its_child() {
        let text = "[[peer]]\nname='a'\nlocal='192.0.2.2'\nremote='192.0.2.1'\npsk='a key of more than twenty octets'\n\
                    [[peer.child]]\nname='net'\nlocal-ts='10.2.0.0/16'\nremote-ts='10.1.0.0/16'\n";
        let (mut gateway, _) = Gateway::new(Config::parse(text).unwrap().0);
        let id = gateway.children.iter().next().unwrap().id;
        // A packet may want again what the operator took down.
        for (held, wanted, void) in [(false, false, false), (true, false, true), (true, true, false)] {
            let child = gateway.children.get_mut(&id).unwrap();
            (child.held, child.wanted) = (held, wanted);
            assert_eq!(gateway.is_void(Renewal::Refused(id)), void, "held {held}, wanted {wanted}");
            assert!(!gateway.is_void(Renewal::Proof(id)), "the peer wants to know who we are");
        }
        gateway.children.take();
        assert!(gateway.is_void(Renewal::Refused(id)));
    }
}
