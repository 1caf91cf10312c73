//! Algorithms and transforms (RFC 7296 §3.3.2): what we know by name, and the numbers for it. The one place that knows both.

use crate::crypto::{
    Additional, Encryption, EspSuite, Group, IkeSuite, IntegAlg, PrfAlg, Protection, integ_from_id, integ_id,
};
use crate::registry::{EncrId, EsnId, GroupId, IntegId, PrfId, TransformType};
use crate::wire::sa::TransformSpec;
use crate::wire::sk::suits;

/// The transform types, in the order in which a mismatch is looked for. An unknown one makes a proposal unacceptable
/// (RFC 7296 §3.3.6).
pub(super) const KINDS: [TransformType; 12] = [
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
pub(super) type Picks = [(usize, TransformSpec); KINDS.len()];

/// Whether it is a key exchange: the first one, or one of those after it (RFC 9370 §2.2.1).
pub(super) fn is_exchange(kind: TransformType) -> bool {
    kind == TransformType::KE || (TransformType::ADDKE1..=TransformType::ADDKE7).contains(&kind)
}

pub(super) fn encr(encryption: Encryption) -> Option<TransformSpec> {
    encryption.id().map(|(id, key_bits)| TransformSpec { kind: TransformType::ENCR, id: id.0, key_bits })
}

pub(super) fn integ(alg: IntegAlg) -> Option<TransformSpec> {
    integ_id(alg).map(|id| TransformSpec { kind: TransformType::INTEG, id: id.0, key_bits: None })
}

pub(super) fn prf(alg: PrfAlg) -> TransformSpec {
    TransformSpec { kind: TransformType::PRF, id: alg.id().0, key_bits: None }
}

pub(super) fn group(group: Option<Group>) -> TransformSpec {
    TransformSpec { kind: TransformType::KE, id: group.map_or(GroupId::NONE, Group::id).0, key_bits: None }
}

pub(super) fn esn(esn: bool) -> TransformSpec {
    let id = if esn { EsnId::ESN } else { EsnId::NO_ESN };
    TransformSpec { kind: TransformType::ESN, id: id.0, key_bits: None }
}

/// The transforms that stand for a protection.
fn protection(protection: Protection) -> impl Iterator<Item = TransformSpec> + Clone + use<> {
    let (encryption, mac) = Encryption::of(protection);
    encr(encryption).into_iter().chain(mac.and_then(integ))
}

/// `None`: one of them is not built, or they do not go together.
fn protection_of(encr: &TransformSpec, integ: &TransformSpec) -> Option<Protection> {
    let mac = match IntegId(integ.id) {
        IntegId::NONE => None,
        id => Some(integ_from_id(id)?),
    };
    Encryption::from_id(EncrId(encr.id), encr.key_bits)?.with(mac)
}

impl Additional {
    fn transforms(self) -> impl Iterator<Item = TransformSpec> + Clone + use<> {
        let places = (TransformType::ADDKE1.0..=TransformType::ADDKE7.0).zip(self.0);
        places.filter_map(|(kind, method)| Some(TransformSpec { kind: TransformType(kind), ..group(Some(method?)) }))
    }

    /// `None`: one of them is not known.
    fn of(picks: &[(usize, TransformSpec)]) -> Option<Self> {
        let mut additional = Self::NONE;
        for (place, (_, spec)) in additional.0.iter_mut().zip(picks) {
            *place = Group::from_id(GroupId(spec.id));
            if place.is_none() && spec.id != 0 {
                return None;
            }
        }
        Some(additional)
    }
}

impl IkeSuite {
    /// The transforms of the answer that chooses this suite.
    pub fn transforms(&self) -> impl Iterator<Item = TransformSpec> + Clone + use<> {
        let exchanges = [group(Some(self.group))].into_iter().chain(self.additional.transforms());
        let mut protection = protection(self.protection);
        let encr = protection.next();
        encr.into_iter().chain([prf(self.prf)]).chain(protection).chain(exchanges)
    }

    pub(super) fn of(picks: &Picks) -> Option<Self> {
        let [(_, encr), (_, prf), (_, integ), (_, ke), _, additional @ ..] = picks;
        Some(Self {
            protection: protection_of(encr, integ).filter(|protection| suits(*protection))?,
            prf: PrfAlg::from_id(PrfId(prf.id))?,
            group: Group::from_id(GroupId(ke.id))?,
            additional: Additional::of(additional)?,
        })
    }
}

impl EspSuite {
    /// The transforms of the answer that chooses this suite.
    pub fn transforms(&self) -> impl Iterator<Item = TransformSpec> + Clone + use<> {
        let exchange = self.group.map(|method| group(Some(method)));
        protection(self.protection).chain(exchange).chain([esn(self.esn)]).chain(self.additional.transforms())
    }

    pub(super) fn of(picks: &Picks) -> Option<Self> {
        let [(_, encr), _, (_, integ), (_, ke), (_, esn), additional @ ..] = picks;
        Some(Self {
            protection: protection_of(encr, integ)?,
            esn: EsnId(esn.id) == EsnId::ESN,
            group: Group::from_id(GroupId(ke.id)),
            additional: Additional::of(additional)?,
        })
    }
}
