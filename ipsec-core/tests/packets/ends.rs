//! Two ends of an SA, and inner packets to send between them.

use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::ivs::WithIvs;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, CipherAlg, Iv, PacketCrypto, Protection, Purpose};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Ingress, Outbound, OutboundSlot};
use ipsec_core::error::{Discard, Refused};
use ipsec_core::net::{AddrRange, Cpi, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::{Action, Hits, Index, Node, PolicyId, Rule, RuleId, Selector, Slot};
use ipsec_core::time::Instant;
use ipsec_core::wire::cursor::Writer;
use ipsec_core::wire::{ipv4, ipv6};
use std::net::IpAddr;

pub(crate) type Rules = Index<Vec<Slot>, Vec<Node>>;
/// The default one, with IVs that can be foreseen.
pub(crate) type Engine = WithIvs<RustCrypto, Rng>;
pub(crate) type Out = Outbound<'static, Engine, Rules>;
pub(crate) type In = Inbound<'static, Engine, Rules>;

pub(crate) const ENGINE: Engine = WithIvs::new(RustCrypto, Rng(1));

pub(crate) const NOW: Instant = Instant::from_millis(1_000_000);
pub(crate) const POLICY: PolicyId = PolicyId(7);
pub(crate) const KEYMAT: [u8; 36] = [0x5a; 36];

/// An outbound engine with `sas` slots; its tables live as long as the test process.
pub(crate) fn outbound(sas: usize) -> Out {
    let hits = Box::leak(vec![Hits::NONE; 16].into_boxed_slice());
    let sas: Vec<OutboundSlot<Engine>> = (0..sas).map(|_| OutboundSlot::<Engine>::EMPTY).collect();
    Outbound::new(ENGINE, hits, Box::leak(sas.into_boxed_slice()))
}

/// An inbound engine with `sas` slots and 64 words of replay window each.
pub(crate) fn inbound(sas: usize) -> In {
    let hits = Box::leak(vec![Hits::NONE; 16].into_boxed_slice());
    let windows = Box::leak(vec![0; sas * 64].into_boxed_slice());
    let sas: Vec<InboundSlot<Engine>> = (0..sas).map(|_| InboundSlot::<Engine>::EMPTY).collect();
    Inbound::new(ENGINE, hits, Box::leak(sas.into_boxed_slice()), windows)
}

/// An index of rules in memory of its own.
pub(crate) fn index(rules: &[Rule]) -> Result<Rules, Refused> {
    let nodes = vec![Node::EMPTY; Index::nodes(rules.len())];
    Index::build(rules.iter().copied(), vec![Slot::EMPTY; rules.len()], nodes)
}

/// An engine whose rules are changed one by one, as tests like it: each change is a new index.
pub(crate) trait Ruled {
    fn in_force(&self) -> Vec<Rule>;
    fn put(&mut self, rules: Rules) -> Result<(), Refused>;

    fn insert_rule(&mut self, rule: Rule) -> Result<(), Refused> {
        let rules = [&self.in_force()[..], &[rule]].concat();
        self.put(index(&rules)?)
    }

    fn remove_rule(&mut self, id: RuleId) -> bool {
        let mut rules = self.in_force();
        let before = rules.len();
        rules.retain(|rule| rule.id != id);
        self.put(index(&rules).unwrap()).unwrap();
        rules.len() < before
    }
}

impl<P: PacketCrypto> Ruled for Outbound<'_, P, Rules> {
    fn in_force(&self) -> Vec<Rule> {
        self.rules().map(|(rule, _)| *rule).collect()
    }

    fn put(&mut self, rules: Rules) -> Result<(), Refused> {
        self.set_rules(rules).map(drop)
    }
}

impl Ruled for In {
    fn in_force(&self) -> Vec<Rule> {
        self.rules().map(|(rule, _)| *rule).collect()
    }

    fn put(&mut self, rules: Rules) -> Result<(), Refused> {
        self.set_rules(rules).map(drop)
    }
}

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn net(text: &str) -> AddrRange {
    let (addr, prefix) = text.split_once('/').unwrap();
    AddrRange::prefix(addr.parse().unwrap(), prefix.parse().unwrap()).unwrap()
}

pub(crate) fn path() -> Path {
    Path { local: "192.0.2.1:4500".parse().unwrap(), remote: "192.0.2.2:4500".parse().unwrap() }
}

pub(crate) fn reversed(path: Path) -> Path {
    Path { local: path.remote, remote: path.local }
}

/// Site A (10.1/16, fd01::/16) sends, site B (10.2/16, fd02::/16) receives.
pub(crate) fn site_a() -> Vec<TrafficSelector> {
    vec![TrafficSelector::addrs(net("10.1.0.0/16")), TrafficSelector::addrs(net("fd01::/16"))]
}

pub(crate) fn site_b() -> Vec<TrafficSelector> {
    vec![TrafficSelector::addrs(net("10.2.0.0/16")), TrafficSelector::addrs(net("fd02::/16"))]
}

/// How an SA of a test differs from the usual one.
#[derive(Clone)]
pub(crate) struct Sa {
    pub(crate) spi: u32,
    pub(crate) protection: Protection,
    pub(crate) keymat: Vec<u8>,
    pub(crate) esn: bool,
    pub(crate) encap: Encap,
    pub(crate) mode: Mode,
    pub(crate) policy: PolicyId,
    pub(crate) lifetime: Lifetime,
    pub(crate) window: usize,
    /// Last sequence number sent, highest received.
    pub(crate) sequence: u64,
    pub(crate) last_number: u64,
    pub(crate) site_a: Vec<TrafficSelector>,
    pub(crate) site_b: Vec<TrafficSelector>,
    pub(crate) compression: Option<Cpi>,
}

impl Default for Sa {
    fn default() -> Self {
        Self {
            spi: 0x1234_5600,
            protection: AeadAlg::Aes256Gcm16.into(),
            keymat: KEYMAT.to_vec(),
            esn: false,
            encap: Encap::Udp,
            mode: Mode::Tunnel,
            policy: POLICY,
            lifetime: Lifetime::default(),
            window: 64,
            sequence: 0,
            last_number: u64::MAX,
            site_a: site_a(),
            site_b: site_b(),
            compression: None,
        }
    }
}

impl Sa {
    fn params<'s>(
        &'s self,
        path: Path,
        local_ts: &'s [TrafficSelector],
        remote_ts: &'s [TrafficSelector],
    ) -> Params<'s> {
        Params {
            spi: Spi::new(self.spi).unwrap(),
            mode: self.mode,
            protection: self.protection,
            keymat: &self.keymat,
            esn: self.esn,
            path,
            encap: self.encap,
            policy: self.policy,
            local_ts,
            remote_ts,
            lifetime: self.lifetime,
            compression: self.compression,
        }
    }

    pub(crate) fn outbound(&self) -> OutboundParams<'_> {
        OutboundParams {
            sa: self.params(path(), &self.site_a, &self.site_b),
            last_sent: self.sequence,
            last_number: self.last_number,
            copy_dscp: true,
            dont_fragment: DontFragment::Copy,
        }
    }

    pub(crate) fn inbound(&self) -> InboundParams<'_> {
        let sa = self.params(reversed(path()), &self.site_b, &self.site_a);
        InboundParams { sa, window: self.window, highest_seen: self.sequence }
    }

    /// The same with another suite, and a key for it.
    pub(crate) fn under(self, protection: Protection) -> Self {
        let keymat = (0..protection.keymat_len()).map(|place| 0x11 + place as u8).collect();
        Self { protection, keymat, ..self }
    }

    /// An ESP packet made without the engine: `payload` is encrypted as it is, trailer included.
    pub(crate) fn esp(&self, sequence: u64, payload: &[u8]) -> Vec<u8> {
        let (spi, sequence) = (self.spi.to_be_bytes(), sequence.to_be_bytes());
        let header = [&spi[..], &sequence[4..]].concat();
        let (encr, integ) = self.keymat.split_at(self.protection.encr_key_len());
        let (encr, salt) = encr.split_at(encr.len() - self.protection.salt_len());
        match self.protection {
            Protection::Aead(alg) | Protection::ImplicitIv(alg) => {
                let key = RustCrypto.aead_key(alg, encr).unwrap();
                let mut nonce = [0; 12];
                nonce[4 - salt.len()..4].copy_from_slice(salt);
                nonce[4..].copy_from_slice(&sequence);
                let aad = if self.esn { [&spi[..], &sequence].concat() } else { header.clone() };
                let iv = if matches!(self.protection, Protection::Aead(_)) { &sequence[..] } else { &[] };
                // Of GMAC the text begins with the IV (RFC 4543 §3.3).
                let (front, iv) = if alg.hides() { (iv, &[][..]) } else { (&[][..], iv) };
                let mut text_and_tag = [iv, payload, &vec![0; alg.tag_len()]].concat();
                RustCrypto.seal(&key, &nonce, &aad, &mut text_and_tag);
                [&header, front, &text_and_tag].concat()
            }
            Protection::CipherMac(cipher, alg) => {
                let (iv, mut text) = ([[0x1f; 8], sequence].concat(), payload.to_vec());
                let iv = &iv[16 - cipher.iv_len()..];
                if cipher != CipherAlg::Null {
                    let mut block = match cipher.iv() {
                        Iv::Counter => [salt, iv, &[0, 0, 0, 1]].concat(),
                        Iv::Random => iv.to_vec(),
                    };
                    block.resize(16, 0);
                    let key = RustCrypto.cipher_key(cipher, Purpose::Encrypt, encr).unwrap();
                    RustCrypto.encrypt(&key, block[..].try_into().unwrap(), &mut text);
                }
                let packet = [&header, iv, &text].concat();
                let (key, mut icv) = (RustCrypto.integ_key(alg, integ).unwrap(), vec![0; alg.icv_len()]);
                let high = if self.esn { &sequence[..4] } else { &[] };
                RustCrypto.icv(&key, &[&packet, high], &mut icv);
                [packet, icv].concat()
            }
        }
    }
}

/// Both engines with this SA, and a PROTECT rule for its sites.
pub(crate) fn tunnel(sa: &Sa) -> (Out, In) {
    let (mut out, mut inn) = (outbound(4), inbound(4));
    for (id, (site_a, site_b)) in (0..).zip(sa.site_a.iter().zip(&sa.site_b)) {
        let action = Action::protect(sa.policy);
        let selector = Selector { local: *site_a, remote: *site_b };
        out.insert_rule(Rule { id: RuleId(id), priority: 100, selector, action }).unwrap();
        let selector = Selector { local: *site_b, remote: *site_a };
        inn.insert_rule(Rule { id: RuleId(id), priority: 100, selector, action }).unwrap();
    }
    out.install(NOW, &sa.outbound()).unwrap();
    inn.install(NOW, &sa.inbound()).unwrap();
    (out, inn)
}

/// Classifies and seals an inner packet.
pub(crate) fn seal(out: &mut Out, inner: &[u8]) -> Result<Vec<u8>, Discard> {
    let sa = out.classify(NOW, inner)?.sa().expect("no SA fits");
    let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
    let mut packet = PacketBuf::with_payload(&mut bytes, inner).unwrap();
    out.seal(NOW, sa, &mut packet)?;
    Ok(packet.as_slice().to_vec())
}

/// Opens an ESP packet that came from the other end.
pub(crate) fn open(inn: &mut In, esp: &[u8]) -> Result<Vec<u8>, Discard> {
    open_marked(inn, Ecn::NotEct, esp).map(|(_, inner)| inner)
}

pub(crate) fn open_marked(inn: &mut In, ecn: Ecn, esp: &[u8]) -> Result<(Ingress, Vec<u8>), Discard> {
    let mut bytes = esp.to_vec();
    let mut packet = PacketBuf::new(&mut bytes, 0, esp.len()).unwrap();
    let ingress = inn.open(NOW, reversed(path()), ecn, &mut packet)?;
    Ok((ingress, packet.as_slice().to_vec()))
}

/// An inner packet of any version; `payload` is everything behind the IP header.
pub(crate) fn ip(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip_marked(source, destination, protocol, 0, payload)
}

pub(crate) fn ip_marked(source: &str, destination: &str, protocol: u8, traffic_class: u8, payload: &[u8]) -> Vec<u8> {
    match (addr(source), addr(destination)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = ipv4::Header {
                tos: traffic_class,
                total_len: (ipv4::HEADER_LEN + payload.len()) as u16,
                id: 0x77,
                dont_fragment: false,
                more_fragments: false,
                fragment_offset: 0,
                ttl: 17,
                protocol,
                source,
                destination,
            };
            let mut bytes = vec![0; ipv4::HEADER_LEN];
            header.write(&mut Writer::new(&mut bytes)).unwrap();
            [&bytes, payload].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = ipv6::Header {
                traffic_class,
                flow_label: 0x12345,
                payload_len: payload.len() as u16,
                next_header: protocol,
                hop_limit: 17,
                source,
                destination,
            };
            let mut bytes = vec![0; ipv6::HEADER_LEN];
            header.write(&mut Writer::new(&mut bytes)).unwrap();
            [&bytes, payload].concat()
        }
        _ => panic!("mixed families"),
    }
}

/// What a packet looks like as a fragment of another one, 64 octets into it. Behind an IPv6 header only the fragment
/// header tells the protocol.
pub(crate) fn later_fragment(packet: &[u8]) -> Vec<u8> {
    let mut fragment = packet.to_vec();
    if fragment[0] >> 4 == 4 {
        fragment[7] = 8;
        return fragment;
    }
    let protocol = std::mem::replace(&mut fragment[6], 44);
    fragment[5] += 8;
    fragment.splice(40..40, [protocol, 0, 0, 64, 0, 0, 0, 1]);
    fragment
}

/// Source and destination port, then `len` octets.
pub(crate) fn ports(source: u16, destination: u16, len: usize) -> Vec<u8> {
    let mut bytes = source.to_be_bytes().to_vec();
    bytes.extend(destination.to_be_bytes());
    bytes.resize(4 + len, 0x42);
    bytes
}

/// A UDP packet from site A to site B with `len` octets behind the IP header.
pub(crate) fn a_to_b(len: usize) -> Vec<u8> {
    ip("10.1.0.5", "10.2.0.9", 17, &vec![0x42; len])
}

/// A small seeded generator (SplitMix64); the seed stands in the assertion message of whoever uses it.
pub(crate) struct Rng(pub(crate) u64);

impl rand_core::TryRng for Rng {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.next() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, octets: &mut [u8]) -> Result<(), Self::Error> {
        octets.iter_mut().for_each(|octet| *octet = self.next() as u8);
        Ok(())
    }
}

/// Of tests.
impl rand_core::TryCryptoRng for Rng {}

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
