//! GENET as its registers show it, with a PHY and a wire. Written from the facts named in the driver's register list;
//! what hardware would suffer from silently is asserted.

use rpi_drivers::{Clock, DmaMemory, Mmio};
use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;

/// Above 4 GiB, so that both halves of an address matter.
const BASE: u64 = 0x1_0123_4000;
const RDMA: usize = 0x2000;
const TDMA: usize = 0x4000;

pub(crate) struct Core {
    pub(crate) now: u64,
    registers: HashMap<usize, u32>,
    pub(crate) writes: usize,
    memory: Rc<RefCell<Vec<u8>>>,
    /// Frames on the wire, as sent.
    pub(crate) wire: Vec<Vec<u8>>,
    pub(crate) phy: [u16; 32],
    pub(crate) link: bool,
    /// The PHY does not answer.
    pub(crate) phy_gone: bool,
    /// MDIO stays busy.
    pub(crate) mdio_stuck: bool,
    mdio_done: u64,
    pub(crate) transmitter_stuck: bool,
    pub(crate) dma_never_rests: bool,
    /// The device's indices cannot be written, and start here.
    pub(crate) fixed_index: Option<u16>,
    pub(crate) phy_writes: Vec<(u32, u16)>,
    /// Looks at the index of a receive ring.
    pub(crate) looks: usize,
    /// The device has said that memory holds something new, and no barrier has come since.
    unordered_read: bool,
    /// Memory was written, and no barrier has come since.
    unordered_write: bool,
}

#[derive(Clone)]
pub(crate) struct Machine(Rc<RefCell<Core>>);
pub(crate) struct Region(Machine, Rc<RefCell<Vec<u8>>>);

impl Machine {
    pub(crate) fn new() -> Self {
        let mut phy = [0u16; 32];
        phy[0] = 0x1140;
        phy[2] = 0x600D;
        phy[3] = 0x84A2;
        phy[4] = 0x01E1;
        phy[5] = 0x41E1;
        phy[9] = 0x0300;
        phy[10] = 0x0C00;
        Self(Rc::new(RefCell::new(Core {
            now: 0,
            registers: HashMap::from([(0, 0x0600_0000)]),
            writes: 0,
            memory: Rc::default(),
            wire: Vec::new(),
            phy,
            link: true,
            phy_gone: false,
            mdio_stuck: false,
            mdio_done: 0,
            transmitter_stuck: false,
            dma_never_rests: false,
            fixed_index: None,
            phy_writes: Vec::new(),
            looks: 0,
            unordered_read: false,
            unordered_write: false,
        })))
    }

    pub(crate) fn core(&self) -> RefMut<'_, Core> {
        self.0.borrow_mut()
    }
    pub(crate) fn register(&self, offset: usize) -> u32 {
        self.core().get(offset)
    }
    pub(crate) fn set_register(&self, offset: usize, value: u32) {
        self.core().registers.insert(offset, value);
    }
    pub(crate) fn region(&self, length: usize) -> Region {
        let memory = Rc::clone(&self.core().memory);
        *memory.borrow_mut() = vec![0x5A; length];
        Region(self.clone(), memory)
    }
    pub(crate) fn advance(&self, us: u64) {
        self.core().now += us;
    }

    /// A frame arrives whole.
    pub(crate) fn deliver(&self, ring: usize, frame: &[u8]) {
        self.core().deliver(ring, frame, 0);
    }
    /// A frame arrives with these status bits set.
    pub(crate) fn deliver_with(&self, ring: usize, frame: &[u8], status: u32) {
        self.core().deliver(ring, frame, status);
    }
    /// A descriptor is filled with exactly this status word.
    pub(crate) fn deliver_raw(&self, ring: usize, status: u32) {
        self.core().fill(ring, &[], Some(status));
    }
}

impl Core {
    fn get(&self, offset: usize) -> u32 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    fn ring(&self, dma: usize, ring: usize) -> usize {
        dma + 0xC00 + ring * 0x40
    }

    fn runs(&self, dma: usize, ring: usize) -> bool {
        let control = self.get(dma + 0x1044);
        self.get(dma + 0x1040) & 1 << ring != 0 && control & 1 != 0 && control & 2 << ring != 0
    }

    /// Checks what hardware takes for granted, and returns the descriptor of an index.
    fn descriptor(&self, dma: usize, ring: usize, index: u16) -> usize {
        let base = self.ring(dma, ring);
        let (start, end, size) = (self.get(base + 0x14), self.get(base + 0x1C), self.get(base + 0x10));
        let count = size >> 16;
        assert!(count.is_power_of_two() && count <= 256, "{count} descriptors");
        assert_eq!(end + 1 - start, count * 3, "the ring's end fits its size");
        assert_eq!(size & 0xFFFF, 2048);
        let place = start + u32::from(index) % count * 3;
        assert_eq!(self.get(base), place, "pointer and index agree");
        dma + place as usize * 4
    }

    fn moved(&mut self, dma: usize, ring: usize, index: u16) {
        let base = self.ring(dma, ring);
        let count = self.get(base + 0x10) >> 16;
        let next = index.wrapping_add(1);
        let place = self.get(base + 0x14) + u32::from(next) % count * 3;
        self.registers.insert(base, place);
        let upper = self.get(base + 8) & 0xFFFF_0000;
        self.registers.insert(base + 8, upper | u32::from(next));
    }

    fn address(&self, descriptor: usize) -> usize {
        let address = u64::from(self.get(descriptor + 4)) | u64::from(self.get(descriptor + 8)) << 32;
        usize::try_from(address - BASE).expect("an address in the region")
    }

    fn deliver(&mut self, ring: usize, frame: &[u8], status: u32) {
        if self.get(0x808) & 2 == 0 || !self.runs(RDMA, ring) {
            return;
        }
        assert_ne!(self.get(0x808) & 1 << 4, 0, "the MAC lets every group pass only when it is promiscuous");
        let control = self.get(0x300);
        assert_ne!(control & 2, 0, "two bytes of alignment");
        let prefix = 2 + if control & 1 != 0 { 64 } else { 0 };
        let mut data = vec![0; prefix];
        data.extend_from_slice(frame);
        let parts: Vec<&[u8]> = data.chunks(2048).collect();
        for (number, part) in parts.iter().enumerate() {
            let first = if number == 0 { 1 << 13 } else { 0 };
            let last = if number + 1 == parts.len() { 1 << 14 } else { 0 };
            let word = (part.len() as u32) << 16 | first | last | status;
            self.fill(ring, part, Some(word));
        }
    }

    fn fill(&mut self, ring: usize, data: &[u8], status: Option<u32>) {
        let base = self.ring(RDMA, ring);
        let word = self.get(base + 8);
        let (producer, consumer) = (word as u16, self.get(base + 12) as u16);
        if u32::from(producer.wrapping_sub(consumer)) >= self.get(base + 0x10) >> 16 {
            self.registers.insert(base + 8, word.wrapping_add(1 << 16));
            return;
        }
        let descriptor = self.descriptor(RDMA, ring, producer);
        let to = self.address(descriptor);
        let status = status.unwrap_or_default();
        {
            let mut memory = self.memory.borrow_mut();
            memory[to..to + 2048].fill(0xEE);
            memory[to..to + data.len()].copy_from_slice(data);
            // Only the first buffer of a frame has a status block.
            if self.get(0x300) & 1 != 0 && (status & 1 << 13 != 0 || data.is_empty()) {
                memory[to..to + 4].copy_from_slice(&status.to_le_bytes());
            }
        }
        self.registers.insert(descriptor, status);
        self.moved(RDMA, ring, producer);
    }

    fn transmit(&mut self, ring: usize) {
        let base = self.ring(TDMA, ring);
        while !self.transmitter_stuck && self.get(0x808) & 1 != 0 && self.runs(TDMA, ring) {
            let (consumer, producer) = (self.get(base + 8) as u16, self.get(base + 12) as u16);
            if consumer == producer {
                return;
            }
            let descriptor = self.descriptor(TDMA, ring, consumer);
            let status = self.get(descriptor);
            assert_eq!(status & 0xFFFF, 1 << 14 | 1 << 13 | 0x3F << 7 | 1 << 6, "one whole frame, with FCS");
            let from = self.address(descriptor);
            let length = (status >> 16 & 0xFFF) as usize;
            let mut frame = self.memory.borrow()[from..from + length].to_vec();
            if self.get(0x600) & 1 != 0 {
                assert!(frame[..64].iter().all(|&octet| octet == 0), "the status block asks for nothing");
                frame.drain(..64);
            }
            assert!(frame.len() >= 60, "the transmitter does not pad");
            self.wire.push(frame);
            self.moved(TDMA, ring, consumer);
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        self.writes += 1;
        match offset {
            0xE14 => {
                self.registers.insert(offset, value);
                if value & 1 << 29 != 0 {
                    self.mdio_done = self.now + 30;
                    if value >> 26 & 3 == 1 {
                        self.phy_writes.push((value >> 16 & 0x1F, value as u16));
                        self.phy[(value >> 16 & 0x1F) as usize] = value as u16;
                    }
                }
            }
            _ if self.fixed_index.is_some() && self.is_device_index(offset) => {}
            0x2C00..0x3040 | 0x4C00..0x5040 => {
                self.registers.insert(offset, value);
                let within = (offset - 0xC00) % 0x2000;
                let dma = if offset >= TDMA { TDMA } else { RDMA };
                if within % 0x40 == 12 && self.runs(dma, within / 0x40) {
                    assert!(!self.unordered_write, "the index is moved after what it vouches for");
                }
                if offset >= TDMA && within % 0x40 == 12 {
                    self.transmit(within / 0x40);
                }
            }
            _ => {
                self.registers.insert(offset, value);
            }
        }
    }

    fn is_device_index(&self, offset: usize) -> bool {
        let ring = matches!(offset, 0x2C00..0x3040 | 0x4C00..0x5040);
        ring && (offset & 0x3F) == 8
    }

    fn read(&mut self, offset: usize) -> u32 {
        if (0x2C00..0x3040).contains(&offset) && self.is_device_index(offset) {
            self.looks += 1;
            self.unordered_read = self.get(offset) as u16 != self.get(offset + 4) as u16;
        }
        match offset {
            0x3048 | 0x5048 => u32::from(self.get(offset - 4) & 1 == 0 && !self.dma_never_rests),
            0xE14 => {
                let word = self.get(offset);
                if word & 1 << 29 == 0 || self.now < self.mdio_done || self.mdio_stuck {
                    return word;
                }
                let command = word & !(1 << 29 | 0xFFFF);
                let answer = if self.phy_gone || word >> 21 & 0x1F != 1 {
                    command | 1 << 28 | 0xFFFF
                } else {
                    let register = (word >> 16 & 0x1F) as usize;
                    let link = u16::from(register == 1 && self.link) << 2;
                    command | u32::from(self.phy[register] | link)
                };
                self.registers.insert(offset, answer);
                answer
            }
            _ => match self.fixed_index {
                Some(start) if self.is_device_index(offset) && !self.registers.contains_key(&offset) => {
                    self.registers.insert(offset, u32::from(start));
                    u32::from(start)
                }
                _ => self.get(offset),
            },
        }
    }
}

impl Mmio for Machine {
    fn read32(&mut self, offset: usize) -> u32 {
        self.core().read(offset)
    }
    fn write32(&mut self, offset: usize, value: u32) {
        self.core().write(offset, value);
    }
    fn barrier(&mut self) {
        let mut core = self.core();
        core.unordered_read = false;
        core.unordered_write = false;
    }
}

impl Clock for Machine {
    fn now_us(&mut self) -> u64 {
        let mut core = self.core();
        core.now += 1;
        core.now
    }
}

impl DmaMemory for Region {
    fn len(&self) -> usize {
        self.1.borrow().len()
    }
    fn bus_address(&self) -> u64 {
        BASE
    }
    fn read(&self, offset: usize, to: &mut [u8]) {
        assert!(!self.0.core().unordered_read, "memory is read after the index that vouches for it");
        to.copy_from_slice(&self.1.borrow()[offset..offset + to.len()]);
    }
    fn write(&mut self, offset: usize, from: &[u8]) {
        self.0.core().unordered_write = true;
        self.1.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
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
