//! What stays in front of ESP in transport mode (RFC 4303 §3.1.1), and the fields in it that change.

use super::checksum::Sum;
use super::cursor::{Malformed, Reader};
use super::{ipv4, ipv6};
use core::net::IpAddr;

/// The header of a packet, with its options or with the extension headers in front of ESP: hop-by-hop options, routing, fragment,
/// and destination options that a routing header follows. Destination options behind those belong to what is protected.
///
/// ```
/// use ipsec_core::wire::front::Front;
/// let packet = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 99, 0, 8, 0, 0];
/// let front = Front::of(&packet).unwrap();
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

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Where the next header stands in the fixed one.
const NEXT_V4: usize = 9;
const NEXT_V6: usize = 6;

impl Front {
    /// Reads the front of a packet.
    ///
    /// # Errors
    /// [`Malformed`]: neither version, a wrong length, or extension headers beyond the packet.
    pub fn of(packet: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let behind = |reader: &Reader<'_>| packet.len().saturating_sub(reader.rest().len());
        match packet.first().map(|first| first >> 4) {
            Some(4) => {
                let header = ipv4::Header::read(&mut reader)?;
                Ok(Self {
                    len: behind(&reader),
                    next_at: NEXT_V4,
                    protocol: header.protocol,
                    fragment: header.more_fragments || header.fragment_offset != 0,
                    source: header.source.into(),
                    destination: header.destination.into(),
                    total: header.total_len.into(),
                })
            }
            Some(6) => {
                let header = ipv6::Header::read(&mut reader)?;
                let mut front = Self {
                    len: ipv6::HEADER_LEN,
                    next_at: NEXT_V6,
                    protocol: header.next_header,
                    fragment: false,
                    source: header.source.into(),
                    destination: header.destination.into(),
                    total: ipv6::HEADER_LEN.saturating_add(header.payload_len.into()),
                };
                let mut next = front.protocol;
                for _ in 0..=ipv6::MAX_EXTENSIONS {
                    // Each begins with what follows on it. Destination options are looked past: only a routing header behind them
                    // makes them a part of the front.
                    let (at, past) = (behind(&reader), next == DESTINATION);
                    match next {
                        HOP_BY_HOP | ROUTING | DESTINATION => {
                            let [following, len] = reader.array()?;
                            reader.take(usize::from(len).wrapping_mul(8).wrapping_add(6))?;
                            next = following;
                        }
                        FRAGMENT => {
                            let [following, _, o0, o1, ..] = reader.array::<8>()?;
                            front.fragment |= u16::from_be_bytes([o0, o1]) & !0x0006 != 0;
                            next = following;
                        }
                        _ => return Ok(front),
                    }
                    if !past {
                        (front.len, front.next_at, front.protocol) = (behind(&reader), at, next);
                    }
                }
                Err(Malformed)
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

const ICMPV6: u8 = 58;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Computes the checksum of what follows a header anew, where it covers addresses: a NAT changed them on the way, and that what it
/// covers is what was sent, the ICV has shown (RFC 3948 §3.1.2). UDP without a checksum stays without.
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
    let at = match protocol {
        TCP => 16,
        UDP => 6,
        ICMPV6 => 2,
        _ => return,
    };
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let Some(field) = payload.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) else { return };
    if protocol == UDP && *field == [0; 2] {
        return;
    }
    *field = [0; 2];
    let sum = match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Sum::default().pseudo_v6(source, destination, length, protocol)
        }
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Sum::default().pseudo_v4(source, destination, length, protocol)
        }
        _ => return,
    };
    let new = match sum.bytes(payload).finish() {
        // On the wire 0 means "no checksum" (RFC 768).
        0 if protocol == UDP => 0xffff,
        new => new,
    };
    if let Some(field) = payload.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *field = new.to_be_bytes();
    }
}
