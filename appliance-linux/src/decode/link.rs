//! From a frame to the IP packet in it, whatever the interface puts in front.

use ipsec_core::wire::cursor::{Malformed, Reader};
use pcap_file::DataLink;
use traffic_core::frame::{Content, Frame};
use traffic_core::wire::ethernet::EtherType;
use traffic_core::wire::vlan::Tag;

/// Why nobody knows what a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// A header below IP is cut off or is none.
    Malformed,
    /// Frames of this kind are not looked into.
    Link(u32),
}

impl From<Malformed> for Unread {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// Of the number of a link type in a file; those above say how long the check sequence behind a frame is.
const LINK: u32 = 0x03ff_ffff;

/// The IP packet in a frame, whole or not; `None`: it carries something else.
///
/// # Errors
/// [`Unread`].
pub(super) fn ip(link: DataLink, frame: &[u8]) -> Result<Option<&[u8]>, Unread> {
    let mut reader = Reader::new(frame);
    match u32::from(link) & LINK {
        // Ethernet.
        1 => Ok(match Frame::of(frame)?.content {
            Content::Ip { packet, .. } | Content::BrokenIp(packet) => Some(packet),
            Content::Ppp { .. } | Content::Llc(_) | Content::Other { .. } => None,
        }),
        // The BSDs' loopback: an address family, of which each of them has another one for IPv6.
        0 | 108 => {
            reader.take(4)?;
            Ok(version(reader.rest()))
        }
        // IP and nothing before it.
        12 | 14 | 101 | 228 | 229 => Ok(version(frame)),
        // Linux cooked, the old and the new one.
        113 => {
            reader.take(14)?;
            cooked(EtherType(reader.u16()?), reader)
        }
        276 => {
            let kind = EtherType(reader.u16()?);
            reader.take(18)?;
            cooked(kind, reader)
        }
        other => Err(Unread::Link(other)),
    }
}

fn cooked<'f>(mut kind: EtherType, mut reader: Reader<'f>) -> Result<Option<&'f [u8]>, Unread> {
    // Each takes four octets, so there is an end.
    while kind.is_tag() {
        (_, kind) = Tag::read(kind, &mut reader)?;
    }
    Ok(Some(reader.rest()).filter(|_| matches!(kind, EtherType::IPV4 | EtherType::IPV6)))
}

/// What says itself that it is IP.
fn version(packet: &[u8]) -> Option<&[u8]> {
    packet.first().is_some_and(|first| matches!(first >> 4, 4 | 6)).then_some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 50, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];

    fn behind(link: u32, header: &[u8]) -> Result<Option<Vec<u8>>, Unread> {
        let frame = [header, &PACKET].concat();
        ip(DataLink::from(link), &frame).map(|packet| packet.map(<[u8]>::to_vec))
    }

    #[test]
    fn the_packet_is_found_behind_each_header_and_nowhere_else() {
        let ethernet = |behind: &[u8]| [&[0; 12], behind].concat();
        let sll = |behind: &[u8]| [&[0; 14], behind].concat();
        for (link, header) in [
            (1, ethernet(&[8, 0])),
            (0x4400_0001, ethernet(&[8, 0])),
            (1, ethernet(&[0x81, 0, 0, 7, 8, 0])),
            (1, ethernet(&[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 8, 0])),
            (0, vec![2, 0, 0, 0]),
            (108, vec![0, 0, 0, 2]),
            (101, vec![]),
            (12, vec![]),
            (228, vec![]),
            (113, sll(&[8, 0])),
            (113, sll(&[0x81, 0, 0, 7, 8, 0])),
            (276, [&[8, 0][..], &[0; 18]].concat()),
        ] {
            assert_eq!(behind(link, &header), Ok(Some(PACKET.to_vec())), "{link} {header:?}");
            for len in 0..header.len() {
                assert_eq!(ip(DataLink::from(link), &header[..len]), Err(Unread::Malformed), "{link} {len}");
            }
        }
        for (link, header) in [(1, ethernet(&[8, 6])), (113, sll(&[8, 6])), (0, vec![0; 5])] {
            assert_eq!(behind(link, &header), Ok(None), "{link} {header:?}");
        }
        assert_eq!(behind(147, &[]), Err(Unread::Link(147)));
    }
}
