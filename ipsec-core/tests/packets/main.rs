//! Packets through both engines: vectors, attacks, lifetimes, policies.
#![cfg(feature = "rustcrypto")]

mod counters;
mod encapsulation;
mod ends;
mod fragments;
mod index;
mod lifetimes;
mod malformed;
mod padding;
mod policy;
mod properties;
mod relayed;
mod replay;
mod vectors;
