//! What changed since an index was built: a few rules beside it, and the numbers of those in it that are gone.
//!
//! An index never changes, as others may look into it. So an engine keeps apart what is another in its own rules, until they are
//! built anew: an added rule knows before which place of the index it stands, and what stands at one place is told apart by
//! priority and by which came first. Eight of them share a node, which says, as that of a run does, which of them a packet may
//! fit: a packet looks at one line of the cache for each eight changes. They lie in no order, so that a change concerns one node,
//! however many there are.

use super::cuts::run;
use super::index::{Met, Undecided, View};
use super::query::Query;
use super::rule::{Action, Direction, Hits, Rule, RuleId};
use super::tree::{Node, RUN, Slot};
use crate::error::Refused;
use crate::flow::Flow;

/// Memory for eight changes: 1,408 octets. A rule that comes takes one of them, one of the index that goes takes one, one of the
/// index that is replaced takes one; what concerns a rule that came by a change takes none.
///
/// This memory is the bound of what changes cost: each looks once at all rules that came by one, and a list of all rules looks at
/// them once for each of them. It is meant for some hundred between two indexes.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::{Outbound, Verdict};
/// use ipsec_core::error::Refused;
/// use ipsec_core::net::AddrRange;
/// use ipsec_core::spd::{Action, Changes, Index, PolicyId, Rule, RuleId, Selector, Slot};
/// use ipsec_core::time::Instant;
/// let selector = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
/// let rule = Rule { id: RuleId(1), priority: 100, selector, action: Action::protect(PolicyId(7)) };
/// let (mut slots, mut changes) = ([Slot::EMPTY], [Changes::NONE]);
/// let mut outbound = Outbound::new(RustCrypto, &mut [], &mut []).changing(&mut changes);
/// outbound.set_rules(Index::build([rule], &mut slots[..], &mut [][..]).unwrap()).unwrap();
/// let udp = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 2, 0, 53, 0, 99, 0, 8, 0, 0];
/// assert_eq!(outbound.classify(Instant::ZERO, &udp), Ok(Verdict::Acquire(PolicyId(7))));
///
/// outbound.add_rule(Rule { id: RuleId(2), priority: 50, action: Action::Bypass, ..rule }).unwrap();
/// assert_eq!(outbound.classify(Instant::ZERO, &udp), Ok(Verdict::Clear));
/// assert_eq!(outbound.replace_rule(Rule { id: RuleId(2), priority: 200, action: Action::Discard, ..rule }), Ok(true));
/// assert_eq!(outbound.classify(Instant::ZERO, &udp), Ok(Verdict::Acquire(PolicyId(7))));
/// assert_eq!(outbound.drop_rule(RuleId(1)), Ok(true));
/// assert!(outbound.classify(Instant::ZERO, &udp).is_err());
/// assert_eq!(outbound.add_rule(Rule { id: RuleId(2), ..rule }), Err(Refused::Duplicate));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Changes {
    /// What packets the added rules may fit.
    node: Node,
    added: [Slot; RUN],
    hits: [Hits; RUN],
    /// Slots of the index whose rules are gone.
    gone: [u32; RUN],
}

impl Changes {
    /// Memory without a change.
    pub const NONE: Self =
        Self { node: Node::EMPTY, added: [Slot::EMPTY; RUN], hits: [Hits::NONE; RUN], gone: [u32::MAX; RUN] };
}

impl Default for Changes {
    fn default() -> Self {
        Self::NONE
    }
}

/// Where a rule stands. Before the rule of the index with a place stand those added rules that have its place, by priority,
/// then by which came first.
pub(super) type Order = (u32, u32, u32);

/// Where the rule of the index with this place stands.
pub(super) const fn of_index(rank: u32) -> Order {
    (rank, u32::MAX, u32::MAX)
}

/// An added rule. Of its slot, `rank` is the place of the index before which it stands, `of_rank` says which one it was of
/// those that came.
fn order(slot: &Slot) -> Order {
    (slot.rank, slot.rule.priority, slot.of_rank)
}

/// An added rule, with the number of its hits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added<'c> {
    pub(super) order: Order,
    pub(super) number: u32,
    pub(super) rule: &'c Rule,
}

/// The changes of an engine's rules.
#[derive(Debug)]
pub(crate) struct Changed<'a> {
    memory: &'a mut [Changes],
    /// How many rules were added and are there, and how many of the index are gone.
    added: u32,
    gone: u32,
    /// How many rules came so far.
    came: u32,
    /// How packets meet rules that have changed, known to whoever has memory for that: nobody else links it.
    meet: Option<MeetChanged>,
    /// Whether an added rule discards: asked for each packet that comes in.
    discards: bool,
}

/// Of an index and its changes.
pub(super) type MeetChanged = fn(View<'_>, &Changed<'_>, Direction, Flow) -> Result<Met, Undecided>;

/// Where a rule is found.
enum Spot {
    /// In a slot of the index.
    Index(u32),
    /// Among the added ones.
    Added(u32),
}

impl<'a> Changed<'a> {
    /// No memory.
    pub(crate) fn none() -> Self {
        Self { memory: &mut [], added: 0, gone: 0, came: 0, discards: false, meet: None }
    }

    pub(super) fn met_by(memory: &'a mut [Changes], meet: MeetChanged) -> Self {
        Self { memory, meet: Some(meet), ..Self::none() }
    }

    /// There is a new index, in which all is as it is to be.
    pub(crate) fn forget(&mut self) {
        (self.added, self.gone, self.came, self.discards) = (0, 0, 0, false);
    }

    /// How packets meet the rules, if there are changes.
    #[inline]
    pub(super) fn meet(&self) -> Option<MeetChanged> {
        self.meet.filter(|_| self.added != 0 || self.gone != 0)
    }

    /// How many rules were added.
    pub(super) fn added(&self) -> usize {
        self.added as usize
    }

    /// Adds a rule, behind those with the same priority.
    ///
    /// # Errors
    /// [`Refused::Duplicate`]: there is one with its id. [`Refused::Full`].
    pub(crate) fn add(&mut self, index: View<'_>, rule: Rule) -> Result<(), Refused> {
        if self.spot(index, rule.id).is_some() {
            return Err(Refused::Duplicate);
        }
        self.insert(index.rank_behind(rule.priority), rule)
    }

    /// Puts a rule in the place of the one with its id: the same place where the priority is the same, else behind those with
    /// its priority. `false`: there is none.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub(crate) fn replace(&mut self, index: View<'_>, rule: Rule) -> Result<bool, Refused> {
        match self.spot(index, rule.id) {
            None => return Ok(false),
            Some(Spot::Index(place)) => {
                let before = index.at(place).filter(|slot| slot.rule.priority == rule.priority);
                let rank = before.map_or_else(|| index.rank_behind(rule.priority), |slot| slot.rank);
                self.room_for_gone()?;
                self.insert(rank, rule)?;
                self.lose(place)?;
            }
            Some(Spot::Added(number)) => {
                let came = self.comes()?;
                let before = self.slot(number).filter(|slot| slot.rule.priority == rule.priority);
                let (rank, came) =
                    before.map_or_else(|| (index.rank_behind(rule.priority), came), |slot| (slot.rank, slot.of_rank));
                self.put(number, rank, came, rule);
            }
        }
        Ok(true)
    }

    /// Takes a rule away. `false`: there is none with this id.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub(crate) fn remove(&mut self, index: View<'_>, id: RuleId) -> Result<bool, Refused> {
        match self.spot(index, id) {
            None => return Ok(false),
            Some(Spot::Index(place)) => self.lose(place)?,
            Some(Spot::Added(number)) => {
                let last = self.added.saturating_sub(1);
                let moved = self.slot(last).copied().zip(self.hits(last));
                if let (Some((slot, hits)), Some((to, count))) = (moved, self.entry(number)) {
                    (*to, *count) = (slot, hits);
                }
                self.added = last;
                self.refile(number);
                self.refile(last);
            }
        }
        Ok(true)
    }

    fn spot(&self, index: View<'_>, id: RuleId) -> Option<Spot> {
        let added = (0..self.added).find(|number| self.slot(*number).is_some_and(|slot| slot.rule.id == id));
        let in_index = || index.place_of(id).filter(|place| !self.is_gone(*place)).map(Spot::Index);
        added.map(Spot::Added).or_else(in_index)
    }

    fn insert(&mut self, rank: u32, rule: Rule) -> Result<(), Refused> {
        if self.added() >= self.room() {
            return Err(Refused::Full);
        }
        let (came, number) = (self.comes()?, self.added);
        self.added = number.saturating_add(1);
        self.put(number, rank, came, rule);
        Ok(())
    }

    /// The number of a rule that comes now.
    fn comes(&mut self) -> Result<u32, Refused> {
        // From 1 on: nothing stands before all that have a place.
        self.came = self.came.checked_add(1).ok_or(Refused::Full)?;
        Ok(self.came)
    }

    /// A rule that nobody met yet.
    fn put(&mut self, number: u32, rank: u32, came: u32, rule: Rule) {
        if let Some((slot, hits)) = self.entry(number) {
            (*slot, *hits) = (Slot { of_rank: came, ..Slot::new(rule, rank) }, Hits::NONE);
        }
        self.refile(number);
    }

    /// A node says what its rules are.
    fn refile(&mut self, number: u32) {
        let block = number as usize / RUN;
        let used = self.added().saturating_sub(block.saturating_mul(RUN)).min(RUN);
        if let Some(Changes { node, added, .. }) = self.memory.get_mut(block) {
            *node = run(added.get(..used).unwrap_or_default(), 0);
        }
        let discards = self.all().any(|added| added.rule.action == Action::Discard);
        self.discards = discards;
    }

    /// A rule of the index is gone.
    fn lose(&mut self, place: u32) -> Result<(), Refused> {
        self.room_for_gone()?;
        let (block, number) = (self.gone as usize / RUN, self.gone as usize % RUN);
        if let Some(gone) = self.memory.get_mut(block).and_then(|changes| changes.gone.get_mut(number)) {
            *gone = place;
        }
        self.gone = self.gone.saturating_add(1);
        Ok(())
    }

    fn room(&self) -> usize {
        self.memory.len().saturating_mul(RUN)
    }

    fn room_for_gone(&self) -> Result<(), Refused> {
        if (self.gone as usize) < self.room() { Ok(()) } else { Err(Refused::Full) }
    }

    pub(super) fn is_gone(&self, place: u32) -> bool {
        let mut left = self.gone as usize;
        self.memory.iter().take(left.div_ceil(RUN)).any(|changes| {
            let gone = changes.gone.get(..left.min(RUN)).unwrap_or_default();
            left = left.saturating_sub(RUN);
            gone.contains(&place)
        })
    }

    /// Slots of the index whose rules are gone.
    pub(super) fn all_gone(&self) -> impl Iterator<Item = u32> {
        self.memory.iter().flat_map(|changes| changes.gone).take(self.gone as usize)
    }

    fn slot(&self, number: u32) -> Option<&Slot> {
        self.memory.get(number as usize / RUN)?.added.get(number as usize % RUN)
    }

    fn entry(&mut self, number: u32) -> Option<(&mut Slot, &mut Hits)> {
        let Changes { added, hits, .. } = self.memory.get_mut(number as usize / RUN)?;
        added.get_mut(number as usize % RUN).zip(hits.get_mut(number as usize % RUN))
    }

    /// What was counted of an added rule.
    pub(crate) fn hits(&self, number: u32) -> Option<Hits> {
        self.memory.get(number as usize / RUN)?.hits.get(number as usize % RUN).copied()
    }

    pub(crate) fn hits_mut(&mut self, number: u32) -> Option<&mut Hits> {
        self.entry(number).map(|(_, hits)| hits)
    }

    fn all(&self) -> impl Iterator<Item = Added<'_>> {
        let slots = self.memory.iter().flat_map(|changes| &changes.added).take(self.added());
        (0..).zip(slots).map(|(number, slot)| Added { order: order(slot), number, rule: &slot.rule })
    }

    /// The first added rule behind this place in the order.
    pub(super) fn after(&self, place: Order) -> Option<Added<'_>> {
        self.all().filter(|added| added.order > place).min_by_key(|added| added.order)
    }

    /// How many added rules stand before the first one of the index from this place on, and are no nearer to it.
    pub(super) fn before(&self, rank: u32) -> usize {
        self.all().filter(|added| added.order.0 < rank).count()
    }

    /// Whether an added rule discards.
    pub(super) fn discards(&self) -> bool {
        self.discards
    }

    /// The first added rule that fits, of those that stand before `limit`.
    pub(super) fn find(&self, mut limit: Order, query: &Query, fits: impl Fn(&Rule) -> bool) -> Option<Added<'_>> {
        let mut first = None;
        let mut number = 0_u32;
        for Changes { node, added, .. } in self.memory.iter().take(self.added().div_ceil(RUN)) {
            let mut candidates = node.candidates(query);
            while candidates != 0 {
                let next = candidates.trailing_zeros();
                candidates &= candidates.wrapping_sub(1);
                // Behind the last rule of a run there is none to lie anywhere.
                let Some(slot) = added.get(next as usize).filter(|_| next < node.len) else { break };
                let order = order(slot);
                if order < limit && fits(&slot.rule) {
                    limit = order;
                    first = Some(Added { order, number: number.saturating_add(next), rule: &slot.rule });
                }
            }
            number = number.saturating_add(RUN as u32);
        }
        first
    }
}
