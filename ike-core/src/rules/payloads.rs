//! The payloads of a message, held against the rule for it.

use super::table::Presence::{Repeated, Required};
use super::table::Rule;
use crate::error::Malformed;
use crate::registry::{NotifyKind, PayloadType};
use crate::wire::auth::Auth;
use crate::wire::cert::{Cert, CertReq};
use crate::wire::chain::Chain;
use crate::wire::cp::Cp;
use crate::wire::delete::Delete;
use crate::wire::eap::Eap;
use crate::wire::id::Id;
use crate::wire::ke::Ke;
use crate::wire::nonce::Nonce;
use crate::wire::notify::Notify;
use crate::wire::sa::Sa;
use crate::wire::ts::Ts;
use crate::wire::vendor::VendorId;

/// Why a message is refused. All but [`Refused::UnsupportedCritical`] end in INVALID_SYNTAX, if in an answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refused {
    /// A length or count is wrong.
    Malformed,
    /// A payload of unknown type is marked critical (RFC 7296 §2.5): UNSUPPORTED_CRITICAL_PAYLOAD with the type as data.
    UnsupportedCritical(PayloadType),
    /// A payload is missing.
    Missing(PayloadType),
    /// A payload stands where it has no place.
    Unexpected(PayloadType),
    /// A payload stands there twice.
    Duplicate(PayloadType),
}

impl From<Malformed> for Refused {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The payloads of a message that its rule allows, every body checked.
///
/// ```
/// use ike_core::registry::{ExchangeType, NotifyKind, PayloadType, ProtocolId};
/// use ike_core::rules::{Direction, Payloads, Refused, Rule, Stage};
/// use ike_core::wire::{header::Header, writer::MessageWriter};
/// let header = Header { response: true, ..Header::new(1, 2, ExchangeType::IKE_SA_INIT, 0) };
/// let mut octets = [0; 64];
/// let mut message = MessageWriter::new(&mut octets, &header).unwrap();
/// message.notify(ProtocolId::NONE, &[], NotifyKind::NO_PROPOSAL_CHOSEN, &[]).unwrap();
/// let len = message.finish().len;
///
/// let rule = |direction| Rule::find(ExchangeType::IKE_SA_INIT, direction, Stage::Clear).unwrap();
/// let read = |direction| Payloads::collect(PayloadType::NOTIFY, &octets[Header::LEN..len], rule(direction));
/// // A refusal may stand alone; a request without proposals is none.
/// assert_eq!(read(Direction::Response).unwrap().error().map(|notify| notify.kind), Some(NotifyKind::NO_PROPOSAL_CHOSEN));
/// assert_eq!(read(Direction::Request).err(), Some(Refused::Missing(PayloadType::SA)));
/// ```
#[derive(Debug, Clone)]
pub struct Payloads<'m> {
    /// SA.
    pub sa: Option<Sa<'m>>,
    /// KE.
    pub ke: Option<Ke<'m>>,
    /// Ni in a request, Nr in a response.
    pub nonce: Option<Nonce<'m>>,
    /// IDi.
    pub id_i: Option<Id<'m>>,
    /// IDr.
    pub id_r: Option<Id<'m>>,
    /// AUTH.
    pub auth: Option<Auth<'m>>,
    /// TSi.
    pub ts_i: Option<Ts<'m>>,
    /// TSr.
    pub ts_r: Option<Ts<'m>>,
    /// CP.
    pub cp: Option<Cp<'m>>,
    /// EAP, as it stands.
    pub eap: Option<&'m [u8]>,
    chain: Chain<'m>,
}

impl<'m> Payloads<'m> {
    /// Reads the payloads that begin with one of type `first`, and holds them against `rule`. Unknown payloads that are not
    /// critical are skipped. In a response with an error notify, or with COOKIE, nothing is missing: RFC 7296 lets such a
    /// response carry the notify alone (§1.3, §2.6, §2.21), or beside what did succeed (§2.21.2).
    ///
    /// # Errors
    /// [`Refused`]
    pub fn collect(first: PayloadType, body: &'m [u8], rule: &Rule) -> Result<Self, Refused> {
        let chain = Chain::new(first, body);
        let mut payloads = Self {
            sa: None,
            ke: None,
            nonce: None,
            id_i: None,
            id_r: None,
            auth: None,
            ts_i: None,
            ts_r: None,
            cp: None,
            eap: None,
            chain: chain.clone(),
        };
        for payload in chain {
            let payload = payload?;
            let kind = payload.kind;
            if !kind.is_known() {
                if payload.critical {
                    return Err(Refused::UnsupportedCritical(kind));
                }
                continue;
            }
            let presence = rule.presence(kind).ok_or(Refused::Unexpected(kind))?;
            if presence != Repeated && payloads.has(kind) {
                return Err(Refused::Duplicate(kind));
            }
            payloads.take(kind, payload.body)?;
        }
        payloads.check_presence(rule)?;
        Ok(payloads)
    }

    fn take(&mut self, kind: PayloadType, body: &'m [u8]) -> Result<(), Malformed> {
        match kind {
            PayloadType::SA => self.sa = Some(Sa::parse(body)?),
            PayloadType::KE => self.ke = Some(Ke::parse(body)?),
            PayloadType::NONCE => self.nonce = Some(Nonce::parse(body)?),
            PayloadType::ID_I => self.id_i = Some(Id::parse(body)?),
            PayloadType::ID_R => self.id_r = Some(Id::parse(body)?),
            PayloadType::AUTH => self.auth = Some(Auth::parse(body)?),
            PayloadType::TS_I => self.ts_i = Some(Ts::parse(body)?),
            PayloadType::TS_R => self.ts_r = Some(Ts::parse(body)?),
            PayloadType::CP => self.cp = Some(Cp::parse(body)?),
            PayloadType::EAP => {
                Eap::parse(body)?;
                self.eap = Some(body);
            }
            // What may be repeated is read again from the chain; here only checked.
            PayloadType::NOTIFY => drop(Notify::parse(body)?),
            PayloadType::DELETE => drop(Delete::parse(body)?),
            PayloadType::CERT => drop(Cert::parse(body)?),
            PayloadType::CERTREQ => drop(CertReq::parse(body)?),
            _ => {}
        }
        Ok(())
    }

    fn check_presence(&self, rule: &Rule) -> Result<(), Refused> {
        let excused = rule.is_response()
            && self.notifies().any(|notify| notify.kind.is_error() || notify.kind == NotifyKind::COOKIE);
        if excused {
            return Ok(());
        }
        let mut required = rule.payloads.iter().filter(|(_, presence)| *presence == Required);
        if let Some((missing, _)) = required.find(|(kind, _)| !self.has(*kind)) {
            return Err(Refused::Missing(*missing));
        }
        match rule.together.iter().find(|kind| !self.has(**kind)) {
            Some(missing) if rule.together.iter().any(|kind| self.has(*kind)) => Err(Refused::Missing(*missing)),
            _ => Ok(()),
        }
    }

    /// Whether a payload that stands there at most once is there.
    fn has(&self, kind: PayloadType) -> bool {
        match kind {
            PayloadType::SA => self.sa.is_some(),
            PayloadType::KE => self.ke.is_some(),
            PayloadType::NONCE => self.nonce.is_some(),
            PayloadType::ID_I => self.id_i.is_some(),
            PayloadType::ID_R => self.id_r.is_some(),
            PayloadType::AUTH => self.auth.is_some(),
            PayloadType::TS_I => self.ts_i.is_some(),
            PayloadType::TS_R => self.ts_r.is_some(),
            PayloadType::CP => self.cp.is_some(),
            PayloadType::EAP => self.eap.is_some(),
            _ => false,
        }
    }

    fn bodies(&self, kind: PayloadType) -> impl Iterator<Item = &'m [u8]> + use<'m> {
        self.chain.clone().flatten().filter(move |payload| payload.kind == kind).map(|payload| payload.body)
    }

    /// Every Notify payload, in order.
    pub fn notifies(&self) -> impl Iterator<Item = Notify<'m>> + use<'m> {
        self.bodies(PayloadType::NOTIFY).flat_map(Notify::parse)
    }

    /// The first Notify payload of this kind.
    pub fn notify(&self, kind: NotifyKind) -> Option<Notify<'m>> {
        self.notifies().find(|notify| notify.kind == kind)
    }

    /// The first Notify payload that reports an error.
    pub fn error(&self) -> Option<Notify<'m>> {
        self.notifies().find(|notify| notify.kind.is_error())
    }

    /// Every Delete payload, in order.
    pub fn deletes(&self) -> impl Iterator<Item = Delete<'m>> + use<'m> {
        self.bodies(PayloadType::DELETE).flat_map(Delete::parse)
    }

    /// Every Certificate payload, in order; the first one is the sender's own.
    pub fn certs(&self) -> impl Iterator<Item = Cert<'m>> + use<'m> {
        self.bodies(PayloadType::CERT).flat_map(Cert::parse)
    }

    /// Every Certificate Request payload, in order.
    pub fn cert_requests(&self) -> impl Iterator<Item = CertReq<'m>> + use<'m> {
        self.bodies(PayloadType::CERTREQ).flat_map(CertReq::parse)
    }

    /// Every Vendor ID payload, in order.
    pub fn vendors(&self) -> impl Iterator<Item = VendorId<'m>> + use<'m> {
        self.bodies(PayloadType::VENDOR).map(VendorId)
    }
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use alloc::vec::Vec;

    use super::super::table::Presence::Optional;
    use super::super::table::{Direction, RULES, Stage};
    use super::*;
    use crate::registry::{ExchangeType, ProtocolId};

    /// A body that parses, for each payload type.
    fn body(kind: PayloadType) -> Vec<u8> {
        match kind {
            PayloadType::NONCE => [7; 16].to_vec(),
            PayloadType::EAP => [1, 0, 0, 5, 1].to_vec(),
            PayloadType::SA => Vec::new(),
            PayloadType::DELETE => [1, 0, 0, 0].to_vec(),
            PayloadType::NOTIFY => [0, 0, 0x40, 0].to_vec(),
            _ => [0, 0, 0, 0].to_vec(),
        }
    }

    fn notify(kind: NotifyKind) -> (PayloadType, Vec<u8>) {
        let [high, low] = kind.0.to_be_bytes();
        (PayloadType::NOTIFY, [0, 0, high, low].to_vec())
    }

    /// A chain of payloads; the type of the first, and the octets.
    fn chain(payloads: &[(PayloadType, Vec<u8>)]) -> (PayloadType, Vec<u8>) {
        let mut octets = Vec::new();
        for (index, (_, body)) in payloads.iter().enumerate() {
            let next = payloads.get(index + 1).map_or(PayloadType::NONE, |(kind, _)| *kind);
            octets.extend([next.0, 0]);
            octets.extend(u16::try_from(body.len() + 4).unwrap().to_be_bytes());
            octets.extend(body);
        }
        (payloads.first().map_or(PayloadType::NONE, |(kind, _)| *kind), octets)
    }

    fn refusal(rule: &Rule, payloads: &[(PayloadType, Vec<u8>)]) -> Option<Refused> {
        let (first, octets) = chain(payloads);
        Payloads::collect(first, &octets, rule).err()
    }

    fn required(rule: &Rule) -> Vec<(PayloadType, Vec<u8>)> {
        let required = rule.payloads.iter().filter(|(_, presence)| *presence == Required);
        required.map(|(kind, _)| (*kind, body(*kind))).collect()
    }

    const KNOWN: core::ops::RangeInclusive<u8> = 33..=48;

    #[test]
    fn every_row_takes_what_it_lists_and_refuses_everything_else() {
        for rule in RULES {
            let base = required(rule);
            assert_eq!(refusal(rule, &base), None, "{rule:?}");
            for kind in KNOWN.map(PayloadType) {
                let more = [base.as_slice(), &[(kind, body(kind))]].concat();
                let expected = match rule.presence(kind) {
                    None => Some(Refused::Unexpected(kind)),
                    Some(Required) => Some(Refused::Duplicate(kind)),
                    Some(Optional) if rule.together.contains(&kind) => {
                        let other = rule.together.iter().find(|other| **other != kind).unwrap();
                        Some(Refused::Missing(*other))
                    }
                    Some(Optional | Repeated) => None,
                };
                assert_eq!(refusal(rule, &more), expected, "{kind} {rule:?}");
                let twice = [more.as_slice(), &[(kind, body(kind))]].concat();
                let twice_is_fine = rule.presence(kind) == Some(Repeated);
                assert_eq!(refusal(rule, &twice).is_none(), twice_is_fine, "{kind} {rule:?}");
            }
        }
    }

    #[test]
    fn atk_17_each_missing_payload_is_named() {
        for rule in RULES {
            let base = required(rule);
            for (index, (kind, _)) in base.iter().enumerate() {
                let mut less = base.clone();
                less.remove(index);
                assert_eq!(refusal(rule, &less), Some(Refused::Missing(*kind)), "{rule:?}");
            }
        }
    }

    #[test]
    fn an_error_notify_or_a_cookie_stands_for_what_is_missing_in_a_response_only() {
        for rule in RULES {
            let missing = !required(rule).is_empty();
            for (kind, excuses) in [
                (NotifyKind::NO_PROPOSAL_CHOSEN, true),
                (NotifyKind(99), true),
                (NotifyKind::COOKIE, true),
                (NotifyKind::INITIAL_CONTACT, false),
            ] {
                let refused = refusal(rule, &[notify(kind)]).is_some();
                assert_eq!(refused, missing && !(rule.is_response() && excuses), "{kind} {rule:?}");
            }
        }
        let (first, octets) = chain(&[notify(NotifyKind::TS_UNACCEPTABLE)]);
        let rule = Rule::find(ExchangeType::CREATE_CHILD_SA, Direction::Response, Stage::Established).unwrap();
        let payloads = Payloads::collect(first, &octets, rule).unwrap();
        assert_eq!(payloads.error().unwrap().kind, NotifyKind::TS_UNACCEPTABLE);
        assert!(payloads.sa.is_none() && payloads.notify(NotifyKind::COOKIE).is_none());
    }

    #[test]
    fn atk_16_unknown_payloads_are_skipped_in_any_number_and_refused_by_name_when_critical() {
        let rule = Rule::find(ExchangeType::INFORMATIONAL, Direction::Request, Stage::Established).unwrap();
        for count in [0, 1, 16_000] {
            let (first, octets) = chain(&alloc::vec![(PayloadType(200), Vec::new()); count]);
            assert!(Payloads::collect(first, &octets, rule).is_ok());
        }
        for kind in (1..=u8::MAX).filter(|kind| !KNOWN.contains(kind)) {
            let critical = [0, 0x80, 0, 4];
            let refused = Payloads::collect(PayloadType(kind), &critical, rule).err();
            // SKF ends a message and is opened before anything is collected, but it is no less unknown here.
            assert_eq!(refused, Some(Refused::UnsupportedCritical(PayloadType(kind))));
        }
        // The flag says nothing about a type we know (RFC 7296 §2.5).
        let delete = [0, 0x80, 0, 8, 1, 0, 0, 0];
        assert!(Payloads::collect(PayloadType::DELETE, &delete, rule).is_ok());
    }

    #[test]
    fn atk_21_payloads_of_ikev1_are_unknown() {
        for (exchange, stage) in [
            (ExchangeType::IKE_SA_INIT, Stage::Clear),
            (ExchangeType::IKE_AUTH, Stage::Keyed),
            (ExchangeType::INFORMATIONAL, Stage::Established),
        ] {
            let rule = Rule::find(exchange, Direction::Request, stage).unwrap();
            for kind in (1..=32).map(PayloadType) {
                let with = [&[(kind, [0xff].to_vec())], required(rule).as_slice()].concat();
                assert_eq!(refusal(rule, &with), None, "{kind}");
            }
        }
    }

    #[test]
    fn a_bad_body_is_malformed_wherever_it_stands() {
        for rule in RULES {
            for (kind, _) in rule.payloads.iter().filter(|(kind, _)| *kind != PayloadType::VENDOR) {
                let bad = if *kind == PayloadType::SA { [1].to_vec() } else { Vec::new() };
                assert_eq!(refusal(rule, &[(*kind, bad)]), Some(Refused::Malformed), "{kind}");
            }
        }
    }

    #[test]
    fn what_may_be_repeated_is_given_in_order() {
        let delete = |octets: &[u8]| (PayloadType::DELETE, octets.to_vec());
        let (first, octets) = chain(&[
            notify(NotifyKind::COOKIE2),
            delete(&[3, 4, 0, 1, 9, 9, 9, 9]),
            (PayloadType::VENDOR, b"who".to_vec()),
            notify(NotifyKind::UPDATE_SA_ADDRESSES),
            delete(&[1, 0, 0, 0]),
        ]);
        let rule = Rule::find(ExchangeType::INFORMATIONAL, Direction::Request, Stage::Established).unwrap();
        let payloads = Payloads::collect(first, &octets, rule).unwrap();
        let kinds: Vec<_> = payloads.notifies().map(|notify| notify.kind).collect();
        assert_eq!(kinds, [NotifyKind::COOKIE2, NotifyKind::UPDATE_SA_ADDRESSES]);
        let protocols: Vec<_> = payloads.deletes().map(|delete| delete.protocol).collect();
        assert_eq!(protocols, [ProtocolId::ESP, ProtocolId::IKE]);
        assert!(payloads.vendors().eq([VendorId(b"who")]));
    }
}
