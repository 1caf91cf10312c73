//! What a hostile reader broke: wishes that outlive what they were for, and the word of the operator.

use std::time::Duration;

use gateway_core::cause::{Kind, Unsent};
use gateway_core::gateway::{Parts, PeerState, Report, What};
use ike_core::registry::{ExchangeType, NotifyKind};
use ike_core::wire::header::Header;
use ike_core::wire::writer::MessageWriter;
use ipsec_core::net::Path;

use crate::busy::busy;
use crate::reloads::OTHERS;
use crate::secs;
use crate::world::{Site, World, config, packet, parts, peer, second};

#[test]
fn f_53_a_child_that_was_asked_for_when_the_connection_ended_is_asked_for_again() {
    let left = peer(true, "", "") + &second(3, 4);
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
    let mut world = World::new(&left, &right);
    world.left.gateway.start(world.now, parts!(world.left)).unwrap();
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    while !world.left.child("other", "net").2 {
        assert!(world.step());
    }
    world.cut = true;
    world.pass(secs(30));
    world.cut = false;
    world.pass(secs(300));
    assert_eq!(world.left.state("other").0, PeerState::Connected);
    assert!(world.left.child("other", "net").2);
    assert!(world.left.child("other", "two").2, "second child never comes back\n{}", world.story());
}

#[test]
fn f_53_a_packet_asks_again_for_what_was_asked_for_when_the_connection_ended() {
    let left = peer(true, "start = \"on-demand\"", "") + &second(3, 4);
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
    let mut world = World::new(&left, &right).start();
    let _ = world.send(true, &packet(1, 2, b"x"));
    world.pass(secs(20));
    assert!(world.left.child("other", "net").2, "{}", world.story());
    world.cut = true;
    let _ = world.send(true, &packet(3, 4, b"x"));
    world.pass(secs(60));
    world.cut = false;
    let _ = world.send(true, &packet(1, 2, b"x"));
    world.pass(secs(60));
    assert!(world.left.child("other", "net").2, "{}", world.story());
    for _ in 0..20 {
        let _ = world.send(true, &packet(3, 4, b"x"));
        world.pass(secs(10));
    }
    assert!(world.left.child("other", "two").2, "{:?}\n{}", world.send(true, &packet(3, 4, b"x")), world.story());
}

#[test]
fn f_81_what_could_not_be_sent_is_not_told_as_silence() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "start = \"passive\"", ""));
    world.cut = true;
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    world.left.gateway.start(world.now, parts!(world.left)).unwrap();
    let ike = world.left.endpoint.ike_sas().next().unwrap().id;
    assert_eq!(world.left.state("other").1, Some("waiting-for-answer"));
    let unsent = || Err(Unsent { why: "no such address".to_owned(), filtered: false });
    for (outcome, code) in [(unsent(), "not-sent"), (Ok(()), "waiting-for-answer"), (unsent(), "not-sent")] {
        world.left.gateway.sent(ike, outcome, &world.left.endpoint);
        assert_eq!(world.left.state("other").1, Some(code));
    }
    let told = |world: &World, code| {
        let of = |report: &&Report| report.cause.as_ref().is_some_and(|cause| cause.code == code);
        world.left.story.iter().filter(of).count()
    };
    world.pass(secs(40));
    // While it waits, and when it is over. The next try is another one.
    let told = ["not-sent", "peer-silent", "waiting-for-answer"].map(|code| told(&world, code));
    assert_eq!(told, [2, 0, 1], "{}", world.story());
}

/// Whether the right side shows a child as held down.
fn held(world: &mut World, child: &str) -> bool {
    let parts = parts!(world.right);
    let status = world.right.gateway.status(parts).next().unwrap();
    status.children.iter().any(|status| status.name == child && status.held)
}

#[test]
fn f_10_what_the_peer_wanted_back_is_down_when_both_took_it_down_whatever_was_made_anew_meanwhile() {
    for renewed in [false, true] {
        let left = peer(true, "start = \"passive\"", "") + &second(3, 4);
        let mut world = World::new(&left, &(peer(false, "", "") + &second(4, 3))).start();
        world.pass(secs(20));
        world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
        world.pass(secs(20));
        world.left.gateway.up(world.now, "other/net", parts!(world.left)).unwrap();
        world.pass(secs(20));
        assert!(world.right.child("other", "net").2 && held(&mut world, "net"), "{}", world.story());
        if renewed {
            let ike = world.right.endpoint.ike_sas().next().unwrap();
            world.limit(false, &ike, 1);
        } else {
            let text = peer(false, "", OTHERS) + &second(4, 3);
            world.right.gateway.reload(world.now, config(&text), parts!(world.right)).1.unwrap();
        }
        world.pass(secs(30));
        assert_eq!(
            world.right.told(|what| matches!(what, What::Connected { .. })),
            if renewed { 2 } else { 1 },
            "{}",
            world.story()
        );
        assert!(world.right.child("other", "net").2 && held(&mut world, "net"), "{renewed}\n{}", world.story());
        world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
        world.pass(secs(60));
        assert!(!world.right.child("other", "net").2 && held(&mut world, "net"), "{renewed}\n{}", world.story());
        assert!(world.right.child("other", "two").2, "{}", world.story());
    }
}

/// Also when the first call for that is not heard.
#[test]
fn f_63_a_connection_is_made_anew_ahead_of_its_end_although_the_peer_alone_wants_what_it_carries() {
    for lost in [false, true] {
        let mut world = World::new(&peer(true, "start = \"passive\"", ""), &peer(false, "", "")).start();
        world.pass(secs(20));
        world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
        world.pass(secs(20));
        world.left.gateway.up(world.now, "other/net", parts!(world.left)).unwrap();
        world.pass(secs(20));
        assert!(world.right.child("other", "net").2 && held(&mut world, "net"), "{}", world.story());
        let ike = world.right.endpoint.ike_sas().next().unwrap();
        world.limit(false, &ike, 1);
        if lost {
            let due = world.right.endpoint.ike_sa(ike.id).and_then(|ike| ike.reauthenticate_at).unwrap();
            world.pass(due.since(world.now) - Duration::from_millis(1));
            world.cut = true;
            world.pass(Duration::from_millis(100));
            let attempt = world.right.endpoint.ike_sas().find(|ike| ike.since.is_none()).unwrap();
            world.drop_spi = Some(attempt.spi_local.to_be_bytes());
            world.cut = false;
        }
        world.pass(secs(40));
        assert_eq!(world.right.told(|what| matches!(what, What::Connected { .. })), 2, "{}", world.story());
        assert_eq!(world.right.told(|what| *what == What::ChildDown), 1, "the operator's\n{}", world.story());
        assert_eq!(world.right.endpoint.ike_sas().count(), 1, "{}", world.story());
        // The peer wants it, and nobody here.
        world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
        world.pass(secs(60));
        assert!(!world.right.child("other", "net").2 && held(&mut world, "net"), "{}", world.story());
    }
}

#[test]
fn f_61_a_connection_whose_rekeys_the_peer_is_too_busy_for_is_made_anew_although_the_peer_alone_wants_what_it_carries()
{
    let left = peer(true, "rekey = \"10m\"", "rekey = \"8h\"");
    let mut world = World::new(&left, &peer(false, "start = \"passive\"", "rekey = \"8h\"")).start();
    world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
    world.pass(secs(20));
    world.right.gateway.up(world.now, "other/net", parts!(world.right)).unwrap();
    world.pass(secs(20));
    world.refusal = busy();
    for _ in 0..7200 {
        world.pass(secs(1));
        world.ping();
        world.right.received.clear();
    }
    assert_eq!(world.left.told(|what| *what == What::ChildDown), 1, "the operator's\n{}", world.story());
    assert!(world.left.told(|what| matches!(what, What::Connected { .. })) > 1, "{}", world.story());
}

/// The text of a peer with this second child before its first.
fn turned(text: &str, two: &str) -> String {
    let (head, net) = text.split_at(text.find("[[peer.child]]").unwrap());
    format!("{head}{two}{net}")
}

/// Each of two children stays on the connection that it came with: the right side has room for two.
fn two_connections() -> World {
    let right = turned(&peer(false, "", ""), &second(4, 3));
    let mut world = World::new(&(peer(true, "", "") + &second(3, 4)), &right);
    world.right = Site::with_children(2, &right, 64, 2);
    let mut world = world.start();
    world.pass(secs(5));
    world
}

#[test]
fn f_61_of_two_connections_the_newest_alone_is_made_anew_when_the_peer_stays_busy() {
    for newest in [false, true] {
        let mut world = two_connections();
        let shown = world.left.gateway.status(&parts!(lent world.left)).next().unwrap().ike.unwrap().id;
        let ike = world.left.endpoint.ike_sas().find(|ike| (ike.id == shown) == newest).unwrap().id;
        world.refusal = busy();
        for _ in 0..30 {
            let _ = world.left.endpoint.rekey_ike(world.now, ike);
            world.pass(secs(10));
        }
        assert!(world.left.told(|what| *what == What::RekeyFailed) > 3, "{}", world.story());
        assert_eq!(world.left.told(|what| *what == What::Renewing) > 0, newest, "{}", world.story());
    }
}

#[test]
fn f_63_of_two_connections_the_one_whose_time_is_up_is_made_anew_with_what_it_carries() {
    let mut world = two_connections();
    let called = world.left.endpoint.ike_sas().find(|ike| ike.called).unwrap();
    let carried = world.left.endpoint.child_sas().find(|sa| sa.ike == called.id).unwrap().config;
    assert_eq!(world.left.endpoint.pad().get_child(carried).map(|(.., child)| child.name.as_str()), Some("net"));
    assert!(world.left.child("other", "net").2 && world.left.child("other", "two").2, "{}", world.story());
    // What came with it is not the first one in the file.
    let text = turned(&peer(true, "", ""), &second(3, 4));
    world.left.gateway.reload(world.now, config(&text), parts!(world.left)).1.unwrap();
    world.limit(true, &called, 1);
    world.pass(secs(12));
    let refused = world.left.story.iter().skip_while(|report| report.what != What::Renewing);
    let refused = refused.filter(|report| report.cause.as_ref().is_some_and(|cause| cause.kind == Kind::Refusal));
    assert_eq!(refused.map(|report| report.child.clone()).next(), Some(Some("net".to_owned())), "{}", world.story());
}

#[test]
fn f_10_a_child_that_is_down_stays_down_when_its_peer_is_taken_down_and_another_child_wanted() {
    let right = peer(false, "", "") + &second(4, 3);
    let mut world = World::new(&(peer(true, "start = \"passive\"", "") + &second(3, 4)), &right).start();
    world.pass(secs(20));
    for name in ["other/two", "other"] {
        world.right.gateway.down(world.now, name, parts!(world.right)).unwrap();
        world.pass(secs(10));
    }
    world.right.gateway.up(world.now, "other/net", parts!(world.right)).unwrap();
    world.pass(secs(30));
    assert!(world.right.child("other", "net").2, "{}", world.story());
    assert!(!world.right.child("other", "two").2 && held(&mut world, "two"), "{}", world.story());
    world.right.gateway.up(world.now, "other", parts!(world.right)).unwrap();
    world.pass(secs(30));
    assert!(world.right.child("other", "two").2 && !held(&mut world, "two"), "{}", world.story());
}

#[test]
fn f_10_a_child_that_is_down_stays_down_when_its_connection_is_lost() {
    let mut world = World::connected("", "");
    world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
    world.pass(secs(10));
    assert!(!world.left.child("other", "net").2);
    world.cut = true;
    world.pass(secs(120));
    world.cut = false;
    world.pass(secs(300));
    assert!(!world.left.child("other", "net").2, "came back by itself\n{}", world.story());
}

#[test]
fn f_25_what_goes_nowhere_any_more_takes_no_packets() {
    let left = peer(true, "start = \"on-demand\"", "");
    let mut world = World::new(&left, &peer(false, "start = \"passive\"", "")).start();
    let _ = world.send(true, &packet(1, 2, b"x"));
    world.pass(secs(20));
    world.ping();
    world.cut = true;
    world.left.gateway.readdress(world.now, |_, _| false, parts!(world.left));
    let mut lost = 0;
    for _ in 0..40 {
        match world.send(true, &packet(1, 2, b"x")) {
            Ok(()) => lost += 1,
            Err(_) => break,
        }
        world.pass(secs(1));
    }
    assert!(lost <= 3, "{lost} seconds of packets go into the SA of an address that is gone\n{}", world.story());
}

#[test]
fn f_60_both_call_at_once_and_an_answer_is_lost() {
    for dropped in [5, 6] {
        let mut world = World::new(&peer(true, "", ""), &peer(false, "", ""));
        world.left.gateway.start(world.now, parts!(world.left)).unwrap();
        world.right.gateway.start(world.now, parts!(world.right)).unwrap();
        for step in 1..8 {
            world.cut = step == dropped;
            assert!(world.step());
        }
        world.cut = false;
        world.pass(Duration::from_millis(900));
        let mut gaps = 0;
        for _ in 0..400 {
            let sent = world.send(true, &packet(1, 2, b"ping"));
            let there = world.right.received.pop().is_some();
            let back = world.send(false, &packet(2, 1, b"pong"));
            let here = world.left.received.pop().is_some();
            gaps += usize::from(sent.is_err() || back.is_err() || !there || !here);
            world.pass(Duration::from_millis(100));
        }
        assert!(gaps == 0, "{gaps}");
    }
}

#[test]
fn f_60_after_a_new_address_the_connection_that_works_stays() {
    for round in 0..6 {
        let mut world = World::connected("dpd = \"30s\"", "dpd = \"30s\"");
        for _ in 0..round {
            world.pass(secs(15));
            let _ = world.left.gateway.rekey(world.now, "other", false, parts!(world.left));
            world.exchange();
        }
        world.pass(secs(20));
        world.ping();
        let old = world.left.endpoint.ike_sas().next().unwrap();
        let spi_i = if old.initiator { old.spi_local } else { old.spi_remote };
        world.drop_spi = Some(spi_i.to_be_bytes());
        world.left.gateway.readdress(world.now, |_, _| false, parts!(world.left));
        world.exchange();
        let (mut gaps, mut first) = (0, None);
        for tenth in 0..600 {
            let sent = world.send(true, &packet(1, 2, b"ping"));
            let there = world.right.received.pop().is_some();
            let back = world.send(false, &packet(2, 1, b"pong"));
            let here = world.left.received.pop().is_some();
            if sent.is_err() || back.is_err() || !there || !here {
                gaps += 1;
                first.get_or_insert(tenth);
            }
            world.pass(Duration::from_millis(100));
        }
        assert_eq!((gaps, first), (0, None), "round {round}\n{}", world.story());
    }
}

#[test]
fn f_65_an_idle_sa_does_not_hide_a_dead_one() {
    let right = peer(false, "start = \"passive\"\ndpd = \"10s\"", "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"")
        + "[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.2.9.0/24\"\nremote-ts = \"10.1.0.0/16\"\n";
    let mut world = World::new(&peer(true, "dpd = \"10s\"", ""), &right).start();
    let mut far = packet(1, 2, b"far");
    far[18] = 9;
    let _ = world.send(true, &far);
    world.exchange();
    assert_eq!(world.left.plane.inbound.sas().count(), 2, "{}", world.story());
    for _ in 0..5 {
        world.ping();
        world.pass(secs(1));
    }
    world.right.lose(|sa| sa.last_used.is_some());
    world.heals_within_30_s();
}

#[test]
fn f_55_claims_in_clear_do_not_fill_the_log() {
    let mut world = World::new(&peer(true, "", ""), "");
    world.cut = true;
    let mut world = world.start();
    let ike = world.left.endpoint.ike_sas().next().unwrap();
    for number in 0..2000u16 {
        let mut buf = [0; 128];
        let header = Header { response: true, ..Header::new(ike.spi_local, 0, ExchangeType::IKE_SA_INIT, 0) };
        let mut message = MessageWriter::new(&mut buf, &header).unwrap();
        message.notify_parts(NotifyKind(8192 + number % 2), &[]).unwrap();
        let len = message.finish().len;
        let path = Path { local: "192.0.2.1:500".parse().unwrap(), remote: "203.0.113.9:500".parse().unwrap() };
        world.left.gateway.handle_datagram(world.now, path, &mut buf[..len], parts!(world.left));
        world.exchange();
    }
    let told = world.left.told(|what| matches!(what, What::Doubtful { .. }));
    assert!(told < 100, "{told} lines");
}
