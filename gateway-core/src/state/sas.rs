//! The Child SAs in the data plane, found by what is asked of them: those with one party, of several that share a peer, or
//! those of one IKE SA. Nothing that is asked looks at another party's.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cell::Cell;
use core::net::{IpAddr, Ipv4Addr};

use ike_core::event::{ChildId, IkeId, Party};
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::net::{AddrRange, TrafficSelector};

use super::installed::Installed;
use crate::plane::{DataPlane, Pair};

/// Before all numbers of pairs, and behind.
const FIRST: Pair = Pair(0);
const LAST: Pair = Pair(u64::MAX);
/// Before all addresses.
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What an SA is found by does not change while it is here, but for its IKE SA ([`Sas::carry_over`]).
#[derive(Default)]
pub(crate) struct Sas {
    all: BTreeMap<ChildId, Installed>,
    pairs: BTreeMap<Pair, ChildId>,
    by_party: BTreeMap<(ChildConfigId, Party, Pair), ChildId>,
    by_ike: BTreeMap<(IkeId, ChildConfigId, Pair), ChildId>,
    /// Where the networks of those begin that belong to one party alone, and do not drain. Those of two parties never overlap.
    alone: BTreeMap<(ChildConfigId, IpAddr, Pair), ChildId>,
    /// IKE SAs with several SAs of a child that do not drain.
    several: BTreeMap<(PeerId, ChildConfigId), BTreeSet<IkeId>>,
    /// How many SAs were looked at one by one.
    looked: Cell<u64>,
}

impl Sas {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, child: ChildId) -> Option<&Installed> {
        self.all.get(&child)
    }

    pub(crate) fn get_mut(&mut self, child: ChildId) -> Option<&mut Installed> {
        self.all.get_mut(&child)
    }

    /// The one that the data plane knows by this number.
    pub(crate) fn of_pair(&self, pair: Pair) -> Option<&Installed> {
        self.all.get(self.pairs.get(&pair)?)
    }

    pub(crate) fn of_pair_mut(&mut self, pair: Pair) -> Option<&mut Installed> {
        self.all.get_mut(self.pairs.get(&pair)?)
    }

    /// Every one. Whoever asks for that has a reason to look at all.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Installed> {
        self.all.values()
    }

    /// Every one, by the number that the data plane knows it by.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (Pair, ChildId)> {
        self.pairs.iter().map(|(pair, child)| (*pair, *child))
    }

    /// Those of a child with one party.
    pub(crate) fn with(&self, config: ChildConfigId, party: Party) -> impl Iterator<Item = &Installed> {
        self.looked_at(self.by_party.range((config, party, FIRST)..=(config, party, LAST)))
    }

    /// Changes those of a child with one party.
    pub(crate) fn change_with(&mut self, config: ChildConfigId, party: Party, mut change: impl FnMut(&mut Installed)) {
        for (_, child) in self.by_party.range((config, party, FIRST)..=(config, party, LAST)) {
            self.looked.set(self.looked.get().saturating_add(1));
            self.all.get_mut(child).map(&mut change);
        }
    }

    /// Those of one IKE SA.
    pub(crate) fn over(&self, ike: IkeId) -> impl Iterator<Item = &Installed> {
        self.looked_at(self.by_ike.range((ike, ChildConfigId(0), FIRST)..=(ike, ChildConfigId(u32::MAX), LAST)))
    }

    /// Those of one IKE SA that are of a child.
    pub(crate) fn of(&self, config: ChildConfigId, ike: IkeId) -> impl Iterator<Item = &Installed> {
        self.looked_at(self.by_ike.range((ike, config, FIRST)..=(ike, config, LAST)))
    }

    /// The children of a peer that have several SAs over one IKE SA that do not drain, with that.
    pub(crate) fn several(&self, peer: PeerId) -> impl Iterator<Item = (ChildConfigId, IkeId)> {
        let children = (peer, ChildConfigId(0))..=(peer, ChildConfigId(u32::MAX));
        self.several.range(children).flat_map(|((_, config), ikes)| ikes.iter().map(|ike| (*config, *ike)))
    }

    /// Changes those of one IKE SA.
    pub(crate) fn change_over(&mut self, ike: IkeId, mut change: impl FnMut(&mut Installed)) {
        let ends = (ike, ChildConfigId(0), FIRST)..=(ike, ChildConfigId(u32::MAX), LAST);
        for (_, child) in self.by_ike.range(ends) {
            self.looked.set(self.looked.get().saturating_add(1));
            self.all.get_mut(child).map(&mut change);
        }
    }

    /// The SA of another party that has one of these addresses for itself.
    pub(crate) fn held_by_another(
        &self,
        config: ChildConfigId,
        party: Party,
        remote: &[TrafficSelector],
    ) -> Option<&Installed> {
        remote.iter().find_map(|wanted| self.holder(config, party, &wanted.addrs))
    }

    /// What begins in there, or before it: the last ones, until two others' have been met, as what one party has does not reach over
    /// what another one has. Within what a party has there may be more of it.
    fn holder(&self, config: ChildConfigId, party: Party, wanted: &AddrRange) -> Option<&Installed> {
        let before = self.alone.range((config, ANY, FIRST)..=(config, wanted.end(), LAST)).rev();
        let mut others = self.looked_at(before).filter(|sa| sa.party != party);
        let first = others.next()?;
        let reaches = |sa: &&Installed| sa.selectors().1.iter().any(|held| held.addrs.intersect(wanted).is_some());
        core::iter::once(first).chain(others.take_while(|sa| sa.party == first.party)).find(reaches)
    }

    fn looked_at<'s, K: 's>(
        &'s self,
        found: impl Iterator<Item = (&'s K, &'s ChildId)>,
    ) -> impl Iterator<Item = &'s Installed> {
        found.filter_map(|(_, child)| {
            self.looked.set(self.looked.get().saturating_add(1));
            self.all.get(child)
        })
    }

    pub(crate) fn insert(&mut self, sa: Installed) {
        let Installed { child, ike, peer, config, party, pair, .. } = sa;
        self.pairs.insert(pair, child);
        self.by_party.insert((config, party, pair), child);
        self.by_ike.insert((ike, config, pair), child);
        self.alone.extend(alone(&sa).map(|key| (key, child)));
        self.all.insert(child, sa);
        self.count(peer, config, ike);
    }

    pub(crate) fn remove(&mut self, child: ChildId) -> Option<Installed> {
        let sa = self.all.remove(&child)?;
        self.pairs.remove(&sa.pair);
        self.by_party.remove(&(sa.config, sa.party, sa.pair));
        self.by_ike.remove(&(sa.ike, sa.config, sa.pair));
        alone(&sa).for_each(|key| _ = self.alone.remove(&key));
        self.count(sa.peer, sa.config, sa.ike);
        Some(sa)
    }

    /// Another one took its place: sends nothing through it any more, and receives on.
    pub(crate) fn drain(&mut self, child: ChildId, plane: &mut dyn DataPlane) -> Option<&Installed> {
        let sa = self.all.get_mut(&child)?;
        alone(sa).for_each(|key| _ = self.alone.remove(&key));
        sa.drain(plane);
        let (peer, config, ike) = (sa.peer, sa.config, sa.ike);
        self.count(peer, config, ike);
        self.all.get(&child)
    }

    /// One IKE SA took another one's place, and has what that had.
    pub(crate) fn carry_over(&mut self, old: IkeId, new: IkeId) {
        let moved: Vec<_> = self.over(old).map(|sa| sa.child).collect();
        for child in moved {
            if let Some(mut sa) = self.remove(child) {
                sa.ike = new;
                self.insert(sa);
            }
        }
    }

    fn count(&mut self, peer: PeerId, config: ChildConfigId, ike: IkeId) {
        let these = self.by_ike.range((ike, config, FIRST)..=(ike, config, LAST));
        let stand = these.filter(|(_, child)| self.all.get(child).is_some_and(|sa| !sa.drains));
        let several = stand.take(2).count() == 2;
        if several {
            self.several.entry((peer, config)).or_default().insert(ike);
        } else if let Some(ikes) = self.several.get_mut(&(peer, config)) {
            ikes.remove(&ike);
            if ikes.is_empty() {
                self.several.remove(&(peer, config));
            }
        }
    }

    /// Whether each is found by all that it says, and nothing else is. Looks at all.
    pub(crate) fn is_filed(&self) -> bool {
        let pairs = self.iter().map(|sa| (sa.pair, sa.child));
        let by_party = self.iter().map(|sa| ((sa.config, sa.party, sa.pair), sa.child));
        let by_ike = self.iter().map(|sa| ((sa.ike, sa.config, sa.pair), sa.child));
        let mut several = BTreeMap::<(PeerId, ChildConfigId), BTreeSet<IkeId>>::new();
        let mut ikes = BTreeSet::new();
        for sa in self.iter().filter(|sa| !sa.drains && !ikes.insert((sa.config, sa.ike))) {
            several.entry((sa.peer, sa.config)).or_default().insert(sa.ike);
        }
        self.pairs.len() == self.all.len()
            && self.pairs == pairs.collect()
            && self.by_party == by_party.collect()
            && self.by_ike == by_ike.collect()
            && self.several == several
            && self.alone == self.iter().flat_map(|sa| alone(sa).map(|key| (key, sa.child))).collect()
    }

    /// How many SAs were looked at one by one so far.
    pub(crate) fn looked(&self) -> u64 {
        self.looked.get()
    }
}

/// Where what belongs to its party alone begins.
fn alone(sa: &Installed) -> impl Iterator<Item = (ChildConfigId, IpAddr, Pair)> + use<'_> {
    let networks = sa.selectors().1.iter().filter(|_| sa.alone && !sa.drains);
    networks.map(|network| (sa.config, network.addrs.start(), sa.pair))
}
