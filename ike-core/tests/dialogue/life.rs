//! An established IKE SA: rekeys, deletes, liveness, moves.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ike_core::failure::Failure;
use ike_core::registry::ExchangeType;
use ike_core::wire::header::Header;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::network::{CHILD, Network, Peer, pair};
use ike_core::endpoint::{SaState, Settings};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Runs, and fails when at any moment one side sends what the other cannot receive.
fn run_without_gap(network: &mut Network, time: Duration) {
    let end: Instant = network.now + time;
    loop {
        let more = network.step(end);
        network.settle();
        assert!(network.passes(), "{:?} {:?}", network.hosts[0].story, network.hosts[1].story);
        if !more {
            break;
        }
    }
}

#[test]
fn a_child_rekey_by_either_side_leaves_no_gap() {
    for by in 0..2 {
        let mut network = Network::connected(20);
        let before = network.hosts[by].sending[&CHILD];
        let keys = network.hosts[by].installed[&before].key_in.clone();
        network.hosts[by].endpoint.rekey_child(network.now, before).unwrap();
        run_without_gap(&mut network, seconds(30));
        network.agree().unwrap();
        let after = network.hosts[by].sending[&CHILD];
        assert_ne!(before, after);
        assert_ne!(network.hosts[by].installed[&after].key_in, keys);
        assert_eq!(network.hosts[by].installed[&after].replaces, Some(before));
        // PFS: the rekeyed child has a key exchange of its own.
        assert!(network.hosts[by].installed[&after].suite.contains("x25519"));
        assert!(network.hosts.iter().all(|host| host.installed.len() == 1 && host.failures.is_empty()));
    }
}

#[test]
fn what_the_peer_deletes_before_its_answer_is_here_does_not_come_up_for_good() {
    for rekeyed in [true, false] {
        let mut network = Network::connected(23);
        let old = network.hosts[0].sending[&CHILD];
        if rekeyed {
            network.hosts[0].endpoint.rekey_child(network.now, old).unwrap();
        } else {
            let ike = network.hosts[0].ike_id();
            network.hosts[0].endpoint.create_child(network.now, ike, CHILD).unwrap();
        }
        // The answer is lost, and so is what is repeated, until the other end takes for granted that it came, and deletes what
        // it made.
        let lost = Rc::new(RefCell::new(true));
        let (still_lost, mut asked) = (Rc::clone(&lost), false);
        network.tap = Box::new(move |from, datagram| {
            let create = Header::parse(datagram).unwrap().exchange == ExchangeType::CREATE_CHILD_SA;
            let first = from == 0 && create && !core::mem::replace(&mut asked, true);
            !create || first || !*still_lost.borrow()
        });
        let before: Vec<_> = network.hosts[1].installed.keys().copied().collect();
        network.run_for(seconds(1));
        let made = *network.hosts[1].installed.keys().find(|child| !before.contains(child)).unwrap();
        network.hosts[1].endpoint.close_child(network.now, made).unwrap();
        let gone = |network: &Network| !network.hosts[1].installed.contains_key(&made);
        while !gone(&network) {
            network.run_for(Duration::from_millis(10));
        }
        *lost.borrow_mut() = false;
        network.run_for(seconds(60));
        network.agree().unwrap();
        // Nothing is sent through what the other end does not have.
        let [ours, theirs] = &network.hosts;
        let out = |child| ours.installed[child].spi_out;
        let received = |child| theirs.installed.values().any(|theirs| theirs.spi_in == out(child));
        assert!(!ours.sending.is_empty() && ours.sending.values().all(received), "{:?}", ours.story);
    }
}

#[test]
fn a_child_rekey_with_the_wrong_group_is_tried_again_with_the_right_one() {
    let [left, mut right] = pair();
    right.children[0].esp = crate::network::esp("aes256gcm16-ecp256");
    let mut network = Network::new(21, [vec![left], vec![right]], Settings::default());
    network.connect();
    let child = network.hosts[0].sending[&CHILD];
    network.hosts[0].endpoint.rekey_child(network.now, child).unwrap();
    run_without_gap(&mut network, seconds(30));
    let after = network.hosts[0].sending[&CHILD];
    assert!(network.hosts[0].installed[&after].suite.contains("ecp256"));
}

#[test]
fn an_ike_rekey_by_either_side_keeps_the_children() {
    for by in 0..2 {
        let mut network = Network::connected(22);
        let before = network.hosts[by].ike().unwrap();
        let children = network.hosts[by].sending.clone();
        network.hosts[by].endpoint.rekey_ike(network.now, before.id).unwrap();
        run_without_gap(&mut network, seconds(60));
        network.agree().unwrap();
        let after = network.hosts[by].ike().unwrap();
        assert_ne!(before.spi_local, after.spi_local);
        // Whoever rekeys, the same side called, and the same party is at the other end.
        for (side, host) in network.hosts.iter().enumerate() {
            assert_eq!(host.ike().unwrap().called, side == 0);
        }
        assert_eq!(after.party, before.party);
        let parties = [0, 1].map(|side| network.hosts[side].ike().unwrap().party);
        assert_ne!(parties[0], parties[1]);
        assert_eq!(network.hosts[by].sending, children);
        // The children live on in the new SA.
        let child = network.hosts[1 - by].sending[&CHILD];
        network.hosts[1 - by].endpoint.rekey_child(network.now, child).unwrap();
        run_without_gap(&mut network, seconds(60));
        network.agree().unwrap();
        assert!(network.hosts.iter().all(|host| host.failures.is_empty()), "{:?}", network.hosts[0].failures);
    }
}

#[test]
fn rekeys_come_by_themselves_before_the_lifetime_ends() {
    let mut ends = pair();
    for peer in &mut ends {
        peer.rekey = seconds(4 * 3600);
        peer.children[0].rekey = seconds(3600);
        peer.children[0].lifetime = seconds(4000);
    }
    let [left, right] = ends;
    let mut network = Network::new(23, [vec![left], vec![right]], Settings::default());
    network.connect();
    run_without_gap(&mut network, seconds(24 * 3600));
    let rekeys = |host: usize| network.hosts[host].story.iter().filter(|line| *line == "child 0 up").count() - 1;
    let ike_rekeys = network.hosts[0].story.iter().filter(|line| *line == "ike rekeyed").count();
    assert!((22..=28).contains(&rekeys(0)), "{}", rekeys(0));
    assert!((5..=7).contains(&ike_rekeys), "{ike_rekeys}");
    assert!(network.hosts.iter().all(|host| host.failures.is_empty()));
}

#[test]
fn whoever_asked_for_a_child_rekeys_it_first() {
    for by in 0..2 {
        let ends = pair().map(|mut peer| {
            peer.children[0].rekey = seconds(3600);
            vec![peer]
        });
        let mut network = Network::new(24, ends, Settings::default());
        network.connect();
        network.run_for(seconds(60));
        let child = network.hosts[by].sending[&CHILD];
        network.hosts[by].endpoint.rekey_child(network.now, child).unwrap();
        network.run_for(seconds(60));
        let asked = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&asked);
        network.tap = Box::new(move |from, datagram| {
            if Header::parse(datagram).is_ok_and(|it| it.exchange == ExchangeType::CREATE_CHILD_SA && !it.response) {
                heard.borrow_mut().push(from);
            }
            true
        });
        network.run_for(seconds(10 * 3600));
        let asked = asked.borrow();
        assert!(asked.len() > 8 && asked.iter().all(|from| *from == by), "{by}: {asked:?}");
    }
}

/// Also where the other end never does it.
#[test]
fn d_what_a_rekey_of_the_ike_sa_made_is_rekeyed_in_its_time_by_the_end_that_wants_it() {
    for by in 0..2 {
        let mut ends = pair();
        ends[by].rekey = seconds(3600);
        let [left, right] = ends;
        let mut network = Network::new(28, [vec![left], vec![right]], Settings::default());
        network.connect();
        let ike = network.hosts[1 - by].ike_id();
        network.hosts[1 - by].endpoint.rekey_ike(network.now, ike).unwrap();
        network.run_for(seconds(3 * 3600));
        for host in &network.hosts {
            let rekeys = host.story.iter().filter(|line| *line == "ike rekeyed").count();
            assert!((3..=4).contains(&rekeys), "{by}: {:?}", host.story);
        }
    }
}

#[test]
fn a_deleted_child_goes_on_both_sides_and_the_ike_sa_stays() {
    for by in 0..2 {
        let mut network = Network::connected(24);
        let child = network.hosts[by].sending[&CHILD];
        network.hosts[by].endpoint.close_child(network.now, child).unwrap();
        // The responder waits until the initiator has its answer for sure.
        network.run_for(seconds(12));
        assert!(network.hosts.iter().all(|host| host.installed.is_empty() && host.ike().is_some()));
        assert!(network.hosts[by].story.contains(&"child 0 down: ClosedHere".into()));
        assert!(network.hosts[1 - by].story.contains(&"child 0 down: ClosedByPeer".into()));
        network.agree().unwrap();
    }
}

#[test]
fn a_closed_ike_sa_goes_on_both_sides_with_its_children() {
    for by in 0..2 {
        let mut network = Network::connected(25);
        let ike = network.hosts[by].ike_id();
        network.hosts[by].endpoint.close(network.now, ike).unwrap();
        network.run_for(seconds(1));
        assert!(network.hosts.iter().all(|host| host.installed.is_empty() && host.ike().is_none()));
        assert_eq!(network.hosts[by].failures, [Failure::ClosedHere]);
        assert_eq!(network.hosts[1 - by].failures, [Failure::ClosedByPeer]);
    }
}

#[test]
fn a_dead_peer_is_noticed_after_the_delay_and_the_repetitions() {
    let mut network = Network::connected(26);
    network.tap = Box::new(|_, _| false);
    let dead = network.now;
    while network.hosts[0].ike().is_some() {
        network.run_for(Duration::from_millis(500));
        assert!(network.now.since(dead) < seconds(60));
    }
    let noticed = network.now.since(dead);
    assert!((seconds(35)..=seconds(40)).contains(&noticed), "{noticed:?}");
    assert_eq!(network.hosts[0].failures, [Failure::PeerSilent(ExchangeType::INFORMATIONAL)]);
    assert!(network.hosts[0].installed.is_empty());
}

#[test]
fn an_idle_peer_that_lives_is_never_taken_for_dead() {
    let mut network = Network::connected(27);
    run_without_gap(&mut network, seconds(2 * 3600));
    assert!(network.hosts.iter().all(|host| host.failures.is_empty()));
}

#[test]
fn a_new_mapping_of_the_nat_is_followed() {
    let [left, mut right] = pair();
    right.remote = None;
    let mut network = Network::new(28, [vec![left], vec![right]], Settings::default());
    network.nat = Some("203.0.113.7:1024".parse().unwrap());
    network.connect();
    network.nat = Some("203.0.113.7:2048".parse().unwrap());
    network.run_for(seconds(60));
    assert_eq!(network.hosts[1].ike().unwrap().path.remote, "203.0.113.7:2048".parse().unwrap());
    assert!(network.hosts[1].story.contains(&"moved to 203.0.113.7:2048".into()));
    assert!(network.passes());
}

#[test]
fn a_new_mapping_that_only_the_old_sa_of_a_rekey_hears_of_is_followed() {
    // Who rekeys, and when what it deletes the old SA with, or the answer to that, is about to leave.
    for (by, millis) in [(0, 15), (1, 25)] {
        let [left, right] = pair().map(|peer| Peer { dpd: Duration::ZERO, ..peer });
        let right = Peer { remote: None, ..right };
        let mut network = Network::new(28, [vec![left], vec![right]], Settings::default());
        network.nat = Some("203.0.113.7:1024".parse().unwrap());
        network.connect();
        network.run_for(seconds(60));
        let (now, ike) = (network.now, network.hosts[by].ike_id());
        network.hosts[by].endpoint.rekey_ike(now, ike).unwrap();
        network.run_for(Duration::from_millis(millis));
        network.nat = Some("203.0.113.7:2048".parse().unwrap());
        network.run_for(seconds(5));
        let right = &network.hosts[1];
        assert_eq!(right.ike().unwrap().path.remote, "203.0.113.7:2048".parse().unwrap(), "{by} {:?}", right.story);
        assert_eq!(
            right.story.iter().filter(|line| *line == "moved to 203.0.113.7:2048").count(),
            1,
            "{:?}",
            right.story
        );
        let now = network.now;
        network.hosts[1].endpoint.check_liveness(now, network.hosts[1].ike_id()).unwrap();
        network.run_for(seconds(1));
        assert!(network.passes() && network.hosts[1].ike().unwrap().heard > Some(now));
    }
}

#[test]
fn what_comes_late_on_the_old_sa_of_a_rekey_does_not_overrule_the_new_one() {
    let [left, right] = pair().map(|peer| Peer { dpd: Duration::ZERO, ..peer });
    let right = Peer { remote: None, ..right };
    let mut network = Network::new(28, [vec![left], vec![right]], Settings::default());
    network.nat = Some("203.0.113.7:1024".parse().unwrap());
    network.connect();
    network.run_for(seconds(60));
    // The Delete of the old SA leaves by another mapping, and is held back for long.
    let held = Rc::new(RefCell::new(Vec::new()));
    let hold = Rc::clone(&held);
    network.tap = Box::new(move |from, datagram| {
        let delete = from == 0 && Header::parse(datagram).is_ok_and(|it| it.exchange == ExchangeType::INFORMATIONAL);
        if delete {
            hold.borrow_mut().push(datagram.clone());
        }
        !delete
    });
    let (now, ike) = (network.now, network.hosts[0].ike_id());
    network.hosts[0].endpoint.rekey_ike(now, ike).unwrap();
    network.run_for(seconds(1));
    // The peer is somewhere else again, and shows that on the new one.
    network.nat = Some("203.0.113.7:3072".parse().unwrap());
    network.tap = Box::new(|_, _| true);
    let new = network.hosts[0].endpoint.ike_sas().find(|sa| sa.state == SaState::Established && sa.id != ike).unwrap();
    network.hosts[0].endpoint.check_liveness(network.now, new.id).unwrap();
    network.run_for(Duration::from_millis(100));
    let at = |network: &Network| network.hosts[1].ike().unwrap().path.remote;
    let there = "203.0.113.7:3072".parse().unwrap();
    assert_eq!(at(&network), there);
    let late = held.borrow()[0].clone();
    let path = Path { local: "192.0.2.2:4500".parse().unwrap(), remote: "203.0.113.7:2048".parse().unwrap() };
    network.fly(1, path, late);
    network.run_for(seconds(1));
    assert_eq!(at(&network), there, "{:?}", network.hosts[1].story);
}

#[test]
fn a_forged_message_from_a_new_mapping_moves_nobody_and_the_genuine_one_does() {
    let [left, right] = pair().map(|peer| Peer { dpd: Duration::ZERO, ..peer });
    let right = Peer { remote: None, ..right };
    let mut network = Network::new(28, [vec![left], vec![right]], Settings::default());
    network.nat = Some("203.0.113.7:1024".parse().unwrap());
    network.connect();
    network.run_for(seconds(1));
    let held = Rc::new(RefCell::new(Vec::new()));
    let hold = Rc::clone(&held);
    network.tap = Box::new(move |from, datagram| {
        if from == 0 {
            hold.borrow_mut().push(datagram.clone());
        }
        from != 0
    });
    let (now, ike) = (network.now, network.hosts[0].ike_id());
    network.hosts[0].endpoint.check_liveness(now, ike).unwrap();
    network.run_for(Duration::from_millis(100));
    let request = held.borrow()[0].clone();
    let there = "203.0.113.7:2048".parse().unwrap();
    let path = Path { remote: there, ..network.hosts[1].ike().unwrap().path };
    for octet in 0..request.len() {
        let mut forged = request.clone();
        forged[octet] ^= 1;
        network.fly(1, path, forged);
        network.run_for(Duration::from_millis(50));
        let host = &network.hosts[1];
        assert_eq!(host.ike().unwrap().path.remote, "203.0.113.7:1024".parse().unwrap(), "octet {octet}");
        assert!(!host.story.iter().any(|line| line.starts_with("moved")), "{:?}", host.story);
    }
    network.fly(1, path, request);
    network.run_for(Duration::from_millis(50));
    let host = &network.hosts[1];
    assert_eq!(host.ike().unwrap().path.remote, there);
    assert_eq!(host.story.iter().filter(|line| *line == "moved to 203.0.113.7:2048").count(), 1, "{:?}", host.story);
}

#[test]
fn two_idle_hours_behind_a_nat_are_survived() {
    let [left, mut right] = pair();
    right.remote = None;
    right.dpd = Duration::ZERO;
    let mut network = Network::new(29, [vec![left], vec![right]], Settings::default());
    network.nat = Some("203.0.113.7:1024".parse().unwrap());
    network.connect();
    let sent = network.sent;
    run_without_gap(&mut network, seconds(7200));
    // A NAT that forgets after 30 s without a packet was reminded every 20 s.
    assert!(network.sent - sent >= 360, "{}", network.sent - sent);
}

#[test]
fn a_child_whose_delete_is_not_answered_keeps_nobody_busy() {
    let mut ends = pair();
    for peer in &mut ends {
        peer.children[0].rekey = seconds(30);
        peer.children[0].lifetime = seconds(32);
    }
    let [left, right] = ends;
    let mut network = Network::new(30, [vec![left], vec![right]], Settings::default());
    network.connect();
    network.run_for(seconds(22));
    network.tap = Box::new(|_, _| false);
    let child = network.hosts[0].sending[&CHILD];
    network.hosts[0].endpoint.close_child(network.now, child).unwrap();
    // Its rekey and its end fall due while the Delete is repeated; the network sees that no timeout stays due.
    network.run_for(seconds(60));
    assert!(network.hosts[0].ike().is_none());
}
