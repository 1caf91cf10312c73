//! What is printed of what holds keys, and of errors.
#![cfg(feature = "rustcrypto")]

use std::fmt::Debug;

use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, PacketCrypto};
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::{Hits, PolicyId};
use ipsec_core::time::Instant;

/// Octets that come up in nothing else here, in hexadecimal or decimal: "c7", "199".
const KEYMAT: [u8; 36] = [0xc7; 36];

fn prints_no_secret(value: &dyn Debug, name: &str) {
    for text in [format!("{value:?}"), format!("{value:#?}"), format!("{value:x?}"), format!("{value:#X?}")] {
        assert!(text.starts_with(name), "{text}");
        let text = text.to_lowercase();
        assert!(!text.contains("c7") && !text.contains("199"), "{text}");
    }
}

#[test]
fn f_80_debug_prints_no_secret() {
    let everything = [TrafficSelector::addrs(AddrRange::ANY_V4)];
    let params = || Params {
        spi: Spi::new(0x1000).unwrap(),
        mode: Mode::Tunnel,
        protection: AeadAlg::Aes256Gcm16.into(),
        keymat: &KEYMAT,
        esn: true,
        path: Path { local: "192.0.2.2:4500".parse().unwrap(), remote: "192.0.2.1:4500".parse().unwrap() },
        encap: Encap::Udp,
        policy: PolicyId(1),
        local_ts: &everything,
        remote_ts: &everything,
        lifetime: Lifetime::default(),
        compression: None,
    };
    let sending = OutboundParams {
        sa: params(),
        last_sent: 0,
        last_number: u64::MAX,
        copy_dscp: false,
        dont_fragment: DontFragment::Copy,
    };
    let receiving = InboundParams { sa: params(), window: 64, highest_seen: 0 };
    prints_no_secret(&params(), "Params");
    prints_no_secret(&sending, "OutboundParams");
    prints_no_secret(&receiving, "InboundParams");
    assert!(format!("{sending:?}").contains("Aes256Gcm16"), "what is no secret is there");

    let key = RustCrypto.aead_key(AeadAlg::Aes256Gcm16, &KEYMAT[..32]).unwrap();
    prints_no_secret(&key, "AeadKey");

    let (mut hits, mut words) = ([Hits::NONE; 1], [0; 1]);
    let mut sas = [OutboundSlot::<RustCrypto>::EMPTY];
    let mut outbound: Outbound<'_, _> = Outbound::new(RustCrypto, &mut hits, &mut sas);
    outbound.install(Instant::ZERO, &sending).unwrap();
    prints_no_secret(&outbound, "Outbound");
    prints_no_secret(&sas[0], "Slot");
    let (mut hits, mut sas) = ([Hits::NONE; 1], [InboundSlot::<RustCrypto>::EMPTY]);
    let mut inbound: Inbound<'_, _> = Inbound::new(RustCrypto, &mut hits, &mut sas, &mut words);
    inbound.install(Instant::ZERO, &receiving).unwrap();
    prints_no_secret(&inbound, "Inbound");
    prints_no_secret(&sas[0], "Slot");
}

#[test]
fn each_error_says_what_it_is_about() {
    use ipsec_core::crypto::{Forged, NoIv, NoKey};
    use ipsec_core::error::{Discard, NoRoom, Refused};
    use ipsec_core::{crypto::conformance::Deviation, fragment::Uncut, icmp::Untold, reassembly::Dropped};
    use ipsec_core::{spd::Undecided, wire::cursor::Malformed};
    let errors: [(&dyn std::error::Error, &str); 12] = [
        (&NoRoom, "the buffer has no room"),
        (&Forged, "it is not authentic"),
        (&NoKey, "the crypto engine makes no such key"),
        (&NoIv, "there is no random IV"),
        (&Malformed, "a length or a field is wrong"),
        (&Refused::NoIv, "the crypto engine has no random IVs to send with"),
        (&Undecided::NoRule, "no rule matches"),
        (&Uncut::DontFragment, "it must not be cut"),
        (&Untold::NotDue, "it fits, or may be cut"),
        (&Dropped::Overlap, "it overlaps another one"),
        (&Deviation::Forgery, "it opens what was changed"),
        (&Discard::InReplayed, "InReplayed"),
    ];
    for (error, text) in errors {
        assert_eq!(error.to_string(), text);
    }
}
