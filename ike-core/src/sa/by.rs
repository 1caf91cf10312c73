//! What IKE SAs are looked up by.

use core::net::{IpAddr, SocketAddr};

use crate::event::Party;
use crate::pad::PeerId;
use crate::table::{HashSecret, Key};

/// What IKE SAs are looked up by.
pub(crate) enum By {
    /// The peer, of an established one.
    Peer(PeerId),
    /// The peer and who that proved to be, of an established one.
    Party(Option<PeerId>, Party),
    /// What one sender may have many of left out, of a half-open one.
    Source(IpAddr),
    /// What the stranger's request was, of a half-open one.
    Request(u64, SocketAddr),
    /// Our SPI where we are the initiator.
    Ours(u64),
}

impl Key for By {
    fn kind(&self) -> usize {
        // An SA is established or half-open, and half-open ours or a stranger's, never both. A stranger's source stands with
        // what we chose ourselves: of the same peer there may be as many as there are places, and nobody is to walk over those
        // before there is a cookie.
        match self {
            Self::Peer(_) => 0,
            Self::Party(..) | Self::Request(..) => 1,
            Self::Source(_) | Self::Ours(_) => 2,
        }
    }

    fn hash(&self, secret: &HashSecret) -> u64 {
        match self {
            Self::Peer(peer) => secret.hash(&[0, u64::from(peer.0)]),
            Self::Party(peer, party) => {
                let [high, low] = halves(u128::from_be_bytes(party.digest));
                secret.hash(&[1, peer.map_or(u64::MAX, |peer| u64::from(peer.0)), high, low])
            }
            Self::Source(IpAddr::V4(ip)) => secret.hash(&[2, u64::from(ip.to_bits())]),
            Self::Source(IpAddr::V6(ip)) => {
                let [network, _] = halves(ip.to_bits());
                secret.hash(&[3, network])
            }
            Self::Request(spi, from) => {
                let [high, low] = match from.ip() {
                    IpAddr::V4(ip) => [0, u64::from(ip.to_bits())],
                    IpAddr::V6(ip) => halves(ip.to_bits()),
                };
                secret.hash(&[4, *spi, u64::from(from.port()), high, low])
            }
            Self::Ours(spi) => secret.hash(&[5, *spi]),
        }
    }
}

fn halves(whole: u128) -> [u64; 2] {
    [whole >> 64, whole & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or(u64::MAX))
}

/// What one sender may have many of does not count: ports, and the addresses of an IPv6 /64.
pub(crate) fn same_source(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.octets().first_chunk::<8>() == other.octets().first_chunk::<8>(),
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_source_is_filed_by_stands_in_no_chain_that_peers_make_long() {
        let source = By::Source(IpAddr::from([192, 0, 2, 1])).kind();
        let request = By::Request(1, SocketAddr::from(([192, 0, 2, 1], 500))).kind();
        let peer = By::Peer(PeerId(0)).kind();
        assert!(source != peer && request != peer && source != request);
    }
}
