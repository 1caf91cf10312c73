//! QEMU's virt machine.

pub(crate) const NAME: &str = "QEMU virt";

pub(crate) fn uart_address() -> usize {
    0x0900_0000
}
