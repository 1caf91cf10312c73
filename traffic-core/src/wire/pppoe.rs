//! The session stage of PPP over Ethernet (RFC 2516 §4), with the protocol field of PPP behind it (RFC 1661 §2).

use ipsec_core::wire::cursor::{Malformed, Reader, Writer};

/// Octets of the header and the protocol field.
pub const HEADER_LEN: usize = 8;

/// Octets of the protocol field, which the header's length counts.
const PROTOCOL_LEN: u16 = 2;

/// A protocol of PPP (RFC 1661 §2).
///
/// ```
/// use traffic_core::wire::pppoe::Protocol;
/// assert_eq!(Protocol(0xc021), Protocol::LCP);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u16);

impl Protocol {
    /// IPv4 (RFC 1332 §2.1).
    pub const IPV4: Self = Self(0x0021);
    /// IPv6 (RFC 5072 §3).
    pub const IPV6: Self = Self(0x0057);
    /// The link control protocol.
    pub const LCP: Self = Self(0xc021);
}

/// The header of a frame in a session.
///
/// ```
/// use ipsec_core::wire::cursor::Reader;
/// use traffic_core::wire::pppoe::{Header, Protocol};
/// let octets = [0x11, 0, 0, 42, 0, 3, 0x00, 0x21, 0xee, 0, 0]; // one octet of payload, two that fill the frame up
/// let mut reader = Reader::new(&octets);
/// assert_eq!(Header::read(&mut reader), Ok(Header { session: 42, payload_len: 1, protocol: Protocol::IPV4 }));
/// assert_eq!(reader.take(1), Ok(&[0xee][..]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The session, unique between two addresses.
    pub session: u16,
    /// Octets behind the protocol field.
    pub payload_len: u16,
    /// What follows.
    pub protocol: Protocol,
}

impl Header {
    /// Reads a header; the reader then stands behind it, and octets that only fill the frame up may follow the payload.
    ///
    /// # Errors
    /// [`Malformed`]: another version, type or code than those of a session, or a length that the octets are too few for.
    #[inline]
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let ([version_type, code], session, length) = (reader.array()?, reader.u16()?, reader.u16()?);
        let protocol = Protocol(reader.u16()?);
        let payload_len = length.checked_sub(PROTOCOL_LEN).ok_or(Malformed)?;
        if version_type != 0x11 || code != 0 || usize::from(payload_len) > reader.rest().len() {
            return Err(Malformed);
        }
        Ok(Self { session, payload_len, protocol })
    }

    /// Writes [`HEADER_LEN`] octets.
    ///
    /// # Errors
    /// [`Malformed`] when they do not fit, or the length is more than the header can say.
    #[inline]
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        let length = self.payload_len.checked_add(PROTOCOL_LEN).ok_or(Malformed)?;
        writer.put(&[0x11, 0])?;
        writer.put(&self.session.to_be_bytes())?;
        writer.put(&length.to_be_bytes())?;
        writer.put(&self.protocol.0.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let header = Header { session: 0x1234, payload_len: 2, protocol: Protocol::LCP };
        let mut octets = [7; HEADER_LEN + 3];
        header.write(&mut Writer::new(&mut octets)).unwrap();
        let mut reader = Reader::new(&octets);
        assert_eq!(Header::read(&mut reader), Ok(header));
        assert_eq!(reader.rest(), [7; 3]);
        for len in 0..HEADER_LEN + 2 {
            assert_eq!(Header::read(&mut Reader::new(&octets[..len])), Err(Malformed), "{len} octets");
        }
        let too_long = Header { payload_len: 0xfffe, ..header };
        assert_eq!(too_long.write(&mut Writer::new(&mut octets)), Err(Malformed));
    }

    #[test]
    fn what_is_no_session_is_malformed() {
        let good = [0x11, 0, 0, 1, 0, 2, 0xc0, 0x21];
        assert!(Header::read(&mut Reader::new(&good)).is_ok());
        for (at, value) in [(0, 0x12), (0, 0x21), (1, 0x09), (5, 1), (5, 3)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Header::read(&mut Reader::new(&bad)), Err(Malformed), "{value:#x} at {at}");
        }
    }
}
