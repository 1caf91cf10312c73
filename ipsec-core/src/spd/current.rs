//! The rules of an engine: an index, and what changed since it was built.

use super::changes::{Added, Changed, Changes, of_index};
use super::index::{Met, Rules, Undecided, View};
use super::query::Query;
use super::rule::{Direction, Rule};
use crate::flow::Flow;

/// A look at both. What stands first among all of them decides, as if they were one list. It has the rules by their type, which
/// may say that there is no tree.
pub(crate) struct Current<'t, R> {
    pub(crate) rules: Option<&'t R>,
    pub(crate) changes: &'t Changed<'t>,
}

impl<'t, R: Rules> Current<'t, R> {
    #[inline(always)]
    fn index(&self) -> View<'t> {
        self.rules.map_or(View::NOTHING, Rules::view)
    }

    /// What happens to a packet: the first rule that matches decides.
    ///
    /// # Errors
    /// [`Undecided`].
    #[inline(always)]
    pub(crate) fn meet(&self, direction: Direction, flow: &Flow) -> Result<Met, Undecided> {
        match self.changes.meet() {
            Some(meet_changed) => meet_changed(self.index(), self.changes, direction, *flow),
            None => self.index().meet(direction, flow).map(|(_, met)| met),
        }
    }

    /// The same, at one place for all who do it seldom.
    ///
    /// # Errors
    /// [`Undecided`].
    #[inline(never)]
    pub(crate) fn meet_apart(&self, direction: Direction, flow: Flow) -> Result<Met, Undecided> {
        self.meet(direction, &flow)
    }

    /// Whether some rule discards, or one did that is gone. Where none does, nobody needs to ask which packets.
    #[inline]
    pub(crate) fn discards(&self) -> bool {
        self.index().discards() || (self.changes.meet().is_some() && self.changes.discards())
    }

    /// The rules in order, from one of them on, each with the number that it is counted under.
    pub(crate) fn places(&self, from: usize) -> impl Iterator<Item = (u32, &'t Rule)> + use<'t, R> {
        let (index, changes) = (self.index(), self.changes);
        // A place of the index that lies before it, but for the changes not far.
        let start = from.saturating_sub(changes.added()) as u32;
        let of_place = move |place| index.at(place).map_or(u32::MAX, |slot| slot.rank);
        let gone = changes.all_gone().filter(|place| of_place(*place) < start).count();
        let passed = (start as usize).saturating_sub(gone).saturating_add(changes.before(start));
        let mut old = index.places(start as usize).filter(|(place, _)| !changes.is_gone(*place)).peekable();
        let mut new = changes.after((start, 0, 0));
        let merged = core::iter::from_fn(move || {
            let next = old.peek().map_or(u32::MAX, |(place, _)| of_place(*place));
            match new.filter(|added| added.order < of_index(next)) {
                Some(added) => {
                    new = changes.after(added.order);
                    Some((counted(&added), added.rule))
                }
                None => old.next(),
            }
        });
        merged.skip(from.saturating_sub(passed))
    }
}

impl<'a> Changed<'a> {
    /// In this memory.
    pub(crate) fn new(memory: &'a mut [Changes]) -> Self {
        Self::met_by(memory, meet_changed)
    }
}

/// What the first rule that matches says, of an index and what changed since it was built.
fn meet_changed(index: View<'_>, changes: &Changed<'_>, direction: Direction, flow: Flow) -> Result<Met, Undecided> {
    let query = Query::fitting(direction, &flow);
    let fits = |rule: &Rule| rule.fits(direction, &flow);
    let there = |place| !changes.is_gone(place);
    let place = index.find(&flow, u32::MAX, &query, |place, rule| fits(rule) && there(place));
    let slot = place.and_then(|place| index.at(place));
    let limit = of_index(slot.map_or(u32::MAX, |slot| slot.rank));
    let added = changes.find(limit, &query, fits);
    let (order, mut met) = match (added, slot.zip(place)) {
        (Some(added), _) => (added.order, Met { action: added.rule.action, slot: counted(&added) }),
        (None, Some((slot, place))) => (limit, Met { action: slot.rule.action, slot: place }),
        (None, None) => return Err(Undecided::NoRule),
    };
    if met.action.lets_pass() && flow.is_a_part() {
        let query = Query::possible(direction, &flow);
        let holds = |rule: &Rule| rule.may_hold_back(direction, &flow);
        let (rank, ..) = order;
        if index.find(&flow, rank, &query, |place, rule| holds(rule) && there(place)).is_some()
            || changes.find(order, &query, holds).is_some()
        {
            met.action = met.action.but_not_in_clear().ok_or(Undecided::Fragment)?;
        }
    }
    Ok(met)
}

/// Added rules are counted under numbers from the last one down.
fn counted(added: &Added<'_>) -> u32 {
    !added.number
}
