//! What the guard says, in the language of nft.
//!
//! The space of remote addresses is cut into intervals in which the same rules hold; each interval names a chain with
//! these rules in their order. A packet costs one lookup, however many peers there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipsec_core::net::{AddrRange, IKE_PORT, NATT_PORT, PortRange, TrafficSelector};
use ipsec_core::spd::{Action, Level, Rule};

use super::net::{Interfaces, Net, address, merged, number};
use super::numbers::MARK;

/// Our table, of the family `inet`.
pub(super) const TABLE: &str = "portcullis";

/// The names of its counters.
pub(super) const NAMES: [&str; 5] = ["in_clear", "in_discard", "out_clear", "out_discard", "in_meanwhile"];

/// How many of them, the first ones, count what is dropped. What is let in both a table and its copy count.
pub(super) const DROPS: usize = 4;

/// The way of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
    /// Out of our device and on.
    On,
}

/// How an interval of remote addresses is captured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Captured<'s> {
    No,
    /// By a network that somebody wrote.
    Named,
    /// By "everything".
    Rest,
    /// Except through these interfaces, to which it is attached.
    Elsewhere(&'s BTreeSet<String>),
    /// By nobody: a network of ours. But it is not at these interfaces.
    Ours(&'s BTreeSet<String>),
}

/// What routes do with the address space.
pub(super) struct Space<'s> {
    /// Networks that go to the device.
    pub(super) captured: &'s BTreeSet<Net>,
    /// Networks that do not.
    pub(super) throws: &'s BTreeSet<Net>,
    /// Attached networks that do not, each with its interfaces.
    pub(super) spared: &'s Interfaces,
    /// Addresses of ours that pass by what is captured by "everything".
    pub(super) outer: &'s BTreeSet<IpAddr>,
    /// Networks of ours, each with the interfaces outside at which it is not.
    pub(super) barred: &'s Interfaces,
}

/// The whole table as one transaction, which replaces what there is of it. `tun` is the name that our device has now;
/// where it is not there, no interface stands in for it. `sockets`: nft can tell which socket will take a packet.
pub(super) fn script(tun: Option<&str>, sockets: bool, rules: &[Rule], space: &Space<'_>) -> String {
    let mut text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    for counter in NAMES {
        let _ = writeln!(text, " counter {counter} {{ }}"); // writing into a string does not fail
    }
    let mut verdicts = [String::new(), String::new(), String::new()];
    for (way, verdict) in [Way::In, Way::Out, Way::On].into_iter().zip(&mut verdicts) {
        for v4 in [true, false] {
            let name = match (way, v4) {
                (Way::In, true) => "in4",
                (Way::In, false) => "in6",
                (Way::Out, true) => "out4",
                (Way::Out, false) => "out6",
                (Way::On, true) => "on4",
                (Way::On, false) => "on6",
            };
            let segments = segments(way, v4, rules, space);
            let mut bodies: BTreeMap<&str, usize> = BTreeMap::new();
            for (_, _, body) in &segments {
                let next = bodies.len();
                if bodies.contains_key(body.as_str()) {
                    continue;
                }
                bodies.insert(body, next);
                let _ = writeln!(text, " chain {name}_{next} {{\n{body} }}");
            }
            if segments.is_empty() {
                continue;
            }
            let field = field(v4, way == Way::In);
            let elements: Vec<String> = segments
                .iter()
                .map(|(start, end, body)| {
                    let chain = bodies.get(body.as_str()).copied().unwrap_or_default();
                    format!("{} : goto {name}_{chain}", interval(v4, *start, *end))
                })
                .collect();
            let _ = writeln!(
                text,
                " map {name} {{\n  typeof {field} : verdict\n  flags interval\n  elements = {{ {} }}\n }}",
                elements.join(", ")
            );
            let _ = writeln!(verdict, "  {field} vmap @{name}");
        }
    }
    let [inward, outward, on] = verdicts;
    let opened = tun.map_or_else(String::new, |tun| format!("  iifname \"{tun}\" jump onward\n"));
    // Answers to what we have asked by our mark.
    let asked = if sockets { format!("  socket mark {MARK:#x} accept\n") } else { String::new() };
    let inside = tun.map_or_else(|| "\"lo\"".to_owned(), |tun| format!("\"lo\", \"{tun}\""));
    // Neighbour discovery (RFC 4861) never leaves the link, and without it no peer would be found.
    let neighbours = "icmpv6 type { 133, 134, 135, 136, 137 } ip6 hoplimit 255 accept";
    let _ = write!(
        text,
        " chain onward {{\n{on} }}\n chain inward {{\n  iifname {{ {inside} }} accept\n  meta mark {MARK:#x} accept\n  {neighbours}\n{inward} }}\n \
         chain input {{\n  type filter hook input priority -10; policy accept;\n  meta l4proto esp accept\n  \
         udp dport {{ {IKE_PORT}, {NATT_PORT} }} accept\n  meta l4proto udp frag frag-off != 0 accept\n{asked}  jump inward\n }}\n \
         chain forward {{\n  type filter hook forward priority -10; policy accept;\n{opened}  jump inward\n }}\n \
         chain outward {{\n  type filter hook postrouting priority 90; policy accept;\n  \
         oifname {{ {inside} }} accept\n  meta mark {MARK:#x} accept\n  {neighbours}\n{outward} }}\n}}\n"
    );
    text
}

/// Whether a script drops what policies discard.
pub(super) fn discards(script: &str) -> bool {
    script.contains("_discard drop\n")
}

fn field(v4: bool, source: bool) -> &'static str {
    match (v4, source) {
        (true, true) => "ip saddr",
        (true, false) => "ip daddr",
        (false, true) => "ip6 saddr",
        (false, false) => "ip6 daddr",
    }
}

fn interval(v4: bool, start: u128, end: u128) -> String {
    if start == end {
        return address(v4, start).to_string();
    }
    format!("{}-{}", address(v4, start), address(v4, end))
}

/// Intervals of remote addresses, disjoint and in order, and the rules that hold in each.
fn segments(way: Way, v4: bool, rules: &[Rule], space: &Space<'_>) -> Vec<(u128, u128, String)> {
    /// What begins or ends somewhere: a rule, a network of the routing tables, or one of ours.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Item {
        Rule(usize),
        Net(Net),
        Ours(Net),
    }
    let top = if v4 { u128::from(u32::MAX) } else { u128::MAX };
    let of_rules = rules.iter().enumerate().map(|(index, rule)| (rule.selector.remote.addrs, Item::Rule(index)));
    let nets = space.captured.iter().chain(space.throws).chain(space.spared.keys());
    let of_nets = nets.map(|net| (net.range(), Item::Net(*net)));
    let of_ours = space.barred.keys().map(|net| (net.range(), Item::Ours(*net)));
    // Each item begins at its first address, and ends behind its last.
    let mut edges: BTreeMap<u128, Vec<(Item, bool)>> = BTreeMap::new();
    for (range, item) in of_rules.chain(of_nets).chain(of_ours).filter(|(range, _)| range.is_ipv4() == v4) {
        edges.entry(number(range.start())).or_default().push((item, true));
        let end = number(range.end());
        if end < top {
            edges.entry(end + 1).or_default().push((item, false));
        }
    }
    let mut active_rules: BTreeSet<usize> = BTreeSet::new();
    let mut active_nets: BTreeSet<(u8, Net)> = BTreeSet::new();
    let mut active_ours: BTreeSet<(u8, Net)> = BTreeSet::new();
    let mut list: Vec<(u128, u128, String)> = Vec::new();
    let mut ends = edges.keys().skip(1).map(|next| next - 1).chain([top]);
    for (start, items) in &edges {
        // Two networks of one length never overlap, so that ends may come before beginnings.
        for (item, begins) in
            items.iter().filter(|(_, begins)| !begins).chain(items.iter().filter(|(_, begins)| *begins))
        {
            match (item, begins) {
                (Item::Rule(index), true) => _ = active_rules.insert(*index),
                (Item::Rule(index), false) => _ = active_rules.remove(index),
                (Item::Net(net), true) => _ = active_nets.insert((net.prefix, *net)),
                (Item::Net(net), false) => _ = active_nets.remove(&(net.prefix, *net)),
                (Item::Ours(net), true) => _ = active_ours.insert((net.prefix, *net)),
                (Item::Ours(net), false) => _ = active_ours.remove(&(net.prefix, *net)),
            }
        }
        let end = ends.next().unwrap_or(top);
        // The longest network decides, as in the routing table.
        let barred = active_ours.last().and_then(|(_, net)| space.barred.get(net)).filter(|names| !names.is_empty());
        let held = match active_nets.last() {
            Some((0, net)) if space.captured.contains(net) => Captured::Rest,
            Some((_, net)) if space.captured.contains(net) => Captured::Named,
            Some((_, net)) => match (space.spared.get(net), barred) {
                (Some(attached), _) => Captured::Elsewhere(attached),
                (None, barred) => barred.map_or(Captured::No, Captured::Ours),
            },
            None => Captured::No,
        };
        let policy = || body(way, v4, active_rules.iter().filter_map(|index| rules.get(*index)), held, space.outer);
        let body = match way {
            Way::In | Way::Out => policy(),
            Way::On => barred
                .map_or(String::new(), |strange| format!("  oifname {} counter name out_clear drop\n", set(strange))),
        };
        if body.is_empty() {
            continue;
        }
        match list.last_mut() {
            Some((_, last, same)) if last.checked_add(1) == Some(*start) && *same == body => *last = end,
            _ => list.push((*start, end, body)),
        }
    }
    list
}

/// The rules of one interval, in order; none when everything passes.
fn body<'r>(
    way: Way,
    v4: bool,
    rules: impl Iterator<Item = &'r Rule>,
    captured: Captured<'_>,
    outer: &BTreeSet<IpAddr>,
) -> String {
    let mut text = String::new();
    // Rules that look at addresses alone and end alike are one rule.
    let mut gathered: Option<(String, Vec<AddrRange>)> = None;
    let side = if way == Way::In { "iifname" } else { "oifname" };
    let elsewhere = match captured {
        Captured::Elsewhere(interfaces) => format!("{side} != {} ", set(interfaces)),
        Captured::Ours(strange) => format!("{side} {} ", set(strange)),
        _ => String::new(),
    };
    let mut acts = false;
    let flush = |text: &mut String, gathered: &mut Option<(String, Vec<AddrRange>)>| {
        if let Some((verdict, ranges)) = gathered.take() {
            let _ = writeln!(text, "  {}{verdict}", ours(way, v4, &ranges));
        }
    };
    for rule in rules {
        let verdict = match (rule.action, way) {
            (Action::Bypass, _) => "accept".to_owned(),
            (Action::Discard, Way::In) => "counter name in_discard drop".to_owned(),
            (Action::Discard, _) => "counter name out_discard drop".to_owned(),
            // What routes do not capture is the operator's, or a network of this machine.
            (Action::Protect { .. }, _) if captured == Captured::No => continue,
            // A peer that has no SA, or not yet; what leaves goes through our device all the same, which decides.
            (Action::Protect { level: Level::Use, .. }, Way::In) => {
                format!("{elsewhere}counter name in_meanwhile accept")
            }
            (Action::Protect { .. }, Way::In) => format!("{elsewhere}counter name in_clear drop"),
            (Action::Protect { .. }, _) => format!("{elsewhere}counter name out_clear drop"),
        };
        acts |= verdict != "accept";
        let local = rule.selector.local;
        let conditions = conditions(way, v4, &local, &rule.selector.remote);
        if conditions.iter().all(String::is_empty) {
            match &mut gathered {
                Some((same, ranges)) if *same == verdict => ranges.push(local.addrs),
                _ => {
                    flush(&mut text, &mut gathered);
                    gathered = Some((verdict, vec![local.addrs]));
                }
            }
            continue;
        }
        flush(&mut text, &mut gathered);
        let ours = ours(way, v4, &[local.addrs]);
        let [exact, fragments] = conditions;
        let _ = writeln!(text, "  {ours}{exact}{verdict}");
        // A fragment may tell neither (RFC 4301 §7): what could be protected is not let through.
        if verdict.ends_with("drop") && !fragments.is_empty() {
            let _ = writeln!(text, "  {ours}{fragments}{verdict}");
        }
    }
    flush(&mut text, &mut gathered);
    if way == Way::Out && !matches!(captured, Captured::No | Captured::Ours(_)) {
        acts = true;
        let strangers: Vec<String> = outer.iter().filter(|addr| addr.is_ipv4() == v4).map(IpAddr::to_string).collect();
        if captured == Captured::Rest && !strangers.is_empty() {
            let _ = writeln!(text, "  {} {{ {} }} accept", field(v4, true), strangers.join(", "));
        }
        let _ = writeln!(text, "  {elsewhere}counter name out_clear drop");
    }
    if acts { text } else { String::new() }
}

/// Interfaces by their names.
fn set(interfaces: &BTreeSet<String>) -> String {
    let names: Vec<String> = interfaces.iter().map(|name| format!("\"{name}\"")).collect();
    format!("{{ {} }}", names.join(", "))
}

/// The condition that our side lies in one of these ranges; empty when any address does.
fn ours(way: Way, v4: bool, ranges: &[AddrRange]) -> String {
    let merged = merged(v4, ranges.iter().copied());
    let top = if v4 { u128::from(u32::MAX) } else { u128::MAX };
    if merged == [(0, top)] {
        return String::new();
    }
    let list: Vec<String> = merged.into_iter().map(|(start, end)| interval(v4, start, end)).collect();
    format!("{} {{ {} }} ", field(v4, way == Way::Out), list.join(", "))
}

/// What protocol and ports ask: of a packet in which they can be read, and of a fragment that could be of such a packet.
/// Both empty: nothing.
fn conditions(way: Way, v4: bool, local: &TrafficSelector, remote: &TrafficSelector) -> [String; 2] {
    let protocol = if local.protocol == 0 { remote.protocol } else { local.protocol };
    if protocol == 0 {
        return Default::default();
    }
    let protocol_is = format!("meta l4proto {protocol} ");
    let (source, destination) = if way == Way::In { (remote, local) } else { (local, remote) };
    let (mut exact, mut narrowed) = (protocol_is.clone(), false);
    let mut ask = |what: &str, ports: PortRange| {
        if ports == PortRange::ANY {
            return;
        }
        narrowed = true;
        if ports != PortRange::OPAQUE {
            let (start, end) = (u32::from(ports.start), u32::from(ports.end));
            let _ =
                if start == end { write!(exact, "{what} {start} ") } else { write!(exact, "{what} {start}-{end} ") };
        }
    };
    match protocol {
        // A type and a code; the sender's side decides (RFC 4301 §4.4.1.3).
        1 | 58 => ask("@th,0,16", source.ports),
        135 => {}
        _ => {
            ask("th sport", source.ports);
            ask("th dport", destination.ports);
        }
    }
    let opaque = source.ports == PortRange::OPAQUE || destination.ports == PortRange::OPAQUE;
    // Of IPv6 even the first fragment may end before its protocol, and the later ones tell that of an extension header.
    let unknown = if v4 { String::new() } else { "exthdr frag exists ".to_owned() };
    if !narrowed {
        return [exact, unknown];
    }
    let later = if v4 { "ip frag-off & 0x1fff != 0 " } else { "frag frag-off != 0 " };
    let later = format!("{later}{protocol_is}");
    match (opaque, v4) {
        (true, _) => [later, unknown],
        (false, true) => [exact, later],
        (false, false) => [exact, unknown],
    }
}
