//! Whole sessions of strongSwan 5.9.8 with their secrets: everything parses, opens, recomputes and writes back.

use std::collections::VecDeque;

use ike_core::auth::{SignedOctets, psk};
use ike_core::crypto::{CipherAlg, Digest64, EspSuite, Group, IkeSuite, IntegAlg, PrfAlg, Protection, SharedSecret};
use ike_core::keys::{IkeKeys, IkeSeed, Role, SkReceiver, child_keymat};
use ike_core::proposal::{EspProposal, IkeProposal, select_esp, select_ike};
use ike_core::registry::{AuthMethod, ExchangeType, PayloadType, ProtocolId};
use ike_core::rules::{Direction, Payloads, Rule, Stage};
use ike_core::wire::chain::Chain;
use ike_core::wire::header::Header;
use serde_json::Value;

use crate::reencode::reencode;
use crate::support::Engine;
use crate::support::{self, engine, hex, octets};

fn is_protected(message: &[u8]) -> bool {
    matches!(Header::parse(message).unwrap().next, PayloadType::SK | PayloadType::SKF)
}

fn collect<'m>(header: &Header, first: PayloadType, body: &'m [u8], protected: bool) -> Payloads<'m> {
    let stage = match header.exchange {
        _ if !protected => Stage::Clear,
        ExchangeType::IKE_AUTH => Stage::Keyed,
        _ => Stage::Established,
    };
    let rule = Rule::find(header.exchange, Direction::of(header), stage).expect("a rule for every message");
    Payloads::collect(first, body, rule).expect("every message follows its rule")
}

#[test]
fn every_message_of_every_session_parses_and_what_is_in_clear_writes_back() {
    let (mut count, mut written) = (0, 0);
    for name in [
        "psk-aes256gcm16-p256",
        "ecdsa256-aes128gcm16-x25519",
        "psk-cookie-invalidke",
        "psk-natt-encap",
        "psk-aes256cbc-sha256-modp2048",
        "psk-aes128ctr-sha1-modp3072",
        "rsa-aes128cbc-sha512-ecp384",
    ] {
        for message in support::ike_messages(&support::own(&format!("{name}.pcap"))) {
            count += 1;
            let header = Header::parse(&message).unwrap();
            let body = &message[Header::LEN..];
            if is_protected(&message) {
                assert_eq!(Chain::new(header.next, body).map(Result::unwrap).count(), 1);
            } else {
                collect(&header, header.next, body, false);
                if let Some(again) = reencode(&header, header.next, body) {
                    assert_eq!(again, message, "{name}");
                    written += 1;
                } else {
                    // strongSwan's responder asks for certificates even when it is given a PSK.
                    assert!(header.response, "{name}");
                }
            }
            // Cut anywhere, it is refused: the header says how long it is.
            for len in 0..message.len() {
                assert!(Header::parse(&message[..len]).is_err());
            }
        }
    }
    assert_eq!((count, written), (87, 9));
}

/// An IKE SA as both ends see it.
struct Sa {
    spis: (u64, u64),
    suite: IkeSuite,
    from_initiator: SkReceiver<Engine>,
    from_responder: SkReceiver<Engine>,
    sk_d: Digest64,
    sk_pi: Digest64,
    sk_pr: Digest64,
}

/// What of a CREATE_CHILD_SA or IKE_SA_INIT request waits for the response.
#[derive(Default)]
struct Request {
    nonce: Vec<u8>,
    spi: u64,
    message: Vec<u8>,
}

struct Session {
    crypto: Engine,
    json: Value,
    /// What was chosen, where it cannot be read from the messages: the key exchange is not built. Beside the protection and
    /// the PRF nothing of it goes into keys.
    known: Option<(IkeSuite, EspSuite)>,
    secrets: VecDeque<SharedSecret>,
    sas: Vec<Sa>,
    children: usize,
    auths: usize,
    opened: usize,
    written: usize,
}

impl Session {
    fn new(name: &str, known: Option<(IkeSuite, EspSuite)>) -> Self {
        let json = support::own_json(&format!("{name}.keys.json"));
        let secrets = json["initiator_trace"].as_array().unwrap().iter();
        let secrets = secrets
            .filter(|entry| entry["name"] == "shared Diffie Hellman secret" || entry["name"] == "DH secret")
            .map(|entry| SharedSecret::copy_from(&octets(entry, "hex")).unwrap())
            .collect();
        Self { crypto: engine(&[0]), json, known, secrets, sas: vec![], children: 0, auths: 0, opened: 0, written: 0 }
    }

    fn secret(&mut self) -> SharedSecret {
        self.secrets.pop_front().expect("a recorded secret for every key exchange")
    }

    fn add_ike(&mut self, suite: IkeSuite, seed: &IkeSeed<'_>, old: Option<usize>) {
        let shared = self.secret();
        let mut keys = |role| match old {
            None => IkeKeys::derive(&mut self.crypto, suite, &shared, seed, role).unwrap(),
            Some(old) => {
                let old = &self.sas[old];
                let (prf, sk_d) = (old.suite.prf, &old.sk_d);
                IkeKeys::derive_rekey(&mut self.crypto, suite, prf, sk_d, &shared, seed, role).unwrap()
            }
        };
        let (initiator, responder) = (keys(Role::Initiator), keys(Role::Responder));
        let recorded = &self.json["ike_sas"][self.sas.len()];
        assert_eq!(initiator.sk_d.as_slice(), octets(recorded, "Sk_d"));
        assert_eq!(initiator.sk_pi.as_slice(), octets(recorded, "Sk_pi"));
        assert_eq!(initiator.sk_pr.as_slice(), octets(recorded, "Sk_pr"));
        self.sas.push(Sa {
            spis: (seed.spi_i, seed.spi_r),
            suite,
            from_initiator: responder.receiver,
            from_responder: initiator.receiver,
            sk_d: initiator.sk_d,
            sk_pi: initiator.sk_pi,
            sk_pr: initiator.sk_pr,
        });
    }

    fn add_child(&mut self, sa: usize, suite: EspSuite, with_ke: bool, ni: &[u8], nr: &[u8]) {
        let shared = with_ke.then(|| self.secret());
        let recorded = &self.json["child_sas"][self.children];
        let key = |of: &str, end: &str| {
            recorded.get(format!("{of} {end} key")).map_or(vec![], |_| octets(recorded, &format!("{of} {end} key")))
        };
        let keys = ["initiator", "responder"].map(|end| [key("encryption", end), key("integrity", end)].concat());
        assert_eq!(keys[0].len(), suite.protection.encr_key_len() + suite.protection.integ_key_len());
        let mut keymat = vec![0; keys.concat().len()];
        let sa = &self.sas[sa];
        child_keymat(&mut self.crypto, sa.suite.prf, &sa.sk_d, shared.as_ref(), ni, nr, &mut keymat).unwrap();
        assert_eq!(keymat, keys.concat());
        self.children += 1;
    }
}

/// Local lists in which everything that strongSwan chose stands.
fn ike_lists() -> [IkeProposal; 1] {
    [IkeProposal::default()]
}

fn esp_suite(known: Option<(IkeSuite, EspSuite)>, offered: &ike_core::wire::sa::Sa<'_>) -> EspSuite {
    // One capture uses a group for PFS that is not built: the suite is read without it.
    known.map_or_else(|| select_esp(&[EspProposal::default()], offered, false).unwrap().suite, |(_, esp)| esp)
}

fn replay(name: &str, known: Option<(IkeSuite, EspSuite)>) -> Session {
    let mut session = Session::new(name, known);
    let (mut init, mut request) = (Request::default(), Request::default());
    let mut response_nonce = vec![];
    for message in support::ike_messages(&support::own(&format!("{name}.pcap"))) {
        let header = Header::parse(&message).unwrap();
        let body = &message[Header::LEN..];
        if !is_protected(&message) {
            assert_eq!(header.exchange, ExchangeType::IKE_SA_INIT);
            let payloads = collect(&header, header.next, body, false);
            let nonce = payloads.nonce.map(|nonce| nonce.as_slice().to_vec());
            if !header.response {
                init = Request { nonce: nonce.unwrap(), message: message.clone(), ..Request::default() };
            } else if let Some(sa) = payloads.sa {
                response_nonce = nonce.unwrap();
                let suite = known.map_or_else(|| select_ike(&ike_lists(), &sa, false).unwrap().suite, |(ike, _)| ike);
                let seed = IkeSeed { ni: &init.nonce, nr: &response_nonce, spi_i: header.spi_i, spi_r: header.spi_r };
                session.add_ike(suite, &seed, None);
                request.message = message.clone();
            }
            continue;
        }
        let sa = session.sas.iter().position(|sa| sa.spis == (header.spi_i, header.spi_r)).unwrap();
        let receiver = match header.initiator {
            true => &session.sas[sa].from_initiator,
            false => &session.sas[sa].from_responder,
        };
        let mut forged = message.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert!(receiver.open(&mut session.crypto, &mut forged).is_err());
        let mut text = message.clone();
        let (first, inner) = receiver.open(&mut session.crypto, &mut text).unwrap();
        session.opened += 1;
        let payloads = collect(&header, first, inner, true);
        if let Some(again) = reencode(&header, first, inner) {
            assert_eq!(&again[Header::LEN..], inner);
            session.written += 1;
        }
        match header.exchange {
            ExchangeType::IKE_AUTH => auth(&mut session, sa, &header, &payloads, &init, &request, &response_nonce),
            ExchangeType::CREATE_CHILD_SA if !header.response => {
                let proposal = payloads.sa.unwrap().proposals().next().unwrap();
                request.nonce = payloads.nonce.unwrap().as_slice().to_vec();
                request.spi = proposal.spi.try_into().map_or(0, u64::from_be_bytes);
            }
            ExchangeType::CREATE_CHILD_SA => {
                let offered = payloads.sa.unwrap();
                let nr = payloads.nonce.unwrap().as_slice();
                if offered.proposals().next().unwrap().protocol == ProtocolId::IKE {
                    let suite =
                        known.map_or_else(|| select_ike(&ike_lists(), &offered, true).unwrap().suite, |(ike, _)| ike);
                    let spi_r = offered.proposals().next().unwrap().spi.try_into().map(u64::from_be_bytes).unwrap();
                    let seed = IkeSeed { ni: &request.nonce, nr, spi_i: request.spi, spi_r };
                    session.add_ike(suite, &seed, Some(sa));
                } else {
                    let suite = esp_suite(known, &offered);
                    session.add_child(sa, suite, payloads.ke.is_some(), &request.nonce, nr);
                }
            }
            _ => {}
        }
    }
    session
}

fn auth(
    session: &mut Session,
    sa: usize,
    header: &Header,
    payloads: &Payloads<'_>,
    init: &Request,
    answer: &Request,
    response_nonce: &[u8],
) {
    let received = payloads.auth.unwrap();
    let keys = &session.sas[sa];
    let (id, sk_p, message, nonce) = if header.response {
        (payloads.id_r, &keys.sk_pr, &answer.message, init.nonce.as_slice())
    } else {
        (payloads.id_i, &keys.sk_pi, &init.message, response_nonce)
    };
    let id = id.unwrap();
    assert_eq!(id.to_string(), session.json["ids"][usize::from(header.response)].as_str().unwrap());
    if received.method == AuthMethod::SHARED_KEY {
        let signed = SignedOctets { message: &[message], nonce, id, sk_p };
        let psk = session.json["psk"].as_str().unwrap();
        let prf = session.sas[sa].suite.prf;
        assert!(psk::verify(&mut session.crypto, prf, psk.as_bytes(), &signed, received.data));
        assert!(!psk::verify(&mut session.crypto, prf, b"another", &signed, received.data));
        session.auths += 1;
    }
    if header.response {
        assert_eq!(payloads.ts_i.unwrap().len(), 1);
        let suite = esp_suite(session.known, &payloads.sa.unwrap());
        session.add_child(sa, suite, false, &init.nonce, response_nonce);
    }
}

/// `written`: messages that write back; those with CERT or CERTREQ are only read.
fn check(name: &str, known: Option<(IkeSuite, EspSuite)>, auths: usize, written: usize) {
    let session = replay(name, known);
    assert_eq!(session.opened as u64, session.json["ike_packets_with_sk"][0].as_u64().unwrap());
    assert_eq!(session.sas.len(), session.json["ike_sas"].as_array().unwrap().len());
    assert_eq!(session.children, session.json["child_sas"].as_array().unwrap().len());
    assert_eq!(session.auths, auths);
    assert_eq!(session.written, written);
    assert!(session.secrets.is_empty());
}

#[test]
fn aes256gcm16_prfsha256_ecp256_with_psk() {
    check("psk-aes256gcm16-p256", None, 2, 9);
}

#[test]
fn aes256gcm16_prfsha384_ecp256_after_cookie_and_invalid_ke() {
    check("psk-cookie-invalidke", None, 2, 9);
}

#[test]
fn aes128gcm16_prfsha256_x25519_with_certificates() {
    check("ecdsa256-aes128gcm16-x25519", None, 0, 8);
}

/// The suites of a session with a cipher and a MAC for messages and packets.
fn cipher_mac(cipher: CipherAlg, integ: IntegAlg) -> Option<(IkeSuite, EspSuite)> {
    let protection = Protection::CipherMac(cipher, integ);
    Some((IkeSuite::new(protection, PrfAlg::of(integ)?, Group::Ecp256), EspSuite::new(protection, false, None)))
}

#[test]
fn aes256cbc_sha256_prfsha256_with_psk() {
    check("psk-aes256cbc-sha256-modp2048", cipher_mac(CipherAlg::Aes256Cbc, IntegAlg::HmacSha256), 2, 9);
}

/// A session whose IKE_AUTH came in fragments, so that it cannot be followed: all opens with the recorded keys, and the fragments
/// are one message.
#[test]
fn aes128cbc_sha512_with_recorded_keys() {
    let name = "rsa-aes128cbc-sha512-ecp384";
    let protection = Protection::CipherMac(CipherAlg::Aes128Cbc, IntegAlg::HmacSha512);
    let (json, mut crypto) = (support::own_json(&format!("{name}.keys.json")), engine(&[0]));
    let (mut sas, mut opened, mut parts) = (vec![], 0, vec![]);
    for message in support::ike_messages(&support::own(&format!("{name}.pcap"))) {
        let header = Header::parse(&message).unwrap();
        if !is_protected(&message) {
            continue;
        }
        let spis = (header.spi_i, header.spi_r);
        if !sas.contains(&spis) {
            sas.push(spis);
        }
        let recorded = &json["ike_sas"][sas.iter().position(|sa| *sa == spis).unwrap()];
        let key = |of| octets(recorded, &format!("Sk_{of}{}", if header.initiator { "i" } else { "r" }));
        let receiver = SkReceiver::new(&mut crypto, protection, &key("e"), &key("a")).unwrap();
        let mut text = message.clone();
        if header.next == PayloadType::SKF {
            assert!(receiver.open(&mut crypto, &mut text).is_err());
            let fragment = receiver.open_fragment(&mut crypto, &mut text).unwrap();
            parts.push((fragment.number, fragment.total, fragment.first, fragment.text.to_vec()));
            continue;
        }
        let (first, inner) = receiver.open(&mut crypto, &mut text).unwrap();
        collect(&header, first, inner, true);
        opened += 1;
    }
    assert_eq!((sas.len(), opened), (1, 9));
    let [(1, 2, first, begin), (2, 2, PayloadType::NONE, end)] = parts.as_slice() else { panic!("{parts:?}") };
    let kinds =
        Chain::new(*first, &[&begin[..], end].concat()).map(|payload| payload.unwrap().kind).collect::<Vec<_>>();
    assert!(kinds.contains(&PayloadType::CERT) && kinds.contains(&PayloadType::TS_R), "{kinds:?}");
}

/// Sessions whose SK payload is not built, but whose Child SAs are: AUTH from the recorded keys.
#[test]
fn recorded_auth_recomputes_for_every_psk_session_of_the_prfs_built() {
    let mut auths = 0;
    for (name, prf) in [
        ("psk-aes256cbc-sha256-modp2048", ike_core::crypto::PrfAlg::HmacSha256),
        ("psk-natt-encap", ike_core::crypto::PrfAlg::HmacSha256),
        ("psk-cookie-invalidke", ike_core::crypto::PrfAlg::HmacSha384),
    ] {
        let json = support::own_json(&format!("{name}.keys.json"));
        let trace: Vec<_> = json["initiator_trace"].as_array().unwrap().iter().collect();
        let values = |name: &str| -> Vec<Vec<u8>> {
            let named =
                trace.iter().filter(|entry| entry["name"].as_str().is_some_and(|entry| entry.starts_with(name)));
            named.map(|entry| hex(entry["hex"].as_str().unwrap())).collect()
        };
        let (ids, sk_ps, octets, expected) = (values("IDx'"), values("SK_p"), values("octets ="), values("AUTH ="));
        for (((id, sk_p), octets), expected) in ids.iter().zip(&sk_ps).zip(&octets).zip(&expected) {
            let sk_p = Digest64::copy_from(sk_p).unwrap();
            // The recorded octets end with the nonce and the MAC of the identity, which is recomputed here.
            let signed = &octets[..octets.len() - prf.output_len()];
            let (message, nonce) = signed.split_at(signed.len() - 32);
            let id = ike_core::wire::id::Id::parse(id).unwrap();
            let signed = SignedOctets { message: &[message], nonce, id, sk_p: &sk_p };
            let psk = json["psk"].as_str().unwrap().as_bytes();
            assert!(psk::verify(&mut engine(&[0]), prf, psk, &signed, expected), "{name}");
            auths += 1;
        }
    }
    assert_eq!(auths, 6);
}
