//! SAs with manual keys on both sides: packets, numbers that are set aside ahead, and reloads.

use gateway_core::cause::{Cause, Kind};
use gateway_core::gateway::{ManualStatus, Numbers};
use gateway_core::plane::Half;
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::ecn::Ecn;
use ipsec_core::net::Path;
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
fn the_df_bit_is_that_of_the_one_that_sends() {
    for (lines, set) in [("", false), ("df = \"set\"", true)] {
        let mut world = started(&manual(true, lines), &manual(false, ""), 1000);
        assert_eq!(crate::traffic::df(&mut world), set);
    }
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
    // 12 of 16 are used when more are asked for, and the rest is never used.
    let expected: Vec<_> =
        [100, 116, 132, 148].iter().flat_map(|after| (1..=12).map(move |number| after + number)).collect();
    assert_eq!(numbers, expected[..40]);
    // Nobody answers any more.
    let sent = (0..40).take_while(|_| world.send(true, &packet(1, 2, b"and more")).is_ok()).count();
    assert_eq!(sent, 16 - 4, "up to 164");
    assert_eq!(world.left.plane.outbound.sas().count(), 0);
    let told = |world: &mut World| {
        let status = status(&mut world.left, now);
        (status.outbound.since.is_some(), status.outbound.cause.map(|cause| cause.code))
    };
    assert_eq!(told(&mut world), (false, Some("sequence-awaited")), "nobody takes it for up");
    world.exchange();
    assert!(world.story().contains("sa/0x00002001: down: sequence numbers are being set aside"), "{}", world.story());
    assert_eq!(set_aside(&mut world.left, now, 16), 1, "it was asked for");
    assert_eq!(told(&mut world), (true, None));
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

#[test]
fn near_the_end_of_all_numbers_more_are_asked_for_in_time_for_every_block() {
    let near = format!("sequence = {}", u32::MAX - 64);
    let noesn = |text: String| text.replace("-esn", "");
    let peer = noesn(manual(false, "")).replace("direction = \"in\"", &format!("{near}\ndirection = \"in\""));
    let mut world = started(&noesn(manual(true, &near)), &peer, 16);
    let now = world.now;
    let mut sent = 0;
    while world.send(true, &packet(1, 2, b"one of the last")).is_ok() {
        sent += 1;
        set_aside(&mut world.left, now, 16);
    }
    assert_eq!(sent, 3 * 12 + 16, "no packet is lost before the last number");
    assert_eq!(status(&mut world.left, now).outbound.cause.unwrap().code, "sequence-used-up");
}

#[test]
fn what_keeps_numbers_from_being_set_aside_is_told_while_the_rest_is_used_and_ends_with_an_answer() {
    let mut world = World::new(&manual(true, ""), &manual(false, "")).start();
    let now = world.now;
    let cause = || Cause { code: "sequence-not-kept", text: "full".into(), hint: String::new(), kind: Kind::Refusal };
    let told = |world: &mut World| {
        let status = status(&mut world.left, now);
        (status.outbound.since.is_some(), status.outbound.cause.map(|cause| cause.code))
    };
    assert_eq!(told(&mut world), (false, Some("sequence-awaited")));
    set_aside(&mut world.right, now, 1000);
    let ticket = world.left.gateway.poll_reserve().unwrap().ticket;
    world.left.gateway.reserved(now, ticket, Err(cause()), parts!(world.left));
    assert_eq!(told(&mut world), (false, Some("sequence-not-kept")));
    world.left.gateway.reserved(now, ticket, Ok(Numbers { after: 0, until: 16 }), parts!(world.left));
    assert_eq!(told(&mut world), (true, None));
    for _ in 0..12 {
        world.send(true, &packet(1, 2, b"one more")).unwrap();
    }
    let reserve = world.left.gateway.poll_reserve().unwrap();
    let (ticket, after) = (reserve.ticket, reserve.after);
    world.left.gateway.reserved(now, ticket, Err(cause()), parts!(world.left));
    assert_eq!(told(&mut world), (true, Some("sequence-not-kept")), "it goes on with what it has");
    for _ in 0..4 {
        world.send(true, &packet(1, 2, b"one more")).unwrap();
    }
    assert!(world.send(true, &packet(1, 2, b"too much")).is_err());
    assert_eq!(told(&mut world), (false, Some("sequence-not-kept")));
    world.left.gateway.reserved(now, ticket, Ok(Numbers { after, until: after + 16 }), parts!(world.left));
    assert_eq!(told(&mut world), (true, None));
    world.ping();
}

/// What the other side sends with its SA.
fn sealed(site: &mut Site, now: ipsec_core::time::Instant, inner: &[u8]) -> (Path, Vec<u8>) {
    let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
    let mut esp = PacketBuf::with_payload(&mut bytes, inner).unwrap();
    let sa = site.plane.outbound.classify(now, inner).unwrap().sa().unwrap();
    let path = site.plane.outbound.seal(now, sa, &mut esp).unwrap().path;
    (Path { local: path.remote, remote: path.local }, esp.as_slice().to_vec())
}

/// Whether it is taken.
fn takes(site: &mut Site, now: ipsec_core::time::Instant, (path, esp): &(Path, Vec<u8>)) -> bool {
    let (mut octets, length) = (esp.clone(), esp.len());
    let mut esp = PacketBuf::new(&mut octets, 0, length).unwrap();
    site.plane.inbound.open(now, *path, Ecn::NotEct, &mut esp).is_ok()
}

#[test]
fn whatever_a_reload_changes_no_number_is_used_twice_and_no_packet_is_taken_twice() {
    /// What becomes of an SA.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fate {
        GoesOn,
        /// Another one is in its place, which knows what the first one heard.
        Replaced,
        /// Another one with another key.
        New,
    }
    use Fate::{GoesOn, New, Replaced};
    let text = manual(true, "encap = 4500\nreplay = 64\nsequence = 0");
    let at_in = text.rfind("[[sa]]").unwrap();
    let (out, into) = text.split_at(at_in);
    let into = &into.replace("local-ts", "encap = 4500\nreplay = 64\nsequence = 0\nlocal-ts");
    type Row<'r> = (&'r str, &'r str, &'r str, Fate, Fate);
    let of_out: [Row<'_>; 6] = [
        ("out", "spi = 0x2001", "spi = 0x2002", Replaced, GoesOn),
        ("out", "gcm16-esn", "gcm16", Replaced, GoesOn),
        ("out", "0x0001", "0xff01", New, GoesOn),
        ("out", "encap = 4500", "encap = 4501", Replaced, GoesOn),
        ("out", "replay = 64", "replay = 128", GoesOn, GoesOn),
        ("out", "sequence = 0", "sequence = 5", Replaced, GoesOn),
    ];
    let of_in: [Row<'_>; 6] = [
        ("in", "spi = 0x1001", "spi = 0x1002", GoesOn, New),
        ("in", "gcm16-esn", "gcm16", GoesOn, Replaced),
        ("in", "0x2021", "0xff21", GoesOn, New),
        ("in", "encap = 4500", "encap = 4501", GoesOn, GoesOn),
        ("in", "replay = 64", "replay = 128", GoesOn, Replaced),
        ("in", "sequence = 0", "sequence = 2", GoesOn, Replaced),
    ];
    let (left, right) = (format!("local = \"{LEFT}\""), format!("remote = \"{RIGHT}\""));
    let of_both: [Row<'_>; 6] = [
        ("both", "", "", GoesOn, GoesOn),
        ("both", &left, "local = \"192.0.2.99\"", Replaced, Replaced),
        ("both", &right, "remote = \"192.0.2.98\"", Replaced, Replaced),
        ("both", "local-ts = \"10.1.0.0/16\"", "local-ts = \"10.1.0.0/17\"", Replaced, Replaced),
        ("both", "remote-ts = \"10.2.0.0/16\"", "remote-ts = \"10.2.0.0/17\"", Replaced, Replaced),
        ("both", "0.0/16\"", "0.9\"\nmode = \"beet\"", Replaced, Replaced),
    ];
    for (which, old, new, out_fate, in_fate) in of_out.into_iter().chain(of_in).chain(of_both) {
        let mut world = started(&(out.to_owned() + into), &manual(false, ""), 1000);
        let now = world.now;
        let recorded: Vec<_> = (0..3).map(|_| sealed(&mut world.right, now, &packet(2, 1, b"pong"))).collect();
        for esp in &recorded {
            assert!(takes(&mut world.left, now, esp));
            sealed(&mut world.left, now, &packet(1, 2, b"ping"));
        }
        let edit = |text: &str, here: bool| if here { text.replace(old, new) } else { text.to_owned() };
        let edited = edit(out, which != "in") + &edit(into, which != "out");
        // Once in each.
        let edited = edited.replace("0.9\"\nmode = \"beet\"\nremote-ts", "0.9\"\nremote-ts");
        let row = format!("{which}: {old} -> {new}");
        assert_eq!(edited == out.to_owned() + into, old.is_empty(), "{row}");
        world.left.gateway.reload(now, config(&edited), parts!(world.left)).1.unwrap();
        let sent: Vec<_> = world.left.plane.outbound.sas().map(|sa| sa.sequence).collect();
        let heard: Vec<_> = world.left.plane.inbound.sas().map(|sa| (sa.packets, sa.sequence)).collect();
        assert_eq!(sent, if out_fate == GoesOn { vec![3] } else { vec![] }, "{row}: not before numbers are set aside");
        let expected = match in_fate {
            GoesOn => (3, 3),
            Replaced => (0, 3),
            New => (0, 0),
        };
        assert_eq!(heard, [expected], "{row}");
        for esp in &recorded {
            assert!(!takes(&mut world.left, now, esp), "{row}: a packet is taken again");
        }
        // Whoever keeps numbers is asked by the key, and told where the operator begins.
        let asked = world.left.gateway.poll_reserve().map(|reserve| (reserve.key.to_vec(), reserve.after));
        let key = |first: u8| [&[first][..], &(1..20).collect::<Vec<_>>()].concat();
        let sequence = if new == "sequence = 5" { 5 } else { 0 };
        let expected = (out_fate != GoesOn).then(|| (key(if out_fate == New { 0xff } else { 0 }), sequence));
        assert_eq!(asked, expected, "{row}");
    }
}

#[test]
fn what_is_taken_down_stays_down_and_what_comes_up_again_begins_behind_all_that_was_before() {
    let mut world = started(&manual(true, ""), &manual(false, ""), 1000);
    let now = world.now;
    world.ping();
    let recorded = sealed(&mut world.right, now, &packet(2, 1, b"pong"));
    assert!(takes(&mut world.left, now, &recorded));
    let name = "sa/0x00002001";
    assert_eq!(world.left.gateway.down(now, name, parts!(world.left)), Ok(()));
    let there = |world: &mut World| {
        let status = status(&mut world.left, now);
        (status.outbound.since.is_some() || status.inbound.since.is_some(), status.held, status.outbound.cause)
    };
    assert_eq!(there(&mut world), (false, true, None), "by intent");
    assert!(!takes(&mut world.left, now, &recorded));
    let stopped = world.send(true, &packet(1, 2, b"not in clear"));
    assert!(matches!(stopped, Err(Stopped::Acquire(_, false))));
    // A reload takes nothing up that is held, also where it changes it.
    for text in [manual(true, ""), manual(true, "").replace("/16", "/15"), manual(true, "")] {
        world.left.gateway.reload(now, config(&text), parts!(world.left)).1.unwrap();
        assert_eq!(there(&mut world), (false, true, None));
        assert!(world.left.gateway.poll_reserve().is_none());
    }
    assert_eq!(world.left.gateway.up(now, "sa", parts!(world.left)), Ok(()));
    assert_eq!(world.left.gateway.outcome(name, &parts!(lent world.left)), Ok(None), "numbers are being set aside");
    let ticket = world.left.gateway.poll_reserve().unwrap().ticket;
    world.left.gateway.reserved(now, ticket, Ok(Numbers { after: 1000, until: 2000 }), parts!(world.left));
    assert_eq!(world.left.gateway.outcome(name, &parts!(lent world.left)), Ok(Some(Ok(()))));
    assert!(!takes(&mut world.left, now, &recorded), "a packet is taken again");
    world.ping();
    let none = world.left.gateway.rekey(now, name, false, parts!(world.left)).unwrap().unwrap_err();
    assert_eq!(none.code, "manual-keys");
    assert!(world.left.gateway.down(now, "sa/0x00002002", parts!(world.left)).is_err());
    // An answer that comes when it was taken down is for nobody.
    assert_eq!(world.left.gateway.down(now, "sa", parts!(world.left)), Ok(()));
    assert_eq!(world.left.gateway.up(now, "sa", parts!(world.left)), Ok(()));
    let ticket = world.left.gateway.poll_reserve().unwrap().ticket;
    assert_eq!(world.left.gateway.down(now, "sa", parts!(world.left)), Ok(()));
    world.left.gateway.reserved(now, ticket, Ok(Numbers { after: 3000, until: 4000 }), parts!(world.left));
    assert!(!there(&mut world).0);
}

#[test]
fn a_pair_is_meant_by_either_spi_however_it_is_written_and_that_it_is_down_is_told_once() {
    let mut world = started(&manual(true, ""), &manual(false, ""), 1000);
    let now = world.now;
    for (downs, name) in (1..).zip(["sa", "sa/0x00002001", "sa/0x2001", "sa/0x1001", "sa/0x00001001"]) {
        for _ in 0..2 {
            world.left.gateway.down(now, name, parts!(world.left)).unwrap();
        }
        world.exchange();
        assert_eq!(world.left.told(|what| *what == What::ChildDown), downs, "{name}\n{}", world.story());
        assert!(world.send(true, &packet(1, 2, b"down")).is_err());
        world.left.gateway.up(now, name, parts!(world.left)).unwrap();
        assert_eq!(set_aside(&mut world.left, now, 1000), 1);
        world.ping();
    }
    for name in ["sa/0x3001", "sa/2001", "sa/0x", "sa/", "sa/0x100002001"] {
        assert!(world.left.gateway.down(now, name, parts!(world.left)).is_err(), "{name}");
    }
}
