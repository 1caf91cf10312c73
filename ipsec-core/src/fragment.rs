//! Cutting packets that are too long for a path (RFC 791 §3.2, RFC 8200 §4.5).

use core::iter::FusedIterator;

use crate::error::NoRoom;
use crate::error::texts;
use crate::wire::cursor::{Malformed, Reader, Writer};
use crate::wire::fragment::{self, HEADER_LEN};
use crate::wire::ipv6::{FRAGMENT, Until};
use crate::wire::{ipv4, ipv6};

/// Why a packet was not cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Uncut {
    /// It is no IP packet.
    Malformed,
    /// It must not be cut: an IPv4 packet says so, and of IPv6 a fragment that somebody made already. Its sender is to be told
    /// ([`icmp::too_big`](crate::icmp::too_big)).
    DontFragment,
    /// Not even 8 octets fit behind its headers.
    TooNarrow,
}

texts! {
    Uncut:
    Self::Malformed => "it is no IP packet",
    Self::DontFragment => "it must not be cut",
    Self::TooNarrow => "nothing fits behind its headers",
}

/// Cuts a packet into pieces of at most `mtu` octets each, in order; one that is short enough is one piece, as it is.
///
/// IPv4 packets may be cut by everybody, unless they say otherwise; IPv6 packets by who sends them: those of ours, the outer
/// ones, and no others. `id` is for IPv6: another one for each packet to the same destination, which nobody can guess
/// (RFC 7739); IPv4 packets have one.
///
/// ```
/// use ipsec_core::fragment::{Uncut, cut};
/// let mut packet = [0xee; 1000];
/// packet[..20].copy_from_slice(&[0x45, 0, 0x03, 0xe8, 0, 7, 0, 0, 64, 50, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
/// let (mut room, mut sent) = ([0; 576], vec![]);
/// for piece in cut(&packet, 576, 0).unwrap() {
///     let octets = piece.write(&mut room).unwrap();
///     sent.push(octets.len());
/// }
/// assert_eq!(sent, [20 + 552, 20 + 428]);
/// packet[6] = 0x40; // Don't Fragment
/// assert_eq!(cut(&packet, 576, 0).err(), Some(Uncut::DontFragment));
/// ```
///
/// # Errors
/// [`Uncut`].
pub fn cut(packet: &[u8], mtu: usize, id: u32) -> Result<Pieces<'_>, Uncut> {
    match packet.first().map(|first| first >> 4) {
        Some(4) => cut_v4(packet, mtu),
        Some(6) => cut_v6(packet, mtu, id),
        _ => Err(Uncut::Malformed),
    }
}

fn cut_v4(packet: &[u8], mtu: usize) -> Result<Pieces<'_>, Uncut> {
    let mut reader = Reader::new(packet);
    let header = ipv4::Header::read(&mut reader).map_err(|Malformed| Uncut::Malformed)?;
    let headers = packet.len().saturating_sub(reader.rest().len());
    let len = usize::from(header.total_len);
    let (headers, payload) = split(packet, headers, len)?;
    if len <= mtu {
        return Ok(Pieces::whole(headers, payload));
    }
    if header.dont_fragment {
        return Err(Uncut::DontFragment);
    }
    if usize::from(header.fragment_offset).wrapping_mul(8).wrapping_add(payload.len()) > ipv4::MAX_LEN {
        return Err(Uncut::Malformed);
    }
    let form = Form::V4 { more: header.more_fragments };
    Ok(Pieces { headers, left: Some(payload), offset: header.fragment_offset, step: step(mtu, headers.len())?, form })
}

fn cut_v6(packet: &[u8], mtu: usize, id: u32) -> Result<Pieces<'_>, Uncut> {
    let header = ipv6::Header::read(&mut Reader::new(packet)).map_err(|Malformed| Uncut::Malformed)?;
    let repeated = ipv6::headers(packet, Until::Fragment).map_err(|Malformed| Uncut::Malformed)?;
    let len = usize::from(header.payload_len).saturating_add(ipv6::HEADER_LEN);
    let (headers, payload) = split(packet, repeated.len, len)?;
    if len <= mtu {
        return Ok(Pieces::whole(headers, payload));
    }
    if repeated.next_header == FRAGMENT {
        return Err(Uncut::DontFragment);
    }
    let form = Form::V6 { named_at: repeated.named_at, next_header: repeated.next_header, id };
    let step = step(mtu, headers.len().saturating_add(HEADER_LEN))?;
    Ok(Pieces { headers, left: Some(payload), offset: 0, step, form })
}

/// The headers of a packet of `len` octets, and what it carries.
fn split(packet: &[u8], headers: usize, len: usize) -> Result<(&[u8], &[u8]), Uncut> {
    packet.get(..len).and_then(|packet| packet.split_at_checked(headers)).ok_or(Uncut::Malformed)
}

/// Octets of each piece but the last one behind `headers` octets: a multiple of 8.
fn step(mtu: usize, headers: usize) -> Result<usize, Uncut> {
    Some(mtu.saturating_sub(headers) & !7).filter(|step| *step > 0).ok_or(Uncut::TooNarrow)
}

/// What becomes of the headers in a piece.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// They stay as they are.
    Whole,
    /// `more`: the packet was itself a fragment, and not the last one.
    V4 {
        more: bool,
    },
    V6 {
        named_at: usize,
        next_header: u8,
        id: u32,
    },
}

/// What [`cut`] makes of a packet, piece by piece.
#[derive(Debug, Clone)]
pub struct Pieces<'p> {
    headers: &'p [u8],
    /// What no piece has yet; the last one takes it away.
    left: Option<&'p [u8]>,
    /// Where it begins, in units of 8 octets.
    offset: u16,
    step: usize,
    form: Form,
}

impl<'p> Pieces<'p> {
    fn whole(headers: &'p [u8], payload: &'p [u8]) -> Self {
        Self { headers, left: Some(payload), offset: 0, step: usize::MAX, form: Form::Whole }
    }
}

impl<'p> Iterator for Pieces<'p> {
    type Item = Piece<'p>;

    fn next(&mut self) -> Option<Piece<'p>> {
        let left = self.left?;
        let (content, rest) = left.split_at_checked(self.step).unwrap_or((left, &[]));
        let (offset, more) = (self.offset, !rest.is_empty());
        self.left = more.then_some(rest);
        self.offset = offset.saturating_add((self.step >> 3).try_into().unwrap_or(u16::MAX));
        Some(Piece { headers: self.headers, content, offset, more, form: self.form })
    }
}

impl FusedIterator for Pieces<'_> {}

/// One piece of a packet. [`Piece::write`] makes it a packet of its own.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'p> {
    headers: &'p [u8],
    content: &'p [u8],
    offset: u16,
    more: bool,
    form: Form,
}

impl Piece<'_> {
    /// Writes the piece to the beginning of `room`, and returns it.
    ///
    /// ```
    /// use ipsec_core::fragment::{Pieces, cut};
    /// let packet = [0x45, 0, 0, 24, 0, 7, 0, 0, 64, 50, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0xee, 0xee, 0xee, 0xee];
    /// let mut pieces: Pieces<'_> = cut(&packet, 1280, 0).unwrap();
    /// let only = pieces.next().unwrap();
    /// assert_eq!(only.write(&mut [0; 1280]).unwrap(), packet); // it was short enough
    /// assert!(only.write(&mut [0; 23]).is_err());
    /// assert!(pieces.next().is_none());
    /// ```
    ///
    /// # Errors
    /// [`NoRoom`]: it is longer. What is in `room` is unspecified then.
    pub fn write<'r>(&self, room: &'r mut [u8]) -> Result<&'r mut [u8], NoRoom> {
        let len = self.write_parts(room).map_err(|Malformed| NoRoom)?;
        let piece = room.get_mut(..len).ok_or(NoRoom)?;
        match self.form {
            Form::Whole => {}
            Form::V4 { more } => {
                if self.offset > 0 {
                    blank(piece.get_mut(ipv4::HEADER_LEN..self.headers.len()).unwrap_or_default());
                }
                ipv4::set_fragment(piece, self.offset, more || self.more).map_err(|Malformed| NoRoom)?;
            }
            Form::V6 { named_at, .. } => {
                *piece.get_mut(named_at).ok_or(NoRoom)? = FRAGMENT;
                ipv6::set_payload_len(piece).map_err(|Malformed| NoRoom)?;
            }
        }
        Ok(piece)
    }

    /// Returns how many octets these are.
    fn write_parts(&self, room: &mut [u8]) -> Result<usize, Malformed> {
        let mut writer = Writer::new(room);
        writer.put(self.headers)?;
        let mut len = self.headers.len();
        if let Form::V6 { next_header, id, .. } = self.form {
            fragment::Header { next_header, offset: self.offset, more: self.more, id }.write(&mut writer)?;
            len = len.saturating_add(HEADER_LEN);
        }
        writer.put(self.content)?;
        Ok(len.saturating_add(self.content.len()))
    }
}

/// Takes the options away that only the first fragment has (RFC 791 §3.1: those without the copied flag); the header stays as
/// long as it is.
fn blank(mut options: &mut [u8]) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    loop {
        let (kind, len) = match *options {
            [END, ..] | [] => return,
            [NO_OPERATION, ..] => (NO_OPERATION, 1),
            [kind, len, ..] if len >= 2 => (kind, usize::from(len)),
            _ => return,
        };
        let Some((option, rest)) = options.split_at_mut_checked(len) else { return };
        if kind & COPIED == 0 {
            option.fill(NO_OPERATION);
        }
        options = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;
    use std::vec;
    use std::vec::Vec;

    fn pieces(packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, Uncut> {
        let mut room = [0xcc; 4000];
        Ok(cut(packet, mtu, 0x1234_5678)?.map(|piece| piece.write(&mut room).unwrap().to_vec()).collect())
    }

    /// An IPv4 packet with these options that carries octets which tell their place.
    fn v4(options: &[u8], len: usize) -> Vec<u8> {
        let header = ipv4::Header {
            tos: 0xb8,
            total_len: (20 + options.len() + len) as u16,
            id: 0x77,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 9,
            protocol: 50,
            source: [192, 0, 2, 1].into(),
            destination: [192, 0, 2, 2].into(),
        };
        let mut packet = vec![0; 20];
        header.write(&mut Writer::new(&mut packet)).unwrap();
        packet[0] += options.len() as u8 / 4;
        packet.extend(options);
        packet.extend((0..len).map(|at| (at / 8) as u8));
        packet
    }

    #[test]
    fn an_ipv4_packet_is_cut_at_multiples_of_8_octets() {
        for (len, mtu) in [(1000, 576), (1000, 100), (1001, 28), (3000, 1280)] {
            let mut packet = v4(&[], len);
            packet.push(0xee); // behind the packet, and no part of it
            let pieces = pieces(&packet, mtu).unwrap();
            let mut at = 0;
            for (number, piece) in (1..).zip(&pieces) {
                assert!(piece.len() <= mtu);
                assert!(Sum::default().bytes(&piece[..20]).is_valid());
                let mut reader = Reader::new(piece);
                let header = ipv4::Header::read(&mut reader).unwrap();
                assert_eq!((header.id, header.tos, header.ttl, header.protocol), (0x77, 0xb8, 9, 50));
                assert_eq!(usize::from(header.fragment_offset) * 8, at);
                assert_eq!(header.more_fragments, number < pieces.len());
                assert_eq!(reader.rest(), &packet[20 + at..][..reader.rest().len()]);
                at += reader.rest().len();
            }
            assert_eq!(at, len);
        }
        let packet = v4(&[], 556);
        assert_eq!(pieces(&packet, 576), Ok(vec![packet.clone()]));
        assert_eq!(pieces(&packet, 27), Err(Uncut::TooNarrow));
        assert_eq!(pieces(&packet[..575], 100), Err(Uncut::Malformed));
    }

    #[test]
    fn a_fragment_is_cut_once_more_and_keeps_its_place() {
        let mut packet = v4(&[], 512);
        (packet[6], packet[7]) = (0x20 | 0x01, 0x02); // more follow, 0x102 times 8 octets behind the first one
        let pieces = pieces(&packet, 276).unwrap();
        let places: Vec<_> = pieces.iter().map(|piece| (piece[6], piece[7], piece.len())).collect();
        assert_eq!(places, [(0x21, 0x02, 276), (0x21, 0x22, 276)]);
        (packet[6], packet[7]) = (0x3f, 0xff);
        assert_eq!(cut(&packet, 276, 0).err(), Some(Uncut::Malformed), "beyond what a packet can have");
        packet[6] = 0x40;
        assert_eq!(cut(&packet, 276, 0).err(), Some(Uncut::DontFragment));
        assert!(cut(&packet, 532, 0).is_ok());
    }

    #[test]
    fn only_options_with_the_copied_flag_are_in_later_fragments() {
        // Record route, no operation, strict source route, and one that is cut off.
        let options = [7, 3, 4, 1, 0x89, 3, 4, 1, 7, 200, 0, 0];
        let pieces = pieces(&v4(&options, 100), 32 + 48).unwrap();
        assert_eq!(pieces[0][20..32], options);
        for piece in &pieces[1..] {
            assert_eq!(piece[20..32], [1, 1, 1, 1, 0x89, 3, 4, 1, 7, 200, 0, 0]);
            assert!(Sum::default().bytes(&piece[..32]).is_valid());
        }
    }

    #[test]
    fn an_ipv6_packet_is_cut_behind_what_routers_look_at() {
        // Hop-by-hop options, then ESP.
        let mut packet = vec![0; 48];
        (packet[0], packet[4], packet[5], packet[7], packet[40]) = (0x60, 0x07, 0xd8, 64, 50);
        packet.extend((0..2000).map(|at| (at / 8) as u8));
        let pieces = pieces(&packet, 1280).unwrap();
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1280, 56 + 2000 - 1224]);
        let mut at = 0;
        for (piece, more) in pieces.iter().zip([true, false]) {
            assert_eq!(usize::from(u16::from_be_bytes([piece[4], piece[5]])), piece.len() - 40);
            assert_eq!((piece[6], piece[40]), (0, FRAGMENT), "the options name what follows them");
            let mut reader = Reader::new(&piece[48..]);
            let header = fragment::Header::read(&mut reader).unwrap();
            let expected = fragment::Header { next_header: 50, offset: (at / 8) as u16, more, id: 0x1234_5678 };
            assert_eq!(header, expected);
            assert_eq!(reader.rest(), &packet[48 + at..][..reader.rest().len()]);
            at += reader.rest().len();
        }
        assert_eq!(cut(&pieces[0], 1279, 0).err(), Some(Uncut::DontFragment), "nobody cuts what is cut");
        assert!(cut(&pieces[0], 1280, 0).is_ok());
        assert_eq!(cut(&packet, 63, 0).err(), Some(Uncut::TooNarrow));
    }

    #[test]
    fn a_piece_needs_all_of_its_room() {
        for piece in cut(&v4(&[], 100), 68, 0).unwrap() {
            let len = piece.write(&mut [0; 68]).unwrap().len();
            assert!(piece.write(&mut vec![0; len - 1]).is_err());
            assert!(piece.write(&mut []).is_err());
        }
    }
}
