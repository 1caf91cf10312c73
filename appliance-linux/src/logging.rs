//! The log: through `tracing`, on standard error, with the time of day (RFC 3339, UTC) unless the journal stamps it.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

use lines::Written;

mod lines;

/// Changes the level while the daemon runs.
pub(crate) struct Level(reload::Handle<LevelFilter, tracing_subscriber::Registry>);

impl Level {
    pub(crate) fn set(&self, level: LevelFilter) {
        let _ = self.0.reload(level); // fails only when the subscriber is gone
    }

    /// Of a log that nobody writes.
    #[cfg(test)]
    pub(crate) fn of_no_log() -> Self {
        Self(reload::Layer::new(LevelFilter::OFF).1)
    }
}

/// Starts the log; once in a process. The end of the second value waits for the last lines.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn start(level: LevelFilter, json: bool) -> io::Result<(Level, Written)> {
    let (lines, written) = lines::start(io::stderr())?;
    let to = move || lines.clone();
    let (filter, handle) = reload::Layer::new(level);
    // What the resolver's library says of its own is not for operators.
    let ours = filter_fn(|meta| !meta.target().starts_with("hickory"));
    let registry = tracing_subscriber::registry().with(filter).with(ours);
    if json {
        let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false);
        registry.with(lines.with_timer(SystemTime).with_writer(to)).init();
    } else {
        let lines = tracing_subscriber::fmt::layer().with_target(false).with_ansi(io::stderr().is_terminal());
        let lines = lines.with_writer(to);
        match goes_to_journal() {
            true => registry.with(lines.without_time()).init(),
            false => registry.with(lines.with_timer(SystemTime)).init(),
        }
    }
    Ok((Level(handle), written))
}

/// Now, as RFC 3339 writes it, in UTC.
pub(crate) fn now() -> String {
    let mut text = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut text)); // a string takes everything
    text
}

/// Whether standard error is the journal's stream: systemd names its device and inode.
fn goes_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(io::stderr()).is_ok_and(|here| stream == format!("{}:{}", here.st_dev, here.st_ino))
}

/// Lets a few of an event that others can cause at will into the log, and counts the rest (ATK-50).
pub(crate) struct Throttle {
    every: Duration,
    burst: u32,
    left: u32,
    since: Instant,
    suppressed: u64,
}

impl Throttle {
    /// At most `burst` lines in `every`.
    pub(crate) fn new(burst: u32, every: Duration, now: Instant) -> Self {
        Self { every, burst, left: burst, since: now, suppressed: 0 }
    }

    /// Whether this one may be written, and how many were not since the last one that was.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= self.every {
            self.since = now;
            self.left = self.burst;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.suppressed))
            }
            None => {
                self.suppressed += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atk_50_a_flood_of_an_event_leaves_few_lines_and_the_number_of_the_others() {
        let start = Instant::now();
        let mut throttle = Throttle::new(3, Duration::from_secs(10), start);
        let lines = (0..1000).filter(|_| throttle.admit(start).is_some()).count();
        assert_eq!(lines, 3);
        assert_eq!(throttle.admit(start + Duration::from_secs(9)), None);
        assert_eq!(throttle.admit(start + Duration::from_secs(10)), Some(998));
        assert_eq!(throttle.admit(start + Duration::from_secs(10)), Some(0));
    }
}
