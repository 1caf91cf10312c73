//! QEMU's virt machine. Addresses are those of QEMU's hw/arm/virt.c; the machine promises to keep them.

use super::Identity;
use crate::mmu::Memory;
use core::arch::asm;
use rpi_drivers::Nic;
use rpi_drivers::entropy::EntropyError;

pub(super) fn uart_address() -> usize {
    0x0900_0000
}

/// RAM that is used of what the machine has; QEMU gives 128 MiB when not told otherwise.
const RAM: usize = 128 << 20;

pub(super) fn memory_at(address: usize) -> Memory {
    const RAM_START: usize = 0x4000_0000;
    if address < RAM_START {
        Memory::Device
    } else if address < RAM_START + RAM {
        Memory::Normal
    } else {
        Memory::None
    }
}

/// Resets the machine; usable at any time.
pub(crate) fn reset() -> ! {
    /// PSCI SYSTEM_RESET (Arm DEN0022 §5.1).
    const SYSTEM_RESET: u64 = 0x8400_0009;
    // SAFETY: the call does not return. QEMU answers PSCI at HVC where we came in at EL1 and at SMC where there is an
    // EL2 below us; the wrong one is an exception, so the level at entry decides.
    unsafe {
        if crate::entry_level() == 1 {
            asm!("hvc #0", in("x0") SYSTEM_RESET);
        } else {
            asm!("smc #0", in("x0") SYSTEM_RESET);
        }
    }
    loop {
        core::hint::spin_loop();
    }
}

/// The devices of the machine that the main loop drives.
pub(crate) struct Board {}

impl Board {
    /// Finds the devices.
    pub(crate) fn start() -> Self {
        Self {}
    }

    /// What can be said of an emulated machine.
    pub(crate) fn identity(&self) -> Identity {
        Identity { model: "QEMU virt", memory: RAM as u32, ..Identity::default() }
    }

    /// The machine has no watchdog.
    pub(crate) fn feed_watchdog(&mut self) -> bool {
        false
    }

    /// No network device is driven here yet.
    pub(crate) fn start_network(&mut self) -> Result<(), core::convert::Infallible> {
        Ok(())
    }

    /// No network device is driven here yet.
    pub(crate) fn for_each_nic(&mut self, _now_us: u64, _visit: &mut dyn FnMut(usize, &mut dyn Nic)) {}

    /// The machine has no random number generator.
    pub(crate) fn seed(&mut self, _seed: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError::Absent)
    }
}
