//! Packets for what the peer's narrowing left out: who asks for an SA of their own, how often, and how many there are.

use std::time::Duration;

use gateway_core::cause::Kind;
use gateway_core::gateway::{Parts, What};
use gateway_core::policy::{Inbound, Outbound};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{InboundSlot, OutboundSlot};
use ipsec_core::spd::Hits;

use crate::world::{Site, Stopped, World, far, leak, parts, peer};
use crate::{secs, up};

/// We have a /16, the peer gives each /24 an SA of its own; the first of them is up, and there is room for many.
fn narrow() -> World {
    let networks = (1..20).map(|third| {
        format!("[[peer.child]]\nname = \"n{third}\"\nlocal-ts = \"10.2.{third}.0/24\"\nremote-ts = \"10.1.0.0/16\"\n")
    });
    let right = peer(false, "start = \"passive\"", "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"")
        + &networks.collect::<String>();
    let left = peer(true, "", "");
    let mut world = World::new(&left, &right);
    world.left = Site::with_children(1, &left, 64, 64);
    world.right = Site::with_children(2, &right, 64, 64);
    for site in [&mut world.left, &mut world.right] {
        let rules = || leak(64, || Hits::NONE);
        site.plane.outbound = Outbound::new(RustCrypto, rules(), leak(64, || OutboundSlot::<RustCrypto>::EMPTY));
        let sas = leak(64, || InboundSlot::<RustCrypto>::EMPTY);
        site.plane.inbound = Inbound::new(RustCrypto, rules(), sas, leak(64 * 16, || 0));
    }
    world.start()
}

fn failures(world: &World) -> Vec<&'static str> {
    let about = world.left.story.iter().filter_map(|report| report.cause.as_ref().map(|cause| (&report.what, cause)));
    let about: Vec<_> = about.filter(|(_, cause)| cause.kind == Kind::Refusal).collect();
    assert!(about.iter().all(|(what, _)| **what == What::Narrowed), "the child is up\n{}", world.story());
    about.iter().map(|(_, cause)| cause.code).collect()
}

/// As many SAs as single packets may bring.
fn filled() -> World {
    let mut world = narrow();
    for third in 1..16 {
        world.send(true, &far(1, 2, third)).unwrap_err();
        world.exchange();
    }
    assert_eq!(world.left.plane.inbound.sas().count(), 16, "{}", world.story());
    world
}

#[test]
fn f_62_no_unused_sa_goes_for_a_packet_that_the_peer_gives_none() {
    let mut world = filled();
    for _ in 0..4 {
        world.pass(secs(1800));
        for third in 0..14 {
            assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{third}\n{}", world.story());
        }
    }
    // Two are unused, and the peer has nothing there.
    assert!(matches!(world.send(true, &far(1, 2, 200)), Err(Stopped::Acquire(_, true))), "{}", world.story());
    world.pass(secs(5));
    assert_eq!(failures(&world), ["not-covered"], "{}", world.story());
    for third in 0..16 {
        assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{third}\n{}", world.story());
    }
}

#[test]
fn f_62_what_the_peer_asked_for_stays_also_when_nobody_uses_it() {
    let mut world = narrow();
    let mut theirs = far(2, 1, 0);
    theirs[14] = 1; // 10.2.1.10
    world.send(false, &theirs).unwrap_err();
    world.pass(secs(1));
    for third in 2..16 {
        world.send(true, &far(1, 2, third)).unwrap_err();
        world.exchange();
    }
    assert_eq!(world.left.plane.inbound.sas().count(), 16, "{}", world.story());
    for _ in 0..6 {
        world.pass(secs(1200));
        for third in (0..15).filter(|third| *third != 1) {
            assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{third}\n{}", world.story());
        }
    }
    // The last one of ours makes room.
    assert!(matches!(world.send(true, &far(1, 2, 16)), Err(Stopped::Acquire(_, true))), "{}", world.story());
    world.pass(secs(10));
    for third in (0..15).chain([16]) {
        assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{third}\n{}", world.story());
    }
    assert_eq!(world.left.plane.inbound.sas().count(), 16, "{}", world.story());
}

#[test]
fn f_62_that_a_child_may_have_no_further_sa_is_told_once_and_shown_through_rekeys() {
    let mut world = filled();
    for _ in 0..108 {
        for third in 0..16 {
            assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{third}\n{}", world.story());
        }
        assert!(matches!(world.send(true, &far(1, 2, 18)), Err(Stopped::Acquire(_, false))), "{}", world.story());
        world.pass(secs(100));
        assert_eq!(world.left.state("other").1, Some("too-many-sas"), "{}", world.story());
    }
    assert!(world.left.child("other", "net").1 > 16, "{}", world.story());
    assert_eq!(failures(&world), ["too-many-sas"], "{}", world.story());
}

#[test]
fn f_62_single_packets_bring_a_child_sixteen_sas_and_more_only_in_the_place_of_unused_ones_which_is_told() {
    let mut world = narrow();
    let mut asked = Vec::new();
    for third in 1..20 {
        let stopped = world.send(true, &far(1, 2, third));
        asked.extend(matches!(stopped, Err(Stopped::Acquire(_, true))).then_some(third));
        world.exchange();
    }
    assert_eq!(asked, (1..16).collect::<Vec<_>>(), "{}", world.story());
    assert_eq!(world.left.plane.inbound.sas().count(), 16, "{}", world.story());
    // That no other packet gets one is told, once; some are in use.
    assert_eq!((failures(&world), world.left.state("other").1), (vec!["too-many-sas"], Some("too-many-sas")));
    for _ in 0..6 {
        world.pass(secs(1200));
        for third in 0..14 {
            assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{third}\n{}", world.story());
        }
    }
    // Two were used by nobody, over a rekey and more, and make room.
    for third in 16..19 {
        let asked = matches!(world.send(true, &far(1, 2, third)), Err(Stopped::Acquire(_, true)));
        assert_eq!(asked, third < 18, "{third}\n{}", world.story());
        world.pass(secs(10));
        let sent = world.send(true, &far(1, 2, third));
        assert_eq!(sent.is_ok(), third < 18, "{third} {sent:?}\n{}", world.story());
    }
    for third in 0..14 {
        assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{third}\n{}", world.story());
    }
    assert_eq!(world.left.plane.inbound.sas().count(), 16, "{}", world.story());
}

#[test]
fn f_62_an_sa_that_a_new_connection_carried_on_is_no_more_in_use_by_that() {
    let mut world = filled();
    // The peer wants to know anew who we are, each half an hour.
    for minute in 0..120 {
        world.pass(secs(60));
        if minute % 30 == 20 {
            let ike = world.left.endpoint.ike_sas().next().unwrap();
            world.limit(true, &ike, 20);
        }
        for third in 0..14 {
            assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{third}\n{}", world.story());
        }
    }
    assert_eq!(world.left.told(|what| *what == What::Renewing), 4, "{}", world.story());
    assert_eq!(world.left.plane.inbound.sas().count(), 16, "{}", world.story());
    assert!(matches!(world.send(true, &far(1, 2, 17)), Err(Stopped::Acquire(_, true))), "{}", world.story());
    world.exchange();
    assert_eq!(world.send(true, &far(1, 2, 17)), Ok(()), "{}", world.story());
    assert_eq!(failures(&world), [""; 0], "{}", world.story());
}

#[test]
fn f_62_each_of_two_connections_has_places_of_its_own_and_gives_up_as_many_as_are_needed() {
    let mut world = filled();
    // The last two are used by nobody.
    for _ in 0..3 {
        world.pass(secs(1300));
        for third in 0..14 {
            assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{third}\n{}", world.story());
        }
    }
    let ike = world.left.endpoint.ike_sas().next().unwrap();
    world.limit(true, &ike, 20);
    for _ in 0..20 {
        if world.left.plane.inbound.sas().count() < 32 {
            world.pass(secs(1));
        }
    }
    assert_eq!(world.left.endpoint.ike_sas().count(), 2, "{}", world.story());
    let before = world.left.told(up);
    assert!(matches!(world.send(true, &far(1, 2, 17)), Err(Stopped::Acquire(_, true))), "{}", world.story());
    world.exchange();
    // What gave up its place over the one connection still stands over the other, and may be carried on again.
    let came = world.left.told(up) - before;
    assert!((1..=2).contains(&came), "one takes the place of one: {came}\n{}", world.story());
    world.pass(secs(10));
    assert_eq!(world.left.endpoint.ike_sas().count(), 1, "{}", world.story());
    for third in (0..14).chain([17]) {
        assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{third}\n{}", world.story());
    }
    assert_eq!(failures(&world), [""; 0], "{}", world.story());
}

#[test]
fn f_62_an_sa_that_only_drains_carries_no_packet_and_another_one_is_asked_for() {
    let mut world = narrow();
    world.send(true, &far(1, 2, 3)).unwrap_err();
    world.exchange();
    world.pass(secs(15));
    assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
    world.exchange();
    // The peer takes back what took the place of the second one.
    world.right.gateway.down(world.now, "other/n3", parts!(world.right)).unwrap();
    world.exchange();
    let sas = |world: &World| (world.left.plane.inbound.sas().count(), world.left.plane.outbound.sas().count());
    assert_eq!(sas(&world), (3, 1), "two drain\n{}", world.story());
    assert!(matches!(world.send(true, &far(1, 2, 3)), Err(Stopped::Acquire(_, true))), "{}", world.story());
    world.exchange();
    assert_eq!(world.send(true, &far(1, 2, 3)), Ok(()), "{}", world.story());
}

#[test]
fn f_71_narrowing_of_our_own_networks_is_told_too() {
    let right = peer(false, "start = \"passive\"", "").replace("\"10.1.0.0/16\"", "\"10.1.0.0/24\"");
    let mut world = World::new(&peer(true, "", ""), &right).start();
    assert_eq!(world.left.told(|what| *what == What::Narrowed), 1, "{}", world.story());
    // The next one is no narrower.
    assert_eq!(world.left.gateway.rekey(world.now, "other", false, parts!(world.left)), Ok(Ok(())));
    world.exchange();
    assert_eq!(world.left.child("other", "net").1, 1, "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::Narrowed), 1, "{}", world.story());
}

#[test]
fn f_62_a_packet_that_the_peer_gives_no_sa_for_keeps_no_other_network_out() {
    let mut world = narrow();
    for _ in 0..7 {
        assert!(matches!(world.send(true, &far(1, 2, 200)), Err(Stopped::Acquire(_, true))), "{}", world.story());
        world.exchange();
        world.pass(secs(7200));
    }
    // It is asked for ever more rarely, whatever others are given meanwhile.
    assert!(matches!(world.send(true, &far(1, 2, 200)), Err(Stopped::Acquire(_, true))), "{}", world.story());
    for third in [9, 10] {
        world.pass(secs(5));
        assert!(matches!(world.send(true, &far(1, 2, 200)), Err(Stopped::Acquire(_, false))), "{}", world.story());
        assert!(matches!(world.send(true, &far(1, 2, third)), Err(Stopped::Acquire(_, true))), "{}", world.story());
        world.exchange();
        assert_eq!(world.send(true, &far(1, 2, third)), Ok(()), "{}", world.story());
    }
}

#[test]
fn f_62_who_sends_everywhere_brings_one_question_a_second_and_a_few_lines_and_shuts_nobody_out() {
    let mut world = narrow();
    let (before, mut asked) = (world.messages, 0);
    for tenth in 0..1200 {
        let mut stray = far(1, 2, 20 + (tenth % 200) as u8);
        stray[19] = (tenth / 200) as u8;
        asked += usize::from(matches!(world.send(true, &stray), Err(Stopped::Acquire(_, true))));
        world.pass(Duration::from_millis(97));
        if tenth == 600 {
            assert!((50..=61).contains(&asked), "{asked}\n{}", world.story());
            assert!(world.messages - before <= 4 * asked, "{}", world.story());
        }
        if tenth > 600 && tenth % 7 == 0 {
            let _ = world.send(true, &far(1, 2, 9));
            world.exchange();
        }
    }
    assert_eq!(world.send(true, &far(1, 2, 9)), Ok(()), "{}", world.story());
    assert!(failures(&world).len() <= 20, "{}", world.story());
    world.right.received.clear();
}
