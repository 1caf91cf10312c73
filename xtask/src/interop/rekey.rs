//! New keys while traffic flows: no ping may be lost.

use std::time::Duration;

use super::tunnel::{NET, PEER, Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::ike::CREATE_CHILD_SA;
use crate::lab::wait_for;
use crate::lab::wire::{Faults, Way};
use crate::outcome::{Result, ensure};

/// A rekey in a tunnel that one end has initiated, by one end.
type Rekey = fn(Ends, First, First) -> Result<String>;

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = with_any_peer();
    list.extend(Scenario::both_ways("rekey-child-simultaneously", child_by_both));
    list.extend(Scenario::both_ways("rekey-ike-simultaneously", ike_by_both));
    list
}

/// One rekey at a time, by either end.
pub(super) fn with_any_peer() -> Vec<Scenario> {
    let mut list = Vec::new();
    for (who, by) in [(First::We, "us"), (First::They, "peer")] {
        let rekeys: [(&str, Rekey); 3] =
            [("rekey-child", child), ("rekey-child-pfs", child_with_pfs), ("rekey-ike", ike)];
        for (name, rekey) in rekeys {
            let name = format!("{name}-by-{by}");
            list.extend(Scenario::both_ways(&name, move |ends, first| rekey(ends, first, who)));
        }
    }
    list.push(Scenario::new("rekey-ten-times", ten_times));
    list
}

fn child(ends: Ends, first: First, who: First) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(first)?;
    let tally = tunnel.under_pings(|| rekey_child(&tunnel, who))?;
    tally.all_answered()?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

fn child_with_pfs(ends: Ends, first: First, who: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.esp(&["aes256gcm16-x25519"]);
    let tunnel = plan.establish(first)?;
    tunnel.pair.wire.forget();
    let tally = tunnel.under_pings(|| rekey_child(&tunnel, who))?;
    tally.all_answered()?;
    // The public value alone has 32 octets; without it a rekey has about 190.
    let sizes: Vec<usize> =
        tunnel.pair.wire.ike().iter().filter(|m| m.seen.exchange == CREATE_CHILD_SA).map(|m| m.seen.length).collect();
    ensure(sizes.iter().any(|&size| size >= 210), || format!("no key exchange in messages of {sizes:?} octets"))?;
    tunnel.carries()?;
    Ok(format!("{tally}, CREATE_CHILD_SA of {sizes:?} octets"))
}

fn ike(ends: Ends, first: First, who: First) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(first)?;
    let child_before = tunnel.child()?.spi_in;
    let tally = tunnel.under_pings(|| rekey_ike(&tunnel, who))?;
    tally.all_answered()?;
    ensure(tunnel.child()?.spi_in == child_before, || "the Child SA did not survive".to_owned())?;
    // The new IKE SA works, with fresh keys and message IDs, from both ends.
    rekey_child(&tunnel, First::We)?;
    rekey_child(&tunnel, First::They)?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

fn child_by_both(ends: Ends, first: First) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(first)?;
    let before = tunnel.child()?.spi_in;
    let tally = tunnel.under_pings(|| {
        crossing_child(&tunnel)?;
        new_child(&tunnel, before)
    })?;
    tally.all_answered()?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

fn ike_by_both(ends: Ends, first: First) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(first)?;
    let before = tunnel.us.ike_sa(PEER)?.spis;
    let tally = tunnel.under_pings(|| {
        crossing_ike(&tunnel)?;
        new_ike(&tunnel, before)
    })?;
    tally.all_answered()?;
    rekey_child(&tunnel, First::We)?;
    rekey_child(&tunnel, First::They)?;
    tunnel.carries()?;
    Ok(tally.to_string())
}

fn ten_times(ends: Ends) -> Result<String> {
    let tunnel = Plan::new(ends)?.establish(First::We)?;
    let tally = tunnel.under_pings(|| {
        for round in 0..5 {
            let who = if round % 2 == 0 { First::We } else { First::They };
            rekey_child(&tunnel, who)?;
            rekey_ike(&tunnel, who)?;
        }
        Ok(())
    })?;
    tally.all_answered()?;
    Ok(tally.to_string())
}

/// One end asks for new child keys; waits until both use them.
pub(super) fn rekey_child(tunnel: &Tunnel, who: First) -> Result {
    let before = tunnel.child()?.spi_in;
    tunnel.ends(who).0.rekey_child(PEER, NET)?;
    new_child(tunnel, before)
}

/// One end asks for a new IKE SA; waits until both use it.
pub(super) fn rekey_ike(tunnel: &Tunnel, who: First) -> Result {
    let before = tunnel.us.ike_sa(PEER)?.spis;
    tunnel.ends(who).0.rekey_ike(PEER)?;
    new_ike(tunnel, before)
}

pub(super) fn new_child(tunnel: &Tunnel, before: u32) -> Result {
    wait_for("a new Child SA", Duration::from_secs(15), || Ok((tunnel.child()?.spi_in != before).then_some(())))?;
    tunnel.agree()
}

fn new_ike(tunnel: &Tunnel, before: (u64, u64)) -> Result {
    wait_for("a new IKE SA", Duration::from_secs(15), || Ok((tunnel.us.ike_sa(PEER)?.spis != before).then_some(())))?;
    tunnel.agree()
}

/// Both ends ask for new child keys, and neither knows of the other's request.
pub(super) fn crossing_child(tunnel: &Tunnel) -> Result {
    crossing(tunnel, || tunnel.us.rekey_child(PEER, NET), || tunnel.peer.rekey_child(PEER, NET))
}

/// The same with the IKE SA.
pub(super) fn crossing_ike(tunnel: &Tunnel) -> Result {
    crossing(tunnel, || tunnel.us.rekey_ike(PEER), || tunnel.peer.rekey_ike(PEER))
}

/// Both ends give the order within the time a message takes, and the wire confirms that the requests crossed. Ours follows
/// when theirs is on its way: how long an order takes in a guest nobody knows.
fn crossing(tunnel: &Tunnel, ours: impl FnOnce() -> Result + Send, theirs: impl FnOnce() -> Result + Send) -> Result {
    const DELAY: Duration = Duration::from_millis(300);
    let wire = &tunnel.pair.wire;
    wire.forget();
    wire.faults(Faults { delay: DELAY, ..Faults::default() });
    // The wire notes a message when it enters; a request that enters before the other one leaves has crossed it.
    let entered = |what, way, response| {
        wait_for(what, Duration::from_secs(5), || {
            let seen = wire.ike();
            let mut rekeys = seen.iter().filter(|message| message.seen.exchange == CREATE_CHILD_SA);
            Ok(rekeys.find(|message| message.way == way && message.seen.response == response).map(|message| message.at))
        })
    };
    std::thread::scope(|scope| {
        let theirs = scope.spawn(theirs);
        let west = entered("the peer's request", Way::West, false);
        let ours = scope.spawn(ours);
        let east = entered("our request", Way::East, false);
        // No message is to overtake another.
        let answered = entered("the peer's answer", Way::West, true).and(entered("our answer", Way::East, true));
        std::thread::sleep(DELAY);
        wire.faults(Faults::default());
        for order in [theirs, ours] {
            order.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        answered?;
        ensure(east?.saturating_sub(west?) < DELAY, || format!("the rekeys did not cross:\n{}", wire.story()))
    })
}
