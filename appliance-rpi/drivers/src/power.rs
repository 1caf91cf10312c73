//! Power manager of the BCM2835 family: watchdog and reset.

use crate::Mmio;

// Offsets, password and bits agree in RTEMS (bsps/arm/raspberrypi), QEMU (hw/misc/bcm2835_powermgt.c) and Zephyr.
const RSTC: usize = 0x1c;
const WDOG: usize = 0x24;
const PASSWORD: u32 = 0x5a00_0000;
const RSTC_CONFIGURATION: u32 = 0x30;
const RSTC_FULL_RESET: u32 = 0x20;
/// The counter has 20 bits and runs at 65,536 Hz: about 16 s.
const WDOG_MAX: u32 = 0xf_ffff;
const TICKS_PER_SECOND: u32 = 65_536;

/// The watchdog and reset registers.
#[derive(Debug)]
pub struct PowerManager<M> {
    registers: M,
}

impl<M: Mmio> PowerManager<M> {
    /// `registers` is the power-manager block (peripherals + 0x100000).
    pub fn new(registers: M) -> Self {
        Self { registers }
    }

    /// Resets the board unless this is called again within `seconds` (at most 15).
    pub fn feed(&mut self, seconds: u32) {
        self.start(seconds.saturating_mul(TICKS_PER_SECOND));
    }

    /// Resets the board within about 150 µs.
    pub fn reset(&mut self) {
        self.start(10);
    }

    fn start(&mut self, ticks: u32) {
        self.registers.write32(WDOG, PASSWORD | ticks.min(WDOG_MAX));
        let configuration = self.registers.read32(RSTC) & !(RSTC_CONFIGURATION | 0xff00_0000);
        self.registers.write32(RSTC, PASSWORD | configuration | RSTC_FULL_RESET);
        self.registers.barrier();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Model {
        wdog: u32,
        rstc: u32,
    }

    impl Mmio for Model {
        fn read32(&mut self, offset: usize) -> u32 {
            assert_eq!(offset, RSTC);
            self.rstc
        }
        fn write32(&mut self, offset: usize, value: u32) {
            assert_eq!(value >> 24, 0x5a, "without the password the block ignores a write");
            match offset {
                WDOG => self.wdog = value & 0xff_ffff,
                RSTC => self.rstc = value & 0xff_ffff,
                _ => panic!("write of {offset:#x}"),
            }
        }
        fn barrier(&mut self) {}
    }

    #[test]
    fn feeding_sets_time_and_full_reset_and_keeps_the_rest() {
        let mut model = Model { wdog: 0, rstc: 0x112 };
        PowerManager::new(&mut model).feed(8);
        assert_eq!(model.wdog, 8 * 65_536);
        assert_eq!(model.rstc, 0x122);
    }

    #[test]
    fn a_time_beyond_the_counter_is_cut_not_wrapped() {
        let mut model = Model::default();
        PowerManager::new(&mut model).feed(1_000);
        assert_eq!(model.wdog, 0xf_ffff);
    }
}
