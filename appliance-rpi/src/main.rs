//! Portcullis for Raspberry Pi: an image that boots without an operating system.
//!
//! `boot.s` brings core 0 to EL1 and here. [`start`] maps memory, says who we are and enters the main loop, which is
//! all there is: no interrupts, no other cores.
#![no_std]
#![no_main]

mod board;
mod clock;
mod crash;
mod exception;
mod mmio;
mod mmu;
mod uart;

use board::Board;
use core::arch::global_asm;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

global_asm!(include_str!("boot.s"));

/// Which commit this was built from.
pub(crate) const BUILD: &str = match option_env!("PORTCULLIS_BUILD") {
    Some(build) => build,
    None => "unknown",
};

static ENTRY_LEVEL: AtomicU64 = AtomicU64::new(0);

/// The exception level at which the firmware handed over.
pub(crate) fn entry_level() -> u64 {
    ENTRY_LEVEL.load(Ordering::Relaxed)
}

/// Entered from `boot.s` on core 0 at EL1 with stack and zeroed bss; MMU and caches are still off.
#[unsafe(no_mangle)]
extern "C" fn start(_device_tree: usize, entry_level: u64) -> ! {
    // SAFETY: the first thing that happens, on the only running core.
    unsafe { mmu::enable() };
    ENTRY_LEVEL.store(entry_level, Ordering::Relaxed);
    clock::start_heartbeat();
    let board = Board::start();
    let crash = crash::take();

    let mut console = board::uart();
    let identity = board.identity();
    let _ = writeln!(
        console,
        "\nPortcullis {} build {BUILD} on {}, revision {:x}, entered at EL{entry_level}",
        env!("CARGO_PKG_VERSION"),
        identity.model,
        identity.revision,
    );
    if let Some(report) = &crash {
        let _ = writeln!(console, "--- the last run ended with\n{}---", report.text());
    }
    run(board)
}

fn run(mut board: Board) -> ! {
    loop {
        board.feed_watchdog();
        clock::rest();
    }
}
