//! The Internet checksum (RFC 1071) and its update in place (RFC 1624).

use core::net::{Ipv4Addr, Ipv6Addr};

/// A running one's-complement sum. Parts of odd length are only right as the last one.
///
/// ```
/// use ipsec_core::wire::checksum::Sum;
/// let mut header = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
/// let checksum = Sum::default().bytes(&header).finish();
/// header[10..12].copy_from_slice(&checksum.to_be_bytes());
/// assert!(Sum::default().bytes(&header).is_valid());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds octets, the last one padded with zero when their number is odd.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (pairs, odd) = bytes.as_chunks::<2>();
        let sum = pairs.iter().fold(self.0, |sum, pair| sum.wrapping_add(u64::from(u16::from_be_bytes(*pair))));
        Self(sum.wrapping_add(odd.first().map_or(0, |last| u64::from(*last) << 8)))
    }

    /// Adds one 16-bit word.
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0.wrapping_add(word as u64))
    }

    /// Adds the IPv6 pseudo-header (RFC 8200 §8.1).
    #[must_use]
    pub fn pseudo_v6(self, source: Ipv6Addr, destination: Ipv6Addr, length: u16, protocol: u8) -> Self {
        self.bytes(&source.octets()).bytes(&destination.octets()).word(length).word(u16::from(protocol))
    }

    /// Adds the IPv4 pseudo-header (RFC 768, RFC 9293 §3.1).
    #[must_use]
    pub fn pseudo_v4(self, source: Ipv4Addr, destination: Ipv4Addr, length: u16, protocol: u8) -> Self {
        self.bytes(&source.octets()).bytes(&destination.octets()).word(length).word(u16::from(protocol))
    }

    /// The checksum over everything added: the complement of the folded sum.
    pub const fn finish(self) -> u16 {
        !self.fold()
    }

    /// Whether the octets added, their checksum field included, are intact.
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }

    const fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff).wrapping_add(sum >> 16);
        }
        sum as u16
    }
}

/// The checksum after one 16-bit word under it changed from `old` to `new` (RFC 1624, equation 3).
///
/// ```
/// use ipsec_core::wire::checksum::{Sum, update};
/// let (before, after) = ([1, 2, 3, 4], [1, 2, 9, 9]);
/// let checksum = Sum::default().bytes(&before).finish();
/// assert_eq!(update(checksum, 0x0304, 0x0909), Sum::default().bytes(&after).finish());
/// ```
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum(0).word(!checksum).word(!old).word(new).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_example_of_rfc_1071() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), !0xddf2);
        assert!(sum.word(sum.finish()).is_valid());
        assert_eq!(Sum::default().bytes(&[0xab]).finish(), !0xab00);
    }

    #[test]
    fn an_update_equals_a_new_sum() {
        let mut bytes = [0x45, 0x00, 0x12, 0x34, 0xff, 0xff, 0x00, 0x00];
        for (old, new) in [(0x4500u16, 0x4503u16), (0x4503, 0x45ff), (0x45ff, 0x0000), (0x0000, 0xffff)] {
            bytes[..2].copy_from_slice(&old.to_be_bytes());
            let before = Sum::default().bytes(&bytes).finish();
            bytes[..2].copy_from_slice(&new.to_be_bytes());
            let after = Sum::default().bytes(&bytes).finish();
            assert_eq!(update(before, old, new), after);
        }
    }
}
