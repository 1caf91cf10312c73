//! The routes that bring protected traffic to the TUN device, and what keeps it from leaving in clear without it.
//!
//! Everything lives in a routing table of our own, so that it is seen, and removed, as one thing:
//! * a rule sends everything into the table except what carries our firewall mark: IKE, ESP and what a bypass policy
//!   lets through, else they would come back to us for ever;
//! * per remote selector a route to the TUN device, and the same route as `unreachable` behind it: should the daemon
//!   die, the device and its routes vanish but the second one stays, and nothing leaves in clear;
//! * per local selector a `throw`, so that our own networks stay reachable where a remote selector covers them too.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use ipsec_core::net::AddrRange;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use crate::netlink::{Netlink, family};

/// Our routing table, and the priority of the rule that leads there.
pub(crate) const TABLE: u32 = 4500;
/// The firewall mark of our own packets.
pub(crate) const MARK: u32 = 0x4500;
/// Who made a route, as `ip route` shows it.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(45);
/// The metric of the route that is left when the TUN device is gone.
const LAST_RESORT: u32 = 0x7fff_ffff;

/// A network in the notation that routes need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Net {
    addr: IpAddr,
    prefix: u8,
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

/// What a route in our table does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// To the TUN device.
    Tun,
    /// Nowhere: the sender is told.
    Unreachable,
    /// On to the next routing rule.
    Throw,
}

/// The routes of our table, with the address of ours that a packet of our own is best sent from.
type Table = BTreeMap<(Net, Target), Option<IpAddr>>;

/// What one Child SA's configuration asks of the routing table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    /// Networks on our side.
    pub(crate) local: Vec<AddrRange>,
    /// Networks behind the peer.
    pub(crate) remote: Vec<AddrRange>,
}

/// The routes that are installed; removed by [`Routes::clear`], not on drop: after a crash the last resort is to stay.
pub(crate) struct Routes {
    tun: u32,
    installed: Table,
}

impl Routes {
    /// Removes what an earlier run may have left, then leads traffic into our table.
    pub(crate) fn start(netlink: &mut Netlink, tun: u32) -> io::Result<Self> {
        remove_all(netlink)?;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            netlink.add_rule(rule(family))?;
        }
        Ok(Self { tun, installed: Table::new() })
    }

    /// Makes the table what `reaches` ask for, touching only what differs. New routes come before old ones go, so
    /// that no network is without a route in between.
    pub(crate) fn apply(&mut self, netlink: &mut Netlink, reaches: &[Reach]) -> io::Result<()> {
        let ours: Vec<IpAddr> = netlink.addresses()?.into_iter().map(|local| local.addr).collect();
        let wanted = plan(reaches, &ours);
        for (route, source) in &wanted {
            if self.installed.get(route) != Some(source) {
                netlink.put_route(self.message(*route, *source))?;
                self.installed.insert(*route, *source);
            }
        }
        for (route, source) in &self.installed {
            if !wanted.contains_key(route) {
                gone(netlink.remove_route(self.message(*route, *source)))?;
            }
        }
        self.installed = wanted;
        Ok(())
    }

    /// Removes routes and rules.
    pub(crate) fn clear(self, netlink: &mut Netlink) -> io::Result<()> {
        remove_all(netlink)
    }

    fn message(&self, (net, target): (Net, Target), source: Option<IpAddr>) -> RouteMessage {
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
            RouteAttribute::Table(TABLE),
            RouteAttribute::Priority(metric),
        ];
        if target == Target::Tun {
            message.header.scope = RouteScope::Link;
            message.attributes.push(RouteAttribute::Oif(self.tun));
            message.attributes.extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
        }
        message
    }
}

/// Removes every route of our table and every rule that leads there; nothing there is fine.
fn remove_all(netlink: &mut Netlink) -> io::Result<()> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for found in netlink.rules(family)? {
            if found.attributes.contains(&RuleAttribute::Table(TABLE)) {
                gone(netlink.remove_rule(found))?;
            }
        }
    }
    for found in netlink.routes(TABLE)? {
        gone(netlink.remove_route(found))?;
    }
    Ok(())
}

/// Removing what is not there (any more) is no error.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT | libc::ENODEV)) => Ok(()),
        other => other,
    }
}

fn rule(family: AddressFamily) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.action = RuleAction::ToTable;
    rule.header.flags = RuleFlags::Invert;
    rule.attributes = vec![
        RuleAttribute::Priority(TABLE),
        RuleAttribute::FwMark(MARK),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Protocol(PROTOCOL),
    ];
    rule
}

/// The routes for these selectors on a machine with the addresses `ours`.
///
/// A child that connects everything with everything gets none: with such selectors (route-based VPNs) the operator's own
/// routes through the TUN device decide.
fn plan(reaches: &[Reach], ours: &[IpAddr]) -> Table {
    let mut table = Table::new();
    for reach in reaches {
        for v4 in [true, false] {
            let local: Vec<AddrRange> = reach.local.iter().copied().filter(|range| range.is_ipv4() == v4).collect();
            let whole = if v4 { AddrRange::ANY_V4 } else { AddrRange::ANY_V6 };
            let source =
                ours.iter().copied().find(|addr| !addr.is_loopback() && local.iter().any(|net| net.contains(*addr)));
            for remote in reach.remote.iter().filter(|range| range.is_ipv4() == v4) {
                if *remote == whole && local.contains(&whole) {
                    continue;
                }
                for net in prefixes(remote) {
                    table.entry((net, Target::Tun)).or_insert(source);
                    table.insert((net, Target::Unreachable), None);
                }
                let covered = local.iter().filter(|local| *local != remote).filter_map(|local| local.intersect(remote));
                for net in covered.flat_map(|range| prefixes(&range)) {
                    table.insert((net, Target::Throw), None);
                }
            }
        }
    }
    // Where a network on our side is exactly what another child reaches, the tunnel wins.
    let tunnelled: BTreeSet<Net> =
        table.keys().filter(|(_, target)| *target == Target::Tun).map(|(net, _)| *net).collect();
    table.retain(|(net, target), _| *target != Target::Throw || !tunnelled.contains(net));
    table
}

/// The fewest networks that make up a range of addresses.
pub(crate) fn prefixes(range: &AddrRange) -> Vec<Net> {
    let (bits, start, end) = match (range.start(), range.end()) {
        (IpAddr::V4(start), IpAddr::V4(end)) => (32, u128::from(start.to_bits()), u128::from(end.to_bits())),
        (IpAddr::V6(start), IpAddr::V6(end)) => (128, start.to_bits(), end.to_bits()),
        _ => return Vec::new(),
    };
    let mut nets = Vec::new();
    let mut first = start;
    loop {
        // The largest block that begins at `first` and does not pass `end`.
        let mut host = first.trailing_zeros().min(bits);
        while host > 0 && block_end(first, host) > end {
            host -= 1;
        }
        let addr = if bits == 32 {
            IpAddr::V4(u32::try_from(first).unwrap_or(u32::MAX).into())
        } else {
            IpAddr::V6(first.into())
        };
        nets.push(Net { addr, prefix: u8::try_from(bits - host).unwrap_or(u8::MAX) });
        match block_end(first, host).checked_add(1) {
            Some(next) if next <= end => first = next,
            _ => return nets,
        }
    }
}

fn block_end(first: u128, host_bits: u32) -> u128 {
    first | 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> AddrRange {
        let (addr, prefix) = text.split_once('/').unwrap();
        AddrRange::prefix(addr.parse().unwrap(), prefix.parse().unwrap()).unwrap()
    }

    fn shown(table: &Table) -> Vec<String> {
        table.iter().map(|((net, target), source)| format!("{net} {target:?} {source:?}")).collect()
    }

    #[test]
    fn a_range_becomes_the_fewest_prefixes() {
        let range = |start: &str, end: &str| AddrRange::new(start.parse().unwrap(), end.parse().unwrap()).unwrap();
        let shown = |range| prefixes(&range).iter().map(Net::to_string).collect::<Vec<_>>();
        assert_eq!(shown(net("10.1.0.0/16")), ["10.1.0.0/16"]);
        assert_eq!(shown(range("10.0.0.1", "10.0.0.6")), ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]);
        assert_eq!(shown(AddrRange::ANY_V4), ["0.0.0.0/0"]);
        assert_eq!(shown(AddrRange::ANY_V6), ["::/0"]);
        assert_eq!(shown(range("255.255.255.254", "255.255.255.255")), ["255.255.255.254/31"]);
        assert_eq!(shown(range("fd00::", "fd00::1:ffff")), ["fd00::/111"]);
    }

    #[test]
    fn atk_59_every_route_to_the_tunnel_has_an_unreachable_one_behind_it() {
        let reach = Reach { local: vec![net("10.2.0.0/16")], remote: vec![net("10.1.0.0/16"), net("10.3.0.0/16")] };
        let ours = ["127.0.0.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), "10.2.0.1".parse().unwrap()];
        assert_eq!(
            shown(&plan(&[reach], &ours)),
            [
                "10.1.0.0/16 Tun Some(10.2.0.1)",
                "10.1.0.0/16 Unreachable None",
                "10.3.0.0/16 Tun Some(10.2.0.1)",
                "10.3.0.0/16 Unreachable None",
            ]
        );
    }

    #[test]
    fn a_remote_network_that_covers_ours_leaves_ours_reachable() {
        let reach = Reach { local: vec![net("10.2.0.0/16")], remote: vec![net("10.0.0.0/8")] };
        assert_eq!(
            shown(&plan(&[reach], &[])),
            ["10.0.0.0/8 Tun None", "10.0.0.0/8 Unreachable None", "10.2.0.0/16 Throw None"]
        );
    }

    #[test]
    fn two_children_to_one_network_share_a_route() {
        let first = Reach { local: vec![net("10.2.0.0/24")], remote: vec![net("10.1.0.0/16")] };
        let second = Reach { local: vec![net("10.4.0.0/24")], remote: vec![net("10.1.0.0/16")] };
        let ours = ["10.4.0.1".parse().unwrap()];
        assert_eq!(plan(&[first, second], &ours).len(), 2);
    }

    #[test]
    fn everything_to_everything_is_left_to_the_operators_routes() {
        let reach = Reach { local: vec![net("0.0.0.0/0")], remote: vec![net("0.0.0.0/0")] };
        assert!(plan(&[reach], &[]).is_empty());
    }
}
