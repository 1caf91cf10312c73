//! A slot of the caller's.

use core::fmt;
use core::ops::DerefMut;

use super::links::{Linked, Links};
use crate::error::Refused;
use crate::net::Spi;

/// Storage for one SA.
///
/// ```
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::engine::{InboundSlot, OutboundSlot};
/// static SIZE: usize = core::mem::size_of::<InboundSlot<RustCrypto>>();
/// let outbound: [OutboundSlot<RustCrypto>; 4] = [const { OutboundSlot::<RustCrypto>::EMPTY }; 4];
/// # assert!(SIZE > 0); let _ = outbound;
/// ```
pub struct Slot<T> {
    pub(super) generation: u32,
    pub(super) links: Links,
    state: State<T>,
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// `T` is what the SA lies in.
enum State<T> {
    Free,
    /// An SPI that was given out and has no SA yet.
    Reserved(Spi),
    Live(Spi, T),
}

/// What a slot has that has no SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vacant {
    Free,
    /// It is kept for this SPI.
    Reserved(Spi),
}

impl<T> Slot<T> {
    /// A free slot.
    pub const EMPTY: Self = Self { generation: 0, links: Links::NONE, state: State::Free };

    #[inline]
    pub(super) fn spi(&self) -> Option<Spi> {
        match self.state {
            State::Free => None,
            State::Reserved(spi) | State::Live(spi, _) => Some(spi),
        }
    }

    /// What there is instead of an SA.
    #[inline]
    pub(super) fn vacant(&self) -> Option<Vacant> {
        match self.state {
            State::Free => Some(Vacant::Free),
            State::Reserved(spi) => Some(Vacant::Reserved(spi)),
            State::Live(..) => None,
        }
    }

    /// Drops an SA in its place, so that its key is wiped where it lies.
    pub(super) fn vacate(&mut self, vacant: Vacant) {
        self.state = match vacant {
            Vacant::Free => State::Free,
            Vacant::Reserved(spi) => State::Reserved(spi),
        };
    }
}

impl<T: DerefMut<Target: Sized>> Slot<T> {
    /// In a frame of its own, which is gone when the keys are made: SAs are large.
    #[inline(never)]
    pub(super) fn come_alive(
        &mut self,
        spi: Spi,
        make: impl FnOnce() -> Result<T::Target, Refused>,
    ) -> Result<(), Refused>
    where
        T: From<T::Target>,
    {
        self.state = State::Live(spi, T::from(make()?));
        Ok(())
    }

    pub(super) fn live(&self) -> Option<&T::Target> {
        match &self.state {
            State::Live(_, sa) => Some(sa),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn live_mut(&mut self) -> Option<&mut T::Target> {
        match &mut self.state {
            State::Live(_, sa) => Some(sa),
            _ => None,
        }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T> Linked for &mut [Slot<T>] {
    #[inline]
    fn count(&self) -> usize {
        self.len()
    }

    #[inline]
    fn links(&self, slot: u32) -> Option<&Links> {
        self.get(slot as usize).map(|slot| &slot.links)
    }

    #[inline]
    fn links_mut(&mut self, slot: u32) -> Option<&mut Links> {
        self.get_mut(slot as usize).map(|slot| &mut slot.links)
    }
}
