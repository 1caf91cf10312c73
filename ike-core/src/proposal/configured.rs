//! Proposals as they are configured: one ordered list of transforms each.

use heapless::Vec;
use ipsec_core::crypto::AeadAlg;

use super::codec;
use crate::crypto::{CipherAlg, Encryption, EspSuite, Group, IkeSuite, IntegAlg, PrfAlg};
use crate::registry::{EncrId, GroupId, IntegId, TransformType};
use crate::wire::sa::TransformSpec;

/// How many transforms one proposal may list. Of lists with more the least preferred ciphers are left out, and words for more are
/// refused ([`Reason::TooMany`](super::Reason::TooMany)).
pub const MAX_TRANSFORMS: usize = 24;

/// Transforms without repetition: the types in the order of their numbers, those of a type in order of preference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Transforms(Vec<TransformSpec, MAX_TRANSFORMS>);

impl Transforms {
    pub(super) fn of(specs: impl IntoIterator<Item = TransformSpec>) -> Self {
        let mut list = Self::default();
        specs.into_iter().for_each(|spec| _ = list.add(spec));
        list
    }

    /// Puts a transform behind those of its type. Whether it is there now: there may be no room.
    pub(super) fn add(&mut self, spec: TransformSpec) -> bool {
        if self.0.contains(&spec) {
            return true;
        }
        if self.0.is_full() {
            return false;
        }
        let (mut last, mut later) = (spec, false);
        for place in &mut self.0 {
            later |= place.kind > last.kind;
            if later {
                core::mem::swap(place, &mut last);
            }
        }
        self.0.push(last).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = TransformSpec> + Clone + use<'_> {
        self.0.iter().copied()
    }

    /// Those of one type.
    pub(super) fn of_kind(&self, kind: TransformType) -> impl Iterator<Item = TransformSpec> + Clone + use<'_> {
        self.iter().filter(move |spec| spec.kind == kind)
    }
}

/// One proposal for IKE SAs as it is configured.
///
/// It is offered and agreed to whatever the [engine](crate::crypto::IkeCrypto) has: with one that has fewer algorithms than the
/// default one, list those that it has, instead of the default.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IkeProposal(pub(super) Transforms);

/// One proposal for Child SAs as it is configured.
///
/// As for [`IkeProposal`], nobody asks an engine what it has. A Child SA with an algorithm that the data plane lacks comes up all
/// the same, as the peer chose or asked: what cannot be installed is to be closed
/// ([`close_child`](crate::endpoint::Endpoint::close_child)). Groups (PFS) are the engine's of IKE.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EspProposal(pub(super) Transforms);

/// With and without extended sequence numbers, as far as the peer goes.
pub(super) const ANY_ESN: [bool; 2] = [true, false];

impl Default for IkeProposal {
    /// `aes256gcm16-aes128gcm16-prfsha384-prfsha256-prfsha512-x25519-ecp256`
    fn default() -> Self {
        Self::aead(
            &[AeadAlg::Aes256Gcm16, AeadAlg::Aes128Gcm16],
            &[PrfAlg::HmacSha384, PrfAlg::HmacSha256, PrfAlg::HmacSha512],
            &[Group::Curve25519, Group::Ecp256],
        )
    }
}

impl Default for EspProposal {
    /// `aes256gcm16-aes128gcm16-x25519-ecp256-modpnone`: PFS where the peer wants it, ESN or not.
    fn default() -> Self {
        Self::aead(
            &[AeadAlg::Aes256Gcm16, AeadAlg::Aes128Gcm16],
            &[Some(Group::Curve25519), Some(Group::Ecp256), None],
            &ANY_ESN,
        )
    }
}

impl IkeProposal {
    /// A proposal of AEADs; each list in order of preference. The first key exchange is tried first.
    ///
    /// ```
    /// use ike_core::crypto::{Group, PrfAlg};
    /// use ike_core::proposal::IkeProposal;
    /// use ipsec_core::crypto::AeadAlg;
    /// let proposal = IkeProposal::aead(&[AeadAlg::Aes256Gcm16], &[PrfAlg::HmacSha384], &[Group::Curve25519]);
    /// assert_eq!(proposal.to_string(), "aes256gcm16-prfsha384-x25519");
    /// ```
    pub fn aead(encr: &[AeadAlg], prf: &[PrfAlg], groups: &[Group]) -> Self {
        Self(Transforms::of(rest(prf, groups).chain(encr.iter().filter_map(|alg| codec::encr(Encryption::Aead(*alg))))))
    }

    /// A proposal of ciphers with integrity algorithms beside them, which never share one with AEADs (RFC 7296 §3.3). The
    /// [engine](ipsec_core::crypto::PacketCrypto::cipher_key) has to have them.
    pub fn cipher_mac(encr: &[CipherAlg], integ: &[IntegAlg], prf: &[PrfAlg], groups: &[Group]) -> Self {
        let encr = encr.iter().filter_map(|alg| codec::encr(Encryption::Cipher(*alg)));
        let integ = integ.iter().filter_map(|alg| codec::integ(*alg));
        Self(Transforms::of(rest(prf, groups).chain(integ).chain(encr)))
    }

    /// The transforms to offer.
    pub fn transforms(&self) -> impl Iterator<Item = TransformSpec> + Clone + use<'_> {
        self.0.iter()
    }

    /// The key exchanges, the one to be tried first in front.
    pub fn groups(&self) -> impl Iterator<Item = Group> + use<'_> {
        self.0.of_kind(TransformType::KE).filter_map(|spec| Group::from_id(GroupId(spec.id)))
    }

    /// Whether this suite can be chosen from it.
    pub(crate) fn allows(&self, suite: &IkeSuite) -> bool {
        suite.transforms().all(|spec| self.0.of_kind(spec.kind).any(|listed| listed == spec))
    }
}

fn rest<'l>(prf: &'l [PrfAlg], groups: &'l [Group]) -> impl Iterator<Item = TransformSpec> + use<'l> {
    prf.iter().map(|alg| codec::prf(*alg)).chain(groups.iter().map(|group| codec::group(Some(*group))))
}

impl EspProposal {
    /// A proposal of AEADs; each list in order of preference. `groups`: key exchanges for Child SAs that are not made in
    /// IKE_AUTH (PFS), where `None` is "without", and so is an empty list. `esn`: extended sequence numbers; an empty list
    /// means with or without.
    ///
    /// ```
    /// use ike_core::proposal::EspProposal;
    /// use ipsec_core::crypto::AeadAlg;
    /// assert_eq!(EspProposal::aead(&[AeadAlg::Aes256Gcm16], &[], &[false]).to_string(), "aes256gcm16-noesn");
    /// ```
    pub fn aead(encr: &[AeadAlg], groups: &[Option<Group>], esn: &[bool]) -> Self {
        Self::of(encr.iter().filter_map(|alg| codec::encr(Encryption::Aead(*alg))), groups, esn)
    }

    /// A proposal of ciphers with integrity algorithms beside them, which never share one with AEADs (RFC 7296 §3.3). The data
    /// plane has to have them.
    pub fn cipher_mac(encr: &[CipherAlg], integ: &[IntegAlg], groups: &[Option<Group>], esn: &[bool]) -> Self {
        let encr = encr.iter().filter_map(|alg| codec::encr(Encryption::Cipher(*alg)));
        Self::of(integ.iter().filter_map(|alg| codec::integ(*alg)).chain(encr), groups, esn)
    }

    fn of(protection: impl Iterator<Item = TransformSpec>, groups: &[Option<Group>], esn: &[bool]) -> Self {
        let esn = if esn.is_empty() { &ANY_ESN } else { esn };
        let groups = groups.iter().map(|group| codec::group(*group));
        Self(Transforms::of(esn.iter().map(|esn| codec::esn(*esn)).chain(groups).chain(protection)))
    }

    /// The key exchanges, the one to be tried first in front; `None` is "without".
    pub fn groups(&self) -> impl Iterator<Item = Option<Group>> + use<'_> {
        self.0.of_kind(TransformType::KE).map(|spec| Group::from_id(GroupId(spec.id)))
    }

    /// Whether nobody else can read what a suite of it protects.
    ///
    /// ```
    /// use ike_core::proposal::EspProposal;
    /// assert!(EspProposal::default().hides());
    /// assert!(!EspProposal::parse("aes256gcm16-aes256gmac").unwrap().hides());
    /// assert!(!EspProposal::parse("aes256-null-sha256").unwrap().hides());
    /// ```
    pub fn hides(&self) -> bool {
        self.0.of_kind(TransformType::ENCR).all(|spec| {
            let encryption = Encryption::from_id(EncrId(spec.id), spec.key_bits);
            encryption.is_some_and(Encryption::hides)
        })
    }

    /// Whether it allows HMAC-SHA1, which is on its way out (RFC 8221 §6).
    pub fn has_sha1(&self) -> bool {
        self.0.of_kind(TransformType::INTEG).any(|spec| IntegId(spec.id) == IntegId::HMAC_SHA1_96)
    }

    /// The one suite that it stands for, as where nothing is negotiated; `None`: it leaves a choice.
    ///
    /// ```
    /// use ike_core::proposal::EspProposal;
    /// let suite = |words| EspProposal::parse(words).unwrap().suite();
    /// assert_eq!(suite("aes128gcm16-esn").unwrap().to_string(), "aes128gcm16-esn");
    /// assert_eq!(suite("aes128gcm16"), None); // with or without ESN
    /// ```
    pub fn suite(&self) -> Option<EspSuite> {
        let mut picks = codec::KINDS.map(|kind| (0, TransformSpec { kind, id: 0, key_bits: None }));
        for (_, pick) in &mut picks {
            let mut listed = self.0.of_kind(pick.kind);
            if let Some(only) = listed.next() {
                *pick = only;
            }
            if listed.next().is_some() {
                return None;
            }
        }
        EspSuite::of(&picks)
    }

    /// The transforms to offer; in IKE_AUTH without key exchanges (RFC 7296 §1.2).
    pub fn transforms(&self, with_ke: bool) -> impl Iterator<Item = TransformSpec> + Clone + use<'_> {
        self.asking(if with_ke { Asked::Any } else { Asked::Nothing })
    }

    /// The transforms to offer.
    pub(super) fn asking(&self, asked: Asked) -> impl Iterator<Item = TransformSpec> + Clone + use<'_> {
        self.0.iter().filter(move |spec| asked.allows(spec))
    }
}

/// Which key exchanges a Child SA is asked for with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// None, as in IKE_AUTH (RFC 7296 §1.2).
    Nothing,
    /// All that are configured.
    Any,
    /// This one, and none where there may be none.
    Only(Group),
}

impl Asked {
    fn allows(self, spec: &TransformSpec) -> bool {
        match self {
            Self::Any => true,
            Self::Nothing => !codec::is_exchange(spec.kind),
            Self::Only(group) => spec.kind != TransformType::KE || spec.id == group.id().0 || spec.id == 0,
        }
    }

    /// The proposals that are left with it, in their order: one that asks for other key exchanges only is not.
    pub(super) fn of(self, all: &[EspProposal]) -> impl Iterator<Item = &EspProposal> + Clone {
        all.iter().filter(move |proposal| {
            let mut exchanges = proposal.0.of_kind(TransformType::KE).peekable();
            self == Self::Nothing || exchanges.peek().is_none() || exchanges.any(|spec| self.allows(&spec))
        })
    }
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
    ask_esp(local, if with_ke { Asked::Any } else { Asked::Nothing })
}

/// The same, where the key exchanges to ask for may be fewer than those that are configured.
pub(crate) fn ask_esp(
    local: &[EspProposal],
    asked: Asked,
) -> impl Iterator<Item = (u8, impl Iterator<Item = TransformSpec>)> {
    (1..=u8::MAX).zip(asked.of(local).map(move |proposal| proposal.asking(asked)))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn types_stand_in_order_and_algorithms_as_they_came() {
        let specs = |list: &Transforms| list.iter().map(|spec| (spec.kind.0, spec.id)).collect::<Vec<_>>();
        let spec = |(kind, id)| TransformSpec { kind: TransformType(kind), id, key_bits: None };
        let list = Transforms::of([(4, 31), (1, 20), (5, 0), (4, 19), (1, 12), (4, 31), (2, 5)].map(spec));
        assert_eq!(specs(&list), [(1, 20), (1, 12), (2, 5), (4, 31), (4, 19), (5, 0)]);
        let mut full = Transforms::of((0..24).map(|id| spec((4, id))));
        assert!(!full.add(spec((1, 1))) && full.add(spec((4, 23))));
        assert_eq!(full.iter().count(), MAX_TRANSFORMS);
        assert!(codec::KINDS.is_sorted());
    }

    #[test]
    fn a_proposal_allows_what_it_lists() {
        let suite = |text| IkeProposal::parse(text).unwrap();
        let chosen = IkeSuite::new(AeadAlg::Aes128Gcm16.into(), PrfAlg::HmacSha256, Group::Ecp256);
        assert!(IkeProposal::default().allows(&chosen));
        for other in ["aes256gcm16-prfsha256-ecp256", "aes128gcm16-prfsha384-ecp256", "aes128gcm16-prfsha256-x25519"] {
            assert!(!suite(other).allows(&chosen), "{other}");
        }
    }

    #[test]
    fn one_key_exchange_leaves_the_proposals_that_can_do_with_it() {
        let all = ["aes256gcm16-ecp256", "aes128gcm16", "aes256gcm16-ecp256-x25519-modpnone", "aes192gcm16-modpnone"];
        let all = all.map(|text| EspProposal::parse(text).unwrap());
        let asked = Asked::Only(Group::Curve25519);
        let left: Vec<_> = asked.of(&all).map(ToString::to_string).collect();
        assert_eq!(left, ["aes128gcm16", "aes256gcm16-ecp256-x25519-modpnone", "aes192gcm16-modpnone"]);
        let groups = |proposal: &EspProposal| {
            proposal.asking(asked).filter(|spec| spec.kind == TransformType::KE).map(|spec| spec.id).collect::<Vec<_>>()
        };
        assert_eq!(all.each_ref().map(groups), [[].to_vec(), [].to_vec(), [31, 0].to_vec(), [0].to_vec()]);
        assert_eq!(Asked::Nothing.of(&all).count(), 4);
    }
}
