//! Putting packets together that arrive in fragments (RFC 791 §3.2, RFC 815, RFC 8200 §4.5), in memory of the caller's and bounded by
//! it: in number, octets and time.
//!
//! Optional: whoever has a system that does it, and no rules for ports, needs none of it. Others have one [`Reassembly`] for packets
//! from outside, in front of [`pop_outer`](crate::encap::pop_outer), and another one for packets that are to go in, in front of
//! [`classify`](crate::engine::Outbound::classify): a packet that is whole has room around it to be sealed where it lies.
//!
//! * Fragments that overlap are an attack or a mistake: the whole packet is given up, and what comes of it later as well
//!   (RFC 5722). The same fragment once more is only that.
//! * Who sends many never takes the place of who sends few: slots lie in sets of [`WAYS`], a source has its packets in one set,
//!   by a number that nobody knows, and where that is full the source with most of them gives up its oldest. A source is an address
//!   of IPv4 or a network of 64 bits of IPv6. Whoever can send in the names of many takes the places of all: that only those on
//!   the way can keep from happening (RFC 2827).
//! * Every fragment costs the same, however many there are and in whatever order they come (ATK-44).

use core::fmt;
use core::time::Duration;

use crate::buf::{PacketBuf, TAILROOM};
use crate::error::NoRoom;
use crate::time::Instant;
use ages::Ages;
use datagram::{Datagram, FRONT, Progress};
use part::{Key, Seen};

mod ages;
mod datagram;
mod dropped;
mod part;
#[cfg(test)]
mod tests;

pub use ages::Slot;
pub use dropped::{Dropped, MAX_FRAGMENTS};
pub use part::MAX_HEADERS;

/// Slots among which a packet looks for its own.
pub const WAYS: usize = 8;

/// What became of a packet.
#[derive(Debug)]
pub enum Outcome<'r> {
    /// It is no fragment, and goes on as it is.
    Unfragmented,
    /// It is kept until the others are here.
    Kept,
    /// It was the last one missing: the whole packet, with [`HEADROOM`](crate::buf::HEADROOM) and [`TAILROOM`] around it. It lies in the memory of the
    /// [`Reassembly`] until the next call.
    Whole(PacketBuf<'r>),
}

/// What was given up without a fragment that said so, since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Lost {
    /// Packets that were not whole in time.
    pub expired: u64,
    /// Packets that had to make room.
    pub displaced: u64,
}

/// Fragments that wait for others of their packets.
///
/// ```
/// use core::time::Duration;
/// use ipsec_core::buf::PacketBuf;
/// use ipsec_core::fragment::cut;
/// use ipsec_core::reassembly::{Lost, Outcome, Reassembly, Slot};
/// use ipsec_core::time::Instant;
/// let (mut slots, mut memory) = ([const { Slot::EMPTY }; 8], [0; 8 * Reassembly::share(1500)]);
/// let random = 0x243f_6a88_85a3_08d3; // of the machine's
/// let mut reassembly = Reassembly::new(random, Duration::from_secs(15), &mut slots, &mut memory);
///
/// let mut packet = [0xee; 1000];
/// packet[..20].copy_from_slice(&[0x45, 0, 0x03, 0xe8, 0, 7, 0, 0, 64, 50, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
/// let mut room = [[0; 576]; 2];
/// let mut pieces = cut(&packet, 576, 0).unwrap().zip(&mut room).map(|(piece, room)| piece.write(room).unwrap());
/// for last in [false, true] {
///     let piece = pieces.next().unwrap();
///     let len = piece.len();
///     match reassembly.take(Instant::ZERO, 0, &mut PacketBuf::new(piece, 0, len).unwrap()).unwrap() {
///         Outcome::Whole(whole) => assert_eq!((last, &whole.as_slice()[20..]), (true, &packet[20..])),
///         outcome => assert!(!last && matches!(outcome, Outcome::Kept)),
///     }
/// }
/// assert_eq!(reassembly.poll_timeout(), None); // nothing waits any more
/// assert_eq!(reassembly.lost(), Lost { expired: 0, displaced: 0 });
/// ```
pub struct Reassembly<'a> {
    seed: u64,
    patience: Duration,
    ages: Ages<'a>,
    bytes: &'a mut [u8],
    lost: Lost,
}

impl fmt::Debug for Reassembly<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reassembly").field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl<'a> Reassembly<'a> {
    /// Starts with nothing. `seed` is random, and nobody's who sends packets; `patience` is how long fragments wait for the others
    /// (RFC 791: 15 s; RFC 8200: 60 s).
    ///
    /// Every slot of `slots` gets an equal share of `bytes`; [`Reassembly::share`] says how much a packet takes. Longer ones are
    /// refused.
    pub fn new(seed: u64, patience: Duration, slots: &'a mut [Slot], bytes: &'a mut [u8]) -> Self {
        Self { seed, patience, ages: Ages::new(slots), bytes, lost: Lost::default() }
    }

    /// Octets of memory for a packet that carries up to `len` octets behind its IP header.
    pub const fn share(len: usize) -> usize {
        FRONT.saturating_add(len).saturating_add(TAILROOM)
    }

    /// Takes a packet that may be a fragment. `scope` is where it came from, as the caller tells places apart (0 outside, the
    /// policy of the SA it came through, an interface): fragments of different ones are never put together, as RFC 4301 §7 wants it
    /// of SAs.
    ///
    /// An IPv6 packet of a single fragment is whole: it only loses its fragment header (RFC 6946).
    ///
    /// # Errors
    /// [`Dropped`]: the fragment is, and for some reasons all others of its packet.
    pub fn take(&mut self, now: Instant, scope: u32, packet: &mut PacketBuf<'_>) -> Result<Outcome<'_>, Dropped> {
        let part = match Seen::of(scope, packet.as_slice())? {
            Seen::Part(part) => part,
            Seen::Unfragmented => return Ok(Outcome::Unfragmented),
            Seen::Atomic(atomic) => return atomic.strip(packet).map(|()| Outcome::Unfragmented),
        };
        self.handle_timeout(now);
        let slot = self.slot_of(now, &part.key)?;
        let octets = self.bytes.len().checked_div(self.ages.len()).unwrap_or(0);
        let start = slot.saturating_mul(octets);
        let share = self.bytes.get_mut(start..start.saturating_add(octets)).unwrap_or_default();
        match self.ages.datagram(slot).ok_or(Dropped::Full)?.add(&part, share)? {
            Progress::Waits => Ok(Outcome::Kept),
            Progress::Whole { start, len } => {
                self.ages.forget(slot);
                let whole = PacketBuf::new(share, start, len).map_err(|NoRoom| Dropped::TooLong)?;
                Ok(Outcome::Whole(whole))
            }
        }
    }

    /// The slot of a packet, or one that is its own from now on.
    fn slot_of(&mut self, now: Instant, key: &Key) -> Result<usize, Dropped> {
        let sets = self.ages.len().div_ceil(WAYS);
        let set = (key.place(self.seed) as usize).checked_rem(sets).ok_or(Dropped::Full)?;
        let first = set.saturating_mul(WAYS);
        if let Some(slot) = self.ages.find(first, WAYS, key) {
            return Ok(slot);
        }
        let slot = match self.ages.find_free(first, WAYS) {
            Some(slot) => slot,
            None => {
                let slot = self.ages.oldest_of_most(first, WAYS, key).ok_or(Dropped::Full)?;
                self.ages.forget(slot);
                self.lost.displaced = self.lost.displaced.saturating_add(1);
                slot
            }
        };
        self.ages.put(slot, Datagram::new(*key, now.after(self.patience)));
        Ok(slot)
    }

    /// What was lost without anybody being told.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has work: when what waits longest has waited long enough.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ages.oldest().map(|(_, due)| due)
    }

    /// Gives up what was not whole in time. [`take`](Self::take) does so as well.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((slot, _)) = self.ages.oldest().filter(|(_, due)| *due <= now) {
            self.ages.forget(slot);
            self.lost.expired = self.lost.expired.saturating_add(1);
        }
    }
}
