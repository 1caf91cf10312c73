//! SAs of one child are looked at each for itself: their silence, and the rekeys that are refused.

use std::time::Duration;

use gateway_core::gateway::{Parts, PeerState, What};
use gateway_core::plane::Half;
use gateway_core::policy::Outbound;
use ike_core::failure::Failure;
use ike_core::registry::ExchangeType;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::OutboundSlot;
use ipsec_core::sa::{Event, Reached};
use ipsec_core::spd::Hits;

use crate::secs;
use crate::world::{RIGHT, Site, Stopped, World, far, leak, packet, parts, peer, second};

fn waiting(what: &What) -> bool {
    *what == What::Waiting
}

/// A site that shares a peer with others: its lines, its identity, its network, lines of its child, its room for Child SAs.
fn party(seed: u64, lines: &str, (id, net): (&str, u8), child: &str, room: usize) -> Site {
    let text = peer(false, lines, child)
        .replace("local-id = \"right.lab\"", &format!("local-id = \"{id}\""))
        .replace("local-ts = \"10.2.0.0/16\"", &format!("local-ts = \"10.2.{net}.0/24\""));
    Site::with_children(seed, &text, 64, room)
}

/// The left side and those who share its peer: a is at the right, b beside.
struct Three {
    world: World,
    b: Site,
}

impl Three {
    /// Both call.
    fn called(b_first: bool, net_of_b: u8) -> Self {
        let left = peer(true, "start = \"passive\"\ndpd = \"10s\"", "")
            .replace("remote = \"192.0.2.2\"", "remote = \"any\"")
            .replace("remote-id = \"right.lab\"", "remote-id = \"any\"");
        let mut world = World::new(&left, "");
        world.right = party(2, "dpd = \"0s\"", ("a.lab", 1), "", 16);
        world.left.gateway.start(world.now, parts!(world.left)).unwrap();
        let mut three = Self { world, b: party(3, "dpd = \"0s\"", ("b.lab", net_of_b), "", 16) };
        for turn in [b_first, !b_first] {
            let start = |world: &mut World| {
                world.right.gateway.start(world.now, parts!(world.right)).unwrap();
                world.exchange();
            };
            if turn { three.beside(start) } else { start(&mut three.world) }
        }
        assert_eq!(three.world.left.plane.outbound.sas().count(), 2, "{}", three.world.story());
        three
    }

    /// The left side calls a, and is called by b.
    fn calling(left: &str, a: Site, b: Site) -> Self {
        let mut world = World::new(&left.replace("remote-id = \"right.lab\"", "remote-id = \"any\""), "");
        world.right = a;
        let mut three = Self { world: world.start(), b };
        three.beside(|world| {
            world.right.gateway.start(world.now, parts!(world.right)).unwrap();
            world.exchange();
        });
        three
    }

    /// While b is at the right.
    fn beside<T>(&mut self, what: impl FnOnce(&mut World) -> T) -> T {
        core::mem::swap(&mut self.world.right, &mut self.b);
        let done = what(&mut self.world);
        core::mem::swap(&mut self.world.right, &mut self.b);
        done
    }

    /// b is sent a line of a log. IKE hears both of them: what comes while the other one is there is repeated.
    fn log_to_b(&mut self) {
        self.world.pass(Duration::from_millis(300));
        self.beside(|world| {
            let _ = world.send(true, &far(1, 2, 2));
            world.right.received.clear();
            world.pass(Duration::from_millis(400));
        });
    }

    fn told(&self, what: impl Fn(&What) -> bool) -> usize {
        self.world.left.told(what)
    }
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

/// a has room for one Child SA, so that no rekey succeeds there; b for as many.
fn refusing(left: &str, a: usize, b: usize) -> Three {
    let party = |seed, lines, whose, room| party(seed, lines, whose, "", room);
    let a = party(2, "start = \"passive\"\ndpd = \"0s\"", ("a.lab", 1), a);
    Three::calling(&peer(true, left, ""), a, party(3, "dpd = \"0s\"", ("b.lab", 2), b))
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

#[test]
fn f_61_rekeys_with_one_party_hide_none_that_another_one_refuses() {
    let mut three = refusing("dpd = \"0s\"", 1, 16);
    for round in 0..3 {
        let renewed = three.told(|what| *what == What::Renewing);
        assert_eq!(renewed, 0, "{round}\n{}", three.world.story());
        three.world.pass(secs(15));
        let world = &mut three.world;
        assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
        world.exchange();
        three.beside(|world| world.pass(secs(8)));
    }
    let told = (three.told(|what| *what == What::RekeyFailed), three.told(|what| *what == What::Renewing));
    assert_eq!(told, (4, 1), "the last time over the new connection\n{}", three.world.story());
    assert_eq!(three.world.left.child("other", "net").1, 3, "b was rekeyed\n{}", three.world.story());
}

#[test]
fn f_61_what_one_party_refuses_puts_off_no_question_to_another() {
    let mut three = refusing("dpd = \"0s\"", 16, 1);
    three.beside(|world| world.pass(secs(12)));
    let rekey_b = |three: &mut Three| {
        let of_b = |sa: &ike_core::endpoint::ChildView<'_>| {
            sa.remote.iter().any(|remote| remote.addrs.contains("10.2.2.1".parse().unwrap()))
        };
        three.beside(|world| {
            let sa = world.left.endpoint.child_sas().find(of_b).unwrap().id;
            world.left.endpoint.rekey_child(world.now, sa).unwrap();
            world.exchange();
        });
    };
    for _ in 0..5 {
        rekey_b(&mut three);
        three.world.pass(secs(8));
    }
    assert_eq!(three.told(|what| *what == What::RekeyFailed), 5, "{}", three.world.story());
    three.world.right.gateway.down(three.world.now, "other/net", parts!(three.world.right)).unwrap();
    three.world.exchange();
    assert!(!three.world.right.child("other", "net").2, "{}", three.world.story());
    rekey_b(&mut three);
    assert_eq!(three.told(|what| *what == What::RekeyFailed), 6, "{}", three.world.story());
    three.world.pass(secs(5));
    assert!(three.world.right.child("other", "net").2, "{}", three.world.story());
}

/// Keys of the first child need no agreement about key exchanges: what was up with a party, and is refused now, comes back
/// with a new connection.
#[test]
fn f_61_a_child_that_another_party_has_comes_back_with_a_new_connection() {
    let left = peer(true, "", "esp = \"aes256gcm16\"");
    let a = party(2, "start = \"passive\"", ("a.lab", 1), "esp = \"aes256gcm16-ecp256\"", 16);
    let mut three = Three::calling(&left, a, party(3, "", ("b.lab", 2), "esp = \"aes256gcm16\"", 16));
    assert_eq!(three.world.left.plane.outbound.sas().count(), 2, "{}", three.world.story());
    three.world.pass(secs(12));
    let world = &mut three.world;
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.exchange();
    assert!(!world.right.child("other", "net").2, "{}", world.story());
    world.pass(secs(15));
    assert!(world.right.child("other", "net").2, "{}", world.story());
}

/// Of two connections one stays, and is refused the child that only the other one carries.
#[test]
fn f_61_a_child_that_is_up_is_no_reason_to_connect_anew_where_it_is_asked_for_too() {
    let (ours, theirs) = ("esp = \"aes256gcm16\"\n", "esp = \"aes256gcm16-ecp256\"\n");
    let left = peer(true, "", ours) + &second(3, 4) + ours;
    let right = peer(false, "", theirs);
    let (head, net) = right.split_at(right.find("[[peer.child]]").unwrap());
    let mut world = World::new(&left, &(head.to_owned() + &second(4, 3) + theirs + net)).start();
    assert_eq!(world.left.endpoint.ike_sas().count(), 2, "{}", world.story());
    world.pass(secs(30));
    for site in [&world.left, &world.right] {
        assert_eq!(site.told(|what| *what == What::Renewing), 0, "{}", world.story());
    }
    let failed =
        world.left.told(|what| *what == What::ChildFailed) + world.right.told(|what| *what == What::ChildFailed);
    assert!(failed > 0, "{}", world.story());
}

#[test]
fn f_61_a_child_that_only_another_party_had_is_no_reason_to_connect_anew() {
    let two = |net: u8, far: u8, esp: &str| "\n".to_owned() + &second(net, far) + &format!("esp = \"{esp}\"\n");
    let left = peer(true, "", "") + &two(3, 4, "aes128gcm16");
    let a = party(2, "start = \"passive\"", ("a.lab", 1), &two(4, 3, "aes256gcm16"), 16);
    let b = party(3, "", ("b.lab", 2), &two(4, 3, "aes128gcm16"), 16);
    let mut three = Three::calling(&left, a, b);
    three.beside(|world| world.pass(secs(3)));
    assert!(three.b.child("other", "two").2, "{}", three.world.story());
    for _ in 0..20 {
        three.world.pass(secs(5));
        three.beside(|world| world.pass(secs(1)));
    }
    assert!(three.told(|what| *what == What::ChildFailed) > 2, "{}", three.world.story());
    assert_eq!(three.told(|what| *what == What::Renewing), 0, "{}", three.world.story());
}

fn ends(world: &World) -> Vec<String> {
    let down = world.left.story.iter().filter(|report| report.what == What::ChildDown);
    down.filter_map(|report| report.cause.as_ref()).map(|cause| cause.code.to_string()).collect()
}

#[test]
fn f_72_a_child_that_ends_at_its_limit_is_told_as_expired() {
    let mut world = World::connected("", "");
    world.pass(secs(60));
    let sa = world.left.plane.outbound.sas().next().unwrap();
    let event = Event::HardLifetime { sa: sa.id, spi: sa.spi, reached: Reached::Bytes };
    world.left.tell(world.now, Half::Outbound, event);
    world.exchange();
    assert_eq!(ends(&world), ["expired"], "{}", world.story());
    // What is closed here later is told as that.
    world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
    world.exchange();
    assert_eq!(ends(&world), ["expired", "closed-here"], "{}", world.story());
}

/// The engine that sends has room for one SA: the peer rekeys, and ours is still in its place when the new one may send.
#[test]
fn f_72_a_child_that_the_engine_has_no_room_for_is_told_as_that() {
    let right = peer(false, "start = \"passive\"", "");
    let mut world = World::new(&peer(true, "", ""), &right);
    world.left.plane.outbound =
        Outbound::new(RustCrypto, leak(64, || Hits::NONE), leak(1, || OutboundSlot::<RustCrypto>::EMPTY));
    let mut world = world.start();
    world.pass(secs(60));
    assert_eq!(world.right.gateway.rekey(world.now, "other/net", false, parts!(world.right)), Ok(Ok(())));
    world.exchange();
    world.pass(secs(30));
    assert_eq!(ends(&world).first().map(String::as_str), Some("not-installed"), "{}", world.story());
    world.ping();
}

#[test]
fn f_72_a_child_whose_peer_is_lost_while_it_is_deleted_at_its_limit_is_told_as_that() {
    let mut world = World::connected("", "dpd = \"0s\"");
    let sa = world.left.plane.outbound.sas().next().unwrap();
    let event = Event::HardLifetime { sa: sa.id, spi: sa.spi, reached: Reached::Bytes };
    world.cut = true;
    world.left.tell(world.now, Half::Outbound, event);
    world.pass(secs(60));
    assert_eq!(ends(&world), ["peer-lost"], "{}", world.story());
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
}

#[test]
fn f_25_a_nat_that_keeps_what_it_translated_to_does_not_keep_us_away_for_ever() {
    for (encap, somebody_says) in [("", false), ("encap = \"always\"", false), ("", true)] {
        let mut world = World::connected("dpd = \"3s\"", encap);
        world.ping();
        world.stale = [(500, world.now), (4500, world.now)].into();
        for _ in 0..300 {
            world.pass(secs(1));
            if somebody_says {
                world.say_unreachable(RIGHT);
            }
        }
        assert_eq!(world.left.state("other").0, PeerState::Connected, "{}", world.story());
        world.ping();
        assert!(world.stale.contains_key(&500), "each call at port 500 kept it there");
    }
}

#[test]
fn f_34_after_a_sleep_each_peer_is_asked_for_a_sign_of_life_at_once() {
    let mut world = World::connected("dpd = \"30s\"", "dpd = \"0s\"");
    world.pass(secs(1));
    // We sleep, and the peer gives us up.
    let (slept, given_up) = (world.now + secs(24), world.now);
    for ike in world.right.endpoint.ike_sas().collect::<Vec<_>>() {
        world.right.endpoint.abandon(given_up, ike.id, Failure::PeerSilent(ExchangeType::INFORMATIONAL)).unwrap();
    }
    world.now = slept;
    world.left.gateway.woke(world.now, parts!(world.left));
    world.pass(secs(22));
    assert_eq!(world.left.told(|what| *what == What::Closed), 1, "{}", world.story());
    world.ping();
}
