//! The smallest use of `ipsec-core`: a policy with one SA each way, AES-GCM in tunnel mode, keys from a configuration.

use core::hint::black_box;
use core::mem::MaybeUninit;
use core::net::{Ipv4Addr, SocketAddr};

use ipsec_core::aead_only;
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Mode, OutboundParams, Params};
use ipsec_core::spd::{self, Action, Index, PolicyId, Rule, RuleId, Selector};
use ipsec_core::time::Instant;

/// The rules of both engines: one for the peer's network, and one that lets the rest by.
type Rules = Index<[spd::Slot; 2], [spd::Node; 0]>;

/// Crypto that does nothing.
pub struct Nothing;

impl PacketCrypto for Nothing {
    type AeadKey = u32;
    type Place<T> = InPlace<T>;
    aead_only!();

    fn aead_key(&mut self, _: AeadAlg, key: &[u8]) -> Option<u32> {
        black_box(key);
        black_box(Some(0))
    }

    fn seal(&mut self, key: &u32, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        black_box((key, nonce, aad, text_and_tag));
    }

    fn open(&mut self, key: &u32, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        black_box((key, nonce, aad, text_and_tag));
        black_box(Ok(()))
    }
}

/// All of its memory but for the packets.
pub struct Memory<P: PacketCrypto> {
    rules: MaybeUninit<Rules>,
    outbound: [OutboundSlot<P>; 1],
    inbound: [InboundSlot<P>; 1],
    windows: [u64; 1],
}

/// Both engines.
pub struct Tunnel<P: PacketCrypto + 'static> {
    outbound: Outbound<'static, P, &'static Rules>,
    inbound: Inbound<'static, P, &'static Rules>,
}

impl<P: PacketCrypto> Memory<P> {
    /// Nothing in it.
    pub const EMPTY: Self = Self {
        rules: MaybeUninit::uninit(),
        outbound: [const { OutboundSlot::<P>::EMPTY }; 1],
        inbound: [const { InboundSlot::<P>::EMPTY }; 1],
        windows: [0; 1],
    };

    /// Makes one end of a tunnel in this memory, with a key for either way. Of an end that talks to itself both are the same.
    pub fn start(&'static mut self, crypto: [P; 2], path: Path, [out, into]: [&[u8; 36]; 2]) -> Option<Tunnel<P>> {
        let protect = Rule {
            id: RuleId(1),
            priority: 1,
            selector: Selector::between(NETWORK, NETWORK),
            action: Action::protect(PolicyId(1)),
        };
        let selector = Selector::between(AddrRange::ANY_V4, AddrRange::ANY_V4);
        let bypass = Rule { id: RuleId(2), priority: 2, selector, action: Action::Bypass };
        let rules = &*self.rules.write(Index::build([protect, bypass], [spd::Slot::EMPTY; 2], []).ok()?);
        let [sending, receiving] = crypto;
        let mut outbound = Outbound::new(sending, &mut [], &mut self.outbound);
        let mut inbound = Inbound::new(receiving, &mut [], &mut self.inbound, &mut self.windows);
        outbound.set_rules(rules).ok()?;
        inbound.set_rules(rules).ok()?;
        let sa = OutboundParams {
            sa: params(path, out)?,
            last_sent: 0,
            last_number: u64::MAX,
            copy_dscp: false,
            dont_fragment: DontFragment::Copy,
        };
        outbound.install(Instant::ZERO, &sa).ok()?;
        let sa = InboundParams { sa: params(path, into)?, window: 64, highest_seen: 0 };
        inbound.install(Instant::ZERO, &sa).ok()?;
        Some(Tunnel { outbound, inbound })
    }
}

/// Both sides of the tunnel.
const NETWORK: AddrRange = AddrRange::single(core::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));

fn params(path: Path, keymat: &[u8; 36]) -> Option<Params<'_>> {
    Some(Params {
        spi: Spi::new(0x1000)?,
        mode: Mode::Tunnel,
        protection: AeadAlg::Aes256Gcm16.into(),
        keymat,
        esn: true,
        path,
        encap: Encap::Udp,
        policy: PolicyId(1),
        local_ts: const { &[TrafficSelector::addrs(NETWORK)] },
        remote_ts: const { &[TrafficSelector::addrs(NETWORK)] },
        lifetime: Lifetime::default(),
        compression: None,
    })
}

/// A packet of 1,400 octets for it, in IPv4 and UDP.
pub const INNER: [u8; 1400] = {
    let mut packet = [0; 1400];
    let header = [
        0x45, 0, 5, 120, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 1, //
        0, 9, 0, 9, 5, 100, 0, 0,
    ];
    packet.split_at_mut(header.len()).0.copy_from_slice(&header);
    packet
};

/// Octets for it, with what comes around it.
pub const ROOM: usize = INNER.len() + HEADROOM + TAILROOM;

/// A path that leads back to where it begins.
pub fn path() -> Path {
    let socket = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 4500);
    Path { local: socket, remote: socket }
}

impl<P: PacketCrypto> Tunnel<P> {
    /// Looks a packet up in the rules, and seals it. `None`: it is none for the tunnel, or does not go.
    pub fn send(&mut self, now: Instant, packet: &mut PacketBuf<'_>) -> Option<Path> {
        let Ok(Verdict::Protect(sa)) = self.outbound.classify(now, packet.as_slice()) else { return None };
        self.outbound.seal(now, sa, packet).ok().map(|egress| egress.path)
    }

    /// Opens one, and sees that its SA may carry it.
    pub fn receive(&mut self, now: Instant, from: Path, packet: &mut PacketBuf<'_>) -> Option<()> {
        self.inbound.open(now, from, Ecn::NotEct, packet).ok().map(drop)
    }
}
