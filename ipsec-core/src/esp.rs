//! ESP (RFC 4303): one packet, in place, whatever transform protects it.

pub(crate) mod open;
mod pad;
pub(crate) mod seal;
