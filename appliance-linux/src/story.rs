//! The log as a story: what the gateway reports, one line each, with what an operator asks next.

use std::time::Duration;

use gateway_core::config::{ChildDiff, Diff, PeerDiff};
use gateway_core::gateway::{Level, Report, What};
use tracing::{info, info_span, warn};

use crate::control::protocol::PeerStatus;

/// Which child a report says has failed: `Some(None)` is the whole connection, `None` is that nothing failed.
pub(crate) fn failed(report: &Report) -> Option<Option<&str>> {
    match report.what {
        What::Failed { .. } | What::Closed => Some(None),
        What::ChildFailed => report.child.as_deref().map(Some),
        _ => None,
    }
}

/// Writes a report. `status` is the peer's, where the report is that something is up; `took` how long that took.
pub(crate) fn tell(report: &Report, status: Option<&PeerStatus>, took: Option<Duration>) {
    let _span = report.peer.as_ref().map(|peer| info_span!("ike", peer).entered());
    let took_ms = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    match (&report.what, status) {
        (What::Connected, Some(status)) => {
            let Some(ike) = &status.ike else { return };
            let began = if ike.initiator { "we" } else { "the peer" };
            info!(
                local = ike.local,
                remote = ike.remote,
                remote_id = ike.remote_id,
                suite = ike.suite,
                nat = ike.nat,
                began,
                took_ms,
                "connected: the peer is authenticated"
            );
        }
        (What::ChildUp { suite, spi_in, spi_out, rekeyed, .. }, Some(status)) => {
            let child = status.children.iter().find(|child| Some(&child.name) == report.child.as_ref());
            let networks = child.map(|child| (child.local_ts.join(" "), child.remote_ts.join(" ")));
            let (local, remote) = networks.unwrap_or_default();
            let encap = child.and_then(|child| child.encap.clone());
            info!(
                child = report.child,
                %suite,
                encap,
                local,
                remote,
                spi_in = format_args!("{:#010x}", spi_in.get()),
                spi_out = format_args!("{:#010x}", spi_out.get()),
                "{}",
                if *rekeyed { "Child SA rekeyed" } else { "Child SA up" }
            );
        }
        _ => {
            let (child, code) = (&report.child, report.cause.as_ref().map(|cause| cause.code));
            let level = report.level();
            // The peer stands in the span, the child beside the text.
            let report = Report { peer: None, ..report.clone() };
            match level {
                Level::Info => info!(child, code, "{report}"),
                Level::Warn => warn!(child, code, "{report}"),
            }
        }
    }
}

/// What a reload changed, a line each.
pub(crate) fn changes(diff: &Diff) -> Vec<String> {
    let mut lines = Vec::new();
    for key in &diff.settings {
        lines.push(match *key {
            "log" => "log: holds at once".to_owned(),
            key => format!("{key}: holds from the next start"),
        });
    }
    for (peer, change) in &diff.peers {
        match change {
            PeerDiff::Added => lines.push(format!("{peer}: new")),
            PeerDiff::Removed => lines.push(format!("{peer}: gone, closed")),
            PeerDiff::Replaced => lines.push(format!("{peer}: another one now, connected anew")),
            PeerDiff::Changed { children } if children.is_empty() => {
                lines.push(format!("{peer}: timers changed, its SAs go on"));
            }
            PeerDiff::Changed { children } => lines.extend(children.iter().map(|(child, change)| {
                let what = match change {
                    ChildDiff::Added => "new",
                    ChildDiff::Removed => "gone, deleted",
                    ChildDiff::Replaced => "another one now, negotiated anew",
                    ChildDiff::Changed => "timers changed, its SAs go on",
                };
                format!("{peer}/{child}: {what}")
            })),
        }
    }
    if diff.policies {
        lines.push("policies: changed".to_owned());
    }
    if lines.is_empty() {
        lines.push("nothing changed".to_owned());
    }
    lines
}
