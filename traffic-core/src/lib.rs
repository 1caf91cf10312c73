//! What passes an interface, without an operating system: no heap, no unsafe code, no panic.
//!
//! A [`Frame`](frame::Frame) is an Ethernet frame taken apart: addresses, VLAN tags, a PPPoE session, and what it
//! carries; an IP packet as its selectors see it ([`Flow`](ipsec_core::flow::Flow)), without the octets that fill the
//! frame up. It borrows from the octets received and copies none.
//!
//! ```
//! use ipsec_core::flow::Ports;
//! use traffic_core::frame::{Content, Frame};
//!
//! let frame = [
//!     0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x81, 0x00, // to, from; IEEE 802.1Q
//!     0x60, 0x07, 0x88, 0x64, // priority 3, VLAN 7; PPPoE
//!     0x11, 0x00, 0x00, 0x2a, 0, 34, 0x00, 0x21, // session 42, 34 octets; IPv4
//!     0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 9, // IPv4
//!     0x13, 0x88, 0, 53, 0, 12, 0, 0, b'p', b'i', b'n', b'g', // UDP
//!     0, 0, // fills the frame up
//! ];
//! let frame = Frame::of(&frame).unwrap();
//! assert_eq!(frame.tags.outer().unwrap().vlan, 7);
//! assert_eq!(frame.session, Some(42));
//! let Content::Ip { flow, packet } = frame.content else { panic!() };
//! assert_eq!(flow.ports, Ports::Pair { source: 5000, destination: 53 });
//! assert!(packet.ends_with(b"ping"));
//! ```
//!
//! It takes no memory of its own, has no features, and takes Rust 1.91. A link test shows that no panic path is left in its
//! machine code. What it has of `ipsec-core` are the readers: whoever links it alone gets none of the SAs.
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

pub mod frame;
pub mod wire;
