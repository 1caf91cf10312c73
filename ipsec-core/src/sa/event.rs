//! What an SA reports.

use super::ids::SaId;
use super::lifetime::Reached;
use crate::net::{Path, Spi};

/// What happened to an SA. The data path only reports; the caller decides.
///
/// ```
/// use core::time::Duration;
/// use ipsec_core::engine::{Outbound, OutboundSlot};
/// use ipsec_core::sa::{Event, Lifetime, Limit, OutboundParams, Reached, SaId, Status};
/// use ipsec_core::time::Instant;
/// # use ipsec_core::crypto::{AeadAlg, rustcrypto::RustCrypto};
/// # use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
/// # use ipsec_core::sa::{DontFragment, Mode, Params};
/// # let all = [TrafficSelector::addrs(AddrRange::ANY_V4)];
/// # let at: core::net::SocketAddr = "192.0.2.1:0".parse().unwrap();
/// let soft = Limit { age: Some(Duration::from_secs(60)), ..Limit::default() };
/// let lifetime = Lifetime { soft, hard: Limit::default() };
/// # let sa = Params { spi: Spi::new(0x1000).unwrap(), mode: Mode::Tunnel, protection: AeadAlg::Aes128Gcm16.into(), keymat: &[7; 20],
/// #     esn: true, path: Path { local: at, remote: at }, encap: Encap::None, policy: ipsec_core::spd::PolicyId(1),
/// #     local_ts: &all, remote_ts: &all, lifetime, compression: None };
/// # let params = OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: false, dont_fragment: DontFragment::Copy };
/// # let mut sas = [const { OutboundSlot::<RustCrypto>::EMPTY }; 1];
/// # let mut outbound: Outbound<'_, _> = Outbound::new(RustCrypto, &mut [], &mut sas);
/// let id: SaId = outbound.install(Instant::ZERO, &params).unwrap();
/// let due = outbound.poll_timeout().unwrap();
/// assert_eq!(due, Instant::from_millis(60_000));
/// outbound.handle_timeout(due);
/// let Some(Event::SoftLifetime { sa, reached: Reached::Age, .. }) = outbound.poll_event() else { panic!() };
/// assert_eq!(sa, id); // time to ask IKE for another one
/// let status: Status = outbound.sa(id).unwrap();
/// assert!(!status.dead && status.packets == 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A soft limit was reached: rekey.
    SoftLifetime {
        /// The SA.
        sa: SaId,
        /// Its SPI.
        spi: Spi,
        /// Which limit.
        reached: Reached,
    },
    /// A hard limit was reached, or the sequence numbers are used up: the SA is dead and to be removed.
    HardLifetime {
        /// The SA.
        sa: SaId,
        /// Its SPI.
        spi: Spi,
        /// Which limit.
        reached: Reached,
    },
    /// The first authenticated packet came in on this SA: the peer has installed its side.
    FirstPacket {
        /// The SA.
        sa: SaId,
        /// Its SPI.
        spi: Spi,
    },
    /// The newest authenticated packet came on another path than the SA's: a NAT has a new mapping, or the peer moved.
    /// Nothing is sent there until the caller says so.
    PathChanged {
        /// The SA.
        sa: SaId,
        /// Its SPI.
        spi: Spi,
        /// The path the packet came on.
        path: Path,
    },
}
