//! Payloads that are compressed (RFC 3173), with DEFLATE of somebody else.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::ends::{In, NOW, Out, Rng, Sa, inbound, ip, outbound, path, reversed};
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::compression::Compression;
use ipsec_core::ecn::Ecn;
use ipsec_core::error::{Discard, Refused};
use ipsec_core::net::{AddrRange, Cpi, Encap, Path, TrafficSelector};
use ipsec_core::sa::{Mode, SaId, TfcPadding};

const CPI: Cpi = Cpi(0x4321);
const ROOM: usize = 2048;

/// As RFC 2394 has it: no header, no checksum, each packet by itself.
#[derive(Default)]
struct Deflate(Vec<u8>);

impl Compression for Deflate {
    fn compress(&mut self, data: &[u8]) -> Option<&[u8]> {
        self.0 = compress_to_vec(data, 6);
        Some(&self.0)
    }

    fn decompress(&mut self, data: &[u8], at_most: usize) -> Option<&[u8]> {
        self.0 = decompress_to_vec_with_limit(data, at_most).ok()?;
        Some(&self.0)
    }
}

/// Both ends of an SA that compresses.
struct Pair {
    out: Out,
    inn: In,
    sa: Sa,
    id: SaId,
    received: SaId,
}

impl Pair {
    fn new(sa: Sa) -> Self {
        Self::agreed(Sa { compression: Some(CPI), ..sa })
    }

    fn agreed(sa: Sa) -> Self {
        let mut out = outbound(1).compressing(Box::leak(Box::new(Deflate::default())));
        let mut inn = inbound(1).compressing(Box::leak(Box::new(Deflate::default())));
        let (id, received) = (out.install(NOW, &sa.outbound()).unwrap(), inn.install(NOW, &sa.inbound()).unwrap());
        Self { out, inn, sa, id, received }
    }

    fn seal(&mut self, inner: &[u8]) -> Result<Vec<u8>, Discard> {
        let mut bytes = vec![0; HEADROOM + ROOM];
        let mut packet = PacketBuf::with_payload(&mut bytes, inner).unwrap();
        self.out.seal(NOW, self.id, &mut packet).map(|_| packet.as_slice().to_vec())
    }

    fn open(&mut self, esp: &[u8]) -> Result<Vec<u8>, Discard> {
        let mut bytes = vec![0; HEADROOM + ROOM];
        let mut packet = PacketBuf::new(&mut bytes, HEADROOM, esp.len()).unwrap();
        packet.as_mut_slice().copy_from_slice(esp);
        self.inn.open(NOW, reversed(path()), Ecn::NotEct, &mut packet).map(|_| packet.as_slice().to_vec())
    }

    /// What comes out of a payload that a peer has made otherwise.
    fn made(&mut self, sequence: u64, payload: &[u8]) -> Result<Vec<u8>, Discard> {
        let mut padded = payload.to_vec();
        let pad = (4 - (payload.len() + 2) % 4) % 4;
        padded.extend((1..=pad as u8).chain([pad as u8, 108]));
        let esp = self.sa.esp(sequence, &padded);
        self.open(&esp)
    }
}

fn text(len: usize) -> Vec<u8> {
    b"the same again, ".iter().copied().cycle().take(len).collect()
}

/// An IPComp header with what is compressed behind it.
fn ipcomp(next_header: u8, Cpi(cpi): Cpi, content: &[u8]) -> Vec<u8> {
    [&[next_header, 0][..], &cpi.to_be_bytes(), &compress_to_vec(content, 6)].concat()
}

fn site_to_site(payload: &[u8]) -> [Vec<u8>; 2] {
    [ip("10.1.0.5", "10.2.0.9", 17, payload), ip("fd01::5", "fd02::9", 17, payload)]
}

#[test]
fn what_gets_shorter_is_compressed_and_the_rest_goes_as_it_is() {
    for encap in [Encap::Udp, Encap::None] {
        let mut pair = Pair::new(Sa { encap, ..Sa::default() });
        let mut rng = Rng(3);
        for len in [0, 8, 40, 63, 64, 100, 500, 1300] {
            for (compressible, payload) in [(true, text(len)), (false, rng.bytes(len))] {
                for inner in site_to_site(&payload) {
                    let esp = pair.seal(&inner).unwrap();
                    let plain = inner.len() + 34..=inner.len() + 37;
                    let expected = !compressible || inner.len() < 90;
                    assert_eq!(plain.contains(&esp.len()), expected, "{} of {}", esp.len(), inner.len());
                    assert!(plain.end() >= &esp.len(), "never longer");
                    assert_eq!(pair.open(&esp), Ok(inner));
                }
            }
        }
        // Octets are those of the packets themselves, at both ends; those of a limit are what was encrypted.
        let (sent, received) = (pair.out.sa(pair.id).unwrap(), pair.inn.sa(pair.received).unwrap());
        assert_eq!((sent.packets, sent.bytes), (received.packets, received.bytes));
        assert!(sent.bytes > 2 * (500 + 1300) * 2);
    }
}

#[cfg(feature = "transport")]
#[test]
fn in_transport_mode_the_payload_is_compressed() {
    let host = |addr: &str| vec![TrafficSelector::addrs(AddrRange::single(addr.parse().unwrap()))];
    let sa = Sa { mode: Mode::Transport, site_a: host("192.0.2.1"), site_b: host("192.0.2.2"), ..Sa::default() };
    let mut pair = Pair::new(Sa { encap: Encap::None, ..sa });
    let from = Path { local: path().remote, remote: path().local }.carried(Encap::None);
    let inner = ip("192.0.2.1", "192.0.2.2", 17, &[&[0, 7, 0, 9, 2, 88, 0, 0][..], &text(592)].concat());
    let esp = pair.seal(&inner).unwrap();
    assert!(esp.len() < 120, "{}", esp.len());
    let mut bytes = vec![0; HEADROOM + ROOM];
    let mut packet = PacketBuf::new(&mut bytes, HEADROOM, esp.len()).unwrap();
    packet.as_mut_slice().copy_from_slice(&esp);
    pair.inn.open(NOW, from, Ecn::NotEct, &mut packet).unwrap();
    // The header is a new one: what counts is what it says, and what is behind it.
    assert_eq!((packet.as_slice()[9], packet.as_slice()[2..4].to_vec()), (17, inner[2..4].to_vec()));
    assert_eq!(packet.as_slice()[12..], inner[12..]);
}

#[test]
fn padding_of_traffic_flows_goes_only_where_its_beginning_can_be_told() {
    let mut pair = Pair::new(Sa::default());
    assert!(pair.out.set_padding(pair.id, TfcPadding::Length(1200)));
    let [short, _] = site_to_site(&[7; 20]);
    let [long, _] = site_to_site(&text(800));
    let (padded, compressed) = (pair.seal(&short).unwrap(), pair.seal(&long).unwrap());
    assert!(padded.len() > 1200 && compressed.len() < 200, "{} {}", padded.len(), compressed.len());
    assert_eq!((pair.open(&padded), pair.open(&compressed)), (Ok(short), Ok(long)));
}

#[test]
fn a_packet_that_is_not_sealed_is_as_it_was() {
    let mut pair = Pair::new(Sa { last_number: 1, ..Sa::default() });
    let [first, inner] = site_to_site(&text(900));
    pair.seal(&first).unwrap();
    let mut bytes = vec![0; HEADROOM + inner.len() + TAILROOM];
    let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
    assert_eq!(pair.out.seal(NOW, pair.id, &mut packet).unwrap_err(), Discard::OutExhausted);
    assert_eq!((packet.as_slice(), packet.headroom()), (&inner[..], HEADROOM));
}

#[test]
fn selectors_are_those_of_the_packet_that_was_compressed() {
    let mut pair = Pair::new(Sa::default());
    let outside = ip("10.9.0.5", "10.2.0.9", 17, &text(500));
    assert_eq!(pair.made(1, &ipcomp(4, CPI, &outside)), Err(Discard::InSelectors));
    let [inside, six] = site_to_site(&text(500));
    assert_eq!(pair.made(2, &ipcomp(4, CPI, &inside)).as_ref(), Ok(&inside));
    assert_eq!(pair.made(3, &ipcomp(41, CPI, &inside)), Err(Discard::InMode));
    assert_eq!(pair.made(4, &ipcomp(41, CPI, &six)), Ok(six));
    assert_eq!(pair.made(5, &ipcomp(59, CPI, &inside)), Err(Discard::InMode));
}

#[test]
fn who_did_not_agree_on_it_takes_nothing_compressed() {
    let mut pair = Pair::agreed(Sa::default());
    let [inner, _] = site_to_site(&text(500));
    assert_eq!(pair.made(1, &ipcomp(4, CPI, &inner)), Err(Discard::InMode));
    assert!(pair.seal(&inner).unwrap().len() > inner.len());
    let mut pair = Pair::new(Sa::default());
    assert_eq!(pair.made(1, &ipcomp(4, Cpi::DEFLATE, &inner)), Err(Discard::InCompression), "another index");
    assert_eq!(pair.made(2, &ipcomp(4, CPI, &inner)), Ok(inner));
    // An engine that was lent nothing to do it with agrees to nothing.
    let (mut out, mut inn) = (outbound(1), inbound(1));
    assert_eq!(out.install(NOW, &pair.sa.outbound()).unwrap_err(), Refused::Compression);
    assert_eq!(inn.install(NOW, &pair.sa.inbound()).unwrap_err(), Refused::Compression);
    assert!(inn.install(NOW, &Sa::default().inbound()).is_ok());
}

#[test]
fn atk_68_one_level_is_opened_and_no_more_than_there_is_room_for() {
    let mut pair = Pair::new(Sa::default());
    let [inner, _] = site_to_site(&text(900));
    let once = ipcomp(4, CPI, &inner);
    assert_eq!(pair.made(1, &ipcomp(108, CPI, &once)), Err(Discard::InCompression));
    // 64 KiB of zeros come as some 80 octets.
    let bomb = ipcomp(4, CPI, &ip("10.1.0.5", "10.2.0.9", 17, &vec![0; 65_000]));
    assert!(bomb.len() < 200);
    assert_eq!(pair.made(2, &bomb), Err(Discard::InCompression));
    // As much as fits behind the headers that came off, and an octet more.
    let room = ROOM - 16;
    for (sequence, len, fits) in [(3, room, true), (4, room + 1, false)] {
        let inner = ip("10.1.0.5", "10.2.0.9", 17, &vec![0; len - 20]);
        let opened = pair.made(sequence, &ipcomp(4, CPI, &inner));
        assert_eq!(opened.map(|opened| opened.len()), if fits { Ok(len) } else { Err(Discard::InCompression) });
    }
    for (sequence, len) in (5..).zip(0..once.len()) {
        let cut = pair.made(sequence, &once[..len]);
        assert_eq!(cut, Err(Discard::InCompression), "{len}");
    }
    let mut rng = Rng(68);
    for sequence in 2_000..6_000 {
        let (mut damaged, at) = (once.clone(), rng.below(once.len() as u64) as usize);
        damaged[at] ^= 1 << rng.below(8);
        if let Ok(opened) = pair.made(sequence, &damaged) {
            assert!(opened.len() <= room);
        }
    }
    assert_eq!(pair.made(10_000, &once), Ok(inner), "the SA goes on");
}
