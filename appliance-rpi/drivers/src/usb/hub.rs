//! Hub class: port requests, port status and the descriptor (USB 2.0 chapter 11).

use super::descriptor::EndpointDescriptor;
use super::procedure::{Event, Next};
use super::setup::Setup;

/// Bits of wPortStatus (USB 2.0 table 11-21; FreeBSD `usb.h` `UPS_*`).
pub(super) mod status {
    pub(in crate::usb) const CONNECTION: u16 = 1 << 0;
    pub(in crate::usb) const ENABLE: u16 = 1 << 1;
    pub(in crate::usb) const OVER_CURRENT: u16 = 1 << 3;
    pub(in crate::usb) const RESET: u16 = 1 << 4;
    pub(in crate::usb) const POWER: u16 = 1 << 8;
    pub(in crate::usb) const LOW_SPEED: u16 = 1 << 9;
    pub(in crate::usb) const HIGH_SPEED: u16 = 1 << 10;
}

/// Bits of wPortChange (USB 2.0 table 11-22; FreeBSD `usb.h` `UPS_C_*`).
pub(super) mod change {
    pub(in crate::usb) const CONNECTION: u16 = 1 << 0;
    pub(in crate::usb) const ENABLE: u16 = 1 << 1;
    pub(in crate::usb) const SUSPEND: u16 = 1 << 2;
    pub(in crate::usb) const OVER_CURRENT: u16 = 1 << 3;
    pub(in crate::usb) const RESET: u16 = 1 << 4;
    pub(in crate::usb) const ALL: [u16; 5] = [CONNECTION, ENABLE, SUSPEND, OVER_CURRENT, RESET];
}

/// Port feature selectors (USB 2.0 table 11-17; Linux `ch11.h` `USB_PORT_FEAT_*`).
const FEATURE_ENABLE: u16 = 1;
const FEATURE_RESET: u16 = 4;
const FEATURE_POWER: u16 = 8;
/// The change bits' selectors follow in the order of the bits.
const FEATURE_CHANGES: u16 = 16;

/// Ports of a hub this stack serves; the status report of more would not fit its buffer.
pub(super) const MAX_PORTS: u8 = 15;

/// How fast a device talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speed {
    Low,
    Full,
    High,
}

/// Answer to GetPortStatus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PortStatus {
    pub(super) status: u16,
    pub(super) change: u16,
}

impl PortStatus {
    pub(super) fn parse(answer: &[u8]) -> Option<Self> {
        let &[a, b, c, d] = answer.first_chunk()?;
        Some(Self { status: u16::from_le_bytes([a, b]), change: u16::from_le_bytes([c, d]) })
    }

    pub(super) fn is(self, bit: u16) -> bool {
        self.status & bit != 0
    }

    pub(super) fn speed(self) -> Speed {
        if self.is(status::LOW_SPEED) {
            Speed::Low
        } else if self.is(status::HIGH_SPEED) {
            Speed::High
        } else {
            Speed::Full
        }
    }
}

/// What can be asked of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortRequest {
    Status,
    Power,
    Reset,
    Disable,
    /// Acknowledge one bit of [`change`].
    Clear(u16),
}

impl PortRequest {
    /// The request as a control transfer to a hub. `port` counts from 1.
    pub(super) fn setup(self, port: u8) -> Setup {
        let port = u16::from(port);
        match self {
            Self::Status => Setup::port_status(port),
            Self::Power => Setup::port_feature(true, FEATURE_POWER, port),
            Self::Reset => Setup::port_feature(true, FEATURE_RESET, port),
            Self::Disable => Setup::port_feature(false, FEATURE_ENABLE, port),
            Self::Clear(bit) => Setup::port_feature(false, FEATURE_CHANGES + bit.trailing_zeros() as u16, port),
        }
    }
}

/// What is needed of a hub descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubDescriptor {
    /// Downstream ports, 1 to 15.
    pub ports: u8,
    /// Time until power is good at a port, in microseconds.
    pub power_good_us: u64,
}

impl HubDescriptor {
    /// Reads a hub descriptor (USB 2.0 table 11-13). `None` where it makes no sense; surplus ports are not served.
    pub fn parse(answer: &[u8]) -> Option<Self> {
        let &[length, kind, ports, _, _, power_good, _] = answer.first_chunk()?;
        (length >= 7 && kind == super::descriptor::HUB && ports > 0)
            .then(|| Self { ports: ports.min(MAX_PORTS), power_good_us: u64::from(power_good) * 2_000 })
    }
}

/// A hub in service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hub {
    pub(super) endpoint: EndpointDescriptor,
    pub(super) ports: u8,
}

/// Brings a configured hub into service: reads its descriptor and powers its ports.
#[derive(Debug)]
pub(super) struct HubSetup {
    endpoint: EndpointDescriptor,
    hub: Option<HubDescriptor>,
    powered: u8,
}

impl HubSetup {
    pub(super) fn new(endpoint: EndpointDescriptor) -> Self {
        Self { endpoint, hub: None, powered: 0 }
    }

    pub(super) fn step(&mut self, event: Event<'_>) -> Next<Hub> {
        match (event, self.hub) {
            (Event::Begin, _) => Next::request(Setup::hub_descriptor()),
            (Event::Answer(Ok(answer)), None) => {
                self.hub = HubDescriptor::parse(answer);
                self.power_next()
            }
            (Event::Answer(Ok(_)), Some(_)) => self.power_next(),
            (Event::Elapsed, Some(hub)) => Next::Done(Hub { endpoint: self.endpoint, ports: hub.ports }),
            _ => Next::Failed,
        }
    }

    fn power_next(&mut self) -> Next<Hub> {
        match self.hub {
            Some(hub) if self.powered < hub.ports => {
                self.powered += 1;
                Next::request(PortRequest::Power.setup(self.powered))
            }
            Some(hub) => Next::Wait(hub.power_good_us),
            None => Next::Failed,
        }
    }
}
