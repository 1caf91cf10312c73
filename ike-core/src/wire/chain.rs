//! The chain of payloads (RFC 7296 §3.2).

use super::enclosed;
use crate::error::Malformed;
use crate::registry::PayloadType;
use ipsec_core::wire::cursor::Reader;

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
