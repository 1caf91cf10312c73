//! An immutable index of rules: who matches first is found in a tree instead of along a list.
//!
//! ```text
//!            remote:   10.1.0.0   10.7.0.0             a branching: cuts through the numbers of one field
//!           /        |          |          \
//!     across      [5, 9]     [0, 3]    remote port: 22  443
//!     /    \                           /       |      \
//! ```
//!
//! Each part of the tree is a run of slots. A packet goes to the child between whose cuts its own number is, and to what
//! lies across; it looks at the few rules of the runs where it ends up, and knows of every part the place of its first
//! rule, so that it leaves out what comes after what it has found. A node lies in one line of the cache, cuts and all, and
//! so does what a run says of the field that tells its rules apart best: in most runs a packet looks at one rule. Rules
//! that a field separates cost a packet a step for each sixteenth part of their number, so many as there may be. Only rules
//! that overlap in every field are looked at one by one.

use core::fmt;
use core::mem::replace;
use core::ops::{Deref, Range};

use super::grow::{grow, list};
use super::query::Query;
use super::rule::{Action, Direction, Rule, RuleId};
use super::tree::{DEPTH, Kind, Node, Part, RUN, Shape, Slot};
use crate::error::Refused;
use crate::error::texts;
use crate::flow::Flow;

/// Rules, indexed once and for all, in memory of the caller's.
///
/// ```
/// use ipsec_core::net::{AddrRange, PortRange};
/// use ipsec_core::spd::{Action, Index, Node, PolicyId, Rule, RuleId, Rules, Selector, Slot};
/// let everything = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
/// let ssh = everything.protocol(6).remote_ports(PortRange::single(22));
/// let rules = [
///     Rule { id: RuleId(1), priority: 200, selector: everything, action: Action::protect(PolicyId(7)) },
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
    meant_before: MeantBefore,
}

/// [`View::may_be_meant_before`], as it is where there is a tree, or none: nobody else links it.
type MeantBefore = fn(View<'_>, u32, Direction, Flow) -> bool;

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
        if rules <= RUN { 0 } else { rules.saturating_mul(3) / 8 }
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
        let rules = room.get_mut(..count as usize).unwrap_or_default();
        // Whoever has no nodes by the type of the index links no tree.
        let (shape, meant_before): (_, MeantBefore) = match nodes.as_mut() {
            [] => (list(rules)?, meant_in_list),
            nodes => (grow(rules, nodes)?, meant_in_tree),
        };
        Ok(Self { slots, nodes, shape, meant_before })
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
        let (slots, nodes) = (self.slots.as_ref(), self.nodes.as_ref());
        View { slots, nodes, shape: &self.shape, meant_before: self.meant_before }
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
    meant_before: MeantBefore,
}

impl View<'static> {
    /// Of no index.
    pub(crate) const NOTHING: Self =
        Self { slots: &[], nodes: &[], shape: &Shape::NOTHING, meant_before: meant_in_list };
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

/// A rule that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) action: Action,
    /// The number of its slot.
    pub(crate) slot: u32,
}

/// Why no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Undecided {
    /// None matches.
    NoRule,
    /// A BYPASS rule matches what can be read, but the packet may belong to what a rule before it keeps from passing in
    /// clear (RFC 4301 §7).
    Fragment,
}

texts! {
    Undecided:
    Self::NoRule => "no rule matches",
    Self::Fragment => "a fragment of what may have to be protected",
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
        self.places(0).map(|(_, rule)| rule)
    }

    /// The rules in order, from one of them on, each with the number of its slot.
    pub(super) fn places(&self, from: usize) -> impl Iterator<Item = (u32, &'v Rule)> + use<'v> {
        let places = self.numbers().get(from..).unwrap_or_default().iter().map(|slot| slot.of_rank);
        let slots = self.slots;
        places.filter_map(|place| Some((place, &slots.get(place as usize)?.rule)))
    }

    /// The rules in the order of their ids.
    pub(super) fn by_id(&self) -> impl Iterator<Item = &'v Rule> + use<'v> {
        let slots = self.slots;
        self.numbers().iter().filter_map(|slot| Some(&slots.get(slot.of_id as usize)?.rule))
    }

    /// The slots of the rules: what each notes beside its own rule says where others are.
    fn numbers(&self) -> &'v [Slot] {
        self.slots.get(..self.len()).unwrap_or_default()
    }

    /// What happens to a packet: the first rule that matches decides. Of a fragment that may belong to what a rule before it
    /// keeps from passing in clear, [`Level::Use`](super::Level::Use) is said as `Require`.
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
    pub fn decide(&self, direction: Direction, flow: &Flow) -> Result<Decision, Undecided> {
        self.meet_apart(direction, *flow).map(|(rank, met)| Decision { action: met.action, rank })
    }

    /// The same: the place of the rule that decides, and the rule.
    ///
    /// # Errors
    /// [`Undecided`].
    #[inline(always)]
    pub(crate) fn meet(&self, direction: Direction, flow: &Flow) -> Result<(u32, Met), Undecided> {
        let place = self.first(direction, flow).ok_or(Undecided::NoRule)?;
        let slot = self.slots.get(place as usize).ok_or(Undecided::NoRule)?;
        let (rank, mut met) = (slot.rank, Met { action: slot.rule.action, slot: place });
        if met.action.lets_pass() && flow.is_a_part() && self.may_be_meant_before(rank, direction, *flow) {
            met.action = met.action.but_not_in_clear().ok_or(Undecided::Fragment)?;
        }
        Ok((rank, met))
    }

    /// Whether some rule discards. Where none does, nobody needs to ask which packets.
    #[inline]
    pub const fn discards(&self) -> bool {
        self.shape.discards
    }

    /// The same, at one place for all who do it seldom.
    ///
    /// # Errors
    /// [`Undecided`].
    #[inline(never)]
    pub(crate) fn meet_apart(&self, direction: Direction, flow: Flow) -> Result<(u32, Met), Undecided> {
        self.meet(direction, &flow)
    }

    /// The slot of the first rule that matches, whatever may be meant. Its number alone: it stays in a register, whichever
    /// way it was found.
    #[inline(always)]
    fn first(&self, direction: Direction, flow: &Flow) -> Option<u32> {
        let (start, len) = match self.tree(flow) {
            Part::Run { start, len } => (start, len.get()),
            // Whoever has no nodes by the type of the index links no tree.
            Part::Node(_) if self.nodes.is_empty() => return None,
            Part::Node(root) => return self.first_below(root, direction, *flow),
        };
        // A few rules are looked at where they stand.
        for (place, slot) in self.run(start, 0..len, u32::MAX) {
            if slot.rule.fits(direction, flow) {
                return Some(place);
            }
        }
        None
    }

    /// Takes the flow itself: it would have to be put into memory for everybody who may come here, to lend it.
    #[inline(never)]
    fn first_below(&self, root: u32, direction: Direction, flow: Flow) -> Option<u32> {
        self.descend(root, u32::MAX, &Query::fitting(direction, &flow), |_, rule| rule.fits(direction, &flow))
    }

    /// Whether a rule before this place that does not let pass may be about this packet, were all of it to be read.
    fn may_be_meant_before(&self, rank: u32, direction: Direction, flow: Flow) -> bool {
        (self.meant_before)(*self, rank, direction, flow)
    }

    /// The slot of the first rule before `limit` that fits: `fits` is asked of slots and their rules that `query` does not
    /// rule out.
    pub(super) fn find(
        &self,
        flow: &Flow,
        limit: u32,
        query: &Query,
        fits: impl Fn(u32, &Rule) -> bool,
    ) -> Option<u32> {
        match self.tree(flow) {
            Part::Run { start, len } => {
                let mut run = self.run(start, 0..len.get(), limit);
                run.find(|(place, slot)| fits(*place, &slot.rule)).map(|(place, _)| place)
            }
            Part::Node(root) => self.descend(root, limit, query, fits),
        }
    }

    /// What lies in a slot.
    pub(super) fn at(&self, place: u32) -> Option<&'v Slot> {
        self.numbers().get(place as usize)
    }

    /// The slot of the rule with this id.
    pub(super) fn place_of(&self, id: RuleId) -> Option<u32> {
        let number = self.first_number(|slot| self.at(slot.of_id).is_some_and(|slot| slot.rule.id < id));
        let place = self.at(number)?.of_id;
        (self.at(place)?.rule.id == id).then_some(place)
    }

    /// How many rules stand before one with this priority that comes now.
    pub(super) fn rank_behind(&self, priority: u32) -> u32 {
        self.first_number(|slot| self.at(slot.of_rank).is_some_and(|slot| slot.rule.priority <= priority))
    }

    /// The first slot in whose number nothing stands `before`.
    fn first_number(&self, before: impl Fn(&Slot) -> bool) -> u32 {
        self.numbers().partition_point(before) as u32
    }

    #[inline]
    fn tree(&self, flow: &Flow) -> Part {
        if flow.source.is_ipv4() { self.shape.v4 } else { self.shape.v6 }
    }

    /// Those of these rules of the run that begins at `start` that stand before `limit`, with the numbers of their slots.
    #[inline(always)]
    fn run(&self, start: u32, rules: impl Iterator<Item = u32>, limit: u32) -> impl Iterator<Item = (u32, &'v Slot)> {
        let run = self.slots.get(start as usize..).unwrap_or_default();
        let slots = rules.map_while(move |number| Some((start.wrapping_add(number), run.get(number as usize)?)));
        slots.take_while(move |(_, slot)| slot.rank < limit)
    }

    /// The same in a part of the tree.
    fn descend(&self, root: u32, mut limit: u32, query: &Query, fits: impl Fn(u32, &Rule) -> bool) -> Option<u32> {
        let mut best = None;
        // On each level, what lies across and children for later at most.
        let mut later: heapless::Vec<Range<u32>, { 2 * DEPTH }> = heapless::Vec::new();
        let mut nodes = root..root.saturating_add(1);
        loop {
            let Some(number) = nodes.next() else {
                match later.pop() {
                    Some(before) => nodes = before,
                    None => return best,
                }
                continue;
            };
            let Some(node) = self.nodes.get(number as usize).filter(|node| node.first < limit) else { continue };
            let found = match node.kind {
                Kind::Run if node.len as usize <= RUN => {
                    let (mut candidates, len) = (node.candidates(query), node.len);
                    let rules = core::iter::from_fn(|| {
                        let next = candidates.trailing_zeros();
                        candidates &= candidates.wrapping_sub(1);
                        (next < len).then_some(next)
                    });
                    self.run(node.start, rules, limit).find(|(place, slot)| fits(*place, &slot.rule))
                }
                Kind::Run => self.run(node.start, 0..node.len, limit).find(|(place, slot)| fits(*place, &slot.rule)),
                Kind::Branching { across } => {
                    let rest = replace(&mut nodes, node.children(across, query));
                    // There is room: no tree is deeper than it is allowed to grow.
                    if !rest.is_empty() {
                        _ = later.push(rest);
                    }
                    if across {
                        _ = later.push(node.start..node.start.saturating_add(1));
                    }
                    None
                }
            };
            if let Some((place, slot)) = found {
                limit = slot.rank;
                best = Some(place);
            }
        }
    }
}

/// [`View::may_be_meant_before`] in a tree.
#[cold]
fn meant_in_tree(view: View<'_>, rank: u32, direction: Direction, flow: Flow) -> bool {
    let query = Query::possible(direction, &flow);
    view.find(&flow, rank, &query, |_, rule| rule.may_hold_back(direction, &flow)).is_some()
}

/// [`View::may_be_meant_before`] where all rules stand in lists.
#[cold]
fn meant_in_list(view: View<'_>, rank: u32, direction: Direction, flow: Flow) -> bool {
    match view.tree(&flow) {
        Part::Run { start, len } => {
            view.run(start, 0..len.get(), rank).any(|(_, slot)| slot.rule.may_hold_back(direction, &flow))
        }
        Part::Node(_) => false,
    }
}

#[cfg(test)]
mod tests;
