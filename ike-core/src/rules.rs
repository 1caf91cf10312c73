//! What may be in a message, as data (RFC 7296 §1.2–§1.5, appendix C), checked before any handler runs.

mod payloads;
mod table;

pub use self::payloads::{Payloads, Refused};
pub use self::table::{Direction, Presence, Rule, Stage};
