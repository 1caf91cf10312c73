//! What is chosen of which offers, and which answers are taken.

extern crate alloc;
use alloc::string::ToString;
use alloc::vec::Vec;

use ipsec_core::crypto::AeadAlg;

use super::*;
use crate::crypto::{Additional, CipherAlg, Group, IntegAlg, PrfAlg, Protection};
use crate::proposal::codec::group;
use crate::proposal::configured::{Transforms, offer_esp, offer_ike};
use crate::registry::ExchangeType;
use crate::wire::header::Header;
use crate::wire::writer::MessageWriter;

/// The body of an SA payload. Each proposal: protocol, SPI, transforms as `(type, id, key bits)`.
type Offer<'a> = (u8, &'a [u8], &'a [(u8, u16, u16)]);

fn sa(offers: &[Offer<'_>]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (index, (protocol, spi, specs)) in offers.iter().enumerate() {
        let mut buf = [0; 16_384];
        let mut out = MessageWriter::new(&mut buf, &Header::new(1, 2, ExchangeType::IKE_SA_INIT, 0)).unwrap();
        let specs = specs.iter().map(|(kind, id, bits)| TransformSpec {
            kind: TransformType(*kind),
            id: *id,
            key_bits: (*bits != 0).then_some(*bits),
        });
        let number = u8::try_from(index + 1).unwrap();
        out.sa(ProtocolId(*protocol), spi, [(number, specs)]).unwrap();
        let len = out.finish().len;
        buf[32] = if index + 1 < offers.len() { 2 } else { 0 };
        octets.extend(&buf[32..len]);
    }
    octets
}

fn ike(local: &str, offers: &[Offer<'_>], rekey: bool) -> Result<ChosenIke, Mismatch> {
    select_ike(&[IkeProposal::parse(local).unwrap()], &Sa::parse(&sa(offers)).unwrap(), rekey)
}

fn esp(local: &str, offers: &[Offer<'_>], with_ke: bool) -> Result<ChosenEsp, Mismatch> {
    select_esp(&[EspProposal::parse(local).unwrap()], &Sa::parse(&sa(offers)).unwrap(), with_ke)
}

fn ike_answer(offers: &[Offer<'_>], rekey: bool) -> Result<ChosenIke, NotOffered> {
    check_ike(&[IkeProposal::default()], &Sa::parse(&sa(offers)).unwrap(), rekey)
}

fn esp_answer(local: &str, offers: &[Offer<'_>], with_ke: bool) -> Result<ChosenEsp, NotOffered> {
    check_esp(&[EspProposal::parse(local).unwrap()], &Sa::parse(&sa(offers)).unwrap(), with_ke)
}

const LOCAL: &str = "aes256gcm16-aes128gcm16-prfsha384-prfsha256-x25519-ecp256";
const GCM256: (u8, u16, u16) = (1, 20, 256);
const GCM128: (u8, u16, u16) = (1, 20, 128);
const CBC256: (u8, u16, u16) = (1, 12, 256);
const SHA256: (u8, u16, u16) = (2, 5, 0);
const SHA384: (u8, u16, u16) = (2, 6, 0);
const X25519: (u8, u16, u16) = (4, 31, 0);
const ECP256: (u8, u16, u16) = (4, 19, 0);
const MODP2048: (u8, u16, u16) = (4, 14, 0);
const KE_NONE: (u8, u16, u16) = (4, 0, 0);
const ESN: (u8, u16, u16) = (5, 1, 0);
const NO_ESN: (u8, u16, u16) = (5, 0, 0);
const SPI: &[u8] = &[0xc0, 1, 2, 3];

#[test]
fn our_order_decides_within_a_proposal_and_between_the_peers() {
    let chosen = ike(LOCAL, &[(1, &[], &[GCM128, GCM256, SHA256, SHA384, ECP256, X25519])], false).unwrap();
    assert_eq!(chosen.suite.to_string(), "aes256gcm16-prfsha384-x25519");
    let offers: [Offer<'_>; 3] =
        [(1, &[], &[CBC256, SHA256, X25519]), (1, &[], &[GCM128, SHA384, X25519]), (1, &[], &[GCM256, SHA256, ECP256])];
    let chosen = ike(LOCAL, &offers, false).unwrap();
    assert_eq!((chosen.number, chosen.spi), (3, 0));
    assert_eq!(chosen.suite.to_string(), "aes256gcm16-prfsha256-ecp256");
    // Of two that are equal to us, the peer's first.
    let same: Offer<'_> = (1, &[], &[GCM128, SHA384, X25519]);
    assert_eq!(ike(LOCAL, &[same, same], false).unwrap().number, 1);
}

#[test]
fn our_proposals_are_tried_in_their_order() {
    let local = ["aes128gcm16-prfsha512-x25519", "aes128gcm16-prfsha256-ecp256", LOCAL];
    let local = local.map(|text| IkeProposal::parse(text).unwrap());
    let offer = sa(&[(1, &[], &[GCM256, GCM128, SHA256, SHA384, ECP256, X25519])]);
    let chosen = select_ike(&local, &Sa::parse(&offer).unwrap(), false).unwrap();
    assert_eq!(chosen.suite.to_string(), "aes128gcm16-prfsha256-ecp256");
}

#[test]
fn a_mismatch_names_the_type_that_fails_last_and_both_lists() {
    let offers: [Offer<'_>; 2] =
        [(1, &[], &[CBC256, SHA256, X25519]), (1, &[], &[GCM128, SHA256, MODP2048, MODP2048, (4, 20, 0)])];
    let mismatch = ike(LOCAL, &offers, false).unwrap_err();
    assert_eq!(mismatch.kind, Some(TransformType::KE));
    assert_eq!(
        mismatch.to_string(),
        "no common KE for IKE: ours CURVE25519 ECP_256; peer's CURVE25519 MODP_2048 ECP_384"
    );
}

#[test]
fn atk_19_every_subset_of_transform_types_gets_an_answer() {
    let all = [GCM256, SHA384, X25519];
    for subset in 0..8u8 {
        let specs: Vec<_> = (0..3).filter(|bit| subset & (1 << bit) != 0).map(|bit| all[bit]).collect();
        let first_missing = [TransformType::ENCR, TransformType::PRF, TransformType::KE]
            .into_iter()
            .zip(0..)
            .find(|(_, bit)| subset & (1 << bit) == 0)
            .map(|(kind, _)| kind);
        let offers: [Offer<'_>; 1] = [(1, &[], &specs)];
        assert_eq!(ike(LOCAL, &offers, false).err().map(|mismatch| mismatch.kind), first_missing.map(Some));
        let wrong = ike_answer(&offers, false).err();
        assert_eq!(wrong, first_missing.map(|kind| NotOffered { kind: Some(kind) }));
    }
}

#[test]
fn atk_13_an_offer_of_nothing_is_a_mismatch() {
    let wrong: [&[Offer<'_>]; 3] =
        [&[], &[(3, SPI, &[GCM256, SHA384, X25519])], &[(1, SPI, &[GCM256, SHA384, X25519])]];
    for offers in wrong {
        let mismatch = ike(LOCAL, offers, false).unwrap_err();
        assert_eq!((mismatch.kind, mismatch.protocol), (None, ProtocolId::IKE));
        assert_eq!(mismatch.to_string(), "no usable IKE proposal from the peer");
        assert_eq!(ike_answer(offers, false), Err(NotOffered { kind: None }));
    }
}

#[test]
fn integrity_none_goes_with_aead_and_any_other_does_not() {
    let offer = |integ: &[(u8, u16, u16)]| {
        let specs = [&[GCM256, SHA384, X25519][..], integ].concat();
        ike(LOCAL, &[(1, &[], &specs)], false)
    };
    assert!(offer(&[(3, 0, 0)]).is_ok());
    assert!(offer(&[(3, 12, 0), (3, 0, 0)]).is_ok());
    assert_eq!(offer(&[(3, 12, 0)]).unwrap_err().kind, Some(TransformType::INTEG));
}

#[test]
fn additional_key_exchanges_may_be_none_and_unknown_types_may_not_be() {
    let offer = |more: &[(u8, u16, u16)]| {
        let specs = [&[GCM256, SHA384, X25519][..], more].concat();
        ike(LOCAL, &[(1, &[], &specs)], false).map_err(|mismatch| mismatch.kind)
    };
    assert!(offer(&[(6, 36, 0), (6, 0, 0)]).is_ok());
    assert_eq!(offer(&[(6, 36, 0)]), Err(Some(TransformType::ADDKE1)));
    assert_eq!(offer(&[(13, 0, 0)]), Err(Some(TransformType(13))));
    assert_eq!(offer(&[(255, 7, 0)]), Err(Some(TransformType(255))));
}

#[test]
fn key_lengths_count_and_a_bad_attribute_spoils_one_transform_only() {
    let bits =
        |bits| ike(LOCAL, &[(1, &[], &[(1, 20, bits), SHA384, X25519])], false).map(|chosen| chosen.suite.protection);
    assert_eq!(bits(128), Ok(Protection::Aead(AeadAlg::Aes128Gcm16)));
    for bad in [0, 64, 192, 257, 0xffff] {
        assert_eq!(bits(bad).unwrap_err().kind, Some(TransformType::ENCR), "{bad}");
    }
    // A PRF with a key length is not the PRF we know.
    let offer: [Offer<'_>; 1] = [(1, &[], &[GCM128, (2, 6, 128), SHA256, X25519])];
    assert_eq!(ike(LOCAL, &offer, false).unwrap().suite.prf, PrfAlg::HmacSha256);
}

#[test]
fn the_spi_of_a_rekeyed_ike_sa_has_8_octets_and_is_not_zero() {
    let offer = |spi| ike(LOCAL, &[(1, spi, &[GCM256, SHA384, X25519])], true).map(|chosen| chosen.spi);
    assert_eq!(offer(&[0, 0, 0, 0, 0, 0, 1, 2]), Ok(0x102));
    for spi in [&[][..], &[0; 8], &[1; 4], &[1; 7], &[1; 9]] {
        assert_eq!(offer(spi).unwrap_err().kind, None);
    }
}

#[test]
fn the_spi_of_a_child_sa_has_4_octets_and_is_not_reserved() {
    let offer = |spi| esp("aes256gcm16", &[(3, spi, &[GCM256, NO_ESN])], false).map(|chosen| chosen.spi.get());
    assert_eq!(offer(SPI), Ok(0xc001_0203));
    for spi in [&[][..], &[0; 4], &[0, 0, 0, 255], &[1; 3], &[1; 5], &[1; 8]] {
        assert_eq!(offer(spi).unwrap_err().kind, None);
    }
}

#[test]
fn esn_is_agreed_and_its_absence_means_without() {
    let suite = |local, specs: &[(u8, u16, u16)]| {
        esp(local, &[(3, SPI, specs)], false).map(|chosen| chosen.suite.esn).map_err(|mismatch| mismatch.kind)
    };
    assert_eq!(suite("aes256gcm16", &[GCM256, NO_ESN, ESN]), Ok(true));
    assert_eq!(suite("aes256gcm16", &[GCM256, NO_ESN]), Ok(false));
    assert_eq!(suite("aes256gcm16", &[GCM256]), Ok(false));
    assert_eq!(suite("aes256gcm16-noesn-esn", &[GCM256, ESN, NO_ESN]), Ok(false));
    assert_eq!(suite("aes256gcm16-esn", &[GCM256]), Err(Some(TransformType::ESN)));
    assert_eq!(suite("aes256gcm16-noesn", &[GCM256, ESN]), Err(Some(TransformType::ESN)));
}

#[test]
fn key_exchanges_after_the_first_one_are_not_looked_at_in_ike_auth_either() {
    let offer: [Offer<'_>; 1] = [(3, SPI, &[GCM256, X25519, NO_ESN, (6, 36, 0)])];
    assert_eq!(esp("aes256gcm16", &offer, false).unwrap().suite.to_string(), "aes256gcm16-noesn");
    assert!(esp("aes256gcm16-x25519", &offer, true).is_err());
}

#[test]
fn pfs_is_agreed_in_create_child_sa_and_not_looked_at_in_ike_auth() {
    let group = |local, specs: &[(u8, u16, u16)], with_ke| {
        let specs = [&[GCM256, NO_ESN][..], specs].concat();
        esp(local, &[(3, SPI, &specs)], with_ke).map(|chosen| chosen.suite.group).map_err(|mismatch| mismatch.kind)
    };
    const KE: Option<TransformType> = Some(TransformType::KE);
    assert_eq!(group("aes256gcm16-x25519", &[], false), Ok(None));
    assert_eq!(group("aes256gcm16-x25519", &[MODP2048], false), Ok(None));
    assert_eq!(group("aes256gcm16-x25519", &[ECP256, X25519], true), Ok(Some(Group::Curve25519)));
    assert_eq!(group("aes256gcm16-x25519", &[], true), Err(KE));
    assert_eq!(group("aes256gcm16-x25519", &[KE_NONE], true), Err(KE));
    assert_eq!(group("aes256gcm16", &[X25519], true), Err(KE));
    assert_eq!(group("aes256gcm16", &[X25519, KE_NONE], true), Ok(None));
    assert_eq!(group("aes256gcm16", &[KE_NONE], true), Ok(None));
    assert_eq!(group("aes256gcm16", &[], true), Ok(None));
    assert_eq!(group("aes256gcm16-x25519-modpnone", &[], true), Ok(None));
    assert_eq!(group("aes256gcm16-x25519-modpnone", &[KE_NONE, X25519], true), Ok(Some(Group::Curve25519)));
}

#[test]
fn many_proposals_with_many_transforms_are_searched_to_the_end() {
    let unknown: Vec<(u8, u16, u16)> =
        (0..84).flat_map(|id| [(1, 1000 + id, 0), (2, 1000 + id, 0), (4, 1000 + id, 0)]).collect();
    let last = [unknown.as_slice(), &[GCM256, SHA384, X25519]].concat();
    assert_eq!(last.len(), 255);
    let mut offers: Vec<Offer<'_>> = [(1, &[][..], unknown.as_slice()); 20].to_vec();
    offers.push((1, &[], &last));
    assert_eq!(ike(LOCAL, &offers, false).unwrap().number, 21);
    offers.pop();
    let mismatch = ike(LOCAL, &offers, false).unwrap_err();
    assert_eq!((mismatch.kind, mismatch.theirs.len()), (Some(TransformType::ENCR), 8));
}

#[test]
fn what_we_offer_is_accepted_and_the_answer_is_what_we_offered() {
    let (ours, theirs) = (
        [IkeProposal::parse("aes128gcm16-prfsha512-ecp256").unwrap(), IkeProposal::default()],
        [IkeProposal::default()],
    );
    let mut buf = [0; 1024];
    let mut out = MessageWriter::new(&mut buf, &Header::new(1, 0, ExchangeType::IKE_SA_INIT, 0)).unwrap();
    out.sa(ProtocolId::IKE, &[], offer_ike(&ours)).unwrap();
    let len = out.finish().len;
    let chosen = select_ike(&theirs, &Sa::parse(&buf[32..len]).unwrap(), false).unwrap();
    assert_eq!((chosen.number, chosen.suite.to_string().as_str()), (2, "aes256gcm16-prfsha384-x25519"));
    let mut out = MessageWriter::new(&mut buf, &Header::new(1, 2, ExchangeType::IKE_SA_INIT, 0)).unwrap();
    out.sa(ProtocolId::IKE, &[], [(chosen.number, chosen.suite.transforms())]).unwrap();
    let len = out.finish().len;
    assert_eq!(check_ike(&ours, &Sa::parse(&buf[32..len]).unwrap(), false), Ok(chosen));

    let local = [EspProposal::default()];
    for with_ke in [false, true] {
        let mut out = MessageWriter::new(&mut buf, &Header::new(1, 2, ExchangeType::IKE_AUTH, 1)).unwrap();
        out.sa(ProtocolId::ESP, SPI, offer_esp(&local, with_ke)).unwrap();
        let len = out.finish().len;
        let chosen = select_esp(&local, &Sa::parse(&buf[32..len]).unwrap(), with_ke).unwrap();
        assert_eq!(chosen.suite.group, with_ke.then_some(Group::Curve25519));
        let mut out = MessageWriter::new(&mut buf, &Header::new(1, 2, ExchangeType::IKE_AUTH, 1)).unwrap();
        out.sa(ProtocolId::ESP, SPI, [(chosen.number, chosen.suite.transforms())]).unwrap();
        let len = out.finish().len;
        assert_eq!(check_esp(&local, &Sa::parse(&buf[32..len]).unwrap(), with_ke), Ok(chosen));
    }
}

#[test]
fn an_answer_that_is_not_one_of_ours_is_refused() {
    let right: Offer<'_> = (1, &[], &[GCM256, SHA384, X25519]);
    assert!(ike_answer(&[right], false).is_ok());
    let refused = |offers: &[Offer<'_>]| ike_answer(offers, false).unwrap_err().kind;
    assert_eq!(refused(&[right, right]), None);
    assert_eq!(refused(&[(1, &[1; 8], right.2)]), None);
    assert_eq!(refused(&[(1, &[], &[GCM256, GCM128, SHA384, X25519])]), Some(TransformType::ENCR));
    assert_eq!(refused(&[(1, &[], &[(1, 20, 192), SHA384, X25519])]), Some(TransformType::ENCR));
    assert_eq!(refused(&[(1, &[], &[GCM256, SHA384, X25519, ECP256])]), Some(TransformType::KE));
    assert_eq!(refused(&[(1, &[], &[GCM256, SHA384, MODP2048])]), Some(TransformType::KE));
    assert_eq!(refused(&[(1, &[], &[GCM256, SHA384, X25519, (3, 12, 0)])]), Some(TransformType::INTEG));
    assert_eq!(refused(&[(1, &[], &[GCM256, SHA384, X25519, (6, 36, 0)])]), Some(TransformType::ADDKE1));
    let mut numbered = sa(&[right]);
    for number in [0, 2, 255] {
        numbered[4] = number;
        let answer = check_ike(&[IkeProposal::default()], &Sa::parse(&numbered).unwrap(), false);
        assert_eq!(answer, Err(NotOffered { kind: None }));
    }
}

#[test]
fn an_answer_about_pfs_must_be_one_we_offered() {
    let answer = |local, specs: &[(u8, u16, u16)], with_ke| {
        let specs = [&[GCM256, NO_ESN][..], specs].concat();
        esp_answer(local, &[(3, SPI, &specs)], with_ke).map(|chosen| chosen.suite.group)
    };
    let refused = Err(NotOffered { kind: Some(TransformType::KE) });
    assert_eq!(answer("aes256gcm16-x25519", &[X25519], true), Ok(Some(Group::Curve25519)));
    assert_eq!(answer("aes256gcm16-x25519", &[], true), refused);
    assert_eq!(answer("aes256gcm16-x25519", &[KE_NONE], true), refused);
    assert_eq!(answer("aes256gcm16-x25519-modpnone", &[], true), Ok(None));
    assert_eq!(answer("aes256gcm16-x25519-modpnone", &[KE_NONE], true), Ok(None));
    assert_eq!(answer("aes256gcm16", &[X25519], true), refused);
    assert_eq!(answer("aes256gcm16-x25519", &[], false), Ok(None));
    assert_eq!(answer("aes256gcm16-x25519", &[X25519], false), refused);
}

#[test]
fn a_cipher_goes_with_integrity_and_an_aead_without() {
    const INTEG: (u8, u16, u16) = (3, 12, 0);
    let prf = [PrfAlg::HmacSha384];
    let ours = [
        IkeProposal::aead(&[AeadAlg::Aes256Gcm16], &prf, &[Group::Curve25519]),
        IkeProposal::cipher_mac(
            &[CipherAlg::Aes256Cbc, CipherAlg::Aes128Cbc],
            &[IntegAlg::HmacSha512, IntegAlg::HmacSha256],
            &prf,
            &[Group::Curve25519],
        ),
    ];
    let select = |specs: &[(u8, u16, u16)]| {
        let octets = sa(&[(1, &[], specs)]);
        let chosen = select_ike(&ours, &Sa::parse(&octets).unwrap(), false);
        chosen.map(|chosen| chosen.suite).map_err(|mismatch| mismatch.kind)
    };
    let suite = select(&[CBC256, (1, 12, 128), SHA384, INTEG, X25519]).unwrap();
    assert_eq!(suite.protection, Protection::CipherMac(CipherAlg::Aes256Cbc, IntegAlg::HmacSha256));
    assert_eq!(suite.to_string(), "aes256-prfsha384-sha256-x25519");
    let specs: Vec<_> = suite.transforms().map(|spec| (spec.kind.0, spec.id, spec.key_bits.unwrap_or(0))).collect();
    assert_eq!(specs, [CBC256, SHA384, INTEG, X25519]);
    let answer = sa(&[(1, &[], &specs)]);
    let mut second = answer.clone();
    second[4] = 2;
    let check = |octets: &[u8]| check_ike(&ours, &Sa::parse(octets).unwrap(), false).map(|chosen| chosen.suite);
    assert_eq!(check(&second), Ok(suite));
    assert_eq!(check(&answer), Err(NotOffered { kind: Some(TransformType::ENCR) }));
    let none = Some(TransformType::INTEG);
    assert_eq!(select(&[CBC256, SHA384, X25519]), Err(none));
    assert_eq!(select(&[CBC256, SHA384, (3, 2, 0), X25519]), Err(none));
    assert_eq!(select(&[GCM256, SHA384, INTEG, X25519]), Err(none));
    // Whoever puts both into one proposal means either.
    let both = select(&[CBC256, GCM256, SHA384, (3, 0, 0), INTEG, X25519]).unwrap();
    assert_eq!(both.protection, Protection::Aead(AeadAlg::Aes256Gcm16));
}

#[test]
fn a_cipher_of_esp_goes_with_integrity() {
    let specs = [CBC256, (3, 13, 0), NO_ESN];
    let ours = specs.map(|(kind, id, bits)| TransformSpec {
        kind: TransformType(kind),
        id,
        key_bits: (bits != 0).then_some(bits),
    });
    let ours = [EspProposal(Transforms::of(ours))];
    let octets = sa(&[(3, SPI, &specs)]);
    let chosen = select_esp(&ours, &Sa::parse(&octets).unwrap(), true).unwrap();
    let protection = Protection::CipherMac(CipherAlg::Aes256Cbc, IntegAlg::HmacSha384);
    assert_eq!(chosen.suite, EspSuite::new(protection, false, None));
    assert_eq!((protection.encr_key_len(), protection.integ_key_len()), (32, 48));
    assert_eq!(check_esp(&ours, &Sa::parse(&octets).unwrap(), true), Ok(chosen));
}

#[test]
fn each_of_eight_key_exchanges_is_agreed_on_for_itself() {
    let additional = |number: u8, method| TransformSpec { kind: TransformType(5 + number), ..group(method) };
    let ours = IkeProposal::parse("aes256gcm16-prfsha384-x25519").unwrap();
    let more = [
        additional(1, Some(Group::MlKem768)),
        additional(1, None),
        additional(3, Some(Group::Ecp256)),
        additional(3, Some(Group::Curve25519)),
        additional(7, Some(Group::MlKem768)),
    ];
    let ours = [IkeProposal(Transforms::of(ours.transforms().chain(more)))];
    let select = |more: &[(u8, u16, u16)]| {
        let octets = sa(&[(1, &[], &[&[GCM256, SHA384, X25519][..], more].concat())]);
        let chosen = select_ike(&ours, &Sa::parse(&octets).unwrap(), false);
        chosen.map(|chosen| chosen.suite).map_err(|mismatch| mismatch.kind)
    };
    let suite = select(&[(12, 36, 0), (8, 31, 0), (6, 0, 0), (6, 37, 0)]).unwrap();
    let methods = [None, None, Some(Group::Curve25519), None, None, None, Some(Group::MlKem768)];
    assert_eq!((suite.group, suite.additional), (Group::Curve25519, Additional(methods)));
    let kinds: Vec<_> = suite.transforms().map(|spec| (spec.kind.0, spec.id)).collect();
    assert_eq!(kinds, [(1, 20), (2, 6), (4, 31), (8, 31), (12, 36)]);
    let specs: Vec<_> = suite.transforms().map(|spec| (spec.kind.0, spec.id, spec.key_bits.unwrap_or(0))).collect();
    let answer = sa(&[(1, &[], &specs)]);
    assert_eq!(check_ike(&ours, &Sa::parse(&answer).unwrap(), false).unwrap().suite, suite);
    // Each one that is ours without "none" is needed, and none that is not ours is taken.
    assert_eq!(select(&[(8, 19, 0)]), Err(Some(TransformType::ADDKE7)));
    assert_eq!(select(&[(12, 36, 0)]), Err(Some(TransformType::ADDKE3)));
    assert_eq!(select(&[(12, 36, 0), (8, 19, 0), (9, 36, 0)]), Err(Some(TransformType::ADDKE4)));
    assert!(!IkeProposal::default().allows(&suite));
}
