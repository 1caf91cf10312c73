//! Frames through a CDC Ethernet adapter, and what it says of its link.

use super::cdc_ethernet::{self, Handle};
use super::controller::{Bus, DeviceId};
use super::device::Speed;
use super::*;
use rpi_drivers::{Link, SendError};

pub(crate) fn adapter(speed: Speed) -> (Bus, Host, DeviceId, Handle) {
    let bus = Bus::new();
    let (id, adapter) = cdc_ethernet::add(&bus, speed, "020000000001");
    bus.plug_root(id);
    let mut host = host(&bus);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    (bus, host, id, adapter)
}

/// Lengths around packet boundaries of both speeds.
const LENGTHS: [usize; 13] = [14, 59, 60, 63, 64, 65, 128, 511, 512, 513, 1024, 1514, 1518];

#[test]
fn frames_of_every_length_arrive_in_both_directions() {
    for speed in [Speed::High, Speed::Full] {
        let (bus, mut host, _, adapter) = adapter(speed);
        for (number, length) in (0..).zip(LENGTHS) {
            let sent = frame(length, number);
            adapter.borrow_mut().to_host.push_back(sent.clone());
            assert_eq!(
                receive_all(&bus, &mut host, 0, 2_000),
                std::slice::from_ref(&sent),
                "length {length}, {speed:?}"
            );
            host.port(0).unwrap().send(&sent).unwrap();
            run(&bus, &mut host, 2_000);
            assert_eq!(adapter.borrow_mut().from_host.pop(), Some(sent), "length {length}, {speed:?}");
            assert!(adapter.borrow().from_host.is_empty());
        }
        let counters = host.port(0).unwrap().counters();
        let octets = LENGTHS.iter().sum::<usize>() as u64;
        assert_eq!((counters.rx_frames, counters.rx_octets), (LENGTHS.len() as u64, octets));
        assert_eq!((counters.tx_frames, counters.tx_octets), (LENGTHS.len() as u64, octets));
        assert_eq!(counters.rx_errors + counters.rx_overruns + counters.tx_drops + counters.malformed, 0);
    }
}

#[test]
fn the_receive_ring_wraps_and_keeps_the_order() {
    let (bus, mut host, _, adapter) = adapter(Speed::High);
    let frames: Vec<_> = (0..100).map(|number| frame(60 + usize::from(number), number)).collect();
    adapter.borrow_mut().to_host.extend(frames.clone());
    // Eight fit; the others wait in the device.
    run(&bus, &mut host, 5_000);
    assert_eq!(adapter.borrow().to_host.len(), 100 - 8);
    assert_eq!(receive_all(&bus, &mut host, 0, 20_000), frames);
}

#[test]
fn the_transmit_ring_wraps_fills_up_and_keeps_the_order() {
    let (bus, mut host, _, adapter) = adapter(Speed::High);
    let mut sent = Vec::new();
    for round in 0..5 {
        let mut number = round * 20;
        while host.port(0).unwrap().can_send() {
            let frame = frame(60 + usize::from(number), number);
            host.port(0).unwrap().send(&frame).unwrap();
            sent.push(frame);
            number += 1;
        }
        assert_eq!(number, round * 20 + 8);
        assert_eq!(host.port(0).unwrap().send(&frame(60, 0)), Err(SendError::Full));
        run(&bus, &mut host, 5_000);
    }
    assert_eq!(adapter.borrow().from_host, sent);
    assert_eq!(host.port(0).unwrap().counters().tx_drops, 5);
}

#[test]
fn frames_that_cannot_be_are_refused_and_counted() {
    let (bus, mut host, _, adapter) = adapter(Speed::High);
    let mut port = host.port(0).unwrap();
    assert_eq!(port.send(&[0; 13]), Err(SendError::BadLength));
    assert_eq!(port.send(&[0; 1519]), Err(SendError::BadLength));
    port.set_receive_only(true);
    assert!(!port.can_send());
    assert_eq!(port.send(&[0; 60]), Err(SendError::ReceiveOnly));
    port.set_receive_only(false);
    assert!(port.can_send());
    adapter.borrow_mut().raw.push_back(vec![0; 13]);
    adapter.borrow_mut().raw.push_back(vec![]);
    assert!(receive_all(&bus, &mut host, 0, 2_000).is_empty());
    adapter.borrow_mut().to_host.extend([frame(1000, 1), frame(60, 2)]);
    run(&bus, &mut host, 2_000);
    let mut short = [0u8; 100];
    assert_eq!(host.port(0).unwrap().receive(&mut short), Some(60), "the long one was dropped");
    let counters = host.port(0).unwrap().counters();
    assert_eq!((counters.tx_drops, counters.malformed, counters.rx_overruns), (3, 1, 1));
    assert!(adapter.borrow().from_host.is_empty());
}

#[test]
fn a_frame_longer_than_a_buffer_is_dropped_whole() {
    let (bus, mut host, _, adapter) = adapter(Speed::High);
    adapter.borrow_mut().to_host.extend([frame(60, 1), frame(5000, 2), frame(4096, 3), frame(61, 4)]);
    assert_eq!(receive_all(&bus, &mut host, 0, 5_000), [frame(60, 1), frame(61, 4)]);
    assert_eq!(host.port(0).unwrap().counters().malformed, 2);
}

#[test]
fn promiscuous_mode_is_asked_for_and_taken_back() {
    let (bus, mut host, _, adapter) = adapter(Speed::High);
    host.port(0).unwrap().set_promiscuous(true);
    run(&bus, &mut host, 5_000);
    assert_eq!(adapter.borrow().filter, Some(0b1111));
    host.port(0).unwrap().set_promiscuous(false);
    run(&bus, &mut host, 5_000);
    assert_eq!(adapter.borrow().filter, Some(0b1110));
}

#[test]
fn promiscuous_mode_survives_a_reset_of_the_device() {
    let (bus, mut host, id, adapter) = adapter(Speed::High);
    host.port(0).unwrap().set_promiscuous(true);
    run(&bus, &mut host, 5_000);
    bus.unplug_root();
    run_until(&bus, &mut host, "no link", |host| !link_is_up(host, 0));
    bus.plug_root(id);
    run_until(&bus, &mut host, "the filter again", |_| adapter.borrow().filter == Some(0b1111));
}

#[test]
fn the_link_follows_the_notifications() {
    let (bus, mut host, _, adapter) = adapter(Speed::High);
    let notify = |message: &[u8]| adapter.borrow_mut().notifications.push_back(message.to_vec());
    assert_eq!(host.port(0).unwrap().link(), Link::Up { mbit: 0, full_duplex: true });
    notify(&[0xA1, 0x2A, 0, 0, 0, 0, 8, 0, 0x00, 0xE1, 0xF5, 0x05, 0x00, 0xE1, 0xF5, 0x05]);
    run(&bus, &mut host, 120_000);
    assert_eq!(host.port(0).unwrap().link(), Link::Up { mbit: 100, full_duplex: true });
    notify(&[0xA1, 0, 0, 0, 0, 0, 0, 0]);
    run(&bus, &mut host, 120_000);
    assert_eq!(host.port(0).unwrap().link(), Link::Down);
    assert_eq!(host.port(0).unwrap().send(&[0; 60]), Err(SendError::LinkDown));
    notify(&[0xA1, 0, 1, 0, 0, 0, 0, 0]);
    run(&bus, &mut host, 120_000);
    assert!(link_is_up(&mut host, 0));
    assert_eq!(host.port(0).unwrap().counters().link_changes, 4);
}

#[test]
fn notifications_that_make_no_sense_change_nothing() {
    let (bus, mut host, _, adapter) = adapter(Speed::High);
    for message in [&[][..], &[0xA1], &[0xA1, 0x2A, 0, 0, 0, 0, 8, 0, 1], &[0x21, 0, 0, 0, 0, 0, 0, 0], &[0xFF; 16]] {
        adapter.borrow_mut().notifications.push_back(message.to_vec());
    }
    run(&bus, &mut host, 500_000);
    assert!(adapter.borrow().notifications.is_empty());
    assert_eq!(host.port(0).unwrap().link(), Link::Up { mbit: 0, full_duplex: true });
}
