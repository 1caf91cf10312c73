//! What trials broke, by the number of the fault (F-nn): each test was red before it was mended.

use std::time::Duration;

use ike_core::endpoint::Settings;
use ike_core::proposal::{IkeProposal, offer_ike};
use ike_core::registry::{ExchangeType, GroupId, NotifyKind, PayloadType, ProtocolId};
use ike_core::wire::chain::Chain;

use crate::hostile::peer::*;
use crate::network::{CHILD, Host, pair};

mod agreed;
mod answers;
mod contact;
mod heirs;
mod refusals;
mod rekeys;
mod slots;
mod succession;

const CREATE: ExchangeType = ExchangeType::CREATE_CHILD_SA;
const INFO: ExchangeType = ExchangeType::INFORMATIONAL;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A host that answers, with tables of these sizes, and children that may be rekeyed without a key exchange.
fn lax(dpd: u64, sizes: [usize; 3], settings: Settings) -> Host {
    let [_, mut right] = pair();
    right.ike = vec![IkeProposal::parse(SUITE).unwrap()];
    right.dpd = seconds(dpd);
    right.children[0].esp = crate::network::esp("aes256gcm16-x25519-modpnone");
    Host::sized(77, vec![right], settings, sizes)
}

/// The peer connects.
fn up(host: &mut Host, seed: u64) -> Scripted {
    let mut peer = Scripted::initiate(host, seed);
    if begun(host, &mut peer) {
        assert_eq!(peer.respond(host, INFO, &NOTHING), (Ok(()), vec![]));
    }
    assert!(peer.alive(host));
    peer
}

/// The peer's IKE_AUTH is answered. Returns whether the host wants to know at once if it lives.
fn begun(host: &mut Host, peer: &mut Scripted) -> bool {
    let auth = peer.auth_payloads();
    let header = peer.header(ExchangeType::IKE_AUTH, false, peer.next[0]);
    let message = peer.seal(&header, &auth);
    let (handled, sent) = peer.tell(host, &message);
    peer.next[0] += 1;
    assert_eq!(handled, Ok(()));
    assert!(notifies(&peer.open(&sent[0])).is_empty(), "{:?}", host.story);
    let looks: Vec<_> = sent[1..].iter().map(|message| (message[18], peer.open(message).1.is_empty())).collect();
    assert!(looks.iter().all(|look| *look == (INFO.0, true)) && looks.len() <= 1, "{looks:?}");
    looks.len() == 1
}

/// The host asks for a rekey of its child; returns the request.
fn asking(seed: u64) -> (Host, Scripted, Payloads) {
    let (mut host, mut peer) = Scripted::established_by_host(seed);
    let child = host.sending[&CHILD];
    host.endpoint.rekey_child(NOW, child).unwrap();
    let request = peer.open(&transmits(&mut host)[0]);
    peer.next = [0, 2];
    (host, peer, request)
}

/// The host asks for a rekey of the IKE SA.
fn asking_ike(seed: u64) -> (Host, Scripted) {
    let (mut host, mut peer) = Scripted::established_by_host(seed);
    let ike = host.ike_id();
    host.endpoint.rekey_ike(NOW, ike).unwrap();
    assert_eq!(transmits(&mut host).len(), 1);
    peer.next = [0, 2];
    (host, peer)
}

fn notify(kind: NotifyKind, data: &[u8]) -> Payloads {
    payloads(|message| message.notify_parts(kind, &[data]))
}

/// A public value of X25519.
fn public() -> [u8; 32] {
    let mut public = [0; 32];
    public[0] = 9;
    public
}

/// A child without a key exchange, new or in place of `old`.
fn child_of(old: Option<[u8; 4]>, new: u32) -> Payloads {
    payloads(|message| {
        if let Some(old) = old {
            message.notify(ProtocolId::ESP, &old, NotifyKind::REKEY_SA, &[])?;
        }
        message.sa(ProtocolId::ESP, &new.to_be_bytes(), [(1, esp(false).transforms(false))])?;
        message.nonce(&[3; 32])?;
        message.ts(PayloadType::TS_I, left_ts())?;
        message.ts(PayloadType::TS_R, right_ts())
    })
}

fn ike_rekey(spi: [u8; 8], nonce: [u8; 32]) -> Payloads {
    payloads(|message| {
        message.sa(ProtocolId::IKE, &spi, offer_ike(&[IkeProposal::parse(SUITE).unwrap()]))?;
        message.nonce(&nonce)?;
        message.ke(GroupId::CURVE25519, &public())
    })
}

/// The body of the first payload of this kind.
fn body(Payloads(first, octets): &Payloads, kind: PayloadType) -> Option<Vec<u8>> {
    let mut chain = Chain::new(PayloadType(*first), octets).map(Result::unwrap);
    chain.find(|payload| payload.kind == kind).map(|payload| payload.body.to_vec())
}

/// The SPIs that the first Delete payload names.
fn deleted(message: &Payloads) -> Vec<u32> {
    let body = body(message, PayloadType::DELETE).unwrap_or_default();
    body.get(4..).unwrap_or_default().as_chunks().0.iter().map(|spi| u32::from_be_bytes(*spi)).collect()
}
