//! Raspberry Pi 3, Zero 2 W and 4, told apart at run time.

use crate::memory::Memory;
use core::arch::asm;

/// Distance of the PL011 from the start of the peripherals ("BCM2835 ARM Peripherals", QEMU hw/arm/raspi_platform.h).
const UART: usize = 0x20_1000;

/// The two families of system chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chip {
    /// Pi 3, Zero 2 W: BCM2837.
    Bcm2837,
    /// Pi 4: BCM2711.
    Bcm2711,
}

/// The family of this one.
pub(crate) fn chip() -> Chip {
    const CORTEX_A72: u64 = 0xd08;
    let midr: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, midr_el1", out(reg) midr, options(nomem, nostack, preserves_flags)) };
    if (midr >> 4) & 0xfff == CORTEX_A72 { Chip::Bcm2711 } else { Chip::Bcm2837 }
}

/// Where its peripherals start.
pub(crate) fn peripherals() -> usize {
    match chip() {
        Chip::Bcm2837 => 0x3f00_0000,
        Chip::Bcm2711 => 0xfe00_0000,
    }
}

pub(super) fn uart_address() -> usize {
    peripherals() + UART
}

/// What the memory map holds at `address`; the image's own pages are decided in `mmu`.
pub(crate) fn memory_at(address: usize) -> Memory {
    match address {
        // The firmware keeps at most the 64 MiB below 1 GiB for itself (gpu_mem=32).
        0..0x3c00_0000 => Memory::Normal,
        // Peripherals of the Pi 3, and its ARM-local ones in the next GiB.
        0x3c00_0000..0x8000_0000 => Memory::Device,
        // Peripherals of the Pi 4.
        0xc000_0000..0x1_0000_0000 => Memory::Device,
        _ => Memory::None,
    }
}
