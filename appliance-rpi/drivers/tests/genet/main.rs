//! The GENET driver against a register-level model, with and without status blocks.

mod model;

use model::{Machine, Region};
use rpi_drivers::genet::{Genet, Options, WrongRevision};
use rpi_drivers::{Link, MacAddress, Nic, SendError};

type Driver = Genet<Machine, Region, Machine>;

const MAC: MacAddress = MacAddress([0xDC, 0xA6, 0x32, 1, 2, 3]);
const GIGABIT: Link = Link::Up { mbit: 1000, full_duplex: true };
const MODES: [Options; 2] = [Options { status_blocks: true }, Options { status_blocks: false }];
const RX_RING: usize = 16;
const RX_COUNT: u64 = 128;
const TX_COUNT: u64 = 64;

fn start(machine: &Machine, options: Options) -> Driver {
    let region = machine.region(Driver::DMA_BYTES);
    Driver::start(machine.clone(), region, machine.clone(), MAC, options).expect("a GENET")
}

fn run(machine: &Machine, driver: &mut Driver, us: u64) {
    let end = machine.core().now + us;
    while machine.core().now < end {
        machine.advance(50);
        let now = machine.core().now;
        driver.poll(now);
    }
}

/// A driver whose link is up.
fn up(machine: &Machine, options: Options) -> Driver {
    let mut driver = start(machine, options);
    run(machine, &mut driver, 2_000);
    assert_eq!(driver.link(), GIGABIT);
    driver
}

fn frame(length: usize, number: u8) -> Vec<u8> {
    let mut frame = MAC.0.to_vec();
    frame.extend((6..length.max(6)).map(|at| (at as u8).wrapping_mul(3).wrapping_add(number)));
    frame
}

fn receive(driver: &mut Driver) -> Option<Vec<u8>> {
    let mut buffer = [0; 1522];
    driver.receive(&mut buffer).map(|length| buffer[..length].to_vec())
}

#[test]
fn another_revision_is_refused_and_nothing_is_written() {
    for revision in [0, 0x0500_0000, 0x0700_0000, u32::MAX] {
        let machine = Machine::new();
        machine.set_register(0, revision);
        let region = machine.region(Driver::DMA_BYTES);
        let result = Driver::start(machine.clone(), region, machine.clone(), MAC, Options::default());
        assert_eq!(result.err(), Some(WrongRevision(revision)));
        assert_eq!(machine.core().writes, 0);
    }
}

#[test]
fn the_controller_is_set_up_as_on_a_pi_4() {
    for options in MODES {
        let machine = Machine::new();
        machine.set_register(0x300, 1);
        machine.set_register(0x600, 1);
        machine.set_register(0xFC04, 7);
        machine.set_register(0xE50, 9);
        let _driver = up(&machine, options);
        let block = u32::from(options.status_blocks);
        assert_eq!(machine.register(0x300), 2 | block);
        assert_eq!(machine.register(0x600), block);
        assert_eq!(machine.register(0x004), 3, "external PHY");
        assert_eq!(machine.register(0x08C), 1 << 16 | 1 << 6 | 1 << 4, "RGMII, no delay, link");
        assert_eq!(machine.register(0x808), 1 << 28 | 1 << 8 | 1 << 4 | 2 << 2 | 3);
        assert_eq!((machine.register(0x80C), machine.register(0x810)), (0xDCA6_3201, 0x0203));
        assert_eq!(machine.register(0x814), 1536);
        assert_eq!(machine.register(0x3B4), 1);
        assert_eq!((machine.register(0xFC04), machine.register(0xE50)), (0, 0), "no filter is left over");
        for mask in [0x210, 0x250] {
            assert_eq!(machine.register(mask), u32::MAX, "the interrupt lines stay quiet");
        }
        assert_eq!(machine.register(0x3044), 1 << 17 | 1 << 1 | 1, "receive rings 16 and 0");
        assert_eq!(machine.register(0x5044), 1 << 17 | 1);
        assert_eq!((machine.register(0x304C), machine.register(0x504C)), (8, 8));
        for index in 0..256 {
            assert_eq!(
                machine.register(0x2000 + index * 12),
                2048 << 16 | 1 << 15,
                "descriptor {index} is the device's"
            );
        }
        for ring in [0x2C00, 0x2C00 + 16 * 0x40] {
            assert_eq!((machine.register(ring + 0x24), machine.register(ring + 0x28)), (1, 5 << 16 | 16));
        }
    }
}

#[test]
fn frames_of_every_length_go_both_ways() {
    for options in MODES {
        let machine = Machine::new();
        let mut driver = up(&machine, options);
        for (number, length) in (0..).zip([14, 59, 60, 61, 64, 1000, 1514, 1518]) {
            let sent = frame(length, number);
            machine.deliver(RX_RING, &sent);
            assert_eq!(receive(&mut driver), Some(sent.clone()), "{length} {options:?}");
            assert_eq!(receive(&mut driver), None);
            driver.send(&sent).unwrap();
            let mut padded = sent;
            padded.resize(length.max(60), 0);
            assert_eq!(machine.core().wire.pop(), Some(padded), "{length} {options:?}");
        }
        let counters = driver.counters();
        let octets = 14 + 59 + 60 + 61 + 64 + 1000 + 1514 + 1518;
        assert_eq!((counters.rx_frames, counters.rx_octets), (8, octets));
        assert_eq!((counters.tx_frames, counters.tx_octets), (8, octets));
        assert_eq!(counters.malformed + counters.rx_errors + counters.rx_overruns + counters.tx_drops, 0);
    }
}

#[test]
fn padding_never_shows_what_was_sent_before() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    for _ in 0..TX_COUNT {
        driver.send(&[0xFF; 1518]).unwrap();
        run(&machine, &mut driver, 50);
    }
    driver.send(&[1; 14]).unwrap();
    let last = machine.core().wire.pop().unwrap();
    assert_eq!(last.len(), 60);
    assert!(last[14..].iter().all(|&octet| octet == 0));
}

#[test]
fn indices_wrap_at_16_bits_in_both_directions() {
    for options in MODES {
        let machine = Machine::new();
        let mut driver = up(&machine, options);
        for number in 0..70_000u32 {
            let sent = frame(60 + (number % 50) as usize, number as u8);
            machine.deliver(RX_RING, &sent);
            assert_eq!(receive(&mut driver), Some(sent.clone()), "frame {number}");
            driver.send(&sent).unwrap_or_else(|error| panic!("frame {number}: {error:?}"));
            assert_eq!(machine.core().wire.pop(), Some(sent), "frame {number}");
        }
        assert_eq!(driver.counters().rx_frames, 70_000);
        assert_eq!(driver.counters().tx_frames, 70_000);
    }
}

#[test]
fn a_device_that_keeps_its_indices_is_followed_from_where_it_stands() {
    for index in [1, 100, 127, 128, 0xFFF0, 0xFFFF] {
        let machine = Machine::new();
        machine.core().fixed_index = Some(index);
        let mut driver = up(&machine, Options::default());
        for number in 0..300u32 {
            let sent = frame(60, number as u8);
            machine.deliver(RX_RING, &sent);
            assert_eq!(receive(&mut driver), Some(sent.clone()), "index {index}, frame {number}");
            driver.send(&sent).unwrap();
            assert_eq!(machine.core().wire.pop(), Some(sent));
        }
    }
}

#[test]
fn both_receive_rings_are_served() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    machine.deliver(0, &frame(60, 1));
    machine.deliver(16, &frame(60, 2));
    let mut numbers: Vec<_> = std::iter::from_fn(|| receive(&mut driver)).map(|frame| frame[6]).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [frame(60, 1)[6], frame(60, 2)[6]]);
}

#[test]
fn a_full_receive_ring_loses_frames_counts_them_and_recovers() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    for round in 1..=3 {
        for number in 0..200 {
            machine.deliver(RX_RING, &frame(60, number));
        }
        let received: Vec<_> = std::iter::from_fn(|| receive(&mut driver)).collect();
        let expected: Vec<_> = (0..RX_COUNT as u8).map(|number| frame(60, number)).collect();
        assert_eq!(received, expected);
        assert_eq!(driver.counters().rx_overruns, round * (200 - RX_COUNT));
    }
}

#[test]
fn frames_lost_before_the_start_are_not_ours() {
    let machine = Machine::new();
    machine.core().fixed_index = Some(0);
    machine.set_register(0x2C00 + 16 * 0x40 + 8, 7 << 16);
    let mut driver = up(&machine, Options::default());
    assert_eq!(receive(&mut driver), None);
    assert_eq!(driver.counters().rx_overruns, 0);
}

#[test]
fn a_row_of_frames_costs_one_look_at_the_index() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    for number in 0..50 {
        machine.deliver(RX_RING, &frame(60, number));
    }
    let before = machine.core().looks;
    for _ in 0..50 {
        assert!(receive(&mut driver).is_some());
    }
    assert_eq!(machine.core().looks - before, 1);
}

#[test]
fn a_full_transmit_ring_refuses_and_goes_on_when_there_is_room() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    machine.core().transmitter_stuck = true;
    for number in 0..TX_COUNT as u8 {
        assert!(driver.can_send());
        driver.send(&frame(60, number)).unwrap();
    }
    assert!(!driver.can_send());
    assert_eq!(driver.send(&frame(60, 0)), Err(SendError::Full));
    machine.core().transmitter_stuck = false;
    // The device goes on with the next frame it is told of; nothing can be sent before, so it is told again.
    let producer = machine.register(0x4C00 + 16 * 0x40 + 12);
    rpi_drivers::Mmio::write32(&mut machine.clone(), 0x4C00 + 16 * 0x40 + 12, producer);
    assert_eq!(machine.core().wire.len() as u64, TX_COUNT);
    driver.send(&frame(60, 99)).unwrap();
    assert_eq!(machine.core().wire.last(), Some(&frame(60, 99)));
    assert_eq!(driver.counters().tx_drops, 1);
}

#[test]
fn a_transmitter_that_hangs_is_started_anew_and_works_again() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    machine.core().transmitter_stuck = true;
    for number in 0..3 {
        driver.send(&frame(60, number)).unwrap();
    }
    run(&machine, &mut driver, 900_000);
    assert_eq!(driver.counters().timeouts, 0);
    run(&machine, &mut driver, 200_000);
    assert_eq!((driver.counters().timeouts, driver.counters().tx_drops), (1, 3));
    assert_eq!(machine.register(0x808) >> 2 & 3, 2, "the speed is kept");
    machine.core().transmitter_stuck = false;
    driver.send(&frame(60, 7)).unwrap();
    assert_eq!(machine.core().wire, [frame(60, 7)]);
    machine.deliver(RX_RING, &frame(60, 8));
    assert_eq!(receive(&mut driver), Some(frame(60, 8)));
}

#[test]
fn an_idle_or_unplugged_transmitter_does_not_count_as_hanging() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    run(&machine, &mut driver, 3_000_000);
    machine.core().transmitter_stuck = true;
    driver.send(&frame(60, 1)).unwrap();
    machine.core().link = false;
    run(&machine, &mut driver, 3_000_000);
    assert_eq!(driver.counters().timeouts, 0);
}

#[test]
fn each_error_bit_is_counted_and_the_next_frame_arrives() {
    for options in MODES {
        let machine = Machine::new();
        let mut driver = up(&machine, options);
        for bit in 0..5 {
            machine.deliver_with(RX_RING, &frame(100, 1), 1 << bit);
            machine.deliver(RX_RING, &frame(60, 2));
            assert_eq!(receive(&mut driver), Some(frame(60, 2)), "bit {bit}");
        }
        let counters = driver.counters();
        assert_eq!((counters.rx_errors, counters.rx_overruns, counters.rx_frames), (4, 1, 5));
        // Bits that only describe: broadcast, multicast, checksum.
        for bit in [5, 6, 12, 15] {
            machine.deliver_with(RX_RING, &frame(60, 3), 1 << bit);
            assert_eq!(receive(&mut driver), Some(frame(60, 3)), "bit {bit}");
        }
    }
}

#[test]
fn frames_in_parts_are_dropped_once_and_whole() {
    for options in MODES {
        let machine = Machine::new();
        let mut driver = up(&machine, options);
        for length in [2048, 4000, 6000] {
            machine.deliver(RX_RING, &frame(length, 1));
            machine.deliver(RX_RING, &frame(60, 2));
            assert_eq!(receive(&mut driver), Some(frame(60, 2)), "length {length}");
            assert_eq!(receive(&mut driver), None);
        }
        assert_eq!((driver.counters().malformed, driver.counters().rx_frames), (3, 3));
    }
}

#[test]
fn what_a_long_frame_carries_is_never_taken_for_a_status_word() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options { status_blocks: true });
    let mut long = frame(3000, 1);
    // Where the second buffer begins: a status word of a whole frame of 60 octets, and that frame.
    let second = 2048 - 66;
    long[second..second + 4].copy_from_slice(&(126u32 << 16 | 3 << 13).to_le_bytes());
    long[second + 66..second + 72].copy_from_slice(&MAC.0);
    machine.deliver(RX_RING, &long);
    assert_eq!(receive(&mut driver), None);
    assert_eq!(driver.counters().malformed, 1);
}

#[test]
fn parts_without_beginning_or_end_do_not_spoil_what_follows() {
    let (first, last) = (1 << 13, 1 << 14);
    let machine = Machine::new();
    let mut driver = up(&machine, Options { status_blocks: false });
    for (parts, counted) in [(&[last][..], 1), (&[0, last], 1), (&[first, 0, last], 1), (&[first, first, last], 2)] {
        let before = driver.counters().malformed;
        for part in parts {
            machine.deliver_raw(RX_RING, 100 << 16 | part);
        }
        machine.deliver(RX_RING, &frame(60, 1));
        assert_eq!(receive(&mut driver), Some(frame(60, 1)));
        assert_eq!(driver.counters().malformed - before, counted, "{parts:?}");
    }
    // A whole frame ends a frame whose end never came.
    machine.deliver_raw(RX_RING, 100 << 16 | first);
    machine.deliver(RX_RING, &frame(60, 1));
    assert_eq!(receive(&mut driver), Some(frame(60, 1)));
    let before = driver.counters().malformed;
    machine.deliver_raw(RX_RING, 100 << 16 | last);
    assert_eq!(receive(&mut driver), None);
    assert_eq!(driver.counters().malformed - before, 1);
}

#[test]
fn lengths_that_cannot_be_are_counted() {
    for options in MODES {
        let machine = Machine::new();
        let mut driver = up(&machine, options);
        let prefix = if options.status_blocks { 66 } else { 2 };
        let lengths = [0, 1, prefix - 1, prefix, prefix + 13, 2049, 0xFFF];
        for length in lengths {
            machine.deliver_raw(RX_RING, length << 16 | 3 << 13);
            assert_eq!(receive(&mut driver), None, "length {length}");
        }
        assert_eq!(driver.counters().malformed, lengths.len() as u64);
        // The longest the buffer holds is only too long for the caller.
        machine.deliver_raw(RX_RING, 2048 << 16 | 3 << 13);
        assert_eq!(receive(&mut driver), None);
        assert_eq!(driver.counters().rx_overruns, 1);
        driver.set_promiscuous(true);
        machine.deliver_raw(RX_RING, (prefix + 14) << 16 | 3 << 13);
        assert_eq!(receive(&mut driver).map(|frame| frame.len()), Some(14));
    }
}

#[test]
fn an_impossible_index_is_followed_and_counted() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    let index = 0x2C00 + 16 * 0x40 + 8;
    machine.set_register(index, u32::from(RX_COUNT as u16 + 1));
    machine.set_register(0x2C00 + 16 * 0x40, (u32::from(RX_COUNT as u16) + 1) % 128 * 3);
    assert_eq!(receive(&mut driver), None);
    assert_eq!(driver.counters().malformed, 1);
    machine.deliver(RX_RING, &frame(60, 1));
    assert_eq!(receive(&mut driver), Some(frame(60, 1)));
    // The transmitter claims to have sent what it was never given.
    machine.core().transmitter_stuck = true;
    driver.send(&frame(60, 1)).unwrap();
    machine.set_register(0x4C00 + 16 * 0x40 + 8, 100);
    run(&machine, &mut driver, 1_000);
    for _ in 1..TX_COUNT {
        driver.send(&frame(60, 1)).unwrap();
    }
    assert_eq!(driver.send(&frame(60, 1)), Err(SendError::Full));
}

#[test]
fn the_link_follows_the_phy_at_every_speed() {
    // Status 1000, control 1000, partner, advertised.
    let cases = [
        ([0x0C00, 0x0300, 0x41E1, 0x01E1], 1000, true, 2),
        ([0x0400, 0x0300, 0x41E1, 0x01E1], 1000, false, 2),
        ([0x0C00, 0x0000, 0x41E1, 0x01E1], 100, true, 1),
        ([0x0000, 0x0300, 0x40A1, 0x01E1], 100, false, 1),
        ([0x0000, 0x0300, 0x4061, 0x01E1], 10, true, 0),
        ([0x0000, 0x0300, 0x4021, 0x01E1], 10, false, 0),
        ([0x0000, 0x0300, 0x41E1, 0x0061], 10, true, 0),
    ];
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    for ([status, control, partner, advertised], mbit, full_duplex, speed) in cases {
        machine.core().link = false;
        run(&machine, &mut driver, 600_000);
        assert_eq!(driver.link(), Link::Down);
        assert_eq!(machine.register(0x08C) & 1 << 4, 0);
        assert_eq!(driver.send(&frame(60, 0)), Err(SendError::LinkDown));
        {
            let mut core = machine.core();
            core.phy[10] = status;
            core.phy[9] = control;
            core.phy[5] = partner;
            core.phy[4] = advertised;
            core.link = true;
        }
        run(&machine, &mut driver, 600_000);
        assert_eq!(driver.link(), Link::Up { mbit, full_duplex });
        assert_eq!(machine.register(0x808) >> 2 & 3, speed);
        assert_eq!(machine.register(0x808) & 1 << 10 == 0, full_duplex);
        assert_ne!(machine.register(0x08C) & 1 << 4, 0);
        driver.send(&frame(60, 0)).unwrap();
    }
    assert_eq!(driver.counters().link_changes, 1 + 2 * cases.len() as u64);
}

#[test]
fn an_mdio_that_stays_busy_or_fails_takes_the_link_down_and_gives_it_back() {
    for stuck in [true, false] {
        let machine = Machine::new();
        let mut driver = up(&machine, Options::default());
        machine.core().mdio_stuck = stuck;
        machine.core().phy_gone = !stuck;
        run(&machine, &mut driver, 400_000);
        assert!(driver.link().is_up(), "one failure means nothing");
        run(&machine, &mut driver, 700_000);
        assert_eq!(driver.link(), Link::Down);
        let counters = driver.counters();
        let failures = if stuck { counters.timeouts } else { counters.malformed };
        assert!((3..=5).contains(&failures), "{failures}");
        machine.core().mdio_stuck = false;
        machine.core().phy_gone = false;
        run(&machine, &mut driver, 600_000);
        assert_eq!(driver.link(), GIGABIT);
    }
}

#[test]
fn a_machine_without_a_phy_starts_all_the_same_and_says_so() {
    for stuck in [true, false] {
        let machine = Machine::new();
        machine.core().mdio_stuck = stuck;
        machine.core().phy_gone = true;
        let mut driver = start(&machine, Options::default());
        assert!(machine.core().now < 100_000);
        assert_eq!(driver.counters().timeouts + driver.counters().malformed, 1);
        let mut shown = Vec::new();
        driver.for_each_register(&mut |name, value| shown.push((name, value)));
        assert!(shown.contains(&("SYS_REV_CTRL", 0x0600_0000)));
        assert!(shown.contains(&("PHY_ID1", u32::MAX)));
        assert!(machine.core().now < 200_000);
    }
}

#[test]
fn a_sleeping_phy_is_woken_and_a_waking_one_left_alone() {
    let machine = Machine::new();
    let _driver = start(&machine, Options::default());
    assert!(machine.core().phy_writes.is_empty());
    for control in [0x1940, 0x1540, 0x0140] {
        let machine = Machine::new();
        machine.core().phy[0] = control;
        let _driver = start(&machine, Options::default());
        assert_eq!(machine.core().phy_writes, [(0, 0x1340)], "{control:#x}");
    }
}

#[test]
fn a_dma_that_never_rests_is_counted_and_does_not_stop_the_start() {
    let machine = Machine::new();
    machine.core().dma_never_rests = true;
    let mut driver = up(&machine, Options::default());
    assert_eq!(driver.counters().timeouts, 2);
    machine.deliver(RX_RING, &frame(60, 1));
    assert_eq!(receive(&mut driver), Some(frame(60, 1)));
}

#[test]
fn the_state_dump_shows_rings_and_phy_and_the_link_is_still_watched() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    machine.deliver(RX_RING, &frame(60, 1));
    let mut shown = Vec::new();
    driver.for_each_register(&mut |name, value| shown.push((name, value)));
    for expected in [("RDMA16_PROD", 1), ("RDMA16_CONS", 0), ("PHY_ID1", 0x600D), ("PHY_ID2", 0x84A2)] {
        assert!(shown.contains(&expected), "{expected:?}");
    }
    assert!(shown.iter().any(|(name, value)| *name == "PHY_BMSR" && value & 4 != 0));
    machine.core().link = false;
    run(&machine, &mut driver, 600_000);
    assert_eq!(driver.link(), Link::Down);
}

#[test]
fn without_promiscuous_mode_only_frames_for_us_and_groups_are_handed_over() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    let to = |address: [u8; 6]| {
        let mut frame = frame(60, 1);
        frame[..6].copy_from_slice(&address);
        frame
    };
    let other = to([2, 0, 0, 0, 0, 9]);
    let (broadcast, group) = (to([0xFF; 6]), to([0x33, 0x33, 0, 0, 0, 1]));
    for promiscuous in [false, true, false] {
        driver.set_promiscuous(promiscuous);
        for frame in [&other, &broadcast, &group, &frame(60, 2)] {
            machine.deliver(RX_RING, frame);
        }
        let received: Vec<_> = std::iter::from_fn(|| receive(&mut driver)).collect();
        let mut expected = vec![broadcast.clone(), group.clone(), frame(60, 2)];
        if promiscuous {
            expected.insert(0, other.clone());
        }
        assert_eq!(received, expected);
    }
    assert_eq!(driver.counters().rx_frames, 10);
}

#[test]
fn a_flood_for_others_cannot_hold_up_the_main_loop() {
    let machine = Machine::new();
    let mut driver = up(&machine, Options::default());
    let mut other = frame(60, 1);
    other[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    for _ in 0..RX_COUNT {
        machine.deliver(RX_RING, &other);
    }
    assert_eq!(receive(&mut driver), None);
    let left = machine.register(0x2C00 + 16 * 0x40 + 8) - machine.register(0x2C00 + 16 * 0x40 + 12);
    assert!(left > 0 && u64::from(left) < RX_COUNT, "{left} descriptors left for the next call");
}

#[test]
fn what_cannot_be_sent_is_refused_and_counted() {
    let machine = Machine::new();
    let mut driver = start(&machine, Options::default());
    assert_eq!(driver.send(&frame(60, 0)), Err(SendError::LinkDown));
    run(&machine, &mut driver, 2_000);
    assert_eq!(driver.send(&[0; 13]), Err(SendError::BadLength));
    assert_eq!(driver.send(&[0; 1519]), Err(SendError::BadLength));
    driver.set_receive_only(true);
    assert!(!driver.can_send());
    assert_eq!(driver.send(&frame(60, 0)), Err(SendError::ReceiveOnly));
    assert!(machine.core().wire.is_empty());
    assert_eq!(driver.counters().tx_drops, 4);
    driver.set_receive_only(false);
    driver.send(&frame(60, 0)).unwrap();
}
