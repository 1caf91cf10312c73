//! Transport mode: what the two gateways say to each other themselves.

use std::net::IpAddr;
use std::time::Duration;

use super::rekey::rekey_child;
use super::tunnel::{NET, PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::gateway::{Child, Program, Start};
use crate::lab::marks::marks_arrive;
use crate::lab::nat::Translation;
use crate::lab::pair::Outer;
use crate::lab::ping::ping;
use crate::lab::tcp::transfer;
use crate::lab::wait_for;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = vec![
        Scenario::new("b1-hosts-in-transport-mode", |ends| hosts(ends, Outer::V4, First::We)).ours_twice(),
        Scenario::new("b1-hosts-in-transport-mode-over-ipv6", |ends| hosts(ends, Outer::V6, First::We)).ours_twice(),
        Scenario::new("b1-hosts-in-transport-mode-behind-nat", behind_nat).ours_twice(),
        Scenario::new("transport-mode-is-refused-where-it-is-not-wanted", refused).ours_twice(),
    ];
    for first in [First::We, First::They] {
        let name = format!("libreswan-hosts-in-transport-mode-{}", if first == First::We { "we" } else { "they" });
        list.push(Scenario::new(name, move |ends| hosts(ends, Outer::V4, first)).with(Program::Libreswan));
    }
    list.push(
        Scenario::new("openiked-hosts-in-transport-mode", |ends| hosts(ends, Outer::V4, First::They))
            .with(Program::OpenIked),
    );
    list
}

/// Both ends as hosts; the peer sees us, and we see it, at these addresses.
pub(super) fn between_hosts(plan: &mut Plan, outer: Outer) -> (IpAddr, IpAddr) {
    let (west, east) = (plan.pair.west.address(outer), plan.pair.east.address(outer));
    let seen = |public: std::net::Ipv4Addr, own: IpAddr| if outer == Outer::V4 { IpAddr::from(public) } else { own };
    let (west_seen, east_seen) = (seen(plan.pair.west.public(), west), seen(plan.pair.east.public(), east));
    let child = |local: IpAddr, remote: IpAddr| Child {
        name: NET.to_owned(),
        local_ts: vec![local.to_string()],
        remote_ts: vec![remote.to_string()],
        transport: true,
        compress: false,
        tfc_padding: None,
    };
    plan.us.children = vec![child(west, east_seen)];
    plan.peer.children = vec![child(east, west_seen)];
    (west_seen, east_seen)
}

fn hosts(ends: Ends, outer: Outer, first: First) -> Result<String> {
    let mut plan = match outer {
        Outer::V4 => Plan::new(ends)?,
        Outer::V6 => Plan::over_v6(ends)?,
    };
    let (_, east) = between_hosts(&mut plan, outer);
    if ends.peer == Program::OpenIked {
        // Its own choice, which is all that it has.
        plan.peer.esp.clear();
        plan.us.esp = vec!["aes256-aes192-aes128-sha384-sha512".to_owned()];
        plan.peer.start = Start::Active;
    }
    let tunnel = plan.start()?;
    match ends.peer {
        Program::OpenIked => tunnel.us.wait_up(PEER, NET, Duration::from_secs(75)).map(drop)?,
        _ => tunnel.establish(first)?,
    }
    carry(&tunnel, east)?;
    // What is in a guest has its addresses there.
    if !ends.peer.in_a_guest() {
        marks_arrive(&tunnel.pair.west.gateway, &tunnel.pair.east.gateway, east)?;
    }
    if ends.peer != Program::OpenIked {
        rekey_child(&tunnel, First::We)?;
        rekey_child(&tunnel, First::They)?;
        carry(&tunnel, east)?;
    }
    ensure(tunnel.pair.wire.clear_packets().is_empty(), || tunnel.pair.wire.story())?;
    Ok(tunnel.pair.wire.summary())
}

/// Pings of every size between the two ends, those that the kernel cuts too, and nothing of them in clear.
pub(super) fn carry(tunnel: &Tunnel, east: IpAddr) -> Result {
    let west = &tunnel.pair.west.gateway;
    wait_for("the first ping", Duration::from_secs(5), || Ok(ping(west, east, 1, 56)?.lost.is_empty().then_some(())))?;
    for size in [0, 1, 64, 1300, 1600, 9000, 60_000] {
        ping(west, east, 3, size)?.all_answered()?;
    }
    tunnel.is_protected()
}

/// The checksums that TCP has over the addresses hold although a NAT changes these.
fn behind_nat(ends: Ends) -> Result<String> {
    let mut plan = Plan::behind_nat(ends, Some(Translation::Masquerade), None)?;
    let (_, east) = between_hosts(&mut plan, Outer::V4);
    let tunnel = plan.establish(First::We)?;
    carry(&tunnel, east)?;
    transfer(&tunnel.pair.west.gateway, &tunnel.pair.east.gateway, east, 1_000_000)?;
    tunnel.is_protected()?;
    Ok(tunnel.us.ike_sa(PEER)?.suite)
}

/// Who has networks behind it says so, and whoever insists on transport mode has no SA with it, and nothing in clear.
fn refused(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let networks = plan.peer.children.clone();
    let (_, east) = between_hosts(&mut plan, Outer::V4);
    plan.peer.children = networks;
    plan.peer.children[0].local_ts.push(plan.pair.east.address(Outer::V4).to_string());
    plan.peer.children[0].remote_ts.push(plan.pair.west.address(Outer::V4).to_string());
    let tunnel = plan.start()?;
    let told = match tunnel.us.up(PEER, NET) {
        Ok(()) => return Err("a child came up".into()),
        Err(error) => error.to_string(),
    };
    let west = &tunnel.pair.west.gateway;
    ensure(ping(west, east, 3, 56)?.lost.len() == 3, || "something answers".to_owned())?;
    ensure(tunnel.pair.wire.clear_packets().is_empty(), || tunnel.pair.wire.story())?;
    ensure(told.contains("mode"), || format!("told: {told}"))?;
    Ok(told)
}
