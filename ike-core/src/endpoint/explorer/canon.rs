//! One name for all states that cannot be told apart: SPIs, names and keys by where they come up first, times from now on.

use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::vec::Vec;

use ipsec_core::time::Instant;

use super::toy::digest;
use crate::child::{Child, Phase, Standing as ChildStanding};
use crate::endpoint::Endpoint;
use crate::event::ChildId;
use crate::failure::Failure;
use crate::registry::PayloadType;
use crate::room::{MARKER_LEN, Pair};
use crate::sa::{Established, First, Heir, Request, Sa, Standing, State};
use crate::timers::{Patience, When};
use crate::window::Message;
use crate::wire::chain::Chain;
use crate::wire::delete::Delete;
use crate::wire::header::Header;
use crate::wire::notify::Notify;
use crate::wire::sa::Sa as Proposals;

use super::toy::Toy;
use crate::pad::Pad;

/// What is known by no more than which others are the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Ike(u64),
    Esp(u64),
    Child(ChildId),
    Key(u64),
    /// How a message ends: copies of it are the same message.
    Message(u64),
}

/// What is older than this is as old as anything.
const OLD: u64 = 60_000;

/// A state as it is written down.
pub(super) struct Canon {
    now: Instant,
    words: Vec<u64>,
    names: BTreeMap<Name, u64>,
}

impl Canon {
    pub(super) fn new(now: Instant) -> Self {
        Self { now, words: Vec::new(), names: BTreeMap::new() }
    }

    pub(super) fn finish(self) -> [u64; 2] {
        let octets: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        [digest(4, &octets), digest(5, &octets)]
    }

    pub(super) fn word(&mut self, word: impl Into<u64>) {
        self.words.push(word.into());
    }

    pub(super) fn name(&mut self, name: Name) {
        let next = self.names.len() as u64;
        let number = *self.names.entry(name).or_insert(next);
        self.words.push(number);
    }

    fn size(&mut self, size: usize) {
        self.words.push(size as u64);
    }

    /// How far ahead.
    fn ahead(&mut self, at: Option<Instant>) {
        self.words.push(at.map_or(u64::MAX, |at| at.since(self.now).as_millis() as u64));
    }

    /// How long ago.
    fn ago(&mut self, at: Instant) {
        self.words.push((self.now.since(at).as_millis() as u64).min(OLD));
    }

    fn cause(&mut self, cause: Option<&Failure>) {
        self.words.push(cause.map_or(0, |cause| digest(6, format!("{cause:?}").as_bytes())));
    }

    fn when(&mut self, when: When) {
        self.word(when == When::Now);
        self.ahead(when.at());
    }

    fn patience(&mut self, patience: &Patience) {
        let (since, until, refusals) = patience.parts();
        self.word(refusals);
        self.ahead(until);
        self.words.push(since.map_or(u64::MAX, |since| self.now.since(since).as_millis() as u64));
    }

    fn heir(&mut self, heir: Option<Heir>) {
        match heir {
            None => self.word(u64::MAX),
            Some(heir) => {
                self.word(heir.slot);
                self.name(Name::Ike(heir.spi));
            }
        }
    }

    fn child_name(&mut self, child: Option<ChildId>) {
        match child {
            None => self.word(u64::MAX),
            Some(child) => self.name(Name::Child(child)),
        }
    }

    /// A message: who it is for, what it asks or answers, and which it is. Nonces, public values and the IV say nothing: what
    /// comes of them shows in the keys.
    pub(super) fn message(&mut self, datagram: &[u8]) {
        let Ok(header) = Header::parse(datagram) else { return self.word(u64::MAX) };
        self.name(Name::Ike(header.spi_i));
        self.name(Name::Ike(header.spi_r));
        self.word(header.exchange.0);
        self.word(u8::from(header.response) | (u8::from(header.initiator) << 1));
        self.word(header.message_id);
        self.name(Name::Message(ending(datagram)));
        for payload in Chain::new(header.next, &datagram[Header::LEN..]).map_while(Result::ok) {
            match payload.kind {
                PayloadType::SK => {
                    // IV, text, the length of no padding, tag: the engine hides nothing.
                    let text = &payload.body[8..payload.body.len() - 17];
                    Chain::new(payload.next, text)
                        .map_while(Result::ok)
                        .for_each(|inner| self.payload(inner.kind, inner.body));
                }
                kind => self.payload(kind, payload.body),
            }
        }
        self.word(u64::MAX);
    }

    fn payload(&mut self, kind: PayloadType, body: &[u8]) {
        self.word(kind.0);
        match kind {
            PayloadType::NONCE | PayloadType::AUTH => {}
            PayloadType::KE => self.words.push(digest(7, &body[..2])),
            PayloadType::SA => {
                for proposal in Proposals::parse(body).unwrap().proposals() {
                    self.word(proposal.number);
                    self.spi(proposal.spi);
                    proposal.transforms().for_each(|transform| {
                        self.word(transform.kind.0);
                        self.word(transform.id);
                    });
                }
            }
            PayloadType::NOTIFY => {
                let notify = Notify::parse(body).unwrap();
                self.word(notify.kind.0);
                self.spi(notify.spi);
            }
            PayloadType::DELETE => {
                let delete = Delete::parse(body).unwrap();
                self.word(delete.protocol.0);
                // In no order.
                let spis: BTreeSet<&[u8]> = delete.spis().collect();
                spis.into_iter().for_each(|spi| self.spi(spi));
            }
            _ => self.words.push(digest(8, body)),
        }
    }

    fn spi(&mut self, spi: &[u8]) {
        match *spi {
            [] => self.word(u64::MAX),
            [a, b, c, d] => self.name(Name::Esp(u32::from_be_bytes([a, b, c, d]).into())),
            _ => self.name(Name::Ike(u64::from_be_bytes(spi.try_into().unwrap()))),
        }
    }

    fn written(&mut self, buffer: &[u8], message: Option<Message>) {
        match message {
            None => self.word(u64::MAX),
            Some(message) => self.message(&buffer[MARKER_LEN..][..message.datagrams.len()]),
        }
    }

    /// All that one end holds. The order in which slots are free is left out: it decides only which number comes next.
    pub(super) fn endpoint<P: Pad>(&mut self, endpoint: &mut Endpoint<'_, Toy, P>) {
        for (slot, child) in endpoint.children.table.iter() {
            self.word(slot);
            self.name(Name::Child(endpoint.children.id(slot).unwrap()));
            self.child(child);
        }
        self.word(u64::MAX);
        let slots: Vec<u16> = endpoint.sas.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.word(slot);
            let sa = endpoint.sas.get(slot).unwrap();
            let Pair { request, response } = endpoint.rooms.of(slot, sa.block.as_ref()).unwrap();
            self.sa(sa, request, response);
        }
        self.word(u64::MAX);
    }

    fn sa(&mut self, sa: &Sa<Toy>, request: &[u8], response: &[u8]) {
        self.word(u8::from(sa.initiator) | (u8::from(sa.called) << 1));
        self.name(Name::Ike(sa.spi_i));
        self.name(Name::Ike(sa.spi_r));
        if let Some(keys) = &sa.keys {
            self.name(Name::Key(digest(9, keys.sk_d.as_slice())));
        }
        self.word(sa.ke.is_some());
        let window = &sa.window;
        self.word(window.expected());
        self.written(response, window.response);
        self.name(Name::Message(window.answered_last()));
        self.word(window.repeated > 0);
        match window.outstanding() {
            None => self.word(u64::MAX),
            Some(outstanding) => {
                self.word(window.requested());
                self.size(outstanding.repetitions as usize);
                self.ahead(Some(outstanding.due));
                self.written(request, Some(outstanding.message));
            }
        }
        match &sa.state {
            State::InitSent(init) => {
                self.word(1u64);
                self.word(init.restarts);
                self.word(init.late);
                self.size(init.cookie.len());
                self.cause(init.noted.last());
            }
            State::InitAnswered(answered) => {
                self.word(2u64);
                self.ahead(Some(answered.until));
                self.word(answered.course.waits);
            }
            State::AuthSent(sent) => {
                self.word(3u64);
                self.word(match sent.child {
                    First::Wanted(_) => u16::MAX,
                    First::Asked(slot) => slot,
                });
                self.word(sent.course.waits);
            }
            State::Established(established) => self.established(established),
            State::Dead(dead) => {
                self.word(4u64);
                self.ahead(dead.until);
            }
        }
    }

    fn established(&mut self, established: &Established) {
        self.word(5u64);
        self.ago(established.since);
        let (kind, until) = match established.standing {
            Standing::Stands => (0u64, None),
            Standing::Undecided { until, .. } => (1, Some(until)),
            Standing::GaveWay { until, .. } => (2, Some(until)),
            Standing::Replaced { .. } => (3, None),
            Standing::Redundant => (4, None),
        };
        self.word(kind);
        self.heir(established.standing.kin());
        self.ahead(until);
        self.cause(established.leaving.as_ref());
        let flags = [established.work, established.liveness.wanted, established.confirmed, established.announced];
        flags.into_iter().for_each(|flag| self.word(flag));
        self.ago(established.liveness.heard);
        self.when(established.rekey);
        self.word(established.regroups);
        self.patience(&established.busy);
        self.patience(&established.refused);
        match &established.request {
            None => self.word(0u64),
            Some(Request::Child(request)) => {
                self.word(1u64);
                self.word(request.new);
                self.child_name(request.old);
                self.word(u8::from(request.narrow) | (u8::from(request.fresh) << 1));
                self.word(request.restarts);
                self.child_name(request.crossed.as_ref().map(|crossed| crossed.made));
            }
            Some(Request::Rekey(request)) => {
                self.word(2u64);
                self.word(request.new);
                self.name(Name::Ike(request.spi));
                self.heir(request.crossed.as_ref().map(|crossed| crossed.made));
            }
            Some(Request::DeleteChild) => self.word(3u64),
            Some(Request::DeleteIke(cause)) => {
                self.word(4u64);
                self.cause(Some(cause));
            }
            Some(Request::Liveness) => self.word(5u64),
        }
    }

    fn child(&mut self, child: &Child) {
        self.word(child.ike);
        self.name(Name::Esp(child.spi_in.get().into()));
        self.name(Name::Esp(child.spi_out.into()));
        self.child_name(child.replaces);
        self.child_name(child.beside);
        self.word(
            u8::from(child.ours) | (u8::from(child.outbound_ready) << 1) | (u8::from(child.suite.is_some()) << 2),
        );
        self.patience(&child.refused);
        self.word(child.report as u64);
        self.child_name(child.standing.heir());
        self.ahead(match child.standing {
            ChildStanding::GaveWay { until, .. } => Some(until),
            _ => None,
        });
        match &child.phase {
            Phase::Wanted(at) => {
                self.word(1u64);
                self.ahead(Some(*at));
            }
            Phase::Creating => self.word(2u64),
            Phase::Up(up) => {
                self.word(3u64);
                self.cause(up.leaving.as_ref());
                self.when(up.rekey);
                self.ahead(up.settles_at);
                self.word(u64::from(up.confirmed));
            }
            Phase::Deleting(why) => {
                self.word(4u64);
                self.cause(Some(why));
            }
            Phase::Draining(until) => {
                self.word(5u64);
                self.ahead(Some(*until));
            }
            Phase::Ended(_) => self.word(6u64),
        }
    }
}

/// The end of a message, which no other has.
pub(super) fn ending(datagram: &[u8]) -> u64 {
    datagram.last_chunk().map_or(0, |tail| u64::from_le_bytes(*tail))
}
