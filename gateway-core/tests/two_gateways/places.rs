//! Where peers and we are: names that have several addresses, move, and are asked for; addresses of ours that go.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use gateway_core::cause::Cause;
use gateway_core::gateway::{Locate, Located, Parts, PeerState, Way, What};
use ike_core::endpoint::SaState;
use ipsec_core::net::Path;

use super::refusals::{NO_ADDITIONAL_SAS, Refusal};
use super::secs;
use super::world::{LEFT, RIGHT, Site, World, config, parts, peer, second};

const NAME: &str = "right.example.org";

/// Both sides know each other by `start`; the left one knows the right one by name.
fn named(start: &str, other: &str) -> World {
    let left = peer(true, start, "").replace(RIGHT, NAME);
    World::new(&left, &peer(false, other, "")).start()
}

fn questions(site: &mut Site) -> Vec<Locate> {
    std::iter::from_fn(|| site.gateway.poll_locate()).collect()
}

fn at(addresses: &[&str]) -> Result<Located, Cause> {
    let resolved: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let here = |remote: &IpAddr| Way { local: LEFT.parse().unwrap(), remote: *remote };
    Ok(Located { ways: resolved.iter().map(here).collect(), resolved, hindrance: None })
}

fn nowhere() -> Result<Located, Cause> {
    Err(Cause::unresolved(NAME, "no such name"))
}

/// Answers every question of the left side; returns how many there were.
fn answer(world: &mut World, answer: &Result<Located, Cause>) -> usize {
    let asked = questions(&mut world.left);
    for question in &asked {
        world.left.gateway.located(world.now, question, answer.clone(), parts!(world.left));
    }
    world.exchange();
    asked.len()
}

fn tried(world: &World) -> Vec<String> {
    let remotes = world.left.story.iter().filter_map(|report| match report.what {
        What::Connecting { remote } => Some(remote.ip().to_string()),
        _ => None,
    });
    remotes.collect()
}

#[test]
fn f_22_each_address_of_a_name_is_tried_in_turn_whatever_the_resolver_puts_first() {
    let mut world = named("", "start = \"passive\"");
    let orders = [["192.0.2.77", "2001:db8::7", RIGHT], [RIGHT, "192.0.2.77", "2001:db8::7"]];
    let mut longest = 0;
    for turn in 0..600 {
        answer(&mut world, &at(&orders[turn % 2]));
        if world.left.state("other").0 == PeerState::Connected {
            longest = turn;
            break;
        }
        world.pass(secs(1));
    }
    assert_eq!(tried(&world), ["192.0.2.77", "2001:db8::7", RIGHT], "{}", world.story());
    assert!(longest < 300, "the pauses between addresses do not grow: {longest} s");
    world.ping();
}

#[test]
fn f_23_a_passive_peer_is_known_by_its_name_and_says_why_while_it_is_not() {
    for start in ["start = \"passive\"", "start = \"on-demand\""] {
        let mut world = named(start, "start = \"passive\"");
        assert_eq!(answer(&mut world, &nowhere()), 1, "asked at the start");
        assert_eq!(world.left.state("other"), (PeerState::Disconnected, Some("name-not-resolved")));
        assert_eq!(answer(&mut world, &nowhere()), 0);
        world.pass(secs(60));
        assert_eq!(answer(&mut world, &nowhere()), 1, "and again");
        assert_eq!(world.left.told(|what| matches!(what, What::Failed { .. })), 1, "and told once\n{}", world.story());
        world.pass(secs(60));
        assert_eq!(answer(&mut world, &at(&[RIGHT])), 1);
        let (state, waits) = world.left.state("other");
        assert!(state == PeerState::Pending && waits.is_some_and(|code| code.starts_with("waiting-for-")), "{waits:?}");
        world.right.gateway.up(world.now, "other", parts!(world.right)).unwrap();
        world.exchange();
        assert_eq!(world.left.state("other").0, PeerState::Connected, "{}", world.story());
        let mut asked = 0;
        for _ in 0..36 {
            world.pass(secs(100));
            asked += answer(&mut world, &at(&[RIGHT]));
        }
        assert!((8..=12).contains(&asked), "asked {asked} times in an hour");
    }
}

#[test]
fn f_23_a_knock_makes_us_ask_but_not_as_often_as_it_knocks() {
    let mut world = named("start = \"passive\"", "");
    // The right side calls from the start on; its name stands for another address.
    assert_eq!(answer(&mut world, &at(&["192.0.2.88"])), 1);
    assert_eq!(world.left.state("other").0, PeerState::Pending);
    let mut asked = 0;
    for _ in 0..100 {
        world.pass(secs(1));
        asked += answer(&mut world, &at(&["192.0.2.88"]));
    }
    assert!((2..=10).contains(&asked), "asked {asked} times in 100 s");
    for _ in 0..100 {
        world.pass(secs(1));
        answer(&mut world, &at(&[RIGHT]));
    }
    assert_eq!(world.left.state("other").0, PeerState::Connected, "{}", world.story());
}

/// A peer with a new address calls before we know it, and gives up when it is refused.
#[test]
fn a_peer_that_calls_before_its_name_follows_is_let_in_when_it_repeats_its_call() {
    let mut world = named("start = \"passive\"", "start = \"passive\"");
    assert_eq!(answer(&mut world, &at(&["192.0.2.88"])), 1, "asked at the start");
    world.pass(secs(60));
    assert_eq!(answer(&mut world, &at(&["192.0.2.88"])), 0);
    world.right.gateway.up(world.now, "other", parts!(world.right)).unwrap();
    world.exchange();
    // A refusal would be the end of the call for many.
    let refused = |what: &What| matches!(what, What::Failed { .. } | What::Doubtful { .. });
    assert_eq!(world.right.told(refused), 0, "{}", world.story());
    assert_eq!(answer(&mut world, &at(&[RIGHT])), 1, "it made us ask");
    world.pass(secs(5));
    assert_eq!(world.left.state("other").0, PeerState::Connected, "{}", world.story());
    assert_eq!(world.right.told(|what| matches!(what, What::Connecting { .. })), 1, "with one call\n{}", world.story());
    world.ping();
}

#[test]
fn f_24_the_name_of_a_peer_that_is_lost_is_asked_for_at_once_whoever_calls() {
    for start in ["passive", "on-demand"] {
        let mut world = named(&format!("start = \"{start}\"\ndpd = \"20s\""), "start = \"passive\"");
        assert_eq!(answer(&mut world, &at(&[RIGHT])), 1, "asked at the start");
        world.right.gateway.up(world.now, "other", parts!(world.right)).unwrap();
        world.exchange();
        assert_eq!(world.left.state("other").0, PeerState::Connected, "{start}\n{}", world.story());
        world.pass(secs(60));
        assert_eq!(answer(&mut world, &at(&[RIGHT])), 0);
        world.cut = true;
        let closed = |world: &World| world.left.told(|what| *what == What::Closed);
        for _ in 0..120 {
            assert_eq!(questions(&mut world.left), [], "{start}: it is not known yet that it is lost");
            world.pass(secs(1));
            if closed(&world) == 1 {
                break;
            }
        }
        assert_eq!((closed(&world), answer(&mut world, &at(&[RIGHT]))), (1, 1), "{start}\n{}", world.story());
        // Not again and again.
        world.pass(secs(60));
        assert_eq!(answer(&mut world, &at(&[RIGHT])), 0, "{start}");
    }
}

#[test]
fn f_24_an_attempt_at_an_address_that_the_name_left_is_given_up() {
    let mut world = named("", "");
    assert_eq!(answer(&mut world, &at(&["192.0.2.77"])), 1);
    assert_eq!(tried(&world), ["192.0.2.77"]);
    // Meanwhile the right side calls from where it is now: we do not know it, and ask.
    let mut seconds = 0;
    while world.left.state("other").0 != PeerState::Connected {
        world.pass(secs(1));
        answer(&mut world, &at(&[RIGHT]));
        seconds += 1;
        assert!(seconds < 15, "{}", world.story());
    }
    world.ping();
}

#[test]
fn f_24_an_attempt_is_given_up_although_the_peer_does_not_call() {
    let mut world = named("", "start = \"passive\"");
    let asked = questions(&mut world.left);
    for address in ["192.0.2.77", RIGHT] {
        world.left.gateway.located(world.now, &asked[0], at(&[address]), parts!(world.left));
        world.exchange();
    }
    for _ in 0..5 {
        answer(&mut world, &at(&[RIGHT]));
        world.pass(secs(1));
    }
    assert_eq!(world.left.state("other").0, PeerState::Connected, "{}", world.story());
    assert_eq!(tried(&world), ["192.0.2.77", RIGHT], "{}", world.story());
}

#[test]
fn f_24_a_peer_that_is_to_call_by_now_is_not_called_where_it_is_found() {
    let mut world = named("", "start = \"passive\"");
    let asked = questions(&mut world.left);
    let waits = config(&peer(true, "start = \"passive\"", "").replace(RIGHT, NAME));
    world.left.gateway.reload(world.now, waits, parts!(world.left)).1.unwrap();
    world.left.gateway.located(world.now, &asked[0], at(&[RIGHT]), parts!(world.left));
    world.pass(secs(60));
    assert_eq!(tried(&world), [""; 0], "{}", world.story());
}

#[test]
fn f_25_a_connection_from_an_address_that_is_gone_is_made_anew_at_once() {
    let mut world = World::connected("", "");
    world.ping();
    world.left.gateway.readdress(world.now, |_, _| true, parts!(world.left));
    assert_eq!(world.left.endpoint.ike_sas().count(), 1, "nothing happens while the way stands");
    let before = tried(&world).len();
    world.left.gateway.readdress(world.now, |_, path| path.local.ip().to_string() != LEFT, parts!(world.left));
    world.exchange();
    assert_eq!(tried(&world).len(), before + 1, "{}", world.story());
    assert_eq!(world.left.state("other").0, PeerState::Connected);
    world.ping();
    // Nobody has closed it, and which address it was is told.
    let ends = world.left.story.iter().filter(|report| matches!(report.what, What::Closed | What::ChildDown));
    let causes: Vec<_> = ends.filter_map(|report| report.cause.as_ref()).collect();
    assert_eq!(causes.len(), 2, "{}", world.story());
    assert!(causes.iter().all(|cause| cause.code == "address-changed" && cause.text.contains(LEFT)), "{causes:?}");
}

#[test]
fn f_22_who_wants_a_peer_up_waits_for_each_of_its_addresses_and_hears_which_one_is_silent() {
    let lists = peer(true, "start = \"passive\"", "")
        .replace(&format!("\"{RIGHT}\""), &format!("[\"192.0.2.77\", \"{RIGHT}\"]"));
    let mut world = World::new(&lists, &peer(false, "start = \"passive\"", "")).start();
    let outcome = |world: &mut World| world.left.gateway.outcome("other", &parts!(lent world.left)).unwrap();
    world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
    let mut seconds = 0;
    while world.left.state("other").0 != PeerState::Connected {
        assert_eq!(outcome(&mut world), None, "after {seconds} s\n{}", world.story());
        world.pass(secs(1));
        seconds += 1;
        assert!(seconds < 60, "{}", world.story());
    }
    assert_eq!(tried(&world), ["192.0.2.77", RIGHT], "{}", world.story());
    let silent =
        world.left.story.iter().filter_map(|report| report.cause.as_ref()).find(|cause| cause.code == "peer-silent");
    assert!(silent.is_some_and(|cause| cause.text.contains("192.0.2.77:500")), "{}", world.story());
    // And hears of it when the last one does not take us either.
    let mut world = World::new(&lists, "").start();
    world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
    world.pass(secs(60));
    let end = outcome(&mut world).and_then(Result::err).map(|cause| cause.code);
    assert_eq!((end, tried(&world).len()), (Some("no-proposal-chosen"), 2), "{}", world.story());
}

/// The right side, made anew: what it was before it does not know, nor that it is gone.
fn clone_calls(world: &mut World, seed: u64, mapping: u16) {
    world.mapping = Some(mapping);
    world.right = Site::new(seed, &peer(false, "encap = \"always\"", ""), 64);
    world.right.gateway.start(world.now, parts!(world.right)).unwrap();
    world.exchange();
    assert_eq!(world.left.state("other").0, PeerState::Connected, "{}", world.story());
}

#[test]
fn f_83_two_machines_with_one_identity_are_told_of_and_one_that_comes_back_is_not() {
    let contests = |world: &World| world.left.told(|what| *what == What::Waiting);
    let called =
        || World::new(&peer(true, "start = \"passive\"\nencap = \"always\"", ""), &peer(false, "", "")).start();
    let mut world = called();
    for seed in 2..8 {
        clone_calls(&mut world, seed, 40_001);
        world.pass(secs(20));
    }
    assert_eq!((contests(&world), world.left.state("other").1), (0, None), "one place\n{}", world.story());

    let mut world = called();
    for (seed, place) in [(2, 40_001), (3, 40_002), (4, 40_001)] {
        assert_eq!(contests(&world), 0, "{}", world.story());
        clone_calls(&mut world, seed, place);
        world.pass(secs(20));
    }
    let state = world.left.state("other");
    assert_eq!((contests(&world), state), (1, (PeerState::Connected, Some("two-places"))), "{}", world.story());
    let told = world.story();
    assert!(told.contains("192.0.2.2:40001") && told.contains("192.0.2.2:40002"), "{told}");
    // As long as it goes on, and no longer.
    for (seed, place) in (5..25).zip([40_002, 40_001].into_iter().cycle()) {
        clone_calls(&mut world, seed, place);
        world.pass(secs(30));
    }
    assert_eq!((contests(&world), world.left.state("other").1), (1, Some("two-places")), "{}", world.story());
    world.pass(secs(700));
    assert_eq!(world.left.state("other").1, None, "{}", world.story());
}

#[test]
fn f_81_a_peer_that_speaks_another_version_is_told_as_that_a_few_times_a_minute() {
    // Of IKEv1, in main mode.
    let call = |world: &mut World, from: &str| {
        let mut message = vec![7; 8];
        message.extend([0; 8]);
        message.extend([1, 0x10, 2, 0, 0, 0, 0, 0, 0, 0, 0, 28]);
        let path =
            Path { local: format!("{LEFT}:500").parse().unwrap(), remote: format!("{from}:500").parse().unwrap() };
        world.left.gateway.handle_datagram(world.now, path, &mut message, parts!(world.left));
        world.exchange();
    };
    let refusals = |world: &World| world.left.told(|what| matches!(what, What::Refused { .. }));
    let mut world = World::new(&peer(true, "", ""), &peer(false, "start = \"passive\"", ""));
    world.cut = true;
    let mut world = world.start();
    call(&mut world, RIGHT);
    let told = world.story();
    assert!(told.contains("other: request from 192.0.2.2:500 refused: the peer speaks another version"), "{told}");
    assert!(told.contains("switch the peer to IKEv2"), "{told}");
    assert_eq!(world.left.state("other"), (PeerState::Error, Some("major-version")), "{told}");
    (0..50).for_each(|_| call(&mut world, "198.51.100.7"));
    assert_eq!(refusals(&world), 3, "{}", world.story());
    world.pass(secs(61));
    call(&mut world, "198.51.100.7");
    assert_eq!(refusals(&world), 4, "{}", world.story());

    let mut world = World::new(&peer(true, "", ""), &peer(false, "start = \"passive\"", "")).start();
    call(&mut world, RIGHT);
    assert_eq!(world.left.state("other"), (PeerState::Connected, None), "{}", world.story());
}

#[test]
fn f_73_what_somebody_says_of_the_way_to_the_peer_is_told_and_ends_nothing() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "start = \"passive\"", ""));
    world.cut = true;
    let mut world = world.start();
    let says = |world: &mut World, remote: &str| world.say_unreachable(remote);
    says(&mut world, "198.51.100.7");
    assert_eq!(world.left.state("other").1, Some("waiting-for-answer"), "of nobody that we call");
    for _ in 0..3 {
        says(&mut world, RIGHT);
        assert_eq!(world.left.state("other"), (PeerState::Disconnected, Some("unreachable")), "{}", world.story());
        world.pass(secs(1));
    }
    let told = |world: &World| world.left.told(|what| matches!(what, What::Doubtful { .. }));
    assert_eq!(told(&world), 1, "{}", world.story());
    assert!(
        world
            .story()
            .contains("nothing heard from 192.0.2.2:500: 192.0.2.2 says that nothing listens at 192.0.2.2:500 (ICMP"),
        "{}",
        world.story()
    );
    assert_eq!(world.left.told(|what| matches!(what, What::Connecting { .. })), 1, "{}", world.story());
    // The attempt is the same one.
    world.cut = false;
    world.pass(secs(10));
    assert_eq!(world.left.state("other"), (PeerState::Connected, None), "{}", world.story());
    says(&mut world, RIGHT);
    assert_eq!(world.left.state("other"), (PeerState::Connected, None), "{}", world.story());
}

#[test]
fn f_61_nothing_is_made_anew_for_a_child_that_came_up_or_was_taken_down_while_the_peer_is_looked_for() {
    for taken_down in [false, true] {
        let left = peer(true, "", "").replace(RIGHT, NAME) + &second(3, 4);
        let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
        let mut world = World::new(&left, &right).start();
        assert_eq!(answer(&mut world, &at(&[RIGHT])), 1);
        world.exchange();
        world.refusal = Some(Refusal::Children(NO_ADDITIONAL_SAS, &[], BTreeSet::new()));
        world.pass(secs(40));
        // The name leads elsewhere by now, and is asked for anew.
        let id = world.left.endpoint.pad().named("other").unwrap();
        world.left.endpoint.pad_mut().set_resolved(id, NAME, &["192.0.2.77".parse().unwrap()]);
        world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
        while world.left.told(|what| *what == What::Renewing) == 0 {
            world.pass(secs(1));
            assert!(world.now.as_millis() < 100_000, "{}", world.story());
        }
        if taken_down {
            world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
        } else {
            world.right.gateway.up(world.now, "other/net", parts!(world.right)).unwrap();
            world.exchange();
            world.ping();
        }
        answer(&mut world, &at(&[RIGHT]));
        world.pass(secs(60));
        let connecting = world.left.told(|what| matches!(what, What::Connecting { .. }));
        assert_eq!(connecting, 1, "taken down: {taken_down}\n{}", world.story());
    }
}

/// Nobody asks whether the other one lives meanwhile.
const CALM: &str = "dpd = \"10m\"";

/// The peer wants to know anew who we are, and does not hear the first call for that.
fn renewed_at_the_second_call(world: &mut World) {
    let ike = world.left.endpoint.ike_sas().next().unwrap();
    world.limit(true, &ike, 20);
    let due = world.left.endpoint.ike_sa(ike.id).and_then(|ike| ike.reauthenticate_at).unwrap();
    world.pass(due.since(world.now) - Duration::from_millis(1));
    world.cut = true;
    world.pass(Duration::from_millis(100));
    world.cut = false;
    let attempt = world.left.endpoint.ike_sas().find(|ike| ike.state == SaState::Connecting);
    world.drop_spi = attempt.map(|attempt| attempt.spi_local.to_be_bytes());
    world.pass(secs(60));
    assert_eq!(world.left.told(|what| matches!(what, What::Connected { .. })), 2, "{}", world.story());
    assert_eq!(tried(world), [RIGHT, RIGHT, RIGHT], "{}", world.story());
}

#[test]
fn f_63_a_connection_is_made_anew_where_it_stands_and_at_no_other_place_of_the_peer() {
    let places = peer(true, CALM, "").replace(&format!("\"{RIGHT}\""), &format!("[\"{RIGHT}\", \"192.0.2.77\"]"));
    let mut world = World::new(&places, &peer(false, &format!("start = \"passive\"\n{CALM}"), "")).start();
    renewed_at_the_second_call(&mut world);
    // It is lost: now the others are tried as well, and no turn was spent on what failed where it stood.
    world.cut = true;
    world.pass(secs(900));
    assert_eq!(tried(&world)[3..5], [RIGHT, "192.0.2.77"], "{}", world.story());
}

#[test]
fn f_63_a_connection_is_made_anew_although_nobody_says_what_the_name_of_the_peer_stands_for() {
    let mut world = named(CALM, &format!("start = \"passive\"\n{CALM}"));
    assert_eq!(answer(&mut world, &at(&[RIGHT])), 1);
    renewed_at_the_second_call(&mut world);
    assert_eq!(questions(&mut world.left), [], "{}", world.story());
}

#[test]
fn f_53_a_peer_that_ends_a_connection_is_called_at_its_next_place_whether_that_was_made_anew_or_not() {
    for renewed in [false, true] {
        let places = peer(true, CALM, "").replace(&format!("\"{RIGHT}\""), &format!("[\"{RIGHT}\", \"192.0.2.77\"]"));
        let mut world = World::new(&places, &peer(false, &format!("start = \"passive\"\n{CALM}"), "")).start();
        if renewed {
            renewed_at_the_second_call(&mut world);
        }
        world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
        world.exchange();
        world.pass(secs(10));
        assert_eq!(tried(&world).last().unwrap(), "192.0.2.77", "{renewed}\n{}", world.story());
    }
}

#[test]
fn f_63_a_connection_is_made_anew_where_the_name_of_the_peer_leads_once_that_is_not_where_it_stands() {
    let mut world = named(CALM, &format!("start = \"passive\"\n{CALM}"));
    assert_eq!(answer(&mut world, &at(&[RIGHT])), 1);
    let ike = world.left.endpoint.ike_sas().next().unwrap();
    world.limit(true, &ike, 20);
    // The name has left the place meanwhile, and nobody has asked where it leads by the time of the renewal.
    let id = world.left.endpoint.pad().named("other").unwrap();
    world.left.endpoint.pad_mut().set_resolved(id, NAME, &["192.0.2.77".parse().unwrap()]);
    let due = world.left.endpoint.ike_sa(ike.id).and_then(|ike| ike.reauthenticate_at).unwrap();
    world.pass(due.since(world.now));
    assert_eq!(tried(&world), [RIGHT], "{}", world.story());
    let places = ["192.0.2.77", "192.0.2.78"];
    assert_eq!(answer(&mut world, &at(&places)), 1);
    assert_eq!(tried(&world), [RIGHT, places[0]], "{}", world.story());
    // Nobody is there, at either, and the name comes back.
    let failed = |world: &World| world.left.told(|what| matches!(what, What::Failed { .. }));
    for times in 1..=2 {
        while failed(&world) < times {
            world.pass(secs(1));
            assert!(world.now.as_millis() < 600_000, "{}", world.story());
        }
        world.pass(secs(20));
        assert_eq!(answer(&mut world, &at(if times == 1 { &places } else { &[RIGHT] })), 1, "{}", world.story());
    }
    world.pass(secs(10));
    assert_eq!(tried(&world), [RIGHT, places[0], places[1], RIGHT], "{}", world.story());
    assert!(world.left.endpoint.ike_sa(ike.id).is_none(), "{}", world.story());
    world.ping();
}

#[test]
fn f_25_a_call_that_is_cut_short_because_our_address_went_says_so() {
    let mut world = World::new(&peer(true, "", ""), &peer(false, "start = \"passive\"", ""));
    world.cut = true;
    let mut world = world.start();
    world.left.gateway.readdress(world.now, |_, _| false, parts!(world.left));
    world.exchange();
    let told: Vec<_> = world.left.story.iter().filter(|report| matches!(report.what, What::Failed { .. })).collect();
    let codes: Vec<_> = told.iter().filter_map(|report| report.cause.as_ref()).map(|cause| cause.code).collect();
    assert_eq!(codes, ["address-changed"], "{}", world.story());
    // Somebody here wanted it: that is said as before.
    world.pass(secs(2));
    world.left.gateway.down(world.now, "other", parts!(world.left)).unwrap();
    world.exchange();
    assert!(world.story().contains("[closed-here]"), "{}", world.story());
}
