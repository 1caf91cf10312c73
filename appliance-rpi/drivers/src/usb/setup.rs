//! Setup packets: standard requests, hub class, CDC Ethernet and the register requests of the SMSC 95xx.

/// The eight bytes that open a control transfer (USB 2.0 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) request_type: u8,
    pub(super) request: u8,
    pub(super) value: u16,
    pub(super) index: u16,
    pub(super) length: u16,
}

const INTO_HOST: u8 = 0x80;
const CLASS: u8 = 0x20;
const VENDOR: u8 = 0x40;
const TO_INTERFACE: u8 = 1;
const TO_ENDPOINT: u8 = 2;
const TO_PORT: u8 = 3;

// Standard requests (USB 2.0 table 9-4; the same numbers in FreeBSD `usb.h`).
const GET_STATUS: u8 = 0;
const CLEAR_FEATURE: u8 = 1;
const SET_FEATURE: u8 = 3;
const SET_ADDRESS: u8 = 5;
const GET_DESCRIPTOR: u8 = 6;
const SET_CONFIGURATION: u8 = 9;
const SET_INTERFACE: u8 = 11;

/// CDC 1.2 ECM subclass table 6; Linux `cdc.h` `USB_CDC_SET_ETHERNET_PACKET_FILTER`.
const SET_ETHERNET_PACKET_FILTER: u8 = 0x43;

// Register access (Linux `smsc95xx.h` `USB_VENDOR_REQUEST_*`; FreeBSD `if_smscreg.h` `SMSC_UR_*`).
const WRITE_REGISTER: u8 = 0xA0;
const READ_REGISTER: u8 = 0xA1;

impl Setup {
    fn out(request_type: u8, request: u8, value: u16, index: u16) -> Self {
        Self { request_type, request, value, index, length: 0 }
    }

    pub(super) fn is_into_host(self) -> bool {
        self.request_type & INTO_HOST != 0
    }

    pub(super) fn bytes(self) -> [u8; 8] {
        let ([a, b], [c, d], [e, f]) = (self.value.to_le_bytes(), self.index.to_le_bytes(), self.length.to_le_bytes());
        [self.request_type, self.request, a, b, c, d, e, f]
    }

    /// `kind` and `number` of the descriptor, `language` for strings, up to `length` bytes.
    pub(super) fn descriptor(kind: u8, number: u8, language: u16, length: u16) -> Self {
        let value = u16::from_be_bytes([kind, number]);
        Self { request_type: INTO_HOST, request: GET_DESCRIPTOR, value, index: language, length }
    }

    pub(super) fn set_address(address: u8) -> Self {
        Self::out(0, SET_ADDRESS, u16::from(address), 0)
    }

    pub(super) fn set_configuration(value: u8) -> Self {
        Self::out(0, SET_CONFIGURATION, u16::from(value), 0)
    }

    pub(super) fn set_interface(interface: u8, alternate: u8) -> Self {
        Self::out(TO_INTERFACE, SET_INTERFACE, u16::from(alternate), u16::from(interface))
    }

    /// Ends the halt of an endpoint; its next packet is DATA0 again.
    pub(super) fn clear_halt(number: u8, into_host: bool) -> Self {
        let endpoint = u16::from(number) | if into_host { 0x80 } else { 0 };
        Self::out(TO_ENDPOINT, CLEAR_FEATURE, 0, endpoint)
    }

    pub(super) fn hub_descriptor() -> Self {
        let mut setup = Self::descriptor(super::descriptor::HUB, 0, 0, 9);
        setup.request_type |= CLASS;
        setup
    }

    pub(super) fn port_status(port: u16) -> Self {
        Self { request_type: INTO_HOST | CLASS | TO_PORT, request: GET_STATUS, value: 0, index: port, length: 4 }
    }

    pub(super) fn port_feature(set: bool, feature: u16, port: u16) -> Self {
        Self::out(CLASS | TO_PORT, if set { SET_FEATURE } else { CLEAR_FEATURE }, feature, port)
    }

    pub(super) fn packet_filter(interface: u8, filter: u16) -> Self {
        Self::out(CLASS | TO_INTERFACE, SET_ETHERNET_PACKET_FILTER, filter, u16::from(interface))
    }

    pub(super) fn read_register(register: u16) -> Self {
        Self { request_type: INTO_HOST | VENDOR, request: READ_REGISTER, value: 0, index: register, length: 4 }
    }

    pub(super) fn write_register(register: u16) -> Self {
        Self { request_type: VENDOR, request: WRITE_REGISTER, value: 0, index: register, length: 4 }
    }
}
