//! Which message is taken in which state: every exchange, both directions, in clear and protected.

use ike_core::error::Discard;
use ike_core::registry::{ExchangeType, NotifyKind};
use ike_core::wire::header::Header;

use super::peer::*;
use crate::network::{CHILD, Host, PEER};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// The host asked for an IKE SA.
    InitSent,
    /// The host answered IKE_SA_INIT.
    InitAnswered,
    /// The host sent IKE_AUTH.
    AuthSent,
    /// Nothing is outstanding.
    Established,
    /// The host asked for a rekey of its child.
    Asking,
    /// The peer closed it.
    Over,
}

use Stage::{Asking, AuthSent, Established, InitAnswered, InitSent, Over};

/// A host in this stage, its peer, and the IDs of the next request and of the response the host waits for.
fn reach(stage: Stage) -> (Host, Scripted, [u32; 2]) {
    match stage {
        InitSent => {
            let mut host = host(true);
            host.endpoint.initiate(NOW, PEER, None).unwrap();
            let request = transmits(&mut host).remove(0);
            // Keys of another SA: there are none yet.
            let (_, mut peer) = Scripted::established_by_host(9);
            peer.spis = [Header::parse(&request).unwrap().spi_i, 0x2222];
            (host, peer, [0, 0])
        }
        InitAnswered => {
            let mut host = host(false);
            let peer = Scripted::initiate(&mut host, 9);
            (host, peer, [1, 0])
        }
        AuthSent => {
            let mut host = host(true);
            let (peer, _) = Scripted::answer(&mut host, 9);
            (host, peer, [0, 1])
        }
        Established => {
            let (host, peer) = Scripted::established(9);
            let next = peer.next;
            (host, peer, next)
        }
        Asking => {
            let (mut host, peer) = Scripted::established_by_host(9);
            let child = host.sending[&CHILD];
            host.endpoint.rekey_child(NOW, child).unwrap();
            assert_eq!(transmits(&mut host).len(), 1);
            (host, peer, [0, 2])
        }
        Over => {
            let (mut host, mut peer) = Scripted::established(9);
            peer.ask(&mut host, ExchangeType::INFORMATIONAL, &payloads(|message| message.delete_ike()));
            let next = peer.next;
            (host, peer, next)
        }
    }
}

fn taken(stage: Stage, exchange: ExchangeType, response: bool, protected: bool) -> bool {
    let later = [ExchangeType::CREATE_CHILD_SA, ExchangeType::INFORMATIONAL].contains(&exchange);
    match (stage, response, protected) {
        (InitSent, true, false) => exchange == ExchangeType::IKE_SA_INIT,
        (InitAnswered, false, true) => exchange == ExchangeType::IKE_AUTH,
        (AuthSent, true, true) => exchange == ExchangeType::IKE_AUTH,
        (Established | Asking, false, true) => later,
        (Asking, true, true) => exchange == ExchangeType::CREATE_CHILD_SA,
        _ => false,
    }
}

#[test]
fn atk_24_an_exchange_is_taken_in_its_state_only() {
    let exchanges = [34, 35, 36, 37, 38, 43, 240].map(ExchangeType);
    for stage in [InitSent, InitAnswered, AuthSent, Established, Asking, Over] {
        for (exchange, response, protected) in exchanges.into_iter().flat_map(|exchange| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(r, p)| (exchange, r, p))
        }) {
            let what = format!("{stage:?}: {exchange:?}, response {response}, protected {protected}");
            let (mut host, mut peer, ids) = reach(stage);
            let content = match exchange {
                ExchangeType::IKE_SA_INIT => init_payloads(ike_core::crypto::Group::Curve25519, &[9; 32]),
                ExchangeType::IKE_AUTH => peer.auth_payloads(),
                ExchangeType::CREATE_CHILD_SA => child_payloads(None),
                _ => NOTHING,
            };
            let header = peer.header(exchange, response, ids[usize::from(response)]);
            let message = if protected { peer.seal(&header, &content) } else { in_clear(&header, &content) };
            let (before, due) = (snapshot(&host), host.endpoint.poll_timeout());
            let answers = [Established, Asking].contains(&stage) && exchange != ExchangeType::IKE_SA_INIT;
            let (handled, sent) = peer.tell(&mut host, &message);
            if taken(stage, exchange, response, protected) {
                assert_eq!(handled, Ok(()), "{what}");
                // Whatever it says, it is no reason to end what is established.
                assert_eq!(
                    host.ike().is_some(),
                    [AuthSent, Established, Asking, InitAnswered].contains(&stage),
                    "{what}"
                );
            } else if answers && !response && protected {
                // The peer is authenticated, what it says has no sense: it is told so.
                assert_eq!((handled, sent.len()), (Ok(()), 1), "{what}");
                assert_eq!(notifies(&peer.open(&sent[0])), [NotifyKind::INVALID_SYNTAX], "{what}");
                // That ends the SA on both sides (RFC 7296 §2.21.3).
                assert!(host.ike().is_none() && host.installed.is_empty() && host.ended.len() == 1, "{what}");
            } else {
                assert!(handled.is_err() && sent.is_empty(), "{what}: {handled:?}");
                assert_eq!((snapshot(&host), host.endpoint.poll_timeout()), (before, due), "{what}");
            }
        }
    }
}

#[test]
fn atk_24_no_message_but_the_expected_one_is_taken_by_its_id() {
    for (stage, exchange, response) in [
        (InitAnswered, ExchangeType::IKE_AUTH, false),
        (AuthSent, ExchangeType::IKE_AUTH, true),
        (Established, ExchangeType::CREATE_CHILD_SA, false),
        (Established, ExchangeType::INFORMATIONAL, false),
        (Asking, ExchangeType::CREATE_CHILD_SA, true),
    ] {
        let (mut host, mut peer, ids) = reach(stage);
        let right = ids[usize::from(response)];
        let before = snapshot(&host);
        for id in [right.wrapping_sub(2), right + 1, right + 2, 0x8000_0000, u32::MAX] {
            let header = peer.header(exchange, response, id);
            let message = peer.seal(&header, &NOTHING);
            let (handled, sent) = peer.tell(&mut host, &message);
            assert!(matches!(handled, Err(Discard::Window | Discard::Unexpected)), "{stage:?} {id}: {handled:?}");
            assert_eq!((sent.len(), snapshot(&host) == before), (0, true), "{stage:?} {id}");
        }
    }
}
