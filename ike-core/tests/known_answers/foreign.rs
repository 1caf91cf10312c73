//! Captures and corpora of other projects, read where they lie; absent, each test prints a notice and passes.

use ike_core::error::Malformed;
use ike_core::proposal::{IkeProposal, select_ike};
use ike_core::registry::{ExchangeType, PayloadType, TransformType};
use ike_core::rules::{Direction, Payloads, Refused, Rule, Stage};
use ike_core::wire::cert::{Cert, CertReq};
use ike_core::wire::chain::Chain;
use ike_core::wire::delete::Delete;
use ike_core::wire::header::Header;
use ike_core::wire::id::Id;
use ike_core::wire::ke::Ke;
use ike_core::wire::nonce::Nonce;
use ike_core::wire::notify::Notify;
use ike_core::wire::sa::Sa;
use ike_core::wire::ts::Ts;

use crate::reencode::reencode;
use crate::support::{hex, ike_messages, shared};

/// A message in clear, or the fact that its SK payload is where it should be.
fn read(message: &[u8]) -> Result<(), Refused> {
    let header = Header::parse(message)?;
    let body = &message[Header::LEN..];
    let kinds = Chain::new(header.next, body).map(|payload| payload.map(|payload| payload.kind));
    let kinds = kinds.collect::<Result<Vec<_>, Malformed>>()?;
    if kinds.last().is_some_and(|kind| matches!(*kind, PayloadType::SK | PayloadType::SKF)) {
        return Ok(());
    }
    match Rule::find(header.exchange, Direction::of(&header), Stage::Clear).filter(|_| header.major == 2) {
        Some(rule) => Payloads::collect(header.next, body, rule).map(drop),
        None => Err(Refused::Malformed),
    }
}

/// Every IKEv2 message of the capture reads well; how many there are.
fn reads_well(name: &str) -> usize {
    let messages = ike_messages(&std::fs::read(shared(name)).unwrap());
    for message in &messages {
        assert_eq!(read(message), Ok(()), "{name}");
    }
    messages.len()
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn sessions_of_wireshark_tcpdump_and_scapy_read_well() {
    for (name, count) in
        [("pcap/tcpdump/ikev2four.pcap", 21), ("pcap/tcpdump/ikev2pI2.pcap", 2), ("pcap/scapy/ikev2_nat_t.pcapng", 30)]
    {
        assert_eq!(reads_well(name), count, "{name}");
    }
    let mut captures = 0;
    for entry in std::fs::read_dir(shared("pcap/wireshark")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("ikev2-decrypt-") && !name.ends_with(".gz") {
            captures += 1;
            assert!(reads_well(&format!("pcap/wireshark/{name}")) >= 4, "{name}");
        }
    }
    assert!(captures >= 1);
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn ikev1_messages_are_refused() {
    for name in [
        "pcap/libreswan/01-isakmp-broadcast.pcap",
        "pcap/libreswan/01-isakmp-vid-first.pcap",
        "pcap/libreswan/01-isakmp-vid-first-resp.pcap",
        "pcap/tcpdump/ISAKMP_sa_setup.pcap",
    ] {
        let path = shared(name);
        let messages = ike_messages(&std::fs::read(path).unwrap());
        assert!(!messages.is_empty(), "{name}");
        for message in messages {
            assert!(read(&message).is_err(), "{name}");
        }
    }
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn malformed_isakmp_of_tcpdump_is_refused() {
    for name in ["isakmp-3948-oobr-2", "isakmp-delete-segfault", "isakmp-pointer-loop", "isakmpv1-attr-oobr"] {
        let path = shared(&format!("pcap/tcpdump/{name}.pcap"));
        for message in ike_messages(&std::fs::read(path).unwrap()) {
            assert!(read(&message).is_err(), "{name}");
        }
    }
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn atk_07_short_id_payload_is_refused_and_the_normal_one_read() {
    for (name, well) in [("ikev2-id-normal", true), ("ikev2-id-short", false)] {
        let path = shared(&format!("pcap/tcpdump/{name}.pcap"));
        let [message] = ike_messages(&std::fs::read(path).unwrap()).try_into().unwrap();
        let header = Header::parse(&message).unwrap();
        let ids = Chain::new(header.next, &message[Header::LEN..])
            .map(|payload| payload.and_then(|payload| Id::parse(payload.body).map(|id| id.to_string())));
        assert_eq!(ids.collect::<Result<Vec<_>, _>>().is_ok(), well, "{name}");
    }
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn atk_17_libreswan_buster_is_refused() {
    let folder = shared("packets/libreswan-buster");
    let (mut count, mut readable) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        count += 1;
        let message = std::fs::read(&path).unwrap();
        if read(&message) == Ok(()) {
            // Only the contents are bad: 3DES with group 2.
            let header = Header::parse(&message).unwrap();
            let rule = Rule::find(header.exchange, Direction::of(&header), Stage::Clear).unwrap();
            let payloads = Payloads::collect(header.next, &message[Header::LEN..], rule).unwrap();
            let mismatch = select_ike(&[IkeProposal::default()], &payloads.sa.unwrap(), false).unwrap_err();
            assert_eq!(mismatch.kind, Some(TransformType::ENCR));
            assert!(mismatch.to_string().ends_with("peer's ENCR_3DES"), "{mismatch}");
            readable += 1;
        }
    }
    assert_eq!((count, readable), (6, 1));
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn openiked_payloads_read_as_what_they_are() {
    let folder = shared("packets/openiked");
    let body = |name: &str, at: usize| {
        let payload = std::fs::read(folder.join(name)).unwrap();
        let length = usize::from(u16::from_be_bytes([payload[at + 2], payload[at + 3]]));
        payload[at + 4..at + length].to_vec()
    };
    assert_eq!(Ke::parse(&body("ke_pld.bin", 0)).unwrap().public.len(), 256);
    assert_eq!(Nonce::parse(&body("nonce_pld.bin", 0)).unwrap().as_slice().len(), 32);
    assert_eq!(Id::parse(&body("id_pld.bin", 0)).unwrap().to_string(), "172.18.125.1");
    assert_eq!(Notify::parse(&body("notify_pld.bin", 28)).unwrap().kind.name(), Some("NAT_DETECTION_DESTINATION_IP"));
    assert_eq!(Cert::parse(&body("cert_pld.bin", 0)).unwrap().data.len(), 267);
    assert!(CertReq::parse(&body("certreq_pld.bin", 0)).unwrap().authorities.is_empty());
    assert_eq!(Sa::parse(&body("sa_pld.bin", 0)).unwrap().proposals().count(), 1);
    let sa = body("saxform_pld.bin", 0);
    assert_eq!(Sa::parse(&sa).unwrap().proposals().next().unwrap().transforms().count(), 6);
    // A Delete of an IKE SA has no SPI (RFC 7296 §3.11); this one has.
    assert_eq!(Delete::parse(&body("delete_pld.bin", 0)), Err(Malformed));
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn ipsec_parser_messages_read_and_write_back() {
    for (name, response) in [("ike-sa-init-req.bin", false), ("ike-sa-init-resp.bin", true)] {
        let path = shared(&format!("packets/ipsec-parser/{name}"));
        let message = std::fs::read(path).unwrap();
        let header = Header::parse(&message).unwrap();
        assert_eq!((header.exchange, header.response), (ExchangeType::IKE_SA_INIT, response));
        assert_eq!(read(&message), Ok(()));
        match reencode(&header, header.next, &message[Header::LEN..]) {
            Some(written) => assert_eq!(written, message),
            None => assert!(response, "only the response has a CERTREQ"),
        }
    }
}

/// Every message of every corpus, cut at every length and with every octet changed: an answer each time, never a panic.
#[test]
fn damaged_messages_never_panic() {
    let mut messages = vec![];
    for name in ["psk-aes256gcm16-p256", "psk-cookie-invalidke", "rsa-aes128cbc-sha512-ecp384"] {
        messages.extend(ike_messages(&crate::support::own(&format!("{name}.pcap"))));
    }
    damage(messages);
}

#[test]
#[ignore = "reads ../shared/vectors, which is not part of the project"]
fn damaged_messages_of_scapy_never_panic() {
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(shared("packets/scapy-ikev2-uts.json")).unwrap()).unwrap();
    damage(json.as_array().unwrap().iter().map(|frame| hex(frame["hex"].as_str().unwrap())).collect());
}

fn damage(messages: Vec<Vec<u8>>) {
    for message in messages {
        let Ok(header) = Header::parse(&message) else { continue };
        for at in 0..message.len() {
            for change in [1, 0x80, 0xff] {
                let mut damaged = message.clone();
                damaged[at] ^= change;
                let _ = read(&damaged);
                let mut short = message[..at].to_vec();
                if let Some(length) = short.get_mut(24..28) {
                    length.copy_from_slice(&u32::try_from(at).unwrap().to_be_bytes());
                    let cut = read(&short);
                    assert!(cut.is_err() || at >= Header::LEN && header.next == PayloadType::NONE, "cut at {at}");
                }
            }
        }
        let _ = Ts::parse(&message);
    }
}
