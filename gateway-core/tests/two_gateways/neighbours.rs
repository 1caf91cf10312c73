//! Many children of one peer: what happens to one of them costs nothing for the sake of the others.

use gateway_core::gateway::{Parts, What};

use crate::secs;
use crate::world::{Site, World, packet, parts, peer};

/// A peer with so many children, of which the first is `net`.
fn many(left: bool, lines: &str, children: usize) -> String {
    let (ours, far) = if left { (1, 2) } else { (2, 1) };
    let child = |number: usize| {
        format!(
            "[[peer.child]]\nname = \"c{number}\"\nlocal-ts = \"10.{ours}.{number}.0/24\"\n\
             remote-ts = \"10.{far}.{number}.0/24\"\n"
        )
    };
    let first = peer(left, lines, "").replace(".0.0/16", ".0.0/24");
    first + &(1..children).map(child).collect::<String>()
}

/// How many IKE SAs, Child SAs and children the side that calls looks at, and the other one: for each child while all come up,
/// when one goes, when a packet brings it back, when it is rekeyed, and when the other side rekeys it.
fn looked(children: usize) -> [[u64; 2]; 5] {
    let mut world = World::new("", "");
    let room = 2 * children + 4;
    let site = |seed, left, lines| Site::with_tables(seed, &many(left, lines, children), 256, [8, room, room]);
    world.left = site(1, true, "start = \"on-demand\"");
    world.right = site(2, false, "start = \"passive\"");
    world.unchecked = true;
    let mut world = world.start();
    let mut looks = Vec::new();
    let mut count = |world: &mut World, each: usize, event: &mut dyn FnMut(&mut World)| {
        let looked = |world: &World| [world.left.gateway.looked(), world.right.gateway.looked()];
        let before = looked(world);
        event(world);
        world.exchange();
        let after = looked(world);
        looks.push([0, 1].map(|side: usize| (after[side] - before[side]) / each as u64));
    };
    count(&mut world, children, &mut |world| world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap());
    assert_eq!(world.left.plane.outbound.sas().count(), children, "{}", world.story());
    count(&mut world, 1, &mut |world| world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap());
    assert_eq!(world.right.plane.outbound.sas().count(), children - 1, "{}", world.story());
    count(&mut world, 1, &mut |world| drop(world.send(true, &packet(1, 2, b"back"))));
    count(&mut world, 1, &mut |world| {
        world.pass(secs(20)); // what the left side asked for is settled
        world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap().unwrap();
    });
    count(&mut world, 1, &mut |world| {
        world.right.gateway.rekey(world.now, "other/net", false, parts!(world.right)).unwrap().unwrap();
    });
    assert_eq!([world.left.child("other", "net").1, world.right.child("other", "net").1], [2, 2], "{}", world.story());
    assert_eq!(world.left.told(|what| matches!(what, What::ChildDown)), 1, "{}", world.story());
    looks.try_into().unwrap()
}

#[test]
fn what_one_of_many_children_does_has_a_gateway_look_at_nothing_of_the_others() {
    // Connecting has its own share in that of each.
    let (few, many) = (looked(4), looked(100));
    assert!((0..2).all(|side| many[0][side] <= few[0][side] + 1), "{few:?} {many:?}");
    assert_eq!(few[1..], many[1..]);
}

#[test]
fn each_child_that_finds_no_place_says_so_at_once_however_many_there_are() {
    let mut world = World::new("", "");
    let site = |seed, left, lines, room| Site::with_tables(seed, &many(left, lines, 60), 256, [8, room, 200]);
    world.left = site(1, true, "", 4);
    world.right = site(2, false, "start = \"passive\"", 200);
    let mut world = world.start();
    world.pass(secs(60));
    world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
    let parts = parts!(world.left);
    let status = world.left.gateway.status(parts).next().unwrap();
    let down = || status.children.iter().filter(|child| child.sa.is_none());
    assert_eq!(
        (down().count(), down().filter(|child| child.cause.is_none() || child.retry_at.is_none()).count()),
        (56, 0)
    );
}
