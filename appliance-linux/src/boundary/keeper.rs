//! A thread for what may take its time: it is given one order after the other and reports on each. The one who orders
//! never waits, unless it wants to.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long the end waits for an order that is under way.
const LAST: Duration = Duration::from_secs(3);

/// Who keeps what scripts say; `R` is what it reports. Its end is that of the thread, or the wait for it has an end.
pub(super) struct Keeper<R> {
    orders: Option<SyncSender<Arc<str>>>,
    reports: Receiver<(Arc<str>, R)>,
    /// A report that nobody has taken yet.
    arrived: Option<(Arc<str>, R)>,
    /// Whether an order is under way, and what is to be done then: only the newest.
    busy: bool,
    next: Option<Arc<str>>,
    /// What was ordered last, and what the last report was about.
    ordered: Arc<str>,
    reported: Arc<str>,
}

impl<R: Send + 'static> Keeper<R> {
    /// `work` does what a script says; `wake` is called when there is a report, and must not wait.
    ///
    /// # Errors
    /// When the kernel grants no thread.
    pub(super) fn start(
        name: &str,
        work: impl FnMut(&Arc<str>) -> R + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        // One order is under way, and one report waits, at most.
        let (orders, ordered) = sync_channel(1);
        let (report, reports) = sync_channel(1);
        thread::Builder::new().name(name.into()).spawn(move || run(report, &ordered, work, wake))?;
        Ok(Self {
            orders: Some(orders),
            reports,
            arrived: None,
            busy: false,
            next: None,
            ordered: Arc::default(),
            reported: Arc::default(),
        })
    }

    /// Has this done, instead of what was ordered before and has not begun.
    pub(super) fn order(&mut self, script: &Arc<str>) {
        self.ordered = Arc::clone(script);
        if *script != self.reported {
            // What stood then is being taken away.
            self.reported = Arc::default();
        }
        if self.busy {
            self.next = Some(Arc::clone(script));
        } else {
            self.begin(Arc::clone(script));
        }
    }

    fn begin(&mut self, script: Arc<str>) {
        self.busy = true;
        if let Some(orders) = &self.orders {
            let _ = orders.try_send(script); // there is room, or no thread, which shows in its reports
        }
    }

    /// Whether something that was ordered has not been reported on.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// How many orders have not been reported on.
    pub(super) fn orders(&self) -> u32 {
        u32::from(self.busy) + u32::from(self.next.is_some())
    }

    /// What was ordered last.
    pub(super) fn ordered(&self) -> &str {
        &self.ordered
    }

    /// Whether the last report was about what was ordered last.
    pub(super) fn is_reported(&self) -> bool {
        self.reported == self.ordered
    }

    /// Whether this was ordered and the last report was about something else.
    pub(super) fn owes(&self, script: &str) -> bool {
        self.busy && *self.reported != *script
    }

    /// Whether there is a report to take.
    pub(super) fn has_reported(&mut self) -> bool {
        self.wait(Instant::now())
    }

    /// Waits for a report; `false`: there is none until then.
    pub(super) fn wait(&mut self, until: Instant) -> bool {
        if self.arrived.is_none() && self.busy {
            self.arrived = self.reports.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        }
        self.arrived.is_some()
    }

    /// Takes a report, and has the next thing done.
    pub(super) fn report(&mut self) -> Option<R> {
        self.has_reported();
        let (script, report) = self.arrived.take()?;
        self.reported = script;
        self.busy = false;
        if let Some(next) = self.next.take() {
            self.begin(next);
        }
        Some(report)
    }
}

impl<R> Drop for Keeper<R> {
    fn drop(&mut self) {
        self.orders = None;
        let until = Instant::now() + LAST;
        let left = || until.saturating_duration_since(Instant::now());
        while !matches!(self.reports.recv_timeout(left()), Err(RecvTimeoutError::Disconnected)) && !left().is_zero() {}
    }
}

/// Ends with its orders. What is handed over last goes first: when no report can come any more, `work` has ended.
fn run<R>(
    reports: SyncSender<(Arc<str>, R)>,
    orders: &Receiver<Arc<str>>,
    mut work: impl FnMut(&Arc<str>) -> R,
    wake: impl Fn(),
) {
    while let Ok(script) = orders.recv() {
        let report = work(&script);
        if reports.send((script, report)).is_err() {
            return;
        }
        wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Long enough for whatever must happen.
    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn f_01_of_what_was_ordered_meanwhile_only_the_newest_is_done() {
        let (goes, go) = mpsc::channel();
        let woken = Arc::new(AtomicUsize::new(0));
        let wake = Arc::clone(&woken);
        let work = move |script: &Arc<str>| {
            go.recv().unwrap();
            script.len()
        };
        let mut keeper = Keeper::start("test", work, move || _ = wake.fetch_add(1, Ordering::SeqCst)).unwrap();
        assert!(!keeper.is_busy() && !keeper.owes("a"));
        for script in ["a", "bb", "ccc"] {
            keeper.order(&script.into());
        }
        assert!(keeper.is_busy() && keeper.owes("ccc") && keeper.ordered() == "ccc" && !keeper.is_reported());
        assert!(keeper.report().is_none());
        goes.send(()).unwrap();
        assert!(keeper.wait(soon()));
        assert_eq!(keeper.report(), Some(1));
        assert!(keeper.is_busy() && !keeper.owes("a") && keeper.owes("ccc"));
        goes.send(()).unwrap();
        assert!(keeper.wait(soon()));
        assert_eq!(keeper.report(), Some(3));
        assert!(!keeper.is_busy() && !keeper.owes("ccc") && !keeper.wait(soon()));
        drop((goes, keeper));
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn f_01_what_the_work_held_is_gone_when_the_keeper_is() {
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let mut keeper = Keeper::start("test", move |_| Arc::strong_count(&inside), || {}).unwrap();
        keeper.order(&"not looked at".into());
        assert_eq!(Arc::strong_count(&held), 2);
        drop(keeper);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn f_01_work_that_never_ends_does_not_keep_the_end() {
        let (goes, go) = mpsc::channel::<()>();
        let mut keeper = Keeper::start("test", move |_| go.recv().is_ok(), || {}).unwrap();
        keeper.order(&"hangs".into());
        drop(keeper); // this returns at all
        drop(goes);
    }
}
