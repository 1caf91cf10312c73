//! The machine underneath: two files with the same face, one for Raspberry Pi, one for QEMU virt.

use crate::mmu::Memory;
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
pub(crate) use machine::bench;
pub(crate) use machine::{Board, reset};

/// Network ports that are used; more are left alone.
pub(crate) const PORTS: usize = rpi_services::configuration::PORTS_MAX as usize;

/// Octets of a configuration file that are read.
pub(crate) const CONFIGURATION_MAX: usize = 64 * 1024;

/// What the board says of itself; unknown things are absent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity {
    /// Model in words.
    pub(crate) model: &'static str,
    /// Revision code.
    pub(crate) revision: u32,
    /// Serial number.
    pub(crate) serial: u64,
    /// Octets of memory the ARM may use below the firmware's share.
    pub(crate) memory: u32,
}

/// The serial console; usable from the first instruction on.
pub(crate) fn uart() -> Uart {
    // SAFETY: the machine's PL011, mapped as device memory once the MMU is on.
    unsafe { Uart::new(machine::uart_address()) }
}

/// What the memory map holds at `address`; the image's own pages are decided in `mmu`.
pub(crate) fn memory_at(address: usize) -> Memory {
    machine::memory_at(address)
}
