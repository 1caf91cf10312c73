//! Packets through both engines: vectors, attacks, lifetimes, policies.
#![cfg(feature = "rustcrypto")]

mod changes;
mod counters;
#[cfg(feature = "cipher-mac")]
mod drained;
mod encapsulation;
mod ends;
mod fragments;
mod index;
#[cfg(feature = "suites")]
mod known_answers;
mod level;
mod lifetimes;
mod list;
mod malformed;
mod modes;
mod padding;
mod policy;
mod properties;
mod rekeys;
mod relayed;
mod replay;
#[cfg(feature = "suites")]
mod suites;
mod vectors;
