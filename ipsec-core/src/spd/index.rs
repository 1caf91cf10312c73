//! An immutable index of rules: who matches first is found in a tree instead of along a list.
//!
//! ```text
//!              remote < 10.7.0.0 ?              a node: rules wholly below a number of one field,
//!             /        |          \             rules across it, rules not below it
//!     [5, 9, 12]   [0, 3, 40]   source port < 22 ?
//!                                /      |     \
//! ```
//!
//! Each part of the tree is a run of slots. A packet goes to the side its own number is on, and to what lies across; it
//! looks at the few rules of the runs where it ends up, and knows of every other part the place of its first rule, so that
//! it leaves out what comes after what it has found. Rules that a field separates cost a packet a step for each halving of
//! their number, so many as there may be. Only rules that overlap in every field are looked at one by one.

use core::fmt;
use core::ops::Deref;

use super::grow;
use super::query::Query;
use super::tree::{DEPTH, Node, Part, Shape, Slot};
use super::{Action, Direction, Rule};
use crate::error::Refused;
use crate::flow::{Flow, Ports};

/// Rules, indexed once and for all, in memory of the caller's.
///
/// ```
/// use ipsec_core::net::{AddrRange, PortRange};
/// use ipsec_core::spd::{Action, Index, Node, PolicyId, Rule, RuleId, Rules, Selector, Slot};
/// let everything = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
/// let ssh = everything.protocol(6).remote_ports(PortRange::single(22));
/// let rules = [
///     Rule { id: RuleId(1), priority: 200, selector: everything, action: Action::Protect(PolicyId(7)) },
///     Rule { id: RuleId(2), priority: 100, selector: ssh, action: Action::Bypass },
/// ];
/// let (mut slots, mut nodes) = ([Slot::EMPTY; 8], [Node::EMPTY; Index::nodes(8)]);
/// let spd = Index::build(rules, &mut slots[..], &mut nodes[..]).unwrap();
/// assert!(spd.view().iter().map(|rule| rule.id).eq([RuleId(2), RuleId(1)]));
/// ```
pub struct Index<S, N> {
    slots: S,
    nodes: N,
    shape: Shape,
}

/// An index in memory that is lent to it.
pub type Lent<'m> = Index<&'m mut [Slot], &'m mut [Node]>;

impl<S, N> fmt::Debug for Index<S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("rules", &self.shape.rules).finish_non_exhaustive()
    }
}

impl Index<(), ()> {
    /// Nodes that make an index of so many rules fast. With fewer it is right as well, with none every packet looks along
    /// the whole list: for eight rules there is nothing faster.
    pub const fn nodes(rules: usize) -> usize {
        if rules <= grow::RUN { 0 } else { rules / 2 }
    }
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>, N: AsRef<[Node]> + AsMut<[Node]>> Index<S, N> {
    /// Indexes rules: by priority, among equals in the order in which they come. Takes n·log n steps and no more memory
    /// than it is given.
    ///
    /// # Errors
    /// [`Refused::Full`]: more rules than slots. [`Refused::Duplicate`]: two with one id.
    pub fn build(rules: impl IntoIterator<Item = Rule>, mut slots: S, mut nodes: N) -> Result<Self, Refused> {
        let (room, mut count) = (slots.as_mut(), 0_u32);
        for rule in rules {
            *room.get_mut(count as usize).ok_or(Refused::Full)? = Slot::new(rule, count);
            count = count.checked_add(1).ok_or(Refused::Full)?;
        }
        let shape = grow::grow(room.get_mut(..count as usize).unwrap_or_default(), nodes.as_mut())?;
        Ok(Self { slots, nodes, shape })
    }

    /// Gives the memory back.
    pub fn into_memory(self) -> (S, N) {
        (self.slots, self.nodes)
    }
}

/// Whatever lends an index: itself, a reference to it, or a counted one.
///
/// Two engines that look into one index:
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::{Inbound, Outbound};
/// use ipsec_core::net::AddrRange;
/// use ipsec_core::spd::{Action, Index, Rule, RuleId, Rules, Selector, Slot};
/// use std::sync::Arc;
/// let selector = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
/// let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::Discard };
/// let spd = Arc::new(Index::build([rule], [Slot::EMPTY; 4], []).unwrap());
/// let (mut outbound, mut inbound) =
///     (Outbound::new(RustCrypto, &mut [], &mut []), Inbound::new(RustCrypto, &mut [], &mut [], &mut []));
/// outbound.set_rules(Arc::clone(&spd)).unwrap();
/// inbound.set_rules(Arc::clone(&spd)).unwrap();
/// assert_eq!((spd.view().len(), Arc::strong_count(&spd)), (1, 3));
/// ```
pub trait Rules {
    /// Looks into it.
    fn view(&self) -> View<'_>;
}

impl<S: AsRef<[Slot]>, N: AsRef<[Node]>> Rules for Index<S, N> {
    #[inline]
    fn view(&self) -> View<'_> {
        View { slots: self.slots.as_ref(), nodes: self.nodes.as_ref(), shape: &self.shape }
    }
}

impl<R: Deref<Target: Rules>> Rules for R {
    #[inline]
    fn view(&self) -> View<'_> {
        (**self).view()
    }
}

/// A look into an index. Nothing that is asked of it changes anything.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    slots: &'v [Slot],
    nodes: &'v [Node],
    shape: &'v Shape,
}

/// What the first rule that matches says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Decision {
    /// What happens to the packet.
    pub action: Action,
    /// The place of the rule among all, counted from 0.
    pub rank: u32,
}

/// Why no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Undecided {
    /// None matches.
    NoRule,
    /// A BYPASS rule matches what can be read, but the packet may belong to what a rule before it protects or discards
    /// (RFC 4301 §7).
    Fragment,
}

impl<'v> View<'v> {
    /// How many rules there are.
    pub const fn len(&self) -> usize {
        self.shape.rules
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rules in order.
    pub fn iter(&self) -> impl Iterator<Item = &'v Rule> + use<'v> {
        let slots = self.slots;
        slots.iter().take(self.len()).filter_map(|slot| Some(&slots.get(slot.of_rank as usize)?.rule))
    }

    /// What happens to a packet: the first rule that matches decides.
    ///
    /// ```
    /// use ipsec_core::flow::Flow;
    /// use ipsec_core::net::AddrRange;
    /// use ipsec_core::spd::{Action, Decision, Direction, Index, Rule, RuleId, Rules, Selector, Slot, Undecided};
    /// let selector = Selector::between(AddrRange::single([10, 0, 0, 1].into()), AddrRange::ANY_V4);
    /// let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::Bypass };
    /// let (mut slots, mut none) = ([Slot::EMPTY], []);
    /// let spd = Index::build([rule], &mut slots[..], &mut none[..]).unwrap();
    /// let udp = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 99, 0, 8, 0, 0];
    /// let flow = Flow::of(&udp).unwrap();
    /// assert_eq!(spd.view().decide(Direction::Out, &flow), Ok(Decision { action: Action::Bypass, rank: 0 }));
    /// assert_eq!(spd.view().decide(Direction::In, &flow), Err(Undecided::NoRule));
    /// ```
    ///
    /// # Errors
    /// [`Undecided`].
    #[inline]
    pub fn decide(&self, direction: Direction, flow: &Flow) -> Result<Decision, Undecided> {
        let decision = self.first(direction, flow).ok_or(Undecided::NoRule)?;
        let unreadable = matches!(flow.ports, Ports::Opaque | Ports::Hidden);
        if unreadable && decision.action == Action::Bypass && self.may_be_meant_before(decision.rank, direction, flow) {
            return Err(Undecided::Fragment);
        }
        Ok(decision)
    }

    /// Whether some rule discards. Where none does, nobody needs to ask which packets.
    #[inline]
    pub const fn discards(&self) -> bool {
        self.shape.discards
    }

    /// The first rule that matches, whatever may be meant.
    #[inline]
    fn first(&self, direction: Direction, flow: &Flow) -> Option<Decision> {
        let fits = |rule: &Rule| {
            let (source, destination) = rule.selector.ends(direction);
            flow.fits(source, destination)
        };
        match self.tree(flow) {
            // A few rules are looked at where they stand.
            run @ Part::Run { .. } => self.run(run, u32::MAX, fits),
            tree => self.descend(tree, u32::MAX, &Query::fitting(direction, flow), fits),
        }
    }

    /// Whether a rule before this place that does not let pass may be about this packet, were all of it to be read.
    #[cold]
    fn may_be_meant_before(&self, rank: u32, direction: Direction, flow: &Flow) -> bool {
        let may_fit = |rule: &Rule| {
            let (source, destination) = rule.selector.ends(direction);
            rule.action != Action::Bypass && flow.may_fit(source, destination)
        };
        self.descend(self.tree(flow), rank, &Query::possible(direction, flow), may_fit).is_some()
    }

    #[inline]
    fn tree(&self, flow: &Flow) -> Part {
        if flow.source.is_ipv4() { self.shape.v4 } else { self.shape.v6 }
    }

    /// The first rule before `limit` in a run that fits.
    #[inline]
    fn run(&self, run: Part, limit: u32, fits: impl Fn(&Rule) -> bool) -> Option<Decision> {
        let Part::Run { start, len } = run else { return None };
        let slots = self.slots.get(start as usize..).unwrap_or_default().iter().take(len.get() as usize);
        let before = slots.take_while(|slot| slot.rank < limit);
        let slot = before.into_iter().find(|slot| fits(&slot.rule))?;
        Some(Decision { action: slot.rule.action, rank: slot.rank })
    }

    /// The first rule before `limit` in a part of the tree that fits.
    fn descend(&self, part: Part, limit: u32, query: &Query, fits: impl Fn(&Rule) -> bool) -> Option<Decision> {
        let (mut best, mut limit) = (None, limit);
        // Each node leaves two parts for later at most.
        let mut later: heapless::Vec<Part, { 2 * DEPTH + 2 }> = heapless::Vec::new();
        let mut next = Some(part);
        while let Some(part) = next {
            match part {
                Part::Run { .. } => {
                    if let Some(found) = self.run(part, limit, &fits) {
                        limit = found.rank;
                        best = Some(found);
                    }
                }
                Part::Node(node) => {
                    if let Some(node) = self.nodes.get(node as usize).filter(|node| node.first < limit) {
                        let (first, last) = query.span(node.dimension);
                        let sides = [(node.across, true), (node.above, last >= node.at), (node.below, first < node.at)];
                        for (part, _) in sides.into_iter().filter(|(part, meets)| *meets && *part != Part::EMPTY) {
                            // There is room: no tree is deeper than it is allowed to grow.
                            _ = later.push(part);
                        }
                    }
                }
            }
            next = later.pop();
        }
        best
    }
}
