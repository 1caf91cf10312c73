//! The rules as an engine has them: an index that others may look into as well, and what the engine itself counts and
//! remembers of it.

use crate::error::Refused;
use crate::flow::Flow;
use crate::sa::SaId;
use crate::spd::{Action, Cache, Direction, Hits, Met, Remembered, Rule, Rules, Undecided, View};
use crate::time::Instant;

pub(super) struct Policies<'a, R> {
    rules: Option<R>,
    /// By the slots of the rules: where a rule is known, both are fetched at once.
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
        self.hits.fill(Hits::NONE);
        self.cache.forget();
        Ok(self.rules.replace(rules))
    }

    pub(super) fn clear(&mut self) -> Option<R> {
        self.rules.take()
    }

    fn view(&self) -> Option<View<'_>> {
        self.rules.as_ref().map(Rules::view)
    }

    /// What the first rule that matches says. Changes and counts nothing.
    pub(super) fn judge(&self, direction: Direction, flow: &Flow) -> Result<Action, Undecided> {
        let (_, met) = self.view().ok_or(Undecided::NoRule)?.meet_apart(direction, *flow)?;
        Ok(met.action)
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
        let view = self.rules.as_ref().map(Rules::view).ok_or(Undecided::NoRule)?;
        self.cache.meet(view, direction, flow, sas)
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
    pub(super) fn count(&mut self, now: Instant, direction: Direction, met: Met) {
        if let Some(hits) = self.hits.get_mut(met.slot as usize) {
            hits.count(now, direction);
        }
    }

    /// Whether the first rule that matches discards. Where none does that at all, no packet pays for the question.
    #[inline(always)]
    pub(super) fn blocks(&mut self, direction: Direction, flow: &Flow) -> bool {
        self.view().is_some_and(|view| view.discards())
            && matches!(self.meet(direction, *flow), Ok(Met { action: Action::Discard, .. }))
    }

    /// The rules in order, from one of them on, with their hits.
    pub(super) fn iter(&self, from: usize) -> impl Iterator<Item = (&Rule, Hits)> {
        let places = self.view().into_iter().flat_map(move |view| view.places(from));
        places.map(|(slot, rule)| (rule, self.hits.get(slot as usize).copied().unwrap_or_default()))
    }
}
