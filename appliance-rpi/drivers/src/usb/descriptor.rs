//! Descriptors, read from devices that may be broken or hostile.
//!
//! Numbers: USB 2.0 chapter 9 and CDC 1.2; the same in FreeBSD `sys/dev/usb/usb.h`, `usb_cdc.h` and Linux `ch9.h`,
//! `cdc.h`.

use crate::MacAddress;

pub(super) const DEVICE: u8 = 1;
pub(super) const CONFIGURATION: u8 = 2;
pub(super) const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const CLASS_SPECIFIC_INTERFACE: u8 = 0x24;
pub(super) const HUB: u8 = 0x29;

const CLASS_COMMUNICATIONS: u8 = 0x02;
const SUBCLASS_ETHERNET: u8 = 0x06;
const CLASS_HUB: u8 = 0x09;
const CLASS_CDC_DATA: u8 = 0x0A;
const CLASS_VENDOR: u8 = 0xFF;
const FUNCTIONAL_UNION: u8 = 0x06;
const FUNCTIONAL_ETHERNET: u8 = 0x0F;

const VENDOR_SMSC: u16 = 0x0424;
/// The USB 2.0 Ethernet functions this driver knows (FreeBSD `if_smsc.c` device list, Linux `smsc95xx.c` products):
/// LAN9500, LAN9505, LAN9512/9514.
const SMSC_PRODUCTS: [u16; 3] = [0x9500, 0x9505, 0xEC00];

/// The longest configuration that is read; a longer one is refused.
pub const MAX_CONFIGURATION: usize = 512;

/// A descriptor that contradicts the specification or itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What is needed of a device descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceDescriptor {
    /// idVendor.
    pub vendor: u16,
    /// idProduct.
    pub product: u16,
    /// Packet size of the control endpoint: 8, 16, 32 or 64.
    pub control_packet: u16,
    /// bNumConfigurations.
    pub configurations: u8,
}

impl DeviceDescriptor {
    /// Reads the packet size of the control endpoint from the first eight bytes.
    ///
    /// # Errors
    /// [`Malformed`] where it is no device descriptor or the size none of the four allowed.
    pub fn control_packet(answer: &[u8]) -> Result<u16, Malformed> {
        let &[length, kind, _, _, _, _, _, packet] = answer.first_chunk().ok_or(Malformed)?;
        if length != 18 || kind != DEVICE || !matches!(packet, 8 | 16 | 32 | 64) {
            return Err(Malformed);
        }
        Ok(u16::from(packet))
    }

    /// Reads a whole device descriptor of 18 bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(answer: &[u8]) -> Result<Self, Malformed> {
        let control_packet = Self::control_packet(answer)?;
        let &[.., v0, v1, p0, p1, _, _, _, _, _, configurations] = answer.first_chunk::<18>().ok_or(Malformed)?;
        let vendor = u16::from_le_bytes([v0, v1]);
        let product = u16::from_le_bytes([p0, p1]);
        Ok(Self { vendor, product, control_packet, configurations })
    }
}

/// The head of a configuration descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigurationHeader {
    /// Bytes of the configuration with everything in it, 9 to [`MAX_CONFIGURATION`].
    pub total: u16,
    /// Value that selects it.
    pub value: u8,
}

impl ConfigurationHeader {
    /// Reads the first nine bytes of a configuration.
    ///
    /// # Errors
    /// [`Malformed`], also for a configuration longer than [`MAX_CONFIGURATION`].
    pub fn parse(answer: &[u8]) -> Result<Self, Malformed> {
        let &[length, kind, t0, t1, _, value, _, _, _] = answer.first_chunk().ok_or(Malformed)?;
        let total = u16::from_le_bytes([t0, t1]);
        if length < 9 || kind != CONFIGURATION || total < 9 || usize::from(total) > MAX_CONFIGURATION || value == 0 {
            return Err(Malformed);
        }
        Ok(Self { total, value })
    }
}

/// A bulk or interrupt endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointDescriptor {
    /// Endpoint number, 1 to 15.
    pub number: u8,
    /// Largest packet: 8, 16, 32, 64 or 512 (bulk), 1 to 64 (interrupt).
    pub max_packet: u16,
}

/// The pair of bulk endpoints frames travel on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkPair {
    /// Device to host.
    pub input: EndpointDescriptor,
    /// Host to device.
    pub output: EndpointDescriptor,
}

/// A CDC Ethernet function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EcmFunction {
    /// Interface of requests and notifications.
    pub control_interface: u8,
    /// Interface of the frames.
    pub data_interface: u8,
    /// Its setting that has endpoints.
    pub data_alternate: u8,
    /// Index of the string with the station address.
    pub mac_string: u8,
    /// Longest frame the function takes, without FCS.
    pub max_segment: u16,
    /// The frames' endpoints.
    pub bulk: BulkPair,
    /// Where notifications come from.
    pub notify: Option<EndpointDescriptor>,
}

/// What a device can do for this image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// A hub, with its status change endpoint.
    Hub(EndpointDescriptor),
    /// CDC Ethernet.
    Ecm(EcmFunction),
    /// SMSC LAN95xx.
    Smsc95xx(BulkPair),
}

/// Finds the function of a configuration that this stack has a driver for; `None` when there is none.
///
/// # Errors
/// [`Malformed`] where a descriptor runs past the end or contradicts itself. Descriptors of unknown types are passed
/// over.
pub fn find_function(device: &DeviceDescriptor, configuration: &[u8]) -> Result<Option<Function>, Malformed> {
    let header = ConfigurationHeader::parse(configuration)?;
    let mut rest = configuration.get(..usize::from(header.total)).ok_or(Malformed)?;
    let mut finder = Finder::default();
    while let &[length, kind, ..] = rest {
        let (descriptor, after) =
            rest.split_at_checked(usize::from(length)).filter(|_| length >= 2).ok_or(Malformed)?;
        rest = after;
        match kind {
            INTERFACE => finder.interface(descriptor)?,
            ENDPOINT => finder.endpoint(descriptor)?,
            CLASS_SPECIFIC_INTERFACE => finder.functional(descriptor)?,
            _ => {}
        }
    }
    if !rest.is_empty() {
        return Err(Malformed);
    }
    Ok(finder.function(device))
}

#[derive(Clone, Copy, Default)]
struct Interface {
    number: u8,
    alternate: u8,
    class: u8,
}

#[derive(Clone, Copy, Default)]
struct Ethernet {
    mac_string: u8,
    max_segment: u16,
}

#[derive(Clone, Copy)]
struct DataInterface {
    interface: Interface,
    bulk: BulkPair,
}

/// What has been seen so far on the way through a configuration.
#[derive(Default)]
struct Finder {
    current: Option<Interface>,
    input: Option<EndpointDescriptor>,
    output: Option<EndpointDescriptor>,
    hub: Option<EndpointDescriptor>,
    ecm_control: Option<u8>,
    ecm_data: Option<u8>,
    ethernet: Option<Ethernet>,
    notify: Option<EndpointDescriptor>,
    data: Option<DataInterface>,
    vendor: Option<BulkPair>,
}

impl Finder {
    fn interface(&mut self, descriptor: &[u8]) -> Result<(), Malformed> {
        let &[_, _, number, alternate, _, class, subclass, _, _] = descriptor.first_chunk().ok_or(Malformed)?;
        self.input = None;
        self.output = None;
        self.current = Some(Interface { number, alternate, class });
        if class == CLASS_COMMUNICATIONS && subclass == SUBCLASS_ETHERNET && self.ecm_control.is_none() {
            self.ecm_control = Some(number);
        }
        Ok(())
    }

    /// Whether the descriptors being read belong to the CDC Ethernet control interface.
    fn in_ecm_control(&self) -> bool {
        self.current.is_some_and(|interface| {
            interface.class == CLASS_COMMUNICATIONS && Some(interface.number) == self.ecm_control
        })
    }

    fn functional(&mut self, descriptor: &[u8]) -> Result<(), Malformed> {
        if !self.in_ecm_control() {
            return Ok(());
        }
        match descriptor.get(2) {
            Some(&FUNCTIONAL_UNION) => {
                let &[_, _, _, _, subordinate] = descriptor.first_chunk().ok_or(Malformed)?;
                self.ecm_data = Some(subordinate);
            }
            Some(&FUNCTIONAL_ETHERNET) => {
                let &[_, _, _, mac_string, _, _, _, _, s0, s1] = descriptor.first_chunk().ok_or(Malformed)?;
                self.ethernet = Some(Ethernet { mac_string, max_segment: u16::from_le_bytes([s0, s1]) });
            }
            _ => {}
        }
        Ok(())
    }

    fn endpoint(&mut self, descriptor: &[u8]) -> Result<(), Malformed> {
        let &[_, _, address, attributes, p0, p1, _] = descriptor.first_chunk().ok_or(Malformed)?;
        let interface = self.current.ok_or(Malformed)?;
        let endpoint = EndpointDescriptor { number: address & 0xF, max_packet: u16::from_le_bytes([p0, p1]) & 0x7FF };
        if endpoint.number == 0 {
            return Err(Malformed);
        }
        let into_host = address & 0x80 != 0;
        match attributes & 3 {
            2 => {
                if !matches!(endpoint.max_packet, 8 | 16 | 32 | 64 | 512) {
                    return Err(Malformed);
                }
                let slot = if into_host { &mut self.input } else { &mut self.output };
                slot.get_or_insert(endpoint);
                self.bulk(interface);
            }
            // A status endpoint with larger packets than any report needs is left alone.
            3 if into_host && (1..=64).contains(&endpoint.max_packet) => {
                if interface.class == CLASS_HUB && interface.alternate == 0 {
                    self.hub.get_or_insert(endpoint);
                } else if self.in_ecm_control() {
                    self.notify.get_or_insert(endpoint);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn bulk(&mut self, interface: Interface) {
        let (Some(input), Some(output)) = (self.input, self.output) else { return };
        let bulk = BulkPair { input, output };
        if interface.class == CLASS_CDC_DATA && self.ecm_data.is_none_or(|number| number == interface.number) {
            self.data.get_or_insert(DataInterface { interface, bulk });
        } else if interface.class == CLASS_VENDOR {
            self.vendor.get_or_insert(bulk);
        }
    }

    fn function(self, device: &DeviceDescriptor) -> Option<Function> {
        if let Some(endpoint) = self.hub {
            return Some(Function::Hub(endpoint));
        }
        if device.vendor == VENDOR_SMSC && SMSC_PRODUCTS.contains(&device.product) {
            // It has packets of these two sizes, one for each speed, and counts its bursts in them.
            let usable = |bulk: &BulkPair| matches!(bulk.input.max_packet, 64 | 512);
            return self.vendor.filter(usable).map(Function::Smsc95xx);
        }
        let (control_interface, ethernet, data) = (self.ecm_control?, self.ethernet?, self.data?);
        Some(Function::Ecm(EcmFunction {
            control_interface,
            data_interface: data.interface.number,
            data_alternate: data.interface.alternate,
            mac_string: ethernet.mac_string,
            max_segment: ethernet.max_segment,
            bulk: data.bulk,
            notify: self.notify,
        }))
    }
}

/// Reads a station address from a string descriptor of twelve hexadecimal digits (CDC ECM 1.2 section 5.4). `None`
/// for anything else and for an address no station may have.
pub fn mac_from_string(descriptor: &[u8]) -> Option<MacAddress> {
    let &[length, kind, ref text @ ..] = descriptor else { return None };
    if length != 26 || kind != STRING {
        return None;
    }
    let text = text.first_chunk::<24>()?;
    let mut octets = [0u8; 6];
    for (octet, digits) in octets.iter_mut().zip(text.chunks_exact(4)) {
        let &[high, 0, low, 0] = digits else { return None };
        *octet = (hex(high)? << 4) | hex(low)?;
    }
    is_station(octets).then_some(MacAddress(octets))
}

/// Whether an address can be that of one station: not a group, not all zeros.
pub(super) fn is_station(octets: [u8; 6]) -> bool {
    octets[0] & 1 == 0 && octets != [0; 6]
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            find(&smsc(), &[&interface(0, 0, 0xFE, 0), &IN, &out]),
            Ok(None),
            "its frames are a vendor's matter"
        );
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
}
