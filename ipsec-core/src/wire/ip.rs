//! What the IPv4 and IPv6 headers have in common, read and changed without parsing either in full.

use super::cursor::{Malformed, Reader};
use super::{checksum, ipv4, ipv6};
use crate::ecn::Ecn;
use core::net::IpAddr;

/// IP version of a packet.
///
/// ```
/// use ipsec_core::wire::ip::{PROTOCOL_IPV6, Version};
/// assert_eq!(Version::V6.protocol(), PROTOCOL_IPV6);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of an IPv4 packet inside another header, as ESP's next header (RFC 4303 §2.6).
pub const PROTOCOL_IPV4: u8 = 4;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of an IPv6 packet inside another header.
pub const PROTOCOL_IPV6: u8 = 41;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// Protocol number of ESP.
pub const PROTOCOL_ESP: u8 = 50;
/// Protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;
/// Protocol number of a compressed payload (RFC 3173).
pub const PROTOCOL_IPCOMP: u8 = 108;
/// Protocol number of the pseudo-header that says in BEET mode which options a packet had (draft-nikander-esp-beet-mode).
pub const PROTOCOL_BEET: u8 = 94;
/// "No next header": a dummy packet (RFC 4303 §2.6).
pub const PROTOCOL_NONE: u8 = 59;

impl Version {
    /// Of an address.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The next header that announces a packet of this version.
    pub const fn protocol(self) -> u8 {
        match self {
            Self::V4 => PROTOCOL_IPV4,
            Self::V6 => PROTOCOL_IPV6,
        }
    }
}

/// TTL and hop limit of packets that begin here (RFC 4301 §5.1.2.1 leaves that of outer headers to us; 64 is IANA's recommended
/// default).
pub(crate) const HOPS: u8 = 64;

/// The fields of a header that another one is made from.
///
/// ```
/// use ipsec_core::wire::ip::{Marks, Version};
/// let header = [0x45, 0xb8, 0, 20, 0, 0, 0x40, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
/// let marks = Marks::of(&header).unwrap();
/// let version = Version::V4;
/// assert_eq!(marks, Marks { version, len: 20, traffic_class: 0xb8, dont_fragment: true, ident: 0, hops: 64 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// IP version.
    pub version: Version,
    /// Octets of the whole packet by its own header.
    pub len: usize,
    /// DSCP (upper 6 bits) and ECN (lower 2 bits).
    pub traffic_class: u8,
    /// Don't Fragment; always true for IPv6.
    pub dont_fragment: bool,
    /// Identification; 0 for IPv6.
    pub ident: u16,
    /// TTL, hop limit.
    pub hops: u8,
}

impl Marks {
    /// Reads the marks of an IP packet.
    ///
    /// # Errors
    /// [`Malformed`]: too short, or neither IPv4 nor IPv6.
    #[inline]
    pub fn of(packet: &[u8]) -> Result<Self, Malformed> {
        match packet {
            [first, tos, l0, l1, i0, i1, flags, _, hops, ..] if first >> 4 == 4 => Ok(Self {
                version: Version::V4,
                len: u16::from_be_bytes([*l0, *l1]).into(),
                traffic_class: *tos,
                dont_fragment: flags & 0x40 != 0,
                ident: u16::from_be_bytes([*i0, *i1]),
                hops: *hops,
            }),
            [first, second, _, _, l0, l1, _, hops, ..] if first >> 4 == 6 => Ok(Self {
                version: Version::V6,
                len: ipv6::HEADER_LEN.saturating_add(u16::from_be_bytes([*l0, *l1]).into()),
                traffic_class: (first << 4) | (second >> 4),
                dont_fragment: true,
                ident: 0,
                hops: *hops,
            }),
            _ => Err(Malformed),
        }
    }
}

/// A packet taken apart into headers of IP and what they carry.
///
/// ```
/// use ipsec_core::wire::ip::{Content, PROTOCOL_UDP};
/// let packet = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 99, 0, 8, 0, 0];
/// let content = Content::of(&packet).unwrap();
/// assert_eq!((content.protocol, content.start, content.payload), (PROTOCOL_UDP, 20, &packet[20..]));
/// let quoted = Content::quoted(&packet[..24]).unwrap();
/// assert_eq!((quoted.len, quoted.payload), (28, &packet[20..24]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content<'p> {
    /// IP version.
    pub version: Version,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol behind any extension headers.
    pub protocol: u8,
    /// Whether this is a fragment other than the first: `payload` begins in the middle.
    pub later_fragment: bool,
    /// Octets of the whole packet by its own header.
    pub len: usize,
    /// Octets in front of `payload`.
    pub start: usize,
    /// What the packet carries.
    pub payload: &'p [u8],
}

impl<'p> Content<'p> {
    /// Reads an IPv4 or IPv6 packet; octets behind its end are allowed.
    ///
    /// # Errors
    /// [`Malformed`]: neither version, a length that is wrong, or extension headers beyond the packet.
    #[inline(always)]
    pub fn of(packet: &'p [u8]) -> Result<Self, Malformed> {
        Self::read(packet, ipv4::Header::read, ipv6::Header::read, |len| len)
    }

    /// Reads the beginning of a packet, as ICMP quotes it.
    ///
    /// # Errors
    /// [`Malformed`]: neither version, or headers beyond what there is.
    pub fn quoted(packet: &'p [u8]) -> Result<Self, Malformed> {
        Self::read(packet, ipv4::Header::read_quoted, ipv6::Header::read_quoted, |len| len.min(packet.len()))
    }

    #[inline(always)]
    fn read(
        packet: &'p [u8],
        v4: impl FnOnce(&mut Reader<'_>) -> Result<ipv4::Header, Malformed>,
        v6: impl FnOnce(&mut Reader<'_>) -> Result<ipv6::Header, Malformed>,
        end: impl FnOnce(usize) -> usize,
    ) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let read = |reader: &Reader<'_>| packet.len().saturating_sub(reader.rest().len());
        match packet.first().map(|first| first >> 4) {
            Some(4) => {
                let header = v4(&mut reader)?;
                let (len, start) = (usize::from(header.total_len), read(&reader));
                Ok(Self {
                    version: Version::V4,
                    source: header.source.into(),
                    destination: header.destination.into(),
                    protocol: header.protocol,
                    later_fragment: header.fragment_offset != 0,
                    len,
                    start,
                    payload: packet.get(start..end(len)).ok_or(Malformed)?,
                })
            }
            Some(6) => {
                let header = v6(&mut reader)?;
                let len = usize::from(header.payload_len).saturating_add(ipv6::HEADER_LEN);
                let behind = packet.get(read(&reader)..end(len)).ok_or(Malformed)?;
                let mut reader = Reader::new(behind);
                let upper = ipv6::skip_extensions(header.next_header, &mut reader)?;
                let extensions = behind.len().saturating_sub(reader.rest().len());
                Ok(Self {
                    version: Version::V6,
                    source: header.source.into(),
                    destination: header.destination.into(),
                    protocol: upper.protocol,
                    later_fragment: upper.later_fragment,
                    len,
                    start: extensions.saturating_add(ipv6::HEADER_LEN),
                    payload: reader.rest(),
                })
            }
            _ => Err(Malformed),
        }
    }
}

/// Replaces the ECN field of a packet; the IPv4 checksum follows. Anything else is left as it is.
///
/// ```
/// use ipsec_core::ecn::Ecn;
/// use ipsec_core::wire::{checksum::Sum, ip::set_ecn};
/// let mut header = [0x45, 0xb8, 0, 20, 0, 0, 0x40, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
/// let checksum = Sum::default().bytes(&header).finish();
/// header[10..12].copy_from_slice(&checksum.to_be_bytes());
/// set_ecn(&mut header, Ecn::Ce);
/// assert_eq!(header[1], 0xbb);
/// assert!(Sum::default().bytes(&header).is_valid());
/// ```
#[inline]
pub fn set_ecn(packet: &mut [u8], ecn: Ecn) {
    let ecn = ecn as u8;
    match packet {
        [first, tos, _, _, _, _, _, _, _, _, c0, c1, ..] if *first >> 4 == 4 => {
            let old = u16::from_be_bytes([*first, *tos]);
            *tos = (*tos & !0x03) | ecn;
            let new = u16::from_be_bytes([*first, *tos]);
            [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), old, new).to_be_bytes();
        }
        [first, second, ..] if *first >> 4 == 6 => *second = (*second & !0x30) | (ecn << 4),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;
    use crate::wire::cursor::Writer;

    #[test]
    fn reads_marks_and_replaces_ecn_in_both_versions() {
        let v4 = ipv4::Header {
            tos: 0xb9,
            total_len: 20,
            id: 7,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 9,
            protocol: 6,
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
        };
        let mut bytes = [0; 20];
        v4.write(&mut Writer::new(&mut bytes)).unwrap();
        let marks =
            Marks { version: Version::V4, len: 20, traffic_class: 0xb9, dont_fragment: true, ident: 7, hops: 9 };
        assert_eq!(Marks::of(&bytes), Ok(marks));
        set_ecn(&mut bytes, Ecn::Ce);
        assert_eq!(bytes[1], 0xbb);
        assert!(Sum::default().bytes(&bytes).is_valid());

        let v6 = ipv6::Header {
            traffic_class: 0xb9,
            flow_label: 0xfffff,
            payload_len: 0,
            next_header: 59,
            hop_limit: 1,
            source: core::net::Ipv6Addr::LOCALHOST,
            destination: core::net::Ipv6Addr::LOCALHOST,
        };
        let mut bytes = [0; 40];
        v6.write(&mut Writer::new(&mut bytes)).unwrap();
        let marks =
            Marks { version: Version::V6, len: 40, traffic_class: 0xb9, dont_fragment: true, ident: 0, hops: 1 };
        assert_eq!(Marks::of(&bytes), Ok(marks));
        set_ecn(&mut bytes, Ecn::Ce);
        assert_eq!(bytes[..4], [0x6b, 0xbf, 0xff, 0xff]);
        for bytes in [&[][..], &[0x45], &[0x60], &[0x50, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Marks::of(bytes), Err(Malformed));
        }
    }

    #[test]
    fn a_packet_that_is_quoted_tells_what_is_there_of_it() {
        // IPv6 with destination options in front of UDP.
        let mut packet = [0; 40 + 8 + 8];
        (packet[0], packet[5], packet[6], packet[40]) = (0x60, 16, 60, PROTOCOL_UDP);
        packet[48..].copy_from_slice(&[0, 53, 0, 99, 0, 8, 0, 0]);
        let whole = Content::of(&packet).unwrap();
        assert_eq!((whole.protocol, whole.start, whole.len), (PROTOCOL_UDP, 48, 56));
        for len in 0..packet.len() {
            assert_eq!(Content::of(&packet[..len]), Err(Malformed), "{len} octets");
            let expected = Content { payload: packet.get(48..len).unwrap_or_default(), ..whole };
            let quoted = Content::quoted(&packet[..len]);
            assert_eq!(quoted, if len < 48 { Err(Malformed) } else { Ok(expected) }, "{len} octets quoted");
        }
        let longer = [&packet[..], &[0xee]].concat();
        assert_eq!((Content::of(&longer), Content::quoted(&longer)), (Ok(whole), Ok(whole)));
    }
}
