//! Questions to the kernel's routing netlink, and changes through it: links, addresses, routes, rules.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::net::if_::if_nametoindex;

/// Room for what the kernel says at once: twice the most that it makes of a part of a dump.
const ROOM: usize = 64 << 10;

/// A connection to the kernel's routing netlink.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// An address of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalAddr {
    /// The address.
    pub(crate) addr: IpAddr,
    /// The length of the prefix of its network.
    pub(crate) prefix: u8,
    /// The index of its interface.
    pub(crate) link: u32,
    /// Whether packets may be sent from it: an IPv6 address may not until nobody else is found to have it.
    pub(crate) usable: bool,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    /// Whether it is switched on, with a carrier or without.
    pub(crate) up: bool,
    pub(crate) loopback: bool,
    /// What it is made by, `bridge` say; `None`: nothing but its driver.
    pub(crate) kind: Option<String>,
    /// The index of the interface that it is a part of.
    pub(crate) master: Option<u32>,
}

/// How the kernel would send to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NextHop {
    /// The address it would send from.
    pub(crate) source: Option<IpAddr>,
    /// The index of the interface it would send through.
    pub(crate) link: u32,
}

impl Netlink {
    /// Opens the connection, in the network namespace of the caller.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Dumps by table: of the routes of others, of which there may be hundreds of thousands, those in tables that nobody asks
        // for stay in the kernel. Where it is too old for this they are sorted out here.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// A connection to nobody: every question fails.
    #[cfg(test)]
    pub(crate) fn to_nobody() -> io::Result<Self> {
        let mut socket = Socket::new(netlink_sys::protocols::NETLINK_USERSOCK)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Switches an interface on, with this MTU.
    pub(crate) fn link_up(&mut self, link: u32, mtu: u32) -> io::Result<()> {
        // Without a link-local address the kernel sends no router solicitations of its own accord. Where there is no
        // IPv6 this fails, and is not needed.
        let no_address = vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])];
        let _ = self.set_link(link, LinkFlags::empty(), LinkAttribute::AfSpecUnspec(no_address));
        self.set_link(link, LinkFlags::Up, LinkAttribute::Mtu(mtu))
    }

    /// Gives an interface another name. It is switched off: before Linux 6.2 the kernel renames nothing that is on.
    pub(crate) fn rename(&mut self, link: u32, name: &str) -> io::Result<()> {
        let mut off = LinkMessage::default();
        off.header.index = link;
        off.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(off), 0)?;
        self.set_link(link, LinkFlags::empty(), LinkAttribute::IfName(name.to_owned()))
    }

    /// Removes an interface, as an operator might.
    #[cfg(test)]
    pub(crate) fn remove_link(&mut self, link: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link;
        self.change(RouteNetlinkMessage::DelLink(message), 0)
    }

    fn set_link(&mut self, link: u32, flags: LinkFlags, attribute: LinkAttribute) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link;
        message.header.flags = flags;
        message.header.change_mask = flags;
        message.attributes.push(attribute);
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Whether an interface is switched on and has this MTU.
    pub(crate) fn link_is(&mut self, link: u32, mtu: u32) -> io::Result<bool> {
        let found = self.link(link)?;
        let up = found.header.flags.contains(LinkFlags::Up);
        Ok(up && found.attributes.contains(&LinkAttribute::Mtu(mtu)))
    }

    fn link(&mut self, link: u32) -> io::Result<LinkMessage> {
        let mut message = LinkMessage::default();
        message.header.index = link;
        let answers = self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_ACK)?;
        let found = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Whether an interface is a TUN device; one that cannot be asked about is none.
    pub(crate) fn is_tun(&mut self, link: u32) -> bool {
        self.link(link).is_ok_and(|found| kind(&found).as_deref() == Some("tun"))
    }

    /// Every interface.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        let seen = |link: LinkMessage| Link {
            index: link.header.index,
            up: link.header.flags.contains(LinkFlags::Up),
            loopback: link.header.flags.contains(LinkFlags::Loopback),
            kind: kind(&link),
            master: link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Controller(master) => Some(*master),
                _ => None,
            }),
        };
        Ok(links.map(seen).collect())
    }

    /// The MTU of an interface.
    pub(crate) fn link_mtu(&mut self, link: u32) -> io::Result<u32> {
        let mtu = self.link(link)?.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(mtu),
            _ => None,
        });
        mtu.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Every address of this machine.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<LocalAddr>> {
        let answers = self.ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(address) => local_addr(&address),
                _ => None,
            })
            .collect())
    }

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

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(message, NLM_F_ACK | flags).map(drop)
    }

    /// Sends a request and collects what comes back until the kernel's acknowledgement, error or end of dump.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.ask_for(message, flags, |_| true)
    }

    /// The kernel makes the parts of a dump no larger than what was asked for last, looks that take nothing included, and ends a
    /// dump of routes without a word where one does not fit.
    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut octets = Vec::with_capacity(ROOM);
        let length = self.socket.recv(&mut octets, libc::MSG_TRUNC)?;
        if length > octets.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel says too much at once"));
        }
        Ok(octets)
    }

    /// The same; of routes only those whose message is wanted.
    fn ask_for(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        // The rest of a dump is read whatever cannot be: the next question would find the kernel busy with it.
        let mut unread = None;
        loop {
            let datagram = self.receive()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                if let Some((route, beyond)) = route(rest)
                    && !wanted(route)
                {
                    rest = beyond;
                    continue;
                }
                let Some((sequence, beyond)) = first(rest) else { break };
                let read = NetlinkMessage::<RouteNetlinkMessage>::deserialize;
                let answer = read(rest).or_else(|error| legible(rest).map_or(Err(error), |octets| read(&octets)));
                rest = beyond;
                if sequence != self.sequence {
                    continue; // the rest of an answer that we gave up on
                }
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(error) => {
                        unread = Some(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
                        continue;
                    }
                };
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    // A kernel that has nothing of the kind says so at the end, too.
                    NetlinkPayload::Done(done) if ![0, -libc::EAFNOSUPPORT, -libc::EOPNOTSUPP].contains(&done.code) => {
                        return Err(io::Error::from_raw_os_error(done.code.saturating_abs()));
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return unread.map_or(Ok(answers), Err),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
        }
    }
}

/// The first of these messages, with what nobody can read of the names and words that others gave it put into letters, or left
/// out: which they are matters nowhere. `None`: it is of a kind that has none.
fn legible(messages: &[u8]) -> Option<Vec<u8>> {
    /// IFLA_PROP_LIST, other names of a link; and what no attribute is called.
    const NAMES: u16 = 52;
    const NOTHING: u16 = 0x3fff;
    let (length, kind) = (usize::try_from(word(messages, 0)?).ok()?, half(messages, 4)?);
    // Where the attributes begin, and which are text: IFLA_IFNAME and IFLA_IFALIAS, IFA_LABEL, FRA_IIFNAME and FRA_OIFNAME.
    let (mut at, texts): (usize, &[u16]) = match kind {
        libc::RTM_NEWLINK => (32, &[3, 20]),
        libc::RTM_NEWADDR => (24, &[3]),
        libc::RTM_NEWRULE => (28, &[3, 17]),
        _ => return None,
    };
    let mut message = messages.get(..length)?.to_vec();
    while let (Some(length), Some(attribute)) = (half(&message, at), half(&message, at + 2)) {
        let end = at + usize::from(length);
        let octets = message.get_mut(at + 2..end)?;
        let (name, value) = octets.split_at_mut_checked(2)?;
        if texts.contains(&attribute) {
            value.iter_mut().filter(|octet| !octet.is_ascii()).for_each(|octet| *octet = b'?');
        } else if kind == libc::RTM_NEWLINK && attribute & NOTHING == NAMES {
            name.copy_from_slice(&NOTHING.to_ne_bytes());
        }
        at = end.next_multiple_of(4);
    }
    Some(message)
}

/// The sequence number of the first of these messages, and what is behind it.
fn first(messages: &[u8]) -> Option<(u32, &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*messages.first_chunk()?)).ok().filter(|length| *length >= 16)?;
    let sequence = u32::from_ne_bytes(*messages.get(8..)?.first_chunk()?);
    Some((sequence, messages.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The body of the first of these messages, if it is a route, and what is behind it.
fn route(messages: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*messages.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*messages.get(4..)?.first_chunk()?);
    let body = messages.get(16..length).filter(|_| kind == libc::RTM_NEWROUTE)?;
    Some((body, messages.get(length.next_multiple_of(4)..).unwrap_or_default()))
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

/// The netlink family of an address.
pub(crate) fn family(addr: IpAddr) -> AddressFamily {
    if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
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

/// What an interface is made by; `None`: nothing but its driver.
fn kind(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(about) => about.iter().find_map(|about| match about {
            LinkInfo::Kind(kind) => Some(kind.to_string()),
            _ => None,
        }),
        _ => None,
    })
}

/// The address itself: `Local` on IPv4, where `Address` is the other end of a point-to-point link, else `Address`.
fn local_addr(message: &AddressMessage) -> Option<LocalAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(addr) => Some(*addr),
        _ => None,
    });
    let addr = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(addr) => Some(*addr),
            _ => None,
        })
    })?;
    let (tentative, failed) = (AddressHeaderFlags::Tentative, AddressHeaderFlags::Dadfailed);
    let mut usable = !message.header.flags.intersects(tentative | failed);
    for attribute in &message.attributes {
        if let AddressAttribute::Flags(flags) = attribute {
            usable = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
        }
    }
    // The network of an address with another end is that of the other end.
    let beyond = message
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, AddressAttribute::Address(other) if *other != addr));
    let prefix = match beyond {
        true if addr.is_ipv4() => 32,
        true => 128,
        false => message.header.prefix_len,
    };
    Some(LocalAddr { addr, prefix, link: message.header.index, usable })
}

/// The value of an attribute: length (2), type (2), value, up to a multiple of four octets.
pub(crate) fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, kind) = (usize::from(half(rest, 0)?), half(rest, 2)? & 0x3fff);
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

pub(crate) fn half(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|octets| u16::from_ne_bytes(*octets))
}

pub(crate) fn word(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}
