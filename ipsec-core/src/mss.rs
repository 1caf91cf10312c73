//! The maximum segment size that TCP says when it begins (RFC 9293 §3.7.1). Lowered on the way, both ends send segments that
//! fit the tunnel, also where ICMP does not come through.

use crate::wire::checksum;
use crate::wire::ip::{Content, PROTOCOL_TCP, Version};
use crate::wire::{ipv4, ipv6};

/// Octets of a TCP header without options.
const HEADER_LEN: usize = 20;
const SYN: u8 = 0x02;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;

/// Lowers the MSS that a TCP SYN names to what fits packets of `mtu` octets; the checksum follows. `false`: the packet is as it
/// was: no SYN, or it names no MSS, or one that is small enough, or its options do not hold together.
///
/// For packets of both ways: each end says what it takes. `mtu` is [`Overhead::max_inner_len`](crate::mtu::Overhead::max_inner_len)
/// of the path; IP and TCP count without options, as those lengthen single segments only (RFC 6691 §2).
///
/// ```
/// use ipsec_core::mss::clamp;
/// let mut syn = [
///     0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9, // IPv4
///     0x13, 0x88, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0xff, 0xff, 0x12, 0x34, 0, 0, // TCP: SYN
///     2, 4, 0x05, 0xb4, // MSS 1460
/// ];
/// assert!(clamp(&mut syn, 1438));
/// assert_eq!(syn[42..], 1398_u16.to_be_bytes());
/// assert!(!clamp(&mut syn, 1500)); // never raised
/// ```
pub fn clamp(packet: &mut [u8], mtu: usize) -> bool {
    lower(packet, mtu).is_some()
}

fn lower(packet: &mut [u8], mtu: usize) -> Option<()> {
    let Content { version, protocol, later_fragment, start, payload, .. } = Content::of(packet).ok()?;
    let ip = match version {
        Version::V4 => ipv4::HEADER_LEN,
        Version::V6 => ipv6::HEADER_LEN,
    };
    let most = mtu.saturating_sub(ip).saturating_sub(HEADER_LEN);
    // Nothing is said with 0.
    let most = u16::try_from(most).ok().filter(|most| *most > 0)?;
    if protocol != PROTOCOL_TCP || later_fragment {
        return None;
    }
    let at = named_at(payload)?;
    let segment = packet.get_mut(start..)?;
    let named: &mut [u8; 2] = segment.get_mut(at..)?.first_chunk_mut()?;
    let old = u16::from_be_bytes(*named);
    if old <= most {
        return None;
    }
    *named = most.to_be_bytes();
    // Where it does not begin a word, its octets stand in two, each at the other's place.
    let (old, new) = if at.is_multiple_of(2) { (old, most) } else { (old.swap_bytes(), most.swap_bytes()) };
    let [.., c0, c1, _, _] = segment.first_chunk_mut::<HEADER_LEN>()?;
    [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), old, new).to_be_bytes();
    Some(())
}

/// Where in a segment the MSS stands.
fn named_at(segment: &[u8]) -> Option<usize> {
    let header: &[u8; HEADER_LEN] = segment.first_chunk()?;
    let [.., offset, flags, _, _, _, _, _, _] = *header;
    if flags & SYN == 0 {
        return None;
    }
    let mut options = segment.get(HEADER_LEN..usize::from(offset >> 4).wrapping_mul(4))?;
    let mut at = HEADER_LEN;
    loop {
        let len = match *options {
            [END, ..] | [] => return None,
            [NO_OPERATION, ..] => 1,
            [MSS, 4, _, _, ..] => return Some(at.saturating_add(2)),
            // A length that names not even itself would never end.
            [_, len, ..] if len >= 2 => usize::from(len),
            _ => return None,
        };
        options = options.get(len..)?;
        at = at.saturating_add(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;
    use std::vec::Vec;

    /// A SYN with these options behind these headers, and where its segment begins.
    fn syn(v6: bool, extensions: &[u8], options: &[u8]) -> (Vec<u8>, usize) {
        let mut segment = Vec::from([0x13, 0x88, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0, SYN, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(options);
        segment.resize(segment.len().next_multiple_of(4), 0);
        segment[12] = (segment.len() / 4) as u8 * 16;
        let len = segment.len() + extensions.len();
        let mut packet = Vec::from([0_u8; 40]);
        if v6 {
            packet[0] = 0x60;
            packet[5] = len as u8;
            packet[6] = if extensions.is_empty() { 6 } else { 60 };
            (packet[23], packet[39]) = (1, 2);
        } else {
            packet.truncate(20);
            packet[..4].copy_from_slice(&[0x45, 0, 0, 20 + len as u8]);
            packet[9] = 6;
            (packet[15], packet[19]) = (1, 2);
        }
        packet.extend(extensions);
        let start = packet.len();
        let checksum = checksum(&packet, &segment).finish();
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(segment);
        (packet, start)
    }

    /// The addresses lie in front of the extensions: they are summed as they stand.
    fn checksum(packet: &[u8], segment: &[u8]) -> Sum {
        let addresses = if packet[0] == 0x60 { &packet[8..40] } else { &packet[12..20] };
        Sum::default().bytes(addresses).word(segment.len() as u16).word(6).bytes(segment)
    }

    #[test]
    fn the_mss_is_lowered_wherever_it_stands_and_the_checksum_holds() {
        let destination_options = [6, 0, 1, 4, 0, 0, 0, 0];
        for (v6, extensions) in [(false, &[][..]), (true, &[]), (true, &destination_options)] {
            for options in [&[2, 4, 0x05, 0xb4][..], &[1, 2, 4, 0x05, 0xb4], &[3, 3, 7, 1, 1, 8, 2, 2, 4, 0x05, 0xb4]] {
                let (mut packet, start) = syn(v6, extensions, options);
                let before = packet.clone();
                let ip = if v6 { 40 } else { 20 };
                assert!(clamp(&mut packet, 1400), "{options:?}");
                assert!(checksum(&packet, &packet[start..]).is_valid(), "{options:?}");
                let at = start + 20 + options.len() - 2;
                assert_eq!(packet[at..at + 2], (1400_u16 - ip - 20).to_be_bytes());
                let mut changed = (0..packet.len()).filter(|octet| packet[*octet] != before[*octet]);
                assert!(changed.all(|octet| [start + 16, start + 17, at, at + 1].contains(&octet)));
            }
        }
    }

    #[test]
    fn what_is_small_enough_or_no_syn_or_broken_stays_as_it_is() {
        let unchanged = |mut packet: Vec<u8>, mtu: usize| {
            let before = packet.clone();
            assert!(!clamp(&mut packet, mtu));
            assert_eq!(packet, before);
        };
        let mss = [2, 4, 0x05, 0xb4];
        let (packet, start) = syn(false, &[], &mss);
        assert!(clamp(&mut packet.clone(), 1499));
        for mtu in [1500, 9000, 70_000, 40, 39, 0] {
            unchanged(packet.clone(), mtu);
        }
        let changed = |at: usize, octet: u8| {
            let mut packet = packet.clone();
            packet[at] = octet;
            packet
        };
        unchanged(changed(start + 13, 0x10), 1300); // an ACK
        unchanged(changed(9, 17), 1300); // UDP
        unchanged(changed(7, 1), 1300); // a later fragment
        unchanged(changed(start + 12, 0x70), 1300); // options beyond the packet
        unchanged(changed(start + 12, 0x40), 1300); // less than a header
        for options in
            [&[][..], &[0, 2, 4, 5, 0xb4], &[2, 3, 5, 1], &[8, 0, 2, 4, 5, 0xb4], &[8, 1, 2, 4, 5, 0xb4], &[1, 1, 1, 2]]
        {
            unchanged(syn(false, &[], options).0, 1300);
        }
        for len in 0..packet.len() {
            unchanged(packet[..len].to_vec(), 1300);
        }
    }
}
