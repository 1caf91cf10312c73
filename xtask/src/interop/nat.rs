//! Translators and filters on the path.

use std::time::Duration;

use super::tunnel::{PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::frame::Kind;
use crate::lab::nat::Translation;
use crate::lab::ping::ping;
use crate::lab::wait_for;
use crate::lab::wire::Faults;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = vec![
        Scenario::new("a2-one-to-one-nat-on-both-sides-we-initiate", |ends| one_to_one(ends, First::We)),
        Scenario::new("a2-one-to-one-nat-on-both-sides-they-initiate", |ends| one_to_one(ends, First::They)),
        Scenario::new("masqueraded-we-initiate", |ends| masqueraded(ends, First::We)),
        Scenario::new("masqueraded-they-initiate", |ends| masqueraded(ends, First::They)),
        Scenario::new("d7-short-udp-timeout-is-outlived-by-keepalives", short_timeout).thorough(),
    ];
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
