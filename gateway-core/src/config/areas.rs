//! Which of many pairs of networks meet, without holding each against each.

use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::net::IpAddr;

use ipsec_core::net::AddrRange;

/// A network of ours and one of a peer: a rectangle, as it were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    owner: usize,
    local: (u128, u128),
    remote: (u128, u128),
}

impl Area {
    /// Of two networks; `None` when they are of two families.
    pub(super) fn new(owner: usize, local: AddrRange, remote: AddrRange) -> Option<Self> {
        (local.is_ipv4() == remote.is_ipv4()).then(|| Self { owner, local: span(local), remote: span(remote) })
    }
}

/// IPv4 lies where IPv4-mapped addresses do, and so beside IPv6.
fn span(range: AddrRange) -> (u128, u128) {
    let number = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
        IpAddr::V6(addr) => addr.to_bits(),
    };
    (number(range.start()), number(range.end()))
}

/// Tells the owners of every two areas that have addresses of both sides in common, until `told` wants no more.
///
/// A line is moved over the remote addresses; the areas under it stand in a tree by their local addresses.
pub(super) fn meetings(areas: &[Area], mut told: impl FnMut(usize, usize) -> bool) {
    let mut starts: Vec<u128> = areas.iter().map(|area| area.local.0).collect();
    starts.sort_unstable();
    let mut places: Vec<(u128, usize)> = (0..).zip(areas).map(|(index, area)| (area.local.0, index)).collect();
    places.sort_unstable();
    let mut by_remote: Vec<(&Area, usize)> =
        places.iter().zip(0..).filter_map(|((_, index), place)| Some((areas.get(*index)?, place))).collect();
    by_remote.sort_by_key(|(area, _)| area.remote.0);
    let mut under = Tree::new(areas.len());
    let mut ends: BinaryHeap<Reverse<(u128, usize)>> = BinaryHeap::new();
    for (area, place) in by_remote {
        while let Some(Reverse((end, place))) = ends.peek().copied() {
            if end >= area.remote.0 {
                break;
            }
            under.put(place, None);
            ends.pop();
        }
        let limit = starts.partition_point(|start| *start <= area.local.1);
        if !under.reaching(area.local.0, limit, |owner| told(owner, area.owner)) {
            return;
        }
        under.put(place, Some((area.local.1, area.owner)));
        ends.push(Reverse((area.remote.1, place)));
    }
}

/// Places in a row, some taken by something that ends somewhere; above each two stands the later end.
struct Tree {
    /// The root is 1, the children of n are 2n and 2n + 1; the places are the last half.
    ends: Vec<Option<(u128, usize)>>,
}

impl Tree {
    fn new(places: usize) -> Self {
        Self { ends: vec![None; places.next_power_of_two().saturating_mul(2)] }
    }

    fn end(&self, node: usize) -> Option<(u128, usize)> {
        self.ends.get(node).copied().flatten()
    }

    fn put(&mut self, place: usize, end: Option<(u128, usize)>) {
        let mut node = place.saturating_add(self.ends.len() / 2);
        let mut latest = end;
        while let Some(at) = self.ends.get_mut(node) {
            *at = latest;
            if node <= 1 {
                return;
            }
            latest = latest.max(self.end(node ^ 1));
            node /= 2;
        }
    }

    /// The owners of the places below `limit` that end at `least` or later. `false`: `told` wants no more.
    fn reaching(&self, least: u128, limit: usize, mut told: impl FnMut(usize) -> bool) -> bool {
        let leaves = self.ends.len() / 2;
        let mut open = vec![(1, 0, leaves)];
        while let Some((node, from, width)) = open.pop() {
            let Some((_, owner)) = self.end(node).filter(|(end, _)| *end >= least && from < limit) else { continue };
            if width > 1 {
                let half = width / 2;
                // A power of two: `from` has its bits above `half`.
                open.push((node << 1 | 1, from | half, half));
                open.push((node << 1, from, half));
            } else if !told(owner) {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::{assert, assert_eq};

    use super::*;

    fn meet(one: &Area, other: &Area) -> bool {
        let common = |one: (u128, u128), other: (u128, u128)| one.0 <= other.1 && other.0 <= one.1;
        common(one.local, other.local) && common(one.remote, other.remote)
    }

    #[test]
    fn f_32_areas_that_meet_are_those_of_the_loop_over_all_pairs() {
        let mut seed = 7_u64;
        let mut range = |size: u128| {
            let mut number = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                u128::from(seed >> 40)
            };
            let start = number() % size;
            (start, start + number() % (size / 4))
        };
        for round in 0..300 {
            let size = [16, 64, 1024][round % 3];
            let areas: Vec<Area> =
                (0..round % 40).map(|owner| Area { owner, local: range(size), remote: range(size) }).collect();
            let mut found = BTreeSet::new();
            meetings(&areas, |one, other| {
                assert!(one != other && found.insert((one.min(other), one.max(other))), "told twice");
                true
            });
            let pairs = areas.iter().flat_map(|one| areas.iter().map(move |other| (one, other)));
            let expected = pairs.filter(|(one, other)| one.owner < other.owner && meet(one, other));
            assert_eq!(found, expected.map(|(one, other)| (one.owner, other.owner)).collect(), "round {round}");
        }
    }

    #[test]
    fn f_32_nothing_is_told_of_those_that_do_not_meet_and_no_more_than_is_wanted() {
        // A hub with one network and a thousand branches, and a thousand children of one branch.
        let star = |owner: u128| Area { owner: owner as usize, local: (0, 9), remote: (owner * 10, owner * 10 + 9) };
        let fan = |owner: u128| Area { owner: owner as usize, local: (owner * 10, owner * 10 + 9), remote: (0, 9) };
        for areas in [(0..1000).map(star).collect::<Vec<_>>(), (0..1000).map(fan).collect()] {
            meetings(&areas, |one, other| panic!("{one} and {other}"));
        }
        let same: Vec<Area> = (0..1000).map(|owner| Area { owner, local: (0, 9), remote: (0, 9) }).collect();
        let mut told = 0;
        meetings(&same, |_, _| {
            told += 1;
            told < 50
        });
        assert_eq!(told, 50);
    }
}
