//! The view of one network device that the rest of the image works with.

use super::bus::UsbHost;
use crate::{Counters, DmaMemory, Link, MacAddress, Mmio, Nic, SendError};

/// One network device of a [`UsbHost`].
pub struct UsbPort<'a, M, D> {
    usb: &'a mut UsbHost<M, D>,
    index: usize,
    mac: MacAddress,
}

impl<'a, M: Mmio, D: DmaMemory> UsbPort<'a, M, D> {
    pub(super) fn new(usb: &'a mut UsbHost<M, D>, index: usize, mac: MacAddress) -> Self {
        Self { usb, index, mac }
    }
}

impl<M: Mmio, D: DmaMemory> UsbHost<M, D> {
    /// The network device in slot `index`; `None` as long as none was ever seen there. A slot whose device is gone
    /// stays and shows [`Link::Down`].
    pub fn port(&mut self, index: usize) -> Option<UsbPort<'_, M, D>> {
        let slot = self.slots.get(index)?;
        let mac = slot.mac?;
        Some(UsbPort::new(self, index, mac))
    }
}

impl<M: Mmio, D: DmaMemory> Nic for UsbPort<'_, M, D> {
    fn mac(&self) -> MacAddress {
        self.mac
    }

    /// Drives the whole bus, as [`UsbHost::poll`] does; one of the two is enough for all ports.
    fn poll(&mut self, now_us: u64) {
        self.usb.poll(now_us);
    }

    fn link(&self) -> Link {
        self.usb.slots.get(self.index).map_or(Link::Down, |slot| slot.link)
    }

    fn receive(&mut self, frame: &mut [u8]) -> Option<usize> {
        let now_us = self.usb.now_us;
        let (slot, host) = self.usb.slot_and_host(self.index)?;
        slot.receive(host, frame, now_us)
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        let now_us = self.usb.now_us;
        let (slot, host) = self.usb.slot_and_host(self.index).ok_or(SendError::LinkDown)?;
        slot.send(host, frame, now_us)
    }

    fn can_send(&self) -> bool {
        self.usb.slots.get(self.index).is_some_and(|slot| slot.can_send())
    }

    fn set_promiscuous(&mut self, on: bool) {
        if let Some(slot) = self.usb.slots.get_mut(self.index) {
            slot.promiscuous = on;
        }
    }

    fn set_receive_only(&mut self, on: bool) {
        if let Some(slot) = self.usb.slots.get_mut(self.index) {
            slot.receive_only = on;
        }
    }

    fn counters(&self) -> Counters {
        self.usb.slots.get(self.index).map_or_else(Counters::default, |slot| slot.counters)
    }
}
