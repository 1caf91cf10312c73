//! PRF and SHA-1 of the default provider.
#![no_std]
#![no_main]

use ike_core::crypto::{Digest64, IkeCrypto, PrfAlg};
use panic_probe::{any, keep, octets};

panic_probe::program!(run());

fn run() {
    let mut engine = panic_probe::provider();
    let alg = match any() {
        0 => PrfAlg::HmacSha256,
        1 => PrfAlg::HmacSha384,
        _ => PrfAlg::HmacSha512,
    };
    let mut out = Digest64::default();
    let part: &[u8] = octets();
    engine.prf(alg, part, &[part, part], &mut out);
    keep(out.as_slice().len() as u64 + u64::from(engine.sha1(&[part, part])[0]));
}
