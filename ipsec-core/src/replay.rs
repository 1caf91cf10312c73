//! The anti-replay window (RFC 4303 §3.4.3) over the caller's words, after the idea of RFC 6479: a ring of bits that is
//! never shifted, so that a window of 4096 costs no more than one of 64.

use crate::error::Discard;

/// Position of a window; its bits are lent with every call.
///
/// ```
/// use ipsec_core::replay::Window;
/// let mut bits = [0u64; 16]; // 1024 packets
/// let mut window = Window::new(0, &mut bits);
/// assert!(window.check(5, &bits).is_ok());
/// window.commit(5, &mut bits); // only after the ICV was right
/// assert!(window.check(5, &bits).is_err());
/// assert!(window.check(4, &bits).is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The highest number received; 0 before the first.
    top: u64,
}

impl Window {
    /// Starts after `highest`: it and everything below count as seen. 0 for a new SA. The size is 64 × `bits.len()`,
    /// a power of two.
    pub fn new(highest: u64, bits: &mut [u64]) -> Self {
        bits.fill(u64::MAX);
        Self { top: highest }
    }

    /// The highest number received.
    pub const fn highest(&self) -> u64 {
        self.top
    }

    /// The 64-bit number behind the 32 bits in a packet of an SA with extended sequence numbers (RFC 4303 appendix
    /// A2.2). `None`: it would lie before the first or beyond the last number.
    #[inline]
    pub fn extend(&self, low: u32, bits: &[u64]) -> Option<u64> {
        let top_low = self.top as u32;
        let top_high = (self.top >> 32) as u32;
        let size = size(bits);
        let bottom = top_low.wrapping_sub(u32::try_from(size.saturating_sub(1)).unwrap_or(u32::MAX));
        let high = if bottom <= top_low {
            // The window lies within one span of 2^32 numbers (case A).
            if low >= bottom { Some(top_high) } else { top_high.checked_add(1) }
        } else if low >= bottom {
            // It reaches back into the span before (case B).
            top_high.checked_sub(1)
        } else {
            Some(top_high)
        };
        high.map(|high| (u64::from(high) << 32) | u64::from(low))
    }

    /// Whether a packet with this number may still be accepted. Changes nothing.
    ///
    /// # Errors
    /// [`Discard::InStale`] left of the window or 0, [`Discard::InReplayed`] when received before.
    #[inline]
    pub fn check(&self, sequence: u64, bits: &[u64]) -> Result<(), Discard> {
        if sequence > self.top {
            return Ok(());
        }
        // `sequence <= top`: the difference cannot wrap.
        if sequence == 0 || self.top.wrapping_sub(sequence) >= size(bits) {
            return Err(Discard::InStale);
        }
        let word = bits.get(word_of(sequence, bits)).copied().unwrap_or(u64::MAX);
        if word & bit_of(sequence) == 0 { Ok(()) } else { Err(Discard::InReplayed) }
    }

    /// Marks a number as received, and moves the window when it is the highest. Only after the ICV was right.
    #[inline]
    pub fn commit(&mut self, sequence: u64, bits: &mut [u64]) {
        if sequence > self.top {
            self.forget(sequence, bits);
            self.top = sequence;
        }
        let index = word_of(sequence, bits);
        if let Some(word) = bits.get_mut(index) {
            *word |= bit_of(sequence);
        }
    }

    /// Clears the bits of the numbers from `top + 1` to `sequence`, which now enter the window.
    #[inline]
    fn forget(&self, sequence: u64, bits: &mut [u64]) {
        if sequence.wrapping_sub(self.top) >= size(bits) {
            bits.fill(0);
            return;
        }
        // `top < sequence`, so there is a number behind `top`. Word by word: at most one more than there are words.
        let mut first = self.top.wrapping_add(1);
        loop {
            let last_of_word = first | 63;
            let index = word_of(first, bits);
            let last = last_of_word.min(sequence);
            let entering = (u64::MAX << (first & 63)) & (u64::MAX >> (63 ^ (last & 63)));
            if let Some(word) = bits.get_mut(index) {
                *word &= !entering;
            }
            if last == sequence {
                return;
            }
            first = last.wrapping_add(1);
        }
    }
}

/// Numbers the window holds.
#[inline]
fn size(bits: &[u64]) -> u64 {
    (bits.len() as u64).wrapping_mul(64)
}

/// `bits.len()` is a power of two.
#[inline]
fn word_of(sequence: u64, bits: &[u64]) -> usize {
    (sequence >> 6) as usize & bits.len().wrapping_sub(1)
}

#[inline]
const fn bit_of(sequence: u64) -> u64 {
    1 << (sequence & 63)
}
