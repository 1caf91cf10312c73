//! OpenIKED 7.2. For Linux it is compiled without child proposals of AEAD ciphers, whatever its configuration says: with nothing
//! but AES-CBC and HMAC for its children it has a tunnel with us, and where it is told to take an AEAD its SA payload is empty.
//! That is its fault. No child comes up then, and it drops the IKE SA too: without a word when it began, with a bare
//! NO_PROPOSAL_CHOSEN, before it has looked at our AUTH, when we began. What can be shown of that is shown: both ends say why,
//! our side of the IKE SA stands as long as it may, nothing leaves in clear, and the next call finds us.

use std::time::{Duration, Instant};

use super::failure::{self, logged, no_child_stands};
use super::guard::guess_and_insist;
use super::liveness::{DPD, NOTICED};
use super::tunnel::{NET, PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::gateway::{IkeSa, Program, Start};
use crate::lab::ike::{IKE_AUTH, INVALID_KE_PAYLOAD};
use crate::lab::wait_for;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::from(Scenario::both_ways("openiked-with-its-own-proposals", its_own_proposals));
    for (name, empty) in [("openiked-empty-sa-payload", true), ("openiked-no-cipher-of-a-child-in-common", false)] {
        list.extend(Scenario::both_ways(name, move |ends, first| no_child(ends, first, empty)));
    }
    list.extend(Scenario::both_ways("openiked-no-ike-proposal", failure::no_ike_proposal));
    list.extend(Scenario::both_ways("openiked-invalid-ke-payload", invalid_ke_payload));
    // The other way round it looks at the child before the key.
    list.push(Scenario::new("openiked-wrong-psk-they-initiate", |ends| failure::wrong_psk(ends, First::They)));
    list.push(Scenario::new("openiked-closes-without-a-word-and-calls-again", closes_and_calls_again));
    list.push(Scenario::new("openiked-is-killed-and-comes-back", |ends| comes_back(ends, false)));
    list.push(Scenario::new("openiked-restarts", |ends| comes_back(ends, true)));
    list.into_iter().map(|scenario| scenario.with(Program::OpenIked)).collect()
}

/// Its calls repeat within a minute.
const CALLED: Duration = Duration::from_secs(75);

fn plan(ends: Ends, first: First) -> Result<Plan> {
    let mut plan = Plan::new(ends)?;
    plan.us.dpd = DPD;
    if first == First::They {
        plan.peer.start = Start::Active;
    }
    Ok(plan)
}

/// Waits for our side of an IKE SA other than `before`; who it is.
fn connected(tunnel: &Tunnel, before: Option<(u64, u64)>) -> Result<IkeSa> {
    wait_for("our IKE SA", CALLED, || Ok(Some(tunnel.us.ike_sa(PEER)?).filter(|sa| Some(sa.spis) != before)))
}

/// It is told of no proposals, and we of none for IKE. Of HMAC-SHA2-256 the interface by which it speaks to its kernel has 96 bits
/// left, so that is not among ours for the child.
fn its_own_proposals(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends, first)?;
    plan.us.ike.clear();
    plan.us.esp = vec!["aes256-aes128-sha384-sha512".to_owned()];
    plan.peer.ike.clear();
    plan.peer.esp.clear();
    let tunnel = plan.start()?;
    match first {
        First::We => tunnel.us.up(PEER, NET)?,
        First::They => tunnel.us.wait_up(PEER, NET, CALLED).map(drop)?,
    }
    tunnel.carries()?;
    Ok(format!("{}, {}", tunnel.us.ike_sa(PEER)?.suite, tunnel.child()?.suite))
}

/// What one end says when the other asks for a child that it cannot have.
fn no_child(ends: Ends, first: First, empty: bool) -> Result<String> {
    let mut plan = plan(ends, first)?;
    if !empty {
        // Its own choice then: AES-CBC.
        plan.peer.esp.clear();
    }
    let tunnel = plan.start()?;
    let code = match first {
        First::We => {
            let told = tunnel.us.up(PEER, NET).err().ok_or("a child came up: test OpenIKED as Libreswan is tested")?;
            // IKE's own proposals were agreed on: it is the child's that are to be looked at.
            ensure(told.to_string().contains("esp"), || format!("the command says {told}"))?;
            "no-proposal-chosen"
        }
        First::They => {
            connected(&tunnel, None)?;
            "no-proposal-in-common"
        }
    };
    wait_for(&format!("us to name {code}"), Duration::from_secs(3), || {
        Ok((tunnel.us.cause(PEER)? == code).then_some(()))
    })?;
    logged(&*tunnel.us, code)?;
    let told = || tunnel.peer.log().to_lowercase().contains("no proposal chosen");
    wait_for("it to say the same", Duration::from_secs(3), || Ok(told().then_some(())))?;
    no_child_stands(&tunnel)?;
    Ok(code.to_owned())
}

/// The initiator's first group is not the responder's, and it goes on to IKE_AUTH with the one it is told.
fn invalid_ke_payload(ends: Ends, first: First) -> Result<String> {
    let mut plan = plan(ends, first)?;
    guess_and_insist(&mut plan, first);
    let tunnel = plan.start()?;
    if first == First::We {
        ensure(tunnel.us.up(PEER, NET).is_err(), || "a child came up".to_owned())?;
    } else {
        let suite = connected(&tunnel, None)?.suite;
        ensure(suite.contains("ecp256"), || format!("negotiated {suite}"))?;
    }
    let messages = tunnel.pair.wire.ike();
    let asked = messages.iter().any(|m| m.seen.notifies.contains(&INVALID_KE_PAYLOAD));
    let went_on = messages.iter().any(|m| m.seen.exchange == IKE_AUTH && m.seen.response);
    ensure(asked && went_on, || tunnel.pair.wire.story())?;
    Ok(String::new())
}

/// It drops what it began when it hears that there is no child, and does not say so. We notice, and take its next call.
fn closes_and_calls_again(ends: Ends) -> Result<String> {
    let tunnel = plan(ends, First::They)?.start()?;
    let before = connected(&tunnel, None)?.spis;
    tunnel.us.wait_down(PEER, NOTICED)?;
    let noticed = Instant::now();
    connected(&tunnel, Some(before))?;
    Ok(format!("it called again {:.1} s after we had noticed", noticed.elapsed().as_secs_f32()))
}

fn comes_back(ends: Ends, with_a_word: bool) -> Result<String> {
    let mut tunnel = plan(ends, First::They)?.start()?;
    let before = connected(&tunnel, None)?.spis;
    if with_a_word {
        tunnel.peer.stop()?;
    } else {
        tunnel.peer.kill();
    }
    tunnel.peer.start()?;
    let back = Instant::now();
    connected(&tunnel, Some(before))?;
    Ok(format!("connected again {:.1} s after its restart", back.elapsed().as_secs_f32()))
}
