//! ESP against the bare calls of the same engine, in the same run, interleaved, for both engines and the suites that matter:
//! `cargo bench -p ipsec-aws-lc --bench esp`.
//!
//! `seal` is policy lookup, choice of the SA, sequence number, trailer, encryption and header; `open` is SA lookup, replay
//! window, decryption, trailer and selectors. It is compared with two bare calls: over the very octets that ESP encrypts, with
//! trailer and 12 octets of associated data (`ratio`, for which there are goals: what ESP adds to the call it makes),
//! and over the octets of the inner packet alone (`inner`, which also pays for the trailer). Times are hints; the ratios
//! count. `other` is ESP by the other engine over ESP by this one.
//!
//! What ESP adds is measured by itself too, with an engine that encrypts nothing: policy and choice of the SA (`classify`),
//! and the rest of it (`frame`). What both and the bare call do not come to is what each costs the other: instructions that
//! no longer overlap, and octets that were written shortly before they are read.

use chacha20::ChaCha20Rng;
use ipsec_aws_lc::AwsLc;
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::ivs::WithIvs;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, CipherAlg, Forged, InPlace, IntegAlg, PacketCrypto, Protection, Purpose, verify};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params, SaId};
use ipsec_core::spd::{Action, Hits, Index, PolicyId, Rule, RuleId, Selector, Slot};
use ipsec_core::time::Instant as Tick;
use ipsec_core::transform::Layout;
use rand_core::SeedableRng;
use std::hint::black_box;
use std::time::Instant;

const SIZES: [usize; 4] = [64, 576, 1400, 8900];
const ROUNDS: usize = 21;
/// Octets a round goes through, so that the buffers of a batch stay in the second-level cache.
const BATCH_OCTETS: usize = 128 * 1024;
const KEYMAT: [u8; 64] = [0x5a; 64];
const SUITES: [Protection; 4] = [
    Protection::Aead(AeadAlg::Aes128Gcm16),
    Protection::Aead(AeadAlg::Aes256Gcm16),
    Protection::Aead(AeadAlg::ChaCha20Poly1305),
    Protection::CipherMac(CipherAlg::Aes128Cbc, IntegAlg::HmacSha256),
];
const HEADER: [u8; 28] = [
    0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9, // IPv4, UDP
    0x13, 0x88, 0x13, 0x89, 0, 0, 0, 0,
];

/// Goals are set for AEADs.
fn goal(suite: Protection, size: usize) -> Option<f64> {
    match (suite, size) {
        (Protection::CipherMac(..), _) => None,
        (_, 64) => Some(1.35),
        (_, 1400) => Some(1.08),
        _ => None,
    }
}

/// Nanoseconds a packet in one round, of `seal` and of `open`.
struct Round {
    /// The bare call over the inner packet alone.
    inner: [f64; 2],
    /// The bare call over the octets that ESP encrypts.
    same: [f64; 2],
    esp: [f64; 2],
    /// ESP without encryption, and of that what is done before the SA is known.
    bare: [f64; 2],
    classify: [f64; 2],
}

/// Encrypts nothing, so that what is left can be measured.
struct Nothing;

impl PacketCrypto for Nothing {
    type AeadKey = ();
    type Place<T> = InPlace<T>;
    ipsec_core::aead_only!();

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
    fn new(crypto: fn() -> P, suite: Protection, memory: &'a mut Memory<P>) -> Self {
        let (site_a, site_b) = ("10.1.0.0".parse().unwrap(), "10.2.0.0".parse().unwrap());
        let (site_a, site_b) = (AddrRange::prefix(site_a, 16).unwrap(), AddrRange::prefix(site_b, 16).unwrap());
        let (ts_a, ts_b) = ([TrafficSelector::addrs(site_a)], [TrafficSelector::addrs(site_b)]);
        let path = Path { local: "192.0.2.2:4500".parse().unwrap(), remote: "192.0.2.1:4500".parse().unwrap() };
        let params = |path, local_ts, remote_ts| Params {
            spi: Spi::new(0x1000).unwrap(),
            mode: Mode::Tunnel,
            protection: suite,
            keymat: &KEYMAT[..suite.keymat_len()],
            esn: true,
            path,
            encap: Encap::Udp,
            policy: PolicyId(1),
            local_ts,
            remote_ts,
            lifetime: Lifetime::default(),
            compression: None,
        };
        let selector = Selector::between(site_a, site_b);
        let rule = Rule { id: RuleId(1), priority: 1, selector, action: Action::protect(PolicyId(1)) };

        let [hits, more_hits] = &mut memory.hits;
        let mut outbound = Outbound::new(crypto(), hits, &mut memory.sas);
        outbound.set_rules(Index::build([rule], &mut memory.rules[..], &mut [][..]).unwrap()).unwrap();
        let there = Path { local: path.remote, remote: path.local };
        let sa = params(there, &ts_a, &ts_b);
        let sa = OutboundParams {
            sa,
            last_sent: 0,
            last_number: u64::MAX,
            copy_dscp: true,
            dont_fragment: DontFragment::Copy,
        };
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
    fn open(&mut self, buffer: &mut [u8], layout: &Layout, size: usize) {
        let sealed = layout.headroom() + encrypted(layout, size) + usize::from(layout.icv_len);
        let mut packet = PacketBuf::new(buffer, HEADROOM - layout.headroom(), sealed).expect("room");
        self.inbound.open(Tick::ZERO, self.path, Ecn::NotEct, &mut packet).expect("opened");
        assert_eq!(packet.len(), size);
    }
}

/// Octets that ESP encrypts of a packet.
fn encrypted(layout: &Layout, size: usize) -> usize {
    (size + 2).next_multiple_of(layout.align.into())
}

/// The keys of bare calls.
enum Bare<P: PacketCrypto> {
    Aead(P::AeadKey),
    CipherMac([P::CipherKey; 2], IntegAlg, P::IntegKey),
}

impl<P: PacketCrypto> Bare<P> {
    fn new(crypto: &mut P, suite: Protection) -> Self {
        match suite {
            Protection::Aead(alg) | Protection::ImplicitIv(alg) => {
                Self::Aead(crypto.aead_key(alg, &KEYMAT[..alg.key_len()]).expect("a key"))
            }
            Protection::CipherMac(cipher, integ) => {
                let keys = [Purpose::Encrypt, Purpose::Decrypt]
                    .map(|purpose| crypto.cipher_key(cipher, purpose, &KEYMAT[..cipher.key_len()]).expect("a key"));
                Self::CipherMac(keys, integ, crypto.integ_key(integ, &KEYMAT[..integ.key_len()]).expect("a key"))
            }
        }
    }

    #[inline(always)]
    fn seal(&self, crypto: &mut P, number: u64, aad: &[u8], text_and_icv: &mut [u8], icv_len: usize) {
        match self {
            Self::Aead(key) => crypto.seal(key, &nonce(number), aad, text_and_icv),
            Self::CipherMac([key, _], _, integ) => {
                let (text, icv) = text_and_icv.split_at_mut(text_and_icv.len() - icv_len);
                let mut iv = [0; 16];
                crypto.iv(&mut iv).expect("a generator");
                crypto.encrypt(key, &iv, text);
                crypto.icv(integ, &[aad, text], icv);
            }
        }
    }

    #[inline(always)]
    fn open(&self, crypto: &mut P, number: u64, aad: &[u8], text_and_icv: &mut [u8], icv_len: usize) {
        match self {
            Self::Aead(key) => crypto.open(key, &nonce(number), aad, text_and_icv).expect("bare open"),
            Self::CipherMac([_, key], alg, integ) => {
                let (text, icv) = text_and_icv.split_at_mut(text_and_icv.len() - icv_len);
                verify(crypto, *alg, integ, &[aad, text], icv).expect("bare open");
                crypto.decrypt(key, &[0; 16], text);
            }
        }
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

struct Bench<'a, P: PacketCrypto> {
    size: usize,
    layout: Layout,
    buffers: Vec<Vec<u8>>,
    crypto: P,
    keys: Bare<P>,
    esp: Ends<'a, P>,
    bare: Ends<'a, Nothing>,
    counter: u64,
}

impl<P: PacketCrypto> Bench<'_, P> {
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

    fn calls(&mut self, text_len: usize, aad: &[u8]) -> [f64; 2] {
        let icv_len = usize::from(self.layout.icv_len);
        let window = HEADROOM..HEADROOM + text_len + icv_len;
        let first = self.counter;
        let seal = self.timed(|bench, index| {
            let text = &mut bench.buffers[index][window.clone()];
            bench.keys.seal(&mut bench.crypto, bench.counter, aad, text, icv_len);
            bench.counter += 1;
        });
        self.counter = first;
        let open = self.timed(|bench, index| {
            let text = &mut bench.buffers[index][window.clone()];
            bench.keys.open(&mut bench.crypto, bench.counter, aad, text, icv_len);
            bench.counter += 1;
        });
        [seal, open]
    }
}

/// One engine with one suite and one size.
trait Measured {
    fn round(&mut self) -> Round;
}

impl<P: PacketCrypto> Measured for Bench<'_, P> {
    fn round(&mut self) -> Round {
        let (size, layout) = (self.size, self.layout);
        // A cipher with blocks takes whole ones.
        let whole = size.next_multiple_of(if layout.align == 4 { 1 } else { layout.align.into() });
        let inner = self.calls(whole, &[0; 8]);
        let same = self.calls(encrypted(&layout, size), &[0; 12]);

        self.inner_packets();
        let sealed = self.timed(|bench, index| bench.esp.seal(&mut bench.buffers[index], size));
        let opened = self.timed(|bench, index| bench.esp.open(&mut bench.buffers[index], &layout, size));

        // The engine that encrypts nothing has an AEAD's layout.
        let aead = Layout::of(BARE);
        self.inner_packets();
        let classified = self.timed(|bench, index| {
            black_box(bench.bare.classify(&bench.buffers[index][HEADROOM..HEADROOM + size]));
        });
        let bare_sealed = self.timed(|bench, index| bench.bare.seal(&mut bench.buffers[index], size));
        let bare_opened = self.timed(|bench, index| bench.bare.open(&mut bench.buffers[index], &aead, size));
        Round { inner, same, esp: [sealed, opened], bare: [bare_sealed, bare_opened], classify: [classified, 0.0] }
    }
}

/// Several batches a round, so that a round takes long enough for the clock.
fn repeated(bench: &mut dyn Measured) -> Round {
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
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(suite: Protection, call: usize, size: usize, rounds: &[Round], other: &[Round]) -> bool {
    let of = |value: fn(&Round) -> [f64; 2]| median(rounds.iter().map(|round| value(round)[call]).collect());
    let ratio =
        |bare: fn(&Round) -> [f64; 2]| median(rounds.iter().map(|round| round.esp[call] / bare(round)[call]).collect());
    let (same, inner) = (ratio(|round| round.same), ratio(|round| round.inner));
    let other = median(other.iter().zip(rounds).map(|(other, round)| other.esp[call] / round.esp[call]).collect());
    let met = goal(suite, size).is_none_or(|goal| same <= goal);
    let verdict = match goal(suite, size) {
        None => String::from("-"),
        Some(goal) if met => format!("<= {goal:.2} met"),
        Some(goal) => format!("<= {goal:.2} MISSED"),
    };
    let name = ["seal", "open"][call];
    let (bare, bare_inner, esp) = (of(|round| round.same), of(|round| round.inner), of(|round| round.esp));
    let classify = of(|round| round.classify);
    let frame = of(|round| round.bare) - classify;
    println!(
        "{size:>6} {name:>6} {bare_inner:>9.1} {bare:>9.1} {esp:>9.1} {classify:>9.1} {frame:>9.1} {inner:>8.3} {other:>8.2}          {same:>8.3}   {verdict}"
    );
    met
}

/// The engine that encrypts nothing offers this.
const BARE: Protection = Protection::Aead(AeadAlg::Aes128Gcm16);

fn bench<'a, P: PacketCrypto>(
    engine: fn() -> P,
    suite: Protection,
    size: usize,
    memory: &'a mut Memory<P>,
    bare: &'a mut Memory<Nothing>,
) -> Bench<'a, P> {
    let room = HEADROOM + size + TAILROOM;
    let mut crypto = engine();
    Bench {
        size,
        layout: Layout::of(suite),
        buffers: vec![vec![0x42; room]; BATCH_OCTETS / room],
        keys: Bare::new(&mut crypto, suite),
        crypto,
        esp: Ends::new(engine, suite, memory),
        bare: Ends::new(|| Nothing, BARE, bare),
        counter: 0,
    }
}

fn portable() -> WithIvs<RustCrypto, ChaCha20Rng> {
    WithIvs::new(RustCrypto, ChaCha20Rng::from_seed([7; 32]))
}

fn aws_lc() -> WithIvs<AwsLc, ChaCha20Rng> {
    WithIvs::new(AwsLc, ChaCha20Rng::from_seed([7; 32]))
}

/// Both engines in turn. What each came to, by size.
fn measure(suite: Protection, size: usize) -> [Vec<Round>; 2] {
    let (mut memory, mut bare) = (Memory::new(), Memory::new());
    let (mut other, mut other_bare) = (Memory::new(), Memory::new());
    let mut one = bench(portable, suite, size, &mut memory, &mut bare);
    let mut two = bench(aws_lc, suite, size, &mut other, &mut other_bare);
    let mut rounds = [Vec::new(), Vec::new()];
    let both: [&mut dyn Measured; 2] = [&mut one, &mut two];
    let both = both.map(|bench| {
        repeated(bench);
        bench
    });
    let [one, two] = both;
    for _ in 0..ROUNDS {
        rounds[0].push(repeated(one));
        rounds[1].push(repeated(two));
    }
    rounds
}

fn main() {
    let mut met = true;
    for suite in SUITES {
        let measured = SIZES.map(|size| measure(suite, size));
        for (engine, name) in ["RustCrypto", "AWS-LC"].into_iter().enumerate() {
            println!("{suite:?}, {name}, medians of {ROUNDS} interleaved rounds");
            println!(
                "{:>6} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8}   goal",
                "octets", "", "inner ns", "bare ns", "ESP ns", "classify", "frame", "inner", "other", "ratio"
            );
            for (size, rounds) in SIZES.into_iter().zip(&measured) {
                let [ours, other] = [&rounds[engine], &rounds[1 - engine]];
                for call in [0, 1] {
                    met &= report(suite, call, size, ours, other);
                }
            }
        }
    }
    println!("goals {}", if met { "met" } else { "missed" });
}
