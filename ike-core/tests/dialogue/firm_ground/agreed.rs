//! What the peer has agreed to is there with it, whatever becomes of it here; and who has the children while an IKE SA is
//! rekeyed.

use ike_core::endpoint::Settings;
use ike_core::failure::Failure;
use ike_core::registry::PayloadType;
use ike_core::wire::header::Header;
use ipsec_core::net::Spi;

use super::*;
use crate::engine::{Refuse, refuse};

/// The numbers of what the host offers, and of nothing.
const OFFERED: u8 = 1;
const OTHER: u8 = 9;

/// The host asks for a rekey of the IKE SA; returns the request.
fn asking_ike_for(seed: u64) -> (Host, Scripted, Payloads) {
    let (mut host, mut peer) = Scripted::established_by_host(seed);
    let ike = host.ike_id();
    host.endpoint.rekey_ike(NOW, ike).unwrap();
    let request = peer.open(&transmits(&mut host)[0]);
    peer.next = [0, 2];
    (host, peer, request)
}

fn deletes_ike(message: &Payloads) -> bool {
    body(message, PayloadType::DELETE).is_some_and(|body| body == [ProtocolId::IKE.0, 0, 0, 0])
}

/// Of the messages that the host sent, the one on this SA.
fn on<'m>(peer: &Scripted, sent: &'m [Vec<u8>]) -> Option<&'m Vec<u8>> {
    sent.iter().find(|message| Header::parse(message).unwrap().spi_i == peer.spis[0])
}

/// The host deletes both the old SA and the new one, and then nothing is left of either.
fn both_are_deleted(host: &mut Host, ends: [&mut Scripted; 2], sent: &[Vec<u8>], cause: &Failure) {
    for end in ends {
        let delete = end.open(on(end, sent).expect("its Delete"));
        assert!(deletes_ike(&delete));
        let (_, sent) = end.respond(host, INFO, &NOTHING);
        assert!(sent.is_empty());
    }
    assert_eq!((host.installed.len(), host.endpoint.ike_sas().count()), (0, 0), "{:?}", host.story);
    assert_eq!(*host.story.last().unwrap(), format!("closed: {cause:?}"));
    assert_eq!(host.failures, std::slice::from_ref(cause));
}

#[test]
fn f_29_a_peer_that_agrees_to_the_rekey_of_a_connection_that_was_removed_is_told() {
    for closed in [true, false] {
        let (mut host, mut peer, request) = asking_ike_for(1);
        if closed {
            let ike = host.ike_id();
            host.endpoint.close(NOW, ike).unwrap();
        }
        host.endpoint.pad_mut().0.clear();
        assert!(transmits(&mut host).is_empty());
        let (mut new, sent) = peer.agree(&mut host, &request, OFFERED, (0x77, [5; 32]));
        both_are_deleted(&mut host, [&mut new, &mut peer], &sent, &Failure::ClosedHere);
    }
}

#[test]
fn f_52_an_answer_that_was_not_offered_ends_what_the_peer_made_of_it() {
    let (mut host, mut peer, request) = asking_ike_for(2);
    let (mut new, sent) = peer.agree(&mut host, &request, OTHER, (0x77, [5; 32]));
    both_are_deleted(&mut host, [&mut new, &mut peer], &sent, &Failure::AnswerNotOffered);
    // Whoever closed it meanwhile is told that.
    let (mut host, mut peer, request) = asking_ike_for(2);
    let ike = host.ike_id();
    host.endpoint.close(NOW, ike).unwrap();
    let (mut new, sent) = peer.agree(&mut host, &request, OTHER, (0x77, [5; 32]));
    both_are_deleted(&mut host, [&mut new, &mut peer], &sent, &Failure::ClosedHere);
}

#[test]
fn f_52_an_answer_that_was_not_offered_and_loses_against_a_rekey_that_crossed_costs_nothing() {
    let (mut host, mut peer, request) = asking_ike_for(3);
    let theirs = peer.rekey(&mut host, 0x88, [5; 32]);
    let (mut ours, sent) = peer.agree(&mut host, &request, OTHER, (0x77, [0; 32]));
    assert!(sent.len() == 1 && deletes_ike(&ours.open(on(&ours, &sent).expect("its Delete"))));
    assert_eq!(host.ike().unwrap().spi_remote, theirs.spis[0]);
    assert!(host.failures.is_empty() && host.installed.len() == 1, "{:?}", host.story);
}

#[test]
fn f_52_an_answer_of_which_no_keys_come_ends_the_connection_and_not_only_here() {
    let good = ike_rekey([6; 8], [5; 32]);
    let unknown = |spec: &[u8]| {
        // One proposal of IKE with an SPI and four transforms, this one is the last of them.
        let mut sa = body(&good, PayloadType::SA).unwrap();
        let at = sa.len() - 8;
        sa[at] = 3;
        sa.extend_from_slice(spec);
        sa[7] += 1;
        sa[3] += u8::try_from(spec.len()).unwrap();
        with_body(&good, PayloadType::SA, &sa)
    };
    let no_value = with_body(&good, PayloadType::KE, &[&[0, 31, 0, 0], &[0; 32][..]].concat());
    let other_group = with_body(&good, PayloadType::KE, &[&[0, 19, 0, 0], &[4; 64][..]].concat());
    for (answer, cause) in [
        (no_value, Failure::BadKeyExchange),
        (other_group, Failure::AnswerNotOffered),
        (without(&good, PayloadType::KE), Failure::InvalidSyntax(ike_core::failure::Side::Here)),
        // A second key exchange (RFC 9370), and an integrity algorithm beside AES-GCM.
        (unknown(&[0, 0, 0, 8, 6, 0, 0, 31]), Failure::AnswerNotOffered),
        (unknown(&[0, 0, 0, 8, 3, 0, 0, 12]), Failure::AnswerNotOffered),
        // Two groups, of which nobody knows which.
        (unknown(&[0, 0, 0, 8, 4, 0, 0, 19]), Failure::AnswerNotOffered),
        (good.clone(), Failure::CryptoRefused),
    ] {
        let (mut host, mut peer) = asking_ike(4);
        let header = peer.header(CREATE, true, peer.next[1]);
        let message = peer.seal(&header, &answer);
        peer.next[1] += 1;
        if cause == Failure::CryptoRefused {
            refuse(Refuse::Keys);
        }
        let (handled, sent) = peer.tell(&mut host, &message);
        refuse(Refuse::Nothing);
        assert_eq!((handled, sent.len()), (Ok(()), 1), "{cause:?}");
        assert!(deletes_ike(&peer.open(&sent[0])), "{cause:?}");
        let full = host.endpoint.occupancy();
        assert_eq!((full.ike_sas, full.reserved, host.installed.len()), (1, 0, 1), "until the peer knows");
        let _ = peer.respond(&mut host, INFO, &NOTHING);
        assert_eq!((host.installed.len(), host.endpoint.ike_sas().count()), (0, 0), "{cause:?}: {:?}", host.story);
        assert_eq!(host.failures, [cause]);
        // What the peer may still have goes with the next connection.
        assert!(says_it_is_the_first(&mut host));
    }
}

/// Whether the host connects anew with INITIAL_CONTACT.
fn says_it_is_the_first(host: &mut Host) -> bool {
    let (mut peer, auth) = Scripted::answer(host, 5);
    notifies(&peer.open(&auth)).contains(&NotifyKind::INITIAL_CONTACT)
}

#[test]
fn f_52_where_a_rekey_crossed_one_of_which_no_keys_come_the_peer_decides() {
    let (mut host, mut peer) = asking_ike(6);
    let theirs = peer.rekey(&mut host, 0x88, [5; 32]);
    let no_value = with_body(&ike_rekey([6; 8], [5; 32]), PayloadType::KE, &[&[0, 31, 0, 0], &[0; 32][..]].concat());
    let (_, sent) = peer.respond(&mut host, CREATE, &no_value);
    assert_eq!((sent.len(), host.ike().unwrap().spi_remote), (0, theirs.spis[0]), "{:?}", host.story);
    assert!(host.failures.is_empty() && host.installed.len() == 1);
}

#[test]
fn f_29_a_peer_that_agrees_to_a_child_that_was_removed_is_told() {
    for rekey in [true, false] {
        let (mut host, mut peer) = Scripted::established_by_host(7);
        peer.next = [0, 2];
        let (ike, child) = (host.ike_id(), host.sending[&CHILD]);
        match rekey {
            true => host.endpoint.rekey_child(NOW, child).unwrap(),
            false => drop(host.endpoint.create_child(NOW, ike, CHILD).unwrap()),
        }
        let request = peer.open(&transmits(&mut host)[0]);
        let asked = body(&request, PayloadType::SA).unwrap();
        host.endpoint.pad_mut().0[0].children.clear();
        let (_, sent) = peer.respond(&mut host, CREATE, &child_payloads(Some(&public())));
        let asked = u32::from_be_bytes(asked[8..12].try_into().unwrap());
        assert_eq!((sent.len(), deleted(&peer.open(&sent[0]))), (1, vec![asked]), "rekey {rekey}");
        let _ = peer.respond(&mut host, INFO, &NOTHING);
        assert_eq!((host.installed.len(), host.endpoint.occupancy().child_sas), (1, 1), "{:?}", host.story);
    }
}

fn delete_of(spi: [u8; 4]) -> Payloads {
    payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(spi)).unwrap()]))
}

#[test]
fn f_41_a_child_is_found_on_whichever_sa_of_a_rekey_the_peer_names_it() {
    let spi_in = |host: &Host| host.installed[&host.sending[&CHILD]].spi_in;
    let gone = |host: &Host| assert_eq!(host.story.last().unwrap(), "child 0 down: ClosedByPeer");
    // On the one that its rekey made, while ours is not answered.
    let (mut host, mut peer) = asking_ike(8);
    let mut theirs = peer.rekey(&mut host, 0x88, [5; 32]);
    let named = spi_in(&host);
    assert_eq!(deleted(&theirs.ask(&mut host, INFO, &delete_of(ESP_SPI))), [named]);
    gone(&host);
    // On that one still, when it lost.
    let (mut host, mut peer, request) = asking_ike_for(8);
    let mut theirs = peer.rekey(&mut host, 0x88, [0; 32]);
    let (ours, _) = peer.agree(&mut host, &request, OFFERED, (0x77, [1; 32]));
    assert_eq!(host.ike().unwrap().spi_remote, ours.spis[1]);
    let named = spi_in(&host);
    assert_eq!(deleted(&theirs.ask(&mut host, INFO, &delete_of(ESP_SPI))), [named]);
    gone(&host);
    // On the old one, by a message that was on its way when the peer answered or began.
    for by_peer in [false, true] {
        let (mut host, mut peer, request) = asking_ike_for(9);
        if by_peer {
            let _ = peer.respond(&mut host, CREATE, &notify(NotifyKind::TEMPORARY_FAILURE, &[]));
            let _ = peer.rekey(&mut host, 0x88, [5; 32]);
        } else {
            let _ = peer.agree(&mut host, &request, OFFERED, (0x77, [5; 32]));
        }
        let named = spi_in(&host);
        assert_eq!(deleted(&peer.ask(&mut host, INFO, &delete_of(ESP_SPI))), [named], "{by_peer}");
        gone(&host);
    }
}

#[test]
fn f_41_a_lost_child_that_is_named_on_an_sa_that_is_not_decided_on_is_rekeyed() {
    let (mut host, mut peer) = asking_ike(10);
    let mut theirs = peer.rekey(&mut host, 0x88, [5; 32]);
    host.endpoint.handle_timeout(NOW);
    let now = NOW + Settings::default().settle;
    let header = theirs.header(INFO, false, 0);
    let message = theirs.seal(&header, &notify(NotifyKind::INVALID_SPI, &ESP_SPI));
    assert_eq!(tell_at(&mut host, now, theirs.path, &message).1.len(), 1);
    let header = peer.header(CREATE, true, peer.next[1]);
    let message = peer.seal(&header, &notify(NotifyKind::TEMPORARY_FAILURE, &[]));
    let (handled, sent) = tell_at(&mut host, now, peer.path, &message);
    assert_eq!((handled, sent.len()), (Ok(()), 1), "{:?}", host.story);
    assert_eq!(notifies(&theirs.open(&sent[0])), [NotifyKind::REKEY_SA]);
}

#[test]
fn f_41_who_closes_a_replaced_sa_and_names_what_it_carried_takes_nothing_from_the_one_that_took_over() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 14);
    let mut theirs = peer.rekey(&mut host, 0x88, [5; 32]);
    let both = payloads(|message| {
        message.delete_ike()?;
        message.delete_esp(&[Spi::new(u32::from_be_bytes(ESP_SPI)).unwrap()])
    });
    let _ = peer.ask(&mut host, INFO, &both);
    assert_eq!(host.installed.len(), 1, "{:?}", host.story);
    assert!(!deleted(&theirs.ask(&mut host, INFO, &delete_of(ESP_SPI))).is_empty(), "it goes where it is");
}

#[test]
fn f_41_an_sa_whose_kin_is_gone_speaks_for_nobody_in_its_place() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 11);
    let old = host.ike().unwrap();
    host.endpoint.rekey_ike(NOW, old.id).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    let mut theirs = peer.rekey(&mut host, 0x88, [5; 32]);
    host.endpoint.abandon(NOW, old.id, Failure::ClosedHere).unwrap();
    let _ = transmits(&mut host);
    host.endpoint.handle_timeout(NOW + Settings::default().linger);
    let _ = transmits(&mut host);
    assert_eq!(host.endpoint.ike_sas().count(), 1, "the undecided one");
    // Another connection takes the place, whose child has the same SPI: it is no business of the other one.
    let _other = up(&mut host, 12);
    let place = |spi: u64| spi & 0xf;
    assert_eq!(place(host.ike().unwrap().spi_local), place(old.spi_local));
    assert!(deleted(&theirs.ask(&mut host, INFO, &delete_of(ESP_SPI))).is_empty());
    assert_eq!(host.installed.len(), 1, "{:?}", host.story);
}

#[test]
fn d_an_ike_sa_is_not_rekeyed_while_a_child_is_nor_begun_anew_where_that_is_no_use() {
    let (mut host, mut peer, _) = asking(13);
    let answer = peer.ask(&mut host, CREATE, &ike_rekey([7; 8], [5; 32]));
    assert_eq!(notifies(&answer), [NotifyKind::TEMPORARY_FAILURE]);
    // The peer asks for another group, and has rekeyed itself meanwhile.
    let (mut host, mut peer) = asking_ike(14);
    let theirs = peer.rekey(&mut host, 0x88, [5; 32]);
    let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::INVALID_KE_PAYLOAD, &[0, 19]));
    assert_eq!((sent.len(), host.ike().unwrap().spi_remote), (0, theirs.spis[0]), "{:?}", host.story);
    // It asks for the one that it got.
    let (mut host, mut peer) = asking_ike(15);
    let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::INVALID_KE_PAYLOAD, &[0, 31]));
    assert_eq!((sent.len(), &host.failures[..]), (0, &[Failure::GroupNotOffered(31)][..]));
    // The group that the old one was made with is none of ours any more.
    let (mut host, mut peer) = Scripted::established_by_host(16);
    host.endpoint.pad_mut().0[0].ike.remove(0);
    let ike = host.ike_id();
    host.endpoint.rekey_ike(NOW, ike).unwrap();
    let request = peer.open(&transmits(&mut host)[0]);
    assert_eq!(body(&request, PayloadType::KE).unwrap()[..2], [0, 19]);
}
