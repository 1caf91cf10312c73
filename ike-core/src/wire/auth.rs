//! The Authentication payload (RFC 7296 §3.8).

use ipsec_core::wire::cursor::Reader;

use super::writer::MessageWriter;
use crate::error::{Malformed, NoRoom};
use crate::registry::{AuthMethod, PayloadType};

/// A proof of identity, not verified.
///
/// ```
/// use ike_core::registry::AuthMethod;
/// use ike_core::wire::auth::Auth;
/// let body = [2, 0, 0, 0, 0xaa, 0xbb];
/// assert_eq!(Auth::parse(&body), Ok(Auth { method: AuthMethod::SHARED_KEY, data: &[0xaa, 0xbb] }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'m> {
    /// How it was made.
    pub method: AuthMethod,
    /// MAC or signature.
    pub data: &'m [u8],
}

impl<'m> Auth<'m> {
    /// Reads the body of an AUTH payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is too short.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let method = AuthMethod(reader.u8()?);
        reader.array::<3>()?; // RESERVED
        Ok(Self { method, data: reader.rest() })
    }
}

impl MessageWriter<'_> {
    /// Adds an AUTH payload.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn auth(&mut self, method: AuthMethod, data: &[u8]) -> Result<(), NoRoom> {
        self.payload(PayloadType::AUTH, |out| {
            out.put(&[method.0, 0, 0, 0])?;
            out.put(data)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::body;

    #[test]
    fn reads_and_writes() {
        let octets = [2, 0, 0, 0, 5, 6];
        let auth = Auth::parse(&octets).unwrap();
        assert_eq!(auth, Auth { method: AuthMethod::SHARED_KEY, data: &[5, 6] });
        assert_eq!(body(|out| out.auth(auth.method, auth.data)), octets);
        for len in 0..4 {
            assert_eq!(Auth::parse(&octets[..len]), Err(Malformed));
        }
    }
}
