//! Messages of more than one datagram: what is lost, doubled and overtaken are datagrams.

use std::vec::Vec;

use super::{Budget, Memory, Side, World};
use crate::endpoint::explorer::toy::mixed;
use crate::room::cut::cut_at;

/// Numbers below `limit`, the same for each seed.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = mixed(self.0);
        (self.0 % limit as u64) as usize
    }
}

impl World<'_> {
    /// One of the datagrams that are on their way arrives, is lost or is doubled, or the time passes.
    fn stumble(&mut self, draws: &mut Draws) {
        if self.wire.is_empty() || draws.below(100) == 0 {
            let _ = self.wait();
        } else {
            // Mostly in their order.
            let first = draws.below(self.wire.len()).min(draws.below(self.wire.len()));
            let flight = self.wire.remove(first);
            match draws.below(10) {
                0 => {}
                1 => {
                    self.wire.push(flight.clone());
                    self.deliver(flight);
                }
                _ => self.deliver(flight),
            }
        }
        self.settle().unwrap();
    }
}

#[test]
fn messages_of_several_datagrams_get_through_loss_disorder_and_repetition() {
    // The smaller, the more of the messages are cut.
    for (seed, each) in (0..200).zip([60, 90, 140, 200].into_iter().cycle()) {
        cut_at(each);
        let mut draws = Draws(seed);
        let budget = Budget { wishes: 0, faults: 0, waits: 0, closes: false };
        let mut memory = [(); 2].map(|()| Memory::new());
        let mut world = World::new(&mut memory, budget, (seed % 2) as u8);
        for wish in 0..4 {
            let side = &mut world.sides[draws.below(2)];
            let now = world.now;
            match (side.sending, side.ike(), draws.below(2)) {
                (Some(child), _, 0) => drop(side.endpoint.rekey_child(now, child)),
                (_, Ok(ike), _) => drop(side.endpoint.rekey_ike(now, ike)),
                _ => {}
            }
            world.settle().unwrap();
            (0..30).for_each(|_| world.stumble(&mut draws));
            if wish == 3 {
                world.come_to_rest().unwrap_or_else(|why| panic!("{seed}: {why}"));
            }
        }
        world.check_at_rest().unwrap_or_else(|why| panic!("{seed}: {why}"));
        let now = world.now;
        let blocks = world.sides.each_ref().map(|Side { endpoint, .. }| endpoint.rooms.count_free());
        // An answer of many datagrams keeps its block for as long as nobody else wants one.
        assert!(blocks.iter().all(|free| *free >= super::SAS - 1), "{seed} {blocks:?}");
        let ike = world.sides[0].ike().unwrap();
        world.sides[0].endpoint.close(now, ike).unwrap();
        // That an IKE SA ends is what nobody expects elsewhere.
        let _ = world.settle();
        while !world.wire.is_empty() || world.wait() {
            if !world.wire.is_empty() {
                let flight = world.wire.remove(0);
                world.deliver(flight);
            }
            let _ = world.settle();
        }
        let left: Vec<_> = world.sides.iter().map(|side| side.endpoint.occupancy()).collect();
        assert!(left.iter().all(|left| *left == Default::default()), "{seed} {left:?}");
        cut_at(0);
    }
}
