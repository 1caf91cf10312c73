//! What anyone on the path can read of an IKE message: the header, and of IKE_SA_INIT the chain of payloads.

use std::fmt;

/// Exchange types of RFC 7296 §3.1.
pub(crate) const IKE_SA_INIT: u8 = 34;
/// See [`IKE_SA_INIT`].
pub(crate) const IKE_AUTH: u8 = 35;
/// See [`IKE_SA_INIT`].
pub(crate) const CREATE_CHILD_SA: u8 = 36;
/// See [`IKE_SA_INIT`].
pub(crate) const INFORMATIONAL: u8 = 37;

/// Notify types of RFC 7296 §3.10.1.
pub(crate) const INVALID_MAJOR_VERSION: u16 = 5;
/// See [`INVALID_MAJOR_VERSION`].
pub(crate) const NO_PROPOSAL_CHOSEN: u16 = 14;
/// See [`INVALID_MAJOR_VERSION`].
pub(crate) const INVALID_KE_PAYLOAD: u16 = 17;
const NAT_DETECTION_SOURCE_IP: u16 = 16388;
const NAT_DETECTION_DESTINATION_IP: u16 = 16389;
/// See [`INVALID_MAJOR_VERSION`].
pub(crate) const COOKIE: u16 = 16390;

const HEADER: usize = 28;
const SK: u8 = 46;
const NOTIFY: u8 = 41;

/// The readable part of an IKE message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The initiator's SPI.
    pub(crate) initiator: u64,
    /// The responder's SPI, 0 in a first message.
    pub(crate) responder: u64,
    /// Exchange type.
    pub(crate) exchange: u8,
    /// Whether the response flag is set.
    pub(crate) response: bool,
    /// Message ID.
    pub(crate) id: u32,
    /// Notify types in clear.
    pub(crate) notifies: Vec<u16>,
    /// Octets of the message.
    pub(crate) length: usize,
}

impl Seen {
    /// Reads `message`, which begins with the IKE header.
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let spi = |at: usize| Some(u64::from_be_bytes(message.get(at..at + 8)?.try_into().ok()?));
        let mut seen = Self {
            initiator: spi(0)?,
            responder: spi(8)?,
            exchange: *message.get(18)?,
            response: message.get(19)? & 0x20 != 0,
            id: u32::from_be_bytes(message.get(20..24)?.try_into().ok()?),
            notifies: Vec::new(),
            length: message.len(),
        };
        let (mut next, mut rest) = (*message.get(16)?, message.get(HEADER..)?);
        while next != 0 && next != SK {
            let length = usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
            if next == NOTIFY {
                seen.notifies.push(u16::from_be_bytes([*rest.get(6)?, *rest.get(7)?]));
            }
            next = *rest.first()?;
            rest = rest.get(length.max(4)..)?;
        }
        Some(seen)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exchange = match self.exchange {
            IKE_SA_INIT => "IKE_SA_INIT",
            IKE_AUTH => "IKE_AUTH",
            CREATE_CHILD_SA => "CREATE_CHILD_SA",
            INFORMATIONAL => "INFORMATIONAL",
            other => return write!(f, "exchange {other}, {} octets", self.length),
        };
        let role = if self.response { "response" } else { "request" };
        write!(f, "{exchange} {role} {}, {} octets", self.id, self.length)?;
        let named = self.notifies.iter().map(|kind| match *kind {
            INVALID_MAJOR_VERSION => "INVALID_MAJOR_VERSION".to_owned(),
            NO_PROPOSAL_CHOSEN => "NO_PROPOSAL_CHOSEN".to_owned(),
            INVALID_KE_PAYLOAD => "INVALID_KE_PAYLOAD".to_owned(),
            NAT_DETECTION_SOURCE_IP => "NAT_DETECTION_SOURCE_IP".to_owned(),
            NAT_DETECTION_DESTINATION_IP => "NAT_DETECTION_DESTINATION_IP".to_owned(),
            COOKIE => "COOKIE".to_owned(),
            other => other.to_string(),
        });
        let named: Vec<String> = named.collect();
        if named.is_empty() { Ok(()) } else { write!(f, ", notifies {}", named.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clear_part_is_read_and_truncation_is_refused() {
        let mut message = vec![1; 8];
        message.extend([0; 8]);
        message.extend([NOTIFY, 0x20, IKE_SA_INIT, 0x20, 0, 0, 0, 7, 0, 0, 0, 36]);
        message.extend([0, 0, 0, 8, 0, 0, 0x40, 0x06]);
        let seen = Seen::parse(&message).unwrap();
        assert_eq!((seen.responder, seen.response, seen.id), (0, true, 7));
        assert_eq!(seen.notifies, [COOKIE]);
        assert_eq!(Seen::parse(&message[..35]), None);
    }
}
