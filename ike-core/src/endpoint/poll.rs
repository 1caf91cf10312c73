//! Outputs: what to send, what happened, when to come back.

use core::mem::take;
use core::ops::Range;

use ipsec_core::net::{Cpi, Path, Spi};
use ipsec_core::time::Instant;

use super::host::Endpoint;
use super::reply::Reply;
use crate::auth::SignedOctets;
use crate::auth::ask::{Claim, Question, Signed};
use crate::auth::course::Asked;
use crate::child::{Phase, Report};
use crate::crypto::{Digest64, IkeCrypto};
use crate::event::{ChildUp, Event, IkeId, Transmit, WaitId};
use crate::exchange;
use crate::pad::Pad;
use crate::registry::ExchangeType;
use crate::room::{Half, MARKER_LEN, Pair};
use crate::rules::{Direction, Payloads, Rule, Stage};
use crate::sa::{Begun, Sa, State};
use crate::table::RANKS;
use crate::window::Outgoing;
use crate::wire::chain::Chain;

/// A NAT keepalive (RFC 3948 §2.3).
const KEEPALIVE: [u8; 1] = [0xff];

/// What is to be told of an IKE SA.
#[allow(clippy::large_enum_variant, reason = "it is the event that is given out, and not kept")]
enum Told {
    Event(Event<'static>),
    /// What the one in this slot asks for: that is lent.
    Question(u16),
}

impl<C: IkeCrypto, P: Pad> Endpoint<'_, C, P> {
    /// The next datagram to send; `None` when there is none.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        if self.reply.as_ref().is_some_and(|reply| reply.waiting) {
            let reply = self.reply.as_mut()?;
            reply.waiting = false;
            let Reply { path, message, bytes, .. } = reply;
            let datagram = datagram(*path, self.settings.natt_port, bytes, 0..message.len)?;
            let outline = Some(message.outline);
            return Some(Transmit { ike: None, path: *path, datagram, outline, repeated: false });
        }
        let (ike, sent) = loop {
            let slot = self.sas.sending()?;
            let mut sa = self.sas.edit(slot)?;
            // Each look takes one wish off an SA, also where nothing comes of it.
            let path = sa.path;
            let message = sa.window.next(path);
            let keepalive = message.is_none() && sa.take_keepalive();
            drop(sa);
            let ike = Some(self.id(slot));
            match message {
                Some(message) => break (ike, message),
                None if keepalive => {
                    return Some(Transmit { ike, path, datagram: &KEEPALIVE, outline: None, repeated: false });
                }
                None => {}
            }
        };
        let Outgoing { half, place, path, outline, repeated } = sent;
        let slot = ike?.slot;
        let block = self.sas.get(slot)?.block.as_ref();
        let Pair { request, response } = self.rooms.of(slot, block)?;
        let room = match half {
            Half::Request => request,
            Half::Response => response,
        };
        let datagram = datagram(path, self.settings.natt_port, room, place)?;
        Some(Transmit { ike, path, datagram, outline: Some(outline), repeated })
    }

    /// What happened next; `None` when nothing. Keys lent by the event before are wiped.
    pub fn poll_event(&mut self) -> Option<Event<'_>> {
        self.take_back_keys();
        if let Some((path, cause)) = self.refused.take() {
            return Some(Event::Refused { path, cause });
        }
        match self.beginning() {
            Some(Told::Event(event)) => return Some(event),
            Some(Told::Question(slot)) => return self.question(slot),
            None => {}
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
    fn beginning(&mut self) -> Option<Told> {
        loop {
            let slot = self.sas.telling(0)?;
            let ike = self.id(slot);
            // Each look takes one report off an SA, also where there is nobody whom it is about.
            let mut sa = self.sas.edit(slot)?;
            let asks =
                sa.course_mut().and_then(|course| course.wait.as_mut()).is_some_and(|wait| take(&mut wait.untold));
            // Of a connection that was removed nobody knows anything: the wait for an answer ends by itself.
            if asks && sa.peer.is_some_and(|peer| self.pad.connection(peer).is_some()) {
                return Some(Told::Question(slot));
            }
            if let Some(event) = beginning(&mut sa, ike) {
                return Some(Told::Event(event));
            }
        }
    }

    /// What the handshake in a slot stands still for.
    fn question(&mut self, slot: u16) -> Option<Event<'_>> {
        let ike = self.id(slot);
        let sa = self.sas.get(slot)?;
        let (course, nonce, theirs) = match &sa.state {
            State::InitAnswered(answered) => (&answered.course, &answered.nonce, answered.request_len),
            State::AuthSent(sent) => (&sent.course, &sent.nonce, sent.answer_len),
            _ => return None,
        };
        let (wait, keys, peer) = (course.wait.as_ref()?, sa.keys.as_ref()?, sa.peer?);
        let Pair { request, response } = self.rooms.of(slot, sa.block.as_ref())?;
        let (request, response) = (request.get(MARKER_LEN..)?, response.get(MARKER_LEN..)?);
        let (received, sent, direction) = match sa.initiator {
            true => (response, request, Direction::Response),
            false => (request, response, Direction::Request),
        };
        let message = received.get(..theirs)?;
        let (ours, theirs_sk) = match sa.initiator {
            true => (&keys.sk_pi, &keys.sk_pr),
            false => (&keys.sk_pr, &keys.sk_pi),
        };
        let mut signed = |octets: SignedOctets<'_>| {
            let mut maced_id = Digest64::new();
            octets.maced_id(&mut self.crypto, keys.suite.prf, &mut maced_id);
            maced_id
        };
        let question = match wait.asked {
            Asked::Proof => {
                let (message, nonce) = (course.own(sent), exchange::nonce_of(message));
                let id = self.pad.connection(peer)?.local_id;
                let maced_id = signed(SignedOctets { message: &[message], nonce, id, sk_p: ours });
                Question::Proof(Signed { message, nonce, maced_id })
            }
            Asked::Verdict => {
                let (first, octets) = course.kept(received, theirs)?;
                let rule = Rule::find(ExchangeType::IKE_AUTH, direction, Stage::Keyed)?;
                let payloads = Payloads::collect(first, octets, rule).ok()?;
                let id = if sa.initiator { payloads.id_r? } else { payloads.id_i? };
                let maced_id = signed(SignedOctets { message: &[message], nonce, id, sk_p: theirs_sk });
                let signed = Signed { message, nonce, maced_id };
                Question::Verdict(Claim { id, auth: payloads.auth?, signed, payloads: Chain::new(first, octets) })
            }
            Asked::Lease => {
                let (first, octets) = course.kept(received, theirs)?;
                let rule = Rule::find(ExchangeType::IKE_AUTH, direction, Stage::Keyed)?;
                Question::Lease { id: Payloads::collect(first, octets, rule).ok()?.id_i? }
            }
            Asked::Eap => Question::Eap { received: course.message(received, theirs) },
        };
        Some(Event::Asked { wait: WaitId { ike, number: course.waits }, ike, peer, wall: wait.wall, question })
    }

    fn child_event(&mut self, slot: u16) -> Option<Event<'_>> {
        let id = self.children.id(slot)?;
        let ike = self.id(self.children.get(slot)?.ike);
        let sa = self.sas.get(ike.slot).map(|sa| (sa.path, sa.encap, sa.party));
        let mut child = self.children.get_mut(slot)?;
        let (peer, config) = (child.peer, child.config);
        if let Some(cause) = child.untold.take_failure() {
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
            let keys = child.untold.keys()?;
            let (path, encap, party) = sa?;
            return Some(Event::ChildUp(ChildUp {
                child: id,
                ike,
                peer,
                config,
                replaces: child.replaces,
                ours: child.ours,
                outbound_ready: child.outbound_ready,
                mode: child.mode,
                suite: child.suite?,
                spi_in: child.spi_in,
                spi_out: Spi::new(child.spi_out)?,
                key_in: keys.inbound(),
                key_out: keys.outbound(),
                local: &child.local,
                remote: &child.remote,
                path,
                encap,
                compression: child.cpi_out.map(|theirs| (Cpi::of(child.spi_in), theirs)),
                takes_padding: child.takes_padding,
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
        let Some((established, cause)) = dead.untold.take() else {
            return sa.lease.take().map(|lease| Event::LeaseOver { ike, lease });
        };
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
    // What comes of it is known when it is noted no more.
    if core::mem::take(&mut sa.report.noted)
        && let Some(cause) = sa.noted().cloned()
    {
        return Some(Event::Noted { ike, peer: peer?, remote: sa.path.remote, cause });
    }
    let cause = sa.report.child_failed.take()?;
    Some(Event::ChildFailed { ike, peer: peer?, child: None, config: None, cause })
}

/// The octets of a datagram that stand in `room` at this place behind the room for the marker, which is zero (RFC 3948 §2.2).
fn datagram(path: Path, natt_port: u16, room: &mut [u8], place: Range<usize>) -> Option<&[u8]> {
    let whole = room.get_mut(place.start..MARKER_LEN.checked_add(place.end)?)?;
    whole.first_chunk_mut::<MARKER_LEN>()?.fill(0);
    if path.local.port() == natt_port { Some(whole) } else { whole.get(MARKER_LEN..) }
}
