//! The chain of payloads (RFC 7296 §3.2).

use ipsec_core::wire::cursor::Reader;

use super::enclosed;
use crate::error::Malformed;
use crate::registry::PayloadType;

/// Octets of the generic payload header.
pub(crate) const GENERIC_LEN: usize = 4;

/// One payload, its body not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<'m> {
    /// What it is.
    pub kind: PayloadType,
    /// Whether a receiver that does not know `kind` must refuse the message (RFC 7296 §2.5).
    pub critical: bool,
    /// What follows the generic header.
    pub body: &'m [u8],
    /// Type of the payload after this one; for SK and SKF, of the first payload inside (RFC 7296 §3.14).
    pub next: PayloadType,
}

/// The payloads of a message or of a decrypted SK payload, in order. Every step consumes at least 4 octets or ends the
/// chain, so that a message of `n` octets never takes more than `n / 4 + 1` steps. After an error there is no more. Octets
/// after the last payload are not looked at, except that nothing may follow an SK payload.
///
/// ```
/// use ike_core::error::Malformed;
/// use ike_core::registry::PayloadType;
/// use ike_core::wire::chain::Chain;
/// let octets = [43, 0, 0, 5, 0xaa, 0, 0, 0, 99]; // N, then V, which ends beyond the message
/// let mut chain = Chain::new(PayloadType::NOTIFY, &octets);
/// assert_eq!(chain.next().unwrap().unwrap().body, [0xaa]);
/// assert_eq!(chain.next(), Some(Err(Malformed)));
/// assert_eq!(chain.next(), None);
/// ```
#[derive(Debug, Clone)]
pub struct Chain<'m> {
    next: PayloadType,
    rest: &'m [u8],
}

impl<'m> Chain<'m> {
    /// A chain whose first payload is of type `first`; `body` is what follows the IKE header, or the inside of an SK
    /// payload.
    pub const fn new(first: PayloadType, body: &'m [u8]) -> Self {
        Self { next: first, rest: body }
    }

    fn step(&mut self) -> Result<Payload<'m>, Malformed> {
        let mut reader = Reader::new(self.rest);
        let kind = self.next;
        let [next, flags] = reader.array()?;
        let length = reader.u16()?;
        let body = enclosed(&mut reader, length, GENERIC_LEN)?;
        let next = PayloadType(next);
        self.next = next;
        self.rest = reader.rest();
        if matches!(kind, PayloadType::SK | PayloadType::SKF) {
            // It is the last one and ends the message; its next-payload field speaks of what it hides.
            self.next = PayloadType::NONE;
            if !self.rest.is_empty() {
                return Err(Malformed);
            }
        }
        Ok(Payload { kind, critical: flags & 0x80 != 0, body, next })
    }
}

impl<'m> Iterator for Chain<'m> {
    type Item = Result<Payload<'m>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let payload = match self.next {
            PayloadType::NONE => return None,
            _ => self.step(),
        };
        if payload.is_err() {
            *self = Self::new(PayloadType::NONE, &[]);
        }
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use super::*;
    use alloc::vec::Vec;

    fn kinds(first: u8, body: &[u8]) -> Result<Vec<u8>, Malformed> {
        Chain::new(PayloadType(first), body).map(|payload| payload.map(|payload| payload.kind.0)).collect()
    }

    #[test]
    fn payloads_come_in_order_with_flag_and_body() {
        let octets = [41, 0, 0, 6, 1, 2, 0, 0x80, 0, 4];
        let payloads: Vec<_> = Chain::new(PayloadType::NONCE, &octets).map(Result::unwrap).collect();
        let [nonce, notify] = payloads.as_slice() else { panic!("{payloads:?}") };
        assert_eq!((nonce.kind, nonce.critical, nonce.body), (PayloadType::NONCE, false, &[1, 2][..]));
        assert_eq!((notify.kind, notify.critical, notify.body), (PayloadType::NOTIFY, true, &[][..]));
    }

    #[test]
    fn atk_01_every_length_below_the_generic_header_is_refused_for_every_type() {
        for kind in 1..=u8::MAX {
            for length in 0..4 {
                assert_eq!(kinds(kind, &[0, 0, 0, length, 0, 0, 0, 0]), Err(Malformed), "{kind} {length}");
            }
            assert_eq!(kinds(kind, &[0, 0, 0, 9, 0, 0, 0, 0]), Err(Malformed), "{kind}");
        }
    }

    #[test]
    fn atk_09_a_payload_named_but_absent_is_refused() {
        for kind in 1..=u8::MAX {
            for body in [&[][..], &[0], &[0, 0, 0]] {
                assert_eq!(kinds(kind, body), Err(Malformed));
            }
        }
        assert_eq!(kinds(0, &[]), Ok(Vec::new()));
    }

    #[test]
    fn atk_15_a_chain_of_empty_payloads_ends_with_the_message() {
        let mut octets = [43, 0, 0, 0].repeat(1000);
        let mut chain = Chain::new(PayloadType::VENDOR, &octets);
        assert_eq!(chain.next(), Some(Err(Malformed)));
        assert_eq!(chain.next(), None);
        octets.chunks_mut(4).for_each(|payload| payload[3] = 4);
        let steps =
            Chain::new(PayloadType::VENDOR, &octets).inspect(|step| assert!(step.is_ok() || octets.len() == 4000));
        assert_eq!(steps.count(), 1001); // the last one names a next payload that is not there
    }

    #[test]
    fn nothing_follows_an_encrypted_payload() {
        for kind in [46, 53] {
            assert_eq!(kinds(kind, &[33, 0, 0, 5, 9]), Ok([kind].to_vec()));
            assert_eq!(kinds(kind, &[33, 0, 0, 5, 9, 0, 0, 0, 4]), Err(Malformed));
        }
        let sk = Chain::new(PayloadType::SK, &[33, 0, 0, 4]).next().unwrap().unwrap();
        assert_eq!(sk.next, PayloadType::SA);
    }
}
