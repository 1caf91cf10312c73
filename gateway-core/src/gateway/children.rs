//! Child SAs that come up, do not, are replaced, and go.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::Endpoint;
use ike_core::event::{ChildId, IkeId, Party};
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::time::Instant;

use super::coming::Came;
use super::renewal::is_out_of_step;
use crate::cause::{Cause, Kind};
use crate::config::Identity;
use crate::peers::Peers;
use crate::state::installed::Installed;
use crate::state::renewal::Renewal;
use crate::state::report::{Report, What};
use crate::state::uncovered::Uncovered;
use crate::state::uptime::Uptime;
use crate::state::usage::Account;
use crate::state::{Gateway, Parts};

/// Rekeys that fail in a row before the connection is made anew.
const PATIENCE: u32 = 3;

impl Gateway {
    pub(super) fn child_up<C: IkeCrypto>(
        &mut self,
        now: Instant,
        (child, config): (ChildId, ChildConfigId),
        report: Report,
        came: Came,
        parts: &mut Parts<'_, '_, C>,
    ) {
        match came {
            Came::Installed(mut installed) => {
                let report = match &mut installed.underway {
                    Some(underway) => {
                        underway.up = Some(report);
                        None
                    }
                    None => Some(report),
                };
                self.enter(now, *installed, parts);
                if let Some(report) = report {
                    self.came_up(now, child, report, parts);
                }
            }
            Came::Unwanted => {
                if let Some(entry) = self.children.get_mut(&config) {
                    entry.answered(child);
                }
                drop(parts.endpoint.close_child(now, child));
            }
            Came::Beside => {
                let asked = self.children.get_mut(&config).and_then(|entry| entry.answered(child));
                if let Some(only) = asked.and_then(|asked| asked.only) {
                    self.uncovered(now, config, only, None);
                }
                drop(parts.endpoint.close_child(now, child));
            }
            Came::Refused(cause) => {
                drop(parts.endpoint.close_child(now, child));
                self.not_up(now, (child, config), report, cause);
            }
        }
    }

    /// Enters a Child SA that is in the data plane, or will be.
    fn enter<C: IkeCrypto>(&mut self, now: Instant, mut installed: Installed, parts: &mut Parts<'_, '_, C>) {
        installed.account = self.account(&installed, parts.endpoint);
        if let Some(child) = self.children.get_mut(&installed.config) {
            child.sas.insert(installed.child);
            if self.peers.get(&child.peer).is_none_or(|entry| entry.looks_after(installed.party)) {
                Uptime::enter(&mut child.uptime, now);
            }
        }
        let child = installed.child;
        self.sas.insert(installed);
        self.most_sas = self.most_sas.max(self.sas.len());
        self.look_at(now, child, parts); // only then is it known when to look again
    }

    /// On whose account a new SA goes. Its IKE SA knows who proved what; without that, the configuration says it.
    fn account<C: IkeCrypto>(&self, sa: &Installed, endpoint: &Endpoint<'_, C, Peers>) -> Arc<Account> {
        if let Some(other) = self.sas.with(sa.config, sa.party).next() {
            return Arc::clone(&other.account);
        }
        let peer = endpoint.pad().get(sa.peer);
        let proven = endpoint.ike_sa(sa.ike).and_then(|ike| ike.identity).map(|id| Identity::printed(&id));
        let expected = || peer.and_then(|peer| peer.remote_id.as_ref()).map(ToString::to_string);
        let child = self.children.get(&sa.config).map(|child| child.name.as_str());
        let party = proven.or_else(expected).unwrap_or_default();
        self.account_of(peer.map(|peer| peer.name.as_str()).unwrap_or_default(), child.unwrap_or_default(), party)
    }

    /// A Child SA that came up is not in the data plane, and will not be. What it was to carry on may be over by now.
    pub(super) fn not_up(
        &mut self,
        now: Instant,
        (child, config): (ChildId, ChildConfigId),
        report: Report,
        cause: Cause,
    ) {
        let Some(entry) = self.children.get_mut(&config) else { return };
        entry.answered(child);
        if cause.kind != Kind::Intent {
            entry.fail(now, cause.clone());
        }
        let (peer, over) = (entry.peer, entry.sas.is_empty());
        self.agenda.touch(peer); // it has its pause
        self.report(Report { what: What::ChildFailed, cause: Some(cause.clone()), ..report });
        if over {
            self.tell_down(peer, config, Some(cause));
        }
    }

    /// A Child SA is in the data plane: packets can go.
    pub(super) fn came_up<C: IkeCrypto>(
        &mut self,
        now: Instant,
        child: ChildId,
        report: Report,
        parts: &mut Parts<'_, '_, C>,
    ) {
        let Some((config, party)) = self.sas.get(child).map(|sa| (sa.config, sa.party)) else { return };
        let Some(entry) = self.children.get_mut(&config) else { return };
        let peer = entry.peer;
        let ours = self.peers.get(&peer).is_some_and(|peer| peer.looks_after(party));
        let of_its_own = entry.answered(child).is_some_and(|asked| asked.only.is_some());
        let rekeyed = matches!(report.what, What::ChildUp { rekeyed: true, .. });
        entry.differs &= !rekeyed;
        if !entry.differs {
            entry.cause = None; // else it is up, and will not be for long
        }
        entry.wanted = false;
        entry.was_up |= ours;
        entry.told_up = true;
        entry.setbacks.trust();
        if rekeyed {
            entry.rekeys = entry.rekeys.saturating_add(1);
        } else if !of_its_own {
            entry.uncovered = Uncovered::default(); // the peer may take more of it by now
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.trouble = None;
            peer.tries.clear(config);
            // It came without the renewal that is to be begun for it.
            let needless = ours && !of_its_own && peer.calling.ike().is_none();
            peer.renew.take_if(|renewal| needless && *renewal == Renewal::Refused(config));
        }
        // What came over from another connection takes nobody's place.
        let carries_on = self.sas.get(child).and_then(|sa| self.used_before(sa, parts.plane));
        if of_its_own && carries_on.is_none() {
            self.make_room(now, child, parts);
        }
        self.agenda.touch(peer);
        self.report(report);
        if let Some(cause) = self.narrowed_anew(child, parts).filter(|_| !of_its_own) {
            self.tell(Some(peer), Some(config), What::Narrowed, Some(cause));
        }
    }

    pub(super) fn child_failed<C: IkeCrypto>(
        &mut self,
        now: Instant,
        (ike, peer): (IkeId, PeerId),
        (id, config): (Option<ChildId>, Option<ChildConfigId>),
        failure: &Failure,
        parts: &mut Parts<'_, '_, C>,
    ) {
        let pad = parts.endpoint.pad();
        let configured = config.and_then(|config| pad.get_child(config)).map(|(_, _, child)| child);
        let cause = Cause::of_child(failure, configured, pad.get(peer));
        let view = parts.endpoint.ike_sa(ike);
        let ours = self.makes_anew(peer, view.as_ref(), parts.endpoint);
        let out_of_step = view.is_some_and(|view| is_out_of_step(now, &view, failure));
        let up = config.and_then(|config| self.children.get(&config)).is_some_and(|child| match view {
            Some(view) => self.is_up_with(child, view.party),
            None => !child.sas.is_empty(),
        });
        let sa = id.and_then(|id| self.sas.get(id));
        let carried_on = sa.is_some_and(|sa| self.is_carried_on(sa));
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let Some(config) = config else {
            // The peer asked. What it was about shows in its own words only.
            entry.trouble = Some(Box::new(cause.clone()));
            return self.tell(Some(peer), None, What::ChildFailed, Some(cause));
        };
        let Some(child) = self.children.get_mut(&config) else { return }; // a reload took it
        if let Some(only) = id.and_then(|id| child.answered(id)).and_then(|asked| asked.only) {
            return self.uncovered(now, config, only, Some(&cause));
        }
        child.differs |= failure.is_about_pfs();
        let refused = cause.kind == Kind::Refusal;
        // A child that cannot be rekeyed before its end, or that was up and is refused now, comes back with a new IKE SA (RFC
        // 7296 §2.8), whatever the reason: the first child comes with IKE_AUTH, without CREATE_CHILD_SA and without an
        // agreement about key exchanges.
        let (what, renewed) = match id.and_then(|id| self.sas.get_mut(id)) {
            // It was to be rekeyed, and goes on.
            Some(sa) => {
                child.cause = Some(cause.clone());
                sa.refused = sa.refused.saturating_add(1);
                let silent = sa.probed_in_vain(parts.plane);
                let times = parts.endpoint.child_sa(sa.child).and_then(|sa| sa.expires_at.zip(sa.rekey_at));
                let last = sa.spent || times.is_some_and(|(end, next_try)| end <= next_try);
                let over = silent || last || failure.is_about_pfs() || sa.refused >= PATIENCE;
                (What::RekeyFailed, over && !carried_on)
            }
            None => {
                child.fail(now, cause.clone());
                // Who is busy for the moment is asked again, and who is for minutes may take with a new IKE SA what it never took.
                // What was refused with a new connection just now is no better with the next one.
                let begun = entry.tries.begun == Some(config) && entry.established_at == Some(now);
                let anew = if failure.is_busy() { out_of_step } else { refused && child.was_up && !begun };
                (if up { What::RekeyFailed } else { What::ChildFailed }, anew && !up)
            }
        };
        let renewed = renewed && ours && self.renew(now, config);
        self.tell(Some(peer), Some(config), what, Some(cause.clone()));
        if renewed {
            self.tell(Some(peer), Some(config), What::Renewing, None);
        } else if out_of_step && !ours && self.carried(peer, ike).is_none() {
            self.end_ikes(now, peer, &[ike], &cause, parts);
        }
    }

    /// Another one took the place of a Child SA: no packet goes into what the peer does not have any more.
    pub(super) fn child_drains<C: IkeCrypto>(&mut self, now: Instant, child: ChildId, parts: &mut Parts<'_, '_, C>) {
        let Some(sa) = self.sas.drain(child, parts.plane) else { return };
        let (peer, config, spent) = (sa.peer, sa.config, sa.spent);
        let Some(entry) = self.children.get_mut(&config) else { return };
        entry.draining.extend(entry.sas.take(&child));
        self.leave(now, config, spent);
        let Some(entry) = self.children.get(&config) else { return };
        if entry.sas.is_empty() {
            // What took its place is gone already, and could not be told as the end.
            let cause = entry.cause.clone();
            self.agenda.touch(peer);
            self.tell_down(peer, config, cause);
        }
    }

    /// IKE has a Child SA no more. What was taken out before was told then.
    pub(super) fn child_gone<C: IkeCrypto>(
        &mut self,
        now: Instant,
        child: ChildId,
        (peer, config): (PeerId, ChildConfigId),
        failure: &Failure,
        parts: &mut Parts<'_, '_, C>,
    ) {
        let coming = |sa: &mut Installed| sa.underway.as_mut().and_then(|underway| underway.up.take());
        let sa = self.sas.get_mut(child).map(|sa| (sa.party, sa.ended.clone(), coming(sa)));
        if let Some((party, ended, coming)) = sa.filter(|_| self.uninstall(now, child, parts)) {
            let at_once = *failure != Failure::ClosedByPeer;
            let ended = ended.filter(|_| *failure == Failure::ClosedHere);
            let cause = ended.unwrap_or_else(|| Cause::of(failure, parts.endpoint.pad().get(peer)));
            match coming {
                Some(report) => self.not_up(now, (child, config), report, cause),
                None => self.child_down(now, (peer, config, party), at_once, cause),
            }
        } else if let Some(entry) = self.children.get_mut(&config) {
            entry.answered(child);
        }
    }

    /// `at_once`: when it was up for long it comes again without a pause.
    fn child_down(
        &mut self,
        now: Instant,
        (peer, config, party): (PeerId, ChildConfigId, Party),
        at_once: bool,
        cause: Cause,
    ) {
        if self.children.get(&config).is_some_and(|entry| self.is_up_with(entry, party)) {
            return; // another one goes on, and tells the story
        }
        let ours = self.peers.get(&peer).is_some_and(|entry| entry.party == Some(party));
        let Some(entry) = self.children.get_mut(&config) else { return };
        // What others who share it have is up; whoever called asks again.
        if cause.kind != Kind::Intent && (ours || entry.sas.is_empty()) {
            entry.lose(now, at_once, cause.clone());
        }
        self.tell_down(peer, config, Some(cause));
    }
}
