//! Numbers that scatter what is to be found by them.

/// Both halves of a product: each depends on all of both factors.
#[inline]
pub(crate) fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one).wrapping_mul(u128::from(other));
    (product >> 64) as u64 ^ product as u64
}
