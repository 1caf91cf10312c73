//! What our guard holds beside the tunnels.

use super::tunnel::Plan;
use super::{Ends, First, Scenario};
use crate::lab::frame::Kind;
use crate::lab::iproute::ip;
use crate::lab::ping::ping;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("f-08-discard-holds-where-no-child-is", discard).ours(),
        Scenario::new("f-37-without-ipv6-ipv4-works", without_v6).ours(),
    ]
}

/// F-08: no route leads such packets to the device, and they are dropped nevertheless, both ways.
fn discard(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us_settings = "\n[[policy]]\naction = \"discard\"\nremote = \"10.12.0.0/16\"".to_owned();
    let there = plan.pair.east.host_v4(1);
    ping(&plan.pair.west.host, there, 3, 56)?.all_answered()?;
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let out = ping(&west.host, there, 5, 56)?;
    ensure(out.lost.len() == 5, || format!("answered in spite of the policy: {out}"))?;
    // strongSwan's own route would take such packets into its ESP in user space, which drops them: here they come in clear.
    ip(&east.gateway, "rule add from 10.12.0.0/16 lookup main pref 100")?;
    tunnel.pair.wire.forget();
    let back = east.ping_from(1, west.host_v4(0), 5)?;
    ensure(back.lost.len() == 5, || format!("answered in spite of the policy: {back}"))?;
    ensure(tunnel.pair.wire.count(Kind::Clear) >= 5, || "they did not reach us at all".to_owned())?;
    let shown = tunnel.us.shown()?;
    for counter in ["OutBlocked", "InBlocked"] {
        ensure(shown.contains(counter), || format!("{counter} is not counted:\n{shown}"))?;
    }
    Ok(String::new())
}

/// F-37: the kernel refuses what concerns IPv6, and IPv4 does not mind.
fn without_v6(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let gateway = &plan.pair.west.gateway;
    gateway.sysctl("ipv6.conf.default.disable_ipv6", "1")?;
    plan.us.children[0].local_ts.push(plan.pair.west.net_v6());
    plan.us.children[0].remote_ts.push(plan.pair.east.net_v6());
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    let left = ip(&tunnel.pair.west.gateway, "-6 route show table 4500")?;
    ensure(left.contains("unreachable"), || format!("nothing keeps IPv6 in: {left}"))?;
    Ok(String::new())
}
