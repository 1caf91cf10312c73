//! Why fragments are dropped.

use crate::error::texts;
use crate::wire::cursor::Malformed;

/// Fragments that a packet may come in: for the longest one, of a kilobyte each.
pub const MAX_FRAGMENTS: usize = 64;

/// Why a fragment was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Dropped {
    /// It is no IP packet, it is empty, it has no multiple of 8 octets although more follow, or it is the first one and does not
    /// say what it carries (RFC 7112 §5).
    Malformed,
    /// With it the packet would be longer than 65,535 octets, or than the caller has memory for.
    TooLong,
    /// It overlaps another one, or contradicts it (RFC 5722). All of the packet is dropped.
    Overlap,
    /// The packet comes in more than [`MAX_FRAGMENTS`]. All of it is dropped.
    TooMany,
    /// Congestion was signalled to some fragments, and others cannot be told of it (RFC 3168 §5.3). All of the packet is dropped.
    Congestion,
    /// The caller has no slots.
    Full,
}

texts! {
    Dropped:
    Self::Malformed => "it is no fragment",
    Self::TooLong => "the packet would be too long",
    Self::Overlap => "it overlaps another one",
    Self::TooMany => "the packet comes in too many",
    Self::Congestion => "the packet cannot be told of congestion",
    Self::Full => "there is no memory for it",
}

impl From<Malformed> for Dropped {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}
