//! What happens, as it happens: lines for whoever listens. Nobody who listens can hold the daemon up.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Lines that wait for a listener; one who falls further behind is dropped.
const BEHIND: usize = 256;

/// Where events go.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Ear>>>);

struct Ear {
    lines: SyncSender<Arc<str>>,
    open: Weak<()>,
}

/// Somebody who listens, until it is dropped.
pub(crate) struct Listener {
    /// The end of the channel is the end of the daemon, or of its patience.
    pub(crate) lines: Receiver<Arc<str>>,
    _open: Arc<()>,
}

impl Events {
    /// Every line from now on.
    pub(crate) fn listen(&self) -> Listener {
        let (sender, lines) = sync_channel(BEHIND);
        let open = Arc::new(());
        self.ears().push(Ear { lines: sender, open: Arc::downgrade(&open) });
        Listener { lines, _open: open }
    }

    /// Tells a line, without its end, to everybody.
    pub(crate) fn publish(&self, line: &str) {
        let line: Arc<str> = format!("{line}\n").into();
        self.ears().retain(|ear| ear.lines.try_send(Arc::clone(&line)).is_ok());
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.ears().len()
    }

    fn ears(&self) -> MutexGuard<'_, Vec<Ear>> {
        let mut ears = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ears.retain(|ear| ear.open.strong_count() > 0);
        ears
    }
}
