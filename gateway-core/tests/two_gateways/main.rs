//! Two gateways back to back in memory: configuration, IKE, policies and packets together.

mod busy;
mod callers;
mod chance;
mod crowd;
mod ends;
mod firm_ground;
mod fleet;
mod late;
mod limits;
mod looks;
mod manual;
mod merging;
mod narrowing;
mod neighbours;
mod networks;
mod overheard;
mod parties;
mod places;
mod planes;
mod recording;
mod refusals;
mod reloads;
mod renewals;
mod settings;
mod shared;
mod silence;
mod three;
mod traffic;
mod trials;
mod wishes;
mod world;

use std::time::Duration;

use gateway_core::gateway::{Parts, PeerState, What};

use crate::world::{LEFT, RIGHT, Site, Stopped, World, config, packet, parts, peer};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn up(what: &What) -> bool {
    matches!(what, What::ChildUp { .. })
}

#[test]
fn e13_on_demand_waits_for_a_packet_and_says_when_it_can_go() {
    let mut world =
        World::new(&peer(true, "start = \"on-demand\"", ""), &peer(false, "start = \"passive\"", "")).start();
    world.pass(secs(120));
    assert_eq!(world.messages, 0);
    assert_eq!(world.left.state("other"), (PeerState::Pending, Some("waiting-for-packet")));
    let Err(Stopped::Acquire(policy, true)) = world.send(true, &packet(1, 2, b"first")) else { panic!() };
    // More packets while it is negotiated start nothing more.
    assert_eq!(world.send(true, &packet(1, 2, b"second")), Err(Stopped::Acquire(policy, true)));
    world.exchange();
    let told = world.left.told(|what| matches!(what, What::ChildUp { policy: up, .. } if *up == policy));
    assert_eq!(told, 1, "{}", world.story());
    world.ping();
}

#[test]
fn e13_a_peer_that_refuses_is_not_bothered_by_every_packet() {
    let mut world = World::new(
        &peer(true, "start = \"on-demand\"\npsk = \"one key of more than twenty characters\"", ""),
        &peer(false, "start = \"passive\"\npsk = \"other key of more than twenty characters\"", ""),
    )
    .start();
    for _ in 0..1000 {
        let stopped = world.send(true, &packet(1, 2, b"again"));
        assert!(matches!(stopped, Err(Stopped::Acquire(..))));
        world.pass(Duration::from_millis(20));
    }
    let attempts = world.left.told(|what| matches!(what, What::Connecting { .. }));
    assert!((4..=7).contains(&attempts), "{attempts} attempts in 20 s");
}

#[test]
fn a_passive_gateway_never_calls() {
    let mut world = World::new(&peer(true, "start = \"passive\"", ""), &peer(false, "start = \"passive\"", "")).start();
    assert!(matches!(world.send(true, &packet(1, 2, b"x")), Err(Stopped::Acquire(_, false))));
    world.pass(secs(600));
    assert_eq!(world.messages, 0);
    assert_eq!(world.left.state("other"), (PeerState::Pending, Some("waiting-for-peer")));
    // What nobody can call is not to be called.
    let hint = |site: &mut Site| {
        let parts = parts!(site);
        site.gateway.status(parts).next().unwrap().cause.unwrap().hint
    };
    assert!(hint(&mut world.left).contains("portcullis up"));
    let anybody = peer(true, "start = \"passive\"", "").replace(&format!("\"{RIGHT}\""), "\"any\"");
    let mut world = World::new(&anybody, &peer(false, "start = \"passive\"", "")).start();
    assert_eq!(hint(&mut world.left), "start it on the other side");
}

#[test]
fn a_wrong_key_is_named_on_both_sides_and_tried_again_ever_more_slowly() {
    let mut world = World::new(
        &peer(true, "psk = \"one key of more than twenty characters\"", ""),
        &peer(false, "start = \"passive\"\npsk = \"other key of more than twenty characters\"", ""),
    )
    .start();
    assert_eq!(world.left.state("other"), (PeerState::Error, Some("authentication-refused")), "{}", world.story());
    assert_eq!(world.right.state("other"), (PeerState::Error, Some("authentication-failed")), "{}", world.story());
    world.pass(secs(600));
    let attempts = world.left.told(|what| matches!(what, What::Connecting { .. }));
    assert!((10..=18).contains(&attempts), "{attempts}");
    assert!(!world.story().contains("twenty characters"));
    assert!(matches!(world.send(true, &packet(1, 2, b"x")), Err(Stopped::Acquire(_, _))));
}

#[test]
fn no_proposal_in_common_names_both_lists() {
    let mut world = World::new(
        &peer(true, "ike = \"aes256gcm16-prfsha384-x25519\"", ""),
        &peer(false, "start = \"passive\"\nike = \"aes128gcm16-prfsha256-x25519\"", ""),
    )
    .start();
    assert_eq!(world.left.state("other"), (PeerState::Error, Some("no-proposal-chosen")), "{}", world.story());
    assert!(world.left.story.iter().any(|report| report.to_string().contains("(ike: aes256gcm16-prfsha384-x25519)")));
    let refused: Vec<_> =
        world.right.story.iter().filter(|report| matches!(report.what, What::Refused { .. })).collect();
    let text = refused[0].to_string();
    assert!(
        text.contains("[no-proposal-in-common]") && text.contains("ours aes128gcm16") && text.contains("peer's"),
        "{text}"
    );
    // The handshake goes on, as anybody may say so; nobody is told meanwhile that nobody answers.
    world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
    assert_eq!(world.left.state("other"), (PeerState::Error, Some("no-proposal-chosen")), "{}", world.story());
    world.pass(secs(15));
    let told = world.left.story.iter().filter_map(|report| report.cause.as_ref());
    assert!(told.into_iter().all(|cause| cause.code != "waiting-for-answer"), "{}", world.story());
}

#[test]
fn f_72_what_both_sides_want_of_a_child_shows_before_what_the_peer_says_of_it() {
    let mut world =
        World::new(&peer(true, "", "esp = \"aes256gcm16\""), &peer(false, "", "esp = \"aes128gcm16\"")).start();
    world.pass(secs(60));
    let told = |site: &mut Site| {
        let parts = parts!(site);
        let status = site.gateway.status(parts).next().unwrap();
        let child = &status.children[0];
        let retried = child.retry_at.is_some();
        (status.state, status.cause.map(|cause| cause.code), child.cause.as_ref().map(|cause| cause.code), retried)
    };
    let (left, right) = (told(&mut world.left), told(&mut world.right));
    let shown = (PeerState::Connected, Some("no-proposal-in-common"), Some("no-proposal-chosen"), true);
    assert!(left == shown || right == shown, "{left:?} {right:?}\n{}", world.story());
}

#[test]
fn selectors_without_anything_in_common_leave_the_peer_connected_and_name_the_child() {
    let right = peer(false, "start = \"passive\"", "").replace("10.1.0.0/16", "10.9.0.0/16");
    let mut world = World::new(&peer(true, "", ""), &right).start();
    assert_eq!(world.left.state("other"), (PeerState::Connected, Some("ts-unacceptable")), "{}", world.story());
    assert!(matches!(world.send(true, &packet(1, 2, b"x")), Err(Stopped::Acquire(_, false))));
    // Mended on the other side, it comes up by itself.
    let diff =
        world.right.gateway.reload(world.now, config(&peer(false, "start = \"passive\"", "")), parts!(world.right));
    assert_eq!(diff.1, Ok(()));
    world.pass(secs(70));
    world.ping();
}

#[test]
fn b6_a_dead_peer_is_noticed_and_connected_again_when_it_is_back() {
    let mut world = World::connected("dpd = \"20s\"", "dpd = \"20s\"");
    world.ping();
    world.cut = true;
    world.pass(secs(20 + 165));
    let (state, cause) = world.left.state("other");
    assert_ne!(state, PeerState::Connected, "{}", world.story());
    assert!(cause.is_some_and(|code| code.starts_with("peer-")), "{cause:?}");
    assert!(matches!(world.send(true, &packet(1, 2, b"x")), Err(Stopped::Acquire(..))));
    world.pass(secs(60));
    world.cut = false;
    world.pass(secs(120));
    world.ping();
    assert_eq!(world.left.state("other"), (PeerState::Connected, None));
}

#[test]
fn both_sides_may_begin_at_once() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "", "")).start();
    world.ping();
    world.pass(secs(60));
    world.ping();
    for site in [&mut world.left, &mut world.right] {
        assert_eq!(site.state("other"), (PeerState::Connected, None));
        let left =
            (site.endpoint.ike_sas().count(), site.plane.outbound.sas().count(), site.plane.inbound.sas().count());
        assert_eq!(left, (1, 1, 1), "one of the two connections goes");
        assert_eq!(site.told(|what| *what == What::Merged), 1);
        assert_eq!(site.told(|what| *what == What::Closed), 0);
    }
}

#[test]
fn a_connection_that_the_peer_closes_is_made_again() {
    let mut world = World::connected("", "");
    world.pass(secs(60));
    assert_eq!(world.right.gateway.down(world.now, "other", parts!(world.right)), Ok(()));
    world.exchange();
    assert_eq!(world.left.state("other"), (PeerState::Disconnected, Some("closed-by-peer")), "{}", world.story());
    world.pass(secs(2));
    world.ping();
}

#[test]
fn pauses_begin_anew_after_a_connection_that_lasted() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "start = \"passive\"", "")).start();
    world.cut = true;
    world.left.gateway.down(world.now, "other", parts!(world.left)).unwrap();
    world.pass(secs(200));
    world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
    world.pass(secs(1500)); // several attempts, each given up after its retransmissions
    world.cut = false;
    world.pass(secs(300));
    world.ping();
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    world.pass(secs(3));
    world.ping();
}

#[test]
fn what_is_taken_down_while_it_is_negotiated_stays_down() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "start = \"passive\"", "")).start();
    assert_eq!(world.left.gateway.down(world.now, "other/net", parts!(world.left)), Ok(()));
    world.exchange();
    assert_eq!(world.left.gateway.up(world.now, "other/net", parts!(world.left)), Ok(()));
    assert_eq!(world.left.gateway.down(world.now, "other/net", parts!(world.left)), Ok(()));
    world.pass(secs(100));
    assert!(!world.left.child("other", "net").2 && !world.right.child("other", "net").2, "{}", world.story());
}

#[test]
fn strangers_cannot_fill_the_log() {
    let mut world = World::new(&peer(true, "start = \"passive\"", ""), "").start();
    let stranger = peer(false, "ike = \"aes128gcm16-prfsha256-x25519\"", "");
    world
        .left
        .gateway
        .reload(
            world.now,
            config(&peer(true, "start = \"passive\"\nike = \"aes256gcm16-prfsha256-x25519\"", "")),
            parts!(world.left),
        )
        .1
        .unwrap();
    for _ in 0..100 {
        world.right.gateway.reload(world.now, config(""), parts!(world.right)).1.unwrap();
        world.right.gateway.reload(world.now, config(&stranger), parts!(world.right)).1.unwrap();
        world.exchange();
    }
    assert_eq!(world.left.told(|what| matches!(what, What::Refused { .. })), 20);
    assert_eq!(world.left.gateway.untold(), 80);
}

#[test]
fn every_address_of_a_peer_is_tried_in_turn() {
    let left = peer(true, "", "").replace("\"192.0.2.2\"", "[\"192.0.2.98\", \"192.0.2.2\"]");
    let mut world = World::new(&left, &peer(false, "start = \"passive\"", "")).start();
    assert_eq!(world.left.state("other"), (PeerState::Pending, Some("waiting-for-answer")));
    world.pass(secs(240));
    world.ping();
    let calls: Vec<_> = world
        .left
        .story
        .iter()
        .filter_map(|report| match report.what {
            What::Connecting { remote } => Some(remote.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(calls, ["192.0.2.98:500", "192.0.2.2:500"]);
}

#[test]
fn the_side_that_called_asks_for_the_children() {
    let second = |net: u8, far: u8| {
        format!("[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.{net}.0.0/16\"\nremote-ts = \"10.{far}.0.0/16\"\n")
    };
    // The right side would call too, but does not know yet where.
    let right = peer(false, "", "").replace("remote = \"192.0.2.1\"", "remote = [\"left.example.org\", \"192.0.2.1\"]");
    let mut world = World::new(&(peer(true, "", "") + &second(3, 4)), &(right + &second(4, 3))).start();
    world.pass(secs(60));
    assert_eq!(world.send(true, &packet(3, 4, b"two")), Ok(()));
    assert_eq!((world.left.told(up), world.right.told(up)), (2, 2), "{}", world.story());
}

#[test]
fn down_holds_until_up() {
    let mut world = World::connected("", "");
    assert_eq!(world.left.gateway.down(world.now, "other", parts!(world.left)), Ok(()));
    world.exchange();
    world.pass(secs(300));
    assert_eq!(world.left.state("other"), (PeerState::Disconnected, None), "{}", world.story());
    assert!(!world.right.child("other", "net").2);
    assert!(matches!(world.send(true, &packet(1, 2, b"x")), Err(Stopped::Acquire(_, false))));
    assert_eq!(world.left.gateway.up(world.now, "other", parts!(world.left)), Ok(()));
    assert_eq!(world.left.gateway.outcome("other", &parts!(lent world.left)), Ok(None));
    world.exchange();
    assert_eq!(world.left.gateway.outcome("other", &parts!(lent world.left)), Ok(Some(Ok(()))));
    world.ping();
    assert!(world.left.gateway.up(world.now, "nobody", parts!(world.left)).is_err());
    assert!(world.left.gateway.down(world.now, "other/nothing", parts!(world.left)).is_err());
}

#[test]
fn one_child_can_be_taken_down_and_up_while_the_other_goes_on() {
    let second = |net: u8, far: u8| {
        format!("[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.{net}.0.0/16\"\nremote-ts = \"10.{far}.0.0/16\"\n")
    };
    let mut world =
        World::new(&(peer(true, "", "") + &second(3, 4)), &(peer(false, "start = \"passive\"", "") + &second(4, 3)))
            .start();
    world.ping();
    assert_eq!(world.send(true, &packet(3, 4, b"two")), Ok(()));
    assert_eq!(world.left.gateway.down(world.now, "other/two", parts!(world.left)), Ok(()));
    world.exchange();
    world.pass(secs(100));
    world.ping();
    assert!(!world.left.child("other", "two").2 && !world.right.child("other", "two").2, "{}", world.story());
    assert_eq!(world.left.gateway.up(world.now, "other/two", parts!(world.left)), Ok(()));
    world.exchange();
    assert_eq!(world.send(true, &packet(3, 4, b"two")), Ok(()));
    assert_eq!(world.left.child("other", "two").0.packets_out, 2);
}

#[test]
fn a_child_that_the_peer_deletes_comes_back_when_we_want_it() {
    let mut world = World::connected("", "");
    world.pass(secs(10));
    assert_eq!(world.right.gateway.down(world.now, "other/net", parts!(world.right)), Ok(()));
    world.exchange();
    assert!(!world.left.child("other", "net").2, "{}", world.story());
    world.pass(secs(30));
    // The right side holds its child, but it answers: `down` lasts until the peer wants it.
    assert!(world.left.child("other", "net").2, "{}", world.story());
}

#[test]
fn a_shutdown_deletes_every_sa_on_both_sides() {
    let mut world = World::connected("", "");
    world.left.gateway.shutdown(world.now, parts!(world.left));
    world.exchange();
    for site in [&mut world.left, &mut world.right] {
        assert_eq!((site.plane.outbound.sas().count(), site.plane.inbound.sas().count()), (0, 0));
    }
    world.pass(secs(100));
    assert_eq!(world.left.told(|what| matches!(what, What::Connected { .. })), 1);
}

#[test]
fn f_34_a_gateway_that_ends_neither_answers_who_calls_at_once_nor_calls_for_anybody() {
    let sites = [peer(true, "start = \"on-demand\"", ""), peer(false, "start = \"passive\"", "")];
    let mut world = World::new(&sites[0], &sites[1]).start();
    let _ = world.send(true, &packet(1, 2, b"in want of an SA"));
    world.exchange();
    world.pass(secs(20));
    world.left.gateway.shutdown(world.now, parts!(world.left));
    world.exchange();
    assert_eq!(world.right.gateway.up(world.now, "other", parts!(world.right)), Ok(()));
    world.exchange();
    let _ = world.send(true, &packet(1, 2, b"in want of an SA"));
    world.exchange();
    assert_eq!(world.left.gateway.up(world.now, "other", parts!(world.left)), Ok(()));
    world.exchange();
    world.pass(secs(5));
    for site in [&world.left, &world.right] {
        assert_eq!(site.told(|what| matches!(what, What::Connected { .. })), 1, "{}", world.story());
    }
    assert_eq!(world.left.endpoint.ike_sas().count(), 0);
}

#[test]
fn a_name_is_asked_for_and_tried_again_when_it_has_no_address() {
    use gateway_core::cause::Cause;
    use gateway_core::config::Remote;
    use gateway_core::gateway::{Located, Way};
    let left = peer(true, "", "").replace(RIGHT, "right.example.org");
    let mut world = World::new(&left, &peer(false, "start = \"passive\"", "")).start();
    let question = world.left.gateway.poll_locate().unwrap();
    assert_eq!(question.remote, Remote::Name("right.example.org".into()));
    let missing = Err(Cause::unresolved("right.example.org", "no such name"));
    world.left.gateway.located(world.now, &question, missing, parts!(world.left));
    assert_eq!(world.left.state("other"), (PeerState::Disconnected, Some("name-not-resolved")));
    assert!(world.left.gateway.poll_locate().is_none());
    world.pass(secs(2));
    let question = world.left.gateway.poll_locate().unwrap();
    let (local, remote) = (LEFT.parse().unwrap(), RIGHT.parse().unwrap());
    let found = Ok(Located { resolved: vec![remote], ways: vec![Way { local, remote }], hindrance: None });
    world.left.gateway.located(world.now, &question, found, parts!(world.left));
    world.exchange();
    world.ping();
}

#[test]
fn b3_an_ikev1_packet_is_counted_and_leaves_nothing() {
    let mut world = World::connected("", "");
    let mut packet = [0; 28];
    packet[..8].copy_from_slice(&[7; 8]);
    packet[16..18].copy_from_slice(&[1, 0x10]);
    packet[27] = 28;
    let from: std::net::SocketAddr = "198.51.100.1:500".parse().unwrap();
    let path = ipsec_core::net::Path { local: format!("{LEFT}:500").parse().unwrap(), remote: from };
    for _ in 0..5 {
        world.left.gateway.handle_datagram(world.now, path, &mut packet.clone(), parts!(world.left));
    }
    assert_eq!(world.left.gateway.discarded().version, 5);
    assert_eq!(world.left.endpoint.ike_sas().count(), 1);
    world.ping();
}
