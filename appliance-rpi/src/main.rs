//! Portcullis for Raspberry Pi: an image that boots without an operating system.
#![no_std]
#![no_main]

mod board;
mod exception;
mod uart;

use core::arch::global_asm;
use core::fmt::Write;

global_asm!(include_str!("boot.s"));

/// Entered from `boot.s` on core 0 at EL1 with stack and zeroed bss; MMU and caches are still off.
#[unsafe(no_mangle)]
extern "C" fn start(_device_tree: usize, entry_level: u64) -> ! {
    let mut uart = board::uart();
    let _ = writeln!(uart, "\nPortcullis {} on {}, entered at EL{entry_level}", env!("CARGO_PKG_VERSION"), board::NAME);
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let mut uart = board::uart();
    let _ = writeln!(uart, "\n{info}");
    uart.drain();
    loop {
        core::hint::spin_loop();
    }
}
