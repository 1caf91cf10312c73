//! The Vendor ID payload (RFC 7296 §3.12).

use super::writer::MessageWriter;
use crate::error::NoRoom;
use crate::registry::PayloadType;

/// Names an implementation. Any octets will do.
///
/// ```
/// use ike_core::registry::{ExchangeType, PayloadType};
/// use ike_core::wire::{chain::Chain, header::Header, vendor::VendorId, writer::MessageWriter};
/// let mut octets = [0; 64];
/// let mut message = MessageWriter::new(&mut octets, &Header::new(1, 0, ExchangeType::IKE_SA_INIT, 0)).unwrap();
/// message.vendor(b"example").unwrap();
/// let len = message.finish().len;
/// let payload = Chain::new(PayloadType::VENDOR, &octets[Header::LEN..len]).next().unwrap().unwrap();
/// assert_eq!(VendorId(payload.body), VendorId(b"example"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VendorId<'m>(pub &'m [u8]);

impl MessageWriter<'_> {
    /// Adds a Vendor ID payload.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn vendor(&mut self, octets: &[u8]) -> Result<(), NoRoom> {
        self.payload(PayloadType::VENDOR, |out| out.put(octets))
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::tests::body;

    #[test]
    fn writes_what_it_is_given() {
        assert_eq!(body(|out| out.vendor(b"name")), *b"name");
        assert_eq!(body(|out| out.vendor(b"")), *b"");
    }
}
