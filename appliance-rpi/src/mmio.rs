//! Registers and DMA memory for the drivers.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use rpi_drivers::{DmaMemory, Mmio};

/// A block of registers in device memory.
#[derive(Debug)]
pub(crate) struct Registers {
    base: usize,
}

impl Registers {
    /// # Safety
    /// `base` is the address of a register block of 32-bit registers, mapped as device memory, that no other value
    /// drives; the offsets used with it lie inside the block.
    pub(crate) const unsafe fn new(base: usize) -> Self {
        Self { base }
    }
}

impl Mmio for Registers {
    fn read32(&mut self, offset: usize) -> u32 {
        debug_assert!(offset.is_multiple_of(4));
        // SAFETY: `new` was promised registers here.
        unsafe { ptr::read_volatile((self.base + offset) as *const u32) }
    }

    fn write32(&mut self, offset: usize, value: u32) {
        debug_assert!(offset.is_multiple_of(4));
        // SAFETY: as above; memory a device writes in consequence lies in the DMA section, which no reference covers.
        unsafe { ptr::write_volatile((self.base + offset) as *mut u32, value) };
    }

    fn barrier(&mut self) {
        barrier();
    }
}

/// Completes every earlier access before any later one.
pub(crate) fn barrier() {
    // SAFETY: a barrier has no effect but order.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Where a failing read of [`answers`] goes on; 0 while none is under way.
static RESUME: AtomicUsize = AtomicUsize::new(0);

/// Whether a device answers at `address`: where there is none, some machines raise an exception for the read.
///
/// # Safety
/// `address` is that of a 32-bit register without read side effects, if there is a device, and mapped as device memory.
#[cfg_attr(feature = "virt", expect(dead_code, reason = "every device of QEMU virt that is asked is there"))]
pub(crate) unsafe fn answers(address: usize) -> bool {
    let failed: u64;
    // SAFETY: the read was allowed by the caller. `exception` returns to label 2 with every register changed that a
    // call may change, which is what `clobber_abi` says; the stack is not used.
    unsafe {
        asm!(
            "adr x1, 2f",
            "str x1, [x2]",
            "dsb sy",
            "ldr w1, [x3]",
            "dsb sy",
            "isb",
            "mov x0, #0",
            "b 3f",
            "2:",
            "mov x0, #1",
            "3:",
            out("x0") failed,
            out("x1") _,
            in("x2") RESUME.as_ptr(),
            in("x3") address,
            clobber_abi("C"),
            options(nostack),
        );
    }
    RESUME.store(0, Ordering::Relaxed);
    failed == 0
}

/// Takes the address at which to go on after a read that was allowed to fail.
pub(crate) fn expected_fault() -> Option<usize> {
    match RESUME.swap(0, Ordering::Relaxed) {
        0 => None,
        resume => Some(resume),
    }
}

const DMA_SIZE: usize = 1 << 20;
const DMA_ALIGNMENT: usize = 4096;

#[repr(C, align(4096))]
struct Pool(UnsafeCell<[u8; DMA_SIZE]>);

// SAFETY: the bytes are reached only through `DmaRegion`s, which do not overlap and use volatile accesses.
unsafe impl Sync for Pool {}

#[unsafe(link_section = ".dma")]
static POOL: Pool = Pool(UnsafeCell::new([0; DMA_SIZE]));
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A piece of the non-cacheable section, owned for good by one driver.
#[derive(Debug)]
pub(crate) struct DmaRegion {
    start: *mut u8,
    len: usize,
    bus_address: u64,
}

/// Octets of the widest access: memory that is not cached is slow for each access, not for each octet.
const WORD: usize = size_of::<u64>();

/// Octets from `start` to the first boundary of a word, or `len` if that comes first.
fn before_words(start: *const u8, len: usize) -> usize {
    start.align_offset(WORD).min(len)
}

impl DmaRegion {
    /// Takes `len` octets on a 4 KiB boundary. `alias` is added to the physical address to make the device's view of
    /// it.
    ///
    /// # Panics
    /// When the section is used up, which depends on nothing but the program.
    pub(crate) fn take(len: usize, alias: u64) -> Self {
        let offset = TAKEN.fetch_add(len.next_multiple_of(DMA_ALIGNMENT), Ordering::Relaxed);
        assert!(len <= DMA_SIZE && offset <= DMA_SIZE - len, "the DMA section is used up");
        let mut region = Self {
            // SAFETY: offset and length were just checked against the pool.
            start: unsafe { POOL.0.get().cast::<u8>().add(offset) },
            len,
            bus_address: POOL.0.get() as u64 + offset as u64 + alias,
        };
        // The section is not part of the image; what the last boot left there means nothing.
        for word in (0..len / 4).map(|index| index * 4) {
            region.write32(word, 0);
        }
        region
    }

    fn inside(&self, offset: usize, len: usize) -> bool {
        let inside = offset <= self.len && len <= self.len - offset;
        debug_assert!(inside, "access outside of a DMA region");
        inside
    }
}

impl DmaMemory for DmaRegion {
    fn len(&self) -> usize {
        self.len
    }

    fn bus_address(&self) -> u64 {
        self.bus_address
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        if !self.inside(offset, to.len()) {
            to.fill(0);
            return;
        }
        // SAFETY: all of it is inside the region.
        let from = unsafe { self.start.add(offset) };
        let (head, words) = to.split_at_mut(before_words(from, to.len()));
        let (words, tail) = words.as_chunks_mut::<WORD>();
        // SAFETY: inside the region, and the words are aligned, for the octets before them reach to their boundary.
        unsafe {
            let first = from.add(head.len());
            for (index, word) in words.iter_mut().enumerate() {
                *word = ptr::read_volatile(first.cast::<u64>().add(index)).to_le_bytes();
            }
            let last = first.add(words.len() * WORD);
            for (octets, from) in [(head, from), (tail, last)] {
                for (index, octet) in octets.iter_mut().enumerate() {
                    *octet = ptr::read_volatile(from.add(index));
                }
            }
        }
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        if !self.inside(offset, from.len()) {
            return;
        }
        // SAFETY: all of it is inside the region.
        let to = unsafe { self.start.add(offset) };
        let (head, words) = from.split_at(before_words(to, from.len()));
        let (words, tail) = words.as_chunks::<WORD>();
        // SAFETY: as in `read`.
        unsafe {
            let first = to.add(head.len());
            for (index, word) in words.iter().enumerate() {
                ptr::write_volatile(first.cast::<u64>().add(index), u64::from_le_bytes(*word));
            }
            let last = first.add(words.len() * WORD);
            for (octets, to) in [(head, to), (tail, last)] {
                for (index, octet) in octets.iter().enumerate() {
                    ptr::write_volatile(to.add(index), *octet);
                }
            }
        }
    }

    fn read32(&self, offset: usize) -> u32 {
        if !self.inside(offset, 4) || !offset.is_multiple_of(4) {
            return 0;
        }
        // SAFETY: inside the region and aligned, checked above.
        unsafe { ptr::read_volatile(self.start.add(offset).cast::<u32>()) }
    }

    fn write32(&mut self, offset: usize, value: u32) {
        if self.inside(offset, 4) && offset.is_multiple_of(4) {
            // SAFETY: inside the region and aligned, checked above.
            unsafe { ptr::write_volatile(self.start.add(offset).cast::<u32>(), value) };
        }
    }
}
