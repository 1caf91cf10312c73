//! The DesignWare host controller: core bring-up and host channels in buffer-DMA mode.
//!
//! A channel carries one transfer at a time. The core repeats NAKed control and bulk transactions by itself; everything
//! else that stops a transfer halts the channel, and only that is looked at. The interrupt line stays masked: the main
//! loop polls, and an idle bus costs it one register read.

use super::registers::*;
use super::transfer::{Completion, Endpoint, Kind, Pid, Transfer, TransferError};
use crate::{Clock, DmaMemory, Mmio, TimedOut, wait_until};

/// Channels this driver uses at most; BCM283x and BCM2711 have eight.
pub(super) const CHANNELS: usize = 8;

/// How often a transaction that failed on the wire is tried again (USB 2.0 section 8.6.4: three times in all).
const RETRIES: u8 = 2;

/// Words of FIFO memory for each of receive, non-periodic and periodic transmit (Circle's division of 4080 words).
const FIFO_WORDS: u32 = 1024;

/// Why the controller did not come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// The identity register does not name a DesignWare OTG core.
    NoController,
    /// The core has no internal DMA or too few channels.
    Unsupported,
    /// Reset or change to host mode did not end.
    TimedOut,
}

impl From<TimedOut> for InitError {
    fn from(_: TimedOut) -> Self {
        Self::TimedOut
    }
}

#[derive(Clone, Copy)]
enum Channel {
    Idle,
    /// `moved` bytes went before the last retry; `failures` counts wire errors without progress.
    Active {
        transfer: Transfer,
        moved: usize,
        failures: u8,
    },
    /// Told to stop; the halt has not been seen yet.
    Halting,
}

/// The controller: registers, DMA region and the state of its channels.
pub(super) struct Dwc2<M, D> {
    pub(super) registers: M,
    pub(super) dma: D,
    channels: [Channel; CHANNELS],
    /// See [`channel_kind`](Self::channel_kind).
    emulated: bool,
}

impl<M: Mmio, D: DmaMemory> Dwc2<M, D> {
    pub(super) fn new(registers: M, dma: D) -> Self {
        Self { registers, dma, channels: [Channel::Idle; CHANNELS], emulated: false }
    }

    /// Resets the core and makes it a host with DMA. Takes about 100 ms.
    pub(super) fn init<C: Clock>(&mut self, clock: &mut C) -> Result<(), InitError> {
        let registers = &mut self.registers;
        let identity = registers.read32(GSNPSID);
        if identity & 0xFFFF_0000 != GSNPSID_OTG {
            return Err(InitError::NoController);
        }
        self.emulated = identity == GSNPSID_QEMU;
        let hardware = registers.read32(GHWCFG2);
        let channels = (hardware >> GHWCFG2_CHANNELS_SHIFT & 0xF) as usize + 1;
        if hardware >> GHWCFG2_ARCHITECTURE_SHIFT & 3 != GHWCFG2_INTERNAL_DMA || channels < CHANNELS {
            return Err(InitError::Unsupported);
        }
        registers.modify32(GAHBCFG, GAHBCFG_INTERRUPTS, 0);
        // The PHY must be chosen before the reset that lets the choice take effect.
        let cleared = GUSBCFG_PHY_16BIT
            | GUSBCFG_ULPI
            | GUSBCFG_SRP
            | GUSBCFG_HNP
            | GUSBCFG_ULPI_FSLS
            | GUSBCFG_ULPI_CLOCK_SUSPEND
            | GUSBCFG_ULPI_EXTERNAL_VBUS
            | GUSBCFG_TERM_SEL_PULSE
            | GUSBCFG_FORCE_DEVICE;
        registers.modify32(GUSBCFG, cleared | GUSBCFG_FORCE_HOST, GUSBCFG_FORCE_HOST);
        self.reset(clock)?;
        let registers = &mut self.registers;
        wait_until(clock, 100_000, || registers.read32(GINTSTS) & GINTSTS_HOST_MODE != 0)?;
        registers.write32(GAHBCFG, GAHBCFG_DMA | GAHBCFG_WAIT_AXI_WRITES);
        registers.write32(PCGCCTL, 0);
        registers.modify32(HCFG, HCFG_CLOCK_MASK, 0);
        let memory_words = registers.read32(GHWCFG3) >> 16;
        if hardware & GHWCFG2_DYNAMIC_FIFO != 0 && memory_words >= 3 * FIFO_WORDS {
            registers.write32(GRXFSIZ, FIFO_WORDS);
            registers.write32(GNPTXFSIZ, (FIFO_WORDS << 16) | FIFO_WORDS);
            registers.write32(HPTXFSIZ, (FIFO_WORDS << 16) | (2 * FIFO_WORDS));
        }
        registers.write32(GRSTCTL, GRSTCTL_TX_FLUSH | GRSTCTL_TX_ALL);
        wait_until(clock, 10_000, || registers.read32(GRSTCTL) & GRSTCTL_TX_FLUSH == 0)?;
        registers.write32(GRSTCTL, GRSTCTL_RX_FLUSH);
        wait_until(clock, 10_000, || registers.read32(GRSTCTL) & GRSTCTL_RX_FLUSH == 0)?;
        registers.write32(GINTMSK, 0);
        registers.write32(HAINTMSK, (1 << CHANNELS) - 1);
        for channel in 0..CHANNELS {
            registers.write32(register(channel, HCINT), HCINT_ALL);
            registers.write32(register(channel, HCINTMSK), HCINT_HALTED | HCINT_AHB_ERROR);
        }
        self.channels = [Channel::Idle; CHANNELS];
        Ok(())
    }

    fn reset<C: Clock>(&mut self, clock: &mut C) -> Result<(), TimedOut> {
        let registers = &mut self.registers;
        wait_until(clock, 100_000, || registers.read32(GRSTCTL) & GRSTCTL_AHB_IDLE != 0)?;
        registers.write32(GRSTCTL, GRSTCTL_CORE_RESET);
        wait_until(clock, 10_000, || registers.read32(GRSTCTL) & GRSTCTL_CORE_RESET == 0)?;
        wait_until(clock, 100_000, || registers.read32(GRSTCTL) & GRSTCTL_AHB_IDLE != 0)?;
        // The PHY's clock needs time to come back; Circle waits as long.
        clock.delay_us(100_000);
        Ok(())
    }

    /// Whether a channel can take a transfer.
    pub(super) fn is_idle(&self, channel: usize) -> bool {
        matches!(self.channels.get(channel), Some(Channel::Idle))
    }

    /// Starts a transfer on an idle channel.
    pub(super) fn start(&mut self, channel: usize, transfer: Transfer) {
        debug_assert!(self.is_idle(channel));
        debug_assert!(transfer.offset + transfer.programmed_bytes() <= self.dma.len());
        self.launch(channel, transfer, 0, 0);
    }

    /// The type a channel is given for an endpoint.
    ///
    /// QEMU's model repeats a NAKed bulk transaction for ever, even after the channel was disabled, and up to version
    /// 9 aborts the whole machine when it does so for a device that has just been unplugged. A NAKed interrupt
    /// transaction ends there, and the model knows no other difference, so there bulk endpoints are asked anew.
    fn channel_kind(&self, endpoint: &Endpoint) -> Kind {
        if self.emulated && endpoint.into_host && endpoint.kind == Kind::Bulk { Kind::Interrupt } else { endpoint.kind }
    }

    fn launch(&mut self, channel: usize, transfer: Transfer, moved: usize, failures: u8) {
        let endpoint = transfer.endpoint;
        let kind = self.channel_kind(&endpoint);
        let Some(slot) = self.channels.get_mut(channel) else { return };
        *slot = Channel::Active { transfer, moved, failures };
        let registers = &mut self.registers;
        let mut characteristics = u32::from(endpoint.max_packet)
            | u32::from(endpoint.number) << HCCHAR_ENDPOINT_SHIFT
            | (kind as u32) << HCCHAR_TYPE_SHIFT
            | HCCHAR_MULTI_ONE
            | u32::from(endpoint.address) << HCCHAR_ADDRESS_SHIFT;
        if endpoint.into_host {
            characteristics |= HCCHAR_IN;
        }
        if endpoint.low_speed {
            characteristics |= HCCHAR_LOW_SPEED;
        }
        // A periodic transfer is for the next frame, whose parity is the opposite of the running one's.
        if kind == Kind::Interrupt && registers.read32(HFNUM) & 1 == 0 {
            characteristics |= HCCHAR_ODD_FRAME;
        }
        let size = transfer.programmed_bytes() as u32
            | (transfer.packets() as u32) << HCTSIZ_PACKETS_SHIFT
            | (transfer.pid as u32) << HCTSIZ_PID_SHIFT;
        let address = self.dma.bus_address().wrapping_add(transfer.offset as u64) as u32;
        registers.write32(register(channel, HCINT), HCINT_ALL);
        registers.write32(register(channel, HCSPLT), 0);
        registers.write32(register(channel, HCTSIZ), size);
        registers.write32(register(channel, HCDMA), address);
        registers.barrier();
        registers.write32(register(channel, HCCHAR), characteristics | HCCHAR_ENABLE);
    }

    /// One bit for each channel that has halted since it was last asked with [`finish`](Self::finish).
    pub(super) fn halted(&mut self) -> u32 {
        if self.registers.read32(GINTSTS) & GINTSTS_CHANNEL == 0 {
            return 0;
        }
        let halted = self.registers.read32(HAINT);
        self.registers.barrier();
        halted
    }

    /// Reads how a halted channel ended. `None`: it was cancelled, or it goes on after a wire error.
    pub(super) fn finish(&mut self, channel: usize) -> Option<Completion> {
        let status = self.registers.read32(register(channel, HCINT));
        if status & HCINT_HALTED == 0 {
            if status & HCINT_AHB_ERROR != 0 {
                // The core does not halt by itself then. What it did is tried again once it has.
                self.registers.write32(register(channel, HCINT), HCINT_AHB_ERROR);
                self.registers.modify32(register(channel, HCCHAR), HCCHAR_DISABLE, HCCHAR_DISABLE);
            }
            return None;
        }
        self.registers.write32(register(channel, HCINT), status);
        let slot = self.channels.get_mut(channel)?;
        let Channel::Active { transfer, moved, failures } = core::mem::replace(slot, Channel::Idle) else {
            return None;
        };
        let size = self.registers.read32(register(channel, HCTSIZ));
        let next = Pid::of(size);
        let complete = status & HCINT_COMPLETE != 0;
        let progress = progress(&transfer, size, complete);
        let naked = status & HCINT_NAK != 0 && status & (HCINT_TRANSACTION_ERROR | HCINT_TOGGLE_ERROR) == 0;
        let result = if complete {
            Ok(moved + progress)
        } else if status & HCINT_STALL != 0 {
            Err(TransferError::Stall)
        } else if status & HCINT_BABBLE != 0 {
            Err(TransferError::Babble)
        } else if status & HCINT_AHB_ERROR != 0 {
            Err(TransferError::Memory)
        } else if naked && moved + progress == 0 && transfer.endpoint.asks() {
            Err(TransferError::Nak)
        } else {
            // Wire error, wrong toggle, missed frame, a NAK that the core does not repeat by itself, or a halt without
            // a reason: go on where it stopped. Whoever waits for a device that only NAKs has a limit of his own.
            let failures = if naked || progress > 0 {
                0
            } else if status & (HCINT_NAK | HCINT_ACK | HCINT_NYET) != 0 {
                // The device answered in between, so the failures before are no longer in a row with this one.
                1
            } else {
                failures + 1
            };
            if failures > RETRIES {
                Err(TransferError::Transaction)
            } else {
                let rest = Transfer {
                    endpoint: transfer.endpoint,
                    pid: if transfer.pid == Pid::Setup { Pid::Setup } else { next },
                    offset: transfer.offset + progress,
                    length: transfer.length.saturating_sub(progress),
                };
                self.launch(channel, rest, moved + progress, failures);
                return None;
            }
        };
        Some(Completion { result, next })
    }

    /// Takes channels for idle that were told to stop: with no device left they may never say that they have.
    pub(super) fn abandon_halting(&mut self) {
        for (channel, state) in self.channels.iter_mut().enumerate() {
            if matches!(state, Channel::Halting) {
                self.registers.write32(register(channel, HCINT), HCINT_ALL);
                *state = Channel::Idle;
            }
        }
    }

    /// Stops whatever a channel does; it is idle again when its halt has been seen by [`finish`](Self::finish).
    pub(super) fn cancel(&mut self, channel: usize) {
        let Some(slot) = self.channels.get_mut(channel) else { return };
        if matches!(*slot, Channel::Idle) {
            return;
        }
        let characteristics = self.registers.read32(register(channel, HCCHAR));
        if characteristics & HCCHAR_ENABLE == 0 {
            // It stopped by itself in the meantime.
            self.registers.write32(register(channel, HCINT), HCINT_ALL);
            *slot = Channel::Idle;
            return;
        }
        *slot = Channel::Halting;
        self.registers.write32(register(channel, HCCHAR), characteristics | HCCHAR_DISABLE | HCCHAR_ENABLE);
    }
}

/// Bytes moved since the launch. On the way out the byte count of the register is not kept up by every release of the
/// core, the packet count is; into the host the last packet may be short, so that the bytes count.
fn progress(transfer: &Transfer, size_register: u32, complete: bool) -> usize {
    let programmed = transfer.programmed_bytes();
    if transfer.endpoint.into_host {
        programmed.saturating_sub((size_register & HCTSIZ_BYTES_MASK) as usize).min(programmed)
    } else if complete {
        transfer.length
    } else {
        let left = (size_register >> HCTSIZ_PACKETS_SHIFT & HCTSIZ_PACKETS_MASK) as usize;
        let sent = transfer.packets().saturating_sub(left) * usize::from(transfer.endpoint.max_packet);
        sent.min(transfer.length)
    }
}

fn register(channel: usize, offset: usize) -> usize {
    CHANNEL_BASE + channel * CHANNEL_STRIDE + offset
}
