//! Where the networks on our side are: nothing of theirs that policy protects is in clear anywhere else outside.
//!
//! The default route leads to each of them as soon as nothing else does; a cable that is pulled is enough. So an interface
//! that faces the peers, or strangers, is barred for a network of ours, unless that lies there. What says so is what says
//! the same before and after such a loss:
//!
//! * a route of the operator's there, as long as the network of ours or longer; the longest one decides;
//! * an address there with a network of the size of a site, or inside ours; but not where an interface that is not outside
//!   has, had or leads to some of that: then somebody gave an address of ours to a stranger's interface;
//! * that this is the machine's only interface, and it has an address in a network of the same child: a gateway in a cloud,
//!   with all that is its own behind one router.
//!
//! The default route, and one to more than ours, say nothing: they lead to everything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipsec_core::net::AddrRange;

use super::net::{Interfaces, Net, is_a_site, is_default, parent, prefixes};

/// Networks of other interfaces that are gone are kept in mind up to this number, each with so many of these.
const MOST: usize = 1000;
const HOLDERS: usize = 8;

/// The interfaces that face the peers and strangers, and what lies where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outside {
    /// Their names.
    pub(super) interfaces: BTreeSet<String>,
    /// Interfaces that a default route leads to: of IPv4 or not, and the name.
    pub(super) defaults: BTreeSet<(bool, String)>,
    /// Addresses of ours, and their interfaces.
    pub(super) addresses: BTreeSet<(IpAddr, String)>,
    /// The networks of these, whether the kernel leads there or not.
    pub(super) addressed: Interfaces,
    /// Networks that the kernel leads somewhere because of an address, or because whoever gives addresses says so.
    pub(super) given: Interfaces,
    /// Networks of other routes that are no default routes, and where these lead.
    pub(super) routed: Interfaces,
    /// Whether the machine has several interfaces, or had since the start.
    pub(super) several: bool,
    /// Networks that lie nowhere outside, with interfaces that have or had them, or lead there, without being outside then.
    kept: Interfaces,
    /// Addresses that are protected by themselves, and were ours at some time since the start.
    ours: BTreeSet<Net>,
}

impl Outside {
    /// Keeps in mind what was `before`, and what is now. `locals` are the networks on our side; `outer` the addresses that
    /// peers are told to meet us at.
    pub(super) fn remember(&mut self, before: &Self, locals: &BTreeSet<Net>, outer: impl Iterator<Item = IpAddr>) {
        self.several |= before.several;
        self.kept.clone_from(&before.kept);
        self.ours.clone_from(&before.ours);
        let ours = self.addresses.iter().map(|(addr, _)| *addr).chain(outer).filter_map(single);
        self.ours.extend(ours.filter(|ours| locals.contains(ours)));
        let meets = |net: Net| {
            parent(locals, net).is_some() || locals.range(net..).next().is_some_and(|local| net.covers(*local))
        };
        let all = self.addressed.iter().chain(&self.given).chain(&self.routed);
        let mut present = BTreeSet::new();
        for (net, names) in all.filter(|(net, _)| !is_single(**net) && meets(**net)) {
            for name in names.difference(&self.interfaces) {
                present.insert(*net);
                let holders = self.kept.entry(*net).or_default();
                if holders.len() < HOLDERS {
                    holders.insert(name.clone());
                }
            }
        }
        let mut excess = self.kept.len().saturating_sub(present.len()).saturating_sub(MOST);
        self.kept.retain(|net, _| {
            let stays = excess == 0 || present.contains(net);
            excess = excess.saturating_sub(usize::from(!stays));
            stays
        });
    }

    /// Whether a network that an interface outside has by its address says that it lies there, for one of ours: one of the
    /// size of a site, or inside it, and of which nobody else has or had anything.
    fn is_home(&self, net: Net, local: Net, name: &String) -> bool {
        let others = |holders: &BTreeSet<String>| holders.iter().any(|holder| holder != name);
        let all = || around(net).any(|net| self.kept.get(&net).is_some_and(others));
        let within = || self.kept.range(net..).take_while(|(part, _)| net.range().contains(part.addr));
        let some = || within().any(|(part, holders)| net.covers(*part) && others(holders));
        (is_a_site(net) || net == local || local.covers(net)) && !all() && !some()
    }

    /// The interfaces at which a part of a network of ours lies; `None` when nothing says where it does.
    fn home(&self, part: Net, local: Net) -> Option<BTreeSet<String>> {
        let moved = self.ours.contains(&part);
        for net in around(part) {
            let route = self.routed.get(&net).filter(|_| net.prefix >= local.prefix);
            let given = self.given.get(&net).into_iter().flatten();
            let given = given.filter(|name| !moved && self.is_home(net, local, name));
            let home: BTreeSet<String> = route.into_iter().flatten().chain(given).cloned().collect();
            if !home.is_empty() || route.is_some() || self.kept.contains_key(&net) {
                return Some(home);
            }
        }
        moved.then(BTreeSet::new)
    }

    /// Where what is for a network is led now, as far as it does not stay here.
    fn led(&self, net: Net) -> BTreeSet<&String> {
        if is_single(net) && self.addresses.range((net.addr, String::new())..).next().is_some_and(|at| at.0 == net.addr)
        {
            return BTreeSet::new();
        }
        let ways = |net: Net| [&self.given, &self.routed].into_iter().filter_map(move |ways| ways.get(&net));
        let longest = around(net).find(|net| ways(*net).next().is_some());
        let defaults = || self.defaults.iter().filter(|(v4, _)| *v4 == net.is_ipv4()).map(|(_, name)| name).collect();
        longest.map_or_else(defaults, |net| ways(net).flatten().collect())
    }
}

/// A network and those around it, the longest first, but for everything.
fn around(net: Net) -> impl Iterator<Item = Net> {
    let nets = (0..=net.prefix).rev().filter_map(move |prefix| Net::new(net.addr, prefix));
    nets.take_while(|net| !is_everything(*net))
}

/// As of routes: what halves or quarters it counts too.
fn is_everything(net: Net) -> bool {
    is_default(net.is_ipv4(), net.prefix)
}

fn single(addr: IpAddr) -> Option<Net> {
    Net::new(addr, if addr.is_ipv4() { 32 } else { 128 })
}

fn is_single(net: Net) -> bool {
    net.prefix == if net.is_ipv4() { 32 } else { 128 }
}

/// What is held, and what that costs.
#[derive(Debug, Default)]
pub(super) struct Barred {
    /// Networks on our side, and parts of them that lie elsewhere than the rest, each with the interfaces outside that are
    /// barred for it; the longest decides.
    pub(super) nets: Interfaces,
    /// Networks on our side that are led where they are barred; `true`: some of it lies elsewhere.
    pub(super) astray: BTreeMap<Net, bool>,
}

/// Where networks on our side may not be. `sites` are those of each child; `beyond` the remote networks.
pub(super) fn barred<'s>(
    sites: impl Iterator<Item = &'s [AddrRange]>,
    outside: &Outside,
    beyond: &BTreeSet<Net>,
) -> Barred {
    // The networks on our side, each with the interfaces outside that have an address in one of the same child.
    let mut arms = Interfaces::new();
    let at: Vec<_> = outside.addresses.iter().filter(|(_, name)| outside.interfaces.contains(name)).collect();
    for site in sites {
        let within = |addr: IpAddr| site.iter().any(|range| range.start() != range.end() && range.contains(addr));
        let armed: Vec<_> = at.iter().filter(|(addr, _)| within(*addr)).collect();
        for net in site.iter().flat_map(prefixes) {
            let same = armed.iter().filter(|(addr, _)| addr.is_ipv4() == net.is_ipv4());
            arms.entry(net).or_default().extend(same.map(|(_, name)| name.clone()));
        }
    }
    let locals: BTreeSet<Net> = arms.keys().copied().collect();
    let parts = outside.given.keys().chain(outside.routed.keys()).chain(outside.kept.keys()).copied();
    // Of everything nothing is barred, whatever lies in it. What stands in it by itself is a part of the widest around it.
    let is_local = |net: Net| parent(&locals, net).is_some_and(|local| !is_everything(local));
    let widest = |net: Net| around(net).filter(|net| locals.contains(net)).last().filter(|_| is_local(net));
    let parts: BTreeSet<Net> = parts.filter(|net| is_local(*net)).collect();

    let armed = |net: Net| around(net).filter_map(|net| arms.get(&net)).flatten();
    let strange = |net: Net| {
        // Who gives the peers everything leads them outside.
        let Some(local) = widest(net) else { return BTreeSet::new() };
        let guess = || if outside.several { BTreeSet::new() } else { armed(net).cloned().collect() };
        let home = outside.home(net, local).unwrap_or_else(guess);
        outside.interfaces.difference(&home).cloned().collect()
    };
    let strange: Interfaces = locals.union(&parts).map(|net| (*net, strange(*net))).collect();
    let astray =
        |net: Net| strange.get(&net).is_some_and(|strange| outside.led(net).iter().any(|name| strange.contains(*name)));

    let mut barred = Barred::default();
    // Those around come before those within.
    for (&net, strange) in &strange {
        let local = widest(net).unwrap_or(net);
        if astray(net) {
            let mut within = parts.range(net..).filter(|part| **part != net).take_while(|part| net.covers(**part));
            let some = within.any(|part| !is_single(*part) && !astray(*part));
            // A site may be less than the network that stands for it. Where an interface outside is of it, it is not that.
            let peers = || beyond.range(net..).next().is_some_and(|beyond| net.covers(*beyond));
            let lost = outside.kept.contains_key(&net);
            let is_less = net == local && armed(net).next().is_none() && (some || peers() && !lost);
            if !is_less && barred.astray.get(&local) != Some(&false) {
                barred.astray.insert(net, some);
            }
        }
        if net == local || around(net).skip(1).find_map(|around| barred.nets.get(&around)) != Some(strange) {
            barred.nets.insert(net, strange.clone());
        }
    }
    barred
}

#[cfg(test)]
mod tests;
