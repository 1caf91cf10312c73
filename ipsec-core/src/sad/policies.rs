//! The SAs of a policy, newest first, by the network that the peer's side lies in.
//!
//! One policy may have many SAs: one for each party that it is for, or for each network that a peer narrowed it to. So an
//! SA stands in a chain with those alone whose policy and network have its number, and a packet looks along one chain for
//! each [width](WIDTHS) of networks that there are SAs of. Only SAs with one network, or none, are looked at one by one.
//! Those that packets come in through stand in such chains by their SPIs.

use core::net::IpAddr;
use core::num::NonZeroU64;

use super::links::{Chained, Linked, Spot};
use crate::net::{Spi, TrafficSelector, number};
use crate::sa::PolicyId;

/// Prefix lengths in IPv4 and in IPv6, the longest first. The network of an SA is the narrowest of these that its selectors
/// of the peer's side lie in; the last one is everything, in both families.
const WIDTHS: [(u8, u8); 10] =
    [(32, 128), (28, 96), (24, 64), (22, 60), (20, 56), (18, 52), (16, 48), (12, 40), (8, 32), (0, 0)];

/// The number of the last one.
const EVERYTHING: u8 = (WIDTHS.len() - 1) as u8;

/// Where an SA is looked for: a policy, and a network of the peer's side; or an SPI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home {
    /// Of the policy, or the SPI: a table has SAs that are looked for by one of them.
    number: u32,
    /// The number of the width.
    width: u8,
    network: u128,
}

impl Home {
    /// Of an SA, by its selectors of the peer's side.
    pub(crate) fn of(policy: PolicyId, remote: &[TrafficSelector]) -> Self {
        let first = remote.iter().map(|ts| ts.addrs.start()).min();
        let last = remote.iter().map(|ts| ts.addrs.end()).max();
        // Addresses of IPv4 come before those of IPv6.
        let ends = first.zip(last).filter(|(first, last)| first.is_ipv4() == last.is_ipv4());
        let home = |width, addr| Self { number: policy.0, width, network: network(width, addr) };
        let narrowest = |(first, last)| {
            (0..WIDTHS.len() as u8)
                .map(|width| (home(width, first), home(width, last)))
                .find(|(a, b)| a.network == b.network)
        };
        let anywhere = Self { number: policy.0, width: EVERYTHING, network: 0 };
        ends.and_then(narrowest).map_or(anywhere, |(home, _)| home)
    }

    /// Of an SA that packets name.
    pub(crate) fn of_spi(spi: Spi) -> Self {
        Self { number: spi.get(), width: EVERYTHING, network: 0 }
    }
}

#[inline]
fn network(width: u8, addr: IpAddr) -> u128 {
    let (v4, v6) = WIDTHS.get(usize::from(width)).copied().unwrap_or_default();
    let host = if addr.is_ipv4() { 32_u8.saturating_sub(v4) } else { 128_u8.saturating_sub(v6) };
    number(addr).checked_shr(host.into()).unwrap_or(0)
}

/// All chains, and which of them there are to look along.
#[derive(Debug)]
pub(super) struct Chains {
    /// How many SAs there are of each width, and a bit for each of which there are some.
    pub(super) sas: [u32; WIDTHS.len()],
    pub(super) used: u32,
    /// How many SAs there have been.
    linked: u64,
}

impl Chains {
    pub(super) const EMPTY: Self = Self { sas: [0; WIDTHS.len()], used: 0, linked: 0 };

    /// How many SAs have come into a chain so far. As long as that is the same, none became newer than another one.
    #[inline]
    pub(super) fn linked(&self) -> u64 {
        self.linked
    }

    /// The newest SA that carries packets of a policy to this address. What is found beside those of the policy and the
    /// network is for `carries` to refuse.
    #[inline]
    pub(super) fn newest<R>(
        &self,
        slots: &impl Linked,
        policy: PolicyId,
        remote: IpAddr,
        carries: impl Fn(u32) -> Option<R>,
    ) -> Option<R> {
        let mut newest: Option<(NonZeroU64, R)> = None;
        let mut widths = self.used;
        while widths != 0 {
            let width = widths.trailing_zeros() as u8;
            widths &= widths.wrapping_sub(1);
            let home = Home { number: policy.0, width, network: network(width, remote) };
            let mut next = slots.links(start(slots.count(), &home)).and_then(|links| links.newest);
            // Bounded by the number of slots, whatever the links say.
            for _ in 0..slots.count() {
                let Some((slot, chained)) = next.and_then(|slot| Some((slot, slots.links(slot)?.chained?))) else {
                    break;
                };
                if newest.as_ref().is_some_and(|(age, _)| *age >= chained.age) {
                    break;
                }
                if let Some(found) = carries(slot) {
                    newest = Some((chained.age, found));
                    break;
                }
                next = chained.older;
            }
        }
        newest.map(|(_, found)| found)
    }

    /// The first that `is_it` takes of those with this home, and of others that are looked for in the same place.
    pub(super) fn of<R>(&self, slots: &impl Linked, home: &Home, is_it: impl Fn(u32) -> Option<R>) -> Option<R> {
        let first = slots.links(start(slots.count(), home)).and_then(|links| links.newest);
        let older = |slot: &u32| slots.links(*slot)?.chained?.older;
        // Bounded by the number of slots, whatever the links say.
        core::iter::successors(first, older).take(slots.count()).find_map(is_it)
    }

    /// From now on a slot stands where SAs with this home are looked for, as the newest one if it did not before.
    pub(super) fn set(&mut self, slots: &mut dyn Linked, slot: u32, home: Option<&Home>) {
        let spot = home.map(|home| spot(slots.count(), home));
        let chained = slots.links(slot).and_then(|links| links.chained);
        if chained.map(|chained| chained.spot) == spot {
            return;
        }
        if let Some(chained) = chained {
            self.unlink(slots, slot, chained);
        }
        if let Some(spot) = spot {
            self.link(slots, slot, spot);
        }
    }

    fn link(&mut self, slots: &mut dyn Linked, slot: u32, spot: Spot) {
        let older = slots.links_mut(spot.start).and_then(|start| start.newest.replace(slot));
        let age = NonZeroU64::MIN.saturating_add(self.linked);
        self.linked = age.get();
        if let Some(links) = slots.links_mut(slot) {
            links.chained = Some(Chained { age, spot, older, newer: None });
        }
        if let Some(older) = chained_mut(slots, older) {
            older.newer = Some(slot);
        }
        self.count(spot.width, |sas| sas.saturating_add(1));
    }

    fn unlink(&mut self, slots: &mut dyn Linked, slot: u32, Chained { spot, older, newer, .. }: Chained) {
        if let Some(links) = slots.links_mut(slot) {
            links.chained = None;
        }
        if let Some(older) = chained_mut(slots, older) {
            older.newer = newer;
        }
        match chained_mut(slots, newer) {
            Some(newer) => newer.older = older,
            None => _ = slots.links_mut(spot.start).map(|start| start.newest = older),
        }
        self.count(spot.width, |sas| sas.saturating_sub(1));
    }

    fn count(&mut self, width: u8, change: impl FnOnce(u32) -> u32) {
        if let Some(sas) = self.sas.get_mut(usize::from(width)) {
            *sas = change(*sas);
            let bit = 1_u32.wrapping_shl(width.into());
            self.used = if *sas > 0 { self.used | bit } else { self.used & !bit };
        }
    }
}

fn chained_mut(slots: &mut dyn Linked, slot: Option<u32>) -> Option<&mut Chained> {
    slots.links_mut(slot?)?.chained.as_mut()
}

/// The chain for SAs with this home, over so many slots.
pub(super) fn spot(slots: usize, home: &Home) -> Spot {
    Spot { start: start(slots, home), width: home.width }
}

/// The slot that knows the newest SA with this home. Numbers of policies and networks, and SPIs that are not ours, mostly follow
/// each other. Who chooses networks that fall on one number has packets look at all of their SAs, no more.
#[inline]
fn start(slots: usize, home: &Home) -> u32 {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let network = (home.network as u64) ^ ((home.network >> 64) as u64).wrapping_mul(SPREAD);
    let spread = (network ^ u64::from(home.number) << 32).wrapping_mul(SPREAD) >> 32;
    (spread.wrapping_mul(slots as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::vec::Vec;

    use super::*;
    use crate::crypto::InPlace;
    use crate::net::{AddrRange, Spi};
    use crate::sa::{Event, SaId};
    use crate::sad::filed::Filed;
    use crate::sad::{Slot, Table};
    use crate::time::Instant;

    /// An SA that says where it goes, and nothing else.
    struct To(Home);

    impl Filed for To {
        fn due(&self) -> Option<Instant> {
            None
        }

        fn tells(&self) -> bool {
            false
        }

        fn home(&self) -> Option<Home> {
            Some(self.0)
        }

        fn is_touched(&self) -> bool {
            false
        }

        fn settled(&mut self) {}

        fn tick(&mut self, _: Instant) {}

        fn take_event(&mut self, _: SaId) -> Option<Event> {
            None
        }
    }

    const POLICY: PolicyId = PolicyId(1);

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    fn v6(number: u128) -> IpAddr {
        Ipv6Addr::from_bits((0xfd00 << 112) + number).into()
    }

    fn install(table: &mut Table<'_, InPlace<To>>, policy: PolicyId, to: &[TrafficSelector]) -> SaId {
        let place = table.place().unwrap();
        table.put(place, Spi::new(0x1000).unwrap(), || Ok(To(Home::of(policy, to))), |_| Ok(())).unwrap()
    }

    #[test]
    fn however_many_sas_there_are_a_packet_looks_at_those_of_its_policy_and_network() {
        const COUNT: u32 = 4000;
        type Set = fn(u32) -> (PolicyId, IpAddr, u8);
        let sets: [Set; 5] = [
            |number| (POLICY, v4(number), 32),
            |number| (POLICY, v4(number << 8), 24),
            |number| (POLICY, v4(number << 7), 25),
            |number| (POLICY, v6(u128::from(number) << 64), 64),
            |number| (PolicyId(number), v4(0), 0),
        ];
        for (set, of) in sets.into_iter().enumerate() {
            let mut slots: Vec<Slot<InPlace<To>>> = (0..COUNT).map(|_| Slot::EMPTY).collect();
            let mut table = Table::new(&mut slots);
            let ids: Vec<SaId> = (0..COUNT)
                .map(|number| {
                    let (policy, addr, prefix) = of(number);
                    let to = TrafficSelector::addrs(AddrRange::prefix(addr, prefix).unwrap());
                    install(&mut table, policy, &[to])
                })
                .collect();
            let asked = Cell::new(0);
            for (number, id) in (0..).zip(&ids) {
                let (policy, addr, _) = of(number);
                let carries = |sa: &To| {
                    asked.set(asked.get() + 1);
                    core::ptr::eq(sa, table.get(*id).unwrap())
                };
                assert_eq!(table.newest(policy, addr, carries), Some(*id));
            }
            assert!(asked.get() <= 3 * COUNT, "set {set}: {} SAs for {COUNT} packets", asked.get());
            assert_eq!(table.check(), Ok(()));
            assert!(ids.into_iter().all(|id| table.remove(id)));
            assert_eq!(table.check(), Ok(()), "nobody looks for what is gone");
        }
    }

    #[test]
    fn an_sa_of_both_families_is_found_from_all_of_its_networks() {
        let addrs = ["0.0.0.0", "10.1.1.1", "::"].map(|addr| addr.parse::<IpAddr>().unwrap());
        let remote = addrs.map(|addr| TrafficSelector::addrs(AddrRange::single(addr)));
        let mut slots = [const { Slot::<InPlace<To>>::EMPTY }; 4];
        let mut table = Table::new(&mut slots);
        let id = install(&mut table, POLICY, &remote);
        assert_eq!(addrs.map(|addr| table.newest(POLICY, addr, |_| true)), [Some(id); 3]);
    }
}
