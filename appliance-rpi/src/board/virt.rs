//! QEMU's virt machine. Addresses are those of QEMU's hw/arm/virt.c; the machine promises to keep them.

use super::face::{CONFIGURATION_MAX, Identity, PORTS, Unreadable};
use crate::clock::SystemClock;
use crate::map::RAM;
use crate::mmio::{DmaRegion, Registers};
use alloc::vec::Vec;
use core::arch::asm;
use rpi_drivers::Nic;
use rpi_drivers::entropy::EntropyError;
use rpi_drivers::virtio_net::{self, ProbeError, VirtioNet};

pub(crate) mod bench;
mod fw_cfg;

const VIRTIO: usize = 0x0a00_0000;
const VIRTIO_SLOT: usize = 0x200;
const VIRTIO_SLOTS: usize = 32;

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

type Port = VirtioNet<Registers, DmaRegion>;

/// The devices of the machine that the main loop drives.
pub(crate) struct Board {
    ports: [Option<Port>; PORTS],
}

impl Board {
    /// Finds the machine.
    pub(crate) fn start() -> Self {
        Self { ports: [const { None }; PORTS] }
    }

    /// What can be said of an emulated machine.
    pub(crate) fn identity(&self) -> Identity {
        Identity { model: "QEMU virt", memory: RAM as u32, ..Identity::default() }
    }

    /// The machine has no watchdog.
    pub(crate) fn feed_watchdog(&mut self) -> bool {
        false
    }

    /// Starts the network devices. QEMU fills the slots from the last one down, in the order of its command line.
    ///
    /// # Errors
    /// The first device that does not start; the others are tried all the same.
    pub(crate) fn start_network(&mut self) -> Result<(), ProbeError> {
        let mut outcome = Ok(());
        let devices = (0..VIRTIO_SLOTS).rev().filter_map(|slot| {
            // SAFETY: one of the machine's virtio-mmio slots, which answer even when they are empty.
            let mut registers = unsafe { Registers::new(VIRTIO + slot * VIRTIO_SLOT) };
            Port::is_present(&mut registers).then_some(registers)
        });
        for (port, registers) in self.ports.iter_mut().zip(devices) {
            match VirtioNet::start(registers, DmaRegion::take(virtio_net::DMA_LEN, 0), &mut SystemClock) {
                Ok(nic) => *port = Some(nic),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    /// Drives the network devices and shows each one there is, by number.
    pub(crate) fn for_each_nic(&mut self, now_us: u64, visit: &mut dyn FnMut(usize, &mut dyn Nic)) {
        for (number, port) in self.ports.iter_mut().enumerate() {
            if let Some(port) = port {
                port.poll(now_us);
                visit(number, port);
            }
        }
    }

    /// Reads the file QEMU was given with `-fw_cfg name=opt/portcullis.toml,file=…`.
    pub(crate) fn read_configuration(&mut self) -> Result<Vec<u8>, Unreadable> {
        fw_cfg::read("opt/portcullis.toml", CONFIGURATION_MAX).ok_or_else(|| Unreadable::from("QEMU was given none"))
    }

    /// The machine has no random number generator.
    pub(crate) fn seed(&mut self, _seed: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError::Absent)
    }
}
