//! IKE_AUTH that stands still until whoever holds the keys has answered, and that goes on for more than one round trip
//! (RFC 7296 §2.15, §2.16).

use std::time::Duration;

use ike_core::auth::ask::Answer;
use ike_core::clock::{Now, UnixTime};
use ike_core::crypto::Group;
use ike_core::endpoint::{Denied, Occupancy, Settings};
use ike_core::error::Discard;
use ike_core::event::WaitId;
use ike_core::failure::{Failure, Side};
use ike_core::registry::{ExchangeType, NotifyKind, PayloadType};
use ike_core::wire::chain::Chain;
use ipsec_core::time::Instant;

use crate::hostile::peer::{
    NOTHING, NOW, Payloads, Scripted, clear_payloads, host, in_clear, init_header, init_payloads, notifies, path_of,
    payload, tell_at, transmits, with_body, without,
};
use crate::network::{Faults, Host, Method, Network, PEER, Peer, pair};
use crate::signer::{MSK, Pending, Said};

const AUTH: ExchangeType = ExchangeType::IKE_AUTH;
const SECOND: Duration = Duration::from_secs(1);

fn network(seed: u64, method: Method, settings: Settings) -> Network {
    Network::new(seed, pair().map(|end| vec![Peer { method, ..end }]), settings)
}

/// The scripted peer's other end, with this method.
fn asking(initiator: bool, method: Method) -> Host {
    let mut host = host(initiator);
    host.endpoint.pad_mut().0[0].method = method;
    host
}

fn vacated(host: &mut Host, now: Instant) {
    for seconds in [60, 120] {
        host.endpoint.handle_timeout(now + Duration::from_secs(seconds));
        host.listen();
    }
    assert_eq!(host.endpoint.occupancy(), Occupancy::default(), "{:?}", host.story);
}

#[test]
fn whoever_takes_its_time_for_a_signature_makes_an_sa_like_any_other() {
    for (seed, delay) in [(700, 0), (701, 700), (702, 5_000), (703, 8_000)] {
        let mut network = network(seed, Method::Signature, Settings::default());
        network.hosts.iter_mut().for_each(|host| host.signer.delay = Some(Duration::from_millis(delay)));
        network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
        network.run_for(Duration::from_millis(5 * delay) + SECOND);
        assert!(network.passes(), "{:?}", network.hosts.each_ref().map(|host| host.story.clone()));
        network.agree().unwrap();
        // Each proved itself once and judged the other once, however often the initiator repeated its request.
        assert_eq!(network.hosts.each_ref().map(|host| host.signer.asked), [2, 2]);
        let ike = network.hosts[1].ike_id();
        network.hosts[1].endpoint.rekey_ike(network.now, ike).unwrap();
        network.run_for(Duration::from_secs(40));
        assert!(network.passes() && network.agree().is_ok());
        assert!(network.hosts.iter().all(|host| host.failures.is_empty()), "{delay}");
    }
}

#[test]
fn eap_goes_on_for_as_many_round_trips_as_it_takes() {
    for (seed, rounds, delay) in [(710, 1, 0), (711, 3, 100), (712, 12, 900), (713, 60, 0)] {
        let mut network = network(seed, Method::Eap, Settings::default());
        for host in &mut network.hosts {
            (host.signer.rounds, host.signer.delay) = (rounds, Some(Duration::from_millis(delay)));
        }
        network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
        network.run_for(Duration::from_millis(u64::from(rounds) * (2 * delay + 40)) + 5 * SECOND);
        assert!(network.passes(), "{rounds} {:?}", network.hosts.each_ref().map(|host| host.story.clone()));
        network.agree().unwrap();
        network.run_for(Duration::from_secs(60));
        assert!(network.hosts.iter().all(|host| host.failures.is_empty()));
    }
}

#[test]
fn one_eap_message_too_many_ends_it() {
    let mut network = network(714, Method::Eap, Settings::default());
    network.hosts[1].signer.rounds = 200;
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(20 * SECOND);
    assert!(network.hosts.iter().all(|host| host.failures.len() == 1 && host.installed.is_empty()));
    assert!(network.hosts.iter().any(|host| host.failures == [Failure::NoRoom]), "{:?}", network.hosts[1].failures);
}

#[test]
fn loss_doubling_and_disorder_cost_time_and_nothing_else() {
    let mut up = 0;
    for seed in 0..200 {
        let method = if seed % 2 == 0 { Method::Signature } else { Method::Eap };
        let mut network = network(2_000 + seed, method, Settings::default());
        network.faults = Faults { loss: 15, duplicate: 20, reorder: 20, corrupt: 0 };
        for host in &mut network.hosts {
            host.signer.delay = Some(Duration::from_millis(network.seed.below(3_000)));
        }
        network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
        network.run_for(90 * SECOND);
        network.faults = Faults::default();
        network.run_for(200 * SECOND);
        if network.hosts[0].ike().is_some() {
            up += 1;
            assert!(network.passes() && network.agree().is_ok(), "{seed} {:?}", network.hosts[0].story);
        } else {
            assert!(network.hosts.iter().all(|host| host.installed.is_empty()), "{seed}");
        }
        for host in &network.hosts {
            assert!(!host.failures.contains(&Failure::AuthenticationFailed(Side::Here)), "{seed} {:?}", host.story);
        }
    }
    assert!(up > 150, "{up}");
}

#[test]
fn who_signs_with_another_name_is_nobody() {
    for method in [Method::Signature, Method::Eap] {
        for liar in [0, 1] {
            let mut network = network(720, method, Settings::default());
            if method == Method::Eap && liar == 0 {
                network.hosts[0].signer.msk = [0x78; 64];
            } else {
                network.hosts[liar].signer.instead = Some("mallory.example");
            }
            network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
            network.run_for(30 * SECOND);
            let failures = network.hosts.each_ref().map(|host| host.failures.clone());
            assert!(network.hosts.iter().all(|host| host.installed.is_empty()), "{method:?} {liar} {failures:?}");
            assert_eq!(failures[1 - liar], [Failure::AuthenticationFailed(Side::Here)], "{method:?} {liar}");
            network.run_for(60 * SECOND);
            let empty = |host: &Host| host.endpoint.occupancy() == Occupancy::default();
            assert!(network.hosts.iter().all(empty), "{method:?} {liar}");
        }
    }
}

#[test]
fn a_signer_that_never_answers_costs_a_slot_for_a_while() {
    for method in [Method::Signature, Method::Eap] {
        for silent in [0, 1] {
            let mut network = network(730, method, Settings::default());
            network.hosts[silent].signer.delay = None;
            network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
            network.run_for(60 * SECOND);
            let story = &network.hosts[silent].story;
            assert_eq!(network.hosts[silent].failures, [Failure::SignerSilent], "{method:?} {silent} {story:?}");
            let empty = |host: &Host| host.endpoint.occupancy() == Occupancy::default();
            assert!(network.hosts.iter().all(empty), "{method:?} {silent}");
            // What comes too late is for nobody.
            let pending = network.hosts[silent].signer.pending.remove(0);
            let late = network.hosts[silent].endpoint.answer(network.now, pending.wait, &pending.said.answer());
            assert_eq!(late, Err(Denied::UnknownSa));
        }
    }
}

/// What the host asked last.
fn question(host: &Host) -> (WaitId, Said) {
    let pending = host.signer.pending.last().expect("a question");
    (pending.wait, pending.said.clone())
}

/// Answers as it should be; what the host sends then.
fn answer(host: &mut Host) -> Vec<Vec<u8>> {
    let (wait, said) = question(host);
    assert_eq!(host.endpoint.answer(NOW, wait, &said.answer()), Ok(()));
    transmits(host)
}

#[test]
fn while_a_responder_waits_nothing_is_looked_at_and_nothing_answered() {
    let mut host = asking(false, Method::Signature);
    let mut peer = Scripted::initiate(&mut host, 740);
    let auth = peer.auth_payloads();
    let request = peer.seal(&peer.header(AUTH, false, 1), &auth);
    assert_eq!(peer.tell(&mut host, &request), (Ok(()), vec![]));
    let (first, _) = question(&host);
    let other = peer.seal(&peer.header(AUTH, false, 2), &auth);
    for message in [&request, &other, &request] {
        let mut octets = message.clone();
        let handled = host.endpoint.handle_datagram(NOW, peer.path, &mut octets);
        assert_eq!((handled, &octets), (Err(Discard::Unexpected), message), "it is not even decrypted");
        assert!(transmits(&mut host).is_empty());
    }
    assert_eq!(host.signer.asked, 1);
    // Answers of another kind, to a question before, or twice.
    for wrong in [Answer::signature(b"no"), Answer::Eap(b"no"), Answer::EapDone { last: &[], key: b"no" }] {
        assert_eq!(host.endpoint.answer(NOW, first, &wrong), Err(Denied::UnknownSa), "{wrong:?}");
    }
    host.endpoint.answer(NOW, first, &Answer::Verdict(true)).unwrap();
    assert!(transmits(&mut host).is_empty());
    for late in [Answer::Verdict(true), Answer::Verdict(false), Answer::Refused, Answer::signature(b"no")] {
        assert_eq!(host.endpoint.answer(NOW, first, &late), Err(Denied::UnknownSa), "{late:?}");
    }
    let sent = answer(&mut host);
    assert_eq!((sent.len(), host.installed.len()), (1, 1));
    // What is repeated now is answered as it was.
    assert_eq!(peer.tell(&mut host, &request), (Ok(()), sent));
    peer.next[0] = 2;
    assert!(peer.alive(&mut host));
}

#[test]
fn a_verdict_against_the_peer_is_answered_like_any_other_wrong_proof() {
    for no in [Answer::Verdict(false), Answer::Refused] {
        let mut host = asking(false, Method::Signature);
        let mut peer = Scripted::initiate(&mut host, 741);
        let auth = peer.auth_payloads();
        let request = peer.seal(&peer.header(AUTH, false, 1), &auth);
        let _ = peer.tell(&mut host, &request);
        host.endpoint.answer(NOW, question(&host).0, &no).unwrap();
        let sent = transmits(&mut host);
        assert_eq!(notifies(&peer.open(&sent[0])), [NotifyKind::AUTHENTICATION_FAILED]);
        assert_eq!(host.failures, [Failure::AuthenticationFailed(Side::Here)]);
        assert!(host.installed.is_empty() && host.ike().is_none());
        vacated(&mut host, NOW);
    }
}

/// The body of an AUTH payload with a signature.
fn claim(data: &[u8]) -> Vec<u8> {
    [&[14, 0, 0, 0], data].concat()
}

/// The AUTH payload of a message.
fn auth_of(Payloads(first, body): &Payloads) -> Vec<u8> {
    let mut chain = Chain::new(PayloadType(*first), body).map(Result::unwrap);
    chain.find(|payload| payload.kind == PayloadType::AUTH).expect("AUTH").body.to_vec()
}

/// The question that was asked last, no longer to be answered by itself.
fn taken(host: &mut Host) -> Pending {
    host.signer.pending.pop().expect("a question")
}

const CLOCKS: Now = Now { at: NOW, wall: Some(UnixTime(1_800_000_000)) };

#[test]
fn what_an_initiator_is_to_sign_and_to_judge_is_what_the_rfc_says() {
    let mut host = asking(true, Method::Signature);
    let (mut peer, sent) = Scripted::answer_asked(&mut host, 742);
    assert!(sent.is_empty(), "it waits for a proof");
    let (ours, theirs) = (peer.signed_by(true), peer.signed_by(false));
    let proof = taken(&mut host);
    assert_eq!(proof.said, Said::Proof(ours.signature(b"left.example")));
    host.endpoint.answer(CLOCKS, proof.wait, &Answer::signature(b"signed by somebody")).unwrap();
    let sent = transmits(&mut host);
    assert_eq!(auth_of(&peer.open(&sent[0])), claim(b"signed by somebody"));
    let auth = with_body(&peer.auth_payloads(), PayloadType::AUTH, &claim(&theirs.signature(b"right.example")));
    let message = peer.seal(&peer.header(AUTH, true, 1), &auth);
    host.endpoint.handle_datagram(CLOCKS, peer.path, &mut message.clone()).unwrap();
    assert!(transmits(&mut host).is_empty());
    let verdict = taken(&mut host);
    assert_eq!((verdict.said, verdict.wall), (Said::Verdict(true), CLOCKS.wall));
    host.endpoint.answer(NOW, verdict.wait, &Answer::Verdict(true)).unwrap();
    host.listen();
    assert_eq!(host.installed.len(), 1);
}

#[test]
fn what_a_responder_is_to_judge_and_to_sign_is_what_the_rfc_says() {
    let mut host = asking(false, Method::Signature);
    let mut peer = Scripted::initiate(&mut host, 743);
    let (theirs, ours) = (peer.signed_by(true), peer.signed_by(false));
    let auth = with_body(&peer.auth_payloads(), PayloadType::AUTH, &claim(&theirs.signature(b"left.example")));
    let message = peer.seal(&peer.header(AUTH, false, 1), &auth);
    host.endpoint.handle_datagram(CLOCKS, peer.path, &mut message.clone()).unwrap();
    assert!(transmits(&mut host).is_empty());
    let verdict = taken(&mut host);
    assert_eq!((verdict.said, verdict.wall), (Said::Verdict(true), CLOCKS.wall));
    host.endpoint.answer(NOW, verdict.wait, &Answer::Verdict(true)).unwrap();
    host.listen();
    let proof = taken(&mut host);
    // Whoever gives an instant only has no clock on the wall.
    assert_eq!((proof.said, proof.wall), (Said::Proof(ours.signature(b"right.example")), None));
    host.endpoint.answer(NOW, proof.wait, &Answer::signature(b"signed by somebody")).unwrap();
    let sent = transmits(&mut host);
    assert_eq!(auth_of(&peer.open(&sent[0])), claim(b"signed by somebody"));
    assert_eq!(host.installed.len(), 1);
}

#[test]
fn a_verdict_against_a_responder_is_told_to_it() {
    for no in [Answer::Verdict(false), Answer::Refused] {
        let mut host = asking(true, Method::Signature);
        let (mut peer, _) = Scripted::answer_asked(&mut host, 744);
        let _ = answer(&mut host);
        host.signer.pending.clear();
        let auth = peer.auth_payloads();
        let message = peer.seal(&peer.header(AUTH, true, 1), &auth);
        assert_eq!(peer.tell(&mut host, &message), (Ok(()), vec![]));
        let verdict = taken(&mut host);
        assert_eq!(verdict.said, Said::Verdict(false), "that was a pre-shared key");
        host.endpoint.answer(NOW, verdict.wait, &no).unwrap();
        let sent = transmits(&mut host);
        assert_eq!(notifies(&peer.open(&sent[0])), [NotifyKind::AUTHENTICATION_FAILED]);
        assert_eq!(host.failures, [Failure::AuthenticationFailed(Side::Here)]);
        vacated(&mut host, NOW);
    }
}

#[test]
fn a_pre_shared_key_opens_nothing_where_another_proof_is_asked_for() {
    for (method, with_auth) in [(Method::Signature, false), (Method::Eap, true), (Method::Psk, false)] {
        let mut host = asking(false, method);
        let mut peer = Scripted::initiate(&mut host, 745);
        let auth = peer.auth_payloads();
        let request = if with_auth { auth } else { without(&auth, PayloadType::AUTH) };
        let answer = peer.ask(&mut host, AUTH, &request);
        assert_eq!(notifies(&answer), [NotifyKind::AUTHENTICATION_FAILED], "{method:?}");
        assert_eq!((host.failures.len(), host.signer.asked), (1, 0));
        vacated(&mut host, NOW);
    }
}

#[test]
fn half_open_sas_that_wait_for_an_answer_count_as_half_open_ones() {
    let [_, right] = pair();
    let settings = Settings { half_open_limit: 4, cookie_threshold: 4, ..Settings::default() };
    let mut host = Host::new(746, vec![Peer { method: Method::Signature, remote: None, ..right }], settings);
    let waiting = |host: &mut Host, seed: u64| {
        let mut peer = Scripted::initiate(host, seed);
        let auth = peer.auth_payloads();
        let request = peer.seal(&peer.header(AUTH, false, 1), &auth);
        assert_eq!(peer.tell(host, &request), (Ok(()), vec![]));
    };
    waiting(&mut host, 1);
    let mut public = [0; 32];
    public[0] = 9;
    // Half of what one source may have.
    let request = in_clear(&init_header(2), &init_payloads(Group::Curve25519, &public));
    let (handled, sent) = tell_at(&mut host, NOW, path_of(false), &request);
    assert_eq!((handled, notifies(&clear_payloads(&sent[0]))), (Ok(()), vec![NotifyKind::COOKIE]));
    vacated(&mut host, NOW);
    assert_eq!(host.failures, [Failure::SignerSilent]);
}

/// An EAP payload.
fn eap(message: &[u8]) -> Payloads {
    payload(PayloadType::EAP.0, 0, message, &NOTHING)
}

/// What a message carries, by type.
fn kinds(Payloads(first, body): &Payloads) -> Vec<PayloadType> {
    Chain::new(PayloadType(*first), body).map(|payload| payload.unwrap().kind).collect()
}

/// The peer that proves who it is by EAP, with a host that has proved itself and asked its first question.
fn eap_begun(seed: u64) -> (Host, Scripted) {
    let mut host = asking(false, Method::Eap);
    host.signer.rounds = 2;
    let mut peer = Scripted::initiate(&mut host, seed);
    let auth = without(&peer.auth_payloads(), PayloadType::AUTH);
    let request = peer.seal(&peer.header(AUTH, false, 1), &auth);
    assert_eq!(peer.tell(&mut host, &request), (Ok(()), vec![]));
    assert!(answer(&mut host).is_empty(), "its first EAP message goes with its proof");
    let expected = peer.signed_by(false);
    assert_eq!(question(&host).1, Said::Proof(expected.signature(b"right.example")));
    let sent = answer(&mut host);
    let first = peer.open(&sent[0]);
    assert_eq!(kinds(&first), [PayloadType::ID_R, PayloadType::AUTH, PayloadType::EAP]);
    peer.next[0] = 2;
    (host, peer)
}

#[test]
fn eap_comes_to_a_key_that_both_sides_prove_to_hold() {
    let (mut host, mut peer) = eap_begun(750);
    for (said, heard) in [(vec![2, 1, 0, 6, 4, 1], vec![1, 2, 0, 6, 4, 0]), (vec![2, 2, 0, 6, 4, 2], vec![3, 2, 0, 4])]
    {
        let request = peer.seal(&peer.header(AUTH, false, peer.next[0]), &eap(&said));
        assert_eq!(peer.tell(&mut host, &request), (Ok(()), vec![]));
        assert_eq!(peer.tell(&mut host, &request), (Err(Discard::Unexpected), vec![]), "it waits");
        let sent = answer(&mut host);
        assert_eq!(peer.open(&sent[0]).1[4..], heard);
        assert_eq!(peer.tell(&mut host, &request), (Ok(()), sent), "repeated, and answered as before");
        peer.next[0] += 1;
    }
    assert_eq!(host.installed.len(), 0);
    let proof = payload(PayloadType::AUTH.0, 0, &[&[2, 0, 0, 0], &peer.keyed(&MSK)[..]].concat(), &NOTHING);
    let last = peer.ask(&mut host, AUTH, &proof);
    assert_eq!(kinds(&last), [PayloadType::AUTH, PayloadType::SA, PayloadType::TS_I, PayloadType::TS_R]);
    peer.initiator = false;
    let expected = peer.keyed(&MSK);
    peer.initiator = true;
    assert_eq!(auth_of(&last)[4..], expected);
    assert_eq!(host.installed.len(), 1);
    assert!(peer.alive(&mut host));
}

#[test]
fn nothing_is_established_before_eap_is_over_and_proven() {
    // A proof that comes too early, one by another key, EAP that goes on when it is over, and both at once.
    let proof = |peer: &mut Scripted, key: &[u8], rest: &Payloads| {
        payload(PayloadType::AUTH.0, 0, &[&[2, 0, 0, 0], &peer.keyed(key)[..]].concat(), rest)
    };
    for (case, over) in [(0, false), (1, true), (2, true), (3, true), (4, false)] {
        let (mut host, mut peer) = eap_begun(751);
        if over {
            host.signer.rounds = 1;
            let request = peer.seal(&peer.header(AUTH, false, 2), &eap(&[2, 1, 0, 6, 4, 1]));
            let _ = peer.tell(&mut host, &request);
            assert_eq!(answer(&mut host).len(), 1);
            peer.next[0] += 1;
        }
        let another = eap(&[2, 1, 0, 6, 4, 1]);
        let request = match case {
            0 => proof(&mut peer, &MSK, &NOTHING),
            1 => proof(&mut peer, &[0x78; 64], &NOTHING),
            2 => another,
            3 => proof(&mut peer, &MSK, &another),
            _ => NOTHING,
        };
        let answer = peer.ask(&mut host, AUTH, &request);
        let expected = if case == 1 { NotifyKind::AUTHENTICATION_FAILED } else { NotifyKind::INVALID_SYNTAX };
        assert_eq!(notifies(&answer), [expected], "{case}");
        assert_eq!((host.installed.len(), host.failures.len()), (0, 1), "{case}");
        vacated(&mut host, NOW);
    }
}

#[test]
fn an_initiator_takes_no_eap_from_a_responder_that_did_not_prove_itself() {
    for (method, with_auth, with_eap) in [
        (Method::Eap, false, true),
        (Method::Eap, true, false),
        (Method::Signature, true, true),
        (Method::Psk, true, true),
    ] {
        let mut host = asking(true, method);
        let (mut peer, sent) = Scripted::answer_asked(&mut host, 752);
        if method == Method::Signature {
            let _ = answer(&mut host);
        } else {
            assert_eq!(kinds(&peer.open(&sent[0])).contains(&PayloadType::AUTH), method == Method::Psk);
        }
        let asked = host.signer.asked;
        let mut auth = peer.auth_payloads();
        if !with_auth {
            auth = without(&auth, PayloadType::AUTH);
        }
        if with_eap {
            auth = payload(PayloadType::EAP.0, 0, &[1, 1, 0, 5, 1], &auth);
        }
        peer.next[1] = 1;
        let (handled, _) = peer.respond(&mut host, AUTH, &auth);
        assert_eq!((handled, host.failures.len(), host.signer.asked), (Ok(()), 1, asked), "{method:?}");
        assert!(host.installed.is_empty());
        vacated(&mut host, NOW);
    }
}

#[test]
fn an_empty_or_endless_answer_is_none() {
    let long = [7; 3000];
    for no in [
        Answer::Eap(&[]),
        Answer::Eap(&long),
        Answer::EapDone { last: &[3, 1, 0, 4], key: &[] },
        Answer::EapDone { last: &[3, 1, 0, 4], key: &MSK },
    ] {
        // Before our own proof EAP is not over, and an empty message is none.
        let mut host = asking(false, Method::Eap);
        let mut peer = Scripted::initiate(&mut host, 753);
        let auth = without(&peer.auth_payloads(), PayloadType::AUTH);
        let request = peer.seal(&peer.header(AUTH, false, 1), &auth);
        let _ = peer.tell(&mut host, &request);
        host.endpoint.answer(NOW, question(&host).0, &no).unwrap();
        host.listen();
        if host.failures.is_empty() {
            let _ = answer(&mut host);
        }
        assert_eq!((host.failures.len(), host.installed.len()), (1, 0), "{no:?} {:?}", host.story);
        vacated(&mut host, NOW);
    }
}

#[test]
fn a_connection_that_goes_while_somebody_is_asked_is_answered_for_no_more() {
    for initiates in [false, true] {
        let mut host = asking(initiates, Method::Signature);
        if initiates {
            let _ = Scripted::answer_asked(&mut host, 754);
        } else {
            let mut peer = Scripted::initiate(&mut host, 754);
            let auth = peer.auth_payloads();
            let request = peer.seal(&peer.header(AUTH, false, 1), &auth);
            let _ = peer.tell(&mut host, &request);
            host.endpoint.answer(NOW, question(&host).0, &Answer::Verdict(true)).unwrap();
            host.listen();
        }
        host.endpoint.pad_mut().0.clear();
        host.endpoint.answer(NOW, question(&host).0, &Answer::signature(b"late")).unwrap();
        let _ = transmits(&mut host);
        assert_eq!(host.failures, [Failure::ClosedHere], "{initiates}");
        vacated(&mut host, NOW);
    }
}
