//! What IKE tells, taken up: SAs installed and removed, states kept, the story told.

use alloc::string::ToString;
use core::net::SocketAddr;

use ike_core::crypto::IkeCrypto;
use ike_core::event::{ChildId, Event, IkeId};
use ike_core::failure::Failure;
use ike_core::pad::{ChildConfigId, PeerId};
use ike_core::registry::ExchangeType;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use super::coming::Came;
use super::connections::Who;
use crate::cause::Cause;
use crate::state::report::Report;
use crate::state::{Gateway, Parts};

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
    pub(super) fn take_events<C: IkeCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C>) {
        while let Some(note) = self.next_note(now, parts) {
            if let Some(peer) = note.about().filter(|peer| self.peers.contains_key(peer)) {
                self.agenda.touch(peer);
            }
            self.take(now, note, parts);
        }
    }

    fn next_note<C: IkeCrypto>(&mut self, now: Instant, parts: &mut Parts<'_, '_, C>) -> Option<Note> {
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
                let (child, config) = (up.child, up.config);
                let report = self.report_of(&up);
                Note::Up { child, config, report, came: self.came(now, &up, parts.plane) }
            }
            // Where all peers have keys nobody is asked to prove or to lease anything.
            _ => Note::Other,
        })
    }

    fn take<C: IkeCrypto>(&mut self, now: Instant, note: Note, parts: &mut Parts<'_, '_, C>) {
        match note {
            Note::Established { ike, peer } => self.established(now, ike, peer, parts.endpoint),
            Note::Rekeyed { old, new, peer } => self.rekeyed(old, new, peer, parts.endpoint),
            Note::Up { child, config, report, came } => self.child_up(now, (child, config), report, came, parts),
            Note::Outbound { child } => {
                let installed = self.sas.get_mut(child);
                if let Some(Err(refused)) = installed.map(|sa| sa.send_through(now, parts.plane)) {
                    // Nothing can be sent through it: better none than half a one.
                    let cause = Cause::not_installed(&refused.to_string());
                    self.close_for(now, child, cause, parts.endpoint);
                }
            }
            Note::Draining { child } => self.child_drains(now, child, parts),
            Note::Down { child, peer, config, cause } => self.child_gone(now, child, (peer, config), &cause, parts),
            Note::Noted { ike, peer, remote, cause } => self.noted(now, (ike, peer), remote, &cause, parts.endpoint),
            Note::ChildFailed { ike, peer, child, config, cause } => {
                self.child_failed(now, (ike, peer), (child, config), &cause, parts)
            }
            Note::Moved { ike, path } => self.moved(ike, path, parts),
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
}
