//! What the image answers with on the network: addresses, ping, a status page.
//!
//! Everything stands on [`Nic`](rpi_drivers::Nic) and a time in microseconds, so it runs in host tests as on a board.
//! smoltcp is known to [`stack`] only.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod card;
pub mod configuration;
pub mod http;
pub mod log_tail;
pub mod stack;
pub mod status;
