//! The key exchange x25519 of the default provider.
#![no_std]
#![no_main]

use ike_core::crypto::{Group, IkeCrypto, SharedSecret};
use panic_probe::{keep, octets};

panic_probe::program!(run());

fn run() {
    let mut engine = panic_probe::provider();
    let mut public = [0; 32];
    let Some(secret) = engine.ke_offer(Group::Curve25519, &mut public) else { return };
    let mut shared = SharedSecret::default();
    keep(u64::from(engine.ke_finish(&secret, octets(), &mut shared).is_ok()));
    keep(shared.as_slice().len() as u64 + u64::from(public[0]));
}
