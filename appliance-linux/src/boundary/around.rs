//! What a bypass policy lets through goes around our device where routing rules can tell it apart: the machine then routes,
//! filters and translates it as without us. What they cannot tell apart crosses the device and is let through there.
//!
//! The rules say the same as the Security Policy Database, in its order, or less: a bypass stands here only when it can be
//! said exactly, and what comes before it and ends otherwise is kept from it with a selector that is never too small.
//! A later fragment has no ports, so that a rule on ports leads none of it around (RFC 4301 §7).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipsec_core::net::{AddrRange, PortRange, TrafficSelector};
use ipsec_core::spd::{Action, Rule, Selector};

use super::net::{Net, address, meets, merged, number, prefixes};
use super::numbers::{AROUND, BEYOND, TABLE};
use super::routes::{Lead, Then};

/// The kernel tries each of them for each packet, so that there are only so many for a family.
const MOST: usize = (TABLE - AROUND) as usize;

/// Protocols whose ports routing rules read: TCP, UDP, DCCP, SCTP.
const WITH_PORTS: [u8; 4] = [6, 17, 33, 132];

/// The routing rules of a family.
pub(super) fn leads(v4: bool, rules: &[Rule], captured: &BTreeSet<Net>) -> Vec<Lead> {
    let captured = merged(v4, captured.iter().map(|net| net.range()));
    let crosses =
        |selector: &Selector| selector.remote.addrs.is_ipv4() == v4 && meets(&captured, &selector.remote.addrs);
    let around: Vec<usize> = (0..)
        .zip(rules)
        .filter(|(_, rule)| rule.action == Action::Bypass && crosses(&rule.selector))
        .map(|(place, _)| place)
        .collect();
    // Behind the last bypass nothing has to be kept from one.
    let Some(last) = around.last() else { return Vec::new() };
    // Most of what is protected has nothing to do with any.
    let ends = around.iter().filter_map(|place| rules.get(*place));
    let bypassed = merged(v4, ends.map(|rule| rule.selector.remote.addrs));
    let apart = |selector: &Selector| {
        let range = &selector.remote.addrs;
        range.is_ipv4() != v4 || !meets(&bypassed, range)
    };
    let mut leads: Vec<Lead> = Vec::new();
    for (place, rule) in rules.iter().enumerate().take_while(|(place, _)| place <= last) {
        let later = around.get(around.partition_point(|other| *other < place)..).unwrap_or_default();
        let (way, then) = if later.first() == Some(&place) {
            (exactly(v4, &rule.selector), Then::Goto(BEYOND))
        } else {
            let mut later = later.iter().filter_map(|other| rules.get(*other));
            if rule.action == Action::Bypass
                || apart(&rule.selector)
                || !later.any(|other| overlap(&rule.selector, &other.selector))
            {
                continue;
            }
            (at_least(v4, &rule.selector), Then::Goto(TABLE))
        };
        // What finds no room crosses the device, and so does all behind it.
        if leads.len() + way.len() > MOST {
            break;
        }
        for lead in way {
            let priority = AROUND + u32::try_from(leads.len()).unwrap_or(u32::MAX);
            leads.push(Lead { priority, then, ..lead });
        }
    }
    leads
}

fn overlap(one: &Selector, other: &Selector) -> bool {
    let meet = |one: &TrafficSelector, other: &TrafficSelector| one.addrs.intersect(&other.addrs).is_some();
    meet(&one.local, &other.local) && meet(&one.remote, &other.remote)
}

/// Rules that fit the packets of a selector and no others; none where there are none such.
fn exactly(v4: bool, selector: &Selector) -> Vec<Lead> {
    let (local, remote) = (&selector.local, &selector.remote);
    let protocol = protocol_of(selector);
    let (Some(source_ports), Some(destination_ports)) = (ports(protocol, local.ports), ports(protocol, remote.ports))
    else {
        return Vec::new();
    };
    let template = Lead { protocol, source_ports, destination_ports, ..Lead::new(v4, AROUND, Then::Nothing) };
    let ends = prefixes(&remote.addrs);
    let pairs = prefixes(&local.addrs).into_iter().flat_map(|from| ends.iter().map(move |to| (from, *to)));
    pairs.map(|(from, to)| Lead { from: some(from), to: some(to), ..template }).collect()
}

/// Rules that fit every packet that could be of a selector. A packet of our own that has no source yet gets one by its route:
/// by that to our device one that the selector wants, by another one that it does not. So it is kept whatever its source.
fn at_least(v4: bool, selector: &Selector) -> Vec<Lead> {
    // Of IPv6 the kernel may not find the protocol behind all extension headers.
    let protocol = if v4 { protocol_of(selector) } else { 0 };
    let (from, to) = (some(cover(&selector.local.addrs)), some(cover(&selector.remote.addrs)));
    let lead = Lead { from, to, protocol, ..Lead::new(v4, AROUND, Then::Nothing) };
    // Of IPv4 no source is 0.0.0.0; of IPv6 it is in no network.
    let without = match v4 {
        true => Lead { from: Net::new(IpAddr::from([0; 4]), 32), ..lead },
        false => Lead { from: None, own: true, ..lead },
    };
    if from.is_some() { vec![lead, without] } else { vec![lead] }
}

fn protocol_of(selector: &Selector) -> u8 {
    if selector.local.protocol == 0 { selector.remote.protocol } else { selector.local.protocol }
}

/// Ports as a routing rule has them, `Some(None)` for all; `None`: it cannot say that.
fn ports(protocol: u8, ports: PortRange) -> Option<Option<(u16, u16)>> {
    if ports == PortRange::ANY {
        return Some(None);
    }
    // Port 0 means "any" to the kernel, and stands for what has none.
    let plain = ports.start > 0 && ports.start <= ports.end && WITH_PORTS.contains(&protocol);
    plain.then_some(Some((ports.start, ports.end)))
}

/// A network as a condition: that of everything is none.
fn some(net: Net) -> Option<Net> {
    (net.prefix > 0).then_some(net)
}

/// The smallest network that covers a range.
fn cover(range: &AddrRange) -> Net {
    let (v4, bits) = if range.is_ipv4() { (true, 32) } else { (false, 128) };
    let (start, end) = (number(range.start()), number(range.end()));
    let host = (u128::BITS - (start ^ end).leading_zeros()).min(bits);
    let first = start.checked_shr(host).and_then(|net| net.checked_shl(host)).unwrap_or(0);
    Net { addr: address(v4, first), prefix: u8::try_from(bits - host).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use gateway_core::config::Config;
    use gateway_core::policy;
    use ike_core::pad::ChildConfigId;

    use super::*;

    fn shown(children: &[(&str, &str)], policies: &str) -> Vec<String> {
        let mut text = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                        psk = \"a key of more than twenty characters\"\n"
            .to_owned();
        for (number, (local, remote)) in children.iter().enumerate() {
            text += &format!("[[peer.child]]\nname = \"n{number}\"\nlocal-ts = [{local}]\nremote-ts = [{remote}]\n");
        }
        let (config, _) = Config::parse(&(text + policies)).unwrap_or_else(|errors| panic!("{errors:?}"));
        let children = config.peers.iter().flat_map(|peer| &peer.children);
        let captured = children.clone().flat_map(|child| child.remote_ts.iter().flat_map(|ts| prefixes(&ts.addrs)));
        let captured = captured.collect();
        let rules = policy::ordered(&config.policies, (0..).map(ChildConfigId).zip(children), std::iter::empty());
        let line = |lead: Lead| {
            let mut text = lead.priority.to_string();
            for (word, net) in [("from", lead.from), ("to", lead.to)] {
                text += &net.map_or_else(String::new, |net| format!(" {word} {net}"));
            }
            if lead.own {
                text += " iif lo";
            }
            if lead.protocol != 0 {
                text += &format!(" protocol {}", lead.protocol);
            }
            for (word, ports) in [("sport", lead.source_ports), ("dport", lead.destination_ports)] {
                text += &ports.map_or_else(String::new, |(start, end)| format!(" {word} {start}-{end}"));
            }
            match lead.then {
                Then::Goto(place) => format!("{text} goto {place}"),
                Then::Nothing => text,
                Then::Table(table) => format!("{text} table {table}"),
            }
        };
        [true, false].into_iter().flat_map(|v4| leads(v4, &rules, &captured)).map(line).collect()
    }

    const ALL: [(&str, &str); 1] = [("\"10.2.0.0/16\"", "\"0.0.0.0/0\"")];

    #[test]
    fn f_11_what_is_bypassed_goes_around_the_device() {
        let text = "[[policy]]\naction = \"bypass\"\nremote = \"192.0.2.53\"\n\
                    [[policy]]\naction = \"bypass\"\nlocal = \"10.2.7.0/24\"\nremote = \"10.9.0.0-10.9.0.2\"\n\
                    protocol = \"tcp\"\nremote-port = \"80-90\"\n";
        let lines = [
            "4400 to 192.0.2.53/32 goto 4503",
            "4401 from 10.2.7.0/24 to 10.9.0.0/31 protocol 6 dport 80-90 goto 4503",
            "4402 from 10.2.7.0/24 to 10.9.0.2/32 protocol 6 dport 80-90 goto 4503",
        ];
        assert_eq!(shown(&ALL, text), lines);
        let narrow = [("\"10.2.0.0/16\"", "\"10.1.0.0/16\"")];
        assert!(shown(&narrow, text).is_empty(), "nothing leads it to the device");
    }

    #[test]
    fn f_11_what_is_protected_or_discarded_before_is_kept_from_a_bypass_behind_it() {
        let bypass = "[[policy]]\naction = \"bypass\"\npriority = 2000\n";
        let child = [("\"10.2.0.0-10.2.0.5[udp/5000]\"", "\"10.1.0.0/16[udp]\"")];
        // Later fragments have no ports: all of UDP is kept.
        assert_eq!(
            shown(&child, bypass),
            [
                "4400 from 10.2.0.0/29 to 10.1.0.0/16 protocol 17 goto 4500",
                "4401 from 0.0.0.0/32 to 10.1.0.0/16 protocol 17 goto 4500",
                "4402 goto 4503",
            ]
        );
        let child = [("\"fd02::/64[udp/5000]\"", "\"fd01::/64[udp]\"")];
        let kept = shown(&child, bypass);
        assert_eq!(
            kept,
            ["4400 from fd02::/64 to fd01::/64 goto 4500", "4401 to fd01::/64 iif lo goto 4500", "4402 goto 4503",]
        );
        let discard = "[[policy]]\naction = \"discard\"\nprotocol = \"tcp\"\nremote = \"10.1.5.0/24\"\n\
                       [[policy]]\naction = \"bypass\"\nremote = \"10.1.5.9\"\n\
                       [[policy]]\naction = \"discard\"\nremote = \"10.1.6.0/24\"\n";
        assert_eq!(
            shown(&[("\"10.2.0.0/16\"", "\"10.1.0.0/16\"")], discard),
            ["4400 to 10.1.5.0/24 protocol 6 goto 4500", "4401 to 10.1.5.9/32 goto 4503"]
        );
    }

    #[test]
    fn f_11_what_cannot_be_said_exactly_crosses_the_device() {
        let text =
            "[[policy]]\naction = \"bypass\"\nremote = \"192.0.2.53\"\nprotocol = \"udp\"\nremote-port = \"0-99\"\n";
        assert!(shown(&ALL, text).is_empty(), "{:?}", shown(&ALL, text));
        let types = PortRange { start: 0x0800, end: 0x0800 };
        assert_eq!(ports(1, types), None, "types of ICMP are no ports");
        let many: String = (0..130)
            .map(|number| format!("[[policy]]\naction = \"bypass\"\nremote = \"192.0.2.{number}\"\n"))
            .collect();
        let lines = shown(&ALL, &many);
        assert_eq!(lines.len(), MOST);
        assert_eq!(lines[MOST - 1], "4499 to 192.0.2.99/32 goto 4503");
    }
}
