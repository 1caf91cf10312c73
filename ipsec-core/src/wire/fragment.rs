//! The IPv6 fragment header (RFC 8200 §4.5).

use super::cursor::{Malformed, Reader, Writer};

/// Octets of the header.
pub const HEADER_LEN: usize = 8;

/// A fragment header.
///
/// ```
/// use ipsec_core::wire::cursor::Reader;
/// use ipsec_core::wire::fragment::Header;
/// let bytes = [50, 0, 0x04, 0xd1, 0, 0, 0, 7, 0xee];
/// let mut reader = Reader::new(&bytes);
/// let header = Header::read(&mut reader).unwrap();
/// assert_eq!(header, Header { next_header: 50, offset: 154, more: true, id: 7 });
/// assert_eq!(reader.rest(), [0xee]); // stood 1,232 octets into what is fragmented
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// First header of what is fragmented.
    pub next_header: u8,
    /// Offset of this fragment, in units of 8 octets.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

impl Header {
    /// Reads a header; the reader then stands at the fragment.
    ///
    /// # Errors
    /// [`Malformed`] when there are fewer octets.
    #[inline]
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let [next_header, _] = reader.array()?;
        let place = reader.u16()?;
        Ok(Self { next_header, offset: place >> 3, more: place & 1 != 0, id: reader.u32()? })
    }

    /// Writes [`HEADER_LEN`] octets.
    ///
    /// # Errors
    /// [`Malformed`] when they do not fit.
    #[inline]
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        writer.put(&[self.next_header, 0])?;
        writer.put(&(self.offset << 3 | u16::from(self.more)).to_be_bytes())?;
        writer.put(&self.id.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (offset, more) in [(0, false), (0, true), (1, true), (0x1fff, false)] {
            let header = Header { next_header: 17, offset, more, id: 0x1234_5678 };
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
}
