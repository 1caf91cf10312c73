//! Packets and buffers of every length, and numbers of SAs that there must not be.

use super::{padded, payload, suites};
use crate::ends::{NOW, Rng, Sa, a_to_b, inbound, ip, open, path, reversed, seal, tunnel};
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::Protection;
use ipsec_core::ecn::Ecn;
use ipsec_core::error::{Discard, Refused};
use ipsec_core::net::{Spi, TrafficSelector};
use ipsec_core::sa::Mode;
use ipsec_core::transform::Layout;

/// Octets around a packet that nobody may write to.
const AROUND: usize = 40;

#[test]
fn atk_55_every_length_up_to_64_of_every_suite_is_refused() {
    let mut rng = Rng(55);
    for protection in suites() {
        for esn in [false, true] {
            let sa = Sa { esn, ..Sa::default() }.under(protection);
            let (mut out, mut inn) = tunnel(&sa);
            let good = seal(&mut out, &a_to_b(44)).unwrap();
            let behind = |octets: &[u8]| [&good[..8], octets].concat();
            let shortest = Layout::of(protection).shortest();
            let mut refused = 0;
            // The beginning of a good packet, and a number that would be taken in front of zeros and of noise.
            for whole in [good.clone(), behind(&[0; 56]), behind(&rng.bytes(56))] {
                for len in 0..=64 {
                    let mut bytes = vec![0xee; AROUND + len + AROUND];
                    bytes[AROUND..AROUND + len].copy_from_slice(&whole[..len]);
                    let before = bytes.clone();
                    let mut packet = PacketBuf::new(&mut bytes, AROUND, len).unwrap();
                    let opened = inn.open(NOW, reversed(path()), Ecn::NotEct, &mut packet);
                    let expected = if len < shortest { Discard::InHeader } else { Discard::InForged };
                    assert_eq!(opened, Err(expected), "{protection:?}, {len} octets");
                    assert_eq!((packet.len(), packet.headroom()), (len, AROUND), "{protection:?}, {len} octets");
                    // What is forged may have been decrypted, what is too short is not touched.
                    let touched = if len < shortest { 0..0 } else { AROUND..AROUND + len };
                    bytes[touched.clone()].copy_from_slice(&before[touched]);
                    assert_eq!(bytes, before, "{protection:?}, {len} octets");
                    refused += 1;
                }
            }
            let counted: u64 = inn.counters().iter().map(|(_, count)| count).sum();
            let status = inn.sas().next().unwrap();
            assert_eq!((counted, status.packets, status.bytes, status.sequence), (refused, 0, 0, 0));
            assert_eq!((status.last_used, inn.poll_event()), (None, None));
            assert!(open(&mut inn, &good).is_ok(), "{protection:?}");
        }
    }
}

#[test]
fn atk_55_every_truncation_of_every_suite_is_refused_and_changes_nothing() {
    for protection in suites() {
        let sa = Sa { esn: true, ..Sa::default() }.under(protection);
        let (mut out, mut inn) = tunnel(&sa);
        let esp = seal(&mut out, &a_to_b(44)).unwrap();
        assert!(esp.len() > 64);
        for len in 0..esp.len() {
            let short = len < Layout::of(protection).shortest();
            let expected = if short { Discard::InHeader } else { Discard::InForged };
            assert_eq!(open(&mut inn, &esp[..len]), Err(expected), "{protection:?}, {len}");
        }
        let status = inn.sas().next().unwrap();
        assert_eq!((status.packets, status.bytes, status.sequence), (0, 0, 0));
        assert!(open(&mut inn, &esp).is_ok());
    }
}

#[test]
fn atk_55_an_authentic_text_of_every_length_is_a_payload_or_refused() {
    for protection in suites() {
        let sa = Sa { window: 64, ..Sa::default() }.under(protection);
        let (_, mut inn) = tunnel(&sa);
        let blocks = usize::from(Layout::of(protection).align);
        for len in 0..=64 {
            // A dummy packet without padding, of which the first octets are missing.
            let text = [&[0; 62][..], &[0, 59]].concat();
            let opened = open(&mut inn, &sa.esp(1 + len as u64, &text[64 - len..]));
            let counts = matches!(protection, Protection::CipherMac(cipher, _) if cipher.key_len() > 0);
            let expected = match len {
                0 | 1 => Discard::InHeader,
                // Blocks that are not whole are nothing that a cipher can decrypt.
                _ if counts && len % blocks != 0 => Discard::InForged,
                _ => Discard::InDummy,
            };
            assert_eq!(opened, Err(expected), "{protection:?}, {len} octets");
        }
    }
}

/// What becomes of an inner packet in a buffer with this room.
fn seal_between(sa: &Sa, headroom: usize, inner: &[u8], tailroom: usize) -> Result<usize, Discard> {
    let (mut out, mut inn) = tunnel(sa);
    let id = out.sas().next().unwrap().id;
    let mut bytes = vec![0xee; headroom + inner.len() + tailroom];
    bytes[headroom..headroom + inner.len()].copy_from_slice(inner);
    let before = bytes.clone();
    let mut packet = PacketBuf::new(&mut bytes, headroom, inner.len()).unwrap();
    let sealed = out.seal(NOW, id, &mut packet).map(|_| packet.len());
    let esp = packet.as_slice().to_vec();
    if sealed.is_ok() {
        assert_eq!(open(&mut inn, &esp).as_deref(), Ok(inner));
    } else {
        assert_eq!((esp, bytes), (inner.to_vec(), before), "it is as it was");
        assert_eq!(out.sas().next().unwrap().sequence, sa.sequence, "and no number is used");
    }
    sealed
}

#[test]
fn atk_57_71_every_suite_takes_the_room_that_its_layout_says_and_no_more() {
    for protection in suites() {
        let (layout, sa) = (Layout::of(protection), Sa { esn: true, ..Sa::default() }.under(protection));
        for len in [0, 1, 2, 3, 7, 14] {
            let inner = a_to_b(len);
            let pad = (inner.len() + 2).next_multiple_of(layout.align.into()) - inner.len();
            let (front, back) = (layout.headroom(), pad + usize::from(layout.icv_len));
            let all = front + inner.len() + back;
            for headroom in 0..=front + 1 {
                let expected = if headroom < front { Err(Discard::OutNoRoom) } else { Ok(all) };
                assert_eq!(seal_between(&sa, headroom, &inner, back), expected, "{protection:?}, {len}, {headroom}");
            }
            for tailroom in 0..=back + 1 {
                let expected = if tailroom < back { Err(Discard::OutNoRoom) } else { Ok(all) };
                assert_eq!(seal_between(&sa, front, &inner, tailroom), expected, "{protection:?}, {len}, {tailroom}");
            }
        }
        assert!(40 + 8 + layout.headroom() <= HEADROOM && layout.tailroom() <= TAILROOM, "{protection:?}");
    }
}

#[test]
fn atk_57_71_a_buffer_that_is_too_small_is_refused_and_left_alone() {
    let sa = Sa::default();
    for inner_len in 20..30 {
        let inner = a_to_b(inner_len - 20);
        let pad = (inner_len + 2).wrapping_neg() % 4;
        let (front, back) = (16, pad + 2 + 16);
        for headroom in 0..=front + 1 {
            for tailroom in 0..=back + 1 {
                let fits = headroom >= front && tailroom >= back;
                let expected = if fits { Ok(front + inner_len + back) } else { Err(Discard::OutNoRoom) };
                let sealed = seal_between(&sa, headroom, &inner, tailroom);
                assert_eq!(sealed, expected, "{headroom} + {inner_len} + {tailroom}");
            }
        }
    }
}

#[test]
fn atk_71_what_is_opened_gets_a_header_where_there_is_room_for_one() {
    let host = |address: std::net::IpAddr| vec![TrafficSelector::addrs(ipsec_core::net::AddrRange::single(address))];
    let (site_a, site_b) = (host(path().local.ip()), host(path().remote.ip()));
    let inner = ip("192.0.2.1", "192.0.2.2", 59, &[7; 10]);
    for protection in suites() {
        let layout = Layout::of(protection);
        let (site_a, site_b) = (site_a.clone(), site_b.clone());
        let sa = Sa { mode: Mode::Transport, site_a, site_b, ..Sa::default() }.under(protection);
        let (_, mut inn) = tunnel(&sa);
        for headroom in 0..=24 {
            let esp = sa.esp(1 + headroom as u64, &padded(&inner[20..], layout.align, 17));
            let mut bytes = vec![0xee; headroom];
            bytes.extend(&esp);
            let mut packet = PacketBuf::new(&mut bytes, headroom, esp.len()).unwrap();
            let opened = inn.open(NOW, reversed(path()), Ecn::NotEct, &mut packet);
            // ESP's own header and IV make room, too.
            let fits = headroom + layout.headroom() >= 20;
            assert_eq!(opened.err(), (!fits).then_some(Discard::InMode), "{protection:?}, {headroom}");
            assert!(!fits || packet.len() == inner.len());
        }
    }
}

#[test]
fn atk_60_spi_0_to_255_is_refused() {
    let (mut inn, sa) = (inbound(2), Sa { spi: 256, ..Sa::default() });
    inn.install(NOW, &sa.inbound()).unwrap();
    let good = sa.esp(1, &payload(&a_to_b(8), &[1, 2], 4));
    for spi in 0..=255_u32 {
        assert_eq!(Spi::new(spi), None);
        let mut esp = good.clone();
        esp[..4].copy_from_slice(&spi.to_be_bytes());
        assert_eq!(open(&mut inn, &esp), Err(Discard::InHeader), "{spi}");
    }
    assert!(open(&mut inn, &good).is_ok());
    // Nor does the table ever give one out.
    let mut inn = inbound(300);
    for random in 0..300 {
        assert!(inn.reserve_spi(random).unwrap().get() > 255);
    }
    assert_eq!(inn.reserve_spi(7), Err(Refused::Full));
}
