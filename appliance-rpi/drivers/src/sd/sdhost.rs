//! The second card controller of the Pi 3 and Zero 2 W, Broadcom's own ("SDHOST").
//!
//! Two sources of different ancestry for each constant: **N** = NetBSD `sys/arch/arm/broadcom/bcm2835_sdhost.c`
//! (OpenBSD's has the same numbers), **C** = Circle `addon/SDCard/sdhost.cpp`, which came from Broadcom's driver by way
//! of Linux. QEMU's `hw/sd/bcm2835_sdhost.c` agrees with both.

use super::{BLOCK_LEN, CardError, CardHost, Command, LIMIT_US, Response};
use crate::{Clock, Mmio, wait_until};

/// Command (N, C).
pub(super) const COMMAND: usize = 0x00;
/// Argument (N, C).
pub(super) const ARGUMENT: usize = 0x04;
/// Start of the timeout counter (N, C).
pub(super) const TIMEOUT: usize = 0x08;
/// Clock divider, 11 bits, less two (N, C).
pub(super) const DIVIDER: usize = 0x0c;
/// First word of the response (N, C).
pub(super) const RESPONSE: usize = 0x10;
/// Status; ones clear (N, C).
pub(super) const STATUS: usize = 0x20;
/// Power of the card, bit 0 (N, C).
pub(super) const POWER: usize = 0x30;
/// State of the controller and fill of its FIFO (C; N for the thresholds).
pub(super) const MACHINE: usize = 0x34;
/// Configuration (N, C).
pub(super) const CONFIG: usize = 0x38;
/// Octets of a block (N, C).
pub(super) const BLOCK_OCTETS: usize = 0x3c;
/// FIFO (N, C).
pub(super) const DATA: usize = 0x40;
/// Blocks (N, C).
pub(super) const BLOCKS: usize = 0x50;

/// Starts a command; set until it is over (N, C).
pub(super) const COMMAND_NEW: u32 = 1 << 15;
/// It failed (N, C).
pub(super) const COMMAND_FAIL: u32 = 1 << 14;
/// The card may be busy afterwards (N, C).
pub(super) const COMMAND_BUSY: u32 = 1 << 11;
/// No response follows (N, C).
pub(super) const COMMAND_NO_RESPONSE: u32 = 1 << 10;
/// The response has 136 bits (N, C).
pub(super) const COMMAND_LONG: u32 = 1 << 9;
/// Data are read (N, C).
pub(super) const COMMAND_READ: u32 = 1 << 6;
/// The card is no longer busy (N, C).
pub(super) const STATUS_BUSY_OVER: u32 = 1 << 10;
/// Nothing came from the card in time (N, C).
pub(super) const STATUS_COMMAND_TIMEOUT: u32 = 1 << 6;
/// Checksum of a response (N, C).
pub(super) const STATUS_CRC7: u32 = 1 << 4;
/// Read timeout, command timeout, checksum of data and of a response, FIFO (N, C).
pub(super) const STATUS_ERRORS: u32 = 1 << 7 | STATUS_COMMAND_TIMEOUT | 1 << 5 | STATUS_CRC7 | 1 << 3;
/// All bits that ones clear (C; N writes back what it read).
pub(super) const STATUS_ALL: u32 = 0x7f8;
/// Status tells the end of busy; the identification divider always counts, it alone has bits enough; 32-bit FIFO (N, C).
pub(super) const CONFIG_USED: u32 = 1 << 10 | 1 << 3 | 1 << 1;
/// Timeout counter every source uses (N, C).
const TIMEOUT_DEFAULT: u32 = 0x00f0_0000;
/// Largest divider (N, C).
const DIVIDER_MAX: u32 = 0x7ff;
/// FIFO thresholds, 5 bits each for reading and writing, and the 4 every source puts there (N, C).
const THRESHOLDS: u32 = 0x1f << 14 | 0x1f << 9;
const THRESHOLDS_USED: u32 = 4 << 14 | 4 << 9;
/// Words in the FIFO (C `(edm >> 4) & 0x1f`; QEMU).
pub(super) const MACHINE_FILL_SHIFT: u32 = 4;
const MACHINE_FILL_MASK: u32 = 0x1f;
/// What the controller is at (C, QEMU).
const MACHINE_STATE: u32 = 0xf;
/// At rest, in identification and in data mode (C, QEMU).
const MACHINE_AT_REST: [u32; 2] = [0, 1];
/// Waits for a block nobody asked for; another way to be at rest (C, QEMU).
pub(super) const MACHINE_READ_WAIT: u32 = 4;
/// Ends that wait (C, QEMU).
pub(super) const MACHINE_FORCE_DATA_MODE: u32 = 1 << 19;

/// Between switching the card's power off, on and using it (N; C waits half as long).
const POWER_SETTLE_US: u64 = 20_000;

fn told(errors: u32) -> CardError {
    if errors & STATUS_COMMAND_TIMEOUT != 0 { CardError::NoCard } else { CardError::Controller(errors as u16) }
}

/// The controller.
#[derive(Debug)]
pub struct Sdhost<M, C> {
    registers: M,
    clock: C,
    base_hz: u32,
}

impl<M: Mmio, C: Clock> Sdhost<M, C> {
    /// `base_hz` is the core clock, by which this controller runs.
    pub fn new(registers: M, clock: C, base_hz: u32) -> Self {
        Self { registers, clock, base_hz }
    }

    fn wait_for(&mut self, register: usize, done: impl Fn(u32) -> bool) -> Result<u32, CardError> {
        let registers = &mut self.registers;
        wait_until(&mut self.clock, LIMIT_US, || done(registers.read32(register)))?;
        Ok(self.registers.read32(register))
    }

    /// Takes the errors out of the status.
    fn take_errors(&mut self) -> u32 {
        let errors = self.registers.read32(STATUS) & STATUS_ERRORS;
        self.registers.write32(STATUS, errors);
        errors
    }

    fn check(&mut self) -> Result<(), CardError> {
        match self.take_errors() {
            0 => Ok(()),
            errors => Err(told(errors)),
        }
    }

    /// Waits until the controller is at rest, and helps where it waits for more than was asked for.
    fn come_to_rest(&mut self) -> Result<(), CardError> {
        let at_rest = |machine: u32| {
            let state = machine & MACHINE_STATE;
            MACHINE_AT_REST.contains(&state) || state == MACHINE_READ_WAIT
        };
        let machine = self.wait_for(MACHINE, at_rest)?;
        if machine & MACHINE_STATE == MACHINE_READ_WAIT {
            self.registers.write32(MACHINE, machine | MACHINE_FORCE_DATA_MODE);
        }
        Ok(())
    }
}

impl<M: Mmio, C: Clock> CardHost for Sdhost<M, C> {
    type Clock = C;

    fn clock(&mut self) -> &mut C {
        &mut self.clock
    }

    fn reset(&mut self) -> Result<(), CardError> {
        for (register, value) in [
            (POWER, 0),
            (COMMAND, 0),
            (ARGUMENT, 0),
            (TIMEOUT, TIMEOUT_DEFAULT),
            (DIVIDER, 0),
            (STATUS, STATUS_ALL),
            (CONFIG, 0),
            (BLOCK_OCTETS, 0),
            (BLOCKS, 0),
        ] {
            self.registers.write32(register, value);
        }
        self.registers.modify32(MACHINE, THRESHOLDS, THRESHOLDS_USED);
        self.clock.delay_us(POWER_SETTLE_US);
        self.registers.write32(POWER, 1);
        self.clock.delay_us(POWER_SETTLE_US);
        self.registers.write32(CONFIG, CONFIG_USED);
        Ok(())
    }

    /// The card clock is base / (divider + 2).
    fn set_clock(&mut self, hz: u32) -> Result<(), CardError> {
        let divider = self.base_hz.div_ceil(hz).saturating_sub(2).min(DIVIDER_MAX);
        self.registers.write32(DIVIDER, divider);
        Ok(())
    }

    fn send(&mut self, command: Command, argument: u32) -> Result<u32, CardError> {
        self.wait_for(COMMAND, |command| command & COMMAND_NEW == 0)?;
        self.registers.write32(STATUS, STATUS_ALL);
        if command.data {
            self.registers.write32(BLOCK_OCTETS, BLOCK_LEN as u32);
            self.registers.write32(BLOCKS, 1);
        }
        self.registers.write32(ARGUMENT, argument);
        let response = match command.response {
            Response::None => COMMAND_NO_RESPONSE,
            Response::Short | Response::ShortUnchecked => 0,
            Response::ShortThenBusy => COMMAND_BUSY,
            Response::Long => COMMAND_LONG,
        };
        let data = if command.data { COMMAND_READ } else { 0 };
        self.registers.write32(COMMAND, COMMAND_NEW | u32::from(command.index) | response | data);
        let outcome = self.wait_for(COMMAND, |command| command & COMMAND_NEW == 0)?;
        if outcome & COMMAND_FAIL != 0 {
            let errors = self.take_errors();
            // Without a checksum in the response its check can only fail.
            if command.response != Response::ShortUnchecked || errors != STATUS_CRC7 {
                return Err(told(errors));
            }
        }
        if command.response == Response::ShortThenBusy {
            self.wait_for(STATUS, |status| status & (STATUS_BUSY_OVER | STATUS_ERRORS) != 0)?;
            self.check()?;
        }
        Ok(self.registers.read32(RESPONSE))
    }

    fn take_block(&mut self, block: &mut [u8; BLOCK_LEN]) -> Result<(), CardError> {
        let mut words = block.chunks_exact_mut(4).peekable();
        while words.peek().is_some() {
            let registers = &mut self.registers;
            let fill = |machine: u32| machine >> MACHINE_FILL_SHIFT & MACHINE_FILL_MASK;
            wait_until(&mut self.clock, LIMIT_US, || {
                fill(registers.read32(MACHINE)) > 0 || registers.read32(STATUS) & STATUS_ERRORS != 0
            })?;
            self.check()?;
            for word in words.by_ref().take(fill(self.registers.read32(MACHINE)) as usize) {
                word.copy_from_slice(&self.registers.read32(DATA).to_le_bytes());
            }
        }
        self.come_to_rest()?;
        // The checksum of the data comes after them.
        self.check()
    }

    fn recover(&mut self) -> Result<(), CardError> {
        self.take_errors();
        self.come_to_rest()
    }
}
