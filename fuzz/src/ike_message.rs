//! IKE messages in clear: the views of the parser, and a responder without SAs that gets them from a stranger.

use ike_core::endpoint::Settings;
use ike_core::registry::{ExchangeType, PayloadType};
use ike_core::rules::{Direction, Payloads, Rule, Stage};
use ike_core::wire::cert::{Cert, CertReq};
use ike_core::wire::chain::{Chain, Payload};
use ike_core::wire::cp::Cp;
use ike_core::wire::delete::Delete;
use ike_core::wire::eap::Eap;
use ike_core::wire::header::Header;
use ike_core::wire::notify::Notify;
use ike_core::wire::sa::KeyLength;
use ike_core::wire::sk::Skf;
use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::sites::{Host, Tables, pair};

const NOW: Instant = Instant::from_millis(1_000_000);

/// One datagram without non-ESP marker.
pub fn run(data: &[u8]) {
    if let Ok(header) = Header::parse(data) {
        assert_eq!(header.to_octets()[..19], data[..19]);
        let body = &data[Header::LEN..];
        walk(header.next, body);
        for exchange in 34..=37 {
            for direction in [Direction::Request, Direction::Response] {
                for stage in [Stage::Clear, Stage::Keyed, Stage::Established] {
                    if let Some(rule) = Rule::find(ExchangeType(exchange), direction, stage) {
                        collect(header.next, body, rule);
                    }
                }
            }
        }
    }
    for cookies in [false, true] {
        let [_, right] = pair();
        let mut tables = Tables::default();
        let cookie_threshold = if cookies { 0 } else { usize::MAX };
        let mut host = tables.host(1, right, Settings { cookie_threshold, ..Settings::default() });
        answer(&mut host, data, cookies);
    }
}

/// Every payload that can be read on its own.
fn walk(first: PayloadType, body: &[u8]) {
    let chain = Chain::new(first, body);
    assert!(chain.clone().count() <= body.len() / 4 + 1, "the chain does not advance");
    for Payload { kind, body, .. } in chain.flatten() {
        match kind {
            PayloadType::CERT => drop(Cert::parse(body)),
            PayloadType::CERTREQ => drop(CertReq::parse(body)),
            PayloadType::CP => drop(Cp::parse(body).map(|cp| cp.attributes().count())),
            PayloadType::EAP => drop(Eap::parse(body)),
            PayloadType::NOTIFY => drop(Notify::parse(body)),
            PayloadType::DELETE => drop(Delete::parse(body).map(|delete| delete.esp_spis().count())),
            PayloadType::SKF => drop(Skf::parse(body)),
            _ => {}
        }
    }
}

fn collect(first: PayloadType, body: &[u8], rule: &Rule) {
    let Ok(payloads) = Payloads::collect(first, body, rule) else { return };
    if let Some(sa) = &payloads.sa {
        let transforms: Vec<_> = sa.proposals().flat_map(|proposal| proposal.transforms()).collect();
        let keyed = transforms.iter().filter(|transform| matches!(transform.key_length(), KeyLength::Bits(_))).count();
        assert!(8 * sa.proposals().count() + 8 * transforms.len() + 4 * keyed <= body.len());
    }
    let selectors = payloads.ts_i.iter().chain(&payloads.ts_r).map(|ts| ts.selectors().count()).sum::<usize>();
    assert!(selectors <= body.len() / 16);
    if let Some(id) = payloads.id_i.or(payloads.id_r) {
        assert!(!format!("{id}").is_empty());
    }
    assert!(payloads.notifies().count() + payloads.deletes().count() <= body.len() / 4);
}

/// What a stranger gets for one datagram, and for the same once more.
fn answer(host: &mut Host<'_>, data: &[u8], cookies: bool) {
    let at = |last| (std::net::Ipv4Addr::new(192, 0, 2, last), 500).into();
    let path = Path { local: at(2), remote: at(1) };
    for _ in 0..2 {
        let handled = host.handle_datagram(NOW, path, &mut data.to_vec());
        let mut answers = 0;
        while let Some(transmit) = host.poll_transmit() {
            answers += 1;
            let (sent, got) = (transmit.datagram.len(), data.len());
            assert!(sent * 2 <= got * 3, "{sent} octets for {got}: amplification");
            assert!(!cookies || sent <= got || data[17] >> 4 != 2, "{sent} octets for {got} before the cookie");
        }
        assert!(answers <= 1);
        while host.poll_event().is_some() {}
        let half_open = host.ike_sas().count();
        assert!(half_open <= usize::from(!cookies), "state without a cookie");
        assert!(half_open == 0 || handled.is_ok() || data[18] != 34, "an error left state");
    }
    // Whatever came of it is forgotten in time, and nothing is sent on our own account.
    for _ in 0..8 {
        let Some(due) = host.poll_timeout() else { break };
        host.handle_timeout(due.max(NOW));
        assert!(host.poll_transmit().is_none(), "a responder repeats");
        while host.poll_event().is_some() {}
    }
    assert_eq!(host.ike_sas().count(), 0, "half-open state stays");
}
