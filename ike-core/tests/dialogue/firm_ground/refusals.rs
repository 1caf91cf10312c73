//! Rekeys that the peer refuses, postpones or does not understand: the tunnel that works goes on, and somebody is told.

use ike_core::endpoint::Settings;
use ike_core::failure::{Failure, Side};
use ike_core::registry::{NotifyKind, PayloadType, TransformType};
use ike_core::wire::sa::Sa;
use ipsec_core::net::Spi;

use super::*;
use crate::engine::{Refuse, refuse};
use crate::network::{Host, PEER, esp as proposals};

/// The group of the KE payload, and the groups offered.
fn groups(request: &Payloads) -> (u16, Vec<u16>) {
    let ke = body(request, PayloadType::KE).unwrap();
    let sa = body(request, PayloadType::SA).unwrap();
    let sa = Sa::parse(&sa).unwrap();
    let offered = sa.proposals().flat_map(|proposal| proposal.transforms().collect::<Vec<_>>());
    let offered = offered.filter(|transform| transform.kind == TransformType::KE).map(|transform| transform.id);
    (u16::from_be_bytes([ke[0], ke[1]]), offered.collect())
}

/// The IKE SA is of X25519, our children prefer another group.
fn other_group_first(seed: u64, words: &str) -> (Host, Scripted, Payloads) {
    let [mut left, _] = pair();
    left.ike = vec![IkeProposal::parse(SUITE).unwrap()];
    left.dpd = std::time::Duration::ZERO;
    left.children[0].esp = proposals(words);
    let mut host = Host::new(77, vec![left], Settings::default());
    let (mut peer, _) = Scripted::answer(&mut host, seed);
    peer.next[1] = 1;
    let auth = peer.auth_payloads();
    let _ = peer.respond(&mut host, ExchangeType::IKE_AUTH, &auth);
    let child = host.sending[&CHILD];
    host.endpoint.rekey_child(NOW, child).unwrap();
    let request = peer.open(&transmits(&mut host)[0]);
    peer.next = [0, 2];
    (host, peer, request)
}

#[test]
fn f_64_a_child_rekey_begins_with_the_group_of_the_ike_sa_and_no_other() {
    let (mut host, mut peer, request) = other_group_first(1, "aes256gcm16-ecp256-x25519");
    assert_eq!(groups(&request), (31, vec![31]));
    // Should the peer want none of that, it gets the whole list.
    let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::NO_PROPOSAL_CHOSEN, &[]));
    let request = peer.open(&sent[0]);
    assert_eq!(groups(&request), (31, vec![19, 31]));
    assert_eq!(notifies(&request), [NotifyKind::REKEY_SA]);
    // And may name another of it.
    let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::INVALID_KE_PAYLOAD, &[0, 19]));
    assert_eq!(groups(&peer.open(&sent[0])), (19, vec![19]));
    assert!(host.failures.is_empty() && host.installed.len() == 1);
    // Without a key exchange where the operator prefers that, and where nothing else is to be had.
    let (_, _, request) = other_group_first(2, "aes256gcm16-modpnone-x25519");
    assert_eq!(body(&request, PayloadType::KE), None);
    let (_, _, request) = other_group_first(3, "aes256gcm16-ecp256");
    assert_eq!(groups(&request), (19, vec![19]));
    let (_, _, request) = other_group_first(4, "aes256gcm16-ecp256-x25519-modpnone");
    assert_eq!(groups(&request), (31, vec![31, 0]));
}

#[test]
fn f_64_a_group_that_was_refused_or_is_none_of_ours_is_not_asked_for() {
    // The one that the peer has just got, and one that is not configured.
    for (words, wanted) in [("aes256gcm16-ecp256-x25519", 31), ("aes256gcm16-x25519", 19), ("aes256gcm16-x25519", 14)] {
        let (mut host, mut peer, request) = other_group_first(21, words);
        assert_eq!(groups(&request).0, 31);
        let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::INVALID_KE_PAYLOAD, &[0, wanted]));
        assert!(sent.is_empty() && host.installed.len() == 1);
        assert_eq!(host.failures, [Failure::GroupNotOffered(wanted.into())]);
    }
}

#[test]
fn f_65_what_is_asked_for_as_a_new_one_stays_so_whatever_else_the_peer_wants() {
    let (mut host, mut peer, _) = other_group_first(22, "aes256gcm16-ecp256-x25519");
    let answers = [(NotifyKind::TS_UNACCEPTABLE, &[][..]), (NotifyKind::NO_PROPOSAL_CHOSEN, &[])];
    let answers = answers.into_iter().chain([(NotifyKind::INVALID_KE_PAYLOAD, &[0, 19][..])]);
    for ((kind, data), asked) in answers.zip([(31, vec![31]), (31, vec![19, 31]), (19, vec![19])]) {
        let (_, sent) = peer.respond(&mut host, CREATE, &notify(kind, data));
        let request = peer.open(&sent[0]);
        assert_eq!((notifies(&request), groups(&request)), (vec![], asked), "{kind:?}");
    }
    // What never was anything else is not asked for again.
    let (mut host, mut peer) = Scripted::established_by_host(23);
    peer.next = [0, 2];
    let ike = host.ike_id();
    host.endpoint.create_child(NOW, ike, CHILD).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::TS_UNACCEPTABLE, &[]));
    assert!(sent.is_empty());
    assert_eq!(host.failures, [Failure::TrafficSelectors]);
}

#[test]
fn f_61_proposals_that_the_peer_took_with_a_key_exchange_are_not_refused_over_pfs() {
    let (mut host, mut peer, _) = asking(24);
    let (_, sent) = peer.respond(&mut host, CREATE, &child_payloads(Some(&public())));
    assert_eq!(sent.len(), 1, "the Delete of the old one");
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    host.endpoint.rekey_child(NOW, host.sending[&CHILD]).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    for _ in 0..2 {
        let _ = peer.respond(&mut host, CREATE, &notify(NotifyKind::NO_PROPOSAL_CHOSEN, &[]));
    }
    assert_eq!(host.failures, [Failure::ProposalsRefused], "{:?}", host.story);
}

#[test]
fn f_64_an_answer_outside_the_narrow_offer_is_not_taken() {
    let (mut host, mut peer, _) = other_group_first(5, "aes256gcm16-ecp256-x25519");
    let ecp = ike_core::proposal::EspProposal::parse("aes256gcm16-ecp256-esn").unwrap();
    let sa = payloads(|message| message.sa(ProtocolId::ESP, &[9; 4], [(1, ecp.transforms(true))]));
    let answer = with_body(&child_payloads(Some(&public())), PayloadType::SA, &sa.1[4..]);
    let _ = peer.respond(&mut host, CREATE, &answer);
    assert_eq!((&host.failures[..], host.installed.len()), (&[Failure::AnswerNotOffered][..], 1));
}

#[test]
fn f_64_an_sa_that_ends_over_an_error_is_told_to_the_peer_and_here() {
    for (answer, cause) in [
        (notify(NotifyKind::INVALID_SYNTAX, &[]), Failure::InvalidSyntax(Side::Peer)),
        (Payloads(PayloadType::SA.0, vec![0, 0, 0, 3]), Failure::InvalidSyntax(Side::Here)),
    ] {
        let (mut host, mut peer, _) = asking(6);
        let (handled, sent) = peer.respond(&mut host, CREATE, &answer);
        assert_eq!((handled, sent.len()), (Ok(()), 1));
        // Libreswan keeps its SAs: a Delete takes them.
        let delete = body(&peer.open(&sent[0]), PayloadType::DELETE).unwrap();
        assert_eq!(delete, [ProtocolId::IKE.0, 0, 0, 0]);
        assert_eq!((&host.failures[..], &host.ended[..]), (&[cause][..], &[[Some(PEER), None]][..]));
        assert!(host.installed.is_empty() && host.ike().is_none());
        // The connection may be made anew at once.
        host.endpoint.initiate(NOW, PEER, None).unwrap();
        assert_eq!(transmits(&mut host).len(), 1);
    }
}

#[test]
fn f_61_a_rekey_that_fails_over_pfs_names_it() {
    // Connected with the same proposals, refused with a key exchange: by itself and with all that we have.
    let (mut host, mut peer, _) = other_group_first(7, "aes256gcm16-ecp256-x25519");
    for _ in 0..2 {
        let _ = peer.respond(&mut host, CREATE, &notify(NotifyKind::NO_PROPOSAL_CHOSEN, &[]));
    }
    assert_eq!((&host.failures[..], host.installed.len()), (&[Failure::PfsRefused][..], 1));
    assert!(host.failures[0].is_about_pfs());
    // The other way round: the peer rekeys without, and we want it.
    let [_, mut right] = pair();
    right.ike = vec![IkeProposal::parse(SUITE).unwrap()];
    let mut host = Host::new(77, vec![right], Settings::default());
    let mut peer = up(&mut host, 8);
    let answer = peer.ask(&mut host, CREATE, &child_of(Some(ESP_SPI), 0x0102_0304));
    assert_eq!(notifies(&answer), [NotifyKind::NO_PROPOSAL_CHOSEN]);
    assert!(host.failures.len() == 1 && host.failures[0].is_about_pfs() && host.installed.len() == 1);
    assert!(!Failure::ProposalsRefused.is_about_pfs() && !Failure::Expired.is_about_pfs());
}

/// Answers every request of the host like this, each at the moment when it comes, for an hour; how many there were.
fn an_hour_of(host: &mut Host, peer: &mut Scripted, mut answer: impl FnMut(u32) -> Payloads) -> (u32, u64) {
    let (mut now, mut tries) = (NOW, 0);
    while now.since(NOW) < seconds(3600) && host.ike().is_some() {
        let header = peer.header(CREATE, true, peer.next[1]);
        let message = peer.seal(&header, &answer(tries));
        let (handled, sent) = tell_at(host, now, peer.path, &message);
        assert_eq!(handled, Ok(()));
        peer.next[1] += 1;
        tries += 1;
        // That it lives and says so is no sign that it is done with what keeps it busy.
        if host.ike().is_some() {
            let header = peer.header(INFO, false, peer.next[0]);
            let message = peer.seal(&header, &NOTHING);
            assert_eq!(tell_at(host, now, peer.path, &message).0, Ok(()));
            peer.next[0] += 1;
        }
        if sent.is_empty() {
            while let Some(due) = host.endpoint.poll_timeout() {
                now = due;
                host.endpoint.handle_timeout(now);
                if !transmits(host).is_empty() {
                    break;
                }
            }
        }
    }
    (tries, now.since(NOW).as_secs())
}

#[test]
fn f_52_that_a_peer_is_busy_for_long_is_told_and_ends_nothing() {
    let busy = |_| notify(NotifyKind::TEMPORARY_FAILURE, &[]);
    for ike in [true, false] {
        let (mut host, mut peer) = if ike {
            asking_ike(9)
        } else {
            let (host, peer, _) = asking(9);
            (host, peer)
        };
        let (tries, after) = an_hour_of(&mut host, &mut peer, busy);
        assert!(tries < 120 && after >= 3600, "{tries} tries in {after} s");
        // Those of the first seconds are not worth a word; several minutes of it mean another state (RFC 7296 §2.25).
        let told = host.failures.len();
        assert!(host.failures.iter().all(Failure::is_busy), "{:?}", host.failures);
        assert!((tries as usize - 6..tries as usize - 2).contains(&told), "{told} of {tries}: {:?}", host.story);
        assert_eq!((host.ike().unwrap().busy, host.installed.len()), (Some(NOW), 1), "{:?}", host.story);
    }
}

#[test]
fn f_52_a_peer_that_is_busy_now_and_then_is_not() {
    let (mut host, mut peer) = asking_ike(10);
    let (_, after) = an_hour_of(&mut host, &mut peer, |number| match number % 4 {
        3 => notify(NotifyKind::NO_ADDITIONAL_SAS, &[]),
        _ => notify(NotifyKind::TEMPORARY_FAILURE, &[]),
    });
    assert!(after >= 3600 && host.ike().is_some(), "{:?}", host.story);
}

/// A Child SA that the peer, as the responder of the IKE SA, asks for, new or in place of `old`.
fn their_child(old: Option<[u8; 4]>, new: [u8; 4]) -> Payloads {
    let ts = |nets: &str| crate::network::selectors(&[nets]);
    payloads(|message| {
        if let Some(old) = old {
            message.notify(ProtocolId::ESP, &old, NotifyKind::REKEY_SA, &[])?;
        }
        message.sa(ProtocolId::ESP, &new, [(1, esp(true).transforms(true))])?;
        message.nonce(&[1; 32])?;
        message.ke(GroupId::CURVE25519, &public())?;
        message.ts(PayloadType::TS_I, ts("10.2.0.0/16"))?;
        message.ts(PayloadType::TS_R, ts("10.1.0.0/16"))
    })
}

#[test]
fn f_52_two_refusals_with_hours_between_are_two_and_not_hours_of_them() {
    let (mut host, mut peer, _) = asking(15);
    let busy = notify(NotifyKind::TEMPORARY_FAILURE, &[]);
    let mut child = ESP_SPI;
    for (hour, new) in [(0, [4; 4]), (1, [5; 4]), (5, [6; 4])] {
        let now = NOW + seconds(3600 * hour);
        if hour > 0 {
            host.endpoint.rekey_child(now, host.sending[&CHILD]).unwrap();
            assert_eq!(transmits(&mut host).len(), 1);
        }
        // The peer's rekey crosses ours, which it refuses; then there is nothing to try again.
        let asks = [(CREATE, false, their_child(Some(child), new)), (CREATE, true, busy.clone())];
        let delete = payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(child)).unwrap()]));
        for (exchange, response, what) in asks.into_iter().chain([(INFO, false, delete)]) {
            let header = peer.header(exchange, response, peer.next[usize::from(response)]);
            peer.next[usize::from(response)] += 1;
            let message = peer.seal(&header, &what);
            let (handled, sent) = tell_at(&mut host, now, peer.path, &message);
            assert_eq!((handled, sent.len()), (Ok(()), usize::from(!response)), "hour {hour}: {:?}", host.story);
        }
        host.endpoint.handle_timeout(now + seconds(60));
        assert!(transmits(&mut host).is_empty());
        child = new;
    }
    assert!(host.ike().is_some() && host.failures.is_empty(), "{:?}", host.story);
}

#[test]
fn f_52_a_peer_that_makes_sas_itself_has_not_lost_its_state() {
    let (mut host, mut peer) = asking_ike(16);
    let (mut now, mut made) = (NOW, 0);
    for number in 1.. {
        let header = peer.header(CREATE, true, peer.next[1]);
        peer.next[1] += 1;
        let message = peer.seal(&header, &notify(NotifyKind::TEMPORARY_FAILURE, &[]));
        let (handled, sent) = tell_at(&mut host, now, peer.path, &message);
        assert_eq!((handled, sent.len()), (Ok(()), 0), "after {} s: {:?}", now.since(NOW).as_secs(), host.story);
        if now.since(NOW) > seconds(240) {
            break;
        }
        if number % 4 == 0 {
            made += 1;
            let header = peer.header(CREATE, false, peer.next[0]);
            peer.next[0] += 1;
            let message = peer.seal(&header, &their_child(None, [made; 4]));
            let (_, sent) = tell_at(&mut host, now, peer.path, &message);
            assert!(notifies(&peer.open(&sent[0])).is_empty());
        }
        while transmits(&mut host).is_empty() {
            now = host.endpoint.poll_timeout().unwrap();
            host.endpoint.handle_timeout(now);
        }
    }
    assert!(host.ike().is_some() && host.installed.len() == 1 + usize::from(made));
}

#[test]
fn d_a_rekey_that_could_not_be_written_is_tried_again() {
    for ike in [true, false] {
        let (mut host, mut peer) = Scripted::established_by_host(17);
        peer.next = [0, 2];
        refuse(Refuse::KeyExchanges);
        match ike {
            true => host.endpoint.rekey_ike(NOW, host.ike_id()).unwrap(),
            false => host.endpoint.rekey_child(NOW, host.sending[&CHILD]).unwrap(),
        }
        assert!(transmits(&mut host).is_empty());
        refuse(Refuse::Nothing);
        assert_eq!(host.failures, [Failure::CryptoRefused]);
        let due = host.endpoint.poll_timeout().expect("another try");
        assert!(due <= NOW + seconds(60));
        host.endpoint.handle_timeout(due);
        let sent = transmits(&mut host);
        assert_eq!(sent.len(), 1);
        assert_eq!(notifies(&peer.open(&sent[0])) == [NotifyKind::REKEY_SA], !ike);
    }
}

#[test]
fn f_52_a_refused_ike_rekey_is_told_and_tried_less_and_less() {
    let (mut host, mut peer) = asking_ike(11);
    let (tries, after) = an_hour_of(&mut host, &mut peer, |_| notify(NotifyKind::NO_ADDITIONAL_SAS, &[]));
    assert!(tries < 12 && after >= 3600, "{tries} tries in {after} s");
    assert_eq!(host.failures.len(), tries as usize);
    assert!(host.failures.iter().all(|cause| *cause == Failure::NoAdditionalSas(Side::Peer)));
    assert!(host.installed.len() == 1 && host.ended.is_empty());
}

#[test]
fn f_43_a_peer_that_asks_for_another_group_each_time_is_answered_a_few_times() {
    let another = |number: u32| {
        notify(NotifyKind::INVALID_KE_PAYLOAD, if number.is_multiple_of(2) { &[0, 19] } else { &[0, 31] })
    };
    for ike in [true, false] {
        let (mut host, mut peer) = if ike {
            asking_ike(12)
        } else {
            let (host, peer, _) = asking(12);
            (host, peer)
        };
        let mut asked = 0;
        loop {
            let (handled, sent) = peer.respond(&mut host, CREATE, &another(asked));
            assert_eq!(handled, Ok(()));
            asked += 1;
            if sent.is_empty() {
                break;
            }
            assert!(asked < 10, "without an end");
        }
        assert_eq!((&host.failures[..], asked), (&[Failure::TooManyRestarts][..], 4));
        assert!(host.ike().is_some() && host.installed.len() == 1 && peer.alive(&mut host));
    }
}

#[test]
fn f_53_a_child_that_the_peer_has_lost_is_made_anew() {
    let (mut host, mut peer, request) = asking(13);
    assert_eq!(notifies(&request), [NotifyKind::REKEY_SA]);
    let gone = payloads(|message| message.notify(ProtocolId::ESP, &ESP_SPI, NotifyKind::CHILD_SA_NOT_FOUND, &[]));
    let (_, sent) = peer.respond(&mut host, CREATE, &gone);
    assert!(host.installed.is_empty() && host.story.contains(&"child 0 down: ClosedByPeer".into()));
    let request = peer.open(&sent[0]);
    assert!(notifies(&request).is_empty() && body(&request, PayloadType::TS_I).is_some());
    let _ = peer.respond(&mut host, CREATE, &child_payloads(Some(&public())));
    assert_eq!((host.installed.len(), host.sending.len()), (1, 1), "{:?}", host.story);
}

/// The SPI of the first proposal.
fn offered(request: &Payloads) -> Vec<u8> {
    body(request, PayloadType::SA).unwrap()[8..12].to_vec()
}

/// Libreswan 4.10 can lose its answer to a rekey that it has carried out; to our repetition it says TS_UNACCEPTABLE then,
/// because its kernel has an SA with that SPI already.
#[test]
fn f_65_no_request_offers_an_spi_that_one_before_offered() {
    let group = notify(NotifyKind::INVALID_KE_PAYLOAD, &[0, 19]);
    for answer in [notify(NotifyKind::TS_UNACCEPTABLE, &[]), notify(NotifyKind::NO_PROPOSAL_CHOSEN, &[]), group] {
        let (mut host, mut peer, first) = asking(17);
        let (_, sent) = peer.respond(&mut host, CREATE, &answer);
        assert_ne!(offered(&peer.open(&sent[0])), offered(&first));
    }
    let (mut host, mut peer, first) = asking(17);
    let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::TS_UNACCEPTABLE, &[]));
    let second = offered(&peer.open(&sent[0]));
    let _ = peer.respond(&mut host, CREATE, &child_payloads(Some(&public())));
    let spi_in = host.installed[&host.sending[&CHILD]].spi_in.to_be_bytes();
    // One of 16 slots: the lowest four bits.
    let slot = |spi: &[u8]| spi[3] % 16;
    assert_eq!((spi_in == *second, slot(&spi_in)), (true, slot(&offered(&first))), "the slot is the same one");
}

#[test]
fn f_65_a_rekey_that_is_refused_without_a_word_of_the_sa_is_asked_for_as_a_new_one() {
    for kind in [NotifyKind::TS_UNACCEPTABLE, NotifyKind::INVALID_SPI, NotifyKind(3000)] {
        let (mut host, mut peer, _) = asking(16);
        let old = host.sending[&CHILD];
        let (_, sent) = peer.respond(&mut host, CREATE, &notify(kind, &[]));
        let request = peer.open(&sent[0]);
        assert!(notifies(&request).is_empty() && body(&request, PayloadType::TS_I).is_some(), "{kind:?}");
        // The old one is there until the new one is, and is taken back then.
        assert_eq!((host.installed.len(), host.failures.len(), host.ended.len()), (1, 0, 0), "{:?}", host.story);
        let (_, sent) = peer.respond(&mut host, CREATE, &child_payloads(Some(&public())));
        let delete = peer.open(&sent[0]);
        assert!(body(&delete, PayloadType::DELETE).is_some(), "{kind:?}: {:?}", host.story);
        let _ = peer.respond(&mut host, ExchangeType::INFORMATIONAL, &payloads(|_| Ok(())));
        assert!(host.failures.is_empty() && host.turns.iter().any(|(turn, _)| *turn == "draining"), "{:?}", host.turns);
        assert_eq!(host.installed[&host.sending[&CHILD]].replaces, Some(old));
    }
}

#[test]
fn f_65_what_is_refused_as_a_new_one_too_costs_no_working_sa() {
    let (mut host, mut peer, _) = asking(16);
    let refused = notify(NotifyKind::TS_UNACCEPTABLE, &[]);
    let (_, sent) = peer.respond(&mut host, CREATE, &refused);
    assert_eq!(sent.len(), 1);
    let (_, sent) = peer.respond(&mut host, CREATE, &refused);
    assert!(sent.is_empty() && host.endpoint.occupancy().child_sas == 1);
    assert_eq!(host.failures, [Failure::TrafficSelectors]);
    assert!(host.installed.len() == 1 && host.ended.is_empty() && peer.alive(&mut host), "{:?}", host.story);
}

#[test]
fn f_64_a_rekey_that_the_peer_s_has_overtaken_is_not_begun_again() {
    for answer in [notify(NotifyKind::NO_PROPOSAL_CHOSEN, &[]), notify(NotifyKind::INVALID_KE_PAYLOAD, &[0, 19])] {
        let (mut host, mut peer, _) = asking(14);
        let ts = |nets: &str| crate::network::selectors(&[nets]);
        let theirs = payloads(|message| {
            message.notify(ProtocolId::ESP, &ESP_SPI, NotifyKind::REKEY_SA, &[])?;
            message.sa(ProtocolId::ESP, &[4; 4], [(1, esp(true).transforms(true))])?;
            message.nonce(&[1; 32])?;
            message.ke(ike_core::registry::GroupId::CURVE25519, &public())?;
            message.ts(PayloadType::TS_I, ts("10.2.0.0/16"))?;
            message.ts(PayloadType::TS_R, ts("10.1.0.0/16"))
        });
        assert!(notifies(&peer.ask(&mut host, CREATE, &theirs)).is_empty());
        let (handled, sent) = peer.respond(&mut host, CREATE, &answer);
        assert_eq!((handled, sent.len(), host.failures.len()), (Ok(()), 0, 0), "{:?}", host.story);
        assert_eq!(host.installed.len(), 2);
    }
}
