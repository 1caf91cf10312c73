//! The same tunnels where our gateway is not alone: foreign rules and routes, the default route elsewhere, duplicate
//! address detection, strict reverse path filters, a masquerade and a firewall.

use std::time::Duration;

use super::tunnel::{Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::gateway::Start;
use crate::lab::nat::Translation;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    list.extend(Scenario::both_ways("wild-establish-and-carry", |ends, first| {
        let tunnel = Plan::new(ends)?.in_the_wild()?.establish(first)?;
        tunnel.carries()?;
        and_nobody_else_suffers(tunnel)
    }));
    list.push(Scenario::new("wild-rekey", rekey).thorough());
    list.push(Scenario::new("wild-restart", restart).ours());
    list.push(Scenario::new("wild-nat", |ends| {
        let plan = Plan::behind_nat(ends, Some(Translation::OneToOne), None)?.in_the_wild()?;
        let tunnel = plan.establish(First::We)?;
        tunnel.carries()?;
        and_nobody_else_suffers(tunnel)
    }));
    let over_v6 = Scenario::new("wild-ipv6-outside", |ends| {
        let tunnel = Plan::over_v6(ends)?.in_the_wild()?.establish(First::We)?;
        tunnel.carries()?;
        and_nobody_else_suffers(tunnel)
    });
    list.push(over_v6.thorough());
    list
}

fn rekey(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.in_the_wild()?.establish(First::We)?;
    for first in [First::We, First::They] {
        tunnel.under_pings(|| super::rekey::rekey_child(&tunnel, first))?.all_answered()?;
    }
    tunnel.carries()?;
    and_nobody_else_suffers(tunnel)
}

fn restart(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?.in_the_wild()?;
    plan.us.start = Start::Active;
    let mut tunnel = plan.start()?;
    tunnel.wait_up()?;
    tunnel.carries()?;
    tunnel.us.stop()?;
    tunnel.us.start()?;
    tunnel.wait_up()?;
    tunnel.carries()?;
    tunnel.restart_us()?;
    tunnel.wait_up_within(Duration::from_secs(20))?;
    tunnel.carries()?;
    and_nobody_else_suffers(tunnel)
}

/// Ends the tunnel: nothing of it has left through the other uplink, and what others own is still there, before and
/// after our end.
fn and_nobody_else_suffers(mut tunnel: Tunnel) -> Result<String> {
    let gateway = std::sync::Arc::clone(&tunnel.pair.west.gateway);
    let check = |tunnel: &Tunnel| {
        let wild = tunnel.pair.wild.as_ref().ok_or("not wild at all")?;
        let clear = wild.clear_packets();
        ensure(clear.is_empty(), || format!("in clear through the other uplink: {clear:?}"))?;
        wild.is_untouched(&gateway)
    };
    check(&tunnel)?;
    tunnel.us.stop()?;
    check(&tunnel).map_err(|error| format!("after our end: {error}"))?;
    Ok(tunnel.pair.wire.summary())
}
