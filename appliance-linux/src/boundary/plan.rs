//! What the kernel is to be told, computed from the configuration and from what the kernel says of its addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipsec_core::net::AddrRange;

use super::home::Outside;
use super::intent::Intent;
use super::net::{Interfaces, Net, is_a_site, means_all, parent, prefixes};
use super::numbers::{BEYOND, LOCAL, OWN, TABLE, TABLE_OF_THE_REST};
use super::routes::{Lead, Table, Target, Then};
use super::ruleset::{self, Space};
use super::{around, home};

/// What the kernel says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Addresses of this machine that packets may be sent from.
    pub(super) ours: Vec<IpAddr>,
    /// Those of them on interfaces that face the peers.
    pub(super) facing: Vec<IpAddr>,
    /// Networks of its interfaces, our own device excepted, and through which interfaces.
    pub(super) attached: Interfaces,
    /// Where strangers are.
    pub(super) outside: Outside,
    /// Whether there is IPv6.
    pub(super) v6: bool,
    /// The name that our device has now, if it is there.
    pub(super) device: Option<String>,
    /// Whether nft can tell which socket will take a packet.
    pub(super) sockets: bool,
}

/// What the kernel is to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) routes: Table,
    pub(super) leads: BTreeSet<Lead>,
    /// The guard, in the language of nft.
    pub(super) guard: Arc<str>,
    /// Attached networks that stay reachable although a remote network covers them.
    pub(super) spared: Interfaces,
    /// Attached networks that are too large for that.
    pub(super) unspared: BTreeSet<Net>,
    /// The remote networks.
    pub(super) captured: BTreeSet<Net>,
    /// Networks on our side, or the rest of some, that are led outside where nothing says that they lie.
    pub(super) astray: BTreeSet<String>,
}

/// The plan that was made last, and what of: what is wanted and seen is the same most times that somebody asks.
#[derive(Default)]
pub(super) struct Planned(Option<(Arc<Intent>, Seen, Arc<Plan>)>);

impl Planned {
    /// The plan for this; the cost of making it is that of all networks.
    pub(super) fn of(&mut self, intent: &Arc<Intent>, seen: &Seen) -> Arc<Plan> {
        match &self.0 {
            Some((wanted, found, plan)) if wanted == intent && found == seen => Arc::clone(plan),
            _ => {
                let plan = Arc::new(plan(intent, seen));
                self.0 = Some((Arc::clone(intent), seen.clone(), Arc::clone(&plan)));
                plan
            }
        }
    }
}

/// Never captured unless named: nothing of it is ever routed. Link-local, multicast, broadcast, "this network".
const NEVER: [(&str, u8); 6] =
    [("0.0.0.0", 8), ("169.254.0.0", 16), ("224.0.0.0", 4), ("255.255.255.255", 32), ("fe80::", 10), ("ff00::", 8)];

/// The plan.
pub(super) fn plan(intent: &Intent, seen: &Seen) -> Plan {
    let (captured, local) = captures(intent, seen);
    let nets: BTreeSet<Net> = captured.keys().copied().collect();
    // What is ours inside a remote network is reached as without us only where that network decides: where a smaller one
    // covers it, or one child reaches exactly that, it is protected.
    let decides = |cut: &Cut| cut.out_of.covers(cut.net) && parent(&nets, cut.net) == Some(cut.out_of);
    let mut throws: BTreeSet<Net> = local.into_iter().filter(decides).map(|cut| cut.net).collect();
    let never = NEVER.iter().filter_map(|(addr, prefix)| Net::new(addr.parse().ok()?, *prefix));
    throws.extend(never.filter(|net| !nets.contains(net) && parent(&nets, *net).is_some()));
    let mut spared = seen.attached.clone();
    spared.retain(|net, _| {
        let thrown = parent(&throws, *net);
        !nets.contains(net)
            && parent(&nets, *net).is_some_and(|held| means_all(held) && !thrown.is_some_and(|net| held.covers(net)))
    });
    let unspared = spared.keys().copied().filter(|net| !is_a_site(*net)).collect();
    spared.retain(|net, _| is_a_site(*net));

    let mut plan = Plan { spared, unspared, captured: nets, ..Plan::default() };
    for (net, source) in &captured {
        let table = if net.prefix == 0 { TABLE_OF_THE_REST } else { TABLE };
        plan.routes.insert((table, *net, Target::Tun), *source);
        plan.routes.insert((table, *net, Target::Unreachable), None);
    }
    let outer = outer(intent, seen);
    for v4 in [true, false] {
        if !v4 && !seen.v6 {
            continue;
        }
        // The kernel's own rule that says so may have been moved behind ours, as is done for VRFs: all that this machine sends
        // to itself would go to the device, and where "everything" is behind a peer, to that.
        plan.leads.insert(Lead::new(v4, OWN, Then::Table(LOCAL)));
        let lead = |priority, table| Lead { unmarked: true, ..Lead::new(v4, priority, Then::Table(table)) };
        plan.leads.insert(lead(TABLE, TABLE));
        plan.leads.extend(around::leads(v4, &intent.rules, &plan.captured));
        let rest = plan.captured.iter().any(|net| net.is_ipv4() == v4 && net.prefix == 0);
        let tables: &[u32] = if rest { &[TABLE, TABLE_OF_THE_REST] } else { &[TABLE] };
        for net in throws.iter().chain(plan.spared.keys()).filter(|net| net.is_ipv4() == v4) {
            plan.routes.extend(tables.iter().map(|table| ((*table, *net, Target::Throw), None)));
        }
        if rest {
            plan.leads.insert(lead(TABLE_OF_THE_REST + 1, TABLE_OF_THE_REST));
            let ours = outer.iter().filter(|addr| addr.is_ipv4() == v4);
            plan.leads.extend(ours.map(|addr| Lead {
                from: Net::new(*addr, if v4 { 32 } else { 128 }),
                ..Lead::new(v4, TABLE_OF_THE_REST, Then::Goto(BEYOND))
            }));
        }
        if plan.leads.iter().any(|lead| lead.v4 == v4 && lead.then == Then::Goto(BEYOND)) {
            plan.leads.insert(Lead::new(v4, BEYOND, Then::Nothing));
        }
    }
    let barred = home::barred(intent.sites(), &seen.outside, &plan.captured);
    // What is behind another peer too goes there.
    let is_behind =
        |net| parent(&plan.captured, net).map(|held| held.prefix) > parent(&throws, net).map(|out| out.prefix);
    let astray = barred.astray.into_iter().filter(|(net, _)| !is_behind(*net));
    let shown = |(net, rest): (Net, bool)| if rest { format!("the rest of {net}") } else { net.to_string() };
    plan.astray = astray.map(shown).collect();
    let space =
        Space { captured: &plan.captured, throws: &throws, spared: &plan.spared, outer: &outer, barred: &barred.nets };
    plan.guard = ruleset::script(seen.device.as_deref(), seen.sockets, &intent.rules, &space).into();
    plan
}

/// A network on our side that lies inside a remote network of the same child, or is it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cut {
    net: Net,
    out_of: Net,
}

/// The networks that go to the device, each with the address of ours that a packet of our own is best sent from; and
/// those on our side that lie inside.
fn captures(intent: &Intent, seen: &Seen) -> (BTreeMap<Net, Option<IpAddr>>, BTreeSet<Cut>) {
    let (mut captured, mut local_inside) = (BTreeMap::new(), BTreeSet::new());
    for reach in &intent.reaches {
        for v4 in [true, false] {
            if !v4 && !seen.v6 {
                continue;
            }
            let local: Vec<AddrRange> = reach.local.iter().copied().filter(|range| range.is_ipv4() == v4).collect();
            let source = seen
                .ours
                .iter()
                .copied()
                .find(|addr| !addr.is_loopback() && local.iter().any(|net| net.contains(*addr)));
            for remote in reach.remote.iter().filter(|range| range.is_ipv4() == v4) {
                if local.is_empty() {
                    continue;
                }
                for out_of in prefixes(remote) {
                    let held = captured.entry(out_of).or_insert(source);
                    *held = held.or(source);
                    let ours = local.iter().filter(|local| *local != remote);
                    let inside = ours.filter_map(|local| local.intersect(&out_of.range()));
                    local_inside.extend(inside.flat_map(|range| prefixes(&range)).map(|net| Cut { net, out_of }));
                }
            }
        }
    }
    (captured, local_inside)
}

/// The addresses at which strangers and peers meet us, and which no child protects.
fn outer(intent: &Intent, seen: &Seen) -> BTreeSet<IpAddr> {
    let mut outer: BTreeSet<IpAddr> = intent.outer.iter().copied().filter(|addr| seen.ours.contains(addr)).collect();
    outer.extend(&seen.facing);
    outer.retain(|addr| !intent.reaches.iter().flat_map(|reach| &reach.local).any(|local| local.contains(*addr)));
    outer
}

#[cfg(test)]
mod tests;
