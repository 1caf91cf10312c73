//! Octets on the wire. One file per header, all in one rhythm: length, fields, `read`, `write`. Nothing else in the
//! crate touches octets of a header.

pub mod checksum;
pub mod cursor;
pub mod esp;
pub mod fragment;
pub mod front;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod natt;
pub mod udp;
