//! IKE messages that came to nothing.

use ike_core::error::Discard;

/// IKE messages that were dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Discarded {
    /// A length, count or padding is wrong.
    pub malformed: u64,
    /// The integrity check failed.
    pub forged: u64,
    /// No IKE SA has these SPIs, or it does not wait for such a message.
    pub unexpected: u64,
    /// A repetition outside the window.
    pub window: u64,
    /// Another version of IKE (IKEv1: RFC 9395).
    pub version: u64,
    /// There was no room, or the crypto engine refused.
    pub no_room: u64,
}

impl Discarded {
    pub(crate) fn count(&mut self, discard: Discard) {
        let counter = match discard {
            Discard::Malformed | Discard::BadPadding | Discard::BadKeyExchange => &mut self.malformed,
            Discard::BadIcv => &mut self.forged,
            Discard::Window => &mut self.window,
            Discard::Version => &mut self.version,
            Discard::NoRoom => &mut self.no_room,
            _ => &mut self.unexpected,
        };
        *counter = counter.saturating_add(1);
    }
}
