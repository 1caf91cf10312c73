//! The Ethernet header (IEEE 802.3 §3.2, Ethernet II).

use core::fmt;

use ipsec_core::wire::cursor::{Malformed, Reader, Writer};

/// Octets of the header.
pub const HEADER_LEN: usize = 14;

/// An EtherType; below [`EtherType::FIRST`] it is a length (IEEE 802.3 §3.2.6).
///
/// ```
/// use traffic_core::wire::ethernet::EtherType;
/// assert!(EtherType(0x88a8).is_tag());
/// assert!(EtherType(46).is_length() && !EtherType::IPV4.is_length());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// The smallest number that is a type.
    pub const FIRST: Self = Self(0x0600);
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// A customer's VLAN tag (IEEE 802.1Q).
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// Discovery stage of PPPoE (RFC 2516 §5).
    pub const PPPOE_DISCOVERY: Self = Self(0x8863);
    /// Session stage of PPPoE (RFC 2516 §6).
    pub const PPPOE_SESSION: Self = Self(0x8864);
    /// A provider's VLAN tag (IEEE 802.1ad, "QinQ").
    pub const PROVIDER_VLAN: Self = Self(0x88a8);

    /// Whether a VLAN tag follows.
    pub const fn is_tag(self) -> bool {
        matches!(self, Self::VLAN | Self::PROVIDER_VLAN)
    }

    /// Whether it is none, but the length of an LLC frame.
    pub const fn is_length(self) -> bool {
        self.0 < Self::FIRST.0
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtherType({:#06x})", self.0)
    }
}

/// The address of an interface (EUI-48).
///
/// ```
/// use traffic_core::wire::ethernet::Address;
/// let all_nodes = Address([0x33, 0x33, 0, 0, 0, 1]);
/// assert!(all_nodes.is_group());
/// assert_eq!(all_nodes.to_string(), "33:33:00:00:00:01");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 6]);

impl Address {
    /// Everybody on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it is a group, or everybody.
    pub const fn is_group(self) -> bool {
        let [first, ..] = self.0;
        first & 1 != 0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ethernet header.
///
/// ```
/// use ipsec_core::wire::cursor::{Reader, Writer};
/// use traffic_core::wire::ethernet::{Address, EtherType, HEADER_LEN, Header};
/// let source = Address([0x02, 0, 0, 0, 0, 1]);
/// let header = Header { destination: Address::BROADCAST, source, ether_type: EtherType::ARP };
/// let mut octets = [0; HEADER_LEN];
/// header.write(&mut Writer::new(&mut octets)).unwrap();
/// assert_eq!(octets[12..], [0x08, 0x06]);
/// assert_eq!(Header::read(&mut Reader::new(&octets)), Ok(header));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// To whom.
    pub destination: Address,
    /// From whom.
    pub source: Address,
    /// What follows.
    pub ether_type: EtherType,
}

impl Header {
    /// Reads a header; the reader then stands behind it.
    ///
    /// # Errors
    /// [`Malformed`] when it is cut off.
    #[inline]
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (destination, source) = (Address(reader.array()?), Address(reader.array()?));
        Ok(Self { destination, source, ether_type: EtherType(reader.u16()?) })
    }

    /// Writes [`HEADER_LEN`] octets.
    ///
    /// # Errors
    /// [`Malformed`] when they do not fit.
    #[inline]
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        writer.put(&self.destination.0)?;
        writer.put(&self.source.0)?;
        writer.put(&self.ether_type.0.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let header = Header {
            destination: Address([0x33, 0x33, 0, 0, 0, 1]),
            source: Address([2, 0, 0, 0, 0, 0xfe]),
            ether_type: EtherType::IPV6,
        };
        let mut octets = [7; HEADER_LEN + 1];
        header.write(&mut Writer::new(&mut octets)).unwrap();
        let mut reader = Reader::new(&octets);
        assert_eq!(Header::read(&mut reader), Ok(header));
        assert_eq!(reader.rest(), [7]);
        for len in 0..HEADER_LEN {
            assert_eq!(Header::read(&mut Reader::new(&octets[..len])), Err(Malformed), "{len} octets");
            assert_eq!(header.write(&mut Writer::new(&mut [0; HEADER_LEN][..len])), Err(Malformed), "{len} octets");
        }
    }

    #[test]
    fn groups_tags_and_lengths_are_known() {
        assert!(Address::BROADCAST.is_group() && Address([1, 0, 0x5e, 0, 0, 1]).is_group());
        assert!(!Address([2, 0, 0, 0, 0, 1]).is_group());
        assert_eq!(Address([2, 0, 0, 0, 0xab, 1]).to_string(), "02:00:00:00:ab:01");
        assert!(EtherType::VLAN.is_tag() && EtherType::PROVIDER_VLAN.is_tag() && !EtherType::IPV4.is_tag());
        assert!(EtherType(1500).is_length() && !EtherType::FIRST.is_length());
    }
}
