//! The driver against a controller and a card written from the two simplified specifications.

extern crate std;

use super::*;
use crate::model::Ticking;
use std::vec::Vec;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Ready,
    Identified,
    Standby,
    Transfer,
}

struct Model {
    present: bool,
    version_1: bool,
    high_capacity: bool,
    /// ACMD41 answers "busy" this often.
    power_up: u32,
    bad_echo: bool,
    /// Reads that fail with a CRC error.
    crc_errors: u32,
    /// Reads that never become ready.
    silent_reads: u32,
    stuck_reset: bool,
    stuck_clock: bool,
    stuck_inhibit: bool,

    state: State,
    application: bool,
    interrupt: u32,
    argument: u32,
    response: u32,
    clock_reset: u32,
    data: Vec<u8>,
    commands: Vec<u32>,
    slowest_hz_divider: u32,
}

impl Model {
    fn card() -> Self {
        Self {
            present: true,
            version_1: false,
            high_capacity: true,
            power_up: 3,
            bad_echo: false,
            crc_errors: 0,
            silent_reads: 0,
            stuck_reset: false,
            stuck_clock: false,
            stuck_inhibit: false,
            state: State::Idle,
            application: false,
            interrupt: 0,
            argument: 0,
            response: 0,
            clock_reset: 0,
            data: Vec::new(),
            commands: Vec::new(),
            slowest_hz_divider: 0,
        }
    }

    fn silent(&mut self) {
        self.interrupt |= ERROR | ERROR_COMMAND_TIMEOUT;
    }

    fn answer(&mut self, response: u32) {
        self.response = response;
        self.interrupt |= DONE_COMMAND;
    }

    fn execute(&mut self, command: u32) {
        assert_ne!(self.clock_reset & CLOCK_CARD, 0, "a command without a card clock");
        let index = command >> 24;
        self.commands.push(index);
        if !self.present {
            if index == 0 {
                self.answer(0);
            } else {
                self.silent();
            }
            return;
        }
        let application = core::mem::take(&mut self.application);
        match index {
            0 => {
                self.state = State::Idle;
                self.answer(0);
            }
            8 if self.version_1 => self.silent(),
            8 => self.answer(if self.bad_echo { 0x155 } else { self.argument }),
            55 => {
                self.application = true;
                self.answer(0x120);
            }
            41 if application => {
                assert_ne!(self.argument & OCR_VOLTAGES, 0);
                assert!(!self.version_1 || self.argument & OCR_HIGH_CAPACITY == 0);
                if self.power_up > 0 {
                    self.power_up -= 1;
                    self.answer(OCR_VOLTAGES);
                } else {
                    self.state = State::Ready;
                    let capacity = if self.high_capacity { OCR_HIGH_CAPACITY } else { 0 };
                    self.answer(OCR_READY | OCR_VOLTAGES | capacity);
                }
            }
            2 if self.state == State::Ready => {
                self.state = State::Identified;
                self.answer(0);
            }
            3 if self.state == State::Identified => {
                self.state = State::Standby;
                self.answer(0xb368_0500);
            }
            7 if self.state == State::Standby => {
                assert_eq!(self.argument, 0xb368_0000);
                self.state = State::Transfer;
                self.answer(0);
                self.interrupt |= DONE_TRANSFER;
            }
            16 if self.state == State::Transfer => self.answer(0),
            17 if self.state == State::Transfer => {
                self.answer(0x900);
                if self.silent_reads > 0 {
                    self.silent_reads -= 1;
                } else if self.crc_errors > 0 {
                    self.crc_errors -= 1;
                    self.interrupt |= ERROR | 1 << 21;
                } else {
                    let block = if self.high_capacity { self.argument } else { self.argument / 512 };
                    self.data = (0..512u32).map(|at| (block + at) as u8).collect();
                    self.data.reverse();
                    self.interrupt |= READ_READY;
                }
            }
            other => panic!("CMD{other} in {:?}", self.state),
        }
    }
}

impl Mmio for &mut Model {
    fn read32(&mut self, offset: usize) -> u32 {
        match offset {
            RESPONSE => self.response,
            STATE => u32::from(self.stuck_inhibit),
            HOST_POWER => 0,
            CLOCK_RESET => self.clock_reset,
            INTERRUPT => self.interrupt,
            DATA => {
                let mut next = || self.data.pop().expect("read past the block");
                let word = u32::from_le_bytes([next(), next(), next(), next()]);
                if self.data.is_empty() {
                    self.interrupt |= DONE_TRANSFER;
                }
                word
            }
            _ => panic!("read of {offset:#x}"),
        }
    }

    fn write32(&mut self, offset: usize, value: u32) {
        match offset {
            BLOCK => assert_eq!(value, 0x1_0200),
            ARGUMENT => self.argument = value,
            COMMAND => self.execute(value),
            HOST_POWER => assert_eq!(value, POWER_3V3),
            CLOCK_RESET => {
                let resets = RESET_ALL | RESET_COMMAND | RESET_DATA;
                self.clock_reset = value & if self.stuck_reset { u32::MAX } else { !resets };
                if value & (RESET_COMMAND | RESET_DATA) != 0 {
                    self.interrupt = 0;
                }
                if value & CLOCK_INTERNAL != 0 && !self.stuck_clock {
                    self.clock_reset |= CLOCK_STABLE;
                }
                if value & CLOCK_CARD != 0 {
                    let divider = (value >> 8 & 0xff) | (value >> 6 & 3) << 8;
                    self.slowest_hz_divider = self.slowest_hz_divider.max(divider);
                }
            }
            INTERRUPT => self.interrupt &= !value,
            INTERRUPT_STATUS_ENABLE => assert_eq!(value, u32::MAX),
            INTERRUPT_SIGNAL_ENABLE => assert_eq!(value, 0, "interrupts are polled"),
            _ => panic!("write of {offset:#x}"),
        }
    }

    fn barrier(&mut self) {}
}

fn start(model: &mut Model) -> Result<SdCard<&mut Model, Ticking>, CardError> {
    SdCard::start(model, Ticking::default(), 200_000_000)
}

fn first_octets(model: &mut Model, block: u32) -> Result<[u8; 2], CardError> {
    let mut octets = [0; BLOCK_LEN];
    start(model)?.read_block(block, &mut octets)?;
    assert!(octets.iter().enumerate().all(|(at, octet)| *octet == (block as usize + at) as u8));
    Ok([octets[0], octets[1]])
}

#[test]
fn blocks_are_read_from_a_high_capacity_card() {
    assert_eq!(first_octets(&mut Model::card(), 5), Ok([5, 6]));
}

#[test]
fn blocks_are_read_from_an_old_card_by_octet_address() {
    let mut model = Model { version_1: true, high_capacity: false, ..Model::card() };
    assert_eq!(first_octets(&mut model, 9), Ok([9, 10]));
    assert!(model.commands.contains(&16), "the block length is set where it is not fixed");
}

#[test]
fn an_address_past_an_old_card_is_refused_not_wrapped() {
    let mut model = Model { high_capacity: false, ..Model::card() };
    assert_eq!(first_octets(&mut model, 1 << 23), Err(CardError::Unusable));
}

#[test]
fn identification_runs_at_400_khz() {
    let mut model = Model::card();
    assert!(start(&mut model).is_ok());
    assert_eq!(model.slowest_hz_divider, 250);
}

#[test]
fn an_empty_slot_is_told() {
    assert_eq!(first_octets(&mut Model { present: false, ..Model::card() }, 0), Err(CardError::NoCard));
}

#[test]
fn a_card_that_garbles_the_check_pattern_is_not_used() {
    assert_eq!(first_octets(&mut Model { bad_echo: true, ..Model::card() }, 0), Err(CardError::Unusable));
}

#[test]
fn a_card_that_never_powers_up_is_given_up() {
    let mut model = Model { power_up: u32::MAX, ..Model::card() };
    assert_eq!(first_octets(&mut model, 0), Err(CardError::TimedOut));
}

#[test]
fn two_failed_reads_are_made_good_and_three_are_not() {
    for (errors, outcome) in [(2, Ok([7, 8])), (3, Err(CardError::Controller(1 << 5)))] {
        let mut model = Model { crc_errors: errors, ..Model::card() };
        assert_eq!(first_octets(&mut model, 7), outcome);
    }
    let mut model = Model { silent_reads: 2, ..Model::card() };
    assert_eq!(first_octets(&mut model, 7), Ok([7, 8]));
    let mut model = Model { silent_reads: 3, ..Model::card() };
    assert_eq!(first_octets(&mut model, 7), Err(CardError::TimedOut));
}

#[test]
fn a_stuck_controller_is_given_up() {
    for model in [
        Model { stuck_reset: true, ..Model::card() },
        Model { stuck_clock: true, ..Model::card() },
        Model { stuck_inhibit: true, ..Model::card() },
    ] {
        let mut model = model;
        assert_eq!(first_octets(&mut model, 0), Err(CardError::TimedOut));
    }
}
