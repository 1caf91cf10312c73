//! Packets through both engines: vectors, attacks, lifetimes, policies.
#![cfg(feature = "rustcrypto")]

mod attacks;
mod changes;
#[cfg(feature = "ipcomp")]
mod compressed;
mod counters;
mod damage;
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
mod many;
mod modes;
mod padding;
mod policy;
mod properties;
mod rekeys;
mod relayed;
#[cfg(feature = "suites")]
mod suites;
mod vectors;
