//! SD host controllers of the common kind (SDHCI): the Arasan of the Pi 3 and Zero 2 W, the EMMC2 of the Pi 4.

use super::{BLOCK_LEN, CardError, CardHost, Command, IDENTIFICATION_HZ, LIMIT_US, Response};
use crate::{Clock, Mmio, wait_until};

// Offsets and bits: "SD Host Controller Simplified Specification" 3.00 §2, taken 32 bits at a time; the same in Circle
// (addon/SDCard/emmc.cpp) and QEMU (hw/sd/sdhci-internal.h).
pub(super) const BLOCK: usize = 0x04;
pub(super) const ARGUMENT: usize = 0x08;
pub(super) const COMMAND: usize = 0x0c;
pub(super) const RESPONSE: usize = 0x10;
pub(super) const DATA: usize = 0x20;
pub(super) const STATE: usize = 0x24;
pub(super) const HOST_POWER: usize = 0x28;
pub(super) const CLOCK_RESET: usize = 0x2c;
pub(super) const INTERRUPT: usize = 0x30;
pub(super) const INTERRUPT_STATUS_ENABLE: usize = 0x34;
pub(super) const INTERRUPT_SIGNAL_ENABLE: usize = 0x38;

const STATE_COMMAND_INHIBIT: u32 = 1 << 0;
const STATE_DATA_INHIBIT: u32 = 1 << 1;
/// Bus power on, 3.3 V.
pub(super) const POWER_3V3: u32 = 0xf << 8;
pub(super) const CLOCK_INTERNAL: u32 = 1 << 0;
pub(super) const CLOCK_STABLE: u32 = 1 << 1;
pub(super) const CLOCK_CARD: u32 = 1 << 2;
const CLOCK_DIVIDER: u32 = 0xffc0;
const TIMEOUT_MAX: u32 = 0xe << 16;
pub(super) const RESET_ALL: u32 = 1 << 24;
pub(super) const RESET_COMMAND: u32 = 1 << 25;
pub(super) const RESET_DATA: u32 = 1 << 26;
pub(super) const DONE_COMMAND: u32 = 1 << 0;
pub(super) const DONE_TRANSFER: u32 = 1 << 1;
pub(super) const READ_READY: u32 = 1 << 5;
pub(super) const ERROR: u32 = 1 << 15;
pub(super) const ERROR_COMMAND_TIMEOUT: u32 = 1 << 16;

// Command register: length of the response, checks of checksum and index (not with R2 and R3), data and direction.
const RESPONSE_136: u32 = 1 << 16;
const RESPONSE_48: u32 = 2 << 16;
const RESPONSE_48_BUSY: u32 = 3 << 16;
const CHECK_CRC: u32 = 1 << 19;
const DATA_PRESENT: u32 = 1 << 21;
const DATA_READ: u32 = 1 << 4;

/// The controller.
#[derive(Debug)]
pub struct Sdhci<M, C> {
    registers: M,
    clock: C,
    base_hz: u32,
    /// Time the Arasan controller needs between two writes: two card clocks, or it loses the first (Linux
    /// sdhci-bcm2835, FreeBSD bcm2835_sdhci).
    write_gap_us: u64,
}

impl<M: Mmio, C: Clock> Sdhci<M, C> {
    /// `base_hz` is the controller's input clock.
    pub fn new(registers: M, clock: C, base_hz: u32) -> Self {
        Self { registers, clock, base_hz, write_gap_us: 6 }
    }

    fn write(&mut self, offset: usize, value: u32) {
        self.registers.write32(offset, value);
        self.clock.delay_us(self.write_gap_us);
    }

    fn modify(&mut self, offset: usize, mask: u32, value: u32) {
        let old = self.registers.read32(offset);
        self.write(offset, (old & !mask) | (value & mask));
    }

    fn reset_lines(&mut self, lines: u32) -> Result<(), CardError> {
        self.modify(CLOCK_RESET, lines, lines);
        let registers = &mut self.registers;
        Ok(wait_until(&mut self.clock, LIMIT_US, || registers.read32(CLOCK_RESET) & lines == 0)?)
    }

    /// Waits for one of the controller's events and takes it.
    fn wait(&mut self, event: u32) -> Result<(), CardError> {
        let registers = &mut self.registers;
        wait_until(&mut self.clock, LIMIT_US, || registers.read32(INTERRUPT) & (event | ERROR) != 0)?;
        let seen = self.registers.read32(INTERRUPT);
        if seen & ERROR != 0 {
            self.write(INTERRUPT, seen);
            return Err(CardError::Controller((seen >> 16) as u16));
        }
        self.write(INTERRUPT, event);
        Ok(())
    }
}

impl<M: Mmio, C: Clock> CardHost for Sdhci<M, C> {
    type Clock = C;

    fn clock(&mut self) -> &mut C {
        &mut self.clock
    }

    fn reset(&mut self) -> Result<(), CardError> {
        self.reset_lines(RESET_ALL)?;
        self.modify(HOST_POWER, POWER_3V3, POWER_3V3);
        self.clock.delay_us(2_000);
        self.write(INTERRUPT_SIGNAL_ENABLE, 0);
        self.write(INTERRUPT_STATUS_ENABLE, u32::MAX);
        Ok(())
    }

    /// The card clock is base / (2 × divider), 10-bit divider (§2.2.14).
    fn set_clock(&mut self, hz: u32) -> Result<(), CardError> {
        let divider = self.base_hz.div_ceil(2 * hz).clamp(1, 0x3ff);
        let bits = (divider & 0xff) << 8 | (divider >> 8) << 6;
        self.modify(CLOCK_RESET, CLOCK_CARD, 0);
        self.modify(CLOCK_RESET, CLOCK_DIVIDER | TIMEOUT_MAX | CLOCK_INTERNAL, bits | TIMEOUT_MAX | CLOCK_INTERNAL);
        let registers = &mut self.registers;
        wait_until(&mut self.clock, LIMIT_US, || registers.read32(CLOCK_RESET) & CLOCK_STABLE != 0)?;
        self.modify(CLOCK_RESET, CLOCK_CARD, CLOCK_CARD);
        self.write_gap_us = if hz > IDENTIFICATION_HZ { 1 } else { 6 };
        Ok(())
    }

    fn send(&mut self, command: Command, argument: u32) -> Result<u32, CardError> {
        let registers = &mut self.registers;
        let busy = STATE_COMMAND_INHIBIT | STATE_DATA_INHIBIT;
        wait_until(&mut self.clock, LIMIT_US, || registers.read32(STATE) & busy == 0)?;
        self.write(INTERRUPT, u32::MAX);
        self.write(BLOCK, 1 << 16 | BLOCK_LEN as u32);
        self.write(ARGUMENT, argument);
        let response = match command.response {
            Response::None => 0,
            Response::Short => RESPONSE_48 | CHECK_CRC,
            Response::ShortThenBusy => RESPONSE_48_BUSY | CHECK_CRC,
            Response::Long => RESPONSE_136 | CHECK_CRC,
            Response::ShortUnchecked => RESPONSE_48,
        };
        let data = if command.data { DATA_PRESENT | DATA_READ } else { 0 };
        self.write(COMMAND, u32::from(command.index) << 24 | response | data);
        match self.wait(DONE_COMMAND) {
            Ok(()) => {}
            Err(CardError::Controller(bits)) if u32::from(bits) << 16 & ERROR_COMMAND_TIMEOUT != 0 => {
                self.reset_lines(RESET_COMMAND)?;
                return Err(CardError::NoCard);
            }
            Err(error) => return Err(error),
        }
        if command.response == Response::ShortThenBusy {
            self.wait(DONE_TRANSFER)?;
        }
        Ok(self.registers.read32(RESPONSE))
    }

    fn take_block(&mut self, block: &mut [u8; BLOCK_LEN]) -> Result<(), CardError> {
        self.wait(READ_READY)?;
        for word in block.chunks_exact_mut(4) {
            word.copy_from_slice(&self.registers.read32(DATA).to_le_bytes());
        }
        self.wait(DONE_TRANSFER)
    }

    fn recover(&mut self) -> Result<(), CardError> {
        self.reset_lines(RESET_COMMAND | RESET_DATA)
    }
}
