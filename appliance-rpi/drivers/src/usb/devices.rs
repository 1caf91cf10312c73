//! The table of devices on the bus, by address.

use super::attach::PortPath;
use super::control::ControlTarget;
use super::descriptor::EndpointDescriptor;
use super::hub::{Hub, Speed};
use super::transfer::Pid;

/// Devices on the bus, hubs included. Addresses run from 1.
const DEVICES: usize = 16;

/// The endpoint a hub or a network device reports changes on.
#[derive(Clone, Copy)]
pub(super) struct StatusEndpoint {
    pub(super) endpoint: EndpointDescriptor,
    pub(super) pid: Pid,
    pub(super) next_poll: u64,
}

#[derive(Clone, Copy)]
pub(super) enum Role {
    /// A hub with the ports that have something to say, bit n for port n.
    Hub {
        hub: Hub,
        pending: u16,
    },
    /// A network device, with its slot.
    Nic(usize),
    Idle,
}

#[derive(Clone, Copy)]
pub(super) struct Device {
    pub(super) path: PortPath,
    pub(super) speed: Speed,
    pub(super) control_packet: u16,
    pub(super) role: Role,
    pub(super) status: Option<StatusEndpoint>,
}

/// The devices in service.
#[derive(Default)]
pub(super) struct Devices([Option<Device>; DEVICES]);

impl Devices {
    pub(super) fn get(&self, address: u8) -> Option<&Device> {
        self.0.get(place(address)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, address: u8) -> Option<&mut Device> {
        self.0.get_mut(place(address)?)?.as_mut()
    }

    /// Each device with its address.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, &Device)> {
        (1..).zip(&self.0).filter_map(|(address, device)| Some((address, device.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u8, &mut Device)> {
        (1..).zip(&mut self.0).filter_map(|(address, device)| Some((address, device.as_mut()?)))
    }

    pub(super) fn free_address(&self) -> Option<u8> {
        (1..).zip(&self.0).find(|(_, device)| device.is_none()).map(|(address, _)| address)
    }

    /// Enters a device; whether there is such an address.
    pub(super) fn insert(&mut self, address: u8, device: Device) -> bool {
        let entry = place(address).and_then(|place| self.0.get_mut(place));
        entry.map(|entry| *entry = Some(device)).is_some()
    }

    /// Takes the device at a port off the table.
    pub(super) fn remove_at(&mut self, path: PortPath) -> Option<(u8, Device)> {
        let address = self.iter().find(|(_, device)| device.path == path)?.0;
        Some((address, self.0.get_mut(place(address)?)?.take()?))
    }

    pub(super) fn is_occupied(&self, path: PortPath) -> bool {
        self.iter().any(|(_, device)| device.path == path)
    }

    /// Address of the network device in a slot.
    pub(super) fn nic(&self, slot: usize) -> Option<u8> {
        self.iter()
            .find(|(_, device)| matches!(device.role, Role::Nic(index) if index == slot))
            .map(|(address, _)| address)
    }

    /// Where control transfers to a device go.
    pub(super) fn target(&self, address: u8) -> Option<ControlTarget> {
        let device = self.get(address)?;
        let low_speed = device.speed == Speed::Low;
        Some(ControlTarget { address, max_packet: device.control_packet, low_speed })
    }

    /// Takes the next port off the hubs' lists of those that have something to say.
    pub(super) fn take_pending(&mut self) -> Option<PortPath> {
        self.iter_mut().find_map(|(address, device)| match &mut device.role {
            Role::Hub { pending, .. } if *pending != 0 => {
                let port = pending.trailing_zeros() as u8;
                *pending &= *pending - 1;
                Some(PortPath { hub: address, port })
            }
            _ => None,
        })
    }

    /// Forgets what a hub reported of a port, once it has been dealt with.
    pub(super) fn clear_pending(&mut self, path: PortPath) {
        if let Some(Device { role: Role::Hub { pending, .. }, .. }) = self.get_mut(path.hub) {
            *pending &= !(1 << path.port);
        }
    }
}

fn place(address: u8) -> Option<usize> {
    usize::from(address).checked_sub(1)
}

/// Bits of a hub's status report that stand for its ports.
pub(super) fn port_bits(hub: &Hub) -> u16 {
    (((1u32 << (hub.ports + 1)) - 1) as u16) & !1
}
