//! No key outlives its SA in what can be seen of AWS-LC's memory (Linux only): the keys as they are, and what HMAC makes of them.
//! What the library makes of them besides (round keys but for the first ones, tables of the hash of GCM) has no form that is known here.
//!
//! One test, alone in its process: whatever ran beside it would move and copy memory while it is searched.
#![cfg(target_os = "linux")]

#[path = "../../ipsec-core/tests/memory/mod.rs"]
mod memory;
#[path = "../../ipsec-core/tests/memory/sas.rs"]
mod sas;

use ipsec_aws_lc::AwsLc;
use ipsec_core::crypto::ivs::WithIvs;
use rand_core::UnwrapErr;

#[test]
fn f_51_a_key_of_aws_lc_is_gone_with_its_sa() {
    sas::finds();
    sas::lives(|| WithIvs::new(AwsLc, UnwrapErr(getrandom::SysRng)), sas::Keys::Boxed);
}
