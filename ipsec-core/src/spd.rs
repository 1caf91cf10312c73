//! The Security Policy Database (RFC 4301 §4.4.1): ordered rules, first match wins, no match means discard.

use crate::error::Refused;
use crate::flow::{Flow, Ports};
use crate::net::{AddrRange, PortRange, TrafficSelector};
use crate::time::Instant;

pub use crate::sa::PolicyId;

/// The caller's number for a rule, to remove or replace it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RuleId(pub u32);

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Only inside ESP, under an SA of this policy.
    Protect(PolicyId),
    /// In clear.
    Bypass,
    /// Not at all.
    Discard,
}

/// Which packets a rule is about, seen from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selector {
    /// Source of outbound, destination of inbound packets.
    pub local: TrafficSelector,
    /// Destination of outbound, source of inbound packets.
    pub remote: TrafficSelector,
}

impl Selector {
    /// All packets between these addresses.
    ///
    /// ```
    /// use ipsec_core::net::AddrRange;
    /// use ipsec_core::spd::Selector;
    /// let all_v6 = Selector::between(AddrRange::ANY_V6, AddrRange::ANY_V6);
    /// assert_eq!(all_v6.local, all_v6.remote);
    /// ```
    pub const fn between(local: AddrRange, remote: AddrRange) -> Self {
        Self { local: TrafficSelector::addrs(local), remote: TrafficSelector::addrs(remote) }
    }

    /// The same, for one protocol only (0: any).
    #[must_use]
    pub const fn protocol(self, protocol: u8) -> Self {
        Self { local: TrafficSelector { protocol, ..self.local }, remote: TrafficSelector { protocol, ..self.remote } }
    }

    /// The same, for these ports of our side only. Of ICMP: types and codes that we send.
    #[must_use]
    pub const fn local_ports(self, ports: PortRange) -> Self {
        Self { local: TrafficSelector { ports, ..self.local }, ..self }
    }

    /// The same, for these ports of the other side only. Of ICMP: types and codes that we receive.
    #[must_use]
    pub const fn remote_ports(self, ports: PortRange) -> Self {
        Self { remote: TrafficSelector { ports, ..self.remote }, ..self }
    }

    /// Source and destination of packets on this way.
    #[inline]
    fn ends(&self, direction: Direction) -> (&TrafficSelector, &TrafficSelector) {
        match direction {
            Direction::Out => (&self.local, &self.remote),
            Direction::In | Direction::Forward => (&self.remote, &self.local),
        }
    }
}

/// The way of a packet across the IPsec boundary. Linux' names: `out`, `in`, `fwd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Direction {
    /// From the protected side.
    Out,
    /// To this host.
    In,
    /// Through this host to the protected side.
    Forward,
}

/// One configured rule. It holds for both ways; an engine of one way sees its half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The caller's number; unique in a table.
    pub id: RuleId,
    /// Lower is looked at first; among equals, what was inserted first.
    pub priority: u32,
    /// Which packets.
    pub selector: Selector,
    /// What happens to them.
    pub action: Action,
}

/// A one-way view of a rule, for display: source and destination instead of local and remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The way.
    pub direction: Direction,
    /// Source of the packets.
    pub source: TrafficSelector,
    /// Destination of the packets.
    pub destination: TrafficSelector,
    /// Order among entries.
    pub priority: u32,
    /// What happens to them.
    pub action: Action,
}

impl Rule {
    /// The three one-way entries that a rule stands for: `out`, `in`, `fwd`.
    pub const fn entries(&self) -> [Entry; 3] {
        let Selector { local, remote } = self.selector;
        let (priority, action) = (self.priority, self.action);
        [
            Entry { direction: Direction::Out, source: local, destination: remote, priority, action },
            Entry { direction: Direction::In, source: remote, destination: local, priority, action },
            Entry { direction: Direction::Forward, source: remote, destination: local, priority, action },
        ]
    }
}

/// Packets that met a rule, by direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hits {
    /// Outbound.
    pub outbound: u64,
    /// Inbound to this host.
    pub inbound: u64,
    /// Inbound and forwarded.
    pub forward: u64,
    /// When the last one of them came.
    pub last: Option<Instant>,
}

impl Hits {
    #[inline]
    fn count(&mut self, now: Instant, direction: Direction) {
        let hits = match direction {
            Direction::Out => &mut self.outbound,
            Direction::In => &mut self.inbound,
            Direction::Forward => &mut self.forward,
        };
        *hits = hits.saturating_add(1);
        self.last = Some(now);
    }
}

/// Storage for one rule.
#[derive(Debug, Clone, Copy)]
pub struct Slot(Option<Held>);

#[derive(Debug, Clone, Copy)]
struct Held {
    rule: Rule,
    hits: Hits,
    /// The slot of the newest outbound SA of the policy.
    newest: Option<u32>,
}

impl Slot {
    /// A free slot.
    pub const EMPTY: Self = Self(None);
}

impl Default for Slot {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Rules in the caller's slots, ordered.
///
/// ```
/// use ipsec_core::net::{AddrRange, PortRange};
/// use ipsec_core::spd::{Action, PolicyId, Rule, RuleId, Selector, Slot, Table};
/// let mut slots = [Slot::EMPTY; 8];
/// let mut spd = Table::new(&mut slots);
/// let everything = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
/// let ssh = everything.protocol(6).remote_ports(PortRange::single(22));
/// spd.insert(Rule { id: RuleId(1), priority: 200, selector: everything, action: Action::Protect(PolicyId(7)) }).unwrap();
/// spd.insert(Rule { id: RuleId(2), priority: 100, selector: ssh, action: Action::Bypass }).unwrap();
/// assert!(spd.iter().map(|(rule, _)| rule.id).eq([RuleId(2), RuleId(1)]));
/// ```
#[derive(Debug)]
pub struct Table<'a> {
    slots: &'a mut [Slot],
    /// Rules stand in the first `len` slots, ordered.
    len: usize,
    /// No rule has a larger id: who numbers upwards has no duplicates to fear.
    largest: Option<RuleId>,
    /// Some rule discards, or did.
    discards: bool,
}

/// What the first matching rule says.
pub(crate) struct Match {
    pub(crate) action: Action,
    pub(crate) newest: Option<u32>,
}

/// Why no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undecided {
    /// None matches.
    NoRule,
    /// A BYPASS rule matches what can be read, but the packet may belong to what a rule before it protects or discards.
    Fragment,
}

impl<'a> Table<'a> {
    /// An empty table over the caller's slots; what was in them is forgotten.
    pub fn new(slots: &'a mut [Slot]) -> Self {
        slots.fill(Slot::EMPTY);
        Self { slots, len: 0, largest: None, discards: false }
    }

    /// Adds a rule behind those of the same priority.
    ///
    /// # Errors
    /// [`Refused::Full`], [`Refused::Duplicate`].
    pub fn insert(&mut self, rule: Rule) -> Result<(), Refused> {
        self.insert_linked(rule, None)
    }

    pub(crate) fn insert_linked(&mut self, rule: Rule, newest: Option<u32>) -> Result<(), Refused> {
        if self.largest >= Some(rule.id) && self.position(rule.id).is_some() {
            return Err(Refused::Duplicate);
        }
        // Rules that come in their order cost nothing to place.
        let last = self.len.checked_sub(1).and_then(|last| self.slots.get(last)?.0.as_ref());
        let behind = last.is_none_or(|last| last.rule.priority <= rule.priority);
        let before = || self.held().take_while(|held| held.rule.priority <= rule.priority).count();
        let place = if behind { self.len } else { before() };
        if self.len >= self.slots.len() {
            return Err(Refused::Full);
        }
        self.largest = self.largest.max(Some(rule.id));
        self.discards |= rule.action == Action::Discard;
        let mut carried = Slot(Some(Held { rule, hits: Hits::default(), newest }));
        for slot in self.slots.iter_mut().skip(place) {
            core::mem::swap(slot, &mut carried);
            if carried.0.is_none() {
                break;
            }
        }
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Removes a rule. `false`: there is none with this id.
    pub fn remove(&mut self, id: RuleId) -> bool {
        let Some(place) = self.position(id) else { return false };
        let mut gap: Option<&mut Slot> = None;
        for slot in self.slots.iter_mut().skip(place) {
            match gap {
                None => *slot = Slot::EMPTY,
                Some(gap) => core::mem::swap(gap, slot),
            }
            gap = Some(slot);
        }
        self.len = self.len.saturating_sub(1);
        true
    }

    /// Removes every rule.
    pub fn clear(&mut self) {
        self.slots.fill(Slot::EMPTY);
        self.len = 0;
        self.largest = None;
        self.discards = false;
    }

    /// The rules in order, with their hits.
    pub fn iter(&self) -> impl Iterator<Item = (&Rule, Hits)> {
        self.held().map(|held| (&held.rule, held.hits))
    }

    /// The first rule that matches. `met`: counted as met at this time; `None`: that was done before.
    #[inline]
    pub(crate) fn lookup(
        &mut self,
        met: Option<Instant>,
        direction: Direction,
        flow: &Flow,
    ) -> Result<Match, Undecided> {
        let (place, held) = self.first(direction, flow).ok_or(Undecided::NoRule)?;
        let (action, newest) = (held.rule.action, held.newest);
        let unreadable = matches!(flow.ports, Ports::Opaque | Ports::Hidden);
        if unreadable && action == Action::Bypass && self.may_be_meant_before(place, direction, flow) {
            return Err(Undecided::Fragment);
        }
        if let (Some(now), Some(held)) = (met, self.slots.get_mut(place).and_then(|slot| slot.0.as_mut())) {
            held.hits.count(now, direction);
        }
        Ok(Match { action, newest })
    }

    /// Whether the first rule that matches discards. Where none does that at all, no packet pays for the question.
    #[inline]
    pub(crate) fn blocks(&self, direction: Direction, flow: &Flow) -> bool {
        self.discards && self.first(direction, flow).is_some_and(|(_, held)| held.rule.action == Action::Discard)
    }

    /// The first rule that matches, and its place.
    #[inline]
    fn first(&self, direction: Direction, flow: &Flow) -> Option<(usize, &Held)> {
        self.held().enumerate().find(|(_, held)| {
            let (source, destination) = held.rule.selector.ends(direction);
            flow.fits(source, destination)
        })
    }

    /// Whether a rule before this place that does not let pass may be about this packet, were all of it to be read.
    #[cold]
    fn may_be_meant_before(&self, place: usize, direction: Direction, flow: &Flow) -> bool {
        self.held().take(place).any(|held| {
            let (source, destination) = held.rule.selector.ends(direction);
            held.rule.action != Action::Bypass && flow.may_fit(source, destination)
        })
    }

    /// Tells every rule of a policy which outbound SA is the newest.
    pub(crate) fn link(&mut self, policy: PolicyId, newest: Option<u32>) {
        for held in self.slots.iter_mut().map_while(|slot| slot.0.as_mut()) {
            if held.rule.action == Action::Protect(policy) {
                held.newest = newest;
            }
        }
    }

    fn held(&self) -> impl Iterator<Item = &Held> {
        self.slots.iter().map_while(|slot| slot.0.as_ref())
    }

    fn position(&self, id: RuleId) -> Option<usize> {
        self.held().position(|held| held.rule.id == id)
    }
}
