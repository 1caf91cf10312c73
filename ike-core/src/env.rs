//! What a state works with besides its SA.

use ipsec_core::time::Instant;

use crate::child::{Children, index_mask};
use crate::clock::UnixTime;
use crate::crypto::IkeCrypto;
use crate::pad::{Pad, PeerId};
use crate::sa::{By, IkeSlot, Sa, State};
use crate::settings::Settings;
use crate::table::{Filed, Others};
use crate::wire::outline::Outline;

/// What a state works with besides its SA: the rest of the endpoint, taken apart so that each can be borrowed.
pub(crate) struct Env<'x, 'a, C: IkeCrypto> {
    pub(crate) now: Instant,
    /// What the clock on the wall says.
    pub(crate) wall: Option<UnixTime>,
    /// Slot of the SA.
    pub(crate) slot: u16,
    /// No block was free: there is room for short messages only, which will be otherwise soon.
    pub(crate) cramped: bool,
    /// Slot of the SA that has the children which the peer may mean on this one: another only while a rekey goes on.
    pub(crate) holder: u16,
    pub(crate) crypto: &'x mut C,
    pub(crate) children: &'x mut Children<'a>,
    /// Our outstanding request, or what the handshake keeps there. Without the non-ESP marker.
    pub(crate) request: &'x mut [u8],
    /// Our last response, or what the handshake keeps there. Without the non-ESP marker.
    pub(crate) response: &'x mut [u8],
    pub(crate) settings: &'x Settings,
    pub(crate) pad: &'x dyn Pad,
    /// What the datagram carries that is being handled, once it could be read.
    pub(crate) heard: &'x mut Option<Outline>,
    /// The other SAs, to be asked only once it is known who asks; gone when another slot was taken.
    pub(crate) others: Option<Others<'x, 'a, IkeSlot<C>>>,
}

impl<'x, C: IkeCrypto> Env<'x, '_, C> {
    /// Whether there is another established SA with this peer that is to stay: one that is about to go asks for nothing.
    pub(crate) fn is_alone(&self, peer: PeerId) -> bool {
        let stays = |sa: &Sa<C>| {
            sa.peer == Some(peer) && matches!(&sa.state, State::Established(established) if !established.closing())
        };
        !self.others.as_ref().is_some_and(|others| others.near(By::Peer(peer)).any(|(_, sa)| stays(sa)))
    }

    /// Child SAs that `peer`, whose `sa` this is, holds: counts over its IKE SAs, of which each knows how many it has. Of identities
    /// that share a connection, over those with the same identity.
    pub(crate) fn held(&self, sa: &Sa<C>, peer: PeerId) -> usize {
        let shared = self.pad.connection(peer).is_some_and(|connection| connection.remote_id.is_none());
        let key = || if shared { By::Party(Some(peer), sa.party) } else { By::Peer(peer) };
        let same = |other: &Sa<C>| other.peer == Some(peer) && (!shared || other.party == sa.party);
        let others = self.others.iter().flat_map(|others| others.near(key())).filter(|(_, other)| same(other));
        let others = others.map(|(slot, _)| self.children.count_of(slot));
        others.fold(self.children.count_of(self.slot), usize::saturating_add)
    }

    /// A slot for another SA with the peer of the established `sa`, and our SPI for it; `None` when there is none, or the
    /// peer has as many as it may.
    pub(crate) fn spare(&mut self, sa: &Sa<C>) -> Option<(u16, u64)> {
        let others = self.others.as_ref()?;
        let held = others.near(sa.by_party()).filter(|(_, other)| other.is_of_party(sa)).count().saturating_add(1);
        if !sa.may_have_another(held, self.settings, self.pad, others.len()) {
            return None;
        }
        // What it keeps no longer is free, too, though not filed so before the work on it ends.
        let slot = others.vacant().or_else(|| others.kept().filter(|_| sa.keeps().is_none()))?;
        Some((slot, draw_spi(self.crypto, others.len(), slot)))
    }

    /// The place of the SA that a rekey makes. Its keys are made there, and not moved.
    pub(crate) fn take(&mut self, slot: u16) -> Option<&'x mut Option<C::Place<Sa<C>>>> {
        self.others.take()?.take(slot)
    }
}

/// An SPI of ours for the SA in `slot` of so many.
pub(crate) fn draw_spi<C: IkeCrypto>(crypto: &mut C, slots: usize, slot: u16) -> u64 {
    let mask = u64::from(index_mask(slots));
    let mut random = [0; 8];
    crypto.random(&mut random);
    // Zero means "not known yet" on the wire.
    ((u64::from_be_bytes(random) & !mask) | u64::from(slot)).max(mask.saturating_add(1) | u64::from(slot))
}
