//! Packets from an address of this machine that no policy wants: what may have brought them to our device, told now and then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipsec_core::flow::{Flow, Ports};
use tracing::warn;

use super::Sockets;
use crate::logging::Throttle;

/// Whose tunnel is up and whose packets vanish looks into the log; one line in so much time is enough.
const EVERY: Duration = Duration::from_secs(60);

const ESP: u8 = 50;
const UDP: u8 = 17;

const NAT: &str = "where a host behind us has sent it, NAT has rewritten it before it came here: exempt what goes to remote \
                   networks, and have conntrack forget the flow (conntrack -D -d ADDRESS); where this machine has, its \
                   address is in no \"local-ts\"";
const MARK: &str = "it is ESP, or from a port of IKE; where it is our own, somebody changes the firewall mark of our packets, \
                    so that they come back to us; ";

/// What was told of them.
pub(super) struct Strays(Mutex<Throttle>);

impl Strays {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Throttle::new(1, EVERY, now)))
    }

    /// Tells of a packet that was dropped because no policy wants it, if its source is one of our own addresses.
    pub(super) fn tell(&self, packet: &[u8], sockets: &Sockets) {
        let Ok(flow) = Flow::of(packet) else { return };
        if !sockets.is_ours(flow.source) {
            return;
        }
        let admitted = self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        if let Some(others) = admitted {
            let (from, to) = (flow.source, flow.destination);
            let mark = if is_like_ours(&flow) { MARK } else { "" };
            warn!(others, "a packet from {from}, which is ours, to {to} fits no policy and is dropped: {mark}{NAT}");
        }
    }
}

/// Whether it may be one of those that carry our mark. NAT leaves protocol and ports of a host behind us as they are, where it can.
fn is_like_ours(flow: &Flow) -> bool {
    flow.protocol == ESP || flow.protocol == UDP && matches!(flow.ports, Ports::Pair { source: 500 | 4500, .. })
}
