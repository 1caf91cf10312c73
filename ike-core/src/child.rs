//! Child SAs: their table, their life, and the narrowing of traffic selectors (RFC 7296 §2.9).

use core::fmt;

use heapless::Vec;
use ipsec_core::net::{Spi, TrafficSelector};
use ipsec_core::time::Instant;

use crate::crypto::{EspSuite, IkeCrypto, Secret};
use crate::event::ChildId;
use crate::failure::Failure;
use crate::pad::{ChildConfigId, PeerId};
use crate::table::{Edit, Filed, HashSecret, KINDS, Key, Slot, Table};
use crate::timers::Patience;

/// What an SA of the data plane holds is what may be negotiated.
pub use ipsec_core::sa::MAX_SELECTORS;

/// Traffic selectors of one side.
pub type Selectors = Vec<TrafficSelector, MAX_SELECTORS>;

/// What `offered` and `allowed` have in common, in the order offered. What does not fit [`MAX_SELECTORS`] is left out,
/// which is narrowing too.
pub fn narrow(offered: impl Iterator<Item = TrafficSelector>, allowed: &[TrafficSelector]) -> Selectors {
    let mut common = Selectors::new();
    for selector in offered.flat_map(|offered| allowed.iter().filter_map(move |allowed| offered.intersect(allowed))) {
        if !common.iter().any(|have| have.intersect(&selector) == Some(selector)) && common.push(selector).is_err() {
            break;
        }
    }
    common
}

/// `all`, behind `first`; what does not fit [`MAX_SELECTORS`] is left out.
pub(crate) fn first_of(first: Option<TrafficSelector>, all: &[TrafficSelector]) -> Selectors {
    first.into_iter().chain(all.iter().copied()).take(MAX_SELECTORS).collect()
}

/// Whether each of `answered` lies inside one of `proposed`: a responder may narrow, never widen.
pub fn within(answered: &[TrafficSelector], proposed: &[TrafficSelector]) -> bool {
    answered.iter().all(|selector| proposed.iter().any(|outer| outer.intersect(selector) == Some(*selector)))
}

/// Keys of a Child SA on their way to the caller.
pub(crate) struct ChildKeys {
    pub(crate) inbound: Secret<36>,
    pub(crate) outbound: Secret<36>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// To be asked for as soon as the window is free and this moment has come.
    Wanted(Instant),
    /// Our request is on its way.
    Creating,
    Up,
    /// Our Delete is on its way; why.
    Deleting(Failure),
    /// Replaced and deleted; receives what is still on its way until this moment.
    Draining(Instant),
    /// Gone; stays until the caller was told.
    Ended(Failure),
}

impl Phase {
    /// To be asked for as soon as the window is free.
    pub(crate) const WANTED_NOW: Self = Self::Wanted(Instant::ZERO);
}

/// What the caller has to be told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    /// `ChildUp` is due.
    pub(crate) up: bool,
    /// `ChildOutbound` is due.
    pub(crate) outbound: bool,
    /// `ChildDraining` is due.
    pub(crate) draining: bool,
    /// `ChildUp` was delivered.
    pub(crate) known: bool,
}

impl Report {
    /// What is told first has the lowest: what comes, then what made room for it, then what ends. So nobody takes for lost
    /// what another one carries on.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Self { up: true, .. } | Self { outbound: true, .. } => 0,
            Self { draining: true, .. } => 1,
            _ => 2,
        }
    }
}

pub(crate) struct Child {
    /// Slot of the IKE SA.
    pub(crate) ike: u16,
    pub(crate) peer: PeerId,
    pub(crate) config: ChildConfigId,
    pub(crate) phase: Phase,
    /// When it came up, or was first wanted.
    pub(crate) since: Instant,
    pub(crate) spi_in: Spi,
    /// 0 until negotiated.
    pub(crate) spi_out: u32,
    pub(crate) suite: Option<EspSuite>,
    pub(crate) local: Selectors,
    pub(crate) remote: Selectors,
    /// The packet that it was asked for: it stands before the configured selectors (RFC 7296 §2.9).
    pub(crate) packet: Option<(TrafficSelector, TrafficSelector)>,
    pub(crate) keys: Option<ChildKeys>,
    /// The Child SA this one was negotiated to replace; `None` while it is asked for and somebody waits for it for its own
    /// sake, too.
    pub(crate) replaces: Option<ChildId>,
    /// We asked for it, not the peer.
    pub(crate) ours: bool,
    /// Our side sends through it; false while a rekey by the peer waits for its Delete, and while nothing shows that the
    /// peer has the IKE SA that it began beside another.
    pub(crate) outbound_ready: bool,
    pub(crate) replaced_by: Option<ChildId>,
    pub(crate) want_rekey: bool,
    /// Why it is to be deleted, as soon as the window is free.
    pub(crate) leaving: Option<Failure>,
    /// Why a rekey came to nothing and left this SA as it was: `ChildFailed` is due.
    pub(crate) rekey_failed: Option<Failure>,
    pub(crate) rekey_at: Option<Instant>,
    pub(crate) expires_at: Option<Instant>,
    /// When to delete it ourselves, because the peer that should have did not.
    pub(crate) orphan_at: Option<Instant>,
    /// The peer asked for it, and may not have our answer yet: until then it would not know what a rekey or a Delete of
    /// ours speaks of.
    pub(crate) settles_at: Option<Instant>,
    /// How often in a row a rekey was refused.
    pub(crate) refused: Patience,
    /// The request that is being handled deletes it.
    pub(crate) named: bool,
    pub(crate) report: Report,
}

impl Child {
    pub(crate) fn wanted(ike: u16, peer: PeerId, config: ChildConfigId, spi_in: Spi, at: Instant) -> Self {
        Self {
            ike,
            peer,
            config,
            phase: Phase::Wanted(at),
            since: at,
            spi_in,
            spi_out: 0,
            suite: None,
            local: Selectors::new(),
            remote: Selectors::new(),
            packet: None,
            keys: None,
            replaces: None,
            ours: false,
            outbound_ready: true,
            replaced_by: None,
            want_rekey: false,
            leaving: None,
            rekey_failed: None,
            rekey_at: None,
            expires_at: None,
            orphan_at: None,
            settles_at: None,
            refused: Patience::default(),
            named: false,
            report: Report::default(),
        }
    }

    /// Ends the SA; a reason given earlier stays.
    pub(crate) fn end(&mut self, cause: Failure) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Ended(cause);
            self.calm();
            self.keys = None;
            self.report.up = false;
            self.report.outbound = false;
            self.report.draining = false;
        }
    }

    /// Nothing falls due any more.
    fn calm(&mut self) {
        self.rekey_at = None;
        self.expires_at = None;
        self.orphan_at = None;
        self.settles_at = None;
    }

    /// The peer set it up and we do not want it: it is deleted, and never comes up here.
    pub(crate) fn refuse(&mut self, cause: Failure) {
        self.phase = Phase::Up;
        self.leaving = Some(cause);
    }

    /// Whether the caller has to be told something.
    pub(crate) fn to_tell(&self) -> bool {
        let Report { up, outbound, draining, .. } = self.report;
        up || outbound || draining || self.rekey_failed.is_some() || matches!(self.phase, Phase::Ended(_))
    }

    /// The next moment at which [`Child::on_time`] has something to do.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        match self.phase {
            // What waits for the window waits for a message, not for a moment.
            Phase::WANTED_NOW => None,
            Phase::Wanted(at) | Phase::Draining(at) => Some(at),
            Phase::Up => [self.rekey_at, self.expires_at, self.orphan_at, self.settles_at].into_iter().flatten().min(),
            Phase::Creating | Phase::Deleting(_) | Phase::Ended(_) => None,
        }
    }

    /// Deleted by either side: a replaced SA receives on for a while, any other is gone.
    pub(crate) fn deleted(&mut self, cause: Failure, drain_until: Instant) {
        if self.replaced_by.is_some() && !matches!(self.phase, Phase::Ended(_) | Phase::Draining(_)) {
            self.phase = Phase::Draining(drain_until);
            self.calm();
            self.report.outbound = false;
            self.report.draining = true;
            self.want_rekey = false;
            self.leaving = None;
        } else if self.replaced_by.is_none() {
            self.end(cause);
        }
    }

    /// Does what is due. `true`: something waits for the window of the IKE SA.
    pub(crate) fn on_time(&mut self, now: Instant) -> bool {
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        match self.phase {
            Phase::Wanted(at) if at <= now && self.phase != Phase::WANTED_NOW => {
                self.phase = Phase::WANTED_NOW;
                return true;
            }
            Phase::Draining(until) if until <= now => self.end(Failure::Replaced),
            Phase::Up => {
                if due(&mut self.expires_at) {
                    self.leave(Failure::Expired);
                }
                due(&mut self.settles_at);
                if due(&mut self.orphan_at) {
                    self.leave(Failure::Replaced);
                }
                self.want_rekey |= due(&mut self.rekey_at);
                return self.leaving.is_some() || self.want_rekey;
            }
            _ => {}
        }
        false
    }

    /// The peer has this SA, or is done with the one that it replaces.
    pub(crate) fn send_through(&mut self) {
        // Whoever was replaced in the meantime stays behind.
        if self.live() && !self.outbound_ready && self.replaced_by.is_none() {
            self.outbound_ready = true;
            // What was not announced yet is announced as ready.
            self.report.outbound = !self.report.up;
        }
    }

    /// To be deleted, with the peer; a reason given earlier stays, unless it only made room for another one, which may end.
    pub(crate) fn leave(&mut self, why: Failure) {
        if self.leaving.as_ref().is_none_or(|held| *held == Failure::Replaced) {
            self.leaving = Some(why);
        }
    }

    /// Whether it is up and goes on: what was replaced or is to be deleted is neither rekeyed nor put off nor asked for anew.
    pub(crate) fn stays(&self) -> bool {
        self.phase == Phase::Up && self.leaving.is_none() && self.replaced_by.is_none()
    }

    /// Whether the peer receives through it, with this SPI.
    pub(crate) fn sends_with(&self, spi: u32) -> bool {
        self.spi_out == spi && self.live()
    }

    /// Whether the peer knows this SA and either side may still name it in a Delete or a rekey.
    pub(crate) fn live(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Deleting(_))
    }
}

/// What Child SAs are looked up by.
pub(crate) enum By {
    /// The slot of the IKE SA.
    Ike(u16),
    /// The SPI through which the peer receives, while it is live. Peers choose these: several may be the same.
    SpiOut(u32),
    Peer(PeerId),
}

impl Key for By {
    fn kind(&self) -> usize {
        match self {
            Self::Ike(_) => 0,
            Self::SpiOut(_) => 1,
            Self::Peer(_) => 2,
        }
    }

    fn hash(&self, secret: &HashSecret) -> u64 {
        match self {
            Self::Ike(slot) => secret.hash(&[0, u64::from(*slot)]),
            Self::SpiOut(spi) => secret.hash(&[1, u64::from(*spi)]),
            Self::Peer(peer) => secret.hash(&[2, u64::from(peer.0)]),
        }
    }
}

impl Filed for Child {
    type Key = By;

    fn keys(&self) -> [Option<By>; KINDS] {
        let spi = self.live().then_some(By::SpiOut(self.spi_out));
        [Some(By::Ike(self.ike)), spi, Some(By::Peer(self.peer))]
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
pub struct ChildSlot(Option<Child>);

impl Default for ChildSlot {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Slot for ChildSlot {
    type Item = Child;

    fn item(&self) -> &Option<Child> {
        &self.0
    }

    fn item_mut(&mut self) -> &mut Option<Child> {
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

    /// Every Child SA with this peer.
    pub(crate) fn with(&self, peer: PeerId) -> impl Iterator<Item = &Child> {
        self.table.near(By::Peer(peer)).map(|(_, child)| child).filter(move |child| child.peer == peer)
    }

    /// The next Child SA of `ike` that the request being handled deletes; it is taken off that list. Looks from behind the
    /// one before on, as long as that one is there.
    pub(crate) fn take_named(&mut self, ike: u16, before: Option<u16>) -> Option<u16> {
        let before = before.filter(|slot| self.get(*slot).is_some_and(|child| child.ike == ike));
        let mut next = self.table.next_near(By::Ike(ike), before);
        while let Some(slot) = next {
            next = self.table.next_near(By::Ike(ike), Some(slot));
            if self.get(slot).is_some_and(|child| child.ike == ike && child.named) {
                self.get_mut(slot)?.named = false;
                return Some(slot);
            }
        }
        None
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
                child.report.known
            });
            if !known {
                self.free(slot);
            }
        }
    }

    /// The peer has our answers to its requests up to now.
    pub(crate) fn settle(&mut self, ike: u16) {
        self.each_of(ike, |child| child.settles_at.is_some(), |child| child.settles_at = None);
    }

    /// The peer has the IKE SA that it began beside another: its child may be used.
    pub(crate) fn confirm(&mut self, ike: u16) {
        self.each_of(ike, |_| true, Child::send_through);
    }

    /// The last of those that took the place of `child` one after the other; it is that one itself while nothing did.
    pub(crate) fn last_heir(&self, child: ChildId) -> ChildId {
        let next = |child: &ChildId| self.by_id(*child).and_then(|child| child.replaced_by);
        core::iter::successors(Some(child), next).take(self.table.len()).last().unwrap_or(child)
    }

    pub(crate) fn free(&mut self, slot: u16) {
        self.table.clear(slot);
    }
}

/// The bits of an SPI that carry the slot number in a table of `len` slots.
pub(crate) fn index_mask(len: usize) -> u32 {
    u32::try_from(len.next_power_of_two()).unwrap_or(u32::MAX).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;
    use ipsec_core::net::{AddrRange, PortRange};

    fn net(text: &str) -> TrafficSelector {
        let (addr, prefix) = text.split_once('/').unwrap();
        TrafficSelector::addrs(AddrRange::prefix(addr.parse::<IpAddr>().unwrap(), prefix.parse().unwrap()).unwrap())
    }

    #[test]
    fn narrowing_keeps_only_what_both_sides_want() {
        let allowed = [net("10.2.0.0/16"), net("fd00::/64")];
        assert_eq!(narrow([net("10.0.0.0/8")].into_iter(), &allowed), [net("10.2.0.0/16")]);
        assert_eq!(narrow([net("10.2.3.0/24"), net("10.2.0.0/16")].into_iter(), &allowed).len(), 2);
        assert!(narrow([net("192.168.0.0/16")].into_iter(), &allowed).is_empty());
        assert!(narrow(core::iter::empty(), &allowed).is_empty());
        let web = TrafficSelector { protocol: 6, ports: PortRange::single(80), ..net("0.0.0.0/0") };
        assert_eq!(
            narrow([web].into_iter(), &allowed),
            [TrafficSelector { protocol: 6, ports: PortRange::single(80), ..net("10.2.0.0/16") }]
        );
    }

    #[test]
    fn an_answer_may_narrow_but_not_widen() {
        let proposed = [net("10.2.0.0/16")];
        assert!(within(&[net("10.2.1.0/24")], &proposed));
        assert!(!within(&[net("10.0.0.0/8")], &proposed));
        assert!(!within(&[net("10.2.1.0/24"), net("10.3.0.0/16")], &proposed));
    }

    #[test]
    fn f_41_whoever_closes_what_only_made_room_closes_it_whatever_becomes_of_the_other_one() {
        let mut child = Child::wanted(0, PeerId(0), ChildConfigId(0), Spi::new(256).unwrap(), Instant::ZERO);
        for (why, then) in [
            (Failure::Replaced, Failure::Replaced),
            (Failure::Expired, Failure::Expired),
            (Failure::ClosedHere, Failure::Expired),
            (Failure::Replaced, Failure::Expired),
        ] {
            child.leave(why);
            assert_eq!(child.leaving, Some(then));
        }
    }

    #[test]
    fn narrowing_is_bounded() {
        let many = (0..40u8).map(|third| net(&std::format!("10.2.{third}.0/24")));
        assert_eq!(narrow(many, &[net("10.2.0.0/16")]).len(), MAX_SELECTORS);
    }
}
