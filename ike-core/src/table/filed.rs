//! What stands in a table, and what it is filed under.

use core::ops::DerefMut;

use ipsec_core::time::Instant;

use super::hash::HashSecret;

/// How many kinds of keys a place may be looked up by.
pub(crate) const KINDS: usize = 3;
/// The kind of which it is known how many contents have the same key.
pub(crate) const COUNTED: usize = 0;
/// How many ranks there are of what is to be told.
pub(crate) const RANKS: u8 = 3;

/// Something that contents are looked up by.
pub(crate) trait Key {
    /// Which of the [`KINDS`] it is. Each content has one key of a kind at most.
    fn kind(&self) -> usize;
    /// Where it lies; each kind of key has to begin with another word.
    fn hash(&self, secret: &HashSecret) -> u64;
}

/// A content, and what it is filed under.
pub(crate) trait Filed {
    type Key: Key;
    /// What it is looked up by.
    fn keys(&self) -> [Option<Self::Key>; KINDS];
    /// When something is to be done.
    fn due(&self) -> Option<Instant>;
    /// Whether something is to be told, and its rank: 0, 1 or 2.
    fn tells(&self) -> Option<u8>;
    /// Whether something is to be sent.
    fn sends(&self) -> bool {
        false
    }
    /// Whether its place may be taken when there is no empty one. It has nothing to tell.
    fn is_over(&self) -> bool {
        false
    }
    /// Whether it is one of those that are counted.
    fn counts(&self) -> bool;
    /// A place that it keeps for another one: nobody else gets that.
    fn keeps(&self) -> Option<u16> {
        None
    }
}

/// A slot of the caller's.
pub(crate) trait Slot {
    type Item: Filed;
    /// What a content lies in.
    type Place: DerefMut<Target = Self::Item> + From<Self::Item>;
    fn place(&self) -> &Option<Self::Place>;
    fn place_mut(&mut self) -> &mut Option<Self::Place>;

    fn item(&self) -> Option<&Self::Item> {
        self.place().as_deref()
    }
}
