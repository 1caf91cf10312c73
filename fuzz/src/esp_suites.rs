//! ESP of every suite in every mode between two engines with real keys: whatever comes, nothing opens but what was sealed, and
//! that once.

use std::convert::Infallible;
use std::net::IpAddr;

use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::ivs::WithIvs;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, CipherAlg, IntegAlg, Protection};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::error::Discard;
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params, SaId};
use ipsec_core::spd::PolicyId;
use ipsec_core::time::Instant;
use rand_core::{TryCryptoRng, TryRng};

use crate::input::Input;

const SPI: u32 = 0x0100_0001;
/// Steps of one input: as many packets as the window remembers, so that none comes too late.
const STEPS: usize = 64;

/// IVs that count, so that an input is always the same.
struct Ivs(u64);

type Engine = WithIvs<RustCrypto, Ivs>;

/// The suites that are built.
pub fn suites() -> Vec<Protection> {
    let aeads = AeadAlg::ALL.iter().map(|alg| Protection::Aead(*alg));
    let implicit = AeadAlg::ALL.iter().filter(|alg| alg.has_implicit_iv()).map(|alg| Protection::ImplicitIv(*alg));
    let of = |cipher: &CipherAlg| IntegAlg::ALL.iter().map(|integ| Protection::CipherMac(*cipher, *integ)).collect();
    let both = CipherAlg::ALL.iter().flat_map::<Vec<_>, _>(of);
    aeads.chain(implicit).chain(both).collect()
}

/// A suite, an octet of choices, the last sequence number so far, and steps: packets to seal, and what arrives.
pub fn run(data: &[u8]) {
    let _packets = opened(data);
}

/// The same. Returns how many packets were opened.
pub fn opened(data: &[u8]) -> usize {
    let mut input = Input::new(data);
    let suites = suites();
    let protection = suites[usize::from(input.octet()) % suites.len()];
    let choices = input.octet();
    let mode = [Mode::Tunnel, Mode::Transport, Mode::Beet, Mode::Tunnel][usize::from(choices) & 3];
    let (esn, encap) = (choices & 0x40 != 0, if choices & 0x80 != 0 { Encap::Udp } else { Encap::None });
    let last = u64::from(input.u32()) << if esn { 8 } else { 0 };
    let mut slots = ([OutboundSlot::<Engine>::EMPTY], [InboundSlot::<Engine>::EMPTY], [0; 1]);
    let mut ends = Ends::new(protection, mode, esn, encap, last, &mut slots);
    let mut sealed: Vec<Sealed> = Vec::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let step = input.octet();
        let mut octets = input.pick(sealed.len()).and_then(|at| sealed.get(at)).map(|of| of.esp.clone());
        match (step % 4, &mut octets) {
            (0, _) => {
                sealed.extend(ends.seal(usize::from(input.u16()) % 1300));
                continue;
            }
            (1, Some(_)) => {}
            (2, Some(octets)) => {
                let at = usize::from(input.u16()) % octets.len();
                octets[at] ^= input.octet();
                match step >> 6 {
                    0 => {}
                    1 => octets.truncate(at),
                    2 => octets.extend(input.take(8)),
                    _ => octets.rotate_left(at),
                }
            }
            // Nothing but SPI and number is right.
            _ => {
                let number = ends.inbound.sas().next().expect("the SA").sequence as u32;
                let len = usize::from(input.u16()) % 200;
                let number = number.wrapping_add(u32::from(step >> 2)).to_be_bytes();
                octets = Some([&SPI.to_be_bytes()[..], &number, input.take(len)].concat());
            }
        }
        ends.receive(&octets.unwrap_or_default(), &mut sealed);
    }
    sealed.iter().filter(|sealed| sealed.opened).count()
}

struct Sealed {
    inner: Vec<u8>,
    esp: Vec<u8>,
    opened: bool,
}

struct Ends<'a> {
    outbound: Outbound<'a, Engine>,
    inbound: Inbound<'a, Engine>,
    sa: SaId,
    path: Path,
    hosts: [IpAddr; 2],
    mode: Mode,
    count: u8,
}

type Slots = ([OutboundSlot<Engine>; 1], [InboundSlot<Engine>; 1], [u64; 1]);

impl<'a> Ends<'a> {
    fn new(protection: Protection, mode: Mode, esn: bool, encap: Encap, last: u64, slots: &'a mut Slots) -> Self {
        let (outer, inner) = ([[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from), [[10, 0, 0, 1], [10, 0, 0, 2]]);
        let hosts = if mode == Mode::Transport { outer } else { inner.map(IpAddr::from) };
        let path = Path { local: (outer[0], 4500).into(), remote: (outer[1], 4500).into() };
        let keymat: Vec<u8> = (0..protection.keymat_len()).map(|place| 0x17 + place as u8).collect();
        let [ours, theirs] = hosts.map(|host| [TrafficSelector::addrs(AddrRange::single(host))]);
        let params = |path, local_ts, remote_ts| Params {
            spi: Spi::new(SPI).expect("not reserved"),
            mode,
            protection,
            keymat: &keymat,
            esn,
            path,
            encap,
            policy: PolicyId(1),
            local_ts,
            remote_ts,
            lifetime: Lifetime::default(),
            compression: None,
        };
        let engine = || WithIvs::new(RustCrypto, Ivs(0));
        let mut outbound = Outbound::new(engine(), &mut [], &mut slots.0);
        let sa = params(path, &ours, &theirs);
        let sa = OutboundParams {
            sa,
            last_sent: last,
            last_number: u64::MAX,
            copy_dscp: false,
            dont_fragment: DontFragment::Clear,
        };
        let id = outbound.install(Instant::ZERO, &sa).expect("a free slot");
        let mut inbound = Inbound::new(engine(), &mut [], &mut slots.1, &mut slots.2);
        let back = Path { local: path.remote, remote: path.local }.carried(encap);
        let sa = InboundParams { sa: params(back, &theirs, &ours), window: 64, highest_seen: last };
        let receiving = inbound.install(Instant::ZERO, &sa).expect("a free slot");
        assert!(inbound.check_checksums(receiving, true), "there is none to be wrong");
        Self { outbound, inbound, sa: id, path: back, hosts, mode, count: 0 }
    }

    /// A packet without checksums behind its header, of which no two are alike. `None`: no number is left.
    fn seal(&mut self, len: usize) -> Option<Sealed> {
        let [IpAddr::V4(source), IpAddr::V4(destination)] = self.hosts else { return None };
        let total = (20 + len as u16).to_be_bytes();
        self.count += 1;
        let header = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 253, 0, 0];
        let inner = [&header[..], &source.octets(), &destination.octets(), &vec![self.count; len]].concat();
        let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
        let mut packet = PacketBuf::with_payload(&mut bytes, &inner).expect("room");
        let sealed = self.outbound.seal(Instant::ZERO, self.sa, &mut packet);
        if sealed == Err(Discard::OutExhausted) || sealed == Err(Discard::OutExpired) {
            return None;
        }
        sealed.expect("a packet between the ends");
        Some(Sealed { inner, esp: packet.as_slice().to_vec(), opened: false })
    }

    fn receive(&mut self, octets: &[u8], sealed: &mut [Sealed]) {
        let counted = |inbound: &Inbound<'_, Engine>| inbound.counters().iter().map(|(_, count)| count).sum::<u64>();
        let before = (counted(&self.inbound), self.inbound.sas().next());
        let mut bytes = vec![0xee; HEADROOM + octets.len() + TAILROOM];
        let mut packet = PacketBuf::with_payload(&mut bytes, octets).expect("room");
        let opened = self.inbound.open(Instant::ZERO, self.path, Ecn::NotEct, &mut packet);
        assert_eq!(counted(&self.inbound), before.0 + u64::from(opened.is_err()), "counted in exactly one place");
        let genuine = sealed.iter_mut().find(|sealed| sealed.esp == octets && !sealed.opened);
        let Some(genuine) = genuine else {
            assert!(opened.is_err(), "opened, and not sealed or opened before");
            assert_eq!(self.inbound.sas().next(), before.1, "the SA noticed what is nobody's");
            return;
        };
        genuine.opened = true;
        opened.unwrap_or_else(|discard| panic!("{discard:?} is what became of a good packet"));
        // A header that is made for a packet says what the SA knows.
        let same = if self.mode == Mode::Tunnel { 0 } else { 12 };
        assert_eq!(packet.len(), genuine.inner.len());
        assert_eq!(packet.as_slice()[same..], genuine.inner[same..], "not what was sealed");
        let outside = bytes.iter().rev().take(TAILROOM).all(|octet| *octet == 0xee);
        assert!(outside, "written to behind the packet");
    }
}

impl TryRng for Ivs {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| number as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 += 1;
        Ok(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn try_fill_bytes(&mut self, octets: &mut [u8]) -> Result<(), Infallible> {
        for chunk in octets.chunks_mut(8) {
            let number = self.try_next_u64()?.to_be_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}

/// For a fuzzer.
impl TryCryptoRng for Ivs {}
