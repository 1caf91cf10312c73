//! SAs with manual keys: what the configuration says of each pair, and what of it is in the data plane.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use ipsec_core::net::Spi;
use ipsec_core::time::Instant;

use super::usage::{Account, Totals};
use crate::cause::Cause;
use crate::config::{MANUAL, ManualId, ManualPair, Traffic};
use crate::plane::{DataPlane, Half, Pair, Usage};

/// Which question for numbers. None is given out twice: an answer that comes late finds who asked, or nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A question: which sequence numbers a key may be used with. Whoever answers has made sure, on a disk say, that none of them
/// was given out before and none of them ever will be again.
///
/// ```
/// use gateway_core::gateway::{Numbers, Reserve, Ticket};
/// /// Of a key that nobody used before: a thousand numbers.
/// fn answer(reserve: &Reserve<'_>) -> (Ticket, Numbers) {
///     (reserve.ticket, Numbers { after: reserve.after, until: reserve.last.min(reserve.after + 1000) })
/// }
/// let asked = Reserve { ticket: Ticket(1), key: &[7; 20], theirs: &[9; 20], after: 5, stated: 5, last: u32::MAX.into() };
/// assert_eq!(answer(&asked), (Ticket(1), Numbers { after: 5, until: 1005 }));
/// ```
pub struct Reserve<'g> {
    /// To be answered with.
    pub ticket: Ticket,
    /// The key, whatever else stands beside it: numbers are its own.
    pub key: &'g [u8],
    /// The key that the peer sends with, which its numbers belong to: nobody here may ever begin to count with it.
    pub theirs: &'g [u8],
    /// Only numbers behind this one are of use.
    pub after: u64,
    /// The `sequence` that the operator wrote, and so says that all up to it may have been used; 0: nothing.
    pub stated: u64,
    /// The last number that can be used at all.
    pub last: u64,
}

impl core::fmt::Debug for Reserve<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reserve").field("ticket", &self.ticket).field("after", &self.after).finish_non_exhaustive()
    }
}

/// Sequence numbers that are set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Those behind this one,
    pub after: u64,
    /// up to this one.
    pub until: u64,
}

/// A pair.
pub(crate) struct ManualEntry {
    pub(crate) id: ManualId,
    pub(crate) config: ManualPair,
    pub(crate) outbound: End,
    pub(crate) inbound: End,
    /// What is set aside for the SA that sends.
    pub(crate) numbers: Option<Numbers>,
    /// More are asked for.
    pub(crate) ticket: Option<Ticket>,
    /// The highest number that came in with the key of the SA that receives, as far as that is known: no packet of it is taken
    /// again, whatever changes about the SA.
    pub(crate) heard: u64,
    /// The operator took it down.
    pub(crate) held: bool,
    /// It was told as up.
    pub(crate) told_up: bool,
    /// On whose account it goes.
    pub(crate) account: Arc<Account>,
}

/// One SA of a pair.
#[derive(Default)]
pub(crate) struct End {
    /// What the data plane calls it, since when; `None`: it is not there.
    pub(crate) there: Option<(Pair, Instant)>,
    /// Why it is not.
    pub(crate) cause: Option<Cause>,
}

/// An SA that is to leave the data plane.
pub(crate) struct Leaving {
    pub(crate) pair: Pair,
    pub(crate) half: Half,
    pub(crate) since: Instant,
    pub(crate) spi_in: Spi,
    pub(crate) spi_out: Spi,
    pub(crate) account: Arc<Account>,
}

impl ManualEntry {
    fn new(id: ManualId, config: ManualPair) -> Self {
        let account = account(&config);
        Self {
            id,
            config,
            outbound: End::default(),
            inbound: End::default(),
            numbers: None,
            ticket: None,
            heard: 0,
            held: false,
            told_up: false,
            account,
        }
    }

    pub(crate) fn end(&self, half: Half) -> &End {
        match half {
            Half::Inbound => &self.inbound,
            Half::Outbound => &self.outbound,
        }
    }

    pub(crate) fn end_mut(&mut self, half: Half) -> &mut End {
        match half {
            Half::Inbound => &mut self.inbound,
            Half::Outbound => &mut self.outbound,
        }
    }

    /// Whether there are numbers behind those that are set aside.
    pub(crate) fn has_more_numbers(&self) -> bool {
        self.numbers.is_some_and(|numbers| numbers.until < self.config.outbound.last_number())
    }

    /// Whether both are there.
    pub(crate) fn is_up(&self) -> bool {
        self.outbound.there.is_some() && self.inbound.there.is_some()
    }

    /// One of them is to go, if it is there.
    pub(crate) fn leave(&mut self, half: Half) -> Option<Leaving> {
        let (pair, since) = core::mem::take(self.end_mut(half)).there?;
        let (spi_in, spi_out) = (self.config.inbound.spi, self.config.outbound.spi);
        Some(Leaving { pair, half, since, spi_in, spi_out, account: Arc::clone(&self.account) })
    }

    /// What went through one of them.
    pub(crate) fn used(&self, half: Half, plane: &dyn DataPlane) -> Usage {
        self.end(half).there.and_then(|(pair, _)| plane.usage(pair, half)).unwrap_or_default()
    }

    /// What went through those that are there.
    pub(crate) fn totals(&self, plane: &dyn DataPlane) -> Totals {
        Totals::of(self.used(Half::Inbound, plane), self.used(Half::Outbound, plane))
    }
}

fn account(config: &ManualPair) -> Arc<Account> {
    Arc::new(Account { peer: MANUAL.to_string(), child: config.name_in_all(), party: config.remote.to_string() })
}

/// All pairs.
#[derive(Default)]
pub(crate) struct Manual {
    /// In the order of the file.
    order: Vec<ManualId>,
    all: BTreeMap<ManualId, ManualEntry>,
    by_pair: BTreeMap<Pair, (ManualId, Half)>,
    by_ticket: BTreeMap<Ticket, ManualId>,
    /// Tickets that nobody has seen yet.
    asked: VecDeque<Ticket>,
    last_id: u32,
    last_ticket: u64,
}

impl Manual {
    pub(crate) fn get(&self, id: ManualId) -> Option<&ManualEntry> {
        self.all.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ManualId) -> Option<&mut ManualEntry> {
        self.all.get_mut(&id)
    }

    /// Which SA the data plane calls so.
    pub(crate) fn of_pair(&self, pair: Pair) -> Option<(ManualId, Half)> {
        self.by_pair.get(&pair).copied()
    }

    pub(crate) fn ids(&self) -> &[ManualId] {
        &self.order
    }

    /// In the order of the file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ManualEntry> + Clone {
        self.order.iter().filter_map(|id| self.all.get(id))
    }

    /// What each carries.
    pub(crate) fn traffic(&self) -> impl Iterator<Item = (ManualId, Traffic<'_>)> {
        self.iter().map(|entry| (entry.id, entry.config.traffic()))
    }

    /// An SA is in the data plane, or will be. Returns the one in whose place it is.
    pub(crate) fn enter(&mut self, id: ManualId, half: Half, pair: Pair, now: Instant) -> Option<Leaving> {
        let entry = self.all.get_mut(&id)?;
        let before = entry.leave(half);
        entry.end_mut(half).there = Some((pair, now));
        self.by_pair.insert(pair, (id, half));
        self.strike(before.as_ref());
        before
    }

    /// One that is there is to go, because of `cause`.
    pub(crate) fn leave(&mut self, id: ManualId, half: Half, cause: Option<Cause>) -> Option<Leaving> {
        let entry = self.all.get_mut(&id)?;
        let leaving = entry.leave(half);
        entry.end_mut(half).cause = cause;
        self.strike(leaving.as_ref());
        leaving
    }

    fn strike(&mut self, leaving: Option<&Leaving>) {
        if let Some(Leaving { pair, .. }) = leaving {
            self.by_pair.remove(pair);
        }
    }

    /// Numbers are wanted, unless they are asked for already.
    pub(crate) fn ask(&mut self, id: ManualId) {
        let Some(entry) = self.all.get_mut(&id).filter(|entry| entry.ticket.is_none()) else { return };
        self.last_ticket = self.last_ticket.saturating_add(1);
        let ticket = Ticket(self.last_ticket);
        entry.ticket = Some(ticket);
        self.by_ticket.insert(ticket, id);
        self.asked.push_back(ticket);
    }

    /// The next question.
    pub(crate) fn next_question(&mut self) -> Option<Reserve<'_>> {
        let ticket = core::iter::from_fn(|| self.asked.pop_front()).find(|it| self.by_ticket.contains_key(it))?;
        let entry = self.all.get(self.by_ticket.get(&ticket)?)?;
        let sa = &entry.config.outbound;
        let held = entry.numbers.map(|numbers| numbers.until);
        Some(Reserve {
            ticket,
            key: sa.counted_key()?.expose(),
            theirs: entry.config.inbound.counted_key()?.expose(),
            after: held.unwrap_or(sa.sequence),
            stated: sa.sequence,
            last: sa.last_number(),
        })
    }

    /// Who asked this and still wants to know.
    pub(crate) fn asked_by(&mut self, ticket: Ticket) -> Option<&mut ManualEntry> {
        self.all.get_mut(self.by_ticket.get(&ticket)?)
    }

    /// A question is answered for good. Returns who asked, if he still wants to know.
    pub(crate) fn answered(&mut self, ticket: Ticket) -> Option<ManualId> {
        let id = self.by_ticket.remove(&ticket)?;
        self.all.get_mut(&id)?.ticket = None;
        Some(id)
    }

    /// Whatever came in until now is not taken again.
    pub(crate) fn note_heard(&mut self, plane: &dyn DataPlane) {
        for entry in self.all.values_mut() {
            entry.heard = entry.heard.max(entry.used(Half::Inbound, plane).sequence);
        }
    }

    /// Those that a name means: all, or those with an SPI, however it is written. Where no "out" has it, it is that of an "in".
    pub(crate) fn named(&self, name: &str) -> Vec<ManualId> {
        let digits = name.strip_prefix(MANUAL).and_then(|name| name.strip_prefix("/0x"));
        let spi = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let those = |means: &dyn Fn(&ManualPair) -> bool| -> Vec<ManualId> {
            self.iter().filter(|entry| means(&entry.config)).map(|entry| entry.id).collect()
        };
        let sent = those(&|pair| name == MANUAL || spi == Some(pair.outbound.spi.get()));
        if sent.is_empty() { those(&|pair| spi == Some(pair.inbound.spi.get())) } else { sent }
    }

    /// One is taken down: what is there is to go, and numbers that come are for nobody.
    pub(crate) fn hold(&mut self, id: ManualId) -> Vec<Leaving> {
        let Some(entry) = self.all.get_mut(&id) else { return Vec::new() };
        entry.held = true;
        entry.ticket.take().map(|ticket| self.by_ticket.remove(&ticket));
        [Half::Inbound, Half::Outbound].into_iter().filter_map(|half| self.leave(id, half, None)).collect()
    }

    /// Takes over a new configuration. What did not change goes on; returns what is to go.
    pub(crate) fn follow(&mut self, new: Vec<ManualPair>) -> Vec<Leaving> {
        let held = core::mem::take(&mut self.all).into_values();
        let mut before: BTreeMap<_, ManualEntry> = held.map(|entry| (entry.config.ends(), entry)).collect();
        // No two receive with one SPI, whatever ends they have.
        let known: BTreeMap<_, _> = before.values().map(|entry| (entry.config.inbound.spi.get(), entry)).collect();
        let heard = |config: &ManualPair| {
            let before = known.get(&config.inbound.spi.get())?;
            config.inbound.takes_what_is_for(&before.config.inbound).then_some(before.heard)
        };
        let heard: Vec<_> = new.iter().map(|config| heard(config).unwrap_or_default()).collect();
        let held: BTreeSet<_> = before.values().filter(|entry| entry.held).map(|entry| entry.config.name()).collect();
        self.order.clear();
        let mut gone = Vec::new();
        for (config, heard) in new.into_iter().zip(heard) {
            let mut entry = match before.remove(&config.ends()) {
                Some(mut entry) => {
                    if !config.inbound.receives_as(&entry.config.inbound) {
                        gone.extend(entry.leave(Half::Inbound));
                    }
                    if !config.outbound.sends_as(&entry.config.outbound) {
                        gone.extend(entry.leave(Half::Outbound));
                        entry.numbers = None;
                        // What is answered now is about another key.
                        entry.ticket.take().map(|ticket| self.by_ticket.remove(&ticket));
                    }
                    entry.told_up &= entry.is_up();
                    entry.account = account(&config);
                    entry.config = config;
                    entry
                }
                None => {
                    self.last_id = self.last_id.saturating_add(1);
                    ManualEntry::new(ManualId(self.last_id), config)
                }
            };
            (entry.heard, entry.held) = (heard, entry.held || held.contains(&entry.config.name()));
            self.order.push(entry.id);
            self.all.insert(entry.id, entry);
        }
        for mut entry in before.into_values() {
            gone.extend([Half::Inbound, Half::Outbound].into_iter().filter_map(|half| entry.leave(half)));
            entry.ticket.map(|ticket| self.by_ticket.remove(&ticket));
        }
        gone.iter().for_each(|leaving| self.strike(Some(leaving)));
        gone
    }
}
