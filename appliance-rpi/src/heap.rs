//! A fixed heap for the configuration, the status page and socket buffers, and the lock its crate asks for.

use embedded_alloc::LlffHeap;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

unsafe extern "C" {
    static mut __heap_start: u8;
    static __heap_end: u8;
}

/// Octets the heap has in all.
pub(crate) fn total() -> usize {
    (&raw const __heap_end) as usize - (&raw const __heap_start) as usize
}

/// Octets in use.
pub(crate) fn used() -> usize {
    HEAP.used()
}

/// Gives the heap its memory.
///
/// # Safety
/// Called once, before anything is allocated.
pub(crate) unsafe fn start() {
    // SAFETY: the linker sets the section aside for nothing else.
    unsafe { HEAP.init((&raw mut __heap_start) as usize, total()) };
}

/// There is one core and interrupts are masked for good: what runs cannot be interrupted, so there is nothing to do.
struct OneCore;

critical_section::set_impl!(OneCore);

// SAFETY: see `OneCore`.
unsafe impl critical_section::Impl for OneCore {
    unsafe fn acquire() -> critical_section::RawRestoreState {}
    unsafe fn release(_restore: critical_section::RawRestoreState) {}
}
