//! Fragments in any order: those of a packet that was cut make that packet, and whatever else comes keeps to its bounds.

use std::time::Duration;

use ipsec_core::buf::PacketBuf;
use ipsec_core::flow::Flow;
use ipsec_core::fragment::cut;
use ipsec_core::reassembly::{Outcome, Reassembly, Slot};
use ipsec_core::time::Instant;
use ipsec_core::wire::ipv6::{FRAGMENT, Until, headers};

use crate::input::Input;

const SLOTS: usize = 9;
const LONGEST: usize = 600;
const PATIENCE: Duration = Duration::from_secs(15);

/// A way, and then either a packet with what it is cut to, or fragments with their times and lengths.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut slots, mut bytes) = ([const { Slot::EMPTY }; SLOTS], [0; SLOTS * Reassembly::share(LONGEST)]);
    let mut reassembly = Reassembly::new(7, PATIENCE, &mut slots, &mut bytes);
    match input.octet() {
        0 => in_pieces(&mut reassembly, &mut input),
        _ => anything(&mut reassembly, &mut input),
    }
}

/// Pieces of a packet, some twice, in the order that the input says.
fn in_pieces(reassembly: &mut Reassembly<'_>, input: &mut Input<'_>) {
    let (mtu, order) = (usize::from(input.octet()), input.array::<32>());
    let packet = input.rest();
    let Ok(pieces) = cut(packet, mtu, 1) else { return };
    let mut room = [0; 256];
    let pieces: Vec<Vec<u8>> = pieces.map(|piece| piece.write(&mut room).expect("room").to_vec()).collect();
    let len = Flow::of(packet).map_or(0, |flow| flow.len);
    // What is longer, has more pieces, or is a fragment already, is the other way's.
    if pieces.len() > 32 || len > LONGEST || fragment(packet) {
        return;
    }
    let again = order.iter().filter_map(|octet| pieces.get(usize::from(*octet)));
    let mut whole = 0;
    for piece in again.chain(&pieces) {
        assert!(piece.len() <= mtu || pieces.len() == 1);
        let mut piece = piece.clone();
        let len = piece.len();
        let mut piece = PacketBuf::new(&mut piece, 0, len).expect("all of it");
        match reassembly.take(Instant::ZERO, 0, &mut piece) {
            Ok(Outcome::Whole(found)) => {
                assert_eq!(without_checksum(found.as_slice()), without_checksum(&packet[..found.len()]));
                whole += 1;
            }
            Ok(Outcome::Kept) => {}
            Ok(Outcome::Unfragmented) => whole += 1,
            // An IPv6 packet whose headers are more than the first piece has.
            Err(dropped) => return assert_eq!(packet[0] >> 4, 6, "{dropped:?}"),
        }
    }
    assert!(whole > 0, "nothing is missing");
}

fn fragment(packet: &[u8]) -> bool {
    match packet[0] >> 4 {
        4 => (packet[6] & 0x3f, packet[7]) != (0, 0),
        _ => headers(packet, Until::Fragment).is_ok_and(|headers| headers.next_header == FRAGMENT),
    }
}

/// The checksum of IPv4 is made anew, whatever it was.
fn without_checksum(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
    }
    packet
}

fn anything(reassembly: &mut Reassembly<'_>, input: &mut Input<'_>) {
    let mut now = Instant::ZERO;
    while !input.is_empty() {
        now = now + Duration::from_millis(u64::from(input.octet()) * 64);
        let (scope, len) = (u32::from(input.octet() % 2), usize::from(input.octet()) * 4);
        let mut bytes = input.take(len).to_vec();
        let len = bytes.len();
        let mut packet = PacketBuf::new(&mut bytes, 0, len).expect("all of it");
        if let Ok(Outcome::Whole(whole)) = reassembly.take(now, scope, &mut packet) {
            assert!(whole.len() <= LONGEST + 128);
            let length = |at: usize| usize::from(u16::from_be_bytes([whole.as_slice()[at], whole.as_slice()[at + 1]]));
            assert_eq!(if whole.as_slice()[0] >> 4 == 4 { length(2) } else { length(4) + 40 }, whole.len());
        }
        reassembly.handle_timeout(now);
        assert!(reassembly.poll_timeout().is_none_or(|due| due > now && due <= now + PATIENCE));
    }
}
