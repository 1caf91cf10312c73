//! The handshake on wires and with peers that are not kind: late, doubled and forged answers, floods, sizes, names.

use std::time::Duration;

use ike_core::crypto::Group;
use ike_core::endpoint::{ROOM_PER_BLOCK, Settings, SpiMeaning};
use ike_core::error::Discard;
use ike_core::failure::{Failure, Side};
use ike_core::proposal::{IkeProposal, offer_ike};
use ike_core::registry::{ExchangeType, GroupId, IdKind, NotifyKind, PayloadType, ProtocolId};
use ike_core::wire::chain::Chain;
use ike_core::wire::header::Header;
use ike_core::wire::id::Id;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::hostile::peer::{
    NOTHING, NOW, Payloads, SUITE, Scripted, clear_payloads, host, in_clear, init_payloads, init_request, notifies,
    path_of, payload, payloads, tell_at, transmits, with_body, without,
};
use crate::network::{Host, Network, PEER, fqdn, pair};

const INIT: ExchangeType = ExchangeType::IKE_SA_INIT;

/// A wire where nothing is lost, and everything takes long.
struct SlowWire {
    now: Instant,
    /// One way.
    delay: Duration,
    hosts: [Host; 2],
    flights: Vec<(Instant, usize, Vec<u8>)>,
}

impl SlowWire {
    fn new(delay: u64, hosts: [Host; 2]) -> Self {
        Self { now: NOW, delay: Duration::from_millis(delay), hosts, flights: Vec::new() }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for (from, host) in self.hosts.iter_mut().enumerate() {
                host.endpoint.handle_timeout(self.now);
                self.flights.extend(transmits(host).into_iter().map(|sent| (self.now + self.delay, 1 - from, sent)));
            }
            self.now = self.now + Duration::from_millis(10);
            let (landed, flying) = self.flights.drain(..).partition(|(at, ..)| *at <= self.now);
            self.flights = flying;
            let landed: Vec<(Instant, usize, Vec<u8>)> = landed;
            for (_, to, datagram) in landed {
                let (_, sent) = tell_at(&mut self.hosts[to], self.now, path_of(to == 0), &datagram);
                self.flights.extend(sent.into_iter().map(|sent| (self.now + self.delay, 1 - to, sent)));
            }
        }
    }
}

/// Two ends of which the responder wants the group that the initiator offers second.
fn other_group() -> [crate::network::Peer; 2] {
    let [mut left, mut right] = pair();
    left.ike = vec![IkeProposal::parse("aes256gcm16-prfsha256-x25519-ecp256").unwrap()];
    right.ike = vec![IkeProposal::parse("aes256gcm16-prfsha256-ecp256").unwrap()];
    [left, right]
}

#[test]
fn f_42_a_doubled_request_for_another_group_is_followed_once() {
    let [left, right] = other_group();
    let mut network = Network::new(42, [vec![left], vec![right]], Settings::default());
    network.faults.duplicate = 100;
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(Duration::from_secs(2));
    assert!(network.passes(), "{:?} {:?}", network.hosts[0].story, network.hosts[1].story);
}

#[test]
fn f_42_a_round_trip_longer_than_the_first_pause_connects() {
    // Cookie first or not, and every round trip in which one to five copies are under way.
    for threshold in [0, 16] {
        for delay in [260, 350, 800, 1_600, 2_400] {
            let settings = Settings { cookie_threshold: threshold, ..Settings::default() };
            let [left, right] = other_group();
            let hosts = [Host::new(1, vec![left], settings), Host::new(2, vec![right], settings)];
            let mut wire = SlowWire::new(delay, hosts);
            wire.hosts[0].endpoint.initiate(wire.now, PEER, None).unwrap();
            wire.run_for(Duration::from_secs(30));
            let [left, right] = &wire.hosts;
            assert!(left.ike().is_some(), "{threshold} {delay} ms: {:?} {:?}", left.story, right.story);
            assert!(right.failures.is_empty() && left.failures.is_empty(), "{threshold} {delay} ms: {:?}", left.story);
        }
    }
}

/// A host that has sent its IKE_SA_INIT, and a header for answers to it.
fn asking() -> (Host, Vec<u8>, Header) {
    let mut host = host(true);
    host.endpoint.initiate(NOW, PEER, None).unwrap();
    let request = transmits(&mut host).remove(0);
    let spi_i = Header::parse(&request).unwrap().spi_i;
    (host, request, Header { response: true, ..Header::new(spi_i, 0, INIT, 0) })
}

fn cookie(data: &[u8]) -> Payloads {
    payloads(|message| message.notify_parts(NotifyKind::COOKIE, &[data]))
}

#[test]
fn f_42_a_cookie_for_each_copy_of_the_request_is_returned_once() {
    // The request went out twice, and the peer makes a cookie of the time of day too: two different ones come back.
    let (mut host, _, header) = asking();
    let path = path_of(true);
    host.endpoint.handle_timeout(NOW + Duration::from_millis(500));
    assert_eq!(transmits(&mut host).len(), 1);
    let now = NOW + Duration::from_millis(700);
    let (handled, sent) = tell_at(&mut host, now, path, &in_clear(&header, &cookie(b"first")));
    assert_eq!((handled, sent.len()), (Ok(()), 1));
    assert_eq!(clear_payloads(&sent[0]).1[8..13], *b"first");
    for late in [&b"first"[..], b"second", b"first"] {
        let (handled, sent) = tell_at(&mut host, now, path, &in_clear(&header, &cookie(late)));
        assert_eq!((handled, sent.len()), (Err(Discard::Unexpected), 0), "{late:?}");
    }
    // One more is no answer to any earlier request: the peer has another secret now.
    let (handled, sent) = tell_at(&mut host, now, path, &in_clear(&header, &cookie(b"third")));
    assert_eq!((handled, sent.len()), (Ok(()), 1));
    assert_eq!(clear_payloads(&sent[0]).1[8..13], *b"third");
}

#[test]
fn f_43_a_responder_that_never_settles_for_a_group_or_cookie_is_followed_a_few_times() {
    for cookies in [false, true] {
        let (mut host, _, header) = asking();
        let mut restarts = 0;
        for round in 0..100u8 {
            let answer = match cookies {
                true => cookie(&[round; 8]),
                false => payloads(|message| {
                    let group = if round % 2 == 0 { Group::Ecp256 } else { Group::Curve25519 };
                    message.notify_parts(NotifyKind::INVALID_KE_PAYLOAD, &[&group.id().0.to_be_bytes()])
                }),
            };
            restarts += tell_at(&mut host, NOW, path_of(true), &in_clear(&header, &answer)).1.len();
        }
        assert_eq!(restarts, 5, "cookies: {cookies}");
        assert_eq!(host.story, ["noted: TooManyRestarts"]);
        run_out(&mut host);
        assert_eq!(host.failures, [Failure::TooManyRestarts]);
    }
}

/// Lets the retransmissions end without another answer; returns how many there were.
fn run_out(host: &mut Host) -> usize {
    let mut sent = 0;
    for tenths in 0..1_200 {
        host.endpoint.handle_timeout(NOW + Duration::from_millis(tenths * 100));
        sent += transmits(host).len();
    }
    assert_eq!(host.endpoint.ike_sas().count(), 0, "{:?}", host.story);
    sent
}

/// Everything that a stranger could say in the peer's place.
fn forgeries(header: &Header) -> Vec<(Vec<u8>, Failure)> {
    let error = |kind, data: &[u8]| in_clear(header, &payloads(|message| message.notify_parts(kind, &[data])));
    let chosen = Header { spi_r: 5, ..*header };
    let bad_ke = init_payloads(Group::Curve25519, &[0; 32]);
    let other_group = init_payloads(Group::Ecp256, &[4; 64]);
    vec![
        (error(NotifyKind::NO_PROPOSAL_CHOSEN, &[]), Failure::ProposalsRefused),
        (error(NotifyKind::INVALID_SYNTAX, &[]), Failure::InvalidSyntax(Side::Peer)),
        (error(NotifyKind::INVALID_MAJOR_VERSION, &[]), Failure::MajorVersion),
        (error(NotifyKind(77), &[]), Failure::Notified(NotifyKind(77))),
        (error(NotifyKind::INVALID_KE_PAYLOAD, &[0, 14]), Failure::GroupNotOffered(14)),
        (error(NotifyKind::INVALID_KE_PAYLOAD, &[0]), Failure::InvalidSyntax(Side::Here)),
        (in_clear(header, &cookie(&[7; 65])), Failure::InvalidSyntax(Side::Here)),
        (in_clear(&chosen, &bad_ke), Failure::BadKeyExchange),
        (in_clear(header, &bad_ke), Failure::InvalidSyntax(Side::Here)),
        (in_clear(&chosen, &other_group), Failure::InvalidSyntax(Side::Here)),
    ]
}

#[test]
fn f_55_what_anybody_could_have_said_is_noted_and_the_genuine_answer_connects() {
    let count = forgeries(&Header::new(1, 0, INIT, 0)).len();
    for index in 0..count {
        let (mut host, request, header) = asking();
        let (forged, cause) = forgeries(&header).remove(index);
        let elsewhere = Path { remote: "198.51.100.9:9".parse().unwrap(), ..path_of(true) };
        for _ in 0..3 {
            assert_eq!(tell_at(&mut host, NOW, elsewhere, &forged), (Ok(()), vec![]), "{cause:?}");
        }
        // Told at once, and once.
        assert_eq!(host.story, [format!("noted: {cause:?}")]);
        let (mut peer, _) = Scripted::answer_to(&mut host, 55, &request);
        peer.next[1] = 1;
        let auth = peer.auth_payloads();
        assert_eq!(peer.respond(&mut host, ExchangeType::IKE_AUTH, &auth).0, Ok(()), "{cause:?}");
        assert!(host.ike().is_some() && host.failures.is_empty(), "{cause:?}: {:?}", host.story);
    }
}

#[test]
fn f_55_the_noted_cause_is_the_one_that_is_told_in_the_end() {
    let count = forgeries(&Header::new(1, 0, INIT, 0)).len();
    for index in 0..count {
        let (mut host, _, header) = asking();
        let (said, cause) = forgeries(&header).remove(index);
        let _ = tell_at(&mut host, NOW, path_of(true), &said);
        assert_eq!(run_out(&mut host), 6, "{cause:?}");
        assert_eq!(host.failures, [cause]);
    }
    // The last of them is the nearest to the end.
    let (mut host, _, header) = asking();
    for (said, _) in forgeries(&header).iter().take(2) {
        let _ = tell_at(&mut host, NOW, path_of(true), said);
    }
    run_out(&mut host);
    assert_eq!(host.failures, [forgeries(&header).remove(1).1]);
    // And without a word, silence.
    let (mut host, ..) = asking();
    run_out(&mut host);
    assert_eq!(host.failures, [Failure::PeerSilent(INIT)]);
}

#[test]
fn f_55_a_cause_is_noted_once_and_no_more_than_a_few_are() {
    let (mut host, _, header) = asking();
    let error = |number: u16| in_clear(&header, &payloads(|message| message.notify_parts(NotifyKind(number), &[])));
    let noted =
        |numbers: &[u16]| numbers.iter().map(|number| Failure::Notified(NotifyKind(*number))).collect::<Vec<_>>();
    for _ in 0..500 {
        for number in [8192, 8193] {
            let _ = tell_at(&mut host, NOW, path_of(true), &error(number));
        }
    }
    assert_eq!(host.noted, noted(&[8192, 8193]));
    for number in 8192..10_192 {
        let _ = tell_at(&mut host, NOW, path_of(true), &error(number));
    }
    assert_eq!(host.noted, noted(&[8192, 8193, 8194, 8195]));
    // The next attempt has causes of its own.
    run_out(&mut host);
    host.noted.clear();
    host.endpoint.initiate(NOW, PEER, None).unwrap();
    let spi_i = Header::parse(&transmits(&mut host)[0]).unwrap().spi_i;
    let said = in_clear(&Header { spi_i, ..header }, &payloads(|message| message.notify_parts(NotifyKind(8193), &[])));
    let _ = tell_at(&mut host, NOW, path_of(true), &said);
    assert_eq!(host.noted, noted(&[8193]));
}

#[test]
fn f_58_a_responder_that_proves_itself_and_says_nothing_of_the_child_has_an_ike_sa_without_child() {
    let kinds = [PayloadType::SA, PayloadType::TS_I, PayloadType::TS_R];
    for missing in 1..8u8 {
        let mut host = host(true);
        let (mut peer, _) = Scripted::answer(&mut host, 58);
        peer.next[1] = 1;
        let gone = kinds.iter().enumerate().filter(|(bit, _)| missing & (1 << bit) != 0);
        let less = gone.fold(peer.auth_payloads(), |all, (_, kind)| without(&all, *kind));
        let (handled, sent) = peer.respond(&mut host, ExchangeType::IKE_AUTH, &less);
        assert_eq!(handled, Ok(()));
        assert!(host.ike().is_some() && host.installed.is_empty(), "without {missing:b}: {:?}", host.story);
        // Whoever named an SPI has installed the child, and is told to delete it.
        let told: Vec<_> = sent.iter().map(|sent| peer.open(sent).0).collect();
        assert_eq!(told, if missing & 1 == 0 { vec![PayloadType::DELETE.0] } else { vec![] }, "without {missing:b}");
        if !told.is_empty() {
            peer.respond(&mut host, ExchangeType::INFORMATIONAL, &NOTHING).0.unwrap();
        }
        assert_eq!(host.failures, [Failure::InvalidSyntax(Side::Here)]);
        assert!(peer.alive(&mut host), "without {missing:b}");
    }
}

#[test]
fn what_an_spi_means_is_known_before_the_answer() {
    // The same twice: the second time we know what SPI will have been offered.
    let begun = || {
        let mut host = host(true);
        let (mut peer, _) = Scripted::answer(&mut host, 28);
        peer.next[1] = 1;
        (host, peer)
    };
    let (mut host, mut peer) = begun();
    let auth = peer.auth_payloads();
    peer.respond(&mut host, ExchangeType::IKE_AUTH, &auth).0.unwrap();
    let spi = host.endpoint.child_sas().next().unwrap().spi_in.get();
    assert_eq!(host.endpoint.meaning_of(spi), SpiMeaning::Negotiated);
    assert!(!host.endpoint.offers());
    assert_eq!(host.endpoint.meaning_of(spi ^ 0x8000_0000), SpiMeaning::None);
    let (host, _) = begun();
    assert!(host.endpoint.offers());
    assert_eq!(host.endpoint.meaning_of(spi), SpiMeaning::Offered);
    assert_eq!(host.endpoint.meaning_of(spi ^ 0x8000_0000), SpiMeaning::None);
    assert_eq!(host.endpoint.meaning_of(spi ^ 1), SpiMeaning::None);
}

#[test]
fn f_81_proposals_refused_in_ike_auth_are_those_of_the_child() {
    for (kind, cause) in [
        (NotifyKind::NO_PROPOSAL_CHOSEN, Failure::ChildProposalsRefused),
        (NotifyKind::AUTHENTICATION_FAILED, Failure::AuthenticationFailed(Side::Peer)),
    ] {
        let mut host = host(true);
        let (mut peer, _) = Scripted::answer(&mut host, 81);
        peer.next[1] = 1;
        // OpenIKED's whole answer, before it has looked at AUTH.
        let refusal = payloads(|message| message.notify_parts(kind, &[]));
        let (handled, _) = peer.respond(&mut host, ExchangeType::IKE_AUTH, &refusal);
        assert_eq!((handled, &host.failures[..]), (Ok(()), &[cause][..]));
        assert!(host.ike().is_none());
    }
}

#[test]
fn f_59_names_in_another_case_are_the_same() {
    let [mut left, mut right] = pair();
    left.local_id = "LEFT.example";
    right.local_id = "Right.Example";
    let mut network = Network::new(59, [vec![left], vec![right]], Settings::default());
    network.connect();
    assert!(network.passes());
}

#[test]
fn f_59_another_identity_than_expected_is_told_with_the_one_that_came() {
    let (mut host, request, _) = asking();
    let (mut peer, _) = Scripted::answer_to(&mut host, 59, &request);
    peer.next[1] = 1;
    let named = payloads(|message| message.id(PayloadType::ID_R, &Id { kind: IdKind::KEY_ID, data: b"other" }));
    let wrong = with_body(&peer.auth_payloads(), PayloadType::ID_R, &named.1[4..]);
    let (_, sent) = peer.respond(&mut host, ExchangeType::IKE_AUTH, &wrong);
    assert_eq!(host.failures, [Failure::WrongIdentity]);
    assert_eq!(host.claims, [Some("@hex:6f74686572".to_owned())]);
    // The peer holds the SA for established: it is told once that it is not.
    let [last_word] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(notifies(&peer.open(last_word)), [NotifyKind::AUTHENTICATION_FAILED]);
}

#[test]
fn f_59_the_identity_of_a_stranger_is_told_when_there_is_no_connection_for_it() {
    let mut host = host(false);
    let mut peer = Scripted::initiate(&mut host, 59);
    let named = payloads(|message| message.id(PayloadType::ID_I, &fqdn("stranger.example")));
    let other = with_body(&peer.auth_payloads(), PayloadType::ID_I, &named.1[4..]);
    let answer = peer.ask(&mut host, ExchangeType::IKE_AUTH, &other);
    assert_eq!(notifies(&answer), [NotifyKind::AUTHENTICATION_FAILED]);
    assert_eq!(host.failures, [Failure::UnknownIdentity]);
    assert_eq!((&host.claims[..], &host.ended[..]), (&[Some("stranger.example".to_owned())][..], &[[None, None]][..]));
}

#[test]
fn f_59_no_connection_is_used_with_algorithms_that_another_one_chose() {
    let [mut left, right] = pair();
    left.remote_id = None;
    left.ike = vec![IkeProposal::parse("aes128gcm16-prfsha256-ecp256").unwrap()];
    let second = crate::network::Peer { local_id: "second.example", ike: left.ike.clone(), ..right.clone() };
    let first = crate::network::Peer { ike: vec![IkeProposal::parse(SUITE).unwrap()], ..right };
    let mut network = Network::new(160, [vec![left], vec![first, second]], Settings::default());
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    network.run_for(Duration::from_secs(1));
    let ike = network.hosts[0].ike().expect("the second one's");
    assert_eq!(ike.identity.unwrap().to_string(), "second.example");
}

#[test]
fn f_59_whoever_is_asked_for_somebody_else_answers_as_the_one_it_is() {
    // Two connections with the same peer, under two names of ours: the right one where it is asked for, else the first.
    for (wanted, answers) in
        [("right.example", "right.example"), ("second.EXAMPLE", "second.example"), ("third.example", "right.example")]
    {
        for anybody in [false, true] {
            let [mut left, right] = pair();
            // The initiator asks for that one, and takes any.
            left.remote_id = Some(wanted);
            let second = crate::network::Peer { local_id: "second.example", ..right.clone() };
            let mut network = Network::new(159, [vec![left], vec![right, second]], Settings::default());
            network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
            network.run_for(Duration::from_millis(25));
            if anybody {
                network.hosts[0].endpoint.pad_mut().0[0].remote_id = None;
            }
            network.run_for(Duration::from_secs(1));
            let hosts = &network.hosts;
            let refused = !anybody && wanted == "third.example";
            assert_eq!(hosts[0].ike().is_none(), refused, "{wanted}: {:?} {:?}", hosts[0].story, hosts[1].story);
            if refused {
                assert_eq!(hosts[0].claims, [Some(answers.to_owned())]);
                continue;
            }
            let shown = [0, 1].map(|side: usize| hosts[side].ike().unwrap().identity.unwrap().to_string());
            assert_eq!(shown, [answers, "left.example"], "{wanted}");
            // The identity goes on with the SA that a rekey makes.
            let old = hosts[0].ike_id();
            network.hosts[0].endpoint.rekey_ike(network.now, old).unwrap();
            network.run_for(Duration::from_secs(1));
            let ike = network.hosts[0].ike().unwrap();
            assert_ne!(ike.id, old);
            assert_eq!(ike.identity.unwrap().to_string(), answers);
        }
    }
}

/// A host with room for the messages that RFC 7296 §2 wants taken.
fn roomy(initiator: bool) -> Host {
    let [left, right] = pair();
    let mut end = if initiator { left } else { right };
    end.ike = vec![IkeProposal::parse(SUITE).unwrap()];
    Host::sized(57, vec![end], Settings::default(), [4, 4, ROOM_PER_BLOCK / 2])
}

#[test]
fn f_57_a_first_message_of_three_thousand_octets_is_taken_and_what_is_too_long_is_told_once() {
    let mut host = roomy(false);
    let mut peer = Scripted::initiate_with(&mut host, 57, 3_000);
    let auth = peer.auth_payloads();
    assert!(notifies(&peer.ask(&mut host, ExchangeType::IKE_AUTH, &auth)).is_empty());
    assert_eq!(host.installed.len(), 1);
    for (seconds, told) in [(0, 1), (1, 0), (59, 0), (60, 1), (61, 0)] {
        for octets in [3_001, 16_000] {
            let long = init_request(99, &[9; 32], octets);
            assert_eq!(long.len(), octets);
            let at = NOW + Duration::from_secs(seconds);
            assert_eq!(tell_at(&mut host, at, path_of(false), &long), (Err(Discard::NoRoom), vec![]));
        }
        let told: Vec<_> = std::iter::repeat_n(Failure::MessageTooLong(3_001), told).collect();
        assert_eq!(std::mem::take(&mut host.failures), told, "after {seconds} s");
    }
    assert_eq!(host.endpoint.occupancy().ike_sas, 1);
}

#[test]
fn f_57_an_answer_of_three_thousand_octets_is_taken_and_a_longer_one_is_only_noted() {
    let mut host = roomy(true);
    host.endpoint.initiate(NOW, PEER, None).unwrap();
    let request = transmits(&mut host).remove(0);
    let header = Header { response: true, ..Header::new(Header::parse(&request).unwrap().spi_i, 5, INIT, 0) };
    let bare = init_payloads(Group::Curve25519, &[9; 32]);
    let long = |octets: usize| {
        let more = octets - in_clear(&header, &bare).len() - 4;
        in_clear(&header, &payload(PayloadType::VENDOR.0, 0, &vec![0; more], &bare))
    };
    assert_eq!(tell_at(&mut host, NOW, path_of(true), &long(3_001)), (Ok(()), vec![]));
    assert_eq!(host.noted, [Failure::MessageTooLong(3_001)]);
    let (handled, sent) = tell_at(&mut host, NOW, path_of(true), &long(3_000));
    assert_eq!((handled, sent.len()), (Ok(()), 1));
    assert_eq!(Header::parse(&sent[0][4..]).or(Header::parse(&sent[0])).unwrap().exchange, ExchangeType::IKE_AUTH);
}

fn lifetime(data: &[u8]) -> Payloads {
    payloads(|message| message.notify_parts(NotifyKind::AUTH_LIFETIME, &[data]))
}

/// Payloads of one message behind those of another.
fn and(all: &Payloads, more: &Payloads) -> Payloads {
    let chain: Vec<_> = Chain::new(PayloadType(all.0), &all.1).map(Result::unwrap).collect();
    chain.iter().rev().fold(more.clone(), |rest, one| payload(one.kind.0, 0, one.body, &rest))
}

/// An IKE SA with a child that the host asked for, of a peer that says for how many seconds it is authenticated.
fn limited(seconds: u32) -> (Host, Scripted) {
    let mut host = host(true);
    let (mut peer, _) = Scripted::answer(&mut host, 63);
    peer.next = [0, 1];
    let auth = and(&peer.auth_payloads(), &lifetime(&seconds.to_be_bytes()));
    assert_eq!(peer.respond(&mut host, ExchangeType::IKE_AUTH, &auth).0, Ok(()));
    assert_eq!(host.installed.len(), 1, "{:?}", host.story);
    (host, peer)
}

/// After how many seconds the host is told to authenticate anew; it is told once.
fn told_after(host: &mut Host) -> Option<u64> {
    let due = host.ike().unwrap().reauthenticate_at?;
    assert!(host.endpoint.poll_timeout().is_some_and(|next| next <= due), "it is not waited for");
    let wanted = |host: &Host| host.story.iter().filter(|line| *line == "reauthenticate").count();
    for (millis, told) in [(-1, 0), (0, 1), (100_000, 1)] {
        let at = Instant::from_millis(due.as_millis().saturating_add_signed(millis));
        host.endpoint.handle_timeout(at);
        let _ = transmits(host);
        assert_eq!(wanted(host), told);
    }
    Some(due.since(NOW).as_secs())
}

#[test]
fn f_63_whoever_is_authenticated_for_a_limited_time_is_told_ahead_of_its_end() {
    for (seconds, told) in [
        (3_600, 2_900..=3_240),
        (60, 40..=45),
        (20, 8..=10),
        (1, 8..=10),
        (0, 8..=10),
        (u32::MAX, 3_400_000_000..=3_900_000_000),
    ] {
        let (mut host, _peer) = limited(seconds);
        let after = told_after(&mut host).unwrap();
        assert!(told.contains(&after), "{seconds}: {after}");
    }
    // Nobody who does not say so is bothered.
    let (mut host, _peer) = Scripted::established_by_host(63);
    assert_eq!(told_after(&mut host), None);
}

#[test]
fn f_63_what_the_peer_says_last_counts_and_nonsense_does_not() {
    let (mut host, mut peer) = limited(3_600);
    for nonsense in [&[][..], &[0, 0, 9], &[0, 0, 0, 9, 0]] {
        assert!(peer.ask(&mut host, ExchangeType::INFORMATIONAL, &lifetime(nonsense)).1.is_empty());
        assert!(host.ike().unwrap().reauthenticate_at.unwrap().since(NOW) > Duration::from_secs(2_000));
    }
    assert!(peer.ask(&mut host, ExchangeType::INFORMATIONAL, &lifetime(&100u32.to_be_bytes())).1.is_empty());
    assert!((76..=85).contains(&told_after(&mut host).unwrap()));
}

#[test]
fn f_63_a_rekey_proves_nothing() {
    let (mut host, mut peer) = limited(3_600);
    let old = host.ike().unwrap();
    let rekey = payloads(|message| {
        message.sa(ProtocolId::IKE, &[7; 8], offer_ike(&[IkeProposal::parse(SUITE).unwrap()]))?;
        message.nonce(&[0x6e; 32])?;
        message.ke(GroupId::CURVE25519, &[9; 32])
    });
    assert!(notifies(&peer.ask(&mut host, ExchangeType::CREATE_CHILD_SA, &rekey)).is_empty());
    let new = host.ike().unwrap();
    assert!(new.id != old.id && old.reauthenticate_at.is_some());
    assert_eq!(new.reauthenticate_at, old.reauthenticate_at);
}
