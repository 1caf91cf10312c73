//! What makes a gateway of `ipsec-core` and `ike-core`, and the configuration files of the Portcullis appliances.
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

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cause;
pub mod config;
pub mod gateway;
pub mod peers;
pub mod plane;
pub mod policy;
