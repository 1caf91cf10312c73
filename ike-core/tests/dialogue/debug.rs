//! What is printed of what holds keys.

use std::fmt::Debug;
use std::time::Duration;

use ike_core::auth::SignedOctets;
use ike_core::crypto::rustcrypto::RustCrypto;
use ike_core::crypto::{Digest64, EspSuite, Group, IkeCrypto};
use ike_core::event::{ChildUp, Event};
use ike_core::pad::{Authentication, Connection};
use ike_core::wire::sk::{SkReceiver, SkSender};
use ipsec_core::crypto::AeadAlg;
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::net::{Encap, Spi};
use ipsec_core::sa::Mode;

use crate::engine::Engine;
use crate::hostile::peer::{Scripted, path_of};
use crate::network::{CHILD, PEER, Seed, fqdn};

/// Octets that come up in nothing else here, in hexadecimal or decimal: "c7", "199".
const KEY: [u8; 36] = [0xc7; 36];

fn prints_no_secret(value: &dyn Debug, name: &str) {
    for text in [format!("{value:?}"), format!("{value:#?}"), format!("{value:x?}"), format!("{value:#X?}")] {
        assert!(text.starts_with(name), "{text}");
        let text = text.to_lowercase();
        assert!(!text.contains("c7") && !text.contains("199"), "{text}");
    }
}

#[test]
fn f_80_debug_prints_no_secret() {
    let secret = Digest64::copy_from(&KEY).unwrap();
    prints_no_secret(&secret, "Secret");
    let signed = SignedOctets { message: &[], nonce: &[], id: fqdn("left.example"), sk_p: &secret };
    prints_no_secret(&signed, "SignedOctets");
    let mut crypto = Engine::new(Seed(80), Packets);
    prints_no_secret(&SkSender::new(&mut crypto, AeadAlg::Aes256Gcm16.into(), &KEY, &[]).unwrap(), "SkSender");
    prints_no_secret(&SkReceiver::new(&mut crypto, AeadAlg::Aes256Gcm16.into(), &KEY, &[]).unwrap(), "SkReceiver");
    let connection = Connection {
        path: None,
        local_id: fqdn("left.example"),
        remote_id: None,
        auth: Authentication::Psk(&KEY),
        ike: &[],
        force_encap: false,
        dpd: Duration::ZERO,
        rekey: Duration::ZERO,
    };
    prints_no_secret(&connection, "Connection");

    let (host, _) = Scripted::established(80);
    let up = ChildUp {
        child: *host.installed.keys().next().unwrap(),
        ike: host.ike_id(),
        peer: PEER,
        party: host.endpoint.ike_sas().next().unwrap().party,
        config: CHILD,
        replaces: None,
        outbound_ready: true,
        ours: true,
        mode: Mode::Tunnel,
        suite: EspSuite::new(AeadAlg::Aes256Gcm16.into(), true, None),
        spi_in: Spi::new(0x1000).unwrap(),
        spi_out: Spi::new(0x1001).unwrap(),
        key_in: &KEY,
        key_out: &KEY,
        local: &[],
        remote: &[],
        path: path_of(true),
        encap: Encap::Udp,
        compression: None,
        takes_padding: true,
    };
    prints_no_secret(&up, "ChildUp");
    prints_no_secret(&Event::ChildUp(up), "ChildUp");
}

#[test]
fn f_80_what_owns_keys_prints_its_name_alone() {
    let (host, _) = Scripted::established(81);
    assert_eq!(format!("{:?}", host.endpoint), "Endpoint { .. }");
    assert_eq!(format!("{:?}", ike_core::child::ChildSlot::EMPTY), "ChildSlot { .. }");
    let mut crypto = RustCrypto::new(Seed(82), Packets);
    assert_eq!(format!("{crypto:?}"), "RustCrypto { .. }", "the state of a generator is a secret");
    let private = crypto.ke_offer(Group::Curve25519, &mut [0; 32]).unwrap();
    assert_eq!(format!("{private:?}"), "KeSecret { .. }");
}
