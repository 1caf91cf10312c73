//! What the gateway reports: into the log, to who waits for it, and to who listens.

use gateway_core::cause::Kind;
use gateway_core::gateway::{Ended, Identities, Level, Report, What};
use tracing::debug;

use super::snapshot::ike_status;
use super::state::Daemon;
use crate::control::waiting::Failed;
use crate::story;

impl Daemon {
    /// Writes a report into the log, and wakes who waits for it.
    pub(super) fn tell(&mut self, report: &Report) {
        self.served.expire();
        let up = match &report.what {
            What::Connected { ike: Some(ike), took } => {
                let peers = self.endpoint.pad();
                let identities = ike.peer.map(|peer| Identities::of(peer, peers)).unwrap_or_default();
                Some((ike_status(ike, &identities, self.clock.now()), *took))
            }
            _ => None,
        };
        story::tell(report, up.as_ref().map(|(ike, took)| (ike, *took)));
        self.served.announce(|| story::event(report));
        if let (false, Some(peer), Some(cause)) = (self.served.waiting.is_empty(), &report.peer, &report.cause)
            && let Some(failed) = story::failed(report)
        {
            let goes_on = matches!(failed, Failed::Handshake | Failed::Closed) && self.goes_on(peer);
            let status = self.peer_named(peer);
            self.served.waiting.fail(
                peer,
                failed,
                (&cause.into(), cause.kind == Kind::Intent || goes_on),
                status.as_ref(),
            );
        }
        if let (Some(peer), Some(cause), Level::Warn) = (&report.peer, &report.cause, report.level()) {
            self.served.waiting.hinder(peer, report.child.as_deref(), &cause.into());
        }
    }

    /// Whether we are about to call a peer: it was somebody else's handshake that failed, or what ended is made anew.
    fn goes_on(&mut self, peer: &str) -> bool {
        let (gateway, parts) = self.lend();
        gateway.outcome(peer, &parts) == Ok(None)
    }
}

/// What went through a Child SA that is gone.
pub(super) fn ended(ended: &Ended) {
    let totals = ended.totals;
    debug!(
        peer = ended.account.peer,
        child = ended.account.child,
        party = ended.account.party,
        number = ended.pair.0,
        seconds = ended.until.since(ended.since).as_secs(),
        bytes_in = totals.bytes_in,
        bytes_out = totals.bytes_out,
        packets_in = totals.packets_in,
        packets_out = totals.packets_out,
        "a Child SA is gone, with what went through it"
    );
}
