//! Packets out: policy, SA, ESP.

use core::fmt;

use super::{BUILD_FRAMES, OutboundSlot};
use crate::buf::PacketBuf;
use crate::crypto::PacketCrypto;
use crate::encap::Egress;
use crate::error::{Counters, Discard, NoRoom, Refused};
use crate::esp::seal::seal;
use crate::flow::Flow;
use crate::net::{Encap, Path, TrafficSelector};
use crate::sa::{self, DontFragment, Event, OutboundParams, SaId, Status};
use crate::sad;
use crate::spd::{self, Action, Direction, Hits, PolicyId, Rule, RuleId, Undecided};
use crate::time::Instant;
use crate::wipe;
use crate::wire::cursor::Malformed;
use crate::wire::ip::Marks;

/// ESP, UDP and IPv4 add at most 16 + 21 + 8 + 20 octets to what must fit a 16-bit total length.
const MAX_INNER_LEN: usize = 65_535 - 65;

/// What policy says about an outbound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Verdict {
    /// May leave in clear.
    Clear,
    /// To be sealed with this SA.
    Protect(SaId),
    /// Must be protected and there is no SA for it: ask IKE for one, keep the packet or drop it, never send it.
    Acquire(PolicyId),
}

/// The sending engine over the caller's tables.
///
/// See the [crate] documentation for the loop.
pub struct Outbound<'a, P: PacketCrypto> {
    crypto: P,
    spd: spd::Table<'a>,
    sad: sad::Table<'a, sa::Outbound<P::AeadKey>>,
    counters: Counters,
    /// Some SA may have an event due.
    events: bool,
}

impl<P: PacketCrypto> fmt::Debug for Outbound<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl<'a, P: PacketCrypto> Outbound<'a, P> {
    /// Starts with no rules and the SAs in `sas`, usually none. Without rules every packet is discarded.
    pub fn new(crypto: P, rules: &'a mut [spd::Slot], sas: &'a mut [OutboundSlot<P>]) -> Self {
        let (spd, sad) = (spd::Table::new(rules), sad::Table::new(sas));
        Self { crypto, spd, sad, counters: Counters::default(), events: false }
    }

    /// Decides what happens to an inner packet. Once per packet, flow or super-packet: the answer holds until a rule or
    /// an SA changes.
    ///
    /// # Errors
    /// [`Discard::OutHeader`], [`Discard::OutNoPolicy`], [`Discard::OutBlocked`], [`Discard::OutFragment`], counted.
    #[inline]
    pub fn classify(&mut self, now: Instant, packet: &[u8]) -> Result<Verdict, Discard> {
        let verdict = self.decide(Some(now), packet);
        verdict.inspect_err(|discard| self.counters.count(*discard))
    }

    /// The same for a packet that waited since it was classified. It met its rule then: [`spd::Hits`] stay as they are.
    ///
    /// # Errors
    /// As for [`Outbound::classify`].
    pub fn classify_again(&mut self, packet: &[u8]) -> Result<Verdict, Discard> {
        let verdict = self.decide(None, packet);
        verdict.inspect_err(|discard| self.counters.count(*discard))
    }

    #[inline]
    fn decide(&mut self, met: Option<Instant>, packet: &[u8]) -> Result<Verdict, Discard> {
        let flow = Flow::of(packet).map_err(|Malformed| Discard::OutHeader)?;
        let rule = self.spd.lookup(met, Direction::Out, &flow).map_err(|undecided| match undecided {
            Undecided::NoRule => Discard::OutNoPolicy,
            Undecided::Fragment => Discard::OutFragment,
        })?;
        match rule.action {
            Action::Bypass => Ok(Verdict::Clear),
            Action::Discard => Err(Discard::OutBlocked),
            Action::Protect(policy) => {
                let fitting = self
                    .chain(rule.newest)
                    .find(|(_, sa)| !sa.common.meter.is_dead() && sa.common.admits_outbound(&flow));
                Ok(fitting.map_or(Verdict::Acquire(policy), |(id, _)| Verdict::Protect(id)))
            }
        }
    }

    /// The SAs of a policy, newest first. Bounded by the number of slots, whatever the links say.
    #[inline]
    fn chain(&self, newest: Option<u32>) -> impl Iterator<Item = (SaId, &sa::Outbound<P::AeadKey>)> {
        let first = newest.and_then(|slot| self.sad.at(slot));
        let chain = core::iter::successors(first, |(_, sa)| sa.older.and_then(|slot| self.sad.at(slot)));
        chain.take(self.sad.capacity())
    }

    /// Encrypts an inner packet in place and puts ESP around it. The packet then starts with the SPI and goes where
    /// [`Egress`] says: as a UDP datagram, as protocol 50, or through [`encap::push_outer`](crate::encap::push_outer).
    ///
    /// Needs 16 octets of headroom (more for outer headers, see [`HEADROOM`](crate::buf::HEADROOM)) and
    /// [`TAILROOM`](crate::buf::TAILROOM).
    ///
    /// # Errors
    /// [`Discard::OutNoSa`], [`Discard::OutExpired`], [`Discard::OutExhausted`], [`Discard::OutHeader`],
    /// [`Discard::OutNoRoom`], counted; the packet is as it was and must not be sent.
    #[inline]
    pub fn seal(&mut self, now: Instant, sa: SaId, packet: &mut PacketBuf<'_>) -> Result<Egress, Discard> {
        let sealed = self.protect(now, sa, packet);
        sealed.inspect_err(|discard| self.counters.count(*discard))
    }

    #[inline]
    fn protect(&mut self, now: Instant, id: SaId, packet: &mut PacketBuf<'_>) -> Result<Egress, Discard> {
        let sa = self.sad.get_mut(id).ok_or(Discard::OutNoSa)?;
        let marks = Marks::of(packet.as_slice()).map_err(|Malformed| Discard::OutHeader)?;
        let inner_len = packet.len();
        if inner_len > MAX_INNER_LEN {
            return Err(Discard::OutNoRoom);
        }
        let last = sa.common.last_sequence();
        if !sa.common.meter.admits(now, inner_len) {
            self.events = true;
            return Err(sa::why_dead(&sa.common.meter));
        }
        let sequence = match sa.last_sent.checked_add(1) {
            Some(sequence) if sequence <= last => sequence,
            _ => {
                sa.common.meter.sequence_hard();
                self.events = true;
                return Err(Discard::OutExhausted);
            }
        };
        seal(&mut self.crypto, &sa.common, sequence, marks.version.protocol(), packet)
            .map_err(|NoRoom| Discard::OutNoRoom)?;
        sa.last_sent = sequence;
        if sequence >= last.saturating_sub(last >> 2) {
            sa.common.meter.sequence_soft();
        }
        self.events |= sa.common.meter.record(now, inner_len);
        let dscp = if sa.copy_dscp { !0 } else { 0x03 };
        Ok(Egress {
            path: sa.common.path,
            encap: sa.common.encap,
            traffic_class: marks.traffic_class & dscp,
            dont_fragment: match sa.dont_fragment {
                DontFragment::Copy => marks.dont_fragment,
                DontFragment::Set => true,
                DontFragment::Clear => false,
            },
            ident: sequence as u16,
        })
    }

    /// Installs an SA; it is used from the next [`classify`](Self::classify) on, before older ones of its policy.
    ///
    /// # Errors
    /// [`Refused`]; nothing changed.
    pub fn install(&mut self, now: Instant, params: &OutboundParams<'_>) -> Result<SaId, Refused> {
        wipe::after(BUILD_FRAMES.saturating_mul(size_of::<OutboundSlot<P>>()), || self.build(now, params))
    }

    fn build(&mut self, now: Instant, params: &OutboundParams<'_>) -> Result<SaId, Refused> {
        let place = self.sad.place()?;
        let mut sa = sa::Outbound::new(&mut self.crypto, now, params)?;
        let policy = sa.common.policy;
        sa.older = self.newest_of(policy);
        let id = self.sad.put(place, params.sa.spi, sa)?;
        self.spd.link(policy, Some(id.slot));
        Ok(id)
    }

    /// Removes an SA and wipes its key. `false`: it was gone already.
    pub fn remove(&mut self, id: SaId) -> bool {
        let Some((policy, older)) = self.sad.get(id).map(|sa| (sa.common.policy, sa.older)) else { return false };
        if self.newest_of(policy) == Some(id.slot) {
            self.spd.link(policy, older);
        }
        for (_, sa) in self.sad.iter_mut().filter(|(_, sa)| sa.older == Some(id.slot)) {
            sa.older = older;
        }
        self.sad.remove(id)
    }

    /// Sends an SA's packets along another path from now on: after MOBIKE, or a NAT's new mapping that was verified.
    /// `false`: there is no such SA.
    pub fn set_path(&mut self, id: SaId, path: Path, encap: Encap) -> bool {
        let Some(sa) = self.sad.get_mut(id) else { return false };
        sa.common.path = path;
        sa.common.encap = encap;
        true
    }

    /// The SA of a policy that no other one is newer than.
    fn newest_of(&self, policy: PolicyId) -> Option<u32> {
        let of_policy = |(_, sa): &(SaId, &sa::Outbound<P::AeadKey>)| sa.common.policy == policy;
        let is_older = |slot| self.sad.iter().any(|(_, sa)| sa.older == Some(slot));
        self.sad.iter().filter(of_policy).map(|(id, _)| id.slot).find(|slot| !is_older(*slot))
    }

    /// Adds a rule behind those of the same priority.
    ///
    /// # Errors
    /// [`Refused::Full`], [`Refused::Duplicate`].
    pub fn insert_rule(&mut self, rule: Rule) -> Result<(), Refused> {
        let newest = match rule.action {
            Action::Protect(policy) => self.newest_of(policy),
            Action::Bypass | Action::Discard => None,
        };
        self.spd.insert_linked(rule, newest)
    }

    /// Removes a rule. SAs stay (RFC 4301 §4.4.1). `false`: there is none with this id.
    pub fn remove_rule(&mut self, id: RuleId) -> bool {
        self.spd.remove(id)
    }

    /// Removes every rule, at the cost of one pass. SAs stay (RFC 4301 §4.4.1); without rules every packet is discarded.
    pub fn clear_rules(&mut self) {
        self.spd.clear();
    }

    /// The rules in order, with their hits.
    pub fn rules(&self) -> impl Iterator<Item = (&Rule, Hits)> {
        self.spd.iter()
    }

    /// The SAs, for display.
    pub fn sas(&self) -> impl Iterator<Item = Status> {
        self.sad.iter().map(|(id, sa)| sa.status(id))
    }

    /// One SA, for display.
    pub fn sa(&self, id: SaId) -> Option<Status> {
        self.sad.get(id).map(|sa| sa.status(id))
    }

    /// The selectors of one SA: of our side, and of the peer's.
    pub fn selectors(&self, id: SaId) -> Option<(&[TrafficSelector], &[TrafficSelector])> {
        self.sad.get(id).map(|sa| sa.common.selectors())
    }

    /// What was discarded, and why.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Counts a packet that the caller gave up on: one that waited too long for an SA.
    pub fn count(&mut self, discard: Discard) {
        self.counters.count(discard);
    }

    /// The next thing to tell the caller. To be called until `None` after [`seal`](Self::seal) or
    /// [`handle_timeout`](Self::handle_timeout); costs nothing when there is nothing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        if !self.events {
            return None;
        }
        let event = self.sad.iter_mut().find_map(|(id, sa)| sa.common.meter.take_event(id, sa.common.spi));
        self.events = event.is_some();
        event
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has work: the earliest lifetime by age.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sad.iter().filter_map(|(_, sa)| sa.common.meter.next_tick()).min()
    }

    /// Lets SAs without traffic age.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (_, sa) in self.sad.iter_mut() {
            sa.common.meter.tick(now);
            self.events |= sa.common.meter.is_due();
        }
    }
}

impl Verdict {
    /// The SA to seal with, if there is one.
    pub const fn sa(self) -> Option<SaId> {
        match self {
            Self::Protect(sa) => Some(sa),
            Self::Clear | Self::Acquire(_) => None,
        }
    }
}
