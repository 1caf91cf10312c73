//! The DesignWare host controller as its registers show it: resets, root port, channels that move packets as time
//! goes on. Written from the register descriptions named in the driver; it checks what a real one would suffer from
//! silently (packet ids, frame parity, alignment, two devices at one address).

use super::device::{Answer, DATA0, DATA1, Device, Function, Speed};
use super::hub::HubModel;
use rpi_drivers::{Clock, DmaMemory, Mmio};
use std::cell::{Ref, RefCell, RefMut};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

pub(crate) type DeviceId = usize;

/// What goes wrong at an endpoint, once for each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Stall,
    Babble,
    /// The core gives up on the wire.
    TransactionError,
    /// The core cannot write memory.
    Memory,
    /// The device halts this endpoint until it is told otherwise.
    Halt,
    /// The channel halts and gives no reason.
    Silent,
    /// The channel halts on a NAK instead of repeating the transaction.
    NakHalt,
    /// The core gives up on the wire, but the device has said something in between.
    TransactionErrorAfterNak,
    /// The core cannot write memory, says so, and waits to be told to halt.
    MemoryWithoutHalt,
}

/// Packets a channel moves in one step of time.
const PACKETS_PER_STEP: usize = 64;
const BUS_ADDRESS: u64 = 0xC010_0000;
const MASK_CHANGES: u32 = 0b10_1010;

struct Core {
    now: u64,
    registers: HashMap<usize, u32>,
    port: u32,
    reset_since: Option<u64>,
    attached_root: Option<DeviceId>,
    devices: Vec<Device>,
    hubs: HashMap<DeviceId, Rc<RefCell<HubModel>>>,
    faults: HashMap<(DeviceId, u8), VecDeque<Fault>>,
    memory: Rc<RefCell<Vec<u8>>>,
    /// GRSTCTL never comes back.
    stuck_in_reset: bool,
    /// From the end of a reset of the root port until it is enabled.
    enabled_after: u64,
    enabled_at: Option<u64>,
    /// Channels that are told to halt after the root port has lost its device never say that they have.
    mute_when_alone: bool,
    /// Channels that do nothing until they are told to halt.
    frozen: HashSet<usize>,
    reads: u64,
}

/// The whole machine; clones share it.
#[derive(Clone)]
pub(crate) struct Bus(Rc<RefCell<Core>>);

#[derive(Clone)]
pub(crate) struct Registers(Bus);
#[derive(Clone)]
pub(crate) struct Region(Rc<RefCell<Vec<u8>>>);
pub(crate) struct Ticks(Bus);

impl Bus {
    pub(crate) fn new() -> Self {
        let mut registers = HashMap::new();
        registers.insert(0x040, 0x4F54_280A);
        registers.insert(0x048, 7 << 14 | 2 << 3 | 1 << 19);
        registers.insert(0x04C, 4080 << 16);
        registers.insert(0x010, 1 << 31);
        Self(Rc::new(RefCell::new(Core {
            now: 1_000,
            registers,
            port: 0,
            reset_since: None,
            attached_root: None,
            devices: Vec::new(),
            hubs: HashMap::new(),
            faults: HashMap::new(),
            memory: Rc::default(),
            stuck_in_reset: false,
            enabled_after: 0,
            enabled_at: None,
            mute_when_alone: false,
            frozen: HashSet::new(),
            reads: 0,
        })))
    }

    pub(crate) fn registers(&self) -> Registers {
        Registers(self.clone())
    }
    pub(crate) fn region(&self, length: usize) -> Region {
        let memory = Rc::clone(&self.core().memory);
        *memory.borrow_mut() = vec![0xA5; length];
        Region(memory)
    }
    pub(crate) fn clock(&self) -> Ticks {
        Ticks(self.clone())
    }
    fn core(&self) -> RefMut<'_, Core> {
        self.0.borrow_mut()
    }
    pub(crate) fn now(&self) -> u64 {
        self.0.borrow().now
    }
    pub(crate) fn register(&self, offset: usize) -> u32 {
        self.0.borrow().registers.get(&offset).copied().unwrap_or(0)
    }
    pub(crate) fn set_register(&self, offset: usize, value: u32) {
        self.core().registers.insert(offset, value);
    }
    pub(crate) fn enable_late(&self, us: u64) {
        self.core().enabled_after = us;
    }
    pub(crate) fn be_mute_when_alone(&self) {
        self.core().mute_when_alone = true;
    }
    pub(crate) fn stick_in_reset(&self) {
        self.core().stuck_in_reset = true;
    }
    /// Register reads so far.
    pub(crate) fn reads(&self) -> u64 {
        self.0.borrow().reads
    }

    pub(crate) fn add(&self, speed: Speed, function: Box<dyn Function>) -> DeviceId {
        let mut core = self.core();
        core.devices.push(Device::new(speed, function));
        core.devices.len() - 1
    }

    pub(crate) fn add_hub(&self, speed: Speed, ports: u8) -> DeviceId {
        let hub = HubModel::new(ports);
        let id = self.add(speed, Box::new(super::hub::HubFunction(Rc::clone(&hub))));
        self.core().hubs.insert(id, hub);
        id
    }

    pub(crate) fn device(&self, id: DeviceId) -> Ref<'_, Device> {
        Ref::map(self.0.borrow(), |core| &core.devices[id])
    }
    pub(crate) fn device_mut(&self, id: DeviceId) -> RefMut<'_, Device> {
        RefMut::map(self.core(), |core| &mut core.devices[id])
    }

    pub(crate) fn plug_root(&self, id: DeviceId) {
        let mut core = self.core();
        core.attached_root = Some(id);
        core.port |= 1 | 2;
    }
    /// Sets bits of the root port's register: changes the driver did not cause.
    pub(crate) fn disturb_root(&self, bits: u32) {
        self.core().port |= bits;
    }
    pub(crate) fn unplug_root(&self) {
        let mut core = self.core();
        core.attached_root = None;
        core.port &= !(1 | 4);
        core.port |= 2 | 8;
    }
    pub(crate) fn plug(&self, hub: DeviceId, port: u8, id: DeviceId) {
        self.hub(hub).borrow_mut().plug(port, id);
    }
    pub(crate) fn unplug(&self, hub: DeviceId, port: u8) {
        self.hub(hub).borrow_mut().unplug(port);
    }
    pub(crate) fn hub(&self, id: DeviceId) -> Rc<RefCell<HubModel>> {
        Rc::clone(&self.0.borrow().hubs[&id])
    }

    /// `endpoint` with bit 7 for IN; 0 is the control endpoint in both directions.
    pub(crate) fn inject(&self, id: DeviceId, endpoint: u8, fault: Fault) {
        self.core().faults.entry((id, endpoint)).or_default().push_back(fault);
    }
    pub(crate) fn faults_left(&self) -> usize {
        self.0.borrow().faults.values().map(VecDeque::len).sum()
    }

    pub(crate) fn advance(&self, us: u64) {
        let mut core = self.core();
        core.now += us;
        if core.enabled_at.is_some_and(|at| core.now >= at) {
            core.enabled_at = None;
            core.port |= 4 | 8;
        }
        core.run_hubs();
        for channel in 0..8 {
            core.run_channel(channel);
        }
    }
}

impl Core {
    fn get(&self, offset: usize) -> u32 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    /// Hubs finish port resets; what they reset, they enable.
    fn run_hubs(&mut self) {
        let now = self.now;
        let speeds: Vec<Speed> = self.devices.iter().map(|device| device.speed).collect();
        let done: Vec<DeviceId> =
            self.hubs.values().flat_map(|hub| hub.borrow_mut().finish_resets(now, &speeds)).collect();
        for id in done {
            self.reset_tree(id);
        }
    }

    fn reset_tree(&mut self, id: DeviceId) {
        self.devices[id].reset();
        if let Some(hub) = self.hubs.get(&id) {
            hub.borrow_mut().bus_reset();
        }
    }

    /// Devices that hear what is said on the bus.
    fn listening(&self) -> Vec<DeviceId> {
        let mut found = Vec::new();
        if self.port & 4 == 0 || self.reset_since.is_some() {
            return found;
        }
        let mut next: Vec<DeviceId> = self.attached_root.into_iter().collect();
        while let Some(id) = next.pop() {
            found.push(id);
            if let Some(hub) = self.hubs.get(&id) {
                next.extend(hub.borrow().enabled());
            }
        }
        found
    }

    fn find(&self, address: u8) -> Option<DeviceId> {
        let mut at = self.listening().into_iter().filter(|&id| self.devices[id].address == address);
        let found = at.next();
        assert!(at.next().is_none(), "two devices answer to address {address}");
        found
    }

    fn frame_number(&self) -> u32 {
        (self.now / 125) as u32 & 0x3FFF
    }

    fn write(&mut self, offset: usize, value: u32) {
        match offset {
            0x010 => {
                let stuck = if self.stuck_in_reset { value & 0x31 } else { 0 };
                if value & 1 != 0 {
                    self.port = 0;
                    if self.attached_root.is_some() {
                        self.port = 1 | 2;
                    }
                }
                self.registers.insert(offset, 1 << 31 | stuck);
            }
            0x440 => self.write_port(value),
            0x014 | 0x040..=0x050 | 0x408 | 0x414 => panic!("write to read-only register {offset:#x}"),
            0x500..0x600 => self.write_channel(offset, value),
            _ => {
                self.registers.insert(offset, value);
            }
        }
    }

    fn write_port(&mut self, value: u32) {
        self.port &= !(value & MASK_CHANGES);
        if value & 4 != 0 {
            self.port = self.port & !4 | 8;
        }
        self.port = self.port & !(1 << 12) | value & 1 << 12;
        let reset = value & 1 << 8 != 0;
        match (reset, self.reset_since) {
            (true, None) => {
                self.reset_since = Some(self.now);
                self.port &= !4;
            }
            (false, Some(since)) => {
                self.reset_since = None;
                assert!(self.now - since >= 50_000, "a root port reset of only {} us", self.now - since);
                if let Some(id) = self.attached_root {
                    self.reset_tree(id);
                    let speed = match self.devices[id].speed {
                        Speed::High => 0,
                        Speed::Full => 1,
                        Speed::Low => 2,
                    };
                    self.port = self.port & !(3 << 17) | speed << 17;
                    self.enabled_at = Some(self.now + self.enabled_after);
                    if self.enabled_after == 0 {
                        self.enabled_at = None;
                        self.port |= 4 | 8;
                    }
                }
            }
            _ => {}
        }
    }

    fn read(&mut self, offset: usize) -> u32 {
        self.reads += 1;
        match offset {
            0x014 => {
                let port = u32::from(self.port & MASK_CHANGES != 0) << 24;
                let channel = u32::from(self.pending() & self.get(0x418) != 0) << 25;
                1 | port | channel
            }
            0x408 => self.frame_number(),
            0x414 => self.pending(),
            0x440 => self.port | u32::from(self.reset_since.is_some()) << 8,
            _ => self.get(offset),
        }
    }

    fn pending(&self) -> u32 {
        (0..8)
            .filter(|channel| self.get(0x508 + channel * 0x20) & self.get(0x50C + channel * 0x20) != 0)
            .fold(0, |bits, channel| bits | 1 << channel)
    }

    fn write_channel(&mut self, offset: usize, value: u32) {
        let base = offset & !0x1F;
        match offset & 0x1F {
            0x00 => {
                let old = self.get(base);
                if value & 1 << 30 != 0 {
                    assert!(old & 1 << 31 != 0, "a channel was stopped that did not run");
                    self.frozen.remove(&base);
                    if self.is_mute() || old & 1 << 30 != 0 {
                        self.registers.insert(base, value);
                        return;
                    }
                    self.registers.insert(base, value & !(3 << 30));
                    self.raise(base, 1 << 1);
                    return;
                }
                if value & 1 << 31 != 0 {
                    assert_ne!(old >> 30 & 3, 2, "a channel was started that ran");
                    assert_eq!(self.get(base + 8), 0, "old interrupts were cleared before the start");
                    assert_ne!(self.get(0x008) & 1 << 5, 0, "DMA is on");
                    assert_ne!(value >> 20 & 3, 0, "the multi count is never 0");
                    if value >> 18 & 3 == 3 {
                        let odd_next = self.frame_number() & 1 == 0;
                        assert_eq!(value & 1 << 29 != 0, odd_next, "a periodic transfer is for the next frame");
                    }
                }
                self.registers.insert(base, value);
            }
            0x08 => {
                let old = self.get(offset);
                self.registers.insert(offset, old & !value);
            }
            _ => {
                self.registers.insert(offset, value);
            }
        }
    }

    fn raise(&mut self, base: usize, bits: u32) {
        let old = self.get(base + 8);
        self.registers.insert(base + 8, old | bits);
    }

    fn is_mute(&self) -> bool {
        self.mute_when_alone && self.port & 1 == 0
    }

    fn halt(&mut self, base: usize, reason: u32) {
        if self.is_mute() {
            return;
        }
        let characteristics = self.get(base);
        self.registers.insert(base, characteristics & !(1 << 31));
        self.raise(base, reason | 1 << 1);
    }

    fn run_channel(&mut self, channel: usize) {
        let base = 0x500 + channel * 0x20;
        for _ in 0..PACKETS_PER_STEP {
            if self.get(base) >> 30 != 2 || self.frozen.contains(&base) || !self.packet(base) {
                return;
            }
        }
    }

    /// Moves one packet; whether the channel goes on at once.
    fn packet(&mut self, base: usize) -> bool {
        let characteristics = self.get(base);
        let size = self.get(base + 0x10);
        let (max_packet, endpoint) = ((characteristics & 0x7FF) as usize, (characteristics >> 11 & 0xF) as u8);
        let into_host = characteristics & 1 << 15 != 0;
        let kind = characteristics >> 18 & 3;
        let address = (characteristics >> 22 & 0x7F) as u8;
        let (bytes, packets, pid) = ((size & 0x7_FFFF) as usize, size >> 19 & 0x3FF, (size >> 29 & 3) as u8);
        assert!(max_packet > 0 && packets > 0, "packet size {max_packet}, count {packets}");
        assert_eq!(self.get(base + 0x14) % 4, 0, "DMA addresses are multiples of four");
        assert!(!into_host || bytes.is_multiple_of(max_packet), "whole packets are received");
        // Nobody there: three transaction errors in the core, then a halt.
        let Some(id) = self.find(address) else {
            self.halt(base, 1 << 7);
            return false;
        };
        let low_speed = self.devices[id].speed == Speed::Low;
        assert_eq!(characteristics & 1 << 17 != 0, low_speed, "the low-speed bit fits the device");
        let key = (id, if endpoint != 0 && into_host { endpoint | 0x80 } else { endpoint });
        if let Some(fault) = self.faults.get_mut(&key).and_then(VecDeque::pop_front) {
            match fault {
                Fault::Stall => self.halt(base, 1 << 3),
                Fault::Babble => self.halt(base, 1 << 8),
                Fault::TransactionError => self.halt(base, 1 << 7),
                Fault::Memory => self.halt(base, 1 << 2),
                Fault::Silent => self.halt(base, 0),
                Fault::NakHalt => self.halt(base, 1 << 4),
                Fault::TransactionErrorAfterNak => self.halt(base, 1 << 4 | 1 << 7),
                Fault::MemoryWithoutHalt => {
                    self.frozen.insert(base);
                    self.raise(base, 1 << 2);
                }
                Fault::Halt => {
                    self.devices[id].halted.insert(key.1);
                    self.halt(base, 1 << 3);
                }
            }
            return false;
        }
        let device = &mut self.devices[id];
        let (answer, sent) = if into_host {
            (device.input(endpoint), 0)
        } else {
            let packet = bytes.min(max_packet);
            let from = (u64::from(self.registers[&(base + 0x14)]) - (BUS_ADDRESS & 0xFFFF_FFFF)) as usize;
            let data = self.memory.borrow()[from..from + packet].to_vec();
            let answer = if pid == 3 && kind == 0 { device.setup(&data) } else { device.output(endpoint, &data, pid) };
            (answer, packet)
        };
        match answer {
            Answer::Nak if kind == 3 => self.halt(base, 1 << 4),
            Answer::Nak => self.raise(base, 1 << 4),
            Answer::Stall => self.halt(base, 1 << 3),
            Answer::Ack => {
                self.progress(base, sent, bytes == sent || packets == 1);
                return true;
            }
            Answer::Data(data, device_pid) => {
                if device_pid != pid {
                    self.halt(base, 1 << 10);
                    return false;
                }
                if data.len() > max_packet || data.len() > bytes {
                    self.halt(base, 1 << 8);
                    return false;
                }
                let to = (u64::from(self.get(base + 0x14)) - (BUS_ADDRESS & 0xFFFF_FFFF)) as usize;
                self.memory.borrow_mut()[to..to + data.len()].copy_from_slice(&data);
                self.progress(base, data.len(), data.len() < max_packet || packets == 1);
                return true;
            }
        }
        false
    }

    fn progress(&mut self, base: usize, moved: usize, done: bool) {
        let size = self.get(base + 0x10);
        let pid = (size >> 29 & 3) as u8;
        let next = if pid == DATA0 || pid == 3 { DATA1 } else { DATA0 };
        let bytes = (size & 0x7_FFFF) - moved as u32;
        let packets = (size >> 19 & 0x3FF) - 1;
        self.registers.insert(base + 0x10, bytes | packets << 19 | u32::from(next) << 29);
        let address = self.get(base + 0x14) + moved as u32;
        self.registers.insert(base + 0x14, address);
        if done {
            self.halt(base, 1);
        }
    }
}

impl Mmio for Registers {
    fn read32(&mut self, offset: usize) -> u32 {
        self.0.core().read(offset)
    }
    fn write32(&mut self, offset: usize, value: u32) {
        self.0.core().write(offset, value);
    }
    fn barrier(&mut self) {}
}

impl DmaMemory for Region {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
    fn bus_address(&self) -> u64 {
        BUS_ADDRESS
    }
    fn read(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0.borrow()[offset..offset + to.len()]);
    }
    fn write(&mut self, offset: usize, from: &[u8]) {
        self.0.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
    fn read32(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        self.read(offset, &mut word);
        u32::from_le_bytes(word)
    }
    fn write32(&mut self, offset: usize, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }
}

impl Clock for Ticks {
    fn now_us(&mut self) -> u64 {
        self.0.core().now += 1;
        self.0.now()
    }
}
