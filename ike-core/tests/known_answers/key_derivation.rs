//! SKEYSEED, SK_*, KEYMAT and AUTH against independently computed values (`vectors/generated-prf-keymat-auth.json`).

use crate::support::{self, engine, octets};
use ike_core::auth::{SignedOctets, psk};
use ike_core::crypto::{CipherAlg, Digest64, Group, IkeCrypto, IkeSuite, IntegAlg, PrfAlg, Protection, SharedSecret};
use ike_core::keys::{IkeKeys, IkeSeed, Role, SkReceiver, child_keymat, prf_plus};
use ike_core::registry::{ExchangeType, IdKind, PayloadType};
use ike_core::wire::header::Header;
use ike_core::wire::id::Id;
use ike_core::wire::writer::MessageWriter;
use ipsec_core::crypto::AeadAlg;
use serde_json::Value;

fn cases() -> Vec<(PrfAlg, Value)> {
    let json = support::own_json("generated-prf-keymat-auth.json");
    let built = |name: &str| match name {
        "PRF_HMAC_SHA2_256" => Some(PrfAlg::HmacSha256),
        "PRF_HMAC_SHA2_384" => Some(PrfAlg::HmacSha384),
        "PRF_HMAC_SHA2_512" => Some(PrfAlg::HmacSha512),
        _ => None,
    };
    let cases: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|case| Some((built(case["prf"].as_str().unwrap())?, case.clone())))
        .collect();
    assert_eq!(cases.len(), 10);
    cases
}

fn secret(case: &Value, name: &str) -> SharedSecret {
    SharedSecret::copy_from(&octets(case, name)).unwrap()
}

fn digest(case: &Value, name: &str) -> Digest64 {
    Digest64::copy_from(&octets(case, name)).unwrap()
}

#[test]
fn skeyseed_and_all_sk_values_come_out_of_prf_and_prf_plus() {
    for (prf, case) in cases() {
        let mut crypto = engine(&[0]);
        let (ni, nr) = (octets(&case, "ni"), octets(&case, "nr"));
        let nonces = [ni.as_slice(), &nr].concat();
        let mut skeyseed = Digest64::new();
        crypto.prf(prf, &nonces, &[&octets(&case, "dh_shared")], &mut skeyseed);
        assert_eq!(skeyseed.as_slice(), octets(&case, "skeyseed"));

        let names = ["sk_d", "sk_ai", "sk_ar", "sk_ei", "sk_er", "sk_pi", "sk_pr"];
        let expected = names.map(|name| octets(&case, name)).concat();
        let mut keymat = vec![0; expected.len()];
        let seed = [nonces.as_slice(), &octets(&case, "spi_i"), &octets(&case, "spi_r")];
        prf_plus(&mut crypto, prf, skeyseed.as_slice(), &seed, &mut keymat).unwrap();
        assert_eq!(keymat, expected);
    }
}

#[test]
fn ike_keys_of_both_roles_are_the_expected_ones() {
    let mut seen = [0; 2];
    for (prf, case) in cases() {
        let aead = octets(&case, "sk_ai").is_empty();
        seen[usize::from(aead)] += 1;
        let integ = match prf {
            PrfAlg::HmacSha256 => IntegAlg::HmacSha256,
            PrfAlg::HmacSha384 => IntegAlg::HmacSha384,
            _ => IntegAlg::HmacSha512,
        };
        let protection = match aead {
            true => AeadAlg::Aes256Gcm16.into(),
            false => Protection::CipherMac(CipherAlg::Aes256Cbc, integ),
        };
        let suite = IkeSuite::new(protection, prf, Group::Ecp256);
        let (ni, nr) = (octets(&case, "ni"), octets(&case, "nr"));
        let spi = |name| u64::from_be_bytes(octets(&case, name).try_into().unwrap());
        let seed = IkeSeed { ni: &ni, nr: &nr, spi_i: spi("spi_i"), spi_r: spi("spi_r") };
        let shared = secret(&case, "dh_shared");
        for (role, ours, theirs) in [
            (Role::Initiator, ["sk_ei", "sk_ai"], ["sk_er", "sk_ar"]),
            (Role::Responder, ["sk_er", "sk_ar"], ["sk_ei", "sk_ai"]),
        ] {
            let [ours, theirs] = [ours, theirs].map(|names| names.map(|name| octets(&case, name)));
            let mut crypto = engine(&[0]);
            let mut keys = IkeKeys::derive(&mut crypto, suite, &shared, &seed, role).unwrap();
            assert_eq!(keys.sk_d.as_slice(), octets(&case, "sk_d"));
            assert_eq!(keys.sk_pi.as_slice(), octets(&case, "sk_pi"));
            assert_eq!(keys.sk_pr.as_slice(), octets(&case, "sk_pr"));

            // What it seals opens with the recorded key of its direction, and with no other.
            let mut buf = [0; 128];
            let header = Header::new(seed.spi_i, seed.spi_r, ExchangeType::INFORMATIONAL, 2);
            let mut message = MessageWriter::protected(&mut buf, &header, keys.sender.layout()).unwrap();
            message.delete_ike().unwrap();
            let len = message.seal(&mut crypto, &mut keys.sender).unwrap().len;
            let receiver = SkReceiver::new(&mut crypto, suite.protection, &ours[0], &ours[1]).unwrap();
            let opened = receiver.open(&mut crypto, &mut { buf }[..len]).map(|(kind, _)| kind);
            assert_eq!(opened, Ok(PayloadType::DELETE));
            assert!(keys.receiver.open(&mut crypto, &mut { buf }[..len]).is_err());
            let receiver = SkReceiver::new(&mut crypto, suite.protection, &theirs[0], &theirs[1]).unwrap();
            assert!(receiver.open(&mut crypto, &mut { buf }[..len]).is_err());
        }
    }
    assert_eq!(seen, [5, 5], "with a MAC, and without");
}

#[test]
fn rekeyed_skeyseed_uses_the_old_prf_and_the_old_sk_d() {
    for (prf, case) in cases() {
        let mut crypto = engine(&[0]);
        let (ni, nr) = (octets(&case, "ni"), octets(&case, "nr"));
        let seed = IkeSeed { ni: &ni, nr: &nr, spi_i: 3, spi_r: 5 };
        // A new PRF beside the old one: only SKEYSEED is the old one's work.
        for new in [PrfAlg::HmacSha256, PrfAlg::HmacSha384, PrfAlg::HmacSha512] {
            let suite = IkeSuite::new(AeadAlg::Aes128Gcm16.into(), new, Group::Curve25519);
            let shared = secret(&case, "dh_shared_new");
            let old = digest(&case, "sk_d");
            let keys = IkeKeys::derive_rekey(&mut crypto, suite, prf, &old, &shared, &seed, Role::Initiator).unwrap();
            let mut sk_d = vec![0; new.output_len()];
            let skeyseed = octets(&case, "rekey_skeyseed");
            let parts = [ni.as_slice(), &nr, &3u64.to_be_bytes(), &5u64.to_be_bytes()];
            prf_plus(&mut crypto, new, &skeyseed, &parts, &mut sk_d).unwrap();
            assert_eq!(keys.sk_d.as_slice(), sk_d);
        }
    }
}

#[test]
fn child_keymat_with_and_without_pfs() {
    for (prf, case) in cases() {
        let mut crypto = engine(&[0]);
        let (sk_d, ni, nr) = (digest(&case, "sk_d"), octets(&case, "ni"), octets(&case, "nr"));
        let mut keymat = [0; 136];
        child_keymat(&mut crypto, prf, &sk_d, None, &ni, &nr, &mut keymat).unwrap();
        assert_eq!(keymat.as_slice(), octets(&case, "child_keymat_no_pfs_136"));
        let shared = secret(&case, "dh_shared_new");
        child_keymat(&mut crypto, prf, &sk_d, Some(&shared), &ni, &nr, &mut keymat).unwrap();
        assert_eq!(keymat.as_slice(), octets(&case, "child_keymat_pfs_136"));
    }
}

#[test]
fn psk_auth_is_the_expected_one_and_one_changed_bit_is_noticed() {
    for (prf, case) in cases() {
        let mut crypto = engine(&[0]);
        let id = octets(&case, "idi_body");
        let message = octets(&case, "init_request_message");
        let nonce = octets(&case, "nr");
        let sk_p = digest(&case, "sk_pi");
        let (front, back) = message.split_at(100);
        let signed = SignedOctets {
            message: &[front, back],
            nonce: &nonce,
            id: Id { kind: IdKind(id[0]), data: &id[4..] },
            sk_p: &sk_p,
        };
        let psk = octets(&case, "psk");
        let mut expected = octets(&case, "auth_psk_initiator");
        let mut auth = Digest64::new();
        psk::auth_value(&mut crypto, prf, &psk, &signed, &mut auth).unwrap();
        assert_eq!(auth.as_slice(), expected);
        assert!(psk::verify(&mut crypto, prf, &psk, &signed, &expected));
        assert!(!psk::verify(&mut crypto, prf, &psk[1..], &signed, &expected));
        assert!(!psk::verify(&mut crypto, prf, &psk, &signed, &expected[1..]));
        assert!(!psk::verify(&mut crypto, prf, &psk, &signed, &[]));
        expected[0] ^= 1;
        assert!(!psk::verify(&mut crypto, prf, &psk, &signed, &expected));
    }
}

#[test]
fn prf_plus_ends_after_255_blocks() {
    let mut crypto = engine(&[0]);
    let mut out = vec![0; 255 * 32];
    prf_plus(&mut crypto, PrfAlg::HmacSha256, b"key", &[b"seed"], &mut out).unwrap();
    out.push(0);
    assert!(prf_plus(&mut crypto, PrfAlg::HmacSha256, b"key", &[b"seed"], &mut out).is_err());
    assert!(prf_plus(&mut crypto, PrfAlg::HmacSha256, b"key", &[b"s".as_slice(); 7], &mut out[..32]).is_err());
}
