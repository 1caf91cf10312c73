//! Networks in the notation that routes need, and how ranges of addresses become them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipsec_core::net::AddrRange;

/// A network in the notation that routes need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Net {
    pub(super) addr: IpAddr,
    pub(super) prefix: u8,
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl Net {
    /// The network `addr/prefix`, without what `addr` says beyond the prefix.
    pub(super) fn new(addr: IpAddr, prefix: u8) -> Option<Self> {
        AddrRange::prefix(addr, prefix).map(|range| Self { addr: range.start(), prefix })
    }

    /// Its addresses.
    pub(super) fn range(self) -> AddrRange {
        AddrRange::prefix(self.addr, self.prefix).unwrap_or(AddrRange::single(self.addr))
    }

    /// Its second address, or its only one.
    pub(crate) fn second(self) -> IpAddr {
        let (v4, first) = (self.is_ipv4(), number(self.addr));
        let single = self.prefix >= if v4 { 32 } else { 128 };
        address(v4, if single { first } else { first | 1 })
    }

    pub(super) fn is_ipv4(self) -> bool {
        self.addr.is_ipv4()
    }

    /// Whether `other` lies in it and is smaller.
    pub(super) fn covers(self, other: Self) -> bool {
        self.prefix < other.prefix && self.is_ipv4() == other.is_ipv4() && self.range().contains(other.addr)
    }
}

/// The smallest of the networks that covers `net`, or is it.
pub(super) fn parent(nets: &BTreeSet<Net>, net: Net) -> Option<Net> {
    (0..=net.prefix).rev().filter_map(|prefix| Net::new(net.addr, prefix)).find(|net| nets.contains(net))
}

/// Whether a remote network is so large that it means "all" rather than one network: attached networks inside it stay
/// reachable. Inside a smaller one they do not: whoever can give an interface an address (a DHCP server, say) could
/// otherwise take addresses out of the tunnel.
pub(super) fn means_all(net: Net) -> bool {
    let private = Net { addr: IpAddr::from([192, 168, 0, 0]), prefix: 16 };
    net.prefix <= if net.is_ipv4() { 12 } else { 16 } || net == private
}

/// Whether an attached network is of the size of a site. A larger one is taken for no place of anything: any DHCP server or
/// router on the link can name one, and it could be half of the internet.
pub(super) fn is_a_site(net: Net) -> bool {
    net.prefix >= if net.is_ipv4() { 16 } else { 48 }
}

/// Networks, each with names of interfaces.
pub(super) type Interfaces = BTreeMap<Net, BTreeSet<String>>;

/// Whether an address can lie behind a gateway at all.
pub(crate) fn is_beyond_links(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => {
            v4.octets().first() != Some(&0)
                && !(v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast()),
    }
}

/// An address as a number.
pub(super) fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

/// The address of a family that a number stands for.
pub(super) fn address(v4: bool, number: u128) -> IpAddr {
    if v4 { IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()) } else { IpAddr::V6(number.into()) }
}

/// Ranges of addresses of a family as numbers, in order, those that touch as one.
pub(super) fn merged(v4: bool, ranges: impl Iterator<Item = AddrRange>) -> Vec<(u128, u128)> {
    let ranges = ranges.filter(|range| range.is_ipv4() == v4);
    let mut numbers: Vec<(u128, u128)> = ranges.map(|range| (number(range.start()), number(range.end()))).collect();
    numbers.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::new();
    for (start, end) in numbers {
        match merged.last_mut() {
            Some((_, last)) if last.checked_add(1).is_none_or(|next| start <= next) => *last = (*last).max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

/// Whether some address of a range is among those that [`merged`] made of ranges of its family.
pub(super) fn meets(merged: &[(u128, u128)], range: &AddrRange) -> bool {
    let before = merged.partition_point(|(_, last)| *last < number(range.start()));
    merged.get(before).is_some_and(|(first, _)| *first <= number(range.end()))
}

/// The fewest networks that make up a range of addresses.
pub(crate) fn prefixes(range: &AddrRange) -> Vec<Net> {
    let (v4, bits) = if range.is_ipv4() { (true, 32) } else { (false, 128) };
    let (mut first, end) = (number(range.start()), number(range.end()));
    let mut nets = Vec::new();
    loop {
        // The largest block that begins at `first` and does not pass `end`.
        let mut host = first.trailing_zeros().min(bits);
        while host > 0 && block_end(first, host) > end {
            host -= 1;
        }
        nets.push(Net { addr: address(v4, first), prefix: u8::try_from(bits - host).unwrap_or(u8::MAX) });
        match block_end(first, host).checked_add(1) {
            Some(next) if next <= end => first = next,
            _ => return nets,
        }
    }
}

fn block_end(first: u128, host_bits: u32) -> u128 {
    first | 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1)
}

/// Whether a route to this network is one to everywhere, or a part of one: others halve or quarter it to be preferred, and
/// of IPv6 it may be `2000::/3`. The private networks of both families are longer.
pub(super) fn is_default(v4: bool, prefix: u8) -> bool {
    prefix < if v4 { 8 } else { 7 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_becomes_the_fewest_prefixes() {
        let net = |text: &str| {
            let (addr, prefix) = text.split_once('/').unwrap();
            AddrRange::prefix(addr.parse().unwrap(), prefix.parse().unwrap()).unwrap()
        };
        let range = |start: &str, end: &str| AddrRange::new(start.parse().unwrap(), end.parse().unwrap()).unwrap();
        let shown = |range| prefixes(&range).iter().map(Net::to_string).collect::<Vec<_>>();
        assert_eq!(shown(net("10.1.0.0/16")), ["10.1.0.0/16"]);
        assert_eq!(shown(range("10.0.0.1", "10.0.0.6")), ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]);
        assert_eq!(shown(AddrRange::ANY_V4), ["0.0.0.0/0"]);
        assert_eq!(shown(AddrRange::ANY_V6), ["::/0"]);
        assert_eq!(shown(range("255.255.255.254", "255.255.255.255")), ["255.255.255.254/31"]);
        assert_eq!(shown(range("fd00::", "fd00::1:ffff")), ["fd00::/111"]);
    }

    #[test]
    fn what_meets_ranges_that_were_merged_meets_one_of_them() {
        let range = |first: u8, last: u8| AddrRange::new([10, 0, 0, first].into(), [10, 0, 0, last].into()).unwrap();
        let ranges = [range(2, 2), range(3, 4), range(7, 9), range(8, 8), range(12, 13)];
        for ranges in (0..=ranges.len()).map(|few| &ranges[..few]) {
            let merged = merged(true, ranges.iter().copied());
            for (first, last) in (0..16).flat_map(|first| (first..16).map(move |last| (first, last))) {
                let wanted = range(first, last);
                let naive = ranges.iter().any(|range| range.intersect(&wanted).is_some());
                assert_eq!(meets(&merged, &wanted), naive, "{ranges:?} {wanted:?}");
            }
        }
    }
}
