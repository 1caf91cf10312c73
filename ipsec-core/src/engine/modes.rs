//! What of a packet goes into ESP and what stands in front of it, by the mode of its SA (RFC 4303 §3.1): tunnel, transport, BEET.

use core::net::SocketAddr;

use crate::buf::PacketBuf;
use crate::ecn::Ecn;
use crate::encap::{Egress, push_ip, push_own};
use crate::error::{Discard, NoRoom};
use crate::net::{Encap, Path};
use crate::sa::{self, Mode};
use crate::wire::cursor::Malformed;
use crate::wire::front::{Front, renew_checksum};
use crate::wire::ip::{HOPS, Marks, PROTOCOL_BEET, PROTOCOL_NONE, Version};
use crate::wire::ipv6::Until;
use crate::wire::{ipv4, ipv6, udp};

/// What becomes of the header of an outbound packet.
pub(super) struct Enclosed {
    /// What ESP says that it carries.
    pub(super) next_header: u8,
    /// TTL and hop limit of a new one.
    pub(super) hops: u8,
}

impl Enclosed {
    /// Nothing, which is to be dropped (RFC 4303 §2.6).
    pub(super) const DUMMY: Self = Self { next_header: PROTOCOL_NONE, hops: HOPS };
}

/// Decides it. In transport and BEET mode the header is set aside.
///
/// # Errors
/// [`Discard::OutHeader`], [`Discard::OutMode`], [`Discard::OutNoRoom`]; the packet is as it was.
#[inline]
pub(super) fn enclose<K>(sa: &sa::Common<K>, marks: &Marks, packet: &mut PacketBuf<'_>) -> Result<Enclosed, Discard> {
    packet.forget_aside();
    match sa.mode {
        Mode::Tunnel => Ok(Enclosed { next_header: marks.version.protocol(), hops: HOPS }),
        _ if !sa.mode.is_built() => Err(Discard::OutMode),
        Mode::Transport => transport(sa, marks, packet),
        Mode::Beet => beet(sa, marks, packet),
    }
}

/// Header, options and the extension headers of the way stay in front, with room for ESP and UDP behind them.
#[inline(never)]
fn transport<K>(sa: &sa::Common<K>, marks: &Marks, packet: &mut PacketBuf<'_>) -> Result<Enclosed, Discard> {
    let front = whole(packet)?;
    if (front.source, front.destination) != (sa.path.local.ip(), sa.path.remote.ip()) {
        return Err(Discard::OutMode);
    }
    let gap = if sa.encap == Encap::Udp { udp::HEADER_LEN } else { 0 };
    let by = sa.transform.layout().headroom().saturating_add(gap);
    packet.set_aside(front.len, front.next_at, by).map_err(|NoRoom| Discard::OutNoRoom)?;
    Ok(Enclosed { next_header: front.protocol, hops: marks.hops })
}

/// The header goes without saying: it has no options, which would have to be said. It is kept in front of ESP until that is sealed.
#[inline(never)]
fn beet<K>(sa: &sa::Common<K>, marks: &Marks, packet: &mut PacketBuf<'_>) -> Result<Enclosed, Discard> {
    let front = whole(packet)?;
    // Extension headers are a payload to BEET.
    let (len, next_at) = match marks.version {
        Version::V4 => (front.len, ipv4::NEXT_HEADER),
        Version::V6 => (ipv6::HEADER_LEN, ipv6::NEXT_HEADER),
    };
    let has_options = marks.version == Version::V4 && len > ipv4::HEADER_LEN;
    if has_options || sa.hosts() != Some((front.source, front.destination)) {
        return Err(Discard::OutMode);
    }
    // What looks like options to the peer is none of BEET's either.
    let next_header = packet.as_slice().get(next_at).copied().filter(|next_header| *next_header != PROTOCOL_BEET);
    let next_header = next_header.ok_or(Discard::OutMode)?;
    packet.set_aside(len, next_at, sa.transform.layout().headroom()).map_err(|NoRoom| Discard::OutNoRoom)?;
    Ok(Enclosed { next_header, hops: marks.hops })
}

/// The front of a packet that is a whole one.
fn whole(packet: &PacketBuf<'_>) -> Result<Front, Discard> {
    let front = Front::of(packet.as_slice(), Until::Esp).map_err(|Malformed| Discard::OutHeader)?;
    if front.fragment { Err(Discard::OutMode) } else { Ok(front) }
}

/// Gives a packet out of ESP, which now is what `next_header` says, its header back. It came from and to `from`, under an outer
/// header with `ecn`, which lies in front where it is known.
///
/// # Errors
/// [`Discard::InMode`]: it does not fit the mode, or there is no room in front of it.
#[inline]
pub(super) fn disclose<K>(
    sa: &sa::Common<K>,
    next_header: u8,
    from: Path,
    ecn: Ecn,
    packet: &mut PacketBuf<'_>,
) -> Result<(), Discard> {
    if sa.mode == Mode::Tunnel {
        packet.forget_aside();
        let marks = Marks::of(packet.as_slice()).map_err(|Malformed| Discard::InMode)?;
        return if next_header == marks.version.protocol() { Ok(()) } else { Err(Discard::InMode) };
    }
    if !sa.mode.is_built() {
        return Err(Discard::InMode);
    }
    head(sa, next_header, from, ecn, packet).map_err(|NoRoom| Discard::InMode)
}

/// The header that lies there, or a new one. A packet in it, as tunnels between two hosts have, stays what it is: a payload.
#[inline(never)]
fn head<K>(
    sa: &sa::Common<K>,
    next_header: u8,
    from: Path,
    ecn: Ecn,
    packet: &mut PacketBuf<'_>,
) -> Result<(), NoRoom> {
    let (source, destination) = match sa.mode {
        // Options that the peer took off its packet stand there, which no header of ours has.
        Mode::Beet if next_header == PROTOCOL_BEET => return Err(NoRoom),
        Mode::Beet => sa.hosts().map(|(local, remote)| (remote, local)).ok_or(NoRoom)?,
        _ => (from.remote.ip(), from.local.ip()),
    };
    if sa.mode == Mode::Transport {
        if from.encap() == Encap::Udp {
            // There may be a NAT, which changed the addresses that a checksum covers.
            renew_checksum(next_header, (source, destination), packet.as_mut_slice());
        }
        if push_own(next_header, packet)? {
            return Ok(());
        }
    }
    let path = Path { local: SocketAddr::new(source, 0), remote: SocketAddr::new(destination, 0) };
    let mut header =
        Egress { path, encap: Encap::None, traffic_class: ecn as u8, dont_fragment: true, ident: 0, hops: HOPS };
    // In BEET mode the outer header has the marks of the one that goes without saying.
    if let Some(outer) = packet.aside().and_then(|outer| Marks::of(outer).ok()) {
        header.traffic_class |= outer.traffic_class & !0x03;
        (header.dont_fragment, header.ident, header.hops) = (outer.dont_fragment, outer.ident, outer.hops);
    }
    packet.forget_aside();
    push_ip(&header, next_header, packet)
}
