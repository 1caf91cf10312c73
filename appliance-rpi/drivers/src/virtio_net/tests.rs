//! The driver against a device written from virtio 1.2, which checks every rule it can see.

extern crate std;

use super::*;
use crate::model::{Memory, Ticking};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

#[derive(Default)]
struct DeviceQueue {
    size: u32,
    ready: bool,
    addresses: [u64; 3],
    seen: u16,
    used: u16,
}

struct Device {
    memory: Memory,
    status: u32,
    select: u32,
    feature_select: u32,
    version: u32,
    queue_max: u32,
    stuck_in_reset: bool,
    accepted: [u32; 2],
    link: bool,
    queues: [DeviceQueue; 2],
    sent: Vec<Vec<u8>>,
    to_deliver: VecDeque<Vec<u8>>,
    hold_transmit: bool,
}

impl Device {
    fn offset(&self, address: u64) -> usize {
        usize::try_from(address - Memory::BUS_ADDRESS).expect("inside the DMA memory")
    }

    fn queue_word(&self, queue: usize, part: usize, offset: usize) -> u32 {
        self.memory.read32(self.offset(self.queues[queue].addresses[part]) + offset)
    }

    /// The next available descriptor: number, offset of its buffer, length, flags.
    fn next(&mut self, queue: usize) -> Option<(u16, usize, usize, u32)> {
        let index = (self.queue_word(queue, 1, 0) >> 16) as u16;
        if index == self.queues[queue].seen {
            return None;
        }
        let slot = self.queues[queue].seen % QUEUE_LEN;
        self.queues[queue].seen = self.queues[queue].seen.wrapping_add(1);
        let mut number = [0; 2];
        self.memory.read(self.offset(self.queues[queue].addresses[1]) + 4 + usize::from(slot) * 2, &mut number);
        let number = u16::from_le_bytes(number);
        let entry = usize::from(number) * 16;
        let address =
            u64::from(self.queue_word(queue, 0, entry)) | u64::from(self.queue_word(queue, 0, entry + 4)) << 32;
        let len = self.queue_word(queue, 0, entry + 8) as usize;
        let offset = self.offset(address);
        assert!(offset + len <= self.memory.len());
        Some((number, offset, len, self.queue_word(queue, 0, entry + 12)))
    }

    fn complete(&mut self, queue: usize, number: u32, len: u32) {
        let used = self.offset(self.queues[queue].addresses[2]);
        let slot = usize::from(self.queues[queue].used % QUEUE_LEN);
        self.memory.write32(used + 4 + slot * 8, number);
        self.memory.write32(used + 8 + slot * 8, len);
        self.queues[queue].used = self.queues[queue].used.wrapping_add(1);
        self.memory.write32(used, u32::from(self.queues[queue].used) << 16);
    }

    fn run(&mut self) {
        while !self.hold_transmit
            && let Some((number, offset, len, flags)) = self.next(1)
        {
            assert_eq!(flags & 0xffff, 0, "a frame to send is read-only for the device");
            let mut octets = vec![0; len];
            self.memory.read(offset, &mut octets);
            assert_eq!(octets[..HEADER], [0; HEADER], "no offload was negotiated");
            self.sent.push(octets.split_off(HEADER));
            self.complete(1, u32::from(number), 0);
        }
        while let Some(frame) = self.to_deliver.pop_front() {
            let Some((number, offset, len, flags)) = self.next(0) else {
                self.to_deliver.push_front(frame);
                return;
            };
            assert_eq!(flags & 0xffff, DESCRIPTOR_WRITE);
            assert!(HEADER + frame.len() <= len);
            self.memory.write(offset, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
            self.memory.write(offset + HEADER, &frame);
            self.complete(0, u32::from(number), (HEADER + frame.len()) as u32);
        }
    }
}

#[derive(Clone)]
struct Bus(Rc<RefCell<Device>>);

impl Mmio for Bus {
    fn read32(&mut self, offset: usize) -> u32 {
        let device = self.0.borrow();
        match offset {
            MAGIC => MAGIC_VALUE,
            VERSION => device.version,
            DEVICE_ID => DEVICE_NETWORK,
            DEVICE_FEATURES => [1 << 5 | 1 << 16 | 1 << 15, 1][device.feature_select as usize],
            QUEUE_SIZE_MAX => device.queue_max,
            STATUS => device.status,
            CONFIG_MAC => u32::from_le_bytes([MAC[0], MAC[1], MAC[2], MAC[3]]),
            CONFIG_MAC_STATUS => u32::from_le_bytes([MAC[4], MAC[5], u8::from(device.link), 0]),
            _ => panic!("read of {offset:#x}"),
        }
    }

    fn write32(&mut self, offset: usize, value: u32) {
        let mut device = self.0.borrow_mut();
        let queue = device.select as usize;
        match offset {
            STATUS if value == 0 => {
                if !device.stuck_in_reset {
                    device.status = 0;
                }
            }
            STATUS => device.status = value,
            DEVICE_FEATURES_SELECT | DRIVER_FEATURES_SELECT => device.feature_select = value,
            DRIVER_FEATURES => {
                let half = device.feature_select as usize;
                device.accepted[half] = value;
            }
            QUEUE_SELECT => device.select = value,
            QUEUE_SIZE => device.queues[queue].size = value,
            QUEUE_READY => device.queues[queue].ready = value == 1,
            QUEUE_NOTIFY => {
                assert_ne!(device.status & STATUS_DRIVER_OK, 0, "notified before DRIVER_OK (§3.1.1)");
                device.run();
            }
            0x080..=0x0a4 => {
                let part = (offset - 0x080) / 0x10;
                let shift = (offset & 4) * 8;
                device.queues[queue].addresses[part] |= u64::from(value) << shift;
            }
            _ => panic!("write of {offset:#x}"),
        }
    }

    fn barrier(&mut self) {}
}

fn bus() -> Bus {
    Bus(Rc::new(RefCell::new(Device {
        memory: Memory::new(DMA_LEN),
        status: 0x80,
        select: 0,
        feature_select: 0,
        version: 2,
        queue_max: 256,
        stuck_in_reset: false,
        accepted: [0; 2],
        link: true,
        queues: Default::default(),
        sent: Vec::new(),
        to_deliver: VecDeque::new(),
        hold_transmit: false,
    })))
}

fn start(bus: &Bus) -> Result<VirtioNet<Bus, Memory>, ProbeError> {
    let memory = bus.0.borrow().memory.clone();
    VirtioNet::start(bus.clone(), memory, &mut Ticking::default())
}

fn up() -> (Bus, VirtioNet<Bus, Memory>) {
    let bus = bus();
    let nic = start(&bus).expect("the model is a good device");
    (bus, nic)
}

fn frame(to: [u8; 6], len: usize, mark: u8) -> Vec<u8> {
    let mut frame = vec![mark; len];
    frame[..6].copy_from_slice(&to);
    frame
}

fn deliver(bus: &Bus, frame: Vec<u8>) {
    let mut device = bus.0.borrow_mut();
    device.to_deliver.push_back(frame);
    device.run();
}

#[test]
fn the_device_is_brought_up_by_the_book() {
    let (bus, nic) = up();
    let device = bus.0.borrow();
    assert_eq!(device.status, 15);
    assert_eq!(device.accepted, [FEATURES_LOW, FEATURES_HIGH], "nothing is accepted that is not used");
    assert!(device.queues.iter().all(|queue| queue.ready && queue.size == u32::from(QUEUE_LEN)));
    assert_eq!(nic.mac(), MacAddress(MAC));
    assert!(nic.link().is_up());
}

#[test]
fn unusable_devices_are_refused() {
    for (spoil, error) in [
        ((|device| device.version = 1) as fn(&mut Device), ProbeError::Unsupported),
        (|device| device.queue_max = 8, ProbeError::NoRoom),
        (|device| device.stuck_in_reset = true, ProbeError::TimedOut),
    ] {
        let bus = bus();
        spoil(&mut bus.0.borrow_mut());
        assert_eq!(start(&bus).err(), Some(error));
    }
}

#[test]
fn frames_come_in_whole_and_in_order_past_the_wrap_of_the_16_bit_index() {
    let (bus, mut nic) = up();
    let mut buffer = [0; 1600];
    for number in 0..70_000u32 {
        let len = 14 + (number as usize * 7) % 1509;
        let sent = frame(MAC, len, number as u8);
        deliver(&bus, sent.clone());
        let len = nic.receive(&mut buffer).expect("a frame");
        assert_eq!(buffer[..len], sent[..], "frame {number}");
    }
    assert_eq!(nic.receive(&mut buffer), None);
    assert_eq!(nic.counters().rx_frames, 70_000);
}

#[test]
fn frames_go_out_whole_and_in_order_past_the_wrap_of_the_16_bit_index() {
    let (bus, mut nic) = up();
    for number in 0..70_000u32 {
        let out = frame([0xff; 6], 14 + (number as usize * 11) % 1509, number as u8);
        assert_eq!(nic.send(&out), Ok(()));
        assert_eq!(bus.0.borrow_mut().sent.pop().as_ref(), Some(&out), "frame {number}");
    }
    assert_eq!(nic.counters().tx_frames, 70_000);
    assert_eq!(nic.counters().tx_drops, 0);
}

#[test]
fn a_full_ring_refuses_and_recovers() {
    let (bus, mut nic) = up();
    bus.0.borrow_mut().hold_transmit = true;
    let out = frame([0xff; 6], 60, 1);
    for _ in 0..QUEUE_LEN {
        assert!(nic.can_send());
        assert_eq!(nic.send(&out), Ok(()));
    }
    assert!(!nic.can_send());
    assert_eq!(nic.send(&out), Err(SendError::Full));
    bus.0.borrow_mut().hold_transmit = false;
    bus.0.borrow_mut().run();
    nic.poll(0);
    assert!(nic.can_send());
    assert_eq!(nic.send(&out), Ok(()));
    assert_eq!(bus.0.borrow().sent.len(), usize::from(QUEUE_LEN) + 1);
    assert_eq!(nic.counters().tx_drops, 1);
}

#[test]
fn a_burst_longer_than_the_ring_loses_only_what_does_not_fit() {
    let (bus, mut nic) = up();
    for mark in 0..40 {
        deliver(&bus, frame(MAC, 64, mark));
    }
    let mut buffer = [0; 1600];
    let mut marks = Vec::new();
    while let Some(len) = nic.receive(&mut buffer) {
        marks.push(buffer[len - 1]);
    }
    assert_eq!(marks, (0..40).collect::<Vec<u8>>(), "the model keeps the rest until there is room");
}

#[test]
fn only_our_frames_pass_unless_promiscuous() {
    let (bus, mut nic) = up();
    let mut buffer = [0; 1600];
    let other = [0x52, 0x54, 0, 0x99, 0x99, 0x99];
    deliver(&bus, frame(other, 64, 1));
    deliver(&bus, frame([0xff; 6], 64, 2));
    assert_eq!(nic.receive(&mut buffer), Some(64));
    assert_eq!(buffer[20], 2);
    nic.set_promiscuous(true);
    deliver(&bus, frame(other, 64, 3));
    assert_eq!(nic.receive(&mut buffer), Some(64));
    assert_eq!(buffer[20], 3);
}

#[test]
fn a_tap_never_sends() {
    let (bus, mut nic) = up();
    nic.set_receive_only(true);
    assert!(!nic.can_send());
    assert_eq!(nic.send(&frame([0xff; 6], 60, 0)), Err(SendError::ReceiveOnly));
    assert!(bus.0.borrow().sent.is_empty());
    assert_eq!(nic.counters().tx_frames, 0);
}

#[test]
fn lengths_that_are_no_frame_are_refused_and_counted() {
    let (bus, mut nic) = up();
    for len in [0, 13, 1523] {
        assert_eq!(nic.send(&vec![0xff; len]), Err(SendError::BadLength));
    }
    let mut buffer = [0; 1600];
    for len in [6, 13, 1523, 2000] {
        deliver(&bus, frame(MAC, len, 0));
        assert_eq!(nic.receive(&mut buffer), None, "{len} octets");
    }
    assert_eq!(nic.counters().malformed, 4);
    deliver(&bus, frame(MAC, 64, 0));
    assert_eq!(nic.receive(&mut buffer), Some(64), "the ring goes on");
}

#[test]
fn a_short_buffer_loses_the_frame_not_the_ring() {
    let (bus, mut nic) = up();
    deliver(&bus, frame(MAC, 100, 0));
    assert_eq!(nic.receive(&mut [0; 60]), None);
    assert_eq!(nic.counters().rx_overruns, 1);
    deliver(&bus, frame(MAC, 60, 0));
    assert_eq!(nic.receive(&mut [0; 60]), Some(60));
}

#[test]
fn link_changes_are_seen_and_counted() {
    let (bus, mut nic) = up();
    for up in [false, true, false] {
        bus.0.borrow_mut().link = up;
        nic.poll(0);
        assert_eq!(nic.link().is_up(), up);
    }
    assert_eq!(nic.send(&frame([0xff; 6], 60, 0)), Err(SendError::LinkDown));
    assert_eq!(nic.counters().link_changes, 4);
}

#[test]
fn a_device_that_breaks_the_ring_is_not_believed_again() {
    type Spoil = fn(&mut Device, usize);
    let spoilers: [(usize, Spoil); 4] = [
        // A descriptor that does not exist.
        (0, |device, queue| device.complete(queue, u32::from(QUEUE_LEN), 64)),
        (1, |device, queue| device.complete(queue, 0x1_0000, 0)),
        // One the device does not own.
        (1, |device, queue| device.complete(queue, 3, 0)),
        // More than the ring holds.
        (0, |device, queue| {
            let used = device.offset(device.queues[queue].addresses[2]);
            device.memory.write32(used, u32::from(QUEUE_LEN + 1) << 16);
        }),
    ];
    for (queue, spoil) in spoilers {
        let (bus, mut nic) = up();
        spoil(&mut bus.0.borrow_mut(), queue);
        let mut buffer = [0; 1600];
        assert_eq!(nic.receive(&mut buffer), None);
        nic.poll(0);
        assert!(!nic.link().is_up());
        assert_eq!(nic.counters().malformed, 1);
        assert_eq!(nic.send(&frame([0xff; 6], 60, 0)), Err(SendError::LinkDown));
    }
}

#[test]
fn a_device_that_asks_for_a_reset_is_taken_down() {
    let (bus, mut nic) = up();
    bus.0.borrow_mut().status |= STATUS_NEEDS_RESET;
    nic.poll(0);
    assert!(!nic.link().is_up());
}
