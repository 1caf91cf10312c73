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
