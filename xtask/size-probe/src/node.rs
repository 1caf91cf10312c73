//! One node: IKE, both engines and the memory of all.

use core::convert::Infallible;
use core::mem::MaybeUninit;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;

use ike_core::child::ChildSlot;
use ike_core::crypto::rustcrypto;
use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, Settings, Storage};
use ike_core::event::{ChildUp, Event};
use ike_core::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Initiator, Modes, Pad, PeerId};
use ike_core::proposal::{EspProposal, IkeProposal};
use ike_core::registry::IdKind;
use ike_core::wire::id::Id;
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::ecn::Ecn;
use ipsec_core::encap;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::net::{AddrRange, Path, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params, SaId};
use ipsec_core::spd::{self, Action, Index, PolicyId, Rule, RuleId, Selector};
use ipsec_core::time::Instant;
use rand_core::{TryCryptoRng, TryRng};

/// The crypto of IKE.
pub type Crypto = rustcrypto::RustCrypto<Numbers, Packets>;

/// The rules of both engines. So few need no nodes.
type Rules = Index<[spd::Slot; CHILDREN], [spd::Node; Index::nodes(CHILDREN)]>;
type Sending = Outbound<'static, Packets, &'static Rules>;
type Receiving = Inbound<'static, Packets, &'static Rules>;

/// Children that are configured.
pub const CHILDREN: usize = 2;
/// Of IKE's index. They do for rekeys too: a block is for eight slots.
const BLOCKS: usize = IndexBlock::needed(2, 2 * CHILDREN);
/// Octets of the longest IKE message.
pub const MESSAGE: usize = 1280;
/// Octets of those that stay beside an SA: all of a node with one proposal and one selector a side.
const SHORT: usize = 320;
/// Octets of a packet, and around it.
pub const PACKET: usize = 1500 + 128;
/// Words of a replay window of 64 packets, and of the room beside it.
const WINDOW: usize = 2;

/// Numbers for a measurement; whoever knows the seed has every key.
pub struct Numbers(pub u64);

impl TryRng for Numbers {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| (number >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Ok(self.0 ^ (self.0 >> 29))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for octet in out {
            *octet = (self.try_next_u64()? >> 24) as u8;
        }
        Ok(())
    }
}

impl TryCryptoRng for Numbers {}

/// What is configured: one peer with [`CHILDREN`] children.
pub struct Config {
    path: Path,
    local_id: &'static str,
    remote_id: &'static str,
    ike: [IkeProposal; 1],
    esp: [EspProposal; 1],
    local: [[TrafficSelector; 1]; CHILDREN],
    remote: [[TrafficSelector; 1]; CHILDREN],
}

impl Pad for Config {
    fn connection(&self, _: PeerId) -> Option<Connection<'_>> {
        let id = |name: &'static str| Id { kind: IdKind::FQDN, data: name.as_bytes() };
        Some(Connection {
            path: Some(self.path),
            local_id: id(self.local_id),
            remote_id: Some(id(self.remote_id)),
            auth: Authentication::Psk(b"correct horse battery staple"),
            ike: &self.ike,
            force_encap: false,
            dpd: Duration::from_secs(30),
            rekey: Duration::from_secs(14_400),
        })
    }

    fn child(&self, _: PeerId, index: usize) -> Option<ChildConfig<'_>> {
        Some(ChildConfig {
            id: ChildConfigId(index as u32),
            modes: Modes::Tunnel,
            esp: &self.esp,
            local: self.local.get(index)?,
            remote: self.remote.get(index)?,
            rekey: Duration::from_secs(3600),
            lifetime: Duration::from_secs(4000),
            compress: false,
        })
    }

    fn candidate(&self, _: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
        after.is_none().then_some(PeerId(0))
    }
}

/// All memory of a node with room for so many IKE SAs and Child SAs, and one packet each way.
pub struct Memory<const IKE: usize, const CHILD: usize> {
    sas: [IkeSlot<Crypto>; IKE],
    children: [ChildSlot; CHILD],
    index: [IndexBlock; BLOCKS],
    pairs: [[[u8; SHORT]; 2]; IKE],
    pool: [[u8; MESSAGE]; 2],
    rules: MaybeUninit<Rules>,
    outbound: [OutboundSlot<Packets>; CHILD],
    inbound: [InboundSlot<Packets>; CHILD],
    windows: [[u64; WINDOW]; CHILD],
    sent: [u8; PACKET],
    received: [u8; PACKET],
    node: MaybeUninit<Node>,
}

/// A node.
pub struct Node {
    /// IKE.
    pub ike: Endpoint<'static, Crypto, Config>,
    outbound: Sending,
    inbound: Receiving,
    /// By the slot of the child: what it sends with, and receives with.
    installed: [Option<(ike_core::event::ChildId, SaId, SaId)>; 2 * CHILDREN],
    sent: &'static mut [u8; PACKET],
    received: &'static mut [u8; PACKET],
    /// Packets that came through.
    pub arrived: u32,
}

impl<const IKE: usize, const CHILD: usize> Memory<IKE, CHILD> {
    /// Nothing in it.
    pub const EMPTY: Self = Self {
        sas: [const { IkeSlot::EMPTY }; IKE],
        children: [const { ChildSlot::EMPTY }; CHILD],
        index: [const { IndexBlock::EMPTY }; BLOCKS],
        pairs: [[[0; SHORT]; 2]; IKE],
        pool: [[0; MESSAGE]; 2],
        rules: MaybeUninit::uninit(),
        outbound: [const { OutboundSlot::<Packets>::EMPTY }; CHILD],
        inbound: [const { InboundSlot::<Packets>::EMPTY }; CHILD],
        windows: [[0; WINDOW]; CHILD],
        sent: [0; PACKET],
        received: [0; PACKET],
        node: MaybeUninit::uninit(),
    };

    /// Makes a node in this memory: the left one or the right one of two, with these proposals.
    pub fn start(&'static mut self, left: bool, ike: IkeProposal, esp: EspProposal) -> Option<&'static mut Node> {
        let storage = Storage {
            sas: &mut self.sas,
            children: &mut self.children,
            index: &mut self.index,
            pairs: self.pairs.as_flattened_mut().as_flattened_mut(),
            pool: self.pool.as_flattened_mut(),
            blocks: 1,
        };
        let crypto = rustcrypto::RustCrypto::new(Numbers(u64::from(left)), Packets);
        let ike = Endpoint::new(crypto, config(left, ike, esp), storage, Settings::default()).ok()?;
        let rules = (0..CHILDREN).map(|child| {
            let selector = Selector::between(net(left, child), net(!left, child));
            let action = Action::protect(PolicyId(child as u32));
            Rule { id: RuleId(child as u32), priority: 100, selector, action }
        });
        let nodes = [const { spd::Node::EMPTY }; Index::nodes(CHILDREN)];
        let rules = &*self.rules.write(Index::build(rules, [spd::Slot::EMPTY; CHILDREN], nodes).ok()?);
        let mut outbound = Outbound::new(Packets, &mut [], &mut self.outbound);
        let mut inbound = Inbound::new(Packets, &mut [], &mut self.inbound, self.windows.as_flattened_mut());
        outbound.set_rules(rules).ok()?;
        inbound.set_rules(rules).ok()?;
        let (sent, received) = (&mut self.sent, &mut self.received);
        let node = Node { ike, outbound, inbound, installed: [None; 2 * CHILDREN], sent, received, arrived: 0 };
        Some(self.node.write(node))
    }
}

/// What the parts take in memory, and the whole: with room for one IKE SA and two children, and for their rekeys too.
pub fn sizes() -> [(&'static str, usize); 7] {
    [
        ("static", size_of::<Memory<1, CHILDREN>>()),
        ("static-rekey", size_of::<Memory<2, { 2 * CHILDREN }>>()),
        ("ike", size_of::<IkeSlot<Crypto>>() + IndexBlock::OCTETS_PER_SLOT + 2 * SHORT),
        ("child", size_of::<ChildSlot>() + IndexBlock::OCTETS_PER_SLOT),
        ("outbound", size_of::<OutboundSlot<Packets>>()),
        ("inbound", size_of::<InboundSlot<Packets>>() + size_of::<[u64; WINDOW]>()),
        ("policy", size_of::<spd::Slot>()),
    ]
}

/// Where the left one or the right one is.
pub fn address(left: bool) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(192, 0, 2, if left { 1 } else { 2 }).into(), 500)
}

fn net(left: bool, child: usize) -> AddrRange {
    let first = Ipv4Addr::new(10, if left { 1 } else { 2 }, child as u8, 0);
    AddrRange::prefix(first.into(), 24).unwrap_or(AddrRange::ANY_V4)
}

fn config(left: bool, ike: IkeProposal, esp: EspProposal) -> Config {
    let (ours, theirs) = if left { ("left.example", "right.example") } else { ("right.example", "left.example") };
    let selectors = |left| core::array::from_fn(|child| [TrafficSelector::addrs(net(left, child))]);
    Config {
        path: Path { local: address(left), remote: address(!left) },
        local_id: ours,
        remote_id: theirs,
        ike: [ike],
        esp: [esp],
        local: selectors(left),
        remote: selectors(!left),
    }
}

impl Node {
    /// A datagram for UDP port 500 or 4500.
    pub fn handle(&mut self, now: Instant, path: Path, datagram: &mut [u8]) {
        let _ = self.ike.handle_datagram(now, path, datagram);
        self.follow(now);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        self.ike.handle_timeout(now);
        self.outbound.handle_timeout(now);
        self.inbound.handle_timeout(now);
        self.follow(now);
    }

    /// Child SAs that are installed.
    pub fn children(&self) -> usize {
        self.installed.iter().flatten().count()
    }

    /// Does what IKE tells.
    fn follow(&mut self, now: Instant) {
        while let Some(event) = self.ike.poll_event() {
            match event {
                Event::ChildUp(up) => {
                    let sas = install(&mut self.outbound, &mut self.inbound, now, &up);
                    if let Some((out, into)) = sas
                        && let Some(free) = self.installed.iter_mut().find(|entry| entry.is_none())
                    {
                        *free = Some((up.child, out, into));
                    }
                }
                Event::ChildDown { child, .. } => {
                    let gone = self.installed.iter_mut().find(|entry| entry.is_some_and(|(id, ..)| id == child));
                    if let Some((_, out, into)) = gone.and_then(Option::take) {
                        self.outbound.remove(out);
                        self.inbound.remove(into);
                    }
                }
                _ => {}
            }
        }
        while self.outbound.poll_event().is_some() || self.inbound.poll_event().is_some() {}
    }

    /// Protects a packet; what goes out has its outer headers.
    pub fn send(&mut self, now: Instant, inner: &[u8]) -> Option<&[u8]> {
        let Ok(Verdict::Protect(id)) = self.outbound.classify(now, inner) else { return None };
        let (from, len) = {
            let mut packet = PacketBuf::with_payload(self.sent, inner).ok()?;
            let egress = self.outbound.seal(now, id, &mut packet).ok()?;
            encap::push_outer(&egress, &mut packet).ok()?;
            (packet.headroom(), packet.len())
        };
        self.sent.get(from..from + len)
    }

    /// Takes a packet with its outer headers.
    pub fn receive(&mut self, now: Instant, from: Path, outer: &[u8]) -> Option<()> {
        let room = self.received.get_mut(..outer.len())?;
        room.copy_from_slice(outer);
        let mut packet = PacketBuf::new(self.received, 0, outer.len()).ok()?;
        encap::pop_outer(&mut packet).ok()?;
        self.inbound.open(now, from, Ecn::NotEct, &mut packet).ok()?;
        self.arrived += 1;
        Some(())
    }
}

fn install(outbound: &mut Sending, inbound: &mut Receiving, now: Instant, up: &ChildUp<'_>) -> Option<(SaId, SaId)> {
    let params = |spi, keymat| Params {
        spi,
        mode: Mode::Tunnel,
        protection: up.suite.protection,
        keymat,
        esn: up.suite.esn,
        path: up.path,
        encap: up.encap,
        policy: PolicyId(up.config.0),
        local_ts: up.local,
        remote_ts: up.remote,
        lifetime: Lifetime::default(),
        compression: None,
    };
    let sa = InboundParams { sa: params(up.spi_in, up.key_in), window: 64, highest_seen: 0 };
    let into = inbound.install(now, &sa).ok()?;
    let sa = params(up.spi_out, up.key_out);
    let sa =
        OutboundParams { sa, last_sent: 0, last_number: u64::MAX, copy_dscp: true, dont_fragment: DontFragment::Copy };
    Some((outbound.install(now, &sa).ok()?, into))
}
