//! What peers cost while a gateway starts, is looked at and is reloaded: five times as many are to take about five times as
//! long. Then what 10,000 of them take that are configured and idle, with tables as large as the Linux appliance makes them.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gateway_core::config::Config;
use gateway_core::crypto::Boxed;
use gateway_core::gateway::{Gateway, Parts};
use gateway_core::plane::Engines;
use gateway_core::policy::{Inbound, Outbound};
use ike_core::child::ChildSlot;
use ike_core::crypto::rustcrypto::RustCrypto as Ike;
use ike_core::endpoint::{Endpoint, IkeSlot, IndexBlock, ROOM_PER_BLOCK, ROOM_PER_SA, Settings, Storage};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{InboundSlot, OutboundSlot};
use ipsec_core::spd::{Hits, Node, Slot};
use ipsec_core::time::Instant as Tick;

/// Already more than the nearer caches hold: fewer are only faster by that.
const FEW: usize = 4000;
const MANY: usize = 20_000;
/// What the step may cost more than the peers are: caches, and the logarithm of sorting.
const ALLOWANCE: f64 = 2.0;
const ROUNDS: usize = 5;
/// So many are to be started in a second and looked at in a tenth of that, and to take so many octets of memory each.
const PEERS: usize = 10_000;
const START: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);
const OCTETS: usize = 12_000;
/// Words of a replay window of the appliance.
const WINDOW: usize = 64;
/// Blocks for long messages.
const BLOCKS: usize = 128;

/// As the appliance has it.
type Packets = Boxed<RustCrypto>;
const PACKETS: Packets = Boxed(RustCrypto);

/// Nothing is negotiated here.
struct Numbers(u64);

impl rand_core::TryRng for Numbers {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.try_next_u64()? as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(1);
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.fill(self.0 as u8);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Numbers {}

/// Passive peers with an identity, an address and a network each, and one network of ours.
fn text(peers: usize, ours: &str) -> String {
    let mut text = String::new();
    for number in 0..peers {
        let (high, low) = (number / 250, number % 250 + 1);
        write!(
            text,
            "[[peer]]\nname = \"p{number}\"\nlocal = \"192.0.2.1\"\nremote = \"10.200.{high}.{low}\"\nlocal-id = \"me\"\n\
             remote-id = \"p{number}.lab\"\nstart = \"passive\"\npsk = \"a key of more than twenty characters\"\n\
             [[peer.child]]\nname = \"n\"\nlocal-ts = \"{ours}\"\nremote-ts = \"11.{high}.{low}.0/24\"\n"
        )
        .expect("a string");
    }
    text
}

/// So many networks of ours that all reach everything at one peer.
fn crowd(children: usize, ours: u8) -> Config {
    let mut text = text(1, "10.0.0.0/16");
    for number in 0..children {
        let (high, low) = (number / 250, number % 250 + 1);
        write!(
            text,
            "[[peer.child]]\nname = \"c{number}\"\nlocal-ts = \"{ours}.{high}.{low}.0/24\"\nremote-ts = \"0.0.0.0/0\"\n"
        )
        .expect("a string");
    }
    read(&text)
}

fn read(text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|errors| panic!("{}", errors[0])).0
}

const STEPS: [&str; 5] = ["read", "start", "look at all", "reload", "compare"];

/// How many slots the tables have.
#[derive(Clone, Copy)]
struct Room {
    sas: usize,
    children: usize,
    engine: usize,
    rules: usize,
}

impl Room {
    /// As little as will do where nothing is negotiated.
    fn bare(peers: usize) -> Self {
        Self { sas: 8, children: 16, engine: peers, rules: peers }
    }

    /// What the appliance makes of a configuration with so many peers that have a child each.
    fn full(peers: usize) -> Self {
        let children = 256 + 3 * peers + peers.min(256);
        Self { sas: 120 + 2 * peers + peers.min(2048) / 2, children, engine: children, rules: 4096 + 2 * peers }
    }
}

/// Octets of this process that are in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// What each step takes, and how many octets were taken when all were looked at.
fn times(peers: usize, room: Room) -> ([Duration; 5], usize) {
    let before = resident();
    let (now, rules) = (Tick::from_millis(1000), peers);
    let written = text(peers, "10.0.0.0/16");
    let begun = Instant::now();
    let config = read(&written);
    let reading = begun.elapsed();
    drop(written);

    let (mut sas, mut children) = (Vec::new(), Vec::new());
    sas.resize_with(room.sas, IkeSlot::default);
    children.resize_with(room.children, ChildSlot::default);
    let mut index = Vec::new();
    index.resize_with(IndexBlock::needed(sas.len(), children.len()), IndexBlock::default);
    let (mut pairs, mut pool) = (vec![0; room.sas * ROOM_PER_SA], vec![0; BLOCKS * ROOM_PER_BLOCK]);
    let (mut out_rules, mut in_rules) = (vec![Hits::NONE; room.rules], vec![Hits::NONE; room.rules]);
    let (mut out_sas, mut in_sas) = (Vec::new(), Vec::new());
    out_sas.resize_with(room.engine, || OutboundSlot::<Packets>::EMPTY);
    in_sas.resize_with(room.engine, || InboundSlot::<Packets>::EMPTY);
    let mut windows = vec![0; room.engine * WINDOW];
    let begun = Instant::now();
    let (mut gateway, peers) = Gateway::new(config);
    let storage = Storage {
        sas: &mut sas,
        children: &mut children,
        index: &mut index,
        pairs: &mut pairs,
        pool: &mut pool,
        blocks: BLOCKS,
    };
    let crypto = Ike::new(Numbers(1), PACKETS);
    let Ok(mut endpoint) = Endpoint::new(crypto, peers, storage, Settings::default()) else { panic!("no room") };
    let outbound = Outbound::new(PACKETS, &mut out_rules, &mut out_sas);
    let mut plane = Engines::new(outbound, Inbound::new(PACKETS, &mut in_rules, &mut in_sas, &mut windows));
    let mut parts = Parts { endpoint: &mut endpoint, plane: &mut plane };
    gateway.start(now, &mut parts).expect("room for every rule");
    let starting = begun.elapsed();

    let begun = Instant::now();
    assert!(gateway.snapshot(now, &parts).peers.iter().all(|status| status.children.len() == 1));
    let (looking, taken) = (begun.elapsed(), resident().saturating_sub(before));

    let other = read(&text(rules, "10.0.0.0/17"));
    let begun = Instant::now();
    gateway.reload(now, other, &mut parts).1.expect("room for every rule");
    let reloading = begun.elapsed();

    let (old, new) = (crowd(rules, 50), crowd(rules, 51));
    let begun = Instant::now();
    assert_eq!(Config::diff(&old, &new).opened.len(), rules, "all of ours are other networks");
    ([reading, starting, looking, reloading, begun.elapsed()], taken)
}

/// The shortest of several times: what is slower was disturbed.
fn shortest(peers: usize) -> [Duration; 5] {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| times(peers, Room::bare(peers)).0).collect();
    [0, 1, 2, 3, 4].map(|step| rounds.iter().map(|round| round[step]).min().unwrap_or_default())
}

/// Whether something is as small as it is to be.
fn verdict(holds: bool) -> &'static str {
    if holds { "met" } else { "MISSED" }
}

fn main() -> ExitCode {
    // First, while nothing was freed that could be taken again.
    let room = Room::full(PEERS);
    let ([_, starting, looking, reloading, _], taken) = times(PEERS, room);
    let goal = MANY as f64 / FEW as f64 * ALLOWANCE;
    let (few, many) = (shortest(FEW), shortest(MANY));
    println!("{:>12} {:>12} {:>12} {:>7}   goal", "", format!("{FEW} peers"), format!("{MANY} peers"), "ratio");
    let mut met = true;
    for (step, (few, many)) in STEPS.into_iter().zip(few.into_iter().zip(many)) {
        let ratio = many.as_secs_f64() / few.as_secs_f64();
        println!("{step:>12} {few:>12.1?} {many:>12.1?} {ratio:>7.1}   <= {goal:.0} {}", verdict(ratio <= goal));
        met &= ratio <= goal;
    }
    let Room { sas, children, engine, rules } = room;
    println!(
        "\n{PEERS} idle peers, room for {sas} IKE SAs, {children} Child SAs, {engine} SAs and {rules} rules each way"
    );
    println!("{:>12} {starting:>12.1?}   <= {START:.1?} {}", "start", verdict(starting <= START));
    println!("{:>12} {looking:>12.1?}   <= {LOOK:.1?} {}", "look at all", verdict(looking <= LOOK));
    println!("{:>12} {reloading:>12.1?}", "reload");
    let each = taken / PEERS;
    println!("{:>12} {each:>12}   <= {OCTETS} {}", "octets each", verdict(each <= OCTETS));
    met &= starting <= START && looking <= LOOK && each <= OCTETS;
    for (what, octets) in [
        ("IKE SAs", sas * size_of::<IkeSlot<Ike<Numbers, Packets>>>()),
        ("Child SAs", children * size_of::<ChildSlot>()),
        ("index", (sas + children) * IndexBlock::OCTETS_PER_SLOT),
        ("engines", engine * (size_of::<OutboundSlot<Packets>>() + size_of::<InboundSlot<Packets>>())),
        ("rules", PEERS * (2 * size_of::<Slot>() + size_of::<Node>()) + 2 * rules * size_of::<Hits>()),
    ] {
        println!("{what:>12} {:>12} of them", octets / PEERS);
    }
    // What lies in a slot where SAs are not on the heap.
    let [ike, out, inbound] = [
        size_of::<IkeSlot<Ike<Numbers, RustCrypto>>>(),
        size_of::<OutboundSlot<RustCrypto>>(),
        size_of::<InboundSlot<RustCrypto>>(),
    ];
    println!("{:>12} {:>12} once it is up, with one child", "more", ike + out + inbound);
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
