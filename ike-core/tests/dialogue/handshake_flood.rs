//! Strangers in masses: what one source may hold, and what requests may cost that come to nothing.

use std::time::Duration;

use ike_core::crypto::Group;
use ike_core::endpoint::Settings;
use ike_core::failure::Failure;
use ike_core::proposal::IkeProposal;
use ike_core::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId, TransformType};
use ike_core::wire::header::Header;
use ike_core::wire::sa::TransformSpec;
use ike_core::wire::writer::MessageWriter;
use ipsec_core::net::Path;

use crate::hostile::peer::{
    NOW, SUITE, clear_payloads, in_clear, init_header, init_payloads, notifies, path_of, payload, tell_at, with_body,
};
use crate::network::{Host, pair};

/// A responder that takes calls from everywhere, with that many connections.
fn open_to_all(settings: Settings, lists: impl IntoIterator<Item = Vec<IkeProposal>>) -> Host {
    let [_, mut right] = pair();
    right.remote = None;
    let connections = lists.into_iter().map(|ike| crate::network::Peer { ike, ..right.clone() }).collect();
    Host::sized(44, connections, settings, [64, 64, 16 * 1024])
}

/// The same with one connection, the default settings and a table of that size.
fn small(slots: usize) -> Host {
    let [_, mut right] = pair();
    right.remote = None;
    right.ike = list(SUITE);
    Host::sized(45, vec![right], Settings::default(), [slots, 2, 1280])
}

#[test]
fn one_source_takes_no_more_than_so_many_however_large_the_table_is() {
    let [_, mut right] = pair();
    (right.remote, right.ike) = (None, list(SUITE));
    let settings = Settings { half_open_limit: 600, ..Settings::default() };
    let mut host = Host::sized(46, vec![right], settings, [1200, 2, 1280]);
    let made = (1..=200).filter(|spi| knock(&mut host, *spi, from("203.0.113.66:500")).0).count();
    assert_eq!(made, 64, "each first message from there looks at them");
}

fn list(words: &str) -> Vec<IkeProposal> {
    vec![IkeProposal::parse(words).unwrap()]
}

fn first_message(spi_i: u64, cookie: Option<&[u8]>) -> Vec<u8> {
    let all = init_payloads(Group::Curve25519, &[9; 32]);
    in_clear(
        &init_header(spi_i),
        &match cookie {
            Some(cookie) => payload(PayloadType::NOTIFY.0, 0, &[&[0, 0, 0x40, 6], cookie].concat(), &all),
            None => all,
        },
    )
}

fn from(remote: &str) -> Path {
    Path { remote: remote.parse().unwrap(), ..path_of(false) }
}

/// Begins a handshake from there, and returns its cookie when it is asked to. Returns whether it was answered, and
/// whether a cookie was asked for.
fn knock(host: &mut Host, spi_i: u64, path: Path) -> (bool, bool) {
    let (handled, sent) = tell_at(host, NOW, path, &first_message(spi_i, None));
    let Some(answer) = sent.first().filter(|_| handled.is_ok()).map(|answer| clear_payloads(answer)) else {
        return (false, false);
    };
    if notifies(&answer) != [NotifyKind::COOKIE] {
        return (true, false);
    }
    let (handled, sent) = tell_at(host, NOW, path, &first_message(spi_i, Some(&answer.1[8..])));
    (handled.is_ok() && sent.len() == 1, true)
}

#[test]
fn f_44_one_source_that_returns_its_cookies_takes_a_share_and_no_more() {
    let settings = Settings { cookie_threshold: 16, half_open_limit: 32, ..Settings::default() };
    // The same address on other ports; another host of the same /64.
    let (v4, v6) = (["203.0.113.66:500", "203.0.113.66:501"], ["[2001:db8::1]:500", "[2001:db8::ffff:2]:500"]);
    for [one, other] in [v4, v6] {
        let mut host = open_to_all(settings, [list(SUITE)]);
        let knocks: Vec<_> = (1..=100).map(|spi| knock(&mut host, spi, from([one, other][spi as usize % 2]))).collect();
        assert_eq!(knocks.iter().filter(|(answered, _)| *answered).count(), 8, "{one}");
        // Half of the share is there for whoever can be reached at that address.
        assert_eq!(knocks.iter().filter(|(answered, cookie)| *answered && !cookie).count(), 4, "{one}");
        assert!(host.failures.iter().all(|cause| *cause == Failure::TooManyHalfOpen) && !host.failures.is_empty());
        // Others are answered, in the same family and in the other.
        for elsewhere in ["203.0.113.67:500", "[2001:db8:0:1::1]:500"] {
            assert_eq!(knock(&mut host, 1_000, from(elsewhere)), (true, false), "{elsewhere}");
        }
        // And the source again, when its half-open SAs are over.
        host.endpoint.handle_timeout(NOW + Duration::from_secs(31));
        host.endpoint.handle_timeout(NOW + Duration::from_secs(60));
        assert_eq!(knock(&mut host, 2_000, from(one)), (true, false));
    }
}

#[test]
fn f_44_all_sources_together_take_no_more_than_the_limit() {
    let settings = Settings { cookie_threshold: 4, half_open_limit: 6, ..Settings::default() };
    let mut host = open_to_all(settings, [list(SUITE)]);
    let answered = (1..=40).filter(|spi| knock(&mut host, *spi, from(&format!("203.0.113.{spi}:500"))).0).count();
    assert_eq!((answered, host.endpoint.ike_sas().count()), (6, 6));
}

#[test]
fn f_44_strangers_leave_half_of_a_small_table_with_the_default_settings() {
    for (slots, without_cookie, with_cookies) in [(2, 1, 1), (4, 1, 2), (12, 3, 6), (40, 10, 20)] {
        let everywhere = || (1..=100).map(|spi| (spi, from(&format!("203.0.113.{spi}:500"))));
        let mut host = small(slots);
        for (spi, path) in everywhere() {
            let _ = tell_at(&mut host, NOW, path, &first_message(spi, None));
        }
        assert_eq!(host.endpoint.occupancy().ike_sas, without_cookie, "{slots}: nobody is known to be there");
        let mut host = small(slots);
        let answered = everywhere().filter(|(spi, path)| knock(&mut host, *spi, *path).0).count();
        assert_eq!((answered, host.endpoint.occupancy().ike_sas), (with_cookies, with_cookies), "{slots}");
    }
}

/// An IKE_SA_INIT of 14,000 octets that fits nothing.
fn longest_misfit(spi_i: u64) -> Vec<u8> {
    let kind = TransformType::KE;
    let unknown = (0..246).map(|id| TransformSpec { kind, id: 1_000 + id, key_bits: None });
    let [fit] = &list(SUITE)[..] else { unreachable!() };
    let all: Vec<_> = fit.transforms().filter(|one| one.kind != kind).chain(unknown).collect();
    let mut buf = vec![0; 32 * 1024];
    let header = Header::new(1, 2, ExchangeType::IKE_AUTH, 0);
    let mut message = MessageWriter::new(&mut buf, &header).unwrap();
    message.sa(ProtocolId::IKE, &[], (1..=7).map(|number| (number, all.iter().copied()))).unwrap();
    let len = message.finish().len;
    let right = init_payloads(Group::Curve25519, &[9; 32]);
    let message = in_clear(&init_header(spi_i), &with_body(&right, PayloadType::SA, &buf[32..len]));
    assert!((13_900..16 * 1024).contains(&message.len()), "{}", message.len());
    message
}

fn misfit() -> IkeProposal {
    IkeProposal::parse("aes256gcm16-prfsha384-ecp256").unwrap()
}

#[test]
fn f_54_what_fits_nothing_is_compared_with_a_few_lists_however_many_connections_there_are() {
    // Every connection has another list, and the last one fits.
    let lists = |count: usize| (1..=count).map(|len| vec![misfit(); len]).chain([list(SUITE)]);
    let fits = |message: &[u8], count| {
        let mut host = open_to_all(Settings::default(), lists(count));
        let (handled, sent) = tell_at(&mut host, NOW, path_of(false), message);
        assert_eq!((handled, sent.len()), (Ok(()), 1));
        notifies(&clear_payloads(&sent[0])).is_empty()
    };
    // A request as long as most are finds its connection behind hundreds of lists; there is an end, all the same.
    let usual = first_message(1, None);
    assert!(fits(&usual, 200));
    assert!(!fits(&usual, 1_000));
    // The longest is compared with four.
    let right = clear_payloads(&usual);
    let long = in_clear(&init_header(1), &payload(PayloadType::VENDOR.0, 0, &[0; 14_000], &right));
    assert!(fits(&long, 3));
    assert!(!fits(&long, 4));
    assert!(!fits(&longest_misfit(1), 3));
}

#[test]
fn f_54_connections_with_the_same_lists_cost_nothing_more() {
    // Seven different lists, over and over, and the right one at the end.
    let lists = (0..5_000).map(|number| vec![misfit(); number % 7 + 1]).chain([list(SUITE)]);
    let mut host = open_to_all(Settings::default(), lists);
    assert_eq!(knock(&mut host, 1, path_of(false)), (true, false));
    assert_eq!(host.endpoint.ike_sas().count(), 1, "{:?}", host.story);
}

#[test]
fn f_54_requests_that_cost_and_leave_nothing_make_cookies_come() {
    // Nothing in common; another group; a public value that no honest peer sends.
    let right = clear_payloads(&first_message(1, None));
    let misfit = |spi| longest_misfit(spi);
    let group = |spi| {
        in_clear(&init_header(spi), &with_body(&right, PayloadType::KE, &[&[0, 19, 0, 0][..], &[4; 64]].concat()))
    };
    let value = |spi| {
        in_clear(&init_header(spi), &with_body(&right, PayloadType::KE, &[&[0, 31, 0, 0][..], &[0; 32]].concat()))
    };
    let kinds: [&dyn Fn(u64) -> Vec<u8>; 3] = [&misfit, &group, &value];
    for (kind, message) in kinds.iter().enumerate() {
        let mut host = open_to_all(Settings::default(), [list(SUITE)]);
        let mut cookies = |spis: std::ops::Range<u64>, now| {
            let wants = |spi| {
                let (_, sent) = tell_at(&mut host, now, path_of(false), &message(spi));
                sent.iter().any(|answer| notifies(&clear_payloads(answer)) == [NotifyKind::COOKIE])
            };
            spis.map(wants).collect::<Vec<_>>()
        };
        // The threshold is 16.
        assert_eq!(cookies(1..17, NOW), [false; 16], "{kind}");
        assert_eq!(cookies(17..40, NOW + Duration::from_millis(999)), [true; 23], "{kind}");
        // In the next second there are none of them yet.
        assert_eq!(cookies(40..42, NOW + Duration::from_secs(1)), [false; 2], "{kind}");
    }
}
