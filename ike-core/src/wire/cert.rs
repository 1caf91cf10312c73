//! Certificate and Certificate Request payloads (RFC 7296 §3.6, §3.7). Read only.

use ipsec_core::wire::cursor::Reader;

use crate::error::Malformed;
use crate::registry::CertEncoding;

/// A certificate or something like it, not looked into.
///
/// ```
/// use ike_core::registry::CertEncoding;
/// use ike_core::wire::cert::Cert;
/// assert_eq!(Cert::parse(&[4, 0x30]), Ok(Cert { encoding: CertEncoding(4), data: &[0x30] })); // X.509, to be signed with
/// assert!(Cert::parse(&[]).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cert<'m> {
    /// What `data` is.
    pub encoding: CertEncoding,
    /// The certificate.
    pub data: &'m [u8],
}

impl<'m> Cert<'m> {
    /// Reads the body of a CERT payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is empty.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        Ok(Self { encoding: CertEncoding(reader.u8()?), data: reader.rest() })
    }
}

/// Which certificates the sender would like.
///
/// ```
/// use ike_core::wire::cert::CertReq;
/// let any = CertReq::parse(&[4]).unwrap();
/// assert!(any.authorities.is_empty());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertReq<'m> {
    /// What kind of certificate.
    pub encoding: CertEncoding,
    /// For X.509: SHA-1 hashes of the trust anchors' public keys, one after the other.
    pub authorities: &'m [u8],
}

impl<'m> CertReq<'m> {
    /// Reads the body of a CERTREQ payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is empty.
    pub fn parse(body: &'m [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        Ok(Self { encoding: CertEncoding(reader.u8()?), authorities: reader.rest() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_and_rest() {
        let cert = Cert::parse(&[4, 1, 2]).unwrap();
        assert_eq!(cert, Cert { encoding: CertEncoding::X509_SIGNATURE, data: &[1, 2] });
        assert_eq!(Cert::parse(&[]), Err(Malformed));
        let request = CertReq::parse(&[4]).unwrap();
        assert_eq!(request, CertReq { encoding: CertEncoding::X509_SIGNATURE, authorities: &[] });
        assert_eq!(CertReq::parse(&[]), Err(Malformed));
    }
}
