//! Routers behind the far gateway: who traces a way through the tunnel sees all of them, and hears what does not fit (row B10).

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};

use super::tunnel::Plan;
use super::{Ends, First, Scenario};
use crate::lab::iproute::ip;
use crate::lab::link;
use crate::lab::namespace::Namespace;
use crate::lab::trace::{Probe, hops, too_big};
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("b10-every-hop-behind-the-tunnel-is-seen-and-what-is-too-large-is-told", traced).ours_twice(),
        Scenario::new("b16-what-tcp-names-is-lowered-both-ways", lowered).ours(),
    ]
}

/// Behind the eastern gateway, each with the address that it answers from.
const ROUTERS: [[u8; 4]; 3] = [[10, 2, 0, 10], [198, 51, 100, 2], [198, 51, 100, 6]];
const FAR: Ipv4Addr = Ipv4Addr::new(10, 52, 9, 10);

/// Two routers, one behind the other, whose addresses no selector has, and a host behind them.
fn traced(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    let behind = "10.52.0.0/16".to_owned();
    plan.us.children[0].remote_ts.push(behind.clone());
    plan.peer.children[0].local_ts.push(behind);
    let (first, second, far) = (Namespace::new("first")?, Namespace::new("second")?, Namespace::new("far")?);
    let (gateway, entry) = (&plan.pair.east.gateway, &plan.pair.east.host);
    for router in [entry, &first, &second] {
        router.forward()?;
        router.sysctl("ipv4.icmp_ratelimit", "0")?;
    }
    plan.pair.west.gateway.sysctl("ipv4.icmp_ratelimit", "0")?;
    gateway.sysctl("ipv4.icmp_ratelimit", "0")?;
    let net = |last: u8| Ipv4Addr::new(198, 51, 100, last).into();
    for (near, (from, port), beyond, (to, answers)) in
        [(entry, (net(1), "down"), &first, (net(2), "up")), (&first, (net(5), "down"), &second, (net(6), "up"))]
    {
        link::veth((near, port), (beyond, answers))?;
        near.address(port, from, 30)?;
        beyond.address(answers, to, 30)?;
        near.route(Ipv4Addr::new(10, 52, 0, 0).into(), 16, to)?;
        beyond.default_route(from)?;
    }
    link::veth((&second, "down"), (&far, "eth"))?;
    second.address("down", Ipv4Addr::new(10, 52, 9, 1).into(), 24)?;
    far.address("eth", FAR.into(), 24)?;
    far.default_route(Ipv4Addr::new(10, 52, 9, 1).into())?;
    gateway.route(Ipv4Addr::new(10, 52, 0, 0).into(), 16, plan.pair.east.host_v4(0))?;
    // What is narrower than the tunnel lies behind it.
    ip(&first, "link set dev down mtu 1300")?;
    let tunnel = plan.establish(First::We)?;
    tunnel.warm_up()?;

    let host = &tunnel.pair.west.host;
    let gateways = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1)];
    let all: Vec<IpAddr> =
        gateways.into_iter().chain(ROUTERS.map(Ipv4Addr::from)).chain([FAR]).map(IpAddr::from).collect();
    for probe in [Probe::Udp, Probe::Echo] {
        let seen = hops(host, FAR, probe)?;
        ensure(seen == all, || format!("{probe:?} sees {seen:?} and not {all:?}"))?;
    }
    // Our own gateway says what fits the tunnel, a router behind the other one what fits there.
    let told = [too_big(host, FAR, 1500)?, too_big(host, FAR, 1400)?, too_big(host, FAR, 1300)?];
    let expected = [Some((all[0], 1400)), Some((all[3], 1300)), None];
    // Whoever hears that nobody listens has been reached.
    ensure(told == expected, || format!("told {told:?} and not {expected:?}"))?;
    tunnel.is_protected()?;
    Ok(format!("{} hops", all.len()))
}

/// Both ends of a connection keep to what our gateway alone has made of it.
fn lowered(ends: Ends) -> Result<String> {
    const MSS: u32 = 1200;
    let mut plan = Plan::new(ends)?;
    plan.us_settings = format!("mss = \"{MSS}\"");
    let tunnel = plan.establish(First::We)?;
    tunnel.warm_up()?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let mut named = Vec::new();
    for (from, to) in [(west, east), (east, west)] {
        let listener = to.host.within(|| Ok(TcpListener::bind((to.host_v4(0), 0))?))?;
        let at = listener.local_addr()?;
        let caller = from.host.within(|| Ok(TcpStream::connect_timeout(&at, Duration::from_secs(10))?))?;
        for socket in [&caller, &listener.accept()?.0] {
            named.push(getsockopt(socket, sockopt::TcpMaxSeg)?);
        }
    }
    // The kernel takes the timestamps of each segment off.
    ensure(named.iter().all(|named| (MSS - 12..=MSS).contains(named)), || format!("they keep to {named:?}"))?;
    Ok(format!("{named:?}"))
}
