//! The Delete payload (RFC 7296 §3.11).

use ipsec_core::net::Spi;
use ipsec_core::wire::cursor::Reader;

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{PayloadType, ProtocolId};

/// SAs the sender has deleted.
///
/// ```
/// use ike_core::registry::ProtocolId;
/// use ike_core::wire::delete::Delete;
/// let delete = Delete::parse(&[3, 4, 0, 1, 0, 0, 0x10, 0]).unwrap();
/// assert_eq!(delete.protocol, ProtocolId::ESP);
/// assert!(delete.esp_spis().map(|spi| spi.get()).eq([0x1000]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete<'m> {
    /// Protocol of all of them; [`ProtocolId::IKE`] means the IKE SA that carries the message.
    pub protocol: ProtocolId,
    spi_len: u8,
    spis: &'m [u8],
}

impl<'m> Delete<'m> {
    /// Reads the body of a Delete payload.
    ///
    /// # Errors
    /// [`Malformed`] when the SPIs do not fill the payload exactly or their size does not fit the protocol.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let [protocol, spi_len] = reader.array()?;
        let (protocol, count) = (ProtocolId(protocol), reader.u16()?);
        let spis = reader.rest();
        let size_fits = match protocol {
            ProtocolId::IKE => spi_len == 0 && count == 0,
            ProtocolId::AH | ProtocolId::ESP => spi_len == 4,
            _ => spi_len != 0 || count == 0,
        };
        if !size_fits || usize::from(spi_len).checked_mul(usize::from(count)) != Some(spis.len()) {
            return Err(Malformed);
        }
        Ok(Self { protocol, spi_len, spis })
    }

    /// The SPIs, as the sender of this payload expects them in packets to itself; none for the IKE SA.
    pub fn spis(&self) -> impl Iterator<Item = &'m [u8]> + use<'m> {
        self.spis.chunks_exact(usize::from(self.spi_len.max(1)))
    }

    /// The SPIs of ESP SAs; none for another protocol. Reserved values are left out: no SA has them.
    pub fn esp_spis(&self) -> impl Iterator<Item = Spi> + use<'m> {
        let esp = self.protocol == ProtocolId::ESP;
        let spis = if esp { self.spis.as_chunks().0 } else { &[] };
        spis.iter().filter_map(|spi| Spi::new(u32::from_be_bytes(*spi)))
    }
}

impl MessageWriter<'_> {
    /// Adds a Delete payload for the IKE SA.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn delete_ike(&mut self) -> Result<(), NoRoom> {
        self.payload(PayloadType::DELETE, |out| out.put(&[ProtocolId::IKE.0, 0, 0, 0]))
    }

    /// Adds a Delete payload for ESP SAs; `spis` are the ones we receive with.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn delete_esp(&mut self, spis: &[Spi]) -> Result<(), NoRoom> {
        self.delete_each_esp(spis.iter().copied())
    }

    /// The same, for SPIs that stand in no slice.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn delete_each_esp(&mut self, mut spis: impl Iterator<Item = Spi> + Clone) -> Result<(), NoRoom> {
        let count = u16::try_from(spis.clone().count()).map_err(|_| NoRoom)?;
        self.payload(PayloadType::DELETE, |out| {
            out.put(&[ProtocolId::ESP.0, 4])?;
            out.put(&count.to_be_bytes())?;
            spis.try_for_each(|spi| out.put(&spi.get().to_be_bytes()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::body;

    const ESP: [u8; 12] = [3, 4, 0, 2, 0, 0, 1, 0, 1, 2, 3, 4];

    #[test]
    fn reads_and_writes() {
        let delete = Delete::parse(&ESP).unwrap();
        assert_eq!(delete.protocol, ProtocolId::ESP);
        assert!(delete.spis().eq([[0, 0, 1, 0], [1, 2, 3, 4]]));
        let spis = [0x100, 0x0102_0304].map(|spi| Spi::new(spi).unwrap());
        assert!(delete.esp_spis().eq(spis));
        assert_eq!(body(|out| out.delete_esp(&spis)), ESP);

        let ike = body(|out| out.delete_ike());
        let delete = Delete::parse(&ike).unwrap();
        assert_eq!((delete.protocol, delete.spis().count(), delete.esp_spis().count()), (ProtocolId::IKE, 0, 0));
    }

    #[test]
    fn reserved_spis_name_no_sa() {
        let delete = Delete::parse(&[3, 4, 0, 2, 0, 0, 0, 255, 0, 0, 0, 0]).unwrap();
        assert_eq!((delete.spis().count(), delete.esp_spis().count()), (2, 0));
    }

    #[test]
    fn the_spis_fill_the_payload_exactly_and_fit_the_protocol() {
        for len in 0..ESP.len() {
            assert_eq!(Delete::parse(&ESP[..len]), Err(Malformed));
        }
        for spi_len in (0..=u8::MAX).filter(|len| *len != 4) {
            let mut octets = ESP;
            octets[1] = spi_len;
            assert_eq!(Delete::parse(&octets), Err(Malformed));
        }
        for bad in [
            &[1, 8, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8][..],
            &[1, 0, 0, 1],
            &[3, 4, 0xff, 0xff],
            &[3, 2, 0, 2, 1, 2, 3, 4],
            &[9, 0, 0, 5],
        ] {
            assert_eq!(Delete::parse(bad), Err(Malformed));
        }
    }
}
