//! Traffic selectors as text: `10.1.0.0/16`, `10.0.0.1-10.0.0.9`, `2001:db8::/32[tcp/443]`, `any`.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipsec_core::net::{AddrRange, PortRange, TrafficSelector};

use super::grammar::{Bad, icmp, ports, protocol, protocol_name};

/// Addresses: a network, a range, or one address. The boolean tells that host bits were set in a network.
pub(super) fn addresses(word: &str) -> Result<(AddrRange, bool), Bad> {
    const EXPECTED: &str = "a network such as \"10.1.0.0/16\", a range such as \"10.0.0.1-10.0.0.9\", or an address";
    let address = |at: usize, text: &str| text.parse::<IpAddr>().map_err(|_| Bad::part(at, text, EXPECTED));
    if let Some((first, length)) = word.split_once('/') {
        let first_address = address(0, first)?;
        let at = first.len().saturating_add(1);
        let most = if first_address.is_ipv4() { 32 } else { 128 };
        return length
            .parse()
            .ok()
            .and_then(|length| AddrRange::prefix(first_address, length))
            .map(|range| (range, range.start() != first_address))
            .ok_or_else(|| Bad::part(at, length, format!("a prefix length 0 to {most}")));
    }
    let Some((first, last)) = word.split_once('-') else {
        return address(0, word).map(|address| (AddrRange::single(address), false));
    };
    let (start, end) = (address(0, first)?, address(first.len().saturating_add(1), last)?);
    if start.is_ipv4() != end.is_ipv4() {
        return Err(Bad::whole(word, EXPECTED).hint("both ends of a range are of one family"));
    }
    let range = AddrRange::new(start, end);
    range
        .map(|range| (range, false))
        .ok_or_else(|| Bad::whole(word, EXPECTED).hint(format!("the smaller address stands first: \"{last}-{first}\"")))
}

/// A selector as written, with whether host bits were set. `any` stands for two: every IPv4 and every IPv6 address.
pub(super) fn selectors(word: &str) -> Result<(Vec<TrafficSelector>, bool), Bad> {
    let (net, rest) = match word.split_once('[') {
        None => (word, None),
        Some((net, rest)) => (net, Some((net.len().saturating_add(1), rest))),
    };
    let (ranges, host_bits) = if net == "any" {
        (alloc::vec![AddrRange::ANY_V4, AddrRange::ANY_V6], false)
    } else {
        let (range, host_bits) = addresses(net)?;
        (alloc::vec![range], host_bits)
    };
    let mut found = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (protocol, ports) = match rest {
            None => (0, PortRange::ANY),
            Some((at, rest)) => upper_layer(rest).map_err(|bad| bad.after(at))?,
        };
        found.push(TrafficSelector { addrs: range, protocol, ports });
    }
    Ok((found, host_bits))
}

/// `tcp/443]`, `udp/1000-2000]`, `icmp/8]`, `gre]`.
fn upper_layer(rest: &str) -> Result<(u8, PortRange), Bad> {
    let Some(inside) = rest.strip_suffix(']') else {
        return Err(Bad::whole(rest, "\"[protocol]\" or \"[protocol/port]\"").hint("close the bracket"));
    };
    let Some((name, port)) = inside.split_once('/') else {
        return Ok((protocol(inside)?, PortRange::ANY));
    };
    let at = name.len().saturating_add(1);
    match protocol(name)? {
        number @ (1 | 58) => Ok((number, icmp(port, number == 58).map_err(|bad| bad.after(at))?)),
        number if port == "any" || has_ports(number) => Ok((number, ports(port).map_err(|bad| bad.after(at))?)),
        _ => {
            Err(Bad::part(at, port, "a protocol alone")
                .hint("only tcp, udp, sctp, udplite and icmp have ports or types"))
        }
    }
}

/// Whether packets of this protocol carry ports where the selectors look for them.
pub(super) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132 | 136)
}

/// Writes a range of addresses as a network where it is one.
///
/// ```
/// use gateway_core::config::selector::Addresses;
/// use ipsec_core::net::AddrRange;
/// assert_eq!(Addresses(&AddrRange::ANY_V4).to_string(), "0.0.0.0/0");
/// let some = AddrRange::new([10, 0, 0, 1].into(), [10, 0, 0, 9].into()).unwrap();
/// assert_eq!(Addresses(&some).to_string(), "10.0.0.1-10.0.0.9");
/// ```
#[derive(Debug)]
pub struct Addresses<'r>(pub &'r AddrRange);

impl fmt::Display for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.0.start(), self.0.end());
        let most = if start.is_ipv4() { 32 } else { 128 };
        match (0..=most).find(|length| AddrRange::prefix(start, *length) == Some(*self.0)) {
            Some(length) => write!(f, "{start}/{length}"),
            None => write!(f, "{start}-{end}"),
        }
    }
}

/// Writes a selector as the configuration reads it.
///
/// ```
/// use gateway_core::config::selector::Selector;
/// use ipsec_core::net::{AddrRange, PortRange, TrafficSelector};
/// let addrs = AddrRange::prefix("10.1.0.0".parse().unwrap(), 16).unwrap();
/// let web = TrafficSelector { addrs, protocol: 6, ports: PortRange::single(443) };
/// assert_eq!(Selector(&web).to_string(), "10.1.0.0/16[tcp/443]");
/// ```
#[derive(Debug)]
pub struct Selector<'s>(pub &'s TrafficSelector);

impl fmt::Display for Selector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TrafficSelector { addrs, protocol, ports } = self.0;
        Addresses(addrs).fmt(f)?;
        if *protocol == 0 && *ports == PortRange::ANY {
            return Ok(());
        }
        match protocol_name(*protocol) {
            Some(name) => write!(f, "[{name}")?,
            None => write!(f, "[{protocol}")?,
        }
        let [[first_type, first_code], [last_type, last_code]] = [ports.start.to_be_bytes(), ports.end.to_be_bytes()];
        match (*protocol, *ports) {
            (_, PortRange::ANY) => {}
            (_, PortRange::OPAQUE) => f.write_str("/opaque")?,
            (1 | 58, _) if first_type == last_type && first_code == 0 && last_code == u8::MAX => {
                write!(f, "/{first_type}")?;
            }
            (1 | 58, range) if range.start == range.end => write!(f, "/{first_type}/{first_code}")?,
            (_, range) if range.start == range.end => write!(f, "/{}", range.start)?,
            (_, range) => write!(f, "/{}-{}", range.start, range.end)?,
        }
        f.write_str("]")
    }
}
