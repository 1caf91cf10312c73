//! Outputs: what to send, what happened, when to come back.

use ipsec_core::net::{Path, Spi};
use ipsec_core::time::Instant;

use super::{Endpoint, KEEPALIVE};
use crate::child::{Phase, Report};
use crate::crypto::IkeCrypto;
use crate::event::{ChildUp, Event, IkeId, Transmit};
use crate::pad::Pad;
use crate::room::MARKER_LEN;
use crate::sa::{Begun, Sa, State};
use crate::table::RANKS;
use crate::wire::writer::Written;

/// Which buffer of a slot to send from.
enum Source {
    Request(Written),
    Response(Written),
    Keepalive,
}

impl<C: IkeCrypto, P: Pad> Endpoint<'_, C, P> {
    /// The next datagram to send; `None` when there is none.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        if self.reply.as_ref().is_some_and(|reply| reply.waiting) {
            let reply = self.reply.as_mut()?;
            reply.waiting = false;
            return datagram(None, reply.path, self.settings.natt_port, &mut reply.bytes, reply.message, false);
        }
        let (ike, path, source, repeated) = loop {
            let slot = self.sas.sending()?;
            // Each look takes one wish off an SA, also where nothing comes of it.
            let next = next_transmit(&mut *self.sas.edit(slot)?);
            if let Some((path, source, repeated)) = next {
                break (self.id(slot), path, source, repeated);
            }
        };
        let block = self.sas.get(ike.slot)?.block.as_ref();
        let messages = self.rooms.of(ike.slot, block)?;
        let (buffer, message) = match source {
            Source::Request(message) => (messages.request, message),
            Source::Response(message) => (messages.response, message),
            Source::Keepalive => {
                return Some(Transmit { ike: Some(ike), path, datagram: &KEEPALIVE, outline: None, repeated });
            }
        };
        datagram(Some(ike), path, self.settings.natt_port, buffer, message, repeated)
    }

    /// What happened next; `None` when nothing. Keys lent by the event before are wiped.
    pub fn poll_event(&mut self) -> Option<Event<'_>> {
        self.take_back_keys();
        if let Some((path, cause)) = self.refused.take() {
            return Some(Event::Refused { path, cause });
        }
        if let Some(event) = self.beginning() {
            return Some(event);
        }
        if let Some(slot) = (0..RANKS).find_map(|rank| self.children.table.telling(rank)) {
            return self.child_event(slot);
        }
        self.end()
    }

    /// When to call [`Endpoint::handle_timeout`]; `None` when nothing is waiting.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.sas.due(), self.children.table.due()].into_iter().flatten().min()
    }

    /// The beginning of an IKE SA, and what happens while it lives.
    fn beginning(&mut self) -> Option<Event<'static>> {
        loop {
            let slot = self.sas.telling(0)?;
            let ike = self.id(slot);
            // Each look takes one report off an SA, also where there is nobody whom it is about.
            if let Some(event) = beginning(&mut *self.sas.edit(slot)?, ike) {
                return Some(event);
            }
        }
    }

    fn child_event(&mut self, slot: u16) -> Option<Event<'_>> {
        let id = self.children.id(slot)?;
        let ike = self.id(self.children.get(slot)?.ike);
        let sa = self.sas.get(ike.slot).map(|sa| (sa.path, sa.encap, sa.party));
        let mut child = self.children.get_mut(slot)?;
        let (peer, config) = (child.peer, child.config);
        if let Some(cause) = child.rekey_failed.take() {
            return Some(Event::ChildFailed { ike, peer, child: Some(id), config: Some(config), cause });
        }
        if let Phase::Ended(cause) = &child.phase {
            let (cause, known) = (cause.clone(), child.report.is_known());
            drop(child);
            self.children.free(slot);
            return Some(match known {
                true => Event::ChildDown { child: id, peer, config, cause },
                false => Event::ChildFailed { ike, peer, child: Some(id), config: Some(config), cause },
            });
        }
        let told = child.report;
        child.report = if told == Report::UpThenDraining { Report::Draining } else { Report::Known };
        if matches!(told, Report::Up | Report::UpThenDraining) {
            drop(child);
            // In place: they stay in the child's slot until they are wiped there.
            self.lent = Some(id);
            let child = self.children.get(slot)?;
            let keys = child.keys.as_ref()?;
            let (path, encap, party) = sa?;
            return Some(Event::ChildUp(ChildUp {
                child: id,
                ike,
                peer,
                config,
                replaces: child.replaces,
                ours: child.ours,
                outbound_ready: child.outbound_ready,
                suite: child.suite?,
                spi_in: child.spi_in,
                spi_out: Spi::new(child.spi_out)?,
                key_in: keys.inbound.as_slice(),
                key_out: keys.outbound.as_slice(),
                local: &child.local,
                remote: &child.remote,
                path,
                encap,
                party,
            }));
        }
        Some(match told {
            Report::Outbound => Event::ChildOutbound { child: id },
            _ => Event::ChildDraining { child: id },
        })
    }

    fn end(&mut self) -> Option<Event<'static>> {
        let slot = self.sas.telling(1)?;
        let ike = self.id(slot);
        let mut sa = self.sas.edit(slot)?;
        let State::Dead(dead) = &mut sa.state else { return None };
        let (established, cause) = dead.untold.take()?;
        // Whom a stranger claimed to be is not whom we talked with.
        let proven = established || sa.initiator;
        Some(Event::Closed {
            ike,
            peer: sa.peer.filter(|_| proven),
            claimed: sa.peer.filter(|_| !proven),
            identity: sa.named,
            party: sa.party,
            remote: sa.path.remote,
            established,
            cause,
        })
    }
}

fn beginning<C: IkeCrypto>(sa: &mut Sa<C>, ike: IkeId) -> Option<Event<'static>> {
    let peer = sa.peer;
    match sa.report.begun.take() {
        Some(Begun::Established) => return Some(Event::Established { ike, peer: peer? }),
        Some(Begun::Rekeyed(old)) => return Some(Event::IkeRekeyed { old, new: ike, peer: peer? }),
        None => {}
    }
    if sa.is_known() && core::mem::take(&mut sa.report.moved) {
        return Some(Event::PathChanged { ike, path: sa.path });
    }
    if core::mem::take(&mut sa.report.reauthenticate) {
        return Some(Event::Reauthenticate { ike, peer: peer? });
    }
    if let Some(cause) = sa.report.rekey_failed.take() {
        return Some(Event::RekeyFailed { ike, peer: peer?, cause });
    }
    if let Some(exchange) = sa.report.unanswered.take() {
        return Some(Event::Unanswered { ike, peer: peer?, exchange });
    }
    if let Some(cause) = sa.report.noted.take() {
        return Some(Event::Noted { ike, peer: peer?, remote: sa.path.remote, cause });
    }
    let cause = sa.report.child_failed.take()?;
    Some(Event::ChildFailed { ike, peer: peer?, child: None, config: None, cause })
}

/// What an SA wants to send next, and whether it was sent before: answers first, the peer waits for them.
fn next_transmit<C: IkeCrypto>(sa: &mut Sa<C>) -> Option<(Path, Source, bool)> {
    if let Some((path, message, repeated)) = sa.window.take_response() {
        return Some((path, Source::Response(message), repeated));
    }
    if core::mem::take(&mut sa.window.send_request) {
        let request = sa.window.outstanding()?;
        return Some((sa.path, Source::Request(request.message), request.repetitions > 0));
    }
    let source = match &mut sa.state {
        State::Established(established) => {
            core::mem::take(&mut established.keepalive.waits).then_some(Source::Keepalive)
        }
        _ => sa.window.take_last_word().map(Source::Request),
    };
    source.map(|source| (sa.path, source, false))
}

/// The message that stands in `buffer` behind the room for the marker, which is zero (RFC 3948 §2.2).
fn datagram(
    ike: Option<IkeId>,
    path: Path,
    natt_port: u16,
    buffer: &mut [u8],
    message: Written,
    repeated: bool,
) -> Option<Transmit<'_>> {
    let whole = buffer.get_mut(..MARKER_LEN.checked_add(message.len)?)?;
    whole.first_chunk_mut::<MARKER_LEN>()?.fill(0);
    let datagram = if path.local.port() == natt_port { whole } else { whole.get(MARKER_LEN..)? };
    Some(Transmit { ike, path, datagram, outline: Some(message.outline), repeated })
}
