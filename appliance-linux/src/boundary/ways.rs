//! Where the routes of others lead.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use ipsec_core::net::AddrRange;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteProtocol, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::attributes::attribute;
use super::kernel::{MAIN, destination, families};
use super::net::{Net, is_default, merged, number};
use super::numbers::{TABLE, TABLE_OF_THE_REST};
use crate::netlink::{Netlink, Nexthops};

/// The kernel's table of our own addresses.
const LOCAL: u32 = 255;

/// Where routes of others lead, those of every table that a rule leads to.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// Links that a default route leads to: of IPv4 or not, and the index.
    pub(super) defaults: BTreeSet<(bool, u32)>,
    /// Of what is no default route and has some of the networks asked about, with the links it leads to: what comes of an
    /// address, or was named by whoever gives addresses (DHCP, a router that advertises).
    pub(super) given: BTreeMap<Net, BTreeSet<u32>>,
    /// And the rest of that.
    pub(super) others: BTreeMap<Net, BTreeSet<u32>>,
}

/// Looks where routes lead, to everywhere and into `nets`, by whatever hop; those to the link `except` are left out.
pub(super) fn ways(netlink: &mut Netlink, v6: bool, nets: &[AddrRange], except: Option<u32>) -> io::Result<Ways> {
    let (mut ways, mut nexthops) = (Ways::default(), Nexthops::default());
    for family in families(v6) {
        let v4 = family == AddressFamily::Inet;
        let nets = merged(v4, nets.iter().copied());
        let meets = |net: Net| {
            let (start, end) = (number(net.range().start()), number(net.range().end()));
            nets.get(nets.partition_point(|(_, last)| *last < start)).is_some_and(|(first, _)| *first <= end)
        };
        // struct rtmsg: family, length of the destination, ...
        let wanted = |route: &[u8]| {
            let Some(prefix) = route.get(1).copied() else { return true };
            let to = route.get(12..).and_then(|attributes| attribute(attributes, 1)); // RTA_DST
            let to = to.and_then(|octets| match octets.first_chunk().filter(|_| !v4) {
                Some(octets) => Some(IpAddr::from(<[u8; 16]>::clone(octets))),
                None => octets.first_chunk().map(|octets| IpAddr::from(<[u8; 4]>::clone(octets))),
            });
            is_default(v4, prefix) || to.and_then(|to| Net::new(to, prefix)).is_some_and(meets)
        };
        let mut tables: BTreeSet<u32> = netlink.rules(family)?.iter().filter_map(leads_to).collect();
        tables.insert(MAIN);
        for table in tables {
            for route in netlink.routes_of_all(family, table, wanted)? {
                let cached = route.header.flags.bits() & libc::RTM_F_CLONED != 0;
                let nowhere =
                    matches!(route.header.kind, RouteType::Unreachable | RouteType::BlackHole | RouteType::Prohibit);
                let leads = route.header.kind == RouteType::Unicast || nowhere && table == MAIN;
                if !leads || cached {
                    continue;
                }
                let Some(net) = destination(&route) else { continue };
                let given =
                    matches!(route.header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra | RouteProtocol::Dhcp);
                let nets = if given { &mut ways.given } else { &mut ways.others };
                // Of IPv6 the kernel names the loopback interface there.
                let mut links = if nowhere { BTreeSet::new() } else { netlink.links_of(&route, &mut nexthops)? };
                if except.is_some_and(|except| links.remove(&except)) && links.is_empty() {
                    continue;
                }
                if is_default(v4, net.prefix) {
                    ways.defaults.extend(links.into_iter().map(|link| (v4, link)));
                } else {
                    nets.entry(net).or_default().extend(links);
                }
            }
        }
    }
    Ok(ways)
}

/// The table of others that a rule leads to.
fn leads_to(rule: &RuleMessage) -> Option<u32> {
    let table = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let table = table.unwrap_or(u32::from(rule.header.table));
    let theirs = rule.header.action == RuleAction::ToTable && ![0, LOCAL, TABLE, TABLE_OF_THE_REST].contains(&table);
    theirs.then_some(table)
}
