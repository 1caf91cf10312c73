//! CPU exceptions: none is expected and none is repaired, so each ends in a report and a reset.

use crate::crash;
use core::arch::asm;
use core::fmt;

/// What `boot.s` saves: x0 to x30.
#[repr(C)]
pub(crate) struct Registers {
    x: [usize; 31],
}

struct Exception<'a> {
    vector: usize,
    syndrome: usize,
    address: usize,
    fault_address: usize,
    stack: usize,
    registers: &'a Registers,
}

impl Exception<'_> {
    /// Exception class (ESR_ELx.EC), Arm ARM D19.2.37.
    fn class(&self) -> &'static str {
        match self.syndrome >> 26 {
            0x00 => "unknown instruction",
            0x0e => "illegal execution state",
            0x15 => "SVC",
            0x20 | 0x21 => "instruction abort",
            0x22 => "PC alignment",
            0x24 | 0x25 => "data abort",
            0x26 => "SP alignment",
            0x2f => "SError",
            0x3c => "BRK",
            _ => "other",
        }
    }
}

impl fmt::Display for Exception<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.vector % 4 {
            0 => self.class(),
            1 => "unexpected IRQ",
            2 => "unexpected FIQ",
            _ => "SError",
        };
        writeln!(f, "exception: {kind} (vector {})", self.vector)?;
        writeln!(
            f,
            "ESR {:#010x} ELR {:#010x} FAR {:#010x} SP {:#010x}",
            self.syndrome, self.address, self.fault_address, self.stack
        )?;
        for (number, value) in self.registers.x.iter().enumerate() {
            let end = if number % 4 == 3 || number == 30 { '\n' } else { ' ' };
            write!(f, "x{number:<2} {value:#018x}{end}")?;
        }
        Ok(())
    }
}

/// Entered from the vector table, on the exception stack. Returns after a read that was allowed to fail.
#[unsafe(no_mangle)]
extern "C" fn exception(vector: usize, registers: &Registers) {
    let (syndrome, address, fault_address, stack): (usize, usize, usize, usize);
    // SAFETY: reads system registers of the current level, no side effect.
    unsafe {
        asm!("mrs {}, esr_el1", out(reg) syndrome, options(nomem, nostack));
        asm!("mrs {}, elr_el1", out(reg) address, options(nomem, nostack));
        asm!("mrs {}, far_el1", out(reg) fault_address, options(nomem, nostack));
        asm!("mrs {}, sp_el0", out(reg) stack, options(nomem, nostack));
    }
    // A synchronous data abort from the level we run at.
    const DATA_ABORT: usize = 0x25;
    if vector.is_multiple_of(4)
        && syndrome >> 26 == DATA_ABORT
        && let Some(resume) = crate::mmio::expected_fault()
    {
        // SAFETY: the address is in `mmio::answers`, which waits for this.
        unsafe { asm!("msr elr_el1, {}", in(reg) resume, options(nomem, nostack)) };
        return;
    }
    let exception = Exception { vector, syndrome, address, fault_address, stack, registers };
    let frame = registers.x.get(29).copied().unwrap_or(0);
    crash::die(format_args!("{exception}"), frame)
}
