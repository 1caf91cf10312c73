//! What went through Child SAs: of each once, at its end, and on each account over all of them.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use ipsec_core::net::Spi;
use ipsec_core::time::Instant;

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
    pub(crate) fn of(inbound: Usage, outbound: Usage) -> Self {
        Self {
            bytes_in: inbound.bytes,
            bytes_out: outbound.bytes,
            packets_in: inbound.packets,
            packets_out: outbound.packets,
        }
    }

    pub(crate) fn add(&mut self, more: Self) {
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

impl Account {
    /// The first of a child's.
    pub(crate) fn first(peer: &str, child: &str) -> Self {
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
pub(crate) struct Last {
    pub(crate) usage: Usage,
    /// That is what was known when it was to go: the data plane has yet to tell all of it.
    pub(crate) waits: bool,
}

impl Last {
    /// Takes a half out.
    pub(crate) fn of(pair: Pair, half: Half, plane: &mut dyn DataPlane) -> Self {
        let known = plane.usage(pair, half).unwrap_or_default();
        let told = plane.remove(pair, half);
        Self { usage: told.unwrap_or(known), waits: told.is_none() }
    }

    /// What counts already, of what is still to be told.
    pub(crate) fn counted(self) -> Option<Usage> {
        self.waits.then_some(self.usage)
    }
}

/// A Child SA that is gone, and of which the data plane has not told all yet.
pub(crate) struct Ending {
    pub(crate) ended: Ended,
    /// What counts already of this half, while all of it is still to be told.
    pub(crate) inbound: Option<Usage>,
    pub(crate) outbound: Option<Usage>,
}

impl Ending {
    pub(crate) fn counted(&mut self, half: Half) -> &mut Option<Usage> {
        match half {
            Half::Inbound => &mut self.inbound,
            Half::Outbound => &mut self.outbound,
        }
    }
}

/// More went on an account.
pub(crate) fn credit(accounts: &mut Accounts, account: &Arc<Account>, more: Totals) {
    if more == Totals::default() {
        return;
    }
    match accounts.get_mut(account) {
        Some(totals) => totals.add(more),
        None => _ = accounts.insert(Arc::clone(account), more),
    }
}
