//! A scripted peer that holds the keys and keeps no rule: bug classes that have bitten other implementations, by number.

mod established;
mod flood;
mod handshake;
mod matrix;
mod neighbours;
pub(crate) mod peer;
mod whims;
