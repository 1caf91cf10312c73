//! SAs with manual keys (RFC 4301 §4.5.1): into the data plane, with numbers that nobody used, and out of it.
//!
//! What sends may use the sequence numbers that are set aside for it, and no other. Before they are used up more are
//! asked for, and another SA with the same key takes its place behind all that were set aside before: two never have a number
//! in common, whatever becomes of the answer.

use alloc::string::ToString;
use alloc::vec::Vec;

use ike_core::crypto::IkeCrypto;
use ipsec_core::error;
use ipsec_core::sa::{self, InboundParams, Lifetime, OutboundParams, Params, TfcPadding};
use ipsec_core::time::Instant;

use crate::cause::{Cause, Kind};
use crate::config::{Config, ConfigError, ManualId, ManualPair, ManualSa, Mode, manual};
use crate::plane::{DataPlane, Half, Pair, PlaneEvent, Refused};
use crate::policy::policy_of_manual;
use crate::state::manual::{Leaving, ManualEntry, Numbers, Reserve, Ticket};
use crate::state::report::{Report, What};
use crate::state::usage::Last;
use crate::state::{Gateway, Parts};

impl Gateway {
    /// The next question for sequence numbers; to be answered with [`Gateway::reserved`].
    pub fn poll_reserve(&mut self) -> Option<Reserve<'_>> {
        self.manual.next_question()
    }

    /// Sequence numbers are set aside, or why there are none yet: then they may be any time later.
    pub fn reserved<C: IkeCrypto>(
        &mut self,
        now: Instant,
        ticket: Ticket,
        answer: Result<Numbers, Cause>,
        parts: &mut Parts<'_, '_, C>,
    ) {
        match answer {
            Ok(numbers) => {
                let Some(id) = self.manual.answered(ticket) else { return };
                self.send_with(now, id, numbers, parts.plane);
            }
            Err(cause) => {
                let Some(entry) = self.manual.asked_by(ticket) else { return };
                let id = entry.id;
                match entry.outbound.there {
                    // It goes on with the numbers that it has.
                    Some(_) => entry.outbound.cause = Some(cause),
                    None => self.not_there(now, id, Half::Outbound, cause, parts.plane),
                }
            }
        }
    }

    /// One pair of SAs with manual keys, as it is configured.
    pub fn manual_pair(&self, id: ManualId) -> Option<&ManualPair> {
        self.manual.get(id).map(|entry| &entry.config)
    }

    /// What is wrong with taking up a configuration: with a key that stays the numbers would begin anew.
    pub fn counters_reset(&self, config: &Config) -> Vec<ConfigError> {
        manual::counters_reset(self.manual.iter().map(|entry| &entry.config), &config.manual)
    }

    /// Puts into the data plane what is not there and nobody took down: what receives at once, what sends once there are
    /// numbers for it.
    pub(super) fn place_manual(&mut self, now: Instant, plane: &mut dyn DataPlane) {
        for id in self.manual.ids().to_vec() {
            let Some(entry) = self.manual.get_mut(id).filter(|entry| !entry.held) else { continue };
            match entry.inbound.there {
                // It stays, and may be shown with another way.
                Some((pair, _)) => {
                    let sa = &entry.config.inbound;
                    plane.move_path(pair, Half::Inbound, entry.config.path(sa), sa.travels());
                }
                None => self.receive_with(now, id, plane),
            }
            let Some(entry) = self.manual.get_mut(id).filter(|entry| entry.outbound.there.is_none()) else { continue };
            entry.outbound.cause.get_or_insert_with(Cause::numbers_awaited);
            self.manual.ask(id);
        }
    }

    /// Takes up pairs that the operator took down, and has others try again what failed.
    pub(super) fn raise_manual(&mut self, now: Instant, meant: &[ManualId], plane: &mut dyn DataPlane) {
        for id in meant {
            if let Some(entry) = self.manual.get_mut(*id) {
                entry.held = false;
            }
        }
        self.place_manual(now, plane);
    }

    /// Takes pairs down: nothing is sent or taken through them until they are taken up again, and nothing in clear.
    pub(super) fn hold_manual(&mut self, now: Instant, meant: &[ManualId], plane: &mut dyn DataPlane) {
        self.manual.note_heard(plane);
        for id in meant {
            let leaving = self.manual.hold(*id);
            self.end_manual(now, leaving, plane);
            self.tell_manual_down(*id);
        }
    }

    /// Whether all of these are there; `None`: nobody knows yet.
    ///
    /// # Errors
    /// Why one is not.
    pub(super) fn manual_outcome(&self, meant: &[ManualId]) -> Option<Result<(), Cause>> {
        let down = || meant.iter().filter_map(|id| self.manual.get(*id)).filter(|entry| !entry.is_up());
        let mut causes = down().flat_map(|entry| [&entry.outbound.cause, &entry.inbound.cause]).flatten();
        match causes.find(|cause| cause.kind == Kind::Refusal).cloned() {
            Some(cause) => Some(Err(cause)),
            None => down().next().is_none().then_some(Ok(())),
        }
    }

    /// Takes what left out of the data plane. What went through it goes on its account, and is told.
    pub(super) fn end_manual(
        &mut self,
        now: Instant,
        gone: impl IntoIterator<Item = Leaving>,
        plane: &mut dyn DataPlane,
    ) {
        for Leaving { pair, half, since, spi_in, spi_out, account } in gone {
            let last = Last::of(pair, half, plane);
            let (received, sent) = match half {
                Half::Inbound => (last, Last::default()),
                Half::Outbound => (Last::default(), last),
            };
            self.close_account(now, (pair, account), (spi_in, spi_out), since, (received, sent));
        }
    }

    /// Takes up what the data plane tells of SAs with manual keys; returns what is about others.
    pub(super) fn manual_event(
        &mut self,
        now: Instant,
        event: PlaneEvent,
        plane: &mut dyn DataPlane,
    ) -> Option<PlaneEvent> {
        let Some((id, half)) = self.manual.of_pair(event.pair()) else { return Some(event) };
        match event {
            PlaneEvent::SoftLifetime { .. } => self.numbers_wane(id),
            PlaneEvent::HardLifetime { .. } => self.numbers_are_used(now, id, plane),
            PlaneEvent::Refused { why, .. } => {
                drop(self.manual.leave(id, half, None)); // it never was there
                self.not_there(now, id, half, Cause::not_installed(&why.to_string()), plane);
            }
            // Nobody answers for another path without IKE, and nothing is done about the others.
            PlaneEvent::Installed { .. }
            | PlaneEvent::Removed { .. }
            | PlaneEvent::Used { .. }
            | PlaneEvent::FirstPacket { .. }
            | PlaneEvent::PathChanged { .. } => {}
        }
        None
    }

    /// Most of what was set aside is used.
    fn numbers_wane(&mut self, id: ManualId) {
        if self.manual.get(id).is_some_and(ManualEntry::has_more_numbers) {
            self.manual.ask(id);
        }
    }

    /// All that was set aside is used: nothing is sent until there are more.
    fn numbers_are_used(&mut self, now: Instant, id: ManualId, plane: &mut dyn DataPlane) {
        let Some(entry) = self.manual.get(id) else { return };
        let (more, known) = (entry.has_more_numbers(), entry.outbound.cause.clone());
        let cause = if more { known.unwrap_or_else(Cause::numbers_awaited) } else { Cause::numbers_used_up() };
        self.not_there(now, id, Half::Outbound, cause, plane);
        if more {
            self.manual.ask(id);
        }
    }

    fn receive_with(&mut self, now: Instant, id: ManualId, plane: &mut dyn DataPlane) {
        let pair = self.next_pair();
        let Some(entry) = self.manual.get(id).filter(|entry| entry.inbound.there.is_none()) else { return };
        let sa = &entry.config.inbound;
        let installed = params(entry, sa, |sa_params| {
            let params = InboundParams {
                sa: sa_params,
                window: usize::from(sa.replay),
                highest_seen: sa.sequence.max(entry.heard),
            };
            plane.install_inbound(now, pair, &params)
        });
        match installed {
            Ok(_) => self.there(now, id, Half::Inbound, pair, plane),
            Err(why) => self.not_there(now, id, Half::Inbound, Cause::not_installed(&why.to_string()), plane),
        }
    }

    fn send_with(&mut self, now: Instant, id: ManualId, numbers: Numbers, plane: &mut dyn DataPlane) {
        let pair = self.next_pair();
        let Some(entry) = self.manual.get_mut(id) else { return };
        let held = entry.numbers.replace(numbers);
        // Whoever answers keeps that; if not, nothing is sent.
        if held.is_some_and(|held| numbers.after < held.until) || numbers.until <= numbers.after {
            return self.not_there(now, id, Half::Outbound, Cause::numbers_used_up(), plane);
        }
        let Numbers { after: last_sent, until: last_number } = numbers;
        let installed = params(entry, &entry.config.outbound, |sa| {
            let dont_fragment = entry.config.outbound.dont_fragment;
            let params = OutboundParams { sa, last_sent, last_number, copy_dscp: true, dont_fragment };
            plane.install_outbound(now, pair, &params, TfcPadding::None)
        });
        match installed {
            Ok(_) => self.there(now, id, Half::Outbound, pair, plane),
            Err(why) => self.not_there(now, id, Half::Outbound, Cause::not_installed(&why.to_string()), plane),
        }
    }

    /// An SA is in the data plane, in the place of the one before.
    fn there(&mut self, now: Instant, id: ManualId, half: Half, pair: Pair, plane: &mut dyn DataPlane) {
        let before = self.manual.enter(id, half, pair, now);
        self.end_manual(now, before, plane);
        let Some(entry) = self.manual.get_mut(id).filter(|entry| entry.is_up() && !entry.told_up) else { return };
        entry.told_up = true;
        let (config, account) = (&entry.config, entry.account.clone());
        let what = What::ChildUp {
            policy: policy_of_manual(id),
            suite: config.outbound.suite,
            spi_in: config.inbound.spi,
            spi_out: config.outbound.spi,
            encap: config.outbound.travels(),
            local: config.local_ts.as_slice().into(),
            remote: config.remote_ts.as_slice().into(),
            compressed: false,
            padded: false,
            rekeyed: false,
        };
        let (peer, child) = (Some(account.peer.clone()), Some(account.child.clone()));
        self.report(Report { peer, child, what, cause: None });
    }

    /// An SA is not in the data plane, or no more.
    fn not_there(&mut self, now: Instant, id: ManualId, half: Half, cause: Cause, plane: &mut dyn DataPlane) {
        let leaving = self.manual.leave(id, half, Some(cause.clone()));
        self.end_manual(now, leaving, plane);
        let Some(entry) = self.manual.get_mut(id) else { return };
        let what = if core::mem::take(&mut entry.told_up) { What::ChildDown } else { What::ChildFailed };
        let (peer, child) = (Some(entry.account.peer.clone()), Some(entry.account.child.clone()));
        self.report(Report { peer, child, what, cause: Some(cause) });
    }

    /// One that was told as up is down, as the operator has it.
    fn tell_manual_down(&mut self, id: ManualId) {
        let Some(entry) = self.manual.get_mut(id).filter(|entry| entry.told_up) else { return };
        entry.told_up = false;
        let (peer, child) = (Some(entry.account.peer.clone()), Some(entry.account.child.clone()));
        self.report(Report { peer, child, what: What::ChildDown, cause: None });
    }
}

/// What both directions need, while the keys are lent.
fn params<R>(
    entry: &ManualEntry,
    sa: &ManualSa,
    install: impl FnOnce(Params<'_>) -> Result<R, Refused>,
) -> Result<R, Refused> {
    let config = &entry.config;
    let keymat = sa.keymat().ok_or(error::Refused::KeyLength)?;
    install(Params {
        spi: sa.spi,
        mode: match config.mode {
            Mode::Tunnel => sa::Mode::Tunnel,
            Mode::Transport => sa::Mode::Transport,
            Mode::Beet => sa::Mode::Beet,
        },
        protection: sa.suite.protection,
        keymat: &keymat,
        esn: sa.suite.esn,
        path: config.path(sa),
        encap: sa.travels(),
        policy: policy_of_manual(entry.id),
        local_ts: &config.local_ts,
        remote_ts: &config.remote_ts,
        lifetime: Lifetime::default(),
        compression: None,
    })
}

impl Cause {
    /// Nobody negotiates.
    pub(super) fn not_negotiated() -> Self {
        Self {
            code: "manual-keys",
            text: "its keys stand in the configuration, and nobody negotiates others".into(),
            hint: "write a new key into the [[sa]] and at the peer, then `portcullis reload`".into(),
            kind: Kind::Refusal,
        }
    }

    fn numbers_awaited() -> Self {
        Self {
            code: "sequence-awaited",
            text: "sequence numbers are being set aside, and nothing is sent before they are".into(),
            hint: "the disk of the state directory may be slow: where it refuses something the log has it".into(),
            kind: Kind::Absence,
        }
    }

    fn numbers_used_up() -> Self {
        Self {
            code: "sequence-used-up",
            text: "no sequence number is left for this key".into(),
            hint: "write a new key into the [[sa]] and at the peer, or take a suite with \"-esn\" at both ends".into(),
            kind: Kind::Refusal,
        }
    }
}
