//! Suites that the default engine does not have: messages under a cipher and a MAC, a key exchange that is a KEM.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ike_core::crypto::{CipherAlg, Group, IntegAlg, PrfAlg};
use ike_core::endpoint::Settings;
use ike_core::failure::Failure;
use ike_core::proposal::{EspProposal, IkeProposal};
use ike_core::registry::TransformType;
use ipsec_core::crypto::AeadAlg;

use crate::network::{Host, Network, PEER, Peer, pair};

const LATER: Duration = Duration::from_secs(5);

fn cipher_mac() -> IkeProposal {
    IkeProposal::cipher_mac(
        &[CipherAlg::Aes256Cbc],
        &[IntegAlg::HmacSha384, IntegAlg::HmacSha256],
        &[PrfAlg::HmacSha512],
        &[Group::Curve25519],
    )
}

/// Everything that an established IKE SA says: both rekeys from each side, a sign of life, a Delete.
fn live(network: &mut Network) {
    assert!(network.passes());
    for side in 0..2 {
        let ike = network.hosts[side].ike_id();
        network.hosts[side].endpoint.rekey_ike(network.now, ike).unwrap();
        network.run_for(LATER);
        let child = *network.hosts[side].sending.values().next().unwrap();
        network.hosts[side].endpoint.rekey_child(network.now, child).unwrap();
        network.run_for(Duration::from_secs(40));
        assert!(network.passes(), "{:?}", network.hosts[side].story);
        network.agree().unwrap();
    }
    network.run_for(Duration::from_secs(60));
    assert!(network.hosts.iter().all(|host| host.failures.is_empty() && host.ike().is_some()));
    assert_eq!(network.hosts[0].story.iter().filter(|line| *line == "ike rekeyed").count(), 2);
}

#[test]
fn an_ike_sa_lives_under_a_cipher_and_a_mac() {
    let ends = pair().map(|end| vec![Peer { ike: vec![cipher_mac()], ..end }]);
    let mut network = Network::new(41, ends, Settings::default());
    let lengths = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&lengths);
    network.tap = Box::new(move |_, datagram| {
        seen.borrow_mut().extend((datagram[16] == 46).then_some(datagram.len()));
        true
    });
    network.connect();
    live(&mut network);
    let suite = network.hosts[1].ike().unwrap().suite.unwrap();
    assert_eq!(suite.to_string(), "aes256-prfsha512-sha384-x25519");
    // IKE header, SK header, IV, whole blocks, ICV.
    assert!(
        lengths.borrow().iter().all(|len| (len - 28 - 4 - 16 - 24).is_multiple_of(16)) && lengths.borrow().len() > 10
    );
}

#[test]
fn what_a_cipher_and_a_mac_protect_arrives_through_faults_or_not_at_all() {
    let ends = pair().map(|end| vec![Peer { ike: vec![cipher_mac()], ..end }]);
    let mut network = Network::new(42, ends, Settings::default());
    network.connect();
    network.faults.corrupt = 30;
    network.faults.duplicate = 20;
    for _ in 0..10 {
        let Some(ike) = network.hosts[0].ike().map(|sa| sa.id) else { break };
        let _ = network.hosts[0].endpoint.rekey_ike(network.now, ike);
        network.run_for(Duration::from_secs(30));
    }
    network.faults = Default::default();
    network.run_for(Duration::from_secs(300));
    assert!(network.passes() && network.agree().is_ok(), "{:?}", network.hosts[0].story);
}

#[test]
fn whoever_has_an_aead_only_does_not_take_a_cipher() {
    let [mut left, mut right] = pair();
    left.ike = vec![cipher_mac()];
    let mut network = Network::new(43, [vec![left.clone()], vec![right.clone()]], Settings::default());
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(LATER);
    let [Failure::NoProposalInCommon(mismatch), ..] = &network.hosts[1].failures[..] else {
        panic!("{:?}", network.hosts[1].story)
    };
    assert_eq!(mismatch.kind, Some(TransformType::ENCR));
    assert!(mismatch.to_string().ends_with("peer's ENCR_AES_CBC/256"), "{mismatch}");
    // Beside it, as a proposal of its own, it is chosen by whoever prefers it.
    left.ike.push(IkeProposal::default());
    right.ike.push(cipher_mac());
    let mut network = Network::new(44, [vec![left], vec![right]], Settings::default());
    network.connect();
    assert!(network.hosts[0].ike().unwrap().suite.unwrap().to_string().starts_with("aes256gcm16-"));
}

/// Two hosts whose key exchanges are a KEM, with messages that have room for it.
fn kem(seed: u64) -> Network {
    let ends = pair().map(|mut end| {
        end.ike = vec![IkeProposal::aead(&[AeadAlg::Aes256Gcm16], &[PrfAlg::HmacSha256], &[Group::MlKem768])];
        end.children[0].esp = vec![EspProposal::aead(&[AeadAlg::Aes256Gcm16], &[Some(Group::MlKem768)], &[])].leak();
        vec![end]
    });
    let mut network = Network::new(seed, [vec![], vec![]], Settings::default());
    for (host, (end, seed)) in network.hosts.iter_mut().zip(ends.into_iter().zip([seed, seed + 1])) {
        *host = Host::sized(seed, end, Settings::default(), [12, 16, 2048]);
    }
    network
}

#[test]
fn a_kem_makes_the_keys_of_ike_sas_and_of_their_children() {
    let mut network = kem(45);
    network.connect();
    live(&mut network);
    let suite = network.hosts[0].ike().unwrap().suite.unwrap();
    assert_eq!(suite.to_string(), "aes256gcm16-prfsha256-ML_KEM_768");
    let child = network.hosts[0].installed.values().next().unwrap();
    assert_eq!(child.suite, "aes256gcm16-ML_KEM_768-esn");
}

#[test]
fn an_answer_that_is_no_kem_s_costs_neither_secret_nor_sa() {
    let mut network = kem(47);
    let answers = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&answers);
    network.tap = Box::new(move |from, datagram| {
        let answer = from == 1 && datagram[18] == 34;
        kept.borrow_mut().extend(answer.then(|| datagram.clone()));
        !answer
    });
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(Duration::from_secs(1));
    let genuine = answers.borrow()[0].clone();
    // The KE payload, whose length is at 2 and 3, loses its last octet, and its message with it.
    let ke = genuine.windows(8).position(|at| at[2..] == [0x04, 0x48, 0, 36, 0, 0]).unwrap();
    let mut forged = genuine.clone();
    forged.remove(ke + 4 + 4 + 1087);
    forged[ke + 3] -= 1;
    let len = u32::try_from(forged.len()).unwrap();
    forged[24..28].copy_from_slice(&len.to_be_bytes());
    let path = network.hosts[0].endpoint.ike_sas().next().unwrap().path;
    for answer in [forged, genuine] {
        let handled = network.hosts[0].endpoint.handle_datagram(network.now, path, &mut answer.clone());
        assert_eq!(handled, Ok(()));
        network.hosts[0].listen();
    }
    network.run_for(Duration::from_secs(1));
    assert_eq!(network.hosts[0].noted, [Failure::BadKeyExchange]);
    assert!(network.passes(), "{:?}", network.hosts[0].story);
}

#[test]
fn a_cookie_goes_before_the_same_request() {
    let mut network = kem(49);
    let requests = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&requests);
    network.tap = Box::new(move |from, datagram| {
        seen.borrow_mut().extend((from == 0 && datagram[18] == 34).then(|| datagram.clone()));
        true
    });
    let [_, right] = pair();
    let end = network.hosts[1].endpoint.pad().0[0].clone();
    assert_eq!(end.local, right.local);
    let settings = Settings { cookie_threshold: 0, ..Settings::default() };
    network.hosts[1] = Host::sized(50, vec![end], settings, [12, 16, 2048]);
    network.connect();
    assert!(network.passes());
    let requests = requests.borrow();
    let [first, second] = &requests[..] else { panic!("{} requests", requests.len()) };
    let cookie = usize::from(u16::from_be_bytes([second[30], second[31]]));
    assert_eq!((second[16], &second[36 - 2..36]), (41, &[0x40, 0x06][..]), "a COOKIE");
    assert_eq!(second[28], first[16]);
    assert_eq!(second[28 + cookie..], first[28..], "and all else as it was");
}

#[test]
fn a_child_under_a_cipher_and_a_mac_has_keys_of_their_lengths_on_both_sides() {
    for (seed, (cipher, integ)) in [
        (51, (CipherAlg::Aes128Cbc, IntegAlg::HmacSha256)),
        (52, (CipherAlg::Aes256Cbc, IntegAlg::HmacSha512)),
        (53, (CipherAlg::Aes192Cbc, IntegAlg::HmacSha384)),
    ] {
        let ends = pair().map(|mut end| {
            let groups = [Some(Group::Curve25519), Some(Group::Ecp256)];
            end.children[0].esp = vec![EspProposal::cipher_mac(&[cipher], &[integ], &groups, &[true])].leak();
            vec![end]
        });
        let mut network = Network::new(seed, ends, Settings::default());
        network.connect();
        live(&mut network);
        for host in &network.hosts {
            let child = host.installed.values().next().unwrap();
            let lengths = cipher.key_len() + integ.key_len();
            assert_eq!((child.key_in.len(), child.key_out.len()), (lengths, lengths), "{}", child.suite);
            assert!(child.suite.starts_with("aes"), "{}", child.suite);
        }
    }
}

#[test]
fn a_child_of_a_cipher_beside_one_of_an_aead_is_what_the_responder_prefers() {
    let cipher = EspProposal::cipher_mac(&[CipherAlg::Aes256Cbc], &[IntegAlg::HmacSha256], &[], &[]);
    for (seed, cipher_first) in [(55, true), (56, false)] {
        let [mut left, mut right] = pair();
        let both = [cipher.clone(), EspProposal::default()];
        left.children[0].esp = both.to_vec().leak();
        let [one, other] = both;
        right.children[0].esp = if cipher_first { vec![one, other].leak() } else { vec![other, one].leak() };
        let mut network = Network::new(seed, [vec![left], vec![right]], Settings::default());
        network.connect();
        assert!(network.passes());
        let suite = &network.hosts[0].installed.values().next().unwrap().suite;
        assert_eq!(suite.starts_with("aes256-sha256"), cipher_first, "{suite}");
    }
}
