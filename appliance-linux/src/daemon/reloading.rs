//! The reload that is under way.

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
    since: Instant,
    /// Which answer is the one to its question for the file.
    number: u64,
    /// What the service manager is told; none: it is only asked what would change.
    pub(super) reloading: Option<Reloading>,
    /// It has been read, and the boundary is being told of it.
    pub(super) following: Option<Box<Loaded>>,
    /// A signal came meanwhile.
    pub(super) again: bool,
}

impl Reload {
    /// Whether the file is being read.
    fn is_read(&self) -> bool {
        self.following.is_none()
    }

    /// When that is given up.
    fn deadline(&self) -> Option<Instant> {
        self.is_read().then_some(self.since + READING)
    }
}

/// One at a time.
#[derive(Default)]
pub(super) struct Reloads {
    under_way: Option<Reload>,
    /// How often the file was asked for: the number of the last time.
    asked: u64,
}

impl Reloads {
    pub(super) fn are_over(&self) -> bool {
        self.under_way.is_none()
    }

    /// Begins one, where they are over. Returns the number under which the file is asked for.
    pub(super) fn begin(&mut self, answer: Option<Reply>, reloading: Option<Reloading>) -> u64 {
        self.asked += 1;
        let (since, number) = (Instant::now(), self.asked);
        self.under_way = Some(Reload { answer, since, number, reloading, following: None, again: false });
        number
    }

    /// The file may have changed since it was read: it is read again when this is over.
    pub(super) fn repeat(&mut self) {
        if let Some(reload) = &mut self.under_way {
            reload.again = true;
        }
    }

    /// Takes the one that asked for the file under this number. One that comes too late is not asked for any more, whatever is
    /// asked for since.
    pub(super) fn take_read(&mut self, number: u64) -> Option<Reload> {
        self.under_way.take_if(|reload| reload.is_read() && reload.number == number)
    }

    /// Takes one whose file could not be read in time.
    pub(super) fn take_late(&mut self, now: Instant) -> Option<Reload> {
        self.under_way.take_if(|reload| reload.deadline().is_some_and(|at| at <= now))
    }

    /// Takes whichever there is.
    pub(super) fn take(&mut self) -> Option<Reload> {
        self.under_way.take()
    }

    /// The boundary is being told of what was read.
    pub(super) fn follow(&mut self, reload: Reload, loaded: Box<Loaded>) {
        self.under_way = Some(Reload { following: Some(loaded), ..reload });
    }

    /// No other one follows. Whether the boundary has yet to say what becomes of this one.
    pub(super) fn give_up(&mut self) -> bool {
        let Some(reload) = &mut self.under_way else { return false };
        reload.again = false;
        reload.following.is_some()
    }

    /// When the reading of the file is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.under_way.as_ref().and_then(Reload::deadline)
    }
}

#[cfg(test)]
impl Reloads {
    /// So much time passes.
    pub(super) fn pass(&mut self, time: Duration) {
        self.under_way.as_mut().expect("one is under way").since -= time;
    }
}
