//! The crypto provider of this appliance, named once.

use gateway_core::crypto::Boxed;
use getrandom::SysRng;
use ike_core::crypto::{Digest64, IkeCrypto as _, PrfAlg};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use rand_core::UnwrapErr;

use crate::sequence::Mark;

/// What packets are protected with: portable Rust. SAs are on the heap, as most places for them are empty mostly.
pub(crate) type Engine = Boxed<RustCrypto>;

/// IKE's: the system's random numbers, everything else in portable Rust.
pub(crate) type Ike = ike_core::crypto::rustcrypto::RustCrypto<UnwrapErr<SysRng>, Engine>;

/// A provider for packets.
pub(crate) const ENGINE: Engine = Boxed(RustCrypto);

/// By what a key is known where it must not stand. Nobody computes the key of that; what it was made with makes it another
/// one than any that an IKE SA has.
pub(crate) fn mark(key: &[u8]) -> Mark {
    let mut digest = Digest64::new();
    ike().prf(PrfAlg::HmacSha256, b"portcullis: numbers of a manual key", &[key], &mut digest);
    Mark(digest.as_slice().try_into().unwrap_or_default())
}

/// A provider for IKE.
pub(crate) fn ike() -> Ike {
    Ike::new(UnwrapErr(SysRng), ENGINE)
}
