//! What the sender of an inner packet is told when it does not fit (RFC 1191 §4, RFC 8201 §3, RFC 4301 §8.2.1).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::texts;
use crate::mtu::{LEAST_V4, LEAST_V6};
use crate::wire::checksum::Sum;
use crate::wire::cursor::{Malformed, Writer};
use crate::wire::icmp::{HEADER_LEN, Header};
use crate::wire::ip::{Content, HOPS, Marks, PROTOCOL_ICMP, PROTOCOL_ICMPV6, Version};
use crate::wire::{ipv4, ipv6};

/// Internetwork control, as routers mark what they send (RFC 1812 §4.3.2.5).
const PRECEDENCE: u8 = 0xc0;

/// Why nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Untold {
    /// It is no IP packet.
    Malformed,
    /// It is not too long; or it may be cut, as IPv4 allows, which is then to be done
    /// ([`fragment::cut`](crate::fragment::cut)).
    NotDue,
    /// About such a packet no ICMP error is sent: an ICMP error itself, a fragment other than the first, one that is not from a
    /// single host or, in IPv4, not for one (RFC 1122 §3.2.2, RFC 4443 §2.4 e).
    Forbidden,
    /// `from` is of the other family, or there is no room for the message.
    NoRoom,
}

texts! {
    Untold:
    Self::Malformed => "it is no IP packet",
    Self::NotDue => "it fits, or may be cut",
    Self::Forbidden => "about such a packet nobody is told",
    Self::NoRoom => "there is no room for the message, or it would be from another family",
}

/// Writes to the beginning of `room` what tells the sender of `packet` that no more than `mtu` octets fit, and returns it: an IP
/// packet from `from`, with as much of `packet` as goes into 576 octets, or 1,280 of IPv6.
///
/// Of IPv6 at least 1,280 octets have to fit: what is longer outside is cut there ([`fragment::cut`](crate::fragment::cut)).
/// How often such a message is sent is up to the caller; RFC 4443 §2.4 f wants that bounded.
///
/// ```
/// use ipsec_core::flow::{Flow, Ports};
/// use ipsec_core::icmp::{Untold, too_big};
/// let mut packet = [0xee; 1500];
/// packet[..20].copy_from_slice(&[0x45, 0, 0x05, 0xdc, 0, 7, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9]);
/// let mut room = [0; 1280];
/// let message = too_big(&packet, 1438, [10, 1, 0, 1].into(), &mut room).unwrap();
/// let flow = Flow::of(message).unwrap();
/// assert_eq!((message.len(), flow.ports), (576, Ports::Message(0x0304)));
/// assert_eq!(too_big(&packet, 1500, [10, 1, 0, 1].into(), &mut room), Err(Untold::NotDue));
/// ```
///
/// # Errors
/// [`Untold`].
pub fn too_big<'r>(packet: &[u8], mtu: usize, from: IpAddr, room: &'r mut [u8]) -> Result<&'r mut [u8], Untold> {
    let content = Content::of(packet).map_err(|Malformed| Untold::Malformed)?;
    let marks = Marks::of(packet).map_err(|Malformed| Untold::Malformed)?;
    let (mtu, longest, headers) = match content.version {
        Version::V4 => (mtu, LEAST_V4, ipv4::HEADER_LEN),
        Version::V6 => (mtu.max(LEAST_V6), LEAST_V6, ipv6::HEADER_LEN),
    };
    if content.len <= mtu || !marks.dont_fragment {
        return Err(Untold::NotDue);
    }
    if content.later_fragment || is_error(&content) || !is_host(content.source) || !may_be_told_of(content.destination)
    {
        return Err(Untold::Forbidden);
    }
    let quoted = content.len.min(longest.saturating_sub(headers).saturating_sub(HEADER_LEN));
    let quoted = packet.get(..quoted).ok_or(Untold::Malformed)?;
    let message = Message { mtu: mtu.try_into().unwrap_or(u16::MAX), quoted };
    let written = match (from, content.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => message.write_v4(from, to, room),
        (IpAddr::V6(from), IpAddr::V6(to)) => message.write_v6(from, to, room),
        _ => Err(Malformed),
    };
    let len = written.map_err(|Malformed| Untold::NoRoom)?;
    room.get_mut(..len).ok_or(Untold::NoRoom)
}

/// Whether a packet carries an ICMP error, also of a type that nobody knows yet, or a redirect.
fn is_error(content: &Content<'_>) -> bool {
    let kind = content.payload.first();
    match (content.version, content.protocol) {
        (Version::V4, PROTOCOL_ICMP) => kind.is_none_or(|kind| matches!(kind, 3..=5 | 11 | 12)),
        (Version::V6, PROTOCOL_ICMPV6) => kind.is_none_or(|kind| matches!(kind, 0..128 | 137)),
        _ => false,
    }
}

/// Whether an address is that of a single host which can be answered.
fn is_host(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => {
            let [first, ..] = addr.octets();
            !matches!(first, 0 | 127 | 224..)
        }
        IpAddr::V6(addr) => !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast(),
    }
}

/// Of what goes to many, only IPv6 tells the sender, and only this (RFC 4443 §2.4 e.3).
fn may_be_told_of(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(addr) => !addr.is_multicast() && !addr.is_broadcast(),
        IpAddr::V6(_) => true,
    }
}

/// A message about the packet that begins with `quoted`.
struct Message<'p> {
    mtu: u16,
    quoted: &'p [u8],
}

impl Message<'_> {
    /// Returns how many octets these are.
    fn write_v4(&self, source: Ipv4Addr, destination: Ipv4Addr, room: &mut [u8]) -> Result<usize, Malformed> {
        let header = Header { kind: 3, code: 4, checksum: 0, rest: self.mtu.into() };
        let checksum = self.sum(&header, Sum::default())?.finish();
        let len = self.len().saturating_add(ipv4::HEADER_LEN);
        let ip = ipv4::Header {
            tos: PRECEDENCE,
            total_len: len.try_into().map_err(|_| Malformed)?,
            id: 0,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            ttl: HOPS,
            protocol: PROTOCOL_ICMP,
            source,
            destination,
        };
        let mut writer = Writer::new(room);
        ip.write(&mut writer)?;
        Header { checksum, ..header }.write(&mut writer)?;
        writer.put(self.quoted)?;
        Ok(len)
    }

    /// The same for IPv6.
    fn write_v6(&self, source: Ipv6Addr, destination: Ipv6Addr, room: &mut [u8]) -> Result<usize, Malformed> {
        let header = Header { kind: 2, code: 0, checksum: 0, rest: self.mtu.into() };
        let payload_len = self.len().try_into().map_err(|_| Malformed)?;
        let pseudo = Sum::default().pseudo_v6(source, destination, payload_len, PROTOCOL_ICMPV6);
        let checksum = self.sum(&header, pseudo)?.finish();
        let ip = ipv6::Header {
            traffic_class: PRECEDENCE,
            flow_label: 0,
            payload_len,
            next_header: PROTOCOL_ICMPV6,
            hop_limit: HOPS,
            source,
            destination,
        };
        let mut writer = Writer::new(room);
        ip.write(&mut writer)?;
        Header { checksum, ..header }.write(&mut writer)?;
        writer.put(self.quoted)?;
        Ok(self.len().saturating_add(ipv6::HEADER_LEN))
    }

    fn len(&self) -> usize {
        self.quoted.len().saturating_add(HEADER_LEN)
    }

    /// Adds header and quote.
    fn sum(&self, header: &Header, sum: Sum) -> Result<Sum, Malformed> {
        let mut octets = [0; HEADER_LEN];
        header.write(&mut Writer::new(&mut octets))?;
        Ok(sum.bytes(&octets).bytes(self.quoted))
    }
}

#[cfg(test)]
mod tests {
    use super::super::quoted::quoted;
    use super::*;
    use crate::flow::{Flow, Ports};
    use std::vec;
    use std::vec::Vec;

    const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
    const ROUTER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1));

    /// An IPv4 packet that must not be cut.
    fn v4(len: usize, protocol: u8) -> Vec<u8> {
        let [l0, l1] = (len as u16).to_be_bytes();
        let mut packet = vec![0x45, 0, l0, l1, 0, 7, 0x40, 0, 64, protocol, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9];
        packet.resize(len, 0xee);
        packet
    }

    /// From fd01::5 to fd02::9.
    fn v6(len: usize, next: u8) -> Vec<u8> {
        let [l0, l1] = ((len - 40) as u16).to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, l0, l1, next, 64];
        packet.extend(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 5).octets());
        packet.extend(Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 9).octets());
        packet.resize(len, 0xee);
        packet
    }

    fn told(packet: &[u8], mtu: usize) -> Result<Vec<u8>, Untold> {
        let from = if packet[0] >> 4 == 4 { ROUTER } else { ROUTER_V6 };
        too_big(packet, mtu, from, &mut [0xcc; 1500]).map(|message| message.to_vec())
    }

    #[test]
    fn the_sender_hears_how_much_fits_and_of_which_packet() {
        for (packet, mtu, named, longest) in [
            (v4(1500, 17), 1300, 1300, 576),
            (v4(100, 17), 68, 68, 576),
            (v6(1500, 17), 1300, 1300, 1280),
            (v6(1281, 17), 68, 1280, 1280),
        ] {
            let message = told(&packet, mtu).unwrap();
            let flow = Flow::of(&message).unwrap();
            let (ip, kind, from) = if packet[0] >> 4 == 4 { (20, 0x0304, ROUTER) } else { (40, 0x0200, ROUTER_V6) };
            assert_eq!((flow.len, flow.ports, flow.source), (message.len(), Ports::Message(kind), from));
            assert_eq!(message.len(), longest.min(ip + 8 + packet.len()));
            assert_eq!(message[ip + 8..], packet[..message.len() - ip - 8]);
            assert_eq!(message[ip + 4..ip + 8], u32::to_be_bytes(named));
            assert!(ip == 40 || Sum::default().bytes(&message[..20]).is_valid());
            let sum = match (flow.source, flow.destination) {
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    Sum::default().pseudo_v6(source, destination, message.len() as u16 - 40, PROTOCOL_ICMPV6)
                }
                _ => Sum::default(),
            };
            assert!(sum.bytes(&message[ip..]).is_valid());
            assert_eq!(quoted(&message), Some(Flow::of(&packet).unwrap()), "who reads it finds the packet");
        }
    }

    #[test]
    fn nobody_is_told_of_what_fits_or_may_be_cut() {
        assert_eq!(told(&v4(1300, 17), 1300), Err(Untold::NotDue));
        assert_eq!(told(&v6(1280, 17), 1000), Err(Untold::NotDue));
        let mut packet = v4(1400, 17);
        packet[6] = 0;
        assert_eq!(told(&packet, 1300), Err(Untold::NotDue));
        assert_eq!(told(&packet[..99], 50), Err(Untold::Malformed));
    }

    #[test]
    fn no_error_is_sent_about_errors_and_what_is_not_between_two_hosts() {
        let changed = |packet: &[u8], changes: &[(usize, u8)]| {
            let mut packet = packet.to_vec();
            changes.iter().for_each(|(at, octet)| packet[*at] = *octet);
            told(&packet, 1300).map(drop)
        };
        let icmp = v4(1400, 1);
        for kind in 0..=255 {
            let expected = if [3, 4, 5, 11, 12].contains(&kind) { Err(Untold::Forbidden) } else { Ok(()) };
            assert_eq!(changed(&icmp, &[(20, kind)]), expected, "type {kind}");
        }
        let icmp = v6(1400, 58);
        for kind in 0..=255 {
            let expected = if kind < 128 || kind == 137 { Err(Untold::Forbidden) } else { Ok(()) };
            assert_eq!(changed(&icmp, &[(40, kind)]), expected, "ICMPv6 type {kind}");
        }
        let udp = v4(1400, 17);
        assert_eq!(changed(&udp, &[(7, 9)]), Err(Untold::Forbidden), "a later fragment");
        assert_eq!(changed(&udp, &[(6, 0x60)]), Ok(()), "the first one");
        for first in [0, 127, 224, 239, 240, 255] {
            assert_eq!(changed(&udp, &[(12, first)]), Err(Untold::Forbidden), "from {first}.1.0.5");
        }
        for last in [[224, 0, 0, 5], [255; 4]] {
            let changes: Vec<_> = (16..).zip(last).collect();
            assert_eq!(changed(&udp, &changes), Err(Untold::Forbidden), "to {last:?}");
        }
        let udp = v6(1400, 17);
        assert_eq!(changed(&udp, &[(8, 0xff)]), Err(Untold::Forbidden), "from many");
        let unspecified: Vec<_> = (8..24).map(|at| (at, 0)).collect();
        assert_eq!(changed(&udp, &unspecified), Err(Untold::Forbidden));
        assert_eq!(changed(&udp, &[&unspecified[..], &[(23, 1)]].concat()), Err(Untold::Forbidden), "from itself");
        assert_eq!(changed(&udp, &[(24, 0xff)]), Ok(()), "to many, of which a sender of IPv6 is told");
    }

    #[test]
    fn a_message_needs_its_room_and_a_source_of_its_family() {
        for len in 0..576 {
            assert_eq!(too_big(&v4(1400, 17), 1300, ROUTER, &mut vec![0; len]), Err(Untold::NoRoom), "{len} octets");
        }
        assert_eq!(too_big(&v4(1400, 17), 1300, ROUTER_V6, &mut [0; 1500]), Err(Untold::NoRoom));
    }
}
