//! IKEv2 without an operating system.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(test)]
extern crate std;

pub mod auth;
pub mod crypto;
pub mod error;
pub mod keys;
pub mod proposal;
pub mod registry;
pub mod rules;
pub mod wire;
