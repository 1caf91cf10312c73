//! The EAP payload (RFC 7296 §3.16).

use ipsec_core::wire::cursor::Reader;

use super::enclosed;
use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::PayloadType;

/// An EAP message (RFC 3748 §4).
///
/// ```
/// use ike_core::wire::eap::Eap;
/// let identity_request = [1, 7, 0, 5, 1];
/// assert_eq!(Eap::parse(&identity_request), Ok(Eap { code: 1, identifier: 7, data: &[1] }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eap<'m> {
    /// Request 1, Response 2, Success 3, Failure 4.
    pub code: u8,
    /// Matches responses with requests.
    pub identifier: u8,
    /// Type and type data of a request or response; empty for the other two.
    pub data: &'m [u8],
}

impl<'m> Eap<'m> {
    /// Reads the body of an EAP payload.
    ///
    /// # Errors
    /// [`Malformed`] when the length field is not the length of the body, a request or response has no type, or another
    /// code has data.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let [code, identifier] = reader.array()?;
        let length = reader.u16()?;
        let data = enclosed(&mut reader, length, 4)?;
        let typed = matches!(code, 1 | 2);
        if !reader.rest().is_empty() || typed == data.is_empty() {
            return Err(Malformed);
        }
        Ok(Self { code, identifier, data })
    }
}

impl MessageWriter<'_> {
    /// Adds an EAP payload with an EAP message as it stands.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn eap(&mut self, message: &[u8]) -> Result<(), NoRoom> {
        self.payload(PayloadType::EAP, |out| out.put(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::body;

    #[test]
    fn reads_requests_and_results() {
        assert_eq!(body(|out| out.eap(&[1, 9, 0, 6, 26, 1])), [1, 9, 0, 6, 26, 1]);
        let request = Eap::parse(&[1, 9, 0, 6, 26, 1]).unwrap();
        assert_eq!(request, Eap { code: 1, identifier: 9, data: &[26, 1] });
        assert_eq!(Eap::parse(&[3, 9, 0, 4]).unwrap(), Eap { code: 3, identifier: 9, data: &[] });
    }

    #[test]
    fn atk_12_every_length_field_but_the_right_one_is_refused() {
        for code in 0..=8 {
            for len in 0..=8usize {
                for length in 0..=9 {
                    let octets = &[code, 9, 0, length, 1, 2, 3, 4][..len];
                    let typed = matches!(code, 1 | 2);
                    let fits = len == usize::from(length) && if typed { len >= 5 } else { len == 4 };
                    assert_eq!(Eap::parse(octets).is_ok(), fits, "{code} {len} {length}");
                }
            }
        }
    }
}
