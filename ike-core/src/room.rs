//! Room for messages: a pair of short ones for each IKE SA, and a pool of blocks for pairs of long ones.
//!
//! What an SA keeps are its request that waits for an answer and its last answer, in a handshake also what the peer sent. That
//! stands in its pair where it fits there, and in a block where it does not: then the SA has the block until it does.

use core::ops::Range;

use zeroize::Zeroize;

use crate::error::WrongSize;

#[cfg(test)]
pub(crate) mod cut;

/// Octets before a message on port 4500 (RFC 3948 §2.2).
pub(crate) const MARKER_LEN: usize = 4;
/// Octets of the shortest message that an SA has to have room for, with that: a refusal, a Delete, an empty answer.
const SHORTEST: usize = 160;
/// The same of the longest, with which a handshake can succeed.
const LONGEST: usize = 576 + MARKER_LEN;
/// No block: there are at most so many.
const NONE: u16 = u16::MAX;

/// A block of the pool. Whoever has it has the room, until it is [given back](Rooms::give_back).
#[derive(Debug)]
pub(crate) struct Block(u16);

/// One of the two messages of an SA.
#[derive(Clone, Copy)]
pub(crate) enum Half {
    Request,
    Response,
}

/// How a message stands in its room: as one datagram, or as several one behind the other. Each stands behind room for its own
/// marker, and all but the last one have the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datagrams {
    /// Octets from the first one of the first to the last one of the last. No room is longer than 65,535 octets.
    len: u16,
    /// Octets of each but the last.
    each: u16,
    /// Where the one begins that is to be sent next; at the end: none is.
    next: u16,
}

impl Datagrams {
    /// The message is one datagram of `len` octets, to be sent.
    pub(crate) fn one(len: usize) -> Self {
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        Self { len, each: len, next: 0 }
    }

    /// It is several datagrams of `each` octets, and a last one that may be shorter: in all, with the room between them, `len`
    /// octets. Nobody cuts messages yet but tests.
    #[cfg(test)]
    pub(crate) fn cut(len: usize, each: usize) -> Self {
        Self { each: u16::try_from(each).unwrap_or(u16::MAX).max(1), ..Self::one(len) }
    }

    pub(crate) fn len(self) -> usize {
        self.len.into()
    }

    /// Sends all of them, from the first one on.
    pub(crate) fn send(&mut self) {
        self.next = 0;
    }

    /// Whether some are to be sent.
    pub(crate) fn waits(self) -> bool {
        self.next < self.len
    }

    /// Whether none was sent since all are to be.
    pub(crate) fn is_whole(self) -> bool {
        self.next == 0
    }

    /// The one that is to be sent next: its octets, counted from the first one of the message.
    pub(crate) fn take(&mut self) -> Option<Range<usize>> {
        let start = self.next;
        if start >= self.len {
            return None;
        }
        let end = start.saturating_add(self.each).min(self.len);
        let marker = u16::try_from(MARKER_LEN).unwrap_or(0);
        self.next = end.saturating_add(marker).min(self.len);
        Some(start.into()..end.into())
    }
}

/// Where the two messages of an SA stand, each behind the room for the non-ESP marker.
pub(crate) struct Pair<'x> {
    pub(crate) request: &'x mut [u8],
    pub(crate) response: &'x mut [u8],
}

pub(crate) struct Rooms<'a> {
    pairs: &'a mut [u8],
    /// Octets of one message in a pair.
    short: usize,
    pool: &'a mut [u8],
    /// The same in a block.
    long: usize,
    blocks: u16,
    /// The free block that was given back last. Each begins with the number of the next one.
    free: u16,
}

impl<'a> Rooms<'a> {
    /// Room for so many SAs, and so many blocks.
    ///
    /// # Errors
    /// [`WrongSize`]: it is too little, or there are too many blocks.
    pub(crate) fn new(pairs: &'a mut [u8], sas: usize, pool: &'a mut [u8], blocks: usize) -> Result<Self, WrongSize> {
        let each = |octets: usize, of: usize| octets.checked_div(of.saturating_mul(2)).unwrap_or(0).min(0xffff);
        let (short, long) = (each(pairs.len(), sas), each(pool.len(), blocks));
        let blocks = u16::try_from(blocks).ok().filter(|blocks| (1..NONE).contains(blocks)).ok_or(WrongSize::Blocks)?;
        if short < SHORTEST {
            return Err(WrongSize::Pairs);
        }
        if long < LONGEST.max(short) {
            return Err(WrongSize::Pool);
        }
        let mut rooms = Self { pairs, short, pool, long, blocks, free: NONE };
        (0..blocks).rev().for_each(|block| rooms.give_back(Block(block)));
        Ok(rooms)
    }

    /// Octets of the longest message.
    pub(crate) fn longest(&self) -> usize {
        self.long.saturating_sub(MARKER_LEN)
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.into()
    }

    /// Whether a block is free for a handshake. The last one of several is left for SAs that stand.
    pub(crate) fn has_spare(&self) -> bool {
        self.next(self.free).is_some_and(|next| next != NONE || self.blocks == 1)
    }

    /// Whether one is free for a handshake when another handshake has taken one.
    pub(crate) fn has_another(&self) -> bool {
        self.next(self.free).and_then(|second| self.next(second)).is_some_and(|third| third != NONE)
    }

    /// How many blocks are free. Looks at each.
    pub(crate) fn count_free(&self) -> usize {
        core::iter::successors(Some(self.free), |block| self.next(*block))
            .take_while(|block| *block != NONE)
            .take(usize::from(NONE))
            .count()
    }

    /// A free block.
    pub(crate) fn take(&mut self) -> Option<Block> {
        let block = self.free;
        self.free = self.next(block)?;
        Some(Block(block))
    }

    pub(crate) fn give_back(&mut self, Block(block): Block) {
        if let Some(start) = self.start(block)
            && let Some(next) = self.pool.get_mut(start..).and_then(|octets| octets.first_chunk_mut())
        {
            *next = self.free.to_le_bytes();
            self.free = block;
        }
    }

    /// The free block behind a free one.
    fn next(&self, block: u16) -> Option<u16> {
        let octets = self.pool.get(self.start(block)?..)?;
        octets.first_chunk().map(|next| u16::from_le_bytes(*next))
    }

    /// Where a block begins.
    fn start(&self, block: u16) -> Option<usize> {
        (block < self.blocks).then(|| self.long.saturating_mul(2).saturating_mul(block.into()))
    }

    /// The two messages of the SA in `slot`: in its block, or in its pair.
    pub(crate) fn of(&mut self, slot: u16, block: Option<&Block>) -> Option<Pair<'_>> {
        let (octets, half, start) = match block {
            Some(Block(block)) => {
                let start = self.start(*block)?;
                (&mut *self.pool, self.long, start)
            }
            None => (&mut *self.pairs, self.short, self.short.saturating_mul(2).saturating_mul(slot.into())),
        };
        let both = octets.get_mut(start..)?.get_mut(..half.saturating_mul(2))?;
        let (request, response) = both.split_at_mut_checked(half)?;
        Some(Pair { request, response })
    }

    /// Overwrites what stands behind the two messages, of so many octets, in the block or the pair.
    pub(crate) fn wipe_behind(&mut self, slot: u16, block: Option<&Block>, (request, response): (usize, usize)) {
        let Some(pair) = self.of(slot, block) else { return };
        for (room, len) in [(pair.request, request), (pair.response, response)] {
            room.get_mut(MARKER_LEN.saturating_add(len)..).unwrap_or_default().zeroize();
        }
    }

    /// Whether a message of so many octets fits a pair.
    pub(crate) fn is_short(&self, len: usize) -> bool {
        len.saturating_add(MARKER_LEN) <= self.short
    }

    /// Copies the beginning of a message of the SA in `slot` from its pair into a block.
    pub(crate) fn bring(&mut self, slot: u16, block: &Block, half: Half, len: usize) {
        if let Some((pair, block)) = self.both(slot, block, half, len) {
            block.copy_from_slice(pair);
        }
    }

    /// The same the other way.
    pub(crate) fn put_away(&mut self, slot: u16, block: &Block, half: Half, len: usize) {
        if let Some((pair, block)) = self.both(slot, block, half, len) {
            pair.copy_from_slice(block);
        }
    }

    fn both(&mut self, slot: u16, Block(block): &Block, half: Half, len: usize) -> Option<(&mut [u8], &mut [u8])> {
        if !self.is_short(len) {
            return None;
        }
        let offset = |room: usize| match half {
            Half::Request => MARKER_LEN,
            Half::Response => room.saturating_add(MARKER_LEN),
        };
        let long = self.start(*block)?.saturating_add(offset(self.long));
        let short = self.short.saturating_mul(2).saturating_mul(slot.into()).saturating_add(offset(self.short));
        Some((self.pairs.get_mut(short..)?.get_mut(..len)?, self.pool.get_mut(long..)?.get_mut(..len)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec;

    fn rooms(blocks: usize) -> Rooms<'static> {
        let octets = |len| Box::leak(vec![0xaa; len].into_boxed_slice());
        Rooms::new(octets(3 * 2 * SHORTEST), 3, octets(blocks * 2 * LONGEST), blocks).unwrap()
    }

    #[test]
    fn each_block_is_had_by_one_and_free_again_when_it_was_given_back() {
        let mut rooms = rooms(3);
        let taken: [_; 3] = std::array::from_fn(|_| rooms.take().unwrap());
        assert_eq!(taken.each_ref().map(|block| block.0), [0, 1, 2]);
        assert!(!rooms.has_spare() && rooms.take().is_none());
        for block in &taken {
            let Pair { request, response } = rooms.of(0, Some(block)).unwrap();
            request.fill(0x55);
            response.fill(0x55);
        }
        let [first, second, third] = taken;
        rooms.give_back(second);
        rooms.give_back(first);
        assert_eq!((rooms.count_free(), rooms.has_spare()), (2, true));
        assert_eq!([(); 2].map(|()| rooms.take().unwrap().0), [0, 1], "the warmest first");
        rooms.give_back(third);
        assert!(!rooms.has_spare(), "the last one");
        assert_eq!((rooms.take().unwrap().0, rooms.count_free()), (2, 0));
    }

    #[test]
    fn a_message_goes_from_one_room_to_the_other_and_touches_nothing_beside_it() {
        let mut rooms = rooms(1);
        let block = rooms.take().unwrap();
        let Pair { request, response } = rooms.of(1, None).unwrap();
        request.fill(1);
        response.fill(2);
        rooms.bring(1, &block, Half::Request, 100);
        rooms.bring(1, &block, Half::Response, SHORTEST - MARKER_LEN);
        let Pair { request, response } = rooms.of(1, Some(&block)).unwrap();
        assert_eq!((request[MARKER_LEN..][..100].to_vec(), request[MARKER_LEN + 100]), (vec![1; 100], 0xaa));
        assert_eq!(response[MARKER_LEN..][..SHORTEST - MARKER_LEN], [2; SHORTEST - MARKER_LEN]);
        response.fill(3);
        rooms.put_away(2, &block, Half::Response, 7);
        let Pair { request, response } = rooms.of(2, None).unwrap();
        assert!(request.iter().all(|octet| *octet == 0xaa));
        assert_eq!(response[MARKER_LEN..][..8], [3, 3, 3, 3, 3, 3, 3, 0xaa]);
        assert!(rooms.is_short(SHORTEST - MARKER_LEN) && !rooms.is_short(SHORTEST));
    }

    #[test]
    fn the_datagrams_of_a_message_are_sent_one_after_the_other_and_all_again() {
        let all = |datagrams: &mut Datagrams| {
            let places = core::iter::from_fn(|| datagrams.take());
            places.map(|place| [place.start, place.end]).collect::<std::vec::Vec<_>>()
        };
        let mut one = Datagrams::one(100);
        assert!(one.waits() && one.is_whole());
        assert_eq!(all(&mut one), [[0, 100]]);
        assert!(!one.waits() && !one.is_whole());
        for (len, expected) in [
            (30, vec![[0, 10], [14, 24], [28, 30]]),
            (24, vec![[0, 10], [14, 24]]),
            (15, vec![[0, 10], [14, 15]]),
            (10, vec![[0, 10]]),
        ] {
            let mut several = Datagrams::cut(len, 10);
            for _ in 0..2 {
                assert_eq!(all(&mut several), expected);
                several.send();
            }
            let _ = several.take();
            assert_eq!((several.waits(), several.is_whole()), (expected.len() > 1, false));
        }
        assert!(all(&mut Datagrams::one(0)).is_empty());
    }

    #[test]
    fn too_little_room_is_refused() {
        let mut octets = vec![0; 4 * LONGEST];
        let (pairs, pool) = octets.split_at_mut(2 * LONGEST);
        for (short, long, blocks, why) in [
            (2 * SHORTEST, 2 * LONGEST, 1, None),
            (2 * SHORTEST - 1, 2 * LONGEST, 1, Some(WrongSize::Pairs)),
            (2 * SHORTEST, 2 * LONGEST - 1, 1, Some(WrongSize::Pool)),
            (2 * LONGEST, 2 * LONGEST - 2, 1, Some(WrongSize::Pool)),
            (2 * SHORTEST, 2 * LONGEST, 0, Some(WrongSize::Blocks)),
            (2 * SHORTEST, 2 * LONGEST, 2, Some(WrongSize::Pool)),
            (2 * SHORTEST, 2 * LONGEST, NONE.into(), Some(WrongSize::Blocks)),
        ] {
            let made = Rooms::new(&mut pairs[..short], 1, &mut pool[..long], blocks);
            assert_eq!(made.err(), why, "{short} {long} {blocks}");
        }
    }
}
