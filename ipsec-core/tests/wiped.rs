//! No key outlives its SA anywhere in the memory of a process: tables, heap, and the stacks' dead frames (Linux only).
//!
//! One test, alone in its process: whatever ran beside it would move and copy memory while it is searched.
#![cfg(all(feature = "suites", target_os = "linux"))]

mod memory;
#[path = "memory/sas.rs"]
mod sas;

use ipsec_core::crypto::ivs::WithIvs;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use rand_core::UnwrapErr;

#[test]
fn f_51_a_key_is_where_its_sa_is_and_nowhere_after_it() {
    sas::finds();
    sas::lives(|| WithIvs::new(RustCrypto, UnwrapErr(getrandom::SysRng)), sas::Keys::InSlots);
}
