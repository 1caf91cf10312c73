//! What the IPv4 and IPv6 headers have in common, read and changed without parsing either in full.

use super::checksum;
use super::cursor::Malformed;
use crate::ecn::Ecn;

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

/// Protocol number of an IPv4 packet inside another header, as ESP's next header (RFC 4303 §2.6).
pub const PROTOCOL_IPV4: u8 = 4;
/// Protocol number of an IPv6 packet inside another header.
pub const PROTOCOL_IPV6: u8 = 41;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// Protocol number of ESP.
pub const PROTOCOL_ESP: u8 = 50;
/// "No next header": a dummy packet (RFC 4303 §2.6).
pub const PROTOCOL_NONE: u8 = 59;

impl Version {
    /// The next header that announces a packet of this version.
    pub const fn protocol(self) -> u8 {
        match self {
            Self::V4 => PROTOCOL_IPV4,
            Self::V6 => PROTOCOL_IPV6,
        }
    }
}

/// The fields of an inner header that an outer header is made from.
///
/// ```
/// use ipsec_core::wire::ip::{Marks, Version};
/// let header = [0x45, 0xb8, 0, 20, 0, 0, 0x40, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
/// let marks = Marks::of(&header).unwrap();
/// assert_eq!(marks, Marks { version: Version::V4, traffic_class: 0xb8, dont_fragment: true });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// IP version.
    pub version: Version,
    /// DSCP (upper 6 bits) and ECN (lower 2 bits).
    pub traffic_class: u8,
    /// Don't Fragment; always true for IPv6.
    pub dont_fragment: bool,
}

impl Marks {
    /// Reads the marks of an IP packet.
    ///
    /// # Errors
    /// [`Malformed`]: too short, or neither IPv4 nor IPv6.
    #[inline]
    pub fn of(packet: &[u8]) -> Result<Self, Malformed> {
        match packet {
            [first, tos, _, _, _, _, flags, ..] if first >> 4 == 4 => {
                Ok(Self { version: Version::V4, traffic_class: *tos, dont_fragment: flags & 0x40 != 0 })
            }
            [first, second, ..] if first >> 4 == 6 => {
                let traffic_class = (first << 4) | (second >> 4);
                Ok(Self { version: Version::V6, traffic_class, dont_fragment: true })
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
    use crate::wire::{ipv4, ipv6};

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
        let marks = Marks { version: Version::V4, traffic_class: 0xb9, dont_fragment: true };
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
        assert_eq!(Marks::of(&bytes).unwrap().traffic_class, 0xb9);
        set_ecn(&mut bytes, Ecn::Ce);
        assert_eq!(bytes[..4], [0x6b, 0xbf, 0xff, 0xff]);
        for bytes in [&[][..], &[0x45], &[0x60], &[0x50, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Marks::of(bytes), Err(Malformed));
        }
    }
}
