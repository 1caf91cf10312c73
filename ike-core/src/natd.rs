//! NAT detection (RFC 7296 §2.23).

use core::net::{IpAddr, SocketAddr};

use ipsec_core::net::Path;

use crate::crypto::IkeCrypto;
use crate::registry::NotifyKind;
use crate::rules::Payloads;

/// What NAT detection found.
///
/// ```
/// use ike_core::natd::Nat;
/// let behind_one = Nat { local: true, remote: false }; // `IkeView::nat` says so: we send keepalives
/// assert!(behind_one.found() && !Nat::default().found());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Nat {
    /// Our address is translated on the way.
    pub local: bool,
    /// The peer's address is translated on the way.
    pub remote: bool,
}

impl Nat {
    /// Whether a NAT stands anywhere in between.
    pub fn found(self) -> bool {
        self.local || self.remote
    }
}

/// Data of a NAT_DETECTION notification. SHA-1 by definition, whatever the policy says of SHA-1 elsewhere.
pub(crate) fn digest<C: IkeCrypto>(crypto: &mut C, spi_i: u64, spi_r: u64, addr: SocketAddr) -> [u8; 20] {
    let (v4, v6);
    let octets: &[u8] = match addr.ip() {
        IpAddr::V4(ip) => {
            v4 = ip.octets();
            &v4
        }
        IpAddr::V6(ip) => {
            v6 = ip.octets();
            &v6
        }
    };
    crypto.sha1(&[&spi_i.to_be_bytes(), &spi_r.to_be_bytes(), octets, &addr.port().to_be_bytes()])
}

/// Compares the peer's notifications with the addresses its message travelled on. `None`: the peer sent none, it does
/// not do NAT traversal.
pub(crate) fn detect<C: IkeCrypto>(
    crypto: &mut C,
    spi_i: u64,
    spi_r: u64,
    path: &Path,
    payloads: &Payloads<'_>,
) -> Option<Nat> {
    let remote = digest(crypto, spi_i, spi_r, path.remote);
    let local = digest(crypto, spi_i, spi_r, path.local);
    // A host with several addresses may send several source notifications: one that fits is enough.
    let (mut sources, mut source_fits, mut destinations, mut destination_fits) = (false, false, false, false);
    for notify in payloads.notifies() {
        if notify.kind == NotifyKind::NAT_DETECTION_SOURCE_IP {
            sources = true;
            source_fits |= notify.data == remote;
        } else if notify.kind == NotifyKind::NAT_DETECTION_DESTINATION_IP {
            destinations = true;
            destination_fits |= notify.data == local;
        }
    }
    (sources && destinations).then_some(Nat { local: !destination_fits, remote: !source_fits })
}
