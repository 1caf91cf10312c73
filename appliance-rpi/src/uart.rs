//! PL011 serial port, transmit side only, 115,200 baud.

use core::fmt;
use core::ptr;

const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const FLAGS_TX_FULL: u32 = 1 << 5;
const FLAGS_BUSY: u32 = 1 << 3;
const INTEGER_DIVISOR: usize = 0x24;
const FRACTIONAL_DIVISOR: usize = 0x28;
const LINE_CONTROL: usize = 0x2c;
const LINE_8N1_FIFO: u32 = 0x70;
const CONTROL: usize = 0x30;
const CONTROL_ENABLE: u32 = 0x301;
const BAUD: u32 = 115_200;

/// How often a full FIFO is asked before a character is given up: far more than one character time at 115,200 baud.
const PATIENCE: u32 = 1_000_000;

/// The serial port. A value is only a register address; whoever holds one writes.
#[derive(Clone, Copy)]
pub(crate) struct Uart {
    base: usize,
}

impl Uart {
    /// # Safety
    /// `base` is the address of a PL011 that is mapped as device memory (or the MMU is off).
    pub(crate) const unsafe fn new(base: usize) -> Self {
        Self { base }
    }

    fn read(self, offset: usize) -> u32 {
        // SAFETY: `new` was promised a PL011 here; its registers are 32 bits wide and aligned.
        unsafe { ptr::read_volatile((self.base + offset) as *const u32) }
    }

    fn write(self, offset: usize, value: u32) {
        // SAFETY: as for `read`; writing the data register has no effect on memory.
        unsafe { ptr::write_volatile((self.base + offset) as *mut u32, value) }
    }

    /// Sets 115,200 baud, 8 data bits, no parity, from a reference clock of `hz`.
    #[cfg_attr(feature = "virt", expect(dead_code, reason = "QEMU's port has no speed"))]
    pub(crate) fn set_rate(self, hz: u32) {
        // The divisor is in 1/64: hz / (16 × baud) × 64.
        let divisor = (hz.saturating_mul(4) + BAUD / 2) / BAUD;
        self.drain();
        self.write(CONTROL, 0);
        self.write(INTEGER_DIVISOR, divisor >> 6);
        self.write(FRACTIONAL_DIVISOR, divisor & 0x3f);
        self.write(LINE_CONTROL, LINE_8N1_FIFO);
        self.write(CONTROL, CONTROL_ENABLE);
    }

    /// Sends one octet; drops it when the port does not drain.
    pub(crate) fn put(self, octet: u8) {
        for _ in 0..PATIENCE {
            if self.read(FLAGS) & FLAGS_TX_FULL == 0 {
                self.write(DATA, u32::from(octet));
                return;
            }
        }
    }

    /// Waits, within bounds, until the last octet has left the FIFO.
    pub(crate) fn drain(self) {
        for _ in 0..PATIENCE {
            if self.read(FLAGS) & FLAGS_BUSY == 0 {
                return;
            }
        }
    }
}

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for octet in text.bytes() {
            if octet == b'\n' {
                self.put(b'\r');
            }
            self.put(octet);
        }
        Ok(())
    }
}
