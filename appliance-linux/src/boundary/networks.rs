//! What the log is told of networks: of those that are reached in clear although one might think otherwise, of those that
//! are not, and of ours that are nowhere.

use tracing::{info, warn};

use super::plan::Plan;

/// What is reached in clear from the start.
pub(super) fn tell_spared(plan: &Plan) {
    for net in plan.spared.keys() {
        info!("{net} is attached to this machine and stays reachable in clear; name it in a remote-ts to protect it");
    }
}

/// What is another in `plan` than in the `last` one. `guarded`: whether the guard stands.
pub(super) fn tell_changes(last: &Plan, plan: &Plan, guarded: bool) {
    if !last.routes.is_empty() {
        for net in plan.spared.keys().filter(|net| !last.spared.contains_key(net)) {
            warn!("{net} is attached to this machine now and is reached in clear");
        }
    }
    for net in plan.unspared.difference(&last.unspared) {
        warn!("{net} is attached to this machine and too large to be reached in clear: it stays in the tunnel");
    }
    let becomes = if guarded { "is dropped" } else { "leaves in clear, as there is no guard" };
    // Of which there is a rest, that is told.
    let network = |net: &String| net.rsplit(' ').next().map(ToOwned::to_owned);
    let still: Vec<_> = plan.astray.iter().map(network).collect();
    for net in last.astray.iter().filter(|net| !still.contains(&network(net))) {
        info!("{net}: no longer led outside where nothing says that it lies");
    }
    let mut astray = plan.astray.difference(&last.astray);
    if let Some(net) = astray.next() {
        let more = astray.count();
        let more = if more == 0 { String::new() } else { format!(" (and {more} more networks)") };
        warn!(
            "{net}{more} is on our side, and is led outside, where nothing says that it lies: what peers send there {becomes}; bring its own interface up, or, where it lies there, give it a route of its own"
        );
    }
}
