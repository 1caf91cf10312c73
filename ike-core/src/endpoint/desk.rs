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
    /// Payloads of the peer stand behind the messages, decrypted.
    open: bool,
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
        let open = sa.keeps_open();
        let whole = own.is_some() || sa.is_handshake() || (request, response) == (0, 0);
        let lent = if own.is_none() { rooms.take() } else { None };
        if let Some(block) = lent.as_ref().filter(|_| whole) {
            rooms.bring(slot, block, Half::Request, request);
            rooms.bring(slot, block, Half::Response, response);
        }
        Self { rooms, slot, sa, block: own.or(lent), whole, open, now, until }
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
        let Self { rooms, slot, sa, block, whole, open, now, until } = self;
        let (slot, whole) = (*slot, *whole);
        // What is kept decrypted goes when it is needed no more, and with the block that it leaves.
        let (open, closed) = (*open || sa.keeps_open(), *open && !sa.keeps_open());
        let written = sa.window.take_written();
        #[cfg(test)]
        if let Some(mut pair) = rooms.of(slot, block.as_ref()) {
            sa.window.cut_written(written, &mut pair);
        }
        let Some(block) = block.take() else {
            if closed {
                rooms.wipe_behind(slot, None, sa.kept());
            }
            return;
        };
        if closed {
            rooms.wipe_behind(slot, None, (0, 0));
        }
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
            if open {
                rooms.wipe_behind(slot, Some(&block), (0, 0));
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
        if closed {
            rooms.wipe_behind(slot, Some(&block), (request, response));
        }
        sa.block = Some(block);
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::vec;

    use ipsec_core::net::Path;

    use super::*;
    use crate::auth::course::{Asked, Course};
    use crate::endpoint::explorer::toy::Toy;
    use crate::registry::PayloadType;
    use crate::room::MARKER_LEN;
    use crate::sa::{Dead, InitAnswered, NONCE_LEN};

    const NOW: Instant = Instant::ZERO;
    /// Of the peer's IKE_SA_INIT, and what it says in IKE_AUTH.
    const THEIRS: usize = 30;
    const SAID: &[u8] = b"alice@example.org";

    fn rooms() -> Rooms<'static> {
        let octets = |len| Box::leak(vec![0; len].into_boxed_slice());
        Rooms::new(octets(2 * 160), 1, octets(2 * 2 * 640), 2).unwrap()
    }

    /// An SA that keeps what the peer said, and waits for an answer.
    fn standing(rooms: &mut Rooms<'_>) -> Sa<Toy> {
        let path = Path { local: ([192, 0, 2, 1], 500).into(), remote: ([192, 0, 2, 2], 500).into() };
        let mut sa: Sa<Toy> = Sa::new(false, 1, 2, path, State::Dead(Dead::default()));
        let mut desk = Desk::lay(rooms, 0, &mut sa, (NOW, NOW));
        let (sa_there, pair) = desk.parts().unwrap();
        let mut course = Course::new(0);
        course.keep(&mut pair.request[MARKER_LEN..], THEIRS, (PayloadType::ID_I, SAID)).unwrap();
        course.ask(Asked::Verdict, None);
        sa_there.state = State::InitAnswered(InitAnswered {
            since: NOW,
            until: NOW,
            nonce: [0; NONCE_LEN],
            request_len: THEIRS,
            course,
        });
        drop(desk);
        sa
    }

    /// In how many places of the rooms it stands.
    fn places(rooms: &mut Rooms<'_>) -> usize {
        let found = |room: &[u8]| room.windows(SAID.len()).filter(|octets| *octets == SAID).count();
        let blocks = [(); 2].map(|()| rooms.take());
        let all = blocks.each_ref().map(Option::as_ref).into_iter().chain([None]);
        let places = all
            .map(|block| rooms.of(0, block).map_or(0, |pair| found(pair.request) + found(pair.response)))
            .sum::<usize>();
        blocks.into_iter().flatten().for_each(|block| rooms.give_back(block));
        places
    }

    #[test]
    fn what_the_peer_said_is_kept_as_long_as_it_is_needed_and_nowhere_else() {
        for dies in [false, true] {
            let mut rooms = rooms();
            let mut sa = standing(&mut rooms);
            assert!(sa.block.is_some() && rooms.count_free() == 1, "who stands still keeps its block");
            // It is answered, and the peer's turn: what fits the pair is put away there.
            let mut desk = Desk::lay(&mut rooms, 0, &mut sa, (NOW, NOW));
            let (there, _) = desk.parts().unwrap();
            there.course_mut().unwrap().wait = None;
            drop(desk);
            assert!(sa.block.is_none() && rooms.count_free() == 2);
            assert_eq!(places(&mut rooms), 1, "in the pair");
            // With a block for the work, or without one.
            let others = if dies { [(); 2].map(|()| rooms.take()) } else { [None, None] };
            let mut desk = Desk::lay(&mut rooms, 0, &mut sa, (NOW, NOW));
            assert_eq!(desk.is_cramped(), dies);
            desk.parts().unwrap().0.state = State::Dead(Dead::default());
            drop(desk);
            others.into_iter().flatten().for_each(|block| rooms.give_back(block));
            assert_eq!((places(&mut rooms), rooms.count_free()), (0, 2), "it is over");
        }
    }

    #[test]
    fn what_goes_with_its_block_takes_along_what_the_peer_said() {
        let mut rooms = rooms();
        let mut sa = standing(&mut rooms);
        let mut desk = Desk::lay(&mut rooms, 0, &mut sa, (NOW, NOW));
        desk.parts().unwrap().0.state = State::Dead(Dead::default());
        drop(desk);
        assert_eq!((places(&mut rooms), rooms.count_free()), (0, 2));
    }
}
