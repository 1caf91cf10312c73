//! Who asked for what: two questions for the same child, packets that wake what was taken down, addresses that go, and what
//! an operator is shown and told meanwhile.

use std::time::Duration;

use gateway_core::gateway::{Parts, PeerState, What};
use gateway_core::policy::Outbound;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{OutboundSlot, Verdict};
use ipsec_core::spd::Hits;

use crate::world::{Site, Stopped, World, config, far, leak, packet, parts, peer, second};
use crate::{secs, up};

fn connecting(what: &What) -> bool {
    matches!(what, What::Connecting { .. })
}

/// Two connected sites that both ask for the second child at once: each has two SAs of it.
fn twins() -> World {
    let (left, right) = (peer(true, "", ""), peer(false, "start = \"passive\"", ""));
    let mut world = World::new(&left, &right).start();
    let (left, right) = (left + &second(3, 4), right + &second(4, 3));
    world.right.gateway.reload(world.now, config(&right), parts!(world.right)).1.unwrap();
    world.pass(secs(15));
    world.left.gateway.reload(world.now, config(&left), parts!(world.left)).1.unwrap();
    world.right.gateway.up(world.now, "other/two", parts!(world.right)).unwrap();
    world.exchange();
    assert_eq!(counts(&world), (3, 3), "{}", world.story());
    world
}

fn counts(world: &World) -> (usize, usize) {
    (world.left.plane.inbound.sas().count(), world.right.plane.inbound.sas().count())
}

/// A packet each way through the second child.
fn ping_two(world: &mut World) {
    assert_eq!(world.send(true, &packet(3, 4, b"x")), Ok(()), "{}", world.story());
    assert!(world.right.received.pop().is_some(), "{}", world.story());
    assert_eq!(world.send(false, &packet(4, 3, b"x")), Ok(()), "{}", world.story());
    assert!(world.left.received.pop().is_some(), "{}", world.story());
}

/// The SAs of the second child: the SPIs of both sides.
fn spis(site: &Site) -> Vec<(u32, u32)> {
    let two = site.endpoint.child_sas().filter(|sa| sa.local[0].addrs.start().to_string() == "10.3.0.0");
    two.map(|sa| (sa.spi_in.get().min(sa.spi_out.get()), sa.spi_in.get().max(sa.spi_out.get()))).collect()
}

#[test]
fn of_two_questions_for_one_child_one_answer_stays_without_a_gap_and_nobody_is_alarmed() {
    let mut world = twins();
    for _ in 0..8 {
        let lower = spis(&world.left).into_iter().min().unwrap();
        world.pass(secs(9));
        assert_eq!(counts(&world), (3, 3), "whoever asked is given time to close its own\n{}", world.story());
        for _ in 0..20 {
            world.pass(secs(1));
            ping_two(&mut world);
        }
        assert_eq!(counts(&world), (2, 2), "{}", world.story());
        assert!(!spis(&world.left).contains(&lower), "the one with the lowest SPI goes");
        assert_eq!(world.left.told(|what| *what == What::ChildDown), 0, "{}", world.story());
        // And once more.
        for site in [&mut world.left, &mut world.right] {
            site.gateway.down(world.now, "other/two", parts!(site)).unwrap();
        }
        world.pass(secs(10));
        for site in [&mut world.left, &mut world.right] {
            site.gateway.up(world.now, "other/two", parts!(site)).unwrap();
            site.story.clear();
        }
        world.exchange();
        assert_eq!(counts(&world), (3, 3), "{}", world.story());
    }
}

#[test]
fn of_two_answers_one_goes_whoever_rekeyed_them_meanwhile() {
    for left in [true, false] {
        let mut world = twins();
        world.pass(secs(2));
        let site = if left { &mut world.left } else { &mut world.right };
        assert_eq!(site.gateway.rekey(world.now, "other/two", false, parts!(site)), Ok(Ok(())));
        for _ in 0..40 {
            world.pass(secs(1));
            ping_two(&mut world);
        }
        assert_eq!(counts(&world), (2, 2), "{}", world.story());
    }
}

/// One side looks at the clock, the other one does not; what is said arrives.
fn tick(world: &mut World, left: bool) {
    let site = if left { &mut world.left } else { &mut world.right };
    site.gateway.handle_timeout(world.now, parts!(site));
    world.exchange();
}

/// Each hears from the other that its answer arrived.
fn confirm(world: &mut World) {
    let now = world.now;
    for site in [&mut world.left, &mut world.right] {
        let ike = site.endpoint.ike_sas().next().unwrap().id;
        site.endpoint.check_liveness(now, ike).unwrap();
    }
    world.exchange();
}

#[test]
fn of_two_answers_the_one_that_goes_is_left_to_whoever_asked_for_it_for_twice_as_long() {
    // Which of the two sides asked for it: the one that closes it first, when only that one looks.
    let closes = |left: bool, confirmed: bool, after: u64| {
        let mut world = twins();
        if confirmed {
            confirm(&mut world);
        }
        world.now = world.now + secs(after);
        tick(&mut world, left);
        counts(&world) == (2, 2)
    };
    let first = [true, false].map(|left| closes(left, true, 11));
    assert_eq!(first.iter().filter(|closed| **closed).count(), 1, "{first:?}");
    assert_eq!([true, false].map(|left| closes(left, true, 19)), first);
    assert_eq!([true, false].map(|left| closes(left, true, 21)), [true; 2]);
    // The one that stays is the answer of the first to close: as long as nothing shows that it arrived, that closes none.
    let other = first.map(|closed| !closed);
    // The sign may come late.
    let mut world = twins();
    world.now = world.now + secs(15);
    [true, false].into_iter().for_each(|left| tick(&mut world, left));
    confirm(&mut world);
    world.now = world.now + secs(11);
    tick(&mut world, first[0]);
    assert_eq!(counts(&world), (2, 2), "{}", world.story());
    assert_eq!([true, false].map(|left| closes(left, false, 19)), [false; 2]);
    assert_eq!([true, false].map(|left| closes(left, false, 21)), other);
}

#[test]
fn what_the_peer_has_yet_to_delete_after_its_rekey_is_none_of_two_answers() {
    for (left, which) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let mut world = twins();
        let begun = world.now;
        confirm(&mut world);
        // The peer rekeys one of them, and its Delete of the old one is lost.
        world.now = begun + secs(8);
        let (spi, _) = spis(&world.left)[which];
        let other = if left { &mut world.right } else { &mut world.left };
        let old = other.endpoint.child_sas().find(|sa| [sa.spi_in, sa.spi_out].map(|spi| spi.get()).contains(&spi));
        let old = old.unwrap().id;
        other.endpoint.rekey_child(world.now, old).unwrap();
        assert!(world.step() && world.step());
        world.cut = true;
        world.exchange();
        world.cut = false;
        let sent = world.messages;
        // The new one is younger than that.
        world.now = begun + secs(12);
        tick(&mut world, left);
        assert_eq!(world.messages, sent, "{left} {which}\n{}", world.story());
        world.pass(secs(60));
        assert_eq!(counts(&world), (2, 2), "{}", world.story());
        ping_two(&mut world);
    }
}

#[test]
fn two_answers_for_other_networks_of_one_child_both_stay() {
    let right = peer(false, "start = \"passive\"", "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"")
        + "[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.2.9.0/24\"\nremote-ts = \"10.1.0.0/16\"\n";
    let mut world = World::new(&peer(true, "", ""), &right).start();
    world.right.gateway.up(world.now, "other/two", parts!(world.right)).unwrap();
    world.exchange();
    assert_eq!(counts(&world), (2, 2), "{}", world.story());
    world.pass(secs(60));
    assert_eq!(counts(&world), (2, 2), "{}", world.story());
    assert_eq!(world.send(true, &far(1, 2, 9)), Ok(()));
    world.ping();
}

#[test]
fn a_packet_brings_back_what_was_taken_down_on_demand_and_it_is_shown_so() {
    for target in ["other", "other/net"] {
        let left = peer(true, "start = \"on-demand\"", "") + &second(3, 4);
        let mut world = World::new(&left, &(peer(false, "start = \"passive\"", "") + &second(4, 3))).start();
        let _ = world.send(true, &packet(1, 2, b"x"));
        world.exchange();
        world.ping();
        world.left.gateway.down(world.now, target, parts!(world.left)).unwrap();
        world.pass(secs(10));
        let held = |world: &mut World| {
            let parts = parts!(world.left);
            let status = world.left.gateway.status(parts).next().unwrap();
            status.held || status.children.iter().any(|child| child.held)
        };
        assert!(held(&mut world) && !world.left.child("other", "net").2, "{}", world.story());
        let _ = world.send(true, &packet(1, 2, b"x"));
        world.exchange();
        assert!(!held(&mut world), "{target} is shown as taken down\n{}", world.story());
        world.ping();
        world.pass(secs(10));
        assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
        world.pass(secs(30));
        world.ping();
        // Nobody wanted the other one.
        assert!(!world.left.child("other", "two").2, "{}", world.story());
    }
}

#[test]
fn a_packet_connects_with_its_own_child() {
    let left = peer(true, "start = \"on-demand\"", "") + &second(3, 4);
    let mut world = World::new(&left, &(peer(false, "start = \"passive\"", "") + &second(4, 3))).start();
    let _ = world.send(true, &packet(3, 4, b"x"));
    world.exchange();
    ping_two(&mut world);
    assert!(!world.left.child("other", "net").2, "{}", world.story());
}

#[test]
fn packets_for_several_children_while_their_peer_is_called_bring_up_each_of_them() {
    let left = peer(true, "start = \"on-demand\"", "") + &second(3, 4);
    let mut world = World::new(&left, &(peer(false, "start = \"passive\"", "") + &second(4, 3))).start();
    for (from, to) in [(1, 2), (3, 4)] {
        let stopped = world.send(true, &packet(from, to, b"x"));
        assert!(matches!(stopped, Err(Stopped::Acquire(_, true))), "an SA is said to be under way: {stopped:?}");
    }
    world.exchange();
    world.pass(secs(5));
    assert!(world.left.child("other", "net").2, "{}", world.story());
    assert!(world.left.child("other", "two").2, "{}", world.story());
}

#[test]
fn a_peer_that_was_taken_down_while_it_was_looked_for_is_looked_for_again() {
    let left = peer(true, "", "").replace("192.0.2.2", "gw.lab");
    let mut world = World::new(&left, &peer(false, "start = \"passive\"", "")).start();
    // Nobody has taken the question up yet.
    world.left.gateway.down(world.now, "other", parts!(world.left)).unwrap();
    assert!(world.left.gateway.poll_locate().is_none(), "it is taken back");
    world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
    assert!(world.left.gateway.poll_locate().is_some());
}

#[test]
fn what_was_asked_for_a_packet_is_forgotten_with_the_connection_that_was_asked() {
    let left = peer(true, "dpd = \"10s\"", "") + &second(3, 4);
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3).replace("\"10.4.0.0/16\"", "\"10.4.0.0/24\"");
    let mut world = World::new(&left, &right).start();
    ping_two(&mut world);
    // The peer narrowed this one away: it is asked for by itself, and the connection is lost.
    world.cut = true;
    let _ = world.send(true, &far(3, 4, 9));
    world.pass(secs(300));
    world.cut = false;
    world.left.story.clear();
    world.pass(secs(120));
    ping_two(&mut world);
    assert_eq!(world.left.told(|what| *what == What::ChildFailed), 0, "{}", world.story());
}

#[test]
fn nobody_calls_when_every_child_is_down() {
    let mut world = World::connected("dpd = \"10s\"", "");
    world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
    world.pass(secs(10));
    world.cut = true;
    world.pass(secs(300));
    world.cut = false;
    let before = world.left.told(connecting);
    world.pass(secs(300));
    assert_eq!(world.left.told(connecting), before, "{}", world.story());
    assert_ne!(world.left.state("other").0, PeerState::Connected);
}

#[test]
fn an_attempt_from_an_address_that_goes_is_begun_again_at_once_and_no_failure() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "start = \"passive\"", ""));
    world.cut = true;
    let mut world = world.start();
    world.pass(secs(1200));
    let fails = |world: &World| world.left.told(|what| matches!(what, What::Failed { .. }));
    let (begun, failed) = (world.left.told(connecting), fails(&world));
    assert_eq!((begun, failed > 3), (failed + 1, true), "one is under way");
    world.left.gateway.readdress(world.now, |_, _| false, parts!(world.left));
    world.exchange();
    assert_eq!(world.left.told(connecting), begun + 1, "{}", world.story());
    let failed = fails(&world);
    for _ in 0..600 {
        if fails(&world) == failed {
            world.pass(secs(1));
        }
    }
    // From the new address it is the first one.
    world.pass(secs(3));
    assert_eq!(world.left.told(connecting), begun + 2, "{}", world.story());
}

#[test]
fn of_two_connections_only_the_one_whose_address_went_loses_its_children() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "", "")).start();
    assert_eq!((world.left.endpoint.ike_sas().count(), counts(&world)), (2, (2, 2)), "{}", world.story());
    let mut first = true;
    let stands = |_, _| !std::mem::take(&mut first);
    world.left.gateway.readdress(world.now, stands, parts!(world.left));
    assert_eq!(world.left.plane.inbound.sas().count(), 1, "{}", world.story());
    world.exchange();
    assert_eq!(world.left.told(|what| *what == What::ChildDown), 0, "{}", world.story());
    world.ping();
}

#[test]
fn an_sa_that_only_drains_is_not_shown_as_up() {
    let mut world = World::connected("", "");
    world.pass(secs(20));
    assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
    world.exchange();
    assert_eq!(world.left.plane.inbound.sas().count(), 2, "the old one receives what is on its way\n{}", world.story());
    assert!(world.left.child("other", "net").2);
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.exchange();
    assert_eq!(world.left.plane.inbound.sas().count(), 1, "{}", world.story());
    assert!(!world.left.child("other", "net").2, "{}", world.story());
}

#[test]
fn a_child_that_was_up_only_briefly_is_asked_for_again_after_a_pause() {
    let mut world = World::new(&peer(true, "", "rekey = \"5s\"\nlifetime = \"8s\""), "");
    // There is no room for what takes its place.
    world.right = Site::with_children(2, &peer(false, "start = \"passive\"", ""), 64, 1);
    let mut world = world.start();
    let down = |world: &World| world.left.told(|what| *what == What::ChildDown);
    while down(&world) == 0 {
        world.pass(Duration::from_millis(50));
    }
    let before = world.left.told(up);
    world.pass(Duration::from_millis(600));
    assert_eq!(world.left.told(up), before, "{}", world.story());
    // A new connection was tried before its end, in vain too.
    world.pass(secs(5));
    assert_eq!(world.left.told(up), before + 1, "{}", world.story());
}

/// The right side took its child down, and the left one, which calls for packets only, wanted it back.
fn wanted_back(child: &str) -> World {
    let mut world =
        World::new(&peer(true, "start = \"on-demand\"", ""), &peer(false, "start = \"passive\"", child)).start();
    let _ = world.send(true, &packet(1, 2, b"first"));
    world.pass(secs(10));
    world.ping();
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.pass(secs(10));
    let _ = world.send(true, &packet(1, 2, b"again"));
    world.pass(secs(20));
    world.ping();
    world
}

#[test]
fn f_10_our_rekey_of_what_the_peer_wanted_back_does_not_take_it_down() {
    let mut world = wanted_back("");
    assert_eq!(world.right.gateway.rekey(world.now, "other/net", false, parts!(world.right)), Ok(Ok(())));
    world.pass(secs(30));
    assert!(world.right.child("other", "net").2, "{}", world.story());
    world.ping();
}

#[test]
fn f_10_our_lifetime_does_not_end_what_the_peer_wanted_back() {
    let mut world = wanted_back("rekey = \"60s\"\nlifetime = \"5m\"");
    world.pass(secs(120));
    assert!(world.right.child("other", "net").2, "{}", world.story());
    world.ping();
}

#[test]
fn f_10_a_child_that_is_deleted_after_its_rekey_is_told_of_and_takes_no_packet() {
    let mut world =
        World::new(&peer(true, "start = \"on-demand\"", ""), &peer(false, "start = \"passive\"", "")).start();
    let _ = world.send(true, &packet(1, 2, b"first"));
    world.pass(secs(20));
    world.ping();
    world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap().unwrap();
    world.exchange();
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.pass(secs(1));
    assert!(world.right.plane.inbound.sas().next().is_none());
    let sent = world.left.classify(&packet(1, 2, b"into the void"));
    let told = world.left.told(|what| *what == What::ChildDown);
    assert!(!matches!(sent, Ok(Verdict::Protect(_))), "{sent:?}, told {told}\n{}", world.story());
    assert_eq!(told, 1, "{}", world.story());
}

#[test]
fn f_10_the_end_of_a_child_after_its_rekey_is_told() {
    let mut world =
        World::new(&peer(true, "start = \"on-demand\"", ""), &peer(false, "start = \"passive\"", "")).start();
    let _ = world.send(true, &packet(1, 2, b"first"));
    world.pass(secs(20));
    world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap().unwrap();
    world.exchange();
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.pass(secs(100));
    assert!(!world.left.child("other", "net").2);
    assert_eq!(world.left.told(|what| *what == What::ChildDown), 1, "{}", world.story());
}

#[test]
fn f_53_up_of_a_peer_that_is_connected_is_no_wish_to_call_it_later() {
    let mut world = World::connected("", "");
    world.right.gateway.up(world.now, "other", parts!(world.right)).unwrap();
    world.pass(secs(60));
    world.cut = true;
    world.pass(secs(600));
    assert_eq!(world.right.told(connecting), 0, "a passive side calls\n{}", world.story());
}

#[test]
fn up_of_one_child_brings_back_its_neighbours_that_were_down_only_with_their_peer() {
    let mut world =
        World::new(&(peer(true, "", "") + &second(3, 4)), &(peer(false, "start = \"passive\"", "") + &second(4, 3)))
            .start();
    world.left.gateway.down(world.now, "other", parts!(world.left)).unwrap();
    world.exchange();
    // The peer wants one of them back, and nobody asks for the other.
    world.right.gateway.up(world.now, "other/net", parts!(world.right)).unwrap();
    world.pass(secs(60));
    let up = |world: &mut World| [world.left.child("other", "net").2, world.left.child("other", "two").2];
    assert_eq!(up(&mut world), [true, false], "{}", world.story());
    world.left.gateway.up(world.now, "other/net", parts!(world.left)).unwrap();
    world.exchange();
    assert_eq!(up(&mut world), [true, true], "{}", world.story());
}

#[test]
fn f_53_up_of_a_child_of_a_peer_that_fails_is_no_wish_to_have_it_later() {
    let mut world = World::new(
        &(peer(true, "start = \"passive\"", "") + &second(3, 4)),
        &(peer(false, "start = \"passive\"", "") + &second(4, 3)),
    )
    .start();
    world.cut = true;
    world.left.gateway.up(world.now, "other/two", parts!(world.left)).unwrap();
    world.pass(secs(300));
    assert_eq!(
        world.left.gateway.outcome("other/two", &parts!(lent world.left)).unwrap().map(|came| came.is_err()),
        Some(true)
    );
    // The peer comes by itself, and for another one.
    world.cut = false;
    world.right.gateway.up(world.now, "other/net", parts!(world.right)).unwrap();
    world.pass(secs(60));
    world.ping();
    let asked = world.left.told(|what| matches!(what, What::ChildUp { .. }));
    assert_eq!(asked, 1, "{}", world.story());
}

#[test]
fn f_25_a_child_that_was_asked_for_at_the_old_address_is_asked_for_at_the_new_one() {
    let mut world =
        World::new(&(peer(true, "", "") + &second(3, 4)), &(peer(false, "start = \"passive\"", "") + &second(4, 3)));
    world.left.gateway.start(world.now, parts!(world.left)).unwrap();
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    while !world.left.child("other", "net").2 {
        assert!(world.step());
    }
    // The question for the second child, and all else of this IKE SA, gets lost: the address is gone.
    let old = world.left.endpoint.ike_sas().next().unwrap();
    world.drop_spi = Some(old.spi_local.to_be_bytes());
    world.pass(secs(1));
    world.left.gateway.readdress(world.now, |_, _| false, parts!(world.left));
    world.pass(secs(5));
    assert!(world.left.child("other", "net").2, "{}", world.story());
    assert!(world.left.child("other", "two").2, "{}", world.story());
}

#[test]
fn f_10_what_a_peer_that_begins_anew_does_not_bring_back_is_told_as_down() {
    let left = peer(true, "start = \"passive\"", "") + &second(3, 4);
    let mut world = World::new(&left, &(peer(false, "", "") + &second(4, 3))).start();
    ping_two(&mut world);
    // It comes back with one of its two children.
    world.right = Site::new(9, &peer(false, "", ""), 64);
    world.left.story.clear();
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    world.exchange();
    world.ping();
    let down: Vec<_> = world.left.story.iter().filter(|report| report.what == What::ChildDown).collect();
    assert_eq!(down.len(), 1, "{}", world.story());
    assert_eq!(down[0].child.as_deref(), Some("two"));
}

#[test]
fn f_10_a_child_whose_rekey_finds_no_room_in_an_engine_is_told_as_down_and_comes_back() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "start = \"passive\"", ""));
    world.left.plane.outbound =
        Outbound::new(RustCrypto, leak(64, || Hits::NONE), leak(1, || OutboundSlot::<RustCrypto>::EMPTY));
    let mut world = world.start();
    world.ping();
    world.pass(secs(20));
    world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap().unwrap();
    world.exchange();
    let told = [What::ChildFailed, What::ChildDown].map(|what| world.left.told(|told| *told == what));
    assert_eq!(told, [1, 1], "{}", world.story());
    world.pass(secs(30));
    world.ping();
}

/// What was asked for is, for a moment, the heir of an SA that both sides have given up; and nothing comes of the heir.
#[test]
fn f_53_a_wish_that_a_rekey_was_to_fulfil_outlives_the_rekey() {
    let mut world = World::connected("", "");
    world.pass(secs(15));
    let _ = world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap();
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    assert!(world.step(), "the rekey crosses the Delete");
    assert!(world.step(), "and the Delete is here first");
    assert!(!world.left.child("other", "net").2, "{}", world.story());
    world.left.gateway.up(world.now, "other/net", parts!(world.left)).unwrap();
    world.pass(secs(30));
    assert!(world.left.child("other", "net").2, "{}", world.story());
    world.ping();
}

#[test]
fn f_61_what_is_to_be_made_anew_is_not_called_for_when_it_is_gone() {
    let pfs = |esp: &str| format!("esp = \"{esp}\"");
    let left = peer(true, "start = \"passive\"\ndpd = \"10s\"", &pfs("aes256gcm16"));
    let mut world = World::new(&left, &peer(false, "start = \"passive\"", &pfs("aes256gcm16-ecp256"))).start();
    world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
    world.pass(secs(15));
    world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap().unwrap();
    while world.left.told(|what| *what == What::Renewing) == 0 {
        assert!(world.step(), "{}", world.story());
    }
    world.cut = true;
    world.pass(secs(300));
    assert_eq!(world.left.endpoint.ike_sas().count(), 0, "{}", world.story());
    world.left.story.clear();
    world.pass(secs(600));
    assert_eq!(world.left.told(connecting), 0, "{}", world.story());
}

#[test]
fn f_61_a_connection_that_ends_while_it_is_made_anew_is_made_anew_once() {
    let pfs = |esp: &str| format!("esp = \"{esp}\"");
    let right = peer(false, "start = \"passive\"", &pfs("aes256gcm16-ecp256"));
    let mut world = World::new(&peer(true, "", &pfs("aes256gcm16")), &right).start();
    world.pass(secs(15));
    world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap().unwrap();
    while world.left.told(connecting) < 2 {
        assert!(world.step(), "{}", world.story());
    }
    let old = world.right.endpoint.ike_sas().next().unwrap().id;
    let anew = world.left.endpoint.ike_sas().find(|ike| ike.since.is_none()).unwrap();
    world.right.endpoint.close(world.now, old).unwrap();
    // It takes a while.
    world.drop_spi = Some(anew.spi_local.to_be_bytes());
    world.pass(secs(5));
    assert_eq!(world.left.told(|what| *what == What::Closed), 1, "{}", world.story());
    world.drop_spi = None;
    world.pass(secs(120));
    assert_eq!(world.left.told(connecting), 2, "{}", world.story());
    world.ping();
}

#[test]
fn f_53_a_wish_of_a_packet_goes_with_the_connection() {
    let left = peer(true, "start = \"on-demand\"\ndpd = \"10s\"", "") + &second(3, 4);
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
    let mut world = World::new(&left, &right).start();
    let _ = world.send(true, &packet(1, 2, b"x"));
    world.pass(secs(60));
    world.ping();
    world.cut = true;
    let _ = world.send(true, &packet(3, 4, b"x"));
    world.pass(secs(300));
    assert_eq!(world.left.endpoint.ike_sas().count(), 0, "{}", world.story());
    // Later the peer calls, for the other child.
    world.cut = false;
    world.right.gateway.up(world.now, "other/net", parts!(world.right)).unwrap();
    world.pass(secs(60));
    assert_eq!((world.left.child("other", "net").2, world.left.child("other", "two").2), (true, false));
}

#[test]
fn f_62_a_rekey_that_fails_is_not_the_answer_to_the_question_of_a_packet() {
    let right = peer(false, "start = \"passive\"", "esp = \"aes256gcm16-ecp256\"")
        .replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"");
    let mut world = World::new(&peer(true, "", "esp = \"aes256gcm16\""), &right).start();
    world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap().unwrap();
    assert!(matches!(world.send(true, &far(1, 2, 9)), Err(Stopped::Acquire(_, true))));
    world.exchange();
    let failed = world.left.story.iter().filter(|report| matches!(report.what, What::RekeyFailed | What::Narrowed));
    let failed: Vec<_> = failed.map(|report| report.what.clone()).collect();
    assert_eq!(failed, [What::Narrowed, What::RekeyFailed, What::Narrowed], "{}", world.story());
}
