//! Packets that the engines discarded, one by one: for `log = "trace"`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipsec_core::error::Discard;
use ipsec_core::flow::{Flow, Ports};
use tracing::{enabled, trace};

use crate::logging::Throttle;
use crate::socket::Origin;

/// Others decide how many there are.
const LINES: u32 = 200;
const EVERY: Duration = Duration::from_secs(10);

/// What was told of them.
pub(super) struct Discards(Mutex<Throttle>);

impl Discards {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Throttle::new(LINES, EVERY, now)))
    }

    /// A packet from the protected side.
    pub(super) fn tell(&self, reason: Discard, packet: &[u8]) {
        let Some(others) = self.admit() else { return };
        match Flow::of(packet) {
            Ok(Flow { source, destination, protocol, ports, .. }) => match ports {
                Ports::Pair { source: from, destination: to } => {
                    trace!(?reason, %source, from, %destination, to, protocol, others, "a packet was discarded");
                }
                _ => trace!(?reason, %source, %destination, protocol, others, "a packet was discarded"),
            },
            Err(_) => trace!(?reason, octets = packet.len(), others, "what is no IP packet was discarded"),
        }
    }

    /// An ESP packet from outside.
    pub(super) fn tell_of_esp(&self, reason: Discard, origin: &Origin) {
        if let Some(others) = self.admit() {
            trace!(?reason, remote = %origin.path.remote, local = %origin.path.local, others, "an ESP packet was discarded");
        }
    }

    /// Whether somebody wants to know, and how many were not told since the last one.
    fn admit(&self) -> Option<u64> {
        let wanted = enabled!(tracing::Level::TRACE);
        wanted.then(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())).flatten()
    }
}
