//! A controller of the common kind.

use super::*;
use crate::sd::sdhci::*;

pub(super) struct Controller {
    card: Card,
    stuck_reset: bool,
    stuck_clock: bool,
    stuck_inhibit: bool,
    interrupt: u32,
    argument: u32,
    response: u32,
    clock_reset: u32,
    data: Vec<u8>,
    slowest_hz_divider: u32,
}

impl Model for Controller {
    fn with(card: Card) -> Self {
        Self {
            card,
            stuck_reset: false,
            stuck_clock: false,
            stuck_inhibit: false,
            interrupt: 0,
            argument: 0,
            response: 0,
            clock_reset: 0,
            data: Vec::new(),
            slowest_hz_divider: 0,
        }
    }
    fn card(&self) -> &Card {
        &self.card
    }
    fn start(&mut self) -> Result<SdCard<impl CardHost>, CardError> {
        SdCard::start(Sdhci::new(self, Ticking::default(), 200_000_000))
    }
}

impl Controller {
    fn execute(&mut self, command: u32) {
        assert_ne!(self.clock_reset & CLOCK_CARD, 0, "a command without a card clock");
        let answer = self.card.execute(command >> 24, self.argument);
        let data = matches!(answer, Answer::Block(_) | Answer::NoBlock | Answer::DamagedBlock);
        assert_eq!(command & 1 << 21 != 0, data, "the data flag of {command:#x}");
        self.interrupt |= match answer {
            Answer::Silence => ERROR | ERROR_COMMAND_TIMEOUT,
            Answer::Word(word) => {
                self.response = word;
                let busy = if command & 3 << 16 == 3 << 16 { DONE_TRANSFER } else { 0 };
                DONE_COMMAND | busy
            }
            Answer::Block(first) => {
                self.data = content(first);
                DONE_COMMAND | READ_READY
            }
            Answer::DamagedBlock => DONE_COMMAND | ERROR | 1 << 21,
            Answer::Nothing | Answer::NoBlock => DONE_COMMAND,
        };
    }
}

impl Mmio for &mut Controller {
    fn read32(&mut self, offset: usize) -> u32 {
        match offset {
            RESPONSE => self.response,
            STATE => u32::from(self.stuck_inhibit),
            HOST_POWER => 0,
            CLOCK_RESET => self.clock_reset,
            INTERRUPT => self.interrupt,
            DATA => {
                let word = next_word(&mut self.data);
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

#[test]
fn identification_runs_at_400_khz() {
    let mut model = Controller::with(Card::new());
    assert!(model.start().is_ok());
    assert_eq!(model.slowest_hz_divider, 250);
}

#[test]
fn a_stuck_sdhci_is_given_up() {
    let with = || Controller::with(Card::new());
    for mut model in [
        Controller { stuck_reset: true, ..with() },
        Controller { stuck_clock: true, ..with() },
        Controller { stuck_inhibit: true, ..with() },
    ] {
        assert_eq!(first_octets(&mut model, 0), Err(CardError::TimedOut));
    }
}
