//! Portcullis for Raspberry Pi.
fn main() {}
