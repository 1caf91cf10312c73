//! A tunnel's plain life: it comes up, carries traffic, and goes.

use std::process::{Command, Stdio};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::tunnel::{PEER, Plan};
use super::{Ends, First, Scenario};
use crate::lab::frame::Kind;
use crate::lab::gateway::Gateway as _;
use crate::lab::ike::INFORMATIONAL;
use crate::lab::iproute::ip;
use crate::lab::link;
use crate::lab::nat::nft;
use crate::lab::ping::ping;
use crate::lab::portcullis::{Portcullis, release};
use crate::lab::tcp::transfer;
use crate::lab::wait_for;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = with_any_peer();
    list.extend(Scenario::both_ways("a1-establish-and-carry", establish_and_carry));
    list.extend(Scenario::both_ways("iperf3", iperf3));
    list.push(Scenario::new("a12-after-sigterm-the-boundary-stays-until-release", stays_closed_until_release).ours());
    list.push(Scenario::new("f-04-block-closes-the-boundary-before-the-first-start", closed_before_the_start).ours());
    list
}

/// What every peer can do.
pub(super) fn with_any_peer() -> Vec<Scenario> {
    vec![
        Scenario::new("delete-by-us", |ends| delete(ends, First::We)),
        Scenario::new("delete-by-peer", |ends| delete(ends, First::They)),
    ]
}

fn establish_and_carry(ends: Ends, first: First) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(first)?;
    tunnel.carries()?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let file = transfer(&west.host, &east.host, east.host_v4(0), 4_000_000)?;
    transfer(&east.host, &west.host, west.host_v4(0), 4_000_000)?;
    tunnel.is_protected()?;
    let child = tunnel.child()?;
    ensure(child.packets.0 > 1_000 && child.packets.1 > 1_000, || format!("packets are not counted: {child:?}"))?;
    Ok(format!("4 MB each way, one in {:.2} s; {}", file.took.as_secs_f32(), tunnel.pair.wire.summary()))
}

fn iperf3(ends: Ends, first: First) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(first)?;
    tunnel.warm_up()?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let to = east.host_v4(0).to_string();
    let mut server = east.host.spawn(Command::new("iperf3").args(["-s", "-1"]).stdout(Stdio::null()))?;
    let run = || -> Result<Value> {
        wait_for("an answer of iperf3", Duration::from_secs(10), || {
            let mut client = Command::new("iperf3");
            let client = west.host.spawn(client.args(["-c", &to, "-t", "2", "-J"]).stdout(Stdio::piped()))?;
            let output = client.wait_with_output()?;
            // Before the server listens it reports an error, and with -J ends well all the same.
            let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            Ok(report.pointer("/end/sum_received").is_some().then_some(report))
        })
    };
    let report = run();
    let _ = server.kill();
    let _ = server.wait();
    let report = report?;
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0) / 1e6;
    // Far below what any machine reaches, far above a tunnel that drops or stalls.
    ensure(rate > 5.0, || format!("only {rate:.2} Mbit/s"))?;
    tunnel.is_protected()?;
    Ok(format!("{rate:.0} Mbit/s"))
}

fn delete(ends: Ends, who: First) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(First::We)?;
    tunnel.carries()?;
    let (deletes, other) = tunnel.ends(who);
    tunnel.pair.wire.forget();
    deletes.down(PEER)?;
    other.wait_down(PEER, Duration::from_secs(3))?;
    deletes.wait_down(PEER, Duration::from_secs(3))?;
    let said = tunnel.pair.wire.ike().iter().filter(|message| message.seen.exchange == INFORMATIONAL).count();
    ensure(said >= 2, || format!("{said} INFORMATIONAL messages:\n{}", tunnel.pair.wire.story()))?;
    Ok(String::new())
}

/// SIGTERM takes the device and leaves the rest: the remote network is unreachable, not reached in clear. `release` gives it
/// back, to the last route and rule.
fn stays_closed_until_release(ends: Ends) -> Result<String> {
    let plan = Plan::new(ends)?;
    let gateway = Arc::clone(&plan.pair.west.gateway);
    let state = || -> Result<[Vec<String>; 2]> {
        let rules = [ip(&gateway, "-4 rule show")?, ip(&gateway, "-6 rule show")?, nft(&gateway, "list ruleset")?];
        Ok([gateway.within(link::routes)?, rules.iter().flat_map(|text| text.lines()).map(str::to_owned).collect()])
    };
    let before = state()?;
    let mut tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    ensure(gateway.within(link::routes)?.len() > before[0].len(), || "no route was installed".to_owned())?;
    tunnel.us.stop()?;
    tunnel.peer.wait_down(PEER, Duration::from_secs(3))?;
    ensure(gateway.within(|| link::index("pcl0")).is_err(), || "the TUN device is still there".to_owned())?;
    tunnel.pair.wire.forget();
    let tally = ping(&tunnel.pair.west.host, tunnel.pair.east.host_v4(0), 3, 56)?;
    ensure(tally.lost.len() == 3, || format!("without a daemon: {tally}"))?;
    ensure(tunnel.pair.wire.count(Kind::Clear) == 0, || format!("in clear: {:?}", tunnel.pair.wire.clear_packets()))?;
    let held = state()?;
    release(&gateway)?;
    let after = state()?;
    ensure(held != before && after == before, || format!("before {before:#?}\nafter {after:#?}"))?;
    tunnel.us.start()?;
    tunnel.establish(First::We)?;
    tunnel.carries()?;
    Ok(String::new())
}

/// F-04, before there ever was a daemon: `block` keeps the packets in, also when a start fails, and the first start that does
/// not takes over.
fn closed_before_the_start(ends: Ends) -> Result<String> {
    let plan = Plan::new(ends)?;
    let (gateway, host) = (&plan.pair.west.gateway, &plan.pair.west.host);
    let there = plan.pair.east.host_v4(0);
    ping(host, there, 3, 56)?.all_answered()?;
    let mut us = Portcullis::new(gateway, "")?;
    us.configure(from_ref(&plan.us))?;
    let closed = |when: &str| -> Result {
        plan.pair.wire.forget();
        let tally = ping(host, there, 3, 56)?;
        ensure(tally.lost.len() == 3 && plan.pair.wire.count(Kind::Clear) == 0, || format!("{when}: {tally}"))
    };
    us.block()?;
    ensure(gateway.within(|| link::index("pcl0")).is_err(), || "a device is left".to_owned())?;
    closed("after block")?;
    ip(gateway, "tuntap add dev pcl0 mode tun")?;
    drop(us.start()); // its socket is there before it fails
    wait_for("the start to fail", Duration::from_secs(5), || Ok((!us.runs()).then_some(())))?;
    closed("after a start that failed")?;
    release(gateway)?;
    us.block()?;
    closed("after a second block, beside a device of that name")?;
    ip(gateway, "link del pcl0")?;
    release(gateway)?;
    ping(host, there, 3, 56)?.all_answered()?;
    us.block()?;
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    ensure(us.block().is_err(), || "block beside a daemon".to_owned())?;
    tunnel.carries()?;
    Ok(String::new())
}
