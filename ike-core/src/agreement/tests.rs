use core::net::{IpAddr, Ipv4Addr};
use std::string::String;

use ipsec_core::crypto::AeadAlg;
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::net::AddrRange;

use super::*;
use crate::crypto::rustcrypto::{NoRandom, RustCrypto};
use crate::crypto::{CipherAlg, Group, IkeSuite, IntegAlg, PrfAlg, Protection};
use crate::keys::{IkeSeed, Role};

/// Two directions of cipher key, with the salt of an AEAD, and integrity key, computed with Python's `hmac`.
const KNOWN: [(Protection, [&str; 4]); 3] = [
    (
        Protection::CipherMac(CipherAlg::Aes128Cbc, IntegAlg::HmacSha256),
        [
            "e84ccaa3b137f1357adbaea8a547f843",
            "3ce45fa59b92e5e155f069ef9cf0b8d886bd8d83499cbb621d26d12a356eb858",
            "5564465a017e720f293e9959312b20d9",
            "f67285c8b21250dd710c74a17c98e30dae1b878d7f3f1abdbbfb75a51542e37a",
        ],
    ),
    (
        Protection::CipherMac(CipherAlg::Aes256Cbc, IntegAlg::HmacSha512),
        [
            "e84ccaa3b137f1357adbaea8a547f8433ce45fa59b92e5e155f069ef9cf0b8d8",
            "86bd8d83499cbb621d26d12a356eb8585564465a017e720f293e9959312b20d9\
             f67285c8b21250dd710c74a17c98e30dae1b878d7f3f1abdbbfb75a51542e37a",
            "54ac9175975889aa83c9fe40af6f389d87f68e910d7e76bd6282eb4c0510e4c4",
            "efaf0bed13ceafd496cfc706426f01bf30ddb48e04290b9cd198f820330a3117\
             f11e25d5d371c89581624d1459c60692679b245677342010cb706436febbc1bb",
        ],
    ),
    (
        Protection::Aead(AeadAlg::Aes128Gcm16),
        ["e84ccaa3b137f1357adbaea8a547f8433ce45fa5", "", "9b92e5e155f069ef9cf0b8d886bd8d83499cbb62", ""],
    ),
];

/// Two hosts, each behind a NAT, as in RFC 7296 §2.23.1: `ONE` is 10.0.1.1 to itself and 203.0.113.1 to the other one,
/// `TWO` is 10.0.2.2 and 203.0.113.2.
const ONE: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)), IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1))];
const TWO: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2)), IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2))];

#[test]
fn an_answer_may_name_the_ends_as_the_responder_knows_them_or_as_it_was_asked() {
    let only = |addr| TrafficSelector { protocol: 17, ..TrafficSelector::addrs(AddrRange::single(addr)) };
    let body = |addrs: [IpAddr; 2]| {
        let octets = addrs.map(|addr| if let IpAddr::V4(addr) = addr { addr.octets() } else { [0; 4] }).concat();
        [&[1, 0, 0, 0, 7, 17, 0, 16, 0, 0, 0xff, 0xff][..], &octets].concat()
    };
    let (local, remote) = ([only(ONE[0])], [only(TWO[1])]);
    let hour = core::time::Duration::from_secs(3600);
    let config = ChildConfig {
        id: ChildConfigId(0),
        modes: crate::pad::Modes::Transport,
        esp: &[],
        local: &local,
        remote: &remote,
        rekey: hour,
        lifetime: hour,
        compress: false,
    };
    let both = Translated { local: Some(ONE[0]), remote: Some(TWO[1]) };
    let none = both.in_mode(Mode::Tunnel);
    let other = IpAddr::from([192, 0, 2, 9]);
    // As RFC 7296 has it and strongSwan does, as we do, and what is about others, or about more.
    for (ts_i, ts_r, known, good) in [
        ([ONE[1]; 2], [TWO[0]; 2], both, true),
        ([ONE[0]; 2], [TWO[1]; 2], both, true),
        ([ONE[0]; 2], [TWO[1]; 2], none, true),
        ([ONE[1]; 2], [TWO[1]; 2], none, false),
        ([ONE[0]; 2], [TWO[0]; 2], none, false),
        ([ONE[0]; 2], [other; 2], Translated { remote: None, ..both }, false),
        ([other; 2], [TWO[1]; 2], Translated { local: None, ..both }, false),
        ([ONE[0], ONE[1]], [TWO[1]; 2], both, false),
    ] {
        let (i, r) = (body(ts_i), body(ts_r));
        let (i, r) = (Ts::parse(&i).unwrap(), Ts::parse(&r).unwrap());
        let sides = narrowed((&i, &r), &config, known);
        let sides = sides.as_ref().map(|(local, remote)| (local.as_slice(), remote.as_slice()));
        let refused = Failure::NoSelectorsInCommon(Asked::of(&i, &r));
        assert_eq!(sides, if good { Ok((&local[..], &remote[..])) } else { Err(&refused) }, "{ts_i:?} {ts_r:?}");
    }
}

#[test]
fn keys_of_a_child_are_as_long_as_its_transforms_say_and_stand_in_the_order_of_the_rfc() {
    let mut crypto = RustCrypto::new(NoRandom, Packets);
    let suite = IkeSuite::new(AeadAlg::Aes256Gcm16.into(), PrfAlg::HmacSha256, Group::Curve25519);
    let shared = SharedSecret::copy_from(&[0x33; 32]).unwrap();
    let seed = IkeSeed { ni: &[0x11; 32], nr: &[0x22; 32], spi_i: 1, spi_r: 2 };
    let ike = IkeKeys::derive(&mut crypto, suite, &shared, &seed, Role::Initiator).unwrap();
    let nonces = Nonces { ni: &[0x44; 32], nr: &[0x55; 32] };
    for (protection, [encr_i, integ_i, encr_r, integ_r]) in KNOWN {
        let hex = |octets: &[u8]| octets.iter().map(|octet| std::format!("{octet:02x}")).collect::<String>();
        for ours in [true, false] {
            let (suite, mut keys) = (EspSuite::new(protection, false, None), Untold::Nothing);
            make_keys(&mut crypto, &ike, suite, None, &nonces, ours, &mut keys).unwrap();
            let keys = keys.keys().unwrap();
            let (first, second) =
                if ours { (keys.outbound(), keys.inbound()) } else { (keys.inbound(), keys.outbound()) };
            for (keys, [encr, integ]) in [(first, [encr_i, integ_i]), (second, [encr_r, integ_r])] {
                let (found, rest) = keys.split_at(protection.encr_key_len());
                assert_eq!((hex(found).as_str(), hex(rest).as_str()), (encr, integ), "{protection:?}");
                assert_eq!(rest.len(), protection.integ_key_len());
            }
        }
    }
}
