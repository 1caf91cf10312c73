//! What went through Child SAs: of each once, at its end, and on each account over all of them.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use ipsec_core::net::Spi;
use ipsec_core::time::Instant;

use super::Gateway;
use crate::plane::{DataPlane, Half, Pair, Usage};

/// Inner octets and packets, over all rekeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Octets received.
    pub bytes_in: u64,
    /// Octets sent.
    pub bytes_out: u64,
    /// Packets received.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
}

impl Totals {
    pub(super) fn of(inbound: Usage, outbound: Usage) -> Self {
        Self {
            bytes_in: inbound.bytes,
            bytes_out: outbound.bytes,
            packets_in: inbound.packets,
            packets_out: outbound.packets,
        }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.bytes_in = self.bytes_in.saturating_add(more.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(more.bytes_out);
        self.packets_in = self.packets_in.saturating_add(more.packets_in);
        self.packets_out = self.packets_out.saturating_add(more.packets_out);
    }
}

/// On whose account something went: the same over rekeys, reloads and restarts, whatever numbers change with them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Account {
    /// Name of the peer.
    pub peer: String,
    /// Name of its child.
    pub child: String,
    /// Who was at the other end, as a configuration writes identities: several may share what is configured for a peer.
    pub party: String,
}

/// What went on each account.
///
/// ```
/// use gateway_core::config::Config;
/// use gateway_core::gateway::{Account, Gateway, Totals};
/// use gateway_core::plane::Engines;
/// use gateway_core::policy::{Inbound, Outbound};
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// let (mut gateway, _peers) = Gateway::new(Config::parse("").unwrap().0);
/// // What an earlier run left, and what it is after what the engines carried since.
/// let account = Account { peer: "cloud".into(), child: "net".into(), party: "left.example".into() };
/// gateway.bring_forward([(account, Totals { packets_in: 7, ..Totals::default() })]);
/// let outbound: Outbound<'_, _> = Outbound::new(RustCrypto, &mut [], &mut []);
/// let inbound: Inbound<'_, _> = Inbound::new(RustCrypto, &mut [], &mut [], &mut []);
/// let accounts = gateway.accounts(&Engines::new(outbound, inbound));
/// assert_eq!(accounts.values().map(|totals| totals.packets_in).collect::<Vec<_>>(), [7]);
/// ```
pub type Accounts = BTreeMap<Arc<Account>, Totals>;

/// Of a child that several parties share so many have an account of their own; who knows its key can call himself anything.
const PARTIES: usize = 1024;
/// And the others have this one.
const OTHERS: &str = "*";

impl Account {
    /// The first of a child's.
    fn first(peer: &str, child: &str) -> Self {
        Self { peer: peer.to_string(), child: child.to_string(), party: String::new() }
    }
}

/// What went through a Child SA, all of it: told once, when it is gone.
///
/// ```
/// use std::collections::BTreeMap;
/// use gateway_core::gateway::{Account, Ended, Totals};
/// /// What each account has used so far.
/// fn settle(bill: &mut BTreeMap<Account, u64>, ended: impl Iterator<Item = Ended>) {
///     for Ended { account, totals: Totals { bytes_in, bytes_out, .. }, .. } in ended {
///         *bill.entry((*account).clone()).or_default() += bytes_in + bytes_out;
///     }
/// }
/// let mut bill = BTreeMap::new();
/// # let (gateway, _) = gateway_core::gateway::Gateway::new(gateway_core::config::Config::parse("").unwrap().0);
/// # let mut gateway = gateway;
/// settle(&mut bill, std::iter::from_fn(|| gateway.poll_ended()));
/// assert!(bill.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its number, which no other one in the life of this gateway has.
    pub pair: Pair,
    /// On whose account it went.
    pub account: Arc<Account>,
    /// SPI of packets we received.
    pub spi_in: Spi,
    /// SPI of packets we sent.
    pub spi_out: Spi,
    /// When it came.
    pub since: Instant,
    /// When it was taken out.
    pub until: Instant,
    /// What went through.
    pub totals: Totals,
}

/// What went through a half of a Child SA that is taken out of the data plane.
#[derive(Clone, Copy, Default)]
pub(super) struct Last {
    pub(super) usage: Usage,
    /// That is what was known when it was to go: the data plane has yet to tell all of it.
    pub(super) waits: bool,
}

impl Last {
    /// Takes a half out.
    pub(super) fn of(pair: Pair, half: Half, plane: &mut dyn DataPlane) -> Self {
        let known = plane.usage(pair, half).unwrap_or_default();
        let told = plane.remove(pair, half);
        Self { usage: told.unwrap_or(known), waits: told.is_none() }
    }

    /// What counts already, of what is still to be told.
    pub(super) fn counted(self) -> Option<Usage> {
        self.waits.then_some(self.usage)
    }
}

/// A Child SA that is gone, and of which the data plane has not told all yet.
pub(super) struct Ending {
    pub(super) ended: Ended,
    /// What counts already of this half, while all of it is still to be told.
    pub(super) inbound: Option<Usage>,
    pub(super) outbound: Option<Usage>,
}

impl Ending {
    pub(super) fn counted(&mut self, half: Half) -> &mut Option<Usage> {
        match half {
            Half::Inbound => &mut self.inbound,
            Half::Outbound => &mut self.outbound,
        }
    }
}

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

fn credit(accounts: &mut Accounts, account: &Arc<Account>, more: Totals) {
    if more == Totals::default() {
        return;
    }
    match accounts.get_mut(account) {
        Some(totals) => totals.add(more),
        None => _ = accounts.insert(Arc::clone(account), more),
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
