//! Row B18: tables have the size that they are given, and nothing else comes to its end before them.

use std::net::Ipv4Addr;

use crate::ends::{NOW, Ruled, Sa, inbound, ip, open, outbound, seal};
use ipsec_core::error::{Discard, Refused};
use ipsec_core::net::{AddrRange, TrafficSelector};
use ipsec_core::spd::{Action, Rule, RuleId, Selector};

fn host(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a02_0000 + number)
}

/// Of so many peers each has an SA with a key of its own, by which its packet goes and comes, and nobody else's.
fn peers(count: u32) {
    let (mut out, mut inn) = (outbound(count as usize), inbound(count as usize));
    let rule = Rule {
        id: RuleId(1),
        priority: 1,
        selector: Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4),
        action: Action::protect(Sa::default().policy),
    };
    out.insert_rule(rule).unwrap();
    let mut sas = Vec::new();
    for number in 0..count {
        let spi = inn.reserve_spi(0x4000_0000).unwrap().get();
        let keymat = [&number.to_be_bytes()[..], &[7; 32]].concat();
        let site_b = vec![TrafficSelector::addrs(AddrRange::single(host(number).into()))];
        let sa = Sa { spi, keymat, site_b, ..Sa::default() };
        let ids = (out.install(NOW, &sa.outbound()).unwrap(), inn.install(NOW, &sa.inbound()).unwrap());
        sas.push((ids, spi));
    }
    // One more has no room, and costs none of the others anything.
    let more = Sa { spi: 0x7fff_0000, ..Sa::default() };
    assert_eq!(out.install(NOW, &more.outbound()), Err(Refused::Full));
    assert_eq!(inn.install(NOW, &more.inbound()), Err(Refused::Full));
    assert_eq!((out.sas().count(), inn.sas().count()), (sas.len(), sas.len()));
    let inner = |number| ip("10.1.0.5", &host(number).to_string(), 17, &number.to_be_bytes());
    for (number, (ids, spi)) in (0..).zip(&sas) {
        let esp = seal(&mut out, &inner(number)).unwrap();
        assert_eq!(esp[..4], spi.to_be_bytes(), "peer {number}");
        assert_eq!(open(&mut inn, &esp).as_deref(), Ok(&inner(number)[..]), "peer {number}");
        assert_eq!((out.sa(ids.0).unwrap().packets, inn.sa(ids.1).unwrap().packets), (1, 1), "peer {number}");
    }
    // Every other one goes; those that stay are found.
    for (number, (ids, spi)) in (0..).zip(&sas) {
        if number % 2 == 0 {
            assert!(out.remove(ids.0) && inn.remove(ids.1));
            let esp = Sa { spi: *spi, ..Sa::default() }.esp(9, &[1, 2, 2, 59]);
            assert_eq!(open(&mut inn, &esp), Err(Discard::InUnknownSpi), "peer {number}");
        }
    }
    for number in (1..count).step_by(2) {
        let esp = seal(&mut out, &inner(number)).unwrap();
        assert!(open(&mut inn, &esp).is_ok(), "peer {number}");
    }
}

#[test]
fn b18_1_025_peers_have_an_sa_each() {
    peers(1_025);
}

#[test]
fn b18_33_000_peers_have_an_sa_each() {
    peers(33_000);
}
