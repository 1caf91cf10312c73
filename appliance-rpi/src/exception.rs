//! CPU exceptions: none is expected, so each ends in a report.

use core::arch::asm;

/// What `boot.s` saves on the stack: x0–x30 and the stack pointer before the exception.
#[repr(C)]
pub(crate) struct Registers {
    x: [u64; 31],
    sp: u64,
}

const KINDS: [&str; 4] = ["synchronous", "IRQ", "FIQ", "SError"];

/// Entered from the vector table with the vector's number.
#[unsafe(no_mangle)]
extern "C" fn exception(number: usize, registers: &Registers) -> ! {
    let (esr, elr, far): (u64, u64, u64);
    // SAFETY: reads three system registers of the current level, no side effect.
    unsafe {
        asm!("mrs {}, esr_el1", out(reg) esr);
        asm!("mrs {}, elr_el1", out(reg) elr);
        asm!("mrs {}, far_el1", out(reg) far);
    }
    let kind = KINDS.get(number % 4).copied().unwrap_or("unknown");
    panic!(
        "{kind} exception: ESR {esr:#010x} ELR {elr:#010x} FAR {far:#010x} x30 {:#x} SP {:#x}",
        registers.x[30], registers.sp
    );
}
