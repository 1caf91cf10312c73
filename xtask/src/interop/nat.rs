//! Translators and filters on the path.

use std::net::UdpSocket;
use std::slice::from_ref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::tunnel::{NET, PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::frame::{Kind, Packet, classify};
use crate::lab::gateway::Gateway;
use crate::lab::nat::Translation;
use crate::lab::pair::{Pair, Side};
use crate::lab::ping::ping;
use crate::lab::portcullis::Portcullis;
use crate::lab::wait_for;
use crate::lab::watch::{Crossing, Watch};
use crate::lab::wire::{Faults, Way};
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = vec![
        Scenario::new("a2-one-to-one-nat-on-both-sides-we-initiate", |ends| one_to_one(ends, First::We)),
        Scenario::new("a2-one-to-one-nat-on-both-sides-they-initiate", |ends| one_to_one(ends, First::They)),
        Scenario::new("masqueraded-we-initiate", |ends| masqueraded(ends, First::We)),
        Scenario::new("masqueraded-they-initiate", |ends| masqueraded(ends, First::They)),
        Scenario::new("d7-short-udp-timeout-is-outlived-by-keepalives", short_timeout).thorough(),
    ];
    list.push(Scenario::new("a-new-port-of-a-nat-is-followed-only-when-it-is-authentic", rebinding).ours());
    list.extend(Scenario::both_ways("a3-only-udp-500-and-4500-pass", only_udp));
    list.extend(Scenario::both_ways("b5-encap-always-where-esp-is-dropped", forced_encapsulation));
    list
}

/// Row A2: each gateway has a private address and a public one that it does not know.
fn one_to_one(ends: Ends, first: First) -> Result<String> {
    let plan = Plan::behind_nat(ends, Some(Translation::OneToOne), Some(Translation::OneToOne))?;
    let tunnel = plan.establish(first)?;
    tunnel.carries()?;
    ensure(tunnel.us.ike_sa(PEER)?.nat, || "no NAT was found".to_owned())?;
    ensure(tunnel.pair.wire.count(Kind::Esp) == 0, || "protocol 50 behind a NAT".to_owned())?;
    Ok(tunnel.pair.wire.summary())
}

/// The initiator sits behind a home router; in the middle of it all the router forgets its mappings.
fn masqueraded(ends: Ends, first: First) -> Result<String> {
    let masquerade = Some(Translation::Masquerade);
    let mut plan = match first {
        First::We => Plan::behind_nat(ends, masquerade, None)?,
        First::They => Plan::behind_nat(ends, None, masquerade)?,
    };
    (plan.us.dpd, plan.peer.dpd) = (Duration::from_secs(2), Duration::from_secs(2));
    match first {
        First::We => plan.peer.remote = None,
        First::They => plan.us.remote = None,
    }
    let tunnel = plan.establish(first)?;
    carries_towards(&tunnel, first)?;
    let (initiator, responder) = tunnel.ends(first);
    ensure(initiator.ike_sa(PEER)?.nat, || "no NAT was found".to_owned())?;
    let mapped = responder.ike_sa(PEER)?;
    let before = (mapped.spis, mapped.remote.clone());
    ensure(!mapped.remote.contains("4500"), || format!("the responder sees {}", mapped.remote))?;
    let site = if first == First::We { &tunnel.pair.west } else { &tunnel.pair.east };
    site.nat.as_ref().ok_or("no NAT")?.forget_mappings()?;
    // Traffic from inside opens a new mapping, and the responder follows it (RFC 7296 §2.23).
    carries_towards(&tunnel, first)?;
    let after = wait_for("the responder to follow", Duration::from_secs(10), || {
        let sa = responder.ike_sa(PEER)?;
        Ok((sa.remote != before.1).then_some(sa))
    })?;
    ensure(after.spis == before.0, || "another IKE SA".to_owned())?;
    carries_towards(&tunnel, first)?;
    Ok(format!("{} became {}", before.1, after.remote))
}

/// The peer's router gives it another port: whoever is outside follows what is authentic and new (RFC 7296 §2.23), and neither a
/// forged packet, nor a copy, nor a forged message of IKE.
fn rebinding(ends: Ends) -> Result<String> {
    let mut plan = Plan::behind_nat(ends, None, Some(Translation::Masquerade))?;
    plan.us.remote = None;
    // Nothing but what is sent here tells where the peer is.
    (plan.us.dpd, plan.peer.dpd) = (Duration::from_secs(600), Duration::from_secs(600));
    let Pair { west, east, wire, .. } = &plan.pair;
    let mut us = Portcullis::new(&west.gateway, "")?;
    let mut peer = plan.pair.gateway(Side::East, ends.peer, "")?;
    us.configure(from_ref(&plan.us))?;
    peer.configure(from_ref(&plan.peer))?;
    us.start()?;
    peer.start()?;
    peer.up(PEER, NET)?;
    let us_as_any: &dyn Gateway = &us;
    us_as_any.wait_up(PEER, NET, Duration::from_secs(15))?;
    let both = || -> Result {
        ping(&east.host, west.host_v4(0), 10, 56)?.all_answered()?;
        ping(&west.host, east.host_v4(0), 10, 56)?.all_answered()
    };
    wait_for("the first ping", Duration::from_secs(10), || {
        Ok(ping(&east.host, west.host_v4(0), 1, 56)?.lost.is_empty().then_some(()))
    })?;
    let nat = east.nat.as_ref().ok_or("no NAT")?;
    let last = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&last);
    let watch = Watch::start(&nat.router, "outside", move |crossing, frame| {
        if (crossing, classify(frame)) == (Crossing::Out, Kind::EspInUdp)
            && let Some((_, _, datagram)) = Packet::in_frame(frame).and_then(|packet| packet.udp())
            && let Ok(mut kept) = kept.lock()
        {
            datagram.clone_into(&mut kept);
        }
    })?;
    both()?;
    drop(watch);
    let copy = last.lock().map_err(|_| "the watch panicked")?.clone();
    let before = us_as_any.ike_sa(PEER)?;
    ensure(before.nat && copy.len() > 8, || format!("{before:?}, {} octets of ESP", copy.len()))?;

    // The same public address, another port, as a new mapping would have.
    let elsewhere = nat.router.within(|| Ok(UdpSocket::bind((east.public(), 55_555))?))?;
    elsewhere.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut ahead = copy.clone();
    ahead[6] ^= 0x40; // a sequence number in front of the window, and with it another ICV
    let asked = wire.ike().into_iter().rev().find(|message| message.way == Way::West && !message.seen.response);
    let mut message = asked.ok_or("no request on the wire")?.message;
    message[20..24].copy_from_slice(&2_u32.to_be_bytes()); // the next request, were it authentic
    let message = [vec![0; 4], message].concat();
    let counted = |name: &str| -> Result<u64> { Ok(us.status()?["counters"][name].as_u64().ok_or("no such counter")?) };
    let judged = || ["InReplayed", "InForged", "IkeForged"].into_iter().map(counted).collect::<Result<Vec<_>>>();
    let due: Vec<u64> = judged()?.iter().map(|count| count + 5).collect();
    for lie in [&copy, &ahead, &message] {
        for _ in 0..5 {
            elsewhere.send_to(lie, (west.public(), 4500))?;
        }
    }
    wait_for("all lies to be judged", Duration::from_secs(5), || {
        let judged = judged()?;
        ensure(judged == due, || format!("{judged:?} instead of {due:?}"))?;
        Ok(Some(()))
    })?;
    both()?;
    ensure(elsewhere.recv(&mut [0; 2000]).is_err(), || "something is sent to the forger".to_owned())?;
    let after = us_as_any.ike_sa(PEER)?;
    ensure(after.remote == before.remote && counted("PeerMoved")? == 0, || format!("{before:?} became {after:?}"))?;

    nat.forget_mappings()?;
    // What comes first shows the new port; its answer may still go to the old one.
    ping(&east.host, west.host_v4(0), 1, 56)?;
    let after = wait_for("the new port to be followed", Duration::from_secs(5), || {
        let sa = us_as_any.ike_sa(PEER)?;
        Ok((sa.remote != before.remote).then_some(sa))
    })?;
    ensure(after.spis == before.spis, || format!("{before:?} became {after:?}"))?;
    both()?;
    let told = format!("the peer is at {} now", after.remote);
    ensure(counted("PeerMoved")? == 1 && us.log().contains(&told), || us.log())?;
    ensure(wire.clear_packets().is_empty(), || wire.story())?;
    Ok(format!("{} became {}", before.remote, after.remote))
}

/// Row D7: the mapping lives 6 s, nobody speaks for 20 s, and then the *outside* has something to say.
fn short_timeout(ends: Ends) -> Result<String> {
    let mut plan = Plan::behind_nat(ends, Some(Translation::Masquerade), None)?;
    plan.peer.remote = None;
    // Liveness checks would keep the mapping open as well; only keepalives are wanted here.
    (plan.us.dpd, plan.peer.dpd) = (Duration::from_secs(600), Duration::from_secs(600));
    let tunnel = plan.establish(First::We)?;
    let nat = tunnel.pair.west.nat.as_ref().ok_or("no NAT")?;
    // Our keepalive interval is 20 s (RFC 3948 §4); the router is a little more patient than that.
    nat.udp_timeout(25)?;
    carries_towards(&tunnel, First::We)?;
    tunnel.pair.wire.forget();
    std::thread::sleep(Duration::from_secs(70));
    let keepalives = tunnel.pair.wire.count(Kind::Keepalive);
    ensure(keepalives >= 2, || format!("{keepalives} keepalives in 70 s: {}", tunnel.pair.wire.summary()))?;
    ping(&tunnel.pair.east.host, tunnel.pair.west.host_v4(0), 10, 56)?.all_answered()?;
    Ok(format!("{keepalives} keepalives in 70 s of silence"))
}

/// Row A3: a cloud's security group that lets UDP 500 and 4500 through and nothing else.
fn only_udp(ends: Ends, first: First) -> Result<String> {
    let plan = Plan::behind_nat(ends, Some(Translation::OneToOne), Some(Translation::OneToOne))?;
    let refuse = vec![Kind::Esp, Kind::Clear, Kind::IcmpError, Kind::Fragment];
    plan.pair.wire.faults(Faults { refuse, ..Faults::default() });
    let tunnel = plan.establish(first)?;
    tunnel.carries()?;
    Ok(tunnel.pair.wire.summary())
}

/// Row B5: no NAT anywhere, but somebody drops protocol 50; `encap = "always"` gets through.
fn forced_encapsulation(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.pair.wire.faults(Faults { refuse: vec![Kind::Esp], ..Faults::default() });
    plan.us.encap = true;
    let tunnel = plan.establish(first)?;
    tunnel.carries()?;
    ensure(tunnel.pair.wire.count(Kind::EspInUdp) > 0, || tunnel.pair.wire.summary())?;
    Ok(tunnel.pair.wire.summary())
}

/// Pings from the site that is behind the NAT: a masquerade lets nothing in unasked.
fn carries_towards(tunnel: &Tunnel, first: First) -> Result {
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let (from, to) = if first == First::We { (west, east) } else { (east, west) };
    wait_for("the first ping", Duration::from_secs(10), || {
        Ok(ping(&from.host, to.host_v4(0), 1, 56)?.lost.is_empty().then_some(()))
    })?;
    ping(&from.host, to.host_v4(0), 10, 56)?.all_answered()?;
    ping(&to.host, from.host_v4(0), 10, 56)?.all_answered()?;
    tunnel.is_protected()
}
