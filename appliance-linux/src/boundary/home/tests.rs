use gateway_core::config::Config;

use super::super::intent::Intent;
use super::super::plan::{Seen, plan};
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

/// A machine with these addresses at `wan` and these at `lan`, and a default route by `wan`. Where there is no address at
/// `lan`, there is no such interface.
fn machine(wan: &[&str], lan: &[&str]) -> Seen {
    let mut seen = Seen::default();
    seen.outside.several = !lan.is_empty();
    for (name, addresses) in [("wan", wan), ("lan", lan)] {
        addresses.iter().for_each(|text| address(&mut seen, name, text));
    }
    seen.outside.interfaces.insert("wan".to_owned());
    seen.outside.defaults.extend([true, false].map(|v4| (v4, "wan".to_owned())));
    seen
}

fn address(seen: &mut Seen, name: &str, text: &str) {
    let addr = text.split_once('/').unwrap().0.parse().unwrap();
    seen.outside.addresses.insert((addr, name.to_owned()));
    seen.outside.addressed.entry(net(text)).or_default().insert(name.to_owned());
    seen.outside.given.entry(net(text)).or_default().insert(name.to_owned());
}

/// A route of its own, by these interfaces.
fn route(seen: &mut Seen, to: &str, names: &[&str]) {
    seen.outside.routed.insert(net(to), names.iter().map(|name| (*name).to_owned()).collect());
}

/// A machine as it is after all that it was, one after the other.
fn after(looks: &[&Seen], local: &[&str]) -> Seen {
    let intent = intent(local);
    let next = |before: Seen, now: &&Seen| {
        let mut seen = (*now).clone();
        seen.outside.remember(&before.outside, &intent.locals, intent.outer.iter().copied());
        seen
    };
    looks.iter().fold(Seen::default(), next)
}

fn later(before: &Seen, now: Seen, local: &[&str]) -> Seen {
    after(&[before, &now], local)
}

fn now(seen: Seen, local: &[&str]) -> Seen {
    after(&[&seen], local)
}

/// Whether `wan` is barred for the first address of a network.
fn is_barred(local: &[&str], seen: &Seen, asked: &str) -> bool {
    let held = barred(intent(local).sites(), &seen.outside, &BTreeSet::new()).nets;
    around(net(asked)).find_map(|net| held.get(&net)).is_some_and(|names| names.contains("wan"))
}

fn told(local: &[&str], seen: &Seen) -> Vec<String> {
    barred(intent(local).sites(), &seen.outside, &BTreeSet::new()).astray.keys().map(ToString::to_string).collect()
}

const LAN: [&str; 1] = ["\"10.2.0.0/16\""];
const OFFICE: [&str; 1] = ["\"192.168.0.0/16\""];

#[test]
fn f_07_a_network_of_ours_is_barred_outside_unless_it_lies_there() {
    let gateway = |lan: &[&str]| is_barred(&LAN, &now(machine(&["192.0.2.2/24"], lan), &LAN), "10.2.0.0/16");
    assert!(gateway(&["10.2.0.1/16"]) && gateway(&["172.16.0.1/30"]) && gateway(&[]), "wherever it is");
    let cloud = machine(&["10.2.1.4/24"], &[]);
    assert!(!is_barred(&LAN, &cloud, "10.2.0.0/16"), "behind the only interface");
    assert!(!is_barred(&LAN, &machine(&["10.2.1.4/32"], &[]), "10.2.0.0/16"), "as some clouds give addresses");
    let listed = ["\"10.2.1.0/24\", \"10.2.7.0/24\"", "\"10.3.0.0/16\""];
    assert!(!is_barred(&listed, &cloud, "10.2.7.0/24"), "beside the network of the interface");
    assert!(is_barred(&listed, &cloud, "10.3.0.0/16"), "another child says nothing of it");
    let within = ["\"10.2.0.0/16\"", "\"10.2.7.10\", \"10.2.9.0/24\""];
    for part in ["10.2.7.10/32", "10.2.9.0/24"] {
        assert!(!is_barred(&within, &cloud, part), "{part} stands in a network that lies there");
    }
    for wan in ["10.0.0.4/8", "10.0.0.4/12"] {
        let wide = now(machine(&[wan], &["172.16.0.1/30"]), &["\"10.0.0.0/8\""]);
        assert!(!is_barred(&["\"10.0.0.0/8\""], &wide, "10.1.0.5/32"), "{wan} is ours");
        assert!(is_barred(&["\"10.0.0.0/16\""], &wide, "10.0.0.5/32"), "{wan}");
    }
    let mut exit = machine(&["192.0.2.2/24"], &["10.2.0.1/16"]);
    route(&mut exit, "172.16.0.0/12", &["lan"]);
    let held = barred(intent(&["\"0.0.0.0/0\""]).sites(), &exit.outside, &BTreeSet::new()).nets;
    assert_eq!(held, Interfaces::from([(net("0.0.0.0/0"), BTreeSet::new())]), "a way out for peers");
}

#[test]
fn f_07_what_one_family_of_addresses_has_says_nothing_of_the_other() {
    let cloud = machine(&["10.2.1.4/24"], &[]);
    let child = [net("10.2.0.0/16").range(), net("fd02::/64").range()];
    let held = barred([&child[..]].into_iter(), &cloud.outside, &BTreeSet::new()).nets;
    assert!(held[&net("10.2.0.0/16")].is_empty() && held[&net("fd02::/64")].contains("wan"));
    let mut gateway = machine(&["192.0.2.2/24"], &["172.16.0.1/30"]);
    assert_eq!(told(&["\"fd02::/64\""], &gateway), ["fd02::/64"]);
    gateway.outside.defaults.remove(&(false, "wan".to_owned()));
    assert!(told(&["\"fd02::/64\""], &gateway).is_empty(), "it is led nowhere");
    assert!(is_barred(&["\"fd02::/64\""], &gateway, "fd02::/64"), "though it may be in a moment");
}

#[test]
fn f_07_a_second_way_into_the_machine_ends_the_guess_about_the_only_one_before_anything_is_known_of_it() {
    // A port without an address yet, after a power cut; written in either way.
    for local in ["\"192.168.0.0/16\"", "\"192.168.1.0/24\", \"192.168.77.0/24\"", "\"192.168.1.0-192.168.99.255\""] {
        let local = [local];
        let mut boots = machine(&["192.168.1.2/24"], &[]);
        assert!(!is_barred(&local, &boots, "192.168.77.5/32"), "in a cloud");
        boots.outside.several = true;
        assert!(is_barred(&local, &boots, "192.168.77.5/32") && !is_barred(&local, &boots, "192.168.1.5/32"));
        assert!(!told(&local, &boots).is_empty(), "it may be meant so");
        // It is gone for good, or was taken down.
        let gone = later(&boots, machine(&["192.168.1.2/24"], &[]), &local);
        assert!(is_barred(&local, &gone, "192.168.77.5/32"));
    }
    // The address of the LAN alone, on the line.
    let line = ["\"203.0.113.8/29\""];
    let mut boots = machine(&["203.0.113.9/32"], &[]);
    boots.outside.several = true;
    assert!(is_barred(&line, &boots, "203.0.113.10/32"));
}

#[test]
fn f_07_a_network_of_ours_is_told_to_be_nowhere_when_it_is_led_where_it_is_barred() {
    let text = |local: &str, remote: &str| {
        format!(
            "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
             psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"a\"\n\
             local-ts = [{local}]\nremote-ts = {remote}\n[[peer.child]]\nname = \"b\"\n\
             local-ts = \"192.168.1.0/24\"\nremote-ts = \"10.3.0.0/16\"\n"
        )
    };
    let told = |local: &str, remote: &str, wan: &[&str], lan: &[&str]| {
        let config = Config::parse(&text(local, remote)).unwrap_or_else(|errors| panic!("{errors:?}")).0;
        let (intent, seen) = (Intent::of(&config), machine(wan, &[&["192.168.1.1/24"], lan].concat()));
        plan(&intent, &seen).astray.into_iter().collect::<Vec<_>>()
    };
    let (own, remote, wan) = ("\"10.2.0.0/16\"", "\"10.1.0.0/16\"", "192.0.2.2/24");
    for remote in [remote, "\"0.0.0.0/0\""] {
        assert_eq!(told(own, remote, &[wan], &[]), ["10.2.0.0/16"], "{remote}");
    }
    assert!(told(own, remote, &[wan], &["10.2.7.1/24"]).is_empty(), "what there is of it has its place");
    assert!(told(own, remote, &["10.2.0.4/16"], &[]).is_empty(), "it lies there");
    assert_eq!(told(own, remote, &["10.2.1.4/24"], &["10.2.7.1/24"]), ["the rest of 10.2.0.0/16"], "one of it");
    assert_eq!(told(own, remote, &["10.0.0.4/8"], &[]), ["10.2.0.0/16"], "in a wide network");
    assert!(told("\"10.0.0.0/8\"", remote, &[wan], &[]).is_empty(), "the sum of what is behind the peers");
    let other = "\"192.168.1.0/24\", \"10.3.0.0/16\"";
    assert!(told(other, remote, &[wan], &[]).is_empty(), "it lies behind another peer");
    for own in ["192.0.2.2/32", "192.0.2.2/24"] {
        assert!(told("\"192.0.2.2\"", remote, &[own], &[]).is_empty(), "{own} stays here");
    }
    assert_eq!(told(own, remote, &[wan], &["10.2.255.1/32"]), ["10.2.0.0/16"], "an address is no network");
}

#[test]
fn f_07_a_lan_that_was_lost_is_told() {
    let lost = later(&machine(&["192.0.2.2/24"], &["10.2.0.1/16"]), machine(&["192.0.2.2/24"], &[]), &LAN);
    let part = barred(intent(&LAN).sites(), &lost.outside, &[net("10.2.9.0/24")].into());
    assert!(part.astray.contains_key(&net("10.2.0.0/16")), "although a part of it is behind a peer");
    for lan in ["10.2.0.1/16", "10.2.0.1/24"] {
        let lost = later(&machine(&["192.0.2.2/24"], &[lan]), machine(&["192.0.2.2/24"], &[]), &LAN);
        assert_eq!(told(&LAN, &lost), ["10.2.0.0/16"], "{lan}");
        // Switched off it keeps its address, and the kernel leads nobody there.
        let mut off = machine(&["192.0.2.2/24"], &[lan]);
        off.outside.given.remove(&net(lan));
        let off = later(&machine(&["192.0.2.2/24"], &[lan]), off, &LAN);
        assert!(is_barred(&LAN, &off, "10.2.0.5/32"), "{lan}");
        assert_eq!(told(&LAN, &off), ["10.2.0.0/16"], "{lan}");
    }
    let mut routed = machine(&["192.0.2.2/24"], &["172.16.0.1/30"]);
    (0..200).for_each(|third| route(&mut routed, &format!("10.2.{third}.0/24"), &["lan"]));
    let lost = later(&routed, machine(&["192.0.2.2/24"], &["172.16.0.1/30"]), &LAN);
    assert_eq!(told(&LAN, &lost), ["10.2.0.0/16"], "once for all");
    let mut rest = machine(&["192.0.2.2/24"], &["172.16.0.1/30"]);
    route(&mut rest, "10.2.4.0/24", &["lan"]);
    let lost = later(&routed, rest, &LAN);
    assert!(told(&LAN, &lost).contains(&"10.2.3.0/24".to_owned()));
    // What is left of a part is no sign that there was no more of it.
    let mut whole = machine(&["192.0.2.2/24"], &["172.16.0.1/30"]);
    route(&mut whole, "10.2.4.0/24", &["lan"]);
    let rest = whole.clone();
    route(&mut whole, "10.2.4.0/22", &["lan"]);
    let lost = later(&whole, rest, &LAN);
    let told = barred(intent(&LAN).sites(), &lost.outside, &BTreeSet::new()).astray;
    assert_eq!(told, [(net("10.2.4.0/22"), true)].into(), "the rest of it");
}

#[test]
fn f_07_that_an_outer_address_is_protected_too_brings_no_network_of_ours_outside() {
    let both = ["\"192.0.2.2\", \"10.2.0.0/16\""];
    let seen = machine(&["192.0.2.2/24"], &[]);
    assert!(is_barred(&both, &seen, "10.2.0.0/16"));
    assert_eq!(told(&both, &now(seen.clone(), &both)), ["10.2.0.0/16"], "what is for the address itself stays here");
    let early = now(machine(&["192.0.2.3/24"], &[]), &both);
    assert!(is_barred(&both, &early, "192.0.2.2/32"), "where peers are to meet us, when it is another's at the start");
    let moved = later(&seen, machine(&["192.0.2.3/24"], &[]), &both);
    for lost in ["10.2.0.0/16", "192.0.2.2/32"] {
        assert!(is_barred(&both, &moved, lost), "{lost}, when it is another's");
    }
    assert_eq!(told(&both, &moved), ["10.2.0.0/16", "192.0.2.2/32"]);
    let cloud = |own: &str| machine(&[own, "10.2.1.4/24"], &[]);
    let moved_there = later(&cloud("192.0.2.2/24"), cloud("192.0.2.3/24"), &both);
    assert!(is_barred(&both, &moved_there, "192.0.2.2/32") && !is_barred(&both, &moved_there, "10.2.7.0/24"));
    assert!(!is_barred(&["\"192.0.2.50\""], &moved, "192.0.2.50/32"), "a server there");
    let servers = ["\"192.0.2.0/28\", \"10.2.0.0/16\""];
    assert!(!is_barred(&servers, &seen, "10.2.0.0/16"), "the network of the interface");
}

#[test]
fn f_07_a_route_of_its_own_leads_as_much_of_ours_outside_as_it_is_for_and_a_wider_one_nothing() {
    let mut gateway = now(machine(&["192.0.2.2/24"], &["172.16.0.1/30"]), &LAN);
    assert!(is_barred(&LAN, &gateway, "10.2.0.0/16") && told(&LAN, &gateway).len() == 1);
    for (local, own, lies) in [
        ("10.2.0.0/16", "10.2.0.0/16", true),
        ("10.2.0.0/16", "10.0.0.0/8", false),
        ("192.168.0.0/16", "192.168.0.0/16", true),
        ("fd02::/64", "fd02::/64", true),
        ("fd02::/64", "fc00::/7", false),
    ] {
        let (mut gateway, local_ts) = (gateway.clone(), format!("\"{local}\""));
        route(&mut gateway, own, &["wan"]);
        assert_eq!(is_barred(&[&local_ts], &gateway, local), !lies, "{own}");
        assert_eq!(told(&[&local_ts], &gateway).is_empty(), lies, "{own}");
    }
    route(&mut gateway, "10.2.0.0/30", &["wan"]);
    route(&mut gateway, "10.2.4.0/22", &["wan"]);
    assert!(is_barred(&LAN, &gateway, "10.2.0.0/16") && is_barred(&LAN, &gateway, "10.2.0.4/32"));
    assert!(!is_barred(&LAN, &gateway, "10.2.0.1/32") && !is_barred(&LAN, &gateway, "10.2.4.5/32"));
    // Nowhere, says the operator.
    let mut nowhere = gateway.clone();
    route(&mut nowhere, "10.2.0.0/16", &[]);
    assert!(is_barred(&LAN, &nowhere, "10.2.77.5/32") && told(&LAN, &nowhere).is_empty());
    // With a router of ours for another part of it.
    let mut site = machine(&["192.0.2.2/24"], &["172.16.0.1/30"]);
    route(&mut site, "10.2.0.0/16", &["wan"]);
    route(&mut site, "10.2.3.0/24", &["lan"]);
    let mut lost = machine(&["192.0.2.2/24"], &["172.16.0.1/30"]);
    route(&mut lost, "10.2.0.0/16", &["wan"]);
    for seen in [now(site.clone(), &LAN), later(&site, lost, &LAN)] {
        assert!(is_barred(&LAN, &seen, "10.2.3.5/32") && !is_barred(&LAN, &seen, "10.2.77.5/32"));
    }
}

#[test]
fn f_07_the_longest_route_decides_whatever_those_around_it_and_our_other_networks_say() {
    let mut site = machine(&["192.0.2.2/24"], &["172.16.0.1/30"]);
    route(&mut site, "10.2.0.0/17", &["wan"]);
    route(&mut site, "10.2.0.0/18", &["lan"]);
    route(&mut site, "10.2.64.0/19", &[]);
    let site = now(site, &LAN);
    for (addr, barred) in [("10.2.0.5/32", true), ("10.2.64.5/32", true), ("10.2.96.5/32", false)] {
        assert_eq!(is_barred(&LAN, &site, addr), barred, "{addr}");
    }
    // A network of ours in another one lies where that does.
    let nested = ["\"10.2.0.0/16\"", "\"10.2.7.0/24\""];
    let mut site = machine(&["192.0.2.2/24"], &["172.16.0.1/30"]);
    route(&mut site, "10.2.0.0/20", &["wan"]);
    let site = now(site, &nested);
    assert!(!is_barred(&nested, &site, "10.2.7.5/32") && is_barred(&nested, &site, "10.2.77.5/32"));
}

#[test]
fn f_07_the_way_to_a_router_of_ours_is_lost_and_no_wider_one_takes_its_place() {
    const PARTS: [&str; 1] = ["\"10.2.3.0/24\", \"10.2.4.0/24\""];
    // Whether the LAN is outside itself: named, or with a default route that waits.
    for outside in [false, true] {
        let site = |lan: &str| {
            let mut site = machine(&["10.9.0.2/16"], &["172.16.0.1/30"]);
            route(&mut site, "10.0.0.0/8", &["wan"]);
            route(&mut site, lan, &["lan"]);
            if outside {
                site.outside.interfaces.insert("lan".to_owned());
            }
            site
        };
        let lost = later(&site("10.2.0.0/16"), site("172.31.0.0/16"), &PARTS);
        assert!(is_barred(&PARTS, &lost, "10.2.3.5/32"), "{outside}");
        let lost = later(&site("10.2.3.0/24"), site("172.31.0.0/16"), &LAN);
        assert!(is_barred(&LAN, &lost, "10.2.3.5/32") && is_barred(&LAN, &lost, "10.2.77.5/32"), "{outside}");
    }
}

#[test]
fn f_07_what_was_attached_elsewhere_is_never_outside_whatever_address_an_interface_gets_there() {
    let offices = machine(&["192.168.1.2/24"], &["192.168.10.1/24"]);
    let unplugged = later(&offices, machine(&["192.168.1.2/24"], &[]), &OFFICE);
    for seen in [&now(offices.clone(), &OFFICE), &unplugged] {
        assert!(is_barred(&OFFICE, seen, "192.168.10.5/32") && is_barred(&OFFICE, seen, "192.168.77.5/32"));
        assert!(!is_barred(&OFFICE, seen, "192.168.1.5/32"), "attached there");
    }
    // An address from a stranger: of that network, of a part of it, of one around it.
    for lease in ["192.168.10.9/24", "192.168.10.9/25", "192.168.10.9/16", "192.168.10.9/8", "192.168.10.9/1"] {
        let stolen = machine(&["192.168.1.2/24", lease], &["192.168.10.1/24"]);
        let gone = machine(&["192.168.1.2/24", lease], &[]);
        for now in [stolen, gone] {
            let seen = later(&offices, now, &OFFICE);
            assert!(is_barred(&OFFICE, &seen, "192.168.10.5/32"), "{lease}");
            assert!(is_barred(&OFFICE, &seen, "192.168.77.5/32"), "{lease}");
            assert!(!told(&OFFICE, &seen).is_empty(), "{lease}");
        }
    }
    // That of an interface which is switched off has nobody's routes.
    let mut off = offices.clone();
    off.outside.given.remove(&net("192.168.10.1/24"));
    let stolen = machine(&["192.168.1.2/24", "192.168.10.9/25"], &[]);
    assert!(is_barred(&OFFICE, &later(&off, stolen, &OFFICE), "192.168.10.5/32"));
    // A single host elsewhere makes no stranger's of its whole network.
    let mut host = machine(&["192.168.1.2/24"], &["172.16.0.1/30"]);
    route(&mut host, "192.168.1.7/32", &["lan"]);
    let host = now(host, &OFFICE);
    assert!(is_barred(&OFFICE, &host, "192.168.1.7/32") && !is_barred(&OFFICE, &host, "192.168.1.5/32"));
    // Where a router of ours has it, told as it is or as a part of more.
    for (own, local) in [("10.2.3.0/24", LAN), ("10.0.0.0/8", LAN), ("10.2.0.0/16", ["\"10.2.3.0/24\""])] {
        let mut site = machine(&["192.0.2.2/24"], &["172.16.0.1/30"]);
        route(&mut site, own, &["lan"]);
        let before = site.clone();
        address(&mut site, "wan", "10.2.3.9/24");
        assert!(is_barred(&local, &later(&before, site.clone(), &local), "10.2.3.5/32"), "{own}");
        site.outside.routed.clear();
        assert!(is_barred(&local, &later(&before, site, &local), "10.2.3.5/32"), "{own}");
    }
}

#[test]
fn f_07_an_interface_that_becomes_outside_takes_no_network_from_another_one() {
    let lan = || {
        let mut lan = machine(&[], &["192.168.10.1/24"]);
        lan.outside.interfaces = ["lte".to_owned()].into();
        lan
    };
    // A second uplink with a lease of that network: at once, or its address first.
    let mut addressed = lan();
    address(&mut addressed, "wan", "192.168.10.9/24");
    let mut both = addressed.clone();
    both.outside.interfaces.insert("wan".to_owned());
    let mut gone = both.clone();
    gone.outside.addresses.retain(|(_, name)| name != "lan");
    for ways in [&mut gone.outside.given, &mut gone.outside.addressed] {
        ways.values_mut().for_each(|names| _ = names.remove("lan"));
    }
    for looks in [vec![&both], vec![&lan(), &both], vec![&lan(), &addressed, &both], vec![&lan(), &both, &gone]] {
        assert!(is_barred(&OFFICE, &after(&looks, &OFFICE), "192.168.10.5/32"));
    }
    // Nor where nobody was outside as long as the LAN was there.
    let mut early = lan();
    early.outside.interfaces.clear();
    assert!(is_barred(&OFFICE, &after(&[&early, &gone], &OFFICE), "192.168.10.5/32"));
    // Nor does the LAN lose its own by a default route that is there for a moment.
    let mut once = lan();
    once.outside.interfaces.insert("lan".to_owned());
    assert!(is_barred(&OFFICE, &after(&[&lan(), &once, &gone], &OFFICE), "192.168.10.5/32"));
}

#[test]
fn f_07_the_guess_about_the_only_interface_is_about_that_one_alone() {
    let mut exit = machine(&["10.2.1.4/24"], &[]);
    exit.outside.interfaces.insert("wg0".to_owned());
    let barred = barred(intent(&LAN).sites(), &exit.outside, &BTreeSet::new()).nets;
    assert_eq!(barred[&net("10.2.0.0/16")], ["wg0".to_owned()].into(), "an exit of somebody else's");
}

#[test]
fn f_07_an_uplink_that_has_not_become_one_yet_is_no_other_home() {
    let mut early = machine(&["10.2.1.4/24"], &[]);
    early.outside.interfaces.clear();
    let cloud = later(&early, machine(&["10.2.1.4/24"], &[]), &LAN);
    assert!(!is_barred(&LAN, &cloud, "10.2.7.0/24"));
    // Two legs, of which the second one has its default route a moment later.
    let legs = || machine(&["10.2.1.4/24"], &["10.2.2.4/24"]);
    let mut both = legs();
    both.outside.interfaces.insert("lan".to_owned());
    let legs = after(&[&legs(), &both], &LAN);
    assert!(!is_barred(&LAN, &legs, "10.2.1.0/24") && is_barred(&LAN, &legs, "10.2.2.0/24"));
    assert!(!barred(intent(&LAN).sites(), &legs.outside, &BTreeSet::new()).nets[&net("10.2.2.0/24")].contains("lan"));
    let mut unplugged = machine(&["10.2.1.4/24"], &[]);
    unplugged.outside.interfaces.insert("lan".to_owned());
    assert!(is_barred(&LAN, &later(&both, unplugged, &LAN), "10.2.2.5/32"), "and nowhere else without it");
}

#[test]
fn f_07_a_gateway_whose_only_interface_becomes_another_one_is_not_barred_from_its_own_network() {
    // A cable and a radio in one network, both with a default route; the cable is pulled.
    let mut cable = machine(&["10.2.1.4/24"], &[]);
    address(&mut cable, "eth", "10.2.1.5/24");
    cable.outside.interfaces.insert("eth".to_owned());
    assert!(!is_barred(&LAN, &later(&cable, machine(&["10.2.1.4/24"], &[]), &LAN), "10.2.1.7/32"));
    // An interface for management beside it, without a default route.
    let mut beside = machine(&["10.2.1.4/24"], &[]);
    address(&mut beside, "mgmt", "10.2.1.5/24");
    let mut beside = now(beside, &LAN);
    assert!(is_barred(&LAN, &beside, "10.2.1.7/32"), "one of the two could be a stranger's");
    assert!(told(&LAN, &beside).contains(&"10.2.1.0/24".to_owned()), "and that is told");
    route(&mut beside, "10.2.1.0/24", &["wan"]);
    assert!(!is_barred(&LAN, &beside, "10.2.1.7/32"), "the operator says which");
}

#[test]
fn f_07_an_interface_outside_does_not_keep_what_it_had_before_and_one_of_ours_that_was_outside_once_does() {
    let lease = later(&machine(&["10.2.1.4/24"], &[]), machine(&["192.168.43.7/24"], &[]), &LAN);
    for lost in ["10.2.1.5/32", "10.2.7.5/32"] {
        assert!(is_barred(&LAN, &lease, lost), "{lost}, at a stranger's");
    }
    assert!(!told(&LAN, &lease).is_empty());
    // A default route by the LAN, for a while.
    let office = |lan: &[&str]| machine(&["192.168.1.2/24"], lan);
    let mut backup = office(&["192.168.10.1/24"]);
    backup.outside.interfaces.insert("lan".to_owned());
    let over = office(&["192.168.10.1/24"]);
    let stolen = machine(&["192.168.1.2/24", "192.168.10.9/24"], &[]);
    for now in [office(&["192.168.10.1/24"]), office(&[]), stolen] {
        let seen = after(&[&backup, &over, &now], &OFFICE);
        for lost in ["192.168.77.5/32", "192.168.10.5/32"] {
            assert!(is_barred(&OFFICE, &seen, lost), "{lost}");
        }
    }
}

#[test]
fn f_07_what_is_kept_in_mind_of_networks_has_an_end() {
    let bridged = |number: u16| {
        let mut now = machine(&["192.0.2.2/24"], &[]);
        let [high, low] = number.to_be_bytes();
        for of_its_own in [&format!("10.2.{high}.{low}/31"), "10.2.64.1/18", "172.18.0.1/16"] {
            address(&mut now, &format!("br{number}"), of_its_own);
        }
        now
    };
    let looks: Vec<Seen> = (0..2200).map(bridged).collect();
    let lan = machine(&["192.0.2.2/24"], &["10.2.200.1/24", "10.2.0.1/28"]);
    let mut lease = lan.clone();
    address(&mut lease, "wan", "10.2.200.9/25");
    let looks: Vec<&Seen> = looks.iter().chain([&lan, &lease]).collect();
    let seen = after(&looks, &LAN);
    assert_eq!(seen.outside.kept.len(), MOST + 2);
    assert!(
        ["10.2.0.0/28", "10.2.200.0/24"].iter().all(|lan| seen.outside.kept.contains_key(&net(lan))),
        "they are there"
    );
    assert!(seen.outside.ours.is_empty(), "none is protected by itself");
    assert!(seen.outside.kept.values().all(|names| names.len() <= HOLDERS));
    assert!(!seen.outside.kept.contains_key(&net("172.18.0.0/16")), "nobody asked for it");
    assert!(is_barred(&LAN, &seen, "10.2.200.5/32"));
}
