//! An established SA whose peer says what it likes, and strangers who would like to have a say.

use ike_core::crypto::{Digest64, Group, IkeCrypto, PrfAlg, SharedSecret};
use ike_core::endpoint::Settings;
use ike_core::error::Discard;
use ike_core::failure::{Failure, Side};
use ike_core::keys::child_keymat;
use ike_core::proposal::{IkeProposal, offer_esp, offer_ike};
use ike_core::registry::{ExchangeType, GroupId, NotifyKind, PayloadType, ProtocolId, TransformType};
use ike_core::wire::chain::Chain;
use ike_core::wire::sa::TransformSpec;
use ike_core::wire::writer::MessageWriter;
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::net::{Path, Spi};

use super::peer::*;
use crate::engine::{Engine, Refuse, refuse};
use crate::network::{CHILD, Host, Seed, pair};

const CREATE: ExchangeType = ExchangeType::CREATE_CHILD_SA;
/// A second after all was said.
const LATER: ipsec_core::time::Instant = ipsec_core::time::Instant::from_millis(1_001_000);
const INFO: ExchangeType = ExchangeType::INFORMATIONAL;

fn ike_rekey(ke: &[u8]) -> Payloads {
    payloads(|message| {
        message.sa(ProtocolId::IKE, &[7; 8], offer_ike(&[IkeProposal::parse(SUITE).unwrap()]))?;
        message.nonce(&[0x6f; 32])?;
        message.ke(GroupId::CURVE25519, ke)
    })
}

fn notify(kind: NotifyKind, data: &[u8]) -> Payloads {
    payloads(|message| message.notify_parts(kind, &[data]))
}

/// The host asks for a rekey of its child.
fn asking(seed: u64) -> (Host, Scripted) {
    let (mut host, mut peer) = Scripted::established_by_host(seed);
    let child = host.sending[&CHILD];
    host.endpoint.rekey_child(NOW, child).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    peer.next = [0, 2];
    (host, peer)
}

#[test]
fn atk_01_payload_lengths_inside_sk_never_lead_outside() {
    for kind in 33..=53 {
        for len in 0..48u8 {
            for body in [vec![0; usize::from(len)], vec![0xff; usize::from(len)]] {
                let (mut host, mut peer) = Scripted::established(1);
                let answer = peer.ask(&mut host, INFO, &payload(kind, 0, &body, &NOTHING));
                // Refused, or ignored: never a new SA.
                let refused = notifies(&answer) == [NotifyKind::INVALID_SYNTAX];
                assert!(refused || host.installed.len() == 1, "{kind} {len}");
                assert_eq!(host.endpoint.child_sas().count(), usize::from(!refused), "{kind} {len}");
            }
        }
        for length in 0..4 {
            let (mut host, mut peer) = Scripted::established(1);
            let answer = peer.ask(&mut host, INFO, &Payloads(kind, vec![0, 0, 0, length]));
            assert_eq!(notifies(&answer), [NotifyKind::INVALID_SYNTAX]);
        }
    }
}

#[test]
fn atk_08_an_spi_longer_than_its_proposal_is_invalid_syntax() {
    for spi_len in [5, 10, 255] {
        let (mut host, mut peer) = Scripted::established(2);
        let all = child_payloads(None);
        let mut sa = Chain::new(PayloadType(all.0), &all.1).next().unwrap().unwrap().body.to_vec();
        sa[6] = spi_len;
        let answer = peer.ask(&mut host, CREATE, &with_body(&all, PayloadType::SA, &sa));
        assert_eq!(notifies(&answer), [NotifyKind::INVALID_SYNTAX], "{spi_len}");
        assert!(host.installed.is_empty());
    }
}

#[test]
fn atk_10_a_pad_length_beyond_the_text_changes_nothing() {
    let (mut host, mut peer) = Scripted::established(3);
    for text_len in 1..24usize {
        for pad_len in 0..=u8::MAX {
            if usize::from(pad_len) < text_len {
                continue;
            }
            let before = snapshot(&host);
            let mut text = vec![0; text_len];
            text[text_len - 1] = pad_len;
            let header = peer.header(INFO, false, peer.next[0]);
            let message = peer.seal_text(&header, 0, &text);
            assert_eq!(peer.tell(&mut host, &message), (Err(Discard::BadPadding), vec![]), "{text_len} {pad_len}");
            assert_eq!(snapshot(&host), before);
        }
    }
    // Padding of any content and any length is fine.
    for pad_len in 0..=u8::MAX {
        let header = peer.header(INFO, false, peer.next[0]);
        let mut text = vec![0xa5; usize::from(pad_len)];
        text.push(pad_len);
        let message = peer.seal_text(&header, 0, &text);
        let (handled, sent) = peer.tell(&mut host, &message);
        assert_eq!((handled, sent.len()), (Ok(()), 1), "{pad_len}");
        peer.next[0] += 1;
    }
    assert!(peer.alive(&mut host));
}

#[test]
fn atk_13_a_child_without_proposals_is_refused_and_the_ike_sa_lives() {
    for sa in [&[][..], &[0, 0, 0, 12, 1, 3, 4, 0, 0x0b, 0xad, 0xca, 0xfd]] {
        let (mut host, mut peer) = Scripted::established(4);
        let answer = peer.ask(&mut host, CREATE, &with_body(&child_payloads(None), PayloadType::SA, sa));
        assert_eq!(notifies(&answer), [NotifyKind::NO_PROPOSAL_CHOSEN]);
        assert!(host.installed.len() == 1 && peer.alive(&mut host));
        // And the same as an answer to us.
        let (mut host, mut peer) = asking(4);
        let _ = peer.respond(&mut host, CREATE, &with_body(&child_payloads(None), PayloadType::SA, sa));
        assert_eq!(host.failures, [Failure::AnswerNotOffered]);
        assert!(host.installed.len() == 1 && host.ike().is_some());
    }
}

#[test]
fn atk_18_a_child_with_empty_selectors_is_refused_and_the_ike_sa_lives() {
    for kind in [PayloadType::TS_I, PayloadType::TS_R] {
        let empty = with_body(&child_payloads(None), kind, &[0; 4]);
        let (mut host, mut peer) = Scripted::established(5);
        let answer = peer.ask(&mut host, CREATE, &empty);
        assert_eq!(notifies(&answer), [NotifyKind::TS_UNACCEPTABLE]);
        assert!(host.installed.len() == 1 && peer.alive(&mut host));

        let mut public = [0; 32];
        public[0] = 9;
        let empty = with_body(&child_payloads(Some(&public)), kind, &[0; 4]);
        let (mut host, mut peer) = asking(5);
        let (_, sent) = peer.respond(&mut host, CREATE, &empty);
        assert_eq!(host.failures, [Failure::EmptyTrafficSelectors]);
        // What the peer believes to have is deleted; the old one goes on.
        assert_eq!((sent.len(), host.installed.len()), (1, 1));
        assert_eq!(peer.open(&sent[0]).0, PayloadType::DELETE.0);
    }
}

#[test]
fn atk_18_malformed_selectors_end_in_invalid_syntax() {
    let right = [1, 0, 0, 0, 7, 0, 0, 16, 0, 0, 255, 255, 10, 1, 0, 0, 10, 1, 255, 255];
    for at in [0, 7] {
        for value in (0..=255).filter(|value| *value != right[at]) {
            let mut body = right;
            body[at] = value;
            let (mut host, mut peer) = Scripted::established(6);
            let answer = peer.ask(&mut host, CREATE, &with_body(&child_payloads(None), PayloadType::TS_I, &body));
            assert_eq!(notifies(&answer), [NotifyKind::INVALID_SYNTAX], "{at} {value}");
            assert!(host.installed.is_empty());
        }
    }
}

#[test]
fn atk_19_every_subset_of_the_transforms_of_esp_but_the_whole_is_refused() {
    let all: Vec<_> = esp(true).transforms(true).collect();
    let whole = (1u8 << all.len()) - 1;
    assert_eq!(all.len(), 3);
    for chosen in 0..=whole {
        let some: Vec<TransformSpec> =
            all.iter().enumerate().filter(|(bit, _)| chosen & (1 << bit) != 0).map(|(_, one)| *one).collect();
        let sa = payloads(|message| message.sa(ProtocolId::ESP, &ESP_SPI, [(1, some.iter().copied())]));
        let mut public = [0; 32];
        public[0] = 9;
        let request = with_body(&child_payloads(Some(&public)), PayloadType::SA, &sa.1[4..]);
        let (mut host, mut peer) = Scripted::established(7);
        let answer = peer.ask(&mut host, CREATE, &request);
        // The cipher, and PFS as configured, must be there; no word of ESN is no ESN.
        let accepted = chosen & 0b011 == 0b011;
        assert_eq!(host.installed.len(), 1 + usize::from(accepted), "{chosen:b}: {some:?}");
        let expected: &[NotifyKind] = if accepted { &[] } else { &[NotifyKind::NO_PROPOSAL_CHOSEN] };
        assert_eq!(notifies(&answer), expected, "{chosen:b}");
        assert!(peer.alive(&mut host));

        let (mut host, mut peer) = asking(7);
        let _ = peer.respond(&mut host, CREATE, &request);
        let failed: &[Failure] = if accepted { &[] } else { &[Failure::AnswerNotOffered] };
        assert_eq!(host.failures, failed, "{chosen:b}");
        assert!(host.ike().is_some());
    }
}

#[test]
fn atk_35_nothing_in_clear_changes_an_established_sa() {
    let delete = |message: &mut MessageWriter<'_>| {
        message.delete_esp(&[Spi::new(u32::from_be_bytes(ESP_SPI)).unwrap()])?;
        message.delete_ike()
    };
    let claim = |kind, data: &[u8]| (notify(kind, data), true);
    let hidden = payloads(|message| {
        message.notify_parts(NotifyKind::INVALID_SPI, &[&ESP_SPI])?;
        delete(message)
    });
    let messages = [
        (payloads(|message| message.delete_ike()), false),
        (payloads(delete), false),
        (notify(NotifyKind::AUTHENTICATION_FAILED, &[]), false),
        (notify(NotifyKind::INVALID_SYNTAX, &[]), false),
        (notify(NotifyKind::INITIAL_CONTACT, &[]), false),
        (notify(NotifyKind::INVALID_SPI, &[1, 2, 3, 4]), false),
        (NOTHING, false),
        // These are looked at when they come from where the peer is: it is asked for a sign of life, and that is all.
        claim(NotifyKind::INVALID_IKE_SPI, &[]),
        claim(NotifyKind::INVALID_SPI, &ESP_SPI),
        (hidden, true),
    ];
    for (by_host, foreign) in [(false, false), (false, true), (true, false), (true, true)] {
        for (number, (content, is_claim)) in messages.iter().enumerate() {
            let (mut host, mut peer) = if by_host { asking(8) } else { Scripted::established(8) };
            // With signs of life asked for: none of these is one, nor hurries the next.
            host.endpoint.pad_mut().0[0].dpd = std::time::Duration::from_secs(20);
            let heard = |host: &Host| host.ike().unwrap().heard;
            let (before, due, last) = (snapshot(&host), host.endpoint.poll_timeout(), heard(&host));
            let from = if foreign { "203.0.113.9:500".parse().unwrap() } else { peer.path.remote };
            let from = Path { remote: from, ..peer.path };
            let mut asked = Vec::new();
            for (exchange, response, id) in [34, 35, 36, 37]
                .into_iter()
                .flat_map(|exchange| (0..8).map(move |bits| (exchange, bits & 1, bits >> 1)))
            {
                let header = peer.header(ExchangeType(exchange), response == 1, id);
                let (handled, sent) = tell_at(&mut host, LATER, from, &in_clear(&header, content));
                assert!(handled.is_err(), "{number}: {handled:?}");
                asked.extend(sent);
                assert_eq!((&snapshot(&host), heard(&host)), (&before, last), "{number}");
                assert!(host.endpoint.poll_timeout() == due || !asked.is_empty(), "{number}");
            }
            // Whoever waits for an answer hears from the peer anyway.
            assert_eq!(asked.len(), usize::from(*is_claim && !foreign && !by_host), "{number}");
            for request in asked {
                assert_eq!(peer.open(&request).1, [], "{number}: a sign of life is asked for");
                assert_eq!(peer.respond(&mut host, INFO, &NOTHING), (Ok(()), vec![]), "{number}");
            }
            assert!(peer.alive(&mut host) && snapshot(&host) == before, "{number}");
        }
    }
}

#[test]
fn atk_37_a_bad_public_value_in_a_rekey_makes_no_sa() {
    for public in [vec![0; 32], vec![1; 31], vec![]] {
        for request in [child_payloads(Some(&public)), ike_rekey(&public)] {
            let (mut host, mut peer) = Scripted::established(9);
            let answer = peer.ask(&mut host, CREATE, &request);
            assert_eq!(notifies(&answer), [NotifyKind::INVALID_SYNTAX]);
            assert!(host.endpoint.ike_sas().count() == 0 && host.installed.is_empty(), "{:?}", host.story);
            let cause = host.failures.last().unwrap();
            assert!(matches!(cause, Failure::BadKeyExchange | Failure::InvalidSyntax(Side::Here)), "{cause:?}");
        }
    }
}

#[test]
fn atk_40_requests_and_answers_sent_back_to_us_are_refused() {
    let (mut host, mut peer) = asking(10);
    let ike = host.ike_id();
    host.endpoint.close(NOW, ike).unwrap();
    let header = peer.header(INFO, false, 0);
    let message = peer.seal(&header, &NOTHING);
    let (_, answers) = peer.tell(&mut host, &message);
    let before = snapshot(&host);
    for flags in 0..=255 {
        for own in &answers {
            let mut reflected = own.clone();
            reflected[19] = flags;
            assert!(peer.tell(&mut host, &reflected).0.is_err(), "{flags:x}");
            assert_eq!(snapshot(&host), before);
        }
    }
}

/// Every way to spoil some payloads: cut anywhere, and each octet changed in three ways.
fn spoilt(Payloads(first, octets): &Payloads) -> Vec<Payloads> {
    let cuts = (0..octets.len()).map(|len| octets[..len].to_vec());
    let changes = (0..octets.len()).flat_map(|at| {
        [0, 0xff, octets[at] ^ 1].map(|value| {
            let mut changed = octets.clone();
            changed[at] = value;
            changed
        })
    });
    cuts.chain(changes).map(|octets| Payloads(*first, octets)).collect()
}

#[test]
fn atk_72_whatever_goes_wrong_with_a_request_the_sa_is_as_before_or_properly_over() {
    let rekey = payloads(|message| {
        message.notify(ProtocolId::ESP, &ESP_SPI, NotifyKind::REKEY_SA, &[])?;
        message.sa(ProtocolId::ESP, &[1; 4], [(1, esp(false).transforms(false))])?;
        message.nonce(&[3; 32])?;
        message.ts(PayloadType::TS_I, left_ts())?;
        message.ts(PayloadType::TS_R, right_ts())
    });
    let delete = payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(ESP_SPI)).unwrap()]));
    let (mut over, mut refused) = (0, 0);
    for (exchange, request) in
        [(CREATE, child_payloads(None)), (CREATE, rekey), (CREATE, ike_rekey(&[9; 32])), (INFO, delete)]
    {
        let mut sa = None;
        for (number, content) in spoilt(&request).iter().enumerate() {
            let (host, peer) = sa.get_or_insert_with(|| Scripted::established(11));
            let before = snapshot(host);
            let header = peer.header(exchange, false, peer.next[0]);
            let message = peer.seal(&header, content);
            let (handled, sent) = peer.tell(host, &message);
            if handled.is_err() {
                assert_eq!((sent.len(), snapshot(host) == before), (0, true), "{exchange:?} {number}");
                assert!(peer.alive(host), "{exchange:?} {number}");
                continue;
            }
            assert_eq!(sent.len(), 1, "{exchange:?} {number}");
            let answer = peer.open(&sent[0]);
            if notifies(&answer) == [NotifyKind::INVALID_SYNTAX] && host.ike().is_none() {
                assert_eq!(host.failures.last(), Some(&Failure::InvalidSyntax(Side::Here)));
                over += 1;
                sa = None;
                continue;
            }
            peer.next[0] += 1;
            refused += usize::from(snapshot(host) == before);
            // A rekeyed or deleted SA is not asked again.
            if snapshot(host) == before {
                assert!(peer.alive(host), "{exchange:?} {number}");
            } else {
                sa = None;
            }
        }
    }
    assert!(over > 50 && refused > 30, "{over} over, {refused} refused: the test tests nothing");
}

#[test]
fn atk_72_whatever_goes_wrong_with_an_answer_the_old_child_goes_on_or_the_sa_is_over() {
    let mut public = [0; 32];
    public[0] = 9;
    let (mut over, mut kept) = (0, 0);
    for (number, content) in spoilt(&child_payloads(Some(&public))).iter().enumerate() {
        let (mut host, mut peer) = asking(12);
        let old = host.sending[&CHILD];
        let (handled, _) = peer.respond(&mut host, CREATE, content);
        assert_eq!(handled, Ok(()), "{number}");
        if host.ike().is_none() {
            assert!(host.installed.is_empty(), "{number}: {:?}", host.story);
            over += 1;
        } else {
            assert!(host.installed.contains_key(&old), "{number}: {:?}", host.story);
            kept += usize::from(host.installed.len() == 1);
        }
    }
    assert!(over > 50 && kept > 50, "{over} over, {kept} kept: the test tests nothing");
}

#[test]
fn atk_72_whatever_the_engine_refuses_the_request_is_answered_and_the_sa_goes_on() {
    let mut public = [0; 32];
    public[0] = 9;
    for (what, request) in [
        (Refuse::KeyExchanges, child_payloads(Some(&public))),
        (Refuse::KeyExchanges, ike_rekey(&public)),
        (Refuse::Keys, ike_rekey(&public)),
    ] {
        let (mut host, mut peer) = Scripted::established(19);
        let header = peer.header(CREATE, false, peer.next[0]);
        let message = peer.seal(&header, &request);
        let before = host.endpoint.occupancy();
        refuse(what);
        let (handled, sent) = peer.tell(&mut host, &message);
        refuse(Refuse::Nothing);
        assert_eq!((handled, sent.len()), (Ok(()), 1), "{what:?}");
        assert_eq!(notifies(&peer.open(&sent[0])), [NotifyKind::NO_PROPOSAL_CHOSEN]);
        assert_eq!((host.endpoint.occupancy(), &host.failures[..]), (before, &[Failure::CryptoRefused][..]));
        peer.next[0] += 1;
        assert!(host.installed.len() == 1 && peer.alive(&mut host));
    }
}

#[test]
fn atk_72_whatever_the_engine_refuses_our_own_wishes_fail_and_the_sa_goes_on() {
    let (mut host, mut peer) = Scripted::established_by_host(20);
    let (ike, child) = (host.ike_id(), host.sending[&CHILD]);
    refuse(Refuse::KeyExchanges);
    host.endpoint.rekey_ike(NOW, ike).unwrap();
    host.endpoint.rekey_child(NOW, child).unwrap();
    host.endpoint.create_child(NOW, ike, CHILD).unwrap();
    assert!(transmits(&mut host).is_empty());
    refuse(Refuse::Nothing);
    assert!(host.failures.len() == 3 && host.failures.iter().all(|cause| *cause == Failure::CryptoRefused));
    let full = host.endpoint.occupancy();
    assert_eq!((full.ike_sas, full.reserved, full.child_sas), (1, 0, 1));
    peer.next = [0, 2];
    assert!(peer.alive(&mut host));
}

#[test]
fn atk_72_whatever_the_room_for_messages_every_request_is_answered() {
    let mut public = [0; 32];
    public[0] = 9;
    let rekey = payload(41, 0, &[&[3, 4, 0x40, 9], &ESP_SPI[..]].concat(), &child_payloads(Some(&public)));
    let delete = payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(ESP_SPI)).unwrap()]));
    for room in (580..760).step_by(4) {
        let [_, mut right] = pair();
        right.ike = vec![IkeProposal::parse(SUITE).unwrap()];
        right.dpd = std::time::Duration::ZERO;
        let mut host = Host::sized(77, vec![right], Settings::default(), [4, 8, room]);
        let mut peer = Scripted::initiate(&mut host, 22);
        let auth = peer.auth_payloads();
        assert!(notifies(&peer.ask(&mut host, ExchangeType::IKE_AUTH, &auth)).is_empty());
        for (exchange, request) in
            [(CREATE, child_payloads(Some(&public))), (CREATE, rekey.clone()), (INFO, delete.clone()), (INFO, NOTHING)]
        {
            // Answered, or the test of `ask` fails.
            let answer = peer.ask(&mut host, exchange, &request);
            let full = [NotifyKind::NO_ADDITIONAL_SAS];
            assert!(notifies(&answer).is_empty() || notifies(&answer) == full, "{room}: {:?}", notifies(&answer));
        }
        assert!(peer.alive(&mut host));
    }
}

#[test]
fn atk_73_garbage_of_the_shape_of_sk_is_not_answered() {
    let (mut host, mut peer) = Scripted::established(13);
    let (before, due) = (snapshot(&host), host.endpoint.poll_timeout());
    let seed = &mut Seed(13);
    for exchange in 35..=37 {
        for len in (25..200).step_by(5) {
            let header = peer.header(ExchangeType(exchange), false, peer.next[0]);
            let mut message = peer.seal_text(&header, 41, &vec![0; len - 24]);
            for octet in &mut message[32..] {
                *octet = seed.next() as u8;
            }
            assert_eq!(peer.tell(&mut host, &message), (Err(Discard::BadIcv), vec![]));
        }
    }
    assert_eq!((snapshot(&host), host.endpoint.poll_timeout()), (before, due));
    assert!(peer.alive(&mut host));
}

#[test]
fn atk_74_a_repeated_request_gets_the_same_octets_again() {
    let (mut host, mut peer) = Scripted::established(14);
    let requests = [(CREATE, child_payloads(None)), (INFO, NOTHING), (CREATE, child_payloads(None)), (INFO, NOTHING)];
    let mut previous: Option<Vec<u8>> = None;
    for (exchange, content) in requests {
        let header = peer.header(exchange, false, peer.next[0]);
        let request = peer.seal(&header, &content);
        peer.next[0] += 1;
        let (handled, first) = peer.tell(&mut host, &request);
        assert_eq!((handled, first.len()), (Ok(()), 1));
        let after = snapshot(&host);
        for _ in 0..3 {
            assert_eq!(peer.tell(&mut host, &request), (Ok(()), first.clone()));
            assert_eq!(snapshot(&host), after);
        }
        // The window is 1: what came before the last one is forgotten, and not handled anew.
        if let Some(previous) = previous.replace(request) {
            assert_eq!(peer.tell(&mut host, &previous), (Err(Discard::Window), vec![]));
            assert_eq!(snapshot(&host), after);
        }
    }
}

#[test]
fn forged_and_late_answers_are_ignored() {
    let (mut host, mut peer) = asking(15);
    let before = snapshot(&host);
    let busy = notify(NotifyKind::TEMPORARY_FAILURE, &[]);
    let mut tried = Vec::new();
    for (exchange, id) in [(CREATE, 0), (CREATE, 1), (CREATE, 3), (INFO, 2), (ExchangeType::IKE_AUTH, 1)] {
        let header = peer.header(exchange, true, id);
        tried.push(peer.seal(&header, &busy));
    }
    let header = peer.header(CREATE, true, 2);
    let right = peer.seal(&header, &busy);
    tried.extend((0..right.len()).map(|at| {
        let mut forged = right.clone();
        forged[at] ^= 0x40;
        forged
    }));
    for forged in &tried {
        let (handled, sent) = peer.tell(&mut host, forged);
        assert!(handled.is_err() && (sent.is_empty() || handled == Err(Discard::Version)));
        assert_eq!(snapshot(&host), before);
    }
    // The right one still counts, once.
    assert_eq!(peer.tell(&mut host, &right).0, Ok(()));
    let after = snapshot(&host);
    assert_eq!(peer.tell(&mut host, &right), (Err(Discard::Window), vec![]));
    assert_eq!(snapshot(&host), after);
}

#[test]
fn what_a_peer_deletes_before_its_answer_takes_what_the_answer_names_and_no_other() {
    let mut public = [0; 32];
    public[0] = 9;
    let answer = child_payloads(Some(&public));
    let spis = |spis: &[u32]| spis.iter().flat_map(|spi| spi.to_be_bytes()).collect::<Vec<u8>>();
    let delete = |protocol: ProtocolId, named: &[u32]| {
        let head = [protocol.0, 4, 0, named.len() as u8];
        payload(PayloadType::DELETE.0, 0, &[&head[..], &spis(named)].concat(), &NOTHING)
    };
    const MADE: u32 = 0x0bad_cafd;
    let old = asking(14).0.installed.values().next().unwrap().spi_out;
    let esp = |named: &[u32]| delete(ProtocolId::ESP, named);
    for (what, deletes, left) in [
        ("nothing", vec![], &[old, MADE][..]),
        ("another", vec![esp(&[MADE ^ 0x100])], &[old, MADE]),
        ("of AH", vec![delete(ProtocolId::AH, &[MADE])], &[old, MADE]),
        ("it", vec![esp(&[MADE])], &[old]),
        ("with others", vec![esp(&[MADE ^ 0x100, MADE ^ 0x200]), esp(&[MADE ^ 0x300, MADE])], &[old]),
        ("both", vec![esp(&[old, old, old, old, MADE])], &[]),
        ("one by one", vec![esp(&[MADE]), esp(&[old])], &[]),
    ] {
        let (mut host, mut peer) = asking(14);
        for content in &deletes {
            peer.ask(&mut host, INFO, content);
        }
        assert_eq!(peer.respond(&mut host, CREATE, &answer).0, Ok(()), "{what}");
        let mut spis: Vec<_> = host.installed.values().map(|child| child.spi_out).collect();
        spis.sort_by_key(|spi| *spi == MADE);
        assert_eq!(spis, left, "{what}: {:?}", host.story);
        // What is left is sent through.
        let through = host.sending.get(&CHILD).map(|child| host.installed[child].spi_out);
        assert_eq!(through, left.last().copied(), "{what}: {:?}", host.story);
    }
}

/// Both rekey, and the peer deletes the redundant one of the two, which we asked for, before it has answered with it.
#[test]
fn where_the_peer_deletes_the_redundant_one_before_its_answer_the_other_is_sent_through() {
    let (mut host, mut peer) = asking(16);
    let old = host.installed.values().next().unwrap().spi_out;
    let mut public = [0; 32];
    public[0] = 9;
    const THEIRS: u32 = 0x0bad_ca00;
    let crossing = payloads(|message| {
        message.notify(ProtocolId::ESP, &old.to_be_bytes(), NotifyKind::REKEY_SA, &[])?;
        message.sa(ProtocolId::ESP, &THEIRS.to_be_bytes(), offer_esp(&[esp(true)], true))?;
        message.nonce(&[0xff; 32])?;
        message.ke(GroupId::CURVE25519, &public)?;
        message.ts(PayloadType::TS_I, right_ts())?;
        message.ts(PayloadType::TS_R, left_ts())
    });
    assert!(notifies(&peer.ask(&mut host, CREATE, &crossing)).is_empty());
    let ours = Spi::new(0x0bad_cafd).unwrap();
    peer.ask(&mut host, INFO, &payloads(|message| message.delete_esp(&[ours])));
    let answer = with_body(&child_payloads(Some(&public)), PayloadType::NONCE, &[0; 32]);
    assert_eq!(peer.respond(&mut host, CREATE, &answer).0, Ok(()));
    assert_eq!(host.installed[&host.sending[&CHILD]].spi_out, THEIRS, "{:?}", host.story);
}

#[test]
fn a_proposal_with_sixty_transforms_is_taken() {
    let mut ours: Vec<_> = IkeProposal::parse(SUITE).unwrap().transforms().collect();
    let odd = |kind| (100..119u16).map(move |id| TransformSpec { kind, id, key_bits: None });
    ours.splice(0..0, [TransformType::ENCR, TransformType::PRF, TransformType::KE].into_iter().flat_map(odd));
    assert_eq!(ours.len(), 60);
    let sa = payloads(|message| message.sa(ProtocolId::IKE, &[], [(1, ours.iter().copied())]));
    let mut public = [0; 32];
    public[0] = 9;
    let request = with_body(&init_payloads(Group::Curve25519, &public), PayloadType::SA, &sa.1[4..]);
    let mut host = host(false);
    let (handled, sent) = tell_at(&mut host, NOW, path_of(false), &in_clear(&init_header(1), &request));
    assert_eq!((handled, sent.len(), host.endpoint.ike_sas().count()), (Ok(()), 1, 1));
}

#[test]
fn an_unknown_critical_payload_is_named_and_the_sa_lives() {
    let (mut host, mut peer) = Scripted::established(16);
    for kind in [1u8, 13, 32, 49, 100, 200, 255] {
        for exchange in [CREATE, INFO] {
            let answer = peer.ask(&mut host, exchange, &payload(kind, 0x80, b"what", &NOTHING));
            assert_eq!(notifies(&answer), [NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD]);
            assert_eq!(answer.1.last(), Some(&kind));
            assert!(host.installed.len() == 1 && peer.alive(&mut host));
        }
        // The same payload, not critical.
        let answer = peer.ask(&mut host, INFO, &payload(kind, 0, b"what", &NOTHING));
        assert!(answer.1.is_empty() && peer.alive(&mut host));
    }
}

#[test]
fn unknown_notifications_and_vendor_ids_are_ignored() {
    let (mut host, mut peer) = Scripted::established(17);
    for kind in [0, 100, 8191, 16_500, 40_959, 50_000, u16::MAX] {
        let content = payloads(|message| {
            message.vendor(b"somebody else")?;
            message.notify_parts(NotifyKind(kind), &[b"data"])
        });
        let before = snapshot(&host);
        let answer = peer.ask(&mut host, INFO, &content);
        assert!(answer.1.is_empty() && snapshot(&host) == before, "{kind}");
    }
    assert!(peer.alive(&mut host));
}

#[test]
fn e10_with_pfs_the_old_keys_do_not_lead_to_the_new_ones() {
    let mut engine = Engine::new(Seed(18), Packets);
    let mut public = [0; 32];
    let secret = engine.ke_offer(Group::Curve25519, &mut public).unwrap();
    let (mut host, mut peer) = Scripted::established(18);
    let answer = peer.ask(&mut host, CREATE, &child_payloads(Some(&public)));
    let body = |kind| {
        let mut chain = Chain::new(PayloadType(answer.0), &answer.1).map(Result::unwrap);
        chain.find(|payload| payload.kind == kind).unwrap().body.to_vec()
    };
    let mut shared = SharedSecret::new();
    engine.ke_finish(&secret, &body(PayloadType::KE)[4..], &mut shared).unwrap();
    let sk_d = Digest64::copy_from(&peer.sk_d).unwrap();
    let mut keymat = |shared| {
        let mut out = [0; 72];
        let (ni, nr) = ([0x6e; 32], body(PayloadType::NONCE));
        child_keymat(&mut engine, PrfAlg::HmacSha384, &sk_d, shared, &ni, &nr, &mut out).unwrap();
        out
    };
    let new = host.installed.values().last().unwrap();
    assert_eq!([&new.key_in[..], &new.key_out].concat(), keymat(Some(&shared)));
    // Whoever has every key of the IKE SA and both nonces, but not the new secret, has nothing.
    let without = keymat(None);
    assert!(without[..36] != new.key_in[..] && without[36..] != new.key_out[..]);
}
