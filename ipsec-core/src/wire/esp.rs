//! The ESP header (RFC 4303 §2).

use super::cursor::{Malformed, Reader, Writer};
use crate::net::Spi;

/// Octets of SPI and sequence number.
pub const HEADER_LEN: usize = 8;

/// The clear part of an ESP packet.
///
/// ```
/// use ipsec_core::wire::cursor::Reader;
/// use ipsec_core::wire::esp::Header;
/// let packet = [0, 0, 0x10, 0, 0, 0, 0, 7, 0xee];
/// let mut reader = Reader::new(&packet);
/// let header = Header::read(&mut reader).unwrap();
/// assert_eq!((header.spi.get(), header.sequence), (0x1000, 7));
/// assert_eq!(reader.rest(), [0xee]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Security Parameters Index.
    pub spi: Spi,
    /// Low 32 bits of the sequence number.
    pub sequence: u32,
}

impl Header {
    /// Reads a header; the reader then stands at the IV.
    ///
    /// # Errors
    /// [`Malformed`]: fewer than 8 octets, or a reserved SPI (0–255).
    #[inline]
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let spi = Spi::new(reader.u32()?);
        Ok(Self { sequence: reader.u32()?, spi: spi.ok_or(Malformed)? })
    }

    /// Writes [`HEADER_LEN`] octets.
    ///
    /// # Errors
    /// [`Malformed`] when they do not fit.
    #[inline]
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        writer.put(&self.spi.get().to_be_bytes())?;
        writer.put(&self.sequence.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let header = Header { spi: Spi::new(0x1234_5678).unwrap(), sequence: 0x9abc_def0 };
        let mut bytes = [0; 9];
        header.write(&mut Writer::new(&mut bytes)).unwrap();
        let mut reader = Reader::new(&bytes);
        assert_eq!(Header::read(&mut reader), Ok(header));
        assert_eq!(reader.rest(), [0]);
        for len in 0..HEADER_LEN {
            assert_eq!(Header::read(&mut Reader::new(&bytes[..len])), Err(Malformed), "{len} octets");
        }
    }

    #[test]
    fn atk_60_reserved_spis_are_malformed() {
        for spi in 0..=255u32 {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&spi.to_be_bytes());
            assert_eq!(Header::read(&mut Reader::new(&bytes)), Err(Malformed), "SPI {spi}");
        }
    }
}
