//! Drivers that know registers and nothing of IP.
//!
//! Every driver is generic over three things the platform supplies, so that a host test can run it against a
//! register-level model of its device:
//!
//! * [`Mmio`]: one block of 32-bit registers,
//! * [`DmaMemory`]: memory the device reads and writes by itself,
//! * [`Clock`]: microseconds since boot; every wait on a device goes through [`wait_until`] and ends.
//!
//! Network devices meet the rest of the image in [`Nic`]. A controller with several ports (USB host, for one) hands
//! out borrowed views: `fn port(&mut self, index: usize) -> Option<Port<'_>>` where `Port: Nic`.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)
)]

pub mod entropy;
pub mod genet;
pub mod mailbox;
#[cfg(test)]
mod model;
mod nic;
mod platform;
pub mod power;
pub mod sd;
pub mod usb;
pub mod virtio_net;

pub use nic::{Counters, Link, MacAddress, Nic, SendError};
pub use platform::{Clock, DmaMemory, Mmio, TimedOut, wait_until};
