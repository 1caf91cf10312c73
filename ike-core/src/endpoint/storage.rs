//! The memory of an endpoint.

use core::fmt;

use crate::child::ChildSlot;
use crate::crypto::IkeCrypto;
use crate::room::MARKER_LEN;
use crate::sa::IkeSlot;
use crate::table::IndexBlock;

/// Octets in [`Storage::pairs`] for one IKE SA in which the messages stay of most connections, from the first one on: with a
/// pre-shared key, one proposal or two, and a network or two on either side.
pub const ROOM_PER_SA: usize = 2 * (508 + MARKER_LEN);
/// Octets in [`Storage::pool`] for one block with which messages of 3,000 octets come and go (RFC 7296 §2): what peers send
/// first that offer everything they know.
pub const ROOM_PER_BLOCK: usize = 2 * (3_000 + MARKER_LEN);
/// The caller's memory.
pub struct Storage<'a, C: IkeCrypto> {
    /// IKE SAs, with room for rekeys (one more per SA at worst) and half-open ones; at most 65,535.
    pub sas: &'a mut [IkeSlot<C>],
    /// Child SAs, with room for rekeys (twice as many as there are children); at most 65,535. The low bits of an
    /// inbound SPI are the number of its slot here, so an SAD of the same size finds it without a search.
    pub children: &'a mut [ChildSlot],
    /// What stands where in the two tables: [`IndexBlock::needed`] for so many slots.
    pub index: &'a mut [IndexBlock],
    /// Room for messages, shared out evenly to the IKE SAs: for each its request that waits for an answer and its last
    /// answer, as long as they are short. [`ROOM_PER_SA`] octets do for most.
    pub pairs: &'a mut [u8],
    /// Room for long messages, shared out evenly to the [`blocks`](Self::blocks): [`ROOM_PER_BLOCK`] octets for each take
    /// every first message seen in the field, half of that does for peers whose proposals are known to be few. No message
    /// is longer than half a block.
    pub pool: &'a mut [u8],
    /// Blocks of the pool. Each message is worked on in one, and an SA keeps it as long as one of its messages is too long
    /// for its pair: a handshake, mostly. Strangers may have half of them, and handshakes all but one, which is for the
    /// SAs that stand; these go on with short messages where there is none. With one or two, a stranger who shows its
    /// address can still hold up all handshakes for as long as one may take: three or more are right for who is called.
    pub blocks: usize,
}

impl<C: IkeCrypto> fmt::Debug for Storage<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
    }
}
