//! What must not come about, and how each end says why.

use std::time::Duration;

use super::tunnel::{NET, PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::frame::Kind;
use crate::lab::gateway::{Gateway, Program};
use crate::lab::ike::NO_PROPOSAL_CHOSEN;
use crate::lab::ping::ping;
use crate::lab::wait_for;
use crate::lab::wire::Faults;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = with_any_peer();
    list.extend(Scenario::both_ways("narrowed-by-the-responder", narrowed));
    list.push(Scenario::new("c8-peer-is-silent", peer_is_silent));
    list
}

/// Refusals that every peer knows.
pub(super) fn with_any_peer() -> Vec<Scenario> {
    let mut list = Vec::new();
    list.extend(Scenario::both_ways("c8-wrong-psk", wrong_psk));
    list.extend(Scenario::both_ways("c8-no-ike-proposal", no_ike_proposal));
    list.extend(Scenario::both_ways("c8-no-esp-proposal", no_esp_proposal));
    list.extend(Scenario::both_ways("c8-unacceptable-traffic-selectors", unacceptable_traffic_selectors));
    list
}

/// A failure in each program's words: our codes for the initiator and the responder, the notify that peers log.
struct Cause {
    initiator: &'static str,
    responder: &'static str,
    notify: &'static str,
}

const AUTHENTICATION: Cause =
    Cause { initiator: "authentication-refused", responder: "authentication-failed", notify: "AUTHENTICATION_FAILED" };
const PROPOSAL: Cause =
    Cause { initiator: "no-proposal-chosen", responder: "no-proposal-in-common", notify: "NO_PROPOSAL_CHOSEN" };
const SELECTORS: Cause =
    Cause { initiator: "ts-unacceptable", responder: "ts-unacceptable", notify: "TS_UNACCEPTABLE" };

pub(super) fn wrong_psk(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.peer.psk = "0xff00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff".to_owned();
    let tunnel = plan.start()?;
    let words = refused(&tunnel, first, &AUTHENTICATION)?;
    nothing_stands(&tunnel)?;
    Ok(words)
}

pub(super) fn no_ike_proposal(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us.ike = vec!["aes128gcm16-prfsha256-x25519".to_owned()];
    plan.peer.ike = vec!["aes256gcm16-prfsha512-x25519".to_owned()];
    let tunnel = plan.start()?;
    let words = refused(&tunnel, first, &PROPOSAL)?;
    let said = tunnel.pair.wire.ike().iter().any(|message| message.seen.notifies.contains(&NO_PROPOSAL_CHOSEN));
    ensure(said, || format!("no NO_PROPOSAL_CHOSEN on the wire:\n{}", tunnel.pair.wire.story()))?;
    nothing_stands(&tunnel)?;
    Ok(words)
}

fn no_esp_proposal(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us.esp = vec!["aes128gcm16".to_owned()];
    plan.peer.esp = vec!["aes256gcm16".to_owned()];
    let tunnel = plan.start()?;
    let words = refused(&tunnel, first, &PROPOSAL)?;
    no_child_stands(&tunnel)?;
    Ok(words)
}

fn unacceptable_traffic_selectors(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.peer.children[0].local_ts = vec!["10.12.0.0/16".to_owned()];
    let tunnel = plan.start()?;
    let words = refused(&tunnel, first, &SELECTORS)?;
    no_child_stands(&tunnel)?;
    Ok(words)
}

/// The initiator asks for more than the responder allows and gets what both allow (RFC 7296 §2.9).
fn narrowed(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    match first {
        First::We => plan.us.children[0].remote_ts = vec!["10.0.0.0/8".to_owned()],
        First::They => plan.peer.children[0].remote_ts = vec!["10.0.0.0/8".to_owned()],
    }
    let tunnel = plan.establish(first)?;
    let (us, peer) = (tunnel.us.child_sa(PEER, NET)?, tunnel.peer.child_sa(PEER, NET)?);
    for (local, remote) in [(&us, &peer), (&peer, &us)] {
        ensure(local.local_ts == remote.remote_ts && local.local_ts.len() == 1, || format!("{us:?} and {peer:?}"))?;
        ensure(local.local_ts[0].ends_with("/16"), || format!("not narrowed: {local:?}"))?;
    }
    tunnel.carries()?;
    Ok(format!("{:?} and {:?}", us.local_ts, us.remote_ts))
}

/// Nobody answers: the cause says so, and later tries find the peer when it is there.
fn peer_is_silent(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us.start = crate::lab::gateway::Start::Active;
    let mut tunnel = plan.start()?;
    tunnel.peer.kill();
    tunnel.us.down(PEER).ok();
    tunnel.us.stop()?;
    tunnel.us.start()?;
    if tunnel.us.program() == Program::Portcullis {
        // The machine is there and says that nothing listens; then it is away altogether.
        for (cut, cause) in [(false, "unreachable"), (true, "peer-silent")] {
            tunnel.pair.wire.faults(Faults { cut, ..Faults::default() });
            wait_for(&format!("the cause {cause}"), Duration::from_secs(90), || {
                Ok((tunnel.us.cause(PEER)? == cause).then_some(()))
            })?;
            logged(&*tunnel.us, cause)?;
        }
        tunnel.pair.wire.faults(Faults::default());
    }
    tunnel.peer.start()?;
    tunnel.wait_up_within(Duration::from_secs(60))?;
    tunnel.carries()?;
    Ok(String::new())
}

/// The initiator's command fails, and both ends name the cause; ours also in its log (row C8).
fn refused(tunnel: &Tunnel, first: First, cause: &Cause) -> Result<String> {
    let (initiator, responder) = tunnel.ends(first);
    let words = match initiator.up(PEER, NET) {
        Ok(()) => return Err("it came up".into()),
        Err(error) => error.to_string(),
    };
    for (gateway, code) in [(initiator, cause.initiator), (responder, cause.responder)] {
        let is_ours = gateway.program() == Program::Portcullis;
        let expected = if is_ours { code } else { cause.notify };
        wait_for(&format!("{:?} to name {expected}", gateway.program()), Duration::from_secs(3), || {
            if is_ours {
                logged(gateway, expected)?;
            }
            let code = gateway.cause(PEER)?;
            ensure(code == expected, || format!("it says {code:?}; the command said {words}"))?;
            Ok(Some(()))
        })?;
    }
    Ok(format!("{} / {} / {}", cause.initiator, cause.responder, cause.notify))
}

pub(super) fn logged(gateway: &dyn Gateway, code: &str) -> Result {
    let named =
        gateway.log().lines().any(|line| line.contains(&format!("[{code}]")) || line.contains(&format!("\"{code}\"")));
    ensure(named, || format!("the log does not name {code}"))
}

fn nothing_stands(tunnel: &Tunnel) -> Result {
    for gateway in [&tunnel.us, &tunnel.peer] {
        let sas = gateway.sas()?;
        ensure(!sas.iter().any(|sa| sa.established), || format!("{:?} has {sas:?}", gateway.program()))?;
    }
    no_child_stands(tunnel)
}

pub(super) fn no_child_stands(tunnel: &Tunnel) -> Result {
    for gateway in [&tunnel.us, &tunnel.peer] {
        let sas = gateway.sas()?;
        ensure(sas.iter().all(|sa| sa.children.is_empty()), || format!("{:?} has {sas:?}", gateway.program()))?;
    }
    // Our end protects the networks also while there is no SA: nothing goes out in clear, nothing gets through.
    if tunnel.us.program() == Program::Portcullis {
        tunnel.pair.wire.forget();
        let tally = ping(&tunnel.pair.west.host, tunnel.pair.east.host_v4(0), 3, 56)?;
        ensure(tally.lost.len() == 3, || format!("without a tunnel: {tally}"))?;
        let clear = tunnel.pair.wire.clear_packets();
        ensure(tunnel.pair.wire.count(Kind::Clear) == 0, || format!("in clear: {clear:?}"))?;
    }
    Ok(())
}
