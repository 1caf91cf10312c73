//! USB descriptors, as a hostile device sends them.

use rpi_drivers::usb::descriptor::{
    BulkPair, ConfigurationHeader, DeviceDescriptor, EndpointDescriptor, Function, MAX_CONFIGURATION, find_function,
    mac_from_string,
};
use rpi_drivers::usb::hub::HubDescriptor;

/// A device descriptor of 18 octets, then a configuration, a hub descriptor and a string, all the rest.
pub fn run(data: &[u8]) {
    let (head, rest) = data.split_at(data.len().min(18));
    let device = DeviceDescriptor::parse(head);
    if let Ok(device) = device {
        assert_eq!(DeviceDescriptor::control_packet(&head[..8]), Ok(device.control_packet));
        assert!(matches!(device.control_packet, 8 | 16 | 32 | 64));
    }
    // The adapter whose class is a vendor's own, and whatever else the device says it is.
    let smsc = DeviceDescriptor { vendor: 0x0424, product: 0xEC00, control_packet: 64, configurations: 1 };
    for device in device.into_iter().chain([smsc]) {
        if let Ok(Some(function)) = find_function(&device, rest) {
            let header = ConfigurationHeader::parse(rest).expect("a function lies in a configuration");
            assert!((9..=MAX_CONFIGURATION).contains(&usize::from(header.total)));
            assert!(header.value != 0 && usize::from(header.total) <= rest.len());
            check(&function);
        }
    }
    if let Some(hub) = HubDescriptor::parse(rest) {
        assert!((1..=15).contains(&hub.ports) && hub.power_good_us <= 510_000);
    }
    if let Some(mac) = mac_from_string(rest) {
        let digits: String = rest[2..26].iter().step_by(2).map(|&digit| char::from(digit)).collect();
        assert_eq!(mac.to_string().replace(':', ""), digits.to_lowercase());
        assert!(mac.0[0] & 1 == 0 && mac.0 != [0; 6], "{mac} is no station");
    }
}

fn check(function: &Function) {
    match function {
        Function::Hub(endpoint) => check_status(endpoint),
        Function::Ecm(ecm) => {
            check_bulk(&ecm.bulk);
            ecm.notify.iter().for_each(check_status);
        }
        Function::Smsc95xx(bulk) => {
            check_bulk(bulk);
            assert!(matches!(bulk.input.max_packet, 64 | 512));
        }
    }
}

fn check_status(endpoint: &EndpointDescriptor) {
    assert!((1..=15).contains(&endpoint.number) && (1..=64).contains(&endpoint.max_packet));
}

fn check_bulk(bulk: &BulkPair) {
    for endpoint in [bulk.input, bulk.output] {
        assert!((1..=15).contains(&endpoint.number) && matches!(endpoint.max_packet, 8 | 16 | 32 | 64 | 512));
    }
}
