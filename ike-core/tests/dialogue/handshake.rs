//! From nothing to an established IKE SA with a child, and every way in which that fails.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ike_core::endpoint::Settings;
use ike_core::failure::{Failure, Side};
use ike_core::proposal::IkeProposal;
use ipsec_core::net::Encap;

use crate::network::{CHILD, Network, PEER, child, pair, selectors};

fn second() -> Duration {
    Duration::from_secs(1)
}

#[test]
fn both_ends_come_to_the_same_keys() {
    let network = Network::connected(1);
    assert!(network.passes());
    network.agree().unwrap();
    let [left, right] = &network.hosts;
    let (ours, theirs) = (left.installed.values().next().unwrap(), right.installed.values().next().unwrap());
    assert_eq!((&ours.key_in, &ours.key_out), (&theirs.key_out, &theirs.key_in));
    assert_ne!(ours.key_in, ours.key_out);
    assert_eq!(ours.key_in.len(), 36);
    assert_eq!((&ours.local, &ours.remote), (&theirs.remote, &theirs.local));
    assert_eq!(ours.encap, Encap::None);
    assert_eq!(left.story, ["established", "child 0 up"]);
}

#[test]
fn every_suite_connects() {
    for ike in ["aes128gcm16-prfsha256-ecp256", "aes256gcm16-prfsha384-x25519", "aes256gcm16-prfsha512-ecp256"] {
        for esp in ["aes128gcm16-noesn", "aes192gcm16-esn", "aes256gcm16-ecp256"] {
            let [mut left, mut right] = pair();
            for peer in [&mut left, &mut right] {
                peer.ike = vec![IkeProposal::parse(ike).unwrap()];
                peer.children[0].esp = crate::network::esp(esp);
            }
            let mut network = Network::new(7, [vec![left], vec![right]], Settings::default());
            network.connect();
            assert!(network.passes(), "{ike} {esp}");
            let suite = network.hosts[0].ike().unwrap().suite.unwrap().to_string();
            assert_eq!(suite, ike);
        }
    }
}

#[test]
fn the_responder_asks_for_another_group_and_gets_it() {
    let [mut left, mut right] = pair();
    left.ike = vec![IkeProposal::parse("aes256gcm16-prfsha256-x25519-ecp256").unwrap()];
    right.ike = vec![IkeProposal::parse("aes256gcm16-prfsha256-ecp256").unwrap()];
    let mut network = Network::new(2, [vec![left], vec![right]], Settings::default());
    network.connect();
    assert!(network.passes());
}

#[test]
fn a_busy_responder_wants_its_cookie_back_first() {
    let [left, right] = pair();
    let settings = Settings { cookie_threshold: 0, ..Settings::default() };
    let mut network = Network::new(3, [vec![left], vec![right]], settings);
    let lengths = Rc::new(RefCell::new(Vec::new()));
    let seen = lengths.clone();
    network.tap = Box::new(move |from, datagram| {
        seen.borrow_mut().push((from, datagram.len()));
        true
    });
    network.connect();
    assert!(network.passes());
    let lengths = lengths.borrow();
    // IKE_SA_INIT, COOKIE, IKE_SA_INIT with it, answer, IKE_AUTH, answer.
    assert_eq!(lengths.len(), 6);
    assert!(lengths[1].1 < lengths[0].1, "the cookie is no longer than the request");
    assert_eq!(lengths[2].1, lengths[0].1 + 8 + 17);
}

#[test]
fn a_wrong_psk_is_named_on_both_sides() {
    let [left, mut right] = pair();
    right.psk = b"another secret, just as long";
    let mut network = Network::new(4, [vec![left], vec![right]], Settings::default());
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(second());
    assert_eq!(network.hosts[0].failures, [Failure::AuthenticationFailed(Side::Peer)]);
    assert_eq!(network.hosts[1].failures, [Failure::AuthenticationFailed(Side::Here)]);
    network.run_for(Duration::from_secs(60));
    assert_eq!(network.hosts[1].endpoint.ike_sas().count(), 0);
}

#[test]
fn an_empty_psk_establishes_nothing_and_is_named_by_who_has_it() {
    let keys = [b"".as_slice(), &[0; 32]];
    for (empty, key) in
        [[true, true], [true, false], [false, true]].into_iter().flat_map(|empty| keys.map(|key| (empty, key)))
    {
        let mut peers = pair();
        for (peer, empty) in peers.iter_mut().zip(empty) {
            peer.psk = if empty { key } else { peer.psk };
        }
        let mut network = Network::new(4, peers.map(|peer| vec![peer]), Settings::default());
        network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
        network.run_for(Duration::from_secs(60));
        let [left, right] = &network.hosts;
        let (ours, theirs) = match empty {
            [true, _] => (Failure::EmptyKey, Failure::HalfOpenTimeout),
            _ => (Failure::AuthenticationFailed(Side::Peer), Failure::EmptyKey),
        };
        assert_eq!((&left.failures, &right.failures), (&vec![ours], &vec![theirs]), "{empty:?}");
        assert!(network.hosts.iter().all(|host| host.endpoint.ike_sas().next().is_none()), "{empty:?}");
    }
}

#[test]
fn an_unknown_identity_is_named_by_the_responder_only() {
    let [mut left, right] = pair();
    left.local_id = "stranger.example";
    let mut network = Network::new(5, [vec![left], vec![right]], Settings::default());
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(second());
    assert_eq!(network.hosts[0].failures, [Failure::AuthenticationFailed(Side::Peer)]);
    assert_eq!(network.hosts[1].failures, [Failure::UnknownIdentity]);
}

#[test]
fn a_responder_with_another_identity_is_told_and_forgets() {
    let [left, mut right] = pair();
    right.local_id = "impostor.example";
    let mut network = Network::new(6, [vec![left.clone()], vec![right]], Settings::default());
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(second());
    // It answers as who it is (RFC 7296 §3.5), and we do not want that one.
    assert_eq!(network.hosts[0].failures, [Failure::WrongIdentity]);
    assert_eq!(network.hosts[1].failures, [Failure::AuthenticationFailed(Side::Peer)]);
    assert!(network.hosts.iter().all(|host| host.ike().is_none()));
}

#[test]
fn no_common_proposal_names_what_is_missing() {
    let [mut left, mut right] = pair();
    left.ike = vec![IkeProposal::parse("aes128gcm16-prfsha256-x25519").unwrap()];
    right.ike = vec![IkeProposal::parse("aes256gcm16-prfsha256-x25519").unwrap()];
    let mut network = Network::new(8, [vec![left], vec![right]], Settings::default());
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(Duration::from_millis(400));
    // Unproven, so it is told at once, and the end of the attempt when no better answer came.
    assert_eq!(network.hosts[0].noted, [Failure::ProposalsRefused]);
    let [Failure::NoProposalInCommon(mismatch)] = &network.hosts[1].failures[..] else {
        panic!("{:?}", network.hosts[1].failures)
    };
    let text = mismatch.to_string();
    assert!(text.contains("256") && text.contains("128"), "{text}");
    assert_eq!(network.hosts[1].endpoint.ike_sas().count(), 0, "a refusal leaves no state");
    network.run_for(Duration::from_secs(20));
    assert_eq!(network.hosts[0].failures, [Failure::ProposalsRefused]);
}

#[test]
fn traffic_selectors_are_narrowed_by_the_responder() {
    let [mut left, right] = pair();
    left.children = vec![child(0, &["10.0.0.0/8"], &["10.0.0.0/8"], "aes256gcm16")];
    let mut network = Network::new(9, [vec![left], vec![right]], Settings::default());
    network.connect();
    assert!(network.passes());
    let installed = network.hosts[0].installed.values().next().unwrap();
    assert_eq!(installed.local, selectors(&["10.1.0.0/16"]));
    assert_eq!(installed.remote, selectors(&["10.2.0.0/16"]));
}

#[test]
fn unacceptable_selectors_leave_the_ike_sa_alive() {
    let [mut left, right] = pair();
    left.children = vec![child(0, &["172.16.0.0/16"], &["10.2.0.0/16"], "aes256gcm16")];
    let mut network = Network::new(10, [vec![left], vec![right]], Settings::default());
    network.connect();
    assert_eq!(network.hosts[0].failures, [Failure::TrafficSelectors]);
    let [Failure::NoSelectorsInCommon(asked)] = &network.hosts[1].failures[..] else {
        panic!("{:?}", network.hosts[1].failures)
    };
    assert_eq!((asked.local, asked.more), (Some(selectors(&["10.2.0.0/16"])[0]), false));
    assert_eq!(asked.remote, Some(selectors(&["172.16.0.0/16"])[0]), "what the peer wants is told");
    assert!(network.hosts.iter().all(|host| host.installed.is_empty() && host.ike().is_some()));
}

#[test]
fn several_selectors_and_several_children_share_an_ike_sa() {
    let [mut left, mut right] = pair();
    left.children = vec![
        child(0, &["10.1.0.0/16", "fd01::/64"], &["10.2.0.0/16", "fd02::/64"], "aes256gcm16"),
        child(1, &["192.168.1.0/24"], &["192.168.2.0/24", "192.168.3.0/24"], "aes128gcm16-x25519"),
    ];
    right.children = vec![
        child(0, &["192.168.2.0/24", "192.168.3.0/24"], &["192.168.1.0/24"], "aes128gcm16-x25519"),
        child(1, &["10.2.0.0/16", "fd02::/64"], &["10.1.0.0/16", "fd01::/64"], "aes256gcm16"),
    ];
    let mut network = Network::new(11, [vec![left], vec![right]], Settings::default());
    network.connect();
    let ike = network.hosts[0].ike_id();
    network.hosts[0].endpoint.create_child(network.now, ike, ike_core::pad::ChildConfigId(1)).unwrap();
    network.run_for(second());
    assert!(network.passes());
    network.agree().unwrap();
    assert_eq!(network.hosts[1].installed.len(), 2);
    assert_eq!(network.hosts[0].installed.values().map(|child| child.remote.len()).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_nat_in_between_moves_everything_to_port_4500() {
    let [mut left, mut right] = pair();
    right.remote = None;
    left.remote = Some("192.0.2.2:500".parse().unwrap());
    let mut network = Network::new(12, [vec![left], vec![right]], Settings::default());
    network.nat = Some("203.0.113.7:1024".parse().unwrap());
    network.connect();
    let [left, right] = &network.hosts;
    assert_eq!(left.ike().unwrap().path.remote.port(), 4500);
    assert!(left.ike().unwrap().nat.local && right.ike().unwrap().nat.remote);
    assert_eq!(right.ike().unwrap().path.remote, "203.0.113.7:1024".parse().unwrap());
    assert!(left.installed.values().chain(right.installed.values()).all(|child| child.encap == Encap::Udp));
}

#[test]
fn forced_encapsulation_makes_both_sides_encapsulate() {
    for forced in 0..2 {
        let mut pair = pair();
        pair[forced].force_encap = true;
        let [left, right] = pair;
        let mut network = Network::new(13, [vec![left], vec![right]], Settings::default());
        network.connect();
        for host in &network.hosts {
            assert!(host.installed.values().all(|child| child.encap == Encap::Udp), "forced by {forced}");
            assert_eq!(host.ike().unwrap().path.remote.port(), 4500);
        }
    }
}

#[test]
fn a_silent_peer_is_named_with_the_exchange() {
    let [left, right] = pair();
    let mut network = Network::new(14, [vec![left], vec![right]], Settings::default());
    network.tap = Box::new(|_, _| false);
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(Duration::from_secs(60));
    let exchange = ike_core::registry::ExchangeType::IKE_SA_INIT;
    assert_eq!(network.hosts[0].failures, [Failure::PeerSilent(exchange)]);
    assert_eq!(network.sent, 7);
}

#[test]
fn each_lost_message_of_the_handshake_is_repeated() {
    for lost in 0..4 {
        let [left, right] = pair();
        let mut network = Network::new(15, [vec![left], vec![right]], Settings::default());
        let mut count = 0;
        network.tap = Box::new(move |_, _| {
            count += 1;
            count != lost + 1
        });
        network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
        network.run_for(Duration::from_secs(3));
        assert!(network.passes(), "message {lost} lost");
        assert!(network.hosts[1].installed.values().all(|child| child.config == CHILD));
    }
}

#[test]
fn a_new_connection_takes_the_place_of_the_one_the_peer_lost() {
    let mut network = Network::connected(16);
    // The left host crashes and comes back without its SAs.
    let [left, _] = pair();
    network.hosts[0] = crate::network::Host::new(99, vec![left], Settings::default());
    network.connect();
    network.run_for(second());
    assert!(network.hosts[1].failures.contains(&Failure::Replaced));
    assert!(network.passes());
    network.agree().unwrap();
}

#[test]
fn initial_contact_of_one_client_leaves_another_one_alone() {
    let [left, mut right] = pair();
    right.remote = None;
    right.remote_id = None;
    let other = crate::network::Peer { local_id: "other.example", ..left.clone() };
    let mut network = Network::new(17, [vec![left, other], vec![right]], Settings::default());
    network.connect();
    // Both clients share the connection of the responder, and each comes for the first time.
    network.hosts[0].endpoint.initiate(network.now, ike_core::pad::PeerId(1), None).unwrap();
    network.run_for(second());
    assert!(network.hosts[1].failures.is_empty(), "{:?}", network.hosts[1].story);
    assert_eq!(network.hosts[1].endpoint.ike_sas().count(), 2);
}
