//! What the work on one SA means for others.

use ipsec_core::time::Instant;

use super::host::Endpoint;
use crate::child::{Child, Phase};
use crate::crypto::IkeCrypto;
use crate::effects::Effects;
use crate::event::ChildId;
use crate::exchange;
use crate::failure::Failure;
use crate::pad::Pad;
use crate::sa::{Begun, Heir, IkeSlot, Sa, State};
use crate::state;
use crate::succession;
use crate::table::Edit;

impl<'a, C: IkeCrypto, P: Pad> Endpoint<'a, C, P> {
    /// What has to be done after the work on an SA that may have come up.
    pub(super) fn follow_up(&mut self, now: Instant, slot: u16, effects: Effects) {
        if self.sas.get(slot).is_some_and(|sa| sa.report.begun == Some(Begun::Established)) {
            self.crowd(now, slot);
        }
        self.apply(now, slot, effects);
    }

    /// Does in other slots what the work on one SA asked for, and then lets each of them go on.
    #[inline(never)]
    pub(super) fn apply(&mut self, now: Instant, slot: u16, effects: Effects) {
        // Whom to let go on besides.
        let others = match effects {
            Effects::Nothing => [None; 2],
            Effects::Made(made) => [Some(made), None],
            Effects::TakesOver { heir, loser } => {
                if let Some(mut loser) = loser.and_then(|loser| self.alive(loser)) {
                    succession::lose(&mut loser);
                }
                self.inherit(now, slot, heir);
                [loser.map(|loser| loser.slot), Some(heir.slot)]
            }
            Effects::Connected { child, alone_since } => {
                if let Some(child) = child {
                    self.hold_back(slot, child, alone_since);
                }
                if let Some(moment) = alone_since {
                    self.forget_others(now, slot, moment);
                }
                [None; 2]
            }
            Effects::Over { cause, heir } => {
                if let Some(heir) = heir {
                    self.inherit(now, slot, heir);
                }
                self.work(now, slot, |sa, env| sa.die(env, cause));
                [heir.map(|heir| heir.slot), None]
            }
        };
        for slot in [Some(slot)].into_iter().chain(others).flatten() {
            self.pursue(now, slot);
        }
    }

    /// A new SA is up. When its peer holds too many by now, the oldest goes: whoever begins anew all the time, without
    /// INITIAL_CONTACT, does not fill the table.
    #[inline(never)]
    fn crowd(&mut self, now: Instant, slot: u16) {
        let Some(new) = self.sas.get(slot) else { return };
        let others = self.kin(slot).count().saturating_sub(1);
        if new.may_have_another(others, &self.settings, &self.pad, self.sas.len()) {
            return;
        }
        let since = |sa: &Sa<C>| match &sa.state {
            State::Established(established) => Some(established.since),
            _ => None,
        };
        let others = self.kin(slot).filter(|(other, _)| *other != slot);
        let oldest = others.min_by_key(|(other, sa)| (since(sa), *other)).map(|(oldest, _)| oldest);
        // Its peer may not answer any more, and it must not stay until that is known.
        if let Some(oldest) = oldest {
            self.work(now, oldest, |sa, env| exchange::part(sa, env, Failure::Replaced));
        }
    }

    /// The SA of ours with this SPI, when it is established.
    fn alive(&mut self, Heir { slot, spi }: Heir) -> Option<Edit<'_, 'a, IkeSlot<C>>> {
        let sa = self.sas.edit(slot)?;
        (sa.spi() == spi && matches!(sa.state, State::Established(_))).then_some(sa)
    }

    /// Hands the children of `old` to the SA that replaced it, and what else it leaves. When that one is gone already,
    /// `old` goes on.
    fn inherit(&mut self, now: Instant, old: u16, heir: Heir) {
        let alive = self.alive(heir).is_some();
        let id = self.id(old);
        let Some(mut sa) = self.sas.edit(old) else { return };
        if !alive {
            succession::stay(&mut sa, now + self.settings.retry);
            return;
        }
        let Some(estate) = succession::bequeath(&mut sa, id) else { return };
        drop(sa);
        self.children.each_of(old, |_| true, |child| child.ike = heir.slot);
        if let Some(mut heir) = self.alive(heir) {
            succession::inherit(&mut heir, estate);
        }
    }

    /// The party that connected with the child `first` may be done with its own call, because both called at once. Where
    /// another IKE SA with it carries the same, what works is not left for what only we have: before this one is sent
    /// through, the party has to show that it has it. Of what it has lost (`begun`) nothing works. Looks at all that the other
    /// IKE SAs carry, once for each that comes up beside them: whoever wants that done has proved who it is.
    fn hold_back(&mut self, slot: u16, first: ChildId, begun: Option<Instant>) {
        let Some(config) = self.children.by_id(first).map(|child| child.config) else { return };
        let works =
            |child: &Child| matches!(child.phase, Phase::Up(_)) && begun.is_none_or(|begun| child.since > begun);
        let carries = |ike: u16| self.children.of(ike).any(|(_, child)| child.config == config && works(child));
        if !self.kin(slot).any(|(other, _)| other != slot && carries(other)) {
            return;
        }
        if let Some(mut child) = self.children.by_id_mut(first) {
            child.outbound_ready = false;
        }
        if let Some(established) = self.sas.edit(slot).as_deref_mut().and_then(Sa::established_mut) {
            established.liveness.wanted = true;
        }
    }

    /// The peer has lost its other SAs with us (RFC 7296 §2.4), and is told in case it has not. Those that came up since it
    /// began the one that says so are not meant: when both call at once, what it says may come after the other SA did.
    fn forget_others(&mut self, now: Instant, keep: u16, begun: Instant) {
        let meant = |sa: &Sa<C>| matches!(&sa.state, State::Established(established) if established.since <= begun);
        for _ in 0..self.sas.len() {
            // Each that goes leaves the company.
            let other = self.kin(keep).find(|(slot, sa)| *slot != keep && meant(sa)).map(|(slot, _)| slot);
            let Some(slot) = other else { return };
            self.work(now, slot, |sa, env| exchange::part(sa, env, Failure::Replaced));
        }
    }

    /// Sends the next request that somebody waits for, when none is outstanding.
    pub(super) fn pursue(&mut self, now: Instant, slot: u16) {
        let waits = |sa: &Sa<C>| matches!(&sa.state, State::Established(established) if established.work);
        if self.sas.get(slot).is_some_and(|sa| waits(sa) && sa.window.outstanding().is_none()) {
            self.work(now, slot, state::established::pursue);
        }
    }
}
