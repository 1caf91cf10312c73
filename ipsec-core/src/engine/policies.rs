//! The rules as an engine has them: an index that others may look into as well, and what the engine itself changes, counts
//! and remembers of it.

use crate::error::Refused;
use crate::flow::Flow;
use crate::sa::SaId;
use crate::spd::{
    Action, Cache, Changed, Changes, Current, Direction, Hits, Met, Remembered, Rule, RuleId, Rules, Undecided, View,
};
use crate::time::Instant;

pub(super) struct Policies<'a, R> {
    rules: Option<R>,
    changes: Changed<'a>,
    /// By the slots of the rules: where a rule is known, both are fetched at once.
    hits: &'a mut [Hits],
    cache: Cache<'a>,
    /// Packets that passed in clear under a rule that protects.
    clear: u64,
}

impl<'a, R: Rules> Policies<'a, R> {
    /// None yet.
    pub(super) fn new(hits: &'a mut [Hits]) -> Self {
        Self { rules: None, changes: Changed::none(), hits, cache: Cache::none(), clear: 0 }
    }

    pub(super) fn change(&mut self, changes: &'a mut [Changes]) {
        self.changes = Changed::new(changes);
        self.cache.forget();
    }

    pub(super) fn remember(&mut self, flows: &'a mut [Remembered]) {
        self.cache = Cache::new(flows);
    }

    /// How many rules there may be: each is counted, or none is.
    pub(super) fn room(&self) -> usize {
        if self.hits.is_empty() { usize::MAX } else { self.hits.len() }
    }

    pub(super) fn set(&mut self, rules: R) -> Result<Option<R>, Refused> {
        if rules.view().len() > self.room() {
            return Err(Refused::Full);
        }
        self.hits.fill(Hits::NONE);
        self.changes.forget();
        self.cache.forget();
        Ok(self.rules.replace(rules))
    }

    pub(super) fn clear(&mut self) -> Option<R> {
        self.changes.forget();
        self.cache.forget();
        self.rules.take()
    }

    pub(super) fn add(&mut self, rule: Rule) -> Result<(), Refused> {
        self.alter(|changes, index| changes.add(index, rule))
    }

    pub(super) fn replace(&mut self, rule: Rule) -> Result<bool, Refused> {
        self.alter(|changes, index| changes.replace(index, rule))
    }

    pub(super) fn remove(&mut self, id: RuleId) -> Result<bool, Refused> {
        self.alter(|changes, index| changes.remove(index, id))
    }

    fn alter<T>(&mut self, alter: impl FnOnce(&mut Changed<'a>, View<'_>) -> T) -> T {
        let index = self.rules.as_ref().map_or(View::NOTHING, Rules::view);
        let altered = alter(&mut self.changes, index);
        self.cache.forget();
        altered
    }

    #[inline(always)]
    fn current(&self) -> Current<'_, R> {
        Current { rules: self.rules.as_ref(), changes: &self.changes }
    }

    /// What the first rule that matches says. Changes and counts nothing.
    pub(super) fn judge(&self, direction: Direction, flow: &Flow) -> Result<Action, Undecided> {
        self.current().meet_apart(direction, *flow).map(|met| met.action)
    }

    /// The same, remembered, and with the SA that was [noted](Self::note) for the flow when there had been as many SAs as now:
    /// none that came since may be a better one.
    #[inline(always)]
    pub(super) fn decide(
        &mut self,
        direction: Direction,
        flow: &Flow,
        sas: u64,
    ) -> Result<(Met, Option<SaId>), Undecided> {
        let current = Current { rules: self.rules.as_ref(), changes: &self.changes };
        self.cache.meet(&current, direction, flow, sas)
    }

    /// The same for who has no SAs to choose from, at one place for all of them. Takes the flow itself: what is lent has to
    /// lie in memory, also for the packets that do not come here.
    #[inline(never)]
    pub(super) fn meet(&mut self, direction: Direction, flow: Flow) -> Result<Met, Undecided> {
        self.decide(direction, &flow, 0).map(|(met, _)| met)
    }

    #[inline(always)]
    pub(super) fn note(&mut self, direction: Direction, flow: &Flow, sa: SaId) {
        self.cache.note(direction, flow, sa);
    }

    /// Counts a packet that met a rule.
    #[inline]
    pub(super) fn count(&mut self, now: Instant, direction: Direction, met: Met, octets: usize) {
        if let Some(hits) = self.hits_of(met) {
            hits.count(now, direction, octets);
        }
    }

    /// Counts that it passes in clear although the rule protects.
    #[cold]
    pub(super) fn count_clear(&mut self, met: Met) {
        self.clear = self.clear.saturating_add(1);
        if let Some(hits) = self.hits_of(met) {
            hits.count_clear();
        }
    }

    /// How many did.
    pub(super) fn passed_clear(&self) -> u64 {
        self.clear
    }

    #[inline]
    fn hits_of(&mut self, met: Met) -> Option<&mut Hits> {
        match self.hits.get_mut(met.slot as usize) {
            Some(hits) => Some(hits),
            None => self.changes.hits_mut(!met.slot),
        }
    }

    /// Whether the first rule that matches discards. Where none does that at all, no packet pays for the question.
    #[inline(always)]
    pub(super) fn blocks(&mut self, direction: Direction, flow: &Flow) -> bool {
        self.current().discards() && matches!(self.meet(direction, *flow), Ok(Met { action: Action::Discard, .. }))
    }

    /// The rules in order, from one of them on, with their hits.
    pub(super) fn iter(&self, from: usize) -> impl Iterator<Item = (&Rule, Hits)> {
        let hits = |slot: u32| self.hits.get(slot as usize).copied().or_else(|| self.changes.hits(!slot));
        self.current().places(from).map(move |(slot, rule)| (rule, hits(slot).unwrap_or_default()))
    }
}
