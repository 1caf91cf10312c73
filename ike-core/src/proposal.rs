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

fn check(ours: impl Iterator<Item = TransformSpec> + Clone, proposal: &Proposal<'_>) -> Result<Picks, NotOffered> {
    let repeated = KINDS
        .into_iter()
        .find(|kind| proposal.transforms().filter(|transform| transform.kind == *kind).nth(1).is_some());
    match repeated {
        Some(kind) => Err(NotOffered { kind: Some(kind) }),
        None => agree(ours, proposal, true).map_err(|kind| NotOffered { kind: Some(kind) }),
    }
}
