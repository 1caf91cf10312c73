//! Several connections of one peer: of which party they are, and who called for them.

use std::time::Duration;

use gateway_core::gateway::{Parts, What};
use ike_core::endpoint::SaState;

use crate::secs;
use crate::world::{Site, World, packet, parts, peer, second};

/// The left side, whoever calls.
fn anybody() -> String {
    peer(true, "start = \"passive\"", "")
        .replace("remote = \"192.0.2.2\"", "remote = \"any\"")
        .replace("remote-id = \"right.lab\"", "remote-id = \"any\"")
}

/// Who calls, with this network.
fn party(id: &str, net: &str) -> String {
    peer(false, "", "")
        .replace("local-id = \"right.lab\"", &format!("local-id = \"{id}\""))
        .replace("local-ts = \"10.2.0.0/16\"", &format!("local-ts = \"{net}\""))
}

#[test]
fn f_60_two_parties_that_share_a_peer_keep_a_connection_each() {
    let left = anybody();
    let mut world = World::new(&left, &party("a.lab", "10.2.1.0/24")).start();
    let mut other = Site::new(3, &party("b.lab", "10.2.2.0/24"), 64);
    world.pass(secs(5));
    core::mem::swap(&mut world.right, &mut other);
    let before = world.messages;
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    world.exchange();
    assert_eq!(world.messages - before, 4, "asked for a sign of life, as if it were the first one again");
    for _ in 0..120 {
        world.pass(secs(1));
        core::mem::swap(&mut world.right, &mut other);
    }
    let ended = |what: &What| matches!(what, What::Merged | What::Closed | What::ChildDown);
    let story = world.story() + &other.story.iter().map(|report| format!("other: {report}\n")).collect::<String>();
    assert_eq!(world.left.told(ended) + world.right.told(ended) + other.told(ended), 0, "{story}");
    let open = world.left.endpoint.ike_sas().filter(|ike| ike.state == SaState::Established).count();
    assert_eq!((open, world.left.plane.outbound.sas().count()), (2, 2), "{story}");
    world.left.story.clear();
    world.right.gateway.shutdown(world.now, parts!(world.right));
    world.exchange();
    let told = [What::Closed, What::Merged].map(|what| world.left.told(|told| *told == what));
    assert_eq!(told, [1, 0], "the other one is no other connection of this one\n{}", world.story());
}

#[test]
fn what_one_party_has_within_what_it_has_hides_nothing_of_it() {
    let part = "[[peer.child]]\nname = \"part\"\nlocal-ts = \"10.2.1.0/24\"\nremote-ts = \"10.1.0.0/16\"\n";
    let first = party("a.lab", "10.2.0.0/16") + part;
    let mut world = World::new(&anybody(), &first).start();
    for _ in 0..5 {
        world.pass(secs(1));
    }
    let open = |world: &World| world.left.plane.outbound.sas().count();
    assert_eq!(open(&world), 2, "{}", world.story());
    // Behind the part, where only the whole reaches.
    world.right = Site::new(3, &party("b.lab", "10.2.9.0/24"), 64);
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    world.exchange();
    assert_eq!(open(&world), 2, "{}", world.story());
    assert!(world.story().contains("another party has an SA for 10.2.0.0/16"), "{}", world.story());
}

#[test]
fn what_is_for_one_party_never_goes_to_another_one_that_says_the_same_address() {
    let open = |world: &World| world.left.plane.outbound.sas().count();
    for (first, second, both) in [
        ("10.2.1.0/24", "10.2.1.0/24", false),
        ("10.2.1.0/24", "10.2.1.7/32", false),
        ("10.2.1.7/32", "10.2.0.0/16", false),
        ("10.2.1.0/24", "10.2.2.0/24", true),
    ] {
        let mut world = World::new(&anybody(), &party("a.lab", first)).start();
        let mut other = Site::new(3, &party("b.lab", second), 64);
        core::mem::swap(&mut world.right, &mut other);
        world.right.gateway.start(world.now, parts!(world.right)).unwrap();
        world.exchange();
        assert_eq!(open(&world), if both { 2 } else { 1 }, "{first} {second}\n{}", world.story());
        let told = world.story().contains(&format!("another party has an SA for {first}"));
        assert_eq!(told, !both, "{first} {second}\n{}", world.story());
        if both {
            continue;
        }
        // Once the first one is gone, the other one may have it.
        core::mem::swap(&mut world.right, &mut other);
        world.right.gateway.shutdown(world.now, parts!(world.right));
        world.exchange();
        core::mem::swap(&mut world.right, &mut other);
        for _ in 0..120 {
            world.pass(secs(1));
        }
        assert_eq!(open(&world), 1, "{first} {second}\n{}", world.story());
    }
}

#[test]
fn f_60_of_several_parties_the_one_that_came_last_is_shown_also_after_another_one_was_rekeyed() {
    let left = anybody();
    for at_once in [false, true] {
        let mut world = World::new(&left, &party("a.lab", "10.2.1.0/24")).start();
        if !at_once {
            world.pass(secs(2));
            let first = world.left.endpoint.ike_sas().next().unwrap();
            world.left.endpoint.rekey_ike(world.now, first.id).unwrap();
            world.exchange();
            world.pass(secs(2));
        }
        let before: Vec<_> = world.left.endpoint.ike_sas().map(|ike| ike.id).collect();
        world.right = Site::new(3, &party("b.lab", "10.2.2.0/24"), 64);
        world.right.gateway.start(world.now, parts!(world.right)).unwrap();
        world.exchange();
        let last = world.left.endpoint.ike_sas().map(|ike| ike.id).find(|ike| !before.contains(ike)).unwrap();
        let shown = world.left.gateway.status(&parts!(lent world.left)).next().unwrap().ike.map(|ike| ike.id);
        assert_eq!(shown, Some(last), "at once: {at_once}\n{}", world.story());
    }
}

#[test]
fn f_73_that_answers_do_not_arrive_at_one_party_is_told_once_however_many_others_come() {
    let always = "encap = \"always\"";
    let left = peer(true, &format!("start = \"passive\"\n{always}"), "")
        .replace("remote = \"192.0.2.2\"", "remote = \"any\"")
        .replace("remote-id = \"right.lab\"", "remote-id = \"any\"");
    let party = |number: u64| {
        peer(false, always, "")
            .replace("local-id = \"right.lab\"", &format!("local-id = \"p{number}.lab\""))
            .replace("local-ts = \"10.2.0.0/16\"", &format!("local-ts = \"10.2.{number}.0/24\""))
    };
    let mut world = World::new("", &party(0));
    world.left = Site::with_tables(1, &left, 64, [32; 3]);
    world.blocked = (false, true);
    let mut world = world.start();
    for number in 1..10 {
        world.pass(secs(2));
        let mut other = Site::new(2 + number, &party(number), 64);
        core::mem::swap(&mut world.right, &mut other);
        world.blocked = (false, false);
        world.right.gateway.start(world.now, parts!(world.right)).unwrap();
        world.exchange();
        core::mem::swap(&mut world.right, &mut other);
        world.blocked = (false, true);
    }
    assert_eq!(world.left.told(|what| matches!(what, What::Connected { .. })), 10, "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::Waiting), 1, "{}", world.story());
}

#[test]
fn f_60_a_party_is_the_same_one_in_whatever_case_it_writes_its_name() {
    // The kind of the name, and whether the second call takes the place of the first (INITIAL_CONTACT).
    for (kind, connections) in [("", 1), ("keyid:", 2)] {
        let left = peer(true, "start = \"passive\"", "").replace("\"right.lab\"", "\"any\"");
        let party = |id: &str| peer(false, "", "").replace("\"right.lab\"", &format!("\"{kind}{id}\""));
        let mut world = World::new(&left, &party("right.lab")).start();
        let mut other = Site::new(3, &party("Right.LAB"), 64);
        core::mem::swap(&mut world.right, &mut other);
        world.right.gateway.start(world.now, parts!(world.right)).unwrap();
        world.exchange();
        assert_eq!(world.left.endpoint.ike_sas().count(), connections, "{}", world.story());
    }
}

#[test]
fn f_61_whoever_called_for_the_connection_that_stays_makes_it_anew() {
    let child = |esp: &str| format!("esp = \"{esp}\"\n");
    for left in [true, false] {
        let passive = "start = \"passive\"";
        let mut world = World::new(
            &peer(true, passive, &child("aes256gcm16")),
            &peer(false, passive, &child("aes256gcm16-ecp256")),
        )
        .start();
        for site in [&mut world.left, &mut world.right] {
            site.gateway.up(world.now, "other", parts!(site)).unwrap();
        }
        world.exchange();
        assert_eq!(world.left.endpoint.ike_sas().count(), 2, "{}", world.story());
        world.pass(secs(60));
        let called = |site: &Site| site.endpoint.ike_sas().map(|ike| ike.called).collect::<Vec<_>>();
        let ours = if left { called(&world.left) } else { called(&world.right) };
        assert_eq!(ours.len(), 1, "{}", world.story());
        // Who rekeys the IKE SA has nothing to do with it.
        let site = if left == ours[0] { &mut world.right } else { &mut world.left };
        assert_eq!(site.gateway.rekey(world.now, "other", true, parts!(site)), Ok(Ok(())));
        world.pass(secs(20));
        let site = if left { &mut world.left } else { &mut world.right };
        assert_eq!(site.gateway.rekey(world.now, "other/net", false, parts!(site)), Ok(Ok(())));
        world.exchange();
        let site = if left { &world.left } else { &world.right };
        assert_eq!(site.told(|what| *what == What::Renewing), usize::from(ours[0]), "{}", world.story());
    }
}

fn renewing(site: &Site) -> bool {
    site.told(|what| *what == What::Renewing) > 0
}

#[test]
fn what_the_peer_made_anew_is_not_closed_for_a_connection_on_which_nothing_arrives() {
    let mut above = false;
    for rekeys in 0..6 {
        let right = peer(false, "start = \"passive\"", "esp = \"aes256gcm16-modpnone\"");
        let mut world = World::new(&peer(true, "", "esp = \"aes256gcm16-x25519\""), &right).start();
        for _ in 0..rekeys {
            world.pass(secs(15));
            assert_eq!(world.left.gateway.rekey(world.now, "other", true, parts!(world.left)), Ok(Ok(())));
            world.exchange();
        }
        world.pass(secs(20));
        let old = world.left.endpoint.ike_sas().next().unwrap();
        assert!(old.initiator);
        let _ = world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left));
        while !renewing(&world.left) {
            assert!(world.step(), "{}", world.story());
        }
        world.drop_spi = Some(old.spi_local.to_be_bytes());
        world.exchange();
        let calls: Vec<_> = world.right.endpoint.ike_sas().map(|ike| ike.spi_remote).collect();
        assert!(calls.len() == 2 && calls.contains(&old.spi_local), "{}", world.story());
        // By its number the old one would be the one to stay.
        above |= calls.iter().all(|spi| *spi <= old.spi_local);
        world.left.story.clear();
        world.pass(secs(100));
        let anew = |what: &What| matches!(what, What::Connecting { .. } | What::ChildDown);
        assert_eq!(world.left.told(anew), 0, "after {rekeys} rekeys\n{}", world.story());
        world.ping();
    }
    assert!(above, "the old one never was the one that the numbers keep");
}

#[test]
fn nothing_is_made_anew_for_the_sake_of_a_child_that_was_taken_down_meanwhile() {
    for start in ["", "start = \"on-demand\""] {
        let left = peer(true, start, "esp = \"aes256gcm16-x25519\"") + &second(3, 4);
        let right = peer(false, "start = \"passive\"", "esp = \"aes256gcm16-modpnone\"") + &second(4, 3);
        let mut world = World::new(&left, &right).start();
        for (from, to) in [(1, 2), (3, 4)] {
            let _ = world.send(true, &packet(from, to, b"x"));
            world.exchange();
        }
        world.pass(secs(20));
        assert!(world.left.child("other", "net").2 && world.left.child("other", "two").2, "{}", world.story());
        let _ = world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left));
        while !renewing(&world.left) {
            assert!(world.step(), "{}", world.story());
        }
        // The attempt fails, and the operator does not want that child any more.
        world.cut = true;
        while world.left.told(|what| matches!(what, What::Failed { .. })) == 0 {
            world.pass(Duration::from_millis(100));
        }
        world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
        world.cut = false;
        world.left.story.clear();
        world.right.story.clear();
        world.pass(secs(300));
        let anew = |what: &What| matches!(what, What::Connected { .. } | What::ChildUp { .. });
        assert_eq!(world.left.told(anew), 0, "{start}\n{}", world.story());
        assert_eq!(world.send(true, &packet(3, 4, b"x")), Ok(()), "{}", world.story());
    }
}

#[test]
fn f_63_whoever_called_and_nobody_else_is_authenticated_anew() {
    for called in [true, false] {
        let mut world = World::connected("", "");
        let site = if called { &world.left } else { &world.right };
        let ike = site.endpoint.ike_sas().next().unwrap();
        assert_eq!(ike.called, called);
        world.limit(called, &ike, 1);
        world.pass(secs(12));
        let told = [&world.left, &world.right].map(|site| site.told(|what| *what == What::Renewing));
        assert_eq!(told, [usize::from(called), 0], "{}", world.story());
    }
}

#[test]
fn f_60_a_connection_made_anew_takes_the_place_of_none_with_another_party() {
    let left = peer(true, "", "").replace("remote-id = \"right.lab\"", "remote-id = \"any\"");
    let party = |lines: &str, id: &str, net: &str| {
        peer(false, lines, "")
            .replace("local-id = \"right.lab\"", &format!("local-id = \"{id}\""))
            .replace("local-ts = \"10.2.0.0/16\"", &format!("local-ts = \"{net}\""))
    };
    let mut world = World::new(&left, &party("start = \"passive\"", "a.lab", "10.2.1.0/24")).start();
    let ours = world.left.endpoint.ike_sas().next().unwrap();
    let [mut one, mut two] = [3, 4].map(|seed| Site::new(seed, &party("", "b.lab", "10.2.2.0/24"), 64));
    // The other party calls twice at once: what was begun first comes up last, so neither is told to forget the other.
    core::mem::swap(&mut world.right, &mut two);
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    assert!(world.step() && world.step());
    core::mem::swap(&mut world.right, &mut two);
    world.pass(secs(1));
    core::mem::swap(&mut world.right, &mut one);
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    world.exchange();
    core::mem::swap(&mut world.right, &mut one);
    let other = world.left.endpoint.ike_sas().find(|ike| !ike.called && ike.since.is_some()).unwrap();
    assert_ne!(other.party, ours.party);
    // Between the two, the first party is connected anew.
    world.limit(true, &ours, 1);
    world.pass(secs(12));
    assert_eq!(world.left.told(|what| *what == What::Renewing), 1, "{}", world.story());
    core::mem::swap(&mut world.right, &mut two);
    world.exchange();
    let open = |world: &World| {
        let open = world.left.endpoint.ike_sas().filter(|ike| ike.state == SaState::Established);
        open.filter(|ike| ike.party == other.party).count()
    };
    assert_eq!(open(&world), 2, "{}", world.story());
    // Its own two are merged as always, with patience, and not as what was made anew.
    world.pass(secs(8));
    assert_eq!(open(&world), 2, "{}", world.story());
}
