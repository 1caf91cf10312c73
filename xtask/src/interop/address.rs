//! Both IP families, outside and inside.

use super::tunnel::{NET, Plan};
use super::{First, Scenario};
use crate::lab::gateway::Child;
use crate::lab::ping::ping;
use crate::lab::tcp::transfer;
use crate::lab::wait_for;
use crate::outcome::Result;

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    list.extend(Scenario::both_ways("ipv6-in-ipv6", |ends, first| inner_v6(Plan::over_v6(ends)?, first)));
    list.extend(Scenario::both_ways("ipv6-in-ipv4", |ends, first| inner_v6(Plan::new(ends)?, first)));
    list.extend(Scenario::both_ways("ipv4-in-ipv6", |ends, first| {
        Plan::over_v6(ends)?.establish(first)?.carries()?;
        Ok(String::new())
    }));
    list
}

fn inner_v6(mut plan: Plan, first: First) -> Result<String> {
    let (west, east) = (plan.pair.west.net_v6(), plan.pair.east.net_v6());
    plan.us.children = vec![Child::new(NET, &[&west], &[&east])];
    plan.peer.children = vec![Child::new(NET, &[&east], &[&west])];
    let tunnel = plan.establish(first)?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    wait_for("the first ping", std::time::Duration::from_secs(5), || {
        Ok(ping(&west.host, east.host_v6(), 1, 56)?.lost.is_empty().then_some(()))
    })?;
    ping(&west.host, east.host_v6(), 10, 56)?.all_answered()?;
    ping(&east.host, west.host_v6(), 10, 56)?.all_answered()?;
    ping(&west.host, east.host_v6(), 3, 1300)?.all_answered()?;
    transfer(&west.host, &east.host, east.host_v6(), 1_000_000)?;
    tunnel.is_protected()?;
    Ok(tunnel.pair.wire.summary())
}
