//! Room for messages: what stays beside an SA, and what takes a block of the pool.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ike_core::auth::ask::Answer;
use ike_core::child::ChildSlot;
use ike_core::crypto::Group;
use ike_core::endpoint::{Denied, Endpoint, IkeSlot, IndexBlock, Settings, Storage};
use ike_core::error::{Discard, WrongSize};
use ike_core::failure::Failure;
use ike_core::pad::PeerId;
use ike_core::proposal::IkeProposal;
use ike_core::registry::{ExchangeType, PayloadType};
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::net::Path;

use crate::engine::Engine;
use crate::hostile::peer::{
    NOW, Payloads, SUITE, Scripted, in_clear, init_header, init_payloads, init_request, path_of, payload, tell_at,
    transmits, with_body,
};
use crate::network::{CHILD, Connections, Host, Method, Network, PEER, Peer, Seed, pair};

/// Octets of a message that are hardly enough for a Delete, and of one that does for a handshake.
const SHORT: usize = 160;
const LONG: usize = 1280;
/// Octets of a non-ESP marker, and of the host's nonces.
const MARKER: usize = 4;
const NONCE: usize = 32;

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
        now = now + Duration::from_secs(31);
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
fn a_long_answer_that_is_long_done_with_keeps_no_handshake_out() {
    let [left, right] = quiet();
    let mut network = between(vec![left], vec![right], [SHORT, LONG, 2]);
    network.connect();
    let stranger = in_clear(&init_header(9), &init_payloads(Group::Curve25519, &[9; 32]));
    let way = network.hosts[1].ike().unwrap().path;
    let path = Path { remote: "198.51.100.7:500".parse().unwrap(), ..way };
    let called = |network: &mut Network| tell_at(&mut network.hosts[1], network.now, path, &stranger);
    assert_eq!(called(&mut network), (Err(Discard::NoRoom), vec![]));
    network.run_for(Settings::default().orphan);
    let (handled, sent) = called(&mut network);
    assert_eq!((handled, sent.len()), (Ok(()), 1));
    assert!(network.passes());
}

#[test]
fn a_stranger_shows_its_address_for_the_last_block_that_handshakes_may_have() {
    for (blocks, asked) in [(1, true), (2, true), (3, false)] {
        let [_, right] = quiet();
        let mut host = Host::with_rooms(72, vec![right], Settings::default(), [4, 4], [SHORT, LONG, blocks]);
        let hello = init_request(9, &[9; 32], LONG / 2);
        let (handled, sent) = tell_at(&mut host, NOW, path_of(false), &hello);
        assert_eq!((handled, sent.len()), (Ok(()), 1), "{blocks} blocks");
        assert_eq!(host.endpoint.occupancy().ike_sas == 0, asked, "{blocks} blocks");
    }
}

#[test]
fn an_answer_that_is_longer_than_what_it_answers_takes_no_last_block_either() {
    let hello = with_body(&init_payloads(Group::Curve25519, &[9; 32]), PayloadType::NONCE, &[7; 16]);
    let detection = |kind: u8, rest: &Payloads| payload(41, 0, &[&[0, 0, 0x40, kind], &[1; 20][..]].concat(), rest);
    let hello = in_clear(&init_header(9), &detection(4, &detection(5, &hello)));
    for (spare, asked) in [(0, true), (NONCE - 16, false)] {
        let [_, right] = quiet();
        let rooms = [hello.len() + MARKER + spare, LONG, 2];
        let mut host = Host::with_rooms(72, vec![right], Settings::default(), [4, 4], rooms);
        let (handled, sent) = tell_at(&mut host, NOW, path_of(false), &hello);
        assert_eq!((handled, sent.len()), (Ok(()), 1));
        assert_eq!(host.endpoint.occupancy().ike_sas == 0, asked, "{spare}");
    }
}

#[test]
fn more_children_than_one_short_message_can_name_go_one_after_the_other_and_nothing_else_does() {
    let [left, right] = quiet();
    let far =
        Peer { remote: Some("198.51.100.9:500".parse().unwrap()), remote_id: Some("far.example"), ..left.clone() };
    let mut network = between(vec![], vec![], [SHORT, LONG, 1]);
    for (host, peers) in network.hosts.iter_mut().zip([vec![left, far], vec![right]]) {
        *host = Host::with_rooms(73, peers, Settings::default(), [4, 40], [SHORT, LONG, 1]);
    }
    network.connect();
    let ike = network.hosts[0].ike_id();
    for _ in 0..30 {
        network.hosts[0].endpoint.create_child(network.now, ike, CHILD).unwrap();
        network.run_for(Duration::from_secs(1));
    }
    assert!(network.hosts[0].installed.len() > 22, "{:?}", network.hosts[0].story);
    network.run_for(Duration::from_secs(31));
    // Nobody is there who would answer, and that has the only block of handshakes.
    network.tap = Box::new(|_, datagram| datagram[18] != ExchangeType::IKE_SA_INIT.0);
    network.hosts[0].endpoint.initiate(network.now, PeerId(1), None).unwrap();
    let hold = network.hosts[0].endpoint.initiate(network.now, PeerId(1), None);
    assert_eq!(hold, Err(Denied::Full));
    let children: Vec<_> = network.hosts[0].installed.keys().copied().collect();
    for child in children {
        network.hosts[0].endpoint.close_child(network.now, child).unwrap();
    }
    network.run_for(Duration::from_secs(5));
    assert_eq!(network.hosts[0].endpoint.occupancy().child_sas, 0);
    assert!(network.hosts[0].ike().is_some(), "{:?}", network.hosts[0].story);
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
    network.run_for(Duration::from_secs(10));
    assert!(network.passes() && network.hosts[0].sending[&CHILD] != child, "{:?}", network.hosts[0].story);
    network.hosts[0].failures.clear();
    let again = network.hosts[0].endpoint.initiate(network.now, PEER, None);
    assert!(again.is_ok(), "{again:?}");
}

#[test]
fn what_is_wished_for_while_no_block_is_free_waits_and_has_not_failed() {
    let [left, right] = quiet();
    let far =
        Peer { remote: Some("198.51.100.9:500".parse().unwrap()), remote_id: Some("far.example"), ..left.clone() };
    let mut network = between(vec![left, far], vec![right], [SHORT, LONG, 1]);
    network.connect();
    network.tap = Box::new(|_, datagram| datagram[18] != ExchangeType::IKE_SA_INIT.0);
    let now = network.now;
    let attempt = network.hosts[0].endpoint.initiate(now, PeerId(1), None).unwrap();
    let ike = network.hosts[0].ike().map(|sa| sa.id).unwrap();
    network.hosts[0].endpoint.create_child(now, ike, CHILD).unwrap();
    network.hosts[0].endpoint.rekey_ike(now, ike).unwrap();
    network.run_for(Duration::from_secs(5));
    let host = &mut network.hosts[0];
    assert_eq!((host.failures.as_slice(), host.installed.len()), ([].as_slice(), 1));
    host.endpoint.close(network.now, attempt).unwrap();
    network.run_for(Duration::from_secs(5));
    let host = &network.hosts[0];
    assert_eq!((host.failures.as_slice(), host.installed.len()), ([Failure::ClosedHere].as_slice(), 2));
    assert!(host.story.iter().any(|line| line == "ike rekeyed"), "{:?}", host.story);
}

#[test]
fn a_short_request_that_waits_is_repeated_as_it_was_when_a_long_answer_has_come_to_stand_beside_it() {
    let [left, right] = quiet();
    let far =
        Peer { remote: Some("198.51.100.9:500".parse().unwrap()), remote_id: Some("far.example"), ..left.clone() };
    let mut network = between(vec![left, far], vec![right], [SHORT, LONG, 4]);
    network.connect();
    network.run_for(Duration::from_secs(11));
    let now = network.now;
    let [host, other] = &mut network.hosts;
    let ike = host.ike_id();
    host.endpoint.check_liveness(now, ike).unwrap();
    let asked = transmits(host);
    // It has the block in which that was written.
    host.endpoint.initiate(now, PeerId(1), None).unwrap();
    transmits(host);
    let child = other.sending[&CHILD];
    other.endpoint.rekey_child(now, child).unwrap();
    let rekey = transmits(other);
    let (handled, answers) = tell_at(host, now, path_of(true), &rekey[0]);
    assert!(handled == Ok(()) && answers[0].len() > SHORT);
    host.endpoint.handle_timeout(now + Duration::from_secs(1));
    assert!(transmits(host).contains(&asked[0]));
}

#[test]
fn who_stands_still_keeps_its_block_for_the_answer() {
    let [left, right] = pair();
    let ike = vec![IkeProposal::parse(SUITE).unwrap()];
    let far = Peer { remote: Some("198.51.100.9:500".parse().unwrap()), remote_id: Some("far.example"), ..left };
    let right = Peer { method: Method::Signature, ike, ..right };
    // All that came so far is short.
    let mut host = Host::with_rooms(78, vec![right, far], Settings::default(), [4, 4], [LONG / 2, LONG, 1]);
    let mut peer = Scripted::initiate(&mut host, 749);
    let auth = peer.auth_payloads();
    let request = peer.seal(&peer.header(ExchangeType::IKE_AUTH, false, 1), &auth);
    assert_eq!(peer.tell(&mut host, &request), (Ok(()), vec![]));
    for answer in [Answer::Verdict(true), Answer::signature(&[0x51; LONG * 2 / 3])] {
        assert_eq!(host.endpoint.initiate(NOW, PeerId(1), None), Err(Denied::Full));
        let wait = host.signer.pending.pop().expect("a question").wait;
        host.endpoint.answer(NOW, wait, &answer).unwrap();
        host.listen();
    }
    let sent = transmits(&mut host);
    assert!(sent.len() == 1 && sent[0].len() > LONG / 2);
    assert_eq!((host.installed.len(), host.failures.as_slice()), (1, [].as_slice()));
}

#[test]
fn what_eap_needs_later_is_kept_while_others_work_in_the_blocks() {
    for rooms in [[SHORT, LONG, 4], [LONG / 2, LONG, 4], [LONG, LONG, 4]] {
        let [left, right] = quiet().map(|end| Peer { method: Method::Eap, ..end });
        let mut network = between(vec![left], vec![right], rooms);
        network.hosts.iter_mut().for_each(|host| host.signer.delay = Some(Duration::from_millis(70)));
        for _ in 0..2 {
            network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
            network.run_for(Duration::from_millis(35));
        }
        network.run_for(Duration::from_secs(5));
        for host in &network.hosts {
            let up = host.story.iter().filter(|line| line.starts_with("established")).count();
            assert_eq!((up, host.failures.as_slice()), (2, [].as_slice()), "{rooms:?} {:?}", host.story);
        }
    }
}

#[test]
fn what_has_the_wrong_size_is_named() {
    let made = |[sas, children, index, pairs, pool, blocks]: [usize; 6]| {
        let storage = Storage {
            sas: &mut (0..sas).map(|_| IkeSlot::EMPTY).collect::<Vec<_>>(),
            children: &mut (0..children).map(|_| ChildSlot::EMPTY).collect::<Vec<_>>(),
            index: &mut (0..index).map(|_| IndexBlock::EMPTY).collect::<Vec<_>>(),
            pairs: &mut vec![0; pairs],
            pool: &mut vec![0; pool],
            blocks,
        };
        Endpoint::new(Engine::new(Seed(1), Packets), Connections::default(), storage, Settings::default()).err()
    };
    let good = [4, 4, IndexBlock::needed(4, 4), 4 * 2 * 160, 2 * 580, 1];
    assert_eq!(made(good), None);
    for (part, size, why) in [
        (0, 0, WrongSize::Sas),
        (1, 0x1_0000, WrongSize::Children),
        (2, good[2] - 1, WrongSize::Index),
        (2, 0, WrongSize::Index),
        (3, good[3] - 1, WrongSize::Pairs),
        (4, good[4] - 1, WrongSize::Pool),
        (5, 0, WrongSize::Blocks),
    ] {
        let mut sizes = good;
        sizes[part] = size;
        assert_eq!(made(sizes), Some(why), "{sizes:?}");
    }
}
