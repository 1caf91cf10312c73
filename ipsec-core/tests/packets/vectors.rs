//! Published and recorded vectors.

use crate::ends::{In, NOW, Sa, inbound};
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::AeadAlg;
use ipsec_core::crypto::conformance::{Aead, check};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::ecn::Ecn;
use ipsec_core::encap::{Arrival, pop_outer};
use ipsec_core::net::{AddrRange, TrafficSelector};
use serde_json::Value;
use std::path::PathBuf;

pub(crate) fn hex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0, "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(crate) fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field} in {value}"))
}

pub(crate) fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {value}"))
}

fn alg(key_len: usize) -> AeadAlg {
    match key_len {
        16 => AeadAlg::Aes128Gcm16,
        24 => AeadAlg::Aes192Gcm16,
        32 => AeadAlg::Aes256Gcm16,
        _ => panic!("key of {key_len} octets"),
    }
}

fn parse(file: PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap()
}

/// A file of this crate.
fn own(name: &str) -> Value {
    parse(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name))
}

/// A file of the shared vectors beside the repository. Tests that need one are ignored where nobody says that it is there:
/// `cargo xtask test` does.
pub(crate) fn shared(name: &str) -> Value {
    parse(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors").join(name))
}

/// One that is no JSON.
pub(crate) fn raw(name: &str) -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors").join(name)).unwrap()
}

fn everything() -> Vec<TrafficSelector> {
    vec![TrafficSelector::addrs(AddrRange::ANY_V4), TrafficSelector::addrs(AddrRange::ANY_V6)]
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn rfc_4106_packets_of_linux_testmgr_are_reproduced() {
    let file = shared("esp/linux-testmgr-aes_gcm_rfc4106.json");
    let cases = file.as_array().unwrap();
    assert_eq!(cases.len(), 23);
    for case in cases {
        let keymat = hex(text(case, "key"));
        let (key, salt) = keymat.split_at(keymat.len() - 4);
        let sealed = hex(text(case, "ctext"));
        let known = Aead {
            alg: alg(key.len()),
            key,
            nonce: [salt, &hex(text(case, "iv"))].concat().try_into().unwrap(),
            aad: &hex(text(case, "aad")),
            text: &hex(text(case, "ptext")),
            sealed: &sealed,
            valid: text(case, "expect") == "accept",
        };
        assert_eq!(check(&mut RustCrypto, &known, &mut vec![0; sealed.len()]), Ok(()), "{case}");
    }
}

fn verdict(inn: &mut In, esp: &[u8]) -> &'static str {
    let mut bytes = esp.to_vec();
    let mut packet = PacketBuf::new(&mut bytes, 0, esp.len()).unwrap();
    let before = inn.counters().clone();
    let opened = inn.open(NOW, crate::ends::path(), Ecn::NotEct, &mut packet);
    // The traces carry dummy packets and noise: past the replay window is what counts here.
    use ipsec_core::error::Discard::{InDummy, InForged, InMode, InReplayed, InSelectors, InStale};
    let verdict = match opened {
        Ok(_) | Err(InMode | InDummy | InSelectors) => "accept",
        Err(InReplayed | InStale) => "drop-replay",
        Err(InForged) => "forged",
        Err(_) => "other",
    };
    assert_eq!(opened.is_err(), before != *inn.counters());
    verdict
}

#[test]
fn atk_51_53_75_every_verdict_of_the_replay_and_esn_traces() {
    let traces = own("replay-esn-traces.json");
    let (mut accepted, mut dropped) = (0, 0);
    for trace in traces.as_array().unwrap() {
        let key = hex(text(trace, "key"));
        let sa = Sa {
            spi: number(trace, "spi") as u32,
            protection: alg(key.len()).into(),
            keymat: [key, hex(text(trace, "salt"))].concat(),
            esn: trace["esn"].as_bool().unwrap(),
            window: number(trace, "window") as usize,
            sequence: number(trace, "initial_top"),
            site_a: everything(),
            site_b: everything(),
            ..Sa::default()
        };
        let mut inn = inbound(2);
        inn.install(NOW, &sa.inbound()).unwrap();
        for packet in trace["packets"].as_array().unwrap() {
            let expected = text(packet, "expect");
            assert_eq!(verdict(&mut inn, &hex(text(packet, "esp"))), expected, "{packet}");
            *(if expected == "accept" { &mut accepted } else { &mut dropped }) += 1;
        }
    }
    assert_eq!((accepted, dropped), (48, 8));
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn esp_packets_of_linux_xfrm_open() {
    let file = shared("esp/linux-xfrm-reference-packets.json");
    let mut opened = 0;
    for case in file.as_array().unwrap() {
        if !text(case, "sa").contains("crypt_algo='AES-GCM'") {
            continue;
        }
        let keymat = text(case, "sa").split("crypt_key=b'").nth(1).unwrap().split('\'').next().unwrap();
        let sa = Sa {
            spi: number(case, "spi") as u32,
            protection: AeadAlg::Aes128Gcm16.into(),
            keymat: keymat.as_bytes().to_vec(),
            site_a: everything(),
            site_b: everything(),
            ..Sa::default()
        };
        let mut inn = inbound(2);
        inn.install(NOW, &sa.inbound()).unwrap();
        let mut esp = sa.spi.to_be_bytes().to_vec();
        esp.extend((number(case, "seq") as u32).to_be_bytes());
        esp.extend(hex(text(case, "esp_payload_after_spi_seq_hex")));
        let inner = crate::ends::open(&mut inn, &esp).unwrap();
        assert_eq!(inner[9], 1, "not ICMP");
        opened += 1;
    }
    assert_eq!(opened, 1);
}

#[test]
fn every_esp_packet_of_the_strongswan_sessions_opens() {
    for session in own("strongswan-5.9.8-gcm.json").as_array().unwrap() {
        let mut inn = inbound(8);
        for (spi, keymat) in session["keys"].as_object().unwrap() {
            let keymat = hex(keymat.as_str().unwrap());
            let sa = Sa {
                spi: u32::from_str_radix(spi, 16).unwrap(),
                protection: alg(keymat.len() - 4).into(),
                keymat,
                site_a: everything(),
                site_b: everything(),
                ..Sa::default()
            };
            inn.install(NOW, &sa.inbound()).unwrap();
        }
        let mut opened = 0;
        for recorded in session["ip_packets"].as_array().unwrap() {
            let mut bytes = hex(recorded.as_str().unwrap());
            let len = bytes.len();
            let mut packet = PacketBuf::new(&mut bytes, 0, len).unwrap();
            let Ok(Arrival::Esp { path, ecn, .. }) = pop_outer(&mut packet) else { continue };
            let ingress = inn.open(NOW, path, ecn, &mut packet).unwrap();
            assert!(matches!(ingress.flow.protocol, 1 | 58), "a ping was recorded");
            assert_eq!(ingress.flow.len, packet.len());
            opened += 1;
        }
        assert_eq!(opened, number(session, "esp_packets"), "{}", text(session, "name"));
        let last_sequences: u64 = inn.sas().map(|sa| sa.packets).sum();
        assert_eq!(last_sequences, opened);
    }
}
