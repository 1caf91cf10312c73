//! What is served at the control socket: who waits there for an outcome, who listens, and what was shown last.

use std::sync::Arc;
use std::time::Instant;

use super::snapshot::{Published, Snapshot};
use crate::control::events::Events;
use crate::control::protocol::Event;
use crate::control::server::Server;
use crate::control::waiting::Waiting;

/// The control socket, and whoever came there.
#[derive(Default)]
pub(super) struct Served {
    /// Held for its drop, which removes the socket.
    server: Option<Server>,
    /// Who wants to hear what happens.
    events: Events,
    /// What was shown last.
    published: Published,
    /// Who waits for an outcome.
    pub(super) waiting: Waiting,
}

impl Served {
    /// Nobody has come yet. `events` is where the server takes whoever listens.
    pub(super) fn at(server: Server, events: Events) -> Self {
        Self { server: Some(server), events, ..Self::default() }
    }

    /// Nobody is served any more.
    pub(super) fn close(&mut self) {
        self.server = None;
    }

    /// Puts the socket back where somebody removed it.
    pub(super) fn look_after(&mut self, now: Instant) {
        if let Some(server) = &mut self.server {
            server.look_after(now);
        }
    }

    /// What was shown last, if it is not too old.
    pub(super) fn shown(&self) -> Option<Arc<Snapshot>> {
        self.published.get()
    }

    /// This is shown from now on; it took since `begun`.
    pub(super) fn publish(&mut self, snapshot: Snapshot, begun: Instant) -> Arc<Snapshot> {
        self.published.publish(snapshot, begun)
    }

    /// Something happened, and who asks wants to see that.
    pub(super) fn expire(&mut self) {
        self.published.expire();
    }

    /// Tells whoever listens; `event` is made when somebody does.
    pub(super) fn announce(&self, event: impl FnOnce() -> Event) {
        if self.events.listeners() > 0
            && let Ok(line) = serde_json::to_string(&event())
        {
            self.events.publish(&line);
        }
    }
}
