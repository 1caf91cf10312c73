//! An ICMP error taken apart.

use crate::wire::cursor::Reader;
use crate::wire::icmp::Header;
use crate::wire::ip::{Content, PROTOCOL_ICMP, PROTOCOL_ICMPV6, Version};

/// Why a packet did not arrive, as an ICMP error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Why {
    /// Nothing leads to the network of its destination.
    Network,
    /// Nothing leads to its destination.
    Host,
    /// Its destination does not know the protocol.
    Protocol,
    /// Nothing listens at the port.
    Port,
    /// It is not allowed to pass.
    Forbidden,
    /// It is too long for a link where so many octets pass; 0 where an old router does not say how many (RFC 1191 §3).
    TooBig(u32),
    /// Its hop limit ran out on the way.
    HopLimit,
    /// Fragments of it did not arrive in time.
    Reassembly,
    /// A field of its headers is wrong, or not known.
    Header,
    /// A code that nobody has given a meaning here.
    Other,
}

/// An ICMP error.
///
/// ```
/// use ipsec_core::icmp::{Error, Why};
/// use ipsec_core::wire::ip::Version;
/// let mut message = [11, 0, 0, 0, 0, 0, 0, 0, 0x45];
/// assert_eq!(Error::of(Version::V4, &message), Some(Error { why: Why::HopLimit, quoted: &[0x45] }));
/// message[0] = 8; // an echo request
/// assert_eq!(Error::of(Version::V4, &message), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error<'p> {
    /// What it says.
    pub why: Why,
    /// The beginning of the packet that it is about.
    pub quoted: &'p [u8],
}

impl<'p> Error<'p> {
    /// Reads a message of ICMP or ICMPv6. `None`: it is shorter than its header, or no error. Neither are redirects and source
    /// quenches, although they quote a packet: that one arrived.
    ///
    /// The checksum is the business of whoever received it.
    pub fn of(version: Version, message: &'p [u8]) -> Option<Self> {
        let mut reader = Reader::new(message);
        let Header { kind, code, rest, .. } = Header::read(&mut reader).ok()?;
        let why = match version {
            Version::V4 => why_v4(kind, code, rest)?,
            Version::V6 => why_v6(kind, code, rest)?,
        };
        Some(Self { why, quoted: reader.rest() })
    }

    /// Reads the message that a packet carries.
    pub(super) fn in_packet(content: &Content<'p>) -> Option<Self> {
        match (content.version, content.protocol) {
            (Version::V4, PROTOCOL_ICMP) | (Version::V6, PROTOCOL_ICMPV6) if !content.later_fragment => {
                Self::of(content.version, content.payload)
            }
            _ => None,
        }
    }
}

fn why_v4(kind: u8, code: u8, rest: u32) -> Option<Why> {
    Some(match (kind, code) {
        (3, 0 | 6 | 11) => Why::Network,
        (3, 1 | 7 | 12) => Why::Host,
        (3, 2) => Why::Protocol,
        (3, 3) => Why::Port,
        (3, 4) => Why::TooBig(rest & 0xffff),
        (3, 9 | 10 | 13) => Why::Forbidden,
        (3, _) => Why::Other,
        (11, 0) => Why::HopLimit,
        (11, _) => Why::Reassembly,
        (12, _) => Why::Header,
        _ => return None,
    })
}

fn why_v6(kind: u8, code: u8, rest: u32) -> Option<Why> {
    Some(match (kind, code) {
        (1, 0 | 2) => Why::Network,
        (1, 3) => Why::Host,
        (1, 4) => Why::Port,
        (1, 1 | 5 | 6) => Why::Forbidden,
        (1, _) => Why::Other,
        (2, _) => Why::TooBig(rest),
        (3, 0) => Why::HopLimit,
        (3, _) => Why::Reassembly,
        (4, _) => Why::Header,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_and_code_has_its_meaning() {
        use Why::{Forbidden, Header, HopLimit, Host, Network, Other, Port, Protocol, Reassembly, TooBig};
        let unreachable = [
            Network,
            Host,
            Protocol,
            Port,
            TooBig(1300),
            Other,
            Network,
            Host,
            Other,
            Forbidden,
            Forbidden,
            Network,
            Host,
            Forbidden,
        ];
        let unreachable_v6 = [Network, Forbidden, Network, Host, Port, Forbidden, Forbidden, Other];
        let of = |version, kind: usize, code: usize| {
            let message = [kind as u8, code as u8, 0, 0, 0x7f * u8::from(version == Version::V4), 0, 0x05, 0x14, 0xee];
            let error = Error::of(version, &message);
            assert!(error.is_none_or(|error| error.quoted == [0xee]));
            error.map(|error| error.why)
        };
        for kind in 0..256 {
            for code in 0..256 {
                let expected = match kind {
                    3 => Some(*unreachable.get(code).unwrap_or(&Other)),
                    11 => Some(if code == 0 { HopLimit } else { Reassembly }),
                    12 => Some(Header),
                    _ => None,
                };
                assert_eq!(of(Version::V4, kind, code), expected, "type {kind}, code {code}");
                let expected = match kind {
                    1 => Some(*unreachable_v6.get(code).unwrap_or(&Other)),
                    2 => Some(TooBig(1300)),
                    3 => Some(if code == 0 { HopLimit } else { Reassembly }),
                    4 => Some(Header),
                    _ => None,
                };
                assert_eq!(of(Version::V6, kind, code), expected, "ICMPv6 type {kind}, code {code}");
            }
        }
        assert_eq!(Error::of(Version::V4, &[3, 0, 0, 0, 0, 0, 0]), None);
    }
}
