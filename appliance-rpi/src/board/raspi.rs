//! Raspberry Pi 3, Zero 2 W and 4.

use core::arch::asm;

pub(crate) const NAME: &str = "Raspberry Pi";

/// Part number of the Cortex-A72 in MIDR_EL1; what has it is a Pi 4, anything else a Pi 3 or Zero 2 W (Cortex-A53).
const CORTEX_A72: u64 = 0xd08;

/// Where the peripherals are in the ARM's view.
pub(crate) fn peripherals() -> usize {
    let midr: u64;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, midr_el1", out(reg) midr, options(nomem, nostack, preserves_flags)) };
    if (midr >> 4) & 0xfff == CORTEX_A72 { 0xfe00_0000 } else { 0x3f00_0000 }
}

pub(crate) fn uart_address() -> usize {
    peripherals() + 0x20_1000
}
