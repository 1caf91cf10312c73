//! ESP packets through the receiving engine: under a tag that always passes, and under real keys that the harness holds.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, PacketCrypto};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot};
use ipsec_core::error::Discard;
use ipsec_core::net::{AddrRange, Encap, Path, Spi, TrafficSelector};
use ipsec_core::sa::{InboundParams, Lifetime, Mode, Params};
use ipsec_core::spd::PolicyId;
use ipsec_core::time::Instant;

use crate::crypto::{FakeCrypto, TAG};
use crate::input::Input;

const KEY: [u8; 16] = [0x4b; 16];
const SALT: [u8; 4] = [0x5a; 4];
const SPI: u32 = 0x0100_0001;
/// Packets that the window remembers.
const WINDOW: u64 = 64;

/// An octet of choices, the highest sequence number seen so far, and packets: a sequence number, a length in 16 bits,
/// and what stands before the ICV (with real keys in clear: the harness encrypts it).
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let choices = input.octet();
    let esn = choices & 1 != 0;
    match choices & 2 {
        0 => receive(FakeCrypto::default(), esn, &mut input, |_, _, text_and_tag| {
            let at = text_and_tag.len() - TAG.len();
            text_and_tag[at..].copy_from_slice(&TAG);
        }),
        _ => receive(RustCrypto, esn, &mut input, |sequence, aad, text_and_tag| {
            let key = RustCrypto.aead_key(AeadAlg::Aes128Gcm16, &KEY).expect("a key of this length");
            let mut nonce = [0; 12];
            nonce[..4].copy_from_slice(&SALT);
            nonce[4..].copy_from_slice(&sequence.to_be_bytes());
            RustCrypto.seal(&key, &nonce, aad, text_and_tag);
        }),
    }
}

fn receive<P: PacketCrypto>(crypto: P, esn: bool, input: &mut Input<'_>, mut seal: impl FnMut(u64, &[u8], &mut [u8])) {
    let mut sas = [const { InboundSlot::<P>::EMPTY }; 1];
    let mut windows = [0; WINDOW as usize / 64 * 2];
    let mut inbound: Inbound<'_, P> = Inbound::new(crypto, &mut [], &mut sas, &mut windows);
    let at = |last, port| (Ipv4Addr::new(192, 0, 2, last), port).into();
    let path = Path { local: at(2, 4500), remote: at(1, 4500) };
    let (v4, v6) = ([10, 0, 0, 0].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 0].into());
    let ts = [v4, v6].map(|addr| TrafficSelector::addrs(AddrRange::prefix(addr, 8).expect("a prefix length")));
    let highest_seen = if esn { u64::from(input.u32()) << 8 } else { u64::from(input.u32()) };
    let sa = Params {
        spi: Spi::new(SPI).expect("not reserved"),
        mode: Mode::Tunnel,
        protection: AeadAlg::Aes128Gcm16.into(),
        keymat: &[&KEY[..], &SALT].concat(),
        esn,
        path,
        encap: Encap::Udp,
        policy: PolicyId(1),
        local_ts: &ts,
        remote_ts: &ts,
        lifetime: Lifetime::default(),
        compression: None,
    };
    inbound.install(Instant::ZERO, &InboundParams { sa, window: WINDOW as usize, highest_seen }).expect("a free slot");

    let mut taken = BTreeSet::new();
    let mut buf = [0; 2048];
    for _ in 0..16 {
        if input.is_empty() {
            break;
        }
        // The sender's counter is near the receiver's, or anywhere in the low 32 bits.
        let low = input.u32();
        let base = inbound.sas().next().expect("the SA").sequence;
        let sequence = if esn { near(base, low) } else { u64::from(low) };
        let len = usize::from(input.u16()) % 1500;
        let text = input.take(len);
        let packet = esp(sequence, esn, text, &mut seal);

        let discarded = |inbound: &Inbound<'_, P>| inbound.counters().iter().map(|(_, count)| count).sum::<u64>();
        let before = discarded(&inbound);
        let mut window = PacketBuf::with_payload(&mut buf, &packet).expect("room");
        let opened = inbound.open(Instant::ZERO, path, Ecn::NotEct, &mut window);
        assert_eq!(discarded(&inbound), before + u64::from(opened.is_err()), "counted in exactly one place");
        match opened {
            Ok(ingress) => {
                let inner = window.as_slice();
                assert_eq!(inner, &text[..inner.len()], "the inner packet is not what was sealed");
                assert!(ingress.flow.len == inner.len() && inner.len() + 2 <= text.len(), "beyond the trailer");
                assert!(ts.iter().any(|ts| ts.addrs.contains(ingress.flow.source)));
                assert!(ts.iter().any(|ts| ts.addrs.contains(ingress.flow.destination)));
                assert!(taken.insert(sequence), "sequence number {sequence} was taken twice");
            }
            // Authentic, so its number is used up.
            Err(
                Discard::InMode | Discard::InSelectors | Discard::InDummy | Discard::InCongestion | Discard::InPadding,
            ) => assert!(taken.insert(sequence), "sequence number {sequence} was taken twice"),
            Err(Discard::InForged) => panic!("the tag did not pass"),
            Err(_) => {}
        }
        if !taken.contains(&sequence) {
            continue;
        }
        let mut window = PacketBuf::with_payload(&mut buf, &packet).expect("room");
        assert!(inbound.open(Instant::ZERO, path, Ecn::NotEct, &mut window).is_err(), "{sequence} came through twice");
        let highest = inbound.sas().next().expect("the SA").sequence;
        assert!(highest >= base.max(sequence), "the window went back");
    }
}

/// The number with these low 32 bits that is nearest to `base`, as the receiver has to guess it (RFC 4303 A2.2).
fn near(base: u64, low: u32) -> u64 {
    let window_start = base.saturating_sub(WINDOW - 1);
    let candidate = (window_start & !0xffff_ffff) | u64::from(low);
    if candidate < window_start { candidate.wrapping_add(1 << 32) } else { candidate }
}

fn esp(sequence: u64, esn: bool, text: &[u8], seal: &mut impl FnMut(u64, &[u8], &mut [u8])) -> Vec<u8> {
    let (spi, high_low) = (SPI.to_be_bytes(), sequence.to_be_bytes());
    let mut packet = [&spi[..], &high_low[4..], &high_low, text, &[0; TAG.len()]].concat();
    let aad = if esn { [&spi[..], &high_low].concat() } else { packet[..8].to_vec() };
    seal(sequence, &aad, &mut packet[16..]);
    packet
}
