//! The machine: where it begins, its debugger's console, and the high-water mark of the stack.

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};

// The vector table of an Armv7-M: stack, then where it begins. The floating-point unit is switched on first, for its
// registers are used to move memory (Armv7-M Architecture Reference Manual, B3.2.20).
global_asm!(
    ".section .vectors, \"a\"",
    ".word stack_top",
    ".word start",
    ".rept 14",
    ".word fault",
    ".endr",
    ".section .text.start, \"ax\"",
    ".thumb",
    ".global start",
    ".type start, %function",
    "start:",
    "ldr r0, =0xe000ed88",
    "ldr r1, [r0]",
    "orr r1, r1, #0xf00000",
    "str r1, [r0]",
    "dsb",
    "isb",
    "bl entry",
    ".type fault, %function",
    "fault:",
    "b fault",
    ".ltorg",
);

unsafe extern "C" {
    static mut stack_low: u32;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Makes `$work` the whole program.
#[macro_export]
macro_rules! program {
    ($work:expr) => {
        /// Where the program begins.
        #[unsafe(no_mangle)]
        pub extern "C" fn entry() -> ! {
            $work;
            $crate::machine::exit()
        }
    };
}

const PAINT: u32 = 0x5741_11ed;
/// Octets of the stack.
const STACK: usize = 0x10000;

/// Paints the stack from its low end up to where we are.
#[inline(never)]
pub fn paint() {
    let here: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) here) };
    let low = &raw mut stack_low;
    // A little distance to our own frame.
    let words = here.saturating_sub(low as usize).saturating_sub(64) / 4;
    for index in 0..words {
        // SAFETY: between the low end of the stack and our frame there is nothing.
        unsafe { low.add(index).write_volatile(PAINT) };
    }
}

/// Octets from the stack's high end that were used since it was painted. Interrupts there are none.
pub fn used() -> usize {
    let low = &raw const stack_low;
    // SAFETY: all of it is memory.
    let clean = (0..STACK / 4).take_while(|index| unsafe { low.add(*index).read_volatile() } == PAINT).count();
    STACK - clean * 4
}

/// Octets of the stack that this work takes, at least some 64.
#[inline(never)]
pub fn used_by(work: impl FnOnce()) -> usize {
    let here: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) here) };
    let above = (&raw const stack_low as usize).wrapping_add(STACK).wrapping_sub(here);
    paint();
    work();
    used().saturating_sub(above)
}

/// The debugger's console (semihosting, Arm IHI 0100: SYS_WRITEC).
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for octet in text.as_bytes() {
            call(0x03, core::ptr::from_ref(octet) as usize);
        }
        Ok(())
    }
}

/// Ends the emulator (SYS_EXIT, ADP_Stopped_ApplicationExit).
pub fn exit() -> ! {
    loop {
        call(0x18, 0x20026);
    }
}

fn call(operation: usize, argument: usize) {
    // SAFETY: the emulator reads one octet at `argument`, or none.
    unsafe { asm!("bkpt #0xab", inout("r0") operation => _, in("r1") argument) };
}
