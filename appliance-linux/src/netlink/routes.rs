//! Routes and routing rules.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::net::if_::if_nametoindex;

use super::{Netlink, attribute, family, first, half, word};

/// How the kernel would send to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NextHop {
    /// The address it would send from.
    pub(crate) source: Option<IpAddr>,
    /// The index of the interface it would send through.
    pub(crate) link: u32,
}

impl Netlink {
    /// How the kernel would route a packet of our own to `remote`, one that carries the firewall mark `mark`.
    pub(crate) fn next_hop(&mut self, remote: IpAddr, mark: u32) -> io::Result<NextHop> {
        self.next_hop_from(None, remote, mark)
    }

    /// The same, of a packet that has this source already.
    pub(crate) fn next_hop_from(&mut self, source: Option<IpAddr>, remote: IpAddr, mark: u32) -> io::Result<NextHop> {
        self.route_to(question(source, remote, mark))
    }

    /// The same, of a packet of a socket that is bound to the interface with the index `link`.
    ///
    /// # Errors
    /// When no route leads through it: the kernel would take any IPv4 address for one on the link then.
    pub(crate) fn next_hop_through(
        &mut self,
        link: u32,
        source: Option<IpAddr>,
        remote: IpAddr,
        mark: u32,
    ) -> io::Result<NextHop> {
        let mut message = question(source, remote, mark);
        message.attributes.push(RouteAttribute::Oif(link));
        let mut nexthops = Nexthops::default();
        let mut leads = false;
        for route in self.matching(message.clone())? {
            leads |= self.links_of(&route, &mut nexthops)?.contains(&link);
        }
        match leads {
            true => self.route_to(message),
            false => Err(io::ErrorKind::NetworkUnreachable.into()),
        }
    }

    /// The same, of a packet that leaves through one of these interfaces only, if any are named: the one that the kernel
    /// would choose if that is among them, else the first that a route leads through.
    pub(crate) fn next_hop_outside(
        &mut self,
        outside: &[String],
        source: Option<IpAddr>,
        remote: IpAddr,
        mark: u32,
    ) -> io::Result<NextHop> {
        let links: Vec<u32> = outside.iter().filter_map(|name| if_nametoindex(name.as_str()).ok()).collect();
        let chosen = self.next_hop_from(source, remote, mark);
        if outside.is_empty() || chosen.as_ref().is_ok_and(|hop| links.contains(&hop.link)) {
            return chosen;
        }
        let mut why = io::Error::from(io::ErrorKind::NetworkUnreachable);
        for link in links {
            match self.next_hop_through(link, source, remote, mark) {
                Ok(hop) => return Ok(hop),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// The route that leads such a packet, as it stands in its table.
    pub(crate) fn route_from(
        &mut self,
        source: Option<IpAddr>,
        remote: IpAddr,
        mark: u32,
    ) -> io::Result<Option<RouteMessage>> {
        Ok(self.matching(question(source, remote, mark))?.into_iter().next())
    }

    fn matching(&mut self, mut message: RouteMessage) -> io::Result<Vec<RouteMessage>> {
        message.header.flags |= RouteFlags::FibMatch;
        if message.header.address_family == AddressFamily::Inet {
            // Of IPv6 the kernel says the table in any case, and does not take this.
            message.header.flags |= RouteFlags::LookupTable;
        }
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_ACK)?;
        let routes = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        Ok(routes.collect())
    }

    fn route_to(&mut self, message: RouteMessage) -> io::Result<NextHop> {
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_ACK)?;
        let mut source = None;
        let mut link = None;
        for answer in answers {
            let RouteNetlinkMessage::NewRoute(route) = answer else { continue };
            for attribute in route.attributes {
                match attribute {
                    RouteAttribute::PrefSource(address) => source = ip(&address),
                    RouteAttribute::Oif(index) => link = Some(index),
                    _ => {}
                }
            }
        }
        let link = link.ok_or_else(|| io::Error::from(io::ErrorKind::NetworkUnreachable))?;
        Ok(NextHop { source, link })
    }

    /// The routes of a table that `protocol` made.
    pub(crate) fn routes(
        &mut self,
        family: AddressFamily,
        table: u32,
        protocol: RouteProtocol,
    ) -> io::Result<Vec<RouteMessage>> {
        let mut found = self.table(family, table, protocol, |_| true)?;
        found.retain(|route| route.header.protocol == protocol);
        Ok(found)
    }

    /// Those routes of a table, by whomever, whose message (struct rtmsg and attributes) is to be looked at: of hundreds of
    /// thousands few are.
    pub(crate) fn routes_of_all(
        &mut self,
        family: AddressFamily,
        table: u32,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<RouteMessage>> {
        self.table(family, table, RouteProtocol::Unspec, wanted)
    }

    fn table(
        &mut self,
        family: AddressFamily,
        table: u32,
        protocol: RouteProtocol,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<RouteMessage>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.protocol = protocol;
        message.attributes.push(RouteAttribute::Table(table));
        let answers = match self.ask_for(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, wanted) {
            // There is no such table yet.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
            answers => answers?,
        };
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route)
                    if route_table(&route) == table && route.header.address_family == family =>
                {
                    Some(route)
                }
                _ => None,
            })
            .collect())
    }

    /// The interfaces that a route leads through, by whichever hop. One whose hops are an object of its own (`nhid`) may name
    /// nothing but its number (net.ipv4.nexthop_compat_mode = 0): these are asked for once, into `nexthops`.
    pub(crate) fn links_of(&mut self, route: &RouteMessage, nexthops: &mut Nexthops) -> io::Result<BTreeSet<u32>> {
        let links = links(route);
        let number = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::NhId(number) if links.is_empty() => Some(*number),
            _ => None,
        });
        let Some(number) = number else { return Ok(links) };
        if nexthops.0.is_none() {
            nexthops.0 = Some(self.nexthops()?);
        }
        Ok(nexthops.0.as_ref().and_then(|all| all.get(&number)).cloned().unwrap_or_default())
    }

    /// The objects that hops of routes can be, by their numbers, with the interfaces that they lead through.
    fn nexthops(&mut self) -> io::Result<BTreeMap<u32, BTreeSet<u32>>> {
        // linux/nexthop.h, of which nothing here reads the messages: struct nhmsg, then NHA_ID, NHA_GROUP and NHA_OIF.
        const GET: u16 = 106;
        const NEW: u16 = 104;
        const HEAD: usize = 8;
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = 24_u32.to_ne_bytes().to_vec();
        request.extend(GET.to_ne_bytes());
        request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend([0; 4 + HEAD]);
        self.socket.send(&request, 0)?;
        let (mut single, mut groups) = (BTreeMap::<u32, BTreeSet<u32>>::new(), Vec::new());
        'answers: loop {
            let datagram = self.receive()?;
            let mut rest = datagram.as_slice();
            while let Some((sequence, beyond)) = first(rest) {
                let kind = half(rest, 4).unwrap_or_default();
                let body = rest.get(16..rest.len() - beyond.len()).unwrap_or_default();
                rest = beyond;
                match i32::from(kind) {
                    _ if sequence != self.sequence => {}
                    // The end of a dump has a code too.
                    libc::NLMSG_DONE if word(body, 0).unwrap_or_default() == 0 => break 'answers,
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => match word(body, 0).map(u32::cast_signed) {
                        // A kernel without them has none.
                        Some(code) if [-libc::EOPNOTSUPP, -libc::EINVAL].contains(&code) && single.is_empty() => {
                            break 'answers;
                        }
                        code => return Err(io::Error::from_raw_os_error(code.unwrap_or_default().saturating_neg())),
                    },
                    _ if kind == NEW => {
                        let said = |wanted| attribute(body.get(HEAD..)?, wanted);
                        let Some(number) = said(1).and_then(|octets| word(octets, 0)) else { continue };
                        let link = said(5).and_then(|octets| word(octets, 0));
                        single.entry(number).or_default().extend(link);
                        let members = said(2).unwrap_or_default().chunks_exact(8).filter_map(|member| word(member, 0));
                        groups.push((number, members.collect::<Vec<_>>()));
                    }
                    _ => {}
                }
            }
        }
        for (number, members) in groups {
            let links: BTreeSet<u32> =
                members.iter().filter_map(|member| single.get(member)).flatten().copied().collect();
            single.entry(number).or_default().extend(links);
        }
        Ok(single)
    }

    /// Every routing rule of a family.
    pub(crate) fn rules(&mut self, family: AddressFamily) -> io::Result<Vec<RuleMessage>> {
        let mut message = RuleMessage::default();
        message.header.family = family;
        let answers = self.ask(RouteNetlinkMessage::GetRule(message), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRule(rule) => Some(rule),
                _ => None,
            })
            .collect())
    }

    /// Adds a route, or changes the one to the same network with the same metric.
    pub(crate) fn put_route(&mut self, route: RouteMessage) -> io::Result<()> {
        self.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes a route.
    pub(crate) fn remove_route(&mut self, route: RouteMessage) -> io::Result<()> {
        self.change(RouteNetlinkMessage::DelRoute(route), 0)
    }

    /// Adds a rule; one that is there already is an error (`AlreadyExists`).
    pub(crate) fn add_rule(&mut self, rule: RuleMessage) -> io::Result<()> {
        self.change(RouteNetlinkMessage::NewRule(rule), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Removes a rule.
    pub(crate) fn remove_rule(&mut self, rule: RuleMessage) -> io::Result<()> {
        self.change(RouteNetlinkMessage::DelRule(rule), 0)
    }
}

/// Asks for the route of a packet, from `source` if it has one already.
fn question(source: Option<IpAddr>, remote: IpAddr, mark: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(remote);
    message.header.destination_prefix_length = if remote.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(remote.into()));
    message.attributes.push(RouteAttribute::Mark(mark));
    if let Some(source) = source {
        message.header.source_prefix_length = message.header.destination_prefix_length;
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
    message
}

/// What the hops of routes are that name only a number; nothing as long as nobody asked.
#[derive(Debug, Default)]
pub(crate) struct Nexthops(Option<BTreeMap<u32, BTreeSet<u32>>>);

/// The interfaces that a route names.
fn links(route: &RouteMessage) -> BTreeSet<u32> {
    let hops = route.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(link) => vec![*link],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    });
    hops.collect()
}

/// The table a route is in: the attribute, as the header has room for small numbers only.
pub(crate) fn route_table(route: &RouteMessage) -> u32 {
    let attribute = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    attribute.unwrap_or(match route.header.table {
        0 => u32::from(RouteHeader::RT_TABLE_MAIN),
        table => u32::from(table),
    })
}

pub(crate) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
