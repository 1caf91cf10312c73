//! The IKE SAs that are meant to stay, found by the peer and the party that they are with. Several parties may share what is
//! configured for a peer; nothing that is asked looks at all of them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cell::Cell;

use ike_core::event::{IkeId, Party};
use ike_core::pad::PeerId;
use ipsec_core::time::Instant;

/// An IKE SA, and how it compares with others.
#[derive(Clone, Copy)]
struct Ranked {
    peer: PeerId,
    party: Party,
    rank: Rank,
}

/// The best one comes last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// It does not go once a newer one carries its children.
    stays: bool,
    since: Option<Instant>,
    /// In the order in which they came.
    number: u64,
}

impl Rank {
    const WORST: Self = Self { stays: false, since: None, number: 0 };
    const BEST: Self = Self { stays: true, since: Some(Instant::FAR_FUTURE), number: u64::MAX };
}

#[derive(Default)]
pub(crate) struct Ikes {
    all: BTreeMap<IkeId, Ranked>,
    by_peer: BTreeMap<(PeerId, Rank), IkeId>,
    by_party: BTreeMap<(PeerId, Party, Rank), IkeId>,
    /// Parties with several IKE SAs.
    several: BTreeMap<PeerId, BTreeSet<Party>>,
    last: u64,
    /// How many were looked at one by one.
    looked: Cell<u64>,
}

impl Ikes {
    /// Whether it is with this peer.
    pub(crate) fn has(&self, peer: PeerId, ike: IkeId) -> bool {
        self.all.get(&ike).is_some_and(|ranked| ranked.peer == peer)
    }

    /// Those with a peer, the best one last.
    pub(crate) fn of(&self, peer: PeerId) -> impl DoubleEndedIterator<Item = IkeId> {
        self.looked_at(self.by_peer.range((peer, Rank::WORST)..=(peer, Rank::BEST)))
    }

    /// Those with one party, the best one last.
    pub(crate) fn with(&self, peer: PeerId, party: Party) -> impl DoubleEndedIterator<Item = IkeId> {
        self.looked_at(self.by_party.range((peer, party, Rank::WORST)..=(peer, party, Rank::BEST)))
    }

    /// Those with a peer, one party's behind another's.
    pub(crate) fn by_party(&self, peer: PeerId) -> impl DoubleEndedIterator<Item = IkeId> {
        // The party of no octets but zeros is the first one.
        let behind = PeerId(peer.0.saturating_add(1));
        self.looked_at(
            self.by_party.range((peer, Party::default(), Rank::WORST)..(behind, Party::default(), Rank::WORST)),
        )
    }

    /// The parties of a peer that have several.
    pub(crate) fn several(&self, peer: PeerId) -> Vec<Party> {
        self.several.get(&peer).into_iter().flatten().copied().collect()
    }

    fn looked_at<'s, K: 's>(
        &'s self,
        found: impl DoubleEndedIterator<Item = (&'s K, &'s IkeId)>,
    ) -> impl DoubleEndedIterator<Item = IkeId> {
        found.map(|(_, ike)| {
            self.looked.set(self.looked.get().saturating_add(1));
            *ike
        })
    }

    /// One came about.
    pub(crate) fn insert(&mut self, ike: IkeId, peer: PeerId, party: Party, since: Option<Instant>) {
        self.last = self.last.saturating_add(1);
        self.put(ike, Ranked { peer, party, rank: Rank { stays: true, since, number: self.last } });
    }

    fn put(&mut self, ike: IkeId, ranked: Ranked) {
        self.remove(ike);
        self.by_peer.insert((ranked.peer, ranked.rank), ike);
        self.by_party.insert((ranked.peer, ranked.party, ranked.rank), ike);
        self.all.insert(ike, ranked);
        self.count(ranked.peer, ranked.party);
    }

    /// Returns whether it was there.
    pub(crate) fn remove(&mut self, ike: IkeId) -> bool {
        let Some(ranked) = self.all.remove(&ike) else { return false };
        self.by_peer.remove(&(ranked.peer, ranked.rank));
        self.by_party.remove(&(ranked.peer, ranked.party, ranked.rank));
        self.count(ranked.peer, ranked.party);
        true
    }

    /// Another one takes its place, with the same party. Returns whether it was there.
    pub(crate) fn replace(&mut self, old: IkeId, new: IkeId, since: Option<Instant>) -> bool {
        let Some(ranked) = self.all.get(&old).copied() else { return false };
        self.remove(old);
        self.put(new, Ranked { rank: Rank { since, ..ranked.rank }, ..ranked });
        true
    }

    /// Those with a party that there are go once a newer one carries their children.
    pub(crate) fn supersede(&mut self, peer: PeerId, party: Party) {
        for ike in self.with(peer, party).collect::<Vec<_>>() {
            if let Some(ranked) = self.all.get(&ike).copied() {
                self.put(ike, Ranked { rank: Rank { stays: false, ..ranked.rank }, ..ranked });
            }
        }
    }

    /// Whether it goes once a newer one carries its children.
    pub(crate) fn is_superseded(&self, ike: IkeId) -> bool {
        self.all.get(&ike).is_some_and(|ranked| !ranked.rank.stays)
    }

    fn count(&mut self, peer: PeerId, party: Party) {
        let several = self.by_party.range((peer, party, Rank::WORST)..=(peer, party, Rank::BEST)).nth(1).is_some();
        if several {
            self.several.entry(peer).or_default().insert(party);
        } else if let Some(parties) = self.several.get_mut(&peer) {
            parties.remove(&party);
            if parties.is_empty() {
                self.several.remove(&peer);
            }
        }
    }

    /// Whether each is found by all that it says, and nothing else is. Looks at all.
    pub(crate) fn is_filed(&self) -> bool {
        let filed = || self.all.iter().map(|(ike, ranked)| (*ranked, *ike));
        let by_peer = filed().map(|(ranked, ike)| ((ranked.peer, ranked.rank), ike));
        let by_party = filed().map(|(ranked, ike)| ((ranked.peer, ranked.party, ranked.rank), ike));
        let mut several = BTreeMap::<PeerId, BTreeSet<Party>>::new();
        let mut parties = BTreeSet::new();
        for (ranked, _) in filed().filter(|(ranked, _)| !parties.insert((ranked.peer, ranked.party))) {
            several.entry(ranked.peer).or_default().insert(ranked.party);
        }
        self.by_peer.len() == self.all.len()
            && self.by_peer == by_peer.collect()
            && self.by_party == by_party.collect()
            && self.several == several
    }

    /// How many were looked at one by one so far.
    pub(crate) fn looked(&self) -> u64 {
        self.looked.get()
    }
}
