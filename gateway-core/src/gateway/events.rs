//! What IKE tells, taken up: SAs installed and removed, states kept, the story told.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::net::SocketAddr;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::Endpoint;
use ike_core::event::{ChildId, Event, IkeId, Party};
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, Pad, PeerId};
use ike_core::registry::ExchangeType;
use ike_core::wire::id::ShortId;
use ipsec_core::crypto::PacketCrypto;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::drive::LONG;
use super::renewal::{LASTING, Renewal, is_out_of_step};
use super::report::{Report, What};
use super::state::ChildEntry;
use super::uncovered::Uncovered;
use super::{Gateway, Parts, install};
use crate::cause::{Cause, Kind};
use crate::config::Identity;
use crate::peers::Peers;
use crate::policy::policy_of;

/// Rekeys that fail in a row before the connection is made anew.
const PATIENCE: u32 = 3;

/// An event of the endpoint without what it lends.
enum Note {
    Established {
        ike: IkeId,
        peer: PeerId,
    },
    Rekeyed {
        old: IkeId,
        new: IkeId,
        peer: PeerId,
    },
    /// A Child SA came up; installed already, or not: then it is to be closed again.
    Up {
        child: ChildId,
        config: ChildConfigId,
        report: Report,
        came: Came,
    },
    Outbound {
        child: ChildId,
    },
    Draining {
        child: ChildId,
    },
    Down {
        child: ChildId,
        peer: PeerId,
        config: ChildConfigId,
        cause: Failure,
    },
    ChildFailed {
        ike: IkeId,
        peer: PeerId,
        child: Option<ChildId>,
        config: Option<ChildConfigId>,
        cause: Failure,
    },
    Noted {
        ike: IkeId,
        peer: PeerId,
        remote: SocketAddr,
        cause: Failure,
    },
    Moved {
        ike: IkeId,
        path: Path,
    },
    RekeyFailed {
        ike: IkeId,
        peer: PeerId,
        cause: Failure,
    },
    Unanswered {
        ike: IkeId,
        peer: PeerId,
        exchange: ExchangeType,
    },
    Reauthenticate {
        ike: IkeId,
        peer: PeerId,
    },
    Closed {
        ike: IkeId,
        who: Who,
        remote: SocketAddr,
        established: bool,
        cause: Failure,
    },
    Refused {
        path: Path,
        cause: Failure,
    },
    Other,
}

/// Who was at the other end of an IKE SA that is gone.
struct Who {
    peer: Option<PeerId>,
    claimed: Option<PeerId>,
    identity: Option<ShortId>,
    party: Party,
}

/// What became of a Child SA that came up.
enum Came {
    Installed,
    /// Nobody here wants it any more.
    Unwanted,
    /// It was asked for with selectors of its own and does not carry them.
    Beside,
    Refused(Cause),
}

impl Note {
    /// The peer that may want something now.
    fn about(&self) -> Option<PeerId> {
        match self {
            Self::Established { peer, .. }
            | Self::Rekeyed { peer, .. }
            | Self::Down { peer, .. }
            | Self::ChildFailed { peer, .. }
            | Self::Noted { peer, .. }
            | Self::RekeyFailed { peer, .. }
            | Self::Unanswered { peer, .. }
            | Self::Reauthenticate { peer, .. } => Some(*peer),
            Self::Closed { who, .. } => who.peer,
            Self::Up { .. }
            | Self::Outbound { .. }
            | Self::Draining { .. }
            | Self::Moved { .. }
            | Self::Refused { .. }
            | Self::Other => None,
        }
    }
}

impl Gateway {
    pub(super) fn take_events<C: IkeCrypto, P: PacketCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C, P>) {
        while let Some(note) = self.next_note(now, parts) {
            if let Some(peer) = note.about().filter(|peer| self.peers.contains_key(peer)) {
                self.agenda.touch(peer);
            }
            self.take(now, note, parts);
        }
    }

    fn next_note<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        parts: &mut Parts<'_, '_, C, P>,
    ) -> Option<Note> {
        Some(match parts.endpoint.poll_event()? {
            Event::Established { ike, peer } => Note::Established { ike, peer },
            Event::IkeRekeyed { old, new, peer } => Note::Rekeyed { old, new, peer },
            Event::ChildOutbound { child } => Note::Outbound { child },
            Event::ChildDraining { child } => Note::Draining { child },
            Event::ChildDown { child, peer, config, cause } => Note::Down { child, peer, config, cause },
            Event::ChildFailed { ike, peer, child, config, cause } => {
                Note::ChildFailed { ike, peer, child, config, cause }
            }
            Event::Noted { ike, peer, remote, cause } => Note::Noted { ike, peer, remote, cause },
            Event::PathChanged { ike, path } => Note::Moved { ike, path },
            Event::RekeyFailed { ike, peer, cause } => Note::RekeyFailed { ike, peer, cause },
            Event::Unanswered { ike, peer, exchange } => Note::Unanswered { ike, peer, exchange },
            Event::Reauthenticate { ike, peer } => Note::Reauthenticate { ike, peer },
            Event::Closed { ike, peer, claimed, identity, party, remote, established, cause } => {
                Note::Closed { ike, who: Who { peer, claimed, identity, party }, remote, established, cause }
            }
            Event::Refused { path, cause } => Note::Refused { path, cause },
            Event::ChildUp(up) => {
                // Its keys are lent until the next event: installed here and now.
                let what = What::ChildUp {
                    policy: policy_of(up.config),
                    suite: up.suite,
                    spi_in: up.spi_in,
                    spi_out: up.spi_out,
                    encap: up.encap,
                    rekeyed: up.replaces.is_some(),
                };
                let (peer, child) = (self.peer_name(up.peer), self.child_name(up.config));
                let report = Report { peer, child, what, cause: None };
                let leaving = !self.peers.get(&up.peer).is_some_and(|entry| entry.ikes.contains(&up.ike));
                let came = match self.children.get(&up.config) {
                    Some(entry) if !leaving && entry.wants(&up) => match entry.covers(&up) {
                        true => Came::Installed,
                        false => Came::Beside,
                    },
                    _ => Came::Unwanted,
                };
                let lifetime = self.children.get(&up.config).map(|entry| entry.lifetime).unwrap_or_default();
                let came = match came {
                    Came::Installed => {
                        match install::install(now, &up, lifetime, self.window, parts.outbound, parts.inbound) {
                            Ok(mut installed) => {
                                if let Some(old) = up.replaces.and_then(|old| self.sas.get(&old)) {
                                    installed.ours = old.ours;
                                    installed.since = old.last_used(parts.outbound, parts.inbound);
                                    installed.silence = old.silence_handed_on(parts.inbound);
                                } else if let Some(used) = self.used_before(&installed, parts.outbound, parts.inbound) {
                                    installed.since = used;
                                }
                                self.enter(now, installed);
                                Came::Installed
                            }
                            Err(refused) => Came::Refused(Cause::not_installed(&refused.to_string())),
                        }
                    }
                    other => other,
                };
                Note::Up { child: up.child, config: up.config, report, came }
            }
            _ => Note::Other,
        })
    }

    fn take<C: IkeCrypto, P: PacketCrypto>(&mut self, now: Instant, note: Note, parts: &mut Parts<'_, '_, C, P>) {
        match note {
            Note::Established { ike, peer } => self.established(now, ike, peer, parts.endpoint),
            Note::Rekeyed { old, new, peer } => self.rekeyed(old, new, peer),
            Note::Up { child, config, report, came } => self.child_up(now, child, config, report, came, parts),
            Note::Outbound { child } => {
                let installed = self.sas.get_mut(&child);
                if let Some(Err(refused)) = installed.map(|sa| sa.send_through(now, parts.outbound)) {
                    // Nothing can be sent through it: better none than half a one.
                    let cause = Cause::not_installed(&refused.to_string());
                    self.close_for(now, child, cause, parts.endpoint);
                }
            }
            Note::Draining { child } => self.child_drains(now, child, parts),
            Note::Down { child, peer, config, cause } => {
                let sa = self.sas.get(&child).map(|sa| (sa.party, sa.ended.clone()));
                // What was taken out before was told then.
                if let Some((party, ended)) = sa.filter(|_| self.uninstall(now, child, parts)) {
                    let at_once = cause != Failure::ClosedByPeer;
                    let ended = ended.filter(|_| cause == Failure::ClosedHere);
                    let cause = ended.unwrap_or_else(|| Cause::of(&cause, parts.endpoint.pad().get(peer)));
                    self.child_down(now, (peer, config, party), at_once, cause);
                } else if let Some(entry) = self.children.get_mut(&config) {
                    entry.answered(child);
                }
            }
            Note::Noted { ike, peer, remote, cause } => {
                let cause = Cause::of(&cause, parts.endpoint.pad().get(peer));
                let entry = self.peers.get_mut(&peer).filter(|entry| entry.attempt == Some(ike));
                if let Some(entry) = entry.filter(|entry| entry.doubt.as_ref() != Some(&cause)) {
                    // Of several the last one, and of one in each attempt the first time.
                    let known = entry.cause.as_ref() == Some(&cause);
                    entry.doubt = Some(cause.clone());
                    if known {
                        return;
                    }
                    if self.strangers.admit(now) {
                        self.tell(Some(peer), None, What::Doubtful { remote, answers: true }, Some(cause));
                    }
                }
            }
            Note::ChildFailed { ike, peer, child, config, cause } => {
                self.child_failed(now, (ike, peer), (child, config), &cause, parts)
            }
            Note::Moved { ike, path } => {
                let peer = parts.endpoint.ike_sa(ike).and_then(|view| view.peer);
                let children =
                    peer.and_then(|peer| self.peers.get(&peer)).into_iter().flat_map(|entry| &entry.children);
                let sas = children.filter_map(|child| self.children.get(child)).flat_map(ChildEntry::all);
                for sa in sas {
                    if let Some(sa) = self.sas.get_mut(sa).filter(|sa| sa.ike == ike) {
                        sa.move_to(path, parts.outbound, parts.inbound);
                    }
                }
                self.tell(peer, None, What::Moved { remote: path.remote }, None);
            }
            Note::RekeyFailed { ike, peer, cause } => self.ike_rekey_failed(now, (ike, peer), &cause, parts),
            Note::Unanswered { ike, peer, exchange } => self.unanswered(now, (ike, peer), exchange, parts),
            Note::Reauthenticate { ike, peer } => {
                // Whoever called is to do that.
                if parts.endpoint.ike_sa(ike).is_some_and(|view| view.called) {
                    self.reauthenticate(peer, self.carried(peer, ike));
                }
            }
            Note::Closed { ike, who, remote, established, cause } => {
                self.closed(now, ike, &who, remote, established, &cause, parts);
            }
            Note::Refused { path, cause } => {
                self.knock(now);
                if self.strangers.admit(now) {
                    self.refused(path.remote, &cause, parts);
                }
            }
            Note::Other => {}
        }
    }

    /// Somebody's request was refused, unproven who that is.
    pub(super) fn refused<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        remote: SocketAddr,
        cause: &Failure,
        parts: &Parts<'_, '_, C, P>,
    ) {
        let about = sole_candidate(remote, parts);
        let cause = Cause::of(cause, about.and_then(|id| parts.endpoint.pad().get(id)));
        let connected = about.is_some_and(|id| self.is_connected(id, parts.endpoint));
        // Of what a stranger may have begun only the cause is kept, for display.
        if let Some(entry) = about.and_then(|id| self.peers.get_mut(&id)).filter(|_| !connected) {
            entry.cause = Some(cause.clone());
        }
        self.tell(about, None, What::Refused { remote }, Some(cause));
    }

    /// The peer is about to take us for nobody any more: we prove anew who we are, beside the connection that stands, with
    /// what that carries first.
    fn reauthenticate(&mut self, peer: PeerId, carried: Option<ChildConfigId>) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let child = carried.or(entry.children.first().copied());
        if child.is_some_and(|child| entry.reauthenticate(child)) {
            self.tell(Some(peer), None, What::Renewing, Some(Cause::for_the_lifetime()));
        }
    }

    fn established<C: IkeCrypto>(&mut self, now: Instant, ike: IkeId, peer: PeerId, endpoint: &Endpoint<'_, C, Peers>) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let mut took = None;
        if entry.attempt == Some(ike) {
            took = entry.called_at.map(|at| now.since(at));
            entry.conclude();
            entry.party = endpoint.ike_sa(ike).map(|view| view.party);
            if let Some(renewal) = entry.renew.take() {
                let party = |ike: &IkeId| endpoint.ike_sa(*ike).map(|view| view.party);
                entry.superseded.extend(entry.ikes.iter().filter(|held| party(held) == party(&ike)));
                if let Renewal::Refused(config) = renewal
                    && let Some(child) = self.children.get_mut(&config)
                {
                    child.renewed_at = Some(now);
                }
            }
        }
        entry.ikes.push(ike);
        entry.trouble = None;
        // Of the one that we call it is no news that another one is there.
        if endpoint.ike_sa(ike).is_some_and(|view| entry.looks_after(view.party)) {
            entry.wanted = false;
            entry.cause = None;
            entry.retry_at = None;
        }
        entry.established_at = Some(now);
        entry.look_at_answers = Some(now + LONG);
        self.agenda.touch(peer);
        let ike = endpoint.ike_sa(ike).map(Box::new);
        self.tell(Some(peer), None, What::Connected { ike, took }, None);
    }

    fn rekeyed(&mut self, old: IkeId, new: IkeId, peer: PeerId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let Some(ike) = entry.ikes.iter_mut().find(|ike| **ike == old) else { return }; // it was closed here meanwhile
        *ike = new;
        if entry.superseded.remove(&old) {
            entry.superseded.insert(new);
        }
        for config in &entry.children {
            let Some(child) = self.children.get_mut(config) else { continue };
            if let Some(asked) = child.asked.as_mut().filter(|asked| asked.ike == old) {
                asked.ike = new;
            }
            for sa in child.all() {
                if let Some(sa) = self.sas.get_mut(sa).filter(|sa| sa.ike == old) {
                    sa.ike = new;
                }
            }
        }
        self.tell(Some(peer), None, What::Rekeyed, None);
    }

    fn child_up<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        child: ChildId,
        config: ChildConfigId,
        report: Report,
        came: Came,
        parts: &mut Parts<'_, '_, C, P>,
    ) {
        match came {
            Came::Installed => {}
            Came::Unwanted => {
                if let Some(entry) = self.children.get_mut(&config) {
                    entry.answered(child);
                }
                return drop(parts.endpoint.close_child(now, child));
            }
            Came::Beside => {
                let asked = self.children.get_mut(&config).and_then(|entry| entry.answered(child));
                if let Some(only) = asked.and_then(|asked| asked.only) {
                    self.uncovered(now, config, only, None);
                }
                return drop(parts.endpoint.close_child(now, child));
            }
            Came::Refused(cause) => {
                drop(parts.endpoint.close_child(now, child));
                if let Some(entry) = self.children.get_mut(&config) {
                    entry.answered(child);
                    entry.fail(now, cause.clone());
                }
                return self.report(Report { what: What::ChildFailed, cause: Some(cause), ..report });
            }
        }
        let party = self.sas.get(&child).map(|sa| sa.party);
        let Some(entry) = self.children.get_mut(&config) else { return };
        let peer = entry.peer;
        let ours = self.peers.get(&peer).zip(party).is_some_and(|(peer, party)| peer.looks_after(party));
        let of_its_own = entry.answered(child).is_some_and(|asked| asked.only.is_some());
        let rekeyed = matches!(report.what, What::ChildUp { rekeyed: true, .. });
        entry.differs &= !rekeyed;
        if !entry.differs {
            entry.cause = None; // else it is up, and will not be for long
        }
        entry.wanted = false;
        entry.was_up |= ours;
        entry.trust();
        if rekeyed {
            entry.rekeys = entry.rekeys.saturating_add(1);
        } else if !of_its_own {
            entry.uncovered = Uncovered::default(); // the peer may take more of it by now
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.trouble = None;
            peer.spoiler.take_if(|spoiler| *spoiler == config);
            // It came without the renewal that is to be begun for it.
            let needless = ours && !of_its_own && peer.attempt.is_none();
            peer.renew.take_if(|renewal| needless && *renewal == Renewal::Refused(config));
        }
        // What came over from another connection takes nobody's place.
        let carries_on = self.sas.get(&child).and_then(|sa| self.used_before(sa, parts.outbound, parts.inbound));
        if of_its_own && carries_on.is_none() {
            self.make_room(now, child, parts);
        }
        self.agenda.touch(peer);
        self.report(report);
        if let Some(cause) = self.narrowed_anew(child, parts).filter(|_| !of_its_own) {
            self.tell(Some(peer), Some(config), What::Narrowed, Some(cause));
        }
    }

    fn child_failed<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        (ike, peer): (IkeId, PeerId),
        (id, config): (Option<ChildId>, Option<ChildConfigId>),
        failure: &Failure,
        parts: &mut Parts<'_, '_, C, P>,
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
        let sa = id.and_then(|id| self.sas.get(&id));
        let carried_on = sa.is_some_and(|sa| self.is_carried_on(sa, parts.inbound));
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let Some(config) = config else {
            // The peer asked. What it was about shows in its own words only.
            entry.trouble = Some(cause.clone());
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
        let (what, renewed) = match id.and_then(|id| self.sas.get_mut(&id)) {
            // It was to be rekeyed, and goes on.
            Some(sa) => {
                child.cause = Some(cause.clone());
                sa.refused = sa.refused.saturating_add(1);
                let silent = sa.probed_in_vain(parts.inbound);
                let times = parts.endpoint.child_sa(sa.child).and_then(|sa| sa.expires_at.zip(sa.rekey_at));
                let last = sa.spent || times.is_some_and(|(end, next_try)| end <= next_try);
                let over = silent || last || failure.is_about_pfs() || sa.refused >= PATIENCE;
                (What::RekeyFailed, over && !carried_on)
            }
            None => {
                child.fail(now, cause.clone());
                // Who is busy for the moment is asked again, and who is for minutes may take with a new IKE SA what it never took.
                // What was refused with a new connection just now is no better with the next one.
                let begun = entry.begun == Some(config) && entry.established_at == Some(now);
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
    fn child_drains<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        child: ChildId,
        parts: &mut Parts<'_, '_, C, P>,
    ) {
        let Some(sa) = self.sas.get_mut(&child) else { return };
        sa.drain(parts.outbound);
        let (peer, config, spent) = (sa.peer, sa.config, sa.spent);
        let Some(entry) = self.children.get_mut(&config) else { return };
        entry.draining.extend(entry.sas.take(&child));
        self.leave(now, config, spent);
        let Some(entry) = self.children.get(&config) else { return };
        if entry.sas.is_empty() {
            // What took its place is gone already, and could not be told as the end.
            let cause = entry.cause.clone();
            self.agenda.touch(peer);
            self.tell(Some(peer), Some(config), What::ChildDown, cause);
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
        self.tell(Some(peer), Some(config), What::ChildDown, Some(cause));
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one event")]
    fn closed<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        ike: IkeId,
        &Who { peer, claimed, identity, party }: &Who,
        remote: SocketAddr,
        established: bool,
        failure: &Failure,
        parts: &mut Parts<'_, '_, C, P>,
    ) {
        if peer.is_none() && !established {
            self.knock(now);
        }
        // Strangers neither fill the log nor keep us busy.
        if peer.is_none() && !self.strangers.admit(now) {
            return;
        }
        let about = peer.or(claimed).or_else(|| sole_candidate(remote, parts));
        let pad = parts.endpoint.pad();
        let config = about.and_then(|id| pad.get(id));
        let ours = about.and_then(|id| pad.connection(id)).map(|connection| Identity::from(connection.local_id));
        let mut cause = Cause::of_handshake(failure, remote, config, ours.as_ref(), identity.as_ref());
        let mut goes_on = false;
        if let Some(id) = about {
            let Some(entry) = self.peers.get_mut(&id) else { return };
            let ours = entry.attempt == Some(ike);
            if ours {
                entry.silent = *failure == Failure::PeerSilent(ExchangeType::IKE_SA_INIT);
            }
            if ours && matches!(failure, Failure::PeerSilent(_)) {
                cause = entry.unsent.take().unwrap_or(cause);
            }
            if ours && failure.is_about_child() {
                entry.spoiler = entry.begun;
                if let Some(child) = entry.begun.and_then(|begun| self.children.get_mut(&begun)) {
                    child.failures = child.failures.saturating_add(1);
                }
            }
            let known = entry.ikes.len();
            entry.ikes.retain(|held| *held != ike);
            entry.superseded.remove(&ike);
            if established && known == entry.ikes.len() {
                return; // it was closed here, and told then
            }
            if established && *failure == Failure::Replaced {
                self.replaced(now, id, remote, parts.endpoint);
            }
            let connected = self.is_connected(id, parts.endpoint);
            goes_on = self.connections(id, parts.endpoint).any(|ike| ike.party == party);
            let Some(entry) = self.peers.get_mut(&id) else { return };
            if established && !connected && cause.kind != Kind::Intent {
                entry.lost(now);
            }
            if ours && !established {
                match cause.kind {
                    Kind::Intent => entry.conclude(),
                    _ => self.fail(now, id, cause.clone()),
                }
            } else if established && (entry.attempt.is_some() || !entry.looks_after(party)) {
                // Another one is made already, or it was nobody that we call.
            } else if !connected && cause.kind != Kind::Intent {
                let lasted = entry.established_at.is_some_and(|since| now.since(since) >= LASTING);
                match (established, lasted) {
                    (true, true) if *failure != Failure::ClosedByPeer => self.lose(id, cause.clone()),
                    (true, lasted) => {
                        entry.failures = if lasted { 0 } else { entry.failures };
                        self.fail(now, id, cause.clone());
                    }
                    // Of a handshake that a stranger began, only the cause is kept, for display.
                    (false, _) => entry.cause = Some(cause.clone()),
                }
            }
        }
        let what = match (established, goes_on) {
            (true, true) => What::Merged,
            (true, false) => What::Closed,
            (false, _) => What::Failed { remote: Some(remote) },
        };
        // A handshake of ours that we ended ourselves ended because of something, and is no failure to who waits for the next.
        let entry = about.and_then(|id| self.peers.get_mut(&id));
        let cut = entry.and_then(|entry| entry.cut.take_if(|(cut, _)| *cut == ike));
        let cut = cut.map(|(_, why)| Cause { kind: Kind::Intent, ..why });
        self.tell(about, None, what, cut.or(Some(cause)));
    }

    pub(super) fn tell(
        &mut self,
        peer: Option<PeerId>,
        child: Option<ChildConfigId>,
        what: What,
        cause: Option<Cause>,
    ) {
        // Of a peer that is gone nobody wants to hear.
        let about = peer;
        let peer = about.and_then(|id| self.peer_name(id));
        if about.is_some() && peer.is_none() {
            return;
        }
        let child = child.and_then(|id| self.child_name(id));
        self.report(Report { peer, child, what, cause });
    }

    fn peer_name(&self, id: PeerId) -> Option<alloc::string::String> {
        self.peers.get(&id).map(|entry| entry.name.clone())
    }

    fn child_name(&self, id: ChildConfigId) -> Option<alloc::string::String> {
        self.children.get(&id).map(|entry| entry.name.clone())
    }
}

/// The peer at an address, when there is only one it can be.
fn sole_candidate<C: IkeCrypto, P: PacketCrypto>(remote: SocketAddr, parts: &Parts<'_, '_, C, P>) -> Option<PeerId> {
    let peers = parts.endpoint.pad();
    let mut there = peers.iter().map(|(id, _)| id).filter(|id| peers.addresses(*id).any(|addr| addr == remote.ip()));
    there.next().filter(|_| there.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;
    use crate::config::Config;

    #[test]
    fn f_63_a_peer_that_we_called_is_authenticated_anew_beside_the_connection_and_told_why() {
        let text = "[[peer]]\nname='a'\nlocal='192.0.2.2'\nremote='192.0.2.1'\nstart='passive'\n\
                    psk='a key of more than twenty octets'\n[[peer.child]]\nname='net'\nlocal-ts='10.2.0.0/16'\n\
                    remote-ts='10.1.0.0/16'\n";
        // Whether the operator took it down.
        for held in [false, true] {
            let renewed = !held;
            let (mut gateway, _) = Gateway::new(Config::parse(text).unwrap().0);
            let (id, entry) = gateway.peers.iter_mut().next().unwrap();
            let (id, child) = (*id, entry.children[0]);
            entry.held = held;
            // As often as the peer likes, and once at a time.
            entry.retry_at = Some(Instant::from_millis(u64::MAX));
            gateway.reauthenticate(id, None);
            gateway.reauthenticate(id, None);
            let entry = &gateway.peers[&id];
            assert_eq!((entry.renew, entry.retry_at.is_none()), (renewed.then_some(Renewal::Proof(child)), renewed));
            let told: Vec<_> = gateway.reports.iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), usize::from(renewed), "{told:?}");
            assert!(
                told.iter().all(|line| line.contains("anew") && line.contains("[authentication-lifetime]")),
                "{told:?}"
            );
        }
    }
}
