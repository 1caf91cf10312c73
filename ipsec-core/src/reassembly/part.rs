//! A fragment as it came, of either version.

use core::net::IpAddr;

use super::dropped::Dropped;
use crate::buf::PacketBuf;
use crate::ecn::Ecn;
use crate::error::NoRoom;
use crate::hash::fold;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::ipv6::{FRAGMENT, Headers, Until, headers};
use crate::wire::{fragment, ipv4, ipv6};

/// Octets of IP headers that a packet may have which is put together: those of IPv4 with all options, or of IPv6 with more
/// extension headers than are seen outside attacks.
pub const MAX_HEADERS: usize = 128;

/// Which packet a fragment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    scope: u32,
    source: IpAddr,
    destination: IpAddr,
    /// 0 for IPv6, where only the first fragment has to know it (RFC 8200 §4.5).
    protocol: u8,
    id: u32,
}

impl Key {
    /// Who sent it, as far as senders can be told apart: an address of IPv4, or a network of 64 bits of IPv6, in which a host may
    /// have as many addresses as it likes; of either what is told by its scope.
    pub(super) fn sender(&self) -> (u32, bool, u64) {
        match self.source {
            IpAddr::V4(addr) => (self.scope, true, addr.to_bits().into()),
            IpAddr::V6(addr) => (self.scope, false, (addr.to_bits() >> 64) as u64),
        }
    }

    /// A number that all packets of a sender share, and that nobody knows who does not know the seed.
    pub(super) fn place(&self, seed: u64) -> u64 {
        let (scope, _, network) = self.sender();
        // The digits of π keep factors from being 0.
        let first = fold(seed ^ network, seed.rotate_left(32) ^ 0x243f_6a88_85a3_08d3);
        fold(first ^ seed, seed.rotate_left(16) ^ u64::from(scope) ^ 0x1319_8a2e_0370_7344)
    }
}

/// What a packet is.
#[derive(Debug)]
pub(super) enum Seen<'p> {
    Unfragmented,
    Atomic(Atomic),
    Part(Part<'p>),
}

impl<'p> Seen<'p> {
    pub(super) fn of(scope: u32, packet: &'p [u8]) -> Result<Self, Dropped> {
        match packet.first().map(|first| first >> 4) {
            Some(4) => Self::of_v4(scope, packet),
            Some(6) => Self::of_v6(scope, packet),
            _ => Err(Dropped::Malformed),
        }
    }

    fn of_v4(scope: u32, packet: &'p [u8]) -> Result<Self, Dropped> {
        let mut reader = Reader::new(packet);
        let header = ipv4::Header::read(&mut reader)?;
        if header.fragment_offset == 0 && !header.more_fragments {
            return Ok(Self::Unfragmented);
        }
        let headers = packet.len().saturating_sub(reader.rest().len());
        let (headers, content) = split(packet, headers, header.total_len.into())?;
        let key = Key {
            scope,
            source: header.source.into(),
            destination: header.destination.into(),
            protocol: header.protocol,
            id: header.id.into(),
        };
        let (start, end) = span(header.fragment_offset, content, headers.len(), header.more_fragments)?;
        let (more, ecn) = (header.more_fragments, Ecn::of(header.tos));
        Ok(Self::Part(Part { key, headers, follows: None, start, end, more, content, ecn }))
    }

    fn of_v6(scope: u32, packet: &'p [u8]) -> Result<Self, Dropped> {
        let header = ipv6::Header::read(&mut Reader::new(packet))?;
        let Headers { len, next_header, named_at, .. } = headers(packet, Until::Fragment)?;
        if next_header != FRAGMENT {
            return Ok(Self::Unfragmented);
        }
        let (headers, behind) = split(packet, len, usize::from(header.payload_len).saturating_add(ipv6::HEADER_LEN))?;
        let mut reader = Reader::new(behind);
        let fragment = fragment::Header::read(&mut reader)?;
        let content = reader.rest();
        if fragment.offset == 0 && !fragment.more {
            let len = headers.len().saturating_add(behind.len());
            return Ok(Self::Atomic(Atomic {
                headers: headers.len(),
                named_at,
                next_header: fragment.next_header,
                len,
            }));
        }
        // Whoever decides about the packet wants to see what it is in its first fragment (RFC 7112 §5).
        if fragment.offset == 0 {
            ipv6::skip_extensions(fragment.next_header, &mut reader)?;
        }
        let (source, destination) = (header.source.into(), header.destination.into());
        let key = Key { scope, source, destination, protocol: 0, id: fragment.id };
        let beside = headers.len().saturating_sub(ipv6::HEADER_LEN);
        let (start, end) = span(fragment.offset, content, beside, fragment.more)?;
        let (follows, ecn) = (Some((named_at, fragment.next_header)), Ecn::of(header.traffic_class));
        Ok(Self::Part(Part { key, headers, follows, start, end, more: fragment.more, content, ecn }))
    }
}

/// A fragment.
#[derive(Debug)]
pub(super) struct Part<'p> {
    pub(super) key: Key,
    /// The headers of the whole packet, as they stand in this fragment.
    pub(super) headers: &'p [u8],
    /// What follows them in the whole packet, and which octet of them says so; IPv4 says it in any case.
    pub(super) follows: Option<(usize, u8)>,
    /// Where its content stands in that of the whole packet.
    pub(super) start: u16,
    pub(super) end: u16,
    /// Whether there is more behind it.
    pub(super) more: bool,
    pub(super) content: &'p [u8],
    pub(super) ecn: Ecn,
}

/// The headers of a packet of `len` octets, and what is behind them.
fn split(packet: &[u8], headers: usize, len: usize) -> Result<(&[u8], &[u8]), Dropped> {
    let split = packet.get(..len).and_then(|packet| packet.split_at_checked(headers)).ok_or(Dropped::Malformed)?;
    if headers > MAX_HEADERS { Err(Dropped::TooLong) } else { Ok(split) }
}

/// Where the content of a fragment begins and ends. The packet's length, which counts `beside` octets of headers, has 16 bits.
fn span(offset: u16, content: &[u8], beside: usize, more: bool) -> Result<(u16, u16), Dropped> {
    // All but the last one are whole units, and none is empty.
    if content.is_empty() || more && !content.len().is_multiple_of(8) {
        return Err(Dropped::Malformed);
    }
    let start = usize::from(offset).saturating_mul(8);
    let end = start.saturating_add(content.len());
    if end.saturating_add(beside) > ipv4::MAX_LEN {
        return Err(Dropped::TooLong);
    }
    let fits = |at: usize| u16::try_from(at).map_err(|_| Dropped::TooLong);
    Ok((fits(start)?, fits(end)?))
}

/// A packet of a single fragment (RFC 6946): whole all the same, at once and beside all fragments that seem to be of it.
#[derive(Debug)]
pub(super) struct Atomic {
    /// Octets in front of the fragment header.
    headers: usize,
    /// What follows the fragment header, and which octet in front of it is to say so.
    next_header: u8,
    named_at: usize,
    /// Octets of the packet.
    len: usize,
}

impl Atomic {
    /// Takes the fragment header off the packet, which was [seen](Seen::of) to have one.
    pub(super) fn strip(&self, packet: &mut PacketBuf<'_>) -> Result<(), Dropped> {
        let mut copy = [0; MAX_HEADERS];
        let headers = copy.get_mut(..self.headers).ok_or(Dropped::TooLong)?;
        Writer::new(headers).put(packet.as_slice().get(..self.headers).ok_or(Dropped::Malformed)?)?;
        *headers.get_mut(self.named_at).ok_or(Dropped::Malformed)? = self.next_header;
        packet.truncate(self.len);
        packet.pop_front(fragment::HEADER_LEN).map_err(|NoRoom| Dropped::Malformed)?;
        Writer::new(packet.as_mut_slice()).put(headers)?;
        Ok(ipv6::set_payload_len(packet.as_mut_slice())?)
    }
}
