//! The rules as an engine has them: an index that others may look into as well, and what the engine itself counts and
//! remembers of it.

use crate::error::Refused;
use crate::flow::Flow;
use crate::sa::SaId;
use crate::spd::{Action, Cache, Decision, Direction, Hits, Remembered, Rule, Rules, Undecided, View};
use crate::time::Instant;

pub(super) struct Policies<'a, R> {
    rules: Option<R>,
    hits: &'a mut [Hits],
    cache: Cache<'a>,
}

impl<'a, R: Rules> Policies<'a, R> {
    /// None yet.
    pub(super) fn new(hits: &'a mut [Hits]) -> Self {
        Self { rules: None, hits, cache: Cache::new(&mut []) }
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
        self.forget();
        Ok(self.rules.replace(rules))
    }

    pub(super) fn clear(&mut self) -> Option<R> {
        self.forget();
        self.rules.take()
    }

    fn forget(&mut self) {
        self.hits.fill(Hits::NONE);
        self.cache.forget();
    }

    fn view(&self) -> Option<View<'_>> {
        self.rules.as_ref().map(Rules::view)
    }

    /// What the first rule that matches says. Changes and counts nothing.
    pub(super) fn judge(&self, direction: Direction, flow: &Flow) -> Result<Decision, Undecided> {
        self.view().ok_or(Undecided::NoRule)?.decide(direction, flow)
    }

    /// The same, remembered, and with the SA that was [noted](Self::note) for the flow while the state of the SAs was the
    /// same.
    #[inline]
    pub(super) fn decide(
        &mut self,
        direction: Direction,
        flow: &Flow,
        sas: u64,
    ) -> Result<(Decision, Option<SaId>), Undecided> {
        let view = self.rules.as_ref().map(Rules::view).ok_or(Undecided::NoRule)?;
        let (decided, sa) = self.cache.decide(view, direction, flow, sas);
        decided.map(|decision| (decision, sa))
    }

    #[inline]
    pub(super) fn note(&mut self, direction: Direction, flow: &Flow, sas: u64, id: SaId) {
        self.cache.note(direction, flow, sas, id);
    }

    /// Counts a packet that met a rule.
    #[inline]
    pub(super) fn count(&mut self, now: Instant, direction: Direction, decision: Decision) {
        if let Some(hits) = self.hits.get_mut(decision.rank as usize) {
            hits.count(now, direction);
        }
    }

    /// Whether the first rule that matches discards. Where none does that at all, no packet pays for the question.
    #[inline]
    pub(super) fn blocks(&mut self, direction: Direction, flow: &Flow) -> bool {
        self.view().is_some_and(|view| view.discards())
            && matches!(self.decide(direction, flow, 0), Ok((Decision { action: Action::Discard, .. }, _)))
    }

    /// Of each rule in order, then of rules there might be.
    pub(super) const fn hits(&self) -> &[Hits] {
        self.hits
    }

    /// The rules in order, with their hits.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Rule, Hits)> {
        let hits = self.hits.iter().copied().chain(core::iter::repeat(Hits::NONE));
        self.view().into_iter().flat_map(|view| view.iter()).zip(hits)
    }
}
