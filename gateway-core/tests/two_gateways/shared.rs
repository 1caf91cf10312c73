//! Two parties share what is configured for one peer: whoever is at its address, knows the key and calls.

use std::time::Duration;

use gateway_core::config::Identity;
use gateway_core::gateway::{Parts, PeerState, What};

use crate::secs;
use crate::world::{RIGHT, Site, Stopped, World, far, packet, parts, peer};

/// The left side called the first party, and was called by the second one from the same address. The first is at the right.
fn shared(left: &str) -> (World, Site) {
    shared_with(left, "", "")
}

/// The same with lines for the left side's child, and for that of the second party.
fn shared_with(left: &str, child: &str, second: &str) -> (World, Site) {
    shared_by(&peer(true, left, child), second)
}

fn shared_by(left: &str, second: &str) -> (World, Site) {
    let left = left.replace("remote-id = \"right.lab\"", "remote-id = \"any\"");
    let party = |lines: &str, id: &str, net: &str, child: &str| {
        peer(false, lines, child)
            .replace("local-id = \"right.lab\"", &format!("local-id = \"{id}\""))
            .replace("local-ts = \"10.2.0.0/16\"", &format!("local-ts = \"{net}\""))
    };
    let mut world = World::new(&left, &party("start = \"passive\"", "a.lab", "10.2.1.0/24", "")).start();
    let mut second = Site::new(3, &party("", "b.lab", "10.2.2.0/24", second), 64);
    core::mem::swap(&mut world.right, &mut second);
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    world.exchange();
    core::mem::swap(&mut world.right, &mut second);
    assert_eq!(world.left.plane.outbound.sas().count(), 2, "{}", world.story());
    world.left.story.clear();
    (world, second)
}

/// A packet from the second party.
fn from_second() -> Vec<u8> {
    let mut packet = packet(2, 1, b"second");
    packet[14] = 2;
    packet
}

#[test]
fn f_59_who_connected_from_where_and_who_called_is_told_of_each_party() {
    let left = peer(true, "", "").replace("remote-id = \"right.lab\"", "remote-id = \"any\"");
    let named = |lines: &str, id: &str| peer(false, lines, "").replace("\"right.lab\"", &format!("\"{id}\""));
    let mut world = World::new(&left, &named("start = \"passive\"", "a.lab"));
    world.deaf = true;
    let mut world = world.start();
    world.pass(Duration::from_millis(100));
    world.deaf = false;
    world.pass(secs(100));
    world.right = Site::new(3, &named("", "b.lab"), 64);
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    world.exchange();
    let connected = world.left.story.iter().filter_map(|report| match &report.what {
        What::Connected { ike: Some(ike), took } => Some((ike.called, Identity::printed(&ike.identity?), *took)),
        _ => None,
    });
    let first = (true, "a.lab".to_owned(), Some(Duration::from_millis(500)));
    assert_eq!(connected.collect::<Vec<_>>(), [first, (false, "b.lab".to_owned(), None)], "{}", world.story());
}

fn connecting(what: &What) -> bool {
    matches!(what, What::Connecting { .. })
}

#[test]
fn f_53_a_party_that_we_called_is_called_again_although_another_one_is_there() {
    let (mut world, _second) = shared("");
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
    assert_eq!(world.left.state("other").0, PeerState::Disconnected, "{}", world.story());
    assert_eq!(world.left.told(connecting), 0, "not without a pause\n{}", world.story());
    world.pass(secs(5));
    assert_eq!(world.left.told(connecting), 1, "{}", world.story());
    assert_eq!(world.send(true, &far(1, 2, 1)), Ok(()), "{}", world.story());
    world.right.received.clear();
}

#[test]
fn f_22_a_party_that_we_called_is_called_at_each_of_its_places_although_another_one_is_connected_from_one() {
    let left =
        peer(true, "dpd = \"10m\"", "").replace(&format!("\"{RIGHT}\""), &format!("[\"{RIGHT}\", \"192.0.2.77\"]"));
    let (mut world, _second) = shared_by(&left, "");
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
    world.cut = true;
    world.pass(secs(300));
    let calls = world.left.story.iter().filter_map(|report| match report.what {
        What::Connecting { remote } => Some(remote.ip().to_string()),
        _ => None,
    });
    assert_eq!(calls.take(3).collect::<Vec<_>>(), ["192.0.2.77", RIGHT, "192.0.2.77"], "{}", world.story());
    assert_eq!(world.left.endpoint.ike_sas().filter(|ike| ike.since.is_some()).count(), 1, "{}", world.story());
}

#[test]
fn f_53_the_end_of_one_partys_child_is_told_and_the_child_asked_for_although_the_other_has_it() {
    let (mut world, _second) = shared("");
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    while world.left.told(|what| *what == What::ChildDown) == 0 {
        world.pass(Duration::from_millis(100));
        assert!(world.now.as_millis() < 20_000, "{}", world.story());
    }
    assert!(!world.left.child("other", "net").2, "{}", world.story());
    world.pass(secs(5));
    assert!(world.right.child("other", "net").2, "{}", world.story());
}

#[test]
fn f_53_the_end_of_a_child_that_the_other_party_asks_for_is_told_and_no_failure_of_ours() {
    let (mut world, mut second) = shared("");
    core::mem::swap(&mut world.right, &mut second);
    world.pass(secs(11));
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.exchange();
    core::mem::swap(&mut world.right, &mut second);
    assert_eq!(world.left.told(|what| *what == What::ChildDown), 1, "{}", world.story());
    assert_eq!(world.left.state("other"), (PeerState::Connected, None), "{}", world.story());
}

#[test]
fn f_53_who_was_not_called_is_not_missed() {
    let (mut world, mut second) = shared("");
    core::mem::swap(&mut world.right, &mut second);
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
    core::mem::swap(&mut world.right, &mut second);
    world.pass(secs(5));
    assert_eq!(world.left.told(connecting), 0, "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::Closed), 1, "{}", world.story());
}

#[test]
fn f_65_what_one_party_sends_hides_no_silence_of_the_other() {
    let (mut world, mut second) = shared("dpd = \"10s\"");
    // Something came from the first party before.
    let mut first = packet(2, 1, b"first");
    first[14] = 1;
    world.send(false, &first).unwrap();
    world.pass(secs(1));
    world.right.lose(|_| true);
    for _ in 0..25 {
        let _ = world.send(true, &far(1, 2, 1));
        core::mem::swap(&mut world.right, &mut second);
        world.send(false, &from_second()).unwrap();
        core::mem::swap(&mut world.right, &mut second);
        world.pass(secs(1));
    }
    world.left.received.clear();
    world.right.received.clear();
    assert_eq!(world.left.child("other", "net").1, 1, "{}", world.story());
}

#[test]
fn f_62_no_party_is_asked_for_what_may_be_another_ones() {
    let (mut world, _second) = shared("");
    let before = world.messages;
    assert!(matches!(world.send(true, &far(1, 2, 9)), Err(Stopped::Acquire(_, false))), "{}", world.story());
    world.exchange();
    assert_eq!(world.messages, before);
}

#[test]
fn f_53_who_was_not_called_keeps_nobody_from_being_called() {
    let again = |both: bool| {
        let (mut world, mut second) = shared("");
        world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
        world.exchange();
        if both {
            core::mem::swap(&mut world.right, &mut second);
            world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
            world.exchange();
        }
        let since = world.now;
        while world.left.told(connecting) == 0 {
            world.pass(Duration::from_millis(50));
        }
        world.now.since(since)
    };
    assert_eq!(again(true), again(false));
}

#[test]
fn f_61_what_one_party_refuses_makes_no_connection_with_the_other_anew() {
    let (mut world, mut second) = shared_with("", "esp = \"aes256gcm16\"", "esp = \"aes256gcm16-ecp256\"");
    core::mem::swap(&mut world.right, &mut second);
    world.pass(secs(35));
    world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap().unwrap();
    world.exchange();
    core::mem::swap(&mut world.right, &mut second);
    assert_eq!(world.left.told(|what| *what == What::RekeyFailed), 1, "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::Renewing), 0, "{}", world.story());
}

#[test]
fn f_79_that_the_party_that_we_call_is_away_is_shown_with_its_cause_and_the_next_try() {
    let (mut world, mut second) = shared("");
    let shown = |world: &mut World| {
        let parts = parts!(world.left);
        let status = world.left.gateway.status(parts).next().unwrap();
        let there = status.ike.and_then(|ike| ike.identity).map(|id| id.to_string());
        let seen = (status.state, status.cause.clone().map(|cause| cause.code), there);
        (seen, status.retry_at.map(|at| at.since(world.now)))
    };
    let before = shown(&mut world);
    assert_eq!((before.0.0, before.1), (PeerState::Connected, None), "{before:?}");
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
    let away = shown(&mut world);
    assert_eq!((away.0.0, away.0.1), (PeerState::Disconnected, Some("closed-by-peer")), "{}", world.story());
    assert!(away.0.2.is_some() && away.0.2 != before.0.2, "{away:?}");
    assert!(away.1.is_some_and(|pause| pause >= Duration::from_millis(500)), "{away:?}");
    let outcome = world.left.gateway.outcome("other", &parts!(lent world.left)).unwrap();
    assert_eq!(outcome.unwrap().unwrap_err().code, "closed-by-peer");

    // The other one comes anew.
    core::mem::swap(&mut world.right, &mut second);
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
    world.right.gateway.up(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
    core::mem::swap(&mut world.right, &mut second);
    assert_eq!(shown(&mut world), away, "{}", world.story());
    assert_eq!(world.left.told(connecting), 0, "{}", world.story());
    world.pass(secs(5));
    assert_eq!(shown(&mut world), before, "{}", world.story());
}

#[test]
fn f_53_what_is_for_the_party_that_we_call_waits_for_it_and_nobody_else_is_asked() {
    let (mut world, _second) = shared("");
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
    let before = world.messages;
    assert!(matches!(world.send(true, &far(1, 2, 1)), Err(Stopped::Acquire(_, false))), "{}", world.story());
    world.exchange();
    assert_eq!(world.messages, before, "in the pause\n{}", world.story());
    world.cut = true;
    world.pass(secs(3));
    assert_eq!(world.left.told(connecting), 1, "{}", world.story());
    assert!(matches!(world.send(true, &far(1, 2, 1)), Err(Stopped::Acquire(_, true))), "{}", world.story());
    let asked = |world: &mut World| {
        let mut sas = world.left.endpoint.ike_sas();
        sas.any(|ike| ike.since.is_some() && ike.waiting.is_some())
    };
    assert!(!asked(&mut world), "{}", world.story());
    world.cut = false;
    world.pass(secs(10));
    assert_eq!(world.send(true, &far(1, 2, 1)), Ok(()), "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::ChildFailed), 0, "{}", world.story());
    world.right.received.clear();
}

#[test]
fn f_53_a_child_is_wanted_of_the_party_that_we_call_and_of_no_other() {
    let (mut world, mut second) = shared("");
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
    core::mem::swap(&mut world.right, &mut second);
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.exchange();
    core::mem::swap(&mut world.right, &mut second);
    assert!(!world.left.child("other", "net").2, "{}", world.story());
    world.cut = true;
    world.left.gateway.up(world.now, "other/net", parts!(world.left)).unwrap();
    world.exchange();
    assert_eq!(world.left.told(connecting), 1, "{}", world.story());
    let mut established = world.left.endpoint.ike_sas().filter(|ike| ike.since.is_some());
    assert_eq!(established.next().map(|ike| ike.waiting), Some(None), "the other one");
    drop(established);
    world.cut = false;
    world.pass(secs(10));
    assert!(world.left.child("other", "net").2, "{}", world.story());
}

#[test]
fn f_61_what_one_party_deletes_at_once_is_asked_for_ever_more_rarely_although_the_other_has_it() {
    let (mut world, mut second) = shared("");
    for _ in 0..600 {
        core::mem::swap(&mut world.right, &mut second);
        world.pass(Duration::from_millis(500));
        core::mem::swap(&mut world.right, &mut second);
        world.pass(Duration::from_millis(500));
        if world.right.child("other", "net").2 {
            world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
            world.exchange();
        }
    }
    let up = world.left.told(|what| matches!(what, What::ChildUp { .. }));
    assert!((4..=20).contains(&up), "{up}\n{}", world.story());
    assert!(world.left.plane.outbound.sas().count() > 0, "the other one has it\n{}", world.story());
}

#[test]
fn f_61_a_connection_of_another_party_that_stays_busy_ends_once_it_carries_nothing() {
    let (mut world, mut first) = shared("rekey = \"10m\"");
    core::mem::swap(&mut world.right, &mut first);
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.exchange();
    let closed = |world: &World| world.left.told(|what| matches!(what, What::Closed | What::Merged));
    assert_eq!(closed(&world), 0, "{}", world.story());
    for _ in 0..3600 {
        world.refusal = crate::busy::busy();
        world.pass(Duration::from_millis(500));
        world.refusal = None;
        core::mem::swap(&mut world.right, &mut first);
        world.pass(Duration::from_millis(500));
        core::mem::swap(&mut world.right, &mut first);
        if closed(&world) > 0 {
            return;
        }
    }
    panic!("{}", world.story());
}
