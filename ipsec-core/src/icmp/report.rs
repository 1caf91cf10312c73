//! ICMP errors about packets of an SA, from the network between its ends.

use core::net::{IpAddr, SocketAddr};

use super::error::{Error, Why};
use crate::mtu::{LEAST_V4, LEAST_V6};
use crate::net::{NATT_PORT, Path, Spi};
use crate::wire::checksum::Sum;
use crate::wire::cursor::Reader;
use crate::wire::ip::{Content, PROTOCOL_ESP, PROTOCOL_ICMPV6, PROTOCOL_UDP, Version};
use crate::wire::udp;

/// What an ICMP error says about a packet of ours: ESP, or UDP with ESP, IKE or anything else in it.
///
/// Anybody can write one who knows both addresses (RFC 4301 §6.1.1), so nothing may end by it. Whoever takes a lower MTU from it
/// compares `spi` with its SA and tries the larger one again after a while (RFC 8201 §4).
///
/// ```
/// use ipsec_core::icmp::{Report, Why};
/// use ipsec_core::net::Spi;
/// use ipsec_core::wire::ip::Version;
/// let message = [
///     3, 4, 0, 0, 0, 0, 0x05, 0x14, // ICMP: fragmentation needed, 1,300 octets pass
///     0x45, 0, 0x05, 0xdc, 0, 0, 0x40, 0, 64, 50, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, // a packet of ours with 1,500
///     0x2b, 0xad, 0xca, 0xfe, 0, 0, 0, 1, // its SPI and sequence number
/// ];
/// let report = Report::of_message(Version::V4, &message).unwrap();
/// assert_eq!((report.why, report.mtu), (Why::TooBig(1300), Some(1300)));
/// assert_eq!(report.spi, Spi::new(0x2bad_cafe));
/// assert_eq!(report.path.remote, "192.0.2.2:0".parse().unwrap());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The path of the packet; ports are 0 for protocol 50.
    pub path: Path,
    /// The SA of the packet, as far as it is quoted: routers of IPv4 need not quote more than the ports of UDP.
    pub spi: Option<Spi>,
    /// What became of it.
    pub why: Why,
    /// Of [`Why::TooBig`], how many octets pass: fewer than the packet had, and at least [`LEAST_V4`] or [`LEAST_V6`]. `None`: it
    /// says nothing that can be.
    pub mtu: Option<u16>,
}

impl Report {
    /// Reads a whole packet. `None`: its checksum is wrong, it is no ICMP error, or about no such packet, or not for its sender.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let content = Content::of(packet).ok()?;
        let report = Self::about(content.version, Error::in_packet(&content)?)?;
        (is_intact(&content) && report.path.local.ip() == content.destination).then_some(report)
    }

    /// Reads an ICMP message without the IP header in front of it, for whoever has it from a system that has looked at its
    /// checksum. It may be cut off behind what is wanted.
    pub fn of_message(version: Version, message: &[u8]) -> Option<Self> {
        Self::about(version, Error::of(version, message)?)
    }

    fn about(version: Version, error: Error<'_>) -> Option<Self> {
        let quoted = Content::quoted(error.quoted).ok().filter(|quoted| quoted.version == version)?;
        let ((from, to), spi) = match (quoted.protocol, quoted.later_fragment) {
            (PROTOCOL_ESP, later) => ((0, 0), if later { None } else { spi(quoted.payload) }),
            (PROTOCOL_UDP, false) => in_udp(quoted.payload)?,
            _ => return None,
        };
        let path =
            Path { local: SocketAddr::new(quoted.source, from), remote: SocketAddr::new(quoted.destination, to) };
        let mtu = match error.why {
            Why::TooBig(mtu) => believed(version, mtu, quoted.len),
            _ => None,
        };
        Some(Self { path, spi, why: error.why, mtu })
    }
}

fn spi(esp: &[u8]) -> Option<Spi> {
    Spi::new(Reader::new(esp).u32().ok()?)
}

/// The ports of a datagram, and the SPI where ESP is in it (RFC 3948 §2.1).
fn in_udp(datagram: &[u8]) -> Option<((u16, u16), Option<Spi>)> {
    let mut reader = Reader::new(datagram);
    let ports = (reader.u16().ok()?, reader.u16().ok()?);
    if ports.0 == 0 || ports.1 == 0 {
        return None;
    }
    let content = datagram.get(udp::HEADER_LEN..).filter(|_| ports.0 == NATT_PORT);
    // An IKE message begins with four zero octets there, which are no SPI.
    Some((ports, content.and_then(spi)))
}

/// How many octets pass where a packet of `sent` octets did not, as far as it can be believed.
fn believed(version: Version, mtu: u32, sent: usize) -> Option<u16> {
    let mtu = match version {
        // Below that nobody may go (RFC 8201 §4).
        Version::V6 => Some(mtu).filter(|mtu| *mtu as usize >= LEAST_V6)?,
        Version::V4 => likely(mtu, sent).max(LEAST_V4 as u32),
    };
    u16::try_from(mtu).ok().filter(|mtu| usize::from(*mtu) < sent)
}

/// What a router of IPv4 says, or what is likely where it says nothing that a link can have: the next of the sizes that there
/// are (RFC 1191 §7.1).
fn likely(mtu: u32, sent: usize) -> u32 {
    const LEAST: u32 = 68;
    const PLATEAUS: [u16; 7] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006];
    if mtu >= LEAST {
        return mtu;
    }
    PLATEAUS.into_iter().find(|plateau| usize::from(*plateau) < sent).unwrap_or(0).into()
}

fn is_intact(content: &Content<'_>) -> bool {
    let sum = match (content.source, content.destination, u16::try_from(content.payload.len())) {
        (IpAddr::V6(source), IpAddr::V6(destination), Ok(len)) => {
            Sum::default().pseudo_v6(source, destination, len, PROTOCOL_ICMPV6)
        }
        _ => Sum::default(),
    };
    sum.bytes(content.payload).is_valid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const SPI: [u8; 8] = [0x2b, 0xad, 0xca, 0xfe, 0, 0, 0, 1];

    /// A message about a packet of `sent` octets with this behind its IPv4 header.
    fn v4(kind: u8, code: u8, mtu: u16, sent: u16, protocol: u8, quoted: &[u8]) -> Vec<u8> {
        let [l0, l1] = sent.to_be_bytes();
        let mut message = Vec::from([kind, code, 0, 0, 0, 0]);
        message.extend(mtu.to_be_bytes());
        message.extend([0x45, 0, l0, l1, 0, 0, 0x40, 0, 9, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        message.extend(quoted);
        message
    }

    fn read(message: &[u8]) -> Option<Report> {
        Report::of_message(Version::V4, message)
    }

    #[test]
    fn atk_67_nobody_lowers_the_mtu_below_what_passes_everywhere() {
        let mtu = |mtu, sent| read(&v4(3, 4, mtu, sent, PROTOCOL_ESP, &SPI)).unwrap().mtu;
        for forged in [1, 67, 68, 552, 575, 576] {
            assert_eq!(mtu(forged, 577), Some(576), "{forged}");
            assert_eq!(mtu(forged, 576), None, "what short packets had to pass is no news");
        }
        assert_eq!(
            (mtu(1300, 1500), mtu(1499, 1500), mtu(1500, 1500), mtu(9000, 1500)),
            (Some(1300), Some(1499), None, None)
        );
        // Routers that do not say it.
        assert_eq!(
            (mtu(0, 1500), mtu(0, 1492), mtu(0, 9000), mtu(0, 1006), mtu(0, 65_535)),
            (Some(1492), Some(1006), Some(8166), Some(576), Some(32_000))
        );
        let mtu = |mtu, sent| believed(Version::V6, mtu, sent);
        assert_eq!((mtu(0, 1500), mtu(1279, 1500), mtu(1280, 1500), mtu(1280, 1280)), (None, None, Some(1280), None));
        assert_eq!(mtu(u32::MAX, 1500), None);
    }

    #[test]
    fn the_sa_is_told_as_far_as_the_quote_goes() {
        let path = |report: Report| (report.path.local.to_string(), report.path.remote.to_string());
        use std::string::ToString;
        let esp = v4(3, 1, 0, 200, PROTOCOL_ESP, &SPI);
        let report = read(&esp).unwrap();
        assert_eq!((report.spi, report.why, report.mtu), (Spi::new(0x2bad_cafe), Why::Host, None));
        assert_eq!(path(report), ("192.0.2.1:0".to_string(), "192.0.2.2:0".to_string()));
        assert_eq!(read(&esp[..31]).unwrap().spi, None);
        assert_eq!(read(&esp[..27]), None);

        let header = [0x11, 0x94, 0x23, 0x45, 0, 99, 0, 0];
        let udp = v4(3, 3, 0, 200, PROTOCOL_UDP, &[header, SPI].concat());
        let report = read(&udp).unwrap();
        assert_eq!((report.spi, path(report).1.as_str()), (Spi::new(0x2bad_cafe), "192.0.2.2:9029"));
        assert_eq!(read(&udp[..8 + 20 + 8]).unwrap().spi, None, "eight octets are all that a router owes");
        assert_eq!(read(&udp[..8 + 20 + 3]), None);
        let ike = v4(3, 3, 0, 200, PROTOCOL_UDP, &[&header[..], &[0; 4], &SPI].concat());
        assert_eq!(read(&ike).unwrap().spi, None);
        let ike = v4(3, 3, 0, 200, PROTOCOL_UDP, &[&[0x01, 0xf4, 0x01, 0xf4, 0, 99, 0, 0][..], &SPI].concat());
        assert_eq!(read(&ike).unwrap().spi, None, "an SPI of IKE");
        assert_eq!(read(&v4(3, 3, 0, 200, 6, &SPI)), None, "of TCP we send nothing");
        assert_eq!(read(&v4(3, 3, 0, 200, PROTOCOL_UDP, &[0x11, 0x94, 0, 0, 0, 99, 0, 0])), None, "nor to no port");
        assert_eq!(read(&v4(0, 0, 0, 200, PROTOCOL_ESP, &SPI)), None, "an echo reply");
    }

    #[test]
    fn of_a_later_fragment_the_path_of_esp_is_known_and_no_more() {
        let mut message = v4(3, 4, 1300, 1500, PROTOCOL_ESP, &SPI);
        message[8 + 7] = 9;
        let report = read(&message).unwrap();
        assert_eq!((report.spi, report.mtu), (None, Some(1300)));
        message[8 + 9] = PROTOCOL_UDP;
        assert_eq!(read(&message), None);
    }

    #[test]
    fn a_packet_is_believed_when_its_checksum_is_right_and_it_is_for_us() {
        // IPv4: from a router to 192.0.2.1.
        let mut message = v4(3, 4, 1300, 1500, PROTOCOL_ESP, &SPI);
        let checksum = Sum::default().bytes(&message).finish().to_be_bytes();
        message[2..4].copy_from_slice(&checksum);
        let mut packet =
            Vec::from([0x45, 0, 0, 20 + message.len() as u8, 0, 0, 0, 0, 64, 1, 0, 0, 198, 51, 100, 1, 192, 0, 2, 1]);
        packet.extend(&message);
        assert_eq!(Report::of(&packet), read(&message));
        assert!(Report::of(&packet).is_some());
        for at in 20..packet.len() {
            let mut wrong = packet.clone();
            wrong[at] ^= 0x04;
            assert_eq!(Report::of(&wrong), None, "octet {at}");
        }
        packet[19] = 7;
        assert_eq!(Report::of(&packet), None, "for somebody else");

        // IPv6: the addresses are summed, too.
        let addr = |last| [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let mut message = Vec::from([2, 0, 0, 0, 0, 0, 0x05, 0x14, 0x60, 0, 0, 0, 0x05, 0xb4, PROTOCOL_ESP, 9]);
        message.extend([addr(1), addr(2)].concat());
        message.extend(SPI);
        let mut packet = Vec::from([0x60, 0, 0, 0, 0, message.len() as u8, PROTOCOL_ICMPV6, 64]);
        packet.extend([addr(9), addr(1)].concat());
        let sum = Sum::default().pseudo_v6(addr(9).into(), addr(1).into(), message.len() as u16, PROTOCOL_ICMPV6);
        let checksum = sum.bytes(&message).finish().to_be_bytes();
        message[2..4].copy_from_slice(&checksum);
        packet.extend(&message);
        let report = Report::of(&packet).unwrap();
        assert_eq!((report.spi, report.mtu), (Spi::new(0x2bad_cafe), Some(1300)));
        packet[23] = 8; // another router
        assert_eq!(Report::of(&packet), None);
    }
}
