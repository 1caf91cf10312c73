//! The IKE header (RFC 7296 §3.1).

use crate::error::Malformed;
use crate::registry::{ExchangeType, PayloadType};
use ipsec_core::wire::cursor::Reader;

const INITIATOR: u8 = 0x08;
const VERSION: u8 = 0x10;
const RESPONSE: u8 = 0x20;

/// The first 28 octets of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
