//! Broadcom's own controller.

use super::*;
use crate::sd::sdhost::*;

/// Words the FIFO holds.
const FIFO: usize = 16;
const READING: u32 = 2;

pub(super) struct Controller {
    card: Card,
    /// The command flag stays.
    stuck_command: bool,
    /// The card stays busy.
    stuck_busy: bool,
    /// After a block the controller stays at reading.
    stuck_reading: bool,
    /// After a block the controller waits for another.
    read_wait: bool,
    /// The check of a response that has no checksum is reported.
    checks_ocr: bool,
    powered: bool,
    argument: u32,
    command: u32,
    response: u32,
    status: u32,
    state: u32,
    thresholds: u32,
    block: [u32; 2],
    data: Vec<u8>,
    damaged: bool,
    forced: u32,
    dividers: Vec<u32>,
}

impl Model for Controller {
    fn with(card: Card) -> Self {
        Self {
            card,
            stuck_command: false,
            stuck_busy: false,
            stuck_reading: false,
            read_wait: false,
            checks_ocr: false,
            powered: false,
            argument: 0,
            command: 0,
            response: 0,
            status: 0x7f9,
            state: 0,
            thresholds: 0,
            block: [0; 2],
            data: Vec::new(),
            damaged: false,
            forced: 0,
            dividers: Vec::new(),
        }
    }
    fn card(&self) -> &Card {
        &self.card
    }
    fn start(&mut self) -> Result<SdCard<impl CardHost>, CardError> {
        SdCard::start(Sdhost::new(self, Ticking::default(), 250_000_000))
    }
}

impl Controller {
    fn execute(&mut self, command: u32) {
        assert!(self.powered && self.thresholds == 4 << 14 | 4 << 9);
        assert_eq!(self.status & STATUS_ERRORS, 0, "old errors were not cleared");
        assert!(matches!(self.state, 0 | 1), "a command while the controller is not at rest");
        self.command = if self.stuck_command { command } else { command & !COMMAND_NEW };
        let answer = self.card.execute(command & 0x3f, self.argument);
        assert_eq!(command & COMMAND_NO_RESPONSE != 0, answer == Answer::Nothing);
        assert_eq!(command & COMMAND_LONG != 0, command & 0x3f == 2);
        let data = matches!(answer, Answer::Block(_) | Answer::NoBlock | Answer::DamagedBlock);
        assert_eq!(command & COMMAND_READ != 0, data);
        match answer {
            Answer::Silence => {
                self.command |= COMMAND_FAIL;
                self.status |= STATUS_COMMAND_TIMEOUT;
            }
            Answer::Nothing => {}
            Answer::Word(word) => {
                self.response = word;
                if self.checks_ocr && command & 0x3f == 41 {
                    self.command |= COMMAND_FAIL;
                    self.status |= STATUS_CRC7;
                }
                if command & COMMAND_BUSY != 0 && !self.stuck_busy {
                    self.status |= STATUS_BUSY_OVER;
                }
            }
            // The controller's own timeout comes later than ours.
            Answer::NoBlock => {}
            Answer::Block(first) => self.begin_block(first),
            Answer::DamagedBlock => {
                self.damaged = true;
                self.begin_block(0);
            }
        }
    }

    fn begin_block(&mut self, first: u8) {
        assert_eq!(self.block, [512, 1]);
        self.data = content(first);
        self.state = READING;
    }
}

impl Mmio for &mut Controller {
    fn read32(&mut self, offset: usize) -> u32 {
        match offset {
            COMMAND => self.command,
            RESPONSE => self.response,
            STATUS => self.status,
            MACHINE => {
                let fill = (self.data.len() / 4).min(FIFO) as u32;
                self.thresholds | fill << MACHINE_FILL_SHIFT | self.state
            }
            DATA => {
                let word = next_word(&mut self.data);
                if self.data.is_empty() && !self.stuck_reading {
                    self.state = if self.read_wait { MACHINE_READ_WAIT } else { 1 };
                    if core::mem::take(&mut self.damaged) {
                        self.status |= 1 << 5;
                    }
                }
                word
            }
            _ => panic!("read of {offset:#x}"),
        }
    }

    fn write32(&mut self, offset: usize, value: u32) {
        match offset {
            COMMAND if value & COMMAND_NEW != 0 => self.execute(value),
            COMMAND => self.command = value,
            ARGUMENT => self.argument = value,
            TIMEOUT => assert_eq!(value, 0xf0_0000),
            DIVIDER => self.dividers.push(value),
            STATUS => self.status &= !value,
            POWER => self.powered = value == 1,
            MACHINE => {
                self.thresholds = value & (0x3ff << 9);
                if value & MACHINE_FORCE_DATA_MODE != 0 {
                    self.forced += 1;
                    self.state = 1;
                }
            }
            CONFIG => assert!(value == 0 || value == CONFIG_USED),
            BLOCK_OCTETS => self.block[0] = value,
            BLOCKS => self.block[1] = value,
            _ => panic!("write of {offset:#x}"),
        }
    }

    fn barrier(&mut self) {}
}

#[test]
fn identification_runs_at_400_khz_and_reading_at_25_mhz() {
    let mut model = Controller::with(Card::new());
    assert!(model.start().is_ok());
    // 250 MHz / 625, and 250 MHz / 10, each less two; the reset before them stops the clock.
    assert_eq!(model.dividers, [0, 623, 8]);
}

#[test]
fn a_stuck_sdhost_is_given_up() {
    let with = || Controller::with(Card::new());
    for mut model in [
        Controller { stuck_command: true, ..with() },
        Controller { stuck_busy: true, ..with() },
        Controller { stuck_reading: true, ..with() },
    ] {
        assert_eq!(first_octets(&mut model, 0), Err(CardError::TimedOut));
    }
}

#[test]
fn an_sdhost_that_waits_for_another_block_is_told_that_there_is_none() {
    let mut model = Controller { read_wait: true, ..Controller::with(Card::new()) };
    assert_eq!(first_octets(&mut model, 3), Ok([3, 4]));
    assert_eq!(model.forced, 1);
}

#[test]
fn an_sdhost_may_check_a_response_without_checksum() {
    let mut model = Controller { checks_ocr: true, ..Controller::with(Card::new()) };
    assert_eq!(first_octets(&mut model, 3), Ok([3, 4]));
}
