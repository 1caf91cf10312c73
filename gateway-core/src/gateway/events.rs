//! What IKE tells, taken up: SAs installed and removed, states kept, the story told.

use core::net::SocketAddr;
use core::time::Duration;

use ike_core::crypto::IkeCrypto;
use ike_core::event::{ChildId, Event, IkeId};
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::crypto::PacketCrypto;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::report::{Report, What};
use super::{Gateway, Parts, install};
use crate::cause::{Cause, Kind};
use crate::policy::policy_of;

/// A connection that lasted this long was a good one: the pauses between attempts start anew.
const LASTING: Duration = Duration::from_secs(30);

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
        refused: Option<Cause>,
    },
    Outbound {
        child: ChildId,
    },
    Down {
        child: ChildId,
        peer: PeerId,
        config: ChildConfigId,
        cause: Failure,
    },
    ChildFailed {
        peer: PeerId,
        config: Option<ChildConfigId>,
        cause: Failure,
    },
    Moved {
        ike: IkeId,
        path: Path,
    },
    RekeyFailed {
        peer: PeerId,
        cause: Failure,
    },
    Closed {
        ike: IkeId,
        peer: Option<PeerId>,
        claimed: Option<PeerId>,
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

impl Gateway {
    pub(super) fn take_events<C: IkeCrypto, P: PacketCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C, P>) {
        while let Some(note) = self.next_note(now, parts) {
            self.changed |= !matches!(note, Note::Refused { .. } | Note::Closed { peer: None, .. } | Note::Other);
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
            Event::ChildDown { child, peer, config, cause } => Note::Down { child, peer, config, cause },
            Event::ChildFailed { peer, config, cause, .. } => Note::ChildFailed { peer, config, cause },
            Event::PathChanged { ike, path } => Note::Moved { ike, path },
            Event::RekeyFailed { peer, cause, .. } => Note::RekeyFailed { peer, cause },
            Event::Closed { ike, peer, claimed, remote, established, cause } => {
                Note::Closed { ike, peer, claimed, remote, established, cause }
            }
            Event::Refused { path, cause } => Note::Refused { path, cause },
            Event::ChildUp(up) => {
                // Its keys are lent until the next event: installed here and now.
                let lifetime = self.child(up.config).map(|entry| entry.lifetime).unwrap_or_default();
                let installed = install::install(now, &up, lifetime, self.window, parts.outbound, parts.inbound);
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
                let refused = match installed {
                    Ok(installed) => {
                        self.sas.push(installed);
                        None
                    }
                    Err(refused) => Some(Cause::not_installed(&alloc::format!("{refused:?}"))),
                };
                Note::Up { child: up.child, config: up.config, report, refused }
            }
            _ => Note::Other,
        })
    }

    fn take<C: IkeCrypto, P: PacketCrypto>(&mut self, now: Instant, note: Note, parts: &mut Parts<'_, '_, C, P>) {
        match note {
            Note::Established { ike, peer } => self.established(now, ike, peer),
            Note::Rekeyed { old, new, peer } => {
                self.sas.iter_mut().filter(|sa| sa.ike == old).for_each(|sa| sa.ike = new);
                self.tell(Some(peer), None, What::Rekeyed, None);
            }
            Note::Up { child, config, report, refused: None } => {
                let wanted = self.child_up(child, config, &report);
                self.report(report);
                if !wanted {
                    drop(parts.endpoint.close_child(now, child));
                }
            }
            Note::Up { child, config, report, refused: Some(cause) } => {
                drop(parts.endpoint.close_child(now, child));
                if let Some(entry) = self.child(config) {
                    entry.fail(now, cause.clone());
                }
                self.report(Report { what: What::ChildFailed, cause: Some(cause), ..report });
            }
            Note::Outbound { child } => {
                let installed = self.sas.iter_mut().find(|sa| sa.child == child);
                if installed.is_some_and(|sa| sa.send_through(now, parts.outbound).is_err()) {
                    // Nothing can be sent through it: better none than half a one.
                    drop(parts.endpoint.close_child(now, child));
                }
            }
            Note::Down { child, peer, config, cause } => {
                self.uninstall(child, parts);
                self.child_down(now, peer, config, &cause, parts);
            }
            Note::ChildFailed { peer, config, cause } => {
                let child = config.and_then(|config| parts.endpoint.pad().get_child(config));
                let cause = Cause::of_child(&cause, child.map(|(_, _, child)| child));
                if let Some(entry) = config.and_then(|config| self.child(config)) {
                    entry.fail(now, cause.clone());
                }
                self.tell(Some(peer), config, What::ChildFailed, Some(cause));
            }
            Note::Moved { ike, path } => {
                for sa in self.sas.iter_mut().filter(|sa| sa.ike == ike) {
                    sa.move_to(path, parts.outbound, parts.inbound);
                }
                let peer = parts.endpoint.ike_sas().find(|view| view.id == ike).and_then(|view| view.peer);
                self.tell(peer, None, What::Moved { remote: path.remote }, None);
            }
            Note::RekeyFailed { peer, cause } => {
                let cause = Cause::of(&cause, parts.endpoint.pad().get(peer));
                self.tell(Some(peer), None, What::RekeyFailed, Some(cause));
            }
            Note::Closed { ike, peer, claimed, remote, established, cause } => {
                self.closed(now, ike, (peer, claimed), remote, established, &cause, parts);
            }
            Note::Refused { path, cause } if self.strangers.admit(now) => {
                let cause = Cause::of(&cause, None);
                self.tell(None, None, What::Refused { remote: path.remote }, Some(cause));
            }
            Note::Refused { .. } => {}
            Note::Other => {}
        }
    }

    fn established(&mut self, now: Instant, ike: IkeId, peer: PeerId) {
        if let Some(entry) = self.peer(peer) {
            entry.began = entry.attempt == Some(ike);
            if entry.began {
                entry.attempt = None;
            }
            entry.wanted = false;
            entry.cause = None;
            entry.retry_at = None;
            entry.established_at = Some(now);
        }
        self.tell(Some(peer), None, What::Connected, None);
    }

    /// Returns whether it is still wanted: not when we asked for it and the operator took it down meanwhile.
    fn child_up(&mut self, child: ChildId, config: ChildConfigId, report: &Report) -> bool {
        let Some(entry) = self.child(config) else { return false };
        let ours = entry.asked == Some(child);
        if ours {
            entry.asked = None;
        }
        entry.wanted = false;
        entry.cause = None;
        entry.failures = 0;
        entry.retry_at = None;
        if matches!(report.what, What::ChildUp { rekeyed: true, .. }) {
            entry.rekeys = entry.rekeys.saturating_add(1);
        }
        !(ours && entry.held)
    }

    fn child_down<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        peer: PeerId,
        config: ChildConfigId,
        failure: &Failure,
        parts: &Parts<'_, '_, C, P>,
    ) {
        if *failure == Failure::Replaced {
            return; // the story is told by the one that replaces it
        }
        let last = !self.sas.iter().any(|sa| sa.config == config);
        let cause = Cause::of(failure, parts.endpoint.pad().get(peer));
        if let Some(entry) = self.child(config).filter(|_| last)
            && cause.kind != Kind::Intent
        {
            entry.fail(now, cause.clone());
        }
        self.tell(Some(peer), Some(config), What::ChildDown, Some(cause));
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one event")]
    fn closed<C: IkeCrypto, P: PacketCrypto>(
        &mut self,
        now: Instant,
        ike: IkeId,
        (peer, claimed): (Option<PeerId>, Option<PeerId>),
        remote: SocketAddr,
        established: bool,
        failure: &Failure,
        parts: &mut Parts<'_, '_, C, P>,
    ) {
        let about = peer.or(claimed).or_else(|| sole_candidate(remote, parts));
        let cause = Cause::of(failure, about.and_then(|id| parts.endpoint.pad().get(id)));
        let connected = about.is_some_and(|id| super::drive::connection(id, parts.endpoint).is_some());
        if let Some(entry) = about.and_then(|id| self.peer(id)) {
            let ours = entry.attempt == Some(ike);
            if ours && !established {
                match cause.kind {
                    Kind::Intent => entry.attempt = None,
                    _ => entry.fail(now, cause.clone()),
                }
            } else if !connected && cause.kind != Kind::Intent {
                if established && entry.established_at.is_some_and(|since| now.since(since) >= LASTING) {
                    entry.failures = 0;
                }
                // Of a handshake that a stranger began, only the cause is kept, for display.
                match established {
                    true => entry.fail(now, cause.clone()),
                    false => entry.cause = Some(cause.clone()),
                }
            }
        }
        if peer.is_none() && !self.strangers.admit(now) {
            return;
        }
        let what = match (established, connected) {
            (true, true) => What::Merged,
            (true, false) => What::Closed,
            (false, _) => What::Failed { remote: Some(remote) },
        };
        self.tell(about, None, what, Some(cause));
    }

    pub(super) fn tell(
        &mut self,
        peer: Option<PeerId>,
        child: Option<ChildConfigId>,
        what: What,
        cause: Option<Cause>,
    ) {
        let peer = peer.and_then(|id| self.peer_name(id));
        let child = child.and_then(|id| self.child_name(id));
        self.report(Report { peer, child, what, cause });
    }

    fn peer_name(&self, id: PeerId) -> Option<alloc::string::String> {
        self.peers.iter().find(|entry| entry.id == id).map(|entry| entry.name.clone())
    }

    fn child_name(&self, id: ChildConfigId) -> Option<alloc::string::String> {
        self.children.iter().find(|entry| entry.id == id).map(|entry| entry.name.clone())
    }
}

/// The peer at an address, when there is only one it can be.
fn sole_candidate<C: IkeCrypto, P: PacketCrypto>(remote: SocketAddr, parts: &Parts<'_, '_, C, P>) -> Option<PeerId> {
    let peers = parts.endpoint.pad();
    let mut there = peers.iter().map(|(id, _)| id).filter(|id| peers.addresses(*id).any(|addr| addr == remote.ip()));
    there.next().filter(|_| there.next().is_none())
}
