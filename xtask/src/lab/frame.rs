//! What an Ethernet frame on the wire between two gateways is, without any key.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What may be seen between two gateways, and `Clear` for what may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// ARP, neighbour discovery, multicast listener reports.
    Neighbour,
    /// IKE on UDP 500, or on 4500 behind four zero octets.
    Ike,
    /// A one-octet NAT keepalive on UDP 4500 (RFC 3948 §2.3).
    Keepalive,
    /// ESP in UDP 4500 (RFC 3948).
    EspInUdp,
    /// ESP as protocol 50.
    Esp,
    /// An ICMP error about one of the four above.
    IcmpError,
    /// A later fragment of a packet; its first one has been classified.
    Fragment,
    /// Anything else: what a tunnel must not let out.
    Clear,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Neighbour => "neighbour discovery",
            Self::Ike => "IKE",
            Self::Keepalive => "NAT keepalive",
            Self::EspInUdp => "ESP in UDP 4500",
            Self::Esp => "ESP (protocol 50)",
            Self::IcmpError => "ICMP error",
            Self::Fragment => "fragment",
            Self::Clear => "CLEAR",
        })
    }
}

/// An IP packet as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// Source address.
    pub(crate) from: IpAddr,
    /// Destination address.
    pub(crate) to: IpAddr,
    /// IP protocol of the payload.
    pub(crate) protocol: u8,
    /// Whether it is a fragment other than the first.
    pub(crate) later_fragment: bool,
    /// What follows the IP header.
    pub(crate) payload: &'a [u8],
}

const ICMP: u8 = 1;
const UDP: u8 = 17;
const ESP: u8 = 50;
const ICMPV6: u8 = 58;
const ETHERNET: usize = 14;

impl<'a> Packet<'a> {
    /// The IP packet in an Ethernet frame; `None` for other frames.
    pub(crate) fn in_frame(frame: &'a [u8]) -> Option<Self> {
        match u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]) {
            0x0800 | 0x86dd => Self::parse(frame.get(ETHERNET..)?),
            _ => None,
        }
    }

    /// The packet in `bytes`, which begin with an IP header.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => {
                let header = usize::from(bytes.first()? & 0xf) * 4;
                let address = |at: usize| -> Option<IpAddr> {
                    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?).into())
                };
                let offset = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x1fff;
                Some(Self {
                    from: address(12)?,
                    to: address(16)?,
                    protocol: *bytes.get(9)?,
                    later_fragment: offset != 0,
                    payload: bytes.get(header..)?,
                })
            }
            6 => {
                let address = |at: usize| -> Option<IpAddr> {
                    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?).into())
                };
                let (mut protocol, mut at, mut later_fragment) = (*bytes.get(6)?, 40, false);
                // Hop-by-hop options (0) precede multicast listener reports; 44 is the fragment header.
                while matches!(protocol, 0 | 44) {
                    let header = bytes.get(at..at + 8)?;
                    if protocol == 44 {
                        later_fragment = u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0;
                    }
                    at += if protocol == 44 { 8 } else { 8 + usize::from(header[1]) * 8 };
                    protocol = header[0];
                }
                Some(Self { from: address(8)?, to: address(24)?, protocol, later_fragment, payload: bytes.get(at..)? })
            }
            _ => None,
        }
    }

    /// Source port, destination port and payload, when it is UDP.
    pub(crate) fn udp(&self) -> Option<(u16, u16, &'a [u8])> {
        let port = |at: usize| Some(u16::from_be_bytes([*self.payload.get(at)?, *self.payload.get(at + 1)?]));
        if self.protocol != UDP || self.later_fragment {
            return None;
        }
        Some((port(0)?, port(2)?, self.payload.get(8..usize::from(port(4)?)).or(self.payload.get(8..))?))
    }

    /// The IKE message inside, without the four zero octets of port 4500.
    pub(crate) fn ike(&self) -> Option<&'a [u8]> {
        match self.udp()? {
            (500, _, message) | (_, 500, message) => Some(message),
            (4500, _, datagram) | (_, 4500, datagram) => datagram.strip_prefix(&[0, 0, 0, 0]),
            _ => None,
        }
    }

    /// The SPI, when it is ESP, in UDP or not.
    pub(crate) fn esp_spi(&self) -> Option<u32> {
        let packet = match self.kind() {
            Kind::Esp => self.payload,
            Kind::EspInUdp => self.udp()?.2,
            _ => return None,
        };
        packet.first_chunk().map(|spi| u32::from_be_bytes(*spi))
    }

    fn kind(&self) -> Kind {
        if self.later_fragment && matches!(self.protocol, UDP | ESP) {
            return Kind::Fragment;
        }
        match self.protocol {
            ESP => Kind::Esp,
            UDP => match self.udp() {
                _ if self.ike().is_some() => Kind::Ike,
                Some((4500, _, [0xff]) | (_, 4500, [0xff])) => Kind::Keepalive,
                // A quoted packet may be cut off, so four octets of SPI are enough.
                Some((4500, _, datagram) | (_, 4500, datagram)) if datagram.len() >= 4 => Kind::EspInUdp,
                _ => Kind::Clear,
            },
            ICMP => match self.payload.first() {
                Some(3 | 11 | 12) => self.quoted(),
                _ => Kind::Clear,
            },
            ICMPV6 => match self.payload.first() {
                Some(1..=4) => self.quoted(),
                Some(130..=137 | 143) => Kind::Neighbour,
                _ => Kind::Clear,
            },
            _ => Kind::Clear,
        }
    }

    fn quoted(&self) -> Kind {
        match self.payload.get(8..).and_then(Packet::parse).map(|packet| packet.kind()) {
            Some(Kind::Ike | Kind::Keepalive | Kind::EspInUdp | Kind::Esp) => Kind::IcmpError,
            _ => Kind::Clear,
        }
    }
}

/// Classifies an Ethernet frame.
pub(crate) fn classify(frame: &[u8]) -> Kind {
    match Packet::in_frame(frame) {
        Some(packet) => packet.kind(),
        None if frame.get(12..14) == Some(&[0x08, 0x06]) => Kind::Neighbour,
        None => Kind::Clear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet + IPv4 + `payload`.
    fn frame(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 0, 0, 0]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        frame.extend(payload);
        frame
    }

    fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::new();
        datagram.extend(from.to_be_bytes());
        datagram.extend(to.to_be_bytes());
        datagram.extend((8 + u16::try_from(payload.len()).unwrap()).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(payload);
        datagram
    }

    #[test]
    fn ipsec_in_all_its_forms_is_known() {
        assert_eq!(classify(&frame(UDP, 0, &udp(500, 500, &[1; 28]))), Kind::Ike);
        assert_eq!(classify(&frame(UDP, 0, &udp(4500, 33_000, &[0, 0, 0, 0, 1]))), Kind::Ike);
        assert_eq!(classify(&frame(UDP, 0, &udp(4500, 4500, &[0xff]))), Kind::Keepalive);
        assert_eq!(classify(&frame(UDP, 0, &udp(4500, 4500, &[0, 0, 2, 0, 9, 9]))), Kind::EspInUdp);
        assert_eq!(classify(&frame(ESP, 0, &[0; 40])), Kind::Esp);
        assert_eq!(classify(&frame(UDP, 185, &[7; 40])), Kind::Fragment);
    }

    #[test]
    fn clear_traffic_is_noticed_also_inside_an_icmp_error() {
        let ping = [8, 0, 0, 0, 0, 1, 0, 1];
        assert_eq!(classify(&frame(ICMP, 0, &ping)), Kind::Clear);
        assert_eq!(classify(&frame(UDP, 0, &udp(5001, 5001, &[1]))), Kind::Clear);
        assert_eq!(classify(&frame(6, 0, &[0; 20])), Kind::Clear);
        assert_eq!(classify(&frame(4, 0, &[0x45; 20])), Kind::Clear);
        let error_about = |inner: &[u8]| {
            let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
            error.extend(&inner[ETHERNET..]);
            frame(ICMP, 0, &error)
        };
        assert_eq!(classify(&error_about(&frame(ICMP, 0, &ping))), Kind::Clear);
        assert_eq!(classify(&error_about(&frame(ESP, 0, &[0; 8]))), Kind::IcmpError);
    }

    #[test]
    fn short_frames_are_clear_and_do_not_panic() {
        let whole = frame(UDP, 0, &udp(4500, 4500, &[0, 0, 2, 0, 9, 9]));
        for length in 0..whole.len() - 6 {
            assert_eq!(classify(&whole[..length]), Kind::Clear, "{length} octets");
        }
    }
}
