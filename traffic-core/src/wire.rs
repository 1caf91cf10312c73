//! Octets on the wire below IP, in the rhythm of [`ipsec_core::wire`]: length, fields, `read`, `write`. Nothing else in
//! the crate touches octets of a header.

pub mod ethernet;
pub mod pppoe;
pub mod vlan;
