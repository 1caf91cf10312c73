//! Packets through both engines: vectors, attacks, lifetimes, policies.
#![cfg(feature = "rustcrypto")]

mod counters;
mod encapsulation;
mod ends;
mod index;
#[cfg(feature = "suites")]
mod known_answers;
mod lifetimes;
mod malformed;
mod modes;
mod policy;
mod properties;
mod replay;
#[cfg(feature = "suites")]
mod suites;
mod vectors;
