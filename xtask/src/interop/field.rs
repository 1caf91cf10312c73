//! What people of this field told of their machines, built small.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tunnel::{NET, PEER, Plan, Tunnel};
use super::{Ends, Scenario};
use crate::lab::gateway::{Gateway as _, Start};
use crate::lab::iproute::ip;
use crate::lab::link;
use crate::lab::pair::Side;
use crate::lab::ping::ping;
use crate::lab::portcullis::Portcullis;
use crate::lab::wait_for;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    [
        Scenario::new("an-outside-interface-comes-late-and-is-made-anew", dial_in),
        Scenario::new("a-port-that-somebody-had-is-taken-when-it-is-free", port_of_somebody),
        Scenario::new("a-temporary-address-gives-way-without-a-break", temporary_address),
    ]
    .into_iter()
    .map(Scenario::ours)
    .collect()
}

/// A dial-in (PPPoE): the interface that is named under `outside` is not there yet when the daemon starts, and each
/// connect makes another one of the same name.
fn dial_in(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    (plan.us.local, plan.us.remote, plan.us.start) = (None, Some([198, 51, 100, 1].into()), Start::Active);
    (plan.peer.local, plan.peer.remote) = (None, None);
    let mut us = Portcullis::new(&plan.pair.west.gateway, "outside = [\"ppp0\"]")?;
    let mut peer = plan.pair.gateway(Side::East, ends.peer, "")?;
    us.configure(std::slice::from_ref(&plan.us))?;
    peer.configure(std::slice::from_ref(&plan.peer))?;
    peer.start()?;
    us.start()?;
    let (west, east) = (&plan.pair.west, &plan.pair.east);
    let mut took = Vec::new();
    for dial in 0..3 {
        if dial > 0 {
            ip(&west.gateway, "link del ppp0")?;
        }
        link::veth((&west.gateway, "ppp0"), (&east.gateway, "ppp0"))?;
        ip(&east.gateway, "addr add 198.51.100.1/24 dev ppp0")?;
        let own = format!("198.51.100.{}", 2 + dial % 2);
        ip(&west.gateway, &format!("addr add {own}/24 dev ppp0"))?;
        let began = Instant::now();
        wait_for(&format!("a ping after dial {dial}"), Duration::from_secs(8), || {
            // Without a daemon the two would reach each other as well, in clear.
            let met =
                us.sas()?.iter().any(|sa| sa.established) && peer.sas()?.iter().any(|sa| sa.remote.starts_with(&own));
            Ok((met && ping(&west.host, east.host_v4(0), 1, 56)?.lost.is_empty()).then_some(()))
        })?;
        took.push(format!("{:.1} s", began.elapsed().as_secs_f32()));
    }
    Ok(format!("carries after {}", took.join(", ")))
}

/// While the interface that is named under `outside` is away, somebody takes one of the ports, and keeps it for a while.
fn port_of_somebody(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    (plan.us.local, plan.us.start) = (None, Start::Active);
    plan.peer.remote = None;
    let gateway = Arc::clone(&plan.pair.west.gateway);
    let mut us = Portcullis::new(&gateway, "outside = [\"late\"]")?;
    let mut peer = plan.pair.gateway(Side::East, ends.peer, "")?;
    us.configure(std::slice::from_ref(&plan.us))?;
    peer.configure(std::slice::from_ref(&plan.peer))?;
    peer.start()?;
    us.start()?;
    let somebody = gateway.within(|| Ok(UdpSocket::bind("0.0.0.0:4500")?))?;
    ip(&gateway, "link set wan down")?;
    ip(&gateway, "link set wan name late")?;
    ip(&gateway, "link set late up")?;
    ip(&gateway, "route replace default via 192.0.2.2 dev late")?;
    wait_for("a word about the port", Duration::from_secs(5), || {
        Ok(us.log().contains("UDP port 4500 at 0.0.0.0 on late cannot be opened").then_some(()))
    })?;
    std::thread::sleep(Duration::from_secs(2));
    drop(somebody);
    let began = Instant::now();
    wait_for("a connection", Duration::from_secs(20), || Ok(us.sas()?.iter().any(|sa| sa.established).then_some(())))?;
    ensure(us.log().contains("UDP port 4500 at 0.0.0.0 on late is open again"), || "not a word".to_owned())?;
    ping(&plan.pair.west.host, plan.pair.east.host_v4(0), 3, 56)?.all_answered()?;
    Ok(format!("carries {:.1} s after the port was free", began.elapsed().as_secs_f32()))
}

/// IPv6 addresses that live for a day (RFC 8981): a connection stays at the one that it began with for as long as that is
/// valid, and leaves it when it goes.
fn temporary_address(ends: Ends) -> Result<String> {
    let mut plan = Plan::over_v6(ends)?;
    (plan.us.local, plan.us.start) = (None, Start::Active);
    plan.peer.remote = None;
    let gateway = &plan.pair.west.gateway;
    ip(gateway, "-6 addr change 2001:db8:1::1/64 dev wan preferred_lft 0")?;
    ip(gateway, "-6 addr add 2001:db8:1::a/64 dev wan")?;
    let tunnel = plan.start()?;
    tunnel.wait_up()?;
    let gateway = &tunnel.pair.west.gateway;
    ensure(seen_at(&tunnel)?.contains("2001:db8:1::a"), || "not from the preferred address".to_owned())?;
    let spis = tunnel.us.ike_sa(PEER)?.spis;
    let tally = tunnel.under_pings(|| {
        ip(gateway, "-6 addr add 2001:db8:1::b/64 dev wan")?;
        ip(gateway, "-6 addr change 2001:db8:1::a/64 dev wan preferred_lft 0")?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    })?;
    tally.all_answered()?;
    let route = ip(gateway, "-6 route get 2001:db8:1::2")?;
    ensure(route.contains("2001:db8:1::b"), || format!("nothing changed for new connections: {route}"))?;
    ensure(tunnel.us.ike_sa(PEER)?.spis == spis, || "the connection was made anew for nothing".to_owned())?;
    ip(gateway, "-6 addr del 2001:db8:1::a/64 dev wan")?;
    wait_for("the peer to see the other address", Duration::from_secs(3), || {
        Ok(seen_at(&tunnel)?.contains("2001:db8:1::b").then_some(()))
    })?;
    tunnel.us.wait_up(PEER, NET, Duration::from_secs(3))?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

fn seen_at(tunnel: &Tunnel) -> Result<String> {
    Ok(tunnel.peer.sas()?.into_iter().map(|sa| sa.remote).collect::<Vec<_>>().join(" "))
}
