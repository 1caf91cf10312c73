//! When accounts are kept.

use std::mem;
use std::time::{Duration, Instant};

use gateway_core::gateway::{Account, Totals};
use tracing::warn;

use super::books::Books;
use super::state::Daemon;
use crate::ask::Question;

/// How often it is written what changed: who kills the daemon loses so much.
const PERIOD: Duration = Duration::from_secs(10);

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

    /// Has the accounts written.
    pub(super) fn order_books(&mut self) {
        let Books::Open { ordered, .. } = &mut self.books else { return };
        *ordered += 1;
        self.machine.ask(Question::Accounts(self.gateway.accounts(&self.engines)));
    }

    /// Whether it is known what an earlier run kept, or that it kept nothing.
    pub(super) fn books_are_open(&self) -> bool {
        !matches!(self.books, Books::Closed)
    }

    /// Whether the disk has all that it was given.
    pub(super) fn books_are_written(&self) -> bool {
        !matches!(self.books, Books::Open { ordered: 1.., .. })
    }
}
