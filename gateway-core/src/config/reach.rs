//! What the operating system sends into tunnels and keeps from passing in clear, and what a reload takes out of that.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use ipsec_core::net::AddrRange;

use super::Traffic;
use super::cover::{Networks, Place, Span, covered};
use super::selector::Addresses;

/// The families, in the order of their places.
const V4: u8 = 0;
const V6: u8 = 1;

/// A remote network of a child that is sent into the tunnel, and guarded.
struct Reach {
    /// The network behind the peer.
    remote: AddrRange,
    /// The networks on our side that the child connects it with: one at least, all of its family.
    local: Vec<AddrRange>,
}

impl Reach {
    /// What of its remote networks is sent into the tunnel.
    fn of(traffic: Traffic<'_>) -> impl Iterator<Item = Self> {
        let sent = traffic.remote.iter().map(|remote| remote.addrs);
        sent.filter(move |remote| !traffic.is_left_to_routes(remote)).filter_map(move |remote| {
            let ours = traffic.local.iter().map(|local| local.addrs);
            let local: Vec<_> = ours.filter(|local| local.is_ipv4() == remote.is_ipv4()).collect();
            (!local.is_empty()).then_some(Self { remote, local })
        })
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

/// From where to where, disjoint.
type Places = BTreeMap<Place, Place>;

impl Exposed {
    /// What `before` kept, as far as `after` does not, nor several parts of it together.
    pub(super) fn between<'c>(
        before: impl Iterator<Item = Traffic<'c>>,
        after: impl Iterator<Item = Traffic<'c>>,
    ) -> Self {
        let after: Vec<_> = after.flat_map(Reach::of).collect();
        let taken = united(after.iter().flat_map(taken_in));
        let mut kept: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for reach in before.flat_map(Reach::of) {
            kept.entry(ends(&reach.remote)).or_default().push(reach);
        }
        let (mut bared, mut connected) = (BTreeSet::new(), Vec::new());
        for reaches in kept.into_values() {
            let Some(remote) = reaches.first().map(|reach| reach.remote) else { continue };
            let lost = lost(&remote, &united(reaches.iter().flat_map(taken_in)), &taken);
            match lost.is_empty() {
                true => connected.extend(reaches),
                false => bared.extend(lost),
            }
        }
        let there: Vec<_> = after.iter().flat_map(pairs).collect();
        let asked: Vec<_> = connected.iter().flat_map(pairs).collect();
        let names = connected.iter().flat_map(|reach| reach.local.iter().map(move |local| (local, &reach.remote)));
        let open = names.zip(covered(&there, &asked)).filter(|(_, whole)| !whole);
        let opened: BTreeSet<_> =
            open.map(|((local, remote), _)| (Addresses(local).to_string(), Addresses(remote).to_string())).collect();
        Self { bared: bared.into_iter().collect(), opened: opened.into_iter().collect() }
    }
}

/// What was kept from passing in clear, each network but for those inside it, as far as `after` does not keep it.
pub(super) fn bared<'c>(
    before: impl Iterator<Item = (AddrRange, Vec<AddrRange>)>,
    after: impl Iterator<Item = Traffic<'c>>,
) -> Vec<String> {
    let taken = united(after.flat_map(Reach::of).flat_map(|reach| taken_in(&reach)));
    let lost = |(net, left): (AddrRange, Vec<AddrRange>)| {
        let had = without(ends(&net), &united(left.iter().map(ends)));
        lost(&net, &had.into_iter().collect(), &taken)
    };
    before.flat_map(lost).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What of a remote network was kept from passing in clear, `had`, and is no more: its name where that is all of it.
fn lost(remote: &AddrRange, had: &Places, taken: &Places) -> Vec<String> {
    let left: Vec<_> = had.iter().flat_map(|(start, end)| without((*start, *end), taken)).collect();
    match had.iter().map(|(start, end)| (*start, *end)).eq(left.iter().copied()) {
        // Nothing was, where all of it is ours.
        true if left.is_empty() => Vec::new(),
        true => alloc::vec![Addresses(remote).to_string()],
        false => left.into_iter().filter_map(named).collect(),
    }
}

fn pairs(reach: &Reach) -> impl Iterator<Item = Networks> {
    reach.local.iter().map(|local| Networks { local: ends(local), remote: ends(&reach.remote) })
}

fn named((start, end): Span) -> Option<String> {
    let address = |(family, number): Place| match family {
        V6 => Some(IpAddr::V6(number.into())),
        _ => u32::try_from(number).ok().map(|number| IpAddr::V4(number.into())),
    };
    AddrRange::new(address(start)?, address(end)?).map(|range| Addresses(&range).to_string())
}

/// The first and the last address of a network.
fn ends(range: &AddrRange) -> Span {
    let place = |address| match address {
        IpAddr::V4(address) => (V4, u128::from(address.to_bits())),
        IpAddr::V6(address) => (V6, address.to_bits()),
    };
    (place(range.start()), place(range.end()))
}

/// The pieces of a remote network that are sent into the tunnel: all but our own side inside it.
fn taken_in(reach: &Reach) -> Vec<Span> {
    without(ends(&reach.remote), &united(reach.inside().map(|inside| ends(&inside))))
}

/// What is left of a piece without these places.
fn without((begin, end): Span, places: &Places) -> Vec<Span> {
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
fn united(all: impl Iterator<Item = Span>) -> Places {
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
