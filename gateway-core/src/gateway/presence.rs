//! What there is with a peer: its IKE SAs, with whom they are, and whether a child is up with one of those.

use ike_core::crypto::IkeCrypto;
use ike_core::endpoint::{Endpoint, IkeView, SaState};
use ike_core::event::Party;
use ike_core::pad::PeerId;

use super::Gateway;
use super::state::ChildEntry;
use crate::peers::Peers;

impl Gateway {
    /// The newest IKE SA with a peer, best one that is to stay, and of a peer that we call with the party that we met there.
    pub(super) fn connection<C: IkeCrypto>(&self, peer: PeerId, endpoint: &Endpoint<'_, C, Peers>) -> Option<IkeView> {
        let entry = self.peers.get(&peer)?;
        let stays = |ike: &IkeView| !entry.superseded.contains(&ike.id);
        self.connections(peer, endpoint).max_by_key(|ike| (entry.looks_after(ike.party), stays(ike), ike.since))
    }

    /// Whether a peer is connected, one that we call with the party that we met there.
    pub(super) fn is_connected<C: IkeCrypto>(&self, peer: PeerId, endpoint: &Endpoint<'_, C, Peers>) -> bool {
        let ike = self.connection(peer, endpoint);
        ike.zip(self.peers.get(&peer)).is_some_and(|(ike, entry)| entry.looks_after(ike.party))
    }

    /// Every established IKE SA with a peer.
    pub(super) fn connections<C: IkeCrypto>(
        &self,
        peer: PeerId,
        endpoint: &Endpoint<'_, C, Peers>,
    ) -> impl Iterator<Item = IkeView> {
        let ikes = self.peers.get(&peer).into_iter().flat_map(|entry| &entry.ikes);
        ikes.filter_map(|ike| endpoint.ike_sa(*ike)).filter(|ike| ike.state == SaState::Established)
    }

    /// Whether several parties share what is configured for this peer.
    pub(super) fn is_shared<C: IkeCrypto>(&self, peer: PeerId, endpoint: &Endpoint<'_, C, Peers>) -> bool {
        let mut parties = self.connections(peer, endpoint).map(|ike| ike.party);
        parties.next().is_some_and(|first| parties.any(|party| party != first))
    }

    /// Whether a child is up with this party, of those that share a peer.
    pub(super) fn is_up_with(&self, child: &ChildEntry, party: Party) -> bool {
        child.sas.iter().filter_map(|sa| self.sas.get(sa)).any(|sa| sa.party == party)
    }

    /// Whether the data plane has yet to say of an SA of this child that it is there.
    pub(super) fn is_underway(&self, child: &ChildEntry) -> bool {
        child.sas.iter().filter_map(|sa| self.sas.get(sa)).any(|sa| sa.underway.is_some())
    }
}
