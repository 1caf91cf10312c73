//! The Nonce payload (RFC 7296 §3.9).

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::PayloadType;

/// A nonce of 16 to 256 octets.
///
/// ```
/// use ike_core::wire::nonce::Nonce;
/// assert_eq!(Nonce::parse(&[7; 16]).unwrap().as_slice(), [7; 16]);
/// assert!(Nonce::parse(&[7; 15]).is_err()); // RFC 7296 §3.9
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce<'m>(&'m [u8]);

impl<'m> Nonce<'m> {
    /// Longest nonce.
    pub const MAX_LEN: usize = 256;
    /// Shortest nonce.
    pub const MIN_LEN: usize = 16;

    /// Reads the body of a Nonce payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is shorter or longer than a nonce may be.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        (Self::MIN_LEN..=Self::MAX_LEN).contains(&body.len()).then_some(Self(body)).ok_or(Malformed)
    }

    /// The octets.
    pub const fn as_slice(&self) -> &'m [u8] {
        self.0
    }
}

impl MessageWriter<'_> {
    /// Adds a Nonce payload.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn nonce(&mut self, octets: &[u8]) -> Result<(), NoRoom> {
        self.payload(PayloadType::NONCE, |out| out.put(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::body;

    #[test]
    fn from_16_to_256_octets() {
        for len in 0..=300 {
            let octets = &[7; 300][..len];
            let nonce = Nonce::parse(octets).ok().map(|nonce| nonce.as_slice());
            assert_eq!(nonce, (16..=256).contains(&len).then_some(octets));
        }
        assert_eq!(body(|out| out.nonce(&[7; 16])), [7; 16]);
    }
}
