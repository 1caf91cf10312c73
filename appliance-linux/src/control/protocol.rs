//! What goes over the control socket: one JSON object a line, a request and its answer.

mod cause;
mod show;
mod status;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use cause::Cause;
pub(crate) use show::{Discarded, Flow, Sa, Show, ShownIke};
pub(crate) use status::{BoundaryStatus, ChildStatus, IkeStatus, ManualStatus, PeerState, PeerStatus, Status};

/// A request is one line of at most this many octets.
pub(crate) const MAX_REQUEST: usize = 4096;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Peers, Child SAs, counters.
    Status,
    /// Policies, SAs.
    Show,
    /// Connect and wait for the outcome; with `progress` what is in the way meanwhile is told before it.
    Up {
        name: String,
        timeout_ms: u64,
        #[serde(default)]
        progress: bool,
    },
    /// Disconnect.
    Down { name: String, timeout_ms: u64 },
    /// Fresh keys.
    Rekey { name: String, ike: bool, timeout_ms: u64 },
    /// Read the configuration again; with `dry_run` only tell what would change.
    Reload {
        #[serde(default)]
        dry_run: bool,
    },
    /// What happens from now on, a line each, until one side has enough.
    Events,
}

/// How long the daemon may take for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It is answered at once.
    No,
    /// For this long, until there is an outcome.
    For(Duration),
    /// For the outcome, which comes.
    ForIt,
}

impl Waits {
    /// The time until there must be an answer, where `daemon` is what it takes to give one; `None`: there is no such time.
    pub(crate) fn limit(self, daemon: Duration) -> Option<Duration> {
        match self {
            Self::No => Some(daemon),
            Self::For(time) => Some(time.saturating_add(daemon)),
            Self::ForIt => None,
        }
    }
}

impl Request {
    pub(crate) fn waits(&self) -> Waits {
        match self {
            Self::Up { timeout_ms, .. } | Self::Down { timeout_ms, .. } | Self::Rekey { timeout_ms, .. } => {
                Waits::For(Duration::from_millis(*timeout_ms))
            }
            // The guard goes first: how long that takes depends on its rules, and on what it is about already.
            Self::Reload { dry_run: false } => Waits::ForIt,
            Self::Status | Self::Show | Self::Reload { dry_run: true } | Self::Events => Waits::No,
        }
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// It was done; the lines say what.
    Done { lines: Vec<String> },
    /// It did not work out.
    Failed { cause: Cause },
    /// Something is in the way, and the answer is still to come.
    Progress { cause: Cause },
    /// The answer to [`Request::Status`].
    Status { status: Status },
    /// The answer to [`Request::Show`].
    Show { show: Show },
}

/// Something that happened, as `events --json` prints it: keys are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// RFC 3339, UTC.
    pub(crate) time: String,
    /// A word to match in scripts.
    pub(crate) event: String,
    pub(crate) peer: Option<String>,
    pub(crate) child: Option<String>,
    pub(crate) cause: Option<Cause>,
    /// A sentence.
    pub(crate) text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_and_comes_back_equal() {
        let requests = [
            Request::Status,
            Request::Show,
            Request::Up { name: "cloud/net".into(), timeout_ms: 1000, progress: true },
            Request::Rekey { name: "cloud".into(), ike: true, timeout_ms: 1 },
            Request::Reload { dry_run: true },
            Request::Events,
        ];
        for request in requests {
            let line = serde_json::to_string(&request).unwrap();
            assert!(!line.contains('\n') && line.len() < MAX_REQUEST);
            assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        }
        let plain: Request = serde_json::from_str(r#"{"command":"reload"}"#).unwrap();
        assert_eq!(plain, Request::Reload { dry_run: false });
        assert_eq!(serde_json::to_string(&Request::Status).unwrap(), r#"{"command":"status"}"#);
    }

    #[test]
    fn unknown_commands_and_keys_are_refused() {
        for bad in [r#"{"command":"halt"}"#, r#"{"command":"up","name":"x"}"#, "[]", ""] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
