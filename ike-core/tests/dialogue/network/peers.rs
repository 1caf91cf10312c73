//! What is configured at the two ends.

use std::net::SocketAddr;
use std::time::Duration;

use ike_core::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Initiator, Modes, Pad, PeerId};
use ike_core::proposal::{EspProposal, IkeProposal};
use ike_core::registry::IdKind;
use ike_core::wire::id::Id;
use ipsec_core::net::{AddrRange, Path, TrafficSelector};

pub(crate) fn selectors(list: &[&str]) -> &'static [TrafficSelector] {
    let parse = |text: &&str| {
        let (addr, prefix) = text.split_once('/').unwrap();
        TrafficSelector::addrs(AddrRange::prefix(addr.parse().unwrap(), prefix.parse().unwrap()).unwrap())
    };
    list.iter().map(parse).collect::<Vec<_>>().leak()
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Method {
    Psk,
    Signature,
    Eap,
}

/// One configured connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) local: SocketAddr,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local_id: &'static str,
    pub(crate) remote_id: Option<&'static str>,
    pub(crate) psk: &'static [u8],
    pub(crate) method: Method,
    /// It gets its addresses from us when it calls.
    pub(crate) leases: bool,
    pub(crate) ike: Vec<IkeProposal>,
    pub(crate) children: Vec<ChildConfig<'static>>,
    pub(crate) force_encap: bool,
    pub(crate) dpd: Duration,
    pub(crate) rekey: Duration,
}

pub(crate) const CHILD: ChildConfigId = ChildConfigId(0);
pub(crate) const PEER: PeerId = PeerId(0);

pub(crate) fn fqdn(name: &'static str) -> Id<'static> {
    Id { kind: IdKind::FQDN, data: name.as_bytes() }
}

pub(crate) fn esp(words: &str) -> &'static [EspProposal] {
    vec![EspProposal::parse(words).unwrap()].leak()
}

pub(crate) fn child(id: u32, local: &[&str], remote: &[&str], words: &str) -> ChildConfig<'static> {
    ChildConfig {
        id: ChildConfigId(id),
        modes: Modes::Tunnel,
        esp: esp(words),
        local: selectors(local),
        remote: selectors(remote),
        rekey: Duration::ZERO,
        lifetime: Duration::ZERO,
        compress: false,
    }
}

/// The two ends of a connection that fit each other: `left` at 192.0.2.1 with 10.1.0.0/16, `right` at 192.0.2.2 with
/// 10.2.0.0/16.
pub(crate) fn pair() -> [Peer; 2] {
    let left = Peer {
        local: "192.0.2.1:500".parse().unwrap(),
        remote: Some("192.0.2.2:500".parse().unwrap()),
        local_id: "left.example",
        remote_id: Some("right.example"),
        psk: b"correct horse battery staple",
        method: Method::Psk,
        leases: false,
        ike: vec![IkeProposal::default()],
        children: vec![child(0, &["10.1.0.0/16"], &["10.2.0.0/16"], "aes256gcm16-x25519-ecp256")],
        force_encap: false,
        dpd: Duration::from_secs(20),
        rekey: Duration::ZERO,
    };
    let right = Peer {
        local: left.remote.unwrap(),
        remote: Some(left.local),
        local_id: "right.example",
        remote_id: Some("left.example"),
        children: vec![child(0, &["10.2.0.0/16"], &["10.1.0.0/16"], "aes256gcm16-x25519-ecp256")],
        ..left.clone()
    };
    [left, right]
}

#[derive(Default)]
pub(crate) struct Connections(pub(crate) Vec<Peer>);

impl Pad for Connections {
    fn connection(&self, peer: PeerId) -> Option<Connection<'_>> {
        let peer = self.0.get(peer.0 as usize)?;
        Some(Connection {
            path: peer.remote.map(|remote| Path { local: peer.local, remote }),
            local_id: fqdn(peer.local_id),
            remote_id: peer.remote_id.map(fqdn),
            auth: match peer.method {
                Method::Psk => Authentication::Psk(peer.psk),
                Method::Signature => Authentication::Signature,
                Method::Eap => Authentication::Eap,
            },
            ike: &peer.ike,
            force_encap: peer.force_encap,
            dpd: peer.dpd,
            rekey: peer.rekey,
        })
    }

    fn child(&self, peer: PeerId, index: usize) -> Option<ChildConfig<'_>> {
        self.0.get(peer.0 as usize)?.children.get(index).copied()
    }

    fn candidate(&self, _: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
        let next = after.map_or(0, |after| after.0 + 1);
        ((next as usize) < self.0.len()).then_some(PeerId(next))
    }

    fn leases(&self, peer: PeerId) -> bool {
        self.0.get(peer.0 as usize).is_some_and(|peer| peer.leases)
    }
}
