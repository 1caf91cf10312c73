//! A peer that holds its key, and speaks of what another peer of the same host has.

use ike_core::endpoint::{ChildView, IkeView, Settings};
use ike_core::error::Discard;
use ike_core::proposal::IkeProposal;
use ike_core::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId};
use ike_core::wire::header::Header;
use ipsec_core::net::Spi;

use super::peer::*;
use crate::network::{Host, pair};

const AUTH: ExchangeType = ExchangeType::IKE_AUTH;
const CREATE: ExchangeType = ExchangeType::CREATE_CHILD_SA;
const INFO: ExchangeType = ExchangeType::INFORMATIONAL;
/// What the other one receives with.
const OTHER_SPI: [u8; 4] = 0x0b0b_0b0b_u32.to_be_bytes();
/// Long after all is settled, and any peer may be asked for a sign of life.
const LATER: ipsec_core::time::Instant = ipsec_core::time::Instant::from_millis(1_015_000);

/// A host with two peers, or with two parties that share what is configured for one.
struct Neighbours {
    host: Host,
    one: Scripted,
    other: Scripted,
}

fn esp_sa(spi: [u8; 4]) -> Payloads {
    payloads(|message| message.sa(ProtocolId::ESP, &spi, [(1, esp(false).transforms(false))]))
}

impl Neighbours {
    fn new(shared: bool) -> Self {
        let [_, mut right] = pair();
        right.ike = vec![IkeProposal::parse(SUITE).unwrap()];
        right.children[0].esp = crate::network::esp("aes256gcm16-modpnone");
        let mut second = right.clone();
        second.remote = Some("198.51.100.7:500".parse().unwrap());
        second.remote_id = Some("other.example");
        if shared {
            (right.remote, right.remote_id) = (None, None);
        }
        let peers = if shared { vec![right] } else { vec![right, second] };
        let mut host = Host::sized(77, peers, Settings::default(), [12, 16, 1280]);
        let one = Scripted::initiate(&mut host, 1);
        let one = Self::connect(&mut host, one, NOTHING, ESP_SPI);
        let mut other = Scripted::initiate(&mut host, 2);
        (other.name, other.path.remote) = ("other.example", "198.51.100.7:500".parse().unwrap());
        let other = Self::connect(&mut host, other, NOTHING, OTHER_SPI);
        Self { host, one, other }
    }

    /// IKE_AUTH, with `first` before what is in it anyway.
    fn connect(host: &mut Host, mut peer: Scripted, Payloads(kind, body): Payloads, spi: [u8; 4]) -> Scripted {
        let sa = esp_sa(spi).1.split_off(4);
        let mut auth = with_body(&peer.auth_payloads(), PayloadType::SA, &sa);
        if kind != 0 {
            auth = payload(kind, 0, &body[4..], &auth);
        }
        let header = peer.header(AUTH, false, 1);
        let message = peer.seal(&header, &auth);
        let (handled, sent) = peer.tell(host, &message);
        peer.next[0] = 2;
        assert_eq!(handled, Ok(()));
        let answer = sent.iter().find(|message| message[..8] == peer.spis[0].to_be_bytes()).expect("an answer");
        assert!(notifies(&peer.open(answer)).is_empty(), "{:?}", host.story);
        assert!(peer.alive(host));
        peer
    }

    /// All that there is of the other one, when it was last heard, too.
    fn others(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let of_other = |ike: &IkeView| ike.spi_remote == self.other.spis[0];
        let ike = self.host.endpoint.ike_sas().find(of_other).expect("the other one's IKE SA");
        let child = |child: ChildView<'_>| {
            let installed = self.host.installed.contains_key(&child.id);
            let times = (child.rekey_at, child.expires_at);
            (child.id, [child.spi_in.get(), child.spi_out.get()], child.replaced, times, installed)
        };
        let children: Vec<_> = self.host.endpoint.child_sas().filter(|sa| sa.ike == ike.id).map(child).collect();
        assert_eq!(children.len(), 1, "{:?}", self.host.story);
        (ike.id, ike.state, ike.path, ike.since, ike.heard, ike.waiting, children)
    }

    /// What the host makes of a message of the first one. Nothing is sent to the other.
    fn tell(&mut self, message: &[u8]) -> (Result<(), Discard>, Vec<Vec<u8>>) {
        let (handled, sent) = tell_at(&mut self.host, LATER, self.one.path, message);
        let to_other = |message: &Vec<u8>| message[..8] == self.other.spis[0].to_be_bytes();
        assert!(!sent.iter().any(to_other), "the other one is told something");
        (handled, sent)
    }

    /// The first one's next request.
    fn ask(&mut self, exchange: ExchangeType, request: &Payloads) -> Payloads {
        let header = self.one.header(exchange, false, self.one.next[0]);
        let message = self.one.seal(&header, request);
        let (handled, sent) = self.tell(&message);
        assert_eq!((handled, sent.len()), (Ok(()), 1), "{:?}", self.host.story);
        self.one.next[0] += 1;
        self.one.open(&sent[0])
    }
}

fn notify(kind: NotifyKind, data: &[u8]) -> Payloads {
    payloads(|message| message.notify_parts(kind, &[data]))
}

#[test]
fn f_44_what_one_peer_says_of_the_sas_of_another_changes_none_of_them() {
    for shared in [false, true] {
        let mut all = Neighbours::new(shared);
        let before = all.others();
        let ours = all.host.installed.values().find(|sa| sa.spi_out == u32::from_be_bytes(OTHER_SPI)).unwrap().spi_in;
        let both = [OTHER_SPI, ours.to_be_bytes()];
        // Behind the integrity check: with the SPI of either half.
        for spi in both {
            let delete = payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(spi)).unwrap()]));
            assert_eq!(all.ask(INFO, &delete).1, [], "there is none of that name");
            assert_eq!(all.ask(INFO, &notify(NotifyKind::INVALID_SPI, &spi)).1, []);
            let rekey = payloads(|message| {
                message.notify(ProtocolId::ESP, &spi, NotifyKind::REKEY_SA, &[])?;
                message.sa(ProtocolId::ESP, &[1, 2, 3, 4], [(1, esp(false).transforms(false))])?;
                message.nonce(&[3; 32])?;
                message.ts(PayloadType::TS_I, left_ts())?;
                message.ts(PayloadType::TS_R, right_ts())
            });
            let answer = all.ask(CREATE, &rekey);
            assert_eq!(notifies(&answer), [NotifyKind::CHILD_SA_NOT_FOUND]);
        }
        for kind in [NotifyKind::INITIAL_CONTACT, NotifyKind::INVALID_IKE_SPI] {
            all.ask(INFO, &notify(kind, &[]));
        }
        assert!(all.others() == before, "{:?}", all.host.story);
        // Under the other one's SPIs it has the wrong keys.
        let header =
            Header { initiator: true, ..Header::new(all.other.spis[0], all.other.spis[1], INFO, all.other.next[0]) };
        let delete = all.one.seal(&header, &payloads(|message| message.delete_ike()));
        assert_eq!(all.tell(&delete), (Err(Discard::BadIcv), vec![]));
        // In clear, from where it is itself.
        for claim in [
            in_clear(&Header::new(0, 0, INFO, 0), &notify(NotifyKind::INVALID_SPI, &OTHER_SPI)),
            in_clear(&header, &notify(NotifyKind::INVALID_IKE_SPI, &[])),
        ] {
            assert_eq!(all.tell(&claim), (Err(Discard::Unexpected), vec![]));
        }
        assert!(all.others() == before, "{:?}", all.host.story);
        assert_eq!(all.host.installed.len(), 2, "its own child stands, too: {:?}", all.host.story);

        // It begins anew, and what it had before is history. It even takes the other one's SPI for its own child.
        let again = Scripted::initiate(&mut all.host, 3);
        let first_contact = notify(NotifyKind::INITIAL_CONTACT, &[]);
        all.one = Neighbours::connect(&mut all.host, again, first_contact, OTHER_SPI);
        assert_eq!((all.host.ended.len(), all.host.installed.len()), (1, 2), "{:?}", all.host.story);
        let delete = payloads(|message| message.delete_esp(&[Spi::new(u32::from_be_bytes(OTHER_SPI)).unwrap()]));
        assert_ne!(all.ask(INFO, &delete).1, [], "its own goes");
        all.ask(INFO, &payloads(|message| message.delete_ike()));
        assert!(all.others() == before && all.host.installed.len() == 1, "{:?}", all.host.story);
        assert!(all.other.alive(&mut all.host));
    }
}

/// The peer asks for Child SAs until it is refused one.
fn fill(all: &mut Neighbours, first: u32) {
    for spi in first..first + 20 {
        let create = payloads(|message| {
            message.sa(ProtocolId::ESP, &spi.to_be_bytes(), [(1, esp(false).transforms(false))])?;
            message.nonce(&[3; 32])?;
            message.ts(PayloadType::TS_I, left_ts())?;
            message.ts(PayloadType::TS_R, right_ts())
        });
        if !notifies(&all.ask(CREATE, &create)).is_empty() {
            return;
        }
    }
    panic!("nothing is refused");
}

#[test]
fn nobody_holds_more_children_for_having_more_ike_sas_and_nobody_fewer_for_what_others_hold() {
    for shared in [false, true] {
        let mut all = Neighbours::new(shared);
        fill(&mut all, 0x0c00_0000);
        // Three quarters of sixteen, and the one of the other.
        assert_eq!(all.host.installed.len(), 13, "shared {shared}");
        let mut again = Scripted::initiate(&mut all.host, 3);
        let header = again.header(AUTH, false, 1);
        let auth = again.auth_payloads();
        let message = again.seal(&header, &auth);
        let (_, sent) = again.tell(&mut all.host, &message);
        again.next[0] = 2;
        let answer = again.open(sent.iter().find(|sent| sent[..8] == again.spis[0].to_be_bytes()).unwrap());
        assert_eq!(notifies(&answer), [NotifyKind::NO_ADDITIONAL_SAS], "shared {shared}");
        all.one = again;
        fill(&mut all, 0x0d00_0000);
        assert_eq!(all.host.installed.len(), 13, "shared {shared}");
        // Three places are left to the other.
        core::mem::swap(&mut all.one, &mut all.other);
        fill(&mut all, 0x0e00_0000);
        assert_eq!(all.host.installed.len(), 16, "shared {shared}");
    }
}

#[test]
fn who_has_lost_all_that_it_held_gets_a_child_at_once() {
    for shared in [false, true] {
        let mut all = Neighbours::new(shared);
        fill(&mut all, 0x0c00_0000);
        let again = Scripted::initiate(&mut all.host, 3);
        let lost = notify(NotifyKind::INITIAL_CONTACT, &[]);
        all.one = Neighbours::connect(&mut all.host, again, lost, [0x0d; 4]);
        assert_eq!(all.host.installed.len(), 2, "its own and the other one's, shared {shared}");
    }
}
