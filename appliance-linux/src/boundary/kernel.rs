//! Routes and rules as the kernel has them, and the steps from there to the plan: new ones first, stale ones last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};

use super::net::{Interfaces, Net};
use super::numbers::{AROUND, BEYOND, MARK, OWN, TABLE, TABLE_OF_THE_REST};
use super::plan::{Plan, Seen};
use super::routes::{Lead, Route, Target, Then};
use crate::netlink::{Netlink, family, ip};

/// Who made a route or a rule, as `ip route` and `ip rule` show it.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(45);
/// The metric of the route that is left when the TUN device is gone.
const LAST_RESORT: u32 = 0x7fff_ffff;

/// The kernel's own table.
pub(super) const MAIN: u32 = 254;
/// Where the kernel lets routing rules have a packet of our own come in.
const LOOPBACK: &str = "lo";

/// What the steps were.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Routes and rules that were missing and are there now.
    pub(super) added: Vec<Added>,
    /// What the kernel refused.
    pub(super) refused: Vec<Refusal>,
    /// What is ours and not in the plan.
    pub(super) stale: Stale,
}

/// Rules and routes that go once those that take their place are there.
#[derive(Debug, Default)]
pub(super) struct Stale {
    rules: Vec<RuleMessage>,
    routes: Vec<RouteMessage>,
}

impl Stale {
    /// Of that what leads around our device. Without it more goes to the device, never less.
    pub(super) fn around(mut self) -> Self {
        self.routes.clear();
        self.rules.retain(|found| (AROUND..TABLE).contains(&priority(found)));
        self
    }
}

/// Something that was missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    Route(Route),
    Lead(Lead),
}

/// What the kernel refused, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What is missing for it, unless it is something that should not be there.
    pub(super) missing: Option<Added>,
    pub(super) what: String,
    pub(super) v4: bool,
    pub(super) error: io::Error,
}

impl Refusal {
    fn of(missing: Added, v4: bool, error: io::Error) -> Self {
        Self { missing: Some(missing), what: missing.to_string(), v4, error }
    }
}

impl std::fmt::Display for Added {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Route((_, net, Target::Tun)) => write!(f, "route to {net}"),
            Self::Route((_, net, Target::Unreachable)) => write!(f, "unreachable {net}"),
            Self::Route((_, net, Target::Throw)) => write!(f, "throw {net}"),
            Self::Lead(lead) => write!(f, "rule {} of IPv{}", lead.priority, if lead.v4 { 4 } else { 6 }),
        }
    }
}

/// Gives the kernel what it lacks of the plan. `tun` is the index of our device, if it is there.
///
/// # Errors
/// When the kernel does not even tell what it has. What it refuses to change stands in the result.
pub(super) fn complete(netlink: &mut Netlink, plan: &Plan, seen: &Seen, tun: Option<u32>) -> io::Result<Steps> {
    let mut steps = Steps::default();
    let mut held = BTreeMap::new();
    for found in tables(netlink, seen.v6)? {
        match recognise(&found, tun) {
            Some((route, source)) if plan.routes.contains_key(&route) => _ = held.insert(route, source),
            _ => steps.stale.routes.push(found),
        }
    }
    for (route, source) in &plan.routes {
        let (_, net, target) = route;
        let present = held.get(route);
        if present == Some(source) || *target == Target::Tun && tun.is_none() {
            continue;
        }
        let put = match netlink.put_route(message(*route, *source, tun)) {
            // An address that may not be sent from yet. Its own message, when it may, brings us back.
            Err(_) if source.is_some() && present == Some(&None) => continue,
            Err(_) if source.is_some() => netlink.put_route(message(*route, None, tun)),
            done => done,
        };
        match put {
            Ok(()) if present.is_none() => steps.added.push(Added::Route(*route)),
            Ok(()) => {}
            Err(error) => {
                steps.refused.push(Refusal::of(Added::Route(*route), net.is_ipv4(), error));
            }
        }
    }
    let mut led = Vec::new();
    for found in rules(netlink, seen.v6)? {
        match lead_of(&found) {
            Some(lead) if plan.leads.contains(&lead) && !led.contains(&lead) => led.push(lead),
            _ => steps.stale.rules.push(found),
        }
    }
    for lead in plan.leads.iter().filter(|lead| !led.contains(lead)) {
        match netlink.add_rule(rule(*lead)) {
            Ok(()) => steps.added.push(Added::Lead(*lead)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                steps.refused.push(Refusal::of(Added::Lead(*lead), lead.v4, error));
            }
        }
    }
    Ok(steps)
}

/// Takes away what is in no plan any more. One that stays where it is not wanted keeps none of the others. Returns what the
/// kernel refused.
pub(super) fn clear(netlink: &mut Netlink, stale: Stale) -> Vec<Refusal> {
    let mut refused = Vec::new();
    // The last one first: as long as a rule leads around our device, those before it keep from it what they kept.
    for found in stale.rules.into_iter().rev() {
        let v4 = found.header.family == AddressFamily::Inet;
        if let Err(error) = gone(netlink.remove_rule(found)) {
            refused.push(Refusal { missing: None, what: "a rule too many".to_owned(), v4, error });
        }
    }
    for found in stale.routes {
        // A route that was replaced meanwhile is gone.
        let what = destination(&found).map_or_else(String::new, |net| net.to_string());
        let v4 = found.header.address_family == AddressFamily::Inet;
        if let Err(error) = gone(netlink.remove_route(found)) {
            refused.push(Refusal { missing: None, what: format!("the old route to {what}"), v4, error });
        }
    }
    refused
}

/// Removes everything of ours: rules, then routes. Returns what was blocked.
pub(super) fn remove_all(netlink: &mut Netlink) -> io::Result<Vec<Net>> {
    for found in rules(netlink, has_ipv6())? {
        gone(netlink.remove_rule(found))?;
    }
    let mut nets = Vec::new();
    for found in tables(netlink, has_ipv6())? {
        if found.header.kind == RouteType::Unreachable {
            nets.extend(destination(&found));
        }
        gone(netlink.remove_route(found))?;
    }
    Ok(nets)
}

/// Whether there is nothing of ours.
pub(super) fn is_bare(netlink: &mut Netlink) -> io::Result<bool> {
    Ok(rules(netlink, has_ipv6())?.is_empty() && tables(netlink, has_ipv6())?.is_empty())
}

/// The networks that the kernel keeps from leaving when our device is not there.
pub(super) fn blocked(netlink: &mut Netlink) -> io::Result<Vec<Net>> {
    let found = tables(netlink, has_ipv6())?;
    Ok(found.iter().filter(|route| route.header.kind == RouteType::Unreachable).filter_map(destination).collect())
}

/// The same networks, each with those inside it that its table leaves to the machine's others.
pub(super) fn kept(netlink: &mut Netlink) -> io::Result<Vec<(Net, Vec<Net>)>> {
    let found = tables(netlink, has_ipv6())?;
    let routes: Vec<_> = found.iter().filter_map(|route| recognise(route, None)).map(|(route, _)| route).collect();
    let of = |wanted| routes.iter().filter(move |(.., target)| *target == wanted).map(|(table, net, _)| (*table, *net));
    let thrown: BTreeSet<_> = of(Target::Throw).collect();
    let inside = |(table, net): (u32, Net)| {
        let behind = thrown
            .range((table, net)..)
            .take_while(|(other, throw)| *other == table && net.range().contains(throw.addr));
        behind.map(|(_, throw)| *throw).filter(|throw| net.covers(*throw)).collect()
    };
    Ok(of(Target::Unreachable).map(|route| (route.1, inside(route))).collect())
}

/// What we put into our tables. What others put there is theirs: it can make a black hole, and the guard no leak.
pub(super) fn tables(netlink: &mut Netlink, v6: bool) -> io::Result<Vec<RouteMessage>> {
    let mut found = Vec::new();
    for family in families(v6) {
        for table in [TABLE, TABLE_OF_THE_REST] {
            found.extend(netlink.routes(family, table, PROTOCOL)?);
        }
    }
    // The kernel caches decisions of IPv6 as routes in some versions; they go by themselves.
    found.retain(|route| route.header.flags.bits() & libc::RTM_F_CLONED == 0);
    Ok(found)
}

/// Every rule with our mark of origin and one of our priorities.
fn rules(netlink: &mut Netlink, v6: bool) -> io::Result<Vec<RuleMessage>> {
    let mut found = Vec::new();
    for family in families(v6) {
        let rules = netlink.rules(family)?;
        found.extend(rules.into_iter().filter(|rule| {
            let ours = rule.attributes.contains(&RuleAttribute::Protocol(PROTOCOL));
            ours && (OWN..=BEYOND).contains(&priority(rule))
        }));
    }
    Ok(found)
}

fn priority(rule: &RuleMessage) -> u32 {
    let priority = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    // The kernel tells no priority of the one at 0.
    priority.unwrap_or(0)
}

/// The priorities of rules that others made and that come before the last of ours that leads to the device, or beside it;
/// the kernel's own for its local addresses is none.
pub(super) fn foreign_before(netlink: &mut Netlink) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for family in families(has_ipv6()) {
        let rules = netlink.rules(family)?;
        let (ours, others): (Vec<_>, Vec<_>) =
            rules.iter().partition(|rule| rule.attributes.contains(&RuleAttribute::Protocol(PROTOCOL)));
        let lead = |rule: &&&RuleMessage| rule.header.action == RuleAction::ToTable && priority(rule) < BEYOND;
        let last = ours.iter().filter(lead).map(|rule| priority(rule)).max().unwrap_or(TABLE);
        let before = others.into_iter().map(priority).filter(|priority| (1..=last).contains(priority));
        found.extend(before.map(|priority| priority.to_string()));
    }
    Ok(found)
}

/// The link that our routes lead to.
pub(super) fn device(netlink: &mut Netlink) -> io::Result<Option<u32>> {
    let through = |route: RouteMessage| {
        route.attributes.into_iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(link) => Some(link),
            _ => None,
        })
    };
    let routes = tables(netlink, has_ipv6())?.into_iter();
    Ok(routes.filter(|route| route.header.kind == RouteType::Unicast).find_map(through))
}

/// Whether the kernel has IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

pub(super) fn families(v6: bool) -> impl Iterator<Item = AddressFamily> {
    [AddressFamily::Inet, AddressFamily::Inet6].into_iter().take(if v6 { 2 } else { 1 })
}

/// Removing what is not there (any more) is no error.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT | libc::ENODEV)) => Ok(()),
        other => other,
    }
}

fn message((table, net, target): Route, source: Option<IpAddr>, tun: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(net.addr);
    message.header.destination_prefix_length = net.prefix;
    message.header.protocol = PROTOCOL;
    let (kind, metric) = match target {
        Target::Tun => (RouteType::Unicast, 1),
        Target::Unreachable => (RouteType::Unreachable, LAST_RESORT),
        Target::Throw => (RouteType::Throw, 1),
    };
    message.header.kind = kind;
    message.attributes = vec![
        RouteAttribute::Destination(net.addr.into()),
        RouteAttribute::Table(table),
        RouteAttribute::Priority(metric),
    ];
    if target == Target::Tun {
        // Where somebody makes a route by a gateway (`ip route add default via …`), the kernel looks for the gateway's interface
        // among routes of IPv4 with the scope of a link alone: it passes by every `throw` there. A gateway inside a remote
        // network would be behind our device.
        message.header.scope = RouteScope::Universe;
        message.attributes.extend(tun.map(RouteAttribute::Oif));
        message.attributes.extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
    }
    message
}

pub(super) fn destination(found: &RouteMessage) -> Option<Net> {
    let addr = found.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(addr) => ip(addr),
        _ => None,
    });
    let addr = addr.or(match found.header.address_family {
        AddressFamily::Inet => Some(Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    })?;
    Net::new(addr, found.header.destination_prefix_length)
}

/// A route of ours as the kernel tells it; `None`: it is none, or not as we make them.
fn recognise(found: &RouteMessage, tun: Option<u32>) -> Option<(Route, Option<IpAddr>)> {
    // Those of older versions had the scope of a link.
    if found.header.protocol != PROTOCOL || found.header.scope != RouteScope::Universe {
        return None;
    }
    let (mut table, mut metric, mut through, mut source) = (u32::from(found.header.table), 0, None, None);
    for attribute in &found.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Oif(link) => through = Some(*link),
            RouteAttribute::PrefSource(addr) => source = ip(addr),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => return None,
            _ => {}
        }
    }
    let target = match (found.header.kind, metric) {
        (RouteType::Unicast, 1) if through.is_some() && through == tun => Target::Tun,
        (RouteType::Unreachable, LAST_RESORT) => Target::Unreachable,
        (RouteType::Throw, 1) => Target::Throw,
        _ => return None,
    };
    Some(((table, destination(found)?, target), source))
}

pub(super) fn rule(lead: Lead) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = if lead.v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    rule.attributes = vec![RuleAttribute::Priority(lead.priority), RuleAttribute::Protocol(PROTOCOL)];
    rule.header.action = match lead.then {
        Then::Table(table) => {
            rule.attributes.push(RuleAttribute::Table(table));
            RuleAction::ToTable
        }
        Then::Goto(priority) => {
            rule.attributes.push(RuleAttribute::Goto(priority));
            RuleAction::Goto
        }
        Then::Nothing => RuleAction::Nop,
    };
    if lead.unmarked {
        rule.header.flags = RuleFlags::Invert;
        rule.attributes.push(RuleAttribute::FwMark(MARK));
    }
    if lead.own {
        rule.attributes.push(RuleAttribute::Iifname(LOOPBACK.to_owned()));
    }
    if let Some(from) = lead.from {
        rule.header.src_len = from.prefix;
        rule.attributes.push(RuleAttribute::Source(from.addr));
    }
    if let Some(to) = lead.to {
        rule.header.dst_len = to.prefix;
        rule.attributes.push(RuleAttribute::Destination(to.addr));
    }
    if lead.protocol != 0 {
        rule.attributes.push(RuleAttribute::IpProtocol(lead.protocol.into()));
    }
    let ports = |(start, end)| RulePortRange { start, end };
    rule.attributes.extend(lead.source_ports.map(ports).map(RuleAttribute::SourcePortRange));
    rule.attributes.extend(lead.destination_ports.map(ports).map(RuleAttribute::DestinationPortRange));
    rule
}

/// A rule of ours as the kernel tells it; `None`: not as we make them.
fn lead_of(found: &RuleMessage) -> Option<Lead> {
    let v4 = found.header.family == AddressFamily::Inet;
    let mut lead = Lead { unmarked: found.header.flags.contains(RuleFlags::Invert), ..Lead::new(v4, 0, Then::Nothing) };
    let (mut mark, mut table, mut goto) = (None, u32::from(found.header.table), None);
    let ports = |range: &RulePortRange| Some((range.start, range.end));
    for attribute in &found.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => lead.priority = *priority,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Goto(priority) => goto = Some(*priority),
            RuleAttribute::Source(addr) => lead.from = Net::new(*addr, found.header.src_len),
            RuleAttribute::Destination(addr) => lead.to = Net::new(*addr, found.header.dst_len),
            RuleAttribute::IpProtocol(protocol) => lead.protocol = (*protocol).into(),
            RuleAttribute::SourcePortRange(range) => lead.source_ports = ports(range),
            RuleAttribute::DestinationPortRange(range) => lead.destination_ports = ports(range),
            RuleAttribute::FwMark(found) => mark = Some(*found),
            RuleAttribute::FwMask(mask) if *mask != u32::MAX => return None,
            RuleAttribute::Iifname(name) if name == LOOPBACK => lead.own = true,
            RuleAttribute::Iifname(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::L3MDev(_)
            | RuleAttribute::UidRange(_) => return None,
            _ => {}
        }
    }
    lead.then = match found.header.action {
        RuleAction::ToTable => Then::Table(table),
        RuleAction::Goto => Then::Goto(goto?),
        RuleAction::Nop => Then::Nothing,
        _ => return None,
    };
    let marked = if lead.unmarked { mark == Some(MARK) } else { mark.is_none() };
    marked.then_some(lead)
}

/// Whether nft reads no more than a name in it.
pub(super) fn is_plain(name: &str) -> bool {
    name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-@".contains(&octet))
}

/// The name of an interface, if it is a plain one.
pub(super) fn plain_name(link: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(link).ok()?.into_string().ok()?;
    is_plain(&name).then_some(name)
}

/// Networks of this machine's interfaces as the kernel's own table has them, our device's excepted.
pub(super) fn attached(netlink: &mut Netlink, v6: bool, except: Option<u32>) -> io::Result<Interfaces> {
    let mut nets = Interfaces::new();
    for family in families(v6) {
        for protocol in [RouteProtocol::Kernel, RouteProtocol::Ra] {
            for route in netlink.routes(family, MAIN, protocol)? {
                let mut through = None;
                let mut beyond = false;
                for attribute in &route.attributes {
                    match attribute {
                        RouteAttribute::Oif(link) => through = Some(*link),
                        RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
                            beyond = true
                        }
                        _ => {}
                    }
                }
                let direct = route.header.kind == RouteType::Unicast && !beyond && through.is_some();
                if direct
                    && through != except
                    && route.header.destination_prefix_length > 0
                    && let (Some(net), Some(name)) = (destination(&route), through.and_then(plain_name))
                {
                    nets.entry(net).or_default().insert(name);
                }
            }
        }
    }
    Ok(nets)
}
