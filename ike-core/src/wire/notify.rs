//! The Notify payload (RFC 7296 §3.10).

use ipsec_core::wire::cursor::Reader;

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{NotifyKind, PayloadType, ProtocolId};

/// An error or a status.
///
/// ```
/// use ike_core::registry::{NotifyKind, ProtocolId};
/// use ike_core::wire::notify::Notify;
/// let notify = Notify::parse(&[0, 0, 0, 14]).unwrap();
/// assert_eq!((notify.kind, notify.protocol), (NotifyKind::NO_PROPOSAL_CHOSEN, ProtocolId::NONE));
/// assert!(notify.kind.is_error());
/// ```
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::body;

    const BODY: [u8; 10] = [3, 4, 0x40, 0x09, 1, 2, 3, 4, 8, 9];

    #[test]
    fn reads_and_writes() {
        let notify = Notify::parse(&BODY).unwrap();
        let expected =
            Notify { protocol: ProtocolId::ESP, spi: &[1, 2, 3, 4], kind: NotifyKind::REKEY_SA, data: &[8, 9] };
        assert_eq!(notify, expected);
        assert_eq!(body(|out| out.notify(notify.protocol, notify.spi, notify.kind, notify.data)), BODY);
        let parts = body(|out| out.notify_parts(NotifyKind::COOKIE, &[&[1], &[], &[2, 3]]));
        assert_eq!(parts, [0, 0, 0x40, 0x06, 1, 2, 3]);
    }

    #[test]
    fn the_spi_stays_inside() {
        for len in 0..8 {
            assert_eq!(Notify::parse(&BODY[..len]), Err(Malformed));
        }
        for spi_len in 7..=u8::MAX {
            let mut octets = BODY;
            octets[1] = spi_len;
            assert_eq!(Notify::parse(&octets), Err(Malformed));
        }
    }

    #[test]
    fn an_spi_too_long_to_count_is_not_written() {
        let mut buf = [0; 512];
        let header = crate::wire::header::Header::new(0, 0, crate::registry::ExchangeType::INFORMATIONAL, 1);
        let mut out = MessageWriter::new(&mut buf, &header).unwrap();
        assert_eq!(out.notify(ProtocolId::ESP, &[0; 256], NotifyKind::REKEY_SA, &[]), Err(NoRoom));
    }
}
