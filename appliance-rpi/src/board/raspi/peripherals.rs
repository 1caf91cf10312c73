//! Blocks of registers by their distance from the start of the peripherals, and the pins.

use crate::map::peripherals;
use crate::mmio::Registers;
use core::ops::RangeInclusive;
use rpi_drivers::Mmio;

/// Distance of the pins' registers ("BCM2835 ARM Peripherals", QEMU hw/arm/raspi_platform.h).
const GPIO: usize = 0x20_0000;

/// A block of the chip's registers.
pub(super) fn registers(offset: usize) -> Registers {
    // SAFETY: a documented block of the running chip, inside the device mapping; `Board` hands each to one driver.
    unsafe { Registers::new(peripherals() + offset) }
}

// Functions of a pin, three bits in a register for ten pins ("BCM2835 ARM Peripherals" §6.1).
pub(super) const INPUT: u32 = 0;
pub(super) const ALT0: u32 = 4;
pub(super) const ALT3: u32 = 7;

/// Register and position of a pin's function.
fn function_of(pin: usize) -> (usize, usize) {
    (pin / 10 * 4, pin % 10 * 3)
}

/// Gives pins a function.
pub(super) fn set_functions(pins: RangeInclusive<usize>, function: u32) {
    for (register, shift) in pins.map(function_of) {
        registers(GPIO).modify32(register, 7 << shift, function << shift);
    }
}

/// Whether pins have a function.
pub(super) fn have_function(mut pins: RangeInclusive<usize>, function: u32) -> bool {
    pins.all(|pin| {
        let (register, shift) = function_of(pin);
        registers(GPIO).read32(register) >> shift & 7 == function
    })
}
