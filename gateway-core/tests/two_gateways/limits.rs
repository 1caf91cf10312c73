//! What stops at a limit, goes with its connection, or is left alone: lifetimes, tables, reloads, rekeys, silence.

use std::time::Duration;

use gateway_core::gateway::{Level, Parts, PeerState, Report, What};
use gateway_core::policy::Outbound;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::OutboundSlot;
use ipsec_core::net::Path;
use ipsec_core::sa::{Event, Reached};
use ipsec_core::spd::Hits;

use crate::world::{LEFT, RIGHT, Site, Stopped, World, config, far, leak, packet, parts, peer, second};
use crate::{secs, up};

fn ports(site: &Site) -> Vec<u16> {
    let mut ports: Vec<_> = site.outbound.sas().map(|sa| sa.path.remote.port()).collect();
    ports.sort_unstable();
    ports
}

fn connecting(what: &What) -> bool {
    matches!(what, What::Connecting { .. })
}

#[test]
fn an_sa_at_its_hard_limit_is_deleted_with_the_peer_and_another_one_comes() {
    let mut world = World::connected("", "");
    world.pass(secs(60));
    let sa = world.left.outbound.sas().next().unwrap();
    let event = Event::HardLifetime { sa: sa.id, spi: sa.spi, reached: Reached::Packets };
    world.left.gateway.handle_outbound(world.now, event, parts!(world.left));
    world.exchange();
    assert_eq!(world.right.told(|what| *what == What::ChildDown), 1, "{}", world.story());
    world.pass(secs(3));
    world.ping();
    assert!(world.left.outbound.sas().all(|other| other.spi != sa.spi), "{}", world.story());
}

#[test]
fn f_61_a_child_whose_lifetime_is_hardly_longer_than_its_rekey_is_rekeyed_all_the_same() {
    let tight = "rekey = \"60s\"\nlifetime = \"61s\"";
    for left in ["", tight] {
        let right = peer(false, "start = \"passive\"", tight);
        let mut world = World::new(&peer(true, "", left), &right).start();
        for _ in 0..600 {
            world.ping();
            world.pass(secs(1));
        }
        let told = [&world.left, &world.right].map(|site| site.told(|what| *what == What::ChildDown));
        assert_eq!(told, [0, 0], "{}", world.story());
    }
}

#[test]
fn what_a_reload_sets_and_allows_holds_from_then_on() {
    let mut world = World::connected("", "");
    let bypass = "[[policy]]\naction = \"bypass\"\nremote = \"10.7.0.0/16\"\n";
    let new = format!("[gateway]\ncookie-threshold = 7\n{bypass}{}", peer(true, "", ""));
    assert_eq!(world.send(true, &packet(1, 7, b"x")), Err(Stopped::Discarded(ipsec_core::error::Discard::OutNoPolicy)));
    world.left.gateway.reload(world.now, config(&new), parts!(world.left)).1.unwrap();
    assert_eq!(world.left.gateway.settings().cookie_threshold, 7);
    assert_eq!(world.send(true, &packet(1, 7, b"x")), Err(Stopped::Clear));
    assert!(world.left.gateway.compare(config(&new), world.left.endpoint.pad()).diff().is_empty());
    // And it ends with the next one.
    world.left.gateway.reload(world.now, config(&peer(true, "", "")), parts!(world.left)).1.unwrap();
    assert_eq!(world.send(true, &packet(1, 7, b"x")), Err(Stopped::Discarded(ipsec_core::error::Discard::OutNoPolicy)));
    world.ping();
}

#[test]
fn a_question_about_a_peer_that_a_reload_removes_is_not_asked() {
    let named = peer(true, "", "").replace(RIGHT, "right.example.org");
    let mut world = World::new(&named, "").start();
    world.left.gateway.reload(world.now, config(""), parts!(world.left)).1.unwrap();
    assert_eq!(world.left.gateway.poll_locate(), None);
}

#[test]
fn children_go_with_the_ike_sa_that_took_them_over() {
    let mut world = World::connected("", "");
    world.pass(secs(20));
    assert_eq!(world.left.gateway.rekey(world.now, "other", true, parts!(world.left)), Ok(Ok(())));
    world.exchange();
    world.deaf = true;
    for site in [&mut world.left, &mut world.right] {
        site.gateway.down(world.now, "other", parts!(site)).unwrap();
        assert_eq!((site.inbound.sas().count(), site.outbound.sas().count()), (0, 0));
    }
}

#[test]
fn an_ike_sa_whose_rekey_comes_after_it_was_taken_down_is_not_told_of() {
    let mut world = World::connected("", "");
    world.pass(secs(20));
    assert_eq!(world.left.gateway.rekey(world.now, "other", true, parts!(world.left)), Ok(Ok(())));
    world.left.gateway.down(world.now, "other", parts!(world.left)).unwrap();
    world.exchange();
    world.pass(secs(60));
    assert_eq!(world.left.told(|what| *what == What::Rekeyed), 0, "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::Closed), 1, "told once, at once\n{}", world.story());
    assert_eq!(world.left.endpoint.ike_sas().count(), 0, "{}", world.story());
}

#[test]
fn only_the_sas_of_the_connection_that_moved_follow() {
    let lines = "encap = \"always\"";
    let mut world = World::new(&peer(true, lines, ""), &peer(false, lines, "")).start();
    assert_eq!(ports(&world.left), [4500, 4500], "{}", world.story());
    world.mapping = Some(40_123);
    world.send(false, &packet(2, 1, b"elsewhere")).unwrap();
    assert_eq!(ports(&world.left), [4500, 40_123], "{}", world.story());
}

#[test]
fn a_sending_half_that_waits_follows_the_peer_too() {
    let lines = "encap = \"always\"";
    let mut world = World::connected(lines, lines);
    world.pass(secs(10));
    assert_eq!(world.right.gateway.rekey(world.now, "other/net", false, parts!(world.right)), Ok(Ok(())));
    assert!(world.step(), "the request");
    assert_eq!((world.left.inbound.sas().count(), world.left.outbound.sas().count()), (2, 1));
    world.mapping = Some(40_123);
    world.send(false, &packet(2, 1, b"elsewhere")).unwrap();
    // Nothing is sent any more through the one that it replaced.
    assert_eq!(ports(&world.left), [40_123], "{}", world.story());
    world.left.received.clear();
    world.pass(secs(20));
    world.ping();
    assert_eq!(ports(&world.left), [40_123], "{}", world.story());
}

#[test]
fn what_cannot_send_does_not_receive_either() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "start = \"passive\"", ""));
    world.left.outbound =
        Outbound::new(RustCrypto, leak(64, || Hits::NONE), leak(0, || OutboundSlot::<RustCrypto>::EMPTY));
    let mut world = world.start();
    assert_eq!(world.left.inbound.sas().count(), 0, "{}", world.story());
    assert_eq!(world.left.state("other"), (PeerState::Connected, Some("not-installed")));
    assert_eq!(world.right.inbound.sas().count(), 0, "{}", world.story());
}

#[test]
fn a_child_that_is_taken_down_before_it_was_asked_for_is_not_asked_for() {
    let mut world =
        World::new(&(peer(true, "", "") + &second(3, 4)), &(peer(false, "start = \"passive\"", "") + &second(4, 3)))
            .start();
    world.left.gateway.down(world.now, "other/two", parts!(world.left)).unwrap();
    world.pass(secs(30));
    let before = world.right.told(up);
    // Behind another exchange.
    assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
    world.left.gateway.up(world.now, "other/two", parts!(world.left)).unwrap();
    world.left.gateway.down(world.now, "other/two", parts!(world.left)).unwrap();
    world.exchange();
    world.pass(secs(30));
    assert_eq!(world.right.told(up) - before, 1, "the rekey only\n{}", world.story());
    world.ping();
}

#[test]
fn f_65_silence_that_was_broken_is_no_silence_and_the_next_one_is_noticed() {
    let mut world = World::connected("dpd = \"10s\"", "dpd = \"10s\"");
    world.ping();
    for _ in 0..12 {
        world.pass(secs(1));
        world.send(true, &packet(1, 2, b"out")).unwrap();
        world.right.received.clear();
    }
    world.ping();
    assert_eq!(world.left.child("other", "net").1, 0, "shorter than an interval\n{}", world.story());
    world.pass(secs(11));
    for id in world.right.inbound.sas().map(|sa| sa.id).collect::<Vec<_>>() {
        world.right.inbound.remove(id);
    }
    for _ in 0..35 {
        let _ = world.send(true, &packet(1, 2, b"out"));
        world.pass(secs(1));
    }
    world.right.received.clear();
    world.ping();
    assert_eq!(world.left.child("other", "net").1, 1, "{}", world.story());
}

#[test]
fn f_65_answers_now_and_then_cost_one_rekey_in_ten_intervals() {
    let mut world = World::connected("dpd = \"10s\"", "dpd = \"10s\"");
    for second in 0..600 {
        world.send(true, &packet(1, 2, b"log")).unwrap();
        if second % 30 == 0 {
            world.send(false, &packet(2, 1, b"now and then")).unwrap();
        }
        world.pass(secs(1));
    }
    let rekeys = world.left.child("other", "net").1;
    assert!((2..=6).contains(&rekeys), "{rekeys}\n{}", world.story());
    world.left.received.clear();
    world.right.received.clear();
}

#[test]
fn f_65_an_sa_that_was_never_heard_is_not_rekeyed_for_its_silence_beside_one_that_is() {
    let right = peer(false, "start = \"passive\"\ndpd = \"10s\"", "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"")
        + "[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.2.9.0/24\"\nremote-ts = \"10.1.0.0/16\"\n";
    let mut world = World::new(&peer(true, "dpd = \"10s\"", ""), &right).start();
    assert!(matches!(world.send(true, &far(1, 2, 9)), Err(Stopped::Acquire(_, true))));
    world.exchange();
    for _ in 0..100 {
        world.ping();
        world.send(true, &far(1, 2, 9)).unwrap();
        world.right.received.clear();
        world.pass(secs(1));
    }
    assert_eq!(world.left.child("other", "net").1, 0, "{}", world.story());
}

/// Both sides call at once, each with another child first; the right side has room for so many Child SAs.
fn crossed(children: usize) -> World {
    let (left, right) = (peer(true, "", "") + &second(3, 4), peer(false, "", ""));
    let (head, net) = right.split_at(right.find("[[peer.child]]").unwrap());
    let right = format!("{head}{}{net}", second(4, 3));
    let mut world = World::new(&left, &right);
    world.right = Site::with_children(2, &right, 64, children);
    let world = world.start();
    assert_eq!(world.left.endpoint.ike_sas().count(), 2, "{}", world.story());
    world
}

fn both_children_carry(world: &mut World) {
    world.ping();
    assert_eq!(world.send(true, &packet(3, 4, b"two")), Ok(()), "{}", world.story());
    world.right.received.clear();
}

#[test]
fn f_60_a_child_that_only_the_spare_connection_carries_comes_to_the_other_one_first() {
    let mut world = crossed(16);
    for _ in 0..90 {
        both_children_carry(&mut world);
        world.pass(secs(1));
    }
    for site in [&world.left, &world.right] {
        assert_eq!(site.endpoint.ike_sas().count(), 1, "{}", world.story());
        assert_eq!(site.told(|what| *what == What::ChildDown), 0, "{}", world.story());
    }
}

#[test]
fn f_60_a_child_that_the_other_connection_is_refused_stays_and_is_asked_for_three_times() {
    let mut world = crossed(2);
    for _ in 0..60 {
        both_children_carry(&mut world);
        world.pass(secs(10));
    }
    for site in [&world.left, &world.right] {
        assert_eq!(site.endpoint.ike_sas().count(), 2, "{}", world.story());
        // It is up all the time, and told as that.
        let refused: Vec<_> = site.story.iter().filter(|report| report.level() == Level::Warn).collect();
        let down = |report: &&&Report| report.what == What::ChildFailed && report.child.is_some();
        assert!(refused.len() <= 3 && !refused.iter().any(|report| down(&report)), "{}", world.story());
    }
}

#[test]
fn f_60_whoever_called_closes_the_spare_connection_and_the_other_side_waits_twice_as_long() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "", "")).start();
    let spi = |ike: &ike_core::endpoint::IkeView| if ike.initiator { ike.spi_local } else { ike.spi_remote };
    let spare = world.left.endpoint.ike_sas().min_by_key(spi).unwrap();
    for (seconds, left) in [(16, 2), (24, 1)] {
        for _ in 0..seconds {
            world.now = world.now + secs(1);
            // Its initiator does not hear the time.
            let site = if spare.initiator { &mut world.right } else { &mut world.left };
            site.gateway.handle_timeout(world.now, parts!(site));
            world.exchange();
        }
        assert_eq!(world.left.endpoint.ike_sas().count(), left, "{}", world.story());
    }
}

/// One side wants perfect forward secrecy for the child, the other one none: who rekeys is refused.
fn one_sided_pfs(left: &str, right: &str) -> World {
    let left = peer(true, "", &format!("esp = \"aes256gcm16\"\n{left}"));
    let right = peer(false, "start = \"passive\"", &format!("esp = \"aes256gcm16-ecp256\"\n{right}"));
    World::new(&left, &right).start()
}

const OFTEN: &str = "rekey = \"60s\"\nlifetime = \"90s\"";

#[test]
fn f_61_what_is_on_its_way_through_the_old_connection_may_arrive() {
    let mut world = one_sided_pfs(OFTEN, "");
    while world.left.told(|what| matches!(what, What::Connected { .. })) < 2 {
        world.pass(secs(1));
        assert!(world.now.as_millis() < 100_000, "{}", world.story());
    }
    world.pass(secs(3));
    assert_eq!(world.left.endpoint.ike_sas().count(), 2, "{}", world.story());
    world.pass(secs(10));
    assert_eq!(world.left.endpoint.ike_sas().count(), 1, "{}", world.story());
}

#[test]
fn f_61_a_connection_is_not_made_anew_again_at_once() {
    let mut world = one_sided_pfs("", "");
    let mut begun = Vec::new();
    // Not while the old one goes; then again where it helped.
    for pause in [15, 2, 2, 15] {
        world.pass(secs(pause));
        assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
        world.exchange();
        begun.push(world.left.told(|what| *what == What::Renewing));
    }
    assert_eq!(begun, [1, 1, 1, 2], "{}", world.story());
}

#[test]
fn f_61_who_does_not_call_does_not_connect_anew_either() {
    let mut world = one_sided_pfs("", OFTEN);
    world.pass(secs(80));
    assert!(world.right.told(|what| *what == What::RekeyFailed) > 0, "{}", world.story());
    assert_eq!(world.right.told(|what| *what == What::Renewing), 0, "{}", world.story());
    assert_eq!(world.right.told(connecting), 0, "{}", world.story());
}

#[test]
fn f_61_a_child_that_was_never_up_is_no_reason_to_connect_anew() {
    let two = |net: u8, far: u8, esp: &str| second(net, far) + &format!("esp = \"{esp}\"\n");
    let left = peer(true, "", "") + &two(3, 4, "aes128gcm16");
    let right = peer(false, "start = \"passive\"", "") + &two(4, 3, "aes256gcm16");
    let mut world = World::new(&left, &right).start();
    world.pass(secs(200));
    assert!(world.left.told(|what| *what == What::ChildFailed) > 2, "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::Renewing), 0, "{}", world.story());
    world.ping();
}

#[test]
fn f_61_two_rekeys_that_fail_are_no_reason_to_connect_anew_and_three_are() {
    let right = peer(false, "start = \"passive\"", "");
    let mut world = World::new(&peer(true, "", ""), &right);
    // The right side has room for one Child SA.
    world.right = Site::with_children(2, &right, 64, 1);
    let mut world = world.start();
    while world.left.told(|what| *what == What::RekeyFailed) < 3 {
        assert_eq!(world.left.told(|what| *what == What::Renewing), 0, "{}", world.story());
        assert!(world.now.as_millis() < 100_000, "{}", world.story());
        world.pass(secs(15));
        assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
        world.exchange();
    }
    assert_eq!(world.left.told(|what| *what == What::Renewing), 1, "{}", world.story());
}

#[test]
fn f_65_silence_is_noticed_within_two_liveness_intervals() {
    for phase in 0..20 {
        let mut world = World::connected("dpd = \"10s\"", "dpd = \"10s\"");
        for _ in 0..phase {
            world.ping();
            world.pass(Duration::from_millis(700));
        }
        world.ping();
        let since = world.now;
        world.right.lose(|_| true);
        while world.left.told(|what| *what == What::Waiting) == 0 {
            let _ = world.send(true, &packet(1, 2, b"out"));
            world.pass(secs(1));
            assert!(world.now.since(since) <= secs(21), "phase {phase}\n{}", world.story());
        }
        world.pass(secs(60));
        world.right.received.clear();
    }
}

#[test]
fn f_65_a_packet_now_and_then_without_an_answer_is_no_silence() {
    let mut world = World::connected("dpd = \"10s\"", "dpd = \"10s\"");
    for _ in 0..10 {
        world.ping();
        world.pass(secs(1));
        world.send(true, &packet(1, 2, b"out")).unwrap();
        world.pass(secs(30));
        world.right.received.clear();
    }
    assert_eq!(world.left.child("other", "net").1, 0, "{}", world.story());
}

#[test]
fn f_65_silence_that_no_rekey_can_end_is_a_reason_to_connect_anew() {
    for lost in [false, true] {
        let right = peer(false, "start = \"passive\"", "");
        let mut world = World::new(&peer(true, "dpd = \"10s\"", ""), &right);
        // The right side has room for one Child SA.
        world.right = Site::with_children(2, &right, 64, 1);
        let mut world = world.start();
        world.ping();
        if lost {
            world.right.lose(|_| true);
        }
        for _ in 0..25 {
            let _ = world.send(true, &packet(1, 2, b"out"));
            if !lost {
                let _ = world.send(false, &packet(2, 1, b"back"));
            }
            world.pass(secs(1));
        }
        assert_eq!(world.left.told(|what| *what == What::Renewing), usize::from(lost), "{}", world.story());
        world.left.received.clear();
        world.right.received.clear();
        // What it has lost it cannot give back.
        world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    }
}

/// The right side calls although it is connected. For how many seconds there are two connections.
fn second_connection_lasts(world: &mut World) -> u64 {
    let id = world.right.endpoint.pad().named("other").unwrap();
    let child = world.right.endpoint.pad().children_of(id).next().map(|(child, _)| child);
    world.right.endpoint.pad_mut().set_path(id, RIGHT.parse().unwrap(), LEFT.parse().unwrap(), 500);
    world.right.endpoint.initiate(world.now, id, child).unwrap();
    world.exchange();
    let begun = world.now;
    while world.left.endpoint.ike_sas().count() > 1 {
        world.pass(secs(1));
    }
    world.now.since(begun).as_secs()
}

#[test]
fn f_60_a_peer_that_calls_again_whenever_its_second_connection_is_closed_is_met_with_ever_more_patience() {
    let mut world = World::connected("", "");
    let mut lasted = Vec::new();
    for _ in 0..8 {
        world.pass(secs(5));
        lasted.push(second_connection_lasts(&mut world));
    }
    // Whichever side closes it: one of them did so several times.
    assert!(lasted[0] >= 10 && lasted[0] <= 20, "{lasted:?}\n{}", world.story());
    assert!(lasted.iter().any(|seconds| *seconds >= 79), "{lasted:?}\n{}", world.story());
    // But not for ever.
    world.pass(secs(7200));
    let lasted = second_connection_lasts(&mut world);
    assert!((10..=20).contains(&lasted), "{lasted}\n{}", world.story());
}

#[test]
fn f_60_two_connections_now_and_then_are_met_with_no_more_patience_than_the_first_time() {
    let mut world = World::connected("", "");
    for _ in 0..8 {
        let lasted = second_connection_lasts(&mut world);
        assert!((10..=20).contains(&lasted), "{lasted}\n{}", world.story());
        world.pass(secs(7200));
    }
}

#[test]
fn f_10_what_was_to_be_made_anew_when_it_was_taken_down_stays_down() {
    let mut world = one_sided_pfs("", "");
    world.pass(secs(20));
    assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
    // The new one is called, and was not answered yet.
    while world.left.told(|what| *what == What::Renewing) == 0 {
        assert!(world.step(), "{}", world.story());
    }
    let calls = world.left.told(connecting);
    world.left.gateway.down(world.now, "other", parts!(world.left)).unwrap();
    world.pass(secs(100));
    assert_eq!(world.left.told(connecting), calls, "{}", world.story());
    assert_eq!(world.left.state("other"), (PeerState::Disconnected, None), "{}", world.story());
}

#[test]
fn f_10_a_passive_side_asks_for_no_child_that_it_took_down() {
    let mut world = World::connected("", "");
    world.pass(secs(20));
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.exchange();
    assert!(matches!(world.send(false, &packet(2, 1, b"x")), Err(Stopped::Acquire(_, false))), "{}", world.story());
    world.right.gateway.up(world.now, "other/net", parts!(world.right)).unwrap();
    world.exchange();
    world.ping();
}

#[test]
fn e13_no_packet_is_kept_for_a_peer_that_is_not_called_yet_and_nobody_calls_it_without_one() {
    let mut world = World::new(
        &peer(true, "start = \"on-demand\"\npsk = \"one key of more than twenty characters\"", ""),
        &peer(false, "start = \"passive\"\npsk = \"other key of more than twenty characters\"", ""),
    )
    .start();
    assert!(matches!(world.send(true, &packet(1, 2, b"first")), Err(Stopped::Acquire(_, true))));
    world.exchange();
    assert_eq!(world.left.state("other").0, PeerState::Error, "{}", world.story());
    assert!(matches!(world.send(true, &packet(1, 2, b"second")), Err(Stopped::Acquire(_, false))));
    world.pass(secs(300));
    assert_eq!(world.left.told(connecting), 1, "{}", world.story());
}

#[test]
fn e13_a_child_that_a_packet_wants_of_a_connected_peer_is_no_wish_to_connect_it_later() {
    let mut world =
        World::new(&peer(true, "start = \"on-demand\"\ndpd = \"20s\"", ""), &peer(false, "start = \"passive\"", ""))
            .start();
    assert!(matches!(world.send(true, &packet(1, 2, b"first")), Err(Stopped::Acquire(_, true))));
    world.exchange();
    world.pass(secs(40));
    world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
    world.exchange();
    world.pass(secs(40));
    assert!(matches!(world.send(true, &packet(1, 2, b"again")), Err(Stopped::Acquire(_, true))), "{}", world.story());
    world.exchange();
    world.ping();
    world.pass(secs(40));
    world.cut = true;
    world.pass(secs(600));
    assert_eq!(world.left.told(|what| *what == What::Closed), 1, "{}", world.story());
    assert_eq!(world.left.told(connecting), 1, "{}", world.story());
}

#[test]
fn a_message_that_was_changed_on_its_way_is_counted_as_forged() {
    let mut world = World::connected("", "");
    world.pass(secs(20));
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    let mut sent = world.right.endpoint.poll_transmit().map(|sent| sent.datagram.to_vec()).unwrap();
    *sent.last_mut().unwrap() ^= 1;
    let at = |address: &str| format!("{address}:500").parse().unwrap();
    let path = Path { local: at(LEFT), remote: at(RIGHT) };
    world.left.gateway.handle_datagram(world.now, path, &mut sent, parts!(world.left));
    let discarded = world.left.gateway.discarded();
    assert_eq!((discarded.forged, discarded.malformed, discarded.unexpected), (1, 0, 0));
    assert_eq!(world.left.state("other").0, PeerState::Connected);
    world.pass(secs(60));
}

#[test]
fn a_story_that_nobody_reads_loses_its_oldest_lines_and_does_not_grow() {
    let mut world = World::new(&peer(true, "", ""), "");
    world.left.gateway.start(world.now, parts!(world.left)).unwrap();
    for _ in 0..2000 {
        world.left.gateway.down(world.now, "other", parts!(world.left)).unwrap();
        world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
    }
    let told: Vec<_> = std::iter::from_fn(|| world.left.gateway.poll_report()).collect();
    assert_eq!(told.len(), 1024);
    assert!(told.last().is_some_and(|report| connecting(&report.what)), "{:?}", told.last());
}
