//! What IKE costs a host with 10, with 1,000 and with 10,000 established SAs: `cargo bench -p ike-core --bench scale`.
//!
//! The hosts stand side by side and are measured in turn, so that what disturbs one disturbs the others. Only the host is
//! timed, not its peers. Of each figure the shortest of several rounds counts; a round goes through SAs all over the table
//! ("each in turn"), or always takes the same one ("the same one").
//!
//! Where each SA has its turn, what a host with 10 SAs has in the nearest cache has to be fetched where there are 10,000,
//! whatever the tables are like: the SA's own keys, state and messages. What that costs is measured, too: on a host with 10 SAs
//! ("10 cold") the caches are swept before each turn, and warmed again, but for the SA whose turn it is, with the turn of
//! another. What is swept out of the nearest caches is still in the last one, and the few SAs lie on neighbouring pages, so
//! that is not all. Therefore the last column says how many fetches of a line of memory, one after the other, the difference
//! between the most SAs and the fewest comes to, of which each takes what it takes in a chase through as much memory.
//!
//! With a number of SAs in the environment variable `COUNTED` nothing is timed: each step is done once, in [`row`], and what it is
//! about in [`counted`], for a tool that counts the instructions in there (`cargo xtask bench ike --scale` runs one).

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rand_core::TryRng as _;

use ike_core::child::ChildSlot;
use ike_core::crypto::rustcrypto::RustCrypto;
use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, ROOM_PER_BLOCK, ROOM_PER_SA, Settings, Storage};
use ike_core::event::{ChildId, Event, IkeId};
use ike_core::pad::{Authentication, ChildConfig, ChildConfigId, Connection, Initiator, Modes, Pad, PeerId};
use ike_core::proposal::{EspProposal, IkeProposal};
use ike_core::registry::IdKind;
use ike_core::wire::id::Id;
use ipsec_core::crypto::rustcrypto::RustCrypto as Packets;
use ipsec_core::net::{AddrRange, Path, TrafficSelector};
use ipsec_core::time::Instant as Tick;

const SIZES: [usize; 3] = [10, 1_000, 10_000];
/// How much more a figure may be with the most SAs than with the fewest.
const GOAL: f64 = 1.3;
const ROUNDS: usize = 15;
/// How often a round does the same, each time on another SA where there are as many.
const BATCH: usize = 64;
/// The same where the caches are swept each time.
const COLD_BATCH: usize = 16;
/// Steps of a chase in a round.
const FETCHES: usize = 20_000;
/// Octets that sweep the caches of a core, and what it remembers of where pages lie.
const SWEEP: usize = 16 << 20;
/// Octets that the processor fetches at once.
const LINE: usize = 64;
const HUB: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 500);
const BLOCKS: usize = 64;

/// A generator for measurements: SplitMix64.
struct Numbers(u64);

impl rand_core::TryRng for Numbers {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(z ^ (z >> 31))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in out.chunks_mut(8) {
            let octets = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&octets[..chunk.len()]);
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Numbers {}

type Engine = RustCrypto<Numbers, Packets>;

/// The connections of the hub, one with each peer, or those of all peers with the hub.
struct Star {
    is_hub: bool,
    names: Vec<String>,
    ike: Vec<IkeProposal>,
    esp: Vec<EspProposal>,
    networks: [[TrafficSelector; 1]; 2],
}

fn address(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number as u32))
}

fn number(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(ip) => (ip.to_bits() & 0x00ff_ffff) as usize,
        IpAddr::V6(_) => usize::MAX,
    }
}

impl Star {
    fn new(is_hub: bool, peers: usize) -> Self {
        let network = |text: &str| {
            [TrafficSelector::addrs(AddrRange::prefix(text.parse().expect("an address"), 16).expect("16"))]
        };
        let mut networks = [network("10.1.0.0"), network("10.2.0.0")];
        if !is_hub {
            networks.reverse();
        }
        Self {
            is_hub,
            names: (0..peers).map(|number| format!("p{number}.example")).collect(),
            ike: vec![IkeProposal::default()],
            esp: vec![EspProposal::parse("aes256gcm16").expect("a proposal")],
            networks,
        }
    }
}

impl Pad for Star {
    fn connection(&self, peer: PeerId) -> Option<Connection<'_>> {
        let name = Id { kind: IdKind::FQDN, data: self.names.get(peer.0 as usize)?.as_bytes() };
        let hub = Id { kind: IdKind::FQDN, data: b"hub.example" };
        let there = SocketAddr::new(address(peer.0 as usize), 500);
        let (local, remote, local_id, remote_id, dpd) = match self.is_hub {
            true => (HUB, there, hub, name, Duration::from_secs(1_000)),
            false => (there, HUB, name, hub, Duration::ZERO),
        };
        Some(Connection {
            path: Some(Path { local, remote }),
            local_id,
            remote_id: Some(remote_id),
            auth: Authentication::Psk(b"correct horse battery staple"),
            ike: &self.ike,
            force_encap: false,
            dpd,
            rekey: Duration::ZERO,
        })
    }

    fn child(&self, _: PeerId, index: usize) -> Option<ChildConfig<'_>> {
        let [local, remote] = &self.networks;
        (index == 0).then_some(ChildConfig {
            id: ChildConfigId(0),
            modes: Modes::Tunnel,
            esp: &self.esp,
            local,
            remote,
            rekey: Duration::ZERO,
            lifetime: Duration::ZERO,
            compress: false,
        })
    }

    fn candidate(&self, initiator: &Initiator<'_>, after: Option<PeerId>) -> Option<PeerId> {
        let number = number(if self.is_hub { initiator.remote } else { initiator.local });
        (after.is_none() && number < self.names.len()).then_some(PeerId(number as u32))
    }
}

/// The hub, or all its peers.
struct Side {
    endpoint: Endpoint<'static, Engine, Star>,
    ikes: Vec<Option<IkeId>>,
    children: Vec<Option<ChildId>>,
    /// What it wants to send.
    out: Vec<(Path, Vec<u8>)>,
    /// What its calls took.
    took: Duration,
}

impl Side {
    fn new(is_hub: bool, peers: usize) -> Self {
        let (slots, children) = (peers + 32, peers + 32 + 4 * BATCH);
        let blocks = IndexBlock::needed(slots, children);
        let storage = Storage {
            sas: (0..slots).map(|_| IkeSlot::default()).collect::<Vec<_>>().leak(),
            children: (0..children).map(|_| ChildSlot::EMPTY).collect::<Vec<_>>().leak(),
            index: (0..blocks).map(|_| IndexBlock::EMPTY).collect::<Vec<_>>().leak(),
            pairs: vec![0; slots * ROOM_PER_SA].leak(),
            pool: vec![0; BLOCKS * ROOM_PER_BLOCK].leak(),
            blocks: BLOCKS,
        };
        let engine = RustCrypto::new(Numbers(u64::from(is_hub)), Packets);
        let endpoint = Endpoint::new(engine, Star::new(is_hub, peers), storage, Settings::default()).expect("room");
        Self { endpoint, ikes: vec![None; peers], children: vec![None; peers], out: Vec::new(), took: Duration::ZERO }
    }

    fn timed<R>(&mut self, call: impl FnOnce(&mut Endpoint<'static, Engine, Star>) -> R) -> R {
        let begun = Instant::now();
        let made = call(&mut self.endpoint);
        self.took += begun.elapsed();
        made
    }

    /// What a caller does after each call.
    fn drain(&mut self) {
        let begun = Instant::now();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let path = Path { local: transmit.path.remote, remote: transmit.path.local };
            self.out.push((path, transmit.datagram.to_vec()));
        }
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Established { ike, peer } => self.ikes[peer.0 as usize] = Some(ike),
                Event::ChildUp(up) => self.children[up.peer.0 as usize] = Some(up.child),
                _ => {}
            }
        }
        black_box(self.endpoint.poll_timeout());
        self.took += begun.elapsed();
    }

    fn receive(&mut self, now: Tick, datagrams: Vec<(Path, Vec<u8>)>) {
        for (path, mut datagram) in datagrams {
            let _ = self.timed(|endpoint| endpoint.handle_datagram(now, path, &mut datagram));
            self.drain();
        }
    }
}

struct World {
    now: Tick,
    hub: Side,
    peers: Side,
    len: usize,
    turn: usize,
    /// What the caches are swept with before each turn; empty where they are not.
    sweep: Vec<u8>,
}

impl World {
    fn new(len: usize, sweep: usize) -> Self {
        let now = Tick::from_millis(1_000);
        let (hub, peers) = (Side::new(true, len), Side::new(false, len));
        let mut world = Self { now, hub, peers, len, turn: 0, sweep: vec![1; sweep] };
        for number in 0..len {
            world.pass(10);
            world.peers.endpoint.initiate(world.now, PeerId(number as u32), None).expect("room");
            world.exchange();
        }
        assert!(world.hub.children.iter().all(Option::is_some), "all are connected");
        // What the peers asked for is settled now.
        world.rest();
        world
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    /// Time for what waits for some seconds.
    fn rest(&mut self) {
        self.pass(11_000);
        for side in [&mut self.hub, &mut self.peers] {
            side.endpoint.handle_timeout(self.now);
            side.drain();
        }
        self.exchange();
    }

    /// Until nobody has anything to say.
    fn exchange(&mut self) {
        self.peers.drain();
        self.hub.drain();
        while !(self.hub.out.is_empty() && self.peers.out.is_empty()) {
            self.hub.receive(self.now, std::mem::take(&mut self.peers.out));
            self.peers.receive(self.now, std::mem::take(&mut self.hub.out));
        }
    }

    /// The next peer, all over the table.
    fn next(&mut self, step: usize) -> usize {
        self.turn = (self.turn + step) % self.len;
        self.turn
    }

    /// What the hub took for one of `times`.
    fn measure(&mut self, times: usize, mut act: impl FnMut(&mut Self)) -> f64 {
        let cold = !self.sweep.is_empty();
        let times = if cold { times.min(COLD_BATCH) } else { times };
        let mut took = Duration::ZERO;
        for _ in 0..times {
            if cold {
                black_box(self.sweep.iter().step_by(64).fold(0u8, |sum, octet| sum.wrapping_add(*octet)));
                self.pass(1);
                act(self);
            }
            self.pass(1);
            self.hub.took = Duration::ZERO;
            counted(self, &mut act);
            took += self.hub.took;
        }
        took.as_nanos() as f64 / times as f64
    }

    /// A peer asks for a sign of life.
    fn answer(&mut self, step: usize) -> f64 {
        self.measure(BATCH, |world| {
            let peer = world.next(step);
            let ike = world.peers.ikes[peer].expect("connected");
            world.peers.endpoint.check_liveness(world.now, ike).expect("established");
            world.exchange();
        })
    }

    /// The hub asks for a sign of life, and gets it.
    fn ask(&mut self, step: usize) -> f64 {
        self.measure(BATCH, |world| {
            let (peer, now) = (world.next(step), world.now);
            let ike = world.hub.ikes[peer].expect("connected");
            world.hub.timed(|endpoint| endpoint.check_liveness(now, ike)).expect("established");
            world.exchange();
        })
    }

    /// The hub rekeys a Child SA and deletes the old one.
    fn rekey(&mut self) -> f64 {
        let taken = self.measure(BATCH, |world| {
            let (peer, now) = (world.next(7919), world.now);
            let child = world.hub.children[peer].expect("connected");
            world.hub.timed(|endpoint| endpoint.rekey_child(now, child)).expect("up");
            world.exchange();
            assert_ne!(world.hub.children[peer], Some(child), "it was replaced");
        });
        self.rest();
        taken
    }

    /// A peer has lost everything and connects anew.
    fn connect(&mut self) -> f64 {
        let taken = self.measure(8, |world| {
            let peer = world.next(7919);
            let ike = world.peers.ikes[peer].expect("connected");
            world.peers.endpoint.abandon(world.now, ike, ike_core::failure::Failure::ClosedHere).expect("established");
            world.peers.drain();
            world.peers.endpoint.initiate(world.now, PeerId(peer as u32), None).expect("room");
            world.exchange();
        });
        self.rest();
        taken
    }

    /// What is due first, and nothing else.
    fn tick(&mut self) -> f64 {
        self.measure(BATCH, |world| {
            let due = world.hub.endpoint.poll_timeout().expect("a liveness check");
            world.now = world.now.max(due);
            world.hub.timed(|endpoint| endpoint.handle_timeout(due));
            world.hub.drain();
            let took = world.hub.took;
            assert_eq!(world.hub.out.len(), 1, "one thing was due");
            world.exchange();
            world.hub.took = took;
        })
    }

    /// A datagram that proves nothing.
    fn claim(&mut self, make: impl Fn(usize) -> Vec<u8>) -> f64 {
        self.measure(BATCH, |world| {
            let peer = world.next(7919);
            let path = Path { local: HUB, remote: SocketAddr::new(address(peer), 4_000) };
            world.hub.receive(world.now, vec![(path, make(peer))]);
            world.hub.out.clear();
        })
    }

    /// A request that was changed on its way.
    fn forged(&mut self) -> f64 {
        self.measure(BATCH, |world| {
            let peer = world.next(7919);
            let ike = world.peers.ikes[peer].expect("connected");
            world.peers.endpoint.check_liveness(world.now, ike).expect("established");
            world.peers.drain();
            let mut changed = world.peers.out.clone();
            changed.iter_mut().flat_map(|(_, datagram)| datagram.last_mut()).for_each(|last| *last ^= 1);
            world.hub.receive(world.now, changed);
            let took = world.hub.took;
            assert!(world.hub.out.is_empty(), "nothing is said to it");
            world.exchange();
            world.hub.took = took;
        })
    }

    fn idle(&mut self) -> f64 {
        self.measure(BATCH, |world| world.hub.drain())
    }

    fn look(&mut self) -> f64 {
        self.measure(BATCH, |world| {
            let peer = world.next(7919);
            let (ike, child) = (world.hub.ikes[peer].expect("connected"), world.hub.children[peer].expect("connected"));
            world.hub.timed(|endpoint| {
                let spi = endpoint.child_sa(child).map(|view| view.spi_in.get());
                black_box((endpoint.ike_sa(ike), spi.map(|spi| endpoint.meaning_of(spi)), endpoint.offers()));
                black_box(endpoint.occupancy())
            });
        })
    }
}

/// A notification in clear for SPIs that belong to no SA.
fn notification(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x11; 16];
    datagram.extend([41, 0x20, 37, 0x08, 0, 0, 0, 0]);
    datagram.extend((28 + 8 + data.len() as u32).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend((8 + data.len() as u16).to_be_bytes());
    datagram.extend([3, 0]);
    datagram.extend(kind.to_be_bytes());
    datagram.extend(data);
    datagram
}

/// Memory in which each line names the next one to look at, all over it.
struct Chase {
    lines: Vec<[u32; LINE / 4]>,
    at: u32,
}

impl Chase {
    fn new(octets: usize) -> Self {
        let mut order: Vec<u32> = (0..(octets / LINE) as u32).collect();
        let mut numbers = Numbers(0);
        for last in (1..order.len()).rev() {
            let Ok(number) = numbers.try_next_u64();
            order.swap(last, number as usize % (last + 1));
        }
        let mut lines = vec![[0; LINE / 4]; order.len()];
        for (at, line) in order.iter().enumerate() {
            lines[*line as usize][0] = order[(at + 1) % order.len()];
        }
        Self { lines, at: 0 }
    }

    /// What one step takes, in nanoseconds.
    fn step(&mut self) -> f64 {
        let begun = Instant::now();
        for _ in 0..FETCHES {
            self.at = self.lines[self.at as usize][0];
        }
        black_box(self.at);
        begun.elapsed().as_nanos() as f64 / FETCHES as f64
    }
}

/// What is done here counts: the work of both sides, and of the network between them.
#[inline(never)]
fn counted(world: &mut World, act: &mut dyn FnMut(&mut World)) {
    act(black_box(world));
}

/// One step is done here.
#[inline(never)]
fn row((name, step): Step, world: &mut World) {
    println!("{name}");
    black_box(step(world));
}

type Step = (&'static str, fn(&mut World) -> f64);

const STEPS: [Step; 11] = [
    ("liveness answered, the same one", |world| world.answer(0)),
    ("liveness answered, each in turn", |world| world.answer(7919)),
    ("liveness asked for, the same one", |world| world.ask(0)),
    ("liveness asked for, each in turn", |world| world.ask(7919)),
    ("message with a wrong tag", World::forged),
    ("claim in clear (INVALID_SPI)", |world| world.claim(|peer| notification(11, &(peer as u32 + 256).to_be_bytes()))),
    ("child rekey and delete", World::rekey),
    ("connection made anew", World::connect),
    ("timer tick, one thing due", World::tick),
    ("idle round of poll_*", World::idle),
    ("lookups", World::look),
];

/// Octets of this process that are in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn main() -> ExitCode {
    if let Ok(len) = std::env::var("COUNTED") {
        let mut world = World::new(len.parse().expect("a number"), 0);
        STEPS.into_iter().for_each(|step| row(step, &mut world));
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let few = World::new(SIZES[0], 0);
    let cold = World::new(SIZES[0], SWEEP);
    let some = World::new(SIZES[1], 0);
    let before = resident();
    let many = World::new(SIZES[2], 0);
    let each = (resident() - before) / (2 * SIZES[2]);
    let mut chases = SIZES.map(|len| Chase::new(2 * each * len));
    let mut fetch = [f64::INFINITY; SIZES.len()];
    let mut worlds = [few, cold, some, many];
    println!("{:.1?} to connect everybody", begun.elapsed());
    let (ike, child, index) = (size_of::<IkeSlot<Engine>>(), size_of::<ChildSlot>(), IndexBlock::OCTETS_PER_SLOT);
    println!("octets of a slot: {ike} for an IKE SA, {child} for a Child SA, {index} more in the index for either");
    println!("octets in memory for an IKE SA with its Child SA and {ROOM_PER_SA} octets for its messages: {each}");
    let mut best = [[f64::INFINITY; 4]; STEPS.len()];
    for _ in 0..ROUNDS {
        for (best, chase) in fetch.iter_mut().zip(&mut chases) {
            *best = best.min(chase.step());
        }
        for (best, (_, step)) in best.iter_mut().zip(STEPS) {
            for (best, world) in best.iter_mut().zip(&mut worlds) {
                *best = best.min(step(world));
            }
        }
    }
    for side in worlds.iter().flat_map(|world| [&world.hub, &world.peers]) {
        assert_eq!(side.endpoint.check(), Ok(()));
    }
    let [near, between, far] = fetch;
    println!(
        "to fetch a line of as much memory as both sides have with {SIZES:?} SAs: {near:.0}, {between:.0}, {far:.0} ns"
    );
    println!(
        "{:>34} {:>8} {:>8} {:>8} {:>8} {:>10} {:>8}         goal {:>8}",
        "ns", SIZES[0], "10 cold", SIZES[1], SIZES[2], "over cold", "growth", "fetches"
    );
    let mut met = true;
    for ((name, _), [few, cold, some, many]) in STEPS.into_iter().zip(best) {
        // Where nothing is cold, sweeping shows nothing.
        let (growth, over) = (many / few, many / cold.max(few));
        let verdict = if growth <= GOAL { "met" } else { "MISSED" };
        let fetches = (many - few).max(0.0) / (far - near);
        println!(
            "{name:>34} {few:>8.0} {cold:>8.0} {some:>8.0} {many:>8.0} {over:>10.2} {growth:>8.2} <= {GOAL} {verdict:>6} \
             {fetches:>8.1}"
        );
        met &= growth <= GOAL;
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
