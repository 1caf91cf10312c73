//! Identity map: 1 GiB entries, 2 MiB blocks where RAM begins, 4 KiB pages around the image.
//!
//! Code is read-only, nothing writable is executable, page 0 and the page under the stack are not mapped at all, and
//! the section devices share is normal non-cacheable.

use crate::map;
use crate::memory::Memory;
use core::arch::asm;
use core::cell::UnsafeCell;

const PAGE: usize = 1 << 12;
const BLOCK: usize = 1 << 21;
const GIBIBYTE: usize = 1 << 30;

// MAIR_EL1: 0 = normal write-back, 1 = device nGnRE, 2 = normal non-cacheable.
const MAIR: u64 = 0x44_04_ff;

impl Memory {
    /// Attributes of a block or page descriptor, without its type bits.
    fn attributes(self) -> u64 {
        const ACCESSED: u64 = 1 << 10;
        const INNER_SHAREABLE: u64 = 3 << 8;
        const READ_ONLY: u64 = 1 << 7;
        const NEVER_EXECUTE: u64 = 1 << 54 | 1 << 53;
        const UNPRIVILEGED_NEVER_EXECUTE: u64 = 1 << 54;
        let index = |number: u64| number << 2;
        ACCESSED
            | match self {
                Self::None => return 0,
                Self::Normal => index(0) | INNER_SHAREABLE | NEVER_EXECUTE,
                Self::ReadOnly => index(0) | INNER_SHAREABLE | READ_ONLY | NEVER_EXECUTE,
                Self::Code => index(0) | INNER_SHAREABLE | READ_ONLY | UNPRIVILEGED_NEVER_EXECUTE,
                Self::Uncached => index(2) | INNER_SHAREABLE | NEVER_EXECUTE,
                Self::Device => index(1) | NEVER_EXECUTE,
            }
    }

    fn block(self, address: usize) -> u64 {
        if self == Self::None { 0 } else { address as u64 | self.attributes() | 0b01 }
    }

    fn page(self, address: usize) -> u64 {
        if self == Self::None { 0 } else { address as u64 | self.attributes() | 0b11 }
    }
}

#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; 512]>);

// SAFETY: written once by `enable`, on one core, before the MMU reads it.
unsafe impl Sync for Table {}

static LEVEL_1: Table = Table(UnsafeCell::new([0; 512]));
static LEVEL_2: Table = Table(UnsafeCell::new([0; 512]));
static LEVEL_3: Table = Table(UnsafeCell::new([0; 512]));

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __stack_bottom: u8;
    static __uncached_start: u8;
}

fn address(symbol: &'static u8) -> usize {
    core::ptr::from_ref(symbol) as usize
}

/// What one page of the image's 2 MiB block is.
fn page_kind(page: usize) -> Memory {
    // SAFETY: the linker defines the symbols; only their addresses are used.
    let (start, text_end, rodata_end, guard) =
        unsafe { (address(&__image_start), address(&__text_end), address(&__rodata_end), address(&__stack_bottom)) };
    if page == 0 || page == guard {
        Memory::None
    } else if (start..text_end).contains(&page) {
        Memory::Code
    } else if (text_end..rodata_end).contains(&page) {
        Memory::ReadOnly
    } else {
        Memory::Normal
    }
}

/// Fills the tables and switches MMU and caches on.
///
/// # Safety
/// Called once, on the only running core, before anything depends on caches or atomics.
pub(crate) unsafe fn enable() {
    // SAFETY: nobody else uses the tables yet (see above); the linker defines the symbols.
    let (level_1, level_2, level_3, image, uncached) = unsafe {
        (
            &mut *LEVEL_1.0.get(),
            &mut *LEVEL_2.0.get(),
            &mut *LEVEL_3.0.get(),
            address(&__image_start) & !(BLOCK - 1),
            address(&__uncached_start),
        )
    };
    let ram_gibibyte = image & !(GIBIBYTE - 1);
    for (index, entry) in level_3.iter_mut().enumerate() {
        let page = image + index * PAGE;
        *entry = page_kind(page).page(page);
    }
    for (index, entry) in level_2.iter_mut().enumerate() {
        let block = ram_gibibyte + index * BLOCK;
        *entry = if block == image {
            level_3.as_ptr() as u64 | 0b11
        } else if block == uncached {
            Memory::Uncached.block(block)
        } else {
            map::memory_at(block).block(block)
        };
    }
    for (index, entry) in level_1.iter_mut().enumerate() {
        let gibibyte = index * GIBIBYTE;
        *entry = if gibibyte == ram_gibibyte {
            level_2.as_ptr() as u64 | 0b11
        } else {
            map::memory_at(gibibyte).block(gibibyte)
        };
    }

    // 39-bit addresses, write-back inner-shareable walks, 36-bit physical addresses, no walks for the upper half.
    const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 1 << 32;
    // MMU, data cache, stack alignment check, instruction cache, write implies never-execute.
    const SCTLR: u64 = 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19;
    // SAFETY: the map is an identity, so execution continues where it is; caches start invalid out of reset and were
    // not used since.
    unsafe {
        asm!(
            "msr mair_el1, {mair}",
            "msr tcr_el1, {tcr}",
            "msr ttbr0_el1, {table}",
            "dsb sy",
            "tlbi vmalle1",
            "ic iallu",
            "dsb sy",
            "isb",
            "mrs {scratch}, sctlr_el1",
            "orr {scratch}, {scratch}, {sctlr}",
            "msr sctlr_el1, {scratch}",
            "isb",
            mair = in(reg) MAIR,
            tcr = in(reg) TCR,
            table = in(reg) level_1.as_ptr(),
            sctlr = in(reg) SCTLR,
            scratch = out(reg) _,
        );
    }
}
