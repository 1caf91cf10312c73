//! Raspberry Pi 3, Zero 2 W and 4, told apart at run time.

use super::face::{CONFIGURATION_MAX, Identity, Unreadable};
use crate::clock::SystemClock;
use crate::log::event;
use crate::map::{self, Chip, chip};
use crate::mmio::{DmaRegion, Registers, answers};
use alloc::vec::Vec;
use core::fmt::Write;
use peripherals::{ALT0, registers, set_functions};
use rpi_drivers::entropy::{Bcm2835Rng, Entropy, EntropyError, Rng200};
use rpi_drivers::genet::{Genet, Options, WrongRevision};
use rpi_drivers::mailbox::{Mailbox, Tag};
use rpi_drivers::power::PowerManager;
use rpi_drivers::usb::{Became, InitError, NICS, News, UsbHost};
use rpi_drivers::{MacAddress, Nic};
use slot::Slot;

mod peripherals;
mod slot;

// Distances from the start of the peripherals; "BCM2835 ARM Peripherals" and QEMU (hw/arm/raspi_platform.h) agree.
const MAILBOX: usize = 0x00_b880;
const POWER_MANAGER: usize = 0x10_0000;
const RNG: usize = 0x10_4000;
const USB: usize = 0x98_0000;

/// The Ethernet controller of the Pi 4 (Linux `bcm2711.dtsi`, Circle `bcm2711.h`).
const GENET: usize = 0xfd58_0000;
/// An Ethernet without link for so long shows its registers on the console, once.
const GENET_PATIENCE_US: u64 = 10_000_000;

/// The VideoCore sees the ARM's memory without its caches from here.
const VIDEOCORE_ALIAS: u64 = 0xc000_0000;

// Mailbox clocks of the PL011 and of the cores (Circle bcmpropertytags.h, Linux raspberrypi-firmware.h).
const CLOCK_UART: u32 = 2;
const CLOCK_ARM: u32 = 3;

/// Mailbox power domain of the USB host, and the state that asks for power and waits for it (Circle
/// `bcmpropertytags.h`, U-Boot `bcm283x mbox.h`).
const POWER_USB: u32 = 3;
const POWER_ON_AND_WAIT: u32 = 3;

/// Used by an on-board adapter when the firmware names no address: locally administered.
const FALLBACK_MAC: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x01]);

/// What QEMU answers as the build time of the firmware; a real one is a time of this century.
const QEMU_FIRMWARE: u32 = 346_337;

/// Seconds the main loop may be silent before the board is reset.
const WATCHDOG_S: u32 = 10;

/// Resets the board; usable at any time.
pub(crate) fn reset() -> ! {
    PowerManager::new(registers(POWER_MANAGER)).reset();
    loop {
        core::hint::spin_loop();
    }
}

/// Gives GPIO 14 and 15 to the PL011 (ALT0) and sets it to 115,200 baud, whatever the firmware did.
fn start_uart(mailbox: &mut Mailbox<Registers, DmaRegion>) {
    set_functions(14..=15, ALT0);
    let rate = mailbox.ask(&mut SystemClock, Tag::ClockRate, [CLOCK_UART, 0]).map_or(0, |[_, rate]| rate);
    map::uart().set_rate(if rate == 0 { 48_000_000 } else { rate });
}

type Ethernet = Genet<Registers, DmaRegion, SystemClock>;

/// What of the network did not start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NetworkError {
    /// The USB host.
    Usb(#[expect(dead_code, reason = "shown by Debug")] InitError),
    /// The Ethernet controller of a Pi 4.
    Ethernet(#[expect(dead_code, reason = "shown by Debug")] WrongRevision),
}

/// The devices of the board that the main loop drives.
pub(crate) struct Board {
    identity: Identity,
    watchdog: Option<PowerManager<Registers>>,
    /// Address of the on-board Ethernet.
    mac: MacAddress,
    usb: UsbHost<Registers, DmaRegion>,
    ethernet: Option<Ethernet>,
    ethernet_shown: bool,
    slot: Slot,
}

impl Board {
    /// Starts the console and asks the firmware who we are.
    pub(crate) fn start() -> Self {
        let mut mailbox = Mailbox::new(registers(MAILBOX), DmaRegion::take(64, VIDEOCORE_ALIAS));
        start_uart(&mut mailbox);
        let mut ask = |tag| mailbox.ask(&mut SystemClock, tag, [0, 0]);
        let revision = ask(Tag::BoardRevision).map_or(0, |[revision, _]| revision);
        let serial = ask(Tag::Serial).map_or(0, |[low, high]| u64::from(high) << 32 | u64::from(low));
        let memory = ask(Tag::ArmMemory).map_or(0, |[_, size]| size);
        let mac = ask(Tag::MacAddress).map_or(FALLBACK_MAC, |[low, high]| {
            let [a, b, c, d] = low.to_le_bytes();
            let [e, f, ..] = high.to_le_bytes();
            MacAddress([a, b, c, d, e, f])
        });
        // Left to itself the firmware runs the cores at their lowest rate. The core clock may follow, so this comes
        // before its rate is asked for.
        if let Ok([_, fastest]) = mailbox.ask(&mut SystemClock, Tag::FastestClockRate, [CLOCK_ARM, 0])
            && fastest != 0
        {
            // Refused where the rate cannot be changed.
            let _ = mailbox.ask(&mut SystemClock, Tag::SetClockRate, [CLOCK_ARM, fastest]);
        }
        // Refused where the firmware has switched it on already; a host without power then says so itself.
        let _ = mailbox.ask(&mut SystemClock, Tag::SetPower, [POWER_USB, POWER_ON_AND_WAIT]);
        let usb_memory = DmaRegion::take(UsbHost::<Registers, DmaRegion>::DMA_BYTES, VIDEOCORE_ALIAS);
        let usb = UsbHost::new(registers(USB), usb_memory, mac);
        let slot = Slot::find(&mut mailbox);
        let mut ask = |tag| mailbox.ask(&mut SystemClock, tag, [0, 0]);
        let emulated = ask(Tag::FirmwareRevision).is_ok_and(|[revision, _]| revision == QEMU_FIRMWARE);
        Self {
            identity: Identity { model: model(revision), revision, serial, memory },
            // QEMU resets at once when the watchdog is set, so it can only be used on a real board.
            watchdog: (!emulated).then(|| PowerManager::new(registers(POWER_MANAGER))),
            mac,
            usb,
            ethernet: None,
            ethernet_shown: false,
            slot,
        }
    }

    /// What the firmware said.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Shows the watchdog that the main loop is alive; `false` when there is none.
    pub(crate) fn feed_watchdog(&mut self) -> bool {
        match &mut self.watchdog {
            Some(watchdog) => {
                watchdog.feed(WATCHDOG_S);
                true
            }
            None => false,
        }
    }

    /// Starts the controllers of the network devices, which then come up by themselves.
    pub(crate) fn start_network(&mut self) -> Result<(), NetworkError> {
        let usb = self.usb.init(&mut SystemClock).map_err(NetworkError::Usb);
        // SAFETY: the revision register, inside the device mapping.
        if chip() == Chip::Bcm2711 && unsafe { answers(GENET) } {
            // SAFETY: the register block of the running chip, inside the device mapping, handed to one driver.
            let registers = unsafe { Registers::new(GENET) };
            // It sees memory as the ARM does.
            let memory = DmaRegion::take(Ethernet::DMA_BYTES, 0);
            let ethernet = Genet::start(registers, memory, SystemClock, self.mac, Options::default());
            self.ethernet = Some(ethernet.map_err(NetworkError::Ethernet)?);
        }
        usb
    }

    /// Drives the network devices and shows each one there is, by number: the Ethernet of a Pi 4 comes first.
    pub(crate) fn for_each_nic(&mut self, now_us: u64, visit: &mut dyn FnMut(usize, &mut dyn Nic)) {
        if let Some(ethernet) = &mut self.ethernet {
            ethernet.poll(now_us);
            visit(0, ethernet);
            if !self.ethernet_shown && now_us >= GENET_PATIENCE_US && !ethernet.link().is_up() {
                self.ethernet_shown = true;
                let mut console = map::uart();
                ethernet.for_each_register(&mut |name, value| {
                    let _ = writeln!(console, "{name:20} {value:08x}");
                });
                // Ends the text for the decoder of the log.
                console.put(0);
            }
        }
        let first = usize::from(self.ethernet.is_some());
        self.usb.poll(now_us);
        if let Some(news) = self.usb.take_news() {
            tell(news);
        }
        for index in 0..NICS {
            if let Some(mut port) = self.usb.port(index) {
                visit(first + index, &mut port);
            }
        }
    }

    /// Reads the file from the SD card.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn read_configuration(&mut self) -> Result<Vec<u8>, Unreadable> {
        self.slot.read_file("portcullis.toml", CONFIGURATION_MAX)
    }

    /// Tests the random number generator and fills `seed` from it.
    pub(crate) fn seed(&mut self, seed: &mut [u8]) -> Result<(), EntropyError> {
        let clock = &mut SystemClock;
        // SAFETY: its control register, inside the device mapping.
        if !unsafe { answers(map::peripherals() + RNG) } {
            return Err(EntropyError::Absent);
        }
        match chip() {
            Chip::Bcm2837 => Entropy::start(Bcm2835Rng(registers(RNG)), clock)?.fill(clock, seed),
            Chip::Bcm2711 => Entropy::start(Rng200(registers(RNG)), clock)?.fill(clock, seed),
        }
    }
}

/// Logs what became of a USB device.
fn tell(news: News) {
    let (vendor, product) = news.device.unwrap_or_default();
    let became = match news.became {
        Became::Hub => "is a hub",
        Became::Network(_) => "is a network adapter",
        Became::OneTooMany => {
            return event!(warn, "usb hub {} port {}: a network adapter too many, left alone", news.hub, news.port);
        }
        Became::Idle => "is of no use here",
        Became::Refused => {
            let why = "does not answer as it should, or is slower than its hub: switched off";
            return event!(warn, "usb hub {} port {}: {:04x}:{:04x} {}", news.hub, news.port, vendor, product, why);
        }
    };
    event!(info, "usb hub {} port {}: {:04x}:{:04x} {}", news.hub, news.port, vendor, product, became);
}

/// Models by bits 4–11 of a new-style revision code (raspberrypi.com, "Raspberry Pi revision codes").
fn model(revision: u32) -> &'static str {
    const NEW_STYLE: u32 = 1 << 23;
    if revision & NEW_STYLE == 0 {
        return "Raspberry Pi";
    }
    match (revision >> 4) & 0xff {
        0x08 => "Raspberry Pi 3 Model B",
        0x0a => "Raspberry Pi Compute Module 3",
        0x0d => "Raspberry Pi 3 Model B+",
        0x0e => "Raspberry Pi 3 Model A+",
        0x11 => "Raspberry Pi 4 Model B",
        0x12 => "Raspberry Pi Zero 2 W",
        0x13 => "Raspberry Pi 400",
        0x14 => "Raspberry Pi Compute Module 4",
        _ => "Raspberry Pi",
    }
}
