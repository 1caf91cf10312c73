//! What went on which account, told and asked for.

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use crate::plane::DataPlane;
use crate::state::Gateway;
use crate::state::usage::{Account, Accounts, Ended, Totals, credit};

/// Of a child that several parties share so many have an account of their own; who knows its key can call himself anything.
const PARTIES: usize = 1024;
/// And the others have this one.
const OTHERS: &str = "*";

/// Ends that wait to be told, besides as many as there ever were SAs at once: one call may end them all. Who never asks for
/// them loses the older ones.
const ENDS: usize = 1024;

impl Gateway {
    /// The next Child SA that is gone, with what went through it. To be asked until `None` after each call, like
    /// [`Gateway::poll_report`].
    pub fn poll_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// What went on each account through every Child SA there was, those that stand included as far as it is known of them.
    pub fn accounts(&self, plane: &dyn DataPlane) -> Accounts {
        let mut accounts = self.accounts.clone();
        for sa in self.sas.iter() {
            credit(&mut accounts, &sa.account, sa.totals(plane));
        }
        for pair in self.manual.iter() {
            credit(&mut accounts, &pair.account, pair.totals(plane));
        }
        accounts
    }

    /// What went on accounts in the life of an earlier gateway goes on here.
    pub fn bring_forward(&mut self, accounts: impl IntoIterator<Item = (Account, Totals)>) {
        for (account, totals) in accounts {
            self.credit(&Arc::new(account), totals);
        }
    }

    pub(super) fn credit(&mut self, account: &Arc<Account>, more: Totals) {
        credit(&mut self.accounts, account, more);
    }

    /// What went through a child's SAs that are gone, whatever numbers it had.
    pub(super) fn past(&self, peer: &str, child: &str) -> Totals {
        let mut past = Totals::default();
        self.accounts_of(&Account::first(peer, child)).for_each(|(_, totals)| past.add(*totals));
        past
    }

    /// The account of a child's party.
    pub(super) fn account_of(&self, peer: &str, child: &str, party: String) -> Arc<Account> {
        let mut account = Account::first(peer, child);
        let full = || self.accounts_of(&account).nth(PARTIES.saturating_sub(1)).is_some();
        let known = self.accounts.contains_key(&Account { party: party.clone(), ..account.clone() });
        account.party = if known || !full() { party } else { OTHERS.to_string() };
        Arc::new(account)
    }

    fn accounts_of(&self, first: &Account) -> impl Iterator<Item = (&Arc<Account>, &Totals)> {
        let same = |other: &Account| other.peer == first.peer && other.child == first.child;
        self.accounts.range::<Account, _>(first..).take_while(move |(account, _)| same(account))
    }

    pub(super) fn tell_end(&mut self, ended: Ended) {
        if self.ended.len() >= self.most_sas.saturating_add(ENDS) {
            self.ended.pop_front();
        }
        self.ended.push_back(ended);
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use crate::config::Config;

    #[test]
    fn who_calls_himself_ever_something_else_has_accounts_up_to_a_number_and_then_one_with_the_others() {
        let mut gateway = Gateway::new(Config::parse("").unwrap().0).0;
        let one = Totals { packets_in: 1, ..Totals::default() };
        let go = |gateway: &mut Gateway, child: &str, party: &str| {
            let account = gateway.account_of("a", child, party.to_string());
            gateway.credit(&account, one);
            account.party.clone()
        };
        assert_eq!(go(&mut gateway, "n", "known"), "known");
        for number in 1..2 * PARTIES {
            go(&mut gateway, "net", &number.to_string());
        }
        assert_eq!(gateway.accounts.len(), 1 + PARTIES + 1);
        assert_eq!((go(&mut gateway, "net", "7"), go(&mut gateway, "net", "seven")), ("7".into(), OTHERS.into()));
        assert_eq!(gateway.past("a", "net").packets_in, 2 * PARTIES as u64 + 1, "nothing is lost");
        assert_eq!(go(&mut gateway, "n", "another"), "another", "of another child it is another number");
    }
}
