//! A bad network between the gateways.

use std::time::Duration;

use super::rekey::{new_child, rekey_child};
use super::tunnel::{NET, PEER, Plan};
use super::{Ends, First, Scenario};
use crate::lab::ike::CREATE_CHILD_SA;
use crate::lab::ping::ping;
use crate::lab::tcp::transfer;
use crate::lab::wait_for;
use crate::lab::wire::{Faults, Way};
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    list.extend(Scenario::both_ways("wire-loses-a-fifth-of-ike", loses_ike));
    list.push(Scenario::new("f-41-answers-to-the-peers-rekey-are-lost", loses_answers));
    list.push(Scenario::new("f-45-no-answer-to-our-rekey-comes", no_answer));
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

/// A peer that has no answer of ours to its rekey does not have the new SA: nothing goes through that.
fn loses_answers(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(First::We)?;
    let before = tunnel.child()?.spi_in;
    let tally = tunnel.under_pings(|| {
        tunnel
            .pair
            .wire
            .faults(Faults { lose_exchange: Some((CREATE_CHILD_SA, Way::East, true)), ..Faults::default() });
        std::thread::scope(|scope| {
            let order = scope.spawn(|| tunnel.peer.rekey_child(PEER, NET));
            std::thread::sleep(Duration::from_secs(6));
            tunnel.pair.wire.faults(Faults::default());
            order.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        new_child(&tunnel, before)
    })?;
    tally.all_answered()?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

/// A peer that lives and leaves a rekey of ours unanswered: a connection beside carries on, and nothing is lost.
fn no_answer(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(First::We)?;
    let before = tunnel.us.ike_sa(PEER)?.spis;
    tunnel.pair.wire.faults(Faults { lose_exchange: Some((CREATE_CHILD_SA, Way::East, false)), ..Faults::default() });
    let tally = tunnel.under_pings(|| {
        // The order waits for what does not come.
        drop(tunnel.us.rekey_child(PEER, NET));
        wait_for("another connection", Duration::from_secs(30), || {
            Ok(tunnel.us.ike_sa(PEER).is_ok_and(|ike| ike.spis != before).then_some(()))
        })?;
        wait_for("one connection", Duration::from_secs(20), || {
            Ok((tunnel.us.sas()?.len() == 1 && tunnel.peer.sas()?.len() == 1).then_some(()))
        })
    })?;
    tally.all_answered()?;
    tunnel.pair.wire.faults(Faults::default());
    tunnel.carries()?;
    Ok(tally.to_string())
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
