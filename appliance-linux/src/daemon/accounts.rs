//! When accounts are kept.

use gateway_core::gateway::{Account, Totals};

use super::state::Daemon;
use crate::ask::Question;

impl Daemon {
    /// What an earlier run kept goes on, whenever it comes.
    pub(super) fn bring_forward(&mut self, before: Option<Vec<(Account, Totals)>>) {
        self.books.open(before.is_some());
        self.gateway.bring_forward(before.into_iter().flatten());
    }

    /// Has the accounts written when it is time.
    pub(super) fn keep_books(&mut self) {
        if self.books.are_due() {
            self.order_books();
        }
    }

    /// Has the accounts written.
    pub(super) fn order_books(&mut self) {
        if self.books.order() {
            self.machine.ask(Question::Accounts(self.gateway.accounts(&self.engines)));
        }
    }
}
