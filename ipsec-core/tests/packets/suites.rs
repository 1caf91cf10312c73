//! Every suite goes the same way through the engines: what each has to do, whatever stands behind it.

use crate::attacks::suites;
use crate::ends::{NOW, Sa, a_to_b, inbound, open, outbound, seal, tunnel};
use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::crypto::{AeadAlg, CipherAlg, IntegAlg, Iv, Protection};
use ipsec_core::engine::{Outbound, OutboundSlot};
use ipsec_core::error::{Discard, Refused};
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
fn without_a_generator_no_packet_with_a_random_iv_is_sealed_and_none_is_lost() {
    let sa = sa(Protection::CipherMac(CipherAlg::Aes128Cbc, IntegAlg::HmacSha256), false);
    let mut slots = [OutboundSlot::<RustCrypto>::EMPTY];
    let mut out: Outbound<'_, _> = Outbound::new(RustCrypto, &mut [], &mut slots);
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
