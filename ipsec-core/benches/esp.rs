//! ESP against the bare AEAD call of the same provider, in the same run, interleaved:
//! `cargo bench -p ipsec-core --bench esp`.
//!
//! `seal` is policy lookup, choice of the SA, sequence number, trailer, AEAD and header; `open` is SA lookup, replay
//! window, AEAD, trailer and selectors. It is compared with two bare calls: over the very octets that ESP encrypts, with
//! trailer and 12 octets of associated data (`ratio`, for which there are goals: what ESP adds to the AEAD call it makes),
//! and over the octets of the inner packet alone (`inner`, which also pays for the trailer). Times are hints; the ratios
//! count.
//!
//! What ESP adds is measured by itself too, with an engine that encrypts nothing: policy and choice of the SA (`classify`),
//! and the rest of it (`frame`). What both and the AEAD call do not come to is what each costs the other: instructions that
//! no longer overlap, and octets that were written shortly before they are read.

use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params, SaId};
use ipsec_core::spd::{Action, Hits, Index, PolicyId, Rule, RuleId, Selector, Slot};
use ipsec_core::time::Instant as Tick;
use std::hint::black_box;
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

/// Nanoseconds a packet in one round, of `seal` and of `open`.
struct Round {
    /// The AEAD over the inner packet alone.
    inner: [f64; 2],
    /// The AEAD over the octets that ESP encrypts.
    same: [f64; 2],
    esp: [f64; 2],
    /// ESP without the AEAD call, and of that what is done before the SA is known.
    bare: [f64; 2],
    classify: [f64; 2],
}

/// Encrypts nothing, so that what is left can be measured.
struct Nothing;

impl PacketCrypto for Nothing {
    type AeadKey = ();
    type Place<T> = InPlace<T>;

    fn aead_key(&mut self, _: AeadAlg, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn seal(&mut self, (): &(), nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        black_box((nonce, aad, text_and_tag));
    }

    fn open(&mut self, (): &(), nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        black_box((nonce, aad, text_and_tag));
        Ok(())
    }
}

/// What the engines of two sites with one SA lie in.
struct Memory<P: PacketCrypto> {
    hits: [[Hits; 4]; 2],
    sas: [OutboundSlot<P>; 4],
    peers: [InboundSlot<P>; 4],
    windows: [u64; 4 * 16],
    rules: [Slot; 4],
}

impl<P: PacketCrypto> Memory<P> {
    fn new() -> Self {
        Self {
            hits: [[Hits::NONE; 4]; 2],
            sas: [const { OutboundSlot::<P>::EMPTY }; 4],
            peers: [const { InboundSlot::<P>::EMPTY }; 4],
            windows: [0; 4 * 16],
            rules: [Slot::EMPTY; 4],
        }
    }
}

/// The sending and the receiving end.
struct Ends<'a, P: PacketCrypto> {
    outbound: Outbound<'a, P>,
    inbound: Inbound<'a, P>,
    path: Path,
}

impl<'a, P: PacketCrypto> Ends<'a, P> {
    fn new(crypto: fn() -> P, alg: AeadAlg, memory: &'a mut Memory<P>) -> Self {
        let (site_a, site_b) = ("10.1.0.0".parse().unwrap(), "10.2.0.0".parse().unwrap());
        let (site_a, site_b) = (AddrRange::prefix(site_a, 16).unwrap(), AddrRange::prefix(site_b, 16).unwrap());
        let (ts_a, ts_b) = ([TrafficSelector::addrs(site_a)], [TrafficSelector::addrs(site_b)]);
        let path = Path { local: "192.0.2.2:4500".parse().unwrap(), remote: "192.0.2.1:4500".parse().unwrap() };
        let params = |path, local_ts, remote_ts| Params {
            spi: Spi::new(0x1000).unwrap(),
            mode: Mode::Tunnel,
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
        let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(PolicyId(1)) };

        let [hits, more_hits] = &mut memory.hits;
        let mut outbound = Outbound::new(crypto(), hits, &mut memory.sas);
        outbound.set_rules(Index::build([rule], &mut memory.rules[..], &mut [][..]).unwrap()).unwrap();
        let there = Path { local: path.remote, remote: path.local };
        let sa = params(there, &ts_a, &ts_b);
        let sa = OutboundParams { sa, last_sent: 0, copy_dscp: true, dont_fragment: DontFragment::Copy };
        outbound.install(Tick::ZERO, &sa).unwrap();

        let mut inbound = Inbound::new(crypto(), more_hits, &mut memory.peers, &mut memory.windows);
        let sa = InboundParams { sa: params(path, &ts_b, &ts_a), window: 1024, highest_seen: 0 };
        inbound.install(Tick::ZERO, &sa).unwrap();
        Self { outbound, inbound, path }
    }

    #[inline(always)]
    fn classify(&mut self, packet: &[u8]) -> SaId {
        let Ok(Verdict::Protect(sa)) = self.outbound.classify(Tick::ZERO, packet) else { panic!("no SA") };
        sa
    }

    #[inline(always)]
    fn seal(&mut self, buffer: &mut [u8], size: usize) {
        let mut packet = PacketBuf::new(buffer, HEADROOM, size).expect("room");
        let sa = self.classify(packet.as_slice());
        self.outbound.seal(Tick::ZERO, sa, &mut packet).expect("sealed");
    }

    #[inline(always)]
    fn open(&mut self, buffer: &mut [u8], size: usize) {
        let mut packet = PacketBuf::new(buffer, HEADROOM - 16, 16 + encrypted(size) + 16).expect("room");
        self.inbound.open(Tick::ZERO, self.path, Ecn::NotEct, &mut packet).expect("opened");
        assert_eq!(packet.len(), size);
    }
}

/// Octets that ESP encrypts of a packet.
fn encrypted(size: usize) -> usize {
    size + (size + 2).wrapping_neg() % 4 + 2
}

struct Bench<'a> {
    size: usize,
    buffers: Vec<Vec<u8>>,
    esp: Ends<'a, RustCrypto>,
    bare: Ends<'a, Nothing>,
    key: <RustCrypto as PacketCrypto>::AeadKey,
    counter: u64,
}

impl Bench<'_> {
    #[inline(always)]
    fn timed(&mut self, mut call: impl FnMut(&mut Self, usize)) -> f64 {
        let started = Instant::now();
        for index in 0..self.buffers.len() {
            call(self, index);
        }
        started.elapsed().as_nanos() as f64 / self.buffers.len() as f64
    }

    fn inner_packets(&mut self) {
        let size = self.size;
        for buffer in &mut self.buffers {
            let inner = &mut buffer[HEADROOM..HEADROOM + size];
            inner[..HEADER.len()].copy_from_slice(&HEADER);
            inner[2..4].copy_from_slice(&(size as u16).to_be_bytes());
        }
    }

    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        nonce
    }

    fn aead(&mut self, text_len: usize, aad: &[u8]) -> [f64; 2] {
        let window = HEADROOM..HEADROOM + text_len + 16;
        let first = self.counter;
        let seal = self.timed(|bench, index| {
            let nonce = Self::nonce(bench.counter);
            bench.counter += 1;
            RustCrypto.seal(&bench.key, &nonce, aad, &mut bench.buffers[index][window.clone()]);
        });
        self.counter = first;
        let open = self.timed(|bench, index| {
            let nonce = Self::nonce(bench.counter);
            bench.counter += 1;
            RustCrypto.open(&bench.key, &nonce, aad, &mut bench.buffers[index][window.clone()]).expect("bare open");
        });
        [seal, open]
    }

    fn round(&mut self) -> Round {
        let size = self.size;
        let inner = self.aead(size, &[0; 8]);
        let same = self.aead(encrypted(size), &[0; 12]);

        self.inner_packets();
        let sealed = self.timed(|bench, index| bench.esp.seal(&mut bench.buffers[index], size));
        let opened = self.timed(|bench, index| bench.esp.open(&mut bench.buffers[index], size));

        self.inner_packets();
        let classified = self.timed(|bench, index| {
            black_box(bench.bare.classify(&bench.buffers[index][HEADROOM..HEADROOM + size]));
        });
        let bare_sealed = self.timed(|bench, index| bench.bare.seal(&mut bench.buffers[index], size));
        let bare_opened = self.timed(|bench, index| bench.bare.open(&mut bench.buffers[index], size));
        Round { inner, same, esp: [sealed, opened], bare: [bare_sealed, bare_opened], classify: [classified, 0.0] }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(call: usize, size: usize, rounds: &[Round]) -> bool {
    let of = |value: fn(&Round) -> [f64; 2]| median(rounds.iter().map(|round| value(round)[call]).collect());
    let ratio =
        |bare: fn(&Round) -> [f64; 2]| median(rounds.iter().map(|round| round.esp[call] / bare(round)[call]).collect());
    let (same, inner) = (ratio(|round| round.same), ratio(|round| round.inner));
    let met = goal(size).is_none_or(|goal| same <= goal);
    let verdict = match goal(size) {
        None => String::from("-"),
        Some(goal) if met => format!("<= {goal:.2} met"),
        Some(goal) => format!("<= {goal:.2} MISSED"),
    };
    let name = ["seal", "open"][call];
    let (bare, bare_inner, esp) = (of(|round| round.same), of(|round| round.inner), of(|round| round.esp));
    let classify = of(|round| round.classify);
    let frame = of(|round| round.bare) - classify;
    println!(
        "{size:>6} {name:>6} {bare_inner:>9.1} {bare:>9.1} {esp:>9.1} {classify:>9.1} {frame:>9.1} {inner:>8.3} {same:>8.3}   \
         {verdict}"
    );
    met
}

fn measure(alg: AeadAlg, size: usize) -> bool {
    let (mut memory, mut bare) = (Memory::new(), Memory::new());
    let (esp, bare) = (Ends::new(|| RustCrypto, alg, &mut memory), Ends::new(|| Nothing, alg, &mut bare));
    let key = RustCrypto.aead_key(alg, &KEYMAT[..alg.key_len()]).unwrap();
    let buffers = vec![vec![0x42; HEADROOM + size + TAILROOM]; BATCH_OCTETS / (HEADROOM + size + TAILROOM)];
    let mut bench = Bench { size, buffers, esp, bare, key, counter: 0 };
    let repeat = |bench: &mut Bench<'_>| {
        // Several batches a round, so that a round takes long enough for the clock.
        let rounds: Vec<Round> = (0..5).map(|_| bench.round()).collect();
        let of = |value: fn(&Round) -> [f64; 2]| {
            [0, 1].map(|call| median(rounds.iter().map(|round| value(round)[call]).collect()))
        };
        Round {
            inner: of(|round| round.inner),
            same: of(|round| round.same),
            esp: of(|round| round.esp),
            bare: of(|round| round.bare),
            classify: of(|round| round.classify),
        }
    };
    repeat(&mut bench);
    let rounds: Vec<Round> = (0..ROUNDS).map(|_| repeat(&mut bench)).collect();
    // Both, so that both lines are printed.
    [0, 1].map(|call| report(call, size, &rounds)) == [true; 2]
}

fn main() {
    let mut met = true;
    for alg in [AeadAlg::Aes128Gcm16, AeadAlg::Aes256Gcm16] {
        println!("{alg:?}, RustCrypto, medians of {ROUNDS} interleaved rounds");
        println!(
            "{:>6} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}   goal",
            "octets", "", "inner ns", "AEAD ns", "ESP ns", "classify", "frame", "inner", "ratio"
        );
        for size in SIZES {
            met &= measure(alg, size);
        }
    }
    println!("goals {}", if met { "met" } else { "missed" });
}
