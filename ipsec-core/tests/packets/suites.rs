//! Every suite goes the same way through the engines: what each has to do, whatever stands behind it.

use crate::attacks::suites;
use crate::drained::Drained;
use crate::ends::{NOW, Sa, a_to_b, addr, inbound, ip, open, outbound, seal, tunnel};
use ipsec_core::buf::{HEADROOM, PacketBuf, TAILROOM};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, CipherAlg, IntegAlg, Iv, Protection};
use ipsec_core::encap::push_outer;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::error::{Discard, Refused};
use ipsec_core::net::{AddrRange, Encap, Path, TrafficSelector};
use ipsec_core::sa::{Mode, OutboundParams, Params};
use ipsec_core::transform::Layout;

fn sa(protection: Protection, esn: bool) -> Sa {
    Sa { esn, ..Sa::default() }.under(protection)
}

#[test]
fn each_suite_opens_what_it_sealed_and_nothing_else() {
    for protection in suites() {
        for esn in [false, true] {
            let (layout, sa) = (Layout::of(protection), sa(protection, esn));
            let (mut out, mut inn) = tunnel(&sa);
            for len in (0..70).chain([1380, 8900]) {
                let inner = a_to_b(len);
                let esp = seal(&mut out, &inner).unwrap();
                let (align, icv_len) = (usize::from(layout.align), usize::from(layout.icv_len));
                assert_eq!((esp.len() - layout.headroom() - icv_len) % align, 0, "{protection:?}");
                assert!(esp.len() >= layout.shortest() + inner.len(), "{protection:?}");
                assert!(esp.len() <= layout.headroom() + inner.len() + layout.tailroom(), "{protection:?}");
                let readable = esp.windows(inner.len()).any(|part| part == inner);
                assert_eq!(readable, !protection.hides(), "{protection:?}");
                if len < 70 && len % 9 == 0 {
                    for octet in 0..esp.len() {
                        let mut wrong = esp.clone();
                        wrong[octet] ^= 0x40;
                        assert!(open(&mut inn, &wrong).is_err(), "{protection:?}, octet {octet}");
                    }
                }
                assert_eq!(open(&mut inn, &esp).as_deref(), Ok(&inner[..]), "{protection:?}, esn {esn}, {len} octets");
                assert_eq!(open(&mut inn, &esp), Err(Discard::InReplayed));
            }
        }
    }
}

#[test]
fn extended_numbers_go_over_the_wrap_and_their_high_half_is_authenticated_with_every_suite() {
    for protection in suites() {
        let at = Sa { sequence: (1 << 32) - 3, ..sa(protection, true) };
        let (mut out, mut inn) = tunnel(&at);
        for number in 1..=6 {
            let esp = seal(&mut out, &a_to_b(20)).unwrap();
            assert_eq!(esp[4..8], ((1_u64 << 32) - 3 + number).to_be_bytes()[4..], "only the low half is sent");
            assert!(open(&mut inn, &esp).is_ok(), "{protection:?}, packet {number}");
        }
        assert_eq!(inn.sas().next().unwrap().sequence, (1 << 32) + 3);

        // Another high half, or none, with the same low one.
        let esp = seal(&mut out, &a_to_b(20)).unwrap();
        for other in [Sa { sequence: 2 << 32, ..at.clone() }, Sa { sequence: 0, esn: false, ..at.clone() }] {
            let mut inn = inbound(2);
            inn.install(NOW, &other.inbound()).unwrap();
            assert_eq!(open(&mut inn, &esp), Err(Discard::InForged), "{protection:?}");
        }
    }
}

#[test]
fn after_a_loss_of_up_to_2_to_the_31_packets_it_goes_on_with_every_suite() {
    for protection in suites() {
        for from in [5, (1 << 32) - (1 << 30)] {
            let before = Sa { sequence: from, ..sa(protection, true) };
            let (_, mut inn) = tunnel(&before);
            let (mut out, _) = tunnel(&Sa { sequence: from + (1 << 31), ..before });
            let inner = a_to_b(20);
            let esp = seal(&mut out, &inner).unwrap();
            assert_eq!(open(&mut inn, &esp).as_deref(), Ok(&inner[..]), "{protection:?} from {from}");
        }
    }
}

#[test]
fn ciphers_with_blocks_are_padded_to_whole_ones_and_others_to_four_octets() {
    for cipher in CipherAlg::ALL {
        let expected = match cipher {
            CipherAlg::Aes128Cbc | CipherAlg::Aes192Cbc | CipherAlg::Aes256Cbc => 16,
            #[cfg(feature = "legacy")]
            CipherAlg::TripleDesCbc => 8,
            _ => 4,
        };
        let protection = Protection::CipherMac(*cipher, IntegAlg::HmacSha256);
        assert_eq!(Layout::of(protection).align, expected, "{cipher:?}");
        // What is in clear otherwise nobody sees who has the key.
        let (mut out, _) = tunnel(&sa(protection, false));
        for len in 0..40 {
            let esp = seal(&mut out, &ip("10.1.0.5", "10.2.0.9", 17, &vec![7; len])).unwrap();
            let text = esp.len() - 8 - cipher.iv_len() - IntegAlg::HmacSha256.icv_len();
            assert_eq!(text % usize::from(expected), 0, "{cipher:?}, {len}");
        }
    }
}

#[test]
fn a_suite_without_an_encryption_key_of_its_own_lies_open_in_the_packet() {
    let sa = sa(Protection::CipherMac(CipherAlg::Null, IntegAlg::HmacSha256), false);
    let (mut out, _) = tunnel(&sa);
    let inner = a_to_b(21);
    let esp = seal(&mut out, &inner).unwrap();
    assert_eq!(esp[8..8 + inner.len()], inner, "right behind the header");
    assert_eq!(esp[8 + inner.len()..][..3], [1, 1, 4], "one octet of padding, its length, next header");
    assert_eq!(esp.len(), 8 + inner.len() + 3 + 16);
}

#[test]
fn ivs_that_nobody_may_foresee_come_of_the_engine_and_the_others_count() {
    for protection in suites() {
        let (layout, sa) = (Layout::of(protection), sa(protection, false));
        let (mut out, _) = tunnel(&sa);
        let ivs: Vec<Vec<u8>> =
            (0..20).map(|_| seal(&mut out, &a_to_b(30)).unwrap()[8..8 + usize::from(layout.iv_len)].to_vec()).collect();
        let counted = (1..=20_u64).map(|number| number.to_be_bytes()[8 - usize::from(layout.iv_len).min(8)..].to_vec());
        match layout.iv {
            Iv::Counter => assert!(ivs.into_iter().eq(counted), "{protection:?}"),
            Iv::Random => {
                let mut sorted = ivs.clone();
                sorted.sort();
                sorted.dedup();
                assert!(sorted.len() == 20 && sorted != ivs, "{protection:?}");
            }
        }
    }
}

#[test]
fn without_a_generator_no_sa_that_needs_one_to_send_is_installed() {
    for protection in suites() {
        let mut slots = [OutboundSlot::<RustCrypto>::EMPTY];
        let mut out: Outbound<'_, _> = Outbound::new(RustCrypto, &mut [], &mut slots);
        let installed = out.install(NOW, &sa(protection, true).outbound()).err();
        let refused = (Layout::of(protection).iv == Iv::Random).then_some(Refused::NoIv);
        assert_eq!((installed, out.sas().count()), (refused, usize::from(refused.is_none())), "{protection:?}");
        // To receive, it takes none.
        let mut slots = [InboundSlot::<RustCrypto>::EMPTY];
        let mut windows = [0; 4];
        let mut inn: Inbound<'_, _> = Inbound::new(RustCrypto, &mut [], &mut slots, &mut windows);
        assert!(inn.install(NOW, &sa(protection, true).inbound()).is_ok(), "{protection:?}");
    }
}

#[test]
fn when_no_random_iv_is_left_no_packet_is_sealed_and_none_is_lost() {
    let sa = sa(Protection::CipherMac(CipherAlg::Aes128Cbc, IntegAlg::HmacSha256), false);
    let mut slots = [OutboundSlot::<Drained>::EMPTY];
    let mut out: Outbound<'_, _> = Outbound::new(Drained(1), &mut [], &mut slots);
    let id = out.install(NOW, &sa.outbound()).unwrap();
    let (inner, mut bytes) = (a_to_b(30), [0; 300]);
    let mut packet = PacketBuf::with_payload(&mut bytes, &inner).unwrap();
    assert_eq!(out.seal(NOW, id, &mut packet), Err(Discard::OutNoIv));
    assert_eq!((packet.as_slice(), out.counters().get(Discard::OutNoIv)), (&inner[..], 1));
    assert_eq!(out.sa(id).unwrap().sequence, 0, "the number is not used");
}

#[test]
fn keys_of_another_length_and_forms_that_there_are_not_are_refused() {
    for protection in suites() {
        let right = sa(protection, true);
        for len in (0..=protection.keymat_len() + 4).filter(|len| *len != protection.keymat_len()) {
            let wrong = Sa { keymat: vec![7; len], ..right.clone() };
            assert_eq!(outbound(1).install(NOW, &wrong.outbound()), Err(Refused::KeyLength), "{protection:?}, {len}");
            assert_eq!(inbound(1).install(NOW, &wrong.inbound()), Err(Refused::KeyLength), "{protection:?}, {len}");
        }
    }
    for alg in AeadAlg::ALL.iter().filter(|alg| !alg.has_implicit_iv()) {
        let sa = sa(Protection::ImplicitIv(*alg), true);
        assert_eq!(outbound(1).install(NOW, &sa.outbound()), Err(Refused::Algorithm), "{alg:?}");
        assert_eq!(inbound(1).install(NOW, &sa.inbound()), Err(Refused::Algorithm), "{alg:?}");
    }
}

#[test]
fn atk_58_the_room_is_what_the_layout_says_and_never_more() {
    for protection in suites() {
        let (layout, sa) = (Layout::of(protection), sa(protection, true));
        let (mut out, _) = tunnel(&sa);
        let id = out.sas().next().unwrap().id;
        for len in 8..40 {
            let inner = ip("10.1.0.1", "10.2.0.1", 17, &vec![3; len]);
            let align = usize::from(layout.align);
            let pad = (inner.len() + 2).next_multiple_of(align) - inner.len();
            let tail = pad + usize::from(layout.icv_len);
            for (head_less, tail_less) in [(0, 0), (1, 0), (0, 1)] {
                let (head, tail) = (layout.headroom() - head_less, tail - tail_less);
                let mut bytes = vec![0xee; head + inner.len() + tail];
                bytes[head..head + inner.len()].copy_from_slice(&inner);
                let mut packet = PacketBuf::new(&mut bytes, head, inner.len()).unwrap();
                let sealed = out.seal(NOW, id, &mut packet);
                let fits = head_less + tail_less == 0;
                assert_eq!(sealed.err(), (!fits).then_some(Discard::OutNoRoom), "{protection:?}, {len}");
                assert!(fits || packet.as_slice() == inner, "it is as it was");
            }
        }
        assert!(40 + 8 + layout.headroom() <= HEADROOM && layout.tailroom() <= TAILROOM, "{protection:?}");
    }
}

#[test]
fn what_an_engine_says_of_its_overhead_is_what_it_makes_with_every_suite_in_every_mode() {
    let ends = [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")];
    let host = |text: &str| vec![TrafficSelector::addrs(AddrRange::single(addr(text)))];
    let mut seen = 0;
    for protection in suites() {
        for mode in [Mode::Tunnel, Mode::Transport, Mode::Beet] {
            for ((outer, inner), encap) in ends
                .into_iter()
                .flat_map(|outer| ends.map(|inner| (outer, inner)))
                .filter(|(outer, inner)| mode != Mode::Transport || outer == inner)
                .flat_map(|ends| [Encap::None, Encap::Udp].map(|encap| (ends, encap)))
            {
                let sa = Sa { mode, encap, site_a: host(inner.0), site_b: host(inner.1), ..sa(protection, false) };
                let port = |text: &str| (addr(text), 4500).into();
                let path = Path { local: port(outer.0), remote: port(outer.1) };
                let usual = sa.outbound();
                let params = OutboundParams { sa: Params { path, ..usual.sa }, ..usual };
                let mut out = outbound(1);
                let id = out.install(NOW, &params).unwrap();
                let overhead = out.overhead(id).unwrap();
                let head = if addr(inner.0).is_ipv4() { 20 } else { 40 };
                let mut whole = |len: usize| {
                    let mut bytes = vec![0; HEADROOM + len + TAILROOM];
                    let packet = ip(inner.0, inner.1, 17, &vec![3; len - head]);
                    let mut packet = PacketBuf::with_payload(&mut bytes, &packet).unwrap();
                    let egress = out.seal(NOW, id, &mut packet).unwrap();
                    push_outer(&egress, &mut packet).unwrap();
                    packet.len()
                };
                let lens: Vec<_> = (head..head + 40).map(|len| (len, whole(len))).collect();
                for (len, outer_len) in &lens {
                    let what = format!("{protection:?} {mode:?}: {inner:?} over {outer:?}, {encap:?}, {len}");
                    assert_eq!(overhead.outer_len(*len), *outer_len, "{what}");
                    let longest = lens.iter().filter(|(_, outer)| outer <= outer_len).map(|(len, _)| *len).max();
                    if longest < Some(head + 39) {
                        assert_eq!(Some(overhead.max_inner_len(*outer_len)), longest, "{what}");
                    }
                    seen += 1;
                }
                assert!(overhead.max_inner_len(lens[0].1 - 1) < head);
            }
        }
    }
    assert!(seen > 40 * 20 * 70, "{seen}");
}
