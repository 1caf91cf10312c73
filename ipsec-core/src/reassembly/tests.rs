use std::vec;
use std::vec::Vec;

use super::*;
use crate::buf::HEADROOM;
use crate::fragment::cut;
use crate::wire::checksum::Sum;
use crate::wire::cursor::Writer;
use crate::wire::ip::set_ecn;
use crate::wire::{ipv4, ipv6};
use core::net::{Ipv4Addr, Ipv6Addr};

const PATIENCE: Duration = Duration::from_secs(15);

/// A row of numbers that looks like chance (SplitMix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// A reassembly with so many slots for packets of so many octets; it lives as long as the test process.
fn reassembly(slots: usize, len: usize) -> Reassembly<'static> {
    let slots: Vec<Slot> = (0..slots).map(|_| Slot::EMPTY).collect();
    let bytes = vec![0xcc; slots.len() * Reassembly::share(len)].leak();
    Reassembly::new(7, PATIENCE, slots.leak(), bytes)
}

fn v4(source: u32, id: u16, len: usize) -> Vec<u8> {
    let header = ipv4::Header {
        tos: 0,
        total_len: (20 + len) as u16,
        id,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 9,
        protocol: 17,
        source: Ipv4Addr::from_bits(source),
        destination: [192, 0, 2, 2].into(),
    };
    let mut packet = vec![0; 20];
    header.write(&mut Writer::new(&mut packet)).unwrap();
    packet.extend((0..len).map(|at| (at / 8) as u8 ^ id as u8));
    packet
}

/// With hop-by-hop options in front of UDP.
fn v6(len: usize) -> Vec<u8> {
    let header = ipv6::Header {
        traffic_class: 0,
        flow_label: 5,
        payload_len: (8 + len) as u16,
        next_header: 0,
        hop_limit: 9,
        source: Ipv6Addr::LOCALHOST,
        destination: Ipv6Addr::UNSPECIFIED,
    };
    let mut packet = vec![0; 40];
    header.write(&mut Writer::new(&mut packet)).unwrap();
    packet.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend((0..len).map(|at| (at / 8) as u8));
    packet
}

fn pieces(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let mut room = [0; 2000];
    cut(packet, mtu, 0x1234_5678).unwrap().map(|piece| piece.write(&mut room).unwrap().to_vec()).collect()
}

/// The whole packet, when it is.
fn take_at(reassembly: &mut Reassembly<'_>, now: u64, piece: &[u8]) -> Result<Option<Vec<u8>>, Dropped> {
    let mut bytes = piece.to_vec();
    let mut packet = PacketBuf::new(&mut bytes, 0, piece.len()).unwrap();
    match reassembly.take(Instant::from_millis(now), 0, &mut packet)? {
        Outcome::Unfragmented => Ok(Some(packet.as_slice().to_vec())),
        Outcome::Kept => Ok(None),
        Outcome::Whole(whole) => {
            assert!(whole.headroom() >= HEADROOM && whole.tailroom() >= TAILROOM);
            Ok(Some(whole.as_slice().to_vec()))
        }
    }
}

fn take(reassembly: &mut Reassembly<'_>, piece: &[u8]) -> Result<Option<Vec<u8>>, Dropped> {
    take_at(reassembly, 0, piece)
}

#[test]
fn packets_in_pieces_of_any_size_and_order_are_what_they_were() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let mut reassembly = reassembly(8, 3000);
        let len = 1 + rng.below(2800) as usize;
        // One is cut twice on its way, and has options of which later fragments lack one.
        let mut packets = [v4(1, 7, len), v4(1, 8, len), v6(len), v4(2, 7, len)];
        packets[0].splice(20..20, [7, 3, 4, 1, 0x89, 3, 4, 1]);
        packets[0][0] = 0x47;
        ipv4::set_fragment(&mut packets[0], 0, false).unwrap();
        let mut arrive: Vec<(usize, Vec<u8>)> = Vec::new();
        for (number, packet) in packets.iter().enumerate() {
            let narrow = 200 + rng.below(1200) as usize;
            let cut = pieces(packet, narrow);
            let again = |piece: &Vec<u8>| if number == 0 { pieces(piece, narrow - 80) } else { vec![piece.clone()] };
            arrive.extend(cut.iter().flat_map(again).map(|piece| (number, piece)));
        }
        // Some come twice.
        let twice: Vec<_> = arrive.iter().filter(|_| rng.below(8) == 0).cloned().collect();
        arrive.extend(twice);
        rng.shuffle(&mut arrive);
        let mut whole = [0; 4];
        for (number, piece) in &arrive {
            if let Some(packet) =
                take(&mut reassembly, piece).unwrap_or_else(|dropped| panic!("seed {seed}: {dropped:?}"))
            {
                assert!(packet == packets[*number], "seed {seed}, packet {number}");
                whole[*number] += 1;
            }
        }
        assert!(whole.iter().all(|times| *times >= 1), "seed {seed}: {whole:?}");
        assert_eq!(reassembly.lost(), Lost::default(), "seed {seed}");
    }
}

#[test]
fn what_is_no_fragment_goes_on_as_it_is() {
    let mut reassembly = reassembly(0, 0);
    for packet in [v4(1, 7, 100), v6(100)] {
        assert_eq!(take(&mut reassembly, &packet), Ok(Some(packet)));
    }
    assert_eq!(take(&mut reassembly, &[]), Err(Dropped::Malformed));
    assert_eq!(take(&mut reassembly, &v4(1, 7, 100)[..99]), Err(Dropped::Malformed));
    assert_eq!(take(&mut reassembly, &pieces(&v4(1, 7, 100), 60)[0]), Err(Dropped::Full));
}

#[test]
fn a_single_fragment_is_whole_at_once_and_beside_others() {
    let mut reassembly = reassembly(8, 2000);
    let packet = v6(500);
    let parts = pieces(&packet, 300);
    assert_eq!(take(&mut reassembly, &parts[0]), Ok(None));
    // Of the same packet, it seems.
    let mut atomic = packet.clone();
    atomic[40] = 44;
    atomic.splice(48..48, [17, 0, 0, 0, 0x12, 0x34, 0x56, 0x78]);
    ipv6::set_payload_len(&mut atomic).unwrap();
    atomic.push(0xee); // behind its end
    assert_eq!(take(&mut reassembly, &atomic), Ok(Some(packet.clone())));
    let rest: Vec<_> = parts[1..].iter().map(|part| take(&mut reassembly, part)).collect();
    assert_eq!(rest.last(), Some(&Ok(Some(packet))));
}

/// A fragment of one packet: these octets of it.
fn fragment(start: usize, end: usize, more: bool) -> Vec<u8> {
    let mut packet = v4(1, 7, end);
    packet.drain(20..20 + start);
    ipv4::set_fragment(&mut packet, (start / 8) as u16, more).unwrap();
    packet
}

#[test]
fn fragments_that_overlap_cost_the_whole_packet() {
    for (other, more) in
        [((0, 16), true), ((8, 16), true), ((0, 32), true), ((24, 40), true), ((24, 48), false), ((8, 40), true)]
    {
        let mut reassembly = reassembly(8, 200);
        let of = |(start, end), more| fragment(start, end, more);
        assert_eq!(take(&mut reassembly, &of((8, 32), true)), Ok(None));
        assert_eq!(take(&mut reassembly, &of(other, more)), Err(Dropped::Overlap), "{other:?}");
        // What would have made it whole is dropped as well, and so is all that comes until its time is over.
        for (part, more) in [((0, 8), true), ((32, 48), false), ((8, 32), true)] {
            assert_eq!(take(&mut reassembly, &of(part, more)), Err(Dropped::Overlap), "{other:?}");
        }
        assert_eq!(take_at(&mut reassembly, 15_000, &of((8, 32), true)), Ok(None));
    }
}

#[test]
fn the_same_fragment_once_more_is_nothing_and_another_in_its_place_an_attack() {
    let mut reassembly = reassembly(8, 200);
    for _ in 0..3 {
        assert_eq!(take(&mut reassembly, &fragment(8, 24, true)), Ok(None));
        assert_eq!(take(&mut reassembly, &fragment(24, 30, false)), Ok(None));
    }
    assert_eq!(take(&mut reassembly, &fragment(0, 8, true)), Ok(Some(v4(1, 7, 30))));
    assert_eq!(take(&mut reassembly, &fragment(8, 24, true)), Ok(None), "late, it begins anew");
    let mut other = fragment(8, 24, true);
    other[30] ^= 1;
    assert_eq!(take(&mut reassembly, &other), Err(Dropped::Overlap));
}

#[test]
fn fragments_that_disagree_on_the_end_cost_the_whole_packet() {
    // Each two of one packet.
    let pairs = [
        ((16, 24, false), (24, 32, true)),
        ((16, 24, false), (24, 32, false)),
        ((24, 32, true), (16, 24, false)),
        ((16, 24, true), (16, 24, false)),
        ((16, 24, false), (16, 24, true)),
        ((16, 24, false), (8, 16, false)),
    ];
    for (one, other) in pairs {
        let mut reassembly = reassembly(8, 200);
        assert_eq!(take(&mut reassembly, &fragment(one.0, one.1, one.2)), Ok(None));
        assert_eq!(
            take(&mut reassembly, &fragment(other.0, other.1, other.2)),
            Err(Dropped::Overlap),
            "{one:?}, {other:?}"
        );
    }
}

#[test]
fn atk_02_packets_have_bounds_in_octets_and_fragments() {
    let mut reassembly = reassembly(8, 1024);
    assert_eq!(take(&mut reassembly, &fragment(1016, 1025, false)), Err(Dropped::TooLong));
    for number in 0..MAX_FRAGMENTS {
        // From the end on, with holes: nothing ever follows.
        let start = 8 * (127 - number);
        assert_eq!(take(&mut reassembly, &fragment(start, start + 8, true)), Ok(None), "{number}");
    }
    assert_eq!(take(&mut reassembly, &fragment(0, 8, true)), Err(Dropped::TooMany));
    assert_eq!(take(&mut reassembly, &fragment(8, 16, true)), Err(Dropped::TooMany), "all of it is given up");

    // More than a packet can have, with its headers.
    let mut beyond = fragment(8, 24, false);
    ipv4::set_fragment(&mut beyond, 0x1fff, false).unwrap();
    assert_eq!(take(&mut reassembly, &beyond), Err(Dropped::TooLong));
    // With its headers, and in memory that would take it.
    let mut large = self::reassembly(1, 65_535);
    for (len, taken) in [(11, Ok(None)), (12, Err(Dropped::TooLong)), (16, Err(Dropped::TooLong))] {
        let mut last = fragment(0, len, false);
        ipv4::set_fragment(&mut last, 65_504 / 8, false).unwrap();
        assert_eq!(take(&mut large, &last), taken, "{len}");
    }
    // Nothing, and no whole unit.
    assert_eq!(take(&mut reassembly, &fragment(8, 8, true)), Err(Dropped::Malformed));
    assert_eq!(take(&mut reassembly, &fragment(8, 15, true)), Err(Dropped::Malformed));
}

#[test]
fn atk_44_as_many_fragments_as_there_may_be_come_in_any_order() {
    let packet = v4(1, 7, 8 * MAX_FRAGMENTS);
    let mut parts = pieces(&packet, 28);
    assert_eq!(parts.len(), MAX_FRAGMENTS);
    parts.reverse();
    for seed in 0..50 {
        let mut reassembly = reassembly(8, 1024);
        let mut taken: Vec<_> = parts.iter().map(|part| take(&mut reassembly, part)).collect();
        assert_eq!(taken.pop(), Some(Ok(Some(packet.clone()))), "seed {seed}");
        assert!(taken.iter().all(|kept| *kept == Ok(None)), "seed {seed}");
        Rng(seed).shuffle(&mut parts);
    }
}

#[test]
fn the_first_fragment_of_ipv6_says_what_the_packet_carries() {
    let mut reassembly = reassembly(8, 1024);
    let mut first = pieces(&v6(500), 300).swap_remove(0);
    first[48] = 60; // destination options, which go on in another fragment
    first[56..58].copy_from_slice(&[17, 200]);
    assert_eq!(take(&mut reassembly, &first), Err(Dropped::Malformed));
    first[57] = 2;
    assert_eq!(take(&mut reassembly, &first), Ok(None));
}

#[test]
fn a_mark_of_congestion_is_told_or_costs_the_packet() {
    use crate::ecn::Ecn;
    let all = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];
    for (first, last) in all.into_iter().flat_map(|first| all.map(|last| (first, last))) {
        let mut reassembly = reassembly(8, 200);
        let (mut one, mut other) = (fragment(0, 16, true), fragment(16, 30, false));
        set_ecn(&mut one, first);
        set_ecn(&mut other, last);
        assert_eq!(take(&mut reassembly, &other), Ok(None));
        let packet = take(&mut reassembly, &one);
        match ([first, last].contains(&Ecn::Ce), [first, last].contains(&Ecn::NotEct)) {
            (true, true) => assert_eq!(packet, Err(Dropped::Congestion)),
            (marked, _) => {
                let packet = packet.unwrap().unwrap();
                assert_eq!(Ecn::of(packet[1]), if marked { Ecn::Ce } else { first });
                assert!(Sum::default().bytes(&packet[..20]).is_valid());
            }
        }
    }
}

#[test]
fn what_is_not_whole_in_time_is_given_up() {
    let mut reassembly = reassembly(8, 200);
    let begun = |id, at: u64| (pieces(&v4(1, id, 40), 44).swap_remove(0), at);
    for (piece, at) in [begun(1, 1000), begun(2, 2000), begun(3, 3000)] {
        assert_eq!(take_at(&mut reassembly, at, &piece), Ok(None));
    }
    // The second one becomes whole, and is waited for no more.
    let mut last = pieces(&v4(1, 2, 40), 44).swap_remove(1);
    assert!(take_at(&mut reassembly, 4000, &last).unwrap().is_some());
    assert_eq!(reassembly.poll_timeout(), Some(Instant::from_millis(16_000)));
    reassembly.handle_timeout(Instant::from_millis(15_999));
    assert_eq!(reassembly.lost().expired, 0);
    reassembly.handle_timeout(Instant::from_millis(16_000));
    assert_eq!((reassembly.lost().expired, reassembly.poll_timeout()), (1, Some(Instant::from_millis(18_000))));
    // Its last fragment comes too late, also where nobody has looked at the clock.
    last = pieces(&v4(1, 3, 40), 44).swap_remove(1);
    assert_eq!(take_at(&mut reassembly, 18_000, &last), Ok(None));
    assert_eq!((reassembly.lost().expired, reassembly.poll_timeout()), (2, Some(Instant::from_millis(33_000))));
    reassembly.handle_timeout(Instant::FAR_FUTURE);
    assert_eq!(reassembly.poll_timeout(), None);
}

#[test]
fn atk_02_who_sends_many_does_not_take_the_place_of_who_sends_few() {
    // One set, so all meet.
    let mut reassembly = reassembly(WAYS, 200);
    let first = |source, id| pieces(&v4(source, id, 40), 44).swap_remove(0);
    let last = |source, id| pieces(&v4(source, id, 40), 44).swap_remove(1);
    for id in 0..100 {
        assert_eq!(take_at(&mut reassembly, u64::from(id), &first(1, id)), Ok(None));
    }
    assert_eq!(take_at(&mut reassembly, 100, &first(2, 7)), Ok(None));
    for id in 100..10_000 {
        assert_eq!(take_at(&mut reassembly, 101, &first(1, id)), Ok(None));
    }
    assert!(take_at(&mut reassembly, 102, &last(2, 7)).unwrap().is_some());
    assert_eq!(reassembly.lost(), Lost { expired: 0, displaced: 10_000 + 1 - 8 });
    // The newest of those that were many are still there.
    assert!(take_at(&mut reassembly, 102, &last(1, 9_999)).unwrap().is_some());
    assert_eq!(take_at(&mut reassembly, 102, &last(1, 9_000)), Ok(None));
}

#[test]
fn atk_02_a_host_of_ipv6_is_one_sender_however_many_addresses_it_has() {
    // Sets enough that its addresses would reach them all.
    let mut reassembly = reassembly(8 * WAYS, 200);
    let piece = |network: u8, host: u16, place| {
        let mut packet = v6(100);
        packet[8..24].fill(0);
        (packet[8], packet[15]) = (0xfd, network);
        packet[22..24].copy_from_slice(&host.to_be_bytes());
        pieces(&packet, 112).swap_remove(place)
    };
    for network in 0..8 {
        assert_eq!(take_at(&mut reassembly, 0, &piece(network, 1, 0)), Ok(None));
    }
    for host in 0..3000 {
        assert_eq!(take_at(&mut reassembly, 1, &piece(99, host, 0)), Ok(None));
    }
    for network in 0..8 {
        assert!(matches!(take_at(&mut reassembly, 2, &piece(network, 1, 1)), Ok(Some(_))), "network {network}");
    }
}

#[test]
fn sources_spread_over_the_sets() {
    let (slots, sources) = (64 * WAYS, 2000_u32);
    let mut used = vec![0; slots / WAYS];
    let mut other = vec![0; slots / WAYS];
    for source in 0..sources {
        let piece = pieces(&v4(source, 7, 40), 44).swap_remove(0);
        let Ok(Seen::Part(part)) = Seen::of(0, &piece) else { panic!() };
        used[part.key.place(7) as usize % 64] += 1;
        other[part.key.place(8) as usize % 64] += usize::from(part.key.place(7) % 64 == part.key.place(8) % 64);
    }
    assert!(used.iter().all(|number| (8..80).contains(number)), "{used:?}");
    assert!(other.iter().sum::<usize>() < 100, "another seed is another order");
}

#[test]
fn fragments_from_different_places_are_never_put_together() {
    let mut reassembly = reassembly(8, 200);
    let parts = pieces(&v4(1, 7, 40), 44);
    for (scope, piece) in [(1, 0), (2, 1), (3, 0)] {
        let mut bytes = parts[piece].clone();
        let mut packet = PacketBuf::new(&mut bytes, 0, parts[piece].len()).unwrap();
        assert!(matches!(reassembly.take(Instant::ZERO, scope, &mut packet), Ok(Outcome::Kept)), "{scope}");
    }
    let mut bytes = parts[1].clone();
    let mut packet = PacketBuf::new(&mut bytes, 0, parts[1].len()).unwrap();
    assert!(matches!(reassembly.take(Instant::ZERO, 1, &mut packet), Ok(Outcome::Whole(_))));
}

#[test]
fn nothing_that_comes_costs_more_than_its_bounds() {
    // Whatever comes, and in whatever order: what is whole is in order, and the list of ages has no end and no hole.
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let mut reassembly = reassembly(1 + rng.below(20) as usize, 100);
        let mut now = 0;
        for _ in 0..500 {
            now += rng.below(2000);
            let (start, len) = (rng.below(12) * 8, 1 + rng.below(40));
            let more = rng.below(3) > 0;
            let len = if more { (len / 8 + 1) * 8 } else { len } as usize;
            let mut packet = v4(1 + rng.below(3) as u32, rng.below(6) as u16, len);
            ipv4::set_fragment(&mut packet, start as u16 / 8, more).unwrap();
            if let Ok(Some(whole)) = take_at(&mut reassembly, now, &packet) {
                assert!(Sum::default().bytes(&whole[..20]).is_valid() && whole.len() <= 120, "seed {seed}");
            }
            let after = Instant::from_millis(now);
            reassembly.handle_timeout(after);
            let waiting = reassembly.ages.waiting();
            assert!(waiting.is_sorted_by_key(|(_, due)| *due), "seed {seed}");
            assert_eq!(reassembly.poll_timeout(), waiting.first().map(|(_, due)| *due));
            assert!(waiting.iter().all(|(_, due)| *due > after && *due <= after + PATIENCE), "seed {seed}");
        }
    }
}
