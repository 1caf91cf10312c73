//! Wiping of what dead stack frames keep of a key.
//!
//! A key that is returned by value is copied from frame to frame, and dropping the last copy wipes only that one. Whoever
//! makes a key therefore does so in a function of its own, never inlined, and overwrites the stack below itself when that
//! has returned.

use core::hint::black_box;

use zeroize::Zeroize;

/// Octets that one call overwrites itself.
const FRAME: usize = 256;

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
    let mut frame = [0; FRAME];
    frame.zeroize();
    if let Some(below) = octets.checked_sub(FRAME) {
        stack(below);
    }
    // Needed after the call, so that the frames lie below each other instead of taking each other's place.
    black_box(&frame);
}
