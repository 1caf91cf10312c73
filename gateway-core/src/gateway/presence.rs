//! What there is with a peer: its IKE SAs, with whom they are, and whether a child is up with one of those, or missing.

use alloc::collections::BTreeSet;

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{Endpoint, IkeView, SaState};
use ike_core::event::{IkeId, Party};
use ike_core::pad::{ChildConfigId, PeerId};
use ipsec_core::time::Instant;

use crate::peers::Peers;
use crate::state::Gateway;
use crate::state::child::ChildEntry;
use crate::state::installed::Installed;

/// An IKE SA, when it is established.
fn established<C: IkeCrypto>(ike: IkeId, endpoint: &Endpoint<'_, C, Peers>) -> Option<IkeView> {
    endpoint.ike_sa(ike).filter(|ike| ike.state == SaState::Established)
}

impl Gateway {
    /// The newest IKE SA with a peer, best one that is to stay, and of a peer that we call with the party that we met there.
    pub(super) fn connection<C: IkeCrypto>(&self, peer: PeerId, endpoint: &Endpoint<'_, C, Peers>) -> Option<IkeView> {
        let ours = self.peers.get(&peer)?.only_party();
        let ours = ours.and_then(|party| self.connections_with(peer, party, endpoint).next_back());
        ours.or_else(|| self.connections(peer, endpoint).next_back())
    }

    /// Whether a peer is connected, one that we call with the party that we met there.
    pub(super) fn is_connected<C: IkeCrypto>(&self, peer: PeerId, endpoint: &Endpoint<'_, C, Peers>) -> bool {
        let ike = self.connection(peer, endpoint);
        ike.zip(self.peers.get(&peer)).is_some_and(|(ike, entry)| entry.looks_after(ike.party))
    }

    /// Every established IKE SA with a peer, the newest last, best those that are to stay.
    pub(super) fn connections<C: IkeCrypto>(
        &self,
        peer: PeerId,
        endpoint: &Endpoint<'_, C, Peers>,
    ) -> impl DoubleEndedIterator<Item = IkeView> {
        self.ikes.of(peer).filter_map(|ike| established(ike, endpoint))
    }

    /// The same with one party.
    pub(super) fn connections_with<C: IkeCrypto>(
        &self,
        peer: PeerId,
        party: Party,
        endpoint: &Endpoint<'_, C, Peers>,
    ) -> impl DoubleEndedIterator<Item = IkeView> {
        self.ikes.with(peer, party).filter_map(|ike| established(ike, endpoint))
    }

    /// Whether several parties share what is configured for this peer.
    pub(super) fn is_shared<C: IkeCrypto>(&self, peer: PeerId, endpoint: &Endpoint<'_, C, Peers>) -> bool {
        let mut ikes = self.ikes.by_party(peer).filter_map(|ike| established(ike, endpoint));
        // The first one and the last one, in the order of parties.
        ikes.next().zip(ikes.next_back()).is_some_and(|(first, last)| first.party != last.party)
    }

    /// The SAs of a child with one party, but for those that only drain.
    pub(super) fn sas_with<'s>(&'s self, child: &'s ChildEntry, party: Party) -> impl Iterator<Item = &'s Installed> {
        self.sas.with(child.id, party).filter(|sa| child.sas.contains(&sa.child))
    }

    /// The SAs of a child that one IKE SA carries, but for those that only drain.
    pub(super) fn sas_of<'s>(&'s self, child: &'s ChildEntry, ike: IkeId) -> impl Iterator<Item = &'s Installed> {
        self.sas.of(child.id, ike).filter(|sa| child.sas.contains(&sa.child))
    }

    /// Whether a child is up with this party, of those that share a peer.
    pub(super) fn is_up_with(&self, child: &ChildEntry, party: Party) -> bool {
        self.sas_with(child, party).next().is_some()
    }

    /// On which connection a child is to be asked for that is not up, and from when on.
    pub(super) fn missing<C: IkeCrypto>(
        &self,
        config: ChildConfigId,
        endpoint: &Endpoint<'_, C, Peers>,
    ) -> Option<(IkeId, Instant)> {
        let child = self.children.get(&config)?;
        let entry = self.peers.get(&child.peer).filter(|entry| child.is_wanted(entry.is_active()))?;
        // Of another one nothing is wanted while the one that we call is away.
        let ours = self.connection(child.peer, endpoint).filter(|ike| entry.looks_after(ike.party));
        let ike = ours.filter(|ike| child.waits_in(&self.ikes).is_none() && !self.is_up_with(child, ike.party))?;
        let courtesy = entry.courtesy().filter(|_| !ike.called && !child.wanted);
        Some((ike.id, child.setbacks.retry_at.max(courtesy).unwrap_or(Instant::ZERO)))
    }

    /// A child that is up on this IKE SA, best one that is not held down here.
    pub(super) fn carried(&self, peer: PeerId, ike: IkeId) -> Option<ChildConfigId> {
        let children = self.peers.get(&peer)?.children.iter().filter_map(|id| self.children.get(id));
        let carried = children.filter(|child| self.sas_of(child, ike).next().is_some());
        carried.min_by_key(|child| child.held).map(|child| child.id)
    }

    /// How many IKE SAs, Child SAs and children were looked at so far. For tests, which see that this does not grow with what
    /// others have.
    #[doc(hidden)]
    pub fn looked(&self) -> u64 {
        [self.ikes.looked(), self.sas.looked(), self.children.looked()].into_iter().fold(0, u64::saturating_add)
    }

    /// Whether IKE SAs and Child SAs are found by all that they are looked for by, and what is missing is waited for. Looks at
    /// all, for tests.
    ///
    /// # Errors
    /// What is not.
    #[doc(hidden)]
    pub fn check<C: IkeCrypto>(&self, endpoint: &Endpoint<'_, C, Peers>) -> Result<(), &'static str> {
        let holds = |what, holds: bool| if holds { Ok(()) } else { Err(what) };
        holds("IKE SAs", self.ikes.is_filed())?;
        holds("Child SAs", self.sas.is_filed())?;
        let of_children = self.children.iter().flat_map(|child| child.all().map(|sa| (child.id, *sa)));
        let of_sas = self.sas.iter().map(|sa| (sa.config, sa.child));
        holds("SAs of children", of_children.collect::<BTreeSet<_>>() == of_sas.collect())?;
        holds("moments of children", self.children.is_filed())?;
        holds("looks at children", self.children.is_settled())?;
        let awaited = |child: &ChildEntry| {
            self.missing(child.id, endpoint).is_none_or(|(_, at)| self.children.is_awaited(&child.id, at))
        };
        holds("missing children", self.children.iter().all(awaited))?;
        let looks = self.sas.iter().filter_map(|sa| Some((sa.look_at?, sa.child)));
        holds("looks", self.looks == looks.collect())
    }
}
