//! SD cards behind an SD host controller (SDHCI): read one block at a time, without DMA.
//!
//! One driver serves the Arasan controller of the Pi 3 and Zero 2 W and the EMMC2 of the Pi 4. It stays at one data
//! line, 3.3 V and 25 MHz, which every card can do: the card is read at boot only, and little of it.

use crate::{Clock, Mmio, TimedOut, wait_until};

// Offsets and bits: "SD Host Controller Simplified Specification" 3.00 §2, taken 32 bits at a time; the same in Circle
// (addon/SDCard/emmc.cpp) and QEMU (hw/sd/sdhci-internal.h).
const BLOCK: usize = 0x04;
const ARGUMENT: usize = 0x08;
const COMMAND: usize = 0x0c;
const RESPONSE: usize = 0x10;
const DATA: usize = 0x20;
const STATE: usize = 0x24;
const HOST_POWER: usize = 0x28;
const CLOCK_RESET: usize = 0x2c;
const INTERRUPT: usize = 0x30;
const INTERRUPT_STATUS_ENABLE: usize = 0x34;
const INTERRUPT_SIGNAL_ENABLE: usize = 0x38;

const STATE_COMMAND_INHIBIT: u32 = 1 << 0;
const STATE_DATA_INHIBIT: u32 = 1 << 1;
/// Bus power on, 3.3 V.
const POWER_3V3: u32 = 0xf << 8;
const CLOCK_INTERNAL: u32 = 1 << 0;
const CLOCK_STABLE: u32 = 1 << 1;
const CLOCK_CARD: u32 = 1 << 2;
const CLOCK_DIVIDER: u32 = 0xffc0;
const TIMEOUT_MAX: u32 = 0xe << 16;
const RESET_ALL: u32 = 1 << 24;
const RESET_COMMAND: u32 = 1 << 25;
const RESET_DATA: u32 = 1 << 26;
const DONE_COMMAND: u32 = 1 << 0;
const DONE_TRANSFER: u32 = 1 << 1;
const READ_READY: u32 = 1 << 5;
const ERROR: u32 = 1 << 15;
const ERROR_COMMAND_TIMEOUT: u32 = 1 << 16;

/// Command register: index, response and what to check of it.
const NO_RESPONSE: u32 = 0;
const R1: u32 = 2 << 16 | 1 << 19;
const R1B: u32 = 3 << 16 | 1 << 19;
const R2: u32 = 1 << 16 | 1 << 19;
const R3: u32 = 2 << 16;
const DATA_READ: u32 = 1 << 21 | 1 << 4;

const fn command(index: u32, kind: u32) -> u32 {
    index << 24 | kind
}

// SD Physical Layer Simplified Specification 3.01 §4.7.4.
const GO_IDLE_STATE: u32 = command(0, NO_RESPONSE);
const ALL_SEND_CID: u32 = command(2, R2);
const SEND_RELATIVE_ADDR: u32 = command(3, R1);
const SELECT_CARD: u32 = command(7, R1B);
const SEND_IF_COND: u32 = command(8, R1);
const SET_BLOCKLEN: u32 = command(16, R1);
const READ_SINGLE_BLOCK: u32 = command(17, R1 | DATA_READ);
const APP_CMD: u32 = command(55, R1);
const SD_SEND_OP_COND: u32 = command(41, R3);

/// 2.7 to 3.6 V, and a pattern the card repeats.
const IF_COND: u32 = 0x1aa;
const OCR_VOLTAGES: u32 = 0x00ff_8000;
const OCR_HIGH_CAPACITY: u32 = 1 << 30;
const OCR_READY: u32 = 1 << 31;

const IDENTIFICATION_HZ: u32 = 400_000;
const TRANSFER_HZ: u32 = 25_000_000;

const LIMIT_US: u64 = 100_000;
/// A card may take this long to power up (§4.2.3).
const POWER_UP_LIMIT_US: u64 = 1_000_000;
const ATTEMPTS: u32 = 3;

/// Octets of a block.
pub const BLOCK_LEN: usize = 512;

/// Why a card cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardError {
    /// No card answers.
    NoCard,
    /// The controller or the card did not finish in time.
    TimedOut,
    /// The controller reports an error, as in the upper half of its interrupt register.
    Controller(u16),
    /// A card that does not work at 3.3 V or answers out of turn.
    Unusable,
}

impl From<TimedOut> for CardError {
    fn from(_: TimedOut) -> Self {
        Self::TimedOut
    }
}

impl core::fmt::Display for CardError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoCard => f.write_str("no card answers"),
            Self::TimedOut => f.write_str("the card did not answer in time"),
            Self::Controller(bits) => write!(f, "the card controller reports error {bits:#06x}"),
            Self::Unusable => f.write_str("the card cannot be used"),
        }
    }
}

impl core::error::Error for CardError {}

/// A card that is ready to be read.
#[derive(Debug)]
pub struct SdCard<M, C> {
    registers: M,
    clock: C,
    /// Time the Arasan controller needs between two writes: two card clocks, or it loses the first (Linux
    /// sdhci-bcm2835, FreeBSD bcm2835_sdhci).
    write_gap_us: u64,
    high_capacity: bool,
}

impl<M: Mmio, C: Clock> SdCard<M, C> {
    /// Resets the controller and brings the card to where it can be read. `base_hz` is the controller's input clock.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn start(registers: M, clock: C, base_hz: u32) -> Result<Self, CardError> {
        let mut card = Self { registers, clock, write_gap_us: 6, high_capacity: false };
        card.reset_controller()?;
        card.set_clock(base_hz, IDENTIFICATION_HZ)?;
        card.clock.delay_us(1_000);
        card.identify()?;
        card.set_clock(base_hz, TRANSFER_HZ)?;
        card.write_gap_us = 1;
        if !card.high_capacity {
            card.send(SET_BLOCKLEN, BLOCK_LEN as u32)?;
        }
        Ok(card)
    }

    /// Reads the block with number `index`.
    ///
    /// # Errors
    /// [`CardError`] after three attempts.
    pub fn read_block(&mut self, index: u32, block: &mut [u8; BLOCK_LEN]) -> Result<(), CardError> {
        let address = if self.high_capacity { Some(index) } else { index.checked_mul(BLOCK_LEN as u32) };
        let address = address.ok_or(CardError::Unusable)?;
        let mut outcome = Err(CardError::TimedOut);
        for _ in 0..ATTEMPTS {
            outcome = self.try_read(address, block);
            if outcome.is_ok() {
                return outcome;
            }
            self.reset_lines(RESET_COMMAND | RESET_DATA)?;
        }
        outcome
    }

    fn try_read(&mut self, address: u32, block: &mut [u8; BLOCK_LEN]) -> Result<(), CardError> {
        self.send(READ_SINGLE_BLOCK, address)?;
        self.wait(READ_READY)?;
        for word in block.chunks_exact_mut(4) {
            word.copy_from_slice(&self.registers.read32(DATA).to_le_bytes());
        }
        self.wait(DONE_TRANSFER)
    }

    fn write(&mut self, offset: usize, value: u32) {
        self.registers.write32(offset, value);
        self.clock.delay_us(self.write_gap_us);
    }

    fn modify(&mut self, offset: usize, mask: u32, value: u32) {
        let old = self.registers.read32(offset);
        self.write(offset, (old & !mask) | (value & mask));
    }

    fn reset_controller(&mut self) -> Result<(), CardError> {
        self.reset_lines(RESET_ALL)?;
        self.modify(HOST_POWER, POWER_3V3, POWER_3V3);
        self.clock.delay_us(2_000);
        self.write(INTERRUPT_SIGNAL_ENABLE, 0);
        self.write(INTERRUPT_STATUS_ENABLE, u32::MAX);
        Ok(())
    }

    fn reset_lines(&mut self, lines: u32) -> Result<(), CardError> {
        self.modify(CLOCK_RESET, lines, lines);
        let registers = &mut self.registers;
        Ok(wait_until(&mut self.clock, LIMIT_US, || registers.read32(CLOCK_RESET) & lines == 0)?)
    }

    /// The card clock is base / (2 × divider), 10-bit divider (§2.2.14).
    fn set_clock(&mut self, base_hz: u32, hz: u32) -> Result<(), CardError> {
        let divider = base_hz.div_ceil(2 * hz).clamp(1, 0x3ff);
        let bits = (divider & 0xff) << 8 | (divider >> 8) << 6;
        self.modify(CLOCK_RESET, CLOCK_CARD, 0);
        self.modify(CLOCK_RESET, CLOCK_DIVIDER | TIMEOUT_MAX | CLOCK_INTERNAL, bits | TIMEOUT_MAX | CLOCK_INTERNAL);
        let registers = &mut self.registers;
        wait_until(&mut self.clock, LIMIT_US, || registers.read32(CLOCK_RESET) & CLOCK_STABLE != 0)?;
        self.modify(CLOCK_RESET, CLOCK_CARD, CLOCK_CARD);
        Ok(())
    }

    /// Card initialisation and identification (Physical Layer §4.2).
    fn identify(&mut self) -> Result<(), CardError> {
        self.send(GO_IDLE_STATE, 0)?;
        // A card of before version 2 does not know this command and stays silent.
        let host_capacity = match self.send(SEND_IF_COND, IF_COND) {
            Ok(response) if response & 0xfff == IF_COND => OCR_HIGH_CAPACITY,
            Ok(_) => return Err(CardError::Unusable),
            Err(CardError::NoCard) => 0,
            Err(error) => return Err(error),
        };
        let start = self.clock.now_us();
        loop {
            self.send(APP_CMD, 0)?;
            let ocr = self.send(SD_SEND_OP_COND, OCR_VOLTAGES | host_capacity)?;
            if ocr & OCR_READY != 0 {
                self.high_capacity = ocr & OCR_HIGH_CAPACITY != 0;
                break;
            }
            if self.clock.now_us().saturating_sub(start) > POWER_UP_LIMIT_US {
                return Err(CardError::TimedOut);
            }
            self.clock.delay_us(10_000);
        }
        self.send(ALL_SEND_CID, 0)?;
        let address = self.send(SEND_RELATIVE_ADDR, 0)? & 0xffff_0000;
        self.send(SELECT_CARD, address)?;
        Ok(())
    }

    /// Sends a command and returns the first word of its response. Silence is [`CardError::NoCard`].
    fn send(&mut self, command: u32, argument: u32) -> Result<u32, CardError> {
        let registers = &mut self.registers;
        let busy = STATE_COMMAND_INHIBIT | STATE_DATA_INHIBIT;
        wait_until(&mut self.clock, LIMIT_US, || registers.read32(STATE) & busy == 0)?;
        self.write(INTERRUPT, u32::MAX);
        self.write(BLOCK, 1 << 16 | BLOCK_LEN as u32);
        self.write(ARGUMENT, argument);
        self.write(COMMAND, command);
        match self.wait(DONE_COMMAND) {
            Ok(()) => {}
            Err(CardError::Controller(bits)) if u32::from(bits) << 16 & ERROR_COMMAND_TIMEOUT != 0 => {
                self.reset_lines(RESET_COMMAND)?;
                return Err(CardError::NoCard);
            }
            Err(error) => return Err(error),
        }
        if command & R1B == R1B {
            self.wait(DONE_TRANSFER)?;
        }
        Ok(self.registers.read32(RESPONSE))
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

#[cfg(test)]
mod tests;
