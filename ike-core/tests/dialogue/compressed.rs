//! IPComp, as it is asked for and agreed on (RFC 7296 §2.22). Row A6.

use std::time::Duration;

use ike_core::endpoint::Settings;
use ike_core::pad::ChildConfig;
use ike_core::registry::{ExchangeType, NotifyKind, PayloadType};
use ipsec_core::net::{Cpi, Spi};

use crate::hostile::peer::{Payloads, Scripted, child_payloads, host, notifies, payload, without};
use crate::network::{CHILD, Network, esp, pair};

fn network(seed: u64, compress: [bool; 2]) -> Network {
    let mut ends = pair();
    for (end, compress) in ends.iter_mut().zip(compress) {
        end.children[0].compress = compress;
    }
    let [left, right] = ends;
    Network::new(seed, [vec![left], vec![right]], Settings::default())
}

#[test]
fn a6_packets_are_compressed_where_both_sides_want_it_and_else_the_child_comes_up_without() {
    for (number, wanted) in [[true, true], [true, false], [false, true], [false, false]].into_iter().enumerate() {
        let mut network = network(660 + number as u64, wanted);
        network.connect();
        network.run_for(Duration::from_secs(5));
        let mut seen = Vec::new();
        for rekeyed_by in [None, Some(0), Some(1)] {
            if let Some(side) = rekeyed_by {
                let child = network.hosts[side].sending[&CHILD];
                network.hosts[side].endpoint.rekey_child(network.now, child).unwrap();
                network.run_for(Duration::from_secs(40));
            }
            let [left, right] = network.hosts.each_ref().map(|host| {
                let mut all = host.installed.values();
                (all.next().unwrap().clone(), all.next().is_none())
            });
            assert!(left.1 && right.1, "one child");
            let own = |spi| Cpi::of(Spi::new(spi).unwrap());
            let expected = (wanted == [true, true]).then_some((own(left.0.spi_in), own(right.0.spi_in)));
            assert_eq!(left.0.compression, expected, "{wanted:?}, rekeyed by {rekeyed_by:?}");
            assert_eq!(right.0.compression, expected.map(|(left, right)| (right, left)));
            seen.extend(expected);
        }
        seen.dedup();
        assert_eq!(seen.len(), if wanted == [true, true] { 3 } else { 0 }, "each has indices of its own");
        network.agree().unwrap();
        assert!(network.passes());
    }
}

/// With a notification of IPCOMP_SUPPORTED.
fn with(data: &[u8], all: &Payloads) -> Payloads {
    let [high, low] = NotifyKind::IPCOMP_SUPPORTED.0.to_be_bytes();
    payload(PayloadType::NOTIFY.0, 0, &[&[0, 0, high, low], data].concat(), all)
}

#[test]
fn a_responder_agrees_to_deflate_alone_and_only_where_it_is_configured() {
    let deflate: &[u8] = &[0x12, 0x34, 2];
    let (lzs, lzjh, short, none): (&[u8], &[u8], &[u8], &[u8]) = (&[0x12, 0x34, 3], &[0x12, 0x34, 4], &[0x12, 2], &[]);
    let theirs = Some(Cpi(0x1234));
    for (compress, offers, expected) in [
        (true, vec![deflate], theirs),
        (true, vec![lzs, deflate, lzjh], theirs),
        (true, vec![&[0x12, 0x34, 2, 0x80, 1, 0, 0][..]], theirs), // with an attribute
        (true, vec![lzs, lzjh], None),
        (true, vec![short, none], None),
        (true, vec![], None),
        (false, vec![deflate], None),
    ] {
        let mut host = host(false);
        let usual = host.endpoint.pad().0[0].children[0];
        host.endpoint.pad_mut().0[0].children[0] = ChildConfig { compress, esp: esp("aes256gcm16-modpnone"), ..usual };
        let mut peer = Scripted::initiate(&mut host, 670);
        let auth = without(&peer.auth_payloads(), PayloadType::NOTIFY);
        for (exchange, request) in
            [(ExchangeType::IKE_AUTH, auth), (ExchangeType::CREATE_CHILD_SA, child_payloads(None))]
        {
            let asking = offers.iter().rev().fold(request, |all, offer| with(offer, &all));
            let answer = peer.ask(&mut host, exchange, &asking);
            let said = notifies(&answer).contains(&NotifyKind::IPCOMP_SUPPORTED);
            assert_eq!(said, expected.is_some(), "{compress} {offers:x?} {exchange}");
        }
        let installed: Vec<_> =
            host.installed.values().map(|child| child.compression.map(|(_, theirs)| theirs)).collect();
        assert_eq!(installed, [expected; 2], "{compress} {offers:x?}");
    }
}

#[test]
fn who_did_not_ask_is_granted_nothing() {
    for compress in [true, false] {
        let mut host = host(true);
        host.endpoint.pad_mut().0[0].children[0].compress = compress;
        let (mut peer, request) = Scripted::answer(&mut host, 680);
        assert_eq!(notifies(&peer.open(&request)).contains(&NotifyKind::IPCOMP_SUPPORTED), compress);
        peer.next[1] = 1;
        let granted = with(&[0x43, 0x21, 2], &peer.auth_payloads());
        let (handled, _) = peer.respond(&mut host, ExchangeType::IKE_AUTH, &granted);
        assert_eq!(handled, Ok(()));
        let theirs: Vec<_> = host.installed.values().map(|child| child.compression.map(|(_, theirs)| theirs)).collect();
        assert_eq!(theirs, [compress.then_some(Cpi(0x4321))]);
    }
}
