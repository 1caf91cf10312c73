//! Both controllers, written from their sources, with a card written from the specification behind them.

extern crate std;

mod arasan;
mod broadcom;

use super::*;
use crate::Mmio;
use crate::model::Ticking;
use std::vec::Vec;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Idle,
    Ready,
    Identified,
    Standby,
    Transfer,
}

/// What a command leads to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The controller waits in vain.
    Silence,
    /// The command asks for none.
    Nothing,
    Word(u32),
    /// A block follows, whose first octet is this.
    Block(u8),
    /// The block never comes.
    NoBlock,
    /// The block comes damaged.
    DamagedBlock,
}

struct Card {
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

    state: State,
    application: bool,
    commands: Vec<u32>,
}

impl Card {
    fn new() -> Self {
        Self {
            present: true,
            version_1: false,
            high_capacity: true,
            power_up: 3,
            bad_echo: false,
            crc_errors: 0,
            silent_reads: 0,
            state: State::Idle,
            application: false,
            commands: Vec::new(),
        }
    }

    fn execute(&mut self, index: u32, argument: u32) -> Answer {
        self.commands.push(index);
        let application = core::mem::take(&mut self.application);
        match index {
            0 => {
                self.state = State::Idle;
                Answer::Nothing
            }
            _ if !self.present => Answer::Silence,
            8 if self.version_1 => Answer::Silence,
            8 => Answer::Word(if self.bad_echo { 0x155 } else { argument }),
            55 => {
                self.application = true;
                Answer::Word(0x120)
            }
            41 if application => {
                assert_ne!(argument & OCR_VOLTAGES, 0);
                assert!(!self.version_1 || argument & OCR_HIGH_CAPACITY == 0);
                if self.power_up > 0 {
                    self.power_up -= 1;
                    return Answer::Word(OCR_VOLTAGES);
                }
                self.state = State::Ready;
                let capacity = if self.high_capacity { OCR_HIGH_CAPACITY } else { 0 };
                Answer::Word(OCR_READY | OCR_VOLTAGES | capacity)
            }
            2 if self.state == State::Ready => {
                self.state = State::Identified;
                Answer::Word(0)
            }
            3 if self.state == State::Identified => {
                self.state = State::Standby;
                Answer::Word(0xb368_0500)
            }
            7 if self.state == State::Standby => {
                assert_eq!(argument, 0xb368_0000);
                self.state = State::Transfer;
                Answer::Word(0x700)
            }
            16 if self.state == State::Transfer => Answer::Word(0),
            17 if self.state == State::Transfer => {
                if self.silent_reads > 0 {
                    self.silent_reads -= 1;
                    Answer::NoBlock
                } else if self.crc_errors > 0 {
                    self.crc_errors -= 1;
                    Answer::DamagedBlock
                } else {
                    Answer::Block(if self.high_capacity { argument } else { argument / 512 } as u8)
                }
            }
            other => panic!("CMD{other} in {:?}", self.state),
        }
    }
}

fn content(first: u8) -> Vec<u8> {
    // Taken from the end.
    (0..BLOCK_LEN).map(|at| first.wrapping_add(at as u8)).rev().collect()
}

fn next_word(data: &mut Vec<u8>) -> u32 {
    let mut next = || data.pop().expect("read past the block");
    u32::from_le_bytes([next(), next(), next(), next()])
}

/// A controller of either kind.
trait Model {
    fn with(card: Card) -> Self;
    fn card(&self) -> &Card;
    fn start(&mut self) -> Result<SdCard<impl CardHost>, CardError>;
}

fn first_octets<M: Model>(model: &mut M, block: u32) -> Result<[u8; 2], CardError> {
    let mut octets = [0; BLOCK_LEN];
    model.start()?.read_block(block, &mut octets)?;
    assert!(octets.iter().enumerate().all(|(at, octet)| *octet == (block as usize + at) as u8));
    Ok([octets[0], octets[1]])
}

/// Runs a test for both controllers.
macro_rules! both {
    ($(fn $name:ident<M>() $body:block)*) => {$(
        mod $name {
            use super::*;
            fn test<M: Model>() $body
            #[test]
            fn sdhci() {
                test::<arasan::Controller>();
            }
            #[test]
            fn sdhost() {
                test::<broadcom::Controller>();
            }
        }
    )*};
}

both! {
    fn blocks_are_read_from_a_high_capacity_card<M>() {
        assert_eq!(first_octets(&mut M::with(Card::new()), 5), Ok([5, 6]));
    }

    fn one_block_follows_another<M>() {
        let mut model = M::with(Card::new());
        let mut card = model.start().expect("a card");
        for block in 0..20 {
            let mut octets = [0; BLOCK_LEN];
            assert_eq!(card.read_block(block, &mut octets), Ok(()));
            assert_eq!(octets[0], block as u8);
        }
    }

    fn blocks_are_read_from_an_old_card_by_octet_address<M>() {
        let mut model = M::with(Card { version_1: true, high_capacity: false, ..Card::new() });
        assert_eq!(first_octets(&mut model, 9), Ok([9, 10]));
        assert!(model.card().commands.contains(&16), "the block length is set where it is not fixed");
    }

    fn an_address_past_an_old_card_is_refused_not_wrapped<M>() {
        let mut model = M::with(Card { high_capacity: false, ..Card::new() });
        assert_eq!(first_octets(&mut model, 1 << 23), Err(CardError::Unusable));
    }

    fn an_empty_slot_is_told<M>() {
        assert_eq!(first_octets(&mut M::with(Card { present: false, ..Card::new() }), 0), Err(CardError::NoCard));
    }

    fn a_card_that_garbles_the_check_pattern_is_not_used<M>() {
        assert_eq!(first_octets(&mut M::with(Card { bad_echo: true, ..Card::new() }), 0), Err(CardError::Unusable));
    }

    fn a_card_that_never_powers_up_is_given_up<M>() {
        let mut model = M::with(Card { power_up: u32::MAX, ..Card::new() });
        assert_eq!(first_octets(&mut model, 0), Err(CardError::TimedOut));
    }

    fn two_failed_reads_are_made_good_and_three_are_not<M>() {
        // Both controllers report the checksum of data at bit 5.
        for (errors, outcome) in [(2, Ok([7, 8])), (3, Err(CardError::Controller(1 << 5)))] {
            let mut model = M::with(Card { crc_errors: errors, ..Card::new() });
            assert_eq!(first_octets(&mut model, 7), outcome);
        }
        for (silent, outcome) in [(2, Ok([7, 8])), (3, Err(CardError::TimedOut))] {
            let mut model = M::with(Card { silent_reads: silent, ..Card::new() });
            assert_eq!(first_octets(&mut model, 7), outcome);
        }
    }
}
