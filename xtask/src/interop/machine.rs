//! The machine around our gateway: its other networks, and addresses that come, go and are late.

use std::net::ToSocketAddrs as _;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use super::tunnel::{NET, PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::gateway::{Child, Gateway, Start};
use crate::lab::iproute::ip;
use crate::lab::link;
use crate::lab::namespace::Namespace;
use crate::lab::pair::Side;
use crate::lab::ping::{ping, ping_from};
use crate::lab::portcullis::Portcullis;
use crate::lab::resolver::Resolver;
use crate::lab::tcp::connect;
use crate::lab::wait_for;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    [
        Scenario::new("f-13-another-lan-stays-reachable-under-a-full-tunnel", another_lan),
        Scenario::new("f-70-the-outside-network-reaches-the-gateway-under-a-full-tunnel", outside_network),
        Scenario::new("full-tunnel-under-a-strict-reverse-path-filter", strict_filter),
        Scenario::new("f-25-our-address-changes", our_address_changes),
        Scenario::new("f-26-the-lan-address-changes", lan_address_changes),
        Scenario::new("f-26-the-lan-address-comes-late", lan_address_comes_late).thorough(),
        Scenario::new("f-27-a-lan-without-carrier-at-the-start", lan_without_carrier).thorough(),
        Scenario::new("f-27-a-tentative-address-at-the-start", tentative_at_the_start),
        Scenario::new("f-11-bypassed-packets-are-masqueraded", bypass_under_masquerade).thorough(),
        Scenario::new("f-12-the-peers-name-is-asked-for-outside-the-tunnel", peer_by_name).thorough(),
    ]
    .into_iter()
    .map(Scenario::ours)
    .collect()
}

/// Everything that is not ours goes to the peer.
fn full_tunnel(plan: &mut Plan) {
    plan.us.children[0].remote_ts = vec!["0.0.0.0/0".to_owned()];
    plan.peer.children[0].local_ts = vec!["0.0.0.0/0".to_owned()];
}

/// F-13: a second LAN of the same machine, in no selector of its own.
fn another_lan(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    full_tunnel(&mut plan);
    let neighbour = Namespace::new("neighbour")?;
    link::veth((&plan.pair.west.gateway, "lan2"), (&neighbour, "eth"))?;
    ip(&plan.pair.west.gateway, "addr add 10.41.0.1/16 dev lan2")?;
    ip(&neighbour, "addr add 10.41.0.10/16 dev eth")?;
    ip(&neighbour, "route add default via 10.41.0.1")?;
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    let west = &tunnel.pair.west;
    ping(&west.host, [10, 41, 0, 10].into(), 5, 56)?.all_answered()?;
    ping(&west.gateway, [10, 41, 0, 10].into(), 5, 56)?.all_answered()?;
    ping(&neighbour, west.host_v4(0), 5, 56)?.all_answered()?;
    tunnel.carries()?;
    Ok(String::new())
}

/// F-70: the router on the outside network and the gateway still reach each other, during and after.
fn outside_network(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    full_tunnel(&mut plan);
    let router = Namespace::new("router")?;
    link::veth((&plan.pair.west.gateway, "wan2"), (&router, "eth"))?;
    ip(&plan.pair.west.gateway, "addr add 198.51.100.2/24 dev wan2")?;
    ip(&router, "addr add 198.51.100.1/24 dev eth")?;
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    let gateway = &tunnel.pair.west.gateway;
    let talk = |when: &str| -> Result {
        connect(&router, gateway, [198, 51, 100, 2].into())
            .map_err(|error| format!("router to us, {when}: {error}"))?;
        connect(gateway, &router, [198, 51, 100, 1].into())
            .map_err(|error| format!("us to router, {when}: {error}"))?;
        Ok(())
    };
    talk("while up")?;
    tunnel.us.down(PEER)?;
    talk("after down")?;
    Ok(String::new())
}

/// F-11: what a policy lets through in clear is translated as if we were not there.
fn bypass_under_masquerade(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?.in_the_wild()?;
    full_tunnel(&mut plan);
    // The strict filter is a matter of its own, below.
    plan.pair.west.gateway.sysctl("ipv4.conf.all.rp_filter", "2")?;
    plan.us_settings = "\n[[policy]]\naction = \"bypass\"\nremote = \"203.0.113.53\"".to_owned();
    let wild = plan.pair.wild.as_ref().ok_or("not wild")?;
    // The provider has no way back to 10.1.0.0/16: only what is translated is answered.
    ping(&plan.pair.west.host, [203, 0, 113, 53].into(), 3, 56)?.all_answered()?;
    ensure(ip(&wild.provider, "route get 10.1.0.10").is_err(), || "the provider knows our LAN".to_owned())?;
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    ping(&tunnel.pair.west.host, [203, 0, 113, 53].into(), 5, 56)?.all_answered()?;
    connect(&tunnel.pair.west.host, &tunnel.pair.wild.as_ref().ok_or("not wild")?.provider, [203, 0, 113, 53].into())?;
    Ok(String::new())
}

/// F-12: the peer's name is known only to a server outside, which has to be asked past the tunnel, the first time and
/// after a loss.
fn peer_by_name(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?.in_the_wild()?;
    full_tunnel(&mut plan);
    plan.pair.west.gateway.sysctl("ipv4.conf.all.rp_filter", "2")?;
    plan.us.start = Start::Active;
    let (pair, server) = (&plan.pair, [203, 0, 113, 53].into());
    let provider = &pair.wild.as_ref().ok_or("not wild")?.provider;
    let resolver = Resolver::start(provider, server, pair.east.public())?;
    let found = pair.west.gateway.within(|| Ok(("peer.lab", 500).to_socket_addrs()?.collect::<Vec<_>>()))?;
    ensure(found.len() == 1, || format!("without us the name is {found:?}"))?;
    let mut us = Portcullis::new(&pair.west.gateway, "")?;
    let mut peer = pair.gateway(Side::East, ends.peer, "")?;
    us.configure(from_ref(&plan.us))?;
    us.edit(|text| text.replace("remote = \"192.0.2.2\"", "remote = \"peer.lab\""))?;
    peer.configure(from_ref(&plan.peer))?;
    peer.start()?;
    us.start()?;
    let gateway: &dyn Gateway = &us;
    gateway.wait_up(PEER, NET, Duration::from_secs(15))?;
    ping(provider, [198, 51, 100, 2].into(), 3, 56)?
        .all_answered()
        .map_err(|error| format!("outer address: {error}"))?;
    let before = resolver.questions();
    ensure(before > 0, || "nobody asked for the name".to_owned())?;
    peer.down(PEER)?;
    gateway.wait_up(PEER, NET, Duration::from_secs(15))?;
    wait_for("the first ping", Duration::from_secs(5), || {
        Ok(ping(&pair.west.host, pair.east.host_v4(0), 1, 56)?.lost.is_empty().then_some(()))
    })?;
    Ok(format!("{before} questions, then {}", resolver.questions()))
}

/// The kernel asks whether the peer's answers come from where packets to it would go.
fn strict_filter(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?.in_the_wild()?;
    full_tunnel(&mut plan);
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    Ok(String::new())
}

/// F-25: another address from the provider, as with PPPoE.
fn our_address_changes(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us.local = None;
    plan.us.start = Start::Active;
    plan.peer.remote = None;
    let tunnel = plan.start()?;
    tunnel.wait_up()?;
    tunnel.carries()?;
    let gateway = &tunnel.pair.west.gateway;
    ip(gateway, "addr del 192.0.2.1/24 dev wan")?;
    std::thread::sleep(Duration::from_millis(500));
    ip(gateway, "addr add 192.0.2.3/24 dev wan")?;
    ip(gateway, "route replace default via 192.0.2.2 dev wan")?;
    let took = again(&tunnel)?;
    let remote = tunnel.peer.sas()?.into_iter().map(|sa| sa.remote).collect::<Vec<_>>();
    ensure(remote.iter().any(|remote| remote.starts_with("192.0.2.3")), || format!("the peer sees {remote:?}"))?;
    Ok(format!("carries again after {:.1} s", took.as_secs_f32()))
}

/// How long until the tunnel carries; at most the three seconds of F-25.
fn again(tunnel: &Tunnel) -> Result<Duration> {
    let began = Instant::now();
    wait_for("the first ping", Duration::from_secs(3), || {
        let tally = ping(&tunnel.pair.west.host, tunnel.pair.east.host_v4(0), 1, 56)?;
        Ok(tally.lost.is_empty().then_some(()))
    })?;
    Ok(began.elapsed())
}

/// F-26: the gateway's own packets take their source from the LAN address that is there now.
fn lan_address_changes(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(First::We)?;
    tunnel.carries()?;
    speaks(&tunnel)?;
    let gateway = &tunnel.pair.west.gateway;
    ip(gateway, "addr add 10.1.0.2/16 dev lan")?;
    ip(gateway, "addr del 10.1.0.1/16 dev lan")?;
    // Where the kernel deletes secondaries with their primary, it is added again.
    let _ = ip(gateway, "addr add 10.1.0.2/16 dev lan");
    speaks(&tunnel)?;
    Ok(String::new())
}

fn lan_address_comes_late(ends: Ends) -> Result<String> {
    let plan = Plan::new(ends)?;
    ip(&plan.pair.west.gateway, "addr flush dev lan")?;
    let tunnel = plan.establish(First::We)?;
    ip(&tunnel.pair.west.gateway, "addr add 10.1.0.1/16 dev lan")?;
    speaks(&tunnel)?;
    tunnel.carries()?;
    Ok(String::new())
}

/// The gateway itself, its source left to the kernel, reaches the peer's host.
fn speaks(tunnel: &Tunnel) -> Result {
    wait_for("an answer to the gateway itself", Duration::from_secs(3), || {
        let tally = ping(&tunnel.pair.west.gateway, tunnel.pair.east.host_v4(0), 1, 56)?;
        Ok(tally.lost.is_empty().then_some(()))
    })
}

/// F-27: the switch is off, so that duplicate address detection cannot end; the tunnel stands all the same.
fn lan_without_carrier(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    both_families(&mut plan);
    let (west, to) = (&plan.pair.west, plan.pair.east.host_v4(0));
    west.gateway.sysctl("ipv6.conf.lan.accept_dad", "1")?;
    ip(&west.host, "link set eth down")?;
    ip(&west.gateway, "-6 addr flush dev lan scope global")?;
    ip(&west.gateway, "addr add fd01::1/64 dev lan")?;
    let tunnel = plan.establish(First::We)?;
    let west = &tunnel.pair.west;
    wait_for("an answer without a LAN", Duration::from_secs(5), || {
        Ok(ping_from(&west.gateway, [10, 1, 0, 1].into(), to, 1)?.lost.is_empty().then_some(()))
    })?;
    ip(&west.host, "link set eth up")?;
    ip(&west.host, "addr replace fd01::10/64 dev eth nodad")?;
    ip(&west.host, "route replace default via 10.1.0.1")?;
    ip(&west.host, "-6 route replace default via fd01::1")?;
    tunnel.carries()?;
    carries_v6(&tunnel)
}

fn both_families(plan: &mut Plan) {
    let (west, east) = (plan.pair.west.net_v6(), plan.pair.east.net_v6());
    plan.us.children.push(Child::new("net6", &[&west], &[&east]));
    plan.peer.children.push(Child::new("net6", &[&east], &[&west]));
}

fn carries_v6(tunnel: &Tunnel) -> Result<String> {
    let to = tunnel.pair.east.host_v6();
    for (who, from) in [("the LAN", &tunnel.pair.west.host), ("the gateway itself", &*tunnel.pair.west.gateway)] {
        wait_for(&format!("an answer over IPv6 for {who}"), Duration::from_secs(10), || {
            Ok(ping(from, to, 1, 56)?.lost.is_empty().then_some(()))
        })?;
    }
    Ok(String::new())
}

/// F-27: duplicate address detection has not ended when the daemon starts.
fn tentative_at_the_start(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    both_families(&mut plan);
    let gateway = &plan.pair.west.gateway;
    gateway.sysctl("ipv6.conf.lan.accept_dad", "1")?;
    gateway.sysctl("ipv6.conf.lan.dad_transmits", "4")?;
    ip(gateway, "-6 addr flush dev lan scope global")?;
    ip(gateway, "addr add fd01::1/64 dev lan")?;
    ensure(ip(gateway, "-6 addr show dev lan")?.contains("tentative"), || "no address is tentative".to_owned())?;
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    carries_v6(&tunnel)
}
