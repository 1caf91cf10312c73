//! The life of an SA between two engines, with the memory searched for whatever its keys are made of.
//!
//! Not only for the keys as they are: for the blocks and states that HMAC makes of one, and for all in the slots that looks as if
//! it came of a key, in whatever form an engine has it (round keys in their order or its own, masks, multiples of a hash key).

use std::collections::BTreeSet;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::{AeadAlg, CipherAlg, IntegAlg, PacketCrypto, Protection};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params, SaId};
use ipsec_core::spd::{Hits, PolicyId};
use ipsec_core::time::Instant;
use ipsec_core::wipe;
use zeroize::Zeroize;

use super::memory::{self, BEGINNING, MASK, Noted, masked};

/// Octets of the longest keying material.
const KEYMAT: usize = 128;
/// Octets that packets carry: fewer than a batch of blocks of any cipher, and more.
const LENGTHS: [usize; 3] = [8, 300, 1400];

/// Every suite there is.
fn suites() -> impl Iterator<Item = Protection> {
    let aeads = AeadAlg::ALL.iter().map(|alg| Protection::Aead(*alg));
    let implicit = AeadAlg::ALL.iter().filter(|alg| alg.has_implicit_iv()).map(|alg| Protection::ImplicitIv(*alg));
    let pair = |cipher| IntegAlg::ALL.iter().map(move |integ| Protection::CipherMac(cipher, *integ));
    aeads.chain(implicit).chain(CipherAlg::ALL.iter().flat_map(move |cipher| pair(*cipher)))
}

/// Where an engine has the keys of an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// In the slot and nowhere else.
    InSlots,
    /// On the heap, where what is made of them is not searched for.
    #[allow(dead_code, reason = "each engine's test has one of them")]
    Boxed,
}

struct Gateway<P: PacketCrypto + 'static> {
    outbound: Outbound<'static, P>,
    inbound: Inbound<'static, P>,
    keys: Keys,
    /// Where their slots are.
    slots: [Range<u64>; 2],
    /// Made once: it goes into the slots with what was on the stack between its parts.
    path: Path,
    /// What was in them with other keys.
    common: BTreeSet<[u8; BEGINNING]>,
}

fn range<T>(slots: &[T]) -> Range<u64> {
    let range = slots.as_ptr_range();
    range.start as u64..range.end as u64
}

impl<P: PacketCrypto> Gateway<P> {
    fn new(engine: impl Fn() -> P, keys: Keys) -> Self {
        let hits = || vec![Hits::NONE; 4].leak();
        let outbound: &mut [_] = (0..2).map(|_| OutboundSlot::<P>::EMPTY).collect::<Vec<_>>().leak();
        let inbound: &mut [_] = (0..2).map(|_| InboundSlot::<P>::EMPTY).collect::<Vec<_>>().leak();
        let slots = [range(outbound), range(inbound)];
        let outbound = Outbound::new(engine(), hits(), outbound);
        let inbound = Inbound::new(engine(), hits(), inbound, vec![0; 64].leak());
        let path = Path { local: "192.0.2.1:4500".parse().unwrap(), remote: "192.0.2.2:4500".parse().unwrap() };
        Self { outbound, inbound, keys, slots, path, common: BTreeSet::new() }
    }

    /// Both halves; the one that is made last leaves its stack to be searched. The test never holds the key as it is but
    /// while it is handed over. `None`: the engine has no such suite.
    #[inline(never)]
    fn install(&mut self, suite: Protection, hidden: &[u8; KEYMAT], outbound_last: bool) -> Option<(SaId, SaId)> {
        let mut keymat = [0; KEYMAT];
        keymat.iter_mut().zip(hidden).for_each(|(plain, hidden)| *plain = hidden ^ MASK);
        let any = [TrafficSelector::addrs(AddrRange::ANY_V4)];
        let params = |keymat| Params {
            spi: Spi::new(0x1000).unwrap(),
            mode: Mode::Tunnel,
            protection: suite,
            keymat,
            esn: true,
            path: self.path,
            encap: Encap::Udp,
            policy: PolicyId(1),
            local_ts: &any,
            remote_ts: &any,
            lifetime: Lifetime::default(),
            compression: None,
        };
        let used = &keymat[..suite.keymat_len()];
        let inbound = InboundParams { sa: params(used), window: 64, highest_seen: 0 };
        let outbound = OutboundParams {
            sa: params(used),
            last_sent: 0,
            last_number: u64::MAX,
            copy_dscp: true,
            dont_fragment: DontFragment::Copy,
        };
        let mut receiving = None;
        if outbound_last {
            receiving = self.inbound.install(Instant::ZERO, &inbound).ok();
        }
        let sending = self.outbound.install(Instant::ZERO, &outbound).ok();
        let receiving = receiving.or_else(|| self.inbound.install(Instant::ZERO, &inbound).ok());
        keymat.zeroize();
        Some((sending?, receiving?))
    }

    /// A packet that is sealed. What is in clear here is no secret of the SA's.
    fn seal(&mut self, sa: SaId, octets: usize) -> (Vec<u8>, Path) {
        let total = u16::try_from(20 + octets).unwrap().to_be_bytes();
        let header = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let inner = [&header[..], &vec![0; octets]].concat();
        let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
        let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
        let egress = self.outbound.seal(Instant::ZERO, sa, &mut packet).unwrap();
        let path = Path { local: egress.path.remote, remote: egress.path.local };
        (packet.as_slice().to_vec(), path)
    }

    fn open(&mut self, mut sealed: Vec<u8>, path: Path) {
        let len = sealed.len();
        let mut packet = PacketBuf::new(&mut sealed, 0, len).unwrap();
        self.inbound.open(Instant::ZERO, path, Ecn::NotEct, &mut packet).unwrap();
    }

    /// Notes what in the slots seems to come of a key: no small numbers, no addresses (which end with two zeros), and nothing that
    /// was there with other keys.
    fn note_slots(&mut self, noted: &mut Noted<&'static str>) {
        let mut memory = File::open("/proc/self/mem").unwrap();
        for slots in &self.slots {
            let mut content = vec![0; (slots.end - slots.start) as usize];
            memory.seek(SeekFrom::Start(slots.start)).unwrap();
            memory.read_exact(&mut content).unwrap();
            for window in content.windows(BEGINNING).step_by(4) {
                let distinct = window.iter().enumerate().filter(|(at, octet)| !window[..*at].contains(octet)).count();
                let random = distinct >= 12 && !window.windows(2).any(|pair| pair == [0, 0]);
                if random && self.common.insert(masked(window)) {
                    noted.entry(masked(window)).or_insert("made of a key");
                }
            }
            content.zeroize();
        }
    }

    /// Whether a key may be here as long as there is its SA.
    fn holds(&self, at: u64) -> bool {
        let here = 0;
        let on_stack = at.abs_diff(std::ptr::from_ref(black_box(&here)) as u64) < 1 << 20;
        self.slots.iter().any(|slots| slots.contains(&at)) || self.keys == Keys::Boxed && !on_stack
    }
}

/// The beginnings of a suite's keys, and of what HMAC makes of them: both blocks and the states behind those.
#[inline(never)]
fn note_keys(suite: Protection, hidden: &[u8; KEYMAT], noted: &mut Noted<&'static str>) {
    let (encr, integ) = hidden.split_at(suite.encr_key_len());
    if let Some(key) = encr.first_chunk() {
        noted.insert(*key, "cipher key");
    }
    let Protection::CipherMac(_, alg) = suite else { return };
    let integ = &integ[..alg.key_len()];
    let begins: [u8; BEGINNING] = *integ.first_chunk().unwrap();
    noted.insert(begins, "integrity key");
    for pad in [0x36, 0x5c] {
        noted.insert(begins.map(|octet| octet ^ pad), "block of HMAC");
        let mut block = [pad; 128];
        block.iter_mut().zip(integ).for_each(|(octet, hidden)| *octet ^= hidden ^ MASK);
        if let Some(state) = state(alg, &block) {
            noted.insert(state, "state of HMAC");
        }
        block.zeroize();
    }
}

/// The masked beginning of a hash's state behind one block.
fn state(alg: IntegAlg, block: &[u8; 128]) -> Option<[u8; BEGINNING]> {
    macro_rules! after {
        ($compress:path, $block:expr, $initial:expr) => {{
            let mut state = $initial;
            $compress(&mut state, &[$block]);
            let mut octets = state.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
            let begins = masked(&octets);
            octets.zeroize();
            state.zeroize();
            Some(begins)
        }};
    }
    match alg {
        IntegAlg::HmacSha1 => after!(
            sha1::block_api::compress,
            *block.first_chunk().unwrap(),
            [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0_u32]
        ),
        IntegAlg::HmacSha256 => after!(
            sha2::block_api::compress256,
            *block.first_chunk().unwrap(),
            [
                0x6a09_e667,
                0xbb67_ae85,
                0x3c6e_f372,
                0xa54f_f53a,
                0x510e_527f,
                0x9b05_688c,
                0x1f83_d9ab,
                0x5be0_cd19_u32
            ]
        ),
        IntegAlg::HmacSha384 => after!(
            sha2::block_api::compress512,
            *block,
            [
                0xcbbb_9d5d_c105_9ed8,
                0x629a_292a_367c_d507,
                0x9159_015a_3070_dd17,
                0x152f_ecd8_f70e_5939,
                0x6733_2667_ffc0_0b31,
                0x8eb4_4a87_6858_1511,
                0xdb0c_2e0d_64f9_8fa7,
                0x47b5_481d_befa_4fa4_u64
            ]
        ),
        IntegAlg::HmacSha512 => after!(
            sha2::block_api::compress512,
            *block,
            [
                0x6a09_e667_f3bc_c908,
                0xbb67_ae85_84ca_a73b,
                0x3c6e_f372_fe94_f82b,
                0xa54f_f53a_5f1d_36f1,
                0x510e_527f_ade6_82d1,
                0x9b05_688c_2b3e_6c1f,
                0x1f83_d9ab_fb41_bd6b,
                0x5be0_cd19_137e_2179_u64
            ]
        ),
        _ => None,
    }
}

/// What is looked for, and where it may be.
struct Look {
    suite: Protection,
    noted: Noted<&'static str>,
    held: Vec<u64>,
    strays: Vec<String>,
}

impl Look {
    /// Takes note of where it may be from now on, and of where else it is.
    fn made<P: PacketCrypto>(&mut self, gateway: &Gateway<P>) {
        let found = memory::places(&self.noted);
        self.held = found.iter().map(|(_, at, _)| *at).filter(|at| gateway.holds(*at)).collect();
        self.around("when it was made");
    }

    /// Where else it is.
    fn around(&mut self, when: &str) {
        for (kind, at, part) in memory::places(&self.noted) {
            if !self.held.contains(&at) {
                let part = part.split_whitespace().nth(5).unwrap_or("nowhere that has a name");
                self.strays.push(format!("{:?}, {when}: {kind} at {at:#x} in {part}", self.suite));
            }
        }
    }
}

/// Lets an SA come, carry packets and go, and says where something of its keys is that should not be. `None`: the engine has no
/// such suite.
fn life<P: PacketCrypto>(gateway: &mut Gateway<P>, suite: Protection, outbound_last: bool) -> Option<Vec<String>> {
    let mut hidden = [0; KEYMAT];
    File::open("/dev/urandom").unwrap().read_exact(&mut hidden).unwrap();
    let mut look = Look { suite, noted: Noted::new(), held: Vec::new(), strays: Vec::new() };
    note_keys(suite, &hidden, &mut look.noted);
    wipe::stack(1 << 16);
    look.around("before it was there");
    // What a search leaves would be taken along into the slots.
    wipe::stack(1 << 16);
    let (sending, receiving) = gateway.install(suite, &hidden, outbound_last)?;
    look.made(gateway);
    if gateway.keys == Keys::InSlots {
        gateway.note_slots(&mut look.noted);
    }
    look.made(gateway);
    for octets in LENGTHS {
        let (sealed, path) = gateway.seal(sending, octets);
        look.around("after a packet was sealed");
        gateway.open(sealed, path);
        look.around("after a packet was opened");
    }
    assert!(gateway.outbound.remove(sending) && gateway.inbound.remove(receiving));
    look.held.clear();
    look.around("after it");
    Some(look.strays)
}

/// The same with each suite, made in either order.
pub(crate) fn lives<P: PacketCrypto + 'static>(engine: impl Fn() -> P, keys: Keys) {
    let mut gateway = Gateway::new(engine, keys);
    let mut strays = Vec::new();
    for suite in suites() {
        // The first one shows what has nothing to do with its keys.
        for outbound_last in [true, false, true] {
            match life(&mut gateway, suite, outbound_last) {
                Some(found) => strays.extend(found),
                None => strays.push(format!("{suite:?} is not installed")),
            }
        }
    }
    assert!(strays.is_empty(), "{} strays: {strays:#?}", strays.len());
}

/// The search finds what is there, and where it is no longer nothing.
pub(crate) fn finds() {
    let mut planted = vec![0; 36];
    File::open("/dev/urandom").unwrap().read_exact(&mut planted).unwrap();
    let noted = Noted::from([(masked(&planted), ())]);
    // The search reads behind the compiler's back: what nothing else reads might not be written at all.
    black_box(&mut planted);
    assert_eq!(memory::places(&noted).len(), 1);
    planted.as_mut_slice().zeroize();
    assert_eq!(memory::places(&noted).len(), 0);
}
