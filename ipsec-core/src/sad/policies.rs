//! The SAs of a policy, newest first, by the network that the peer's side lies in.
//!
//! One policy may have many SAs: one for each party that it is for, or for each network that a peer narrowed it to. So an
//! SA stands in a chain with those alone whose policy and network have its number, and a packet looks along one chain for
//! each [width](WIDTHS) of networks that there are SAs of. Only SAs with one network, or none, are looked at one by one.

use core::net::IpAddr;

use super::{Place, Table};
use crate::net::{TrafficSelector, number};
use crate::sa::{PolicyId, SaId};

/// Prefix lengths in IPv4 and in IPv6, the longest first. The network of an SA is the narrowest of these that its selectors
/// of the peer's side lie in; the last one is everything, in both families.
const WIDTHS: [(u8, u8); 10] =
    [(32, 128), (28, 96), (24, 64), (22, 60), (20, 56), (18, 52), (16, 48), (12, 40), (8, 32), (0, 0)];

/// What a slot knows of chains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// The newest slot of the networks that fall on the number of this one.
    newest: Option<u32>,
    /// This slot's neighbours in its own chain.
    older: Option<u32>,
    newer: Option<u32>,
    /// The newer of two SAs has the larger one.
    age: u64,
}

impl Chain {
    pub(super) const NONE: Self = Self { newest: None, older: None, newer: None, age: 0 };
}

/// Where an SA is looked for: a policy, and a network of the peer's side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home {
    policy: PolicyId,
    /// The number of the width.
    width: usize,
    network: u128,
}

impl Home {
    /// Of an SA, by its selectors of the peer's side.
    pub(crate) fn of(policy: PolicyId, remote: &[TrafficSelector]) -> Self {
        let first = remote.iter().map(|ts| ts.addrs.start()).min();
        let last = remote.iter().map(|ts| ts.addrs.end()).max();
        // Addresses of IPv4 come before those of IPv6.
        let ends = first.zip(last).filter(|(first, last)| first.is_ipv4() == last.is_ipv4());
        let home = |width, addr| Self { policy, width, network: network(width, addr) };
        let narrowest = |(first, last)| {
            (0..WIDTHS.len()).map(|width| (home(width, first), home(width, last))).find(|(a, b)| a.network == b.network)
        };
        let anywhere = Self { policy, width: WIDTHS.len().saturating_sub(1), network: 0 };
        ends.and_then(narrowest).map_or(anywhere, |(home, _)| home)
    }
}

#[inline]
fn network(width: usize, addr: IpAddr) -> u128 {
    let (v4, v6) = WIDTHS.get(width).copied().unwrap_or_default();
    let host = if addr.is_ipv4() { 32_u8.saturating_sub(v4) } else { 128_u8.saturating_sub(v6) };
    number(addr).checked_shr(host.into()).unwrap_or(0)
}

/// What there is to look along.
#[derive(Debug)]
pub(super) struct Widths {
    /// How many SAs there are of each width, and a bit for each of which there are some.
    sas: [u32; WIDTHS.len()],
    used: u32,
    /// SAs there have been.
    linked: u64,
}

impl Widths {
    pub(super) const NONE: Self = Self { sas: [0; WIDTHS.len()], used: 0, linked: 0 };

    fn count(&mut self, width: usize, change: impl FnOnce(u32) -> u32) {
        if let Some(sas) = self.sas.get_mut(width) {
            *sas = change(*sas);
            let bit = 1_u32.wrapping_shl(width as u32);
            self.used = if *sas > 0 { self.used | bit } else { self.used & !bit };
        }
    }
}

impl<T: Place> Table<'_, T> {
    /// Numbers of policies and networks are others', and mostly follow each other. Who chooses networks that fall on one
    /// number has packets look at all of their SAs, no more.
    #[inline]
    fn start(&self, home: &Home) -> usize {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let network = (home.network as u64) ^ ((home.network >> 64) as u64).wrapping_mul(SPREAD);
        let spread = (network ^ u64::from(home.policy.0) << 32).wrapping_mul(SPREAD) >> 32;
        (spread.wrapping_mul(self.slots.len() as u64) >> 32) as usize
    }

    fn chain_mut(&mut self, slot: u32) -> Option<&mut Chain> {
        self.slots.get_mut(slot as usize).map(|slot| &mut slot.chain)
    }

    /// The newest SA that carries packets of a policy to this address. What is found beside those of the policy and the
    /// network is for `carries` to refuse.
    #[inline]
    pub(crate) fn newest(
        &self,
        policy: PolicyId,
        remote: IpAddr,
        carries: impl Fn(&T::Target) -> bool,
    ) -> Option<SaId> {
        let mut newest: Option<(u64, SaId)> = None;
        let mut widths = self.widths.used;
        while widths != 0 {
            let width = widths.trailing_zeros() as usize;
            widths &= widths.wrapping_sub(1);
            let home = Home { policy, width, network: network(width, remote) };
            let mut next = self.slots.get(self.start(&home)).and_then(|slot| slot.chain.newest);
            // Bounded by the number of slots, whatever the links say.
            for _ in 0..self.slots.len() {
                let Some((slot, chain)) = next.and_then(|slot| Some((slot, self.slots.get(slot as usize)?.chain)))
                else {
                    break;
                };
                if newest.is_some_and(|(age, _)| age >= chain.age) {
                    break;
                }
                if let Some((id, _)) = self.at(slot).filter(|(_, sa)| carries(sa)) {
                    newest = Some((chain.age, id));
                    break;
                }
                next = chain.older;
            }
        }
        newest.map(|(_, id)| id)
    }

    /// The newest SA is the one in this slot.
    pub(crate) fn link(&mut self, slot: u32, home: &Home) {
        let start = self.start(home);
        let older = self.slots.get_mut(start).and_then(|start| start.chain.newest.replace(slot));
        self.widths.linked = self.widths.linked.saturating_add(1);
        let age = self.widths.linked;
        if let Some(chain) = self.chain_mut(slot) {
            (chain.older, chain.newer, chain.age) = (older, None, age);
        }
        if let Some(older) = older.and_then(|older| self.chain_mut(older)) {
            older.newer = Some(slot);
        }
        self.widths.count(home.width, |sas| sas.saturating_add(1));
    }

    /// The SA in this slot goes.
    pub(crate) fn unlink(&mut self, slot: u32, home: &Home) {
        let Some((older, newer)) = self.chain_mut(slot).map(|chain| (chain.older.take(), chain.newer.take())) else {
            return;
        };
        match newer {
            Some(newer) => _ = self.chain_mut(newer).map(|newer| newer.older = older),
            None => {
                let start = self.start(home);
                _ = self.slots.get_mut(start).map(|start| start.chain.newest = older);
            }
        }
        if let Some(older) = older.and_then(|older| self.chain_mut(older)) {
            older.newer = newer;
        }
        self.widths.count(home.width, |sas| sas.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::vec::Vec;

    use super::*;
    use crate::crypto::InPlace;
    use crate::net::{AddrRange, Spi};
    use crate::sa::Event;
    use crate::sad::{Filed, Slot};
    use crate::time::Instant;

    /// An SA that says where it goes, and nothing else.
    struct To(AddrRange);

    impl Filed for To {
        fn next_tick(&self) -> Option<Instant> {
            None
        }

        fn tick(&mut self, _: Instant) {}

        fn has_news(&self) -> bool {
            false
        }

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

    fn install(table: &mut Table<'_, InPlace<To>>, policy: PolicyId, to: AddrRange) -> SaId {
        let place = table.place().unwrap();
        let id = table.put(place, Spi::new(0x1000).unwrap(), || Ok(To(to)), |_| Ok(())).unwrap();
        table.link(id.slot, &Home::of(policy, &[TrafficSelector::addrs(to)]));
        id
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
                    install(&mut table, policy, AddrRange::prefix(addr, prefix).unwrap())
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
            for (number, id) in (0..).zip(ids) {
                let to = table.get(id).unwrap().0;
                table.unlink(id.slot, &Home::of(of(number).0, &[TrafficSelector::addrs(to)]));
                assert!(table.remove(id));
            }
            assert_eq!((table.live, table.widths.used), (0, 0), "nobody looks for what is gone");
        }
    }

    #[test]
    fn an_sa_of_both_families_is_found_from_all_of_its_networks() {
        let addrs = ["0.0.0.0", "10.1.1.1", "::"].map(|addr| addr.parse::<IpAddr>().unwrap());
        let remote = addrs.map(|addr| TrafficSelector::addrs(AddrRange::single(addr)));
        let mut slots = [const { Slot::<InPlace<To>>::EMPTY }; 4];
        let mut table = Table::new(&mut slots);
        let place = table.place().unwrap();
        let to = || Ok(To(AddrRange::ANY_V4));
        let id = table.put(place, Spi::new(0x1000).unwrap(), to, |_| Ok(())).unwrap();
        table.link(id.slot, &Home::of(POLICY, &remote));
        assert_eq!(addrs.map(|addr| table.newest(POLICY, addr, |_| true)), [Some(id); 3]);
    }
}
