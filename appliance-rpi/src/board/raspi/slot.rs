//! The card slot: on a Pi 4 behind the EMMC2 (in QEMU's behind the Arasan), on a Pi 3 and Zero 2 W behind either of
//! two controllers.

use super::peripherals::{ALT0, ALT3, INPUT, have_function, registers, set_functions};
use crate::board::face::Unreadable;
use crate::clock::SystemClock;
use crate::log::event;
use crate::map::{Chip, chip};
use crate::mmio::{DmaRegion, Registers};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use rpi_drivers::mailbox::{Mailbox, Tag};
use rpi_drivers::sd::sdhci::Sdhci;
use rpi_drivers::sd::sdhost::Sdhost;
use rpi_drivers::sd::{CardError, CardHost, SdCard};
use rpi_services::card::{BlockSource, read_file};

// Distances from the start of the peripherals (QEMU hw/arm/raspi_platform.h, Circle bcm2835.h and bcm2711.h).
const SDHOST: usize = 0x20_2000;
const ARASAN: usize = 0x30_0000;
const EMMC2: usize = 0x34_0000;

// Mailbox clocks (Circle bcmpropertytags.h, Linux raspberrypi-firmware.h).
const CLOCK_ARASAN: u32 = 1;
const CLOCK_CORE: u32 = 4;
const CLOCK_EMMC2: u32 = 12;
/// Used when the firmware does not tell: faster than any of them runs, so that the card is never clocked too fast.
const UNTOLD_HZ: u32 = 500_000_000;

/// Line of the Pi 4's GPIO expander that puts the card's signals at 1.8 V (Circle addon/SDCard/emmc.cpp, Linux
/// bcm2711-rpi-4-b.dts: VDD_SD_IO_SEL).
const CARD_1V8: u32 = 128 + 4;

/// Pins of the slot: ALT0 leads to the SDHOST, ALT3 to the Arasan (Circle addon/SDCard/{sdhost,emmc}.cpp, Linux
/// bcm283x.dtsi).
const SLOT_PINS: RangeInclusive<usize> = 48..=53;
/// Pins of the wireless chip, which the Arasan may be connected with too (the same sources).
const WIRELESS_PINS: RangeInclusive<usize> = 34..=39;

/// A controller and its input clock in Hz.
#[derive(Clone, Copy, Debug)]
enum Controller {
    Emmc2(u32),
    Arasan(u32),
    Sdhost(u32),
}

/// The controllers to try, the likelier one first.
#[derive(Debug)]
pub(super) struct Slot([Controller; 2]);

impl Slot {
    /// Asks the firmware for the clocks and the pins for the controller the firmware used itself.
    pub(super) fn find(mailbox: &mut Mailbox<Registers, DmaRegion>) -> Self {
        let mut hz = |clock| match mailbox.ask(&mut SystemClock, Tag::ClockRate, [clock, 0]) {
            Ok([_, hz]) if hz != 0 => hz,
            _ => UNTOLD_HZ,
        };
        match chip() {
            Chip::Bcm2837 => {
                let (sdhost, arasan) = (Controller::Sdhost(hz(CLOCK_CORE)), Controller::Arasan(hz(CLOCK_ARASAN)));
                let left_at_sdhost = have_function(SLOT_PINS, ALT0);
                Self(if left_at_sdhost { [sdhost, arasan] } else { [arasan, sdhost] })
            }
            Chip::Bcm2711 => {
                let controllers = [Controller::Emmc2(hz(CLOCK_EMMC2)), Controller::Arasan(hz(CLOCK_ARASAN))];
                // Refused where there is no such line.
                let _ = mailbox.ask(&mut SystemClock, Tag::SetGpio, [CARD_1V8, 0]);
                Self(controllers)
            }
        }
    }

    /// Reads a file through the first controller behind which a card answers.
    ///
    /// # Errors
    /// In words; those of the first controller when no card answers behind any.
    pub(super) fn read_file(&self, name: &str, limit: usize) -> Result<Vec<u8>, Unreadable> {
        let mut first_error = None;
        for controller in self.0 {
            match controller.read_file(name, limit) {
                Ok(outcome) => {
                    event!(info, "card read through {}", controller.name());
                    return outcome.map_err(Unreadable);
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(Unreadable(first_error.unwrap_or(CardError::NoCard).to_string()))
    }
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Self::Emmc2(_) => "EMMC2",
            Self::Arasan(_) => "Arasan SDHCI",
            Self::Sdhost(_) => "SDHOST",
        }
    }

    /// The outer error: there is no card; the inner one: it has no such file.
    fn read_file(self, name: &str, limit: usize) -> Result<Result<Vec<u8>, String>, CardError> {
        match self {
            Self::Emmc2(hz) => read_through(Sdhci::new(registers(EMMC2), SystemClock, hz), name, limit),
            Self::Arasan(hz) => {
                // The pins of a Pi 4 mean other things.
                if chip() == Chip::Bcm2837 {
                    set_functions(WIRELESS_PINS, INPUT);
                    set_functions(SLOT_PINS, ALT3);
                }
                read_through(Sdhci::new(registers(ARASAN), SystemClock, hz), name, limit)
            }
            Self::Sdhost(hz) => {
                set_functions(SLOT_PINS, ALT0);
                read_through(Sdhost::new(registers(SDHOST), SystemClock, hz), name, limit)
            }
        }
    }
}

fn read_through(host: impl CardHost, name: &str, limit: usize) -> Result<Result<Vec<u8>, String>, CardError> {
    let mut card = Card(SdCard::start(host)?);
    Ok(read_file(&mut card, name, limit))
}

/// The card as the file reader wants it.
struct Card<H>(SdCard<H>);

impl<H: CardHost> BlockSource for Card<H> {
    fn read_block(&mut self, index: u32, block: &mut [u8; 512]) -> Result<(), String> {
        self.0.read_block(index, block).map_err(|error| error.to_string())
    }
}
