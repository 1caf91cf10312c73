//! Devices come into service, go, and come back.

use super::cdc_ethernet;
use super::controller::Bus;
use super::device::Speed;
use super::*;
use rpi_drivers::usb::InitError;
use rpi_drivers::{Link, MacAddress};

const MAC: &str = "405400123456";

#[test]
fn a_network_device_at_the_root_port_comes_up_with_its_own_address() {
    let bus = Bus::new();
    let (id, adapter) = cdc_ethernet::add(&bus, Speed::High, MAC);
    bus.plug_root(id);
    let mut host = host(&bus);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    assert_eq!(host.port(0).unwrap().mac(), MacAddress([0x40, 0x54, 0, 0x12, 0x34, 0x56]));
    assert_eq!(bus.device(id).configuration, 1, "CDC, not RNDIS");
    assert_eq!(adapter.borrow().filter, Some(0b1110));
    assert!(host.port(1).is_none());
}

#[test]
fn three_network_devices_work_at_once_behind_a_hub() {
    let bus = Bus::new();
    let hub = bus.add_hub(Speed::Full, 8);
    bus.plug_root(hub);
    let texts = ["020000000001", "020000000002", "020000000003"];
    let adapters: Vec<_> = texts.iter().map(|text| cdc_ethernet::add(&bus, Speed::Full, text)).collect();
    for (port, (id, _)) in (1..).zip(&adapters) {
        bus.plug(hub, port, *id);
    }
    let mut host = host(&bus);
    run_until(&bus, &mut host, "three links", |host| (0..3).all(|index| link_is_up(host, index)));
    for index in 0..3 {
        let mac = host.port(index).unwrap().mac();
        let (_, adapter) = &adapters[usize::from(mac.0[5]) - 1];
        adapter.borrow_mut().to_host.push_back(frame(100 + index, 1));
        host.port(index).unwrap().send(&frame(200 + index, 2)).unwrap();
    }
    for index in 0..3 {
        assert_eq!(receive_all(&bus, &mut host, index, 2_000), [frame(100 + index, 1)]);
        let mac = host.port(index).unwrap().mac();
        assert_eq!(adapters[usize::from(mac.0[5]) - 1].1.borrow().from_host, [frame(200 + index, 2)]);
    }
}

#[test]
fn a_device_behind_two_hubs_is_found_and_goes_with_the_first() {
    let bus = Bus::new();
    let (outer, inner) = (bus.add_hub(Speed::Full, 4), bus.add_hub(Speed::Full, 4));
    let (id, _) = cdc_ethernet::add(&bus, Speed::Full, MAC);
    bus.plug_root(outer);
    bus.plug(outer, 4, inner);
    bus.plug(inner, 2, id);
    let mut host = host(&bus);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    assert_eq!(host.counters().attached, 3);
    bus.unplug(outer, 4);
    run_until(&bus, &mut host, "no link", |host| !link_is_up(host, 0));
    assert_eq!(host.counters().detached, 2);
    bus.plug(outer, 1, inner);
    run_until(&bus, &mut host, "link again", |host| link_is_up(host, 0));
}

#[test]
fn a_device_pulled_and_put_back_keeps_its_slot_and_counters() {
    let bus = Bus::new();
    let hub = bus.add_hub(Speed::Full, 4);
    let (first, adapter) = cdc_ethernet::add(&bus, Speed::Full, "020000000001");
    let (second, _) = cdc_ethernet::add(&bus, Speed::Full, "020000000002");
    bus.plug_root(hub);
    bus.plug(hub, 1, first);
    bus.plug(hub, 2, second);
    let mut host = host(&bus);
    run_until(&bus, &mut host, "two links", |host| link_is_up(host, 0) && link_is_up(host, 1));
    for _ in 0..3 {
        let before = host.port(0).unwrap().counters();
        bus.unplug(hub, 1);
        run_until(&bus, &mut host, "no link", |host| !link_is_up(host, 0));
        assert!(link_is_up(&mut host, 1), "the other device is not disturbed");
        assert_eq!(host.port(0).unwrap().link(), Link::Down);
        assert!(host.port(0).unwrap().send(&frame(60, 0)).is_err());
        // Plugged in elsewhere it is still the same device.
        bus.plug(hub, 3, first);
        run_until(&bus, &mut host, "link again", |host| link_is_up(host, 0));
        adapter.borrow_mut().to_host.push_back(frame(64, 9));
        assert_eq!(receive_all(&bus, &mut host, 0, 2_000), [frame(64, 9)]);
        let after = host.port(0).unwrap().counters();
        assert_eq!(after.rx_frames, before.rx_frames + 1);
        assert_eq!(after.link_changes, before.link_changes + 2);
        bus.unplug(hub, 3);
        run_until(&bus, &mut host, "no link", |host| !link_is_up(host, 0));
        bus.plug(hub, 1, first);
        run_until(&bus, &mut host, "link again", |host| link_is_up(host, 0));
    }
}

#[test]
fn the_root_port_itself_can_be_pulled_and_put_back() {
    let bus = Bus::new();
    let (id, _) = cdc_ethernet::add(&bus, Speed::High, MAC);
    let mut host = host(&bus);
    run(&bus, &mut host, 300_000);
    for _ in 0..2 {
        bus.plug_root(id);
        run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
        bus.unplug_root();
        run_until(&bus, &mut host, "no link", |host| !link_is_up(host, 0));
    }
}

#[test]
fn all_changes_of_the_root_port_at_once_are_taken_one_by_one() {
    let bus = Bus::new();
    let (id, _) = cdc_ethernet::add(&bus, Speed::High, MAC);
    let mut host = host(&bus);
    run(&bus, &mut host, 10_000);
    bus.plug_root(id);
    bus.disturb_root(1 << 3 | 1 << 5);
    let start = bus.now();
    run_until(&bus, &mut host, "a reset", |_| bus.device(id).resets > 0);
    assert!(bus.now() - start >= 150_000, "debounce and reset take their time");
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    // A change that takes nothing away leaves the device as it is.
    bus.disturb_root(1 << 5);
    run(&bus, &mut host, 300_000);
    assert_eq!((bus.device(id).resets, host.counters().detached), (1, 0));
}

#[test]
fn a_device_whose_port_the_hub_switched_off_comes_back() {
    let bus = Bus::new();
    let hub = bus.add_hub(Speed::Full, 2);
    let (id, _) = cdc_ethernet::add(&bus, Speed::Full, MAC);
    bus.plug_root(hub);
    bus.plug(hub, 1, id);
    let mut host = host(&bus);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    let resets = bus.device(id).resets;
    bus.hub(hub).borrow_mut().disable(1);
    run_until(&bus, &mut host, "reset", |_| bus.device(id).resets > resets);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    assert_eq!(host.port(0).unwrap().counters().link_changes, 3);
}

#[test]
fn a_slow_device_behind_a_fast_hub_is_refused_and_the_others_work() {
    let bus = Bus::new();
    let hub = bus.add_hub(Speed::High, 4);
    let (slow, _) = cdc_ethernet::add(&bus, Speed::Full, "020000000001");
    let (fast, _) = cdc_ethernet::add(&bus, Speed::High, "020000000002");
    bus.plug_root(hub);
    bus.plug(hub, 1, slow);
    bus.plug(hub, 2, fast);
    let mut host = host(&bus);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    assert_eq!(host.port(0).unwrap().mac().0[5], 2);
    assert_eq!(host.counters().refused, 1);
    assert!(bus.device(slow).setups.is_empty(), "it was never talked to");
}

#[test]
fn a_device_without_a_driver_is_left_alone() {
    let bus = Bus::new();
    let (id, adapter) = cdc_ethernet::add(&bus, Speed::Low, MAC);
    adapter.borrow_mut().device = Some(vec![18, 1, 0, 2, 0, 0, 0, 8, 1, 2, 3, 4, 0, 0, 0, 0, 0, 1]);
    bus.device_mut(id).control_packet = 8;
    bus.plug_root(id);
    let mut host = host(&bus);
    run_until(&bus, &mut host, "an address", |host| host.counters().attached == 1);
    assert_eq!(bus.device(id).configuration, 0);
    assert_eq!(host.counters().refused, 0);
    let setups = bus.device(id).setups.len();
    run(&bus, &mut host, 1_000_000);
    assert_eq!(bus.device(id).setups.len(), setups, "no more is asked of it");
}

#[test]
fn devices_beyond_the_table_are_switched_off_and_the_others_work() {
    let bus = Bus::new();
    let hub = bus.add_hub(Speed::Full, 15);
    let inner = bus.add_hub(Speed::Full, 4);
    bus.plug_root(hub);
    bus.plug(hub, 1, inner);
    for port in 2..=15 {
        let (id, adapter) = cdc_ethernet::add(&bus, Speed::Full, MAC);
        adapter.borrow_mut().configuration = Some(Vec::new());
        bus.plug(hub, port, id);
    }
    let mut host = host(&bus);
    run_until(&bus, &mut host, "sixteen devices", |host| host.counters().attached == 16);
    let (late, _) = cdc_ethernet::add(&bus, Speed::Full, MAC);
    bus.plug(inner, 1, late);
    run_until(&bus, &mut host, "refusal", |host| host.counters().refused == 1);
    assert!(bus.device(late).setups.is_empty());
    // One goes, the late one is put in again.
    bus.unplug(hub, 9);
    bus.unplug(inner, 1);
    run(&bus, &mut host, 300_000);
    bus.plug(inner, 2, late);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
}

#[test]
fn a_fourth_network_device_waits_until_a_slot_is_free() {
    let bus = Bus::new();
    let hub = bus.add_hub(Speed::Full, 4);
    bus.plug_root(hub);
    for port in 1..=4 {
        let (id, _) = cdc_ethernet::add(&bus, Speed::Full, &format!("02000000000{port}"));
        bus.plug(hub, port, id);
    }
    let mut host = host(&bus);
    run_until(&bus, &mut host, "five devices", |host| host.counters().attached == 5);
    run(&bus, &mut host, 500_000);
    assert!((0..3).all(|index| link_is_up(&mut host, index)));
    assert!(host.port(3).is_none());
}

#[test]
fn an_idle_bus_costs_one_register_read_a_poll() {
    let bus = Bus::new();
    let (id, _) = cdc_ethernet::add(&bus, Speed::High, MAC);
    bus.plug_root(id);
    let mut host = host(&bus);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    run(&bus, &mut host, 10_000);
    // Between two questions to the status endpoint.
    let (mut idle, polls) = (0, 100);
    for _ in 0..polls {
        let before = bus.reads();
        host.poll(bus.now());
        idle += u32::from(bus.reads() - before <= 2);
    }
    assert!(idle >= polls - 2, "only {idle} of {polls} polls were cheap");
}

#[test]
fn what_is_not_the_controller_is_refused() {
    let bus = Bus::new();
    let fresh = || Host::new(bus.registers(), bus.region(Host::DMA_BYTES), BOARD);
    bus.set_register(0x040, 0);
    assert_eq!(fresh().init(&mut bus.clock()), Err(InitError::NoController));
    bus.set_register(0x040, 0x4F54_280A);
    bus.set_register(0x048, 7 << 14);
    assert_eq!(fresh().init(&mut bus.clock()), Err(InitError::Unsupported));
    bus.set_register(0x048, 3 << 14 | 2 << 3);
    assert_eq!(fresh().init(&mut bus.clock()), Err(InitError::Unsupported));
}

#[test]
fn a_reset_that_never_ends_is_given_up() {
    let bus = Bus::new();
    bus.stick_in_reset();
    let mut host = Host::new(bus.registers(), bus.region(Host::DMA_BYTES), BOARD);
    let start = bus.now();
    assert_eq!(host.init(&mut bus.clock()), Err(InitError::TimedOut));
    assert!(bus.now() - start < 1_000_000);
    run(&bus, &mut host, 10_000);
    assert!(host.port(0).is_none());
}

#[test]
fn the_controller_is_set_up_as_a_host_with_dma() {
    let bus = Bus::new();
    bus.set_register(0x00C, 1 << 3 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 30);
    let _host = host(&bus);
    assert_eq!(bus.register(0x00C), 1 << 29, "UTMI+, 8 bit, no OTG, host forced");
    assert_eq!(bus.register(0x008), 0x30);
    assert_eq!(bus.register(0x018), 0, "the interrupt line stays quiet");
    assert_eq!(bus.register(0x024), 1024);
    assert_eq!(bus.register(0x028), 1024 << 16 | 1024);
    assert_eq!(bus.register(0x100), 1024 << 16 | 2048);
    assert_eq!(bus.register(0x418), 0xFF);
}

#[test]
fn what_became_of_each_device_is_told_once() {
    use rpi_drivers::usb::{Became, News};
    let bus = Bus::new();
    let hub = bus.add_hub(Speed::Full, 4);
    let (network, _) = cdc_ethernet::add(&bus, Speed::Full, MAC);
    let (useless, adapter) = cdc_ethernet::add(&bus, Speed::Full, MAC);
    adapter.borrow_mut().device = Some(vec![18, 1, 0, 2, 0, 0, 0, 64, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0]);
    let (silent, adapter) = cdc_ethernet::add(&bus, Speed::Full, MAC);
    adapter.borrow_mut().mute = true;
    bus.plug_root(hub);
    for (port, device) in [(1, network), (2, useless), (3, silent)] {
        bus.plug(hub, port, device);
    }
    let mut host = host(&bus);
    let mut all = Vec::new();
    run_until(&bus, &mut host, "news", |host| {
        all.extend(host.take_news());
        assert_eq!(host.take_news(), None);
        all.len() == 4
    });
    let told: Vec<_> = all.iter().map(|news: &News| (news.hub, news.port, news.became)).collect();
    assert_eq!(told[0], (0, 1, Became::Hub));
    assert!(told.contains(&(1, 1, Became::Network(0))));
    assert!(told.contains(&(1, 2, Became::Idle)));
    assert!(told.contains(&(1, 3, Became::Refused)));
    let identity = |port| all.iter().find(|news| news.hub == 1 && news.port == port).unwrap().device;
    assert_eq!(identity(1), Some((0x0525, 0xA4A2)));
    assert_eq!(identity(2), Some((0x0201, 0x0403)));
    assert_eq!(identity(3), None);
    run(&bus, &mut host, 2_000_000);
    assert_eq!(host.take_news(), None);
}

#[test]
fn a_root_port_that_is_enabled_some_time_after_its_reset_is_waited_for() {
    let bus = Bus::new();
    bus.enable_late(25_000);
    let (id, _) = cdc_ethernet::add(&bus, Speed::High, MAC);
    bus.plug_root(id);
    let mut host = host(&bus);
    run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
    assert_eq!(bus.device(id).resets, 1, "one reset was enough");
}

#[test]
fn channels_that_never_say_that_they_have_halted_do_not_outlive_the_device() {
    let bus = Bus::new();
    bus.be_mute_when_alone();
    let (id, adapter) = cdc_ethernet::add(&bus, Speed::High, MAC);
    let mut host = host(&bus);
    for round in 0..3 {
        bus.plug_root(id);
        run_until(&bus, &mut host, "link", |host| link_is_up(host, 0));
        adapter.borrow_mut().to_host.push_back(frame(60, round));
        assert_eq!(receive_all(&bus, &mut host, 0, 5_000), [frame(60, round)]);
        bus.unplug_root();
        run_until(&bus, &mut host, "no link", |host| !link_is_up(host, 0));
    }
}
