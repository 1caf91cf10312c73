//! Bugs that others had, by the numbers that SECURITY.md answers: every one is tried under every suite that it could concern.
//!
//! What is about policy, modes, fragments and recorded packets stands with those.

mod contents;
mod icmp;
mod ivs;
mod lengths;
mod numbers;

use crate::ends::{NOW, Sa, outbound};
use ipsec_core::crypto::{AeadAlg, CipherAlg, IntegAlg, Protection};

/// Every suite of the engine as it is built.
pub(crate) fn suites() -> Vec<Protection> {
    let aeads = AeadAlg::ALL.iter().map(|alg| Protection::Aead(*alg));
    let implicit = AeadAlg::ALL.iter().filter(|alg| alg.has_implicit_iv()).map(|alg| Protection::ImplicitIv(*alg));
    let both = CipherAlg::ALL
        .iter()
        .flat_map(|cipher| IntegAlg::ALL.iter().map(|integ| Protection::CipherMac(*cipher, *integ)));
    let built = |protection: &Protection| {
        let sa = Sa::default().under(*protection);
        outbound(1).install(NOW, &sa.outbound()).is_ok()
    };
    let suites: Vec<_> = aeads.chain(implicit).chain(both).filter(built).collect();
    let least = if cfg!(feature = "suites") { 22 + 7 + 7 * 6 } else { 9 + 3 + 3 };
    assert!(suites.len() >= least, "{}", suites.len());
    suites
}

/// What an ESP packet carries, as it stands before encryption.
pub(crate) fn payload(inner: &[u8], pad: &[u8], next_header: u8) -> Vec<u8> {
    [inner, pad, &[pad.len() as u8, next_header]].concat()
}

/// The same with as much padding as a suite wants.
fn padded(inner: &[u8], align: u8, next_header: u8) -> Vec<u8> {
    let len = (inner.len() + 2).next_multiple_of(align.into()) - inner.len() - 2;
    payload(inner, &(1..=len as u8).collect::<Vec<_>>(), next_header)
}
