//! What Libreswan, whose ESP is the kernel's, shows beside what every peer does.

use std::time::{Duration, Instant};

use super::liveness::{BEGUN, DPD};
use super::rekey::{crossing_child, crossing_ike, new_child};
use super::tunnel::{NET, PEER, Plan, Tunnel};
use super::{Ends, First, Scenario, failure, guard, life, liveness, rekey};
use crate::lab::gateway::{Program, Start};
use crate::lab::ike::IKE_SA_INIT;
use crate::lab::ping::ping;
use crate::lab::wait_for;
use crate::lab::wire::{Faults, Way};
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let shared = [
        life::with_any_peer(),
        rekey::with_any_peer(),
        failure::with_any_peer(),
        guard::with_any_peer(),
        liveness::scenarios(),
    ];
    let mut list: Vec<_> =
        shared.into_iter().flatten().map(|scenario| scenario.also_with(Program::Libreswan)).collect();
    let mut own = Vec::new();
    own.extend(Scenario::both_ways("libreswan-establish", establish));
    for esp in ["aes256-sha256", "aes128-sha512", "aes128-sha1", "chacha20poly1305"] {
        own.extend(Scenario::both_ways(&format!("libreswan-suite-esp-{esp}"), move |ends, first| {
            suite(ends, first, esp)
        }));
    }
    for (group, name) in [("ecp256", "knows"), ("x25519", "does-not-know")] {
        let name = format!("f-64-libreswan-{name}-the-group-of-our-child-rekey");
        own.extend(Scenario::both_ways(&name, move |ends, first| group_of_the_rekey(ends, first, group)));
    }
    own.extend(Scenario::both_ways("libreswan-rekey-child-simultaneously", |ends, first| {
        crossing(ends, first, crossing_child)
    }));
    own.extend(Scenario::both_ways("libreswan-rekey-ike-simultaneously", |ends, first| {
        crossing(ends, first, crossing_ike)
    }));
    own.extend(Scenario::both_ways("f-65-libreswan-loses-its-sas", loses_its_sas));
    own.push(Scenario::new("f-60-libreswan-both-call-at-once", both_at_once));
    list.extend(own.into_iter().map(|scenario| scenario.with(Program::Libreswan)));
    list
}

/// Pings of several sizes, and no file as with other peers: TCP that user-mode Linux forwards arrives altered.
fn establish(ends: Ends, first: First) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(first)?;
    tunnel.carries()?;
    let child = tunnel.child()?;
    ensure(child.packets.0 > 20 && child.packets.1 > 20, || format!("packets are not counted: {child:?}"))?;
    Ok(format!("{}; {}", tunnel.peer.ike_sa(PEER)?.suite, tunnel.pair.wire.summary()))
}

/// F-64: our rekey offers two groups, with the public value of the one that the IKE SA was made with; the peer's child
/// knows ecp256 alone. Whatever the peer says to that, the tunnel that worked goes on working and gets its new keys.
fn group_of_the_rekey(ends: Ends, first: First, ike: &str) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.ike(&[&format!("aes256gcm16-prfsha384-{ike}")]);
    plan.us.esp = vec!["aes256gcm16-x25519-ecp256".to_owned()];
    plan.peer.esp = vec!["aes256gcm16-ecp256".to_owned()];
    let tunnel = plan.establish(first)?;
    tunnel.carries()?;
    let before = tunnel.child()?.spi_in;
    let tally = tunnel.under_pings(|| {
        // A refusal is no error yet: what counts is what stands in the end.
        let _ = tunnel.us.rekey_child(PEER, NET);
        new_child(&tunnel, before)
    })?;
    tally.all_answered()?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

/// Both ask for new keys at once. Traffic goes on, and we send into an SA that the peer has. It leaves the Child SA that is one
/// too many open, which it should close (RFC 7296 §2.8.1), or asks for one more on the new IKE SA: "exactly one" does not
/// hold here.
fn crossing(ends: Ends, first: First, rekeys: fn(&Tunnel) -> Result) -> Result<String> {
    /// Longer than anybody waits for what the other one might still do.
    const SETTLED: Duration = Duration::from_secs(12);
    /// What a guest may lose in the moments when it is busy; a wrong SA loses a hundred a second.
    const MOST: usize = 10;
    let tunnel = Plan::new(ends)?.establish(first)?;
    let before = (tunnel.us.ike_sa(PEER)?.spis, tunnel.child()?.spi_in);
    let tally = tunnel.under_pings(|| {
        rekeys(&tunnel)?;
        std::thread::sleep(SETTLED);
        Ok(())
    })?;
    ensure(tally.lost.len() < MOST, || format!("the new SAs do not carry: {tally}"))?;
    let ours = tunnel.us.sas()?;
    let same = ours.iter().any(|ike| ike.spis == before.0 && ike.children.iter().any(|child| child.spi_in == before.1));
    ensure(!same, || "nothing is new".to_owned())?;
    let theirs: Vec<_> =
        tunnel.peer.sas()?.into_iter().flat_map(|ike| ike.children).map(|child| child.spi_in).collect();
    let children: Vec<_> = ours.into_iter().flat_map(|ike| ike.children).collect();
    // It may have lost the older one without a word; what we send goes into the newest, which the pings show.
    let known = children.iter().any(|child| theirs.contains(&child.spi_out));
    ensure(known, || format!("we send into no SA that the peer has: {children:x?}, {theirs:x?}"))?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

/// F-65: the peer's kernel has forgotten its SAs, its daemon does not know. Traffic is back within three liveness intervals.
fn loses_its_sas(ends: Ends, first: First) -> Result<String> {
    const INTERVAL: Duration = Duration::from_secs(3);
    let mut plan = Plan::new(ends)?;
    (plan.us.dpd, plan.peer.dpd) = (INTERVAL, INTERVAL);
    plan.us.start = if first == First::We { Start::Active } else { Start::Passive };
    let tunnel = plan.start()?;
    if first == First::They {
        tunnel.peer.up(PEER, NET)?;
    }
    tunnel.wait_up_within(BEGUN)?;
    tunnel.carries()?;
    tunnel.peer.lose_sas()?;
    let (host, to) = (&tunnel.pair.west.host, tunnel.pair.east.host_v4(0));
    let lost = Instant::now();
    ensure(!ping(host, to, 1, 56)?.lost.is_empty(), || "the peer has not lost its SAs".to_owned())?;
    wait_for("traffic within three liveness intervals", 3 * INTERVAL, || {
        Ok(ping(host, to, 1, 56)?.lost.is_empty().then_some(()))
    })?;
    let took = lost.elapsed();
    tunnel.is_protected()?;
    Ok(format!("traffic again after {:.1} s", took.as_secs_f32()))
}

/// F-60: both begin at the same moment. In the end one IKE SA and one pair of Child SAs stand, and stay.
fn both_at_once(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    (plan.us.dpd, plan.peer.dpd) = (DPD, DPD);
    plan.us.start = Start::Active;
    plan.peer.start = Start::Active;
    plan.pair.wire.faults(Faults { delay: Duration::from_millis(300), ..Faults::default() });
    // The peer calls while its guest has just booted, and we are there a moment later: its call is under way.
    let tunnel = plan.start()?;
    tunnel.wait_up_within(Duration::from_secs(40))?;
    crossed(&tunnel)?;
    tunnel.pair.wire.faults(Faults::default());
    tunnel.carries()?;
    std::thread::sleep(4 * DPD);
    tunnel.agree()?;
    tunnel.carries()?;
    Ok(String::new())
}

/// Each end has begun a connection.
fn crossed(tunnel: &Tunnel) -> Result {
    let seen = tunnel.pair.wire.ike();
    let began = |way| seen.iter().any(|m| m.way == way && m.seen.exchange == IKE_SA_INIT && !m.seen.response);
    ensure(began(Way::East) && began(Way::West), || format!("the calls did not cross:\n{}", tunnel.pair.wire.story()))
}

/// Packets of its kernel under another suite, before and after a rekey from either end.
fn suite(ends: Ends, first: First, esp: &str) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.esp(&[esp]);
    let tunnel = plan.establish(first)?;
    tunnel.carries()?;
    rekey::rekey_child(&tunnel, First::We)?;
    rekey::rekey_child(&tunnel, First::They)?;
    tunnel.carries()?;
    let suite = tunnel.child()?.suite;
    ensure(suite.starts_with(esp), || format!("negotiated {suite}"))?;
    Ok(suite)
}
