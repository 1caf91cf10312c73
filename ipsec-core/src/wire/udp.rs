//! The UDP header (RFC 768).

use super::cursor::{Malformed, Reader, Writer};

/// Octets of the header.
pub const HEADER_LEN: usize = 8;

/// A UDP header.
///
/// ```
/// use ipsec_core::wire::cursor::Reader;
/// use ipsec_core::wire::udp::Header;
/// let datagram = [0x11, 0x94, 0x11, 0x94, 0, 9, 0, 0, 0xff];
/// let mut reader = Reader::new(&datagram);
/// let header = Header::read(&mut reader).unwrap();
/// assert_eq!((header.source, header.destination, header.length), (4500, 4500, 9));
/// assert_eq!(reader.rest(), [0xff]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Octets of header and payload.
    pub length: u16,
    /// Checksum; 0 means none (IPv4 only).
    pub checksum: u16,
}

impl Header {
    /// Reads a header; the reader then stands at the payload.
    ///
    /// # Errors
    /// [`Malformed`]: a length below 8 or beyond the octets there are.
    #[inline]
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let available = reader.rest().len();
        let header =
            Self { source: reader.u16()?, destination: reader.u16()?, length: reader.u16()?, checksum: reader.u16()? };
        let length = usize::from(header.length);
        if length < HEADER_LEN || length > available { Err(Malformed) } else { Ok(header) }
    }

    /// Writes [`HEADER_LEN`] octets.
    ///
    /// # Errors
    /// [`Malformed`] when they do not fit.
    #[inline]
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        let [s0, s1] = self.source.to_be_bytes();
        let [d0, d1] = self.destination.to_be_bytes();
        let [l0, l1] = self.length.to_be_bytes();
        let [c0, c1] = self.checksum.to_be_bytes();
        writer.put(&[s0, s1, d0, d1, l0, l1, c0, c1])
    }
}

/// The destination port of a datagram that may be broken otherwise.
///
/// ```
/// use ipsec_core::wire::cursor::Reader;
/// use ipsec_core::wire::udp::{Header, destination};
/// let cut_off = [0x11, 0x94, 0x01, 0xf4, 0, 99, 0, 0];
/// assert!(Header::read(&mut Reader::new(&cut_off)).is_err());
/// assert_eq!(destination(&cut_off), Some(500));
/// ```
pub fn destination(datagram: &[u8]) -> Option<u16> {
    let mut reader = Reader::new(datagram);
    reader.u16().and_then(|_source| reader.u16()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let header = Header { source: 4500, destination: 0xfeed, length: 9, checksum: 0x1234 };
        let mut bytes = [7; 9];
        header.write(&mut Writer::new(&mut bytes)).unwrap();
        let mut reader = Reader::new(&bytes);
        assert_eq!(Header::read(&mut reader), Ok(header));
        assert_eq!(reader.rest(), [7]);
        for len in 0..bytes.len() {
            assert_eq!(Header::read(&mut Reader::new(&bytes[..len])), Err(Malformed), "{len} octets");
        }
        bytes[5] = 7;
        assert_eq!(Header::read(&mut Reader::new(&bytes)), Err(Malformed));
    }
}
