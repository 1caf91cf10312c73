//! An IP packet: what is IPsec's in it, and where it goes.

use std::net::{IpAddr, SocketAddr};

use ipsec_core::net::{IKE_PORT, NATT_PORT};
use ipsec_core::wire::cursor::{Malformed, Reader};
use ipsec_core::wire::ip::{PROTOCOL_ESP, PROTOCOL_UDP};
use ipsec_core::wire::ipv6::skip_extensions;
use ipsec_core::wire::natt::{self, Datagram};
use ipsec_core::wire::{ipv4, ipv6, udp};

/// The header of the fragments of IPv6 (RFC 8200 §4.5), and those that stand in every fragment.
const FRAGMENT: u8 = 44;
const BEFORE_FRAGMENT: [u8; 3] = [0, 43, 60];

/// An IP packet or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'p> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// Which part; `None` for a whole one.
    pub(super) part: Option<Part>,
    pub(super) payload: &'p [u8],
}

/// Which part of a packet a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) id: u32,
    /// Octets of the payload before it.
    pub(super) offset: usize,
    /// Whether others follow.
    pub(super) more: bool,
}

/// What a whole packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried<'p> {
    /// An IKE message.
    Ike(&'p [u8]),
    /// An ESP packet.
    Esp(&'p [u8]),
    /// What keeps a NAT from forgetting (RFC 3948 §2.3).
    Keepalive,
    /// Nothing of IPsec's.
    Other,
}

impl<'p> Packet<'p> {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`Malformed`]: neither version, or a length that is wrong.
    pub(super) fn read(packet: &'p [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        match packet.first().map(|first| first >> 4) {
            Some(4) => {
                let header = ipv4::Header::read(&mut reader)?;
                let whole = packet.get(..header.total_len.into()).ok_or(Malformed)?;
                let payload = whole.get(packet.len().saturating_sub(reader.rest().len())..).ok_or(Malformed)?;
                let part = Part {
                    id: header.id.into(),
                    offset: 8 * usize::from(header.fragment_offset),
                    more: header.more_fragments,
                };
                Ok(Self {
                    source: header.source.into(),
                    destination: header.destination.into(),
                    protocol: header.protocol,
                    part: Some(part).filter(|part| part.more || part.offset > 0),
                    payload,
                })
            }
            Some(6) => {
                let header = ipv6::Header::read(&mut reader)?;
                let mut reader = Reader::new(reader.take(header.payload_len.into())?);
                let mut next = header.next_header;
                while BEFORE_FRAGMENT.contains(&next) {
                    let [following, len] = reader.array()?;
                    reader.take(8 * usize::from(len) + 6)?;
                    next = following;
                }
                let part = match next {
                    FRAGMENT => {
                        let [following, _] = reader.array()?;
                        let (offset, id) = (reader.u16()?, reader.u32()?);
                        next = following;
                        Some(Part { id, offset: usize::from(offset & !7), more: offset & 1 != 0 })
                    }
                    _ => None,
                };
                Ok(Self {
                    source: header.source.into(),
                    destination: header.destination.into(),
                    protocol: next,
                    part: part.filter(|part| part.more || part.offset > 0),
                    payload: reader.rest(),
                })
            }
            _ => Err(Malformed),
        }
    }

    /// What it carries, and between which ports; ESP without UDP has none. On a port of IKE's nothing else is looked for.
    ///
    /// # Errors
    /// [`Malformed`]: headers behind that of IP are cut off, or the datagram is none that may come to port 4500.
    pub(super) fn carried(&self) -> Result<(SocketAddr, SocketAddr, Carried<'p>), Malformed> {
        let mut reader = Reader::new(self.payload);
        let protocol = match self.source {
            IpAddr::V4(_) => self.protocol,
            IpAddr::V6(_) => skip_extensions(self.protocol, &mut reader)?.protocol,
        };
        let between = |from, to| (SocketAddr::new(self.source, from), SocketAddr::new(self.destination, to));
        let (ports, carried) = match protocol {
            PROTOCOL_ESP => ((0, 0), Carried::Esp(reader.rest())),
            PROTOCOL_UDP => {
                let (from, to) = (Reader::new(reader.rest()).u16()?, udp::destination(reader.rest()).ok_or(Malformed)?);
                // Whether a datagram of others is in order is not ours to say.
                if ![from, to].iter().any(|port| [IKE_PORT, NATT_PORT].contains(port)) {
                    let (from, to) = between(from, to);
                    return Ok((from, to, Carried::Other));
                }
                let datagram = reader.rest();
                let header = udp::Header::read(&mut reader)?;
                let datagram = datagram.get(udp::HEADER_LEN..header.length.into()).ok_or(Malformed)?;
                let carried = match [from, to].contains(&NATT_PORT) {
                    true => match natt::classify(datagram)? {
                        Datagram::Ike(message) => Carried::Ike(message),
                        Datagram::Esp(packet) => Carried::Esp(packet),
                        Datagram::Keepalive => Carried::Keepalive,
                    },
                    false => Carried::Ike(datagram),
                };
                ((from, to), carried)
            }
            _ => ((0, 0), Carried::Other),
        };
        let (from, to) = between(ports.0, ports.1);
        Ok((from, to, carried))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let [f0, f1] = fragment.to_be_bytes();
        let header = [0x45, 0, total[0], total[1], 0, 7, f0, f1, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        [&header[..], payload, b"fills the frame up"].concat()
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[0x60, 0, 0, 0, len[0], len[1], next, 64][..], &[1; 16], &[2; 16], payload].concat()
    }

    fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
        let len = u16::try_from(8 + data.len()).unwrap();
        [from, to, len, 0].iter().flat_map(|field| field.to_be_bytes()).chain(data.iter().copied()).collect()
    }

    #[test]
    fn ike_and_esp_are_found_on_their_ports_in_either_direction() {
        let esp = [1, 2, 3, 4, 0, 0, 0, 1];
        let marked = [&[0; 4][..], b"ike"].concat();
        for (from, to, data, carried) in [
            (500, 500, &b"ike"[..], Carried::Ike(b"ike")),
            (500, 1024, b"ike", Carried::Ike(b"ike")),
            (4500, 1024, &marked, Carried::Ike(b"ike")),
            (1024, 4500, &esp, Carried::Esp(&esp)),
            (4500, 4500, &[0xff], Carried::Keepalive),
            (53, 1024, &[0; 3], Carried::Other),
        ] {
            let datagram = udp(from, to, data);
            for packet in [
                v4(17, 0x4000, &datagram),
                v6(17, &datagram),
                v6(60, &[&[17, 0, 0, 0, 0, 0, 0, 0], &datagram[..]].concat()),
            ] {
                let (source, destination, found) = Packet::read(&packet).unwrap().carried().unwrap();
                assert_eq!((source.port(), destination.port(), found), (from, to, carried));
            }
        }
        let packet = v4(50, 0, &esp);
        let (source, _, found) = Packet::read(&packet).unwrap().carried().unwrap();
        assert_eq!((source.to_string().as_str(), found), ("192.0.2.1:0", Carried::Esp(&esp)));
        assert_eq!(Packet::read(&v4(6, 0, &esp)).unwrap().carried().unwrap().2, Carried::Other);
    }

    #[test]
    fn what_is_cut_off_or_no_datagram_is_malformed() {
        let packet = v4(17, 0, &udp(4500, 4500, &[0; 8]));
        for len in 0..36 {
            assert_eq!(Packet::read(&packet[..len]), Err(Malformed), "{len}");
        }
        for data in [&[][..], &[0], &[0, 0]] {
            assert_eq!(Packet::read(&v4(17, 0, &udp(4500, 4500, data))).unwrap().carried(), Err(Malformed));
        }
        let mut longer = udp(500, 500, b"ike");
        longer[5] += 1;
        assert_eq!(Packet::read(&v4(17, 0, &longer)).unwrap().carried(), Err(Malformed));
        assert_eq!(Packet::read(&[0x50; 40]), Err(Malformed));
    }

    #[test]
    fn fragments_say_which_part_they_are() {
        let part = |packet: &[u8]| Packet::read(packet).unwrap().part;
        assert_eq!(part(&v4(17, 0x2000, &[0; 8])), Some(Part { id: 7, offset: 0, more: true }));
        assert_eq!(part(&v4(17, 0x00b9, &[0; 8])), Some(Part { id: 7, offset: 1480, more: false }));
        assert_eq!(part(&v4(17, 0x4000, &[0; 8])), None);
        let fragment = |field: u16| {
            let [high, low] = field.to_be_bytes();
            v6(0, &[&[44, 0, 0, 0, 0, 0, 0, 0][..], &[17, 0, high, low, 0, 0, 1, 2], &[0; 8]].concat())
        };
        assert_eq!(part(&fragment(0x05c9)), Some(Part { id: 0x102, offset: 0x05c8, more: true }));
        assert_eq!(part(&fragment(0)), None, "a fragment alone is whole (RFC 6946)");
        let packet = fragment(0x05c9);
        let read = Packet::read(&packet).unwrap();
        assert_eq!((read.protocol, read.payload), (17, &[0; 8][..]));
    }
}
