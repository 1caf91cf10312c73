//! Two hosts on a simulated network: one clock, one seed, faults on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ike_core::child::ChildSlot;
use ike_core::endpoint::{Endpoint, IkeSlot, IkeView, IndexBlock, Occupancy, SaState, Settings, Storage};
use ike_core::event::{ChildId, Event, IkeId};
use ike_core::failure::Failure;
use ike_core::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Modes, Pad, PeerId};
use ike_core::proposal::{EspProposal, IkeProposal};
use ike_core::registry::IdKind;
use ike_core::wire::id::Id;
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::net::{AddrRange, Encap, Path, TrafficSelector};
use ipsec_core::sa::Mode;
use ipsec_core::time::Instant;

/// A generator for tests: the same seed, the same run (SplitMix64).
#[derive(Clone)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Takes one of these out, if there is one.
    pub(crate) fn any<T>(&mut self, all: &mut Vec<T>) -> Option<T> {
        (!all.is_empty()).then(|| all.swap_remove(self.below(all.len() as u64) as usize))
    }

    pub(crate) fn of<T, const N: usize>(&mut self, all: [T; N]) -> T {
        self.any(&mut Vec::from(all)).expect("one of several")
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

impl rand_core::TryRng for Seed {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok((self.next() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in out.chunks_mut(8) {
            let octets = self.next().to_le_bytes();
            chunk.copy_from_slice(&octets[..chunk.len()]);
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Seed {}

pub(crate) use crate::engine::Engine;
use crate::signer::Signer;

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

    fn candidate(&self, _: IpAddr, _: IpAddr, after: Option<PeerId>) -> Option<PeerId> {
        let next = after.map_or(0, |after| after.0 + 1);
        ((next as usize) < self.0.len()).then_some(PeerId(next))
    }
}

/// A Child SA as the data plane would hold it.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) config: ChildConfigId,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) key_in: Vec<u8>,
    pub(crate) key_out: Vec<u8>,
    pub(crate) suite: String,
    pub(crate) mode: Mode,
    pub(crate) local: Vec<TrafficSelector>,
    pub(crate) remote: Vec<TrafficSelector>,
    pub(crate) encap: Encap,
    pub(crate) replaces: Option<ChildId>,
}

pub(crate) struct Host {
    pub(crate) endpoint: Endpoint<'static, Engine, Connections>,
    pub(crate) installed: BTreeMap<ChildId, Installed>,
    /// What each child configuration sends through.
    pub(crate) sending: BTreeMap<ChildConfigId, ChildId>,
    pub(crate) story: Vec<String>,
    /// What was told of children that were up before, in this order.
    pub(crate) turns: Vec<(&'static str, ChildId)>,
    pub(crate) failures: Vec<Failure>,
    /// Whose IKE SAs ended: who proved to be there, and who was claimed.
    pub(crate) ended: Vec<[Option<PeerId>; 2]>,
    /// Who the other ends of those said to be.
    pub(crate) claims: Vec<Option<String>>,
    /// What was said in clear, unproven.
    pub(crate) noted: Vec<Failure>,
    /// The IKE SAs that are up as far as the caller was told.
    known: BTreeSet<IkeId>,
    /// The Child SAs that may be sent through.
    pub(crate) ready: BTreeSet<ChildId>,
    pub(crate) signer: Signer,
}

impl Host {
    pub(crate) fn new(seed: u64, peers: Vec<Peer>, settings: Settings) -> Self {
        Self::sized(seed, peers, settings, [12, 16, 1280])
    }

    /// With tables of other sizes: IKE SAs, Child SAs, octets of the longest message. What stays beside an SA is a short one:
    /// of some hosts those of a handshake and more, of others hardly any.
    pub(crate) fn sized(seed: u64, peers: Vec<Peer>, settings: Settings, [sas, children, message]: [usize; 3]) -> Self {
        let short = if seed.is_multiple_of(2) { 512 } else { 160 };
        Self::with_rooms(seed, peers, settings, [sas, children], [short.min(message), message, sas])
    }

    /// With so many octets for each short message and each long one, and so many blocks for pairs of long ones.
    pub(crate) fn with_rooms(
        seed: u64,
        peers: Vec<Peer>,
        settings: Settings,
        [sas, children]: [usize; 2],
        [short, long, blocks]: [usize; 3],
    ) -> Self {
        let storage = Storage {
            sas: (0..sas).map(|_| IkeSlot::default()).collect::<Vec<_>>().leak(),
            children: (0..children).map(|_| ChildSlot::EMPTY).collect::<Vec<_>>().leak(),
            index: (0..IndexBlock::needed(sas, children)).map(|_| IndexBlock::EMPTY).collect::<Vec<_>>().leak(),
            pairs: vec![0; sas * 2 * short].leak(),
            pool: vec![0; blocks * 2 * long].leak(),
            blocks,
        };
        let engine = Engine::new(Seed(seed), Packets);
        let endpoint = Endpoint::new(engine, Connections(peers), storage, settings).unwrap();
        Self {
            endpoint,
            installed: BTreeMap::new(),
            sending: BTreeMap::new(),
            story: Vec::new(),
            turns: Vec::new(),
            failures: Vec::new(),
            ended: Vec::new(),
            claims: Vec::new(),
            noted: Vec::new(),
            known: BTreeSet::new(),
            ready: BTreeSet::new(),
            signer: Signer::default(),
        }
    }

    /// Whatever the endpoint looks up, it finds where its content says.
    pub(crate) fn check(&self) {
        assert_eq!(self.endpoint.check(), Ok(()), "{:?}", self.story);
    }

    pub(crate) fn listen(&mut self) {
        self.check();
        let names: Vec<_> = self.endpoint.pad().0.iter().map(|peer| peer.local_id).collect();
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Asked { wait, peer, wall, question, .. } => {
                    self.signer.hear(names[peer.0 as usize], wait, wall, &question);
                }
                Event::Established { ike, .. } => {
                    assert!(self.known.insert(ike), "{:?}", self.story);
                    self.story.push("established".into());
                }
                Event::IkeRekeyed { old, new, .. } => {
                    assert!(self.known.remove(&old) && self.known.insert(new), "{:?}", self.story);
                    self.story.push("ike rekeyed".into());
                }
                Event::ChildUp(up) => {
                    assert!(self.known.contains(&up.ike), "{:?}", self.story);
                    self.story.push(format!("child {} up", up.config.0));
                    self.installed.insert(
                        up.child,
                        Installed {
                            config: up.config,
                            spi_in: up.spi_in.get(),
                            spi_out: up.spi_out.get(),
                            key_in: up.key_in.to_vec(),
                            key_out: up.key_out.to_vec(),
                            suite: up.suite.to_string(),
                            mode: up.mode,
                            local: up.local.to_vec(),
                            remote: up.remote.to_vec(),
                            encap: up.encap,
                            replaces: up.replaces,
                        },
                    );
                    if up.outbound_ready {
                        self.ready.insert(up.child);
                        self.sending.insert(up.config, up.child);
                    }
                }
                Event::ChildOutbound { child } => {
                    self.turns.push(("outbound", child));
                    self.ready.insert(child);
                    let config = self.installed[&child].config;
                    self.sending.insert(config, child);
                }
                Event::ChildDraining { child } => {
                    self.turns.push(("draining", child));
                    self.ready.remove(&child);
                    let config = self.installed[&child].config;
                    if self.sending.get(&config) == Some(&child) {
                        self.sending.remove(&config);
                    }
                }
                Event::ChildDown { child, config, cause, .. } => {
                    self.turns.push(("down", child));
                    self.ready.remove(&child);
                    self.story.push(format!("child {} down: {cause:?}", config.0));
                    self.installed.remove(&child).expect("a child that was up");
                    if self.sending.get(&config) == Some(&child) {
                        self.sending.remove(&config);
                    }
                }
                Event::ChildFailed { cause, ike, .. } => {
                    assert!(self.known.contains(&ike), "{cause:?} {:?}", self.story);
                    self.story.push(format!("child failed: {cause:?}"));
                    self.failures.push(cause);
                }
                Event::RekeyFailed { cause, ike, .. } => {
                    assert!(self.known.contains(&ike), "{cause:?} {:?}", self.story);
                    self.story.push(format!("rekey failed: {cause:?}"));
                    self.failures.push(cause);
                }
                Event::Unanswered { exchange, ike, .. } if self.known.contains(&ike) => {
                    self.story.push(format!("unanswered {exchange}"))
                }
                Event::Reauthenticate { ike, .. } if self.known.contains(&ike) => {
                    self.story.push("reauthenticate".into())
                }
                Event::Noted { cause, .. } => {
                    self.story.push(format!("noted: {cause:?}"));
                    self.noted.push(cause);
                }
                Event::PathChanged { path, ike } => {
                    assert!(self.known.contains(&ike), "moved to {}: {:?}", path.remote, self.story);
                    self.story.push(format!("moved to {}", path.remote));
                }
                Event::Closed { cause, peer, claimed, identity, ike, established, .. } => {
                    assert_eq!(self.known.remove(&ike), established, "{cause:?}: {:?}", self.story);
                    self.ended.push([peer, claimed]);
                    self.claims.push(identity.map(|id| id.to_string()));
                    self.story.push(format!("closed: {cause:?}"));
                    self.failures.push(cause);
                }
                Event::Refused { cause, .. } => {
                    self.story.push(format!("refused: {cause:?}"));
                    self.failures.push(cause);
                }
                _ => unreachable!("an event that the tests do not know"),
            }
            self.check();
        }
    }

    /// The IKE SA that is in use.
    pub(crate) fn ike(&self) -> Option<IkeView> {
        let mut up = self.endpoint.ike_sas().filter(|sa| sa.state == SaState::Established);
        let ike = up.next();
        assert!(up.next().is_none(), "two IKE SAs are in use");
        ike
    }

    pub(crate) fn ike_id(&self) -> IkeId {
        self.ike().expect("an IKE SA").id
    }
}

/// Every run ends here: the wire is cut, all is closed, and then every slot, key, timer and SPI must be back.
impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut now = Instant::ZERO;
        for round in 0.. {
            assert!(round < 10_000, "the host never comes to rest: {:?}", self.story);
            for ike in self.endpoint.ike_sas().map(|sa| sa.id).collect::<Vec<_>>() {
                let _ = self.endpoint.close(now, ike);
            }
            self.listen();
            while self.endpoint.poll_transmit().is_some() {
                self.check();
            }
            let Some(due) = self.endpoint.poll_timeout() else { break };
            now = now.max(due);
            self.endpoint.handle_timeout(now);
        }
        assert_eq!(self.endpoint.occupancy(), Occupancy::default(), "something was not given back: {:?}", self.story);
        assert!(self.installed.is_empty() && self.sending.is_empty(), "an end was not told: {:?}", self.story);
    }
}

/// What the wire does to datagrams, in percent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplicate: u64,
    pub(crate) reorder: u64,
    pub(crate) corrupt: u64,
}

struct Flight {
    at: Instant,
    to: usize,
    path: Path,
    datagram: Vec<u8>,
}

type Tap = dyn FnMut(usize, &mut Vec<u8>) -> bool;

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) hosts: [Host; 2],
    pub(crate) faults: Faults,
    /// How long a datagram travels.
    pub(crate) delay: Duration,
    pub(crate) seed: Seed,
    flights: Vec<Flight>,
    /// Looks at each datagram before it travels: (from, datagram) → whether it travels.
    pub(crate) tap: Box<Tap>,
    /// Host 0 sits behind a NAT with this public address.
    pub(crate) nat: Option<SocketAddr>,
    /// Host 1 sits behind a NAT with this address that leaves its ports as they are.
    pub(crate) cloud: Option<IpAddr>,
    pub(crate) sent: usize,
}

const DELAY: Duration = Duration::from_millis(10);

impl Network {
    pub(crate) fn new(seed: u64, peers: [Vec<Peer>; 2], settings: Settings) -> Self {
        let [left, right] = peers;
        Self {
            now: Instant::from_millis(1_000_000),
            hosts: [Host::new(seed * 2 + 1, left, settings), Host::new(seed * 2 + 2, right, settings)],
            faults: Faults::default(),
            delay: DELAY,
            seed: Seed(seed ^ 0x5eed),
            flights: Vec::new(),
            tap: Box::new(|_, _| true),
            nat: None,
            cloud: None,
            sent: 0,
        }
    }

    /// Two hosts that fit each other, with an established IKE SA and one child.
    pub(crate) fn connected(seed: u64) -> Self {
        let [left, right] = pair();
        let mut network = Self::new(seed, [vec![left], vec![right]], Settings::default());
        network.connect();
        network
    }

    pub(crate) fn connect(&mut self) {
        self.hosts[0].endpoint.initiate(self.now, PEER, None).unwrap();
        self.run_for(Duration::from_secs(1));
        assert!(self.hosts[0].ike().is_some(), "{:?} {:?}", self.hosts[0].story, self.hosts[1].story);
    }

    /// Puts what the hosts want to send on the wire, and tells them what happened.
    pub(crate) fn settle(&mut self) {
        for from in 0..2 {
            self.hosts[from].listen();
            while let Some(transmit) = self.hosts[from].endpoint.poll_transmit() {
                let (mut path, mut datagram) = (transmit.path, transmit.datagram.to_vec());
                if path.local.port() == 4500 && datagram != [0xff] {
                    assert_eq!(datagram[..4], [0; 4], "no non-ESP marker on port 4500");
                    datagram.drain(..4);
                }
                self.hosts[from].check();
                self.sent += 1;
                if datagram == [0xff] || !(self.tap)(from, &mut datagram) {
                    continue;
                }
                if let Some(public) = self.nat {
                    if from == 0 {
                        path.local = public;
                    } else if path.remote == public {
                        path.remote = SocketAddr::new("192.0.2.1".parse().unwrap(), path.local.port());
                    } else if path.remote.ip() == public.ip() {
                        // No such mapping any more.
                        continue;
                    }
                }
                if let Some(cloud) = self.cloud {
                    match from {
                        0 => path.remote.set_ip("192.0.2.2".parse().unwrap()),
                        _ => path.local.set_ip(cloud),
                    }
                }
                self.fly(1 - from, Path { local: path.remote, remote: path.local }, datagram);
            }
            self.hosts[from].listen();
        }
    }

    /// Puts a datagram on the wire to `to`.
    pub(crate) fn fly(&mut self, to: usize, path: Path, datagram: Vec<u8>) {
        let Faults { loss, duplicate, reorder, corrupt } = self.faults;
        if self.seed.percent(loss) {
            return;
        }
        let copies = if self.seed.percent(duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let mut datagram = datagram.clone();
            if self.seed.percent(corrupt) {
                let at = self.seed.below(datagram.len() as u64) as usize;
                datagram[at] ^= 1 << self.seed.below(8);
            }
            let late = if self.seed.percent(reorder) { self.seed.below(3_000) } else { 0 };
            let at = self.now + self.delay + Duration::from_millis(late);
            self.flights.push(Flight { at, to, path, datagram });
        }
    }

    /// Lets the time pass until the next thing happens, but not beyond `end`. False when `end` is reached.
    pub(crate) fn step(&mut self, end: Instant) -> bool {
        self.settle();
        let landing = self.flights.iter().map(|flight| flight.at).min();
        self.hosts.iter_mut().for_each(|host| host.signer.schedule(self.now));
        let timeouts = self.hosts.iter().filter_map(|host| host.endpoint.poll_timeout());
        let answers = self.hosts.iter().filter_map(|host| host.signer.due());
        let next = timeouts.chain(answers).chain(landing).min().map_or(end, |next| next.max(self.now));
        if next >= end {
            self.now = end;
            return false;
        }
        self.now = next;
        let index = self.flights.iter().position(|flight| flight.at <= next);
        if let Some(index) = index {
            let Flight { to, path, mut datagram, .. } = self.flights.remove(index);
            let _ = self.hosts[to].endpoint.handle_datagram(next, path, &mut datagram);
        }
        for host in &mut self.hosts {
            while let Some(pending) = host.signer.ripe(next) {
                let _ = host.endpoint.answer(next, pending.wait, &pending.said.answer());
                host.listen();
            }
            if host.endpoint.poll_timeout().is_some_and(|due| due <= next) {
                host.endpoint.handle_timeout(next);
                let due = host.endpoint.poll_timeout();
                assert!(due.is_none_or(|due| due > next), "the timeout did not settle what is due");
            }
        }
        true
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while self.step(end) {
            steps += 1;
            assert!(steps < 1_000_000, "the hosts never come to rest");
        }
        self.settle();
    }

    /// Whether what each host sends through is what the other one receives with, right now.
    pub(crate) fn passes(&self) -> bool {
        (0..2).all(|from| {
            let sender = &self.hosts[from];
            !sender.sending.is_empty()
                && sender.sending.values().all(|child| {
                    let ours = &sender.installed[child];
                    self.hosts[1 - from]
                        .installed
                        .values()
                        .any(|theirs| theirs.spi_in == ours.spi_out && theirs.key_in == ours.key_out)
                })
        })
    }

    /// Both ends hold the same IKE SAs and Child SAs, none of them on its way out.
    pub(crate) fn agree(&self) -> Result<(), String> {
        let view = |host: &Host, swap: bool| {
            let mut ikes: Vec<_> = host
                .endpoint
                .ike_sas()
                .map(|sa| {
                    let spis = [sa.spi_local, sa.spi_remote];
                    (if swap { [spis[1], spis[0]] } else { spis }, sa.state == SaState::Established)
                })
                .collect();
            ikes.sort_unstable();
            let mut children: Vec<_> = host
                .installed
                .values()
                .map(|child| if swap { (child.spi_out, child.spi_in) } else { (child.spi_in, child.spi_out) })
                .collect();
            children.sort_unstable();
            (ikes, children)
        };
        let (left, right) = (view(&self.hosts[0], false), view(&self.hosts[1], true));
        if left != right {
            return Err(format!("left {left:x?} right {right:x?}"));
        }
        if left.0.iter().any(|(_, established)| !established) {
            return Err(format!("something is left over: {left:x?}"));
        }
        Ok(())
    }
}
