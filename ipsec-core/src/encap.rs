//! Outer headers: IPv4 or IPv6, with UDP where the SA says so (RFC 3948). For those who send whole packets; a UDP or
//! raw socket does the same in its kernel.

use crate::buf::PacketBuf;
use crate::ecn::Ecn;
use crate::error::{Discard, NoRoom};
use crate::net::{Encap, NATT_PORT, Path};
use crate::wire::checksum::Sum;
use crate::wire::cursor::{Malformed, Reader, Writer};
use crate::wire::front::{Front, precede};
use crate::wire::ip::{Marks, PROTOCOL_ESP, PROTOCOL_UDP};
use crate::wire::ipv6::Until;
use crate::wire::natt::{self, Datagram, NON_ESP_MARKER};
use crate::wire::{ipv4, ipv6, udp};
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::ops::Range;

/// Where a sealed packet goes, and what its outer header shall look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Egress {
    /// Addresses, and ports for UDP.
    pub path: Path,
    /// Protocol 50 or UDP.
    pub encap: Encap,
    /// DSCP and ECN for the outer header (RFC 6040 §4.1, RFC 4301 §5.1.2).
    pub traffic_class: u8,
    /// DF bit of an outer IPv4 header.
    pub dont_fragment: bool,
    /// Identification for an outer IPv4 header: the low bits of the sequence number, so that fragments of packets close
    /// to each other are told apart.
    pub ident: u16,
    /// TTL and hop limit.
    pub hops: u8,
}

/// Puts the outer IP header, and UDP where the SA has it, in front of a sealed packet. In transport mode that is the packet's own
/// one, with its options: it lies in the same buffer. What is sent through a socket gets its header from the system.
///
/// The UDP checksum is 0 over IPv4 (RFC 3948 §2.1) and computed over IPv6 (RFC 8200 §8.1).
///
/// ```
/// use ipsec_core::buf::PacketBuf;
/// use ipsec_core::encap::{Arrival, Egress, pop_outer, push_outer};
/// use ipsec_core::net::{Encap, Path};
/// let path = Path { local: "192.0.2.1:4500".parse().unwrap(), remote: "192.0.2.2:4500".parse().unwrap() };
/// // `Outbound::seal` returns it.
/// let egress = Egress { path, encap: Encap::Udp, traffic_class: 0, dont_fragment: true, ident: 1, hops: 64 };
/// let mut bytes = [0; 128];
/// let mut packet = PacketBuf::with_payload(&mut bytes, &[0x2b, 0xad, 0xca, 0xfe, 0, 0, 0, 1]).unwrap();
/// push_outer(&egress, &mut packet).unwrap();
/// assert_eq!(packet.len(), 20 + 8 + 8); // IPv4, UDP, ESP
/// assert!(matches!(pop_outer(&mut packet), Ok(Arrival::Esp { .. })));
/// ```
///
/// # Errors
/// [`NoRoom`]: too little headroom, or more than 65,535 octets. The packet may then have some headers.
pub fn push_outer(egress: &Egress, packet: &mut PacketBuf<'_>) -> Result<(), NoRoom> {
    let protocol = push_udp(egress, packet)?;
    if push_own(protocol, packet)? { Ok(()) } else { push_ip(egress, protocol, packet) }
}

/// Gives a packet back the header that was set aside, in which `protocol` follows now. `false`: there is none.
pub(crate) fn push_own(protocol: u8, packet: &mut PacketBuf<'_>) -> Result<bool, NoRoom> {
    let Some((len, next_at)) = packet.bring_back()? else { return Ok(false) };
    precede(packet.as_mut_slice(), len, next_at, protocol).map_err(|Malformed| NoRoom)?;
    Ok(true)
}

/// Puts a new IP header in front of a packet, from and to where the path leads.
pub(crate) fn push_ip(egress: &Egress, protocol: u8, packet: &mut PacketBuf<'_>) -> Result<(), NoRoom> {
    let behind = packet.len();
    let written = match (egress.path.local.ip(), egress.path.remote.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ipv4::Header {
            tos: egress.traffic_class,
            total_len: u16::try_from(behind.saturating_add(ipv4::HEADER_LEN)).map_err(|_| NoRoom)?,
            id: egress.ident,
            dont_fragment: egress.dont_fragment,
            more_fragments: false,
            fragment_offset: 0,
            ttl: egress.hops,
            protocol,
            source,
            destination,
        }
        .write(&mut Writer::new(packet.push_front(ipv4::HEADER_LEN)?)),
        (IpAddr::V6(source), IpAddr::V6(destination)) => ipv6::Header {
            traffic_class: egress.traffic_class,
            flow_label: 0,
            payload_len: u16::try_from(behind).map_err(|_| NoRoom)?,
            next_header: protocol,
            hop_limit: egress.hops,
            source,
            destination,
        }
        .write(&mut Writer::new(packet.push_front(ipv6::HEADER_LEN)?)),
        _ => Err(Malformed),
    };
    written.map_err(|Malformed| NoRoom)
}

/// Returns the protocol number that the IP header shall name.
fn push_udp(egress: &Egress, packet: &mut PacketBuf<'_>) -> Result<u8, NoRoom> {
    if egress.encap == Encap::None {
        return Ok(PROTOCOL_ESP);
    }
    let length = u16::try_from(packet.len().saturating_add(udp::HEADER_LEN)).map_err(|_| NoRoom)?;
    let (source, destination) = (egress.path.local.port(), egress.path.remote.port());
    let mut header = udp::Header { source, destination, length, checksum: 0 };
    let write = |header: &udp::Header, packet: &mut PacketBuf<'_>| {
        header.write(&mut Writer::new(packet.as_mut_slice())).map_err(|Malformed| NoRoom)
    };
    packet.push_front(udp::HEADER_LEN)?;
    write(&header, packet)?;
    if let (IpAddr::V6(source), IpAddr::V6(destination)) = (egress.path.local.ip(), egress.path.remote.ip()) {
        header.checksum = udp_checksum_v6(source, destination, packet.as_slice());
        write(&header, packet)?;
    }
    Ok(PROTOCOL_UDP)
}

fn udp_checksum_v6(source: Ipv6Addr, destination: Ipv6Addr, udp: &[u8]) -> u16 {
    let length = u16::try_from(udp.len()).unwrap_or(u16::MAX);
    match Sum::default().pseudo_v6(source, destination, length, PROTOCOL_UDP).bytes(udp).finish() {
        // 0 on the wire means "no checksum" (RFC 768).
        0 => 0xffff,
        checksum => checksum,
    }
}

/// What a whole packet from the network is to IPsec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// An ESP packet: the packet now starts with its SPI. The outer header lies in front of it: in transport mode
    /// [`Inbound::open`](crate::engine::Inbound::open) makes it the inner one, with all options.
    Esp {
        /// Where it came from and to; ports are 0 for protocol 50.
        path: Path,
        /// ECN field of the outer header.
        ecn: Ecn,
    },
    /// An IKE message from port 4500: the packet now starts with the IKE header.
    Ike {
        /// Where it came from and to.
        path: Path,
    },
    /// A NAT keepalive, to be dropped: the packet is as it was.
    Keepalive,
    /// Anything else: the packet is as it was.
    Clear,
}

/// Takes the outer headers off a packet for us that carries ESP, or IKE on port 4500. IP fragments stay as they are:
/// whoever owns the network interface puts them together, by itself or with [`reassembly`](crate::reassembly).
///
/// ```
/// use ipsec_core::buf::PacketBuf;
/// use ipsec_core::ecn::Ecn;
/// use ipsec_core::encap::{Arrival, pop_outer};
/// let mut received = [
///     0x45, 0, 0, 28, 0, 0, 0, 0, 64, 50, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1, // IPv4, protocol 50
///     0x2b, 0xad, 0xca, 0xfe, 0, 0, 0, 1, // SPI, sequence number
/// ];
/// let mut packet = PacketBuf::new(&mut received, 0, 28).unwrap();
/// let Ok(Arrival::Esp { path, ecn: Ecn::NotEct }) = pop_outer(&mut packet) else { panic!() };
/// assert_eq!(path.remote, "192.0.2.2:0".parse().unwrap());
/// assert_eq!(packet.as_slice()[..4], [0x2b, 0xad, 0xca, 0xfe]); // for `Inbound::open`
/// ```
///
/// # Errors
/// [`Discard::InHeader`]: not an IP packet, or its UDP header or datagram is broken.
pub fn pop_outer(packet: &mut PacketBuf<'_>) -> Result<Arrival, Discard> {
    pop(packet).map_err(|Malformed| Discard::InHeader)
}

fn pop(packet: &mut PacketBuf<'_>) -> Result<Arrival, Malformed> {
    // Whoever sends ESP may have put destination options in front of it (RFC 4303 §3.1.1).
    let front = Front::of(packet.as_slice(), Until::Payload)?;
    let (arrival, content) = classify(packet.as_slice(), &front)?;
    packet.truncate(content.end);
    let mut before = content.start;
    packet.forget_aside();
    if matches!(arrival, Arrival::Esp { .. }) {
        packet.set_aside(front.len, front.next_at, 0).map_err(|NoRoom| Malformed)?;
        before = before.saturating_sub(front.len);
    }
    packet.pop_front(before).map_err(|NoRoom| Malformed)?;
    Ok(arrival)
}

/// Returns also which octets of the packet are left.
fn classify(packet: &[u8], front: &Front) -> Result<(Arrival, Range<usize>), Malformed> {
    let payload = packet.get(front.len..front.total).ok_or(Malformed)?;
    let path = |source, destination| Path {
        local: SocketAddr::new(front.destination, destination),
        remote: SocketAddr::new(front.source, source),
    };
    let ecn = Ecn::of(Marks::of(packet)?.traffic_class);
    match front.protocol {
        _ if front.fragment => Ok((Arrival::Clear, 0..packet.len())),
        PROTOCOL_ESP => Ok((Arrival::Esp { path: path(0, 0), ecn }, front.len..front.total)),
        // Whether any other datagram is in order is not ours to say.
        // The peer's side may have any port (RFC 3948 §2.1).
        PROTOCOL_UDP if udp::destination(payload) == Some(NATT_PORT) => {
            let header = udp::Header::read(&mut Reader::new(payload))?;
            let path = path(header.source, header.destination);
            let datagram = payload.get(udp::HEADER_LEN..usize::from(header.length)).ok_or(Malformed)?;
            let start = front.len.saturating_add(udp::HEADER_LEN);
            let end = start.saturating_add(datagram.len());
            Ok(match natt::classify(datagram)? {
                Datagram::Esp(_) => (Arrival::Esp { path, ecn }, start..end),
                Datagram::Ike(_) => (Arrival::Ike { path }, start.saturating_add(NON_ESP_MARKER.len())..end),
                Datagram::Keepalive => (Arrival::Keepalive, 0..packet.len()),
            })
        }
        _ => Ok((Arrival::Clear, 0..packet.len())),
    }
}
