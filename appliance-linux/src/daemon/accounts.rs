//! When accounts are kept.

use std::mem;
use std::time::{Duration, Instant};

use gateway_core::gateway::{Account, Totals};
use tracing::warn;

use super::books::Books;
use super::state::{Daemon, Ended};
use crate::ask::Question;
use crate::inbox::Inputs;

/// How often it is written what changed: who kills the daemon loses so much.
const PERIOD: Duration = Duration::from_secs(10);
/// How long the start waits for the disk, and the end.
const FIRST: Duration = Duration::from_secs(2);
const LAST: Duration = Duration::from_secs(5);

impl Daemon {
    /// What an earlier run kept goes on, whenever it comes.
    pub(super) fn bring_forward(&mut self, before: Option<Vec<(Account, Totals)>>) {
        self.books = match before {
            Some(_) => Books::Open { due: Instant::now(), ordered: 0, late: false },
            None => Books::None,
        };
        self.gateway.bring_forward(before.into_iter().flatten());
    }

    /// Has the accounts written when it is time. Where the disk is still busy with the last ones, the next time will do.
    pub(super) fn keep_books(&mut self) {
        let now = Instant::now();
        let Books::Open { due, ordered, late } = &mut self.books else { return };
        if *due > now {
            return;
        }
        *due = now + PERIOD;
        if *ordered == 0 {
            self.order_books();
        } else if !mem::replace(late, true) {
            warn!(
                "the disk takes too long: what goes through is kept again when it answers, and lost with a kill until then"
            );
        }
    }

    fn order_books(&mut self) {
        let Books::Open { ordered, .. } = &mut self.books else { return };
        *ordered += 1;
        self.machine.ask(Question::Accounts(self.gateway.accounts(&self.engines)));
    }

    /// Waits for what an earlier run kept, or for as long as a start waits for a disk.
    pub(super) fn open_books(&mut self, inputs: &Inputs) -> Result<(), Ended> {
        let open = |daemon: &Self| !matches!(daemon.books, Books::Closed) || daemon.stops.count() > 0;
        if !self.wait_for(inputs, FIRST, open)? {
            warn!(
                "the disk takes too long: what went through before is added when it is read, and nothing kept until then"
            );
        }
        Ok(())
    }

    /// The same for the last time, and waits until it is done, or for as long as one waits for a disk.
    pub(super) fn close_books(&mut self, inputs: &Inputs) {
        self.order_books();
        let written = |daemon: &Self| !matches!(daemon.books, Books::Open { ordered: 1.., .. });
        if matches!(self.wait_for(inputs, LAST, written), Ok(false)) {
            warn!("the disk takes too long: what went through since it was kept last is lost");
        }
    }
}
