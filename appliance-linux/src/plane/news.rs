//! What the data plane tells, and whom: it knows nobody above it.

use std::io;
use std::net::IpAddr;

use gateway_core::cause::Unreachable;
use ipsec_core::net::Path;
use ipsec_core::spd::PolicyId;

use crate::early::EarlyPacket;

/// What the data plane tells.
pub(crate) enum News {
    /// An IKE message, without non-ESP marker.
    Ike { path: Path, message: Vec<u8> },
    /// A packet that must be protected by this policy, and no SA to do it with.
    Acquire { policy: PolicyId, packet: Vec<u8> },
    /// A packet left in clear that this policy protects once there is an SA: one is wanted.
    Clear { policy: PolicyId, packet: Vec<u8> },
    /// ESP with an SPI that no SA has, at least not yet.
    Early(EarlyPacket),
    /// SAs have something to tell: who listens asks the engines for it.
    Sas,
    /// Who is at `from` says that an IKE message did not arrive, and why; unproven.
    Unreachable { path: Path, from: IpAddr, why: Unreachable },
    /// A device or socket failed for good.
    Broken { what: &'static str, error: io::Error },
}

/// Whom the data plane tells.
pub(crate) trait Listener: Clone + Send + 'static {
    /// Takes what may be lost when it does not keep up. Returns what it has no room for.
    fn offer(&self, news: News) -> Option<News>;

    /// Takes what happens once and must not be lost.
    fn tell(&self, news: News);
}

#[cfg(test)]
impl Listener for std::sync::mpsc::SyncSender<News> {
    fn offer(&self, news: News) -> Option<News> {
        match self.try_send(news) {
            Err(std::sync::mpsc::TrySendError::Full(news)) => Some(news),
            _ => None,
        }
    }

    fn tell(&self, news: News) {
        let _ = self.send(news); // the test is over
    }
}
