//! Questions to the kernel's routing netlink, and changes through it: links, addresses, routes, rules.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

mod links;
mod routes;

pub(crate) use links::{Link, LocalAddr};
pub(crate) use routes::{NextHop, Nexthops, ip, route_table};

/// Room for what the kernel says at once: twice the most that it makes of a part of a dump.
const ROOM: usize = 64 << 10;

/// A connection to the kernel's routing netlink.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
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

/// The netlink family of an address.
pub(crate) fn family(addr: IpAddr) -> AddressFamily {
    if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
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
