//! The SAs of a policy, newest first: chains by the policy's number.

use super::{Filed, Table};
use crate::sa::{PolicyId, SaId};

/// What a slot knows of chains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// The newest slot of the policies that fall on the number of this one.
    newest: Option<u32>,
    /// This slot's neighbours in its own chain.
    older: Option<u32>,
    newer: Option<u32>,
}

impl Chain {
    pub(super) const NONE: Self = Self { newest: None, older: None, newer: None };
}

impl<T: Filed> Table<'_, T> {
    /// Numbers of policies are the caller's, and mostly follow each other.
    #[inline]
    fn start(&self, policy: PolicyId) -> usize {
        let spread = u64::from(policy.0.wrapping_mul(0x9e37_79b1));
        (spread.wrapping_mul(self.slots.len() as u64) >> 32) as usize
    }

    fn chain_mut(&mut self, slot: u32) -> Option<&mut Chain> {
        self.slots.get_mut(slot as usize).map(|slot| &mut slot.chain)
    }

    /// The SAs of a policy, and those of others that fall on the same number, newest first. Bounded by the number of
    /// slots, whatever the links say.
    #[inline]
    pub(crate) fn chain(&self, policy: PolicyId) -> impl Iterator<Item = (SaId, &T)> {
        let older = |slot: &u32| self.slots.get(*slot as usize)?.chain.older;
        let newest = self.slots.get(self.start(policy)).and_then(|slot| slot.chain.newest);
        let slots = core::iter::successors(newest, older).take(self.slots.len());
        slots.filter_map(|slot| self.at(slot))
    }

    /// The newest SA of this policy is the one in this slot.
    pub(crate) fn link(&mut self, slot: u32, policy: PolicyId) {
        let start = self.start(policy);
        let older = self.slots.get_mut(start).and_then(|start| start.chain.newest.replace(slot));
        if let Some(chain) = self.chain_mut(slot) {
            (chain.older, chain.newer) = (older, None);
        }
        if let Some(older) = older.and_then(|older| self.chain_mut(older)) {
            older.newer = Some(slot);
        }
    }

    /// The SA in this slot is of this policy, and goes.
    pub(crate) fn unlink(&mut self, slot: u32, policy: PolicyId) {
        let Some((older, newer)) = self.chain_mut(slot).map(|chain| (chain.older.take(), chain.newer.take())) else {
            return;
        };
        match newer {
            Some(newer) => _ = self.chain_mut(newer).map(|newer| newer.older = older),
            None => {
                let start = self.start(policy);
                _ = self.slots.get_mut(start).map(|start| start.chain.newest = older);
            }
        }
        if let Some(older) = older.and_then(|older| self.chain_mut(older)) {
            older.newer = newer;
        }
    }
}
