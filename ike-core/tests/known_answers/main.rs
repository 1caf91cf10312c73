//! Messages, keys and algorithms against captures and vectors that others made.

mod cipher_mac;
mod foreign;
mod key_derivation;
mod reencode;
mod strongswan;
mod support;
mod wycheproof;
