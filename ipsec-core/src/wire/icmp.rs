//! The header of ICMP (RFC 792) and ICMPv6 (RFC 4443) messages. Behind that of an error stands what it is about.

use super::cursor::{Malformed, Reader, Writer};

/// Octets of the header.
pub const HEADER_LEN: usize = 8;

/// An ICMP header.
///
/// ```
/// use ipsec_core::wire::cursor::Reader;
/// use ipsec_core::wire::icmp::Header;
/// let message = [3, 4, 0, 0, 0, 0, 0x05, 0x14, 0x45]; // fragmentation needed, 1,300 octets pass
/// let mut reader = Reader::new(&message);
/// let header = Header::read(&mut reader).unwrap();
/// assert_eq!((header.kind, header.code, header.rest), (3, 4, 1300));
/// assert_eq!(reader.rest(), [0x45]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum over the message, in ICMPv6 with a pseudo-header.
    pub checksum: u16,
    /// What the type makes of the last four octets: an MTU, a pointer, an identifier.
    pub rest: u32,
}

impl Header {
    /// Reads a header; the reader then stands at what follows it.
    ///
    /// # Errors
    /// [`Malformed`] when there are fewer octets.
    #[inline]
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let [kind, code] = reader.array()?;
        Ok(Self { kind, code, checksum: reader.u16()?, rest: reader.u32()? })
    }

    /// Writes [`HEADER_LEN`] octets.
    ///
    /// # Errors
    /// [`Malformed`] when they do not fit.
    #[inline]
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        writer.put(&[self.kind, self.code])?;
        writer.put(&self.checksum.to_be_bytes())?;
        writer.put(&self.rest.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let header = Header { kind: 2, code: 1, checksum: 0xabcd, rest: 0x1234_5678 };
        let mut bytes = [0xee; 9];
        header.write(&mut Writer::new(&mut bytes)).unwrap();
        let mut reader = Reader::new(&bytes);
        assert_eq!(Header::read(&mut reader), Ok(header));
        assert_eq!(reader.rest(), [0xee]);
        for len in 0..HEADER_LEN {
            assert_eq!(Header::read(&mut Reader::new(&bytes[..len])), Err(Malformed), "{len} octets");
        }
    }
}
