//! What strongSwan's user-space ESP cannot do, between two of our own gateways; and what only our configuration has.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::tunnel::{NET, PEER, Plan};
use super::{Ends, First, Scenario};
use crate::checkout::root;
use crate::lab::frame::Kind;
use crate::lab::gateway::{Program, Start};
use crate::lab::iproute::ip;
use crate::lab::link;
use crate::lab::namespace::Namespace;
use crate::lab::pair::{Outer, Pair, Side};
use crate::lab::ping::{Pinger, ping};
use crate::lab::tcp::{connect, transfer};
use crate::lab::wait_for;
use crate::lab::wire::Faults;
use crate::outcome::{Result, ensure};
use crate::test::readme::blocks;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("ours-raw-esp-without-nat", raw_esp).ours_twice(),
        Scenario::new("ours-raw-esp-over-ipv6", raw_esp_over_v6).ours_twice(),
        Scenario::new("ours-raw-esp-over-ipv6-that-becomes-narrow", narrow_v6).ours_twice().thorough(),
        Scenario::new("ours-esn", |ends| esn(ends, &["aes256gcm16-esn"])).ours_twice(),
        Scenario::new("ours-esn-or-not", |ends| esn(ends, &["aes256gcm16-esn-noesn"])).ours_twice(),
        Scenario::new("esp-that-overtakes-the-answer-waits-for-it", overtaken).ours_twice(),
        Scenario::new("e13-on-demand-keeps-the-first-syn", |ends| on_demand(ends, None)).ours(),
        Scenario::new("e13-on-demand-keeps-the-first-syn-and-padded", |ends| on_demand(ends, Some(1000))).ours(),
        Scenario::new("a25-the-configurations-of-the-readme-meet", readme).ours(),
        Scenario::new("a13-ike-listens-outside-only", listens_outside_only).ours(),
    ]
}

fn raw_esp(ends: Ends) -> Result<String> {
    carries_protocol_50(Plan::new(ends)?)
}

fn raw_esp_over_v6(ends: Ends) -> Result<String> {
    carries_protocol_50(Plan::over_v6(ends)?)
}

/// The way between two routers becomes narrow, of which neither gateway learns but from them (Packet Too Big, RFC 4443 §3.2).
fn narrow_v6(ends: Ends) -> Result<String> {
    let mut plan = Plan::over_v6(ends)?;
    let routers = [Namespace::new("router-west")?, Namespace::new("router-east")?];
    link::veth((&routers[0], "narrow"), (&routers[1], "narrow"))?;
    let at = |side: u16, host: u16| IpAddr::from([0x2001, 0xdb8, side, 0, 0, 0, 0, host]);
    for (router, (side, site)) in routers.iter().zip([(7, &plan.pair.west), (8, &plan.pair.east)]) {
        let other = 15 - side;
        link::veth((router, "inside"), (&site.gateway, "wan2"))?;
        router.forward()?;
        router.address("inside", at(side, 1), 64)?;
        router.address("narrow", at(9, side), 64)?;
        router.route(at(other, 0), 64, at(9, other))?;
        site.gateway.address("wan2", at(side, 2), 64)?;
        site.gateway.route(at(other, 0), 64, at(side, 1))?;
    }
    (plan.us.local, plan.us.remote) = (Some(at(7, 2)), Some(at(8, 2)));
    (plan.peer.local, plan.peer.remote) = (Some(at(8, 2)), Some(at(7, 2)));
    let tunnel = plan.establish(First::We)?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let passes = |size: usize| -> Result {
        for (host, to) in [(&west.host, east.host_v4(0)), (&east.host, west.host_v4(0))] {
            // The first one may only bring the word of a router.
            wait_for(&format!("the first ping of {size} octets"), Duration::from_secs(5), || {
                Ok(ping(host, to, 1, size)?.lost.is_empty().then_some(()))
            })?;
            ping(host, to, 5, size)?.all_answered()?;
        }
        Ok(())
    };
    passes(1300)?;
    for router in &routers {
        ip(router, "link set narrow mtu 1300")?;
    }
    passes(1300)?;
    passes(56)?;
    transfer(&west.host, &east.host, east.host_v4(0), 2_000_000)?;
    transfer(&east.host, &west.host, west.host_v4(0), 2_000_000)?;
    let child = tunnel.child()?;
    ensure(tunnel.pair.wire.count(Kind::Clear) == 0, || tunnel.pair.wire.summary())?;
    Ok(child.suite)
}

fn carries_protocol_50(plan: Plan) -> Result<String> {
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    transfer(&west.host, &east.host, east.host_v4(0), 4_000_000)?;
    tunnel.is_protected()?;
    ensure(tunnel.pair.wire.count(Kind::EspInUdp) == 0, || format!("ESP in UDP: {}", tunnel.pair.wire.summary()))?;
    Ok(tunnel.pair.wire.summary())
}

/// The responder's answer takes its time and its first packets do not: they carry an SPI that we have only offered yet.
fn overtaken(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.start()?;
    let wire = &tunnel.pair.wire;
    wire.faults(Faults { late_ike: Duration::from_millis(400), ..Faults::default() });
    let (us, peer) = (&*tunnel.us, &*tunnel.peer);
    std::thread::scope(|scope| {
        let up = scope.spawn(|| us.up(PEER, NET));
        peer.wait_up(PEER, NET, Duration::from_secs(10))?;
        let pinger = Pinger::start(&tunnel.pair.east.host, tunnel.pair.west.host_v4(0), 56, Duration::from_millis(20))?;
        std::thread::sleep(Duration::from_millis(100));
        let early = tunnel.child().is_err();
        up.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let tally = pinger.stop()?;
        ensure(early, || "the answer was here before the packets".to_owned())?;
        tally.all_answered()?;
        Ok(tally.to_string())
    })
}

fn esn(ends: Ends, proposals: &[&str]) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.esp(proposals);
    let tunnel = plan.establish(First::We)?;
    tunnel.carries()?;
    let suite = tunnel.child()?.suite;
    ensure(suite.contains("esn") && !suite.contains("noesn"), || format!("negotiated {suite}"))?;
    let tally = tunnel.under_pings(|| super::rekey::rekey_child(&tunnel, First::They))?;
    tally.all_answered()?;
    Ok(suite)
}

/// Row E13: nobody has initiated; the first SYN starts the negotiation and is not lost.
fn on_demand(ends: Ends, tfc_padding: Option<u16>) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us.children[0].tfc_padding = tfc_padding;
    plan.us.start = Start::OnDemand;
    let tunnel = plan.start()?;
    std::thread::sleep(Duration::from_millis(500));
    ensure(tunnel.us.sas()?.iter().all(|sa| !sa.established), || "it was up before any packet".to_owned())?;
    tunnel.pair.wire.forget();
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let connected = connect(&west.host, &east.host, east.host_v4(0))?;
    // The kernel repeats a SYN after one second.
    ensure(connected.took < Duration::from_millis(950), || format!("the first SYN was lost: {:?}", connected.took))?;
    tunnel.wait_up()?;
    tunnel.is_protected()?;
    Ok(format!("connected after {:.0} ms, negotiation included", connected.took.as_secs_f32() * 1e3))
}

/// Row A13: bound to the outside interface, IKE does not answer on the inside.
fn listens_outside_only(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us_settings = "outside = [\"wan\"]".to_owned();
    let tunnel = plan.establish(First::They)?;
    tunnel.carries()?;
    let request = tunnel.pair.wire.ike().first().ok_or("no IKE on the wire")?.message.clone();
    let asked = |from: &Namespace, to: SocketAddr, first: u8| -> Result<bool> {
        let mut request = request.clone();
        request[..8].copy_from_slice(&[first; 8]);
        let socket = from.within(|| Ok(UdpSocket::bind(("0.0.0.0", 0))?))?;
        socket.set_read_timeout(Some(Duration::from_millis(700)))?;
        socket.send_to(&request, to)?;
        Ok(socket.recv(&mut [0; 1500]).is_ok())
    };
    let outside = SocketAddr::new(tunnel.pair.west.address(Outer::V4), 500);
    ensure(asked(&tunnel.pair.east.gateway, outside, 0xa1)?, || "no answer outside".to_owned())?;
    let inside = SocketAddr::new([10, 1, 0, 1].into(), 500);
    ensure(!asked(&tunnel.pair.west.host, inside, 0xa2)?, || "IKE answers inside".to_owned())?;
    ensure(!asked(&tunnel.pair.west.host, outside, 0xa3)?, || {
        "IKE answers the inside at its outer address".to_owned()
    })?;
    tunnel.us.ike_sa(PEER)?;
    Ok(String::new())
}

/// Row A25: the two configurations that README.md shows, as they stand there.
fn readme(_: Ends) -> Result<String> {
    let text = fs::read_to_string(root().join("README.md"))?;
    let ours = blocks(&text, "toml").next().ok_or("README.md shows no configuration")?;
    let theirs =
        blocks(&text, "text").find(|block| block.contains("connections {")).ok_or("README.md shows no peer")?;
    let psk = "0x3f9a5a0d6a2b4c1e8f7061524334251607f8e9dacbbcad9e8f70615243342516";
    let pair = Pair::new(1)?;
    let mut us = pair.gateway(Side::East, Program::Portcullis, "")?;
    let mut peer = pair.gateway(Side::West, Program::StrongSwan, "")?;
    us.configure_as_written(&ours, psk)?;
    peer.configure_as_written(&theirs.replace("0x…", psk), psk)?;
    peer.start()?;
    us.start()?;
    us.wait_up("cloud", "net", Duration::from_secs(10))?;
    pair.wire.forget();
    wait_for("the first ping", Duration::from_secs(5), || {
        Ok(ping(&pair.east.host, pair.west.host_v4(0), 1, 56)?.lost.is_empty().then_some(()))
    })?;
    ping(&pair.west.host, pair.east.host_v4(0), 10, 56)?.all_answered()?;
    ensure(pair.wire.count(Kind::EspInUdp) > 0 && pair.wire.count(Kind::Clear) == 0, || pair.wire.summary())?;
    Ok(us.child_sa("cloud", "net")?.suite)
}
