//! A hub: port status, changes, resets that take their time.

use super::controller::DeviceId;
use super::device::{Function, Input, SetupPacket, Speed};
use std::cell::RefCell;
use std::rc::Rc;

const CONNECTION: u16 = 1;
const ENABLE: u16 = 2;
const RESET: u16 = 16;
const POWER: u16 = 256;

#[derive(Clone, Default)]
struct Port {
    device: Option<DeviceId>,
    status: u16,
    change: u16,
    reset_until: Option<u64>,
    reset_asked: bool,
}

pub(crate) struct HubModel {
    ports: Vec<Port>,
    /// Port resets never end.
    pub(crate) stuck_reset: bool,
    /// Resets end with the port disabled.
    pub(crate) refuses_enable: bool,
}

impl HubModel {
    pub(crate) fn new(ports: u8) -> Rc<RefCell<Self>> {
        let ports = vec![Port::default(); usize::from(ports)];
        Rc::new(RefCell::new(Self { ports, stuck_reset: false, refuses_enable: false }))
    }

    fn port(&mut self, number: u16) -> Option<&mut Port> {
        self.ports.get_mut(usize::from(number).checked_sub(1)?)
    }

    pub(crate) fn plug(&mut self, port: u8, id: DeviceId) {
        let port = self.port(u16::from(port)).expect("a port");
        assert!(port.device.is_none());
        port.device = Some(id);
        if port.status & POWER != 0 {
            port.status |= CONNECTION;
            port.change |= CONNECTION;
        }
    }

    pub(crate) fn unplug(&mut self, port: u8) {
        let port = self.port(u16::from(port)).expect("a port");
        port.device = None;
        port.status &= POWER;
        port.change |= CONNECTION;
    }

    /// The hub's own trouble: it switches a port off.
    pub(crate) fn disable(&mut self, port: u8) {
        let port = self.port(u16::from(port)).expect("a port");
        port.status &= !ENABLE;
        port.change |= ENABLE;
    }

    pub(crate) fn bus_reset(&mut self) {
        for port in &mut self.ports {
            *port = Port { device: port.device, ..Port::default() };
        }
    }

    pub(crate) fn enabled(&self) -> Vec<DeviceId> {
        self.ports.iter().filter(|port| port.status & ENABLE != 0).filter_map(|port| port.device).collect()
    }

    pub(crate) fn finish_resets(&mut self, now: u64, speeds: &[Speed]) -> Vec<DeviceId> {
        let (stuck, refuses) = (self.stuck_reset, self.refuses_enable);
        let mut done = Vec::new();
        for port in &mut self.ports {
            if std::mem::take(&mut port.reset_asked) {
                port.reset_until = Some(now + 15_000);
            }
            if port.reset_until.is_none_or(|until| now < until) || stuck {
                continue;
            }
            port.reset_until = None;
            port.status &= !RESET;
            port.change |= RESET;
            if let Some(id) = port.device
                && !refuses
            {
                let speed = match speeds[id] {
                    Speed::Low => 512,
                    Speed::Full => 0,
                    Speed::High => 1024,
                };
                port.status |= ENABLE | speed;
                done.push(id);
            }
        }
        done
    }
}

pub(crate) struct HubFunction(pub(crate) Rc<RefCell<HubModel>>);

impl Function for HubFunction {
    fn descriptor(&mut self, kind: u8, _: u8) -> Option<Vec<u8>> {
        match kind {
            1 => Some(vec![18, 1, 0, 2, 9, 0, 0, 64, 9, 4, 0xAA, 0x55, 0, 1, 0, 0, 0, 1]),
            2 => Some(vec![
                9, 2, 25, 0, 1, 1, 0, 0xE0, 0, // configuration
                9, 4, 0, 0, 1, 9, 0, 0, 0, // interface
                7, 5, 0x81, 3, 2, 0, 12, // status change endpoint
            ]),
            _ => None,
        }
    }

    fn control_in(&mut self, setup: SetupPacket) -> Option<Vec<u8>> {
        let mut hub = self.0.borrow_mut();
        match (setup.kind, setup.request) {
            (0xA0, 6) => Some(vec![9, 0x29, hub.ports.len() as u8, 9, 0, 50, 0, 0, 0xFF]),
            (0xA3, 0) => {
                let port = hub.port(setup.index)?;
                Some([port.status.to_le_bytes(), port.change.to_le_bytes()].concat())
            }
            _ => None,
        }
    }

    fn control_out(&mut self, setup: SetupPacket, _: &[u8]) -> bool {
        let mut hub = self.0.borrow_mut();
        let Some(port) = hub.port(setup.index) else { return false };
        match (setup.kind, setup.request, setup.value) {
            (0x23, 3, 8) => {
                if port.status & POWER == 0 && port.device.is_some() {
                    port.status |= CONNECTION;
                    port.change |= CONNECTION;
                }
                port.status |= POWER;
            }
            (0x23, 3, 4) => {
                port.status = port.status & !ENABLE | RESET;
                port.reset_asked = true;
            }
            (0x23, 1, 1) => port.status &= !ENABLE,
            (0x23, 1, 16..=20) => port.change &= !(1 << (setup.value - 16)),
            _ => return false,
        }
        true
    }

    fn input(&mut self, endpoint: u8) -> Input {
        assert_eq!(endpoint, 1);
        let hub = self.0.borrow();
        let bits = hub
            .ports
            .iter()
            .zip(1u16..)
            .fold(0u16, |bits, (port, number)| bits | if port.change != 0 { 1 << number } else { 0 });
        if bits == 0 { Input::Nak } else { Input::Packet(bits.to_le_bytes().to_vec()) }
    }

    fn output(&mut self, _: u8, _: &[u8]) -> bool {
        panic!("a hub has no OUT endpoint");
    }
}
