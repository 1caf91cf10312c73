//! Errors are small and carry no text.

pub use ipsec_core::crypto::NoKey;
pub use ipsec_core::wire::cursor::Malformed;

/// The caller's buffer is too small for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoRoom;

/// Which part of a [`Storage`](crate::endpoint::Storage) has the wrong size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum WrongSize {
    /// There is no slot for an IKE SA, or there are more than 65,535.
    Sas,
    /// There are more than 65,535 slots for Child SAs.
    Children,
    /// It has fewer blocks than [`IndexBlock::needed`](crate::endpoint::IndexBlock::needed) says.
    Index,
    /// They are less than 2 × 160 octets for each IKE SA.
    Pairs,
    /// It is less than 2 × 580 octets for each block, or a block is less than a pair.
    Pool,
    /// There is none, or there are more than 65,534.
    Blocks,
}

/// A public value that no honest peer sends (RFC 6989 §2, RFC 8031 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BadPublic;

/// Why no keys came of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Unkeyed {
    /// The peer's public value is none.
    BadPublic,
    /// The crypto engine does not take part.
    NoKey,
}

impl From<BadPublic> for Unkeyed {
    fn from(_: BadPublic) -> Self {
        Self::BadPublic
    }
}

impl From<NoKey> for Unkeyed {
    fn from(_: NoKey) -> Self {
        Self::NoKey
    }
}

/// Why a datagram was dropped without an answer. The sender learns nothing; the caller counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Discard {
    /// A length or count is wrong.
    Malformed,
    /// The integrity check of the SK payload failed (RFC 7296 §2.21.2: no answer, no change of state).
    BadIcv,
    /// The integrity check passed, but the padding is longer than the text.
    BadPadding,
    /// No IKE SA has these SPIs.
    UnknownSa,
    /// Nothing that the state of the SA waits for.
    Unexpected,
    /// The message ID is outside the window, or another request came under an ID that was used.
    Window,
    /// Another major version of IKE (RFC 7296 §2.5, RFC 9395).
    Version,
    /// The peer's public value is not a valid one (RFC 6989).
    BadKeyExchange,
    /// The caller's tables or buffers are full, or the crypto engine is.
    NoRoom,
}

impl From<Malformed> for Discard {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<Unkeyed> for Discard {
    fn from(why: Unkeyed) -> Self {
        match why {
            Unkeyed::BadPublic => Self::BadKeyExchange,
            Unkeyed::NoKey => Self::NoRoom,
        }
    }
}

impl From<NoRoom> for Discard {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}
