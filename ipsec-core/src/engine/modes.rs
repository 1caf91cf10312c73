//! What of a packet goes into ESP and what stands in front of it, by the mode of its SA (RFC 4303 §3.1): tunnel, transport, BEET.

use core::net::IpAddr;

use crate::buf::PacketBuf;
use crate::ecn::Ecn;
use crate::encap::{HOPS, Own};
use crate::error::{Discard, NoRoom};
use crate::esp::seal::Kept;
use crate::net::{Encap, Path};
use crate::sa::{self, Mode};
use crate::wire::cursor::{Malformed, Writer};
use crate::wire::front::{Front, renew_checksum};
use crate::wire::ip::{Marks, PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_NONE};
use crate::wire::{ipv4, ipv6, udp};

/// What becomes of the header of an outbound packet.
pub(super) struct Enclosed {
    /// What ESP says that it carries.
    pub(super) next_header: u8,
    /// What is not protected.
    pub(super) kept: Kept,
    /// What becomes the outer header.
    pub(super) own: Option<Own>,
    /// TTL and hop limit of a new one.
    pub(super) hops: u8,
}

impl Enclosed {
    /// Nothing, which is to be dropped (RFC 4303 §2.6).
    pub(super) const DUMMY: Self =
        Self { next_header: PROTOCOL_NONE, kept: Kept { len: 0, gap: 0 }, own: None, hops: HOPS };
}

/// Decides it. In BEET mode the packet loses its header.
///
/// # Errors
/// [`Discard::OutHeader`], [`Discard::OutMode`]; the packet is as it was.
#[inline]
pub(super) fn enclose<K>(sa: &sa::Common<K>, marks: &Marks, packet: &PacketBuf<'_>) -> Result<Enclosed, Discard> {
    match sa.mode {
        Mode::Tunnel => {
            Ok(Enclosed { next_header: marks.version.protocol(), kept: Kept::default(), own: None, hops: HOPS })
        }
        Mode::Transport => transport(sa, packet),
        Mode::Beet => beet(sa, packet),
    }
}

/// Header, options and the extension headers of the way stay in front.
#[inline(never)]
fn transport<K>(sa: &sa::Common<K>, packet: &PacketBuf<'_>) -> Result<Enclosed, Discard> {
    let front = whole(packet)?;
    if (front.source, front.destination) != (sa.path.local.ip(), sa.path.remote.ip()) {
        return Err(Discard::OutMode);
    }
    let gap = if sa.encap == Encap::Udp { udp::HEADER_LEN } else { 0 };
    let kept = Kept { len: front.len, gap };
    Ok(Enclosed { next_header: front.protocol, kept, own: Some(Own { front, gap }), hops: hops(&front, packet)? })
}

/// The header goes without saying: it has no options, which would have to be said.
#[inline(never)]
fn beet<K>(sa: &sa::Common<K>, packet: &PacketBuf<'_>) -> Result<Enclosed, Discard> {
    let front = whole(packet)?;
    let fixed = if front.source.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
    let fits = sa.hosts() == Some((front.source, front.destination));
    // Extension headers are a payload to BEET.
    let next_header = packet.as_slice().get(if front.source.is_ipv4() { 9 } else { 6 }).copied();
    let hops = hops(&front, packet)?;
    match next_header {
        Some(next_header) if fits && !(front.source.is_ipv4() && front.len > fixed) => {
            Ok(Enclosed { next_header, kept: Kept { len: fixed, gap: 0 }, own: None, hops })
        }
        _ => Err(Discard::OutMode),
    }
}

/// TTL or hop limit of a packet with this front.
fn hops(front: &Front, packet: &PacketBuf<'_>) -> Result<u8, Discard> {
    packet.as_slice().get(if front.source.is_ipv4() { 8 } else { 7 }).copied().ok_or(Discard::OutHeader)
}

/// The front of a packet that is a whole one.
fn whole(packet: &PacketBuf<'_>) -> Result<Front, Discard> {
    let front = Front::of(packet.as_slice()).map_err(|Malformed| Discard::OutHeader)?;
    if front.fragment { Err(Discard::OutMode) } else { Ok(front) }
}

/// What is known of the outer header of a packet that was opened.
pub(super) struct Outer {
    /// Where it came from and to.
    pub(super) from: Path,
    /// Its ECN field.
    pub(super) ecn: Ecn,
    /// The header itself, where it lies in front, and how many octets are between it and ESP's payload.
    pub(super) own: Option<(Own, usize)>,
}

/// Gives a packet out of ESP, which now is what `next_header` says, its header back.
///
/// # Errors
/// [`Discard::InMode`]: it does not fit the mode, or there is no room in front of it.
#[inline]
pub(super) fn disclose<K>(
    sa: &sa::Common<K>,
    next_header: u8,
    outer: &Outer,
    packet: &mut PacketBuf<'_>,
) -> Result<(), Discard> {
    match sa.mode {
        Mode::Tunnel => {
            let marks = Marks::of(packet.as_slice()).map_err(|Malformed| Discard::InMode)?;
            if next_header == marks.version.protocol() { Ok(()) } else { Err(Discard::InMode) }
        }
        // Whole packets belong into tunnel mode (RFC 4301 §5.2): whoever lets them out here need not look at the addresses of an
        // SA between two hosts.
        _ if next_header == PROTOCOL_IPV4 || next_header == PROTOCOL_IPV6 => Err(Discard::InMode),
        Mode::Transport => {
            let (source, destination) = (outer.from.remote.ip(), outer.from.local.ip());
            if outer.from.encap() == Encap::Udp {
                // There may be a NAT, which changed the addresses that a checksum covers.
                renew_checksum(next_header, (source, destination), packet.as_mut_slice());
            }
            head(source, destination, next_header, outer, packet).map_err(|NoRoom| Discard::InMode)
        }
        Mode::Beet => {
            let (local, remote) = sa.hosts().ok_or(Discard::InMode)?;
            let outer = Outer { own: None, ..*outer };
            head(remote, local, next_header, &outer, packet).map_err(|NoRoom| Discard::InMode)
        }
    }
}

/// The header that lies there, or a new one.
#[inline(never)]
fn head(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    outer: &Outer,
    packet: &mut PacketBuf<'_>,
) -> Result<(), NoRoom> {
    if let Some((Own { front, .. }, by)) = outer.own {
        packet.join(front.len, by)?;
        return front.precede(packet.as_mut_slice(), protocol).map_err(|Malformed| NoRoom);
    }
    let behind = packet.len();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = ipv4::Header {
                tos: outer.ecn as u8,
                total_len: u16::try_from(behind.saturating_add(ipv4::HEADER_LEN)).map_err(|_| NoRoom)?,
                id: 0,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
                ttl: HOPS,
                protocol,
                source,
                destination,
            };
            header.write(&mut Writer::new(packet.push_front(ipv4::HEADER_LEN)?)).map_err(|Malformed| NoRoom)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = ipv6::Header {
                traffic_class: outer.ecn as u8,
                flow_label: 0,
                payload_len: u16::try_from(behind).map_err(|_| NoRoom)?,
                next_header: protocol,
                hop_limit: HOPS,
                source,
                destination,
            };
            header.write(&mut Writer::new(packet.push_front(ipv6::HEADER_LEN)?)).map_err(|Malformed| NoRoom)
        }
        _ => Err(NoRoom),
    }
}
