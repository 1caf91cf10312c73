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
mod tests;
