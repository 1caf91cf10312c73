//! The configured children, and which of them want to be looked at, and when.
//!
//! A peer may have thousands: that something happened to one of them is no reason to look at the others.

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
    pub(crate) fn insert(&mut self, mut entry: Box<ChildEntry>) {
        entry.due = None;
        self.changed.insert(entry.id);
        self.all.insert(entry.id, entry);
    }

    /// All of them, taken out.
    pub(crate) fn take(&mut self) -> BTreeMap<ChildConfigId, Box<ChildEntry>> {
        self.changed.clear();
        self.due.clear();
        core::mem::take(&mut self.all)
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

    /// Whether all that may have changed were looked at.
    pub(crate) fn is_settled(&self) -> bool {
        self.changed.is_empty()
    }

    /// Whether each that falls due stands where it is found, and nothing else does. Looks at all.
    pub(crate) fn is_filed(&self) -> bool {
        let due = self.iter().filter_map(|entry| Some((entry.due?, entry.id)));
        self.due == due.collect() && self.changed.iter().all(|id| self.all.contains_key(id))
    }
}

#[cfg(test)]
mod tests {
    use ike_core::pad::PeerId;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_child_is_looked_at_when_it_may_have_changed_and_at_the_moment_that_was_planned_last() {
        let text = "[[peer]]\nname='a'\nlocal='192.0.2.2'\nremote='192.0.2.1'\npsk='a key of more than twenty octets'\n\
                    [[peer.child]]\nname='net'\nlocal-ts='10.2.0.0/16'\nremote-ts='10.1.0.0/16'\n";
        let config = &Config::parse(text).unwrap().0.peers[0].children[0];
        let (id, at) = (ChildConfigId(7), Instant::from_millis);
        let mut children = Children::default();
        let insert = |children: &mut Children| {
            children.insert(Box::new(ChildEntry::new(id, PeerId(0), config)));
            assert_eq!((children.pop(at(0)), children.pop(at(0))), (Some(id), None), "it is new");
        };
        insert(&mut children);
        children.plan(id, Some(at(10)));
        assert_eq!(children.pop(at(9)), None);
        children.plan(id, Some(at(20)));
        assert_eq!((children.next(), children.pop(at(19))), (Some(at(20)), None));
        assert_eq!((children.pop(at(20)), children.pop(at(20)), children.next()), (Some(id), None, None));
        // Whoever may have changed it, or it was planned for.
        children.plan(id, Some(at(30)));
        assert!(children.get_mut(&id).is_some() && children.is_awaited(&id, at(0)));
        assert_eq!((children.pop(at(0)), children.next(), children.pop(at(30))), (Some(id), None, None));
        children.touch(&[id, ChildConfigId(8)]);
        assert_eq!((children.pop(at(0)), children.pop(at(0))), (Some(id), None), "there is no other one");
        children.plan(id, Some(at(40)));
        let taken = children.take();
        assert_eq!((taken.len(), children.next(), children.pop(at(40))), (1, None, None));
        insert(&mut children);
    }
}
