//! The IPv6 header and the walk along its extension headers (RFC 8200).

use super::cursor::{Malformed, Reader, Writer};
use core::net::Ipv6Addr;

/// Octets of the fixed header.
pub const HEADER_LEN: usize = 40;

/// Which octet of it names what follows.
pub(crate) const NEXT_HEADER: usize = 6;

/// Extension headers looked at before giving up; more are not seen outside attacks.
pub(crate) const MAX_EXTENSIONS: usize = 8;

/// The fixed IPv6 header.
///
/// ```
/// use ipsec_core::wire::cursor::{Reader, Writer};
/// use ipsec_core::wire::ipv6::{HEADER_LEN, Header};
/// let header = Header {
///     traffic_class: 0, flow_label: 7, payload_len: 4, next_header: 50, hop_limit: 64,
///     source: "2001:db8::1".parse().unwrap(), destination: "2001:db8::2".parse().unwrap(),
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
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Octets behind the fixed header.
    pub payload_len: u16,
    /// First extension header or protocol.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Header {
    /// Reads the fixed header; the reader then stands behind it.
    ///
    /// # Errors
    /// [`Malformed`]: another version, or fewer octets than the payload length says.
    #[inline]
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let header = Self::read_quoted(reader)?;
        if usize::from(header.payload_len) > reader.rest().len() { Err(Malformed) } else { Ok(header) }
    }

    /// The same for a packet of which only the beginning is there, as ICMPv6 quotes it (RFC 4443 §2.4).
    ///
    /// # Errors
    /// [`Malformed`]: another version, or fewer octets than the header has.
    #[inline]
    pub fn read_quoted(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let [v, c, f0, f1] = reader.array()?;
        let payload_len = reader.u16()?;
        let [next_header, hop_limit] = reader.array()?;
        let source = Ipv6Addr::from_octets(reader.array()?);
        let destination = Ipv6Addr::from_octets(reader.array()?);
        if v >> 4 != 6 {
            return Err(Malformed);
        }
        Ok(Self {
            traffic_class: (v << 4) | (c >> 4),
            flow_label: u32::from_be_bytes([0, c & 0x0f, f0, f1]),
            payload_len,
            next_header,
            hop_limit,
            source,
            destination,
        })
    }

    /// Writes [`HEADER_LEN`] octets.
    ///
    /// # Errors
    /// [`Malformed`] when they do not fit.
    #[inline]
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        let [_, f, f0, f1] = (self.flow_label & 0x000f_ffff).to_be_bytes();
        writer.put(&[0x60 | (self.traffic_class >> 4), (self.traffic_class << 4) | f, f0, f1])?;
        writer.put(&self.payload_len.to_be_bytes())?;
        writer.put(&[self.next_header, self.hop_limit])?;
        writer.put(&self.source.octets())?;
        writer.put(&self.destination.octets())
    }
}

/// What stands behind the extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    /// Protocol of the payload.
    pub protocol: u8,
    /// Whether this is a fragment other than the first: the reader stands in the middle of the payload.
    pub later_fragment: bool,
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;
/// The fragment header.
pub const FRAGMENT: u8 = 44;

/// Whether this is no protocol but a header that another one follows.
///
/// ```
/// use ipsec_core::wire::ipv6::is_extension;
/// assert!(is_extension(44)); // a fragment header
/// assert!(!is_extension(17)); // UDP
/// ```
#[inline]
pub const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// Walks from `next_header` to the protocol of the payload; the reader then stands at the payload.
///
/// ```
/// use ipsec_core::wire::cursor::Reader;
/// use ipsec_core::wire::ipv6::{Upper, skip_extensions};
/// let behind_the_header = [17, 0, 0, 0, 0, 0, 0, 0, 0xee]; // destination options, then UDP
/// let mut reader = Reader::new(&behind_the_header);
/// assert_eq!(skip_extensions(60, &mut reader), Ok(Upper { protocol: 17, later_fragment: false }));
/// assert_eq!(reader.rest(), [0xee]);
/// ```
///
/// # Errors
/// [`Malformed`]: an extension header beyond the packet, or more than eight of them.
#[inline]
pub fn skip_extensions(next_header: u8, reader: &mut Reader<'_>) -> Result<Upper, Malformed> {
    let mut protocol = next_header;
    for _ in 0..=MAX_EXTENSIONS {
        let Some(extension) = Extension::read(protocol, reader)? else {
            return Ok(Upper { protocol, later_fragment: false });
        };
        protocol = extension.next_header;
        if extension.is_later() {
            return Ok(Upper { protocol, later_fragment: true });
        }
    }
    Err(Malformed)
}

/// An extension header.
struct Extension {
    next_header: u8,
    /// Its octets.
    len: usize,
    /// Of a fragment header, its place: the offset, and whether more follow.
    place: u16,
}

impl Extension {
    /// Reads the header that this number says. `None`: it is none of these.
    #[inline]
    fn read(kind: u8, reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match kind {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let [next_header, len] = reader.array()?;
                let rest = usize::from(len).wrapping_mul(8).wrapping_add(6);
                reader.take(rest)?;
                Ok(Some(Self { next_header, len: rest.wrapping_add(2), place: 0 }))
            }
            FRAGMENT => {
                let [next_header, _, p0, p1, ..] = reader.array::<8>()?;
                Ok(Some(Self { next_header, len: 8, place: u16::from_be_bytes([p0, p1]) }))
            }
            _ => Ok(None),
        }
    }

    /// Whether what follows stands in the middle of a packet.
    #[inline]
    const fn is_later(&self) -> bool {
        self.place >> 3 != 0
    }
}

/// Makes the payload length what the packet is long.
///
/// ```
/// use ipsec_core::wire::ipv6::set_payload_len;
/// let mut packet = [0; 40 + 300];
/// set_payload_len(&mut packet).unwrap();
/// assert_eq!(packet[4..6], [1, 44]);
/// ```
///
/// # Errors
/// [`Malformed`]: shorter than its header, or longer than the field can say.
pub fn set_payload_len(packet: &mut [u8]) -> Result<(), Malformed> {
    let len = packet.len().checked_sub(HEADER_LEN).and_then(|len| u16::try_from(len).ok()).ok_or(Malformed)?;
    let [_, _, _, _, l0, l1, ..] = packet else { return Err(Malformed) };
    [*l0, *l1] = len.to_be_bytes();
    Ok(())
}

/// How far headers are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Those that every fragment of a packet begins with (RFC 8200 §4.5): in a packet that is none, up to the last one that routers
    /// look at; in a fragment, those in front of its fragment header.
    Fragment,
    /// Those that stay in front of ESP (RFC 4303 §3.1.1): up to the last one that routers look at, fragment headers included.
    /// Destination options behind those are for the receiver.
    Esp,
    /// All of them.
    Payload,
}

/// The headers that a packet begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Octets of them.
    pub len: usize,
    /// What follows them: [`FRAGMENT`] in a fragment, where they are looked for until there.
    pub next_header: u8,
    /// Which of their octets says so.
    pub named_at: usize,
    /// Whether a fragment header among them says that the packet is a part of another one.
    pub is_part: bool,
}

/// Finds the headers that a packet begins with.
///
/// ```
/// use ipsec_core::wire::ipv6::{Headers, Until, headers};
/// let mut packet = [0; 40 + 16];
/// (packet[0], packet[5], packet[6]) = (0x60, 16, 0); // 8 octets of hop-by-hop options,
/// (packet[40], packet[48]) = (60, 50); // 8 of destination options, and nothing of ESP
/// let of_each_fragment = Headers { len: 48, next_header: 60, named_at: 40, is_part: false };
/// assert_eq!(headers(&packet, Until::Fragment), Ok(of_each_fragment));
/// let all = Headers { len: 56, next_header: 50, named_at: 48, is_part: false };
/// assert_eq!(headers(&packet, Until::Payload), Ok(all));
/// ```
///
/// # Errors
/// [`Malformed`]: no IPv6 packet, an extension header beyond it, or more than eight of them.
pub fn headers(packet: &[u8], until: Until) -> Result<Headers, Malformed> {
    let mut reader = Reader::new(packet);
    let header = Header::read(&mut reader)?;
    let mut reader = Reader::new(reader.take(usize::from(header.payload_len))?);
    let mut behind =
        Headers { len: HEADER_LEN, next_header: header.next_header, named_at: NEXT_HEADER, is_part: false };
    let mut found = behind;
    for _ in 0..=MAX_EXTENSIONS {
        let kind = behind.next_header;
        if kind == FRAGMENT && until == Until::Fragment {
            return Ok(behind);
        }
        let Some(extension) = Extension::read(kind, &mut reader)? else { return Ok(found) };
        behind = Headers {
            len: behind.len.saturating_add(extension.len),
            next_header: extension.next_header,
            named_at: behind.len,
            is_part: behind.is_part | (extension.place & !0x0006 != 0),
        };
        // Destination options are for routers only in front of a routing header.
        if kind != DESTINATION || until == Until::Payload {
            found = behind;
        }
        if extension.is_later() {
            return Ok(found);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn header() -> Header {
        Header {
            traffic_class: 0xb9,
            flow_label: 0xabcde,
            payload_len: 4,
            next_header: 50,
            hop_limit: 64,
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let mut bytes = [7; 45];
        header().write(&mut Writer::new(&mut bytes)).unwrap();
        assert_eq!(bytes[..4], [0x6b, 0x9a, 0xbc, 0xde]);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Header::read(&mut reader), Ok(header()));
        assert_eq!(reader.rest(), [7; 5]);
    }

    #[test]
    fn every_truncation_and_other_versions_are_malformed() {
        let mut bytes = [0; 44];
        header().write(&mut Writer::new(&mut bytes)).unwrap();
        for len in 0..bytes.len() {
            assert_eq!(Header::read(&mut Reader::new(&bytes[..len])), Err(Malformed), "{len} octets");
            let quoted = Header::read_quoted(&mut Reader::new(&bytes[..len]));
            assert_eq!(quoted, if len < HEADER_LEN { Err(Malformed) } else { Ok(header()) }, "{len} octets quoted");
        }
        bytes[0] = 0x4b;
        assert_eq!(Header::read(&mut Reader::new(&bytes)), Err(Malformed));
    }

    #[test]
    fn walks_extension_headers_to_the_protocol() {
        // hop-by-hop (16 octets), destination options (8), UDP
        let mut bytes = Vec::from([60u8, 1]);
        bytes.extend([0; 14]);
        bytes.extend([17, 0, 0, 0, 0, 0, 0, 0, 0xaa]);
        let mut reader = Reader::new(&bytes);
        assert_eq!(skip_extensions(0, &mut reader), Ok(Upper { protocol: 17, later_fragment: false }));
        assert_eq!(reader.rest(), [0xaa]);
        for len in 0..24 {
            assert_eq!(skip_extensions(0, &mut Reader::new(&bytes[..len])), Err(Malformed), "{len} octets");
        }
    }

    #[test]
    fn knows_the_first_fragment_from_later_ones() {
        let first = [6, 0, 0, 1, 0, 0, 0, 1];
        let later = [6, 0, 0, 9, 0, 0, 0, 1];
        let walk = |bytes: &[u8]| skip_extensions(44, &mut Reader::new(bytes));
        assert_eq!(walk(&first), Ok(Upper { protocol: 6, later_fragment: false }));
        assert_eq!(walk(&later), Ok(Upper { protocol: 6, later_fragment: true }));
    }

    #[test]
    fn gives_up_after_eight_extension_headers() {
        let chain = [60u8, 0, 0, 0, 0, 0, 0, 0].repeat(9);
        assert_eq!(skip_extensions(60, &mut Reader::new(&chain)), Err(Malformed));
    }

    #[test]
    fn headers_end_with_the_packet_and_with_a_later_fragment() {
        let mut packet = [0; HEADER_LEN + 24];
        Header { payload_len: 16, next_header: FRAGMENT, ..header() }.write(&mut Writer::new(&mut packet)).unwrap();
        // What follows here looks like an extension header, and is content.
        packet[40..].copy_from_slice(&[60, 0, 0, 9, 0, 0, 0, 1, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for until in [Until::Esp, Until::Payload] {
            let found = headers(&packet, until).unwrap();
            assert_eq!((found.len, found.next_header, found.is_part), (48, 60, true));
        }
        // In the first one they may not go on behind the payload.
        packet[43] = 1;
        assert_eq!(headers(&packet, Until::Payload), Err(Malformed));
        (packet[48], packet[49]) = (17, 1);
        assert_eq!(headers(&packet, Until::Payload), Err(Malformed), "beyond the packet's own end");
        packet[5] = 24;
        let found = headers(&packet, Until::Payload).unwrap();
        assert_eq!((found.len, found.next_header, found.is_part), (64, 17, true));
    }

    #[test]
    fn headers_are_found_as_far_as_they_are_wanted() {
        // Of each header the next one, in the order of a packet that has all of them (RFC 8200 §4.1).
        let found_until = |until, chain: &[u8]| {
            let mut packet = Vec::from([0; HEADER_LEN]);
            Header { payload_len: chain.len() as u16 * 8 - 8, next_header: chain[0], ..header() }
                .write(&mut Writer::new(&mut packet))
                .unwrap();
            chain[1..].iter().for_each(|next| packet.extend([*next, 0, 0, 0, 0, 0, 0, 0]));
            for len in 0..packet.len() {
                assert_eq!(headers(&packet[..len], until), Err(Malformed), "{len} octets");
            }
            headers(&packet, until).map(|Headers { len, next_header, named_at, .. }| {
                assert_eq!(packet[named_at], next_header);
                (len, next_header)
            })
        };
        let found = |chain: &[u8]| found_until(Until::Fragment, chain);
        assert_eq!(found(&[17]), Ok((40, 17)));
        assert_eq!(found(&[60, 17]), Ok((40, 60)), "destination options are for the receiver");
        assert_eq!(found(&[0, 60, 43, 60, 17]), Ok((64, 60)), "and those in front of a routing header for routers");
        assert_eq!(found(&[0, 60, 44, 17]), Ok((56, 44)), "a fragment says itself what it repeats");
        assert_eq!(found(&[60; 11]), Err(Malformed));
        for (chain, esp, all) in [
            (&[17][..], (40, 17), (40, 17)),
            (&[60, 17], (40, 60), (48, 17)),
            (&[0, 60, 43, 60, 50], (64, 60), (72, 50)),
            (&[0, 60, 44, 17], (64, 17), (64, 17)),
            (&[44, 60, 17], (48, 60), (56, 17)),
        ] {
            let until = [Until::Esp, Until::Payload].map(|until| found_until(until, chain));
            assert_eq!(until, [Ok(esp), Ok(all)], "{chain:?}");
        }
    }
}
