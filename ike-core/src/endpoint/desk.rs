//! Where the messages of an SA lie while it is worked on.

use ipsec_core::time::Instant;

use crate::crypto::IkeCrypto;
use crate::room::{Block, Half, Pair, Rooms};
use crate::sa::{Sa, State};

/// Work on an SA in its own block, or in one that is lent for it; without one, in its pair. When the work is over, what is to be
/// kept is put away: into the pair, or the SA keeps the block.
pub(super) struct Desk<'d, 'a, C: IkeCrypto> {
    rooms: &'d mut Rooms<'a>,
    slot: u16,
    sa: &'d mut Sa<C>,
    block: Option<Block>,
    /// All that the SA keeps lies in the block, and not only what is written there now.
    whole: bool,
    now: Instant,
    /// Until when a long answer is kept in any case.
    until: Instant,
}

impl<'d, 'a, C: IkeCrypto> Desk<'d, 'a, C> {
    pub(super) fn lay(
        rooms: &'d mut Rooms<'a>,
        slot: u16,
        sa: &'d mut Sa<C>,
        (now, until): (Instant, Instant),
    ) -> Self {
        let own = sa.block.take();
        // A handshake reads what came before. Whatever is established only writes, and most of that is cold.
        let (request, response) = sa.kept();
        let whole = own.is_some() || sa.is_handshake() || (request, response) == (0, 0);
        let lent = if own.is_none() { rooms.take() } else { None };
        if let Some(block) = lent.as_ref().filter(|_| whole) {
            rooms.bring(slot, block, Half::Request, request);
            rooms.bring(slot, block, Half::Response, response);
        }
        Self { rooms, slot, sa, block: own.or(lent), whole, now, until }
    }

    /// Whether it is in the pair, for want of a block.
    pub(super) fn is_cramped(&self) -> bool {
        self.block.is_none()
    }

    /// The SA, and where its messages lie.
    pub(super) fn parts(&mut self) -> Option<(&mut Sa<C>, Pair<'_>)> {
        let pair = self.rooms.of(self.slot, self.block.as_ref())?;
        Some((&mut *self.sa, pair))
    }
}

impl<C: IkeCrypto> Drop for Desk<'_, '_, C> {
    /// What is dead keeps no block, and nothing else leaves its slot. A long answer is kept until the next one takes its place,
    /// in any case for a while; then it is looked at again.
    fn drop(&mut self) {
        let Self { rooms, slot, sa, block, whole, now, until } = self;
        let (slot, whole) = (*slot, *whole);
        let written = sa.window.take_written();
        #[cfg(test)]
        if let Some(mut pair) = rooms.of(slot, block.as_ref()) {
            sa.window.cut_written(written, &mut pair);
        }
        let Some(block) = block.take() else { return };
        let dead = matches!(sa.state, State::Dead(_));
        // The peer may still repeat what it answers, and would wait for it for ever: it is given up only where it has to be.
        let looked = sa.answer_until.is_some_and(|until| until <= *now);
        let old = looked && !sa.window.answers_now();
        if (dead || (old && !rooms.has_spare())) && !rooms.is_short(sa.window.response_len()) {
            sa.window.forget_response();
        }
        let (request, response) = sa.kept();
        let is_long = !rooms.is_short(response);
        if written.response || looked || !is_long {
            sa.answer_until = (is_long && !sa.is_handshake()).then_some(*until);
        }
        // Who stands still is answered once, and that must not come when no block is free.
        let waits = sa.wait().is_some();
        if dead || (!waits && !is_long && rooms.is_short(request)) {
            if whole || written.request {
                rooms.put_away(slot, &block, Half::Request, request);
            }
            if whole || written.response {
                rooms.put_away(slot, &block, Half::Response, response);
            }
            rooms.give_back(block);
            return;
        }
        if !(whole || written.request) {
            rooms.bring(slot, &block, Half::Request, request);
        }
        if !(whole || written.response) {
            rooms.bring(slot, &block, Half::Response, response);
        }
        sa.block = Some(block);
    }
}
