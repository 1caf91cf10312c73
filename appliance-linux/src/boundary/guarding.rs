//! What the guard is asked for, and when: what it is to say as soon as that changes or somebody touched it, and what failed at
//! its turn. A thread of its own runs nft.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::counters::Tally;
use super::guard::{self, Guard, Report};
use super::health::{Round, Standing};
use super::keeper::Keeper;
use super::retry::Retry;

/// A copy that ends earlier than this after the one before is not made again at once.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// The guard, for whoever has it say something.
pub(super) struct Guarding {
    /// What it is to say, and may not say yet.
    says: Arc<str>,
    /// Runs nft.
    keeper: Keeper<Report>,
    /// What it reported last.
    standing: Standing,
    /// Whether nft can tell which socket will take a packet.
    sockets: bool,
    /// When what could not be done is tried again: the guard, and its copy.
    again: Retry,
    copy_again: Retry,
    /// A copy has ended.
    copy_ended: Arc<AtomicBool>,
    /// When the last one did.
    last_copy: Option<Instant>,
}

impl Guarding {
    /// Nothing is asked for yet. `wake` is called when there is a report, and when a copy has ended; it must not wait.
    ///
    /// # Errors
    /// When the kernel grants no thread.
    pub(super) fn start(dropped: Arc<Tally>, wake: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let (copy_ended, wake) = (Arc::new(AtomicBool::new(false)), Arc::new(wake));
        let (ended, woken) = (Arc::clone(&copy_ended), Arc::clone(&wake));
        let sockets = guard::tells_sockets();
        let mut guard = Guard::new(dropped, sockets, move || {
            ended.store(true, Ordering::SeqCst);
            woken();
        });
        let keeper = Keeper::start("guard", move |script| guard.apply(script), move || wake())?;
        Ok(Self { copy_ended, sockets, ..Self::of(keeper) })
    }

    /// With this one to run nft.
    pub(super) fn of(keeper: Keeper<Report>) -> Self {
        Self {
            says: Arc::default(),
            keeper,
            standing: Standing::default(),
            sockets: false,
            again: Retry::default(),
            copy_again: Retry::default(),
            copy_ended: Arc::default(),
            last_copy: None,
        }
    }

    /// Has it looked at, if there is a reason to: when `now` is set, when somebody `touched` it or it is to say something new,
    /// and when it is its turn again. One that failed waits for its turn.
    pub(super) fn order(&mut self, says: &Arc<str>, touched: bool, now: bool) {
        self.says = Arc::clone(says);
        let asked = self.again.at().is_none() && (touched || *self.says != *self.keeper.ordered());
        let due = [&self.again, &self.copy_again].into_iter().any(|again| again.is_due(Instant::now()));
        if now || asked || due && !self.is_busy() {
            self.keeper.order(&self.says);
        }
    }

    /// The right to say anything is another's. Its own turn has come when that is ours again; until then no copy drops what
    /// the other one lets through.
    pub(super) fn withdraw(&mut self) {
        self.again.done();
        self.copy_again.done();
        if !self.keeper.ordered().is_empty() {
            self.keeper.order(&Arc::default());
        }
    }

    /// Takes a report, if there is one: guard and copy are those of a script, or why not.
    pub(super) fn hear(&mut self, round: &mut Round) {
        let Some(report) = self.keeper.report() else { return };
        // One that was there when it was asked for may have been killed since.
        let copied = report.copied.is_ok() && report.flush_proof;
        for (again, done) in [(&mut self.again, report.loaded.is_ok()), (&mut self.copy_again, copied)] {
            if done { again.done() } else { again.failed(Instant::now()) }
        }
        self.sockets |= report.sockets;
        self.standing.reported(report, round);
    }

    /// A copy that has ended is to be made again.
    pub(super) fn look_after_copy(&mut self) {
        // A report that was made before its end would say that it is there.
        if self.is_busy() || !self.copy_ended.swap(false, Ordering::SeqCst) {
            return;
        }
        let now = Instant::now();
        // One that ends as soon as it is there waits as if it had failed.
        match self.last_copy.replace(now) {
            Some(before) if now - before < SHORT_LIFE => self.copy_again.failed(now),
            _ => self.copy_again.wanted(now),
        }
    }

    /// When something that failed is to be tried again; what is under way comes first.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let turns = [self.again.at(), self.copy_again.at()].into_iter().flatten();
        turns.filter(|_| !self.is_busy()).min()
    }

    /// Waits for a report; `false`: there is none until then.
    pub(super) fn wait(&mut self, until: Instant) -> bool {
        self.keeper.wait(until)
    }

    /// When it must have reported on all that was ordered, as long as that can take.
    pub(super) fn patience(&self) -> Instant {
        Instant::now() + guard::patience(self.keeper.ordered()) * self.keeper.orders()
    }

    /// Whether something that was ordered has not been reported on.
    pub(super) fn is_busy(&self) -> bool {
        self.keeper.is_busy()
    }

    /// Whether there is a report to take.
    pub(super) fn has_reported(&mut self) -> bool {
        self.keeper.has_reported()
    }

    /// Whether it says yet what it is to say, or nobody has it say that.
    pub(super) fn is_settled(&self) -> bool {
        !self.keeper.owes(&self.says)
    }

    /// Whether the last report says that it has the newest rules.
    pub(super) fn is_latest(&self) -> bool {
        self.standing.is_latest() && self.keeper.is_reported()
    }

    /// What it is to say.
    pub(super) fn says(&self) -> &str {
        &self.says
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether nft can tell which socket will take a packet.
    pub(super) fn tells_sockets(&self) -> bool {
        self.sockets
    }
}

#[cfg(test)]
impl Guarding {
    /// What was ordered last.
    pub(super) fn ordered(&self) -> &str {
        self.keeper.ordered()
    }

    /// Its turn, when it failed.
    pub(super) fn again(&mut self) -> &mut Retry {
        &mut self.again
    }

    /// Somebody ends the copy.
    pub(super) fn end_copy(&self) {
        self.copy_ended.store(true, Ordering::SeqCst);
    }
}
