//! Transforms of other kinds than an AEAD go through the same functions: a cipher with a MAC beside it, and a MAC alone. Both
//! are toys; what counts is where things stand.

use super::open::{open, strip_trailer};
use super::seal::{Unsealed, seal};
use crate::buf::PacketBuf;
use crate::crypto::{AeadAlg, Forged, InPlace, NoIv, PacketCrypto};
use crate::error::NoRoom;
use crate::net::Spi;
use crate::transform::{Iv, Layout, Number, Transform};
use std::vec;
use std::vec::Vec;

/// An engine with random octets that can be foreseen, as long as there are some.
struct Engine {
    random: Option<u8>,
}

impl PacketCrypto for Engine {
    type AeadKey = ();
    type Place<T> = InPlace<T>;

    fn aead_key(&mut self, _: AeadAlg, _: &[u8]) -> Option<()> {
        None
    }

    fn seal(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) {}

    fn open(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Forged> {
        Err(Forged)
    }

    fn iv(&mut self, iv: &mut [u8]) -> Result<(), NoIv> {
        let random = self.random.as_mut().ok_or(NoIv)?;
        for octet in iv {
            *octet = *random;
            *random = random.wrapping_mul(5).wrapping_add(17);
        }
        Ok(())
    }
}

/// Over the packet, and behind it the half of an extended sequence number that is not in it (RFC 4303 §2.2.1).
fn mac(number: &Number, authenticated: &[u8], icv: &mut [u8]) {
    let high = ((number.sequence >> 32) as u32).to_be_bytes();
    let implicit = if number.esn { &high[..] } else { &[] };
    let mut sum = 0x1234_5678_9abc_def1_u64;
    for (place, octet) in icv.iter_mut().enumerate() {
        for part in authenticated.iter().chain(implicit) {
            sum = (sum ^ u64::from(*part)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
        }
        *octet = (sum >> (place % 8)) as u8;
    }
}

/// Encrypts with a key stream out of the IV, and authenticates what it made (RFC 4303 §3.3.2.1).
struct CipherMac;

impl CipherMac {
    fn run(packet: &mut [u8]) {
        let layout = Transform::<Engine>::layout(&Self);
        let (front, rest) = packet.split_at_mut(layout.headroom());
        let text_len = rest.len() - layout.icv_len;
        let iv = &front[8..];
        rest[..text_len].iter_mut().enumerate().for_each(|(at, octet)| *octet ^= iv[at % iv.len()] ^ at as u8);
    }
}

impl Transform<Engine> for CipherMac {
    fn layout(&self) -> Layout {
        Layout { iv_len: 16, iv: Iv::Random, icv_len: 12, align: 16 }
    }

    fn seal(&self, _: &mut Engine, number: &Number, packet: &mut [u8]) -> Result<(), NoRoom> {
        Self::run(packet);
        let (authenticated, icv) = packet.split_last_chunk_mut::<12>().ok_or(NoRoom)?;
        mac(number, authenticated, icv);
        Ok(())
    }

    fn open(&self, _: &mut Engine, number: &Number, packet: &mut [u8]) -> Result<(), Forged> {
        let (authenticated, icv) = packet.split_last_chunk::<12>().ok_or(Forged)?;
        let mut expected = [0; 12];
        mac(number, authenticated, &mut expected);
        if expected != *icv {
            return Err(Forged);
        }
        Self::run(packet);
        Ok(())
    }
}

/// Leaves the content as it is (RFC 2410), without an IV.
struct Mac;

impl Transform<Engine> for Mac {
    fn layout(&self) -> Layout {
        Layout { iv_len: 0, iv: Iv::Counter, icv_len: 32, align: 4 }
    }

    fn seal(&self, _: &mut Engine, number: &Number, packet: &mut [u8]) -> Result<(), NoRoom> {
        let (authenticated, icv) = packet.split_last_chunk_mut::<32>().ok_or(NoRoom)?;
        mac(number, authenticated, icv);
        Ok(())
    }

    fn open(&self, _: &mut Engine, number: &Number, packet: &mut [u8]) -> Result<(), Forged> {
        let (authenticated, icv) = packet.split_last_chunk::<32>().ok_or(Forged)?;
        let mut expected = [0; 32];
        mac(number, authenticated, &mut expected);
        if expected == *icv { Ok(()) } else { Err(Forged) }
    }
}

const NUMBER: Number = Number { spi: Spi::new(0x1234_5678).unwrap(), sequence: 0x0000_0009_8765_4321, esn: true };

fn sealed<T: Transform<Engine>>(transform: &T, inner: &[u8]) -> Vec<u8> {
    let layout = transform.layout();
    let mut bytes = vec![0xcc; layout.headroom() + inner.len() + layout.tailroom()];
    bytes[layout.headroom()..][..inner.len()].copy_from_slice(inner);
    let mut packet = PacketBuf::new(&mut bytes, layout.headroom(), inner.len()).unwrap();
    seal(&mut Engine { random: Some(1) }, transform, &NUMBER, 4, &mut packet).unwrap();
    packet.as_slice().to_vec()
}

fn opened<T: Transform<Engine>>(transform: &T, number: &Number, esp: &[u8]) -> Result<Vec<u8>, Forged> {
    let (mut bytes, len) = (esp.to_vec(), esp.len());
    let mut packet = PacketBuf::new(&mut bytes, 0, len).unwrap();
    open(&mut Engine { random: None }, transform, number, &mut packet)?;
    assert_eq!(strip_trailer(&mut packet), Ok(4));
    Ok(packet.as_slice().to_vec())
}

/// What every transform has to do.
fn holds<T: Transform<Engine>>(transform: &T) {
    let layout = transform.layout();
    for len in 0..100 {
        let inner: Vec<u8> = (0..len).collect();
        let esp = sealed(transform, &inner);
        assert_eq!(esp[..8], [0x12, 0x34, 0x56, 0x78, 0x87, 0x65, 0x43, 0x21], "SPI and the low half of the number");
        assert_eq!((esp.len() - layout.headroom() - layout.icv_len) % layout.align, 0, "{len} octets");
        assert_eq!(opened(transform, &NUMBER, &esp).as_deref(), Ok(&inner[..]), "{len} octets");
        for octet in 0..esp.len() {
            let mut wrong = esp.clone();
            wrong[octet] ^= 0x40;
            assert_eq!(opened(transform, &NUMBER, &wrong), Err(Forged), "{len} octets, octet {octet}");
            assert_eq!(opened(transform, &NUMBER, &esp[..octet]), Err(Forged), "{len} octets, cut to {octet}");
        }
    }
    let esp = sealed(transform, b"an inner packet");
    for other in [Number { sequence: NUMBER.sequence ^ 1 << 32, ..NUMBER }, Number { esn: false, ..NUMBER }] {
        assert_eq!(opened(transform, &other, &esp), Err(Forged), "the high half is authenticated, too");
    }
}

#[test]
fn a_cipher_with_a_mac_and_a_random_iv_goes_the_same_way() {
    holds(&CipherMac);
    let esp = sealed(&CipherMac, &[0; 40]);
    let mut iv = [0; 16];
    Engine { random: Some(1) }.iv(&mut iv).unwrap();
    assert_eq!(esp[8..24], iv, "what the engine gave");
    assert!(!esp.windows(8).any(|part| part == [0; 8]), "nothing of the content is to be seen");
}

#[test]
fn a_mac_alone_goes_the_same_way() {
    holds(&Mac);
    let esp = sealed(&Mac, &[7; 41]);
    assert_eq!(esp[8..49], [7; 41], "as it was, right behind the header");
    assert_eq!(esp[49..52], [1, 1, 4], "one octet of padding, its length, next header");
    assert_eq!(esp.len(), 8 + 41 + 3 + 32);
}

#[test]
fn without_a_random_iv_nothing_is_sealed() {
    let mut bytes = [7; 120];
    let mut packet = PacketBuf::new(&mut bytes, 40, 20).unwrap();
    let refused = seal(&mut Engine { random: None }, &CipherMac, &NUMBER, 4, &mut packet);
    assert_eq!((refused, packet.as_slice()), (Err(Unsealed::NoIv), &[7; 20][..]));
}

#[test]
fn the_room_is_what_the_layout_says() {
    fn tries<T: Transform<Engine>>(transform: &T) {
        let layout = transform.layout();
        for len in 16..48 {
            let trailer = layout.pad_len(len) + 2 + layout.icv_len;
            for (head, tail, fits) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
                let (head, tail) = (layout.headroom() - head, trailer - tail);
                let mut bytes = vec![7; head + len + tail];
                let mut packet = PacketBuf::new(&mut bytes, head, len).unwrap();
                let done = seal(&mut Engine { random: Some(1) }, transform, &NUMBER, 4, &mut packet);
                assert_eq!(done, if fits { Ok(()) } else { Err(Unsealed::NoRoom) });
                assert!(fits || packet.as_slice() == vec![7; len], "it is as it was");
            }
        }
    }
    tries(&CipherMac);
    tries(&Mac);
}

#[test]
fn the_constants_are_enough_for_every_algorithm() {
    for alg in [AeadAlg::Aes128Gcm16, AeadAlg::Aes192Gcm16, AeadAlg::Aes256Gcm16] {
        let layout = Layout::of(alg);
        assert!(40 + 8 + layout.headroom() <= crate::buf::HEADROOM);
        assert!(layout.tailroom() <= crate::buf::TAILROOM);
        assert_eq!(layout.shortest(), Layout::of(AeadAlg::Aes128Gcm16).shortest(), "the shortest is checked ahead");
    }
}
