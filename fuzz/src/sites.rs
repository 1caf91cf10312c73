//! Two hosts whose configurations fit each other.

use std::net::SocketAddr;
use std::time::Duration;

use ike_core::child::ChildSlot;
use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, Settings, Storage};
use ike_core::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Initiator, Modes, Pad, PeerId};
use ike_core::proposal::{EspProposal, IkeProposal};
use ike_core::registry::IdKind;
use ike_core::wire::id::Id;
use ipsec_core::net::{AddrRange, Path, TrafficSelector};

use crate::crypto::FakeCrypto;

/// The only connection of a site.
pub const PEER: PeerId = PeerId(0);

/// IKE SAs that a host has room for: one, its heir, and little more, so that tables fill up.
const IKE_SAS: usize = 4;
/// Child SAs that a host has room for.
const CHILD_SAS: usize = 6;
/// Octets for a message.
const MESSAGE: usize = 1280;
/// Those that stay beside an SA; the messages of an established one are sometimes longer.
const SHORT: usize = 256;
const BLOCKS: usize = 3;

/// An endpoint of a site.
pub type Host<'t> = Endpoint<'t, FakeCrypto, Site>;

/// One end of the connection, with two children.
pub struct Site {
    path: Path,
    names: [&'static str; 2],
    ike: Vec<IkeProposal>,
    esp: [Vec<EspProposal>; 2],
    selectors: [[Vec<TrafficSelector>; 2]; 2],
    /// Whether the connection is configured.
    pub present: bool,
    /// Whether the peer may come from any address.
    pub anybody: bool,
}

fn net(text: &str) -> TrafficSelector {
    let (addr, prefix) = text.split_once('/').expect("a network");
    let (addr, prefix) = (addr.parse().expect("an address"), prefix.parse().expect("a prefix length"));
    TrafficSelector::addrs(AddrRange::prefix(addr, prefix).expect("a prefix of that family"))
}

/// The two sites: `left` at 192.0.2.1, `right` at 192.0.2.2.
pub fn pair() -> [Site; 2] {
    let ike = ["aes256gcm16-prfsha384-x25519-ecp256", "aes128gcm16-prfsha256-ecp256"];
    let esp = |words: &str| vec![EspProposal::parse(words).expect("a proposal")];
    let (left, right) = (SocketAddr::from(([192, 0, 2, 1], 500)), SocketAddr::from(([192, 0, 2, 2], 500)));
    let site = |local, remote, names: [&'static str; 2], mine: usize| {
        let ends = [
            [vec![net("10.1.0.0/16"), net("fd01::/64")], vec![net("192.168.1.0/24")]],
            [vec![net("10.2.0.0/16"), net("fd02::/64")], vec![net("192.168.2.0/24")]],
        ];
        let [a, b] = [&ends[mine], &ends[1 - mine]];
        Site {
            path: Path { local, remote },
            names,
            ike: ike.iter().map(|words| IkeProposal::parse(words).expect("a proposal")).collect(),
            esp: [esp("aes256gcm16-x25519-ecp256"), esp("aes128gcm16-esn-noesn")],
            selectors: [[a[0].clone(), b[0].clone()], [a[1].clone(), b[1].clone()]],
            present: true,
            anybody: false,
        }
    };
    [site(left, right, ["left.example", "right.example"], 0), site(right, left, ["right.example", "left.example"], 1)]
}

impl Pad for Site {
    fn connection(&self, peer: PeerId) -> Option<Connection<'_>> {
        let id = |name: &'static str| Id { kind: IdKind::FQDN, data: name.as_bytes() };
        (self.present && peer == PEER).then(|| Connection {
            path: Some(self.path),
            local_id: id(self.names[0]),
            remote_id: (!self.anybody).then(|| id(self.names[1])),
            auth: Authentication::Psk(b"never looked at by the fake crypto"),
            ike: &self.ike,
            force_encap: false,
            dpd: Duration::from_secs(20),
            rekey: Duration::from_secs(400),
        })
    }

    fn child(&self, peer: PeerId, index: usize) -> Option<ChildConfig<'_>> {
        let ([local, remote], esp) = (self.selectors.get(index)?, self.esp.get(index)?);
        (self.present && peer == PEER).then_some(ChildConfig {
            id: ChildConfigId(u32::try_from(index).ok()?),
            modes: Modes::Tunnel,
            esp,
            local,
            remote,
            rekey: Duration::from_secs(150),
            lifetime: Duration::from_secs(200),
            compress: false,
        })
    }

    fn candidate(&self, _: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
        after.is_none().then_some(PEER)
    }
}

/// The memory of a host.
pub struct Tables {
    sas: [IkeSlot<FakeCrypto>; IKE_SAS],
    children: [ChildSlot; CHILD_SAS],
    index: [IndexBlock; IndexBlock::needed(IKE_SAS, CHILD_SAS)],
    pairs: Vec<u8>,
    pool: Vec<u8>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            sas: Default::default(),
            children: [const { ChildSlot::EMPTY }; CHILD_SAS],
            index: [const { IndexBlock::EMPTY }; IndexBlock::needed(IKE_SAS, CHILD_SAS)],
            pairs: vec![0; IKE_SAS * 2 * SHORT],
            pool: vec![0; BLOCKS * 2 * MESSAGE],
        }
    }
}

impl Tables {
    /// A host of `site` in this memory.
    pub fn host(&mut self, seed: u64, site: Site, settings: Settings) -> Host<'_> {
        let Self { sas, children, index, pairs, pool } = self;
        let storage = Storage { sas, children, index, pairs, pool, blocks: BLOCKS };
        Endpoint::new(FakeCrypto::new(seed), site, storage, settings).expect("room for messages")
    }
}
