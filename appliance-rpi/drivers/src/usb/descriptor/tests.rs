use super::*;
extern crate std;
use std::vec::Vec;

const DEVICE_DESCRIPTOR: [u8; 18] = [18, 1, 0, 2, 2, 0, 0, 64, 0x25, 5, 0xA2, 0xA4, 0, 0, 1, 2, 10, 3];
const UNION: [u8; 5] = [5, 0x24, 6, 0, 1];
const ETHERNET: [u8; 13] = [13, 0x24, 15, 7, 0, 0, 0, 0, 0xEA, 5, 0, 0, 0];
const IN: [u8; 7] = [7, 5, 0x82, 2, 0, 2, 0];
const OUT: [u8; 7] = [7, 5, 0x03, 2, 64, 0, 0];

fn device() -> DeviceDescriptor {
    DeviceDescriptor::parse(&DEVICE_DESCRIPTOR).unwrap()
}

fn smsc() -> DeviceDescriptor {
    DeviceDescriptor { vendor: 0x0424, product: 0xEC00, ..device() }
}

fn interface(number: u8, alternate: u8, class: u8, subclass: u8) -> [u8; 9] {
    [9, 4, number, alternate, 0, class, subclass, 0, 0]
}

fn status(size: u16) -> [u8; 7] {
    let [s0, s1] = size.to_le_bytes();
    [7, 5, 0x81, 3, s0, s1, 8]
}

fn configuration(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = std::vec![9, 2, 0, 0, 1, 5, 0, 0x80, 0];
    for part in parts {
        all.extend_from_slice(part);
    }
    let total = (all.len() as u16).to_le_bytes();
    all[2..4].copy_from_slice(&total);
    all
}

fn find(device: &DeviceDescriptor, parts: &[&[u8]]) -> Result<Option<Function>, Malformed> {
    find_function(device, &configuration(parts))
}

fn ecm() -> [Vec<u8>; 8] {
    [
        interface(0, 0, 2, 6).to_vec(),
        UNION.to_vec(),
        ETHERNET.to_vec(),
        status(16).to_vec(),
        interface(1, 0, 10, 0).to_vec(),
        interface(1, 2, 10, 0).to_vec(),
        IN.to_vec(),
        OUT.to_vec(),
    ]
}

fn find_ecm(parts: &[Vec<u8>]) -> Result<Option<Function>, Malformed> {
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    find(&device(), &parts)
}

#[test]
fn a_device_descriptor_is_read() {
    let expected = DeviceDescriptor { vendor: 0x0525, product: 0xA4A2, control_packet: 64, configurations: 3 };
    assert_eq!(device(), expected);
    for packet in [8, 16, 32, 64] {
        assert_eq!(DeviceDescriptor::control_packet(&[18, 1, 0, 2, 0, 0, 0, packet]), Ok(u16::from(packet)));
    }
    for bad in [[17, 1, 0, 2, 0, 0, 0, 8], [18, 2, 0, 2, 0, 0, 0, 8], [18, 1, 0, 2, 0, 0, 0, 7]] {
        assert_eq!(DeviceDescriptor::control_packet(&bad), Err(Malformed));
    }
    assert_eq!(DeviceDescriptor::control_packet(&DEVICE_DESCRIPTOR[..7]), Err(Malformed));
    assert_eq!(DeviceDescriptor::parse(&DEVICE_DESCRIPTOR[..17]), Err(Malformed));
}

#[test]
fn a_configuration_header_is_read_within_its_bounds() {
    let header = |length, kind, total: u16, value| {
        let [t0, t1] = total.to_le_bytes();
        ConfigurationHeader::parse(&[length, kind, t0, t1, 1, value, 0, 0, 0])
    };
    for (length, total, value) in [(9, 9, 1), (10, 512, 255), (255, 300, 2)] {
        assert_eq!(header(length, 2, total, value), Ok(ConfigurationHeader { total, value }));
    }
    for (length, kind, total, value) in [(8, 2, 9, 1), (9, 4, 9, 1), (9, 2, 8, 1), (9, 2, 513, 1), (9, 2, 9, 0)] {
        assert_eq!(header(length, kind, total, value), Err(Malformed));
    }
    assert_eq!(ConfigurationHeader::parse(&[9, 2, 9, 0, 1, 1, 0, 0]), Err(Malformed));
}

#[test]
fn a_cdc_ethernet_function_is_found_with_all_its_parts() {
    let expected = EcmFunction {
        control_interface: 0,
        data_interface: 1,
        data_alternate: 2,
        mac_string: 7,
        max_segment: 1514,
        bulk: BulkPair {
            input: EndpointDescriptor { number: 2, max_packet: 512 },
            output: EndpointDescriptor { number: 3, max_packet: 64 },
        },
        notify: Some(EndpointDescriptor { number: 1, max_packet: 16 }),
    };
    assert_eq!(find_ecm(&ecm()), Ok(Some(Function::Ecm(expected))));
    // Each part but the union and the notifications is needed.
    for (missing, found) in [(0, false), (1, true), (2, false), (3, true), (5, true), (6, false), (7, false)] {
        let mut parts = ecm().to_vec();
        parts.remove(missing);
        assert_eq!(matches!(find_ecm(&parts), Ok(Some(_))), found, "without part {missing}");
    }
}

#[test]
fn the_data_interface_is_the_one_the_union_names() {
    let mut parts = ecm().to_vec();
    parts.splice(4..4, [interface(9, 0, 10, 0).to_vec(), IN.to_vec(), [7, 5, 4, 2, 64, 0, 0].to_vec()]);
    let Ok(Some(Function::Ecm(found))) = find_ecm(&parts) else { panic!("no function") };
    assert_eq!((found.data_interface, found.bulk.output.number), (1, 3));
    parts.remove(1);
    let Ok(Some(Function::Ecm(found))) = find_ecm(&parts) else { panic!("no function") };
    assert_eq!((found.data_interface, found.bulk.output.number), (9, 4), "without a union the first");
}

#[test]
fn the_first_of_several_is_taken() {
    let mut parts = ecm().to_vec();
    parts.push([7, 5, 0x84, 2, 64, 0, 0].to_vec());
    parts.push([7, 5, 0x05, 2, 64, 0, 0].to_vec());
    parts.extend(ecm().map(|mut part| {
        if part[1] == 4 {
            part[2] += 4;
        }
        part
    }));
    let Ok(Some(Function::Ecm(found))) = find_ecm(&parts) else { panic!("no function") };
    assert_eq!((found.control_interface, found.bulk.input.number, found.bulk.output.number), (0, 2, 3));
    assert_eq!(found.notify.map(|endpoint| endpoint.number), Some(1));
}

#[test]
fn class_descriptors_of_other_interfaces_do_not_count() {
    // Of an interface of another subclass, of another class with the same number, and before any interface.
    for before in [interface(3, 0, 2, 2), interface(0, 0, 0xFE, 6)] {
        let mut parts = ecm().to_vec();
        let (union, ethernet) = (parts.remove(1), parts.remove(1));
        parts.extend([before.to_vec(), union, ethernet]);
        assert_eq!(find_ecm(&parts), Ok(None));
    }
    let mut parts = ecm().to_vec();
    let ethernet = parts.remove(2);
    parts.insert(0, ethernet);
    assert_eq!(find_ecm(&parts), Ok(None));
}

#[test]
fn a_status_endpoint_comes_from_the_device_and_has_small_packets() {
    for (endpoint, taken) in [
        (status(1), true),
        (status(64), true),
        (status(0), false),
        (status(65), false),
        ([7, 5, 0x01, 3, 16, 0, 8], false),
        ([7, 5, 0x81, 1, 16, 0, 8], false),
    ] {
        let hub = find(&device(), &[&interface(0, 0, 9, 0), &endpoint]).unwrap();
        assert_eq!(matches!(hub, Some(Function::Hub(found)) if found.number == 1), taken, "{endpoint:?}");
        let mut parts = ecm().to_vec();
        parts[3] = endpoint.to_vec();
        let Ok(Some(Function::Ecm(found))) = find_ecm(&parts) else { panic!("no function") };
        assert_eq!(found.notify.is_some(), taken, "{endpoint:?}");
    }
    assert_eq!(find(&device(), &[&interface(0, 1, 9, 0), &status(1)]), Ok(None), "not of another setting");
    assert_eq!(find(&device(), &[&interface(0, 0, 3, 0), &status(8)]), Ok(None), "a keyboard");
    // The status endpoint of a data interface says nothing.
    let mut parts = ecm().to_vec();
    parts.remove(3);
    parts.push(status(16).to_vec());
    let Ok(Some(Function::Ecm(found))) = find_ecm(&parts) else { panic!("no function") };
    assert_eq!(found.notify, None);
}

#[test]
fn an_smsc_adapter_is_known_by_its_ids_and_runs_at_both_speeds() {
    let out = [7, 5, 0x02, 2, 0, 2, 0];
    let parts: [&[u8]; 3] = [&interface(0, 0, 0xFF, 0), &IN, &out];
    for product in SMSC_PRODUCTS {
        let device = DeviceDescriptor { product, ..smsc() };
        assert!(matches!(find(&device, &parts), Ok(Some(Function::Smsc95xx(bulk))) if bulk.input.number == 2));
    }
    for device in
        [DeviceDescriptor { product: 0x9514, ..smsc() }, DeviceDescriptor { vendor: 0x0425, ..smsc() }, device()]
    {
        assert_eq!(find(&device, &parts), Ok(None));
    }
    for (size, usable) in [(32, false), (64, true)] {
        let slow = [7, 5, 0x82, 2, size, 0, 0];
        let found = find(&smsc(), &[&interface(0, 0, 0xFF, 0), &slow, &out]);
        assert_eq!(matches!(found, Ok(Some(Function::Smsc95xx(_)))), usable);
    }
    assert_eq!(find(&smsc(), &[&interface(0, 0, 0xFE, 0), &IN, &out]), Ok(None), "its frames are a vendor's matter");
    assert_eq!(find(&smsc(), &[&interface(0, 0, 0xFF, 0), &IN]), Ok(None));
    // Endpoints of two interfaces are no pair.
    let two: [&[u8]; 4] = [&interface(0, 0, 0xFF, 0), &IN, &interface(1, 0, 0xFF, 0), &out];
    assert_eq!(find(&smsc(), &two), Ok(None));
}

#[test]
fn bulk_packets_have_one_of_the_sizes_the_specification_allows() {
    for (size, allowed) in [
        (0u16, false),
        (1, false),
        (8, true),
        (16, true),
        (32, true),
        (64, true),
        (65, false),
        (512, true),
        (1024, false),
    ] {
        let [s0, s1] = size.to_le_bytes();
        let found = find(&device(), &[&interface(0, 0, 0xFF, 0), &[7, 5, 0x82, 2, s0, s1, 0]]);
        assert_eq!(found.is_ok(), allowed, "{size}");
    }
    // Bits above the size mean something else.
    let found = find(&smsc(), &[&interface(0, 0, 0xFF, 0), &[7, 5, 0x82, 2, 0, 0x1A, 0], &OUT]);
    assert!(matches!(found, Ok(Some(Function::Smsc95xx(bulk))) if bulk.input.max_packet == 512));
}

#[test]
fn descriptors_that_are_too_short_too_long_or_out_of_place_are_malformed() {
    let interface = interface(0, 0, 0xFF, 0);
    assert_eq!(find(&device(), &[]), Ok(None));
    for bad in [
        &[&[0u8, 0x30][..]][..],
        &[&[1, 0x30]],
        &[&[3, 0x30]],
        &[&[9]],
        &[&IN],
        &[&[8, 4, 0, 0, 0, 0, 0, 0]],
        &[&interface, &[6, 5, 0x82, 2, 64, 0]],
        &[&interface, &[7, 5, 0x80, 2, 64, 0, 0]],
    ] {
        assert_eq!(find(&device(), bad), Err(Malformed), "{bad:?}");
    }
    for (place, short) in [(1, &[4u8, 0x24, 6, 0][..]), (2, &[9, 0x24, 15, 3, 0, 0, 0, 0, 1])] {
        let mut parts = ecm().to_vec();
        parts[place] = short.to_vec();
        assert_eq!(find_ecm(&parts), Err(Malformed));
    }
    // A class descriptor with nothing but its head, and one of an unknown kind, are passed over.
    let mut parts = ecm().to_vec();
    parts.insert(1, [2, 0x24].to_vec());
    parts.insert(1, [4, 0x24, 0x77, 0].to_vec());
    assert!(matches!(find_ecm(&parts), Ok(Some(Function::Ecm(_)))));
    // What follows the configuration does not belong to it; what is missing from it does.
    let mut all = configuration(&[&interface]);
    all.push(0);
    assert_eq!(find_function(&device(), &all), Ok(None));
    assert_eq!(find_function(&device(), &all[..17]), Err(Malformed));
}

#[test]
fn a_station_address_is_twelve_digits() {
    let string = |text: &str| {
        let mut all = std::vec![2 + 2 * text.len() as u8, STRING];
        all.extend(text.bytes().flat_map(|digit| [digit, 0]));
        all
    };
    let mac = Some(MacAddress([0x02, 0x00, 0xAB, 0xCD, 0xEF, 0x91]));
    assert_eq!(mac_from_string(&string("0200ABcdEF91")), mac);
    for bad in ["0200ABCDEF9", "0200ABCDEF911", "0100ABCDEF91", "000000000000", "0200ABCDEFG1", "0200ABCDEF1G"] {
        assert_eq!(mac_from_string(&string(bad)), None, "{bad}");
    }
    let good = string("0200ABCDEF91");
    for (at, value) in [(0, 25), (1, 2), (3, 1), (25, 1)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(mac_from_string(&bad), None, "octet {at}");
    }
    assert_eq!(mac_from_string(&good[..25]), None);
    assert_eq!(mac_from_string(&[]), None);
}
