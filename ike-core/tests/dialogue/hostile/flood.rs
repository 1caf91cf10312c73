//! Messages in masses: half-open SAs, amplification, garbage.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ike_core::crypto::Group;
use ike_core::endpoint::Settings;
use ike_core::error::Discard;
use ike_core::registry::{ExchangeType, NotifyKind, PayloadType};
use ike_core::wire::chain::Chain;
use ike_core::wire::header::Header;
use ipsec_core::net::Path;

use super::peer::*;
use crate::network::{Host, Network, PEER, Seed, pair};

fn from(number: u32, port: u16) -> Path {
    let remote = SocketAddr::new(Ipv4Addr::from_bits(0x0b00_0000 + number).into(), port);
    Path { remote, ..path_of(false) }
}

/// An IKE_SA_INIT as small as a responder answers: a nonce of 16 octets, no NAT detection.
fn smallest(spi: u64) -> Vec<u8> {
    let mut public = [0; 32];
    public[0] = 9;
    let all = with_body(&init_payloads(Group::Curve25519, &public), PayloadType::NONCE, &[5; 16]);
    in_clear(&init_header(spi), &all)
}

fn open_to_all(settings: Settings) -> Host {
    let [_, mut right] = pair();
    right.remote = None;
    right.ike = vec![ike_core::proposal::IkeProposal::parse(SUITE).unwrap()];
    Host::new(78, vec![right], settings)
}

#[test]
fn atk_36_a_responder_never_sends_much_more_than_it_got() {
    let nat = |message: &[u8]| {
        let header = Header::parse(message).unwrap();
        let Payloads(first, octets) = clear_payloads(message);
        let detection = payloads(|out| {
            out.notify_parts(NotifyKind::NAT_DETECTION_SOURCE_IP, &[&[1; 20]])?;
            out.notify_parts(NotifyKind::NAT_DETECTION_DESTINATION_IP, &[&[2; 20]])
        });
        let chain: Vec<_> = Chain::new(PayloadType(first), &octets).map(Result::unwrap).collect();
        in_clear(&header, &chain.iter().rev().fold(detection, |rest, one| payload(one.kind.0, 0, one.body, &rest)))
    };
    let right = clear_payloads(&smallest(1));
    let messages = [
        smallest(1),
        nat(&smallest(1)),
        in_clear(&init_header(1), &with_body(&right, PayloadType::SA, &[])),
        in_clear(&init_header(1), &with_body(&right, PayloadType::KE, &[0, 19, 0, 0])),
        in_clear(&init_header(1), &payload(200, 0x80, &[], &NOTHING)),
        in_clear(&Header { major: 1, ..init_header(1) }, &NOTHING),
    ];
    for message in messages {
        let mut host = open_to_all(Settings::default());
        let (_, sent) = tell_at(&mut host, NOW, path_of(false), &message);
        assert_eq!(sent.len(), 1, "this one is not answered at all: {message:x?}");
        let (got, sent) = (message.len(), sent[0].len());
        assert!(sent * 2 <= got * 3, "{sent} octets for {got}");
    }
}

#[test]
fn atk_36_a_cookie_is_no_longer_than_the_request_and_nothing_is_repeated() {
    let mut host = open_to_all(Settings { cookie_threshold: 0, ..Settings::default() });
    let request = smallest(1);
    let (_, sent) = tell_at(&mut host, NOW, path_of(false), &request);
    assert_eq!(notifies(&clear_payloads(&sent[0])), [NotifyKind::COOKIE]);
    assert!(sent[0].len() <= request.len());
    assert_eq!((host.endpoint.ike_sas().count(), host.endpoint.poll_timeout()), (0, None));

    let mut host = open_to_all(Settings::default());
    assert_eq!(tell_at(&mut host, NOW, path_of(false), &request).1.len(), 1);
    for second in 0..120 {
        host.endpoint.handle_timeout(NOW + Duration::from_secs(second));
        assert!(transmits(&mut host).is_empty(), "a responder repeats by itself");
    }
    assert_eq!(host.endpoint.ike_sas().count(), 0, "and keeps what nobody finished");
}

#[test]
fn atk_42_ten_thousand_spoofed_first_messages_do_not_keep_the_peer_out() {
    let settings = Settings { cookie_threshold: 3, half_open_limit: 6, ..Settings::default() };
    let [left, mut right] = pair();
    right.remote = None;
    let mut network = Network::new(42, [vec![left], vec![right]], settings);
    let mut most = 0;
    let mut flood = |network: &mut Network, round: u32, count: u32| {
        for number in 0..count {
            let mut message = smallest(u64::from(round * 100_000 + number) + 1);
            let path = from(round * 100_000 + number, 500);
            let _ = network.hosts[1].endpoint.handle_datagram(network.now, path, &mut message);
            while let Some(transmit) = network.hosts[1].endpoint.poll_transmit() {
                let answer = &transmit.datagram;
                assert!(answer.len() * 2 <= message.len() * 3);
            }
            most = most.max(network.hosts[1].endpoint.ike_sas().count());
        }
    };
    flood(&mut network, 0, 5_000);
    network.hosts[0].endpoint.initiate(network.now, PEER, None).unwrap();
    for round in 1..=50 {
        flood(&mut network, round, 100);
        network.run_for(Duration::from_millis(20));
    }
    // Half-open SAs of strangers up to the threshold, and the peer's.
    assert!(most <= 4, "{most} SAs");
    assert!(network.passes(), "{:?} {:?}", network.hosts[0].story, network.hosts[1].story);
    network.run_for(Duration::from_secs(60));
    assert_eq!(network.hosts[1].endpoint.ike_sas().count(), 1);
}

#[test]
fn atk_42_a_cookie_is_good_for_its_maker_and_its_time_only() {
    let settings = Settings { cookie_threshold: 0, ..Settings::default() };
    let right = clear_payloads(&smallest(1));
    let with_cookie =
        |spi, cookie: &[u8]| in_clear(&init_header(spi), &payload(41, 0, &[&[0, 0, 0x40, 6], cookie].concat(), &right));
    let cookie_of = |host: &mut Host, now| {
        let (_, sent) = tell_at(host, now, from(1, 500), &smallest(1));
        clear_payloads(&sent[0]).1[8..].to_vec()
    };
    let taken = |host: &mut Host, now, path, message: &[u8]| {
        let before = host.endpoint.ike_sas().count();
        let (_, sent) = tell_at(host, now, path, message);
        let made = host.endpoint.ike_sas().count() > before;
        assert_eq!(made, notifies(&clear_payloads(&sent[0])).iter().all(|kind| *kind != NotifyKind::COOKIE));
        made
    };
    let host = &mut open_to_all(settings);
    let cookie = cookie_of(host, NOW);
    assert!(!taken(host, NOW, from(2, 500), &with_cookie(1, &cookie)), "another address");
    assert!(!taken(host, NOW, from(1, 500), &with_cookie(2, &cookie)), "another SPI");
    for at in 0..cookie.len() {
        let mut changed = cookie.clone();
        changed[at] ^= 1;
        assert!(!taken(host, NOW, from(1, 500), &with_cookie(1, &changed)), "octet {at}");
        assert!(!taken(host, NOW, from(1, 500), &with_cookie(1, &cookie[..at])), "cut at {at}");
    }
    assert!(taken(host, NOW, from(1, 500), &with_cookie(1, &cookie)), "the right one");
    // The secret is renewed: the cookie is good for the rest of its minute and the next, then no longer.
    for (age, good) in [(1, true), (59, true), (61, true), (119, true), (120, false), (3600, false)] {
        let host = &mut open_to_all(settings);
        let cookie = cookie_of(host, NOW);
        let now = NOW + Duration::from_secs(age);
        assert_eq!(taken(host, now, from(1, 500), &with_cookie(1, &cookie)), good, "after {age} s");
    }
}

/// A copy with a few octets changed, or cut; never the same.
fn spoilt(seed: &mut Seed, message: &[u8]) -> Vec<u8> {
    let mut noise = message.to_vec();
    if seed.percent(30) {
        noise.truncate(seed.below(message.len() as u64) as usize);
    }
    let at = seed.below(message.len() as u64) as usize;
    if let Some(octet) = noise.get_mut(at) {
        *octet ^= 1 << seed.below(8);
    } else {
        noise.push(0);
    }
    noise
}

#[test]
fn atk_45_malformed_messages_leave_nothing_behind() {
    let (mut host, mut peer) = Scripted::established(45);
    let mut strangers = open_to_all(Settings { cookie_threshold: 0, ..Settings::default() });
    let header = peer.header(ExchangeType::INFORMATIONAL, false, peer.next[0]);
    let (sealed, first) = (peer.seal(&header, &child_payloads(None)), smallest(1));
    let (before, due) = (snapshot(&host), host.endpoint.poll_timeout());
    let seed = &mut Seed(45);
    for _ in 0..200_000 {
        let (handled, sent) = tell_at(&mut host, NOW, path_of(false), &spoilt(seed, &sealed));
        // The major version is the only octet that is answered to.
        assert!(handled.is_err() && (sent.is_empty() || handled == Err(Discard::Version)));
        let _ = tell_at(&mut strangers, NOW, path_of(false), &spoilt(seed, &first));
        assert_eq!((strangers.endpoint.ike_sas().count(), strangers.endpoint.poll_timeout()), (0, None));
    }
    assert_eq!((snapshot(&host), host.endpoint.poll_timeout()), (before, due));
    assert!(peer.alive(&mut host));
}
