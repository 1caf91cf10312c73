//! Which Child SA replaces which, tested against the scripted peer: it runs other code than we do.

use std::time::Duration;

use ike_core::endpoint::Settings;
use ike_core::failure::Failure;
use ike_core::registry::{NotifyKind, PayloadType};
use ike_core::wire::header::Header;
use ipsec_core::net::Spi;

use super::*;

#[test]
fn f_41_a_rekeyed_child_goes_on_when_the_peer_deletes_the_new_one_again() {
    // Before anything was sent through the new one, and after.
    for used in [false, true] {
        let mut host = lax(0, [12, 16, 1280], Settings::default());
        let mut peer = up(&mut host, 2);
        let old = host.sending[&CHILD];
        for new in [0x0102_0304, 0x0102_0305] {
            let answer = peer.ask(&mut host, CREATE, &child_of(Some(ESP_SPI), new));
            assert!(notifies(&answer).is_empty(), "{:?}", notifies(&answer));
            if used {
                let made = *host.installed.keys().find(|child| **child != old).unwrap();
                host.endpoint.heard(NOW, made);
                let _ = transmits(&mut host);
                assert_eq!(host.sending[&CHILD], made);
            }
            let delete = payloads(|message| message.delete_esp(&[Spi::new(new).unwrap()]));
            assert_eq!(deleted(&peer.ask(&mut host, INFO, &delete)).len(), 1);
            assert_eq!((host.installed.len(), host.sending[&CHILD]), (1, old), "{:?}", host.story);
        }
        assert!(!host.endpoint.child_sas().next().unwrap().replaced);
        // It is not deleted as a leftover, and its own rekey comes, though not at once.
        host.endpoint.handle_timeout(NOW + seconds(1));
        assert!(transmits(&mut host).is_empty());
        host.endpoint.handle_timeout(NOW + seconds(31));
        let sent: Vec<_> =
            transmits(&mut host).iter().map(|message| Header::parse(message).unwrap().exchange).collect();
        assert_eq!((sent, host.installed.len()), (vec![CREATE], 1));
    }
}

#[test]
fn f_41_that_a_child_may_be_used_is_told_when_something_comes_through_it_however_late() {
    let settings = Settings { settle: seconds(1), ..Settings::default() };
    let mut host = lax(0, [12, 16, 1280], settings);
    let mut peer = up(&mut host, 4);
    let old = host.sending[&CHILD];
    peer.ask(&mut host, CREATE, &child_of(Some(ESP_SPI), 0x0102_0304));
    let made = *host.installed.keys().find(|child| **child != old).unwrap();
    host.endpoint.handle_timeout(NOW + seconds(5));
    let _ = transmits(&mut host);
    assert_eq!(host.sending[&CHILD], old);
    host.endpoint.heard(NOW + seconds(6), made);
    let _ = transmits(&mut host);
    assert_eq!(host.sending[&CHILD], made, "not before the next message");
}

#[test]
fn d_a_child_of_the_peers_rekey_is_not_sent_through_as_long_as_our_answer_may_be_lost() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 5);
    let old = host.sending[&CHILD];
    let header = peer.header(CREATE, false, peer.next[0]);
    let request = peer.seal(&header, &child_of(Some(ESP_SPI), 0x0102_0304));
    assert_eq!(peer.tell(&mut host, &request).1.len(), 1);
    let made = *host.installed.keys().find(|child| **child != old).unwrap();
    // It hears nothing of that, repeats its request and has no keys of the new SA.
    for second in [4, 11, 24] {
        host.endpoint.handle_timeout(NOW + seconds(second));
        let (_, again) = peer.tell(&mut host, &request);
        assert_eq!(again.len(), 1);
        assert_eq!(host.sending[&CHILD], old, "after {second} s");
    }
    // It never deletes the old one: we do, and whatever it thinks of the new one, there is no other any more.
    host.endpoint.handle_timeout(NOW + seconds(30));
    assert_eq!(transmits(&mut host).len(), 1);
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    assert_eq!(host.sending[&CHILD], made, "{:?}", host.story);
}

#[test]
fn d_who_rekeys_what_its_own_rekey_made_has_it() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 6);
    let old = host.sending[&CHILD];
    let news = |host: &mut Host, peer: &mut Scripted, replaced: [u8; 4], spi: u32| {
        let known: Vec<_> = host.installed.keys().copied().collect();
        peer.ask(host, CREATE, &child_of(Some(replaced), spi));
        *host.installed.keys().find(|child| !known.contains(child)).unwrap()
    };
    let made = news(&mut host, &mut peer, ESP_SPI, 0x0102_0304);
    assert_eq!(host.sending[&CHILD], old, "our answer may be lost");
    let _ = news(&mut host, &mut peer, [1, 2, 3, 4], 0x0506_0708);
    assert_eq!(host.sending[&CHILD], made, "{:?}", host.story);
}

#[test]
fn f_45_the_end_of_what_the_peer_replaced_ends_nothing_else() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 7);
    let (ike, old) = (host.ike_id(), host.sending[&CHILD]);
    // Nothing else can be asked of it.
    host.endpoint.check_liveness(NOW, ike).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    peer.ask(&mut host, CREATE, &child_of(Some(ESP_SPI), 0x0102_0304));
    host.endpoint.close_child(NOW, old).unwrap();
    for second in 1..=60 {
        host.endpoint.heard(NOW + seconds(second), old);
        host.endpoint.handle_timeout(NOW + seconds(second));
        let _ = transmits(&mut host);
    }
    assert!(host.endpoint.ike_sa(ike).is_some(), "{:?}", host.story);
}

#[test]
fn f_41_of_both_deleted_in_one_message_the_one_that_was_replaced_drains_and_then_both_are_gone() {
    for turned in [false, true] {
        let mut host = lax(0, [12, 16, 1280], Settings::default());
        let mut peer = up(&mut host, 3);
        peer.ask(&mut host, CREATE, &child_of(Some(ESP_SPI), 0x0102_0304));
        let mut spis = [u32::from_be_bytes(ESP_SPI), 0x0102_0304].map(|spi| Spi::new(spi).unwrap());
        if turned {
            spis.reverse();
        }
        peer.ask(&mut host, INFO, &payloads(|message| message.delete_esp(&spis)));
        assert_eq!(host.installed.len(), 1, "the one that was replaced drains, turned {turned}");
        host.endpoint.handle_timeout(NOW + seconds(6));
        let _ = transmits(&mut host);
        assert!(host.installed.is_empty() && host.sending.is_empty(), "{:?}", host.story);
    }
}

/// The peer's rekey of a child, as the responder of the IKE SA.
fn their_rekey(old: [u8; 4], new: [u8; 4], nonce: [u8; 32]) -> Payloads {
    let ts = |nets: &str| crate::network::selectors(&[nets]);
    payloads(|message| {
        message.notify(ProtocolId::ESP, &old, NotifyKind::REKEY_SA, &[])?;
        message.sa(ProtocolId::ESP, &new, [(1, esp(true).transforms(true))])?;
        message.nonce(&nonce)?;
        message.ke(GroupId::CURVE25519, &public())?;
        message.ts(PayloadType::TS_I, ts("10.2.0.0/16"))?;
        message.ts(PayloadType::TS_R, ts("10.1.0.0/16"))
    })
}

/// Rekeys of the child by both: what the host deletes, and its SPIs before, and of the SA that its own exchange made.
fn crossing_child(theirs: [u8; 32], answer: [u8; 32]) -> ((Host, Scripted), Vec<u32>, [u32; 2], usize) {
    let ((mut host, mut peer), delete, spis) = crossed_child(theirs, answer);
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    let sends = host.installed.get(&host.sending[&CHILD]).map_or(0, |child| child.spi_out as usize);
    ((host, peer), delete, spis, sends)
}

/// The same while the peer has not answered that Delete.
fn crossed_child(theirs: [u8; 32], answer: [u8; 32]) -> ((Host, Scripted), Vec<u32>, [u32; 2]) {
    let (mut host, mut peer, _) = asking(30);
    let old = host.installed[&host.sending[&CHILD]].spi_in;
    let made = peer.ask(&mut host, CREATE, &their_rekey(ESP_SPI, [4; 4], theirs));
    assert!(notifies(&made).is_empty(), "{:?}", notifies(&made));
    let known: Vec<_> = host.installed.values().map(|child| child.spi_in).collect();
    let mut response = with_body(&child_payloads(Some(&public())), PayloadType::NONCE, &answer);
    let sa = payloads(|message| message.sa(ProtocolId::ESP, &[5; 4], [(1, esp(true).transforms(true))]));
    response = with_body(&response, PayloadType::SA, &sa.1[4..]);
    let (handled, sent) = peer.respond(&mut host, CREATE, &response);
    assert_eq!((handled, sent.len()), (Ok(()), 1), "{:?}", host.story);
    let ours = host.installed.values().find(|child| !known.contains(&child.spi_in)).unwrap().spi_in;
    let delete = deleted(&peer.open(&sent[0]));
    ((host, peer), delete, [old, ours])
}

#[test]
fn d_what_the_peers_crossing_rekey_made_is_not_sent_through_because_ours_was_deleted() {
    // Our answer to it may be lost, and the old one stands.
    let ((mut host, mut peer), _, _, sends) = crossing_child([1; 32], [0; 32]);
    assert_eq!(sends, u32::from_be_bytes(ESP_SPI) as usize, "{:?}", host.story);
    // The peer has it: it deletes the old one.
    let delete = payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(ESP_SPI)).unwrap()]));
    peer.ask(&mut host, INFO, &delete);
    let sends = host.installed[&host.sending[&CHILD]].spi_out;
    assert_eq!(sends, 0x0404_0404, "{:?}", host.story);
}

#[test]
fn d_of_crossing_child_rekeys_the_one_with_the_lowest_nonce_goes() {
    // RFC 7296 §2.8.1: "the SA created with the lowest of the four nonces SHOULD be closed by the endpoint that created it".
    // Both of the peer's are lower than what the host draws: it makes a difference that the lowest decides, not the highest.
    // The peer's answer to the host holds the lowest: the host closes what it made.
    let (_ends, delete, [_, ours], _) = crossing_child([1; 32], [0; 32]);
    assert_eq!(delete, [ours]);
    // The peer's own request holds it: the peer closes that, the host the old one, and sends through its own.
    let (_ends, delete, [old, _], sends) = crossing_child([0; 32], [1; 32]);
    assert_eq!((delete, sends), (vec![old], 0x0505_0505));
}

#[test]
fn what_made_room_for_one_that_the_peer_deletes_all_the_same_does_not_drain() {
    let ((mut host, mut peer), delete, [old, ours]) = crossed_child([1; 32], [0; 32]);
    assert_eq!((delete, host.installed.len()), (vec![ours], 3), "{:?}", host.story);
    // The peer deletes what its own exchange made, too: nothing is left but the one that both were to replace.
    let delete = payloads(|message| message.delete_esp(&[Spi::new(0x0404_0404).unwrap()]));
    assert_eq!(deleted(&peer.ask(&mut host, INFO, &delete)).len(), 1);
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    let left: Vec<_> = host.installed.values().map(|child| child.spi_in).collect();
    assert_eq!(left, [old], "{:?}", host.story);
}

#[test]
fn f_41_of_crossing_child_rekeys_the_one_that_the_peer_keeps_goes_on() {
    let ((mut host, mut peer), _, _, sends) = crossing_child([0; 32], [0xff; 32]);
    assert_eq!((host.installed.len(), sends), (3, 0x0505_0505), "{:?}", host.story);
    // The peer decides otherwise and deletes what our exchange made: what its own made is all that is left.
    let delete = payloads(|message| message.delete_esp(&[Spi::new(0x0505_0505).unwrap()]));
    assert_eq!(deleted(&peer.ask(&mut host, INFO, &delete)).len(), 1);
    let sends = |host: &Host| host.sending.get(&CHILD).map(|child| host.installed[child].spi_out);
    assert_eq!(sends(&host), Some(0x0404_0404), "{:?}", host.story);
    // That was told, and is no news when something comes through it.
    let left = host.sending[&CHILD];
    host.sending.clear();
    host.endpoint.heard(NOW, left);
    host.endpoint.handle_timeout(NOW);
    let _ = transmits(&mut host);
    assert!(host.sending.is_empty(), "{:?}", host.story);
    host.sending.insert(CHILD, left);
    // And it stays, and is rekeyed in its time.
    let mut asked = 0;
    for second in 0..20 {
        host.endpoint.handle_timeout(NOW + seconds(second));
        for message in transmits(&mut host).iter().take(1 - asked) {
            assert_eq!(notifies(&peer.open(message)), [NotifyKind::REKEY_SA], "{second}");
            asked += 1;
            let _ = peer.respond(&mut host, CREATE, &notify(NotifyKind::NO_ADDITIONAL_SAS, &[]));
        }
    }
    assert_eq!((sends(&host), host.installed.len(), asked), (Some(0x0404_0404), 1, 1), "{:?}", host.story);
}

#[test]
fn f_52_a_rekey_of_a_child_that_is_refused_for_good_is_tried_again_much_later() {
    let (mut host, mut peer, _) = asking(33);
    let (_, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::NO_ADDITIONAL_SAS, &[]));
    assert!(sent.is_empty());
    let retry = host.endpoint.child_sas().next().unwrap().rekey_at.unwrap().since(NOW);
    assert_eq!(retry, 15 * Settings::default().retry);
}

#[test]
fn d_the_hard_lifetime_of_a_child_is_its_end() {
    let mut host = {
        let [_, mut right] = pair();
        right.ike = vec![IkeProposal::parse(SUITE).unwrap()];
        right.dpd = Duration::ZERO;
        right.children[0].lifetime = seconds(100);
        Host::new(77, vec![right], Settings::default())
    };
    let mut peer = up(&mut host, 40);
    host.endpoint.handle_timeout(NOW + seconds(99));
    assert!(transmits(&mut host).is_empty() && host.installed.len() == 1);
    host.endpoint.handle_timeout(NOW + seconds(100));
    let sent = transmits(&mut host);
    assert_eq!(deleted(&peer.open(&sent[0])), [host.installed[&host.sending[&CHILD]].spi_in]);
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    assert!(host.installed.is_empty() && host.story.contains(&"child 0 down: Expired".into()), "{:?}", host.story);
}

#[test]
fn d_a_replaced_child_receives_for_a_while_what_is_still_on_its_way() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 41);
    let old = host.sending[&CHILD];
    peer.ask(&mut host, CREATE, &child_of(Some(ESP_SPI), 0x0102_0304));
    let delete = payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(ESP_SPI)).unwrap()]));
    peer.ask(&mut host, INFO, &delete);
    assert!(host.installed.contains_key(&old) && host.sending[&CHILD] != old, "{:?}", host.story);
    host.endpoint.handle_timeout(NOW + Duration::from_millis(4_999));
    let _ = transmits(&mut host);
    assert!(host.installed.contains_key(&old));
    host.endpoint.handle_timeout(NOW + seconds(5));
    let _ = transmits(&mut host);
    assert!(!host.installed.contains_key(&old) && host.installed.len() == 1);
}

/// strongSwan that is to carry networks in transport mode asks like that.
#[test]
fn a_request_without_any_selector_is_told_as_that() {
    for kind in [PayloadType::TS_I, PayloadType::TS_R] {
        let mut host = lax(0, [12, 16, 1280], Settings::default());
        let mut peer = up(&mut host, 2);
        let asked = with_body(&child_of(None, 0x0102_0304), kind, &[0; 4]);
        assert_eq!(notifies(&peer.ask(&mut host, CREATE, &asked)), [NotifyKind::TS_UNACCEPTABLE]);
        assert_eq!(host.failures, [Failure::EmptyTrafficSelectors], "{kind:?}: {:?}", host.story);
    }
}

#[test]
fn d_a_responder_may_narrow_and_not_widen_nor_say_what_we_do_not_know() {
    let wide = |net: &str| {
        payloads(|message| message.ts(PayloadType::TS_I, crate::network::selectors(&[net]))).1[4..].to_vec()
    };
    let unknown = |net: &str| {
        let mut body = wide(net);
        body[0] = 2;
        // A selector for Fibre Channel (RFC 4595) beside the good one.
        body.extend([9, 0, 0, 8, 0, 0, 0, 0]);
        body
    };
    for (kind, answered, taken) in [
        (PayloadType::TS_I, wide("10.1.2.0/24"), true),
        (PayloadType::TS_R, wide("10.2.2.0/24"), true),
        (PayloadType::TS_I, wide("10.0.0.0/8"), false),
        (PayloadType::TS_R, wide("10.0.0.0/8"), false),
        (PayloadType::TS_R, wide("10.3.0.0/16"), false),
        (PayloadType::TS_I, unknown("10.1.2.0/24"), false),
        (PayloadType::TS_R, unknown("10.2.2.0/24"), false),
    ] {
        let (mut host, mut peer, _) = asking(42);
        let _ = peer.respond(&mut host, CREATE, &with_body(&child_payloads(Some(&public())), kind, &answered));
        assert_eq!(host.installed.len() == 2, taken, "{kind:?} {answered:?}: {:?}", host.story);
        // That there was more than the one selector that is told is told, too.
        let more = host.failures.iter().map(|cause| matches!(cause, Failure::NoSelectorsInCommon(asked) if asked.more));
        assert_eq!(
            more.collect::<Vec<_>>(),
            if taken { vec![] } else { vec![answered[0] == 2] },
            "{kind:?} {answered:?}"
        );
    }
}

#[test]
fn d_what_the_peer_should_have_deleted_goes_in_the_end_all_the_same() {
    // The old one of a rekey.
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 50);
    let old = host.installed[&host.sending[&CHILD]].spi_in;
    peer.ask(&mut host, CREATE, &child_of(Some(ESP_SPI), 0x0102_0304));
    assert!(peer.alive(&mut host));
    host.endpoint.handle_timeout(NOW + Duration::from_millis(29_999));
    assert!(transmits(&mut host).is_empty());
    host.endpoint.handle_timeout(NOW + seconds(30));
    assert_eq!(deleted(&peer.open(&transmits(&mut host)[0])), [old]);
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    // The redundant one of two that crossed; nothing is sent through it meanwhile.
    let ((mut host, _), delete, [old, ours], _) = crossing_child([0; 32], [1; 32]);
    let theirs = host.installed.values().map(|child| child.spi_in).find(|spi| ![old, ours].contains(spi)).unwrap();
    assert_eq!(delete, [old]);
    let sending = host.sending[&CHILD];
    let views: Vec<_> = host.endpoint.child_sas().map(|child| (child.spi_in.get(), child.replaced)).collect();
    assert!(views.contains(&(theirs, true)) && views.contains(&(ours, false)), "{views:?}");
    let mut now = NOW;
    while now < NOW + seconds(29) {
        now = now + seconds(1);
        host.endpoint.handle_timeout(now);
        assert!(transmits(&mut host).is_empty());
        assert_eq!(host.sending[&CHILD], sending);
    }
    host.endpoint.handle_timeout(NOW + seconds(30));
    assert_eq!(transmits(&mut host).len(), 1, "its Delete");
}

#[test]
fn what_carries_on_is_found_behind_one_that_is_gone() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 66);
    let spis = [u32::from_be_bytes(ESP_SPI), 0x0102_0304, 0x0102_0305, 0x0102_0306];
    for pair in spis.windows(2) {
        let (old, new) = (pair[0], pair[1]);
        let answer = peer.ask(&mut host, CREATE, &child_of(Some(old.to_be_bytes()), new));
        assert!(notifies(&answer).is_empty(), "{:?}", notifies(&answer));
    }
    for (second, gone) in [(0, spis[2]), (10, spis[1])] {
        host.endpoint.handle_timeout(NOW + seconds(second));
        let _ = transmits(&mut host);
        peer.ask(&mut host, INFO, &payloads(|message| message.delete_esp(&[Spi::new(gone).unwrap()])));
        let sends = &host.installed[&host.sending[&CHILD]];
        assert_eq!(sends.spi_out, spis[3], "{second} {:?}", host.story);
    }
}

#[test]
fn d_a_child_that_was_replaced_before_it_was_used_is_not_sent_through() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 56);
    let first = host.sending[&CHILD];
    peer.ask(&mut host, CREATE, &child_of(Some(ESP_SPI), 0x0102_0304));
    peer.ask(&mut host, CREATE, &child_of(Some([1, 2, 3, 4]), 0x0102_0305));
    let delete = payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(ESP_SPI)).unwrap()]));
    peer.ask(&mut host, INFO, &delete);
    assert_ne!(host.sending[&CHILD], first, "the peer has deleted it");
    assert_eq!(host.installed[&host.sending[&CHILD]].spi_out, 0x0102_0305);
}

#[test]
fn f_10_what_goes_on_and_what_drains_is_told_before_what_ends_whatever_its_place() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 78);
    let esp_spi = u32::from_be_bytes(ESP_SPI);
    let rekey = |host: &mut Host, peer: &mut Scripted, old: u32, new: u32| {
        assert!(notifies(&peer.ask(host, CREATE, &child_of(Some(old.to_be_bytes()), new))).is_empty());
        let made = host.endpoint.child_sas().find(|child| child.spi_out.get() == new).unwrap();
        (made.id, made.spi_in.get() & 0xf)
    };
    let delete = |spis: [u32; 2]| payloads(|message| message.delete_esp(&spis.map(|spi| Spi::new(spi).unwrap())));
    // The one in use sits behind two places that become free.
    rekey(&mut host, &mut peer, esp_spi, 0x0102_0301);
    let (old, place) = rekey(&mut host, &mut peer, 0x0102_0301, 0x0102_0302);
    peer.ask(&mut host, INFO, &delete([esp_spi, 0x0102_0301]));
    host.endpoint.handle_timeout(NOW + seconds(5));
    let _ = transmits(&mut host);
    assert_eq!((host.installed.len(), host.sending[&CHILD]), (1, old), "{:?}", host.story);
    // It is replaced twice; then the peer deletes the first and the last of the three at once.
    let (heir, _) = rekey(&mut host, &mut peer, 0x0102_0302, 0x0102_0303);
    let (last, last_place) = rekey(&mut host, &mut peer, 0x0102_0303, 0x0102_0304);
    assert!(last_place < place, "the other way round shows nothing");
    host.turns.clear();
    peer.ask(&mut host, INFO, &delete([0x0102_0302, 0x0102_0304]));
    assert_eq!(host.turns, [("outbound", heir), ("draining", old), ("down", last)]);
    assert_eq!(host.sending[&CHILD], heir);
}

#[test]
fn d_a_child_of_the_peer_is_rekeyed_once_the_peer_has_our_answer_for_sure() {
    for by_time in [false, true] {
        let mut host = lax(0, [12, 16, 1280], Settings::default());
        let mut peer = Scripted::initiate(&mut host, 57);
        let auth = peer.auth_payloads();
        peer.ask(&mut host, ExchangeType::IKE_AUTH, &auth);
        let child = host.sending[&CHILD];
        host.endpoint.rekey_child(NOW, child).unwrap();
        assert!(transmits(&mut host).is_empty(), "the peer may not know of it yet");
        if by_time {
            host.endpoint.handle_timeout(NOW + seconds(10));
            assert_eq!(transmits(&mut host).len(), 1);
        } else {
            let header = peer.header(INFO, false, peer.next[0]);
            let message = peer.seal(&header, &NOTHING);
            assert_eq!(peer.tell(&mut host, &message).1.len(), 2, "the answer, and the rekey");
        }
    }
}

#[test]
fn d_a_child_that_goes_or_is_not_decided_on_is_not_rekeyed() {
    let busy = [NotifyKind::TEMPORARY_FAILURE];
    // It is to be deleted, as soon as the request before is answered.
    let (mut host, mut peer) = Scripted::established_by_host(58);
    peer.next = [0, 2];
    let (ike, child) = (host.ike_id(), host.sending[&CHILD]);
    host.endpoint.create_child(NOW, ike, CHILD).unwrap();
    host.endpoint.close_child(NOW, child).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    assert_eq!(notifies(&peer.ask(&mut host, CREATE, &their_rekey(ESP_SPI, [4; 4], [1; 32]))), busy);
    // A rekey of the peer's made it, and ours of the same child is not answered yet.
    let (mut host, mut peer, _) = asking(59);
    assert!(notifies(&peer.ask(&mut host, CREATE, &their_rekey(ESP_SPI, [4; 4], [1; 32]))).is_empty());
    assert_eq!(notifies(&peer.ask(&mut host, CREATE, &their_rekey([4; 4], [5; 4], [1; 32]))), busy);
    assert_eq!(notifies(&peer.ask(&mut host, CREATE, &their_rekey(ESP_SPI, [5; 4], [1; 32]))), busy);
    // And one that nobody knows is not found, by the name that the peer gave it.
    let answer = peer.respond(&mut host, CREATE, &notify(NotifyKind::NO_ADDITIONAL_SAS, &[]));
    assert_eq!(answer.0, Ok(()));
    let answer = peer.ask(&mut host, CREATE, &their_rekey([9; 4], [6; 4], [1; 32]));
    assert_eq!(body(&answer, PayloadType::NOTIFY).unwrap(), [3, 4, 0, 44, 9, 9, 9, 9]);
}
