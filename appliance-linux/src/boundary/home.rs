//! Where the networks on our side are: nothing of theirs that policy protects is in clear anywhere else outside.
//!
//! The default route leads to each of them as soon as nothing else does; a cable that is pulled is enough. So an interface
//! that faces the peers, or strangers, is barred for a network of ours, unless that lies there. The longest network
//! decides, as in a routing table:
//!
//! * What is attached to an interface lies there. What another interface than these has, or had since the start, lies
//!   nowhere outside, whatever address somebody gives an interface there.
//! * What a route of its own leads somewhere lies there, as far as that route goes.
//! * Where neither says anything, the network lies behind the default route of an interface that has a network of the same
//!   child (a gateway with one interface, in a cloud), unless some of it is, or was, elsewhere. That a single address is
//!   protected says nothing of where others are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipsec_core::net::AddrRange;

use super::net::{Interfaces, Net, is_default, parent, prefixes};

/// Networks that were attached once are kept in mind up to this number.
const MOST: usize = 1000;

/// The interfaces that face the peers and strangers, and what lies where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outside {
    /// Their names.
    pub(super) interfaces: BTreeSet<String>,
    /// Interfaces that a default route leads to: of IPv4 or not, and the name.
    pub(super) defaults: BTreeSet<(bool, String)>,
    /// Networks of addresses, and where these are.
    pub(super) attached: Interfaces,
    /// Networks of routes that are no default routes, and where these lead.
    pub(super) routed: Interfaces,
    /// What was so since the start.
    past: Past,
}

/// What was once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Past {
    attached: Interfaces,
    /// Who had a network when it was first there.
    first: Interfaces,
    /// Networks of routes.
    routed: Interfaces,
    /// Interfaces that were outside.
    outside: BTreeSet<String>,
    /// Addresses of ours that are protected by themselves.
    ours: BTreeSet<Net>,
}

impl Outside {
    /// Keeps in mind what was `before`, and what is now. `sites` are the networks on our side, by child; `ours` our addresses.
    pub(super) fn remember<'s>(
        &mut self,
        before: &Self,
        sites: impl Iterator<Item = &'s [AddrRange]>,
        ours: impl Iterator<Item = IpAddr>,
    ) {
        self.past = before.past.clone();
        let nets: BTreeSet<Net> = sites.flatten().flat_map(prefixes).collect();
        let singles = ours.filter_map(|addr| Net::new(addr, if addr.is_ipv4() { 32 } else { 128 }));
        self.past.ours.extend(singles.filter(|single| nets.contains(single)));
        self.past.outside.extend(self.interfaces.iter().cloned());
        for (net, names) in self.attached.iter().filter(|(net, _)| !is_single(**net)) {
            if self.past.attached.len() < MOST || self.past.attached.contains_key(net) {
                self.past.first.entry(*net).or_insert_with(|| names.clone());
                self.past.attached.entry(*net).or_default().extend(names.iter().cloned());
            }
        }
        let ours =
            |net: Net| parent(&nets, net).is_some() || nets.range(net..).next().is_some_and(|own| net.covers(*own));
        for (net, names) in self.routed.iter().filter(|(net, _)| !is_single(**net) && ours(**net)) {
            if self.past.routed.len() < MOST || self.past.routed.contains_key(net) {
                self.past.routed.entry(*net).or_default().extend(names.iter().cloned());
            }
        }
    }

    /// Where what is attached lies. Where an interface that is not outside has it, or had it, it lies there, and at those that
    /// had it when it was first there; else where it is now, or with whoever had it last and has nothing else now.
    fn attachments(&self) -> Interfaces {
        let mut held = Interfaces::new();
        for (net, names) in self.attached.iter().chain(&self.past.attached) {
            held.entry(*net).or_default().extend(self.inside(*net, names));
        }
        held.retain(|_, names| !names.is_empty());
        let inside: BTreeSet<Net> = held.keys().copied().collect();
        for (net, names) in &self.attached {
            if inside.contains(net) {
                let first = self.past.first.get(net).into_iter().flat_map(|first| first.intersection(names));
                held.entry(*net).or_default().extend(first.cloned());
            } else if parent(&inside, *net).is_none() {
                held.insert(*net, names.clone());
            }
        }
        let busy: BTreeSet<(bool, &String)> =
            self.attached.iter().flat_map(|(net, names)| names.iter().map(|name| (net.is_ipv4(), name))).collect();
        for (net, names) in &self.past.attached {
            let last = names.iter().filter(|name| !busy.contains(&(net.is_ipv4(), *name)));
            let last: BTreeSet<String> = last.cloned().collect();
            if !last.is_empty() && parent(&inside, *net).is_none() {
                held.entry(*net).or_insert(last);
            }
        }
        held
    }

    /// Those of `names` that are not outside. One that was outside and is gone does not count where another one outside has the
    /// same network now: it took its place.
    fn inside(&self, net: Net, names: &BTreeSet<String>) -> impl Iterator<Item = String> {
        let replaced = self.attached.get(&net).is_some_and(|now| !now.is_disjoint(&self.interfaces));
        let gone = move |name: &String| replaced && self.past.outside.contains(name);
        names.iter().filter(move |name| !self.interfaces.contains(*name) && !gone(name)).cloned()
    }

    /// Where what routes of its own lead to a network lies: where they lead, and where nothing leads there now, where those
    /// led that are gone, unless that is outside.
    fn led(&self, net: Net) -> BTreeSet<String> {
        let past = || self.past.routed.get(&net).map(|names| names.difference(&self.interfaces).cloned().collect());
        self.routed.get(&net).cloned().or_else(past).unwrap_or_default()
    }

    /// Whether some of a network on our side, or what it is some of, is or was at an interface that is not outside.
    fn is_elsewhere(&self, local: Net) -> bool {
        let homes = [&self.attached, &self.past.attached, &self.routed, &self.past.routed];
        let within = |homes: &Interfaces| {
            let within = homes.range(local..).take_while(|(net, _)| local.covers(**net));
            within.into_iter().any(|(net, names)| !is_single(*net) && self.inside(*net, names).next().is_some())
        };
        let beyond = |homes: &Interfaces| {
            let nearest = around(local).skip(1).find_map(|net| Some((net, homes.get(&net)?)));
            nearest.is_some_and(|(net, names)| self.inside(net, names).next().is_some())
        };
        homes.into_iter().any(|homes| within(homes) || beyond(homes))
    }
}

/// A network and those around it, the longest first.
fn around(net: Net) -> impl Iterator<Item = Net> {
    (0..=net.prefix).rev().filter_map(move |prefix| Net::new(net.addr, prefix))
}

/// As of routes: what halves or quarters it counts too.
fn is_everything(net: Net) -> bool {
    is_default(net.is_ipv4(), net.prefix)
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
    /// Networks on our side that nothing but the default route leads to, and that goes where they are barred; `true`: some of
    /// it lies elsewhere.
    pub(super) astray: BTreeMap<Net, bool>,
}

/// Where networks on our side may not be. `sites` are those of each child.
pub(super) fn barred<'s>(sites: impl Iterator<Item = &'s [AddrRange]>, outside: &Outside) -> Barred {
    let attached = outside.attachments();
    // The networks on our side, each with the interfaces that have a network of the same child.
    let mut arms = Interfaces::new();
    for site in sites {
        for v4 in [true, false] {
            let local = || site.iter().filter(move |range| range.is_ipv4() == v4);
            let at = |range: &AddrRange| range.start() != range.end();
            let met = outside
                .attached
                .iter()
                .filter(|(net, _)| local().any(|range| at(range) && net.range().intersect(range).is_some()));
            let met: BTreeSet<String> =
                met.flat_map(|(_, names)| names.intersection(&outside.interfaces)).cloned().collect();
            for net in local().flat_map(prefixes) {
                arms.entry(net).or_default().extend(met.iter().cloned());
            }
        }
    }
    let locals: BTreeSet<Net> = arms.keys().copied().collect();
    let parts = attached.keys().chain(outside.routed.keys()).chain(outside.past.routed.keys()).copied();
    // Of everything nothing is barred, whatever lies in it.
    let parts: BTreeSet<Net> =
        parts.filter(|net| parent(&locals, *net).is_some_and(|net| !is_everything(net))).collect();

    let mut barred = Barred::default();
    // Those around come before those within.
    for net in locals.union(&parts).copied() {
        let Some(local) = parent(&locals, net) else { continue };
        if is_everything(local) {
            // Who gives the peers everything leads them outside.
            barred.nets.insert(net, BTreeSet::new());
            continue;
        }
        let moves = outside.past.ours.contains(&net);
        let home: BTreeSet<String> = around(net)
            .find_map(|around| {
                let attached = attached.get(&around).filter(|_| !moves).into_iter().flatten().cloned();
                let names: BTreeSet<String> = attached.chain(outside.led(around)).collect();
                (!names.is_empty()).then_some(names)
            })
            .unwrap_or_default();
        let elsewhere = outside.is_elsewhere(local);
        let one_armed = !elsewhere && home.is_empty();
        let arms = arms.get(&local).filter(|_| one_armed);
        let strange =
            outside.interfaces.difference(&home).filter(|name| !arms.is_some_and(|arms| arms.contains(*name)));
        let strange: BTreeSet<String> = strange.cloned().collect();
        if net == local && home.is_empty() {
            let led = outside.defaults.iter().any(|(v4, name)| *v4 == net.is_ipv4() && strange.contains(name));
            let some = parts.range(net..).take_while(|part| net.covers(**part)).any(|part| !is_single(*part));
            let here = attached.keys().any(|other| !is_single(*other) && other.covers(net));
            let cut = elsewhere && arms_of(&attached, net, outside);
            if led && (cut || !some && !here) {
                barred.astray.insert(net, some);
            }
        }
        if outside.attached.get(&net).is_some_and(|names| !names.is_disjoint(&strange)) {
            barred.astray.insert(net, true); // it is attached there
        }
        if net == local || around(net).skip(1).find_map(|around| barred.nets.get(&around)) != Some(&strange) {
            barred.nets.insert(net, strange);
        }
    }
    barred
}

/// Whether an interface outside has some of a network.
fn arms_of(attached: &Interfaces, net: Net, outside: &Outside) -> bool {
    let within = attached.range(net..).take_while(|(part, _)| net.range().contains(part.addr));
    within.into_iter().any(|(_, names)| !names.is_disjoint(&outside.interfaces))
}

#[cfg(test)]
mod tests {
    use gateway_core::config::Config;

    use super::super::plan::{Intent, Seen, plan};
    use super::*;

    fn net(text: &str) -> Net {
        let (addr, prefix) = text.split_once('/').unwrap();
        Net::new(addr.parse().unwrap(), prefix.parse().unwrap()).unwrap()
    }

    /// What children with these networks of ours ask for.
    fn intent(local: &[&str]) -> Intent {
        let mut text = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                        psk = \"a key of more than twenty characters\"\n"
            .to_owned();
        for (number, local) in local.iter().enumerate() {
            let there = if local.contains(':') { "fd01::/64" } else { "10.1.0.0/16" };
            text += &format!("[[peer.child]]\nname = \"n{number}\"\nlocal-ts = [{local}]\nremote-ts = \"{there}\"\n");
        }
        Intent::of(&Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0)
    }

    /// A machine with these networks at `wan` and these at `lan`, and a default route by `wan`.
    fn machine(wan: &[&str], lan: &[&str]) -> Seen {
        let mut seen = Seen::default();
        for (name, nets) in [("wan", wan), ("lan", lan)] {
            seen.outside.attached.extend(nets.iter().map(|text| (net(text), [name.to_owned()].into())));
        }
        seen.outside.interfaces.insert("wan".to_owned());
        seen.outside.defaults.extend([true, false].map(|v4| (v4, "wan".to_owned())));
        seen
    }

    /// The same later, with the machine as it is now.
    fn later(before: &Seen, now: Seen, local: &[&str]) -> Seen {
        let (intent, mut seen) = (intent(local), now);
        let mut was = before.outside.clone();
        was.remember(&Outside::default(), intent.sites(), before.ours.iter().copied());
        seen.outside.remember(&was, intent.sites(), seen.ours.clone().into_iter());
        seen
    }

    /// A route of its own, by these interfaces.
    fn route(seen: &mut Seen, to: &str, names: &[&str]) {
        seen.outside.routed.insert(net(to), names.iter().map(|name| (*name).to_owned()).collect());
    }

    /// Whether `wan` is barred for the first address of a network.
    fn is_barred(local: &[&str], seen: &Seen, asked: &str) -> bool {
        let held = barred(intent(local).sites(), &seen.outside).nets;
        around(net(asked)).find_map(|net| held.get(&net)).is_some_and(|names| names.contains("wan"))
    }

    #[test]
    fn f_07_a_network_of_ours_is_barred_outside_unless_it_lies_there() {
        const LAN: &str = "\"10.2.0.0/16\"";
        let gateway = |lan: &[&str]| is_barred(&[LAN], &machine(&["192.0.2.0/24"], lan), "10.2.0.0/16");
        assert!(gateway(&["10.2.0.0/16"]) && gateway(&["172.16.0.0/30"]) && gateway(&[]), "wherever it is");
        let cloud = machine(&["10.2.1.0/24"], &[]);
        assert!(!is_barred(&[LAN], &cloud, "10.2.0.0/16"), "behind the only interface");
        assert!(!is_barred(&[LAN], &machine(&["10.2.1.4/32"], &[]), "10.2.0.0/16"), "as some clouds give addresses");
        let listed = ["\"10.2.1.0/24\", \"10.2.7.0/24\"", "\"10.3.0.0/16\""];
        assert!(!is_barred(&listed, &cloud, "10.2.7.0/24"), "beside the network of the interface");
        assert!(is_barred(&listed, &cloud, "10.3.0.0/16"), "another child says nothing of it");
        assert!(!is_barred(&["\"0.0.0.0/0\""], &machine(&["192.0.2.0/24"], &[]), "0.0.0.0/0"), "a way out for peers");
    }

    #[test]
    fn f_07_a_network_of_ours_is_told_to_be_nowhere_when_the_default_route_alone_leads_there() {
        let text = |local: &str, remote: &str| {
            format!(
                "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                 psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"a\"\n\
                 local-ts = [{local}]\nremote-ts = {remote}\n[[peer.child]]\nname = \"b\"\n\
                 local-ts = \"192.168.1.0/24\"\nremote-ts = \"10.3.0.0/16\"\n"
            )
        };
        let told = |local: &str, remote: &str, wan: &str| {
            let config = Config::parse(&text(local, remote)).unwrap_or_else(|errors| panic!("{errors:?}")).0;
            let (intent, seen) = (Intent::of(&config), machine(&[wan], &["192.168.1.0/24"]));
            plan(&intent, &seen).astray.into_iter().collect::<Vec<_>>()
        };
        for remote in ["\"10.1.0.0/16\"", "\"0.0.0.0/0\""] {
            assert_eq!(told("\"10.2.0.0/16\"", remote, "192.0.2.0/24"), ["10.2.0.0/16"], "{remote}");
        }
        let own = "\"10.2.0.0/16\"";
        assert!(told(own, "\"10.1.0.0/16\"", "10.2.1.0/24").is_empty(), "it lies there");
        let other = "\"192.168.1.0/24\", \"10.3.0.0/16\"";
        assert!(told(other, "\"10.1.0.0/16\"", "192.0.2.0/24").is_empty(), "it lies behind another peer");
    }

    #[test]
    fn f_07_that_an_outer_address_is_protected_too_brings_no_network_of_ours_outside() {
        let mut seen = machine(&["192.0.2.0/24"], &[]);
        seen.ours = vec!["192.0.2.2".parse().unwrap()];
        assert!(is_barred(&["\"192.0.2.2\", \"10.2.0.0/16\""], &seen, "10.2.0.0/16"));
        let moved = Seen { ours: vec!["192.0.2.3".parse().unwrap()], ..machine(&["192.0.2.0/24"], &[]) };
        let moved = later(&seen, moved, &["\"192.0.2.2\", \"10.2.0.0/16\""]);
        for lost in ["10.2.0.0/16", "192.0.2.2/32"] {
            assert!(is_barred(&["\"192.0.2.2\", \"10.2.0.0/16\""], &moved, lost), "{lost}, when it is another's");
        }
        assert!(!is_barred(&["\"192.0.2.50\""], &moved, "192.0.2.50/32"), "a server there");
        let servers = ["\"192.0.2.0/28\", \"10.2.0.0/16\""];
        assert!(!is_barred(&servers, &seen, "10.2.0.0/16"), "the network of the interface");
    }

    #[test]
    fn f_07_a_route_of_its_own_leads_as_much_of_ours_outside_as_it_is_for_and_the_default_route_nothing() {
        const LAN: [&str; 1] = ["\"10.2.0.0/16\""];
        let told = |seen: &Seen| barred(intent(&LAN).sites(), &seen.outside).astray.len();
        let mut gateway = machine(&["192.0.2.0/24"], &[]);
        assert!(is_barred(&LAN, &gateway, "10.2.0.0/16") && told(&gateway) == 1);
        for own in ["10.2.0.0/16", "10.0.0.0/8"] {
            let mut gateway = gateway.clone();
            route(&mut gateway, own, &["wan"]);
            assert!(!is_barred(&LAN, &gateway, "10.2.0.0/16") && told(&gateway) == 0, "{own}");
        }
        for (local, own) in [("192.168.0.0/16", "192.168.0.0/16"), ("fd02::/64", "fc00::/7")] {
            let mut gateway = gateway.clone();
            route(&mut gateway, own, &["wan"]);
            assert!(!is_barred(&[&format!("\"{local}\"")], &gateway, local), "{own}");
        }
        route(&mut gateway, "10.2.0.0/30", &["wan"]);
        route(&mut gateway, "10.2.4.0/22", &["wan"]);
        assert!(is_barred(&LAN, &gateway, "10.2.0.0/16") && is_barred(&LAN, &gateway, "10.2.0.4/32"));
        assert!(!is_barred(&LAN, &gateway, "10.2.0.1/32") && !is_barred(&LAN, &gateway, "10.2.4.5/32"));
        assert_eq!(told(&gateway), 0, "there are routes into it");
        let mut gateway = machine(&["192.0.2.0/24"], &["172.16.0.0/30"]);
        route(&mut gateway, "10.2.3.0/24", &["lan"]);
        assert!(is_barred(&LAN, &gateway, "10.2.3.0/24") && told(&gateway) == 0, "behind a router of ours");
    }

    #[test]
    fn f_07_what_was_attached_elsewhere_is_never_outside_whatever_address_an_interface_gets_there() {
        const LAN: [&str; 1] = ["\"192.168.0.0/16\""];
        let offices = machine(&["192.168.1.0/24"], &["192.168.10.0/24"]);
        let unplugged = later(&offices, machine(&["192.168.1.0/24"], &[]), &LAN);
        for seen in [&later(&Seen::default(), offices.clone(), &LAN), &unplugged] {
            assert!(is_barred(&LAN, seen, "192.168.10.5/32") && is_barred(&LAN, seen, "192.168.77.5/32"));
            assert!(!is_barred(&LAN, seen, "192.168.1.5/32"), "attached there");
        }
        let moved = later(&offices, machine(&["192.168.10.0/25"], &[]), &LAN);
        assert!(is_barred(&LAN, &moved, "192.168.10.5/32"), "an address from a stranger");
        // The box of the provider is protected too.
        let both = ["\"192.168.1.0/24\", \"10.2.0.0/16\""];
        let offices = machine(&["192.168.1.0/24"], &["10.2.0.0/24"]);
        let unplugged = later(&offices, machine(&["192.168.1.0/24"], &[]), &both);
        assert!(is_barred(&both, &unplugged, "10.2.0.5/32") && is_barred(&both, &unplugged, "10.2.7.5/32"));
        assert!(!is_barred(&both, &unplugged, "192.168.1.5/32"));
        let mut routed = machine(&["192.168.1.0/24"], &["172.16.0.0/30"]);
        route(&mut routed, "10.2.3.0/24", &["lan"]);
        let unplugged = later(&routed, machine(&["192.168.1.0/24"], &[]), &both);
        assert!(is_barred(&both, &unplugged, "10.2.3.5/32"), "behind a router of ours once");
        // The address of the LAN alone, on the line.
        let line = ["\"203.0.113.8/29\""];
        let gone = later(&machine(&["203.0.113.9/32"], &["203.0.113.8/29"]), machine(&["203.0.113.9/32"], &[]), &line);
        assert!(is_barred(&line, &gone, "203.0.113.10/32"));
    }

    #[test]
    fn f_07_an_uplink_that_has_not_become_one_yet_is_no_other_home() {
        const LAN: [&str; 1] = ["\"10.2.0.0/16\""];
        let mut early = machine(&["10.2.1.0/24"], &[]);
        early.outside.interfaces.clear();
        let cloud = later(&early, machine(&["10.2.1.0/24"], &[]), &LAN);
        assert!(!is_barred(&LAN, &cloud, "10.2.7.0/24"));
        // Two legs, and a second way out by the LAN.
        let mut legs = machine(&["10.2.1.0/24"], &["10.2.2.0/24"]);
        legs.outside.interfaces.insert("lan".to_owned());
        let legs = later(&Seen::default(), legs, &LAN);
        assert!(!is_barred(&LAN, &legs, "10.2.7.0/24") && !is_barred(&LAN, &legs, "10.2.1.0/24"));
        assert!(is_barred(&LAN, &legs, "10.2.2.0/24"), "it lies at the other one");
        let mut unplugged = machine(&["10.2.1.0/24"], &[]);
        unplugged.outside.interfaces.insert("lan".to_owned());
        assert!(is_barred(&LAN, &later(&legs, unplugged, &LAN), "10.2.2.5/32"), "and nowhere else without it");
    }

    #[test]
    fn f_07_a_gateway_whose_only_interface_becomes_another_one_is_not_barred_from_its_own_network() {
        const LAN: [&str; 1] = ["\"10.2.0.0/16\""];
        // A cable and a radio in one network, both with a default route; the cable is pulled.
        let mut cable = machine(&["10.2.1.0/24"], &[]);
        cable.outside.attached.insert(net("10.2.1.0/24"), ["eth".to_owned(), "wan".to_owned()].into());
        cable.outside.interfaces.insert("eth".to_owned());
        let radio = later(&cable, machine(&["10.2.1.0/24"], &[]), &LAN);
        assert!(!is_barred(&LAN, &radio, "10.2.1.7/32") && !is_barred(&LAN, &radio, "10.2.7.0/24"));
        // An interface for management beside it, without a default route.
        let mut beside = machine(&["10.2.1.0/24"], &[]);
        beside.outside.attached.insert(net("10.2.1.0/24"), ["mgmt".to_owned(), "wan".to_owned()].into());
        assert!(!is_barred(&LAN, &later(&Seen::default(), beside.clone(), &LAN), "10.2.1.7/32"));
        let mut late = beside.clone();
        late.outside.attached.insert(net("10.2.1.0/24"), ["mgmt".to_owned()].into());
        let late = later(&late, beside, &LAN);
        assert!(is_barred(&LAN, &late, "10.2.1.7/32"), "it came later");
        assert!(
            barred(intent(&LAN).sites(), &late.outside).astray.contains_key(&net("10.2.1.0/24")),
            "and that is told"
        );
    }

    #[test]
    fn f_07_an_interface_outside_does_not_keep_what_it_had_before_and_one_of_ours_that_was_outside_once_does() {
        const LAN: [&str; 1] = ["\"10.2.0.0/16\""];
        let lease = later(&machine(&["10.2.1.0/24"], &[]), machine(&["192.168.43.0/24"], &[]), &LAN);
        for lost in ["10.2.1.5/32", "10.2.7.5/32"] {
            assert!(is_barred(&LAN, &lease, lost), "{lost}, at a stranger's");
        }
        assert!(!barred(intent(&LAN).sites(), &lease.outside).astray.is_empty());
        // A default route by the LAN, for a while.
        const OFFICE: [&str; 1] = ["\"192.168.0.0/16\""];
        let office = |lan: &[&str]| machine(&["192.168.1.0/24"], lan);
        let mut backup = office(&["192.168.10.0/24"]);
        backup.outside.interfaces.insert("lan".to_owned());
        for now in [&["192.168.10.0/24"][..], &[]] {
            let seen = later(&backup, office(now), &OFFICE);
            for lost in ["192.168.77.5/32", "192.168.10.5/32"] {
                assert!(is_barred(&OFFICE, &seen, lost), "{lost} {now:?}");
            }
        }
    }

    #[test]
    fn f_07_a_summary_that_led_to_a_router_of_ours_is_kept_in_mind() {
        const PARTS: [&str; 1] = ["\"10.2.3.0/24\", \"10.2.4.0/24\""];
        let mut site = machine(&["192.0.2.0/24"], &["172.16.0.0/30"]);
        site.outside.interfaces.insert("lan".to_owned());
        route(&mut site, "10.0.0.0/8", &["wan"]);
        route(&mut site, "10.2.0.0/16", &["lan"]);
        let mut unplugged = machine(&["192.0.2.0/24"], &[]);
        route(&mut unplugged, "10.0.0.0/8", &["wan"]);
        assert!(is_barred(&PARTS, &later(&site, unplugged, &PARTS), "10.2.3.5/32"), "though it was outside once");
    }

    #[test]
    fn f_07_what_a_router_of_ours_had_is_not_outside_because_a_wider_route_leads_there() {
        const LAN: [&str; 1] = ["\"10.2.0.0/16\""];
        let mut site = machine(&["192.0.2.0/24"], &["10.2.0.0/24"]);
        route(&mut site, "10.0.0.0/8", &["wan"]);
        route(&mut site, "10.2.3.0/24", &["lan"]);
        let mut unplugged = machine(&["192.0.2.0/24"], &[]);
        route(&mut unplugged, "10.0.0.0/8", &["wan"]);
        let lost = later(&site, unplugged.clone(), &LAN);
        assert!(is_barred(&LAN, &lost, "10.2.3.5/32") && is_barred(&LAN, &lost, "10.2.0.5/32"));
        route(&mut unplugged, "10.2.3.0/24", &["wan"]);
        assert!(!is_barred(&LAN, &later(&site, unplugged, &LAN), "10.2.3.5/32"), "a route of its own");
    }
}
