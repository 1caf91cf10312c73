//! What goes wrong on the bus: wire errors, stalls, babble, devices that do not answer, hostile descriptors.

use super::cdc_ethernet;
use super::controller::{Bus, Fault};
use super::device::Speed;
use super::ecm::adapter;
use super::*;

const BULK_IN: u8 = 0x82;
const BULK_OUT: u8 = 0x02;

#[test]
fn a_transaction_error_in_the_middle_of_a_frame_loses_nothing() {
    let (bus, mut host, id, adapter) = adapter(Speed::Full);
    for fault in [Fault::TransactionError, Fault::Silent] {
        for endpoint in [BULK_IN, BULK_OUT] {
            bus.inject(id, endpoint, fault);
        }
        adapter.borrow_mut().to_host.push_back(frame(1000, 3));
        host.port(0).unwrap().send(&frame(1000, 4)).unwrap();
        assert_eq!(receive_all(&bus, &mut host, 0, 5_000), [frame(1000, 3)]);
        assert_eq!(adapter.borrow_mut().from_host.pop(), Some(frame(1000, 4)));
    }
    assert_eq!(bus.faults_left(), 0);
    assert_eq!(host.port(0).unwrap().counters().rx_errors, 0);
}

#[test]
fn a_core_that_halts_on_every_nak_loses_nothing() {
    let (bus, mut host, id, adapter) = adapter(Speed::Full);
    for _ in 0..20 {
        bus.inject(id, BULK_IN, Fault::NakHalt);
        bus.inject(id, BULK_OUT, Fault::NakHalt);
        bus.inject(id, 0, Fault::NakHalt);
    }
    adapter.borrow_mut().to_host.push_back(frame(1000, 3));
    host.port(0).unwrap().send(&frame(1000, 4)).unwrap();
    host.port(0).unwrap().set_promiscuous(true);
    assert_eq!(receive_all(&bus, &mut host, 0, 10_000), [frame(1000, 3)]);
    assert_eq!(adapter.borrow_mut().from_host.pop(), Some(frame(1000, 4)));
    assert_eq!(adapter.borrow().filter, Some(0b1111));
    assert_eq!(bus.faults_left(), 0);
    let counters = host.port(0).unwrap().counters();
    assert_eq!((counters.rx_errors, counters.tx_drops), (0, 0));
}

#[test]
fn a_nak_in_the_middle_of_a_frame_keeps_what_has_come() {
    let (bus, mut host, id, adapter) = adapter(Speed::Full);
    adapter.borrow_mut().raw.extend([vec![7; 64], vec![8; 64]]);
    run(&bus, &mut host, 100);
    bus.inject(id, BULK_IN, Fault::NakHalt);
    run(&bus, &mut host, 100);
    adapter.borrow_mut().raw.push_back(vec![9; 10]);
    assert_eq!(receive_all(&bus, &mut host, 0, 1_000), [[vec![7; 64], vec![8; 64], vec![9; 10]].concat()]);
}

#[test]
fn three_transaction_errors_in_a_row_lose_the_transfer_and_no_more() {
    let (bus, mut host, id, adapter) = adapter(Speed::Full);
    for _ in 0..3 {
        bus.inject(id, BULK_OUT, Fault::TransactionError);
        bus.inject(id, BULK_IN, Fault::TransactionError);
    }
    host.port(0).unwrap().send(&frame(100, 1)).unwrap();
    host.port(0).unwrap().send(&frame(100, 2)).unwrap();
    adapter.borrow_mut().to_host.push_back(frame(80, 3));
    assert_eq!(receive_all(&bus, &mut host, 0, 100_000), [frame(80, 3)]);
    assert_eq!(adapter.borrow().from_host, [frame(100, 2)]);
    let counters = host.port(0).unwrap().counters();
    assert_eq!((counters.rx_errors, counters.tx_drops), (1, 1));
}

#[test]
fn wire_errors_between_which_the_device_answers_are_not_in_a_row() {
    let (bus, mut host, id, adapter) = adapter(Speed::High);
    for _ in 0..6 {
        bus.inject(id, BULK_OUT, Fault::TransactionErrorAfterNak);
        bus.inject(id, BULK_IN, Fault::TransactionErrorAfterNak);
    }
    host.port(0).unwrap().send(&frame(100, 1)).unwrap();
    adapter.borrow_mut().to_host.push_back(frame(80, 3));
    assert_eq!(receive_all(&bus, &mut host, 0, 100_000), [frame(80, 3)]);
    assert_eq!(adapter.borrow().from_host, [frame(100, 1)]);
    let counters = host.port(0).unwrap().counters();
    assert_eq!((counters.rx_errors, counters.tx_drops), (0, 0));
}

#[test]
fn a_memory_error_that_leaves_the_channel_running_is_halted_and_tried_again() {
    let (bus, mut host, id, adapter) = adapter(Speed::High);
    bus.inject(id, BULK_IN, Fault::MemoryWithoutHalt);
    bus.inject(id, BULK_OUT, Fault::MemoryWithoutHalt);
    host.port(0).unwrap().send(&frame(100, 1)).unwrap();
    adapter.borrow_mut().to_host.push_back(frame(80, 3));
    assert_eq!(receive_all(&bus, &mut host, 0, 100_000), [frame(80, 3)]);
    assert_eq!(adapter.borrow().from_host, [frame(100, 1)]);
}

#[test]
fn a_halted_endpoint_is_cleared_and_goes_on() {
    let (bus, mut host, id, adapter) = adapter(Speed::High);
    for round in 1..=4 {
        // An odd number of packets before, so that both ends have DATA1 next when the halt sets them back.
        adapter.borrow_mut().to_host.push_back(frame(60, 1));
        host.port(0).unwrap().send(&frame(60, 1)).unwrap();
        receive_all(&bus, &mut host, 0, 2_000);
        bus.inject(id, BULK_IN, Fault::Halt);
        bus.inject(id, BULK_OUT, Fault::Halt);
        host.port(0).unwrap().send(&frame(70, 2)).unwrap();
        run(&bus, &mut host, 100_000);
        assert!(bus.device(id).halted.is_empty());
        host.port(0).unwrap().send(&frame(71, 3)).unwrap();
        adapter.borrow_mut().to_host.push_back(frame(72, 4));
        assert_eq!(receive_all(&bus, &mut host, 0, 50_000), [frame(72, 4)], "round {round}");
        assert_eq!(adapter.borrow_mut().from_host.pop(), Some(frame(71, 3)));
        assert_eq!(host.port(0).unwrap().counters().tx_drops, round);
    }
    assert_eq!(host.counters().recovered, 0);
}

#[test]
fn babble_and_memory_errors_are_counted_and_reception_goes_on() {
    let (bus, mut host, id, adapter) = adapter(Speed::High);
    for fault in [Fault::Babble, Fault::Memory] {
        bus.inject(id, BULK_IN, fault);
        run(&bus, &mut host, 30_000);
        adapter.borrow_mut().to_host.push_back(frame(60, 1));
        assert_eq!(receive_all(&bus, &mut host, 0, 50_000), [frame(60, 1)]);
    }
    assert_eq!(host.port(0).unwrap().counters().rx_errors, 2);
}

#[test]
fn a_device_that_sends_more_than_a_packet_is_stopped_by_the_controller() {
    let (bus, mut host, _, adapter) = adapter(Speed::Full);
    adapter.borrow_mut().raw.push_back(vec![0; 65]);
    adapter.borrow_mut().to_host.push_back(frame(60, 1));
    // The packet id went with the lost packet: one more transaction is spent on finding that out.
    let frames = receive_all(&bus, &mut host, 0, 100_000);
    assert!(frames.len() <= 1);
    assert!(host.port(0).unwrap().counters().rx_errors >= 1);
    adapter.borrow_mut().to_host.push_back(frame(61, 2));
    assert_eq!(receive_all(&bus, &mut host, 0, 100_000).last(), Some(&frame(61, 2)));
}

#[test]
fn a_device_that_keeps_failing_is_reset_and_works_again() {
    let (bus, mut host, id, adapter) = adapter(Speed::High);
    let resets = bus.device(id).resets;
    for _ in 0..8 {
        bus.inject(id, BULK_IN, Fault::Babble);
    }
    run_until(&bus, &mut host, "a reset", |_| bus.device(id).resets > resets);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    assert_eq!(host.counters().recovered, 1);
    adapter.borrow_mut().to_host.push_back(frame(60, 1));
    assert_eq!(receive_all(&bus, &mut host, 0, 5_000), [frame(60, 1)]);
}

#[test]
fn a_device_that_takes_nothing_loses_frames_but_does_not_hold_up_the_rest() {
    let (bus, mut host, _, adapter) = adapter(Speed::High);
    adapter.borrow_mut().deaf = true;
    host.port(0).unwrap().send(&frame(60, 1)).unwrap();
    run(&bus, &mut host, 900_000);
    assert_eq!(host.port(0).unwrap().counters().timeouts, 0);
    run(&bus, &mut host, 200_000);
    assert_eq!(host.port(0).unwrap().counters().timeouts, 1);
    adapter.borrow_mut().deaf = false;
    host.port(0).unwrap().send(&frame(61, 2)).unwrap();
    adapter.borrow_mut().to_host.push_back(frame(62, 3));
    assert_eq!(receive_all(&bus, &mut host, 0, 50_000), [frame(62, 3)]);
    assert_eq!(adapter.borrow().from_host, [frame(61, 2)]);
}

/// Runs a device that goes wrong while it is brought into service.
fn attach_with(prepare: impl FnOnce(&Bus, usize, &cdc_ethernet::Handle)) -> (Bus, Host, usize) {
    let bus = Bus::new();
    let (id, adapter) = cdc_ethernet::add(&bus, Speed::Full, "020000000001");
    prepare(&bus, id, &adapter);
    bus.plug_root(id);
    let host = host(&bus);
    (bus, host, id)
}

#[test]
fn one_failed_control_transfer_costs_one_more_reset() {
    for fault in [Fault::Stall, Fault::Babble, Fault::Memory] {
        let (bus, mut host, id) = attach_with(|bus, id, _| bus.inject(id, 0, fault));
        run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
        assert_eq!(bus.device(id).resets, 2, "{fault:?}");
    }
}

#[test]
fn a_device_that_never_works_is_given_up_after_three_resets() {
    let (bus, mut host, id) = attach_with(|bus, id, _| {
        for _ in 0..100 {
            bus.inject(id, 0, Fault::Stall);
        }
    });
    run_until(&bus, &mut host, "refusal", |host| host.counters().refused == 1);
    assert_eq!(bus.device(id).resets, 3);
    run(&bus, &mut host, 1_000_000);
    assert_eq!(bus.device(id).resets, 3, "it is left alone then");
}

#[test]
fn a_device_that_does_not_answer_control_transfers_is_given_up_in_time() {
    let (bus, mut host, id) = attach_with(|_, _, adapter| adapter.borrow_mut().mute = true);
    let start = bus.now();
    run_until(&bus, &mut host, "refusal", |host| host.counters().refused == 1);
    assert!(bus.now() - start < 3_000_000);
    assert_eq!(bus.device(id).resets, 3);
}

#[test]
fn a_hub_port_whose_reset_never_ends_is_given_up_and_the_others_work() {
    let bus = Bus::new();
    let hub = bus.add_hub(Speed::Full, 2);
    let (id, _) = cdc_ethernet::add(&bus, Speed::Full, "020000000001");
    bus.plug_root(hub);
    bus.plug(hub, 1, id);
    bus.hub(hub).borrow_mut().stuck_reset = true;
    let mut host = host(&bus);
    run_until(&bus, &mut host, "refusal", |host| host.counters().refused == 1);
    bus.hub(hub).borrow_mut().stuck_reset = false;
    bus.unplug(hub, 1);
    run(&bus, &mut host, 300_000);
    bus.plug(hub, 2, id);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
}

#[test]
fn a_hub_port_that_is_not_enabled_after_its_reset_is_given_up() {
    let bus = Bus::new();
    let hub = bus.add_hub(Speed::Full, 2);
    let (id, _) = cdc_ethernet::add(&bus, Speed::Full, "020000000001");
    bus.plug_root(hub);
    bus.plug(hub, 1, id);
    bus.hub(hub).borrow_mut().refuses_enable = true;
    let mut host = host(&bus);
    run_until(&bus, &mut host, "refusal", |host| host.counters().refused == 1);
    assert!(bus.device(id).setups.is_empty());
}

#[test]
fn hostile_device_descriptors_are_refused() {
    let good = [18, 1, 0, 2, 2, 0, 0, 64, 0x25, 5, 0xA2, 0xA4, 0, 0, 1, 2, 10, 2];
    for (at, value) in [(0, 17), (0, 0), (0, 255), (1, 2), (7, 0), (7, 9), (7, 255)] {
        let mut bad = good.to_vec();
        bad[at] = value;
        let (bus, mut host, _) = attach_with(|_, _, adapter| adapter.borrow_mut().device = Some(bad));
        run_until(&bus, &mut host, "refusal", |host| host.counters().refused == 1);
        assert!(host.port(0).is_none(), "byte {at} = {value}");
    }
    let (bus, mut host, _) = attach_with(|_, _, adapter| adapter.borrow_mut().device = Some(vec![18, 1]));
    run_until(&bus, &mut host, "refusal", |host| host.counters().refused == 1);
}

#[test]
fn hostile_configurations_never_become_a_network_device() {
    let good = cdc_ethernet::configuration(64);
    let changed = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        bad
    };
    let mut cases = vec![vec![], vec![9, 2], good[..20].to_vec()];
    cases.extend(
        [(0, 0), (0, 200), (1, 4), (2, 8), (2, 255), (3, 255), (5, 0), (9, 0), (9, 1), (18, 0)]
            .map(|(at, value)| changed(at, value)),
    );
    // An endpoint of zero or odd packet size, number 0, or running past the end.
    let endpoint = good.len() - 14;
    cases.extend(
        [(0, 0), (0, 6), (0, 255), (2, 0x80), (4, 0), (4, 65), (5, 7)].map(|(at, value)| changed(endpoint + at, value)),
    );
    for case in cases {
        let (bus, mut host, _) = attach_with(|_, _, adapter| adapter.borrow_mut().configuration = Some(case.clone()));
        run_until(&bus, &mut host, "an end", |host| host.counters().attached + host.counters().refused == 1);
        assert!(host.port(0).is_none(), "{case:?}");
    }
}

#[test]
fn a_device_without_a_usable_station_address_is_refused() {
    for text in ["", "02000000000", "0200000000010", "01000000000A", "000000000000", "02000000000g"] {
        let (bus, mut host, _) = attach_with(|_, _, adapter| adapter.borrow_mut().mac_text = text.into());
        run_until(&bus, &mut host, "refusal", |host| host.counters().refused == 1);
        assert!(host.port(0).is_none(), "{text}");
    }
}

#[test]
fn a_device_pulled_out_in_the_middle_of_everything_leaves_no_trace() {
    // At every moment of the first second.
    for moment in (0..1_000_000).step_by(7_300) {
        let bus = Bus::new();
        let hub = bus.add_hub(Speed::Full, 2);
        let (id, adapter) = cdc_ethernet::add(&bus, Speed::Full, "020000000001");
        bus.plug_root(hub);
        bus.plug(hub, 1, id);
        let mut host = host(&bus);
        run(&bus, &mut host, moment);
        bus.unplug(hub, 1);
        run(&bus, &mut host, 700_000);
        assert!(!link_is_up(&mut host, 0));
        bus.plug(hub, 2, id);
        run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
        adapter.borrow_mut().to_host.push_back(frame(60, 1));
        assert_eq!(receive_all(&bus, &mut host, 0, 100_000), [frame(60, 1)], "moment {moment}");
    }
}

#[test]
fn under_qemu_nothing_stays_behind_on_a_channel_while_a_device_has_nothing_to_say() {
    let bus = Bus::new();
    bus.set_register(0x040, 0x4F54_294A);
    let (id, adapter) = cdc_ethernet::add(&bus, Speed::Full, "020000000001");
    bus.plug_root(id);
    let mut host = host(&bus);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    run(&bus, &mut host, 10_000);
    for _ in 0..100 {
        bus.advance(TICK_US);
        for channel in 0..8 {
            assert_eq!(bus.register(0x500 + channel * 0x20) >> 31, 0, "channel {channel} waits in the model");
        }
        host.poll(bus.now());
    }
    adapter.borrow_mut().to_host.push_back(frame(1514, 1));
    assert_eq!(receive_all(&bus, &mut host, 0, 2_000), [frame(1514, 1)]);
    assert_eq!(host.port(0).unwrap().counters().rx_errors, 0);
}
