//! What stands where in the machine, as far as it is used before there is a board: two files with one face, as there.

use crate::uart::Uart;

#[cfg(not(feature = "virt"))]
mod raspi;
#[cfg(feature = "virt")]
mod virt;

#[cfg(not(feature = "virt"))]
use raspi as machine;
#[cfg(feature = "virt")]
use virt as machine;

#[cfg(feature = "virt")]
pub(crate) use machine::RAM;
pub(crate) use machine::memory_at;
#[cfg(not(feature = "virt"))]
pub(crate) use machine::{Chip, chip, peripherals};

/// The serial console; usable from the first instruction on.
pub(crate) fn uart() -> Uart {
    // SAFETY: the machine's PL011, mapped as device memory once the MMU is on.
    unsafe { Uart::new(machine::uart_address()) }
}
