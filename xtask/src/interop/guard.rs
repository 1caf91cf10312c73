//! How IKE defends itself: cookies, groups asked for again, old versions.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::tunnel::{PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::gateway::Program;
use crate::lab::ike::{COOKIE, IKE_SA_INIT, INVALID_KE_PAYLOAD, INVALID_MAJOR_VERSION, Seen};
use crate::lab::pair::{Outer, Site};
use crate::lab::wire::Way;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = with_any_peer();
    list.extend(Scenario::both_ways("cookie", cookie));
    list.push(Scenario::new("b3-ikev1-is-refused-once", ikev1_is_refused).ours());
    list
}

/// What needs no setting of the peer's own.
pub(super) fn with_any_peer() -> Vec<Scenario> {
    Scenario::both_ways("invalid-ke-payload", invalid_ke_payload).into()
}

/// The responder has half-open SAs above its limit; the initiator has to return a cookie (RFC 7296 §2.6).
fn cookie(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    // Both ends get a low limit, whoever responds.
    let settings = |program| match program {
        Program::StrongSwan => "cookie_threshold = 2\n  cookie_threshold_ip = 2\n  block_threshold = 0",
        Program::Portcullis => "cookie-threshold = 2",
        Program::Libreswan | Program::OpenIked | Program::Kernel => "",
    };
    plan.us_settings = settings(ends.us).to_owned();
    plan.peer_settings = settings(ends.peer).to_owned();
    let tunnel = plan.establish(first)?;
    // A first request as the initiator really sends it, copied from the wire and given other SPIs.
    let way = if first == First::We { Way::East } else { Way::West };
    let copied = tunnel.pair.wire.ike().into_iter().find(|m| m.way == way && m.seen.exchange == IKE_SA_INIT);
    let copied = copied.ok_or("no IKE_SA_INIT on the wire")?.message;
    tunnel.ends(first).0.down(PEER)?;
    tunnel.ends(first).1.wait_down(PEER, Duration::from_secs(5))?;
    let (from, to) = sides(&tunnel, first);
    let socket = from.gateway.within(|| Ok(UdpSocket::bind((from.address(Outer::V4), 0))?))?;
    for number in 0..12_u8 {
        let mut request = copied.clone();
        request[..8].copy_from_slice(&[0xbb, number, 1, 2, 3, 4, 5, 6]);
        socket.send_to(&request, SocketAddr::new(to.address(Outer::V4), 500))?;
        std::thread::sleep(Duration::from_millis(10));
    }
    tunnel.establish(first)?;
    let messages = tunnel.pair.wire.ike();
    let seen = |response: bool| {
        messages
            .iter()
            .any(|m| m.seen.exchange == IKE_SA_INIT && m.seen.response == response && m.seen.notifies.contains(&COOKIE))
    };
    ensure(seen(true), || format!("the responder asked for no cookie:\n{}", tunnel.pair.wire.story()))?;
    ensure(seen(false), || format!("the initiator returned no cookie:\n{}", tunnel.pair.wire.story()))?;
    tunnel.carries()?;
    Ok(String::new())
}

/// The initiator guesses a group the responder does not take, and tries again with the one it is told.
fn invalid_ke_payload(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    guess_and_insist(&mut plan, first);
    let tunnel = plan.establish(first)?;
    let asked = tunnel.pair.wire.ike().iter().any(|m| m.seen.notifies.contains(&INVALID_KE_PAYLOAD));
    ensure(asked, || format!("no INVALID_KE_PAYLOAD:\n{}", tunnel.pair.wire.story()))?;
    let suite = tunnel.us.ike_sa(PEER)?.suite.to_lowercase().replace('_', "");
    ensure(suite.contains("ecp256"), || format!("negotiated {suite}"))?;
    tunnel.carries()?;
    Ok(suite)
}

/// Has the initiator begin with a group that the responder does not take.
pub(super) fn guess_and_insist(plan: &mut Plan, first: First) {
    let (guesses, insists) = match first {
        First::We => (&mut plan.us.ike, &mut plan.peer.ike),
        First::They => (&mut plan.peer.ike, &mut plan.us.ike),
    };
    *guesses = vec!["aes256gcm16-prfsha384-x25519-ecp256".to_owned()];
    *insists = vec!["aes256gcm16-prfsha384-ecp256".to_owned()];
}

/// Row B3: IKEv1 packets get an INVALID_MAJOR_VERSION now and then, and leave nothing behind.
fn ikev1_is_refused(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(First::We)?;
    let before = tunnel.us.sas()?;
    let us = SocketAddr::new(tunnel.pair.west.address(Outer::V4), 500);
    let socket = tunnel.pair.east.gateway.within(|| Ok(UdpSocket::bind(("0.0.0.0", 0))?))?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut answers = Vec::new();
    // Main mode (2) and aggressive mode (4) of RFC 2409, with a minimal SA payload.
    for (number, exchange) in [2, 4].into_iter().cycle().take(200).enumerate() {
        socket.send_to(&ikev1(u64::try_from(number)? + 1, exchange), us)?;
    }
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        ensure(from.ip() == us.ip(), || format!("an answer from {from}"))?;
        let answer = buffer.get(..length).and_then(Seen::parse).ok_or("an answer that is no IKE message")?;
        ensure(answer.notifies == [INVALID_MAJOR_VERSION], || format!("answered {answer}"))?;
        // An attacker must not get more out of us than he puts in.
        ensure(length <= 60, || format!("{length} octets for an answer"))?;
        answers.push(answer);
    }
    ensure(!answers.is_empty(), || "no answer at all".to_owned())?;
    ensure(answers.len() <= 20, || format!("{} answers to 200 packets: not rate-limited", answers.len()))?;
    ensure(tunnel.us.sas()? == before, || "an SA changed".to_owned())?;
    tunnel.carries()?;
    Ok(format!("{} answers to 200 packets", answers.len()))
}

fn sides(tunnel: &Tunnel, first: First) -> (&Site, &Site) {
    match first {
        First::We => (&tunnel.pair.west, &tunnel.pair.east),
        First::They => (&tunnel.pair.east, &tunnel.pair.west),
    }
}

/// An ISAKMP header of version 1.0 and an SA payload that offers nothing (RFC 2408 §3.1, §3.4).
fn ikev1(initiator: u64, exchange: u8) -> Vec<u8> {
    let mut packet = initiator.to_be_bytes().to_vec();
    packet.extend([0; 8]);
    packet.extend([1, 0x10, exchange, 0, 0, 0, 0, 0, 0, 0, 0, 40]);
    packet.extend([0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1]);
    packet
}
