//! Sequence numbers, both ways, at every place where they have gone wrong elsewhere.

use super::suites;
use crate::ends::{NOW, Sa, a_to_b, inbound, open, outbound, seal, tunnel};
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::error::{Discard, Refused};
use ipsec_core::replay::Window;
use ipsec_core::sa::{self, Event, Reached};
use ipsec_core::transform::Keys;

use Discard::{InForged, InReplayed, InStale};

/// One step of a truth table: a number, and what `check` says before it is committed.
type Step = (u64, Result<(), Discard>);

fn walk(name: &str, highest: u64, words: usize, steps: &[Step]) {
    let mut bits = vec![0; words];
    let mut window = Window::new(highest, &mut bits);
    for (row, (sequence, expected)) in (1..).zip(steps) {
        assert_eq!(window.check(*sequence, &bits), *expected, "{name}, row {row}: {sequence:#x}");
        if expected.is_ok() {
            window.commit(*sequence, &mut bits);
            assert_eq!(window.check(*sequence, &bits), Err(InReplayed), "{name}, row {row} again");
        }
    }
}

#[test]
fn atk_70_truth_table_at_the_beginning_of_u64() {
    walk(
        "64",
        0,
        1,
        &[
            (0, Err(InStale)),       // 1: never sent
            (1, Ok(())),             // 2
            (1, Err(InReplayed)),    // 3
            (3, Ok(())),             // 4: a gap
            (2, Ok(())),             // 5: late
            (64, Ok(())),            // 6: 1 is the oldest in the window
            (1, Err(InReplayed)),    // 7
            (4, Ok(())),             // 8
            (65, Ok(())),            // 9: 1 leaves
            (1, Err(InStale)),       // 10
            (2, Err(InReplayed)),    // 11: the oldest
            (5, Ok(())),             // 12
            (129, Ok(())),           // 13: exactly a window ahead, nothing left of the old one
            (65, Err(InStale)),      // 14
            (66, Ok(())),            // 15: the oldest, never received
            (128, Ok(())),           // 16
            (1000, Ok(())),          // 17: far ahead
            (937, Ok(())),           // 18
            (936, Err(InStale)),     // 19
            (1063, Ok(())),          // 20: one less than a window ahead, 1000 stays
            (1000, Err(InReplayed)), // 21
            (1001, Ok(())),          // 22
            (999, Err(InStale)),     // 23
        ],
    );
    walk(
        "1024",
        0,
        16,
        &[
            (1024, Ok(())),
            (1, Ok(())),
            (1025, Ok(())),
            (1, Err(InStale)),
            (2, Ok(())),
            (2048, Ok(())),
            (1025, Err(InReplayed)),
            (1024, Err(InStale)),
            (1026, Ok(())),
            (5000, Ok(())),
            (3977, Ok(())),
            (3976, Err(InStale)),
        ],
    );
    walk(
        "everything below the start counts as seen",
        500,
        2,
        &[
            (500, Err(InReplayed)),
            (373, Err(InReplayed)),
            (372, Err(InStale)),
            (501, Ok(())),
            (500, Err(InReplayed)),
            (600, Ok(())),
            (502, Ok(())),
            (500, Err(InReplayed)),
        ],
    );
}

#[test]
fn atk_70_truth_table_at_the_end_of_u64() {
    let end = u64::MAX;
    for words in [1, 2, 16, 64] {
        let size = words as u64 * 64;
        walk(
            "end",
            end - size - 1,
            words,
            &[
                (end - size, Ok(())),
                (end - size - 1, Err(InReplayed)),
                (end - 1, Ok(())),
                (end - size, Err(InReplayed)),
                (end, Ok(())),
                (end, Err(InReplayed)),
                (end - size, Err(InStale)),
                (end - size + 1, Ok(())),
                (end - 2, Ok(())),
                (0, Err(InStale)),
                (1, Err(InStale)),
            ],
        );
        walk(
            "one jump over all of it",
            1,
            words,
            &[(end, Ok(())), (1, Err(InStale)), (end - size + 1, Ok(())), (end - size, Err(InStale))],
        );
    }
}

#[test]
fn atk_53_the_high_half_of_an_extended_number_is_inferred_as_in_rfc_4303_appendix_a() {
    let (span, mut bits) = (1u64 << 32, [0; 1]);
    let table: [(u64, u32, Option<u64>); 16] = [
        (0, 1, Some(1)),                              // 1: the first packet
        (0, u32::MAX, None),                          // 2: before the first
        (63, 0, Some(0)),                             // 3: case A from here on
        (63, u32::MAX, Some(span - 1)),               // 4: far ahead, same span
        (1000, 937, Some(937)),                       // 5: oldest in the window
        (1000, 936, Some(span + 936)),                // 6: left of it means the next span
        (span - 1, 0, Some(span)),                    // 7: over the edge
        (span - 1, 0xffff_ffc0, Some(span - 64)),     // 8
        (span - 1, 0xffff_ffbf, Some(2 * span - 65)), // 9
        (span, u32::MAX, Some(span - 1)),             // 10: case B, late from before the edge
        (span + 62, u32::MAX, Some(span - 1)),        // 11: oldest
        (span + 62, 0xffff_fffe, Some(2 * span - 2)), // 12
        (span + 63, u32::MAX, Some(2 * span - 1)),    // 13: case A again
        (u64::MAX, u32::MAX, Some(u64::MAX)),         // 14
        (u64::MAX, 0, None),                          // 15: beyond the last
        (u64::MAX - 63, 0x8000_0000, None),           // 16
    ];
    for (row, (highest, low, expected)) in (1..).zip(table) {
        let window = Window::new(highest, &mut bits);
        assert_eq!(window.extend(low, &bits), expected, "row {row}");
    }
}

#[test]
fn atk_51_a_window_of_4096_takes_packets_4095_late() {
    let (mut out, mut inn) = tunnel(&Sa { window: 4096, ..Sa::default() });
    let first: Vec<_> = (0..2).map(|_| seal(&mut out, &a_to_b(8)).unwrap()).collect();
    for _ in 2..4096 {
        seal(&mut out, &a_to_b(8)).unwrap();
    }
    let newest = seal(&mut out, &a_to_b(8)).unwrap();
    assert!(open(&mut inn, &newest).is_ok());
    assert_eq!(open(&mut inn, &first[0]), Err(InStale));
    assert!(open(&mut inn, &first[1]).is_ok());
}

#[test]
fn atk_52_no_inbound_sa_without_a_window() {
    let (mut out, mut inn) = tunnel(&Sa::default());
    let esp = seal(&mut out, &a_to_b(40)).unwrap();
    assert!(open(&mut inn, &esp).is_ok());
    assert_eq!(open(&mut inn, &esp), Err(InReplayed));
    let without = Sa { window: 0, spi: 0x9999, ..Sa::default() };
    assert_eq!(inn.install(NOW, &without.inbound()).unwrap_err(), Refused::Window);
}

#[test]
fn atk_56_window_sizes_are_checked() {
    let mut inn = inbound(1); // 64 words: at most 4096
    for window in [0, 1, 32, 63, 65, 96, 192, 4095, 4097, 8192, usize::MAX] {
        let sa = Sa { window, ..Sa::default() };
        assert_eq!(inn.install(NOW, &sa.inbound()).unwrap_err(), Refused::Window, "{window}");
    }
    for window in [64, 128, 1024, 4096] {
        let sa = Sa { window, ..Sa::default() };
        let id = inn.install(NOW, &sa.inbound()).unwrap();
        assert!(inn.remove(id));
    }
}

#[test]
fn atk_54_a_forged_high_number_does_not_move_the_window() {
    let sa = Sa::default();
    let (mut out, mut inn) = tunnel(&sa);
    let first = seal(&mut out, &a_to_b(40)).unwrap();
    let second = seal(&mut out, &a_to_b(40)).unwrap();
    let mut forged = first.clone();
    forged[4..8].copy_from_slice(&10_000u32.to_be_bytes());
    for _ in 0..3 {
        assert_eq!(open(&mut inn, &forged), Err(InForged));
    }
    assert_eq!(inn.sas().next().unwrap().sequence, 0);
    assert!(open(&mut inn, &second).is_ok());
    assert!(open(&mut inn, &first).is_ok());
}

#[test]
fn atk_54_under_no_suite_a_forged_high_number_moves_the_window() {
    for protection in suites() {
        for (esn, ahead) in [(false, u32::MAX), (false, 10_002), (true, 10_002), (true, 0x7fff_ffff)] {
            let sa = Sa { esn, ..Sa::default() }.under(protection);
            let (mut out, mut inn) = tunnel(&sa);
            let good: Vec<_> = (0..3).map(|_| seal(&mut out, &a_to_b(40)).unwrap()).collect();
            assert!(open(&mut inn, &good[0]).is_ok());
            let mut forged = good[1].clone();
            forged[4..8].copy_from_slice(&ahead.to_be_bytes());
            assert_eq!(open(&mut inn, &forged), Err(InForged), "{protection:?}, {ahead}");
            let status = inn.sas().next().unwrap();
            assert_eq!((status.sequence, status.packets), (1, 1), "{protection:?}, {ahead}");
            assert!(open(&mut inn, &good[2]).is_ok() && open(&mut inn, &good[1]).is_ok(), "{protection:?}, {ahead}");
            assert_eq!(open(&mut inn, &good[0]), Err(InReplayed), "{protection:?}, {ahead}");
        }
    }
}

#[test]
fn atk_53_69_traffic_crosses_two_to_the_32_with_esn() {
    let sa = Sa { esn: true, sequence: (1 << 32) - 3, ..Sa::default() };
    let (mut out, mut inn) = tunnel(&sa);
    let packets: Vec<_> = (0..5).map(|_| seal(&mut out, &a_to_b(40)).unwrap()).collect();
    assert_eq!(packets[0][4..8], [0xff, 0xff, 0xff, 0xfe]);
    assert_eq!(packets[2][4..16], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], "the IV is the whole counter");
    for order in [2, 0, 4, 1, 3] {
        assert!(open(&mut inn, &packets[order]).is_ok(), "packet {order}");
    }
    assert_eq!(inn.sas().next().unwrap().sequence, (1 << 32) + 2);
    for packet in &packets {
        assert_eq!(open(&mut inn, packet), Err(InReplayed));
    }
}

#[test]
fn atk_53_the_high_half_is_authenticated() {
    let mut sa = Sa { esn: true, sequence: (1 << 32) - 1, ..Sa::default() };
    let (mut out, _) = tunnel(&sa);
    let packet = seal(&mut out, &a_to_b(40)).unwrap();
    sa.sequence = (2 << 32) - 1; // the receiver believes in another high half
    let (_, mut inn) = tunnel(&sa);
    assert_eq!(open(&mut inn, &packet), Err(InForged));
}

#[test]
fn atk_63_69_the_counter_stops_hard_before_it_wraps() {
    let ends = [(false, u64::from(u32::MAX)), (true, u64::MAX)];
    for (protection, (esn, last)) in suites().into_iter().flat_map(|suite| ends.map(|end| (suite, end))) {
        let sa = Sa { esn, sequence: last - 2, ..Sa::default() }.under(protection);
        let (mut out, mut inn) = tunnel(&sa);
        let id = out.sas().next().unwrap().id;
        let inner = a_to_b(40);
        for _ in 0..2 {
            let packet = seal(&mut out, &inner).unwrap();
            assert_eq!(open(&mut inn, &packet).as_deref(), Ok(&inner[..]));
        }
        assert!(matches!(out.poll_event(), Some(Event::SoftLifetime { reached: Reached::Sequence, .. })));
        assert_eq!(out.poll_event(), None);
        let mut bytes = vec![0; 250];
        let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
        for attempt in 0..3 {
            assert_eq!(out.seal(NOW, id, &mut packet).unwrap_err(), Discard::OutExhausted);
            assert_eq!(packet.as_slice(), inner);
            let ended = matches!(out.poll_event(), Some(Event::HardLifetime { reached: Reached::Sequence, .. }));
            assert_eq!((ended, out.poll_event()), (attempt == 0, None));
        }
        let status = out.sa(id).unwrap();
        assert!(status.dead && status.sequence == last);
        // The dead SA is passed over.
        assert!(out.classify(NOW, &inner).unwrap().sa().is_none());
    }
}

/// Takes part in a call that has one meaning for what is not `Clone` or not `Serialize`, and several for what is: that does not
/// compile.
trait Unique<Why> {
    const HELD: () = ();
}

struct Copied;
struct Written;

impl<T> Unique<()> for T {}
impl<T: Clone> Unique<Copied> for T {}
impl<T: serde::Serialize> Unique<Written> for T {}

#[test]
fn atk_63_nothing_that_has_a_key_is_copied_or_written_down() {
    const _: [(); 7] = [
        <Keys<RustCrypto> as Unique<_>>::HELD,
        <sa::Outbound<Keys<RustCrypto>> as Unique<_>>::HELD,
        <sa::Inbound<Keys<RustCrypto>> as Unique<_>>::HELD,
        <OutboundSlot<RustCrypto> as Unique<_>>::HELD,
        <InboundSlot<RustCrypto> as Unique<_>>::HELD,
        <Outbound<'static, RustCrypto> as Unique<_>>::HELD,
        <Inbound<'static, RustCrypto> as Unique<_>>::HELD,
    ];
}

#[test]
fn atk_63_a_counter_that_is_brought_back_goes_on_behind_what_it_was() {
    for protection in suites() {
        for (esn, last) in [(false, (1_u64 << 32) - 2), (true, u64::MAX - 1)] {
            // Of two that begin with the same number the second one's packet is one that the peer has seen.
            let sa = Sa { esn, sequence: last, ..Sa::default() }.under(protection);
            let ((mut one, mut inn), (mut copy, _)) = (tunnel(&sa), tunnel(&sa));
            assert!(open(&mut inn, &seal(&mut one, &a_to_b(40)).unwrap()).is_ok(), "{protection:?}");
            assert_eq!(open(&mut inn, &seal(&mut copy, &a_to_b(41)).unwrap()), Err(InReplayed), "{protection:?}");
            // Behind the last number nothing begins.
            let sa = Sa { sequence: last + 1, ..sa };
            let (mut out, mut bytes, inner) = (outbound(1), [0; 300], a_to_b(40));
            let id = out.install(NOW, &sa.outbound()).unwrap();
            let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
            assert_eq!(out.seal(NOW, id, &mut packet), Err(Discard::OutExhausted), "{protection:?}");
            assert_eq!(packet.as_slice(), inner);
        }
    }
}

#[test]
fn atk_69_sequence_numbers_to_start_from_are_checked() {
    let sa = Sa { sequence: u64::from(u32::MAX) + 1, ..Sa::default() };
    assert_eq!(outbound(1).install(NOW, &sa.outbound()).unwrap_err(), Refused::Sequence);
    assert_eq!(inbound(1).install(NOW, &sa.inbound()).unwrap_err(), Refused::Sequence);
}
