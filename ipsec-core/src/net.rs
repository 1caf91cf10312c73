//! Nouns of RFC 4301 and RFC 7296 §3.13: SPIs, paths, address and port ranges, traffic selectors.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A Security Parameters Index of ESP. 0–255 are reserved and cannot be held (RFC 4303 §2.1).
///
/// ```
/// use ipsec_core::net::Spi;
/// assert_eq!(Spi::new(0x1000).map(Spi::get), Some(0x1000));
/// assert_eq!(Spi::new(255), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Spi(u32);

impl Spi {
    /// `None` for the reserved values 0–255.
    pub const fn new(value: u32) -> Option<Self> {
        if value > 255 { Some(Self(value)) } else { None }
    }

    /// The number on the wire, host order.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Compression Parameter Index: says to its receiver how a packet is compressed (RFC 3173 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Cpi(pub u16);

impl Cpi {
    /// DEFLATE, where nothing else was agreed on.
    pub const DEFLATE: Self = Self(2);

    /// One of those that are for agreements, for packets of the SA with this SPI: of SAs that are there at the same time, most have
    /// one each.
    ///
    /// ```
    /// use ipsec_core::net::{Cpi, Spi};
    /// let cpi = |spi| Cpi::of(Spi::new(spi).unwrap());
    /// assert_eq!([0x1_0000, 0x1_eeff, 0x7_ffff].map(cpi), [256, 61_439, 4_607].map(Cpi));
    /// ```
    pub const fn of(spi: Spi) -> Self {
        // Those from 256 to 61,439 (RFC 3173 §3.3).
        Self(((spi.get() & 0xffff) % 61_184).wrapping_add(256) as u16)
    }
}

/// The UDP port of IKE (RFC 7296 §2).
pub const IKE_PORT: u16 = 500;
/// The UDP port of IKE and ESP behind a NAT, where IKE may also begin (RFC 3948 §2.1, RFC 7296 §2.23).
pub const NATT_PORT: u16 = 4500;

/// Where a datagram came from or goes to. For protocol 50 without UDP both ports are 0.
///
/// ```
/// use ipsec_core::net::{Encap, NATT_PORT, Path};
/// let path = Path { local: ([192, 0, 2, 1], NATT_PORT).into(), remote: ([192, 0, 2, 2], NATT_PORT).into() };
/// assert_eq!((path.encap(), path.carried(Encap::Udp)), (Encap::Udp, path));
/// let plain = path.carried(Encap::None);
/// assert_eq!((plain.encap(), plain.remote.to_string().as_str()), (Encap::None, "192.0.2.2:0"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port, as seen from here (a NAT may stand in between).
    pub remote: SocketAddr,
}

impl Path {
    /// The path between the same addresses of ESP that travels so: protocol 50 has no ports.
    #[must_use]
    pub fn carried(mut self, encap: Encap) -> Self {
        if encap == Encap::None {
            self.local.set_port(0);
            self.remote.set_port(0);
        }
        self
    }

    /// How ESP came that came on this path.
    pub fn encap(&self) -> Encap {
        if self.remote.port() == 0 { Encap::None } else { Encap::Udp }
    }
}

/// How ESP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Encap {
    /// IP protocol 50.
    None,
    /// UDP port 4500 (RFC 3948).
    Udp,
}

/// IPv4 or IPv6 addresses from `start` to `end`, both included, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddrRange(Ends);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl AddrRange {
    /// Every IPv4 address.
    pub const ANY_V4: Self = Self(Ends::V4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    /// Every IPv6 address.
    pub const ANY_V6: Self = Self(Ends::V6(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from_bits(u128::MAX)));

    /// `None` when the families differ or `start` is above `end`.
    pub fn new(start: IpAddr, end: IpAddr) -> Option<Self> {
        match (start, end) {
            (IpAddr::V4(start), IpAddr::V4(end)) if start <= end => Some(Self(Ends::V4(start, end))),
            (IpAddr::V6(start), IpAddr::V6(end)) if start <= end => Some(Self(Ends::V6(start, end))),
            _ => None,
        }
    }

    /// A single address.
    pub const fn single(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self(Ends::V4(addr, addr)),
            IpAddr::V6(addr) => Self(Ends::V6(addr, addr)),
        }
    }

    /// The network `addr/prefix`; host bits of `addr` are ignored. `None` when the prefix is too long for the family.
    ///
    /// ```
    /// use ipsec_core::net::AddrRange;
    /// let net = AddrRange::prefix("10.2.3.4".parse().unwrap(), 16).unwrap();
    /// assert_eq!(net.start(), "10.2.0.0".parse::<core::net::IpAddr>().unwrap());
    /// assert_eq!(net.end(), "10.2.255.255".parse::<core::net::IpAddr>().unwrap());
    /// ```
    pub fn prefix(addr: IpAddr, prefix: u8) -> Option<Self> {
        match addr {
            IpAddr::V4(addr) => {
                let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let (start, end) = (addr.to_bits() & !host, addr.to_bits() | host);
                (prefix <= 32).then(|| Self(Ends::V4(Ipv4Addr::from_bits(start), Ipv4Addr::from_bits(end))))
            }
            IpAddr::V6(addr) => {
                let host = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let (start, end) = (addr.to_bits() & !host, addr.to_bits() | host);
                (prefix <= 128).then(|| Self(Ends::V6(Ipv6Addr::from_bits(start), Ipv6Addr::from_bits(end))))
            }
        }
    }

    /// First address.
    pub const fn start(&self) -> IpAddr {
        match self.0 {
            Ends::V4(start, _) => IpAddr::V4(start),
            Ends::V6(start, _) => IpAddr::V6(start),
        }
    }

    /// Last address.
    pub const fn end(&self) -> IpAddr {
        match self.0 {
            Ends::V4(_, end) => IpAddr::V4(end),
            Ends::V6(_, end) => IpAddr::V6(end),
        }
    }

    /// Whether the range is of IPv4 addresses.
    pub const fn is_ipv4(&self) -> bool {
        matches!(self.0, Ends::V4(..))
    }

    /// Whether `addr` lies inside.
    #[inline]
    pub fn contains(&self, addr: IpAddr) -> bool {
        // By number: the order of `IpAddr` compares octet by octet, and every packet comes along here.
        match (&self.0, addr) {
            (Ends::V4(start, end), IpAddr::V4(addr)) => (start.to_bits()..=end.to_bits()).contains(&addr.to_bits()),
            (Ends::V6(start, end), IpAddr::V6(addr)) => (start.to_bits()..=end.to_bits()).contains(&addr.to_bits()),
            _ => false,
        }
    }

    /// What both ranges have in common; `None` when nothing.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if self.is_ipv4() != other.is_ipv4() {
            return None;
        }
        Self::new(self.start().max(other.start()), self.end().min(other.end()))
    }
}

/// An address as a number. Numbers of one family do not stand for the other.
#[inline]
pub(crate) fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

/// Ports from `start` to `end`, both included. For ICMP and ICMPv6 a "port" is type × 256 + code (RFC 7296 §3.13.1).
///
/// ```
/// use ipsec_core::net::PortRange;
/// let dynamic = PortRange { start: 49152, end: 65535 };
/// assert!(dynamic.matches(Some(50_000)) && !dynamic.matches(Some(53)));
/// assert!(!dynamic.matches(None) && PortRange::ANY.matches(None)); // a fragment tells no port
/// assert_eq!(PortRange::ANY.intersect(&dynamic), Some(dynamic));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PortRange {
    /// First port.
    pub start: u16,
    /// Last port.
    pub end: u16,
}

impl PortRange {
    /// Every port, and also packets without a port field (fragments).
    pub const ANY: Self = Self { start: 0, end: u16::MAX };
    /// Only packets whose port cannot be known (RFC 4301 §4.4.1.1): start above end, as on the wire.
    pub const OPAQUE: Self = Self { start: u16::MAX, end: 0 };

    /// A single port.
    pub const fn single(port: u16) -> Self {
        Self { start: port, end: port }
    }

    /// Whether a packet with this port fits; `None`: the packet has no readable port.
    #[inline]
    pub fn matches(&self, port: Option<u16>) -> bool {
        match port {
            _ if *self == Self::ANY => true,
            Some(port) => self.start <= port && port <= self.end,
            None => *self == Self::OPAQUE,
        }
    }

    /// What both ranges have in common. [`PortRange::OPAQUE`] meets only itself and [`PortRange::ANY`].
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if *self == Self::ANY || self == other {
            return Some(*other);
        }
        if *other == Self::ANY {
            return Some(*self);
        }
        let both = Self { start: self.start.max(other.start), end: self.end.min(other.end) };
        (*self != Self::OPAQUE && *other != Self::OPAQUE && both.start <= both.end).then_some(both)
    }
}

/// One end of the traffic an SA carries: a traffic selector of RFC 7296 §3.13.1.
///
/// ```
/// use ipsec_core::net::{AddrRange, PortRange, TrafficSelector};
/// let site = TrafficSelector::addrs(AddrRange::prefix([10, 2, 0, 0].into(), 16).unwrap());
/// let dns = TrafficSelector { protocol: 17, ports: PortRange::single(53), addrs: AddrRange::ANY_V4 };
/// let both = site.intersect(&dns).unwrap();
/// assert!(both.matches([10, 2, 0, 9].into(), 17, Some(53)));
/// assert!(!both.matches([10, 2, 0, 9].into(), 6, Some(53)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrafficSelector {
    /// Addresses of this end.
    pub addrs: AddrRange,
    /// IP protocol; 0 means any.
    pub protocol: u8,
    /// Ports of this end.
    pub ports: PortRange,
}

impl TrafficSelector {
    /// All traffic of these addresses.
    pub const fn addrs(addrs: AddrRange) -> Self {
        Self { addrs, protocol: 0, ports: PortRange::ANY }
    }

    /// Whether a packet's end fits. `port` is `None` when the packet has no readable port.
    #[inline]
    pub fn matches(&self, addr: IpAddr, protocol: u8, port: Option<u16>) -> bool {
        self.addrs.contains(addr) && (self.protocol == 0 || self.protocol == protocol) && self.ports.matches(port)
    }

    /// What both selectors have in common: the narrowing of RFC 7296 §2.9.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let protocol = match (self.protocol, other.protocol) {
            (0, protocol) | (protocol, 0) => protocol,
            (ours, theirs) if ours == theirs => ours,
            _ => return None,
        };
        Some(Self { addrs: self.addrs.intersect(&other.addrs)?, protocol, ports: self.ports.intersect(&other.ports)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn addrs() -> Vec<IpAddr> {
        let v4 = (0..5).map(|last| IpAddr::from([10, 0, 0, last]));
        v4.chain((0..5).map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]))).collect()
    }

    #[test]
    fn an_index_of_compression_is_one_of_those_that_are_for_agreements() {
        let cpi = |spi| Cpi::of(Spi::new(spi).unwrap()).0;
        for low in 0..=u32::from(u16::MAX) {
            let indices = [1, 0xfffe].map(|high| cpi(high << 16 | low));
            assert!(indices[0] == indices[1] && (256..=61_439).contains(&indices[0]), "{low:#x}");
        }
        // Neighbours are apart: few share one.
        assert_eq!([0x1_0000, 0x1_0001, 0x1_eeff, 0x1_ef00].map(cpi), [256, 257, 61_439, 256]);
    }

    fn ranges() -> Vec<AddrRange> {
        let (addrs, mut ranges) = (addrs(), Vec::new());
        for start in &addrs {
            for end in &addrs {
                let range = AddrRange::new(*start, *end);
                assert_eq!(range.is_some(), start.is_ipv4() == end.is_ipv4() && start <= end, "{start} - {end}");
                if let Some(range) = range {
                    assert_eq!((range.start(), range.end(), range.is_ipv4()), (*start, *end, start.is_ipv4()));
                    assert_eq!(range == AddrRange::single(*start), start == end);
                }
                ranges.extend(range);
            }
        }
        ranges
    }

    fn ports() -> [PortRange; 8] {
        let ranges =
            [(0, u16::MAX), (u16::MAX, 0), (0, 0), (0, 2), (1, 3), (2, u16::MAX), (2, 2), (u16::MAX, u16::MAX)];
        ranges.map(|(start, end)| PortRange { start, end })
    }

    const PORTS: [Option<u16>; 7] = [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(65_535)];

    #[test]
    fn what_ranges_of_addresses_have_in_common_lies_in_both() {
        for one in ranges() {
            for other in ranges() {
                let common = one.intersect(&other);
                for addr in addrs() {
                    let lies = |range: AddrRange| range.start() <= addr && addr <= range.end();
                    let in_both = [one, other].iter().all(|range| range.is_ipv4() == addr.is_ipv4() && lies(*range));
                    assert_eq!(one.contains(addr) && other.contains(addr), in_both, "{addr} in {one:?} and {other:?}");
                    assert_eq!(common.is_some_and(|common| common.contains(addr)), in_both, "{addr}: {common:?}");
                }
            }
        }
    }

    #[test]
    fn a_prefix_is_as_many_addresses_as_it_leaves_bits() {
        for (addr, bits) in [("10.2.3.4", 32), ("fd12:3456::789a", 128)] {
            let addr: IpAddr = addr.parse().unwrap();
            for prefix in 0..=bits {
                let net = AddrRange::prefix(addr, prefix).unwrap();
                let last = 1_u128.checked_shl(u32::from(bits - prefix)).unwrap_or(0).wrapping_sub(1);
                assert_eq!(number(net.end()) - number(net.start()), last, "{addr}/{prefix}");
                assert_eq!(number(net.start()) & last, 0, "{addr}/{prefix}");
                assert!(net.contains(addr));
            }
            assert_eq!(AddrRange::prefix(addr, bits + 1), None);
        }
    }

    #[test]
    fn what_port_ranges_have_in_common_fits_both() {
        for one in ports() {
            for port in PORTS {
                let expected = match port {
                    None => one == PortRange::ANY || one == PortRange::OPAQUE,
                    Some(port) => (one.start..=one.end).contains(&port),
                };
                assert_eq!(one.matches(port), expected, "{port:?} of {one:?}");
            }
            for other in ports() {
                let common = one.intersect(&other);
                for port in PORTS {
                    let both = one.matches(port) && other.matches(port);
                    assert_eq!(common.is_some_and(|common| common.matches(port)), both, "{port:?}: {one:?}, {other:?}");
                }
            }
        }
    }

    #[test]
    fn what_selectors_have_in_common_fits_both() {
        let wide = AddrRange::new([10, 0, 0, 0].into(), [10, 0, 0, 3].into()).unwrap();
        let all: Vec<_> = [wide, AddrRange::single([10, 0, 0, 3].into()), AddrRange::ANY_V6]
            .into_iter()
            .flat_map(|addrs| [0, 6, 17].map(|protocol| (addrs, protocol)))
            .flat_map(|(addrs, protocol)| ports().map(|ports| TrafficSelector { addrs, protocol, ports }))
            .collect();
        for one in &all {
            for other in &all {
                let common = one.intersect(other);
                for (addr, protocol) in addrs().into_iter().flat_map(|addr| [6, 17].map(|protocol| (addr, protocol))) {
                    for port in PORTS {
                        let fits = |ts: &TrafficSelector| ts.matches(addr, protocol, port);
                        let fits_by_part = |ts: &TrafficSelector| {
                            ts.addrs.contains(addr) && [0, protocol].contains(&ts.protocol) && ts.ports.matches(port)
                        };
                        assert_eq!(fits(one), fits_by_part(one));
                        assert_eq!(common.as_ref().is_some_and(fits), fits(one) && fits(other), "{one:?}, {other:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_path_has_ports_where_esp_travels_in_udp() {
        let path = Path { local: ([192, 0, 2, 1], 4500).into(), remote: ([192, 0, 2, 2], 1234).into() };
        assert_eq!((path.encap(), path.carried(Encap::Udp)), (Encap::Udp, path));
        let plain = path.carried(Encap::None);
        assert_eq!((plain.local.port(), plain.remote.port(), plain.encap()), (0, 0, Encap::None));
        assert_eq!((plain.local.ip(), plain.remote.ip()), (path.local.ip(), path.remote.ip()));
    }
}
