//! A reload that is under way.

use std::time::{Duration, Instant};

use crate::configuration::Loaded;
use crate::control::server::Reply;
use crate::notify::Reloading;

/// How long a file may take to be read.
pub(super) const READING: Duration = Duration::from_secs(30);

/// A new configuration on its way.
pub(super) struct Reload {
    /// Who asked for it; none: a signal.
    pub(super) answer: Option<Reply>,
    pub(super) since: Instant,
    /// Which answer is the one to its question for the file.
    pub(super) number: u64,
    /// What the service manager is told; none: it is only asked what would change.
    pub(super) reloading: Option<Reloading>,
    /// It has been read, and the boundary is being told of it.
    pub(super) following: Option<Box<Loaded>>,
    /// A signal came meanwhile.
    pub(super) again: bool,
}

impl Reload {
    /// Whether the file is being read.
    pub(super) fn is_read(&self) -> bool {
        self.following.is_none()
    }

    /// When that is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.is_read().then_some(self.since + READING)
    }
}
