//! Signals, as messages: blocked in every thread and taken by one that does nothing else.

use std::io;
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

/// Hands over what signals say. To be called before any other thread starts: they inherit that signals are blocked.
pub(crate) fn start(tell: impl Fn(Wish) + Send + 'static) -> io::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block()?;
    let listening = thread::Builder::new().name("signals".into()).spawn(move || {
        loop {
            match signals.wait() {
                Ok(Signal::SIGHUP) => tell(Wish::Reload),
                Ok(_) => tell(Wish::Stop),
                Err(_) => {} // interrupted
            }
        }
    });
    listening.map(drop)
}
