//! The configured children, and which of them want to be looked at, and when.
//!
//! A peer may have thousands: what happens to one of them costs no look at the others.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::cell::Cell;

use ike_core::pad::ChildConfigId;
use ipsec_core::time::Instant;

use super::child::ChildEntry;

/// A child that may be changed is looked at afterwards: nobody has to remember to see to that.
#[derive(Default)]
pub(crate) struct Children {
    /// In boxes: nodes of a map are half empty when numbers come in their order.
    all: BTreeMap<ChildConfigId, Box<ChildEntry>>,
    /// Something may have happened to these.
    changed: BTreeSet<ChildConfigId>,
    /// The others, in the order in which they fall due.
    due: BTreeSet<(Instant, ChildConfigId)>,
    /// How many were looked at one by one.
    looked: Cell<u64>,
}

impl Children {
    pub(crate) fn get(&self, id: &ChildConfigId) -> Option<&ChildEntry> {
        self.look();
        self.all.get(id).map(Box::as_ref)
    }

    /// To be changed.
    pub(crate) fn get_mut(&mut self, id: &ChildConfigId) -> Option<&mut ChildEntry> {
        self.look();
        let entry = self.all.get_mut(id)?;
        self.changed.insert(*id);
        Some(entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ChildEntry> {
        self.all.values().map(Box::as_ref)
    }

    /// A child that is new, or was taken out before.
    pub(crate) fn insert(&mut self, entry: Box<ChildEntry>) {
        self.changed.insert(entry.id);
        self.all.insert(entry.id, entry);
    }

    /// All of them, taken out.
    pub(crate) fn take(&mut self) -> BTreeMap<ChildConfigId, Box<ChildEntry>> {
        core::mem::take(self).all
    }

    /// These want to be looked at because of something that happened elsewhere.
    pub(crate) fn touch(&mut self, ids: &[ChildConfigId]) {
        self.changed.extend(ids.iter().filter(|id| self.all.contains_key(id)));
    }

    fn look(&self) {
        self.looked.set(self.looked.get().saturating_add(1));
    }

    /// How many were looked at one by one so far.
    pub(crate) fn looked(&self) -> u64 {
        self.looked.get()
    }

    /// The next one to look at.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<ChildConfigId> {
        let due = || self.due.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id);
        let next = self.changed.pop_first().or_else(due)?;
        self.plan(next, None);
        Some(next)
    }

    /// One that was looked at falls due at this moment.
    pub(crate) fn plan(&mut self, id: ChildConfigId, at: Option<Instant>) {
        let Some(entry) = self.all.get_mut(&id) else { return };
        if let Some(before) = core::mem::replace(&mut entry.due, at) {
            self.due.remove(&(before, id));
        }
        self.due.extend(at.map(|at| (at, id)));
    }

    /// When the next one falls due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether one is looked at by this moment.
    pub(crate) fn is_awaited(&self, id: &ChildConfigId, by: Instant) -> bool {
        self.changed.contains(id) || self.get(id).is_some_and(|entry| entry.due.is_some_and(|due| due <= by))
    }

    /// Whether each that falls due stands where it is found, and nothing else does. Looks at all.
    pub(crate) fn is_filed(&self) -> bool {
        let due = self.iter().filter_map(|entry| Some((entry.due?, entry.id)));
        self.due == due.collect() && self.changed.iter().all(|id| self.all.contains_key(id))
    }
}
