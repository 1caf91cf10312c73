//! Portcullis for Raspberry Pi: an image that boots without an operating system.
//!
//! `boot.s` brings core 0 to EL1 and here. [`start`] maps memory, says who we are and enters the main loop, which is
//! all there is: no interrupts, no other cores.
#![no_std]
#![no_main]

extern crate alloc;

mod board;
mod clock;
mod configuration;
mod crash;
mod exception;
mod heap;
mod log;
mod map;
mod memory;
mod mmio;
mod mmu;
mod run;
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
#[cfg_attr(not(feature = "virt"), expect(dead_code, reason = "only PSCI has to know"))]
pub(crate) fn entry_level() -> u64 {
    ENTRY_LEVEL.load(Ordering::Relaxed)
}

unsafe extern "C" {
    static __image_start: u8;
    static __heap_start: u8;
    static __uncached_start: u8;
    static __uncached_end: u8;
}

/// Octets of the image, its static data, stacks and the section devices share; without the heap.
pub(crate) fn fixed_memory() -> usize {
    let cached = (&raw const __heap_start) as usize - (&raw const __image_start) as usize;
    cached + (&raw const __uncached_end) as usize - (&raw const __uncached_start) as usize
}

/// Entered from `boot.s` on core 0 at EL1 with stack and zeroed bss; MMU and caches are still off.
#[unsafe(no_mangle)]
extern "C" fn start(_device_tree: usize, entry_level: u64) -> ! {
    // SAFETY: the first things that happen, on the only running core.
    unsafe {
        mmu::enable();
        heap::start();
    }
    ENTRY_LEVEL.store(entry_level, Ordering::Relaxed);
    clock::start();
    let board = Board::start();
    let crash = crash::take();

    // Plain text first, so that a person with a terminal sees life; what follows is defmt's.
    let mut console = map::uart();
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
    #[cfg(feature = "virt")]
    if board::bench::is_wanted() {
        board::bench::run(board);
    }
    // Ends the text for the decoder, which takes it for a broken frame.
    console.put(0);
    run::run(board, crash)
}
