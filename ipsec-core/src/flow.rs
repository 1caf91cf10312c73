//! The fields of a packet that selectors look at (RFC 4301 §4.4.1.1).

use crate::net::TrafficSelector;
use crate::wire::cursor::Malformed;
use crate::wire::ip::{Content, Version};
use crate::wire::ipv6;
use core::net::IpAddr;

/// The port-like fields of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ports {
    /// None can be read: a fragment other than the first, a protocol without ports, or a payload too short. Fits
    /// selectors for ANY and OPAQUE ports only (RFC 4301 §4.4.1.1, §7).
    Opaque,
    /// Not even the protocol can be read: an IPv6 fragment other than the first, behind which further extension headers
    /// would stand. Fits selectors for any protocol and ANY or OPAQUE ports only.
    Hidden,
    /// Two ports: TCP, UDP, UDP-Lite, SCTP, DCCP.
    Pair {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// One value that the sender's side decides on: type × 256 + code of ICMP and ICMPv6, type × 256 of Mobile IPv6
    /// (RFC 4301 §4.4.1.3, RFC 7296 §3.13.1).
    Message(u16),
}

/// A packet as selectors see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol behind any extension headers.
    pub protocol: u8,
    /// Ports, or what stands for them.
    pub ports: Ports,
    /// Octets of the whole packet by its own header. What follows is no part of it.
    pub len: usize,
}

impl Flow {
    /// Reads an IPv4 or IPv6 packet; octets behind its end are allowed.
    ///
    /// ```
    /// use ipsec_core::flow::{Flow, Ports};
    /// let mut udp = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 99, 0, 8, 0, 0];
    /// assert_eq!(Flow::of(&udp).unwrap().ports, Ports::Pair { source: 53, destination: 99 });
    /// udp[7] = 1; // a later fragment
    /// assert_eq!(Flow::of(&udp).unwrap().ports, Ports::Opaque);
    /// ```
    ///
    /// # Errors
    /// [`Malformed`]: neither version, a length that is wrong, or extension headers beyond the packet.
    #[inline(always)]
    pub fn of(packet: &[u8]) -> Result<Self, Malformed> {
        Content::of(packet).map(|content| Self::seen_in(&content))
    }

    /// Reads the beginning of a packet, as ICMP quotes it. `len` is what its header says.
    ///
    /// # Errors
    /// [`Malformed`]: neither version, or headers beyond what there is.
    pub fn quoted(packet: &[u8]) -> Result<Self, Malformed> {
        Content::quoted(packet).map(|content| Self::seen_in(&content))
    }

    #[inline(always)]
    fn seen_in(content: &Content<'_>) -> Self {
        let Content { source, destination, protocol, len, .. } = *content;
        let ports = match (content.later_fragment, content.version) {
            (false, _) => ports(protocol, content.payload),
            (true, Version::V6) if ipv6::is_extension(protocol) => Ports::Hidden,
            (true, _) => Ports::Opaque,
        };
        Self { source, destination, protocol, ports, len }
    }

    /// Whether the sender's side fits `source` and the receiver's side fits `destination`.
    #[inline(always)]
    pub fn fits(&self, source: &TrafficSelector, destination: &TrafficSelector) -> bool {
        self.fits_source(source) && self.fits_destination(destination)
    }

    /// Whether there is no port to be read, as in a fragment other than the first: it may belong to a flow of any.
    #[inline]
    pub(crate) const fn is_a_part(&self) -> bool {
        matches!(self.ports, Ports::Opaque | Ports::Hidden)
    }

    /// Whether the packet may belong to a flow that fits, for all that can be read of it: of a fragment other than the
    /// first neither ports nor, in IPv6, always the protocol (RFC 4301 §7).
    pub fn may_fit(&self, source: &TrafficSelector, destination: &TrafficSelector) -> bool {
        let may = |selector: &TrafficSelector, addr| {
            selector.addrs.contains(addr)
                && (self.ports == Ports::Hidden || selector.protocol == 0 || selector.protocol == self.protocol)
        };
        match self.ports {
            Ports::Opaque | Ports::Hidden => may(source, self.source) && may(destination, self.destination),
            Ports::Pair { .. } | Ports::Message(_) => self.fits(source, destination),
        }
    }

    /// Whether the sender's side fits.
    #[inline(always)]
    pub fn fits_source(&self, selector: &TrafficSelector) -> bool {
        let port = match self.ports {
            Ports::Hidden if selector.protocol != 0 => return false,
            Ports::Opaque | Ports::Hidden => None,
            Ports::Pair { source, .. } => Some(source),
            Ports::Message(message) => Some(message),
        };
        selector.matches(self.source, self.protocol, port)
    }

    /// Whether the receiver's side fits. A message type is looked for on the sender's side alone: each side's selector
    /// says what that side may send (RFC 4301 §4.4.1.3, B).
    #[inline(always)]
    pub fn fits_destination(&self, selector: &TrafficSelector) -> bool {
        match self.ports {
            Ports::Hidden if selector.protocol != 0 => false,
            Ports::Opaque | Ports::Hidden => selector.matches(self.destination, self.protocol, None),
            Ports::Pair { destination, .. } => selector.matches(self.destination, self.protocol, Some(destination)),
            Ports::Message(_) => {
                selector.addrs.contains(self.destination)
                    && (selector.protocol == 0 || selector.protocol == self.protocol)
            }
        }
    }
}

#[inline(always)]
fn ports(protocol: u8, payload: &[u8]) -> Ports {
    const ICMP: u8 = 1;
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const DCCP: u8 = 33;
    const ICMPV6: u8 = 58;
    const SCTP: u8 = 132;
    const MOBILITY: u8 = 135;
    const UDP_LITE: u8 = 136;
    match (protocol, payload) {
        (TCP | UDP | DCCP | SCTP | UDP_LITE, [s0, s1, d0, d1, ..]) => {
            Ports::Pair { source: u16::from_be_bytes([*s0, *s1]), destination: u16::from_be_bytes([*d0, *d1]) }
        }
        (ICMP | ICMPV6, [kind, code, ..]) => Ports::Message(u16::from_be_bytes([*kind, *code])),
        (MOBILITY, [_, _, kind, ..]) => Ports::Message(u16::from_be_bytes([*kind, 0])),
        _ => Ports::Opaque,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{AddrRange, PortRange};

    #[test]
    fn ports_are_read_of_protocols_that_have_some() {
        let payload = [1, 2, 3, 4, 5];
        for protocol in 0..=255 {
            for len in 0..=payload.len() {
                let expected = match protocol {
                    6 | 17 | 33 | 132 | 136 if len >= 4 => Ports::Pair { source: 0x0102, destination: 0x0304 },
                    1 | 58 if len >= 2 => Ports::Message(0x0102),
                    135 if len >= 3 => Ports::Message(0x0300),
                    _ => Ports::Opaque,
                };
                assert_eq!(ports(protocol, &payload[..len]), expected, "{protocol}, {len} octets");
            }
        }
    }

    #[test]
    fn each_end_fits_by_address_protocol_and_what_is_known_of_its_port() {
        let (here, there) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let pair = Ports::Pair { source: 7, destination: 9 };
        let all = [(0, PortRange::ANY), (0, PortRange::OPAQUE), (17, PortRange::ANY), (17, PortRange::OPAQUE)];
        let ported =
            [(17, PortRange::single(7)), (17, PortRange::single(9)), (6, PortRange::ANY), (6, PortRange::OPAQUE)];
        // For each of these selectors: whether the source fits, whether the destination does, and whether both may.
        let rows = [
            (pair, [0b111, 0, 0b111, 0, 0b100, 0b010, 0, 0]),
            (Ports::Message(7), [0b111, 0b010, 0b111, 0b010, 0b111, 0b010, 0, 0]),
            (Ports::Opaque, [0b111, 0b111, 0b111, 0b111, 0b001, 0b001, 0, 0]),
            (Ports::Hidden, [0b111, 0b111, 0b001, 0b001, 0b001, 0b001, 0b001, 0b001]),
        ];
        for (ports, expected) in rows {
            let flow = Flow { source: here.into(), destination: there.into(), protocol: 17, ports, len: 99 };
            assert_eq!(flow.is_a_part(), matches!(ports, Ports::Opaque | Ports::Hidden));
            for ((protocol, ports), expected) in all.into_iter().chain(ported).zip(expected) {
                let at = |addr: [u8; 4]| TrafficSelector { addrs: AddrRange::single(addr.into()), protocol, ports };
                let (source, destination) = (flow.fits_source(&at(here)), flow.fits_destination(&at(there)));
                let may = flow.may_fit(&at(here), &at(there));
                let found = u8::from(source) << 2 | u8::from(destination) << 1 | u8::from(may);
                assert_eq!(found, expected, "{flow:?}, {protocol}, {ports:?}");
                assert_eq!(flow.fits(&at(here), &at(there)), source && destination);
                // Another address is never the one.
                assert!(!flow.fits_source(&at(there)) && !flow.fits_destination(&at(here)));
                assert!(!flow.may_fit(&at(there), &at(there)) && !flow.may_fit(&at(here), &at(here)));
            }
        }
    }
}
