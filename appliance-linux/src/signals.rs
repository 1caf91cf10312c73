//! Signals, as messages: blocked in every thread and taken by one that does nothing else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// What an operator can say with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// How often the end was asked for: seen at once, however much waits at the inbox before [`Wish::Stop`], which only wakes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops(Arc<AtomicUsize>);

impl Stops {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Hands over what signals say. To be called before any other thread starts that does not block them itself: they inherit
/// that.
pub(crate) fn start(tell: impl Fn(Wish) + Send + 'static) -> io::Result<Stops> {
    let stops = Stops::default();
    let counted = stops.clone();
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block()?;
    let listening = thread::Builder::new().name("signals".into()).spawn(move || {
        loop {
            match signals.wait() {
                Ok(Signal::SIGHUP) => tell(Wish::Reload),
                Ok(_) => {
                    counted.one_more();
                    tell(Wish::Stop);
                }
                Err(_) => {} // interrupted
            }
        }
    });
    listening.map(|_| stops)
}
