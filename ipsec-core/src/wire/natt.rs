//! What arrives on UDP port 4500 (RFC 3948 §2).

use super::cursor::Malformed;

/// A datagram of port 4500 by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// A single octet 0xff that keeps a NAT mapping alive; to be dropped.
    Keepalive,
    /// An IKE message, without the four zero octets in front of it.
    Ike(&'a [u8]),
    /// An ESP packet.
    Esp(&'a [u8]),
}

/// Four zero octets in front of an IKE message on port 4500.
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// Tells IKE, ESP and keepalives apart.
///
/// ```
/// use ipsec_core::wire::natt::{Datagram, classify};
/// assert_eq!(classify(&[0xff]), Ok(Datagram::Keepalive));
/// assert_eq!(classify(&[0, 0, 0, 0, 0x2a]), Ok(Datagram::Ike(&[0x2a])));
/// assert_eq!(classify(&[0, 0, 1, 0, 0x2a]), Ok(Datagram::Esp(&[0, 0, 1, 0, 0x2a])));
/// ```
///
/// # Errors
/// [`Malformed`]: shorter than an SPI and not a keepalive.
#[inline]
pub fn classify(datagram: &[u8]) -> Result<Datagram<'_>, Malformed> {
    match datagram.split_first_chunk() {
        Some((&NON_ESP_MARKER, message)) => Ok(Datagram::Ike(message)),
        Some(_) => Ok(Datagram::Esp(datagram)),
        None if datagram == [0xff] => Ok(Datagram::Keepalive),
        None => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_datagrams_other_than_a_keepalive_are_malformed() {
        for datagram in [&[][..], &[0], &[0xfe], &[0xff, 0xff], &[0, 0, 0]] {
            assert_eq!(classify(datagram), Err(Malformed), "{datagram:?}");
        }
        assert_eq!(classify(&[0; 4]), Ok(Datagram::Ike(&[])));
        assert_eq!(classify(&[0xff; 4]), Ok(Datagram::Esp(&[0xff; 4])));
    }
}
