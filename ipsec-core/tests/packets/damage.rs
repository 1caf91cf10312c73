//! Row B19: memory that cannot be trusted. What is damaged behind the ICV, only the checksum of the packet itself shows.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::ends::{NOW, Rng, Sa, addr, ip, later_fragment, path, reversed};
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::rustcrypto::{AeadKey, RustCrypto};
use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};
use ipsec_core::ecn::Ecn;
use ipsec_core::engine::{Inbound, InboundSlot};
use ipsec_core::error::Discard;
use ipsec_core::net::{AddrRange, TrafficSelector};
use ipsec_core::wire::checksum::Sum;
use ipsec_core::wire::front::payload_is_intact;

/// An engine that damages a bit of what it has decrypted.
struct Faulty(Rc<Cell<Option<usize>>>);

impl PacketCrypto for Faulty {
    type AeadKey = AeadKey;
    type Place<T> = InPlace<T>;
    ipsec_core::aead_only!();

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<AeadKey> {
        RustCrypto.aead_key(alg, key)
    }

    fn seal(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        RustCrypto.seal(key, nonce, aad, text_and_tag);
    }

    fn open(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
        RustCrypto.open(key, nonce, aad, text_and_tag)?;
        if let Some(bit) = self.0.get() {
            text_and_tag[bit / 8] ^= 1 << (bit % 8);
        }
        Ok(())
    }
}

/// A packet with a payload of `protocol` whose checksum, at this place of it, is right.
fn summed(source: &str, destination: &str, protocol: u8, mut payload: Vec<u8>, at: usize) -> Vec<u8> {
    payload[at..at + 2].fill(0);
    let length = payload.len() as u16;
    let sum = match (addr(source), addr(destination)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Sum::default().pseudo_v4(from, to, length, protocol),
        (IpAddr::V6(from), IpAddr::V6(to)) => Sum::default().pseudo_v6(from, to, length, protocol),
        _ => panic!("mixed families"),
    };
    let checksum = sum.bytes(&payload).finish();
    payload[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    ip(source, destination, protocol, &payload)
}

fn udp(content: &[u8]) -> Vec<u8> {
    let length = (8 + content.len() as u16).to_be_bytes();
    [&[0x13, 0x88, 0, 53, length[0], length[1], 0, 0], content].concat()
}

/// Of both versions, with even and odd lengths: each with the number of octets in front of what is summed.
fn packets() -> Vec<(Vec<u8>, usize)> {
    let mut rng = Rng(19);
    let mut packets = Vec::new();
    for len in [0, 1, 30, 31] {
        let tcp = [rng.bytes(12), vec![0x50, 0x10, 0, 99, 0, 0, 0, 0], rng.bytes(len)].concat();
        for (from, to, header) in [("10.1.0.5", "10.2.0.9", 20), ("fd01::5", "fd02::9", 40)] {
            packets.push((summed(from, to, 17, udp(&rng.bytes(len)), 6), header));
            packets.push((summed(from, to, 6, tcp.clone(), 16), header));
        }
    }
    packets
}

#[test]
fn b19_a_bit_that_flips_after_decryption_is_dropped_and_counted_where_checksums_are_checked() {
    let fault = Rc::new(Cell::new(None));
    let (mut slots, mut windows) = ([InboundSlot::<Faulty>::EMPTY], [0; 1]);
    let mut inn: Inbound<'_, _> = Inbound::new(Faulty(Rc::clone(&fault)), &mut [], &mut slots, &mut windows);
    let mut sa = Sa { site_a: Vec::new(), site_b: Vec::new(), ..Sa::default() };
    for ts in [&mut sa.site_a, &mut sa.site_b] {
        ts.extend([AddrRange::ANY_V4, AddrRange::ANY_V6].map(TrafficSelector::addrs));
    }
    let id = inn.install(NOW, &sa.inbound()).unwrap();
    let (mut sequence, mut dropped) = (0, 0);
    let mut receive = |inn: &mut Inbound<'_, Faulty>, inner: &[u8], bit: Option<usize>| {
        sequence += 1;
        fault.set(bit);
        let mut bytes = sa.esp(sequence, &[inner, &[0, if inner[0] >> 4 == 4 { 4 } else { 41 }]].concat());
        let len = bytes.len();
        let mut packet = PacketBuf::new(&mut bytes, 0, len).unwrap();
        inn.open(NOW, reversed(path()), Ecn::NotEct, &mut packet).map(|_| packet.as_slice().to_vec())
    };
    for (inner, header) in packets() {
        assert!(inn.check_checksums(id, true));
        assert_eq!(receive(&mut inn, &inner, None).as_deref(), Ok(&inner[..]));
        for bit in header * 8..inner.len() * 8 {
            assert_eq!(receive(&mut inn, &inner, Some(bit)), Err(Discard::InChecksum), "bit {bit} of {inner:02x?}");
            dropped += 1;
        }
        assert_eq!(inn.counters().get(Discard::InChecksum), dropped);
        // Whoever does not ask for it gets what the peer's ICV was right for.
        assert!(inn.check_checksums(id, false));
        let damaged = receive(&mut inn, &inner, Some(inner.len() * 8 - 1)).unwrap();
        assert_eq!((damaged.len(), damaged == inner), (inner.len(), false));
    }
    assert!(inn.remove(id) && !inn.check_checksums(id, true));
}

#[test]
fn b19_what_no_checksum_is_for_passes() {
    let intact = |packet: &[u8]| payload_is_intact(packet);
    let unsummed = ip("10.1.0.5", "10.2.0.9", 17, &udp(b"no checksum"));
    assert!(intact(&unsummed));
    let (tcp, _) = packets().swap_remove(13);
    assert_eq!((tcp[0] >> 4, tcp[9], intact(&tcp)), (4, 6, true));
    let mut damaged = tcp.clone();
    damaged[30] ^= 1;
    assert!(!intact(&damaged));
    // Of a part nobody can tell, be it the first or a later one.
    let mut first = damaged.clone();
    first[6] |= 0x20;
    assert!(intact(&first) && intact(&later_fragment(&damaged)));
    // A source route may name another destination than the one that was summed.
    let mut options = [&damaged[..20], &[131, 4, 4, 0], &damaged[20..]].concat();
    (options[0], options[3]) = (0x46, options[3] + 4);
    assert!(intact(&options));
    // Other protocols, and what is behind a datagram that is shorter than its packet.
    assert!(intact(&ip("10.1.0.5", "10.2.0.9", 47, &[1; 30])));
    let longer = summed("10.1.0.5", "10.2.0.9", 17, udp(b"even"), 6);
    assert!(intact(&ip("10.1.0.5", "10.2.0.9", 17, &[&longer[20..], &[0xee; 3]].concat())));
    // A datagram longer than its packet, and a segment without a header, cannot be what was sent.
    assert!(!intact(&ip("10.1.0.5", "10.2.0.9", 17, &longer[20..30])));
    assert!(!intact(&ip("10.1.0.5", "10.2.0.9", 6, &[])));
}
