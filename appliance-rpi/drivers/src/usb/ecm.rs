//! CDC Ethernet control model (USB class definitions for communication devices 1.2, ECM subclass 1.2).
//!
//! A frame is one bulk transfer, ended by a short packet; nothing is put around it.

use super::descriptor::{EcmFunction, STRING, mac_from_string};
use super::procedure::{Event, Next};
use super::setup::Setup;
use crate::{Link, MacAddress};

/// Bits of SetEthernetPacketFilter (ECM 1.2 table 8; Linux `cdc.h` `USB_CDC_PACKET_TYPE_*`).
const FILTER_PROMISCUOUS: u16 = 1 << 0;
const FILTER_ALL_MULTICAST: u16 = 1 << 1;
const FILTER_DIRECTED: u16 = 1 << 2;
const FILTER_BROADCAST: u16 = 1 << 3;

/// Notification codes (CDC 1.2 table 20; Linux `cdc.h` `USB_CDC_NOTIFY_*`).
const NETWORK_CONNECTION: u8 = 0x00;
const CONNECTION_SPEED_CHANGE: u8 = 0x2A;
const NOTIFICATION: u8 = 0xA1;

const ENGLISH: u16 = 0x0409;
/// Two bytes of header and twelve UTF-16 digits.
const MAC_STRING_LENGTH: u16 = 26;

/// The request that sets which frames are received.
pub(super) fn packet_filter(function: &EcmFunction, promiscuous: bool) -> Setup {
    let filter = FILTER_ALL_MULTICAST | FILTER_DIRECTED | FILTER_BROADCAST;
    Setup::packet_filter(function.control_interface, filter | if promiscuous { FILTER_PROMISCUOUS } else { 0 })
}

/// What a notification says of the link, given what was known; `None` for any other message.
pub fn read_notification(message: &[u8], known: Link) -> Option<Link> {
    let &[kind, code, value, ..] = message.first_chunk::<8>()?;
    match (kind, code) {
        (NOTIFICATION, NETWORK_CONNECTION) if value == 0 => Some(Link::Down),
        (NOTIFICATION, NETWORK_CONNECTION) => {
            Some(if known.is_up() { known } else { Link::Up { mbit: 0, full_duplex: true } })
        }
        (NOTIFICATION, CONNECTION_SPEED_CHANGE) => {
            let &[d0, d1, d2, d3, ..] = message.get(8..)?.first_chunk::<8>()?;
            let mbit = u16::try_from(u32::from_le_bytes([d0, d1, d2, d3]) / 1_000_000).unwrap_or(u16::MAX);
            // The speed may come before the connection does, and then says nothing about it.
            known.is_up().then_some(Link::Up { mbit, full_duplex: true })
        }
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Languages,
    MacString,
    Interface,
    Filter,
}

/// Brings a configured function into service: station address, data interface, packet filter.
#[derive(Debug)]
pub(super) struct EcmSetup {
    function: EcmFunction,
    step: Step,
    mac: Option<MacAddress>,
}

impl EcmSetup {
    pub(super) fn new(function: EcmFunction) -> Self {
        Self { function, step: Step::Languages, mac: None }
    }

    pub(super) fn step(&mut self, event: Event<'_>) -> Next<MacAddress> {
        match (self.step, event) {
            (Step::Languages, Event::Begin) => Next::request(Setup::descriptor(STRING, 0, 0, 4)),
            (Step::Languages, Event::Answer(answer)) => {
                let language = match answer {
                    Ok(&[_, STRING, l0, l1, ..]) => u16::from_le_bytes([l0, l1]),
                    _ => ENGLISH,
                };
                self.step = Step::MacString;
                Next::request(Setup::descriptor(STRING, self.function.mac_string, language, MAC_STRING_LENGTH))
            }
            (Step::MacString, Event::Answer(Ok(answer))) => {
                self.mac = mac_from_string(answer);
                if self.mac.is_none() {
                    return Next::Failed;
                }
                self.step = Step::Interface;
                Next::request(Setup::set_interface(self.function.data_interface, self.function.data_alternate))
            }
            (Step::Interface, Event::Answer(answer)) => {
                // A function whose frames are on setting 0 need not know the request.
                if answer.is_err() && self.function.data_alternate != 0 {
                    return Next::Failed;
                }
                self.step = Step::Filter;
                Next::request(packet_filter(&self.function, false))
            }
            // The filter is optional (ECM 1.2 table 6): without it the function hands over what it likes.
            (Step::Filter, Event::Answer(_)) => self.mac.map_or(Next::Failed, Next::Done),
            _ => Next::Failed,
        }
    }
}
