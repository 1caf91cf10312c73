//! How long packets are that an SA carries, and how long those may be that it is given (RFC 4301 §8.2).

use crate::net::Encap;
use crate::transform::{Layout, TRAILER_LEN};
use crate::wire::ip::Version;
use crate::wire::{ipv4, ipv6, udp};

/// The least that passes any link of IPv4, by what hosts have to put together (RFC 791 §3.1). Hardly any path is that narrow;
/// who says so is believed no further.
pub const LEAST_V4: usize = 576;
/// The least that passes any link of IPv6 (RFC 8200 §5).
pub const LEAST_V6: usize = 1280;

/// What stands around the packets of an SA: outer IP, UDP where the SA has it, and ESP. No header has options or extension headers.
///
/// ```
/// use ipsec_core::crypto::{AeadAlg, Protection};
/// use ipsec_core::mtu::Overhead;
/// use ipsec_core::net::Encap;
/// use ipsec_core::transform::Layout;
/// use ipsec_core::wire::ip::Version;
/// let layout = Layout::of(Protection::Aead(AeadAlg::Aes256Gcm16));
/// let overhead = Overhead { outer: Version::V4, replaced: None, encap: Encap::Udp, layout };
/// assert_eq!(overhead.max_inner_len(1500), 1438);
/// assert_eq!(overhead.outer_len(1438), 1500); // 20 + 8 + 8 + 8 + 1438 + 2 + 16
/// assert_eq!(overhead.outer_len(1439), 1504); // ESP is padded to 4 octets
/// let transport = Overhead { replaced: Some(Version::V4), ..overhead };
/// assert_eq!(transport.max_inner_len(1500), 1458); // its header is the outer one
/// ```
///
/// An engine says what its SAs have: [`Outbound::overhead`](crate::engine::Outbound::overhead).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overhead {
    /// Version of the outer header.
    pub outer: Version,
    /// Version of the inner header that the outer one stands in the place of: in transport mode and in BEET mode.
    pub replaced: Option<Version>,
    /// Protocol 50 or UDP.
    pub encap: Encap,
    /// How ESP is laid out.
    pub layout: Layout,
}

impl Overhead {
    /// Octets of the whole packet, outer header included, that carries an inner one of `inner` octets.
    pub const fn outer_len(&self, inner: usize) -> usize {
        let inner = inner.saturating_sub(self.inside());
        let esp = self.layout.shortest().saturating_add(self.layout.pad_len(inner));
        header_len(self.outer).saturating_add(self.udp()).saturating_add(esp).saturating_add(inner)
    }

    /// Octets of the longest inner packet whose outer one has no more than `path_mtu` octets; 0 when there is none.
    ///
    /// That is the MTU that the sender of inner packets is to be told ([`icmp::too_big`](crate::icmp::too_big)), and what
    /// [`mss::clamp`](crate::mss::clamp) wants.
    pub const fn max_inner_len(&self, path_mtu: usize) -> usize {
        let esp = self.layout.headroom().saturating_add(self.layout.icv_len as usize);
        let around = header_len(self.outer).saturating_add(self.udp()).saturating_add(esp);
        // What is left for the packet with its trailer, of which whole blocks are used.
        let left = path_mtu.saturating_sub(around);
        match (left & !(self.layout.align as usize).wrapping_sub(1)).checked_sub(TRAILER_LEN) {
            Some(inner) => inner.saturating_add(self.inside()),
            None => 0,
        }
    }

    /// Octets of an inner packet that ESP does not carry.
    const fn inside(&self) -> usize {
        match self.replaced {
            Some(version) => header_len(version),
            None => 0,
        }
    }

    const fn udp(&self) -> usize {
        match self.encap {
            Encap::None => 0,
            Encap::Udp => udp::HEADER_LEN,
        }
    }
}

const fn header_len(version: Version) -> usize {
    match version {
        Version::V4 => ipv4::HEADER_LEN,
        Version::V6 => ipv6::HEADER_LEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Iv;

    #[test]
    fn the_longest_packet_that_fits_does_and_one_octet_more_does_not() {
        let layouts = [(8, 16, 4), (0, 16, 4), (8, 8, 4), (16, 12, 16), (16, 32, 16), (8, 12, 8), (0, 24, 4)];
        for (iv_len, icv_len, align) in layouts {
            let layout = Layout { iv_len, iv: Iv::Counter, icv_len, align };
            for (outer, encap) in [Version::V4, Version::V6].into_iter().zip([Encap::None, Encap::Udp].repeat(2)) {
                for replaced in [None, Some(Version::V4), Some(Version::V6)] {
                    let overhead = Overhead { outer, replaced, encap, layout };
                    for mtu in 0..2000 {
                        let longest = overhead.max_inner_len(mtu);
                        if longest > 0 {
                            assert!(overhead.outer_len(longest) <= mtu, "{overhead:?}, {mtu}");
                        }
                        assert!(overhead.outer_len(longest.max(overhead.inside()) + 1) > mtu, "{overhead:?}, {mtu}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_wraps_at_the_ends() {
        let layout = Layout { iv_len: 16, iv: Iv::Random, icv_len: 32, align: 16 };
        let overhead = Overhead { outer: Version::V6, replaced: None, encap: Encap::Udp, layout };
        assert_eq!(overhead.max_inner_len(0), 0);
        assert_eq!(overhead.outer_len(usize::MAX), usize::MAX);
        assert!(overhead.max_inner_len(usize::MAX) > usize::MAX - 200);
    }
}
