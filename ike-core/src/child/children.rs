//! The caller's table of Child SAs: what they are looked up by, and what concerns several of them.

use core::fmt;
use core::time::Duration;

use ipsec_core::crypto::InPlace;
use ipsec_core::net::Spi;
use ipsec_core::time::Instant;

use super::one::{Child, Phase, Up};
use super::turn::Turn;
use crate::crypto::IkeCrypto;
use crate::event::ChildId;
use crate::failure::Failure;
use crate::pad::ChildConfigId;
use crate::table::{Edit, Filed, HashSecret, KINDS, Key, Slot, Table};

/// The most by which the time grows that a child has to settle: some peers go on asking for a minute.
const LONGEST: u32 = 6;

/// What Child SAs are looked up by.
pub(crate) enum By {
    /// The slot of the IKE SA.
    Ike(u16),
    /// The SPI through which the peer receives, while it is live. Peers choose these: several may be the same.
    SpiOut(u32),
    /// The slot of the IKE SA and the configuration, while it is wanted or asked for.
    Begun(u16, ChildConfigId),
    /// The slot of the IKE SA, and what it stands in line for there.
    Turn(u16, Turn),
}

impl Key for By {
    fn kind(&self) -> usize {
        match self {
            Self::Ike(_) => 0,
            // It is begun or live, never both.
            Self::SpiOut(_) | Self::Begun(..) => 1,
            Self::Turn(..) => 2,
        }
    }

    fn hash(&self, secret: &HashSecret) -> u64 {
        match self {
            Self::Ike(slot) => secret.hash(&[0, u64::from(*slot)]),
            Self::SpiOut(spi) => secret.hash(&[1, u64::from(*spi)]),
            Self::Begun(slot, config) => secret.hash(&[2, u64::from(*slot), u64::from(config.0)]),
            Self::Turn(slot, turn) => secret.hash(&[3, u64::from(*slot), *turn as u64]),
        }
    }
}

impl Filed for Child {
    type Key = By;

    fn keys(&self) -> [Option<By>; KINDS] {
        let known = match self.phase {
            Phase::Wanted(_) | Phase::Creating => Some(By::Begun(self.ike, self.config)),
            _ => self.live().then_some(By::SpiOut(self.spi_out)),
        };
        [Some(By::Ike(self.ike)), known, Turn::of(self).map(|turn| By::Turn(self.ike, turn))]
    }

    fn due(&self) -> Option<Instant> {
        self.timeout()
    }

    fn tells(&self) -> Option<u8> {
        self.to_tell().then(|| self.report.rank())
    }

    /// An offer of ours that waits for its answer.
    fn counts(&self) -> bool {
        self.phase == Phase::Creating
    }
}

/// A place for one Child SA in the caller's table.
pub struct ChildSlot(Option<InPlace<Child>>);

impl Default for ChildSlot {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Slot for ChildSlot {
    type Item = Child;
    type Place = InPlace<Child>;

    fn place(&self) -> &Option<InPlace<Child>> {
        &self.0
    }

    fn place_mut(&mut self) -> &mut Option<InPlace<Child>> {
        &mut self.0
    }
}

impl fmt::Debug for ChildSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSlot").finish_non_exhaustive()
    }
}

impl ChildSlot {
    /// An empty place.
    pub const EMPTY: Self = Self(None);
}

/// The caller's table of Child SAs. The low bits of an inbound SPI are the number of its slot.
pub(crate) struct Children<'a> {
    pub(crate) table: Table<'a, ChildSlot>,
}

impl<'a> Children<'a> {
    pub(crate) fn get(&self, slot: u16) -> Option<&Child> {
        self.table.get(slot)
    }

    pub(crate) fn get_mut(&mut self, slot: u16) -> Option<Edit<'_, 'a, ChildSlot>> {
        self.table.edit(slot)
    }

    pub(crate) fn id(&self, slot: u16) -> Option<ChildId> {
        self.get(slot).map(|_| ChildId { slot, generation: self.table.generation(slot) })
    }

    pub(crate) fn by_id(&self, id: ChildId) -> Option<&Child> {
        self.table.named((id.slot, id.generation))
    }

    pub(crate) fn by_id_mut(&mut self, id: ChildId) -> Option<Edit<'_, 'a, ChildSlot>> {
        self.table.edit_named((id.slot, id.generation))
    }

    /// Every Child SA of the IKE SA in slot `ike`, the one that came to it first first.
    pub(crate) fn of(&self, ike: u16) -> impl Iterator<Item = (u16, &Child)> + Clone {
        self.table.near(By::Ike(ike)).filter(move |(_, child)| child.ike == ike)
    }

    /// How many these are.
    pub(crate) fn count_of(&self, ike: u16) -> usize {
        self.table.count_near(By::Ike(ike))
    }

    /// Those of them that stand in line for this, the one that has done so for the longest time first; after a rekey of the IKE SA
    /// the one that came first.
    pub(crate) fn waiting(&self, ike: u16, turn: Turn) -> impl Iterator<Item = (u16, &Child)> + Clone {
        let waits = in_line(ike, turn);
        self.table.near(By::Turn(ike, turn)).filter(move |(_, child)| waits(child))
    }

    /// Whose turn it is.
    pub(crate) fn next(&self, ike: u16, turn: Turn) -> Option<u16> {
        self.waiting(ike, turn).next().map(|(slot, _)| slot)
    }

    /// The one of this configuration on `ike` that is wanted or asked for.
    pub(crate) fn begun(&self, ike: u16, config: ChildConfigId) -> Option<ChildId> {
        let begun = |child: &Child| {
            child.ike == ike && child.config == config && matches!(child.phase, Phase::Wanted(_) | Phase::Creating)
        };
        self.table.near(By::Begun(ike, config)).find(|(_, child)| begun(child)).and_then(|(slot, _)| self.id(slot))
    }

    /// Changes those Child SAs of the IKE SA in slot `ike` that `which` says.
    pub(crate) fn each_of(&mut self, ike: u16, which: impl Fn(&Child) -> bool, change: impl FnMut(&mut Child)) {
        self.table.each_near(By::Ike(ike), |child| child.ike == ike && which(child), change);
    }

    /// Every live Child SA through which a peer receives `spi`, and some others.
    pub(crate) fn near_spi_out(&self, spi: u32) -> impl Iterator<Item = (u16, &Child)> {
        self.table.near(By::SpiOut(spi))
    }

    /// The live Child SA of `ike` through which the peer receives `spi`.
    pub(crate) fn by_spi_out(&self, ike: u16, spi: u32) -> Option<u16> {
        self.near_spi_out(spi).find(|(_, child)| child.ike == ike && child.sends_with(spi)).map(|(slot, _)| slot)
    }

    /// Changes the live Child SAs of `ike` through which the peer receives `spi`.
    pub(crate) fn each_sending(&mut self, ike: u16, spi: u32, change: impl FnMut(&mut Child)) {
        self.table.each_near(By::SpiOut(spi), |child| child.ike == ike && child.sends_with(spi), change);
    }

    /// The next Child SA of `ike` that the request being handled deletes, those first that others took the place of; it is taken
    /// off that list.
    pub(crate) fn take_named(&mut self, ike: u16) -> Option<u16> {
        let slot = self.next(ike, Turn::Succeeded).or_else(|| self.next(ike, Turn::Named))?;
        self.get_mut(slot)?.named = false;
        Some(slot)
    }

    /// Finds a free slot and an SPI for it. Nothing is taken until [`Children::put`].
    pub(crate) fn reserve<C: IkeCrypto>(&self, crypto: &mut C) -> Option<(u16, Spi)> {
        let slot = self.table.free()?;
        Some((slot, self.draw(slot, crypto)?))
    }

    /// An SPI for this slot.
    fn draw<C: IkeCrypto>(&self, slot: u16, crypto: &mut C) -> Option<Spi> {
        let mask = index_mask(self.table.len());
        // A reserved value, 0–255, comes out once in 2^24 tries; the bound is for a generator that fails.
        (0..16).find_map(|_| {
            let mut random = [0; 4];
            crypto.random(&mut random);
            Spi::new((u32::from_be_bytes(random) & !mask) | u32::from(slot))
        })
    }

    /// Gives the child in a slot, which is about to be asked for, an SPI that no request had before: the peer may have made
    /// an SA with the last one, and its answer been lost.
    pub(crate) fn renew_spi<C: IkeCrypto>(&mut self, slot: u16, crypto: &mut C) -> Option<Spi> {
        let spi = self.draw(slot, crypto)?;
        self.get_mut(slot)?.spi_in = spi;
        Some(spi)
    }

    pub(crate) fn put(&mut self, slot: u16, child: Child) -> Option<ChildId> {
        if self.get(slot).is_some() {
            return None;
        }
        let generation = self.table.put(slot, child)?;
        Some(ChildId { slot, generation })
    }

    /// The IKE SA in slot `ike` is over. What the caller never heard of goes without a word: the end of the IKE SA says it.
    pub(crate) fn end_all(&mut self, ike: u16, cause: &Failure) {
        let mut next = self.table.next_near(By::Ike(ike), None);
        while let Some(slot) = next {
            next = self.table.next_near(By::Ike(ike), Some(slot));
            if self.get(slot).is_none_or(|child| child.ike != ike) {
                continue;
            }
            let known = self.get_mut(slot).is_some_and(|mut child| {
                child.end(cause.clone());
                child.report.is_known()
            });
            if !known {
                self.free(slot);
            }
        }
    }

    /// The peer has our answers to its requests up to now.
    pub(crate) fn settle(&mut self, ike: u16) {
        let settled = |child: &mut Child| _ = child.up_mut().map(Up::settle);
        for turn in [Turn::Settling, Turn::Unconfirmed] {
            self.table.each_near(By::Turn(ike, turn), in_line(ike, turn), settled);
        }
    }

    /// The peer asks once more for what it asked last, so it has no answer yet: what that made is given as long again to settle.
    /// Anybody can repeat what it saw, so that goes on for some time only.
    pub(crate) fn unsettle(&mut self, ike: u16, now: Instant, settle: Duration) {
        let put_off = |child: &mut Child| {
            let latest = child.since + settle.saturating_mul(LONGEST);
            child.up_mut().into_iter().for_each(|up| up.settles_at = Some((now + settle).min(latest)));
        };
        self.table.each_near(By::Turn(ike, Turn::Settling), in_line(ike, Turn::Settling), put_off);
    }

    /// The peer has the IKE SA that it began beside another: its child may be used.
    pub(crate) fn confirm(&mut self, ike: u16) {
        self.each_of(ike, |_| true, Child::send_through);
    }

    /// The last of those on `ike` that took the place of `child` one after the other, also where one between them is gone by
    /// now; it is that one itself while nothing did. Only for one that is gone are all looked at: a peer comes to that which
    /// deletes what it replaced later than what it replaced that with.
    pub(crate) fn last_heir(&self, ike: u16, child: ChildId) -> ChildId {
        let next = |before: &ChildId| match self.by_id(*before) {
            Some(child) => child.standing.heir(),
            None => self.of(ike).find(|(_, child)| child.replaces == Some(*before)).and_then(|(slot, _)| self.id(slot)),
        };
        core::iter::successors(Some(child), next).take(self.table.len()).last().unwrap_or(child)
    }

    pub(crate) fn free(&mut self, slot: u16) {
        self.table.clear(slot);
    }
}

/// Whether one on `ike` stands in line for this.
fn in_line(ike: u16, turn: Turn) -> impl Fn(&Child) -> bool + Clone {
    move |child| child.ike == ike && Turn::of(child) == Some(turn)
}

/// The bits of an SPI that carry the slot number in a table of `len` slots.
pub(crate) fn index_mask(len: usize) -> u32 {
    u32::try_from(len.next_power_of_two()).unwrap_or(u32::MAX).saturating_sub(1)
}
