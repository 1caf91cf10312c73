//! The IPv4 header (RFC 791).

use super::checksum::Sum;
use super::cursor::{Malformed, Reader, Writer};
use core::net::Ipv4Addr;

/// Octets of a header without options.
pub const HEADER_LEN: usize = 20;
/// Which octet of it names what follows.
pub(crate) const NEXT_HEADER: usize = 9;
/// Octets of the longest packet.
pub const MAX_LEN: usize = 65_535;

/// An IPv4 header. Options are skipped on reading and never written.
///
/// ```
/// use ipsec_core::wire::cursor::{Reader, Writer};
/// use ipsec_core::wire::ipv4::{HEADER_LEN, Header};
/// let header = Header {
///     tos: 0, total_len: 24, id: 1, dont_fragment: true, more_fragments: false, fragment_offset: 0, ttl: 64,
///     protocol: 50, source: [192, 0, 2, 1].into(), destination: [192, 0, 2, 2].into(),
/// };
/// let mut packet = [0xee; HEADER_LEN + 4];
/// header.write(&mut Writer::new(&mut packet)).unwrap();
/// let mut reader = Reader::new(&packet);
/// assert_eq!(Header::read(&mut reader), Ok(header));
/// assert_eq!(reader.rest(), [0xee; 4]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub tos: u8,
    /// Octets of header and payload.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Don't Fragment.
    pub dont_fragment: bool,
    /// More Fragments.
    pub more_fragments: bool,
    /// Offset of this fragment, in units of 8 octets.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Header {
    /// Reads a header; the reader then stands at the payload, which may be followed by octets beyond `total_len`. The
    /// header checksum is the business of whoever received the packet and is not looked at.
    ///
    /// # Errors
    /// [`Malformed`]: another version, a header or total length below the minimum, or beyond the octets there are.
    #[inline]
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let available = reader.rest().len();
        let header = Self::read_quoted(reader)?;
        if usize::from(header.total_len) > available { Err(Malformed) } else { Ok(header) }
    }

    /// The same for a packet of which only the beginning is there, as ICMP quotes it (RFC 792).
    ///
    /// # Errors
    /// [`Malformed`]: another version, a header or total length below the minimum, or a header beyond the octets there are.
    #[inline]
    pub fn read_quoted(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let fixed: [u8; HEADER_LEN] = reader.array()?;
        let [version_ihl, tos, l0, l1, i0, i1, f0, f1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = fixed;
        let header_len = usize::from(version_ihl & 0x0f).wrapping_mul(4);
        let total_len = u16::from_be_bytes([l0, l1]);
        if version_ihl >> 4 != 4 || usize::from(total_len) < header_len {
            return Err(Malformed);
        }
        reader.take(header_len.checked_sub(HEADER_LEN).ok_or(Malformed)?)?;
        let fragment = u16::from_be_bytes([f0, f1]);
        Ok(Self {
            tos,
            total_len,
            id: u16::from_be_bytes([i0, i1]),
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            fragment_offset: fragment & 0x1fff,
            ttl,
            protocol,
            source: Ipv4Addr::new(s0, s1, s2, s3),
            destination: Ipv4Addr::new(d0, d1, d2, d3),
        })
    }

    /// Writes [`HEADER_LEN`] octets with the checksum.
    ///
    /// # Errors
    /// [`Malformed`] when they do not fit.
    #[inline]
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        let [l0, l1] = self.total_len.to_be_bytes();
        let [i0, i1] = self.id.to_be_bytes();
        let flags = (u16::from(self.dont_fragment) << 14) | (u16::from(self.more_fragments) << 13);
        let [f0, f1] = (flags | (self.fragment_offset & 0x1fff)).to_be_bytes();
        let [s0, s1, s2, s3] = self.source.octets();
        let [d0, d1, d2, d3] = self.destination.octets();
        let before = [0x45, self.tos, l0, l1, i0, i1, f0, f1, self.ttl, self.protocol];
        let after = [s0, s1, s2, s3, d0, d1, d2, d3];
        let checksum = Sum::default().bytes(&before).bytes(&after).finish();
        writer.put(&before)?;
        writer.put(&checksum.to_be_bytes())?;
        writer.put(&after)
    }
}

/// Makes a packet this fragment, or no fragment: its place in the header, with the length and the checksum that follow from it.
/// Don't Fragment, options and all else stay.
///
/// ```
/// use ipsec_core::wire::checksum::Sum;
/// use ipsec_core::wire::ipv4::set_fragment;
/// let mut packet = [0x45, 0, 0, 99, 0, 7, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0xee, 0xee];
/// set_fragment(&mut packet, 3, true).unwrap();
/// assert_eq!((packet[3], &packet[6..8]), (22, &[0x20, 3][..]));
/// assert!(Sum::default().bytes(&packet[..20]).is_valid());
/// ```
///
/// # Errors
/// [`Malformed`]: shorter than its header, or longer than [`MAX_LEN`]. The header is unspecified then.
pub fn set_fragment(packet: &mut [u8], offset: u16, more: bool) -> Result<(), Malformed> {
    let total_len = u16::try_from(packet.len()).map_err(|_| Malformed)?;
    let fixed: &mut [u8; HEADER_LEN] = packet.first_chunk_mut().ok_or(Malformed)?;
    let [version_ihl, _, l0, l1, _, _, f0, f1, _, _, c0, c1, ..] = fixed;
    let header_len = usize::from(*version_ihl & 0x0f).wrapping_mul(4);
    let [p0, p1] = (u16::from(more) << 13 | offset & 0x1fff).to_be_bytes();
    [*l0, *l1] = total_len.to_be_bytes();
    [*f0, *f1] = [*f0 & 0xc0 | p0, p1];
    [*c0, *c1] = [0; 2];
    let checksum = Sum::default().bytes(packet.get(..header_len).ok_or(Malformed)?).finish();
    let [.., c0, c1, _, _, _, _, _, _, _, _] = packet.first_chunk_mut::<HEADER_LEN>().ok_or(Malformed)?;
    [*c0, *c1] = checksum.to_be_bytes();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: [u8; 24] =
        [0x45, 0xb9, 0x00, 0x18, 0x12, 0x34, 0x40, 0x00, 0x40, 0x32, 0x00, 0x00, 10, 1, 2, 3, 192, 0, 2, 9, 1, 2, 3, 4];

    fn header() -> Header {
        Header {
            tos: 0xb9,
            total_len: 24,
            id: 0x1234,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 64,
            protocol: 50,
            source: Ipv4Addr::new(10, 1, 2, 3),
            destination: Ipv4Addr::new(192, 0, 2, 9),
        }
    }

    #[test]
    fn reads_a_header_and_stands_at_the_payload() {
        let mut reader = Reader::new(&PACKET);
        assert_eq!(Header::read(&mut reader), Ok(header()));
        assert_eq!(reader.rest(), [1, 2, 3, 4]);
    }

    #[test]
    fn writes_what_it_reads_with_a_valid_checksum() {
        for fragment_offset in [0, 1, 0x1fff] {
            let header = Header { fragment_offset, more_fragments: true, ..header() };
            let mut bytes = [0; 24];
            header.write(&mut Writer::new(&mut bytes)).unwrap();
            assert!(Sum::default().bytes(&bytes[..20]).is_valid());
            assert_eq!(Header::read(&mut Reader::new(&bytes)), Ok(header));
        }
    }

    #[test]
    fn every_truncation_and_every_bad_length_is_malformed() {
        for len in 0..PACKET.len() {
            assert_eq!(Header::read(&mut Reader::new(&PACKET[..len])), Err(Malformed), "{len} octets");
            let quoted = Header::read_quoted(&mut Reader::new(&PACKET[..len]));
            assert_eq!(quoted, if len < HEADER_LEN { Err(Malformed) } else { Ok(header()) }, "{len} octets quoted");
        }
        for ihl in (0..=15).filter(|ihl| *ihl != 5 && *ihl != 6) {
            let mut packet = PACKET;
            packet[0] = 0x40 | ihl;
            assert_eq!(Header::read(&mut Reader::new(&packet)), Err(Malformed), "IHL {ihl}");
        }
        for version in (0..=15).filter(|version| *version != 4) {
            let mut packet = PACKET;
            packet[0] = version << 4 | 5;
            assert_eq!(Header::read(&mut Reader::new(&packet)), Err(Malformed), "version {version}");
        }
        let mut packet = PACKET;
        packet[3] = 19;
        assert_eq!(Header::read(&mut Reader::new(&packet)), Err(Malformed));
    }
}
