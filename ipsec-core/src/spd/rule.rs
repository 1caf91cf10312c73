//! Rules as data, and what packets met them.

use crate::flow::Flow;
use crate::net::{AddrRange, PortRange, TrafficSelector};
use crate::sa::PolicyId;
use crate::time::Instant;

/// The caller's number for a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RuleId(pub u32);

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Inside ESP, under an SA of a policy.
    Protect {
        /// Whose SAs.
        policy: PolicyId,
        /// What happens where there is none.
        level: Level,
    },
    /// In clear.
    Bypass,
    /// Not at all.
    Discard,
}

impl Action {
    /// Only inside ESP, under an SA of this policy: [`Level::Require`].
    ///
    /// ```
    /// use ipsec_core::spd::{Action, Level, PolicyId};
    /// let action = Action::protect(PolicyId(7));
    /// assert_eq!(action, Action::Protect { policy: PolicyId(7), level: Level::Require });
    /// ```
    pub const fn protect(policy: PolicyId) -> Self {
        Self::Protect { policy, level: Level::Require }
    }

    /// Whether a packet may pass in clear.
    #[inline]
    pub(super) const fn lets_pass(self) -> bool {
        matches!(self, Self::Bypass | Self::Protect { level: Level::Use, .. })
    }

    /// What is left of it for a fragment that may belong to what a rule before it keeps from passing in clear (RFC 4301 §7).
    pub(super) const fn but_not_in_clear(self) -> Option<Self> {
        match self {
            Self::Protect { policy, .. } => Some(Self::protect(policy)),
            Self::Discard => Some(Self::Discard),
            Self::Bypass => None,
        }
    }
}

/// How much a rule insists on protection. `setkey`'s words.
///
/// [`Use`](Self::Use) is for the days in which hosts are moved over one by one, and no security: who keeps an SA from coming up
/// has the packets in clear. Outbound, a packet goes under an SA where one fits and in clear where none does. Inbound, a packet
/// in clear passes *whether there are SAs or not*, as on Linux and the BSDs: while a host changes over, what it sent before its
/// SA came up is still under way behind the first packets of that SA, a peer that was restarted has lost its SAs and knows of
/// none, and an engine knows of no SA that another one has (RFC 9611). To refuse would lose their packets. What passes in clear
/// is counted ([`Hits::clear`]); when nothing has for a while, it is time for [`Require`](Self::Require).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Level {
    /// In clear as long as there is no SA.
    Use,
    /// Never in clear.
    Require,
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

/// One configured rule. It holds for both ways; an engine of one way sees its half. A rule for one way only is given to the
/// engine of that way.
///
/// ```
/// use ipsec_core::net::{AddrRange, PortRange};
/// use ipsec_core::spd::{Action, Direction, Entry, Rule, RuleId, Selector};
/// let web = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4).protocol(6).remote_ports(PortRange::single(443));
/// let rule = Rule { id: RuleId(1), priority: 100, selector: web, action: Action::Bypass };
/// let [out, into, forward]: [Entry; 3] = rule.entries(); // as `ip xfrm policy` shows them
/// assert_eq!((out.direction, out.destination.ports), (Direction::Out, PortRange::single(443)));
/// assert_eq!((into.source, forward.source), (out.destination, out.destination));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The caller's number; unique in an index.
    pub id: RuleId,
    /// Lower is looked at first; among equals, what came first. What `setkey` calls `prio def + n` is 2³¹ - n.
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
    /// Whether it is about this packet.
    #[inline(always)]
    pub(super) fn fits(&self, direction: Direction, flow: &Flow) -> bool {
        let (source, destination) = self.selector.ends(direction);
        flow.fits(source, destination)
    }

    /// Whether it may be about this packet, were all of it to be read, and would not let it pass in clear.
    pub(super) fn may_hold_back(&self, direction: Direction, flow: &Flow) -> bool {
        let (source, destination) = self.selector.ends(direction);
        !self.action.lets_pass() && flow.may_fit(source, destination)
    }

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

/// Packets that met a rule, by direction. An engine counts in the caller's memory: 56 octets a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hits {
    /// Outbound.
    pub outbound: u64,
    /// Inbound to this host.
    pub inbound: u64,
    /// Inbound and forwarded.
    pub forward: u64,
    /// Octets of all of them, by their own headers.
    pub octets: u64,
    /// How many of them passed in clear although the rule protects: of level [`Use`](Level::Use).
    pub clear: u64,
    /// When the last one of them came.
    pub last: Option<Instant>,
}

impl Hits {
    /// No packet met the rule yet.
    pub const NONE: Self = Self { outbound: 0, inbound: 0, forward: 0, octets: 0, clear: 0, last: None };

    #[inline]
    pub(crate) fn count(&mut self, now: Instant, direction: Direction, octets: usize) {
        let hits = match direction {
            Direction::Out => &mut self.outbound,
            Direction::In => &mut self.inbound,
            Direction::Forward => &mut self.forward,
        };
        *hits = hits.saturating_add(1);
        self.octets = self.octets.saturating_add(octets as u64);
        self.last = Some(now);
    }

    /// A packet that was counted passes in clear.
    pub(crate) fn count_clear(&mut self) {
        self.clear = self.clear.saturating_add(1);
    }
}
