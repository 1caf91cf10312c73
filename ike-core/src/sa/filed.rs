//! What the slots of IKE SAs are filed under.

use core::fmt;

use ipsec_core::time::Instant;

use super::by::By;
use super::one::{Sa, State};
use crate::crypto::IkeCrypto;
use crate::table::{Filed, KINDS, Slot};

impl<C: IkeCrypto> Filed for Sa<C> {
    type Key = By;

    fn keys(&self) -> [Option<By>; KINDS] {
        let ours = self.initiator.then_some(By::Ours(self.spi_i));
        match &self.state {
            State::Established(_) => [self.peer.map(By::Peer), Some(self.by_party()), ours],
            State::InitAnswered(_) => {
                let from = self.window.response_path.remote;
                [None, Some(By::Request(self.spi_i, from)), Some(By::Source(self.path.remote.ip()))]
            }
            _ => [None, None, ours],
        }
    }

    fn due(&self) -> Option<Instant> {
        self.timeout()
    }

    fn tells(&self) -> Option<u8> {
        match &self.state {
            _ if self.has_begun() => Some(0),
            State::Dead(_) => self.has_ended().then_some(1),
            _ => None,
        }
    }

    fn sends(&self) -> bool {
        let word = match &self.state {
            State::Established(established) => established.keepalive.waits,
            _ => false,
        };
        self.window.sends() || word
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Dead(_)) && self.tells().is_none()
    }

    /// A half-open one of a stranger.
    fn counts(&self) -> bool {
        matches!(self.state, State::InitAnswered(_))
    }

    fn keeps(&self) -> Option<u16> {
        match &self.state {
            State::Established(established) => established.keeps().map(|(slot, _)| slot),
            _ => None,
        }
    }
}

/// A place for one IKE SA in the caller's table.
pub struct IkeSlot<C: IkeCrypto>(Option<C::Place<Sa<C>>>);

impl<C: IkeCrypto> fmt::Debug for IkeSlot<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IkeSlot").finish_non_exhaustive()
    }
}

impl<C: IkeCrypto> IkeSlot<C> {
    /// Nothing in it.
    pub const EMPTY: Self = Self(None);
}

impl<C: IkeCrypto> Default for IkeSlot<C> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<C: IkeCrypto> Slot for IkeSlot<C> {
    type Item = Sa<C>;
    type Place = C::Place<Sa<C>>;

    fn place(&self) -> &Option<C::Place<Sa<C>>> {
        &self.0
    }

    fn place_mut(&mut self) -> &mut Option<C::Place<Sa<C>>> {
        &mut self.0
    }
}
