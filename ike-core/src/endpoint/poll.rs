//! Outputs: what to send, what happened, when to come back.

use ipsec_core::net::{Path, Spi};
use ipsec_core::time::Instant;

use super::{Endpoint, KEEPALIVE, MARKER_LEN};
use crate::agenda;
use crate::child::Phase;
use crate::crypto::IkeCrypto;
use crate::event::{ChildUp, Event, IkeId, Transmit};
use crate::pad::Pad;
use crate::sa::{Sa, State};
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
        if !self.transmits {
            return None;
        }
        if self.reply.as_ref().is_some_and(|reply| reply.waiting) {
            let reply = self.reply.as_mut()?;
            reply.waiting = false;
            return datagram(None, reply.path, self.settings.natt_port, &reply.bytes, reply.message, false);
        }
        let found = (0..=u16::MAX).zip(self.slots.iter_mut()).find_map(|(slot, place)| {
            let (path, source, repeated) = next_transmit(place.sa.as_mut()?)?;
            Some((IkeId { slot, generation: place.generation }, path, source, repeated))
        });
        let Some((ike, path, source, repeated)) = found else {
            self.transmits = false;
            return None;
        };
        let (request, response) = self.messages.pair(ike.slot)?;
        let (buffer, message) = match source {
            Source::Request(message) => (request, message),
            Source::Response(message) => (response, message),
            Source::Keepalive => {
                return Some(Transmit { ike: Some(ike), path, datagram: &KEEPALIVE, outline: None, repeated });
            }
        };
        datagram(Some(ike), path, self.settings.natt_port, buffer, message, repeated)
    }

    /// What happened next; `None` when nothing. Keys lent by the event before are wiped.
    pub fn poll_event(&mut self) -> Option<Event<'_>> {
        self.take_back_keys();
        if !self.events {
            return None;
        }
        if let Some((path, cause)) = self.refused.take() {
            return Some(Event::Refused { path, cause });
        }
        if let Some(event) = self.beginning() {
            return Some(event);
        }
        let telling = self.children.iter().filter(|(_, child)| child.to_tell());
        if let Some(slot) = telling.min_by_key(|(_, child)| child.report.rank()).map(|(slot, _)| slot) {
            return self.child_event(slot);
        }
        if let Some(event) = self.end() {
            return Some(event);
        }
        self.events = false;
        None
    }

    /// When to call [`Endpoint::handle_timeout`]; `None` when nothing is waiting.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sas = self.slots.iter().filter_map(|place| agenda::timeout(place.sa.as_ref()?, &self.pad)).min();
        let children = self.children.iter().filter_map(|(_, child)| child.timeout()).min();
        [sas, children].into_iter().flatten().min()
    }

    /// The beginning of an IKE SA, and what happens while it lives.
    fn beginning(&mut self) -> Option<Event<'static>> {
        (0..=u16::MAX).zip(self.slots.iter_mut()).find_map(|(slot, place)| {
            let sa = place.sa.as_mut()?;
            let ike = IkeId { slot, generation: place.generation };
            let peer = sa.peer;
            if core::mem::take(&mut sa.report.established) {
                return Some(Event::Established { ike, peer: peer? });
            }
            if let Some(old) = sa.report.rekeyed_from.take() {
                return Some(Event::IkeRekeyed { old, new: ike, peer: peer? });
            }
            // Of an SA of which it is not decided yet whether it takes over, the caller does not know.
            let known = !matches!(&sa.state, State::Established(established) if !established.announced);
            if known && core::mem::take(&mut sa.report.moved) {
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
            let (config, cause) = sa.report.child_failed.take()?;
            Some(Event::ChildFailed { ike, peer: peer?, child: None, config, cause })
        })
    }

    fn child_event(&mut self, slot: u16) -> Option<Event<'_>> {
        let id = self.children.id(slot)?;
        let ike_slot = self.children.get(slot)?.ike;
        let place = self.slots.get(usize::from(ike_slot))?;
        let ike = IkeId { slot: ike_slot, generation: place.generation };
        let sa = place.sa.as_ref().map(|sa| (sa.path, sa.encap, sa.party));
        let child = self.children.get_mut(slot)?;
        let (peer, config) = (child.peer, child.config);
        if let Some(cause) = child.rekey_failed.take() {
            return Some(Event::ChildFailed { ike, peer, child: Some(id), config: Some(config), cause });
        }
        if let Phase::Ended(cause) = &child.phase {
            let (cause, known) = (cause.clone(), child.report.known);
            self.children.free(slot);
            return Some(match known {
                true => Event::ChildDown { child: id, peer, config, cause },
                false => Event::ChildFailed { ike, peer, child: Some(id), config: Some(config), cause },
            });
        }
        if core::mem::take(&mut child.report.up) {
            child.report.known = true;
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
        if core::mem::take(&mut child.report.outbound) {
            return Some(Event::ChildOutbound { child: id });
        }
        child.report.draining = false;
        Some(Event::ChildDraining { child: id })
    }

    fn end(&mut self) -> Option<Event<'static>> {
        (0..=u16::MAX).zip(self.slots.iter_mut()).find_map(|(slot, place)| {
            let sa = place.sa.as_mut()?;
            let (established, cause) = sa.report.closed.take()?;
            // Whom a stranger claimed to be is not whom we talked with.
            let proven = established || sa.initiator;
            Some(Event::Closed {
                ike: IkeId { slot, generation: place.generation },
                peer: sa.peer.filter(|_| proven),
                claimed: sa.peer.filter(|_| !proven),
                identity: sa.named,
                party: sa.party,
                remote: sa.path.remote,
                established,
                cause,
            })
        })
    }
}

/// What an SA wants to send next, and whether it was sent before: answers first, the peer waits for them.
fn next_transmit<C: IkeCrypto>(sa: &mut Sa<C>) -> Option<(Path, Source, bool)> {
    if let Some((path, message, repeated)) = sa.window.take_response() {
        return Some((path, Source::Response(message), repeated));
    }
    if core::mem::take(&mut sa.window.send_request) {
        let request = sa.window.outstanding?;
        return Some((sa.path, Source::Request(request.message), request.repetitions > 0));
    }
    if let Some(message) = sa.farewell.take() {
        return Some((sa.path, Source::Request(message), false));
    }
    core::mem::take(&mut sa.send_keepalive).then_some((sa.path, Source::Keepalive, false))
}

/// The message that stands in `buffer` behind the room for the marker.
fn datagram(
    ike: Option<IkeId>,
    path: Path,
    natt_port: u16,
    buffer: &[u8],
    message: Written,
    repeated: bool,
) -> Option<Transmit<'_>> {
    let whole = buffer.get(..MARKER_LEN.checked_add(message.len)?)?;
    let datagram = if path.local.port() == natt_port { whole } else { whole.get(MARKER_LEN..)? };
    Some(Transmit { ike, path, datagram, outline: Some(message.outline), repeated })
}
