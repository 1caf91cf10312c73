//! The header of what hosts say to each other in transport and BEET mode, which is not in ESP: the kernel makes it anew at
//! either end, and is told of the fields that are a program's (hop limit, and what marks the packet), as RFC 5082 relies on.

use ipsec_core::wire::cursor::{Malformed, Reader, Writer};
use ipsec_core::wire::{ipv4, ipv6};

use crate::socket::Marks;

/// Whether a packet has options, or extension headers of the way, in front of what ESP carries: the kernel would leave them out.
pub(super) fn has_options(packet: &[u8]) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    match packet {
        [first, ..] if first >> 4 == 4 => first & 0x0f > 5,
        [first, _, _, _, _, _, next, ..] if first >> 4 == 6 => match *next {
            HOP_BY_HOP | ROUTING => true,
            // With a routing header behind them, those are of the way.
            DESTINATION => packet.get(ipv6::HEADER_LEN) == Some(&ROUTING),
            _ => false,
        },
        _ => false,
    }
}

/// Writes what the outer header had into the new one of a packet.
pub(super) fn mark(packet: &mut [u8], marks: Marks) -> Result<(), Malformed> {
    let hops = marks.hops.unwrap_or(64);
    match packet.first().map(|first| first >> 4) {
        Some(4) => {
            let header = ipv4::Header::read(&mut Reader::new(packet))?;
            ipv4::Header { tos: marks.class, ttl: hops, ..header }.write(&mut Writer::new(packet))
        }
        _ => {
            let header = ipv6::Header::read(&mut Reader::new(packet))?;
            ipv6::Header { traffic_class: marks.class, hop_limit: hops, ..header }.write(&mut Writer::new(packet))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V6: [u8; 48] = {
        let mut packet = [0; 48];
        (packet[0], packet[5], packet[7]) = (0x60, 8, 64);
        packet
    };

    #[test]
    fn what_the_kernel_would_leave_out_is_seen() {
        let v4 = |first| [&[first, 0, 0, 20][..], &[0; 20]].concat();
        assert!(!has_options(&v4(0x45)) && has_options(&v4(0x46)) && !has_options(&[]));
        for (next, behind, seen) in
            [(17, 0, false), (0, 17, true), (43, 17, true), (60, 17, false), (60, 43, true), (44, 0, false)]
        {
            let mut packet = V6;
            (packet[6], packet[40]) = (next, behind);
            assert_eq!(has_options(&packet), seen, "{next}, {behind}");
        }
    }

    #[test]
    fn a_new_header_gets_hop_limit_and_marks_and_keeps_all_else() {
        let marks = Marks { class: 0xb9, hops: Some(255), whole: false };
        let mut v4 = [0x45, 0, 0, 24, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 3, 4];
        mark(&mut v4, marks).unwrap();
        // The checksum, by hand: 0x45b9 + 0x18 + 0x4000 + 0xff11 + 0xc000 + 0x201 + 0xc000 + 0x202 is 0x308e5, folded 0x8e8.
        assert_eq!(v4, [0x45, 0xb9, 0, 24, 0, 0, 0x40, 0, 255, 17, 0xf7, 0x17, 192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 3, 4]);
        let mut v6 = V6;
        mark(&mut v6, marks).unwrap();
        assert_eq!((&v6[..8], &v6[8..]), (&[0x6b, 0x90, 0, 0, 0, 8, 0, 255][..], &V6[8..]));
        assert!(mark(&mut v6[..39], marks).is_err() && mark(&mut [], marks).is_err());
    }
}
