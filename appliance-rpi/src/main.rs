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
use rpi_drivers::Link;

global_asm!(include_str!("boot.s"));

/// Which commit this was built from.
pub(crate) const BUILD: &str = match option_env!("PORTCULLIS_BUILD") {
    Some(build) => build,
    None => "unknown",
};

/// Network devices that are shown on the console.
const MAX_NICS: usize = 4;
/// Longest Ethernet frame with a VLAN tag, without FCS, rounded up.
const MAX_FRAME: usize = 1522;

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
    let mut console = board::uart();
    if let Err(error) = board.start_network() {
        let _ = writeln!(console, "network: {error:?}");
    }
    let mut links = [Link::Down; MAX_NICS];
    let mut frame = [0; MAX_FRAME];
    loop {
        board.feed_watchdog();
        board.for_each_nic(clock::micros(), &mut |index, nic| {
            if let Some(shown) = links.get_mut(index).filter(|shown| **shown != nic.link()) {
                *shown = nic.link();
                let _ = writeln!(console, "nic {index}: {} {shown:?}", nic.mac());
            }
            while let Some(length) = nic.receive(&mut frame) {
                if nic.counters().rx_frames == 1 {
                    let _ = writeln!(console, "nic {index}: first frame, {length} octets");
                }
            }
        });
        clock::rest();
    }
}
