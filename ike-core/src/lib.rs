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
pub mod child;
mod cookie;
pub mod crypto;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod failure;
pub mod keys;
pub mod natd;
pub mod pad;
pub mod proposal;
pub mod registry;
pub mod rules;
mod state;
pub mod window;
pub mod wire;
