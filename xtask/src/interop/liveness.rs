//! An end dies without a word.

use std::time::{Duration, Instant};

use super::tunnel::{PEER, Plan};
use super::{Ends, First, Scenario};
use crate::lab::gateway::Start;
use crate::lab::wire::Faults;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = vec![
        Scenario::new("b6-dead-peer-is-noticed-and-comes-back", |ends| peer_goes(ends, false)),
        Scenario::new("peer-ends-with-a-word-and-comes-back", |ends| peer_goes(ends, true)).thorough(),
        Scenario::new("black-hole-is-noticed-and-passes", black_hole).thorough(),
    ];
    list.extend(Scenario::both_ways("c9-we-are-killed-and-come-back", we_are_killed));
    list
}

/// Silence after which both ends ask for a sign of life.
pub(super) const DPD: Duration = Duration::from_secs(2);
/// `DPD` and every retransmission, with room for a busy machine.
pub(super) const NOTICED: Duration = Duration::from_secs(60);
/// A first connection, where one end has just booted.
pub(super) const BEGUN: Duration = Duration::from_secs(30);

/// The peer goes, with or without a word, and is there again some seconds later.
fn peer_goes(ends: Ends, with_a_word: bool) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us.start = Start::Active;
    plan.us.dpd = DPD;
    let mut tunnel = plan.start()?;
    tunnel.wait_up_within(BEGUN)?;
    tunnel.carries()?;
    let died = Instant::now();
    if with_a_word {
        tunnel.peer.stop()?;
    } else {
        tunnel.peer.kill();
    }
    tunnel.us.wait_down(PEER, NOTICED)?;
    let noticed = died.elapsed();
    tunnel.peer.start()?;
    let back = Instant::now();
    tunnel.wait_up_within(NOTICED)?;
    tunnel.carries()?;
    Ok(format!(
        "noticed after {:.1} s, up again {:.1} s after its restart",
        noticed.as_secs_f32(),
        back.elapsed().as_secs_f32()
    ))
}

fn black_hole(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us.start = Start::Active;
    (plan.us.dpd, plan.peer.dpd) = (DPD, DPD);
    let tunnel = plan.start()?;
    tunnel.wait_up_within(BEGUN)?;
    tunnel.pair.wire.faults(Faults { cut: true, ..Faults::default() });
    tunnel.us.wait_down(PEER, NOTICED)?;
    tunnel.pair.wire.faults(Faults::default());
    tunnel.wait_up_within(NOTICED)?;
    tunnel.carries()?;
    Ok(String::new())
}

/// Row C9: after a crash the intent stands in the configuration, and the tunnel comes back by itself.
fn we_are_killed(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    (plan.us.dpd, plan.peer.dpd) = (DPD, DPD);
    match first {
        First::We => plan.us.start = Start::Active,
        First::They => plan.peer.start = Start::Active,
    }
    let mut tunnel = plan.start()?;
    tunnel.wait_up_within(BEGUN)?;
    tunnel.carries()?;
    let before = tunnel.us.ike_sa(PEER)?.spis;
    let killed = Instant::now();
    tunnel.restart_us()?;
    tunnel.wait_up_within(NOTICED)?;
    ensure(tunnel.us.ike_sa(PEER)?.spis != before, || "the IKE SA is the old one".to_owned())?;
    tunnel.carries()?;
    Ok(format!("up again after {:.1} s", killed.elapsed().as_secs_f32()))
}
