//! SAs with manual keys on both sides: packets, numbers that are set aside ahead, and reloads.

use gateway_core::cause::{Cause, Kind};
use gateway_core::gateway::{ManualStatus, Numbers};
use gateway_core::plane::Half;
use ipsec_core::spd::Action;

use super::*;
use crate::recording::Two;

const WEST: [&str; 2] = ["0x2001", "0x000102030405060708090a0b0c0d0e0f10111213"];
const EAST: [&str; 2] = ["0x1001", "0x202122232425262728292a2b2c2d2e2f30313233"];

/// One side's two SAs.
fn manual(left: bool, lines: &str) -> String {
    let (ours, theirs, net, far) = if left { (LEFT, RIGHT, 1, 2) } else { (RIGHT, LEFT, 2, 1) };
    let [(out_spi, out_key), (in_spi, in_key)] =
        if left { [WEST, EAST] } else { [EAST, WEST] }.map(|[spi, key]| (spi, key));
    [("out", out_spi, out_key), ("in", in_spi, in_key)]
        .map(|(direction, spi, key)| {
            format!(
                "[[sa]]\ndirection = \"{direction}\"\nspi = {spi}\nlocal = \"{ours}\"\nremote = \"{theirs}\"\n\
                 suite = \"aes128gcm16-esn\"\nkey = \"{key}\"\nlocal-ts = \"10.{net}.0.0/16\"\n\
                 remote-ts = \"10.{far}.0.0/16\"\n{}\n",
                if direction == "out" { lines } else { "" }
            )
        })
        .concat()
}

/// Answers each question with so many numbers behind what it names; returns how many there were.
fn set_aside(site: &mut Site, now: ipsec_core::time::Instant, step: u64) -> usize {
    let mut answered = 0;
    while let Some(reserve) = site.gateway.poll_reserve() {
        assert_eq!(reserve.key.len(), 20);
        let (ticket, after) = (reserve.ticket, reserve.after);
        let numbers = Numbers { after, until: after.saturating_add(step).min(reserve.last) };
        site.gateway.reserved(now, ticket, Ok(numbers), parts!(site));
        answered += 1;
    }
    answered
}

fn started(left: &str, right: &str, step: u64) -> World {
    let mut world = World::new(left, right).start();
    let now = world.now;
    assert_eq!([set_aside(&mut world.left, now, step), set_aside(&mut world.right, now, step)], [1, 1]);
    world
}

fn status(site: &mut Site, now: ipsec_core::time::Instant) -> ManualStatus {
    let parts = parts!(site);
    site.gateway.snapshot(now, parts).manual.remove(0)
}

#[test]
fn packets_pass_both_ways_and_are_counted_and_shown_under_the_name_of_the_pair() {
    let mut world = started(&manual(true, ""), &manual(false, ""), 1000);
    world.ping();
    let now = world.now;
    let status = status(&mut world.left, now);
    assert_eq!((status.name.as_str(), status.totals.packets_in, status.totals.packets_out), ("sa/0x00002001", 1, 1));
    assert!(status.outbound.since.is_some() && status.inbound.since.is_some());
    assert!(
        world.story().contains("sa/0x00002001: up, ESP aes128gcm16-esn, SPI in 0x00001001 out 0x00002001"),
        "{}",
        world.story()
    );
    let accounts = world.left.gateway.accounts(&world.left.plane);
    let names: Vec<_> = accounts.keys().map(|account| format!("{}/{}", account.peer, account.child)).collect();
    assert_eq!(names, ["sa/0x00002001"]);
}

#[test]
fn nothing_leaves_before_numbers_are_set_aside_nor_when_there_are_none() {
    let mut world = World::new(&manual(true, ""), &manual(false, "")).start();
    let blocked =
        |world: &mut World| matches!(world.send(true, &packet(1, 2, b"now")), Err(Stopped::Acquire(_, false)));
    assert!(blocked(&mut world), "its policy stands, and nobody negotiates for it");
    let rules = world.left.gateway.rules();
    assert!(matches!(rules[0].action, Action::Protect { .. }) && rules.len() == 1);
    let (ticket, now) = (world.left.gateway.poll_reserve().unwrap().ticket, world.now);
    let cause = Cause { code: "sequence-lost", text: "lost".into(), hint: String::new(), kind: Kind::Refusal };
    world.left.gateway.reserved(now, ticket, Err(cause), parts!(world.left));
    world.exchange();
    assert!(blocked(&mut world) && world.story().contains("sa/0x00002001: not up: lost"), "{}", world.story());
    assert_eq!(status(&mut world.left, now).outbound.cause.unwrap().code, "sequence-lost");
    assert!(world.left.gateway.poll_reserve().is_none(), "not until somebody changes something");
}

#[test]
fn no_number_goes_beyond_what_is_set_aside_and_what_comes_later_begins_behind_it() {
    let mut world = started(&manual(true, "sequence = 100"), &manual(false, ""), 16);
    let now = world.now;
    let mut numbers = Vec::new();
    for _ in 0..40 {
        world.send(true, &packet(1, 2, b"one more")).unwrap();
        numbers.extend(world.left.plane.outbound.sas().map(|sa| sa.sequence));
        set_aside(&mut world.left, now, 16);
    }
    // 14 of 16 are used when more are asked for, and the rest is never used.
    let expected: Vec<_> =
        [100, 116, 132].iter().flat_map(|after| (1..=14).map(move |number| after + number)).collect();
    assert_eq!(numbers, expected[..40]);
    // Nobody answers any more.
    let sent = (0..40).take_while(|_| world.send(true, &packet(1, 2, b"and more")).is_ok()).count();
    assert_eq!(sent, 12 - 8, "up to 148");
    let numbers: Vec<_> = world.left.plane.outbound.sas().map(|sa| sa.sequence).collect();
    assert_eq!(numbers, [148]);
    assert_eq!(set_aside(&mut world.left, now, 16), 1, "it was asked for");
    world.ping();
}

#[test]
fn the_last_numbers_of_a_key_are_used_and_then_nothing_is_sent() {
    let near = format!("sequence = {}", u32::MAX - 3);
    let noesn = |text: String| text.replace("-esn", "");
    let mut world = started(
        &noesn(manual(true, &near)),
        &noesn(manual(false, ""))
            .replace("direction = \"in\"", &format!("sequence = {}\ndirection = \"in\"", u32::MAX - 3)),
        1000,
    );
    for _ in 0..3 {
        world.send(true, &packet(1, 2, b"the last ones")).unwrap();
    }
    assert_eq!(world.right.received.len(), 3);
    assert!(world.send(true, &packet(1, 2, b"too much")).is_err());
    let now = world.now;
    assert_eq!(status(&mut world.left, now).outbound.cause.unwrap().code, "sequence-used-up");
    assert!(world.left.gateway.poll_reserve().is_none());
}

#[test]
fn a_reload_replaces_what_changed_and_leaves_the_rest_its_counters_and_its_window() {
    let mut world = started(&manual(true, ""), &manual(false, ""), 1000);
    world.ping();
    let now = world.now;
    let sequence = |site: &Site| {
        let [out, into] = [
            site.plane.outbound.sas().map(|sa| sa.sequence).collect(),
            site.plane.inbound.sas().map(|sa| sa.sequence).collect::<Vec<_>>(),
        ];
        (out, into)
    };
    let reload =
        |world: &mut World, text: &str| world.left.gateway.reload(now, config(text), parts!(world.left)).1.unwrap();
    reload(&mut world, &(manual(true, "") + "[[policy]]\naction = \"discard\"\nprotocol = \"gre\"\n"));
    assert_eq!(sequence(&world.left), (vec![1], vec![1]), "nothing of it changed");
    world.ping();
    // A new key of ours: what receives is not touched, and nothing is sent until there are numbers.
    let new = "0xf00102030405060708090a0b0c0d0e0f10111213";
    reload(&mut world, &manual(true, "").replace(WEST[1], new));
    assert_eq!(sequence(&world.left), (vec![], vec![2]));
    assert!(world.send(true, &packet(1, 2, b"not yet")).is_err());
    assert_eq!(set_aside(&mut world.left, now, 1000), 1);
    assert_eq!(sequence(&world.left), (vec![0], vec![2]));
    world.right.gateway.reload(now, config(&manual(false, "").replace(WEST[1], new)), parts!(world.right)).1.unwrap();
    world.ping();
    // An answer that is about a key that is gone is none.
    reload(&mut world, &manual(true, ""));
    let late = world.left.gateway.poll_reserve().unwrap().ticket;
    reload(&mut world, &manual(true, "").replace(WEST[1], new));
    world.left.gateway.reserved(now, late, Ok(Numbers { after: 0, until: 9 }), parts!(world.left));
    assert_eq!(sequence(&world.left).0, Vec::<u64>::new());
    assert_eq!(set_aside(&mut world.left, now, 1000), 1);
    reload(&mut world, "");
    assert_eq!((sequence(&world.left), world.left.gateway.rules().len()), ((vec![], vec![]), 0));
}

#[test]
fn a_plane_that_answers_later_may_refuse_one_and_is_asked_again_by_a_reload() {
    let mut two = Two::new("", &manual(false, ""));
    let now = two.now;
    assert_eq!(two.right.plane.there.keys().map(|(_, half)| *half).collect::<Vec<_>>(), [Half::Inbound]);
    two.right.plane.later = true;
    two.right.plane.refuses = Some(Half::Outbound);
    let ticket = two.right.gateway.poll_reserve().unwrap().ticket;
    two.right.gateway.reserved(now, ticket, Ok(Numbers { after: 0, until: 9 }), parts!(two.right));
    two.right.settle(now);
    assert!(
        two.right.told().iter().any(|line| line.contains("sa/0x00001001") && line.contains("it is full")),
        "{:?}",
        two.right.told()
    );
    two.right.plane.refuses = None;
    two.right.gateway.reload(now, config(&manual(false, "")), parts!(two.right)).1.unwrap();
    let reserve = two.right.gateway.poll_reserve().unwrap();
    assert_eq!(reserve.after, 9, "those before may have been used");
    let ticket = reserve.ticket;
    two.right.gateway.reserved(now, ticket, Ok(Numbers { after: 9, until: 18 }), parts!(two.right));
    two.right.settle(now);
    assert_eq!(two.right.plane.there.len(), 2);
}
