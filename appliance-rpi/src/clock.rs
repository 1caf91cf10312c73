//! Generic timer: time since boot, and a heartbeat that ends every `wfe`.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use rpi_drivers::Clock;

/// The counter every AArch64 core has.
#[derive(Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now_us(&mut self) -> u64 {
        micros()
    }
}

/// The counter at boot: a reset does not set it back everywhere.
static START: AtomicU64 = AtomicU64::new(0);

fn ticks() -> u64 {
    let ticks;
    // SAFETY: reads a timer register that EL1 may read; the isb keeps the read in program order.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// Microseconds since [`start`].
pub(crate) fn micros() -> u64 {
    since_start(1_000_000)
}

/// Nanoseconds since [`start`], in steps of a tick.
#[cfg_attr(not(feature = "virt"), expect(dead_code, reason = "only instructions are counted so finely"))]
pub(crate) fn nanos() -> u64 {
    since_start(1_000_000_000)
}

fn since_start(units_a_second: u64) -> u64 {
    let frequency: u64;
    // SAFETY: reads a timer register that EL1 may read.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack, preserves_flags)) };
    let ticks = ticks().wrapping_sub(START.load(Ordering::Relaxed));
    // A board whose firmware left the frequency unset runs with a wrong clock rather than not at all.
    let frequency = if frequency == 0 { 54_000_000 } else { frequency };
    let units = u128::from(ticks) * u128::from(units_a_second) / u128::from(frequency);
    u64::try_from(units).unwrap_or(u64::MAX)
}

/// Begins to count, and lets bit 9 of the counter wake a waiting core: every 19 to 53 µs at the 54 and 19.2 MHz of real boards.
pub(crate) fn start() {
    START.store(ticks(), Ordering::Relaxed);
    const EVENT_BIT: u64 = 9;
    const ENABLE: u64 = 1 << 2;
    // SAFETY: configures the event stream only; no interrupt follows from it.
    unsafe { asm!("msr cntkctl_el1, {}", "isb", in(reg) EVENT_BIT << 4 | ENABLE, options(nomem, nostack)) };
}

/// Rests until the next heartbeat. The main loop polls: all its devices are either polled by nature (USB frames) or
/// cheap to ask, and without interrupts no code runs between two lines of it. The heartbeat bounds the latency.
pub(crate) fn rest() {
    // SAFETY: waits for an event; `start` makes sure that one comes.
    unsafe { asm!("wfe", options(nomem, nostack, preserves_flags)) };
}
