//! An end dies without a word.

use std::time::{Duration, Instant};

use super::tunnel::{PEER, Plan};
use super::{Ends, First, Scenario};
use crate::lab::gateway::Start;
use crate::lab::wire::Faults;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("b6-dead-peer-is-noticed-and-comes-back", dead_peer),
        Scenario::new("black-hole-is-noticed-and-passes", black_hole).thorough(),
        Scenario::new("c9-we-are-killed-and-come-back-we-initiate", |ends| we_are_killed(ends, First::We)),
        Scenario::new("c9-we-are-killed-and-come-back-they-initiate", |ends| we_are_killed(ends, First::They)),
    ]
}

/// Silence after which both ends ask for a sign of life.
const DPD: Duration = Duration::from_secs(2);
/// `DPD` and every retransmission, with room for a busy machine.
const NOTICED: Duration = Duration::from_secs(45);

fn dead_peer(ends: Ends) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us.start = Start::Active;
    plan.us.dpd = DPD;
    let mut tunnel = plan.start()?;
    tunnel.wait_up()?;
    tunnel.carries()?;
    tunnel.peer.kill();
    let died = Instant::now();
    tunnel.us.wait_down(PEER, NOTICED)?;
    let noticed = died.elapsed();
    tunnel.peer.start()?;
    let back = Instant::now();
    tunnel.wait_up_within(Duration::from_secs(60))?;
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
    tunnel.wait_up()?;
    tunnel.pair.wire.faults(Faults { cut: true, ..Faults::default() });
    tunnel.us.wait_down(PEER, NOTICED)?;
    tunnel.pair.wire.faults(Faults::default());
    tunnel.wait_up_within(Duration::from_secs(60))?;
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
    tunnel.wait_up()?;
    tunnel.carries()?;
    let before = tunnel.us.ike_sa(PEER)?.spis;
    let killed = Instant::now();
    tunnel.restart_us()?;
    tunnel.wait_up_within(Duration::from_secs(60))?;
    ensure(tunnel.us.ike_sa(PEER)?.spis != before, || "the IKE SA is the old one".to_owned())?;
    tunnel.carries()?;
    Ok(format!("up again after {:.1} s", killed.elapsed().as_secs_f32()))
}
