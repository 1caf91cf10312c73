//! Generic timer: time since boot, and a heartbeat that ends every `wfe`.

use core::arch::asm;
use rpi_drivers::Clock;

/// The counter every AArch64 core has.
#[derive(Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now_us(&mut self) -> u64 {
        micros()
    }
}

/// Microseconds since the counter was started, which the firmware or QEMU did just before us.
pub(crate) fn micros() -> u64 {
    let (ticks, frequency): (u64, u64);
    // SAFETY: reads two timer registers that EL1 may read; the isb keeps the read in program order.
    unsafe {
        asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags));
        asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack, preserves_flags));
    }
    // A board whose firmware left the frequency unset runs with a wrong clock rather than not at all.
    let frequency = if frequency == 0 { 54_000_000 } else { frequency };
    let micros = u128::from(ticks) * 1_000_000 / u128::from(frequency);
    u64::try_from(micros).unwrap_or(u64::MAX)
}

/// Lets bit 9 of the counter wake a waiting core: every 19 to 53 µs at the 54 and 19.2 MHz of real boards.
pub(crate) fn start_heartbeat() {
    const EVENT_BIT: u64 = 9;
    const ENABLE: u64 = 1 << 2;
    // SAFETY: configures the event stream only; no interrupt follows from it.
    unsafe { asm!("msr cntkctl_el1, {}", "isb", in(reg) EVENT_BIT << 4 | ENABLE, options(nomem, nostack)) };
}

/// Rests until the next heartbeat. The main loop polls: all its devices are either polled by nature (USB frames) or
/// cheap to ask, and without interrupts no code runs between two lines of it. The heartbeat bounds the latency.
pub(crate) fn rest() {
    // SAFETY: waits for an event; `start_heartbeat` makes sure that one comes.
    unsafe { asm!("wfe", options(nomem, nostack, preserves_flags)) };
}
