//! The machine underneath.

use crate::uart::Uart;

#[cfg(not(feature = "virt"))]
mod raspi;
#[cfg(feature = "virt")]
mod virt;

#[cfg(not(feature = "virt"))]
use raspi as machine;
#[cfg(feature = "virt")]
use virt as machine;

pub(crate) use machine::NAME;

/// The serial console; usable from the first instruction on.
pub(crate) fn uart() -> Uart {
    // SAFETY: the machine's PL011, mapped as device memory once the MMU is on.
    unsafe { Uart::new(machine::uart_address()) }
}
