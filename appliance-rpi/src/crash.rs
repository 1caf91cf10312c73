//! Panics and CPU exceptions: a report on the console, kept through the reset, shown at the next boot.

use crate::{board, map};
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

const MAGIC: u32 = 0x504f_5354;
const ROOM: usize = 2048;

/// What lies in the part of RAM that a reset does not touch and no boot clears.
#[repr(C)]
struct Kept {
    magic: u32,
    len: u32,
    checksum: u32,
    text: [u8; ROOM],
}

#[repr(C, align(64))]
struct Place(UnsafeCell<Kept>);

// SAFETY: written by a panic that never returns and read once at boot, both on the only running core.
unsafe impl Sync for Place {}

#[unsafe(link_section = ".crash")]
static PLACE: Place = Place(UnsafeCell::new(Kept { magic: 0, len: 0, checksum: 0, text: [0; ROOM] }));

/// A report in memory of our own, cut at its room.
pub(crate) struct Report {
    text: [u8; ROOM],
    len: usize,
}

impl Report {
    const fn empty() -> Self {
        Self { text: [0; ROOM], len: 0 }
    }

    /// The report as text.
    pub(crate) fn text(&self) -> &str {
        match str::from_utf8(self.text.get(..self.len).unwrap_or(&[])) {
            Ok(text) => text,
            // Cut in the middle of a character.
            Err(error) => str::from_utf8(self.text.get(..error.valid_up_to()).unwrap_or(&[])).unwrap_or(""),
        }
    }
}

impl Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (to, from) in self.text.iter_mut().skip(self.len).zip(text.bytes()) {
            *to = from;
            self.len += 1;
        }
        Ok(())
    }
}

fn checksum(text: &[u8]) -> u32 {
    // FNV-1a: RAM that lost power in between holds anything.
    text.iter().fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193))
}

fn keep(report: &Report) {
    let text = report.text().as_bytes();
    let mut kept = Kept { magic: MAGIC, len: text.len() as u32, checksum: checksum(text), text: [0; ROOM] };
    for (to, from) in kept.text.iter_mut().zip(text) {
        *to = *from;
    }
    // SAFETY: see `Place`.
    unsafe { ptr::write_volatile(PLACE.0.get(), kept) };
    crate::mmio::barrier();
}

/// Takes the report the last boot left, if it left one.
pub(crate) fn take() -> Option<Report> {
    // SAFETY: see `Place`; every bit pattern is a valid `Kept`.
    let kept = unsafe { ptr::read_volatile(PLACE.0.get()) };
    // SAFETY: as above.
    unsafe { ptr::write_volatile(&raw mut (*PLACE.0.get()).magic, 0) };
    let text = kept.text.get(..kept.len as usize)?;
    if kept.magic != MAGIC || kept.checksum != checksum(text) {
        return None;
    }
    let mut report = Report::empty();
    let _ = report.write_str(str::from_utf8(text).ok()?);
    Some(report)
}

unsafe extern "C" {
    static __stack_bottom: u8;
    static __stack_top: u8;
}

/// Writes the return addresses found along the frame pointers.
fn backtrace(report: &mut Report, mut frame: usize) {
    let stack = (&raw const __stack_bottom) as usize..(&raw const __stack_top) as usize;
    let _ = write!(report, "backtrace:");
    for _ in 0..32 {
        if !frame.is_multiple_of(16) || !stack.contains(&frame) {
            break;
        }
        // SAFETY: aligned and inside the stack, whose end is a multiple of 16 above.
        let (next, back) = unsafe { (*(frame as *const usize), *((frame + 8) as *const usize)) };
        if back == 0 {
            break;
        }
        let _ = write!(report, " {back:#x}");
        // The stack grows down, so callers lie higher; anything else would be a loop.
        if next <= frame {
            break;
        }
        frame = next;
    }
    let _ = writeln!(report);
}

static REPORTING: AtomicBool = AtomicBool::new(false);

/// Reports, keeps the report, and resets the board.
pub(crate) fn die(what: fmt::Arguments<'_>, frame: usize) -> ! {
    let mut uart = map::uart();
    if REPORTING.swap(true, Ordering::Relaxed) {
        let _ = writeln!(uart, "\nfault while reporting a fault");
        board::reset();
    }
    let mut report = Report::empty();
    let _ = writeln!(report, "{what}");
    let _ = writeln!(report, "build {} after {} ms", crate::BUILD, crate::clock::micros() / 1000);
    backtrace(&mut report, frame);
    // The zeros end a log frame that may be under way.
    uart.put(0);
    let _ = writeln!(uart, "\n*** fault ***\n{}*** reset ***", report.text());
    uart.drain();
    keep(&report);
    board::reset()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let frame: usize;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    die(format_args!("{info}"), frame)
}
