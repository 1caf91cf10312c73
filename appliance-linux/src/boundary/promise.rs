//! Whatever the configuration: what it protects is led to the device, and the guard drops it elsewhere. Small configurations
//! by chance, and the plan of each read as the kernel and nft read it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gateway_core::config::Config;
use gateway_core::policy;
use ike_core::pad::ChildConfigId;
use ipsec_core::net::AddrRange;
use ipsec_core::spd::{Action, Level, Rule};

use super::home::Outside;
use super::intent::Intent;
use super::net::{Net, means_all, number, prefixes};
use super::plan::{Plan, Seen, plan};
use super::routes::{Lead, Target, Then};

const V4: [&str; 10] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/14",
    "10.1.0.0/16",
    "10.1.4.0-10.1.6.255",
    "10.1.5.0/24",
    "10.1.5.128/25",
    "10.2.0.0/16",
    "10.2.5.0/24",
    "10.9.0.7",
];
const V6: [&str; 10] = [
    "::/0",
    "fd00::/8",
    "fd00::/14",
    "fd00:1::/32",
    "fd00:1:4::-fd00:1:6:ffff:ffff:ffff:ffff:ffff",
    "fd00:1:5::/48",
    "fd00:1:5:8000::/49",
    "fd00:2::/32",
    "fd00:2:5::/48",
    "fd09::7",
];
/// One address of each part that these networks cut the address space into.
const ENDS_V4: [&str; 8] =
    ["10.2.0.1", "10.2.5.7", "10.1.5.7", "10.1.5.200", "10.1.6.7", "10.1.9.9", "10.9.0.7", "192.0.2.2"];
const ENDS_V6: [&str; 8] = [
    "fd00:2::1",
    "fd00:2:5::7",
    "fd00:1:5::7",
    "fd00:1:5:8000::7",
    "fd00:1:6::7",
    "fd00:1:9::9",
    "fd09::7",
    "2001:db8::2",
];

/// Chance that can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

fn text(dice: &mut Dice, v4: bool) -> String {
    let nets = if v4 { V4 } else { V6 };
    let mut text = String::new();
    for number in 0..2 + dice.below(3) {
        let (outer, there) = if v4 { ("192.0.2.2", "192.0.2") } else { ("2001:db8::2", "2001:db8::9") };
        let mostly_some = usize::from(dice.below(4) > 0);
        let local = dice.one(&nets[mostly_some..]);
        let local = format!("{local}{}", dice.one(&["", "", "", "[udp/5000]"]));
        text += &format!(
            "[[peer]]\nname = \"p{number}\"\nlocal = \"{outer}\"\nremote = \"{there}{}{number}\"\n\
             psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\nlocal-ts = \"{local}\"\n\
             remote-ts = \"{}\"\npriority = {}\n{}",
            if v4 { ".1" } else { "" },
            dice.one(&nets),
            dice.one(&["500", "1000", "1000"]),
            dice.one(&["", "", "", "level = \"use\"\n"]),
        );
    }
    for _ in 0..dice.below(3) {
        let action = dice.one(&["bypass", "bypass", "discard"]);
        text += &format!("[[policy]]\naction = \"{action}\"\npriority = {}\n", dice.one(&["100", "700", "2000"]));
        for side in ["local", "remote"] {
            if dice.below(2) == 0 {
                text += &format!("{side} = \"{}\"\n", dice.one(&nets));
            }
        }
        text += dice.one(&["", "", "protocol = \"udp\"\n", "protocol = \"udp\"\nremote-port = \"53\"\n"]);
    }
    text
}

fn net(text: &str) -> Net {
    let (addr, prefix) = text.split_once('/').unwrap();
    Net::new(addr.parse().unwrap(), prefix.parse().unwrap()).unwrap()
}

fn seen(dice: &mut Dice, v4: bool) -> Seen {
    let ours = if v4 { ["192.0.2.2", "10.2.0.1"] } else { ["2001:db8::2", "fd00:2::1"] };
    let attached = if v4 { ["10.2.0.0/16", "10.1.5.0/24"] } else { ["fd00:2::/48", "fd00:1:5::/48"] };
    let mut seen = Seen { v6: true, device: Some("pcl0".to_owned()), ..Seen::default() };
    seen.ours = ours.iter().map(|addr| addr.parse().unwrap()).collect();
    // Inside networks that somebody names, around them, and larger than a site.
    let near = dice.one(if v4 {
        &["10.2.5.0/24", "10.1.4.0/22", "10.2.0.0/15"]
    } else {
        &["fd00:2:5::/48", "fd00:1:4::/46", "fd00:2::/31"]
    });
    let at_wan = [if v4 { "192.0.2.0/24" } else { "2001:db8::/64" }, near];
    let at_wan = at_wan.iter().take(1 + usize::from(dice.below(3) == 0));
    seen.outside.interfaces.insert("wan".to_owned());
    seen.outside.several = dice.below(2) == 0;
    for text in at_wan {
        seen.outside.addresses.insert((net(text).second(), "wan".to_owned()));
        seen.outside.given.insert(net(text), ["wan".to_owned()].into());
    }
    // As some clouds give addresses.
    if dice.below(3) == 0 {
        seen.outside.addresses.insert((if v4 { "10.9.0.7" } else { "fd09::7" }.parse().unwrap(), "wan".to_owned()));
    }
    for attached in attached.iter().filter(|_| dice.below(3) == 0) {
        seen.attached.insert(net(attached), ["lan".to_owned()].into());
        seen.outside.given.insert(net(attached), ["lan".to_owned()].into());
    }
    seen
}

/// A UDP packet; without a source it is one of our own that has none yet.
#[derive(Debug, Clone, Copy)]
struct Packet {
    from: Option<IpAddr>,
    to: IpAddr,
    source_port: u16,
    port: u16,
}

/// What the kernel does with it.
#[derive(Debug, PartialEq)]
enum Way {
    Device,
    Main,
}

fn way(plan: &Plan, packet: &Packet) -> Way {
    let Packet { from, to, source_port, port } = *packet;
    let fits = |lead: &Lead| {
        let source = from.or(to.is_ipv4().then_some(IpAddr::from([0; 4])));
        let ports = |asked: Option<(u16, u16)>, port| asked.is_none_or(|(start, end)| (start..=end).contains(&port));
        lead.v4 == to.is_ipv4()
            && lead.from.is_none_or(|net| source.is_some_and(|from| net.range().contains(from)))
            && (!lead.own || from.is_none())
            && lead.to.is_none_or(|net| net.range().contains(to))
            && [0, 17].contains(&lead.protocol)
            && ports(lead.source_ports, source_port)
            && ports(lead.destination_ports, port)
    };
    let mut leads: Vec<&Lead> = plan.leads.iter().collect();
    leads.sort_by_key(|lead| lead.priority);
    let mut at = 0;
    for lead in leads {
        if lead.priority < at || !fits(lead) {
            continue;
        }
        match lead.then {
            Then::Table(table) => {
                let routes = plan.routes.keys().filter(|(at, net, _)| *at == table && net.range().contains(to));
                // Of one network and metric either could be the one: the worse is taken.
                match routes.max_by_key(|(_, net, target)| (net.prefix, *target == Target::Throw)) {
                    Some((_, _, Target::Throw)) | None => {}
                    Some(_) => return Way::Device,
                }
            }
            Then::Goto(priority) => at = priority,
            Then::Nothing => {}
        }
    }
    Way::Main
}

/// The guard as nft reads it: by way and family the intervals with the chains that they name, and the chains' lines.
struct Guard<'s> {
    maps: BTreeMap<&'s str, Vec<(u128, u128, &'s str)>>,
    chains: BTreeMap<&'s str, Vec<&'s str>>,
}

impl<'s> Guard<'s> {
    fn read(script: &'s str) -> Self {
        let (mut maps, mut chains) = (BTreeMap::new(), BTreeMap::new());
        for part in script.split("\n }\n") {
            if let Some((name, lines)) = part.split_once(" chain ").and_then(|(_, part)| part.split_once(" {\n")) {
                chains.insert(name, lines.lines().collect());
            } else if let Some((name, map)) = part.split_once(" map ").and_then(|(_, part)| part.split_once(" {\n")) {
                let elements = map.split_once("elements = { ").unwrap().1.trim_end_matches(" }").split(", ");
                let elements = elements.map(|element| {
                    let (range, chain) = element.split_once(" : goto ").unwrap();
                    let (first, last) = ends(range);
                    (number(first), number(last), chain)
                });
                maps.insert(name, elements.collect());
            }
        }
        Self { maps, chains }
    }
}

fn ends(range: &str) -> (IpAddr, IpAddr) {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    (first.parse().unwrap(), last.parse().unwrap())
}

/// Whether the guard drops a packet that leaves (`out`) or comes in (`in`) by this interface, or has come out of our device
/// and leaves by it (`on`).
fn drops(guard: &Guard<'_>, way: &str, packet: &Packet, interface: &str) -> bool {
    let Packet { from: Some(from), to, source_port, port } = *packet else { unreachable!() };
    let within = |range: &str, addr: IpAddr| {
        let (first, last) = ends(range);
        (number(first)..=number(last)).contains(&number(addr))
    };
    let name = format!("{way}{}", if to.is_ipv4() { 4 } else { 6 });
    let there = number(if way == "in" { from } else { to });
    let mut elements = guard.maps.get(name.as_str()).into_iter().flatten();
    let Some((.., chain)) = elements.find(|(first, last, _)| (*first..=*last).contains(&there)) else { return false };
    for line in &guard.chains[chain] {
        let mut words = line.split_whitespace();
        let set = |words: &mut std::str::SplitWhitespace<'_>| -> Vec<String> {
            let set = words.by_ref().take_while(|word| *word != "}").filter(|word| *word != "{");
            set.map(|word| word.trim_matches([',', '"']).to_owned()).collect()
        };
        let fits = loop {
            match words.next().unwrap() {
                "accept" => return false,
                "drop" => return true,
                "counter" => _ = words.nth(1),
                "meta" if words.nth(1) != Some("17") => break false,
                "meta" => {}
                "oifname" | "iifname" => {
                    let mut ahead = words.clone();
                    let others = ahead.next() == Some("!=");
                    words = if others { ahead } else { words };
                    if set(&mut words).iter().any(|name| name == interface) == others {
                        break false;
                    }
                }
                "th" => {
                    let side = if words.next() == Some("sport") { source_port } else { port };
                    let (start, end) =
                        words.next().map(|ports| ports.split_once('-').unwrap_or((ports, ports))).unwrap();
                    if !(start.parse().unwrap()..=end.parse().unwrap()).contains(&side) {
                        break false;
                    }
                }
                "ip" | "ip6" => match words.next().unwrap() {
                    "frag-off" => break false,
                    side => {
                        let addr = if side == "saddr" { from } else { to };
                        if !set(&mut words).iter().any(|element| within(element, addr)) {
                            break false;
                        }
                    }
                },
                // Of a fragment, which it is not.
                "frag" | "exthdr" => break false,
                other => panic!("{other} in {line}"),
            }
        };
        assert!(!fits);
    }
    false
}

fn action(rules: &[Rule], ours: IpAddr, theirs: IpAddr, ports: (u16, u16)) -> Option<Action> {
    let fits = |rule: &&Rule| {
        rule.selector.local.matches(ours, 17, Some(ports.0)) && rule.selector.remote.matches(theirs, 17, Some(ports.1))
    };
    rules.iter().find(fits).map(|rule| rule.action)
}

/// How a remote address is meant to be reached.
#[derive(Debug, PartialEq)]
enum Meant {
    /// Through the tunnel.
    Inside,
    /// In clear through this interface, and through the tunnel else.
    Attached(&'static str),
    /// As the operator's routes have it, where it lies: one of our own networks.
    Ours,
    /// As the operator's routes have it: nobody leads it anywhere.
    Free,
}

fn meant(config: &Config, seen: &Seen, addr: IpAddr) -> Meant {
    let children: Vec<_> = config.peers.iter().flat_map(|peer| &peer.children).collect();
    let everything = |range: &ipsec_core::net::AddrRange| prefixes(range).iter().any(|net| net.prefix == 0);
    let nets = children.iter().flat_map(|child| {
        let [local, remote] = [child.local_ts[0].addrs, child.remote_ts[0].addrs];
        let led = !(everything(&local) && everything(&remote));
        prefixes(&remote).into_iter().filter(move |net| led && net.range().contains(addr)).map(move |net| (net, local))
    });
    let nets: Vec<_> = nets.collect();
    let Some(held) = nets.iter().map(|(net, _)| *net).max_by_key(|net| net.prefix) else { return Meant::Free };
    // Whoever asks for the network that decides says what of it is ours, unless that is all of it.
    let all = Some(held.range());
    if nets.iter().any(|(net, local)| *net == held && local.contains(addr) && local.intersect(&held.range()) != all) {
        return Meant::Ours;
    }
    let attached = seen.attached.keys().any(|net| held.covers(*net) && net.range().contains(addr));
    if attached && means_all(held) { Meant::Attached("lan") } else { Meant::Inside }
}

/// Whether an address of ours may be reached in clear at `wan`, where strangers are: the smallest network around it that
/// somebody names is all there is; or `lan` has it not, and `wan` has a network around it of which `lan` has nothing, or is
/// the only way in and has an address in what is named with it.
fn lies_outside(config: &Config, seen: &Seen, addr: IpAddr) -> bool {
    let local = config.peers.iter().flat_map(|peer| &peer.children).map(|child| child.local_ts[0].addrs);
    let around = local.flat_map(|local| prefixes(&local).into_iter().map(move |net| (net, local)));
    let around: Vec<_> = around.filter(|(net, _)| net.range().contains(addr)).collect();
    let Some(smallest) = around.iter().map(|(net, _)| *net).max_by_key(|net| net.prefix) else { return true };
    // An address of ours that stands by itself lies nowhere but here.
    if smallest.range() == AddrRange::single(addr) && seen.outside.addresses.iter().any(|(ours, _)| *ours == addr) {
        return false;
    }
    let at = |name: &'static str| {
        let attached = seen.outside.given.iter().filter(move |(_, names)| names.contains(name));
        attached.map(|(net, _)| net.range())
    };
    let named = || around.iter().filter(|(net, _)| net.prefix >= if addr.is_ipv4() { 8 } else { 7 });
    let of_ours = |there: &AddrRange| {
        named().any(|(net, _)| net.range().contains(there.start()) && net.range().contains(there.end()))
    };
    let large = |there: &AddrRange| prefixes(there).iter().any(|net| net.prefix < if addr.is_ipv4() { 16 } else { 48 });
    let shared = |there: &AddrRange| at("lan").any(|lan| lan.intersect(there).is_some());
    let attached = || at("wan").any(|wan| wan.contains(addr) && (of_ours(&wan) || !large(&wan)) && !shared(&wan));
    let one_armed = || {
        !seen.outside.several
            && named().any(|(_, local)| seen.outside.addresses.iter().any(|(addr, _)| local.contains(*addr)))
    };
    smallest.prefix == 0 || !at("lan").any(|lan| lan.contains(addr)) && (attached() || one_armed())
}

/// Tries every packet between some addresses.
fn hold(text: &str, config: &Config, seen: &Seen) {
    let (intent, mut seen) = (Intent::of(config), seen.clone());
    seen.outside.remember(&Outside::default(), &intent.locals, std::iter::empty());
    let (plan, seen) = (plan(&intent, &seen), &seen);
    let guard = Guard::read(&plan.guard);
    let children = config.peers.iter().flat_map(|peer| &peer.children);
    let rules = policy::ordered(&config.policies, (0..).map(ChildConfigId).zip(children), std::iter::empty());
    let own = seen.ours[1];
    let ends = if own.is_ipv4() { ENDS_V4 } else { ENDS_V6 }.map(|addr| addr.parse::<IpAddr>().unwrap());
    let pairs = ends.iter().flat_map(|ours| ends.iter().map(|theirs| (*ours, *theirs)));
    for (ours, theirs) in pairs.filter(|(ours, theirs)| ours != theirs) {
        let meant = meant(config, seen, theirs);
        for ports in [(5000, 53), (7, 9)] {
            let action = action(&rules, ours, theirs, ports);
            let out = Packet { from: Some(ours), to: theirs, source_port: ports.0, port: ports.1 };
            let back = Packet { from: Some(theirs), to: ours, source_port: ports.1, port: ports.0 };
            let all = || format!("{out:?} is {action:?}, {meant:?}\n{text}{:?}\n{}", plan.routes, plan.guard);
            for interface in ["wan", "lan"] {
                let dropped = [drops(&guard, "out", &out, interface), drops(&guard, "in", &back, interface)];
                let strange = |addr| interface == "wan" && !lies_outside(config, seen, addr);
                match action {
                    // It leaves through our device as well, and comes in as it likes; elsewhere later rules decide.
                    Some(Action::Protect { level: Level::Use, .. }) => {
                        assert!(meant != Meant::Inside || dropped == [true, false], "{}", all());
                    }
                    Some(Action::Protect { .. }) if meant == Meant::Free || meant == Meant::Attached(interface) => {}
                    Some(Action::Protect { .. }) if meant == Meant::Ours && !strange(theirs) => {}
                    Some(Action::Protect { .. } | Action::Discard) => assert_eq!(dropped, [true; 2], "{}", all()),
                    Some(Action::Bypass) => assert_eq!(dropped, [false; 2], "{}", all()),
                    None => {}
                }
                if matches!(action, Some(Action::Protect { .. })) {
                    assert_eq!(drops(&guard, "on", &back, interface), strange(ours), "{}", all());
                }
            }
            if matches!(action, Some(Action::Protect { .. })) && meant == Meant::Inside {
                assert_eq!(way(&plan, &out), Way::Device, "{}", all());
                // It is by its route that a packet of our own gets this source.
                let unbound = Packet { from: None, ..out };
                assert!(ours != own || way(&plan, &unbound) == Way::Device, "without a source: {}", all());
            }
        }
    }
}

#[test]
fn f_07_whatever_the_configuration_what_it_protects_is_led_to_the_device_and_dropped_elsewhere() {
    let mut dice = Dice(1);
    let mut tried = 0;
    for v4 in [true, false].into_iter().cycle().take(600) {
        let text = text(&mut dice, v4);
        let Ok((config, _)) = Config::parse(&text) else { continue };
        hold(&text, &config, &seen(&mut dice, v4));
        tried += 1;
    }
    assert!(tried > 300, "{tried}");
}
