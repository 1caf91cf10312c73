//! virtio-net over virtio-mmio (virtio 1.2 §4.2, §5.1), the network device of QEMU virt.
//!
//! Modern interface only. No offload is negotiated, so one descriptor is one Ethernet frame behind a 12-octet header.

use crate::{Clock, Counters, DmaMemory, Link, MacAddress, Mmio, Nic, SendError, TimedOut, wait_until};

// Registers: virtio 1.2 §4.2.2; the same numbers in QEMU (include/standard-headers/linux/virtio_mmio.h).
const MAGIC: usize = 0x000;
const MAGIC_VALUE: u32 = 0x7472_6976;
const VERSION: usize = 0x004;
const VERSION_MODERN: u32 = 2;
const DEVICE_ID: usize = 0x008;
const DEVICE_NETWORK: u32 = 1;
const DEVICE_FEATURES: usize = 0x010;
const DEVICE_FEATURES_SELECT: usize = 0x014;
const DRIVER_FEATURES: usize = 0x020;
const DRIVER_FEATURES_SELECT: usize = 0x024;
const QUEUE_SELECT: usize = 0x030;
const QUEUE_SIZE_MAX: usize = 0x034;
const QUEUE_SIZE: usize = 0x038;
const QUEUE_READY: usize = 0x044;
const QUEUE_NOTIFY: usize = 0x050;
const STATUS: usize = 0x070;
const QUEUE_DESCRIPTORS: usize = 0x080;
const QUEUE_DRIVER: usize = 0x090;
const QUEUE_DEVICE: usize = 0x0a0;
const CONFIG_MAC: usize = 0x100;
/// MAC octets 4 and 5 in the low half, link status in the high half.
const CONFIG_MAC_STATUS: usize = 0x104;

const STATUS_ACKNOWLEDGE: u32 = 1;
const STATUS_DRIVER: u32 = 2;
const STATUS_DRIVER_OK: u32 = 4;
const STATUS_FEATURES_OK: u32 = 8;
const STATUS_NEEDS_RESET: u32 = 64;

/// VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS (§5.1.3).
const FEATURES_LOW: u32 = 1 << 5 | 1 << 16;
/// VIRTIO_F_VERSION_1 (§6), bit 32.
const FEATURES_HIGH: u32 = 1;

const DESCRIPTOR_WRITE: u32 = 2;
const NO_INTERRUPT: u32 = 1;

const QUEUE_LEN: u16 = 32;
const HEADER: usize = 12;
const BUFFER: usize = 2048;
const FRAME_MIN: usize = 14;
const FRAME_MAX: usize = 1522;

// Layout of the DMA memory: two queues, then their buffers.
const AVAILABLE: usize = 16 * QUEUE_LEN as usize;
const USED: usize = AVAILABLE + 512;
const QUEUE_BYTES: usize = 2048;
const BUFFERS: usize = 2 * QUEUE_BYTES;

/// Octets of DMA memory the driver needs.
pub const DMA_LEN: usize = BUFFERS + 2 * QUEUE_LEN as usize * BUFFER;

/// Why there is no usable device behind a register block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// Not a virtio network device.
    Absent,
    /// The legacy interface, or a feature is missing.
    Unsupported,
    /// A queue is too short, or the DMA memory is.
    NoRoom,
    /// The device did not come out of reset.
    TimedOut,
}

impl From<TimedOut> for ProbeError {
    fn from(_: TimedOut) -> Self {
        Self::TimedOut
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Receive,
    Transmit,
}

/// One virtqueue; descriptor n always points to buffer n.
#[derive(Debug)]
struct Queue {
    direction: Direction,
    /// Index of the next entry of the available ring; counts on past the ring's length.
    next_available: u16,
    /// Index of the next entry of the used ring.
    next_used: u16,
    /// Bit n: the device owns descriptor n.
    owned_by_device: u32,
}

impl Queue {
    fn new(direction: Direction) -> Self {
        Self { direction, next_available: 0, next_used: 0, owned_by_device: 0 }
    }

    fn number(&self) -> u32 {
        match self.direction {
            Direction::Receive => 0,
            Direction::Transmit => 1,
        }
    }

    fn base(&self) -> usize {
        self.number() as usize * QUEUE_BYTES
    }

    fn buffer(&self, descriptor: u16) -> usize {
        BUFFERS + (self.number() as usize * usize::from(QUEUE_LEN) + usize::from(descriptor)) * BUFFER
    }

    /// Hands `descriptor` with `len` octets of its buffer to the device; the caller notifies.
    fn give<D: DmaMemory>(&mut self, registers: &mut impl Mmio, dma: &mut D, descriptor: u16, len: usize) {
        let address = dma.bus_address() + self.buffer(descriptor) as u64;
        let entry = self.base() + usize::from(descriptor) * 16;
        let flags = if self.direction == Direction::Receive { DESCRIPTOR_WRITE } else { 0 };
        dma.write32(entry, address as u32);
        dma.write32(entry + 4, (address >> 32) as u32);
        dma.write32(entry + 8, len as u32);
        dma.write32(entry + 12, flags);
        let slot = self.base() + AVAILABLE + 4 + usize::from(self.next_available % QUEUE_LEN) * 2;
        dma.write(slot, &descriptor.to_le_bytes());
        self.owned_by_device |= 1 << descriptor;
        self.next_available = self.next_available.wrapping_add(1);
        // The entry must be there before the index says so (§2.7.13.3).
        registers.barrier();
        dma.write32(self.base() + AVAILABLE, u32::from(self.next_available) << 16 | NO_INTERRUPT);
        registers.barrier();
    }

    /// Takes the next descriptor the device is done with: its number and the octets written.
    fn take<D: DmaMemory>(&mut self, registers: &mut impl Mmio, dma: &D) -> Result<Option<(u16, usize)>, Nonsense> {
        let device_index = (dma.read32(self.base() + USED) >> 16) as u16;
        let waiting = device_index.wrapping_sub(self.next_used);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > QUEUE_LEN {
            return Err(Nonsense);
        }
        registers.barrier();
        let entry = self.base() + USED + 4 + usize::from(self.next_used % QUEUE_LEN) * 8;
        self.next_used = self.next_used.wrapping_add(1);
        let descriptor = dma.read32(entry);
        let len = dma.read32(entry + 4) as usize;
        match u16::try_from(descriptor) {
            Ok(number) if number < QUEUE_LEN && self.owned_by_device & (1 << number) != 0 => {
                self.owned_by_device &= !(1 << number);
                Ok(Some((number, len)))
            }
            _ => Err(Nonsense),
        }
    }

    fn free_descriptor(&self) -> Option<u16> {
        u16::try_from(self.owned_by_device.trailing_ones()).ok().filter(|number| *number < QUEUE_LEN)
    }
}

/// The device broke the rules of the ring; nothing it says can be trusted until it is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Nonsense;

/// A virtio network device.
#[derive(Debug)]
pub struct VirtioNet<M, D> {
    registers: M,
    dma: D,
    mac: MacAddress,
    link: Link,
    receive: Queue,
    transmit: Queue,
    counters: Counters,
    promiscuous: bool,
    receive_only: bool,
    broken: bool,
}

impl<M: Mmio, D: DmaMemory> VirtioNet<M, D> {
    /// Looks whether `registers` are those of a network device, without touching it otherwise.
    pub fn is_present(registers: &mut M) -> bool {
        registers.read32(MAGIC) == MAGIC_VALUE && registers.read32(DEVICE_ID) == DEVICE_NETWORK
    }

    /// Resets the device and starts both queues. `dma` has [`DMA_LEN`] octets.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn start(mut registers: M, dma: D, clock: &mut impl Clock) -> Result<Self, ProbeError> {
        if !Self::is_present(&mut registers) {
            return Err(ProbeError::Absent);
        }
        if registers.read32(VERSION) != VERSION_MODERN {
            return Err(ProbeError::Unsupported);
        }
        if dma.len() < DMA_LEN {
            return Err(ProbeError::NoRoom);
        }
        let mut nic = Self {
            registers,
            dma,
            mac: MacAddress([0; 6]),
            link: Link::Down,
            receive: Queue::new(Direction::Receive),
            transmit: Queue::new(Direction::Transmit),
            counters: Counters::default(),
            promiscuous: false,
            receive_only: false,
            broken: false,
        };
        nic.initialise(clock)?;
        Ok(nic)
    }

    /// The sequence of virtio 1.2 §3.1.1.
    fn initialise(&mut self, clock: &mut impl Clock) -> Result<(), ProbeError> {
        const RESET_LIMIT_US: u64 = 100_000;
        let registers = &mut self.registers;
        registers.write32(STATUS, 0);
        wait_until(clock, RESET_LIMIT_US, || registers.read32(STATUS) == 0)?;
        registers.write32(STATUS, STATUS_ACKNOWLEDGE);
        registers.write32(STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);

        for (half, wanted) in [(0, FEATURES_LOW), (1, FEATURES_HIGH)] {
            registers.write32(DEVICE_FEATURES_SELECT, half);
            if registers.read32(DEVICE_FEATURES) & wanted != wanted {
                return Err(ProbeError::Unsupported);
            }
            registers.write32(DRIVER_FEATURES_SELECT, half);
            registers.write32(DRIVER_FEATURES, wanted);
        }
        let negotiated = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
        registers.write32(STATUS, negotiated);
        if registers.read32(STATUS) & STATUS_FEATURES_OK == 0 {
            return Err(ProbeError::Unsupported);
        }

        for queue in [&self.receive, &self.transmit] {
            let address = self.dma.bus_address() + queue.base() as u64;
            self.registers.write32(QUEUE_SELECT, queue.number());
            if self.registers.read32(QUEUE_SIZE_MAX) < u32::from(QUEUE_LEN) {
                return Err(ProbeError::NoRoom);
            }
            self.registers.write32(QUEUE_SIZE, u32::from(QUEUE_LEN));
            for (register, offset) in [(QUEUE_DESCRIPTORS, 0), (QUEUE_DRIVER, AVAILABLE), (QUEUE_DEVICE, USED)] {
                let part = address + offset as u64;
                self.registers.write32(register, part as u32);
                self.registers.write32(register + 4, (part >> 32) as u32);
            }
            self.registers.write32(QUEUE_READY, 1);
        }
        self.registers.write32(STATUS, negotiated | STATUS_DRIVER_OK);

        let [a, b, c, d] = self.registers.read32(CONFIG_MAC).to_le_bytes();
        let [e, f, ..] = self.registers.read32(CONFIG_MAC_STATUS).to_le_bytes();
        self.mac = MacAddress([a, b, c, d, e, f]);
        for descriptor in 0..QUEUE_LEN {
            self.receive.give(&mut self.registers, &mut self.dma, descriptor, BUFFER);
        }
        self.registers.write32(QUEUE_NOTIFY, self.receive.number());
        self.update_link();
        Ok(())
    }

    fn update_link(&mut self) {
        let up = !self.broken && self.registers.read32(CONFIG_MAC_STATUS) >> 16 & 1 == 1;
        let link = if up { Link::Up { mbit: 0, full_duplex: true } } else { Link::Down };
        if link != self.link {
            self.link = link;
            self.counters.link_changes += 1;
        }
    }

    fn give_up(&mut self) {
        self.counters.malformed += 1;
        self.broken = true;
        self.update_link();
    }

    /// Takes back the buffers of frames that were sent.
    fn reclaim(&mut self) {
        for _ in 0..QUEUE_LEN {
            match self.transmit.take(&mut self.registers, &self.dma) {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(Nonsense) => return self.give_up(),
            }
        }
    }

    /// Whether a frame to `destination` is for us. The device itself does not filter.
    fn is_wanted(&self, destination: &[u8]) -> bool {
        let group = destination.first().is_some_and(|octet| octet & 1 == 1);
        self.promiscuous || group || destination == self.mac.0
    }
}

impl<M: Mmio, D: DmaMemory> Nic for VirtioNet<M, D> {
    fn mac(&self) -> MacAddress {
        self.mac
    }

    fn poll(&mut self, _now_us: u64) {
        if !self.broken && self.registers.read32(STATUS) & STATUS_NEEDS_RESET != 0 {
            self.give_up();
        }
        self.update_link();
        if !self.broken {
            self.reclaim();
        }
    }

    fn link(&self) -> Link {
        self.link
    }

    fn receive(&mut self, frame: &mut [u8]) -> Option<usize> {
        // Frames that are not for us do not end the search, but the search ends.
        for _ in 0..QUEUE_LEN {
            if self.broken {
                return None;
            }
            let (descriptor, written) = match self.receive.take(&mut self.registers, &self.dma) {
                Ok(taken) => taken?,
                Err(Nonsense) => {
                    self.give_up();
                    return None;
                }
            };
            let len = written.wrapping_sub(HEADER);
            let mut received = None;
            if written > BUFFER || !(FRAME_MIN..=FRAME_MAX).contains(&len) {
                self.counters.malformed += 1;
            } else if let Some(frame) = frame.get_mut(..len) {
                self.dma.read(self.receive.buffer(descriptor) + HEADER, frame);
                if frame.get(..6).is_some_and(|destination| self.is_wanted(destination)) {
                    received = Some(len);
                }
            } else {
                self.counters.rx_overruns += 1;
            }
            self.receive.give(&mut self.registers, &mut self.dma, descriptor, BUFFER);
            self.registers.write32(QUEUE_NOTIFY, self.receive.number());
            if let Some(len) = received {
                self.counters.rx_frames += 1;
                self.counters.rx_octets += len as u64;
                return received;
            }
        }
        None
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        let outcome = self.try_send(frame);
        match outcome {
            Ok(()) => {
                self.counters.tx_frames += 1;
                self.counters.tx_octets += frame.len() as u64;
            }
            Err(_) => self.counters.tx_drops += 1,
        }
        outcome
    }

    fn can_send(&self) -> bool {
        !self.receive_only && self.link.is_up() && self.transmit.free_descriptor().is_some()
    }

    fn set_promiscuous(&mut self, on: bool) {
        self.promiscuous = on;
    }

    fn set_receive_only(&mut self, on: bool) {
        self.receive_only = on;
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

impl<M: Mmio, D: DmaMemory> VirtioNet<M, D> {
    fn try_send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        if self.receive_only {
            return Err(SendError::ReceiveOnly);
        }
        if !(FRAME_MIN..=FRAME_MAX).contains(&frame.len()) {
            return Err(SendError::BadLength);
        }
        self.reclaim();
        if !self.link.is_up() {
            return Err(SendError::LinkDown);
        }
        let descriptor = self.transmit.free_descriptor().ok_or(SendError::Full)?;
        let buffer = self.transmit.buffer(descriptor);
        self.dma.write(buffer, &[0; HEADER]);
        self.dma.write(buffer + HEADER, frame);
        self.transmit.give(&mut self.registers, &mut self.dma, descriptor, HEADER + frame.len());
        self.registers.write32(QUEUE_NOTIFY, self.transmit.number());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
