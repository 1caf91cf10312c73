//! The machine around our gateway: its other networks, and addresses that come, go and are late.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::process::{Command, Stdio};
use std::slice::from_ref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::tunnel::{NET, PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::frame::{Kind, Packet, classify};
use crate::lab::gateway::{Child, Connection, Gateway, IkeSa, Start};
use crate::lab::iproute::ip;
use crate::lab::link;
use crate::lab::namespace::Namespace;
use crate::lab::pair::Side;
use crate::lab::ping::{ping, ping_from};
use crate::lab::portcullis::Portcullis;
use crate::lab::resolver::Resolver;
use crate::lab::tcp::connect;
use crate::lab::wait_for;
use crate::lab::watch::{Crossing, Watch};
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
        Scenario::new("f-11-bypassed-packets-are-masqueraded", bypass_under_masquerade),
        Scenario::new("f-12-the-peers-name-is-asked-for-outside-the-tunnel", peer_by_name),
        Scenario::new("f-21-each-outside-interface-speaks-for-itself", two_outside_interfaces),
        Scenario::new("f-25-the-default-route-moves", default_route_moves),
        Scenario::new("f-12-the-default-route-is-made-anew-under-a-full-tunnel", default_route_made_anew),
        Scenario::new("f-29-a-reload-changes-our-address", reload_of_our_address),
        Scenario::new("f-29-a-reload-that-fails-changes-nothing", reload_that_fails),
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
    let after = resolver.questions();
    ensure(after > before, || "after the loss nobody asked for the name".to_owned())?;
    Ok(format!("{before} questions, then {after}"))
}

/// From and to of packets that were seen.
type Ways = Arc<Mutex<BTreeSet<(IpAddr, IpAddr)>>>;

/// F-21: a tunnel over one outside interface, calls to another peer over the other: each with the address of its own.
fn two_outside_interfaces(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us_settings = "outside = [\"wan\", \"wan2\"]".to_owned();
    plan.us.local = None;
    let gateway = &plan.pair.west.gateway;
    let other = Arc::new(Namespace::new("other")?);
    link::veth((gateway, "wan2"), (&other, "eth"))?;
    ip(gateway, "addr add 198.51.100.2/24 dev wan2")?;
    ip(&other, "addr add 198.51.100.1/24 dev eth")?;
    let callers = |interface| -> Result<(Watch, Ways)> {
        let seen = Ways::default();
        let note = Arc::clone(&seen);
        let watch = Watch::start(gateway, interface, move |crossing, frame| {
            if crossing == Crossing::Out
                && matches!(classify(frame), Kind::Ike | Kind::Keepalive | Kind::EspInUdp | Kind::Esp)
                && let Some(packet) = Packet::in_frame(frame)
            {
                note.lock().unwrap_or_else(PoisonError::into_inner).insert((packet.from, packet.to));
            }
        })?;
        Ok((watch, seen))
    };
    let (wan, wan2) = (callers("wan")?, callers("wan2")?);
    let second = Connection {
        name: "second".to_owned(),
        remote: Some([198, 51, 100, 1].into()),
        remote_id: "second.lab".to_owned(),
        children: vec![Child::new("net", &["10.1.0.0/16"], &["10.66.0.0/16"])],
        start: Start::Active,
        ..plan.us.clone()
    };
    let mut us = Portcullis::new(gateway, &plan.us_settings)?;
    let mut peer = plan.pair.gateway(Side::East, ends.peer, "")?;
    us.configure(&[plan.us.clone(), second])?;
    peer.configure(from_ref(&plan.peer))?;
    peer.start()?;
    us.start()?;
    us.up(PEER, NET)?;
    let host = &plan.pair.west.host;
    wait_for("a ping and a call over the second interface", Duration::from_secs(10), || {
        let answered = ping(host, plan.pair.east.host_v4(0), 1, 56)?.lost.is_empty();
        let called = !wan2.1.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        Ok((answered && called).then_some(()))
    })?;
    let pair = |from: [u8; 4], to: [u8; 4]| BTreeSet::from([(IpAddr::from(from), IpAddr::from(to))]);
    for (name, (_, seen), own) in [
        ("wan", &wan, pair([192, 0, 2, 1], [192, 0, 2, 2])),
        ("wan2", &wan2, pair([198, 51, 100, 2], [198, 51, 100, 1])),
    ] {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        ensure(*seen == own, || format!("through {name}: {seen:?}"))?;
    }
    Ok(String::new())
}

/// F-25: the default route moves to another uplink while every address stays.
fn default_route_moves(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let far: IpAddr = [203, 0, 113, 9].into();
    (plan.us.local, plan.us.remote, plan.us.start) = (None, Some(far), Start::Active);
    (plan.peer.local, plan.peer.remote) = (None, None);
    let (west, east) = (&plan.pair.west.gateway, &plan.pair.east.gateway);
    link::veth((west, "wan2"), (east, "wan2"))?;
    ip(west, "addr add 198.51.100.2/24 dev wan2")?;
    ip(east, "addr add 198.51.100.1/24 dev wan2")?;
    ip(east, "addr add 203.0.113.9/32 dev lo")?;
    ip(west, "route replace default via 192.0.2.2 dev wan")?;
    let tunnel = plan.start()?;
    tunnel.wait_up()?;
    tunnel.warm_up()?;
    let gateway = &tunnel.pair.west.gateway;
    ip(gateway, "route replace default via 198.51.100.1 dev wan2")?;
    let began = Instant::now();
    wait_for("the peer to see the other address", Duration::from_secs(3), || {
        let sas = tunnel.peer.sas()?;
        Ok(sas.iter().any(|sa| sa.established && sa.remote.starts_with("198.51.100.2")).then_some(()))
    })?;
    let moved = began.elapsed();
    let carried = again(&tunnel)?;
    ensure(began.elapsed() < Duration::from_secs(4), || format!("carries after {:?}", began.elapsed()))?;
    Ok(format!("moved after {:.1} s, carried {:.1} s later", moved.as_secs_f32(), carried.as_secs_f32()))
}

/// F-12: the peer is behind the gateway of a default route that somebody makes without naming an interface: while there is one,
/// and where there is none.
fn default_route_made_anew(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    full_tunnel(&mut plan);
    plan.us.remote = Some([203, 0, 113, 9].into());
    plan.peer.local = None;
    ip(&plan.pair.east.gateway, "addr add 203.0.113.9/32 dev lo")?;
    let tunnel = plan.establish(First::We)?;
    let gateway = &tunnel.pair.west.gateway;
    let tally = tunnel.under_pings(|| {
        ip(gateway, "route replace default via 192.0.2.2")?;
        Ok(())
    })?;
    tally.all_answered()?;
    ip(gateway, "route del default")?;
    ip(gateway, "route add default via 192.0.2.2 metric 100")?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

/// F-29: the peer hears of it through the socket that goes with the address.
fn reload_of_our_address(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.peer.remote = None;
    ip(&plan.pair.west.gateway, "addr add 192.0.2.11/24 dev wan")?;
    let mut us = Portcullis::new(&plan.pair.west.gateway, "")?;
    let mut peer = plan.pair.gateway(Side::East, ends.peer, "")?;
    us.configure(from_ref(&plan.us))?;
    peer.configure(from_ref(&plan.peer))?;
    peer.start()?;
    us.start()?;
    us.up(PEER, NET)?;
    peer.wait_up(PEER, NET, Duration::from_secs(10))?;
    us.edit(|text| text.replace("local = \"192.0.2.1\"", "local = \"192.0.2.11\""))?;
    us.reload()?;
    // What it had is closed, and as we had called it, we call it again.
    let moved = || -> Result<Option<()>> {
        let there: Vec<_> = peer.sas()?.into_iter().map(|sa| sa.remote).collect();
        Ok((!there.is_empty() && there.iter().all(|remote| remote.starts_with("192.0.2.11"))).then_some(()))
    };
    wait_for("the peer to see us at our other address alone", Duration::from_secs(2), moved)?;
    us.up(PEER, NET)?;
    Ok(String::new())
}

/// F-29: all or nothing; and what takes a new start waits for it.
fn reload_that_fails(ends: Ends) -> Result<String> {
    let plan = Plan::new(ends)?;
    ip(&plan.pair.west.gateway, "addr add 192.0.2.11/24 dev wan")?;
    let mut us = Portcullis::new(&plan.pair.west.gateway, "")?;
    let mut peer = plan.pair.gateway(Side::East, ends.peer, "")?;
    us.configure(from_ref(&plan.us))?;
    peer.configure(from_ref(&plan.peer))?;
    peer.start()?;
    us.start()?;
    us.up(PEER, NET)?;
    let gateway = &plan.pair.west.gateway;
    let state = || -> Result<String> {
        let spis = |sa: IkeSa| (sa.spis, sa.children.iter().map(|child| child.spi_in).collect::<Vec<_>>());
        let sas: Vec<_> = us.sas()?.into_iter().map(spis).collect();
        let mut nft = Command::new("nft");
        nft.args(["-s", "list", "table", "inet", "portcullis"]).stdout(Stdio::piped());
        let guard = gateway.spawn(&mut nft)?.wait_with_output()?.stdout;
        let sockets = gateway.within(|| Ok(fs::read_to_string("/proc/thread-self/net/udp")?))?;
        let sockets: Vec<_> = sockets.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        let routes = [ip(gateway, "route show table 4500")?, ip(gateway, "rule show")?];
        Ok(format!("{sas:?} {routes:?} {sockets:?} {}", String::from_utf8_lossy(&guard)))
    };
    let before = state()?;
    let other_net = |text: String| text.replace("remote-ts = [", "remote-ts = [\"10.77.0.0/16\", ");
    let mut written = String::new();
    us.edit(|text| {
        written.clone_from(&text);
        other_net(text.replace("local = \"192.0.2.1\"", "local = \"192.0.2.11\""))
    })?;
    // The first port of the new address is free, the second one somebody else's.
    let taken = gateway.within(|| Ok(UdpSocket::bind("192.0.2.11:4500")?))?;
    let told = us.reload().err().map(|error| error.to_string()).unwrap_or_default();
    ensure(told.contains("the running configuration is unchanged"), || format!("told: {told}"))?;
    drop(taken);
    let after = state()?;
    ensure(before == after, || format!("{before}\nbecame\n{after}"))?;
    us.edit(|_| written.replace("[gateway]", "[gateway]\noutside = [\"wan\"]"))?;
    us.reload()?;
    let after = state()?;
    ensure(before == after, || format!("outside is taken up without a new start: {before}\nbecame\n{after}"))?;
    ping(&plan.pair.west.host, plan.pair.east.host_v4(0), 3, 56)?.all_answered()?;
    Ok(String::new())
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
