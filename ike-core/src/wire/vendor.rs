//! The Vendor ID payload (RFC 7296 §3.12).

use super::writer::MessageWriter;
use crate::error::NoRoom;
use crate::registry::PayloadType;

/// Names an implementation. Any octets will do.
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
