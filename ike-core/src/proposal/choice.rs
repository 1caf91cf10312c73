//! Choosing (RFC 7296 §2.7): what of the peer's proposals, whether it chose what we offered, and why there is nothing to
//! choose.

use core::fmt;

use heapless::Vec;
use ipsec_core::net::Spi;

use super::codec::{self, KINDS, Picks};
use super::configured::{Asked, EspProposal, IkeProposal};
use crate::crypto::{EspSuite, IkeSuite};
use crate::registry::{ProtocolId, TransformType};
use crate::wire::sa::{KeyLength, Proposal, Sa, Transform, TransformSpec};

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
///
/// ```
/// use ike_core::proposal::{IkeProposal, offer_ike, select_ike};
/// use ike_core::registry::{ExchangeType, ProtocolId, TransformType};
/// use ike_core::wire::{chain::Chain, header::Header, sa::Sa, writer::MessageWriter};
/// let [ours, theirs] = ["aes256gcm16-prfsha384-x25519", "aes256gcm16-prfsha384-ecp256"]
///     .map(|words| [IkeProposal::parse(words).unwrap()]);
/// let mut octets = [0; 128];
/// let header = Header::new(1, 0, ExchangeType::IKE_SA_INIT, 0);
/// let mut message = MessageWriter::new(&mut octets, &header).unwrap();
/// message.sa(ProtocolId::IKE, &[], offer_ike(&theirs)).unwrap();
/// let len = message.finish().len;
/// let header = Header::parse(&octets[..len]).unwrap();
/// let payload = Chain::new(header.next, &octets[Header::LEN..len]).next().unwrap().unwrap();
///
/// let mismatch = select_ike(&ours, &Sa::parse(payload.body).unwrap(), false).unwrap_err();
/// assert_eq!(mismatch.kind, Some(TransformType::KE));
/// assert!(mismatch.to_string().starts_with("no common "));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Mismatch {
    /// What was negotiated.
    pub protocol: ProtocolId,
    /// The first transform type without a common value, in the pair of proposals that got furthest. `None`: the peer offered
    /// nothing for this protocol with an SPI as it must be.
    pub kind: Option<TransformType>,
    /// Our values of that type, the first 4.
    pub ours: Vec<TransformSpec, 4>,
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
    select(ours, theirs, ProtocolId::IKE, true, IkeSuite::of)
}

/// Chooses from the peer's ESP proposals; our order decides. `with_ke`: in CREATE_CHILD_SA, where key exchanges are
/// negotiated; in IKE_AUTH they are not looked at.
///
/// # Errors
/// [`Mismatch`]
pub fn select_esp(local: &[EspProposal], offered: &Sa<'_>, with_ke: bool) -> Result<ChosenEsp, Mismatch> {
    let ours = local.iter().map(|proposal| proposal.transforms(with_ke));
    let theirs = offered.proposals().filter_map(|proposal| Some((esp_spi(&proposal)?, proposal)));
    select(ours, theirs, ProtocolId::ESP, with_ke, EspSuite::of)
}

/// Verifies that the answer chooses one of the proposals [`offer_ike`](super::offer_ike) made.
///
/// # Errors
/// [`NotOffered`]
pub fn check_ike(local: &[IkeProposal], answered: &Sa<'_>, rekey: bool) -> Result<ChosenIke, NotOffered> {
    let proposal = only(answered)?;
    let spi = ike_spi(&proposal, rekey).ok_or(NotOffered { kind: None })?;
    let ours = numbered(local.iter(), proposal.number)?;
    let picks = check(ours.transforms(), &proposal)?;
    let suite = IkeSuite::of(&picks).ok_or(NotOffered { kind: None })?;
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
    let known = [TransformType::ENCR, TransformType::PRF, TransformType::INTEG, TransformType::KE];
    let foreign = |transform: Transform<'_>| !known.contains(&transform.kind) && transform.id != 0;
    if repeated(&proposal).is_some() || proposal.transforms().any(foreign) {
        return None;
    }
    let suite = IkeSuite::of(&picks)?;
    Some(Chosen { suite, number: proposal.number, spi })
}

/// Verifies that the answer chooses one of the proposals [`offer_esp`](super::offer_esp) made with the same `with_ke`.
///
/// # Errors
/// [`NotOffered`]
pub fn check_esp(local: &[EspProposal], answered: &Sa<'_>, with_ke: bool) -> Result<ChosenEsp, NotOffered> {
    check_asked(local, answered, if with_ke { Asked::Any } else { Asked::Nothing })
}

/// Verifies that the answer chooses one of the proposals that were asked for.
pub(crate) fn check_asked(local: &[EspProposal], answered: &Sa<'_>, asked: Asked) -> Result<ChosenEsp, NotOffered> {
    let proposal = only(answered)?;
    let spi = esp_spi(&proposal).ok_or(NotOffered { kind: None })?;
    let ours = numbered(asked.of(local), proposal.number)?;
    let picks = check(ours.asking(asked), &proposal)?;
    let suite = EspSuite::of(&picks).ok_or(NotOffered { kind: None })?;
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
        if with_ke || !codec::is_exchange(kind) {
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

fn only<'m>(answered: &Sa<'m>) -> Result<Proposal<'m>, NotOffered> {
    let mut proposals = answered.proposals();
    match (proposals.next(), proposals.next()) {
        (Some(proposal), None) => Ok(proposal),
        _ => Err(NotOffered { kind: None }),
    }
}

/// The proposal we gave this number.
fn numbered<T>(mut local: impl Iterator<Item = T>, number: u8) -> Result<T, NotOffered> {
    usize::from(number).checked_sub(1).and_then(|index| local.nth(index)).ok_or(NotOffered { kind: None })
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
mod tests;
