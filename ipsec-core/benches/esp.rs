//! ESP against the bare AEAD call of the same provider, in the same run, interleaved:
//! `cargo bench -p ipsec-core --bench esp`.
//!
//! `seal` is policy lookup, choice of the SA, sequence number, trailer, AEAD and header; `open` is SA lookup, replay
//! window, AEAD, trailer and selectors. The bare call encrypts or decrypts as many octets as the inner packet has.
//! Times are hints; the ratios count.

use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, PacketCrypto};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, OutboundParams, Params};
use ipsec_core::spd::{self, Action, PolicyId, Rule, RuleId, Selector};
use ipsec_core::time::Instant as Tick;
use std::time::Instant;

const SIZES: [usize; 4] = [64, 576, 1400, 8900];
const ROUNDS: usize = 41;
/// Octets a round goes through, so that the buffers of a batch stay in the second-level cache.
const BATCH_OCTETS: usize = 128 * 1024;
const KEYMAT: [u8; 36] = [0x5a; 36];
const HEADER: [u8; 28] = [
    0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9, // IPv4, UDP
    0x13, 0x88, 0x13, 0x89, 0, 0, 0, 0,
];

fn goal(size: usize) -> Option<f64> {
    match size {
        64 => Some(1.35),
        1400 => Some(1.08),
        _ => None,
    }
}

/// Nanoseconds a packet for each of the four calls, in one round.
struct Round {
    bare_seal: f64,
    esp_seal: f64,
    bare_open: f64,
    esp_open: f64,
}

struct Bench<'a> {
    size: usize,
    buffers: Vec<Vec<u8>>,
    outbound: Outbound<'a, RustCrypto>,
    inbound: Inbound<'a, RustCrypto>,
    path: Path,
    key: <RustCrypto as PacketCrypto>::AeadKey,
    counter: u64,
}

impl Bench<'_> {
    fn timed(&mut self, mut call: impl FnMut(&mut Self, usize)) -> f64 {
        let started = Instant::now();
        for index in 0..self.buffers.len() {
            call(self, index);
        }
        started.elapsed().as_nanos() as f64 / self.buffers.len() as f64
    }

    fn inner_packet(&mut self, index: usize) {
        let size = self.size;
        if let Some(inner) = self.buffers.get_mut(index).and_then(|bytes| bytes.get_mut(HEADROOM..HEADROOM + size)) {
            inner[..HEADER.len()].copy_from_slice(&HEADER);
            inner[2..4].copy_from_slice(&(size as u16).to_be_bytes());
        }
    }

    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        nonce
    }

    fn round(&mut self) -> Round {
        let (size, path) = (self.size, self.path);
        let first = self.counter;
        let bare_seal = self.timed(|bench, index| {
            let nonce = Self::nonce(bench.counter);
            bench.counter += 1;
            let text_and_tag = &mut bench.buffers[index][HEADROOM..HEADROOM + size + 16];
            RustCrypto.seal(&bench.key, &nonce, &[0; 8], text_and_tag);
        });
        self.counter = first;
        let bare_open = self.timed(|bench, index| {
            let nonce = Self::nonce(bench.counter);
            bench.counter += 1;
            let text_and_tag = &mut bench.buffers[index][HEADROOM..HEADROOM + size + 16];
            RustCrypto.open(&bench.key, &nonce, &[0; 8], text_and_tag).expect("bare open");
        });

        (0..self.buffers.len()).for_each(|index| self.inner_packet(index));
        let esp_seal = self.timed(|bench, index| {
            let mut packet = PacketBuf::new(&mut bench.buffers[index], HEADROOM, size).expect("room");
            let Ok(Verdict::Protect(sa)) = bench.outbound.classify(packet.as_slice()) else { panic!("no SA") };
            bench.outbound.seal(Tick::ZERO, sa, &mut packet).expect("sealed");
        });
        let pad = (size + 2).wrapping_neg() % 4;
        let esp_len = 16 + size + pad + 2 + 16;
        let esp_open = self.timed(|bench, index| {
            let mut packet = PacketBuf::new(&mut bench.buffers[index], HEADROOM - 16, esp_len).expect("room");
            bench.inbound.open(Tick::ZERO, path, Ecn::NotEct, &mut packet).expect("opened");
            assert_eq!(packet.len(), size);
        });
        Round { bare_seal, esp_seal, bare_open, esp_open }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(call: &str, size: usize, rounds: &[Round], bare: fn(&Round) -> f64, esp: fn(&Round) -> f64) -> bool {
    let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let ratio = median(rounds.iter().map(|round| esp(round) / bare(round)).collect());
    let met = goal(size).is_none_or(|goal| ratio <= goal);
    let verdict = match goal(size) {
        None => String::from("-"),
        Some(goal) if met => format!("<= {goal:.2} met"),
        Some(goal) => format!("<= {goal:.2} MISSED"),
    };
    println!("{size:>6} {call:>6} {:>12.1} {:>12.1} {ratio:>8.3}   {verdict}", of(bare), of(esp));
    met
}

fn measure(alg: AeadAlg, size: usize) -> bool {
    let (site_a, site_b) = ("10.1.0.0".parse().unwrap(), "10.2.0.0".parse().unwrap());
    let (site_a, site_b) = (AddrRange::prefix(site_a, 16).unwrap(), AddrRange::prefix(site_b, 16).unwrap());
    let (ts_a, ts_b) = ([TrafficSelector::addrs(site_a)], [TrafficSelector::addrs(site_b)]);
    let path = Path { local: "192.0.2.2:4500".parse().unwrap(), remote: "192.0.2.1:4500".parse().unwrap() };
    let params = |path, local_ts, remote_ts| Params {
        spi: Spi::new(0x1000).unwrap(),
        alg,
        keymat: &KEYMAT[..alg.key_len() + 4],
        esn: true,
        path,
        encap: Encap::Udp,
        policy: PolicyId(1),
        local_ts,
        remote_ts,
        lifetime: Lifetime::default(),
    };
    let selector = Selector::between(site_a, site_b);
    let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::Protect(PolicyId(1)) };

    let (mut rules, mut sas) = ([spd::Slot::EMPTY; 4], [const { OutboundSlot::<RustCrypto>::EMPTY }; 4]);
    let mut outbound = Outbound::new(RustCrypto, &mut rules, &mut sas);
    outbound.insert_rule(rule).unwrap();
    let there = Path { local: path.remote, remote: path.local };
    let sa = params(there, &ts_a, &ts_b);
    let sa = OutboundParams { sa, last_sent: 0, copy_dscp: true, dont_fragment: DontFragment::Copy };
    outbound.install(Tick::ZERO, &sa).unwrap();

    let (mut rules, mut sas) = ([spd::Slot::EMPTY; 4], [const { InboundSlot::<RustCrypto>::EMPTY }; 4]);
    let mut windows = [0; 4 * 16];
    let mut inbound = Inbound::new(RustCrypto, &mut rules, &mut sas, &mut windows);
    let sa = InboundParams { sa: params(path, &ts_b, &ts_a), window: 1024, highest_seen: 0 };
    inbound.install(Tick::ZERO, &sa).unwrap();

    let key = RustCrypto.aead_key(alg, &KEYMAT[..alg.key_len()]).unwrap();
    let buffers = vec![vec![0x42; HEADROOM + size + TAILROOM]; BATCH_OCTETS / (HEADROOM + size + TAILROOM)];
    let mut bench = Bench { size, buffers, outbound, inbound, path, key, counter: 0 };
    let repeat = |bench: &mut Bench<'_>| {
        // Several batches a round, so that a round takes long enough for the clock.
        let rounds: Vec<Round> = (0..5).map(|_| bench.round()).collect();
        Round {
            bare_seal: median(rounds.iter().map(|round| round.bare_seal).collect()),
            esp_seal: median(rounds.iter().map(|round| round.esp_seal).collect()),
            bare_open: median(rounds.iter().map(|round| round.bare_open).collect()),
            esp_open: median(rounds.iter().map(|round| round.esp_open).collect()),
        }
    };
    repeat(&mut bench);
    let rounds: Vec<Round> = (0..ROUNDS).map(|_| repeat(&mut bench)).collect();
    let seal = report("seal", size, &rounds, |round| round.bare_seal, |round| round.esp_seal);
    let open = report("open", size, &rounds, |round| round.bare_open, |round| round.esp_open);
    seal && open
}

fn main() {
    let mut met = true;
    for alg in [AeadAlg::Aes128Gcm16, AeadAlg::Aes256Gcm16] {
        println!("{alg:?}, RustCrypto, medians of {ROUNDS} interleaved rounds");
        println!("{:>6} {:>6} {:>12} {:>12} {:>8}   goal", "octets", "", "AEAD ns", "ESP ns", "ratio");
        for size in SIZES {
            met &= measure(alg, size);
        }
    }
    println!("goals {}", if met { "met" } else { "missed" });
}
