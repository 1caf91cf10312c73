//! SAs of one child are looked at each for itself: their silence.

use std::time::Duration;

use gateway_core::gateway::{Parts, PeerState, What};

use crate::secs;
use crate::three::{Three, refusing};
use crate::world::{Site, Stopped, World, far, packet, parts, peer, second};

fn waiting(what: &What) -> bool {
    *what == What::Waiting
}

/// What a side has lost it cannot give back.
fn end(world: &mut World) {
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
}

fn from(net: u8) -> Vec<u8> {
    let mut packet = packet(2, 1, b"back");
    packet[14] = net;
    packet
}

#[test]
fn f_65_one_way_traffic_of_one_party_hides_no_silence_of_another() {
    for b_first in [false, true] {
        let mut three = Three::called(b_first, 2);
        three.world.send(false, &from(1)).unwrap();
        three.beside(|world| world.send(false, &from(2)).unwrap());
        for _ in 0..40 {
            three.log_to_b();
        }
        assert_eq!(three.told(waiting), 1, "{}", three.world.story());
        three.world.left.received.clear();
        three.world.right.lose(|_| true);
        let since = three.world.now;
        loop {
            let _ = three.world.send(true, &far(1, 2, 1));
            three.log_to_b();
            if three.world.send(false, &from(1)) == Ok(()) && three.world.left.received.pop().is_some() {
                break;
            }
            assert!(three.world.now.since(since) <= secs(30), "b_first {b_first}\n{}", three.world.story());
        }
        end(&mut three.world);
    }
}

#[test]
fn f_65_one_way_traffic_costs_one_rekey_although_another_party_talks() {
    let mut three = Three::called(false, 2);
    three.beside(|world| world.send(false, &from(2)).unwrap());
    for _ in 0..500 {
        three.world.send(true, &far(1, 2, 1)).unwrap();
        three.world.send(false, &from(1)).unwrap();
        three.log_to_b();
    }
    three.world.left.received.clear();
    three.world.right.received.clear();
    assert_eq!(three.told(waiting), 1, "{}", three.world.story());
}

/// With two parties for the same hosts, the one whose SA is the newer one is sent everything.
#[test]
fn f_65_what_one_party_says_from_the_same_hosts_is_no_answer_of_another() {
    let mut three = Three::called(false, 1);
    three.beside(|world| world.send(false, &from(1)).unwrap());
    for _ in 0..40 {
        three.world.send(true, &far(1, 2, 1)).unwrap();
        three.world.send(false, &from(1)).unwrap();
        three.log_to_b();
    }
    three.world.left.received.clear();
    three.world.right.received.clear();
    assert_eq!(three.told(waiting), 1, "{}", three.world.story());
}

/// A packet of the left side, and one of the right side, between hosts of whose networks the second SA is: `ours` differ,
/// or theirs.
fn second_sa(ours: bool) -> [Vec<u8>; 2] {
    let [mut out, mut back] = [packet(1, 2, b"out"), packet(2, 1, b"back")];
    let (source, destination) = (14, 18);
    out[if ours { source } else { destination }] = 9;
    back[if ours { destination } else { source }] = 9;
    [out, back]
}

/// One child with two SAs, for other hosts each.
fn two_networks(ours: bool) -> World {
    let net = |third: u8, mask: u8| match ours {
        true => format!("local-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.{third}.0/{mask}\"\n"),
        false => format!("local-ts = \"10.2.{third}.0/{mask}\"\nremote-ts = \"10.1.0.0/16\"\n"),
    };
    let right = peer(false, "start = \"passive\"\ndpd = \"10s\"", "").replace(&net(0, 16), &net(0, 24))
        + "[[peer.child]]\nname = \"two\"\n"
        + &net(9, 24);
    let mut world = World::new(&peer(true, "dpd = \"10s\"", ""), &right).start();
    let [out, back] = second_sa(ours);
    assert!(matches!(world.send(true, &out), Err(Stopped::Acquire(_, true))));
    world.exchange();
    // Both were heard.
    world.ping();
    world.send(true, &out).unwrap();
    world.send(false, &back).unwrap();
    world.left.received.clear();
    world.right.received.clear();
    world
}

#[test]
fn f_65_an_sa_of_the_same_child_for_other_hosts_hides_no_dead_one() {
    for ours in [false, true] {
        let (mut world, [out, back]) = (two_networks(ours), second_sa(ours));
        let last = world.right.endpoint.child_sas().map(|sa| sa.config).max().unwrap();
        let dead = world.right.endpoint.child_sas().find(|sa| sa.config == last);
        let dead = dead.map(|sa| [sa.spi_in, sa.spi_out]).unwrap();
        world.right.lose(|status| dead.contains(&status.spi));
        let since = world.now;
        loop {
            world.ping();
            let _ = world.send(true, &out);
            world.right.received.clear();
            world.pass(secs(1));
            if world.send(false, &back) == Ok(()) && world.left.received.pop().is_some() {
                break;
            }
            assert!(world.now.since(since) <= secs(30), "{}", world.story());
        }
        end(&mut world);
    }
}

#[test]
fn f_65_one_way_traffic_beside_an_sa_for_other_hosts_costs_one_rekey() {
    for ours in [false, true] {
        let (mut world, [out, _]) = (two_networks(ours), second_sa(ours));
        for _ in 0..300 {
            world.ping();
            world.send(true, &out).unwrap();
            world.right.received.clear();
            world.pass(secs(1));
        }
        assert_eq!((world.left.child("other", "net").1, world.left.told(waiting)), (1, 1), "{}", world.story());
    }
}

/// The left side sends through the newer one of two SAs for the same packets, and the right side through the older one.
#[test]
fn f_65_what_comes_through_a_twin_is_an_answer_and_the_end_of_both_is_noticed() {
    let left = peer(true, "start = \"passive\"\ndpd = \"10s\"", "");
    let mut world = World::new(&left, &peer(false, "dpd = \"10s\"", "")).start();
    let first = world.right.endpoint.child_sas().next().map(|sa| (sa.ike, sa.config)).unwrap();
    world.right.endpoint.create_child(world.now, first.0, first.1).unwrap();
    world.pass(secs(1));
    assert_eq!(world.left.plane.inbound.sas().count(), 2, "{}", world.story());
    let newer = world.right.plane.outbound.sas().max_by_key(|sa| sa.since).unwrap().id;
    world.right.plane.outbound.remove(newer);
    // A last packet without an answer, and much later the next talk.
    for rest in [1, 200] {
        for _ in 0..60 {
            world.ping();
            world.pass(secs(1));
        }
        world.send(true, &packet(1, 2, b"ack")).unwrap();
        world.pass(secs(rest));
        world.right.received.clear();
    }
    let used = world.left.plane.inbound.sas().filter(|sa| sa.last_used.is_some()).count();
    assert_eq!((used, world.left.told(waiting)), (1, 0), "{}", world.story());
    world.ping();
    world.right.lose(|_| true);
    world.heals_within_30_s();
    end(&mut world);
}

#[test]
fn f_65_what_came_in_just_before_a_rekey_counts_for_the_new_sa() {
    let mut world = World::connected("dpd = \"10s\"", "dpd = \"0s\"");
    world.pass(secs(11));
    world.ping();
    assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
    world.exchange();
    world.right.lose(|_| true);
    world.heals_within_30_s();
}

/// The last packet of a talk has no answer, as a last ACK. Later one is answered after half a second.
#[test]
fn f_65_an_answer_that_takes_half_a_second_after_a_rest_is_no_silence() {
    for rest in [4, 300] {
        let mut rekeys = Vec::new();
        for phase in 0..24 {
            let mut world = World::connected("dpd = \"10s\"", "dpd = \"0s\"");
            world.ping();
            world.pass(secs(1));
            world.send(true, &packet(1, 2, b"ack")).unwrap();
            world.pass(secs(rest));
            world.pass(Duration::from_millis(450 * phase));
            world.send(true, &packet(1, 2, b"question")).unwrap();
            world.pass(Duration::from_millis(500));
            world.send(false, &packet(2, 1, b"answer")).unwrap();
            world.pass(secs(15));
            world.left.received.clear();
            world.right.received.clear();
            rekeys.push((world.left.child("other", "net").1, world.left.told(waiting)));
        }
        assert!(rekeys.iter().all(|told| *told == (0, 0)), "{rest}: {rekeys:?}");
    }
}

/// Whenever in its liveness interval the peer goes away, with IKE and ESP.
#[test]
fn f_65_a_peer_that_is_silent_altogether_is_lost_and_not_told_as_one_way() {
    for phase in 0..20 {
        let mut world = World::connected("dpd = \"10s\"", "");
        world.pass(Duration::from_millis(500 * phase));
        for _ in 0..15 {
            world.ping();
            world.pass(secs(1));
        }
        world.cut = true;
        let since = world.now;
        let mut shown = 0;
        while world.left.told(|what| *what == What::Closed) == 0 {
            let _ = world.send(true, &packet(1, 2, b"out"));
            world.pass(Duration::from_millis(700));
            let (state, cause) = world.left.state("other");
            if let (PeerState::Connected, Some(cause)) = (state, cause) {
                assert_eq!(cause, "waiting-for-answer", "{}", world.story());
                shown += 1;
            }
            assert!(world.now.since(since) <= secs(31), "{}", world.story());
        }
        assert!(shown >= 17 * 10 / 7, "for {shown} looks only\n{}", world.story());
        assert_eq!(world.left.told(waiting), 0, "{}", world.story());
        world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    }
}

#[test]
fn f_65_a_packet_in_a_minute_is_enough_to_notice_silence() {
    let mut world = World::connected("dpd = \"10s\"", "dpd = \"10s\"");
    world.ping();
    world.pass(secs(60));
    world.right.lose(|_| true);
    for _ in 0..3 {
        let _ = world.send(true, &packet(1, 2, b"out"));
        world.pass(secs(60));
    }
    assert_eq!(world.left.told(waiting), 1, "{}", world.story());
    world.ping();
}

/// Silence is found while IKE waits, and has to ask again: what did not arrive then says nothing of the way of ESP.
#[test]
fn f_65_a_peer_that_had_to_be_asked_again_is_looked_at_anew() {
    // Then it is found between the first question and its repetition.
    for millis in [4600, 4650, 4700, 4750] {
        let mut world = World::connected("dpd = \"10s\"", "dpd = \"0s\"");
        world.pass(Duration::from_millis(millis));
        world.ping();
        world.cut = true;
        let repeated =
            |world: &World| world.left.endpoint.ike_sas().find_map(|ike| ike.waiting).map(|(_, times)| times);
        while repeated(&world).is_none_or(|times| times == 0) {
            world.pass(Duration::from_millis(100));
            let _ = world.send(true, &packet(1, 2, b"out"));
        }
        world.cut = false;
        while repeated(&world).is_some() {
            world.pass(Duration::from_millis(100));
        }
        world.pass(Duration::from_millis(1500));
        assert_eq!((world.left.child("other", "net").1, world.left.told(waiting)), (0, 0), "{}", world.story());
        world.left.received.clear();
        world.right.received.clear();
    }
}

/// Silence is found while IKE waits for the answer to a rekey: of the new SA nothing is known.
#[test]
fn f_65_an_sa_that_is_replaced_when_its_silence_is_found_is_not_rekeyed_twice() {
    for phase in 0..40 {
        let mut world = World::connected("dpd = \"10s\"", "dpd = \"0s\"");
        world.pass(secs(1));
        world.ping();
        for _ in 0..102 + phase {
            world.pass(Duration::from_millis(100));
            let _ = world.send(true, &packet(1, 2, b"out"));
        }
        if world.left.told(waiting) == 0 {
            world.cut = true;
            assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
            world.pass(Duration::from_millis(300));
            world.cut = false;
            world.pass(secs(3));
            assert_eq!((world.left.child("other", "net").1, world.left.told(waiting)), (1, 0), "{}", world.story());
        }
        world.left.received.clear();
        world.right.received.clear();
    }
}

#[test]
fn f_65_a_child_whose_new_keys_did_not_end_its_silence_says_so_until_something_comes_back() {
    let mut world = World::connected("dpd = \"10s\"", "dpd = \"0s\"");
    world.ping();
    let mut seen = Vec::new();
    for _ in 0..60 {
        world.send(true, &packet(1, 2, b"out")).unwrap();
        world.pass(secs(1));
        seen.push((world.left.told(waiting), world.left.cause_of("net")));
    }
    seen.dedup();
    // With new keys a packet has to go out first.
    assert_eq!(seen, [(0, None), (1, None), (1, Some("one-way"))], "{}", world.story());
    world.right.received.clear();
    world.ping();
    assert_eq!(world.left.cause_of("net"), None);
}

/// A rekey that is refused once is no reason to connect anew, unless it was to end a silence.
#[test]
fn f_65_a_rekey_for_its_own_sake_that_is_refused_says_nothing_of_silence() {
    let left = peer(true, "dpd = \"10s\"", "") + &second(3, 4);
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
    let mut world = World::new(&left, "");
    world.right = Site::with_children(2, &right, 64, 2);
    world.left.gateway.down(world.now, "other/two", parts!(world.left)).unwrap();
    let mut world = world.start();
    world.ping();
    for _ in 0..40 {
        world.send(true, &packet(1, 2, b"log")).unwrap();
        world.pass(secs(1));
    }
    world.right.received.clear();
    assert_eq!((world.left.child("other", "net").1, world.left.told(waiting)), (1, 1), "{}", world.story());
    // Now there is no room for another one.
    world.left.gateway.up(world.now, "other/two", parts!(world.left)).unwrap();
    world.exchange();
    assert!(world.left.child("other", "two").2, "{}", world.story());
    assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
    world.exchange();
    assert_eq!(world.left.told(|what| *what == What::RekeyFailed), 1, "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::Renewing), 0, "{}", world.story());
}

/// The peer does not answer the rekey and refuses it later; meanwhile something came in.
#[test]
fn f_65_a_refusal_that_comes_when_the_silence_is_over_is_no_reason_to_connect_anew() {
    for broken in [false, true] {
        let mut world = World::new(&peer(true, "dpd = \"10s\"", ""), "");
        world.right = Site::with_children(2, &peer(false, "start = \"passive\"\ndpd = \"0s\"", ""), 64, 1);
        let mut world = world.start();
        world.ping();
        // The peer still answers whether it lives, a moment before the silence of its ESP is noticed.
        for second in 1.. {
            world.send(true, &packet(1, 2, b"out")).unwrap();
            world.pass(secs(1));
            world.deaf = second >= 10;
            if world.left.told(waiting) > 0 {
                break;
            }
        }
        if broken {
            world.send(false, &packet(2, 1, b"back")).unwrap();
        }
        world.deaf = false;
        while world.left.told(|what| *what == What::RekeyFailed) == 0 {
            world.pass(Duration::from_millis(100));
        }
        world.left.received.clear();
        world.right.received.clear();
        assert_eq!(world.left.told(|what| *what == What::Renewing), usize::from(!broken), "{}", world.story());
    }
}

#[test]
fn f_65_silence_of_one_party_makes_no_connection_with_another_anew() {
    let mut three = refusing("dpd = \"10s\"", 1, 16);
    for _ in 0..20 {
        three.log_to_b();
    }
    assert_eq!(
        three.world.left.gateway.rekey(three.world.now, "other/net", false, parts!(three.world.left)),
        Ok(Ok(()))
    );
    three.world.exchange();
    assert_eq!(three.told(|what| *what == What::RekeyFailed), 1, "{}", three.world.story());
    assert_eq!(three.told(|what| *what == What::Renewing), 0, "{}", three.world.story());
}
