//! What stays in front of ESP in transport mode (RFC 4303 §3.1.1), and the fields in it that change.

use super::checksum::Sum;
use super::cursor::{Malformed, Reader};
use super::ip::{Content, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, Version};
use super::ipv6::Until;
use super::{ipv4, ipv6, udp};
use core::net::IpAddr;

/// The header of a packet, with its options or with extension headers.
///
/// ```
/// use ipsec_core::wire::front::Front;
/// use ipsec_core::wire::ipv6::Until;
/// let packet = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 99, 0, 8, 0, 0];
/// let front = Front::of(&packet, Until::Esp).unwrap();
/// assert_eq!((front.len, front.next_at, front.protocol, front.fragment), (20, 9, 17, false));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front {
    /// Its octets.
    pub len: usize,
    /// Where in it stands what follows.
    pub next_at: usize,
    /// What follows: a protocol, or destination options.
    pub protocol: u8,
    /// Whether the packet is a part of another one: such are not for transport mode (RFC 4303 §3.3.4).
    pub fragment: bool,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Octets of the packet by its header.
    pub total: usize,
}

impl Front {
    /// Reads the front of a packet, of IPv6 as far as it is wanted.
    ///
    /// # Errors
    /// [`Malformed`]: neither version, a wrong length, or extension headers beyond the packet.
    pub fn of(packet: &[u8], until: Until) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        match packet.first().map(|first| first >> 4) {
            Some(4) => {
                let header = ipv4::Header::read(&mut reader)?;
                Ok(Self {
                    len: packet.len().saturating_sub(reader.rest().len()),
                    next_at: ipv4::NEXT_HEADER,
                    protocol: header.protocol,
                    fragment: header.more_fragments || header.fragment_offset != 0,
                    source: header.source.into(),
                    destination: header.destination.into(),
                    total: header.total_len.into(),
                })
            }
            Some(6) => {
                let header = ipv6::Header::read(&mut reader)?;
                let found = ipv6::headers(packet, until)?;
                Ok(Self {
                    len: found.len,
                    next_at: found.named_at,
                    protocol: found.next_header,
                    fragment: found.is_part,
                    source: header.source.into(),
                    destination: header.destination.into(),
                    total: ipv6::HEADER_LEN.saturating_add(header.payload_len.into()),
                })
            }
            _ => Err(Malformed),
        }
    }
}

/// Makes the first `len` octets of a packet, a header that names what follows it at `next_at`, that of a packet in which `protocol`
/// follows, with the length that it has.
///
/// # Errors
/// [`Malformed`]: they are no header, or the packet is too long for one.
pub(crate) fn precede(packet: &mut [u8], len: usize, next_at: usize, protocol: u8) -> Result<(), Malformed> {
    let total = u16::try_from(packet.len()).map_err(|_| Malformed)?;
    let front = packet.get_mut(..len).ok_or(Malformed)?;
    *front.get_mut(next_at).ok_or(Malformed)? = protocol;
    match front {
        [first, _, l0, l1, _, _, _, _, _, _, c0, c1, ..] if *first >> 4 == 4 => {
            [*l0, *l1] = total.to_be_bytes();
            [*c0, *c1] = [0; 2];
            let sum = Sum::default().bytes(front).finish().to_be_bytes();
            front.get_mut(10..12).ok_or(Malformed)?.copy_from_slice(&sum);
            Ok(())
        }
        _ => ipv6::set_payload_len(packet),
    }
}

/// Computes the checksum of what follows a header anew, where it covers addresses: a NAT changed them on the way, and that what it
/// covers is what was sent, the ICV has shown (RFC 3948 §3.1.2). UDP without a checksum stays without, and so does what has a wrong
/// length.
///
/// It knows TCP, UDP and ICMPv6, and those only where they follow at once: behind destination options in ESP, and in UDP-Lite and
/// DCCP, a checksum stays what it was.
///
/// ```
/// use core::net::IpAddr;
/// use ipsec_core::wire::front::renew_checksum;
/// let ends = [[10, 0, 0, 6], [192, 0, 2, 1]].map(IpAddr::from);
/// let mut udp = [0, 53, 0, 99, 0, 8, 0x12, 0x34]; // ports, length, checksum
/// renew_checksum(17, (ends[0], ends[1]), &mut udp);
/// assert_eq!(udp[6..], [0x33, 0x3f]);
/// ```
pub fn renew_checksum(protocol: u8, (source, destination): (IpAddr, IpAddr), payload: &mut [u8]) {
    let (at, len) = match protocol {
        PROTOCOL_TCP => (16, payload.len()),
        PROTOCOL_ICMPV6 => (2, payload.len()),
        // It says itself how long it is: what follows is no part of it (RFC 768, RFC 4303 §2.7).
        PROTOCOL_UDP => match udp::Header::read(&mut Reader::new(payload)) {
            Ok(header) if header.checksum != 0 => (6, header.length.into()),
            _ => return,
        },
        _ => return,
    };
    let (Some(covered), Ok(length)) = (payload.get_mut(..len), u16::try_from(len)) else { return };
    let Some(field) = covered.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) else { return };
    *field = [0; 2];
    let Some(sum) = pseudo_header(source, destination, length, protocol) else { return };
    let new: [u8; 2] = match sum.bytes(covered).finish() {
        // On the wire 0 means "no checksum" (RFC 768).
        0 if protocol == PROTOCOL_UDP => [0xff; 2],
        new => new.to_be_bytes(),
    };
    if let Some(field) = covered.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *field = new;
    }
}

/// Whether TCP and UDP are as their sender summed them. `true` where that cannot be told: of fragments, behind IPv4 options and the
/// extension headers of the way (which may name another destination), of UDP without a checksum, and of other protocols.
///
/// ```
/// use ipsec_core::wire::front::payload_is_intact;
/// let mut packet = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 6, 192, 0, 2, 1, 0, 53, 0, 99, 0, 8, 0x33, 0x3f];
/// assert!(payload_is_intact(&packet));
/// packet[21] ^= 0x40;
/// assert!(!payload_is_intact(&packet));
/// ```
pub fn payload_is_intact(packet: &[u8]) -> bool {
    let (Ok(front), Ok(content)) = (Front::of(packet, Until::Esp), Content::of(packet)) else { return true };
    let fixed = match content.version {
        Version::V4 => ipv4::HEADER_LEN,
        Version::V6 => ipv6::HEADER_LEN,
    };
    if front.fragment || front.len > fixed {
        return true;
    }
    let covered = match content.protocol {
        PROTOCOL_TCP => Some(content.payload),
        PROTOCOL_UDP => match udp::Header::read(&mut Reader::new(content.payload)) {
            Ok(udp::Header { checksum: 0, .. }) => return true,
            Ok(header) => content.payload.get(..header.length.into()),
            Err(Malformed) => None,
        },
        _ => return true,
    };
    covered.is_some_and(|covered| {
        let length = u16::try_from(covered.len()).unwrap_or(u16::MAX);
        let sum = pseudo_header(content.source, content.destination, length, content.protocol);
        sum.is_some_and(|sum| sum.bytes(covered).is_valid())
    })
}

fn pseudo_header(source: IpAddr, destination: IpAddr, length: u16, protocol: u8) -> Option<Sum> {
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Some(Sum::default().pseudo_v6(source, destination, length, protocol))
        }
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Some(Sum::default().pseudo_v4(source, destination, length, protocol))
        }
        _ => None,
    }
}
