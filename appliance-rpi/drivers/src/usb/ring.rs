//! Rings of transfer buffers: which is filled, which is on its way, which comes next.

/// Buffers a ring can have.
pub(super) const MAX_BUFFERS: usize = 8;

/// Received transfers: `filled` buffers from `head` on wait to be read, the one after them is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct RxRing {
    buffers: usize,
    head: usize,
    filled: usize,
    on_its_way: bool,
    lengths: [usize; MAX_BUFFERS],
    /// How much of the buffer at `head` has been read.
    cursor: usize,
    /// A frame longer than a buffer is passing by.
    oversize: bool,
}

/// What is left to read of a received transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) buffer: usize,
    /// Where to go on, from the start of the buffer.
    pub(super) cursor: usize,
    pub(super) left: usize,
}

impl RxRing {
    /// `buffers` of [`MAX_BUFFERS`] at most.
    pub(super) fn new(buffers: usize) -> Self {
        let buffers = buffers.clamp(1, MAX_BUFFERS);
        Self { buffers, head: 0, filled: 0, on_its_way: false, lengths: [0; MAX_BUFFERS], cursor: 0, oversize: false }
    }

    /// The buffer for the next transfer, unless one is on its way or all are filled. [`launched`](Self::launched) says
    /// that it has been used.
    pub(super) fn vacant(&self) -> Option<usize> {
        (!self.on_its_way && self.filled < self.buffers).then_some((self.head + self.filled) % self.buffers)
    }

    pub(super) fn launched(&mut self) {
        self.on_its_way = true;
    }

    /// The transfer on its way ended with nothing to keep.
    pub(super) fn ended(&mut self) {
        self.on_its_way = false;
    }

    /// The transfer on its way ended with `length` bytes.
    pub(super) fn received(&mut self, length: usize) {
        if let Some(buffer) = self.vacant_after_launch()
            && let Some(slot) = self.lengths.get_mut(buffer)
            && length > 0
        {
            *slot = length;
            self.filled += 1;
        }
        self.on_its_way = false;
    }

    /// As [`received`](Self::received) where each transfer is one frame, ended by a packet that is not full: one that
    /// fills a buffer of `size` bytes goes on in the next and is dropped with all its parts. Whether a frame was found
    /// to be too long.
    pub(super) fn received_frame(&mut self, length: usize, size: usize) -> bool {
        let full = length >= size;
        let found = full && !self.oversize;
        if full || self.oversize {
            self.ended();
        } else {
            self.received(length);
        }
        self.oversize = full;
        found
    }

    fn vacant_after_launch(&self) -> Option<usize> {
        (self.on_its_way && self.filled < self.buffers).then_some((self.head + self.filled) % self.buffers)
    }

    pub(super) fn unread(&self) -> Option<Unread> {
        let length = self.lengths.get(self.head).copied().filter(|_| self.filled > 0)?;
        let left = length.saturating_sub(self.cursor);
        Some(Unread { buffer: self.head, cursor: self.cursor, left })
    }

    /// `bytes` more of the first buffer have been read; when that was all, it is free again.
    pub(super) fn advance(&mut self, bytes: usize) {
        let Some(unread) = self.unread() else { return };
        if bytes < unread.left {
            self.cursor += bytes;
        } else {
            self.drop_buffer();
        }
    }

    /// The rest of the first buffer is of no use.
    pub(super) fn drop_buffer(&mut self) {
        if self.filled > 0 {
            self.cursor = 0;
            self.head = (self.head + 1) % self.buffers;
            self.filled -= 1;
        }
    }
}

/// Transfers to send, `filled` buffers from `head` on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TxRing {
    head: usize,
    filled: usize,
    lengths: [usize; MAX_BUFFERS],
}

impl TxRing {
    pub(super) fn waiting(&self) -> usize {
        self.filled
    }

    /// The buffer for the next transfer, if there is room.
    pub(super) fn vacant(&self) -> Option<usize> {
        (self.filled < MAX_BUFFERS).then_some((self.head + self.filled) % MAX_BUFFERS)
    }

    /// The vacant buffer now holds `length` bytes.
    pub(super) fn push(&mut self, length: usize) {
        if let Some(slot) = self.vacant().and_then(|buffer| self.lengths.get_mut(buffer)) {
            *slot = length;
            self.filled += 1;
        }
    }

    /// The buffer to send next and the bytes in it.
    pub(super) fn first(&self) -> Option<(usize, usize)> {
        let length = self.lengths.get(self.head).copied().filter(|_| self.filled > 0)?;
        Some((self.head, length))
    }

    pub(super) fn pop(&mut self) {
        if self.filled > 0 {
            self.head = (self.head + 1) % MAX_BUFFERS;
            self.filled -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    #[test]
    fn a_receive_ring_is_read_in_the_order_it_was_filled() {
        let mut ring = RxRing::new(3);
        for round in 0..10 {
            for (place, length) in [(0, 10), (1, 20), (2, 30)] {
                assert_eq!(ring.vacant(), Some(place), "round {round}");
                ring.launched();
                assert_eq!(ring.vacant(), None, "one at a time");
                ring.received(length);
            }
            assert_eq!(ring.vacant(), None, "all are filled");
            for (buffer, length) in [(0, 10), (1, 20), (2, 30)] {
                assert_eq!(ring.unread(), Some(Unread { buffer, cursor: 0, left: length }));
                ring.advance(4);
                assert_eq!(ring.unread(), Some(Unread { buffer, cursor: 4, left: length - 4 }));
                ring.advance(length - 4);
            }
            assert_eq!(ring.unread(), None);
        }
    }

    #[test]
    fn what_has_nothing_in_it_takes_no_buffer() {
        let mut ring = RxRing::new(2);
        ring.launched();
        ring.received(0);
        ring.launched();
        ring.ended();
        assert_eq!((ring.unread(), ring.vacant()), (None, Some(0)));
        // Nothing was launched: nothing can have come.
        ring.received(5);
        assert_eq!(ring.unread(), None);
    }

    #[test]
    fn a_frame_that_fills_buffers_is_dropped_to_its_end() {
        let mut ring = RxRing::new(8);
        let mut receive = |length| {
            ring.launched();
            ring.received_frame(length, 100)
        };
        assert!(!receive(99));
        assert!(receive(100));
        assert!(!receive(100));
        assert!(!receive(50));
        assert!(!receive(60));
        assert!(receive(100));
        assert!(!receive(0));
        assert!(!receive(70));
        let lengths: Vec<_> = std::iter::from_fn(|| {
            let unread = ring.unread()?;
            ring.drop_buffer();
            Some(unread.left)
        })
        .collect();
        assert_eq!(lengths, [99, 60, 70]);
    }

    #[test]
    fn a_transmit_ring_holds_eight_and_keeps_the_order() {
        let mut ring = TxRing::default();
        for round in 0..5 {
            for length in 1..=MAX_BUFFERS {
                assert!(ring.vacant().is_some());
                ring.push(round * 10 + length);
            }
            assert_eq!((ring.vacant(), ring.waiting()), (None, MAX_BUFFERS));
            ring.push(99);
            for length in 1..=MAX_BUFFERS {
                let (buffer, found) = ring.first().expect("a buffer");
                assert_eq!((buffer, found), (length - 1, round * 10 + length));
                ring.pop();
            }
            assert_eq!(ring.first(), None);
            ring.pop();
        }
    }
}
