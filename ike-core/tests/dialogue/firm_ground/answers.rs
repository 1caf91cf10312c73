//! What is answered, what counts as a sign of life, and what an error ends.

use ike_core::endpoint::Settings;
use ike_core::failure::{Failure, Side};
use ike_core::proposal::EspProposal;
use ike_core::registry::{ExchangeType, NotifyKind, PayloadType};
use ike_core::wire::header::Header;
use ipsec_core::net::{Path, Spi};

use super::*;
use crate::network::{child, selectors};

#[test]
fn f_45_a_request_that_somebody_repeats_is_no_sign_of_life() {
    let mut host = lax(20, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 8);
    let header = peer.header(INFO, false, peer.next[0]);
    let last = peer.seal(&header, &NOTHING);
    let (_, answer) = peer.tell(&mut host, &last);
    // The peer is dead now. Somebody on the path repeats its last request, every two seconds.
    let heard = host.ike().unwrap().heard;
    let mut now = NOW;
    while host.ike().is_some() {
        now = now + seconds(2);
        assert!(now.since(NOW) < seconds(60), "the dead peer lives");
        host.endpoint.handle_timeout(now);
        let _ = transmits(&mut host);
        if host.ike().is_some() {
            assert_eq!(tell_at(&mut host, now, peer.path, &last), (Ok(()), answer.clone()));
            assert_eq!(host.ike().unwrap().heard, heard);
        }
    }
}

/// It refuses to answer rekeys, or its answers are lost: what its packets come through is not given up for that.
#[test]
fn f_45_a_peer_that_leaves_a_request_unanswered_and_sends_on_keeps_its_sas_and_is_told_of() {
    // What becomes of it: an answer after all, silence, or the end of what has to go and cannot.
    for end in ["answer", "silence", "close"] {
        let (mut host, mut peer, _) = asking(21);
        let child = host.sending[&CHILD];
        let told = |host: &Host| host.story.iter().filter(|line| *line == "unanswered CREATE_CHILD_SA").count();
        let mut sent = 0;
        for second in 1..=100 {
            let now = NOW + seconds(second);
            host.endpoint.heard(now, child);
            host.endpoint.handle_timeout(now);
            sent += transmits(&mut host).len();
            // And again, with each six repetitions more.
            let times = if second < 20 { 0 } else { 1 + (second - 20) / 24 };
            assert_eq!(told(&host) as u64, times, "after {second} s: {:?}", host.story);
        }
        assert!(sent > 20 && host.ike().is_some(), "{sent} sent, {:?}", host.story);
        let now = NOW + seconds(100);
        let mut said = Vec::new();
        let mut lasts = |host: &mut Host| {
            let over = |second: &u64| {
                host.endpoint.handle_timeout(now + seconds(*second));
                said = transmits(host);
                host.endpoint.ike_sas().next().is_none()
            };
            (1..60).find(over)
        };
        match end {
            "answer" => {
                assert_eq!(peer.respond(&mut host, CREATE, &child_payloads(Some(&public()))).0, Ok(()));
                assert!(host.sending[&CHILD] != child && host.failures.is_empty(), "{:?}", host.story);
            }
            "silence" => {
                assert!(lasts(&mut host).is_some_and(|second| (19..=24).contains(&second)), "{:?}", host.story);
                assert_eq!((host.failures.as_slice(), said.len()), (&[Failure::PeerSilent(CREATE)][..], 0));
            }
            _ => {
                let ike = host.ike_id();
                host.endpoint.close(now, ike).unwrap();
                assert!(lasts(&mut host).is_some_and(|second| second <= 4), "{:?}", host.story);
                let [word] = &said[..] else { panic!("{said:?}") };
                assert_eq!(body(&peer.open(word), PayloadType::DELETE).unwrap()[0], ProtocolId::IKE.0, "a Delete");
            }
        }
    }
}

#[test]
fn f_45_what_is_to_go_goes_although_the_peer_sends_on_and_leaves_the_delete_unanswered() {
    let (mut host, _peer) = Scripted::established_by_host(22);
    let child = host.sending[&CHILD];
    host.endpoint.close_child(NOW, child).unwrap();
    let lasts = (1..60).find(|second| {
        let now = NOW + seconds(*second);
        host.endpoint.heard(now, child);
        host.endpoint.handle_timeout(now);
        let _ = transmits(&mut host);
        host.installed.is_empty() && host.endpoint.ike_sas().next().is_none()
    });
    assert_eq!(lasts, Some(20), "{:?}", host.story);
}

#[test]
fn f_45_a_delete_of_what_was_replaced_that_stays_unanswered_ends_nothing() {
    let (mut host, mut peer, _) = asking(24);
    let old = host.sending[&CHILD];
    assert_eq!(peer.respond(&mut host, CREATE, &child_payloads(Some(&public()))).0, Ok(()));
    let child = host.sending[&CHILD];
    for second in 1..=60 {
        host.endpoint.heard(NOW + seconds(second), child);
        host.endpoint.handle_timeout(NOW + seconds(second));
        let _ = transmits(&mut host);
    }
    assert!(old != child && host.installed.contains_key(&child) && host.ike().is_some(), "{:?}", host.story);
    assert!(host.story.iter().any(|line| line == "unanswered INFORMATIONAL"), "{:?}", host.story);
}

#[test]
fn f_45_an_ike_sa_that_the_peer_has_replaced_is_not_kept_by_what_its_children_receive() {
    let (mut host, mut peer) = asking_ike(23);
    let (child, old) = (host.sending[&CHILD], host.ike_id());
    let answer = peer.ask(&mut host, CREATE, &ike_rekey([9; 8], [1; 32]));
    assert!(notifies(&answer).is_empty(), "{:?}", notifies(&answer));
    for second in 1..=20 {
        host.endpoint.heard(NOW + seconds(second), child);
        host.endpoint.handle_timeout(NOW + seconds(second));
        let _ = transmits(&mut host);
    }
    assert!(host.endpoint.ike_sa(old).is_none(), "{:?}", host.story);
    let carrier = host.endpoint.child_sas().next().map(|sa| sa.ike);
    assert!(carrier.is_some_and(|ike| ike != old), "{:?}", host.story);
}

#[test]
fn f_45_a_new_request_and_an_awaited_answer_are_signs_of_life() {
    let mut host = lax(20, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 9);
    let later = NOW + seconds(15);
    let header = peer.header(INFO, false, peer.next[0]);
    let message = peer.seal(&header, &NOTHING);
    assert_eq!(tell_at(&mut host, later, peer.path, &message).0, Ok(()));
    assert_eq!(host.ike().unwrap().heard, Some(later));
    host.endpoint.handle_timeout(later + seconds(20));
    assert_eq!(transmits(&mut host).len(), 1, "a sign of life is asked for");
    let header = peer.header(INFO, true, 0);
    let message = peer.seal(&header, &NOTHING);
    assert_eq!(tell_at(&mut host, later + seconds(21), peer.path, &message).0, Ok(()));
    assert_eq!(host.ike().unwrap().heard, Some(later + seconds(21)));
}

#[test]
fn f_46_invalid_syntax_is_the_end_of_the_sa() {
    let no_ts = without(&without(&child_payloads(None), PayloadType::TS_I), PayloadType::TS_R);
    let bad_ike = with_body(&ike_rekey([7; 8], [1; 32]), PayloadType::KE, &[&[0, 31, 0, 0], &[0; 32][..]].concat());
    for (exchange, request) in [
        (CREATE, child_payloads(Some(&[0; 32]))),
        (CREATE, bad_ike),
        (CREATE, no_ts),
        (CREATE, without(&child_payloads(None), PayloadType::NONCE)),
        (INFO, Payloads(PayloadType::DELETE.0, vec![0, 0, 0, 5, 3])),
        (ExchangeType::IKE_AUTH, NOTHING),
    ] {
        let (mut host, mut peer) = Scripted::established(13);
        let request = if exchange == ExchangeType::IKE_AUTH { peer.auth_payloads() } else { request };
        let answer = peer.ask(&mut host, exchange, &request);
        assert_eq!(notifies(&answer), [NotifyKind::INVALID_SYNTAX]);
        assert!(host.ike().is_none() && host.installed.is_empty() && host.ended.len() == 1, "{:?}", host.story);
        assert!(!peer.alive(&mut host));
    }
}

#[test]
fn f_47_a_request_whose_answer_does_not_fit_is_answered_all_the_same() {
    let nets = |high: u8| (0..16).map(move |low| format!("fd{high}:{low}::/32")).collect::<Vec<_>>();
    let [_, mut right] = pair();
    right.ike = vec![IkeProposal::parse(SUITE).unwrap()];
    right.children[0].esp = crate::network::esp("aes256gcm16-x25519-modpnone");
    let (here, there) = (nets(12), nets(11));
    let [here, there] = [&here, &there].map(|nets| nets.iter().map(String::as_str).collect::<Vec<_>>());
    right.children.push(child(1, &here, &there, "aes256gcm16"));
    let mut host = Host::sized(77, vec![right], Settings::default(), [4, 8, 600]);
    let mut peer = up(&mut host, 14);
    let many = payloads(|message| {
        message.sa(ProtocolId::ESP, &[9; 4], [(1, esp(false).transforms(false))])?;
        message.nonce(&[3; 32])?;
        message.ts(PayloadType::TS_I, selectors(&["fd11::/16"]))?;
        message.ts(PayloadType::TS_R, selectors(&["fd12::/16"]))
    });
    let before = host.endpoint.occupancy();
    let answer = peer.ask(&mut host, CREATE, &many);
    assert_eq!(notifies(&answer), [NotifyKind::NO_ADDITIONAL_SAS]);
    assert_eq!((&host.failures[..], host.endpoint.occupancy()), (&[Failure::NoRoom][..], before));
    assert!(peer.alive(&mut host) && host.installed.len() == 1);
}

/// A host with this many more children.
fn with_children(count: u32, message: usize) -> (Host, Scripted, Vec<Spi>) {
    let settings = Settings { children_per_peer: 1_000, ..Settings::default() };
    let mut host = lax(0, [4, 512, message], settings);
    let mut peer = up(&mut host, 15);
    let spis = (0..count).map(|number| 0x0100_0000 + number);
    let spis = spis.map(|spi| {
        let answer = peer.ask(&mut host, CREATE, &child_of(None, spi));
        assert!(notifies(&answer).is_empty(), "{:?}", notifies(&answer));
        Spi::new(spi).unwrap()
    });
    let spis = spis.collect();
    (host, peer, spis)
}

#[test]
fn f_50_a_delete_of_forty_children_deletes_forty() {
    let (mut host, mut peer, spis) = with_children(40, 1280);
    assert_eq!(host.endpoint.child_sas().count(), 41);
    let mut ours: Vec<_> = host.installed.values().filter(|child| child.spi_out >= 0x0100_0000).collect();
    ours.retain(|child| child.spi_out < 0x0200_0000);
    let mut ours: Vec<_> = ours.iter().map(|child| child.spi_in).collect();
    let answer = peer.ask(&mut host, INFO, &payloads(|message| message.delete_esp(&spis)));
    let mut named = deleted(&answer);
    named.sort_unstable();
    ours.sort_unstable();
    assert_eq!((named, host.endpoint.child_sas().count(), host.installed.len()), (ours, 1, 1));
}

#[test]
fn f_47_a_delete_of_more_children_than_an_answer_can_name_deletes_them_all() {
    let (mut host, mut peer, spis) = with_children(200, 600);
    let answer = peer.ask(&mut host, INFO, &payloads(|message| message.delete_esp(&spis)));
    assert!(notifies(&answer).is_empty());
    assert_eq!((host.endpoint.child_sas().count(), host.installed.len()), (1, 1));
    assert!(peer.alive(&mut host));
}

#[test]
fn f_65_an_spi_that_the_peer_says_it_does_not_know_is_replaced() {
    let (mut host, mut peer) = Scripted::established_by_host(16);
    peer.next = [0, 2];
    let unknown = notify(NotifyKind::INVALID_SPI, &ESP_SPI);
    let claim = |host: &mut Host, peer: &mut Scripted, at| {
        let header = peer.header(INFO, false, peer.next[0]);
        let message = peer.seal(&header, &unknown);
        peer.next[0] += 1;
        let (handled, sent) = tell_at(host, at, peer.path, &message);
        assert_eq!(handled, Ok(()));
        sent
    };
    // Right after it came up, packets may have come before it did.
    assert_eq!(claim(&mut host, &mut peer, NOW + seconds(1)).len(), 1);
    let sent = claim(&mut host, &mut peer, NOW + seconds(11));
    let request = sent.iter().find(|message| Header::parse(message).unwrap().exchange == CREATE).expect("a rekey");
    let request = peer.open(request);
    assert_eq!(notifies(&request), [NotifyKind::REKEY_SA]);
    // Somebody else's SPI is nothing to act on.
    let (mut host, mut peer) = Scripted::established_by_host(16);
    peer.next = [0, 2];
    let other = notify(NotifyKind::INVALID_SPI, &[1, 2, 3, 4]);
    let header = peer.header(INFO, false, 0);
    let message = peer.seal(&header, &other);
    assert_eq!(tell_at(&mut host, NOW + seconds(11), peer.path, &message).1.len(), 1);
}

#[test]
fn f_65_a_claim_in_clear_makes_us_ask_the_peer_and_no_more() {
    let mut host = lax(600, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 17);
    let stranger = Header { initiator: true, ..Header::new(0, 0, INFO, 0) };
    let spi = in_clear(&stranger, &notify(NotifyKind::INVALID_SPI, &ESP_SPI));
    let ike = in_clear(&peer.header(INFO, true, 0), &notify(NotifyKind::INVALID_IKE_SPI, &[]));
    let elsewhere = Path { remote: "203.0.113.9:500".parse().unwrap(), ..peer.path };
    let before = snapshot(&host);
    for claim in [&spi, &ike] {
        let (handled, sent) = tell_at(&mut host, NOW + seconds(60), elsewhere, claim);
        assert!(handled.is_err() && sent.is_empty(), "from elsewhere");
    }
    let mut asked = 0;
    let mut now = NOW + seconds(60);
    for second in 0..100u64 {
        now = NOW + seconds(120 + second);
        let claim = if second % 3 == 0 { &spi } else { &ike };
        let (handled, sent) = tell_at(&mut host, now, peer.path, claim);
        assert!(handled.is_err() && sent.len() <= 1);
        for request in sent {
            asked += 1;
            assert_eq!(peer.open(&request).1, [], "a sign of life is asked for");
            let header = peer.header(INFO, true, peer.next[1]);
            peer.next[1] += 1;
            let answer = peer.seal(&header, &NOTHING);
            assert_eq!(tell_at(&mut host, now, peer.path, &answer).0, Ok(()));
        }
    }
    assert!((5..=10).contains(&asked), "{asked} in 100 s");
    assert!(snapshot(&host) == before && now > NOW);
    // A peer that is asked and does not answer is dead soon, long before its 600 s.
    let (_, sent) = tell_at(&mut host, now + seconds(30), peer.path, &ike);
    assert_eq!(sent.len(), 1);
    while host.ike().is_some() {
        host.endpoint.handle_timeout(host.endpoint.poll_timeout().unwrap());
        let _ = transmits(&mut host);
    }
    assert_eq!(host.failures, [Failure::PeerSilent(INFO)]);
}

#[test]
fn f_65_nobodys_claim_keeps_that_of_the_peer_from_being_looked_at() {
    let claim = |kind, data: &[u8]| in_clear(&Header::new(0, 0, INFO, 0), &notify(kind, data));
    let other = |path: Path, host: &str| Path { remote: host.parse().unwrap(), ..path };
    for named in [false, true] {
        let mut host = lax(60, [12, 16, 1280], Settings::default());
        let peer = up(&mut host, 18);
        let said = match named {
            true => in_clear(&peer.header(INFO, true, 0), &notify(NotifyKind::INVALID_IKE_SPI, &[])),
            false => claim(NotifyKind::INVALID_SPI, &ESP_SPI),
        };
        for second in 0..20 {
            // From anywhere, and in the peer's name.
            for path in [other(peer.path, "198.51.100.9:500"), peer.path] {
                let now = NOW + seconds(20 + second);
                let (_, sent) = tell_at(&mut host, now, path, &claim(NotifyKind::INVALID_SPI, &[1, 2, 3, 4]));
                assert!(sent.is_empty());
            }
        }
        let (_, sent) = tell_at(&mut host, NOW + seconds(39), peer.path, &said);
        assert_eq!(sent.len(), 1, "the peer is asked");
    }
}

#[test]
fn f_65_who_is_never_asked_for_a_sign_of_life_is_not_asked_because_of_a_claim() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let peer = up(&mut host, 24);
    let stranger = Header { initiator: true, ..Header::new(0, 0, INFO, 0) };
    for claim in [
        in_clear(&stranger, &notify(NotifyKind::INVALID_SPI, &ESP_SPI)),
        in_clear(&peer.header(INFO, true, 0), &notify(NotifyKind::INVALID_IKE_SPI, &[])),
    ] {
        assert_eq!(tell_at(&mut host, NOW + seconds(60), peer.path, &claim).1, Vec::<Vec<u8>>::new());
    }
}

#[test]
fn f_65_a_claim_is_about_the_peer_that_makes_it() {
    // Two peers that happen to have chosen the same SPI.
    let mut host = lax(60, [12, 16, 1280], Settings::default());
    let one = up(&mut host, 19);
    let mut two = Scripted::initiate(&mut host, 20);
    two.path.remote = "198.51.100.7:500".parse().unwrap();
    assert!(begun(&mut host, &mut two));
    assert_eq!(two.respond(&mut host, INFO, &NOTHING), (Ok(()), vec![]));
    let said = in_clear(&Header::new(0, 0, INFO, 0), &notify(NotifyKind::INVALID_SPI, &ESP_SPI));
    for peer in [&two, &one] {
        let (_, sent) = tell_at(&mut host, NOW + seconds(20), peer.path, &said);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0][..8], peer.spis[0].to_be_bytes());
    }
}

#[test]
fn d_what_both_sides_delete_at_once_is_named_by_each_in_its_own_message_only() {
    let (mut host, mut peer) = Scripted::established_by_host(80);
    peer.next = [0, 2];
    let child = host.sending[&CHILD];
    let ours = host.installed[&child].spi_in;
    host.endpoint.close_child(NOW, child).unwrap();
    assert_eq!(deleted(&peer.open(&transmits(&mut host)[0])), [ours]);
    let delete = payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(ESP_SPI)).unwrap()]));
    assert_eq!(peer.ask(&mut host, INFO, &delete).1, [], "RFC 7296, 1.4.1");
    assert!(host.installed.is_empty());
    let _ = peer.respond(&mut host, INFO, &NOTHING);
    assert!(peer.alive(&mut host));
}

#[test]
fn what_a_message_deletes_twice_is_named_once_and_in_its_order() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 82);
    let spis = [u32::from_be_bytes(ESP_SPI), 0x0102_0301, 0x0102_0302];
    spis[1..].iter().for_each(|spi| assert!(notifies(&peer.ask(&mut host, CREATE, &child_of(None, *spi))).is_empty()));
    let ours = spis.map(|spi| host.installed.values().find(|child| child.spi_out == spi).unwrap().spi_in);
    let [first, second, third] = spis.map(|spi| Spi::new(spi).unwrap());
    let unknown = Spi::new(0x0909_0909).unwrap();
    let delete = payloads(|message| {
        message.delete_esp(&[third, unknown, first, third])?;
        message.delete_esp(&[first, third])
    });
    assert_eq!(deleted(&peer.ask(&mut host, INFO, &delete)), [ours[2], ours[0]]);
    let left: Vec<_> = host.installed.values().map(|child| child.spi_out).collect();
    assert_eq!(left, [second.get()], "{:?}", host.story);
    assert!(peer.alive(&mut host));
}

#[test]
fn d_a_child_of_the_peer_is_deleted_once_the_peer_has_our_answer_for_sure() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = Scripted::initiate(&mut host, 81);
    let auth = peer.auth_payloads();
    peer.ask(&mut host, ExchangeType::IKE_AUTH, &auth);
    let child = host.sending[&CHILD];
    host.endpoint.close_child(NOW, child).unwrap();
    assert!(transmits(&mut host).is_empty(), "the peer may not know of it yet");
    host.endpoint.handle_timeout(NOW + seconds(10));
    assert_eq!(transmits(&mut host).len(), 1);
}

#[test]
fn d_a_responder_that_is_not_whom_we_called_is_told_so_once_and_left() {
    for impostor in [true, false] {
        let [mut left, _] = pair();
        left.ike = vec![IkeProposal::parse(SUITE).unwrap()];
        if impostor {
            left.remote_id = Some("other.example");
        }
        let mut host = Host::new(77, vec![left], Settings::default());
        let (mut peer, _) = Scripted::answer(&mut host, 82);
        peer.next[1] = 1;
        let mut auth = peer.auth_payloads();
        if !impostor {
            let at = auth.1.windows(16).position(|octets| *octets == peer.auth()[..16]).unwrap();
            auth.1[at] ^= 1;
        }
        let (handled, sent) = peer.respond(&mut host, ExchangeType::IKE_AUTH, &auth);
        assert_eq!((handled, sent.len()), (Ok(()), 1));
        assert_eq!(Header::parse(&sent[0]).unwrap().exchange, INFO);
        assert_eq!(notifies(&peer.open(&sent[0])), [NotifyKind::AUTHENTICATION_FAILED]);
        let cause = if impostor { Failure::WrongIdentity } else { Failure::AuthenticationFailed(Side::Here) };
        assert_eq!((&host.failures[..], host.installed.len()), (&[cause][..], 0));
        host.endpoint.handle_timeout(NOW + seconds(5));
        assert!(transmits(&mut host).is_empty());
    }
}

/// Gives the host the same request again; returns whether it says of each answer that it was sent before.
fn again(host: &mut Host, path: Path, request: &[u8]) -> Vec<bool> {
    host.endpoint.handle_datagram(NOW, path, &mut request.to_vec()).unwrap();
    let mut repeated = Vec::new();
    while let Some(transmit) = host.endpoint.poll_transmit() {
        repeated.push(transmit.repeated);
    }
    repeated
}

#[test]
fn f_78_an_answer_that_is_sent_again_says_so_in_every_state() {
    let mut host = lax(31, [12, 16, 1280], Settings::default());
    let first = init_request(0x1111, &[9; 32], 0);
    assert_eq!(again(&mut host, path_of(false), &first), [false]);
    assert_eq!(again(&mut host, path_of(false), &first), [true], "half-open");
    assert_eq!(host.endpoint.ike_sas().map(|ike| ike.unheard).collect::<Vec<_>>(), [1], "our answer does not arrive");

    let (mut host, mut peer) = Scripted::established(31);
    for content in [NOTHING, payloads(|message| message.delete_ike())] {
        let header = peer.header(INFO, false, peer.next[0]);
        let request = peer.seal(&header, &content);
        peer.next[0] += 1;
        assert_eq!(again(&mut host, path_of(false), &request), [false]);
        assert_eq!(again(&mut host, path_of(false), &request), [true]);
    }
    assert!(host.ike().is_none());
}

#[test]
fn d_our_answer_narrows_to_what_both_sides_want_and_says_so() {
    let ts = |net: &str| payloads(|message| message.ts(PayloadType::TS_I, selectors(&[net]))).1[4..].to_vec();
    // What the peer asks for on either side, and what comes of it.
    for ([theirs, ours], [remote, local]) in [
        (["10.1.2.0/24", "10.2.2.0/24"], ["10.1.2.0/24", "10.2.2.0/24"]),
        (["10.1.2.0/24", "10.2.0.0/16"], ["10.1.2.0/24", "10.2.0.0/16"]),
        (["10.0.0.0/8", "10.0.0.0/8"], ["10.1.0.0/16", "10.2.0.0/16"]),
    ] {
        let narrowed =
            |all: &Payloads| with_body(&with_body(all, PayloadType::TS_I, &ts(theirs)), PayloadType::TS_R, &ts(ours));
        let check = |host: &Host, answer: &Payloads| {
            assert_eq!(body(answer, PayloadType::TS_I), Some(ts(remote)), "{theirs} {ours}");
            assert_eq!(body(answer, PayloadType::TS_R), Some(ts(local)), "{theirs} {ours}");
            let held = host.installed.values().last().unwrap();
            assert_eq!((&held.local[..], &held.remote[..]), (selectors(&[local]), selectors(&[remote])));
        };
        // With IKE_AUTH, and later.
        let mut host = lax(0, [12, 16, 1280], Settings::default());
        let mut peer = Scripted::initiate(&mut host, 15);
        let auth = narrowed(&peer.auth_payloads());
        let answer = peer.ask(&mut host, ExchangeType::IKE_AUTH, &auth);
        check(&host, &answer);
        let answer = peer.ask(&mut host, CREATE, &narrowed(&child_payloads(None)));
        assert_eq!(host.installed.len(), 2);
        check(&host, &answer);
    }
}

#[test]
fn d_a_group_that_no_value_was_sent_for_is_not_taken() {
    let (mut host, mut peer, _) = asking(65);
    // The host began with the group that it knows to work; now it offers all.
    let (handled, sent) = peer.respond(&mut host, CREATE, &notify(NotifyKind::NO_PROPOSAL_CHOSEN, &[]));
    assert_eq!((handled, sent.len()), (Ok(()), 1));
    let other = EspProposal::parse("aes256gcm16-ecp256-esn").unwrap();
    let sa = payloads(|message| message.sa(ProtocolId::ESP, &[5; 4], [(1, other.transforms(true))]));
    let answer = with_body(&child_payloads(Some(&public())), PayloadType::SA, &sa.1[4..]);
    let _ = peer.respond(&mut host, CREATE, &answer);
    assert_eq!((&host.failures[..], host.installed.len()), (&[Failure::AnswerNotOffered][..], 1), "{:?}", host.story);
}

#[test]
fn d_a_sign_of_life_that_is_told_late_takes_nothing_back() {
    let mut host = lax(20, [12, 16, 1280], Settings::default());
    let _peer = up(&mut host, 66);
    let child = host.sending[&CHILD];
    host.endpoint.heard(NOW + seconds(10), child);
    host.endpoint.heard(NOW + seconds(5), child);
    assert_eq!(host.ike().unwrap().heard, Some(NOW + seconds(10)));
}

#[test]
fn d_whoever_called_from_behind_a_nat_does_not_follow_and_the_other_side_does() {
    let [left, mut right] = pair();
    right.remote = None;
    let mut network = crate::network::Network::new(67, [vec![left], vec![right]], Settings::default());
    network.nat = Some("203.0.113.7:1024".parse().unwrap());
    network.connect();
    for (host, follows) in network.hosts.iter_mut().zip([false, true]) {
        let before = host.ike().unwrap().path;
        let path = Path { remote: "203.0.113.99:4500".parse().unwrap(), ..before };
        let child = host.sending[&CHILD];
        host.endpoint.moved(child, path);
        host.listen();
        assert_eq!(host.ike().unwrap().path, if follows { path } else { before });
    }
}

#[test]
fn a_child_whose_peer_still_asks_for_it_is_not_deleted_before_the_peer_can_know_it() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 80);
    let header = peer.header(CREATE, false, peer.next[0]);
    let request = peer.seal(&header, &child_of(None, 0x0102_0304));
    assert_eq!(peer.tell(&mut host, &request).1.len(), 1);
    let made = host.endpoint.child_sas().find(|child| child.spi_out.get() == 0x0102_0304).unwrap().id;
    host.endpoint.close_child(NOW, made).unwrap();
    // Our answer does not arrive: the peer asks once more, and again.
    for after in [6, 13, 20] {
        host.endpoint.handle_timeout(NOW + seconds(after));
        let (handled, sent) = tell_at(&mut host, NOW + seconds(after), peer.path, &request);
        assert_eq!((handled, sent.len()), (Ok(()), 1), "the same answer after {after} s, and no Delete");
    }
    host.endpoint.handle_timeout(NOW + seconds(29));
    assert!(transmits(&mut host).is_empty());
    host.endpoint.handle_timeout(NOW + seconds(30));
    assert_eq!(transmits(&mut host).len(), 1, "its Delete");
}

#[test]
fn what_anybody_can_repeat_puts_a_delete_off_for_some_time_and_not_for_ever() {
    let mut host = lax(0, [12, 16, 1280], Settings::default());
    let mut peer = up(&mut host, 81);
    let header = peer.header(CREATE, false, peer.next[0]);
    let request = peer.seal(&header, &child_of(None, 0x0102_0304));
    assert_eq!(peer.tell(&mut host, &request).1.len(), 1);
    let made = host.endpoint.child_sas().find(|child| child.spi_out.get() == 0x0102_0304).unwrap().id;
    host.endpoint.close_child(NOW, made).unwrap();
    let repeat = |host: &mut Host, after: u64| {
        host.endpoint.handle_timeout(NOW + seconds(after));
        tell_at(host, NOW + seconds(after), peer.path, &request).1.len()
    };
    let sent: Vec<_> = (1..=60).map(|after| repeat(&mut host, after)).collect();
    assert_eq!((&sent[..59], sent[59]), (&[1; 59][..], 2), "the answer, and in the end the Delete");
}
