//! What the operating system sends into tunnels and keeps from passing in clear, and what a reload takes out of that.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use ipsec_core::net::AddrRange;

use super::Child;
use super::selector::Addresses;

/// A remote network of a child that is sent into the tunnel, and guarded.
struct Reach {
    /// The network behind the peer.
    remote: AddrRange,
    /// The networks on our side that the child connects it with: one at least, all of its family.
    local: Vec<AddrRange>,
}

impl Reach {
    /// What of its remote networks a child sends into the tunnel.
    fn of(child: &Child) -> impl Iterator<Item = Self> {
        child.remote_ts.iter().map(|remote| remote.addrs).filter(|remote| !child.is_left_to_routes(remote)).filter_map(
            |remote| {
                let ours = child.local_ts.iter().map(|local| local.addrs);
                let local: Vec<_> = ours.filter(|local| local.is_ipv4() == remote.is_ipv4()).collect();
                (!local.is_empty()).then_some(Self { remote, local })
            },
        )
    }

    /// Of our side, what lies inside the remote network: that stays reachable as without us, unless another child has it.
    fn inside(&self) -> impl Iterator<Item = AddrRange> {
        let inside = self.local.iter().filter_map(|local| local.intersect(&self.remote));
        inside.filter(|inside| *inside != self.remote)
    }
}

/// What was kept from passing in clear and is not any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Exposed {
    /// Remote networks.
    pub(super) bared: Vec<String>,
    /// Networks on our side, each with a remote one that is not bared.
    pub(super) opened: Vec<(String, String)>,
}

/// An address among those of its family.
type Place = (bool, u128);

/// From where to where, disjoint.
type Places = BTreeMap<Place, Place>;

impl Exposed {
    /// What the children `before` kept, as far as the children `after` do not, nor several of them together.
    pub(super) fn between<'c>(before: impl Iterator<Item = &'c Child>, after: impl Iterator<Item = &'c Child>) -> Self {
        let after: Vec<_> = after.flat_map(Reach::of).collect();
        let taken = united(after.iter().flat_map(taken_in));
        let pairs: BTreeSet<_> = after.iter().flat_map(pairs).collect();
        let (mut bared, mut opened) = (BTreeSet::new(), BTreeSet::new());
        for reach in before.flat_map(Reach::of) {
            let (whole, had) = (Addresses(&reach.remote).to_string(), taken_in(&reach));
            let left: Vec<_> = had.iter().flat_map(|piece| without(*piece, &taken)).collect();
            if left == had {
                bared.insert(whole);
                continue;
            }
            if !left.is_empty() {
                bared.extend(left.into_iter().filter_map(named));
                continue;
            }
            let lost = |local: &&AddrRange| {
                !pairs.contains(&(ends(local), ends(&reach.remote))) && open(local, &reach, &after)
            };
            let local = reach.local.iter().filter(lost).map(|local| Addresses(local).to_string());
            opened.extend(local.map(|local| (local, whole.clone())));
        }
        Self { bared: bared.into_iter().collect(), opened: opened.into_iter().collect() }
    }
}

fn pairs(reach: &Reach) -> impl Iterator<Item = ((Place, Place), (Place, Place))> {
    reach.local.iter().map(|local| (ends(local), ends(&reach.remote)))
}

/// Whether no child, nor several together, connects all of a network on our side with all of a remote one.
fn open(local: &AddrRange, reach: &Reach, after: &[Reach]) -> bool {
    let there: Vec<_> = after.iter().filter(|other| other.remote.intersect(&reach.remote).is_some()).collect();
    let (start, end) = ends(&reach.remote);
    // Between two of these places the same children have it.
    let behind = |(v6, last): Place| Some((v6, last.checked_add(1)?));
    let edges = there.iter().flat_map(|other| [Some(ends(&other.remote).0), behind(ends(&other.remote).1)]);
    let edges: BTreeSet<_> = edges.flatten().filter(|place| (start..=end).contains(place)).chain([start]).collect();
    let covered = |place: &Place| {
        let here = there.iter().filter(|other| {
            let (start, end) = ends(&other.remote);
            (start..=end).contains(place)
        });
        without(ends(local), &united(here.flat_map(|other| &other.local).map(ends))).is_empty()
    };
    !edges.iter().all(covered)
}

fn named((start, end): (Place, Place)) -> Option<String> {
    let address = |(v6, number): Place| match v6 {
        true => Some(IpAddr::V6(number.into())),
        false => u32::try_from(number).ok().map(|number| IpAddr::V4(number.into())),
    };
    AddrRange::new(address(start)?, address(end)?).map(|range| Addresses(&range).to_string())
}

/// The first and the last address of a network.
fn ends(range: &AddrRange) -> (Place, Place) {
    let place = |address| match address {
        IpAddr::V4(address) => (false, u128::from(address.to_bits())),
        IpAddr::V6(address) => (true, address.to_bits()),
    };
    (place(range.start()), place(range.end()))
}

/// The pieces of a remote network that are sent into the tunnel: all but our own side inside it.
fn taken_in(reach: &Reach) -> Vec<(Place, Place)> {
    without(ends(&reach.remote), &united(reach.inside().map(|inside| ends(&inside))))
}

/// What is left of a piece without these places.
fn without((begin, end): (Place, Place), places: &Places) -> Vec<(Place, Place)> {
    let (mut start, mut left) = (begin, Vec::new());
    let nearest = places.range(..=begin).next_back().map_or(begin, |(first, _)| *first);
    for (first, last) in places.range(nearest..=end).filter(|(_, last)| **last >= begin) {
        if let Some(before) = first.1.checked_sub(1).filter(|_| start < *first) {
            left.push((start, (first.0, before)));
        }
        if *last >= end {
            return left;
        }
        start = (last.0, last.1.saturating_add(1));
    }
    left.push((start, end));
    left
}

/// What all have together, nothing twice.
fn united(all: impl Iterator<Item = (Place, Place)>) -> Places {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    let mut united = Places::new();
    for (start, end) in all {
        match united.last_entry() {
            Some(mut last) if last.get().0 == start.0 && last.get().1.saturating_add(1) >= start.1 => {
                let further = (*last.get()).max(end);
                last.insert(further);
            }
            _ => _ = united.insert(start, end),
        }
    }
    united
}
