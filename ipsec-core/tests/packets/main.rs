//! Packets through both engines: vectors, attacks, lifetimes, policies.
#![cfg(feature = "rustcrypto")]

mod changes;
mod counters;
mod encapsulation;
mod ends;
mod index;
mod level;
mod lifetimes;
mod list;
mod malformed;
mod policy;
mod properties;
mod rekeys;
mod replay;
mod vectors;
