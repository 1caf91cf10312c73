//! A peer that lives and whose SAs are dead: it lost them, and nothing of what we send arrives.
//!
//! IKE answers, so liveness checks see nothing. What shows it is that packets go out and none comes in, where some came in
//! before. One rekey then brings fresh SAs to both sides, or a new connection where the peer refuses that. Traffic that is
//! one-way by nature looks alike: it costs one rekey, and no other before something came in again. Each SA is looked at for
//! itself: those of a child may be for other hosts, or lead to another party.

use core::time::Duration;

use ike_core::crypto::IkeCrypto;
use ike_core::event::ChildId;
use ipsec_core::time::Instant;

use crate::cause::Cause;
use crate::plane::DataPlane;
use crate::state::installed::Installed;
use crate::state::report::What;
use crate::state::silence::Silence;
use crate::state::{Gateway, Parts};

/// An SA is not rekeyed for its silence more often than once in so many liveness intervals.
const REST: u32 = 10;

/// How long a sign of life that came through an SA may be unknown to IKE,
const REFRESH: Duration = Duration::from_secs(5);
/// and while IKE waits for an answer: who is heard is not taken for gone. That takes several times as long as the other.
const WAITING: Duration = Duration::from_secs(1);

impl Installed {
    /// What replaces this SA has been heard as this was, and was rekeyed for its silence when this was.
    pub(super) fn silence_handed_on(&self, plane: &dyn DataPlane) -> Silence {
        let mut silence = self.silence;
        silence.hear(silence.heard.max(self.last_heard(plane)));
        silence
    }

    /// Whether it is being rekeyed for its silence, and nothing came in since.
    pub(super) fn probed_in_vain(&self, plane: &dyn DataPlane) -> bool {
        self.silence.probed > Some(self.came).max(self.last_heard(plane))
    }
}

impl Gateway {
    /// Looks at the SAs that are due for it.
    pub(super) fn look<C: IkeCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C>) {
        while let Some((_, child)) = self.looks.first().filter(|(at, _)| *at <= now).copied() {
            self.look_at(now, child, parts);
        }
    }

    /// Tells IKE of the signs of life that came through an SA, and sees whether it is silent. Looks again before IKE asks the
    /// peer for a sign of life: not for want of one that is here.
    pub(super) fn look_at<C: IkeCrypto>(&mut self, now: Instant, child: ChildId, parts: &mut Parts<'_, '_, C>) {
        let Some(sa) = self.sas.get_mut(child) else { return };
        let last = sa.last_heard(parts.plane).filter(|last| Some(*last) > sa.silence.heard);
        if let Some(last) = last {
            sa.silence.hear(Some(last));
            parts.endpoint.heard(last, child);
        }
        let ike = parts.endpoint.ike_sa(sa.ike);
        let waits = ike.is_some_and(|ike| ike.waiting.is_some());
        let mut next = now + if waits { WAITING } else { REFRESH };
        let interval = parts.endpoint.pad().get(sa.peer).map_or(Duration::ZERO, |peer| peer.dpd);
        if !interval.is_zero() {
            let sent = sa.last_sent(parts.plane);
            let silent = sa.silence.put_off.take().or_else(|| sa.silence.look(now, sent, interval));
            self.silent.extend(silent.map(|since| (child, since)));
            let asked = ike.and_then(|ike| ike.heard).map(|heard| heard + interval).filter(|at| *at > now);
            next = next.min(sa.silence.next(now, interval)).min(asked.unwrap_or(next));
        }
        if let Some(before) = sa.look_at.replace(next) {
            self.looks.remove(&(before, child));
        }
        self.looks.insert((next, child));
    }

    /// Rekeys what sends and hears nothing.
    pub(super) fn probe<C: IkeCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C>) {
        for (id, since) in core::mem::take(&mut self.silent) {
            let Some(sa) = self.sas.get_mut(id) else { continue };
            // Where IKE waits for an answer too, that shows whether the peer is away altogether. Whoever has to be asked
            // again says nothing of the way of ESP, and is looked at anew.
            match parts.endpoint.ike_sa(sa.ike).and_then(|ike| ike.waiting) {
                Some((_, 0)) => {
                    sa.silence.put_off = Some(since);
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
            let Some(sa) = self.sas.get(id) else { continue };
            let heard = self.heard_for(sa, parts.plane);
            // The peer may use another one. Where nothing came in since it was tried last, it is not tried again.
            if heard > Some(since) || heard <= probed || parts.endpoint.rekey_child(now, id).is_err() {
                continue; // an error: it is being replaced already
            }
            let Some(sa) = self.sas.get_mut(id) else { continue };
            sa.silence.probed = Some(now);
            self.tell(Some(peer), Some(config), What::Waiting, Some(Cause::one_way()));
        }
    }

    /// Whether an SA has new keys for the silence of the one that it replaced, and what went out since brought nothing in.
    pub(super) fn is_one_way(&self, sa: &Installed, plane: &dyn DataPlane) -> bool {
        let probed = sa.silence.probed;
        let anew = probed.is_some() && Some(sa.came) >= probed && !sa.drains;
        anew && sa.last_sent(plane) > probed && self.heard_for(sa, plane) < probed
    }

    /// When this SA was last heard, or another one that may carry the answers to what goes through it.
    fn heard_for(&self, sa: &Installed, plane: &dyn DataPlane) -> Option<Instant> {
        let others = self.children.get(&sa.config).into_iter().flat_map(|child| self.sas_with(child, sa.party));
        let others = others.filter(|other| other.meets(sa));
        others.chain([sa]).map(|sa| sa.silence_handed_on(plane).heard).max().flatten()
    }

    /// Those that carry on what an SA did that is `gone` are judged by what it heard, as one that replaces it is: of several
    /// the peer may have sent through this one alone, and have lost the others. One that `stood`, and was not replaced, says
    /// that the peer was there when it came up, although nothing was heard on it.
    pub(super) fn hand_silence_on(&mut self, gone: &Installed, stood: bool, plane: &dyn DataPlane) {
        let mut silence = gone.silence_handed_on(plane);
        if stood && silence.heard.is_none() {
            silence.hear(Some(gone.came));
        }
        self.sas.change_with(gone.config, gone.party, |sa| {
            if sa.meets(gone) {
                sa.silence.take_over(silence);
            }
        });
    }
}
