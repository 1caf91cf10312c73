//! QEMU's virt machine. Addresses are those of QEMU's hw/arm/virt.c; the machine promises to keep them.

use crate::memory::Memory;

pub(super) fn uart_address() -> usize {
    0x0900_0000
}

/// RAM that is used of what the machine has; QEMU gives 128 MiB when not told otherwise.
pub(crate) const RAM: usize = 128 << 20;

/// What the memory map holds at `address`; the image's own pages are decided in `mmu`.
pub(crate) fn memory_at(address: usize) -> Memory {
    const RAM_START: usize = 0x4000_0000;
    if address < RAM_START {
        Memory::Device
    } else if address < RAM_START + RAM {
        Memory::Normal
    } else {
        Memory::None
    }
}
