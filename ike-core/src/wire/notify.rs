//! The Notify payload (RFC 7296 §3.10).

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{NotifyKind, PayloadType, ProtocolId};
use ipsec_core::wire::cursor::Reader;

/// An error or a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notify<'m> {
    /// Protocol of the SA it speaks of; [`ProtocolId::NONE`] without `spi`.
    pub protocol: ProtocolId,
    /// SPI of the SA it speaks of; empty for the IKE SA itself.
    pub spi: &'m [u8],
    /// What it says.
    pub kind: NotifyKind,
    /// Data of that kind.
    pub data: &'m [u8],
}

impl<'m> Notify<'m> {
    /// Reads the body of a Notify payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is too short.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let [protocol, spi_len] = reader.array()?;
        let kind = NotifyKind(reader.u16()?);
        let spi = reader.take(usize::from(spi_len))?;
        Ok(Self { protocol: ProtocolId(protocol), spi, kind, data: reader.rest() })
    }
}

impl MessageWriter<'_> {
    /// Adds a Notify payload.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn notify(&mut self, protocol: ProtocolId, spi: &[u8], kind: NotifyKind, data: &[u8]) -> Result<(), NoRoom> {
        self.notification(protocol, spi, kind, &[data])
    }

    /// Adds a Notify payload about the IKE SA itself; its data is `parts`, one after the other.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn notify_parts(&mut self, kind: NotifyKind, parts: &[&[u8]]) -> Result<(), NoRoom> {
        self.notification(ProtocolId::NONE, &[], kind, parts)
    }

    fn notification(
        &mut self,
        protocol: ProtocolId,
        spi: &[u8],
        kind: NotifyKind,
        parts: &[&[u8]],
    ) -> Result<(), NoRoom> {
        let spi_len = u8::try_from(spi.len()).map_err(|_| NoRoom)?;
        self.payload(PayloadType::NOTIFY, |out| {
            out.put(&[protocol.0, spi_len])?;
            out.put(&kind.0.to_be_bytes())?;
            out.put(spi)?;
            parts.iter().try_for_each(|part| out.put(part))
        })
    }
}
