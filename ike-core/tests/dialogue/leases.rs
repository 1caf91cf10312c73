//! Addresses that whoever has them leases to a peer for as long as its IKE SA lives (RFC 7296 §2.19).

use std::time::Duration;

use ike_core::auth::ask::{Answer, Lease};
use ike_core::endpoint::{Denied, Settings};
use ike_core::failure::Failure;
use ike_core::registry::NotifyKind;
use ipsec_core::net::TrafficSelector;

use crate::network::{CHILD, Faults, Host, Method, Network, PEER, Peer, child, pair, selectors};
use crate::signer::{Said, lease};

const SECOND: Duration = Duration::from_secs(1);
const NO_ADDRESS: Failure = Failure::Notified(NotifyKind::INTERNAL_ADDRESS_FAILURE);

/// The right end leases addresses to the left one.
fn ends(method: Method) -> [Peer; 2] {
    let [left, right] = pair();
    [Peer { method, ..left }, Peer { method, leases: true, ..right }]
}

fn network(seed: u64, method: Method) -> Network {
    Network::new(seed, ends(method).map(|end| vec![end]), Settings::default())
}

fn address(lease: Lease) -> Vec<TrafficSelector> {
    selectors(&[&format!("{}/32", lease.v4.unwrap())]).to_vec()
}

/// What is leased now, and that all children are for that.
fn leased(network: &Network) -> Lease {
    let [left, right] = &network.hosts;
    let held: Vec<_> = right.signer.leased.iter().copied().collect();
    assert_eq!(held.len(), 1, "{:?}", right.story);
    assert!(right.installed.values().all(|child| child.remote == address(held[0])), "{:?}", right.installed);
    assert!(left.installed.values().all(|child| child.local == address(held[0])), "{:?}", left.installed);
    held[0]
}

#[test]
fn a_lease_is_held_through_loss_and_rekeys_and_given_back_once() {
    let mut up = 0;
    for seed in 0..200 {
        let method = [Method::Psk, Method::Signature, Method::Eap][seed as usize % 3];
        let mut network = network(4_000 + seed, method);
        network.faults = Faults { loss: 15, duplicate: 20, reorder: 20, corrupt: 0 };
        for host in &mut network.hosts {
            host.signer.delay = Some(Duration::from_millis(network.seed.below(2_000)));
        }
        network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
        network.run_for(90 * SECOND);
        if network.hosts.iter().all(|host| host.ike().is_some()) {
            up += 1;
            let first = leased(&network);
            for round in 0..3 {
                // Now and then both at once, so that they cross.
                for host in &mut network.hosts {
                    let (now, ike) = (network.now, host.ike().map(|ike| ike.id));
                    match (network.seed.below(4), ike, host.sending.get(&CHILD).copied()) {
                        (0 | 1, Some(ike), _) => drop(host.endpoint.rekey_ike(now, ike)),
                        (2, _, Some(child)) => drop(host.endpoint.rekey_child(now, child)),
                        _ => {}
                    }
                }
                network.run_for((1 + round) * SECOND);
                assert_eq!(network.hosts[1].signer.leased.len(), 1, "{seed} {:?}", network.hosts[1].story);
            }
            network.faults = Faults::default();
            network.run_for(200 * SECOND);
            if network.hosts[1].ike().is_some() {
                assert!(network.passes() && network.agree().is_ok(), "{seed} {:?}", network.hosts[0].story);
                assert_eq!(leased(&network), first, "the same, whoever rekeyed");
                let closes = network.seed.below(2) as usize;
                let (now, ike) = (network.now, network.hosts[closes].ike_id());
                match network.seed.below(2) {
                    0 => network.hosts[closes].endpoint.close(now, ike).unwrap(),
                    _ => network.hosts[closes].endpoint.abandon(now, ike, Failure::ClosedHere).unwrap(),
                }
                network.run_for(120 * SECOND);
            }
        }
        network.faults = Faults::default();
        network.run_for(200 * SECOND);
        let story = &network.hosts[1].story;
        assert!(network.hosts[1].signer.leased.is_empty(), "{seed} {story:?}");
        assert_eq!(network.hosts[1].signer.free.len(), 50, "{seed} {story:?}");
    }
    assert!(up > 150, "{up}");
}

#[test]
fn who_gets_no_address_gets_an_ike_sa_without_a_child() {
    for method in [Method::Psk, Method::Signature, Method::Eap] {
        let mut network = network(4_300, method);
        network.hosts[1].signer.free.clear();
        network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
        network.run_for(5 * SECOND);
        for host in &network.hosts {
            assert_eq!(host.failures, [NO_ADDRESS], "{method:?} {:?}", host.story);
            assert!(host.ike().is_some() && host.installed.is_empty());
        }
        // Nor does it later, whoever asks.
        for asks in [0, 1] {
            let (now, ike) = (network.now, network.hosts[asks].ike_id());
            network.hosts[asks].endpoint.create_child(now, ike, CHILD).unwrap();
            network.run_for(5 * SECOND);
            assert_eq!(network.hosts[asks].failures.last(), Some(&NO_ADDRESS));
            assert!(network.hosts.iter().all(|host| host.installed.is_empty()));
        }
    }
}

#[test]
fn whoever_asks_for_another_child_stays_within_the_lease() {
    let mut network = network(4_310, Method::Psk);
    network.connect();
    let held = leased(&network);
    for asks in [0, 1] {
        let (now, ike) = (network.now, network.hosts[asks].ike_id());
        network.hosts[asks].endpoint.create_child(now, ike, CHILD).unwrap();
        network.run_for(5 * SECOND);
        assert_eq!(network.hosts.each_ref().map(|host| host.installed.len()), [2 + asks; 2]);
        assert_eq!(leased(&network), held);
    }
}

#[test]
fn where_the_lease_leaves_nothing_to_ask_for_nothing_is_asked() {
    let mut network = network(4_315, Method::Psk);
    network.connect();
    let (now, ike) = (network.now, network.hosts[1].ike_id());
    let elsewhere = child(0, &["10.2.0.0/16"], &["10.9.0.0/16"], "aes256gcm16-x25519");
    network.hosts[1].endpoint.pad_mut().0[0].children = vec![elsewhere];
    network.hosts[1].endpoint.create_child(now, ike, CHILD).unwrap();
    network.run_for(5 * SECOND);
    assert_eq!(network.hosts[1].failures, [NO_ADDRESS]);
    assert!(network.passes() && network.hosts[1].ike_id() == ike, "{:?}", network.hosts[1].story);
}

#[test]
fn a_packet_that_the_lease_does_not_cover_is_not_asked_for() {
    let mut network = network(4_316, Method::Psk);
    network.connect();
    let (now, ike) = (network.now, network.hosts[1].ike_id());
    let packet = (selectors(&["10.2.0.1/32"])[0], selectors(&["10.1.0.99/32"])[0]);
    network.hosts[1].endpoint.create_child_for(now, ike, CHILD, packet).unwrap();
    network.run_for(5 * SECOND);
    leased(&network);
    assert!(network.hosts.iter().all(|host| host.failures.is_empty()), "{:?}", network.hosts[1].story);
}

#[test]
fn who_is_called_leases_and_who_calls_does_not() {
    let mut network = network(4_320, Method::Psk);
    network.hosts[1].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(5 * SECOND);
    assert!(network.passes() && network.hosts[1].signer.asked == 0, "{:?}", network.hosts[1].story);
}

#[test]
fn a_lease_that_nobody_took_stays_with_whoever_has_it() {
    for late in [false, true] {
        let mut network = network(4_330, Method::Psk);
        network.hosts[1].signer.delay = None;
        network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
        network.run_for(SECOND);
        let pending = network.hosts[1].signer.pending.remove(0);
        assert!(matches!(pending.said, Said::Lease(Some(_))), "{:?}", pending.said);
        let right = &mut network.hosts[1];
        for wrong in [Answer::Verdict(true), Answer::Eap(b"no"), Answer::signature(b"no")] {
            assert_eq!(right.endpoint.answer(network.now, pending.wait, &wrong), Err(Denied::UnknownSa), "{wrong:?}");
        }
        if late {
            network.run_for(60 * SECOND);
            assert_eq!(network.hosts[1].failures, [Failure::SignerSilent]);
        } else {
            // The connection goes meanwhile: it is taken, and given back with the end.
            right.endpoint.pad_mut().0.clear();
        }
        let (now, right) = (network.now, &mut network.hosts[1]);
        let taken = right.endpoint.answer(now, pending.wait, &pending.said.answer()).is_ok();
        assert_eq!(taken, !late);
        right.signer.answered(&pending.said, taken);
        network.settle();
        let story = &network.hosts[1].story;
        assert_eq!(story.iter().filter(|line| *line == "lease over").count(), usize::from(!late), "{story:?}");
        assert_eq!(network.hosts[1].signer.free.len(), 50);
    }
}

#[test]
fn where_no_child_has_room_the_lease_is_held_all_the_same() {
    let [left, right] = ends(Method::Psk);
    let mut network = Network::new(4_340, [vec![left], vec![right.clone()]], Settings::default());
    network.hosts[1] = Host::sized(4_341, vec![right], Settings::default(), [4, 1, 1280]);
    network.connect();
    assert_eq!(leased(&network), lease(1));
    // Another call of the same peer has another lease and no room for a child; the oldest goes when the peer holds too many.
    for calls in 1..5 {
        network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
        network.run_for(20 * SECOND);
        let right = &network.hosts[1];
        assert_eq!(right.signer.leased.len(), right.endpoint.ike_sas().count(), "{calls} {:?}", right.story);
        let told = |what: &str| right.story.iter().filter(|line| line.starts_with(what)).count();
        assert_eq!((told("closed"), told("lease over")), (calls.max(2) - 2, calls.max(2) - 2), "{:?}", right.story);
    }
}
