//! Makes routes and rules those of the plan: what is new first, what is stale last. Whatever fails, the rest is done.

use std::sync::Arc;

use super::health::{Problem, Round};
use super::kernel::{self, Added, Stale, Steps};
use super::plan::{Plan, Seen};
use crate::netlink::Netlink;

/// Adds what is missing, where our device is `tun`; what the kernel refused is not in the plan afterwards. What the `last` one
/// has too was removed by somebody. Returns what is in no plan any more; `None`: routes cannot be read, and stay as they were.
pub(super) fn complete(
    netlink: &mut Netlink,
    plan: &mut Arc<Plan>,
    last: &Plan,
    (seen, tun): (&Seen, Option<u32>),
    round: &mut Round,
) -> Option<Stale> {
    let Steps { added, refused, stale } = match kernel::complete(netlink, plan, seen, tun) {
        Ok(steps) => steps,
        Err(error) => {
            round.fails(true, format!("routes cannot be read: {error}"));
            let Plan { routes, leads, .. } = Plan::clone(last);
            *plan = Arc::new(Plan { routes, leads, ..Plan::clone(plan) });
            return None;
        }
    };
    let missed = added.into_iter().filter(|added| match added {
        Added::Route(route) => last.routes.contains_key(route),
        Added::Lead(lead) => last.leads.contains(lead),
    });
    round.put_back.extend(missed.map(|added| added.to_string()));
    for refusal in &refused {
        match &refusal.missing {
            Some(Added::Route(route)) => _ = Arc::make_mut(plan).routes.remove(route),
            Some(Added::Lead(lead)) => _ = Arc::make_mut(plan).leads.remove(lead),
            None => {}
        }
    }
    let device = seen.device.as_deref().unwrap_or_default();
    round.problems.extend(refused.into_iter().map(|refusal| Problem::of(refusal, device)));
    Some(stale)
}

/// Takes away what is in no plan any more.
pub(super) fn clear(netlink: &mut Netlink, stale: Stale, seen: &Seen, round: &mut Round) {
    let device = seen.device.as_deref().unwrap_or_default();
    let refused = kernel::clear(netlink, stale).into_iter();
    round.problems.extend(refused.map(|refusal| Problem::of(refusal, device)));
}
