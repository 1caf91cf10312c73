//! Interfaces, addresses and routes through netlink, always of the namespace the calling thread is in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use super::namespace::Namespace;
use crate::outcome::Result;

/// Joins two namespaces with a veth pair, both ends up and without offloads, so that whoever reads packets from them
/// sees finished checksums and no super-packets.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn veth(left: (&Namespace, &str), right: (&Namespace, &str)) -> Result {
    left.0.within(|| {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(right.1.to_owned()));
        peer.attributes.push(LinkAttribute::NetNsFd(right.0.fd().as_raw_fd()));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(left.1.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    })?;
    for (namespace, interface) in [left, right] {
        namespace.within(|| {
            offload_off(interface)?;
            up(interface)
        })?;
    }
    Ok(())
}

/// Sets an interface up.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn up(interface: &str) -> Result {
    let mut message = LinkMessage::default();
    message.header.index = index(interface)?;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    change(RouteNetlinkMessage::SetLink(message), 0)
}

/// The index of an interface.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn index(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface).map_err(|error| format!("interface {interface}: {error}").into())
}

/// Gives an interface an address, usable at once (no duplicate address detection).
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn address(interface: &str, address: IpAddr, prefix: u8) -> Result {
    change(RouteNetlinkMessage::NewAddress(address_message(interface, address, prefix)?), NLM_F_CREATE)
}

fn address_message(interface: &str, address: IpAddr, prefix: u8) -> Result<AddressMessage> {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index(interface)?;
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    Ok(message)
}

/// Takes all addresses, link-local ones excepted, from an interface; each with the length of its prefix.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn take_addresses(interface: &str) -> Result<Vec<(IpAddr, u8)>> {
    let index = index(interface)?;
    let mut taken = Vec::new();
    for answer in ask(NETLINK_ROUTE, RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)? {
        let RouteNetlinkMessage::NewAddress(found) = answer else { continue };
        let address = found.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let Some(address) = address.filter(|_| found.header.index == index) else { continue };
        if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
            continue;
        }
        taken.push((address, found.header.prefix_len));
        change(RouteNetlinkMessage::DelAddress(found), 0)?;
    }
    Ok(taken)
}

/// Routes `destination`/`prefix` through `gateway`.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn route(destination: IpAddr, prefix: u8, gateway: IpAddr) -> Result {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(gateway),
        destination_prefix_length: prefix,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(destination)),
        RouteAttribute::Gateway(RouteAddress::from(gateway)),
    ];
    change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// RT_TABLE_LOCAL.
const KERNEL_TABLE: u8 = 255;

/// Every route of every table but the kernel's own, one sorted line each: what a test compares before and after.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn routes() -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        for answer in ask(NETLINK_ROUTE, RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)? {
            // The kernel's own table changes by itself, whenever an IPv6 address has proven to be unique.
            if let RouteNetlinkMessage::NewRoute(route) = answer
                && route.header.table != KERNEL_TABLE
            {
                lines.push(describe(&route));
            }
        }
    }
    lines.sort();
    Ok(lines)
}

fn describe(route: &RouteMessage) -> String {
    let mut destination = "default".to_owned();
    let mut rest = String::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = format!("{address:?}"),
            RouteAttribute::Gateway(address) => rest += &format!(" via {address:?}"),
            RouteAttribute::Oif(index) => rest += &format!(" dev {index}"),
            RouteAttribute::Priority(metric) => rest += &format!(" metric {metric}"),
            RouteAttribute::Table(table) => rest += &format!(" table {table}"),
            _ => {}
        }
    }
    format!("{destination}/{}{rest} {:?}", route.header.destination_prefix_length, route.header.kind)
}

/// Forgets every NAT mapping of the namespace: the next packet of a flow gets a new one.
///
/// # Errors
/// When the kernel has no connection tracking.
pub(crate) fn flush_conntrack() -> Result {
    // IPCTNL_MSG_CT_DELETE of NFNL_SUBSYS_CTNETLINK with an empty nfgenmsg (family AF_UNSPEC) means all.
    const DELETE: u16 = (1 << 8) | 2;
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut message = Vec::new();
    message.extend(20u32.to_ne_bytes());
    message.extend(DELETE.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 12]);
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match answer.get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(format!("flushing connection tracking: {}", io::Error::from_raw_os_error(-code)).into()),
        None => Err("flushing connection tracking: short answer".into()),
    }
}

/// `0.0.0.0` or `::`, of the family of `address`.
pub(crate) fn unspecified(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn change(message: RouteNetlinkMessage, flags: u16) -> Result {
    ask(NETLINK_ROUTE, message, NLM_F_ACK | flags).map(|_| ())
}

/// Sends one request and collects the answers up to the acknowledgement or the end of the dump.
fn ask<M>(protocol: isize, message: M, flags: u16) -> Result<Vec<M>>
where
    M: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug,
{
    let what = format!("{message:?}");
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    request.finalize();
    let mut octets = vec![0; request.buffer_len()];
    request.serialize(&mut octets);
    socket.send(&octets, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<M>::deserialize(rest).map_err(|error| format!("netlink: {error}"))?;
            let length = usize::try_from(answer.header.length)?;
            match answer.payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(format!("netlink: {} for {what}", error.to_io()).into()),
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// What `ethtool -K <interface> tx off tso off gso off gro off` does.
fn offload_off(interface: &str) -> Result {
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    const SET_TX_CHECKSUM: u32 = 0x17;
    const SET_TSO: u32 = 0x1f;
    const SET_GSO: u32 = 0x24;
    const SET_GRO: u32 = 0x2c;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    for command in [SET_TX_CHECKSUM, SET_TSO, SET_GSO, SET_GRO] {
        let mut value = Value { command, data: 0 };
        // SAFETY: an all-zero ifreq is a valid one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: SIOCETHTOOL reads an ifreq whose data points to an ethtool_value; both live until the call returns.
        let code = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if code < 0 {
            return Err(format!("ethtool {interface} {command:#x}: {}", io::Error::last_os_error()).into());
        }
    }
    Ok(())
}
