//! IKE_SA_INIT and IKE_AUTH from a peer that is not what it should be.

use std::time::Duration;

use ike_core::crypto::Group;
use ike_core::endpoint::Settings;
use ike_core::error::Discard;
use ike_core::failure::{Failure, Side};
use ike_core::proposal::IkeProposal;
use ike_core::registry::{AuthMethod, ExchangeType, GroupId, NotifyKind, PayloadType, ProtocolId};
use ike_core::wire::header::Header;
use ike_core::wire::sa::TransformSpec;
use ike_core::wire::writer::MessageWriter;

use super::peer::*;
use crate::network::{Host, PEER, pair};

/// The payloads of a right IKE_SA_INIT: the public value 9 is that of the secret 1.
fn right() -> Payloads {
    let mut public = [0; 32];
    public[0] = 9;
    init_payloads(Group::Curve25519, &public)
}

/// Tells a fresh responder an IKE_SA_INIT; returns it with its answers.
fn asked(payloads: &Payloads) -> (Host, Result<(), Discard>, Vec<Vec<u8>>) {
    let mut host = host(false);
    let (handled, sent) = tell_at(&mut host, NOW, path_of(false), &in_clear(&init_header(1), payloads));
    (host, handled, sent)
}

/// A fresh initiator that is told an answer to its IKE_SA_INIT.
fn answered(payloads: &Payloads) -> Host {
    let mut host = host(true);
    host.endpoint.initiate(NOW, PEER, None).unwrap();
    let request = transmits(&mut host).remove(0);
    let spi_i = Header::parse(&request).unwrap().spi_i;
    let header = Header { response: true, ..Header::new(spi_i, 2, ExchangeType::IKE_SA_INIT, 0) };
    let _ = tell_at(&mut host, NOW, path_of(true), &in_clear(&header, payloads));
    host
}

fn proposals(transforms: &[TransformSpec]) -> Payloads {
    payloads(|message| message.sa(ProtocolId::IKE, &[], [(1, transforms.iter().copied())]))
}

fn body(Payloads(_, octets): &Payloads) -> &[u8] {
    &octets[4..]
}

#[test]
fn a_right_first_message_is_answered() {
    let (host, handled, sent) = asked(&right());
    assert_eq!((handled, sent.len(), host.endpoint.ike_sas().count()), (Ok(()), 1, 1));
    assert!(notifies(&clear_payloads(&sent[0])).iter().all(|kind| !kind.is_error()));
}

#[test]
fn atk_01_no_length_below_the_header_of_a_payload_is_followed() {
    for kind in 1..=255u8 {
        for length in 0..4u8 {
            let octets = [0, 0, 0, length, 0, 0, 0, 0];
            let (host, handled, sent) = asked(&Payloads(kind, octets.to_vec()));
            assert_eq!((handled, sent.len(), host.endpoint.ike_sas().count()), (Err(Discard::Malformed), 0, 0));
        }
    }
}

#[test]
fn atk_08_an_spi_longer_than_its_proposal_is_malformed() {
    for (length, spi_len) in [(8u8, 10u8), (8, 1), (8, 255), (12, 5), (44, 40)] {
        let mut sa = body(&proposals(&IkeProposal::parse(SUITE).unwrap().transforms().collect::<Vec<_>>())).to_vec();
        sa[3] = length;
        sa[6] = spi_len;
        let (host, handled, sent) = asked(&with_body(&right(), PayloadType::SA, &sa));
        assert_eq!((handled, sent.len(), host.endpoint.ike_sas().count()), (Err(Discard::Malformed), 0, 0), "{length}");
    }
}

#[test]
fn atk_09_a_next_payload_without_a_body_is_malformed() {
    for kind in 1..=255 {
        let (host, handled, sent) = asked(&Payloads(kind, Vec::new()));
        assert_eq!((handled, sent.len(), host.endpoint.ike_sas().count()), (Err(Discard::Malformed), 0, 0));
    }
}

#[test]
fn atk_13_a_first_message_without_proposals_leaves_nothing() {
    let (host, handled, sent) = asked(&with_body(&right(), PayloadType::SA, &[]));
    assert_eq!((handled, host.endpoint.ike_sas().count()), (Ok(()), 0));
    assert_eq!(notifies(&clear_payloads(&sent[0])), [NotifyKind::NO_PROPOSAL_CHOSEN]);
    // A proposal without transforms.
    let (host, _, sent) = asked(&with_body(&right(), PayloadType::SA, &[0, 0, 0, 8, 1, 1, 0, 0]));
    assert_eq!(notifies(&clear_payloads(&sent[0])), [NotifyKind::NO_PROPOSAL_CHOSEN]);
    assert_eq!(host.endpoint.ike_sas().count(), 0);
    for sa in [&[][..], &[0, 0, 0, 8, 1, 1, 0, 0]] {
        let host = answered(&with_body(&right(), PayloadType::SA, sa));
        assert_eq!(host.noted, [Failure::AnswerNotOffered]);
    }
}

#[test]
fn atk_17_a_first_message_with_something_missing_leaves_nothing() {
    let kinds = [PayloadType::SA, PayloadType::KE, PayloadType::NONCE];
    for missing in 1..8u8 {
        let gone = kinds.iter().enumerate().filter(|(bit, _)| missing & (1 << bit) != 0);
        let less = gone.fold(right(), |all, (_, kind)| without(&all, *kind));
        let (host, handled, sent) = asked(&less);
        assert_eq!((handled, sent.len(), host.endpoint.ike_sas().count()), (Err(Discard::Malformed), 0, 0));
        // As an answer anybody can forge it: the genuine one may still come.
        let host = answered(&less);
        assert!(host.failures.is_empty() && host.endpoint.ike_sas().count() == 1);
    }
}

#[test]
fn atk_17_an_ike_auth_with_something_missing_is_refused() {
    let kinds = [PayloadType::ID_I, PayloadType::AUTH, PayloadType::SA, PayloadType::TS_I, PayloadType::TS_R];
    for missing in 1..32u8 {
        let mut host = host(false);
        let mut peer = Scripted::initiate(&mut host, u64::from(missing));
        let gone = kinds.iter().enumerate().filter(|(bit, _)| missing & (1 << bit) != 0);
        let less = gone.fold(peer.auth_payloads(), |all, (_, kind)| without(&all, *kind));
        let answer = peer.ask(&mut host, ExchangeType::IKE_AUTH, &less);
        assert!(notifies(&answer)[0].is_error(), "without {missing:b}");
        assert!(host.installed.is_empty() && host.endpoint.ike_sas().count() == 0, "without {missing:b}");
    }
    let kinds = [PayloadType::ID_R, PayloadType::AUTH];
    for missing in 1..4u8 {
        for with_error in [false, true] {
            let mut host = host(true);
            let (mut peer, _) = Scripted::answer(&mut host, u64::from(missing));
            peer.next[1] = 1;
            let gone = kinds.iter().enumerate().filter(|(bit, _)| missing & (1 << bit) != 0);
            let mut less = gone.fold(peer.auth_payloads(), |all, (_, kind)| without(&all, *kind));
            if with_error {
                // An error notification excuses what is missing; it must not excuse the proof.
                less = payload(PayloadType::NOTIFY.0, 0, &[0, 0, 0, 38], &less);
            }
            let _ = peer.respond(&mut host, ExchangeType::IKE_AUTH, &less);
            assert!(host.installed.is_empty() && host.endpoint.ike_sas().count() == 0, "without {missing:b}");
            assert_eq!(host.failures.len(), 1);
        }
    }
}

#[test]
fn atk_19_every_subset_of_the_transforms_of_ike_but_the_whole_is_refused() {
    let all: Vec<_> = IkeProposal::parse(SUITE).unwrap().transforms().collect();
    let whole = (1u8 << all.len()) - 1;
    for chosen in 0..=whole {
        let some: Vec<_> =
            all.iter().enumerate().filter(|(bit, _)| chosen & (1 << bit) != 0).map(|(_, one)| *one).collect();
        let sa = with_body(&right(), PayloadType::SA, body(&proposals(&some)));
        let (host, _, sent) = asked(&sa);
        assert_eq!(host.endpoint.ike_sas().count(), usize::from(chosen == whole), "{chosen:b}");
        let refused = notifies(&clear_payloads(&sent[0])).contains(&NotifyKind::NO_PROPOSAL_CHOSEN);
        assert_eq!(refused, chosen != whole, "{chosen:b}");
        let host = answered(&sa);
        let expected: &[Failure] = if chosen == whole { &[] } else { &[Failure::AnswerNotOffered] };
        assert_eq!(host.noted, expected, "{chosen:b}");
    }
}

#[test]
fn atk_20_a_private_group_is_no_group() {
    let mut transforms: Vec<_> = IkeProposal::parse(SUITE).unwrap().transforms().collect();
    let group = transforms.iter_mut().find(|one| one.id == GroupId::CURVE25519.0).unwrap();
    group.id = 1025;
    let sa = with_body(&right(), PayloadType::SA, body(&proposals(&transforms)));
    let (host, _, sent) = asked(&sa);
    assert_eq!(notifies(&clear_payloads(&sent[0])), [NotifyKind::NO_PROPOSAL_CHOSEN]);
    assert_eq!(host.endpoint.ike_sas().count(), 0);
    assert_eq!(answered(&sa).noted, [Failure::AnswerNotOffered]);
    // Only the KE payload says so.
    let ke = [&[4, 1, 0, 0][..], &[9; 32]].concat();
    let (host, _, sent) = asked(&with_body(&right(), PayloadType::KE, &ke));
    assert_eq!(notifies(&clear_payloads(&sent[0])), [NotifyKind::INVALID_KE_PAYLOAD]);
    assert_eq!(host.endpoint.ike_sas().count(), 0);
    // Nor does a responder talk an initiator into it.
    let wish = payloads(|message| message.notify_parts(NotifyKind::INVALID_KE_PAYLOAD, &[&[4, 1]]));
    assert_eq!(answered(&wish).noted, [Failure::GroupNotOffered(1025)]);
}

#[test]
fn atk_21_payloads_of_ikev1_are_unknown_ones() {
    for kind in 1..=13 {
        let (host, _, sent) = asked(&payload(kind, 0, &[0xff; 40], &right()));
        assert_eq!((host.endpoint.ike_sas().count(), sent.len()), (1, 1), "{kind}");
        let (host, handled, sent) = asked(&payload(kind, 0x80, &[0xff; 40], &right()));
        assert_eq!((handled, host.endpoint.ike_sas().count()), (Err(Discard::Malformed), 0), "{kind}");
        assert_eq!(notifies(&clear_payloads(&sent[0])), [NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD]);
    }
}

/// AUTH values that are none: empty, cut, all zero, one bit off, too long.
fn wrong_auths(right: &[u8]) -> Vec<Vec<u8>> {
    let mut wrong = vec![vec![], vec![0; right.len()], vec![0xff; right.len()], [right, &[0]].concat()];
    wrong.extend((1..right.len()).map(|len| right[..len].to_vec()));
    wrong.extend([0, right.len() - 1].map(|at| {
        let mut off = right.to_vec();
        off[at] ^= 1;
        off
    }));
    wrong
}

#[test]
fn atk_29_an_auth_that_is_empty_cut_zero_or_off_by_a_bit_does_not_pass() {
    let mut scratch = host(false);
    let count = wrong_auths(&Scripted::initiate(&mut scratch, 1).auth()).len();
    for index in 0..count {
        let mut host = host(false);
        let mut peer = Scripted::initiate(&mut host, 1);
        let auth = wrong_auths(&peer.auth()).remove(index);
        let wrong = with_body(&peer.auth_payloads(), PayloadType::AUTH, &[&[2, 0, 0, 0], &auth[..]].concat());
        let answer = peer.ask(&mut host, ExchangeType::IKE_AUTH, &wrong);
        assert_eq!(notifies(&answer), [NotifyKind::AUTHENTICATION_FAILED], "{index}");
        assert_eq!(host.failures, [Failure::AuthenticationFailed(Side::Here)]);
        assert!(host.installed.is_empty() && host.endpoint.ike_sas().count() == 0);

        let mut host = super::peer::host(true);
        let (mut peer, _) = Scripted::answer(&mut host, 1);
        peer.next[1] = 1;
        let auth = wrong_auths(&peer.auth()).remove(index);
        let wrong = with_body(&peer.auth_payloads(), PayloadType::AUTH, &[&[2, 0, 0, 0], &auth[..]].concat());
        let _ = peer.respond(&mut host, ExchangeType::IKE_AUTH, &wrong);
        assert_eq!(host.failures, [Failure::AuthenticationFailed(Side::Here)], "{index}");
        assert!(host.installed.is_empty() && host.endpoint.ike_sas().count() == 0);
    }
}

#[test]
fn atk_29_the_right_octets_under_another_method_do_not_pass() {
    for method in (0..=255).filter(|method| AuthMethod(*method) != AuthMethod::SHARED_KEY) {
        let mut host = host(false);
        let mut peer = Scripted::initiate(&mut host, 2);
        let auth = [&[method, 0, 0, 0], &peer.auth()[..]].concat();
        let wrong = with_body(&peer.auth_payloads(), PayloadType::AUTH, &auth);
        let answer = peer.ask(&mut host, ExchangeType::IKE_AUTH, &wrong);
        assert_eq!(notifies(&answer), [NotifyKind::AUTHENTICATION_FAILED], "{method}");
        assert!(host.installed.is_empty());
    }
}

#[test]
fn atk_33_nothing_that_a_peer_says_makes_auth_unnecessary() {
    let additions: [&dyn Fn(&mut MessageWriter<'_>); 4] = [
        &|message| message.notify_parts(NotifyKind::INITIAL_CONTACT, &[]).unwrap(),
        &|message| message.notify_parts(NotifyKind(16417), &[]).unwrap(), // EAP_ONLY_AUTHENTICATION
        &|message| message.notify_parts(NotifyKind(16418), &[]).unwrap(), // CHILDLESS_IKEV2_SUPPORTED
        &|message| message.vendor(b"trust me").unwrap(),
    ];
    for (index, addition) in additions.iter().enumerate() {
        let mut host = host(false);
        let mut peer = Scripted::initiate(&mut host, 3);
        let bare = without(&peer.auth_payloads(), PayloadType::AUTH);
        let Payloads(kind, added) = payloads(|message| {
            addition(message);
            Ok(())
        });
        let more = payload(kind, 0, &added[4..], &bare);
        let answer = peer.ask(&mut host, ExchangeType::IKE_AUTH, &more);
        assert_eq!(notifies(&answer), [NotifyKind::AUTHENTICATION_FAILED], "{index}");
        assert!(host.installed.is_empty() && host.endpoint.ike_sas().count() == 0);
    }
}

#[test]
fn atk_37_no_bad_public_value_makes_keys() {
    // X25519 points of small order (RFC 7748 §7), and every wrong length.
    let order_8: [u8; 32] = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ];
    let mut p = [0xff; 32];
    (p[0], p[31]) = (0xed, 0x7f);
    let one = |at: usize, value| {
        let mut octets = [0u8; 32];
        octets[at] = value;
        octets
    };
    let (mut below, mut above) = (p, p);
    (below[0], above[0]) = (0xec, 0xee);
    let small = [[0; 32], one(0, 1), order_8, below, p, above].map(Vec::from);
    let lengths = (0..=64).filter(|len| *len != 32).map(|len| vec![9; len]);
    for public in small.into_iter().chain(lengths) {
        let bad = init_payloads(Group::Curve25519, &public);
        let (host, handled, sent) = asked(&bad);
        assert_eq!((handled, sent.len(), host.endpoint.ike_sas().count()), (Err(Discard::BadKeyExchange), 0, 0));
        assert_eq!(answered(&bad).noted, [Failure::BadKeyExchange], "{public:x?}");
    }
    // P-256: infinity, off the curve, coordinates of the field's size, wrong lengths.
    let sa = [IkeProposal::parse("aes256gcm16-prfsha384-ecp256").unwrap()];
    for public in [vec![0; 64], vec![1; 64], vec![0xff; 64], vec![4; 65], vec![2; 33], vec![1; 63], vec![]] {
        let bad = payloads(|message| {
            message.sa(ProtocolId::IKE, &[], ike_core::proposal::offer_ike(&sa))?;
            message.ke(GroupId::ECP_256, &public)?;
            message.nonce(&[7; 32])
        });
        let (host, handled, sent) = asked(&bad);
        assert_eq!((handled, sent.len(), host.endpoint.ike_sas().count()), (Err(Discard::BadKeyExchange), 0, 0));
    }
}

#[test]
fn atk_38_ikev1_is_answered_once_in_a_while_and_leaves_nothing() {
    let mut host = host(false);
    let v1 = |exchange| {
        let header = Header { major: 1, initiator: false, ..Header::new(7, 0, ExchangeType(exchange), 0) };
        in_clear(&header, &payload(1, 0, &[0; 20], &NOTHING))
    };
    // Main mode, aggressive mode, and again: one answer a second.
    let mut answers = 0;
    for (after, exchange) in [(0, 2), (1, 4), (500, 2), (999, 4), (1000, 2), (1500, 2), (2100, 4)] {
        let now = NOW + Duration::from_millis(after);
        let (handled, sent) = tell_at(&mut host, now, path_of(false), &v1(exchange));
        assert_eq!((handled, host.endpoint.ike_sas().count()), (Err(Discard::Version), 0));
        for answer in &sent {
            assert_eq!(notifies(&clear_payloads(answer)), [NotifyKind::INVALID_MAJOR_VERSION]);
        }
        answers += sent.len();
    }
    assert_eq!(answers, 3);
}

#[test]
fn atk_40_a_host_is_not_led_to_connect_to_itself() {
    // Everybody with the pre-shared key is welcome, so we would be.
    let [mut left, _] = pair();
    left.remote_id = None;
    let mut host = Host::new(79, vec![left], Settings::default());
    host.endpoint.initiate(NOW, PEER, None).unwrap();
    for _ in 0..8 {
        for mut message in transmits(&mut host) {
            // As a NAT seems to be in between, all but the first carry the non-ESP marker.
            let marker = if message.starts_with(&[0; 4]) { 4 } else { 0 };
            let _ = host.endpoint.handle_datagram(NOW, path_of(true), &mut message[marker..]);
        }
    }
    assert!(host.story.is_empty() && host.installed.is_empty(), "{:?}", host.story);
}

#[test]
fn atk_40_our_own_messages_sent_back_are_nobodys() {
    let mut host = host(true);
    host.endpoint.initiate(NOW, PEER, None).unwrap();
    let request = transmits(&mut host).remove(0);
    let before = snapshot(&host);
    // As it is, and as if it were the answer.
    let (handled, sent) = tell_at(&mut host, NOW, path_of(true), &request);
    assert_eq!((handled, sent.len()), (Err(Discard::Unexpected), 0));
    // Whoever sets the R flag has made an answer of it: a bad one, which ends the attempt as any forged answer can.
    for flags in (0..=255).filter(|flags| flags & 0x28 != 0x20) {
        let mut response = request.clone();
        response[19] = flags;
        let (handled, sent) = tell_at(&mut host, NOW, path_of(true), &response);
        assert!(handled.is_err() && sent.is_empty(), "{flags:x}");
    }
    assert_eq!(snapshot(&host), before);

    let mut host = super::peer::host(true);
    let (peer, auth) = Scripted::answer(&mut host, 4);
    let after = snapshot(&host);
    assert_ne!(before, after);
    for flags in 0..=255 {
        let mut reflected = auth.clone();
        reflected[19] = flags;
        let (handled, sent) = peer.tell(&mut host, &reflected);
        assert!(handled.is_err() && sent.is_empty(), "{flags:x}");
        assert_eq!(snapshot(&host), after);
    }
}
