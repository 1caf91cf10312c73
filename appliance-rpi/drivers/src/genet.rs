//! GENET v5, the gigabit Ethernet of a Raspberry Pi 4.
//!
//! Never run on hardware by us. Every wait is bounded, the interrupt lines stay masked (the main loop polls), and
//! [`Genet::for_each_register`] shows everything needed for a first bring-up.
//!
//! Frames that no filter picks out go to receive ring 16 while the filter block is off (U-Boot, the BSDs, Circle), and
//! to ring 0 in recent Linux. Both rings are served, so that nothing depends on which it is.

mod dump;
mod phy;
mod registers;
mod ring;

use crate::{Clock, Counters, DmaMemory, Link, MacAddress, Mmio, Nic, SendError, wait_until};
use phy::{LinkWatch, Noticed, PhyError};
use registers::*;
use ring::{BUFFER_BYTES, Layout, Received, RxRing, TxRing, read_status};

const RX_DESCRIPTORS: u16 = 128;
const TX_DESCRIPTORS: u16 = 64;
const RX_RINGS: [usize; 2] = [16, 0];
const TX_RING: usize = 16;
const TX_BUFFERS: usize = RX_RINGS.len() * RX_DESCRIPTORS as usize * BUFFER_BYTES;

/// Bytes of a status block (Circle, Linux).
const STATUS_BLOCK: usize = 64;
/// Bytes the receiver puts before a frame for alignment.
const ALIGNMENT: usize = 2;
/// Frame with VLAN tag and FCS, rounded up as every source does (NetBSD, U-Boot).
const MAX_FRAME_REGISTER: u32 = 1536;
const ETHERNET_HEADER: usize = 14;
/// The transmitter does not pad by itself.
const MIN_FRAME: usize = 60;
const MAX_FRAME: usize = 1518;

/// The DMA comes to rest within this (Circle `DMA_TIMEOUT_VAL`).
const DMA_LIMIT_US: u64 = 5_000;
/// Between the steps of a reset (NetBSD, U-Boot).
const SETTLE_US: u64 = 10;
/// A transmitter that finishes nothing for so long, with the link up, is started anew.
const TX_LIMIT_US: u64 = 1_000_000;
/// Descriptors taken in one call before it gives up finding a frame in them.
const RX_BUDGET: usize = 64;

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// 64 bytes of status before each frame in memory, as Linux has it; without, as U-Boot and the BSDs have it.
    pub status_blocks: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { status_blocks: true }
    }
}

/// The revision register, given here, is not that of GENET v5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongRevision(pub u32);

/// The controller.
pub struct Genet<M, D, C> {
    registers: M,
    dma: D,
    clock: C,
    options: Options,
    mac: MacAddress,
    rx: [RxRing; RX_RINGS.len()],
    /// In the middle of a frame that is longer than a buffer.
    in_parts: bool,
    tx: TxRing,
    /// When the transmitter last finished something or had nothing to do.
    tx_progress: u64,
    watch: LinkWatch,
    link: Link,
    promiscuous: bool,
    receive_only: bool,
    counters: Counters,
}

impl<M: Mmio, D: DmaMemory, C: Clock> Genet<M, D, C> {
    /// Bytes of DMA memory [`start`](Self::start) wants.
    pub const DMA_BYTES: usize = TX_BUFFERS + TX_DESCRIPTORS as usize * BUFFER_BYTES;

    /// Looks for the controller and starts it. `registers` is its 64 KiB block (0xFD58_0000 on a Pi 4), `dma` a region
    /// of [`DMA_BYTES`](Self::DMA_BYTES) at its plain physical address.
    ///
    /// A DMA that does not come to rest or a PHY that does not answer is counted and shows in
    /// [`for_each_register`](Self::for_each_register), but does not end the attempt: hardware we have never met may
    /// work all the same.
    ///
    /// # Errors
    /// [`WrongRevision`]; nothing was written then.
    pub fn start(registers: M, dma: D, clock: C, mac: MacAddress, options: Options) -> Result<Self, WrongRevision> {
        debug_assert!(dma.len() >= Self::DMA_BYTES);
        let rx_layout = |place: usize| Layout {
            dma: RDMA,
            number: RX_RINGS.get(place).copied().unwrap_or(0),
            first: place * usize::from(RX_DESCRIPTORS),
            count: RX_DESCRIPTORS,
            buffers: place * usize::from(RX_DESCRIPTORS) * BUFFER_BYTES,
        };
        let tx_layout = Layout { dma: TDMA, number: TX_RING, first: 0, count: TX_DESCRIPTORS, buffers: TX_BUFFERS };
        let mut genet = Self {
            registers,
            dma,
            clock,
            options,
            mac,
            rx: core::array::from_fn(|place| RxRing::new(rx_layout(place))),
            in_parts: false,
            tx: TxRing::new(tx_layout),
            tx_progress: 0,
            watch: LinkWatch::default(),
            link: Link::Down,
            promiscuous: false,
            receive_only: false,
            counters: Counters::default(),
        };
        let revision = genet.registers.read32(SYS_REV_CTRL);
        if revision >> 24 & 0xF != SYS_REV_V5 {
            return Err(WrongRevision(revision));
        }
        // The blocks stay as they are: zeros, which ask for no checksum.
        for index in 0..TX_DESCRIPTORS {
            genet.dma.write(genet.tx.layout.buffer(index), &[0; STATUS_BLOCK]);
        }
        genet.bring_up();
        if let Err(error) = phy::start(&mut genet.registers, &mut genet.clock) {
            genet.count_failure(error);
        }
        Ok(genet)
    }

    /// Resets MAC and DMA and starts both; also the way out of a transmitter that hangs.
    fn bring_up(&mut self) {
        for controller in INTRL2 {
            self.registers.write32(controller + INTRL2_MASK_SET, u32::MAX);
            self.registers.write32(controller + INTRL2_CLEAR, u32::MAX);
        }
        self.stop_dma();
        self.reset_mac();
        self.set_up_mac();
        self.start_dma();
        self.registers.modify32(UMAC_CMD, CMD_TX | CMD_RX, CMD_TX | CMD_RX);
        self.tx_progress = self.clock.now_us();
    }

    fn stop_dma(&mut self) {
        let Self { registers, clock, counters, .. } = self;
        registers.modify32(UMAC_CMD, CMD_TX | CMD_RX, 0);
        for dma in [TDMA, RDMA] {
            registers.write32(dma + DMA_CTRL, 0);
            let rest = wait_until(clock, DMA_LIMIT_US, || registers.read32(dma + DMA_STATUS) & DMA_STOPPED != 0);
            counters.timeouts += u64::from(rest.is_err());
            registers.write32(dma + DMA_RING_CFG, 0);
        }
        registers.write32(UMAC_TX_FLUSH, 1);
        clock.delay_us(SETTLE_US);
        registers.write32(UMAC_TX_FLUSH, 0);
    }

    fn reset_mac(&mut self) {
        let Self { registers, clock, .. } = self;
        registers.modify32(SYS_RBUF_FLUSH, RBUF_FLUSH_RESET, RBUF_FLUSH_RESET);
        clock.delay_us(SETTLE_US);
        registers.write32(SYS_RBUF_FLUSH, 0);
        clock.delay_us(SETTLE_US);
        registers.write32(UMAC_CMD, 0);
        // The loopback gives the reset a receive clock while there is no link.
        registers.write32(UMAC_CMD, CMD_RESET | CMD_LOOPBACK);
        clock.delay_us(SETTLE_US);
        registers.write32(UMAC_CMD, 0);
    }

    fn set_up_mac(&mut self) {
        let registers = &mut self.registers;
        registers.write32(SYS_PORT_CTRL, PORT_MODE_EXTERNAL_GPHY);
        let rgmii = RGMII_MODE | RGMII_ID_MODE_DISABLE;
        registers.modify32(EXT_RGMII_OOB, rgmii, rgmii);
        registers.write32(UMAC_MIB_CTRL, MIB_RESET);
        registers.write32(UMAC_MIB_CTRL, 0);
        registers.write32(UMAC_MAX_FRAME, MAX_FRAME_REGISTER);
        let (rbuf, tbuf) = if self.options.status_blocks { (RBUF_STATUS_BLOCK, TBUF_STATUS_BLOCK) } else { (0, 0) };
        registers.modify32(RBUF_CTRL, RBUF_STATUS_BLOCK | RBUF_ALIGN, rbuf | RBUF_ALIGN);
        registers.modify32(TBUF_CTRL, TBUF_STATUS_BLOCK, tbuf);
        registers.write32(RBUF_TBUF_SIZE, 1);
        for register in [HFB_CTRL].into_iter().chain(HFB_ENABLE) {
            registers.write32(register, 0);
        }
        let [a, b, c, d, e, f] = self.mac.0;
        registers.write32(UMAC_MAC0, u32::from_be_bytes([a, b, c, d]));
        registers.write32(UMAC_MAC1, u32::from_be_bytes([0, 0, e, f]));
        // The MAC can filter 17 addresses, but not "every group"; it lets all pass and `receive` chooses.
        registers.write32(UMAC_MDF_CTRL, 0);
        registers.modify32(UMAC_CMD, CMD_PROMISCUOUS, CMD_PROMISCUOUS);
        self.apply_link();
    }

    fn start_dma(&mut self) {
        let bus_address = self.dma.bus_address();
        let registers = &mut self.registers;
        for dma in [RDMA, TDMA] {
            registers.write32(dma + DMA_BURST, BURST_WORDS);
        }
        for ring in &mut self.rx {
            ring.start(registers, bus_address);
        }
        self.tx.start(registers, bus_address);
        self.in_parts = false;
        registers.barrier();
        let rx_rings = RX_RINGS.iter().fold(0u32, |rings, ring| rings | 1 << ring);
        for (dma, rings) in [(RDMA, rx_rings), (TDMA, 1 << TX_RING)] {
            registers.write32(dma + DMA_RING_CFG, rings);
            registers.write32(dma + DMA_CTRL, rings << 1 | DMA_ENABLE);
        }
    }

    fn set_link(&mut self, link: Link) {
        if self.link != link {
            self.link = link;
            self.counters.link_changes += 1;
            self.apply_link();
        }
    }

    /// Tells the MAC what PHY and partner agreed on.
    fn apply_link(&mut self) {
        let Link::Up { mbit, full_duplex } = self.link else {
            self.registers.modify32(EXT_RGMII_OOB, RGMII_LINK, 0);
            return;
        };
        let speed = match mbit {
            1000 => 2,
            100 => 1,
            _ => 0,
        };
        let duplex = if full_duplex { 0 } else { CMD_HALF_DUPLEX };
        let pause = CMD_RX_PAUSE_IGNORE | CMD_TX_PAUSE_IGNORE;
        self.registers.modify32(EXT_RGMII_OOB, RGMII_OOB_DISABLE | RGMII_LINK, RGMII_LINK);
        self.registers.modify32(
            UMAC_CMD,
            CMD_SPEED_MASK | CMD_HALF_DUPLEX | pause,
            speed << CMD_SPEED_SHIFT | duplex | pause,
        );
    }

    fn count_failure(&mut self, error: PhyError) {
        match error {
            PhyError::TimedOut => self.counters.timeouts += 1,
            PhyError::NoAnswer => self.counters.malformed += 1,
        }
    }

    fn poll_link(&mut self, now_us: u64) {
        match self.watch.poll(&mut self.registers, self.link, now_us) {
            Some(Noticed::Link(link)) => self.set_link(link),
            Some(Noticed::Failure(error)) => {
                self.count_failure(error);
                if self.watch.has_lost_phy() {
                    self.set_link(Link::Down);
                }
            }
            None => {}
        }
    }

    fn poll_transmitter(&mut self, now_us: u64) {
        let progress = self.tx.reclaim(&mut self.registers);
        if progress || self.tx.outstanding() == 0 || !self.link.is_up() {
            self.tx_progress = now_us;
        } else if now_us.saturating_sub(self.tx_progress) >= TX_LIMIT_US {
            self.counters.timeouts += 1;
            self.counters.tx_drops += u64::from(self.tx.outstanding());
            self.bring_up();
            self.tx_progress = now_us;
        }
    }

    /// Bytes before a received frame in its buffer.
    fn rx_prefix(&self) -> usize {
        ALIGNMENT + if self.options.status_blocks { STATUS_BLOCK } else { 0 }
    }

    /// Takes one descriptor of a ring; the frame in it, if it is one for us that fits.
    fn take(&mut self, place: usize, index: u16, frame: &mut [u8]) -> Option<usize> {
        let layout = self.rx.get(place)?.layout;
        let buffer = layout.buffer(index);
        // Memory is quicker to read than the descriptor, but only the first buffer of a frame begins with its status.
        let status = if self.options.status_blocks && !self.in_parts {
            self.dma.read32(buffer)
        } else {
            self.registers.read32(layout.descriptor(index))
        };
        let prefix = self.rx_prefix();
        match read_status(status) {
            Received::Part { first, last } => {
                // Counted once for each frame, at its first part or at a part without a beginning.
                self.counters.malformed += u64::from(first || !self.in_parts);
                self.in_parts = !last;
                None
            }
            Received::Damaged => {
                self.counters.rx_errors += 1;
                None
            }
            Received::Overrun => {
                self.counters.rx_overruns += 1;
                None
            }
            Received::Whole(octets) => {
                self.in_parts = false;
                let length = octets.checked_sub(prefix).filter(|&length| length >= ETHERNET_HEADER);
                let Some(length) = length.filter(|_| octets <= BUFFER_BYTES) else {
                    self.counters.malformed += 1;
                    return None;
                };
                let Some(room) = frame.get_mut(..length) else {
                    self.counters.rx_overruns += 1;
                    return None;
                };
                self.dma.read(buffer + prefix, room);
                self.is_for_us(room).then_some(length)
            }
        }
    }

    fn is_for_us(&self, frame: &[u8]) -> bool {
        let group = frame.first().is_some_and(|octet| octet & 1 != 0);
        self.promiscuous || group || frame.starts_with(&self.mac.0)
    }
}

impl<M: Mmio, D: DmaMemory, C: Clock> Nic for Genet<M, D, C> {
    fn mac(&self) -> MacAddress {
        self.mac
    }

    fn poll(&mut self, now_us: u64) {
        self.poll_link(now_us);
        self.poll_transmitter(now_us);
    }

    fn link(&self) -> Link {
        self.link
    }

    fn receive(&mut self, frame: &mut [u8]) -> Option<usize> {
        let mut budget = RX_BUDGET;
        for place in 0..RX_RINGS.len() {
            while budget > 0 {
                budget -= 1;
                let ring = self.rx.get_mut(place)?;
                let look = ring.look(&mut self.registers);
                self.counters.rx_overruns += u64::from(look.lost);
                self.counters.malformed += u64::from(look.impossible);
                let Some(index) = ring.next() else { break };
                let length = self.take(place, index, frame);
                self.rx.get_mut(place)?.release(&mut self.registers);
                if let Some(length) = length {
                    self.counters.rx_frames += 1;
                    self.counters.rx_octets += length as u64;
                    return Some(length);
                }
            }
        }
        None
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        let refused = if self.receive_only {
            Some(SendError::ReceiveOnly)
        } else if !self.link.is_up() {
            Some(SendError::LinkDown)
        } else if !(ETHERNET_HEADER..=MAX_FRAME).contains(&frame.len()) {
            Some(SendError::BadLength)
        } else if !self.tx.has_room() && !self.tx.reclaim(&mut self.registers) {
            Some(SendError::Full)
        } else {
            None
        };
        if let Some(error) = refused {
            self.counters.tx_drops += 1;
            return Err(error);
        }
        let buffer = self.tx.layout.buffer(self.tx.next());
        let prefix = if self.options.status_blocks { STATUS_BLOCK } else { 0 };
        self.dma.write(buffer + prefix, frame);
        let padding = MIN_FRAME.saturating_sub(frame.len());
        self.dma.write(buffer + prefix + frame.len(), [0; MIN_FRAME].get(..padding).unwrap_or_default());
        self.tx.submit(&mut self.registers, prefix + frame.len() + padding);
        self.counters.tx_frames += 1;
        self.counters.tx_octets += frame.len() as u64;
        Ok(())
    }

    fn can_send(&self) -> bool {
        self.link.is_up() && !self.receive_only && self.tx.has_room()
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
