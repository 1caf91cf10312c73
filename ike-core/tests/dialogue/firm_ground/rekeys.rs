//! Rekeys of children that come to nothing, while one of the two SAs is being closed or somebody waits for the new one.

use ike_core::endpoint::Settings;
use ike_core::event::ChildId;
use ike_core::failure::{Failure, Side};
use ike_core::proposal::EspProposal;
use ike_core::registry::{NotifyKind, PayloadType};
use ipsec_core::net::Spi;

use super::*;

fn not_found(spi: [u8; 4]) -> Payloads {
    payloads(|message| message.notify(ProtocolId::ESP, &spi, NotifyKind::CHILD_SA_NOT_FOUND, &[]))
}

/// The peer has rekeyed the child of the host that it called: the old one, and its heir.
fn rekeyed_by_peer(seed: u64) -> (Host, Scripted, [ChildId; 2]) {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, seed);
    let old = host.sending[&CHILD];
    assert!(notifies(&peer.ask(&mut host, CREATE, &child_of(Some(ESP_SPI), 0x0102_0304))).is_empty());
    assert!(peer.alive(&mut host));
    let heir = *host.installed.keys().find(|child| **child != old).unwrap();
    (host, peer, [old, heir])
}

fn delete_of_heir() -> Payloads {
    payloads(|message| message.delete_esp(&[Spi::new(0x0102_0304).unwrap()]))
}

#[test]
fn f_41_a_rekeyed_child_goes_on_when_we_delete_the_new_one_again() {
    for used in [false, true] {
        let (mut host, mut peer, [old, heir]) = rekeyed_by_peer(1);
        if used {
            host.endpoint.heard(NOW, heir);
        }
        host.endpoint.close_child(NOW, heir).unwrap();
        let sent = transmits(&mut host);
        assert_eq!(deleted(&peer.open(&sent[0])), [host.installed[&heir].spi_in]);
        let (_, sent) = peer.respond(&mut host, INFO, &NOTHING);
        assert!(sent.is_empty());
        assert_eq!((host.installed.len(), host.sending[&CHILD]), (1, old), "{:?}", host.story);
        let view = host.endpoint.child_sa(old).unwrap();
        assert_eq!((view.replaced, view.rekey_at), (false, Some(NOW + Settings::default().retry)));
        // It is no leftover, and can be rekeyed.
        host.endpoint.handle_timeout(NOW + seconds(1));
        assert!(transmits(&mut host).is_empty());
        host.endpoint.rekey_child(NOW + seconds(1), old).unwrap();
        assert_eq!(notifies(&peer.open(&transmits(&mut host)[0])), [NotifyKind::REKEY_SA]);
        let _ = peer.respond(&mut host, CREATE, &notify(NotifyKind::NO_ADDITIONAL_SAS, &[]));
        host.endpoint.handle_timeout(NOW + seconds(30));
        assert_eq!(notifies(&peer.open(&transmits(&mut host)[0])), [NotifyKind::REKEY_SA], "{:?}", host.story);
    }
}

#[test]
fn f_41_a_rekeyed_child_goes_on_when_it_was_about_to_be_deleted_for_the_sake_of_the_new_one() {
    let (mut host, mut peer, [old, heir]) = rekeyed_by_peer(2);
    let now = NOW + seconds(30);
    host.endpoint.close_child(now, heir).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    host.endpoint.handle_timeout(now);
    let header = peer.header(INFO, true, peer.next[1]);
    let message = peer.seal(&header, &NOTHING);
    let (handled, sent) = tell_at(&mut host, now, peer.path, &message);
    assert_eq!((handled, sent.len(), host.sending[&CHILD]), (Ok(()), 0, old), "{:?}", host.story);
}

#[test]
fn f_41_what_we_delete_already_ends_for_the_reason_for_which_the_new_one_did() {
    // The old one as a leftover, while the peer deletes the new one.
    let (mut host, mut peer, _) = rekeyed_by_peer(3);
    host.endpoint.handle_timeout(NOW + seconds(30));
    assert_eq!(transmits(&mut host).len(), 1);
    peer.ask(&mut host, INFO, &delete_of_heir());
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    assert_eq!(host.story[host.story.len() - 2..], ["child 0 down: ClosedByPeer"; 2]);
    // The old one because the caller wants it so.
    let (mut host, mut peer, [old, _]) = rekeyed_by_peer(4);
    host.endpoint.close_child(NOW, old).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    peer.ask(&mut host, INFO, &delete_of_heir());
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    assert_eq!(host.story[host.story.len() - 2..], ["child 0 down: ClosedByPeer", "child 0 down: ClosedHere"]);
    assert!(host.installed.is_empty());
}

#[test]
fn f_41_a_rekeyed_child_goes_on_when_the_peer_has_lost_the_new_one() {
    let (mut host, mut peer, [old, heir]) = rekeyed_by_peer(5);
    host.endpoint.rekey_child(NOW, heir).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    let (_, sent) = peer.respond(&mut host, CREATE, &not_found([1, 2, 3, 4]));
    assert_eq!((sent.len(), host.sending[&CHILD]), (1, old), "{:?}", host.story);
    assert!(notifies(&peer.open(&sent[0])).is_empty() && !host.endpoint.child_sa(old).unwrap().replaced);
}

#[test]
fn f_53_what_was_closed_during_its_rekey_is_not_asked_for_anew() {
    for answer in [not_found(ESP_SPI), notify(NotifyKind::TS_UNACCEPTABLE, &[]), notify(NotifyKind(3000), &[])] {
        let (mut host, mut peer, _) = asking(6);
        let old = host.sending[&CHILD];
        host.endpoint.close_child(NOW, old).unwrap();
        assert!(transmits(&mut host).is_empty());
        let (_, sent) = peer.respond(&mut host, CREATE, &answer);
        assert_eq!(sent.len(), 1);
        assert_eq!(deleted(&peer.open(&sent[0])), [host.installed[&old].spi_in]);
        let (_, sent) = peer.respond(&mut host, INFO, &NOTHING);
        assert!(sent.is_empty() && host.failures.is_empty() && host.endpoint.occupancy().child_sas == 0);
        assert_eq!(host.story.last().unwrap(), "child 0 down: ClosedHere");
        assert_eq!(host.endpoint.poll_timeout(), None);
    }
}

/// Answers to a request of ours that we cannot take.
fn useless() -> [Payloads; 3] {
    let good = child_payloads(Some(&public()));
    let wide = payloads(|message| message.ts(PayloadType::TS_R, crate::network::selectors(&["10.0.0.0/8"])));
    let other = EspProposal::parse("aes128gcm16-x25519-esn").unwrap();
    let other = payloads(|message| message.sa(ProtocolId::ESP, &[9; 4], [(1, other.transforms(true))]));
    [
        with_body(&good, PayloadType::TS_R, &wide.1[4..]),
        with_body(&good, PayloadType::SA, &other.1[4..]),
        // As OpenIKED says it.
        with_body(&good, PayloadType::TS_R, &[0; 4]),
    ]
}

#[test]
fn f_52_an_answer_to_a_rekey_that_cannot_be_taken_is_told_once() {
    for (number, answer) in useless().iter().enumerate() {
        let (mut host, mut peer, _) = asking(7);
        let (_, sent) = peer.respond(&mut host, CREATE, answer);
        assert_eq!((sent.len(), deleted(&peer.open(&sent[0])).len(), host.failures.len()), (1, 1, 1), "{number}");
        let (_, sent) = peer.respond(&mut host, INFO, &NOTHING);
        assert_eq!((sent.len(), host.failures.len()), (0, 1), "{number}: {:?}", host.story);
        assert!(host.endpoint.occupancy().child_sas == 1 && host.installed.len() == 1 && peer.alive(&mut host));
        // Of one that goes anyway, only that it went.
        let (mut host, mut peer, _) = asking(7);
        host.endpoint.close_child(NOW, host.sending[&CHILD]).unwrap();
        let (_, sent) = peer.respond(&mut host, CREATE, answer);
        assert_eq!((sent.len(), deleted(&peer.open(&sent[0])).len()), (1, 2), "{number}");
        let _ = peer.respond(&mut host, INFO, &NOTHING);
        assert!(host.failures.is_empty() && host.endpoint.occupancy().child_sas == 0, "{number}: {:?}", host.story);
        // Whoever asked for a child is told.
        let (mut host, mut peer) = Scripted::established_by_host(7);
        peer.next = [0, 2];
        let ike = host.ike_id();
        host.endpoint.create_child(NOW, ike, CHILD).unwrap();
        assert_eq!(transmits(&mut host).len(), 1);
        let _ = peer.respond(&mut host, CREATE, answer);
        let _ = peer.respond(&mut host, INFO, &NOTHING);
        assert_eq!((host.failures.len(), host.endpoint.occupancy().child_sas), (1, 1), "{number}: {:?}", host.story);
    }
}

/// The host asks for a rekey of its child, which its caller closes meanwhile; then the caller wants one again.
fn wished_again(seed: u64) -> (Host, Scripted, [ChildId; 2]) {
    let (mut host, peer, _) = asking(seed);
    let (ike, old) = (host.ike_id(), host.sending[&CHILD]);
    host.endpoint.close_child(NOW, old).unwrap();
    let wish = host.endpoint.create_child(NOW, ike, CHILD).unwrap();
    assert!(transmits(&mut host).is_empty() && host.endpoint.occupancy().child_sas == 2);
    (host, peer, [old, wish])
}

/// The peer makes what it is asked for next, as a new Child SA: it is what was wished for.
fn fulfilled(host: &mut Host, peer: &mut Scripted, request: &[u8], wish: ChildId) {
    let request = peer.open(request);
    assert!(notifies(&request).is_empty() && body(&request, PayloadType::TS_I).is_some());
    let group = body(&request, PayloadType::KE).unwrap();
    assert_eq!(group[..2], [0, 31]);
    let _ = peer.respond(host, CREATE, &child_payloads(Some(&public())));
    assert_eq!((host.sending[&CHILD], host.failures.len()), (wish, 0), "{:?}", host.story);
}

#[test]
fn f_49_a_wish_that_a_rekey_was_to_fulfil_waits_for_a_peer_that_is_busy() {
    let (mut host, mut peer, [old, wish]) = wished_again(8);
    let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::TEMPORARY_FAILURE, &[]));
    assert_eq!(deleted(&peer.open(&sent[0])), [host.installed[&old].spi_in]);
    let (_, sent) = peer.respond(&mut host, INFO, &NOTHING);
    assert!(sent.is_empty() && host.failures.is_empty() && host.installed.is_empty(), "{:?}", host.story);
    let retry = host.endpoint.poll_timeout().unwrap();
    let longest = Settings::default().retry;
    assert!(NOW + longest / 2 <= retry && retry <= NOW + longest, "{retry:?}");
    host.endpoint.handle_timeout(retry);
    let sent = transmits(&mut host);
    fulfilled(&mut host, &mut peer, &sent[0], wish);
}

#[test]
fn f_53_a_wish_that_a_rekey_was_to_fulfil_is_asked_for_by_itself_when_only_the_rekey_is_refused() {
    for answer in [not_found(ESP_SPI), notify(NotifyKind::TS_UNACCEPTABLE, &[])] {
        let (mut host, mut peer, [_, wish]) = wished_again(9);
        let (_, mut sent) = peer.respond(&mut host, CREATE, &answer);
        if !deleted(&peer.open(&sent[0])).is_empty() {
            (_, sent) = peer.respond(&mut host, INFO, &NOTHING);
        }
        fulfilled(&mut host, &mut peer, &sent[0], wish);
    }
    // With another group too.
    let (mut host, mut peer, _) = wished_again(9);
    let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::INVALID_KE_PAYLOAD, &[0, 19]));
    let request = peer.open(&sent[0]);
    assert_eq!((notifies(&request), &body(&request, PayloadType::KE).unwrap()[..2]), (vec![], &[0, 19][..]));
    // And no more often than that.
    let (mut host, mut peer, _) = wished_again(9);
    let _ = peer.respond(&mut host, CREATE, &not_found(ESP_SPI));
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    let (_, sent) = peer.respond(&mut host, CREATE, &not_found(ESP_SPI));
    assert!(sent.is_empty() && host.endpoint.occupancy().child_sas == 0);
    assert_eq!(host.failures, [Failure::Notified(NotifyKind::CHILD_SA_NOT_FOUND)]);
}

#[test]
fn f_53_whoever_waits_for_what_a_rekey_makes_is_told_once_that_nothing_comes_of_it() {
    let (mut host, mut peer, [old, _]) = wished_again(10);
    let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::NO_ADDITIONAL_SAS, &[]));
    assert_eq!(deleted(&peer.open(&sent[0])), [host.installed[&old].spi_in]);
    let (_, sent) = peer.respond(&mut host, INFO, &NOTHING);
    assert!(sent.is_empty() && host.endpoint.occupancy().child_sas == 0);
    assert_eq!(host.failures, [Failure::NoAdditionalSas(Side::Peer)], "{:?}", host.story);
}

#[test]
fn f_53_what_is_made_anew_and_refused_is_told() {
    let (mut host, mut peer, _) = asking(12);
    let (_, sent) = peer.respond(&mut host, CREATE, &not_found(ESP_SPI));
    assert!(sent.len() == 1 && host.failures.is_empty());
    let _ = peer.respond(&mut host, CREATE, &notify(NotifyKind::NO_ADDITIONAL_SAS, &[]));
    assert_eq!(host.failures, [Failure::NoAdditionalSas(Side::Peer)], "{:?}", host.story);
    assert_eq!(host.endpoint.occupancy().child_sas, 0);
}

#[test]
fn f_52_a_child_whose_lifetime_ends_during_its_rekey_is_told_as_expired() {
    // Unless it was closed before that.
    for (closed, told) in [(false, "child 0 down: Expired"), (true, "child 0 down: ClosedHere")] {
        expiring(closed, told);
    }
}

fn expiring(closed: bool, told: &str) {
    let [mut left, _] = pair();
    left.ike = vec![IkeProposal::parse(SUITE).unwrap()];
    left.dpd = Duration::ZERO;
    left.children[0].lifetime = seconds(100);
    let mut host = Host::new(77, vec![left], Settings::default());
    let (mut peer, _) = Scripted::answer(&mut host, 11);
    peer.next[1] = 1;
    let auth = peer.auth_payloads();
    let _ = peer.respond(&mut host, ExchangeType::IKE_AUTH, &auth);
    host.endpoint.rekey_child(NOW + Duration::from_millis(99_900), host.sending[&CHILD]).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    let now = NOW + seconds(100);
    if closed {
        host.endpoint.close_child(NOW + Duration::from_millis(99_950), host.sending[&CHILD]).unwrap();
    }
    host.endpoint.handle_timeout(now);
    assert!(transmits(&mut host).is_empty());
    for (exchange, answer) in [(CREATE, notify(NotifyKind::NO_ADDITIONAL_SAS, &[])), (INFO, NOTHING)] {
        let header = peer.header(exchange, true, peer.next[1]);
        peer.next[1] += 1;
        let message = peer.seal(&header, &answer);
        let (handled, sent) = tell_at(&mut host, now, peer.path, &message);
        assert_eq!((handled, sent.len()), (Ok(()), usize::from(exchange == CREATE)));
    }
    assert!(host.failures.is_empty() && host.installed.is_empty(), "{:?}", host.story);
    assert_eq!(host.story.last().unwrap(), told);
}
