//! Agreeing on algorithms (RFC 7296 §2.7, §3.3): what we offer, what we choose, whether we got what we offered.

mod words;

use core::fmt;

use heapless::Vec;
use ipsec_core::crypto::AeadAlg;
use ipsec_core::net::Spi;

pub use self::words::{ProposalError, Reason};
pub use crate::crypto::{EspSuite, IkeSuite};
use crate::crypto::{Group, PrfAlg, aead_from_id, aead_id};
use crate::registry::{EncrId, EsnId, GroupId, PrfId, ProtocolId, TransformType};
use crate::wire::sa::{KeyLength, Proposal, Sa, Transform, TransformSpec};

/// Algorithms of one type in order of preference, without repetition.
pub type List<T> = Vec<T, 4>;

/// One proposal for IKE SAs as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IkeProposal {
    /// For the SK payload.
    pub encr: List<AeadAlg>,
    /// For keys and AUTH.
    pub prf: List<PrfAlg>,
    /// For the key exchange; the first one is tried first.
    pub group: List<Group>,
}

/// One proposal for Child SAs as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EspProposal {
    /// For packets.
    pub encr: List<AeadAlg>,
    /// Key exchanges for Child SAs that are not made in IKE_AUTH (PFS); `None` is "without". Empty means without.
    pub group: List<Option<Group>>,
    /// Extended sequence numbers: with, without, or both.
    pub esn: List<bool>,
}

impl Default for IkeProposal {
    /// `aes256gcm16-aes128gcm16-prfsha384-prfsha256-prfsha512-x25519-ecp256`
    fn default() -> Self {
        Self {
            encr: [AeadAlg::Aes256Gcm16, AeadAlg::Aes128Gcm16].into_iter().collect(),
            prf: [PrfAlg::HmacSha384, PrfAlg::HmacSha256, PrfAlg::HmacSha512].into_iter().collect(),
            group: [Group::Curve25519, Group::Ecp256].into_iter().collect(),
        }
    }
}

impl Default for EspProposal {
    /// `aes256gcm16-aes128gcm16-x25519-ecp256-modpnone`: PFS where the peer wants it, ESN or not.
    fn default() -> Self {
        Self {
            encr: [AeadAlg::Aes256Gcm16, AeadAlg::Aes128Gcm16].into_iter().collect(),
            group: [Some(Group::Curve25519), Some(Group::Ecp256), None].into_iter().collect(),
            esn: [true, false].into_iter().collect(),
        }
    }
}

impl IkeProposal {
    /// The transforms to offer.
    pub fn transforms(&self) -> impl Iterator<Item = TransformSpec> + Clone + use<'_> {
        let encr = self.encr.iter().filter_map(|alg| encr_spec(*alg));
        let prf = self.prf.iter().map(|alg| prf_spec(*alg));
        let group = self.group.iter().map(|group| group_spec(Some(*group)));
        encr.chain(prf).chain(group)
    }
}

impl EspProposal {
    /// The transforms to offer; in IKE_AUTH without key exchanges (RFC 7296 §1.2).
    pub fn transforms(&self, with_ke: bool) -> impl Iterator<Item = TransformSpec> + Clone + use<'_> {
        let encr = self.encr.iter().filter_map(|alg| encr_spec(*alg));
        let group = self.group.iter().filter(move |_| with_ke).map(|group| group_spec(*group));
        let esn = self.esn.iter().map(|esn| esn_spec(*esn));
        encr.chain(group).chain(esn)
    }
}

impl IkeSuite {
    /// The transforms of the answer that chooses this suite.
    pub fn transforms(&self) -> impl Iterator<Item = TransformSpec> + Clone + use<> {
        encr_spec(self.encr).into_iter().chain([prf_spec(self.prf), group_spec(Some(self.group))])
    }
}

impl EspSuite {
    /// The transforms of the answer that chooses this suite.
    pub fn transforms(&self) -> impl Iterator<Item = TransformSpec> + Clone + use<> {
        let group = self.group.map(|group| group_spec(Some(group)));
        encr_spec(self.aead).into_iter().chain(group).chain([esn_spec(self.esn)])
    }
}

fn encr_spec(alg: AeadAlg) -> Option<TransformSpec> {
    aead_id(alg).map(|(id, bits)| TransformSpec { kind: TransformType::ENCR, id: id.0, key_bits: Some(bits) })
}

fn prf_spec(alg: PrfAlg) -> TransformSpec {
    TransformSpec { kind: TransformType::PRF, id: alg.id().0, key_bits: None }
}

fn group_spec(group: Option<Group>) -> TransformSpec {
    TransformSpec { kind: TransformType::KE, id: group.map_or(GroupId::NONE, Group::id).0, key_bits: None }
}

fn esn_spec(esn: bool) -> TransformSpec {
    let id = if esn { EsnId::ESN } else { EsnId::NO_ESN };
    TransformSpec { kind: TransformType::ESN, id: id.0, key_bits: None }
}

/// Proposals as [`MessageWriter::sa`](crate::wire::writer::MessageWriter::sa) takes them, numbered from 1.
pub fn offer_ike(local: &[IkeProposal]) -> impl Iterator<Item = (u8, impl Iterator<Item = TransformSpec>)> {
    (1..=u8::MAX).zip(local.iter().map(IkeProposal::transforms))
}

/// Proposals as [`MessageWriter::sa`](crate::wire::writer::MessageWriter::sa) takes them, numbered from 1; with key
/// exchanges in CREATE_CHILD_SA, without in IKE_AUTH.
pub fn offer_esp(
    local: &[EspProposal],
    with_ke: bool,
) -> impl Iterator<Item = (u8, impl Iterator<Item = TransformSpec>)> {
    (1..=u8::MAX).zip(local.iter().map(move |proposal| proposal.transforms(with_ke)))
}

/// What was chosen of the peer's proposals, or what the peer chose of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Chosen<S, I> {
    /// The algorithms.
    pub suite: S,
    /// The proposal's number, to be answered with.
    pub number: u8,
    /// The peer's SPI.
    pub spi: I,
}

/// An IKE SA's; the SPI is 0 in IKE_SA_INIT, where it stands in the header.
pub type ChosenIke = Chosen<IkeSuite, u64>;

/// A Child SA's.
pub type ChosenEsp = Chosen<EspSuite, Spi>;

/// Nothing in common, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Mismatch {
    /// What was negotiated.
    pub protocol: ProtocolId,
    /// The first transform type without a common value, in the pair of proposals that got furthest. `None`: the peer offered
    /// nothing for this protocol with an SPI as it must be.
    pub kind: Option<TransformType>,
    /// Our values of that type.
    pub ours: List<TransformSpec>,
    /// The peer's values of that type, the first 8; those with attributes we cannot accept are listed without.
    pub theirs: Vec<TransformSpec, 8>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(kind) = self.kind else { return write!(f, "no usable {} proposal from the peer", self.protocol) };
        write!(f, "no common {kind} for {}: ours", self.protocol)?;
        self.ours.iter().try_for_each(|spec| write!(f, " {spec}"))?;
        f.write_str("; peer's")?;
        if self.theirs.is_empty() {
            f.write_str(" none")?;
        }
        self.theirs.iter().try_for_each(|spec| write!(f, " {spec}"))
    }
}

/// The peer's answer is not a choice from our proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NotOffered {
    /// The first transform type that is wrong. `None`: not exactly one proposal, or its number, protocol or SPI is wrong.
    pub kind: Option<TransformType>,
}

/// Chooses from the peer's IKE proposals; our order decides. `rekey`: the proposals carry the SPI of the new SA.
///
/// # Errors
/// [`Mismatch`]
pub fn select_ike(local: &[IkeProposal], offered: &Sa<'_>, rekey: bool) -> Result<ChosenIke, Mismatch> {
    let ours = local.iter().map(IkeProposal::transforms);
    let theirs = offered.proposals().filter_map(|proposal| Some((ike_spi(&proposal, rekey)?, proposal)));
    select(ours, theirs, ProtocolId::IKE, true, ike_suite)
}

/// Chooses from the peer's ESP proposals; our order decides. `with_ke`: in CREATE_CHILD_SA, where key exchanges are
/// negotiated; in IKE_AUTH they are not looked at.
///
/// # Errors
/// [`Mismatch`]
pub fn select_esp(local: &[EspProposal], offered: &Sa<'_>, with_ke: bool) -> Result<ChosenEsp, Mismatch> {
    let ours = local.iter().map(|proposal| proposal.transforms(with_ke));
    let theirs = offered.proposals().filter_map(|proposal| Some((esp_spi(&proposal)?, proposal)));
    select(ours, theirs, ProtocolId::ESP, with_ke, esp_suite)
}

/// Verifies that the answer chooses one of the proposals [`offer_ike`] made.
///
/// # Errors
/// [`NotOffered`]
pub fn check_ike(local: &[IkeProposal], answered: &Sa<'_>, rekey: bool) -> Result<ChosenIke, NotOffered> {
    let proposal = only(answered)?;
    let spi = ike_spi(&proposal, rekey).ok_or(NotOffered { kind: None })?;
    let ours = numbered(local, proposal.number)?;
    let picks = check(ours.transforms(), &proposal)?;
    let suite = ike_suite(&picks).ok_or(NotOffered { kind: None })?;
    Ok(Chosen { suite, number: proposal.number, spi })
}

/// What an answer chooses, offered or not. `None`: nothing that we can do.
pub(crate) fn read_ike(answered: &Sa<'_>) -> Option<ChosenIke> {
    let proposal = only(answered).ok()?;
    let spi = ike_spi(&proposal, true)?;
    let picks = KINDS.map(|kind| {
        let picked = proposal.transforms().find(|transform| transform.kind == kind);
        (0, picked.map_or(TransformSpec::none(kind), |transform| TransformSpec::from(&transform)))
    });
    // What else it may have chosen would go into the keys.
    let known = [TransformType::ENCR, TransformType::PRF, TransformType::KE];
    let foreign = |transform: Transform<'_>| !known.contains(&transform.kind) && transform.id != 0;
    if repeated(&proposal).is_some() || proposal.transforms().any(foreign) {
        return None;
    }
    let suite = ike_suite(&picks)?;
    Some(Chosen { suite, number: proposal.number, spi })
}

/// Verifies that the answer chooses one of the proposals [`offer_esp`] made with the same `with_ke`.
///
/// # Errors
/// [`NotOffered`]
pub fn check_esp(local: &[EspProposal], answered: &Sa<'_>, with_ke: bool) -> Result<ChosenEsp, NotOffered> {
    let proposal = only(answered)?;
    let spi = esp_spi(&proposal).ok_or(NotOffered { kind: None })?;
    let ours = numbered(local, proposal.number)?;
    let picks = check(ours.transforms(with_ke), &proposal)?;
    let suite = esp_suite(&picks).ok_or(NotOffered { kind: None })?;
    Ok(Chosen { suite, number: proposal.number, spi })
}

fn ike_spi(proposal: &Proposal<'_>, rekey: bool) -> Option<u64> {
    if proposal.protocol != ProtocolId::IKE {
        return None;
    }
    if rekey {
        proposal.spi.try_into().ok().map(u64::from_be_bytes).filter(|spi| *spi != 0)
    } else {
        proposal.spi.is_empty().then_some(0)
    }
}

fn esp_spi(proposal: &Proposal<'_>) -> Option<Spi> {
    if proposal.protocol != ProtocolId::ESP {
        return None;
    }
    proposal.spi.try_into().ok().map(u32::from_be_bytes).and_then(Spi::new)
}

/// The transform types, in the order in which a mismatch is looked for. An unknown one makes a proposal unacceptable
/// (RFC 7296 §3.3.6).
const KINDS: [TransformType; 12] = [
    TransformType::ENCR,
    TransformType::PRF,
    TransformType::INTEG,
    TransformType::KE,
    TransformType::ESN,
    TransformType::ADDKE1,
    TransformType::ADDKE2,
    TransformType::ADDKE3,
    TransformType::ADDKE4,
    TransformType::ADDKE5,
    TransformType::ADDKE6,
    TransformType::ADDKE7,
];

/// One transform for every type, with its place in our order.
type Picks = [(usize, TransformSpec); KINDS.len()];

fn matches(ours: &TransformSpec, theirs: &Transform<'_>) -> bool {
    let key_length = ours.key_bits.map_or(KeyLength::Absent, KeyLength::Bits);
    ours.kind == theirs.kind && ours.id == theirs.id && theirs.key_length() == key_length
}

/// Our first transform of this type that the peer has too. Where one has no transform of a type, it has "none": AEAD goes
/// with INTEG NONE or without INTEG, PFS is KE, and no word of ESN is no ESN.
fn common(
    ours: impl Iterator<Item = TransformSpec> + Clone,
    theirs: &Proposal<'_>,
    kind: TransformType,
) -> Option<(usize, TransformSpec)> {
    let none = TransformSpec::none(kind);
    let they_have = |ours: &TransformSpec| {
        let mut of_kind = theirs.transforms().filter(|transform| transform.kind == kind).peekable();
        let absent = of_kind.peek().is_none();
        (absent && *ours == none) || of_kind.any(|transform| matches(ours, &transform))
    };
    let mut ours = ours.filter(|spec| spec.kind == kind).peekable();
    let fallback = ours.peek().is_none().then_some(none);
    ours.chain(fallback).enumerate().find(|(_, spec)| they_have(spec))
}

/// A transform for every type, or the first type without one.
fn agree(
    ours: impl Iterator<Item = TransformSpec> + Clone,
    theirs: &Proposal<'_>,
    with_ke: bool,
) -> Result<Picks, TransformType> {
    let mut picks = KINDS.map(|kind| (0, TransformSpec::none(kind)));
    for pick in &mut picks {
        let kind = pick.1.kind;
        if with_ke || kind != TransformType::KE {
            *pick = common(ours.clone(), theirs, kind).ok_or(kind)?;
        }
    }
    match theirs.transforms().find(|transform| !KINDS.contains(&transform.kind)) {
        Some(unknown) => Err(unknown.kind),
        None => Ok(picks),
    }
}

fn select<'m, O, I: Copy, S>(
    ours: impl Iterator<Item = O> + Clone,
    theirs: impl Iterator<Item = (I, Proposal<'m>)> + Clone,
    protocol: ProtocolId,
    with_ke: bool,
    suite: fn(&Picks) -> Option<S>,
) -> Result<Chosen<S, I>, Mismatch>
where
    O: Iterator<Item = TransformSpec> + Clone,
{
    let mut furthest: Option<(usize, TransformType)> = None;
    for local in ours.clone() {
        let mut best: Option<(Picks, Chosen<S, I>)> = None;
        for (spi, proposal) in theirs.clone() {
            match agree(local.clone(), &proposal, with_ke) {
                Ok(picks) => {
                    let places = |picks: &Picks| picks.map(|(place, _)| place);
                    let better = best.as_ref().is_none_or(|(best, _)| places(&picks) < places(best));
                    if let Some(suite) = suite(&picks).filter(|_| better) {
                        best = Some((picks, Chosen { suite, number: proposal.number, spi }));
                    }
                }
                Err(kind) => {
                    let stage = KINDS.iter().position(|listed| *listed == kind).unwrap_or(KINDS.len());
                    if furthest.is_none_or(|(furthest, _)| stage > furthest) {
                        furthest = Some((stage, kind));
                    }
                }
            }
        }
        if let Some((_, chosen)) = best {
            return Ok(chosen);
        }
    }
    let kind = furthest.map(|(_, kind)| kind);
    let of_kind = |spec: &TransformSpec| Some(spec.kind) == kind;
    Err(Mismatch {
        protocol,
        kind,
        ours: distinct(ours.flatten().filter(of_kind)),
        theirs: distinct(
            theirs
                .flat_map(|(_, proposal)| proposal.transforms())
                .map(|transform| TransformSpec::from(&transform))
                .filter(of_kind),
        ),
    })
}

/// As many different ones as fit.
fn distinct<const N: usize>(specs: impl Iterator<Item = TransformSpec>) -> Vec<TransformSpec, N> {
    let mut list = Vec::new();
    for spec in specs {
        if !list.contains(&spec) && list.push(spec).is_err() {
            break;
        }
    }
    list
}

fn ike_suite(picks: &Picks) -> Option<IkeSuite> {
    let [(_, encr), (_, prf), _, (_, ke), ..] = picks;
    Some(IkeSuite {
        encr: aead_from_id(EncrId(encr.id), encr.key_bits?)?,
        prf: PrfAlg::from_id(PrfId(prf.id))?,
        group: Group::from_id(GroupId(ke.id))?,
    })
}

fn esp_suite(picks: &Picks) -> Option<EspSuite> {
    let [(_, encr), _, _, (_, ke), (_, esn), ..] = picks;
    Some(EspSuite {
        aead: aead_from_id(EncrId(encr.id), encr.key_bits?)?,
        esn: EsnId(esn.id) == EsnId::ESN,
        group: Group::from_id(GroupId(ke.id)),
    })
}

fn only<'m>(answered: &Sa<'m>) -> Result<Proposal<'m>, NotOffered> {
    let mut proposals = answered.proposals();
    match (proposals.next(), proposals.next()) {
        (Some(proposal), None) => Ok(proposal),
        _ => Err(NotOffered { kind: None }),
    }
}

/// The proposal we gave this number.
fn numbered<T>(local: &[T], number: u8) -> Result<&T, NotOffered> {
    usize::from(number).checked_sub(1).and_then(|index| local.get(index)).ok_or(NotOffered { kind: None })
}

/// A type of which there is more than one transform, so that nothing was chosen.
fn repeated(proposal: &Proposal<'_>) -> Option<TransformType> {
    let of = |kind: TransformType| proposal.transforms().filter(move |transform| transform.kind == kind);
    KINDS.into_iter().find(|kind| of(*kind).nth(1).is_some())
}

fn check(ours: impl Iterator<Item = TransformSpec> + Clone, proposal: &Proposal<'_>) -> Result<Picks, NotOffered> {
    match repeated(proposal) {
        Some(kind) => Err(NotOffered { kind: Some(kind) }),
        None => agree(ours, proposal, true).map_err(|kind| NotOffered { kind: Some(kind) }),
    }
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;
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
        let offers: [Offer<'_>; 3] = [
            (1, &[], &[CBC256, SHA256, X25519]),
            (1, &[], &[GCM128, SHA384, X25519]),
            (1, &[], &[GCM256, SHA256, ECP256]),
        ];
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
            |bits| ike(LOCAL, &[(1, &[], &[(1, 20, bits), SHA384, X25519])], false).map(|chosen| chosen.suite.encr);
        assert_eq!(bits(128), Ok(AeadAlg::Aes128Gcm16));
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
}
