//! Where a key lies among the buckets of a table.

/// The secret of a table. Who does not know it cannot choose keys that fall together: addresses, SPIs and identities come
/// from strangers and peers. Nothing that it makes leaves the endpoint, so all that has to hold is that; SipHash with one and
/// three rounds, the usual choice for tables, is made for it.
pub(crate) struct HashSecret(pub(crate) [u64; 2]);

impl HashSecret {
    /// SipHash-1-3 of these words, as octets in little-endian order.
    pub(crate) fn hash(&self, words: &[u64]) -> u64 {
        let Self([one, two]) = *self;
        let mut state = State([
            one ^ 0x736f_6d65_7073_6575,
            two ^ 0x646f_7261_6e64_6f6d,
            one ^ 0x6c79_6765_6e65_7261,
            two ^ 0x7465_6462_7974_6573,
        ]);
        let mut octets = 0u64;
        for word in words {
            state.absorb(*word);
            octets = octets.wrapping_add(8);
        }
        state.absorb(octets.wrapping_shl(56));
        state.finish()
    }
}

/// Where a key lies: in which bucket, and of what else there is of its hash, so much that another key in that bucket is hardly
/// ever taken for it before its content was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) bucket: u16,
    mark: u16,
}

impl Spot {
    /// There is no key.
    pub(super) const NOWHERE: Self = Self { bucket: u16::MAX, mark: 0 };

    /// Among so many buckets, less than there are numbers.
    pub(super) fn of(hash: u64, buckets: u16) -> Self {
        // The upper half of the hash, as a part of the whole.
        let bucket = (hash >> 32).wrapping_mul(u64::from(buckets)) >> 32;
        let mark = hash & u64::from(u16::MAX);
        Self { bucket: u16::try_from(bucket).unwrap_or(u16::MAX), mark: u16::try_from(mark).unwrap_or(0) }
    }
}

struct State([u64; 4]);

impl State {
    fn absorb(&mut self, word: u64) {
        let Self([a, b, c, d]) = *self;
        *self = Self([a, b, c, d ^ word]);
        self.round();
        let Self([a, b, c, d]) = *self;
        *self = Self([a ^ word, b, c, d]);
    }

    fn finish(mut self) -> u64 {
        let Self([a, b, c, d]) = self;
        self = Self([a, b, c ^ 0xff, d]);
        self.round();
        self.round();
        self.round();
        let Self([a, b, c, d]) = self;
        a ^ b ^ c ^ d
    }

    fn round(&mut self) {
        let Self([mut a, mut b, mut c, mut d]) = *self;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        *self = Self([a, b, c, d]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;
    use std::hash::DefaultHasher;

    /// The standard library's tables use the same function, with a secret of zero where none is given.
    #[test]
    fn it_is_the_function_that_the_standard_library_uses() {
        for words in [&[][..], &[0], &[1, 2, 3], &[u64::MAX, 0x0123_4567_89ab_cdef], &[7; 9]] {
            let mut theirs = DefaultHasher::new();
            for word in words {
                theirs.write(&word.to_le_bytes());
            }
            assert_eq!(HashSecret([0, 0]).hash(words), theirs.finish(), "{words:x?}");
            assert_ne!(HashSecret([0, 1]).hash(words), theirs.finish(), "{words:x?}");
        }
    }
}
