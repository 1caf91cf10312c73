//! IKE messages in and out.

use std::time::Instant;

use gateway_core::cause::Unsent;
use ike_core::endpoint::SaState;
use ike_core::event::IkeId;
use ipsec_core::net;
use tracing::{debug, enabled, warn};

use super::state::Daemon;
use crate::ask::Question;
use crate::socket::Marks;
use crate::story;

impl Daemon {
    /// An IKE message came. The key exchange happens here, and packets go on meanwhile.
    pub(super) fn heard(&mut self, path: net::Path, message: &mut [u8]) {
        let now = self.clock.now();
        let (gateway, mut parts) = self.lend();
        let dropped = gateway.handle_datagram(now, path, message, &mut parts);
        if enabled!(tracing::Level::DEBUG)
            && let Some(others) = self.lines.received.admit(Instant::now())
        {
            let (octets, dropped) = (message.len(), dropped.map(|discard| format!("{discard:?}")));
            let what = story::heard(self.endpoint.last_message(), message);
            debug!(remote = %path.remote, octets, dropped, others, "received {what}");
        }
    }

    /// Sends what there is to send.
    pub(super) fn transmit(&mut self) {
        // Before the offer leaves, and after the answer was taken.
        self.early.expect(self.endpoint.offers());
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let (ike, path) = (transmit.ike, transmit.path);
            let (octets, repeated) = (transmit.datagram.len(), transmit.repeated);
            if enabled!(tracing::Level::DEBUG)
                && let Some(others) = self.lines.sent.admit(Instant::now())
            {
                match transmit.outline {
                    Some(what) => debug!(remote = %path.remote, octets, repeated, others, "sent {what}"),
                    None => debug!(remote = %path.remote, octets, others, "sent a NAT keepalive"),
                }
            }
            let sent = self
                .plane
                .send(path, Marks::default(), transmit.datagram)
                .map_err(|error| self.machine.why_not_sent(&error));
            let Some(ike) = ike else {
                if let Err(unsent) = &sent {
                    self.tell_unsent(None, path, &unsent.why);
                }
                continue;
            };
            // For a call alone the kernel is asked where it went: what strangers send us costs no question.
            let view = self.endpoint.ike_sa(ike).filter(|_| sent.is_ok());
            match view.is_some_and(|view| view.state == SaState::Connecting && view.waiting.is_some()) {
                true => self.machine.ask(Question::Sent { ike, path }),
                false => self.sent(ike, path, sent),
            }
        }
    }

    /// Whether an IKE SA is with a peer that is gone from the configuration.
    pub(super) fn is_of_nobody(&self, ike: Option<IkeId>) -> bool {
        let peer = ike.and_then(|ike| self.endpoint.ike_sa(ike)?.peer);
        peer.is_some_and(|id| self.endpoint.pad().get(id).is_none())
    }

    /// Tells that a message could not be sent. A peer that is gone from the configuration was told once that it is; that the
    /// repetitions do not go, as nobody listens there any more, is nothing to be looked after.
    fn tell_unsent(&mut self, ike: Option<IkeId>, path: net::Path, why: &str) {
        if self.is_of_nobody(ike) {
            debug!(local = %path.local, remote = %path.remote, "an IKE message to a peer that is gone could not be sent: {why}");
        } else if let Some(others) = self.lines.unsent.admit(Instant::now()) {
            let peer = ike.and_then(|ike| self.endpoint.ike_sa(ike)?.peer);
            let peer = peer.and_then(|id| self.endpoint.pad().get(id)).map(|peer| peer.name.as_str());
            warn!(peer, local = %path.local, remote = %path.remote, others, "an IKE message could not be sent: {why}");
        }
    }

    /// A message for this IKE SA went, or did not.
    pub(super) fn sent(&mut self, ike: IkeId, path: net::Path, outcome: Result<(), Unsent>) {
        if let Err(unsent) = &outcome {
            self.tell_unsent(Some(ike), path, &unsent.why);
        }
        self.gateway.sent(ike, outcome, &self.endpoint);
    }
}
