//! Several parties that share a peer of the left side.

use std::time::Duration;

use gateway_core::gateway::{Parts, What};

use crate::world::{Site, World, far, parts, peer};

/// A site that shares a peer with others: its lines, its identity, its network, lines of its child, its room for Child SAs.
pub(crate) fn party(seed: u64, lines: &str, (id, net): (&str, u8), child: &str, room: usize) -> Site {
    let text = peer(false, lines, child)
        .replace("local-id = \"right.lab\"", &format!("local-id = \"{id}\""))
        .replace("local-ts = \"10.2.0.0/16\"", &format!("local-ts = \"10.2.{net}.0/24\""));
    Site::with_children(seed, &text, 64, room)
}

/// The left side and those who share its peer: a is at the right, b beside.
pub(crate) struct Three {
    pub(crate) world: World,
    pub(crate) b: Site,
}

impl Three {
    /// Both call.
    pub(crate) fn called(b_first: bool, net_of_b: u8) -> Self {
        // From one place: to those that may be anywhere no two may have the same network.
        let left = peer(true, "start = \"passive\"\ndpd = \"10s\"", "")
            .replace("remote-id = \"right.lab\"", "remote-id = \"any\"");
        let mut world = World::new(&left, "");
        world.right = party(2, "dpd = \"0s\"", ("a.lab", 1), "", 16);
        world.left.gateway.start(world.now, parts!(world.left)).unwrap();
        let mut three = Self { world, b: party(3, "dpd = \"0s\"", ("b.lab", net_of_b), "", 16) };
        for turn in [b_first, !b_first] {
            let start = |world: &mut World| {
                world.right.gateway.start(world.now, parts!(world.right)).unwrap();
                world.exchange();
            };
            if turn { three.beside(start) } else { start(&mut three.world) }
        }
        assert_eq!(three.world.left.plane.outbound.sas().count(), 2, "{}", three.world.story());
        three
    }

    /// The left side calls a, and is called by b.
    pub(crate) fn calling(left: &str, a: Site, b: Site) -> Self {
        let mut world = World::new(&left.replace("remote-id = \"right.lab\"", "remote-id = \"any\""), "");
        world.right = a;
        let mut three = Self { world: world.start(), b };
        three.beside(|world| {
            world.right.gateway.start(world.now, parts!(world.right)).unwrap();
            world.exchange();
        });
        three
    }

    /// While b is at the right.
    pub(crate) fn beside<T>(&mut self, what: impl FnOnce(&mut World) -> T) -> T {
        core::mem::swap(&mut self.world.right, &mut self.b);
        let done = what(&mut self.world);
        core::mem::swap(&mut self.world.right, &mut self.b);
        done
    }

    /// b is sent a line of a log. IKE hears both of them: what comes while the other one is there is repeated.
    pub(crate) fn log_to_b(&mut self) {
        self.world.pass(Duration::from_millis(300));
        self.beside(|world| {
            let _ = world.send(true, &far(1, 2, 2));
            world.right.received.clear();
            world.pass(Duration::from_millis(400));
        });
    }

    pub(crate) fn told(&self, what: impl Fn(&What) -> bool) -> usize {
        self.world.left.told(what)
    }
}

/// a has room for one Child SA, so that no rekey succeeds there; b for as many.
pub(crate) fn refusing(left: &str, a: usize, b: usize) -> Three {
    let party = |seed, lines, whose, room| party(seed, lines, whose, "", room);
    let a = party(2, "start = \"passive\"\ndpd = \"0s\"", ("a.lab", 1), a);
    Three::calling(&peer(true, left, ""), a, party(3, "dpd = \"0s\"", ("b.lab", 2), b))
}
