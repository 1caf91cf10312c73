//! SD cards: what they are told, and the two controllers that tell it.
//!
//! [`sdhci`] drives the Arasan controller of the Pi 3 and Zero 2 W and the EMMC2 of the Pi 4, [`sdhost`] the other
//! controller of the Pi 3 and Zero 2 W. Both stay at one data line, 3.3 V and 25 MHz, which every card can do: the card
//! is read at boot only, one block at a time and without DMA, and little of it.

pub mod sdhci;
pub mod sdhost;
#[cfg(test)]
mod tests;

use crate::{Clock, TimedOut};

/// A command of the card, SD Physical Layer Simplified Specification 3.01 §4.7.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its number.
    pub index: u8,
    /// What the card answers.
    pub response: Response,
    /// A block of data follows.
    pub data: bool,
}

/// Forms of an answer (§4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// None at all.
    None,
    /// R1, R6, R7: 32 bits with a checksum.
    Short,
    /// R1b: the same, and the card may be busy for a while.
    ShortThenBusy,
    /// R2: 128 bits.
    Long,
    /// R3: 32 bits, and no checksum.
    ShortUnchecked,
}

const fn command(index: u8, response: Response) -> Command {
    Command { index, response, data: false }
}

const GO_IDLE_STATE: Command = command(0, Response::None);
const ALL_SEND_CID: Command = command(2, Response::Long);
const SEND_RELATIVE_ADDR: Command = command(3, Response::Short);
const SELECT_CARD: Command = command(7, Response::ShortThenBusy);
const SEND_IF_COND: Command = command(8, Response::Short);
const SET_BLOCKLEN: Command = command(16, Response::Short);
const READ_SINGLE_BLOCK: Command = Command { data: true, ..command(17, Response::Short) };
const APP_CMD: Command = command(55, Response::Short);
const SD_SEND_OP_COND: Command = command(41, Response::ShortUnchecked);

/// 2.7 to 3.6 V, and a pattern the card repeats.
const IF_COND: u32 = 0x1aa;
const OCR_VOLTAGES: u32 = 0x00ff_8000;
const OCR_HIGH_CAPACITY: u32 = 1 << 30;
const OCR_READY: u32 = 1 << 31;

const IDENTIFICATION_HZ: u32 = 400_000;
const TRANSFER_HZ: u32 = 25_000_000;

/// A command, a block or a reset is over within this.
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
    /// The controller reports an error: the upper half of the interrupt register of an SDHCI, the status of an SDHOST.
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

/// A controller: carries commands and blocks, and knows nothing of what they mean.
pub trait CardHost {
    /// The time it waits by.
    type Clock: Clock;

    /// That time.
    fn clock(&mut self) -> &mut Self::Clock;

    /// Resets the controller and gives the card power.
    ///
    /// # Errors
    /// [`CardError`].
    fn reset(&mut self) -> Result<(), CardError>;

    /// Clocks the card with at most `hz`.
    ///
    /// # Errors
    /// [`CardError`].
    fn set_clock(&mut self, hz: u32) -> Result<(), CardError>;

    /// Sends a command and returns the first word of the answer.
    ///
    /// # Errors
    /// [`CardError`]; silence is [`CardError::NoCard`].
    fn send(&mut self, command: Command, argument: u32) -> Result<u32, CardError>;

    /// Takes the block that follows a command with data.
    ///
    /// # Errors
    /// [`CardError`].
    fn take_block(&mut self, block: &mut [u8; BLOCK_LEN]) -> Result<(), CardError>;

    /// Brings the controller back to rest after a command or a block that failed.
    ///
    /// # Errors
    /// [`CardError`].
    fn recover(&mut self) -> Result<(), CardError>;
}

/// A card that is ready to be read.
#[derive(Debug)]
pub struct SdCard<H> {
    host: H,
    high_capacity: bool,
}

impl<H: CardHost> SdCard<H> {
    /// Resets the controller and brings the card to where it can be read.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn start(host: H) -> Result<Self, CardError> {
        let mut card = Self { host, high_capacity: false };
        card.host.reset()?;
        card.host.set_clock(IDENTIFICATION_HZ)?;
        card.host.clock().delay_us(1_000);
        card.identify()?;
        card.host.set_clock(TRANSFER_HZ)?;
        if !card.high_capacity {
            card.host.send(SET_BLOCKLEN, BLOCK_LEN as u32)?;
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
            outcome = self.host.send(READ_SINGLE_BLOCK, address).and_then(|_| self.host.take_block(block));
            if outcome.is_ok() {
                return outcome;
            }
            self.host.recover()?;
        }
        outcome
    }

    /// Card initialisation and identification (Physical Layer §4.2).
    fn identify(&mut self) -> Result<(), CardError> {
        self.host.send(GO_IDLE_STATE, 0)?;
        // A card of before version 2 does not know this command and stays silent.
        let host_capacity = match self.host.send(SEND_IF_COND, IF_COND) {
            Ok(response) if response & 0xfff == IF_COND => OCR_HIGH_CAPACITY,
            Ok(_) => return Err(CardError::Unusable),
            Err(CardError::NoCard) => 0,
            Err(error) => return Err(error),
        };
        let start = self.host.clock().now_us();
        loop {
            self.host.send(APP_CMD, 0)?;
            let ocr = self.host.send(SD_SEND_OP_COND, OCR_VOLTAGES | host_capacity)?;
            if ocr & OCR_READY != 0 {
                self.high_capacity = ocr & OCR_HIGH_CAPACITY != 0;
                break;
            }
            if self.host.clock().now_us().saturating_sub(start) > POWER_UP_LIMIT_US {
                return Err(CardError::TimedOut);
            }
            self.host.clock().delay_us(10_000);
        }
        self.host.send(ALL_SEND_CID, 0)?;
        let address = self.host.send(SEND_RELATIVE_ADDR, 0)? & 0xffff_0000;
        self.host.send(SELECT_CARD, address)?;
        Ok(())
    }
}
