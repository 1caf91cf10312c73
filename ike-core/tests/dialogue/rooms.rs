//! Room for messages: what stays beside an SA, and what takes a block of the pool.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ike_core::crypto::Group;
use ike_core::endpoint::{Denied, Settings};
use ike_core::error::Discard;
use ike_core::pad::PeerId;
use ike_core::registry::ExchangeType;
use ipsec_core::net::Path;

use crate::hostile::peer::{in_clear, init_header, init_payloads, tell_at};
use crate::network::{CHILD, Host, Network, PEER, Peer, pair};

/// Octets of a message that are hardly enough for a Delete, and of one that does for a handshake.
const SHORT: usize = 160;
const LONG: usize = 1280;

fn between(left: Vec<Peer>, right: Vec<Peer>, rooms: [usize; 3]) -> Network {
    let mut network = Network::new(5, [vec![], vec![]], Settings::default());
    for (host, peers) in network.hosts.iter_mut().zip([left, right]) {
        *host = Host::with_rooms(71, peers, Settings::default(), [4, 4], rooms);
    }
    network
}

/// The two ends without checks for liveness.
fn quiet() -> [Peer; 2] {
    pair().map(|peer| Peer { dpd: Duration::ZERO, ..peer })
}

#[test]
fn an_answer_that_is_too_long_for_its_pair_is_repeated_as_long_as_blocks_are_not_rare() {
    for (rooms, stays) in [([SHORT, LONG, 2], false), ([SHORT, LONG, 3], true), ([LONG, LONG, 2], true)] {
        let [left, right] = quiet();
        let mut network = between(vec![left], vec![right], rooms);
        let said = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&said);
        network.tap = Box::new(move |from, datagram| {
            if datagram[18] == ExchangeType::IKE_AUTH.0 {
                heard.borrow_mut().push((from, datagram.clone()));
            }
            true
        });
        network.connect();
        let said = said.borrow().clone();
        let [(0, request), (1, answer)] = &said[..] else { panic!("{said:?}") };
        assert!(answer.len() > SHORT);
        let mut now = network.now;
        let host = &mut network.hosts[1];
        let path = host.ike().unwrap().path;
        let ask = |now, host: &mut Host| {
            let handled = host.endpoint.handle_datagram(now, path, &mut request.clone());
            (handled, host.endpoint.poll_transmit().map(|transmit| transmit.datagram.to_vec()))
        };
        assert_eq!(ask(now, host), (Ok(()), Some(answer.clone())), "the keys are there, and the answer still is");
        now = now + Duration::from_secs(31);
        assert_eq!(ask(now, host).1.as_ref(), Some(answer), "who asks for it gets it");
        let ike = host.ike_id();
        host.endpoint.check_liveness(now, ike).unwrap();
        assert!(host.endpoint.poll_transmit().is_some());
        host.check();
        let (handled, again) = ask(now, host);
        // It stays where nobody else wants the block, or where it costs none.
        assert_eq!((handled.is_ok(), again.is_some()), (stays, stays));
        network.now = now;
        network.run_for(Duration::from_secs(1));
        assert!(network.passes());
    }
}

#[test]
fn without_a_free_block_nothing_begins_and_what_stands_goes_on() {
    for blocks in [1, 2] {
        without_a_free_block(blocks);
    }
}

fn without_a_free_block(blocks: usize) {
    let [left, right] = quiet();
    let far =
        Peer { remote: Some("198.51.100.9:500".parse().unwrap()), remote_id: Some("far.example"), ..left.clone() };
    let mut network = between(vec![left, far], vec![right], [SHORT, LONG, blocks]);
    network.connect();
    // Nobody is there who would answer.
    network.tap = Box::new(|_, datagram| datagram[18] != ExchangeType::IKE_SA_INIT.0);
    let now = network.now;
    let [host, _] = &mut network.hosts;
    let attempt = host.endpoint.initiate(now, PeerId(1), None).unwrap();
    while host.endpoint.poll_transmit().is_some() {}
    assert_eq!(host.endpoint.initiate(now, PeerId(1), None), Err(Denied::Full));
    let stranger = in_clear(&init_header(9), &init_payloads(Group::Curve25519, &[9; 32]));
    let path = Path { remote: "198.51.100.7:500".parse().unwrap(), ..host.ike().unwrap().path };
    assert_eq!(tell_at(host, now, path, &stranger), (Err(Discard::NoRoom), vec![]));
    host.check();

    let (ike, child) = (network.hosts[0].ike_id(), network.hosts[0].sending[&CHILD]);
    network.hosts[0].endpoint.check_liveness(now, ike).unwrap();
    network.run_for(Duration::from_secs(1));
    assert!(network.passes() && network.hosts[0].ike().unwrap().waiting.is_none());
    // A rekey is long. It has the last of several blocks, or waits for better times.
    network.hosts[0].endpoint.rekey_child(network.now, child).unwrap();
    network.run_for(Duration::from_millis(500));
    assert!(network.passes(), "{:?}", network.hosts[0].story);
    assert_eq!(network.hosts[0].sending[&CHILD] == child, blocks == 1);
    network.hosts[0].endpoint.close(network.now, attempt).unwrap();
    network.run_for(Duration::from_secs(60));
    assert!(network.passes() && network.hosts[0].sending[&CHILD] != child, "{:?}", network.hosts[0].story);
    network.hosts[0].failures.clear();
    let again = network.hosts[0].endpoint.initiate(network.now, PEER, None);
    assert!(again.is_ok(), "{again:?}");
}
