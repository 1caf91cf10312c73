//! What a driver needs from the platform: registers, DMA memory, time.

/// One block of 32-bit device registers.
///
/// Reads take `&mut self` because a read may change the device (FIFOs, clear-on-read flags) and a model's state.
pub trait Mmio {
    /// Reads the register `offset` bytes into the block; `offset` is a multiple of 4.
    fn read32(&mut self, offset: usize) -> u32;

    /// Writes the register `offset` bytes into the block; `offset` is a multiple of 4.
    fn write32(&mut self, offset: usize, value: u32);

    /// Makes every earlier access to registers and DMA memory visible to the device, and every earlier write of the
    /// device visible to later reads, before any access that follows (`dsb sy` on AArch64).
    fn barrier(&mut self);

    /// Reads a register, changes the bits under `mask` to those of `value` and writes it back.
    fn modify32(&mut self, offset: usize, mask: u32, value: u32) {
        let old = self.read32(offset);
        self.write32(offset, (old & !mask) | (value & mask));
    }
}

impl<M: Mmio + ?Sized> Mmio for &mut M {
    fn read32(&mut self, offset: usize) -> u32 {
        (**self).read32(offset)
    }
    fn write32(&mut self, offset: usize, value: u32) {
        (**self).write32(offset, value);
    }
    fn barrier(&mut self) {
        (**self).barrier();
    }
}

/// A region of memory shared with a device, never cached by the CPU.
///
/// The platform places it in a section mapped normal non-cacheable, so no driver does cache maintenance; the order of
/// accesses is still the driver's business ([`Mmio::barrier`]). Bytes are copied in and out instead of being lent as a
/// slice: the device may change them at any time, which a Rust reference does not allow.
///
/// An access outside the region is a fault of the driver: it reads zeros, writes nothing, and trips a debug assertion.
pub trait DmaMemory {
    /// Length of the region in bytes.
    fn len(&self) -> usize;

    /// Whether the region has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Address of the first byte as the device sees it, at least 64-byte aligned.
    fn bus_address(&self) -> u64;

    /// Copies bytes starting at `offset` out of the region.
    fn read(&self, offset: usize, to: &mut [u8]);

    /// Copies bytes into the region starting at `offset`.
    fn write(&mut self, offset: usize, from: &[u8]);

    /// Reads a little-endian word with one access; `offset` is a multiple of 4.
    fn read32(&self, offset: usize) -> u32;

    /// Writes a little-endian word with one access; `offset` is a multiple of 4.
    fn write32(&mut self, offset: usize, value: u32);
}

/// Monotonic time.
pub trait Clock {
    /// Microseconds since boot.
    fn now_us(&mut self) -> u64;

    /// Returns after at least `us` microseconds.
    fn delay_us(&mut self, us: u64) {
        let start = self.now_us();
        while self.now_us().saturating_sub(start) < us {
            core::hint::spin_loop();
        }
    }
}

impl<C: Clock + ?Sized> Clock for &mut C {
    fn now_us(&mut self) -> u64 {
        (**self).now_us()
    }
}

/// A device did not do in time what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

/// Asks `done` again and again until it says yes, for at most `limit_us` microseconds.
///
/// `done` is asked once more after the limit, so that a wait that was itself delayed does not fail falsely.
///
/// # Errors
/// [`TimedOut`] when the limit passes first.
pub fn wait_until<C: Clock + ?Sized>(
    clock: &mut C,
    limit_us: u64,
    mut done: impl FnMut() -> bool,
) -> Result<(), TimedOut> {
    let start = clock.now_us();
    loop {
        if done() {
            return Ok(());
        }
        if clock.now_us().saturating_sub(start) >= limit_us {
            return if done() { Ok(()) } else { Err(TimedOut) };
        }
        core::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ticking(u64);
    impl Clock for Ticking {
        fn now_us(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
    }

    #[test]
    fn a_wait_ends_when_the_device_never_answers() {
        let mut asked = 0;
        assert_eq!(
            wait_until(&mut Ticking(0), 100, || {
                asked += 1;
                false
            }),
            Err(TimedOut)
        );
        assert!((100..=102).contains(&asked), "asked {asked} times");
    }

    #[test]
    fn a_wait_ends_as_soon_as_the_device_answers() {
        let mut clock = Ticking(0);
        let mut left = 3;
        assert_eq!(
            wait_until(&mut clock, 100, || {
                left -= 1;
                left == 0
            }),
            Ok(())
        );
        assert!(clock.0 < 5);
    }

    #[test]
    fn a_delay_lasts_at_least_as_long_as_asked() {
        let mut clock = Ticking(0);
        clock.delay_us(50);
        assert!(clock.0 >= 50);
    }
}
