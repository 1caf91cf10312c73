//! Where the networks on our side are: nothing of theirs that policy protects is in clear anywhere else outside.
//!
//! The default route leads to each of them as soon as nothing else does; a cable that is pulled is enough. So an interface
//! that faces the peers, or strangers, is barred for a network of ours, unless that lies there: by an address that the
//! interface has in a network of the same child (a gateway with one interface, in a cloud), or by a route of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipsec_core::net::AddrRange;

use super::net::{Interfaces, Net, address, means_all, merged, number, prefixes};

/// The interfaces that face the peers and strangers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outside {
    /// By their names, with the networks that lie there: those of their addresses, and those on our side that a route of
    /// their own leads there.
    pub(super) interfaces: BTreeMap<String, BTreeSet<Net>>,
    /// Networks on our side of which nothing is attached to this machine, and which the default route leads to one of these.
    pub(super) by_default: BTreeMap<Net, String>,
}

impl Outside {
    /// Looks where routes lead to what of our networks is attached to no interface. `route` is asked for addresses, and says
    /// by which route the kernel would send there: its network and its interface.
    pub(super) fn follow<'s>(
        &mut self,
        sites: impl Iterator<Item = &'s [AddrRange]>,
        attached: &Interfaces,
        ours: &[IpAddr],
        mut route: impl FnMut(IpAddr) -> Option<(Net, String)>,
    ) {
        let here = || {
            let attached = attached.keys().map(|net| net.range());
            attached.chain(ours.iter().map(|addr| AddrRange::single(*addr)))
        };
        let (here_v4, here_v6) = (merged(true, here()), merged(false, here()));
        for net in sites.flatten().flat_map(prefixes).filter(|net| net.prefix > 0).collect::<BTreeSet<_>>() {
            let Some(gap) = gap(net, if net.is_ipv4() { &here_v4 } else { &here_v6 }) else { continue };
            let Some((by, name)) = route(gap.start()) else { continue };
            let Some(nets) = self.interfaces.get_mut(&name) else { continue };
            if !means_all(by) {
                nets.insert(net);
            } else if gap == net.range() {
                self.by_default.insert(net, name);
            }
        }
    }
}

/// The first range of addresses of a network that is in none of these, which are in order.
fn gap(net: Net, here: &[(u128, u128)]) -> Option<AddrRange> {
    let (mut first, last) = (number(net.range().start()), number(net.range().end()));
    for (start, end) in here.get(here.partition_point(|(_, end)| *end < first)..).unwrap_or_default() {
        if first < *start {
            let before = last.min(start - 1);
            return AddrRange::new(address(net.is_ipv4(), first), address(net.is_ipv4(), before));
        }
        first = end.checked_add(1).filter(|next| *next <= last)?;
    }
    AddrRange::new(address(net.is_ipv4(), first), address(net.is_ipv4(), last))
}

/// Networks on our side, each with the interfaces outside that are barred for it; the longest decides. `sites` are those of
/// each child, `ours` our addresses.
pub(super) fn barred<'s>(
    sites: impl Iterator<Item = &'s [AddrRange]>,
    ours: &[IpAddr],
    outside: &Outside,
) -> Interfaces {
    let mut barred = Interfaces::new();
    for site in sites {
        // That one of our addresses is protected too says nothing of where the others are.
        let lone = |range: &AddrRange| range.start() == range.end() && ours.contains(&range.start());
        for v4 in [true, false] {
            let local = || site.iter().filter(move |range| range.is_ipv4() == v4);
            let is_home = |nets: &BTreeSet<Net>| {
                local()
                    .filter(|range| !lone(range))
                    .any(|range| nets.iter().any(|net| net.range().intersect(range).is_some()))
            };
            let strange = outside.interfaces.iter().filter(|(_, nets)| !is_home(nets));
            let strange: BTreeSet<String> = strange.map(|(name, _)| name.clone()).collect();
            for net in local().flat_map(prefixes) {
                // Who gives the peers everything leads them outside.
                let strange = if net.prefix == 0 { BTreeSet::new() } else { strange.clone() };
                let held = barred.entry(net).or_insert_with(|| strange.clone());
                held.retain(|name| strange.contains(name));
            }
        }
    }
    barred
}

/// Networks on our side that nothing but the default route leads to, and that goes where they are barred.
pub(super) fn astray(outside: &Outside, barred: &Interfaces) -> impl Iterator<Item = Net> {
    let led = outside.by_default.iter();
    led.filter(|(net, name)| barred.get(*net).is_some_and(|names| names.contains(*name))).map(|(net, _)| *net)
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
            text +=
                &format!("[[peer.child]]\nname = \"n{number}\"\nlocal-ts = [{local}]\nremote-ts = \"10.1.0.0/16\"\n");
        }
        Intent::of(&Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0)
    }

    /// A machine with these networks at `wan` and these at `lan`, and a default route by `wan`.
    fn machine(wan: &[&str], lan: &[&str]) -> Seen {
        let mut seen = Seen::default();
        for (name, nets) in [("wan", wan), ("lan", lan)] {
            seen.attached.extend(nets.iter().map(|text| (net(text), [name.to_owned()].into())));
        }
        seen.outside.interfaces.insert("wan".to_owned(), wan.iter().map(|text| net(text)).collect());
        seen
    }

    fn is_barred(local: &[&str], seen: &Seen, asked: &str) -> bool {
        !barred(intent(local).sites(), &seen.ours, &seen.outside)[&net(asked)].is_empty()
    }

    #[test]
    fn f_07_a_network_of_ours_is_barred_outside_unless_it_lies_there() {
        const LAN: &str = "\"10.2.0.0/16\"";
        let gateway = |lan: &[&str]| is_barred(&[LAN], &machine(&["192.0.2.0/24"], lan), "10.2.0.0/16");
        assert!(gateway(&["10.2.0.0/16"]) && gateway(&["172.16.0.0/30"]) && gateway(&[]), "wherever it is");
        let cloud = machine(&["10.2.1.0/24"], &[]);
        assert!(!is_barred(&[LAN], &cloud, "10.2.0.0/16"), "behind the only interface");
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
            let (intent, mut seen) = (Intent::of(&config), machine(&[wan], &["192.168.1.0/24"]));
            let mut outside = seen.outside.clone();
            outside.follow(intent.sites(), &seen.attached, &seen.ours, |_| Some((net("0.0.0.0/0"), "wan".to_owned())));
            seen.outside = outside;
            plan(&intent, &seen).astray.into_iter().map(|net| net.to_string()).collect::<Vec<_>>()
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
        let servers = ["\"192.0.2.0/28\", \"10.2.0.0/16\""];
        assert!(!is_barred(&servers, &seen, "10.2.0.0/16"), "the network of the interface");
    }

    #[test]
    fn f_07_a_route_of_its_own_leads_a_network_of_ours_outside_and_the_default_route_does_not() {
        const LAN: [&str; 1] = ["\"10.2.0.0/16\""];
        let led = |lan: &[&str], by: &str| {
            let mut seen = machine(&["192.0.2.0/24"], lan);
            let (mut outside, mut asked) = (seen.outside.clone(), Vec::new());
            outside.follow(intent(&LAN).sites(), &seen.attached, &seen.ours, |addr| {
                asked.push(addr.to_string());
                Some((net(by), "wan".to_owned()))
            });
            let by_default = !outside.by_default.is_empty();
            seen.outside = outside;
            (is_barred(&LAN, &seen, "10.2.0.0/16"), by_default, asked.concat())
        };
        let asked = |addr: &str| addr.to_owned();
        assert_eq!(led(&[], "10.2.0.0/16"), (false, false, asked("10.2.0.0")));
        for all in ["0.0.0.0/0", "0.0.0.0/1", "10.0.0.0/8"] {
            assert_eq!(led(&[], all), (true, true, asked("10.2.0.0")), "{all}");
        }
        assert_eq!(led(&["10.2.0.0/17"], "0.0.0.0/0"), (true, false, asked("10.2.128.0")), "the rest of it");
        assert_eq!(led(&["10.2.0.0/16"], "0.0.0.0/0"), (true, false, asked("")), "there is no rest");
    }
}
