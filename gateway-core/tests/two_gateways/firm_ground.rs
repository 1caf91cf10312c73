//! What trials broke in the glue between IKE and packets: connections that end, begin at once, cannot be rekeyed, are
//! narrowed, or are dead on one side.

use gateway_core::gateway::{Level, Parts, PeerState, Report, What};
use ike_core::failure::Failure;
use ipsec_core::error::Discard;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::world::{Site, Stopped, World, config, far, packet, parts, peer, second};
use crate::{secs, up};

#[test]
fn f_10_a_peer_that_a_reload_removes_neither_sends_nor_gets_anything_although_it_is_silent() {
    let mut world = World::connected("", "");
    world.ping();
    world.deaf = true;
    world.left.gateway.reload(world.now, config(""), parts!(world.left)).1.unwrap();
    let engines = (world.left.plane.inbound.sas().count(), world.left.plane.outbound.sas().count());
    assert_eq!(engines, (0, 0));
    let _ = world.send(false, &packet(2, 1, b"late"));
    assert!(world.left.received.is_empty());
    assert_eq!(world.send(true, &packet(1, 2, b"late")), Err(Stopped::Discarded(Discard::OutNoPolicy)));
}

#[test]
fn f_10_the_peer_of_a_removed_one_is_told() {
    let mut world = World::connected("", "");
    world.pass(secs(30));
    world.left.gateway.reload(world.now, config(""), parts!(world.left)).1.unwrap();
    world.exchange();
    assert_eq!(world.right.state("other"), (PeerState::Disconnected, Some("closed-by-peer")));
    assert_eq!(world.right.plane.inbound.sas().count(), 0);
    assert_eq!(world.left.endpoint.ike_sas().count(), 0, "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::Closed), 1, "told once, at once\n{}", world.story());
}

/// What the peer agreed to in the same moment stands at its end, without anybody at the other.
#[test]
fn f_29_the_peer_of_one_that_is_removed_or_down_during_a_rekey_is_told() {
    for (rekeyed, reload) in [("other", true), ("other", false), ("other/net", true)] {
        let mut world = World::connected("", "dpd = \"0s\"");
        world.pass(secs(11));
        let ike = rekeyed == "other";
        assert_eq!(world.left.gateway.rekey(world.now, rekeyed, ike, parts!(world.left)), Ok(Ok(())));
        assert!(world.step(), "our request");
        match reload {
            true => world.left.gateway.reload(world.now, config(""), parts!(world.left)).1.unwrap(),
            false => world.left.gateway.down(world.now, "other", parts!(world.left)).unwrap(),
        };
        world.pass(secs(60));
        let left = (world.right.endpoint.ike_sas().count(), world.right.plane.outbound.sas().count());
        assert_eq!(left, (0, 0), "{rekeyed}, reload {reload}\n{}", world.story());
    }
}

#[test]
fn f_10_down_is_down_while_the_peer_is_silent() {
    for name in ["other", "other/net"] {
        let mut world = World::connected("", "");
        world.ping();
        world.deaf = true;
        world.left.gateway.down(world.now, name, parts!(world.left)).unwrap();
        assert!(matches!(world.send(true, &packet(1, 2, b"x")), Err(Stopped::Acquire(_, false))), "{name}");
        let _ = world.send(false, &packet(2, 1, b"late"));
        assert!(world.left.received.is_empty(), "{name}");
        world.pass(secs(60));
        assert_eq!(world.left.told(|what| *what == What::ChildDown), 1, "{name}\n{}", world.story());
    }
}

#[test]
fn f_10_what_was_being_rekeyed_when_it_was_taken_down_does_not_come_back() {
    for name in ["other", "other/net"] {
        let mut world = World::connected("", "");
        world.pass(secs(20));
        assert_eq!(world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)), Ok(Ok(())));
        world.left.gateway.down(world.now, name, parts!(world.left)).unwrap();
        world.exchange();
        world.pass(secs(60));
        assert_eq!(world.left.plane.inbound.sas().count(), 0, "{name}\n{}", world.story());
        assert_eq!(world.right.plane.inbound.sas().count(), 0, "{name}\n{}", world.story());
    }
}

#[test]
fn f_10_a_shutdown_stops_everything_at_once() {
    let mut world = World::connected("", "");
    world.deaf = true;
    world.left.gateway.shutdown(world.now, parts!(world.left));
    assert_eq!((world.left.plane.inbound.sas().count(), world.left.plane.outbound.sas().count()), (0, 0));
}

/// Passive peers, each with a child; `named`: found by name.
fn many(count: usize, named: bool) -> String {
    let passive = |number: usize| {
        let (high, low) = (number / 250, number % 250);
        let remote = if named { format!("p{number}.example") } else { format!("10.200.{high}.{}", low + 1) };
        peer(true, "start = \"passive\"", "")
            .replace("\"other\"", &format!("\"p{number}\""))
            .replace("right.lab", &format!("p{number}.lab"))
            .replace("192.0.2.2", &remote)
            .replace("10.2.0.0/16", &format!("11.{high}.{low}.0/24"))
    };
    (0..count).map(passive).collect()
}

#[test]
fn f_31_f_32_five_thousand_peers_start_and_are_all_to_be_seen() {
    // What it takes is measured by `cargo xtask bench start`.
    let count = 5000;
    let mut site = Site::new(1, &many(count, false), count);
    site.gateway.start(Instant::from_millis(1000), parts!(site)).unwrap();
    assert_eq!(site.plane.outbound.rules().count(), count, "every child has its rule");
    let parts = parts!(lent site);
    let child = |child: &gateway_core::gateway::ChildStatus| parts.endpoint.pad().get_child(child.id).is_some();
    let seen = site.gateway.status(&parts).filter(|status| status.children.iter().all(child));
    let known = seen.filter(|status| parts.endpoint.pad().get(status.id).is_some() && status.children.len() == 1);
    assert_eq!(known.count(), count);
}

#[test]
fn f_32_a_knock_asks_for_those_who_were_not_asked_for_longest() {
    let mut site = Site::new(1, &many(40, true), 64);
    let mut now = Instant::from_millis(1000);
    site.gateway.start(now, parts!(site)).unwrap();
    let asked = |site: &mut Site| {
        let questions = std::iter::from_fn(|| site.gateway.poll_locate());
        questions.map(|question| question.peer).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(asked(&mut site).len(), 40);
    let mut knock = |site: &mut Site, after: u64| {
        now = now + secs(after);
        let from = Path { local: "192.0.2.1:500".parse().unwrap(), remote: "203.0.113.7:500".parse().unwrap() };
        let (mut other, begun) = (Site::new(2, &peer(false, "", ""), 8), now);
        other.gateway.start(begun, parts!(other)).unwrap();
        let mut call = other.endpoint.poll_transmit().map(|sent| sent.datagram.to_vec()).unwrap();
        site.gateway.handle_datagram(now, from, &mut call, parts!(site));
        site.gateway.handle_timeout(now, parts!(site));
        asked(site)
    };
    let first = knock(&mut site, 20);
    assert!(knock(&mut site, 0).is_empty(), "once in a second");
    let second = knock(&mut site, 2);
    let third = knock(&mut site, 2);
    assert_eq!(
        (first.len(), second.len(), third.len()),
        (16, 16, 8),
        "the others come first, and none within ten seconds"
    );
    assert!(first.is_disjoint(&second) && second.is_disjoint(&third) && first.is_disjoint(&third));
}

#[test]
fn f_32_those_who_were_asked_for_together_are_not_asked_for_together_again() {
    let mut site = Site::new(1, &many(40, true), 64);
    let mut now = Instant::from_millis(1000);
    site.gateway.start(now, parts!(site)).unwrap();
    let mut asked = |site: &mut Site, after: u64| {
        now = now + secs(after);
        site.gateway.handle_timeout(now, parts!(site));
        std::iter::from_fn(|| site.gateway.poll_locate()).count()
    };
    assert_eq!(asked(&mut site, 0), 40);
    assert_eq!(asked(&mut site, 299), 0);
    let each: Vec<_> = (0..34).map(|_| asked(&mut site, 1)).collect();
    assert_eq!(each.iter().sum::<usize>(), 40, "{each:?}");
    assert!(each.iter().all(|asked| *asked <= 8), "{each:?}");
}

#[test]
fn f_38_totals_go_on_when_the_child_or_the_connection_is_another_one() {
    let mut world = World::connected("", "");
    world.ping();
    world.pass(secs(60));
    world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
    world.pass(secs(3));
    world.ping();
    assert_eq!(world.left.child("other", "net").0.packets_out, 2, "{}", world.story());
    let wider = |text: String| text.replace("10.2.0.0/16", "10.2.0.0/15");
    for left in [false, true] {
        let start = if left { "" } else { "start = \"passive\"" };
        let site = if left { &mut world.left } else { &mut world.right };
        site.gateway.reload(world.now, config(&wider(peer(left, start, ""))), parts!(site)).1.unwrap();
        world.exchange();
    }
    world.pass(secs(30));
    world.ping();
    assert_eq!(world.left.child("other", "net").0.packets_out, 3, "{}", world.story());
    assert_eq!(world.right.child("other", "net").0.packets_in, 3, "{}", world.story());
}

#[test]
fn f_60_of_two_connections_one_stays_with_every_child_and_nobody_is_alarmed() {
    let mut world = World::new(&(peer(true, "", "") + &second(3, 4)), &(peer(false, "", "") + &second(4, 3))).start();
    world.pass(secs(90));
    world.ping();
    assert_eq!(world.send(true, &packet(3, 4, b"two")), Ok(()), "{}", world.story());
    for site in [&world.left, &world.right] {
        assert_eq!(site.endpoint.ike_sas().count(), 1, "{}", world.story());
        assert!(site.story.iter().all(|report| report.level() == Level::Info), "{}", world.story());
        assert_eq!(site.told(|what| *what == What::ChildDown), 0, "{}", world.story());
    }
}

#[test]
fn f_60_the_spare_one_goes_also_when_its_initiator_knows_nothing_of_the_rule() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "", "")).start();
    assert_eq!(world.left.endpoint.ike_sas().count(), 2);
    // Neither side hears the time that the other one does: only one at a time acts.
    let spi = |ike: &ike_core::endpoint::IkeView| if ike.initiator { ike.spi_local } else { ike.spi_remote };
    let spare = world.left.endpoint.ike_sas().min_by_key(spi).unwrap();
    let asleep = if spare.initiator { "left" } else { "right" };
    let start = world.now;
    while world.now.since(start) < secs(40) {
        world.now = world.now + secs(1);
        let site = if asleep == "left" { &mut world.right } else { &mut world.left };
        site.gateway.handle_timeout(world.now, parts!(site));
        world.exchange();
    }
    assert_eq!(world.left.endpoint.ike_sas().count(), 1, "{}", world.story());
    assert_eq!(world.right.endpoint.ike_sas().count(), 1, "{}", world.story());
    world.ping();
}

#[test]
fn f_60_a_call_that_its_initiator_gives_up_without_a_word_never_costs_the_connection_that_works() {
    let mut kept = Vec::new();
    for left_gives_up in [false, true] {
        let mut world = World::new(&peer(true, "", ""), &peer(false, "", ""));
        world.left.gateway.start(world.now, parts!(world.left)).unwrap();
        world.right.gateway.start(world.now, parts!(world.right)).unwrap();
        // It was answered, and the answer is on its way.
        let answered = |site: &Site| site.endpoint.ike_sas().any(|ike| !ike.initiator && ike.since.is_some());
        while !answered(if left_gives_up { &world.right } else { &world.left }) {
            assert!(world.step());
        }
        let now = world.now;
        let (site, other) = match left_gives_up {
            true => (&mut world.left, &world.right),
            false => (&mut world.right, &world.left),
        };
        let own = site.endpoint.ike_sas().find(|ike| ike.initiator).unwrap();
        let others = other.endpoint.ike_sas().find(|ike| ike.initiator).unwrap();
        kept.push(own.spi_local > others.spi_local);
        site.endpoint.abandon(now, own.id, Failure::ClosedHere).unwrap();
        world.exchange();
        for _ in 0..120 {
            world.ping();
            world.pass(secs(1));
        }
        for site in [&world.left, &world.right] {
            let left: Vec<_> = site.endpoint.ike_sas().filter(|ike| ike.since.is_some()).collect();
            assert_eq!(left.len(), 1, "{}", world.story());
            assert!(
                left.iter().all(|ike| others.spi_local == if ike.initiator { ike.spi_local } else { ike.spi_remote })
            );
            assert_eq!(site.told(|what| *what == What::ChildDown), 0, "{}", world.story());
        }
    }
    kept.sort_unstable();
    assert_eq!(kept, [false, true], "once it was the one that both sides would keep");
}

/// The right side wants perfect forward secrecy for the child, the left one none.
fn one_sided_pfs() -> World {
    let left = "esp = \"aes256gcm16\"\nrekey = \"60s\"\nlifetime = \"90s\"";
    let right = "esp = \"aes256gcm16-ecp256\"\nrekey = \"1h\"\nlifetime = \"2h\"";
    World::new(&peer(true, "", left), &peer(false, "start = \"passive\"", right)).start()
}

#[test]
fn f_61_a_child_that_cannot_be_rekeyed_is_carried_on_by_a_new_ike_sa_without_a_gap() {
    let mut world = one_sided_pfs();
    for _ in 0..600 {
        world.ping();
        world.pass(secs(1));
    }
    let renewals = world.left.told(|what| *what == What::Renewing);
    assert!((6..=14).contains(&renewals), "{renewals}\n{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::ChildDown), 0, "{}", world.story());
    assert!(world.left.endpoint.ike_sas().count() <= 2, "{}", world.story());
    assert!(world.story().contains("PFS"), "{}", world.story());
    assert_eq!(world.left.child("other", "net").0.packets_out, 600);
}

#[test]
fn f_61_status_shows_a_rekey_that_fails() {
    let mut world = one_sided_pfs();
    while !world.story().contains("PFS") {
        world.pass(secs(1));
        assert!(world.now.as_millis() < 100_000, "{}", world.story());
        world.cut = world.story().contains("PFS");
    }
    assert_eq!(world.left.state("other"), (PeerState::Connected, Some("pfs-refused")), "{}", world.story());
}

#[test]
fn f_62_what_the_peer_narrowed_away_is_asked_for_once_and_then_refused_at_once() {
    let right = peer(false, "start = \"passive\"", "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"");
    let mut world = World::new(&peer(true, "", ""), &right).start();
    world.ping();
    let before = world.messages;
    assert!(matches!(world.send(true, &far(1, 2, 9)), Err(Stopped::Acquire(_, true))));
    world.exchange();
    for _ in 0..20 {
        assert!(matches!(world.send(true, &far(1, 2, 9)), Err(Stopped::Acquire(_, false))), "{}", world.story());
        world.pass(secs(1));
    }
    assert!(world.messages - before <= 4 + 4, "one question\n{}", world.story());
    assert_eq!(world.left.state("other"), (PeerState::Connected, Some("not-covered")), "{}", world.story());
    assert!(world.story().contains("10.2.9.10/32"), "{}", world.story());
    world.ping();
    assert_eq!(world.left.plane.inbound.sas().count(), 1, "{}", world.story());
}

#[test]
fn f_62_a_peer_that_gives_each_network_an_sa_of_its_own_is_asked_for_the_one_of_the_packet() {
    // The right side has a child for each of two networks, the left one a child for both.
    let right = peer(false, "start = \"passive\"", "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"")
        + "[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.2.9.0/24\"\nremote-ts = \"10.1.0.0/16\"\n";
    let mut world = World::new(&peer(true, "", ""), &right).start();
    world.ping();
    assert!(matches!(world.send(true, &far(1, 2, 9)), Err(Stopped::Acquire(_, true))));
    world.exchange();
    assert_eq!(world.send(true, &far(1, 2, 9)), Ok(()), "{}", world.story());
    world.ping();
    assert_eq!(world.left.plane.inbound.sas().count(), 2, "{}", world.story());
}

#[test]
fn f_62_a_question_goes_on_with_the_ike_sa_that_takes_over() {
    let right = peer(false, "start = \"passive\"", "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"")
        + "[[peer.child]]\nname = \"two\"\nlocal-ts = \"10.2.9.0/24\"\nremote-ts = \"10.1.0.0/16\"\n";
    let mut world = World::new(&peer(true, "", ""), &right).start();
    world.left.gateway.rekey(world.now, "other", true, parts!(world.left)).unwrap().unwrap();
    // Each packet finds the question under way: before, while and after the IKE SA is replaced.
    let mut asked = 0;
    while world.send(true, &far(1, 2, 9)) != Ok(()) {
        asked += 1;
        assert!(world.step(), "{}", world.story());
    }
    assert!(asked > 2 && world.left.told(|what| *what == What::Rekeyed) == 1, "{asked}\n{}", world.story());
    world.pass(secs(30));
    assert_eq!(world.left.endpoint.child_sas().count(), 2, "{}", world.story());
    assert_eq!(world.left.told(|what| *what == What::ChildFailed), 0, "{}", world.story());
}

#[test]
fn f_71_narrowing_is_told_with_both_sets_of_selectors() {
    let right = peer(false, "start = \"passive\"", "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/24\"");
    let mut world = World::new(&peer(true, "", ""), &right).start();
    let told: Vec<_> = world.left.story.iter().filter(|report| report.what == What::Narrowed).collect();
    assert_eq!(told.len(), 1, "{}", world.story());
    let text = told[0].to_string();
    assert!(text.contains("a part of 10.1.0.0/16 == 10.2.0.0/16 is agreed on: 10.1.0.0/16 == 10.2.0.0/24"), "{text}");
    let parts = parts!(world.left);
    let status = world.left.gateway.status(parts).next().unwrap();
    let child = &status.children[0];
    assert_eq!(child.cause.as_ref().map(|cause| cause.code), Some("narrowed"));
    assert_eq!(child.sa.map(|_| child.remote.len()), Some(1));
}

#[test]
fn f_65_a_peer_that_lost_its_sas_gets_new_ones_within_three_liveness_intervals() {
    // The second peer looks more often whether we live: what it asks shows us that IKE lives, and nothing falls due here.
    for theirs in ["dpd = \"10s\"", "dpd = \"3s\""] {
        let mut world = World::connected("dpd = \"10s\"", theirs);
        for _ in 0..5 {
            world.ping();
            world.pass(secs(1));
        }
        world.right.lose(|_| true);
        world.heals_within_30_s();
    }
}

#[test]
fn f_65_traffic_that_is_one_way_by_nature_costs_no_more_than_one_rekey() {
    for answered in [false, true] {
        let mut world = World::connected("dpd = \"10s\"", "dpd = \"10s\"");
        if answered {
            world.ping();
        }
        for _ in 0..600 {
            world.send(true, &packet(1, 2, b"log")).unwrap();
            world.right.received.clear();
            world.pass(secs(1));
        }
        let rekeys = world.left.child("other", "net").1;
        assert_eq!(rekeys, u64::from(answered), "{}", world.story());
    }
}

#[test]
fn f_53_a_connection_that_lasted_is_made_again_at_once() {
    let mut world = World::connected("dpd = \"20s\"", "");
    world.pass(secs(60));
    world.cut = true;
    while world.left.told(|what| *what == What::Closed) == 0 {
        world.pass(secs(1));
    }
    assert_eq!(world.left.told(|what| matches!(what, What::Connecting { .. })), 2, "{}", world.story());
    world.cut = false;
    world.pass(secs(30));
    world.ping();
}

#[test]
fn f_72_the_responder_shows_why_it_refuses_a_child() {
    let right = peer(false, "start = \"passive\"", "").replace("10.1.0.0/16", "10.9.0.0/16");
    let mut world = World::new(&peer(true, "", ""), &right).start();
    for (site, code) in [(&mut world.left, "ts-unacceptable"), (&mut world.right, "ts-unacceptable")] {
        assert_eq!(site.state("other"), (PeerState::Connected, Some(code)));
        let told = site.story.iter().find(|report| report.what == What::ChildFailed).unwrap().to_string();
        assert!(told.contains("10.2.0.0/16"), "{told}");
    }
    let told = world.right.story.iter().find(|report| report.what == What::ChildFailed).unwrap().to_string();
    assert!(told.contains("of the peer, 10.2.0.0/16 == 10.1.0.0/16, do not fit ours"), "what it asks for: {told}");
    assert!(told.contains("10.2.0.0/16 == 10.9.0.0/16"), "what is configured: {told}");
}

#[test]
fn f_72_both_sides_name_both_identities_when_the_keys_differ() {
    let right = peer(false, "start = \"passive\"\npsk = \"another key of more than twenty characters\"", "");
    let mut world = World::new(&peer(true, "", ""), &right).start();
    for (site, code) in [(&mut world.left, "authentication-refused"), (&mut world.right, "authentication-failed")] {
        assert_eq!(site.state("other"), (PeerState::Error, Some(code)));
        let told = site.story.iter().map(ToString::to_string).find(|line| line.contains(code)).unwrap();
        assert!(told.contains("\"left.lab\"") && told.contains("\"right.lab\""), "{told}");
    }
}

#[test]
fn f_72_the_responder_shows_why_it_refuses_an_ike_sa() {
    let ours = peer(true, "ike = \"aes128gcm16-prfsha256-x25519\"", "");
    let theirs = peer(false, "start = \"passive\"\nike = \"aes256gcm16-prfsha512-x25519\"", "");
    let mut world = World::new(&ours, &theirs).start();
    assert_eq!(world.left.state("other"), (PeerState::Error, Some("no-proposal-chosen")));
    assert_eq!(world.right.state("other"), (PeerState::Error, Some("no-proposal-in-common")), "{}", world.story());
    assert!(world.story().contains("right: other: request from 192.0.2.1:500 refused"), "{}", world.story());
    // Of a peer that may be anywhere an address tells nothing.
    let anywhere = theirs.replace("remote = \"192.0.2.1\"", "remote = \"any\"");
    let mut world = World::new(&ours, &anywhere).start();
    let (_, cause) = world.right.state("other");
    assert_ne!(cause, Some("no-proposal-in-common"));
    assert!(world.story().contains("right: request from 192.0.2.1:500 refused"), "{}", world.story());
}

#[test]
fn f_72_pending_says_what_it_waits_for() {
    for (start, code) in [("passive", "waiting-for-peer"), ("on-demand", "waiting-for-packet")] {
        let mut world = World::new(&peer(true, &format!("start = \"{start}\""), ""), "").start();
        assert_eq!(world.left.state("other"), (PeerState::Pending, Some(code)));
    }
    let mut world = World::new(&peer(true, "", ""), "");
    world.cut = true;
    let mut world = world.start();
    assert_eq!(world.left.state("other"), (PeerState::Pending, Some("waiting-for-answer")));
    world.pass(secs(6));
    assert_eq!(world.left.told(|what| *what == What::Waiting), 1, "{}", world.story());
    assert!(world.story().contains("no answer to IKE_SA_INIT from 192.0.2.2:500 yet, repeated"), "{}", world.story());
    let named = peer(true, "", "").replace("remote = \"192.0.2.2\"", "remote = \"right.example.org\"");
    let mut world = World::new(&named, "").start();
    assert_eq!(world.left.state("other"), (PeerState::Pending, Some("waiting-for-address")));
}

#[test]
fn f_73_a_blocked_port_4500_is_named_on_both_sides() {
    let lines = "encap = \"always\"";
    let passive = format!("start = \"passive\"\n{lines}");
    // Our answers do not arrive: the responder believes it is connected.
    let mut world = World::new(&peer(true, lines, ""), &peer(false, &passive, ""));
    world.blocked = (true, false);
    let mut world = world.start();
    world.pass(secs(10));
    assert_eq!(world.right.state("other"), (PeerState::Connected, Some("answers-do-not-arrive")), "{}", world.story());
    assert!(world.story().contains("left: other: not well: no answer to IKE_AUTH"), "{}", world.story());
    // The request does not arrive.
    let mut world = World::new(&peer(true, lines, ""), &peer(false, &passive, ""));
    world.blocked = (false, true);
    let mut world = world.start();
    world.pass(secs(60));
    let told = world.right.story.iter().find(|report| report.to_string().contains("[half-open]"));
    assert!(told.is_some_and(|report| report.to_string().contains("4500")), "{}", world.story());
}

#[test]
fn f_73_that_our_answers_do_not_arrive_is_told_of_slow_callers_too_and_not_any_more_once_they_do() {
    let unheard = (PeerState::Connected, Some("answers-do-not-arrive"));
    let lines = "encap = \"always\"";
    let begun = || {
        let mut world = World::new(&peer(true, lines, ""), &peer(false, &format!("start = \"passive\"\n{lines}"), ""));
        world.blocked = (true, false);
        world.start()
    };
    let mut world = begun();
    world.pass(secs(5));
    assert_eq!(world.right.state("other"), unheard, "{}", world.story());
    world.blocked = (false, false);
    world.pass(secs(60));
    world.ping();
    assert_eq!(world.right.state("other"), (PeerState::Connected, None), "{}", world.story());
    // Of the repetitions those after 7.5 and 11.5 s arrive.
    let mut world = begun();
    world.blocked = (true, true);
    world.pass(secs(7));
    world.blocked = (true, false);
    world.pass(secs(6));
    assert_eq!(world.right.state("other"), unheard, "{}", world.story());
    assert_eq!(world.right.told(|what| *what == What::Waiting), 1, "{}", world.story());
    // A call of its own that is not answered either is another matter.
    let mut world = World::new(&peer(true, lines, ""), &peer(false, lines, ""));
    world.blocked = (true, false);
    let mut world = world.start();
    world.pass(secs(12));
    for said in ["[waiting-for-answer]", "[answers-do-not-arrive]"] {
        let told = world.right.story.iter().filter(|report| report.to_string().contains(said)).count();
        assert_eq!(told, 1, "{said}\n{}", world.story());
    }
}

#[test]
fn f_83_a_reload_can_be_asked_what_it_would_do() {
    let mut world = World::connected("", "");
    let wider = peer(true, "", "").replace("10.2.0.0/16", "10.2.0.0/15");
    let change = world.left.gateway.compare(config(&wider), world.left.endpoint.pad());
    assert_eq!(change.diff().peers.len(), 1);
    world.ping();
    assert_eq!(world.left.told(up), 1);
    assert!(world.left.gateway.compare(config(&peer(true, "", "")), world.left.endpoint.pad()).diff().is_empty());
}

#[test]
fn f_59_the_story_names_the_identity_that_the_peer_sent() {
    let calls = |left: bool, id: &str, as_id: &str| {
        let ours = peer(left, "", "").replace(&format!("local-id = \"{id}\""), &format!("local-id = \"{as_id}\""));
        (ours, peer(!left, "start = \"passive\"", ""))
    };
    let line = |story: &[Report], code: &str| {
        story.iter().map(ToString::to_string).find(|line| line.contains(code)).unwrap_or_else(|| panic!("{story:?}"))
    };
    for id in ["gate-7.lab", "fqdn:192.0.2.9"] {
        let (left, right) = calls(true, "left.lab", id);
        let world = World::new(&left, &right).start();
        let told = line(&world.right.story, "unknown-identity");
        assert!(told.contains(&format!("\"{id}\"")) && told.contains("write this identity"), "{told}");
    }
    // The other way round: whom we called says to be another.
    let (right, left) = calls(false, "right.lab", "gate-7.lab");
    let world = World::new(&left.replace("passive", "active"), &right).start();
    let told = line(&world.left.story, "wrong-identity");
    assert!(told.contains("\"gate-7.lab\", and not \"right.lab\""), "{told}");
}
