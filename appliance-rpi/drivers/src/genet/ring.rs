//! Rings of descriptors. Indices are 16 bits wide, run freely and wrap; a ring's size is a power of two, so that the
//! descriptor of an index is its remainder.

use super::registers::*;
use crate::Mmio;

/// Bytes of a buffer; one buffer for each descriptor, for good.
pub(super) const BUFFER_BYTES: usize = 2048;

/// Where a ring's registers, descriptors and buffers are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// [`RDMA`] or [`TDMA`].
    pub(super) dma: usize,
    /// Ring number, 0 to 16.
    pub(super) number: usize,
    /// First descriptor.
    pub(super) first: usize,
    /// Descriptors, a power of two.
    pub(super) count: u16,
    /// First buffer in the DMA region.
    pub(super) buffers: usize,
}

impl Layout {
    fn register(&self, offset: usize) -> usize {
        self.dma + RINGS + self.number * RING_BYTES + offset
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index % self.count)
    }

    /// Register of the descriptor of an index.
    pub(super) fn descriptor(&self, index: u16) -> usize {
        self.dma + (self.first + self.slot(index)) * DESCRIPTOR_BYTES
    }

    /// Offset of the buffer of an index in the DMA region.
    pub(super) fn buffer(&self, index: u16) -> usize {
        self.buffers + self.slot(index) * BUFFER_BYTES
    }

    /// Points the descriptors at their buffers and sets up the ring registers. Returns the index both ends start
    /// from: 0, or where the device stands if it does not let its index be set.
    fn start<M: Mmio>(&self, registers: &mut M, bus_address: u64, status: u32, flow: u32) -> u16 {
        for index in 0..self.count {
            let address = bus_address.wrapping_add(self.buffer(index) as u64);
            let descriptor = self.descriptor(index);
            registers.write32(descriptor, status);
            registers.write32(descriptor + 4, address as u32);
            registers.write32(descriptor + 8, (address >> 32) as u32);
        }
        let words = |descriptor: usize| descriptor as u32 * DESCRIPTOR_WORDS;
        registers.write32(self.register(RING_DEVICE_INDEX), 0);
        let index = registers.read32(self.register(RING_DEVICE_INDEX)) as u16;
        registers.write32(self.register(RING_DRIVER_INDEX), u32::from(index));
        let pointer = words(self.first + self.slot(index));
        registers.write32(self.register(RING_SIZE), u32::from(self.count) << 16 | BUFFER_BYTES as u32);
        registers.write32(self.register(RING_START), words(self.first));
        registers.write32(self.register(RING_END), words(self.first + usize::from(self.count)) - 1);
        registers.write32(self.register(RING_DONE_THRESHOLD), 1);
        registers.write32(self.register(RING_FLOW), flow);
        registers.write32(self.register(RING_DEVICE_POINTER), pointer);
        registers.write32(self.register(RING_DRIVER_POINTER), pointer);
        index
    }
}

/// A ring of received frames.
#[derive(Debug)]
pub(super) struct RxRing {
    pub(super) layout: Layout,
    /// Next descriptor to take.
    consumer: u16,
    /// Descriptors known to be filled.
    filled: u16,
    /// The device's counter of lost frames as of the last look.
    lost: u16,
}

/// What a look at a receive ring showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Frames lost for want of a descriptor since the last look.
    pub(super) lost: u16,
    /// The device's index cannot be right; the ring was set level with it.
    pub(super) impossible: bool,
}

impl RxRing {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, consumer: 0, filled: 0, lost: 0 }
    }

    pub(super) fn start<M: Mmio>(&mut self, registers: &mut M, bus_address: u64) {
        let status = (BUFFER_BYTES as u32) << STATUS_LENGTH_SHIFT | STATUS_OWN;
        self.consumer = self.layout.start(registers, bus_address, status, FLOW_THRESHOLDS);
        self.filled = 0;
        self.lost = (registers.read32(self.layout.register(RING_DEVICE_INDEX)) >> 16) as u16;
    }

    /// Asks the device how far it is, when everything known has been taken.
    pub(super) fn look<M: Mmio>(&mut self, registers: &mut M) -> Look {
        if self.filled > 0 {
            return Look::default();
        }
        let word = registers.read32(self.layout.register(RING_DEVICE_INDEX));
        let lost_total = (word >> 16) as u16;
        let mut look = Look { lost: lost_total.wrapping_sub(self.lost), impossible: false };
        self.lost = lost_total;
        let producer = word as u16;
        self.filled = producer.wrapping_sub(self.consumer);
        if self.filled > self.layout.count {
            look.impossible = true;
            self.filled = 0;
            self.consumer = producer;
            registers.write32(self.layout.register(RING_DRIVER_INDEX), u32::from(producer));
        }
        if self.filled > 0 {
            // What the device wrote to memory before it moved its index is read after this.
            registers.barrier();
        }
        look
    }

    /// Index of the next filled descriptor.
    pub(super) fn next(&self) -> Option<u16> {
        (self.filled > 0).then_some(self.consumer)
    }

    /// Gives the next descriptor back to the device.
    pub(super) fn release<M: Mmio>(&mut self, registers: &mut M) {
        self.filled = self.filled.saturating_sub(1);
        self.consumer = self.consumer.wrapping_add(1);
        // The device may write the buffer again as soon as it sees the index.
        registers.barrier();
        registers.write32(self.layout.register(RING_DRIVER_INDEX), u32::from(self.consumer));
    }
}

/// A ring of frames to send.
#[derive(Debug)]
pub(super) struct TxRing {
    pub(super) layout: Layout,
    producer: u16,
    consumer: u16,
}

impl TxRing {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, producer: 0, consumer: 0 }
    }

    pub(super) fn start<M: Mmio>(&mut self, registers: &mut M, bus_address: u64) {
        self.consumer = self.layout.start(registers, bus_address, 0, 0);
        self.producer = self.consumer;
    }

    /// Descriptors the device has not finished.
    pub(super) fn outstanding(&self) -> u16 {
        self.producer.wrapping_sub(self.consumer)
    }

    pub(super) fn has_room(&self) -> bool {
        self.outstanding() < self.layout.count
    }

    /// Asks the device how far it is; whether it got further. An index that cannot be right is passed over.
    pub(super) fn reclaim<M: Mmio>(&mut self, registers: &mut M) -> bool {
        if self.outstanding() == 0 {
            return false;
        }
        let consumer = registers.read32(self.layout.register(RING_DEVICE_INDEX)) as u16;
        let finished = consumer.wrapping_sub(self.consumer);
        if finished == 0 || finished > self.outstanding() {
            return false;
        }
        self.consumer = consumer;
        true
    }

    /// Index of the descriptor the next frame goes into.
    pub(super) fn next(&self) -> u16 {
        self.producer
    }

    /// Hands the next descriptor with `length` bytes in its buffer to the device.
    pub(super) fn submit<M: Mmio>(&mut self, registers: &mut M, length: usize) {
        let status = (length as u32 & STATUS_LENGTH_MASK) << STATUS_LENGTH_SHIFT
            | STATUS_TX_QUEUE_TAG
            | STATUS_TX_CRC
            | STATUS_SOP
            | STATUS_EOP;
        registers.write32(self.layout.descriptor(self.producer), status);
        self.producer = self.producer.wrapping_add(1);
        registers.barrier();
        registers.write32(self.layout.register(RING_DRIVER_INDEX), u32::from(self.producer));
    }
}

/// What a status word says of a received descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A whole frame: octets in the buffer, with whatever stands before the frame.
    Whole(usize),
    /// The first, a middle or the last part of a frame too long for one buffer.
    Part { first: bool, last: bool },
    /// A frame that arrived damaged.
    Damaged,
    /// A frame that was cut for want of room.
    Overrun,
}

/// Reads a receive descriptor's status word.
pub(super) fn read_status(status: u32) -> Received {
    let (first, last) = (status & STATUS_SOP != 0, status & STATUS_EOP != 0);
    if !(first && last) {
        Received::Part { first, last }
    } else if status & STATUS_RX_OVERRUN != 0 {
        Received::Overrun
    } else if status & STATUS_RX_DAMAGED != 0 {
        Received::Damaged
    } else {
        Received::Whole((status >> STATUS_LENGTH_SHIFT & STATUS_LENGTH_MASK) as usize)
    }
}
