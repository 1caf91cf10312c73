//! Wiping of what dead stack frames keep of a key.
//!
//! A key that is returned by value is copied from frame to frame, and dropping the last copy wipes only that one. Whatever
//! is built there next takes what it finds along, in octets that it does not use, to wherever it is moved. Whoever makes a
//! key therefore does so [apart](after), and leaves it where it stays.

use zeroize::{optimization_barrier, zeroize_stack};

/// Octets that one call overwrites itself.
const FRAME: usize = 256;

/// Does work that makes keys in frames of its own, and overwrites `octets` of the stack there when it has returned. What it
/// makes it has to leave behind a reference: what it returns is moved, and must not be secret.
///
/// ```
/// let mut key = None;
/// let made = ipsec_core::wipe::after(512, || {
///     key = Some([7; 32]);
///     Ok::<_, ()>(())
/// });
/// assert_eq!((made, key), (Ok(()), Some([7; 32])));
/// ```
pub fn after<R>(octets: usize, work: impl FnOnce() -> R) -> R {
    let outcome = apart(work);
    stack(octets);
    outcome
}

/// Copies of a key that calls leave on the stack that return it by value, until it is where it stays. The tests `wiped` search
/// the memory of a process for what is left.
const COPIES: usize = 10;
/// Octets of stack beside those copies.
const FRAMES: usize = depth(512, 8 * 1024);

/// [`after`] with as many octets as the calls take that make a `K` and hand it from one to the other.
///
/// ```
/// let mut boxed = None;
/// ipsec_core::wipe::after_making::<[u8; 32], _>(|| boxed = Some(Box::new([7; 32])));
/// assert_eq!(boxed.as_deref(), Some(&[7; 32]));
/// ```
pub fn after_making<K, R>(work: impl FnOnce() -> R) -> R {
    after(COPIES.saturating_mul(size_of::<K>()).saturating_add(FRAMES), work)
}

/// [`after`] for what is done to each packet: with a number of octets that is known beforehand, which are overwritten at once.
///
/// ```
/// use ipsec_core::wipe;
/// const FRAMES: usize = wipe::depth(512, 4096);
/// assert_eq!(wipe::after_packet::<FRAMES, _>(|| 7 * 6), 42);
/// ```
#[inline]
pub fn after_packet<const OCTETS: usize, R>(work: impl FnOnce() -> R) -> R {
    let outcome = apart(work);
    zeroize_stack::<OCTETS>();
    outcome
}

/// How deep work goes down the stack: of a build that is optimised, and of one that is not, where only large machines have the
/// stack for it. Measured, with some room to spare, on a stack that was painted before.
///
/// ```
/// const DEEPEST: usize = ipsec_core::wipe::depth(3584, 28 * 1024);
/// assert!(DEEPEST == 3584 || cfg!(debug_assertions));
/// ```
pub const fn depth(optimised: usize, not: usize) -> usize {
    if cfg!(all(debug_assertions, target_pointer_width = "64")) { not } else { optimised }
}

/// Does work in a frame of its own, so that what it leaves lies below the caller's.
#[inline(never)]
pub(crate) fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Overwrites at least `octets` of the stack below the caller's frame with zeros. Takes that much stack: no more than the
/// calls before it took.
///
/// ```
/// #[inline(never)]
/// fn make_a_key() -> [u8; 32] {
///     [7; 32]
/// }
/// let key = make_a_key();
/// ipsec_core::wipe::stack(512);
/// # assert_eq!(key, [7; 32]);
/// ```
#[inline(never)]
pub fn stack(octets: usize) {
    let frame = [0_u8; FRAME];
    optimization_barrier(&frame);
    if let Some(below) = octets.checked_sub(FRAME) {
        stack(below);
    }
    // Needed after the call, so that the frames lie below each other instead of taking each other's place.
    optimization_barrier(&frame);
}
