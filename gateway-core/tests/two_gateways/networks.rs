//! A peer that gives each of its networks an SA of its own: all of them are one child here (RFC 7296 §2.9).

use gateway_core::gateway::{Parts, What};

use crate::secs;
use crate::world::{Site, World, config, far, parts, peer};

/// The networks of the right side that the left one has one child for.
const THIRDS: [u8; 3] = [0, 9, 17];

/// The right side has a child for each of its networks and room for so many SAs, the left one a child for all.
fn each_its_own(lines: &str, room: usize) -> World {
    each_its_own_by_chance([1, 2], lines, room)
}

/// The same with other numbers drawn on both sides.
fn each_its_own_by_chance(seeds: [u64; 2], lines: &str, room: usize) -> World {
    let more = |third: u8| {
        format!("[[peer.child]]\nname = \"n{third}\"\nlocal-ts = \"10.2.{third}.0/24\"\nremote-ts = \"10.1.0.0/16\"\n")
    };
    let right = peer(false, lines, "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"") + &more(9) + &more(17);
    let mut world = World::new("", "");
    world.left = Site::new(seeds[0], &peer(true, "", ""), 64);
    world.right = Site::with_children(seeds[1], &right, 64, room);
    let mut world = world.start();
    for third in THIRDS {
        let _ = world.send(true, &far(1, 2, third));
        world.exchange();
    }
    all_pass(&mut world);
    world
}

/// A packet from each network of the right side, and to it.
fn all_pass(world: &mut World) {
    for third in THIRDS {
        let mut back = far(2, 1, 0);
        back[14] = third;
        assert_eq!(world.send(false, &back), Ok(()), "from 10.2.{third}.10\n{}", world.story());
        assert_eq!(world.left.received.pop(), Some(back), "from 10.2.{third}.10\n{}", world.story());
        let out = far(1, 2, third);
        assert_eq!(world.send(true, &out), Ok(()), "to 10.2.{third}.10\n{}", world.story());
        assert_eq!(world.right.received.pop(), Some(out), "to 10.2.{third}.10\n{}", world.story());
    }
}

#[test]
fn f_61_a_connection_that_is_made_anew_carries_every_sa_of_a_child_on_without_a_gap() {
    let mut world = each_its_own("start = \"passive\"", 16);
    for _ in 0..3 {
        world.pass(secs(15));
        let ike = world.left.endpoint.ike_sas().next().unwrap();
        world.limit(true, &ike, 20);
        let mut most = 0;
        for _ in 0..60 {
            all_pass(&mut world);
            world.pass(secs(1));
            most = most.max(world.left.plane.inbound.sas().count());
        }
        assert_eq!(most, 6, "all came over before the old ones went\n{}", world.story());
        assert!(world.left.endpoint.ike_sa(ike.id).is_none(), "{}", world.story());
        assert_eq!(world.left.endpoint.ike_sas().count(), 1, "{}", world.story());
        assert_eq!(world.left.plane.inbound.sas().count(), 3, "{}", world.story());
    }
    assert_eq!(world.left.told(|what| *what == What::Renewing), 3, "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::ChildFailed), 0, "{}", world.story());
}

#[test]
fn f_60_an_sa_that_the_connection_that_stays_is_refused_goes_on_where_it_is() {
    let mut met = 0;
    for seed in 2..8 {
        // There is no room for two of each.
        let mut world = each_its_own_by_chance([100 + seed, seed], "", 4);
        for _ in 0..300 {
            all_pass(&mut world);
            world.pass(secs(1));
        }
        let causes = world.left.story.iter().filter_map(|report| report.cause.as_ref());
        let refused = causes.filter(|cause| cause.code == "not-covered").count();
        assert!(refused <= 6, "{refused}\n{}", world.story());
        assert_eq!(world.left.told(|what| *what == What::ChildDown), 0, "{}", world.story());
        met += usize::from(refused > 0);
    }
    // Where the connection that stays is the one that all were asked for on, there is nothing to carry over.
    assert!(met > 0, "nothing was refused");
}

#[test]
fn f_71_a_narrowed_child_says_in_status_what_all_its_sas_carry_and_tells_no_rekey_as_news() {
    let mut world = each_its_own("start = \"passive\"", 16);
    for _ in 0..10 {
        world.pass(secs(15));
        assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
        all_pass(&mut world);
        let parts = parts!(world.left);
        let cause = world.left.gateway.status(parts).next().unwrap().children[0].cause.clone().unwrap();
        assert!(THIRDS.iter().all(|third| cause.text.contains(&format!("10.2.{third}.0/24"))), "{cause}");
    }
    assert_eq!(world.left.told(|what| *what == What::Narrowed), 1, "{}", world.story());
    assert_eq!(world.left.child("other", "net").1, 30, "{}", world.story());
    // What a reload ends is not carried any more, and what stands is.
    let two = peer(false, "start = \"passive\"", "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"");
    world.right.gateway.reload(world.now, config(&two), parts!(world.right)).1.unwrap();
    world.exchange();
    let parts = parts!(world.left);
    let cause = world.left.gateway.status(parts).next().unwrap().children[0].cause.clone().unwrap();
    assert!(cause.text.ends_with(": 10.1.0.0/16 == 10.2.0.0/24"), "{cause}");
}
