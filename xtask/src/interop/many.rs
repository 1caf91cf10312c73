//! More than one of everything.

use std::net::IpAddr;
use std::time::Duration;

use super::tunnel::{NET, PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::gateway::{Child, Connection};
use crate::lab::wait_for;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    list.extend(Scenario::both_ways("a4-three-selectors-in-one-child", three_selectors));
    list.extend(Scenario::both_ways("c10-three-children-of-one-ike-sa", three_children));
    list.push(Scenario::new("b4-two-addresses-of-a-box", two_addresses_of_a_box).ours());
    list.push(Scenario::new("b2-add-and-remove-a-peer-under-load", add_a_peer_under_load).ours());
    list
}

/// Row A4: three networks on each side in one Child SA; each of them carries traffic.
fn three_selectors(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let (west, east) = (&plan.pair.west, &plan.pair.east);
    let west: Vec<String> = (0..3).map(|tens| west.net_v4(tens)).collect();
    let east: Vec<String> = (0..3).map(|tens| east.net_v4(tens)).collect();
    plan.us.children = vec![Child {
        name: NET.to_owned(),
        local_ts: west.clone(),
        remote_ts: east.clone(),
        transport: false,
        compress: false,
        tfc_padding: None,
    }];
    plan.peer.children = vec![Child {
        name: NET.to_owned(),
        local_ts: east,
        remote_ts: west,
        transport: false,
        compress: false,
        tfc_padding: None,
    }];
    let tunnel = plan.establish(first)?;
    every_network_is_reached(&tunnel)?;
    let child = tunnel.child()?;
    ensure(child.local_ts.len() == 3 && child.remote_ts.len() == 3, || format!("{child:?}"))?;
    tunnel.is_protected()?;
    Ok(format!("{:?} and {:?}", child.local_ts, child.remote_ts))
}

/// Row C10: one Child SA per pair of networks, all of one IKE SA; each is rekeyed by itself.
fn three_children(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let (west, east) = (&plan.pair.west, &plan.pair.east);
    let names = [NET, "second", "third"];
    let child = |tens: u8, name: &str| {
        let (west, east) = (west.net_v4(tens), east.net_v4(tens));
        (Child::new(name, &[&west], &[&east]), Child::new(name, &[&east], &[&west]))
    };
    let (ours, theirs) = (0..3).zip(names).map(|(tens, name)| child(tens, name)).unzip();
    (plan.us.children, plan.peer.children) = (ours, theirs);
    let tunnel = plan.establish(first)?;
    every_network_is_reached(&tunnel)?;
    let before: Vec<u32> = spis(&tunnel, &names)?;
    tunnel.us.rekey_child(PEER, "second")?;
    wait_for("new keys of the second child", Duration::from_secs(10), || {
        Ok((tunnel.us.child_sa(PEER, "second")?.spi_in != before[1]).then_some(()))
    })?;
    tunnel.agree()?;
    let after = spis(&tunnel, &names)?;
    ensure(after[0] == before[0] && after[2] == before[2], || format!("{before:x?} became {after:x?}"))?;
    every_network_is_reached(&tunnel)?;
    tunnel.is_protected()?;
    Ok(String::new())
}

/// Row B2: a second peer joins and leaves by `reload`; the first one's SAs stand and lose no ping.
fn add_a_peer_under_load(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(First::We)?;
    let before = tunnel.us.ike_sa(PEER)?;
    let (first, their_first) = (tunnel.us_config.clone(), tunnel.peer_config.clone());
    let (second, their_second) = second_peer(&tunnel);
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let tally = tunnel.under_pings(|| {
        tunnel.peer.configure(&[their_first, their_second])?;
        tunnel.peer.reload()?;
        tunnel.us.configure(&[first.clone(), second])?;
        tunnel.us.reload()?;
        tunnel.us.up("second", "other")?;
        tunnel.us.wait_up("second", "other", Duration::from_secs(5))?;
        wait_for("a ping through the second peer", Duration::from_secs(5), || {
            Ok(west.ping_from(1, east.host_v4(1), 1)?.lost.is_empty().then_some(()))
        })?;
        tunnel.us.configure(&[first])?;
        tunnel.us.reload()?;
        tunnel.us.wait_down("second", Duration::from_secs(5))
    })?;
    tally.all_answered()?;
    let after = tunnel.us.ike_sa(PEER)?;
    ensure(before.spis == after.spis, || "the first peer's IKE SA is another one".to_owned())?;
    ensure(before.children[0].spi_in == after.children[0].spi_in, || {
        "the first peer's child is another one".to_owned()
    })?;
    Ok(tally.to_string())
}

/// Row B4: our box has two addresses, each peer connection uses one of them and has a 256-bit key of its own.
fn two_addresses_of_a_box(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(First::We)?;
    let other: IpAddr = [192, 0, 2, 11].into();
    tunnel.pair.west.gateway.address("wan", other, 24)?;
    let (mut second, mut their_second) = second_peer(&tunnel);
    (second.local, their_second.remote) = (Some(other), Some(other));
    second.psk = format!("0x{}", "5a1c".repeat(16));
    their_second.psk.clone_from(&second.psk);
    tunnel.peer.configure(&[tunnel.peer_config.clone(), their_second])?;
    tunnel.peer.reload()?;
    tunnel.us.configure(&[tunnel.us_config.clone(), second])?;
    tunnel.us.reload()?;
    for (initiator, who) in [(&tunnel.us, "we"), (&tunnel.peer, "they")] {
        initiator.up("second", "other").map_err(|error| format!("{who} initiate: {error}"))?;
        tunnel.us.wait_up("second", "other", Duration::from_secs(5))?;
        let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
        wait_for("a ping through the second peer", Duration::from_secs(5), || {
            Ok(west.ping_from(1, east.host_v4(1), 1)?.lost.is_empty().then_some(()))
        })?;
        let at = tunnel.peer.ike_sa("second")?.remote;
        ensure(at.starts_with("192.0.2.11["), || format!("the peer sees {at}"))?;
        tunnel.us.down("second")?;
        tunnel.peer.wait_down("second", Duration::from_secs(5))?;
    }
    // The first connection, on the first address and with the first key, is still there.
    tunnel.carries()?;
    Ok(String::new())
}

/// A second peer for both ends: the same machines under other names, for other networks.
fn second_peer(tunnel: &Tunnel) -> (Connection, Connection) {
    let (mut second, mut theirs) = (tunnel.us_config.clone(), tunnel.peer_config.clone());
    (second.name, theirs.name) = ("second".to_owned(), "second".to_owned());
    (second.local_id, second.remote_id) = ("west-two.lab".to_owned(), "east-two.lab".to_owned());
    (theirs.local_id, theirs.remote_id) = (second.remote_id.clone(), second.local_id.clone());
    let (west, east) = (tunnel.pair.west.net_v4(1), tunnel.pair.east.net_v4(1));
    second.children = vec![Child::new("other", &[&west], &[&east])];
    theirs.children = vec![Child::new("other", &[&east], &[&west])];
    (second, theirs)
}

fn spis(tunnel: &Tunnel, names: &[&str]) -> Result<Vec<u32>> {
    names.iter().map(|name| Ok(tunnel.us.child_sa(PEER, name)?.spi_in)).collect()
}

fn every_network_is_reached(tunnel: &Tunnel) -> Result {
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    for tens in 0..3 {
        wait_for("the first ping", Duration::from_secs(5), || {
            Ok(west.ping_from(tens, east.host_v4(tens), 1)?.lost.is_empty().then_some(()))
        })?;
        west.ping_from(tens, east.host_v4(tens), 5)?.all_answered()?;
        east.ping_from(tens, west.host_v4(tens), 5)?.all_answered()?;
    }
    Ok(())
}
