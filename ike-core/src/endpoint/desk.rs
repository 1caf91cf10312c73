//! Where the messages of an SA lie while it is worked on.

use ipsec_core::time::Instant;

use crate::crypto::IkeCrypto;
use crate::room::{Block, Half, Rooms};
use crate::sa::{Sa, State};

/// The SA's own block, or one that is lent for the work; without one it works in its pair.
pub(super) struct Desk {
    pub(super) block: Option<Block>,
    /// All that the SA keeps lies in the block, and not only what is written there now.
    whole: bool,
}

impl Desk {
    pub(super) fn lay<C: IkeCrypto>(rooms: &mut Rooms<'_>, slot: u16, sa: &mut Sa<C>) -> Self {
        if let Some(own) = sa.block.take() {
            return Self { block: Some(own), whole: true };
        }
        let block = rooms.take();
        let (request, response) = sa.kept();
        // A handshake reads what came before. Whatever is established only writes, and most of that is cold.
        let whole = sa.is_handshake() || (request, response) == (0, 0);
        if let Some(block) = block.as_ref().filter(|_| whole) {
            rooms.bring(slot, block, Half::Request, request);
            rooms.bring(slot, block, Half::Response, response);
        }
        Self { block, whole }
    }

    /// Puts away what is to be kept: into the pair, or the SA keeps the block. What is dead keeps none, and nothing else
    /// leaves its slot. A long answer is kept until the next one takes its place, in any case `until` this moment; then it is
    /// looked at again.
    pub(super) fn clear<C: IkeCrypto>(
        self,
        rooms: &mut Rooms<'_>,
        slot: u16,
        sa: &mut Sa<C>,
        (now, until): (Instant, Instant),
    ) {
        let Self { block, whole } = self;
        let written = sa.window.take_written();
        let Some(block) = block else { return };
        let dead = matches!(sa.state, State::Dead(_));
        // The peer may still repeat what it answers, and would wait for it for ever: it is given up only where it has to be.
        let looked = sa.answer_until.is_some_and(|until| until <= now);
        let old = looked && !sa.window.answers_now();
        if (dead || (old && !rooms.has_spare())) && !rooms.is_short(sa.window.response_len()) {
            sa.window.forget_response();
        }
        let (request, response) = sa.kept();
        let is_long = !rooms.is_short(response);
        if written.response || looked || !is_long {
            sa.answer_until = (is_long && !sa.is_handshake()).then_some(until);
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
