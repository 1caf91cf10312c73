//! A bad network between the gateways.

use std::time::Duration;

use super::rekey::rekey_child;
use super::tunnel::{PEER, Plan};
use super::{Ends, First, Scenario};
use crate::lab::ping::ping;
use crate::lab::tcp::transfer;
use crate::lab::wait_for;
use crate::lab::wire::Faults;
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    list.extend(Scenario::both_ways("wire-loses-a-fifth-of-ike", loses_ike));
    list.push(Scenario::new("wire-doubles-everything", doubles));
    list.push(Scenario::new("wire-reorders", reorders));
    list.push(Scenario::new("wire-corrupts", corrupts));
    list.push(Scenario::new("wire-loses-one-percent-under-tcp", loses_esp).thorough());
    list
}

fn loses_ike(ends: Ends, first: First) -> Result<String> {
    let plan = Plan::new(ends)?;
    plan.pair.wire.faults(Faults { lose_ike: 20, ..Faults::default() });
    let tunnel = plan.start()?;
    // Retransmissions take their time, and with bad luck a try ends in vain: what counts is that it gets there.
    wait_for("a tunnel", Duration::from_secs(60), || {
        let (initiator, _) = tunnel.ends(first);
        initiator.up(PEER, super::tunnel::NET)?;
        Ok(Some(()))
    })?;
    tunnel.pair.wire.faults(Faults::default());
    tunnel.wait_up()?;
    tunnel.carries()?;
    Ok(format!("{} IKE messages", tunnel.pair.wire.ike().len()))
}

fn doubles(ends: Ends) -> Result<String> {
    let plan = Plan::new(ends)?;
    plan.pair.wire.faults(Faults { double: 100, ..Faults::default() });
    let tunnel = plan.establish(First::We)?;
    // `all_answered` counts an answer that arrives twice as an error: the replay window has to eat every copy.
    tunnel.under_pings(|| rekey_child(&tunnel, First::We))?.all_answered()?;
    tunnel.is_protected()?;
    Ok(String::new())
}

fn reorders(ends: Ends) -> Result<String> {
    let plan = Plan::new(ends)?;
    let tunnel = plan.establish(First::We)?;
    tunnel.pair.wire.faults(Faults { reorder: 30, ..Faults::default() });
    let tally = tunnel.under_pings(|| Ok(()))?;
    tally.all_answered()?;
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    transfer(&west.host, &east.host, east.host_v4(0), 500_000)?;
    Ok(tally.to_string())
}

fn corrupts(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(First::We)?;
    tunnel.warm_up()?;
    let before = tunnel.us.ike_sa(PEER)?.spis;
    tunnel.pair.wire.faults(Faults { corrupt: 20, ..Faults::default() });
    let tally = ping(&tunnel.pair.west.host, tunnel.pair.east.host_v4(0), 100, 400)?;
    ensure(!tally.lost.is_empty(), || "nothing was lost although a fifth was corrupted".to_owned())?;
    ensure(tally.lost.len() < 70, || format!("more than the corrupted ones: {tally}"))?;
    tunnel.pair.wire.faults(Faults::default());
    tunnel.carries()?;
    ensure(tunnel.us.ike_sa(PEER)?.spis == before, || "corrupted packets cost the IKE SA".to_owned())?;
    Ok(tally.to_string())
}

fn loses_esp(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(First::We)?;
    tunnel.warm_up()?;
    tunnel.pair.wire.faults(Faults { lose_esp: 1, reorder: 1, ..Faults::default() });
    let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
    let file = transfer(&west.host, &east.host, east.host_v4(0), 4_000_000)?;
    Ok(format!("{:.1} s", file.took.as_secs_f32()))
}
