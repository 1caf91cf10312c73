//! What peers cost while a gateway starts and is reloaded: five times as many are to take about five times as long.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gateway_core::config::Config;
use gateway_core::gateway::{Gateway, Parts};
use gateway_core::plane::Engines;
use ike_core::child::ChildSlot;
use ike_core::crypto::rustcrypto::RustCrypto as Ike;
use ike_core::endpoint::{Endpoint, IkeSlot, Settings, Storage};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::spd;
use ipsec_core::time::Instant as Tick;

/// Already more than the nearer caches hold: fewer are only faster by that.
const FEW: usize = 4000;
const MANY: usize = 20_000;
/// What the step may cost more than the peers are: caches, and the logarithm of sorting.
const ALLOWANCE: f64 = 2.0;
const ROUNDS: usize = 5;

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

/// What each step takes.
fn times(peers: usize) -> [Duration; 5] {
    let (now, rules) = (Tick::from_millis(1000), peers);
    let (text, other) = (text(peers, "10.0.0.0/16"), text(peers, "10.0.0.0/17"));
    let begun = Instant::now();
    let config = read(&text);
    let reading = begun.elapsed();

    let other = read(&other);
    let (mut sas, mut children) = (Vec::new(), Vec::new());
    sas.resize_with(8, IkeSlot::default);
    children.resize_with(16, ChildSlot::default);
    let mut messages = vec![0; 8 * 4096];
    let (mut out_rules, mut in_rules) = (vec![spd::Slot::EMPTY; peers], vec![spd::Slot::EMPTY; peers]);
    let (mut out_sas, mut in_sas) = (Vec::new(), Vec::new());
    out_sas.resize_with(peers, || OutboundSlot::<RustCrypto>::EMPTY);
    in_sas.resize_with(peers, || InboundSlot::<RustCrypto>::EMPTY);
    let begun = Instant::now();
    let (mut gateway, peers) = Gateway::new(config);
    let storage = Storage { sas: &mut sas, children: &mut children, messages: &mut messages };
    let crypto = Ike::new(Numbers(1), RustCrypto);
    let Ok(mut endpoint) = Endpoint::new(crypto, peers, storage, Settings::default()) else { panic!("no room") };
    let outbound = Outbound::new(RustCrypto, &mut out_rules, &mut out_sas);
    let mut plane = Engines::new(outbound, Inbound::new(RustCrypto, &mut in_rules, &mut in_sas, &mut []));
    let mut parts = Parts { endpoint: &mut endpoint, plane: &mut plane };
    gateway.start(now, &mut parts).expect("room for every rule");
    let starting = begun.elapsed();

    let begun = Instant::now();
    assert!(gateway.snapshot(now, &parts).peers.iter().all(|status| status.children.len() == 1));
    let looking = begun.elapsed();

    let begun = Instant::now();
    gateway.reload(now, other, &mut parts).1.expect("room for every rule");
    let reloading = begun.elapsed();

    let (old, new) = (crowd(rules, 50), crowd(rules, 51));
    let begun = Instant::now();
    assert_eq!(Config::diff(&old, &new).opened.len(), rules, "all of ours are other networks");
    [reading, starting, looking, reloading, begun.elapsed()]
}

/// The shortest of several times: what is slower was disturbed.
fn shortest(peers: usize) -> [Duration; 5] {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| times(peers)).collect();
    [0, 1, 2, 3, 4].map(|step| rounds.iter().map(|round| round[step]).min().unwrap_or_default())
}

fn main() -> ExitCode {
    let goal = MANY as f64 / FEW as f64 * ALLOWANCE;
    let (few, many) = (shortest(FEW), shortest(MANY));
    println!("{:>12} {:>12} {:>12} {:>7}   goal", "", format!("{FEW} peers"), format!("{MANY} peers"), "ratio");
    let mut met = true;
    for (step, (few, many)) in STEPS.into_iter().zip(few.into_iter().zip(many)) {
        let ratio = many.as_secs_f64() / few.as_secs_f64();
        let verdict = if ratio <= goal { "met" } else { "MISSED" };
        println!("{step:>12} {few:>12.1?} {many:>12.1?} {ratio:>7.1}   <= {goal:.0} {verdict}");
        met &= ratio <= goal;
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
