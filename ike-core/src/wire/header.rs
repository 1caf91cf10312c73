//! The IKE header (RFC 7296 §3.1).

use ipsec_core::wire::cursor::Reader;

use crate::error::Malformed;
use crate::registry::{ExchangeType, PayloadType};

const INITIATOR: u8 = 0x08;
const VERSION: u8 = 0x10;
const RESPONSE: u8 = 0x20;

/// The first 28 octets of every message.
///
/// ```
/// use ike_core::registry::{ExchangeType, PayloadType};
/// use ike_core::wire::header::Header;
/// let header = Header { next: PayloadType::SK, length: 28, ..Header::new(1, 2, ExchangeType::INFORMATIONAL, 7) };
/// let octets = header.to_octets();
/// assert_eq!(Header::parse(&octets), Ok(header));
/// assert!(Header::parse(&octets[..27]).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// SPI of the IKE SA's original initiator.
    pub spi_i: u64,
    /// SPI of the original responder; 0 in the first message.
    pub spi_r: u64,
    /// Type of the first payload.
    pub next: PayloadType,
    /// Major version; 2 for IKEv2.
    pub major: u8,
    /// Minor version; ignored on receipt.
    pub minor: u8,
    /// Exchange type.
    pub exchange: ExchangeType,
    /// I flag: sent by the original initiator of the IKE SA.
    pub initiator: bool,
    /// V flag: the sender could speak a higher major version; ignored on receipt.
    pub version: bool,
    /// R flag: a response.
    pub response: bool,
    /// Message ID.
    pub message_id: u32,
    /// Length of the whole message. The writer computes it; what stands here is ignored then.
    pub length: u32,
}

impl Header {
    /// Octets of the header.
    pub const LEN: usize = 28;

    /// A header of version 2.0 with these fields; `next` and `length` are the writer's.
    pub const fn new(spi_i: u64, spi_r: u64, exchange: ExchangeType, message_id: u32) -> Self {
        Self {
            spi_i,
            spi_r,
            next: PayloadType::NONE,
            major: 2,
            minor: 0,
            exchange,
            initiator: false,
            version: false,
            response: false,
            message_id,
            length: 0,
        }
    }

    /// Reads the header of `datagram`, without a non-ESP marker. Every version is read: whoever wants to answer
    /// INVALID_MAJOR_VERSION needs the fields.
    ///
    /// # Errors
    /// [`Malformed`] when the length field is not the length of `datagram`.
    pub fn parse(datagram: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(datagram);
        let (spi_i, spi_r) = (u64::from_be_bytes(reader.array()?), u64::from_be_bytes(reader.array()?));
        let [next, version, exchange, flags] = reader.array()?;
        let (message_id, length) = (reader.u32()?, reader.u32()?);
        if usize::try_from(length) != Ok(datagram.len()) {
            return Err(Malformed);
        }
        Ok(Self {
            spi_i,
            spi_r,
            next: PayloadType(next),
            major: version >> 4,
            minor: version & 0xf,
            exchange: ExchangeType(exchange),
            initiator: flags & INITIATOR != 0,
            version: flags & VERSION != 0,
            response: flags & RESPONSE != 0,
            message_id,
            length,
        })
    }

    /// The header as it stands on the wire.
    pub fn to_octets(&self) -> [u8; Self::LEN] {
        let flag = |set, bit| if set { bit } else { 0 };
        let flags = flag(self.initiator, INITIATOR) | flag(self.version, VERSION) | flag(self.response, RESPONSE);
        let mut octets = [0; Self::LEN];
        let fields: [&[u8]; 5] = [
            &self.spi_i.to_be_bytes(),
            &self.spi_r.to_be_bytes(),
            &[self.next.0, (self.major << 4) | (self.minor & 0xf), self.exchange.0, flags],
            &self.message_id.to_be_bytes(),
            &self.length.to_be_bytes(),
        ];
        for (octet, value) in octets.iter_mut().zip(fields.into_iter().flatten()) {
            *octet = *value;
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            next: PayloadType::SA,
            initiator: true,
            response: true,
            length: 28,
            ..Header::new(0x0102_0304_0506_0708, 0x1112_1314_1516_1718, ExchangeType::IKE_AUTH, 0x2122_2324)
        }
    }

    const OCTETS: [u8; 28] = [
        1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 33, 0x20, 35, 0x28, 0x21, 0x22, 0x23,
        0x24, 0, 0, 0, 28,
    ];

    #[test]
    fn writes_and_reads_the_same() {
        assert_eq!(header().to_octets(), OCTETS);
        assert_eq!(Header::parse(&OCTETS), Ok(header()));
        let odd = Header { major: 15, minor: 15, version: true, initiator: false, response: false, ..header() };
        assert_eq!(Header::parse(&odd.to_octets()), Ok(odd));
    }

    #[test]
    fn every_version_is_read_and_reserved_flags_are_ignored() {
        let mut octets = OCTETS;
        octets[17] = 0x10;
        octets[19] |= 0xc7;
        assert_eq!(Header::parse(&octets), Ok(Header { major: 1, ..header() }));
    }

    #[test]
    fn length_must_be_that_of_the_datagram() {
        for len in 0..28 {
            assert_eq!(Header::parse(&OCTETS[..len]), Err(Malformed));
        }
        for length in [0, 27, 29, u32::MAX] {
            let mut octets = OCTETS;
            octets[24..].copy_from_slice(&u32::to_be_bytes(length));
            assert_eq!(Header::parse(&octets), Err(Malformed));
        }
    }
}
