//! The key exchange ecp256 of the default provider.
#![no_std]
#![no_main]

use ike_core::crypto::{Group, IkeCrypto, KePublic, SharedSecret};
use panic_probe::{keep, octets};

panic_probe::program!(run());

fn run() {
    let mut engine = panic_probe::provider();
    let mut public = KePublic::new();
    let Some(secret) = engine.ke_generate(Group::Ecp256, &mut public) else { return };
    let mut shared = SharedSecret::default();
    keep(u64::from(engine.ke_agree(&secret, octets(), &mut shared).is_ok()));
    keep(shared.as_slice().len() as u64 + public.len() as u64);
}
