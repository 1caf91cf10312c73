//! Whether the peer takes packets that look longer than they are (RFC 7296 §1.3.1).

use ike_core::registry::{ExchangeType, NotifyKind, PayloadType};

use crate::hostile::peer::{Payloads, Scripted, child_payloads, host, payload};
use crate::network::esp;

/// With word of a peer that does not.
fn with(says_no: bool, all: Payloads) -> Payloads {
    let [high, low] = NotifyKind::ESP_TFC_PADDING_NOT_SUPPORTED.0.to_be_bytes();
    if says_no { payload(PayloadType::NOTIFY.0, 0, &[0, 0, high, low], &all) } else { all }
}

#[test]
fn a_peer_that_asks_says_so_of_each_child_sa() {
    for says_no in [[false, false], [true, false], [false, true], [true, true]] {
        let mut host = host(false);
        host.endpoint.pad_mut().0[0].children[0].esp = esp("aes256gcm16-modpnone");
        let mut peer = Scripted::initiate(&mut host, 690);
        let auth = peer.auth_payloads();
        let exchanges = [(ExchangeType::IKE_AUTH, auth), (ExchangeType::CREATE_CHILD_SA, child_payloads(None))];
        for ((exchange, request), says_no) in exchanges.into_iter().zip(says_no) {
            peer.ask(&mut host, exchange, &with(says_no, request));
        }
        let installed: Vec<_> = host.installed.values().map(|child| child.takes_padding).collect();
        assert_eq!(installed, says_no.map(|says_no| !says_no));
    }
}

#[test]
fn a_peer_that_answers_says_so_too() {
    for says_no in [false, true] {
        let mut host = host(true);
        let (mut peer, _) = Scripted::answer(&mut host, 691);
        peer.next[1] = 1;
        let answer = with(says_no, peer.auth_payloads());
        assert_eq!(peer.respond(&mut host, ExchangeType::IKE_AUTH, &answer).0, Ok(()));
        let installed: Vec<_> = host.installed.values().map(|child| child.takes_padding).collect();
        assert_eq!(installed, [!says_no]);
    }
}
