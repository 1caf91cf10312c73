//! AES-GCM of the default provider.
#![no_std]
#![no_main]

use ipsec_core::crypto::PacketCrypto;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use panic_probe::{aead, any, keep, octets};

panic_probe::program!(run());

fn run() {
    let mut engine = RustCrypto;
    let Some(key) = engine.aead_key(aead(), octets()) else { return };
    let nonce = core::hint::black_box([0; 12]);
    let aad = core::hint::black_box([0_u8; 12]);
    let aad = aad.get(..any() as usize).unwrap_or_default();
    engine.seal(&key, &nonce, aad, octets());
    keep(u64::from(engine.open(&key, &nonce, aad, octets()).is_ok()));
}
