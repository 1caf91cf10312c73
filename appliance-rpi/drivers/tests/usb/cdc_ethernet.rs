//! A CDC Ethernet adapter. Like QEMU's `usb-net` it offers RNDIS in its first configuration and CDC in its second.

use super::controller::{Bus, DeviceId};
use super::device::{Function, Input, SetupPacket, Speed};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

#[derive(Default)]
pub(crate) struct Adapter {
    pub(crate) to_host: VecDeque<Vec<u8>>,
    pub(crate) from_host: Vec<Vec<u8>>,
    pub(crate) notifications: VecDeque<Vec<u8>>,
    pub(crate) filter: Option<u16>,
    pub(crate) interface: Option<(u16, u16)>,
    pub(crate) mac_text: String,
    pub(crate) packet: usize,
    /// NAK everything sent to it.
    pub(crate) deaf: bool,
    /// Leave control transfers unanswered.
    pub(crate) mute: bool,
    /// Send this configuration instead of its own.
    pub(crate) configuration: Option<Vec<u8>>,
    /// Send this device descriptor instead of its own.
    pub(crate) device: Option<Vec<u8>>,
    /// Raw packets to send on the bulk endpoint before any frame.
    pub(crate) raw: VecDeque<Vec<u8>>,
    sending: Option<(Vec<u8>, usize)>,
    receiving: Vec<u8>,
}

pub(crate) type Handle = Rc<RefCell<Adapter>>;

/// Adds an adapter to the bus, not yet plugged in.
pub(crate) fn add(bus: &Bus, speed: Speed, mac_text: &str) -> (DeviceId, Handle) {
    let packet = if speed == Speed::High { 512 } else { 64 };
    let adapter = Rc::new(RefCell::new(Adapter { mac_text: mac_text.into(), packet, ..Adapter::default() }));
    (bus.add(speed, Box::new(AdapterFunction(Rc::clone(&adapter)))), adapter)
}

pub(crate) fn configuration(packet: u16) -> Vec<u8> {
    let [p0, p1] = packet.to_le_bytes();
    let mut all = vec![9, 2, 0, 0, 2, 1, 7, 0xC0, 0x32];
    all.extend([9, 4, 0, 0, 1, 2, 6, 0, 4]);
    all.extend([5, 0x24, 0, 0x10, 1]);
    all.extend([5, 0x24, 6, 0, 1]);
    all.extend([13, 0x24, 15, 3, 0, 0, 0, 0, 0xEA, 5, 0, 0, 0]);
    all.extend([7, 5, 0x81, 3, 16, 0, 32]);
    all.extend([9, 4, 1, 0, 0, 10, 0, 0, 0]);
    all.extend([9, 4, 1, 1, 2, 10, 0, 0, 0]);
    all.extend([7, 5, 0x82, 2, p0, p1, 0]);
    all.extend([7, 5, 2, 2, p0, p1, 0]);
    all[2] = all.len() as u8;
    all
}

fn rndis() -> Vec<u8> {
    let mut all = vec![9, 2, 0, 0, 2, 2, 8, 0xC0, 0x32];
    all.extend([9, 4, 0, 0, 1, 2, 2, 0xFF, 0]);
    all.extend([7, 5, 0x81, 3, 16, 0, 32]);
    all.extend([9, 4, 1, 0, 2, 10, 0, 0, 0]);
    all.extend([7, 5, 0x82, 2, 64, 0, 0]);
    all.extend([7, 5, 2, 2, 64, 0, 0]);
    all[2] = all.len() as u8;
    all
}

struct AdapterFunction(Handle);

impl Function for AdapterFunction {
    fn descriptor(&mut self, kind: u8, number: u8) -> Option<Vec<u8>> {
        let adapter = self.0.borrow();
        match (kind, number) {
            (1, 0) => Some(
                adapter
                    .device
                    .clone()
                    .unwrap_or_else(|| vec![18, 1, 0, 2, 2, 0, 0, 64, 0x25, 5, 0xA2, 0xA4, 0, 0, 1, 2, 10, 2]),
            ),
            (2, 0) => Some(rndis()),
            (2, 1) => Some(adapter.configuration.clone().unwrap_or_else(|| configuration(adapter.packet as u16))),
            (3, 0) => Some(vec![4, 3, 9, 4]),
            (3, 3) => {
                let mut string = vec![2 + 2 * adapter.mac_text.len() as u8, 3];
                string.extend(adapter.mac_text.bytes().flat_map(|digit| [digit, 0]));
                Some(string)
            }
            _ => None,
        }
    }

    fn control_in(&mut self, _: SetupPacket) -> Option<Vec<u8>> {
        None
    }

    fn control_out(&mut self, setup: SetupPacket, _: &[u8]) -> bool {
        let mut adapter = self.0.borrow_mut();
        match (setup.kind, setup.request) {
            (1, 11) => adapter.interface = Some((setup.index, setup.value)),
            (0x21, 0x43) => adapter.filter = Some(setup.value),
            _ => return false,
        }
        true
    }

    fn input(&mut self, endpoint: u8) -> Input {
        let mut adapter = self.0.borrow_mut();
        let packet = adapter.packet;
        match endpoint {
            1 => adapter.notifications.pop_front().map_or(Input::Nak, Input::Packet),
            2 => {
                assert_eq!(adapter.interface, Some((1, 1)), "the data interface was selected first");
                if let Some(raw) = adapter.raw.pop_front() {
                    return Input::Packet(raw);
                }
                if adapter.sending.is_none() {
                    adapter.sending = adapter.to_host.pop_front().map(|frame| (frame, 0));
                }
                let Some((frame, sent)) = adapter.sending.take() else { return Input::Nak };
                let rest = &frame[sent..];
                let part = rest[..rest.len().min(packet)].to_vec();
                if part.len() == packet {
                    let sent = sent + packet;
                    adapter.sending = Some((frame, sent));
                }
                Input::Packet(part)
            }
            _ => panic!("IN endpoint {endpoint} does not exist"),
        }
    }

    fn output(&mut self, endpoint: u8, data: &[u8]) -> bool {
        assert_eq!(endpoint, 2);
        let mut adapter = self.0.borrow_mut();
        if adapter.deaf {
            return false;
        }
        adapter.receiving.extend_from_slice(data);
        if data.len() < adapter.packet {
            let frame = std::mem::take(&mut adapter.receiving);
            adapter.from_host.push(frame);
        }
        true
    }

    fn is_mute(&self) -> bool {
        self.0.borrow().mute
    }

    fn reset(&mut self) {
        let mut adapter = self.0.borrow_mut();
        adapter.interface = None;
        adapter.filter = None;
        adapter.sending = None;
        adapter.receiving.clear();
    }
}
