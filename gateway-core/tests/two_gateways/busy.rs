//! Peers that are busy: for a moment, for minutes, and for good.

use std::collections::BTreeSet;

use gateway_core::gateway::{Parts, What};

use crate::refusals::{Refusal, TEMPORARY_FAILURE, down, renewing};
use crate::secs;
use crate::world::{World, packet, parts, peer, second};

pub(crate) fn busy() -> Option<Refusal> {
    Some(Refusal::Children(TEMPORARY_FAILURE, &[], BTreeSet::new()))
}

#[test]
fn f_61_a_peer_that_is_busy_for_one_child_costs_neither_the_connection_nor_the_others_and_is_told() {
    // The peer makes the first child with IKE_AUTH, and nothing afterwards; and the second one not even then.
    for with_auth in [true, false] {
        let two = if with_auth { second(4, 3) } else { second(4, 3).replace("10.4.", "10.9.") };
        let right = peer(false, "start = \"passive\"", "") + &two;
        let mut world = World::new(&(peer(true, "", "") + &second(3, 4)), &right);
        world.refusal = busy();
        let mut world = world.start();
        world.pass(secs(60));
        assert_eq!(world.left.cause_of("two"), Some("peer-busy"), "{}", world.story());
        for _ in 0..3600 {
            world.pass(secs(1));
            world.ping();
            world.right.received.clear();
        }
        let connected = world.left.told(|what| matches!(what, What::Connected { .. }));
        assert!((2..=8).contains(&connected), "{connected}\n{}", world.story());
        assert_eq!(world.left.told(down), 0, "{}", world.story());
        assert_eq!(world.left.child("other", "two").2, with_auth, "{}", world.story());
    }
}

#[test]
fn f_61_a_rekey_that_the_peer_is_always_too_busy_for_is_carried_on_beside_what_stands() {
    for lines in ["rekey = \"10m\"", ""] {
        let child = if lines.is_empty() { "rekey = \"10m\"" } else { "rekey = \"8h\"" };
        let mut world = World::new(&peer(true, lines, child), &peer(false, "start = \"passive\"", ""));
        world.refusal = busy();
        let mut world = world.start();
        for _ in 0..7200 {
            world.pass(secs(1));
            world.ping();
            world.right.received.clear();
        }
        let connected = world.left.told(|what| matches!(what, What::Connected { .. }));
        assert!((5..=13).contains(&connected), "{connected}\n{}", world.story());
        assert_eq!(world.left.told(down), 0, "{}", world.story());
    }
}

/// The left side cannot rekey the IKE SA that the right one is always too busy for.
fn cannot_rekey(left: &str, right: &str) -> World {
    let mut world = World::new(left, right).start();
    world.refusal = busy();
    world
}

#[test]
fn f_61_what_was_called_for_by_the_peer_is_not_made_anew_here_however_long_that_is_busy() {
    let mut world = cannot_rekey(&peer(true, "start = \"passive\"\nrekey = \"10m\"", ""), &peer(false, "", ""));
    world.pass(secs(3600));
    assert!(world.left.told(|what| *what == What::RekeyFailed) > 3, "{}", world.story());
    let anew = |what: &What| matches!(what, What::Renewing | What::Connecting { .. });
    assert_eq!(world.left.told(anew), 0, "{}", world.story());
    world.ping();
}

#[test]
fn f_61_a_connection_that_is_to_be_made_anew_is_for_a_child_that_is_wanted_here_beside_one_that_is_not() {
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
    let mut world = cannot_rekey(&(peer(true, "rekey = \"10m\"", "") + &second(3, 4)), &right);
    world.refusal = None;
    world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
    world.pass(secs(20));
    world.right.gateway.up(world.now, "other/net", parts!(world.right)).unwrap();
    world.pass(secs(20));
    assert!(world.left.child("other", "net").2 && world.left.child("other", "two").2, "{}", world.story());
    world.refusal = busy();
    world.pass(secs(1800));
    assert!(world.left.told(renewing) > 0, "{}", world.story());
}

#[test]
fn f_61_a_peer_that_is_busy_for_less_than_some_minutes_costs_no_connection_whether_that_carries_something_or_not() {
    for up in [true, false] {
        let mut world = World::connected("dpd = \"10m\"", "dpd = \"10m\"");
        if !up {
            world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
            world.exchange();
        }
        world.refusal = busy();
        assert_eq!(world.left.gateway.rekey(world.now, "other", true, parts!(world.left)), Ok(Ok(())));
        world.pass(secs(170));
        assert!(world.left.told(|what| *what == What::RekeyFailed) > 0, "{}", world.story());
        let ended = |what: &What| matches!(what, What::Renewing | What::Closed | What::Connecting { .. });
        assert_eq!(world.left.told(ended), 1, "the first call\n{}", world.story());
    }
}

#[test]
fn f_61_a_connection_of_a_peer_that_stays_busy_ends_once_it_carries_nothing_where_the_peer_is_to_call() {
    let mut world = World::new(&peer(true, "start = \"passive\"", ""), &peer(false, "", "")).start();
    world.refusal = busy();
    for up in [true, false] {
        for _ in 0..600 {
            let _ = world.send(true, &packet(1, 2, b"on and on"));
            world.pass(secs(1));
        }
        assert_eq!(world.left.told(|what| *what == What::Closed), usize::from(!up), "{}", world.story());
        world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
        world.exchange();
    }
}
