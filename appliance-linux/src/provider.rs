//! The crypto provider of this appliance, named once.

use chacha20::ChaCha20Rng;
use gateway_core::crypto::Boxed;
use getrandom::SysRng;
use ipsec_core::crypto::ivs::WithIvs;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use rand_core::{SeedableRng, UnwrapErr};

/// What packets are protected with: portable Rust. SAs are on the heap, as most places for them are empty mostly. IVs come of a
/// generator of its own: asking the system for each packet would take longer than the packet.
pub(crate) type Engine = Boxed<WithIvs<RustCrypto, ChaCha20Rng>>;

/// IKE's: the system's random numbers, everything else in portable Rust.
pub(crate) type Ike = ike_core::crypto::rustcrypto::RustCrypto<UnwrapErr<SysRng>, Engine>;

/// A provider for packets.
pub(crate) fn engine() -> Engine {
    Boxed(WithIvs::new(RustCrypto, ChaCha20Rng::from_rng(&mut UnwrapErr(SysRng))))
}

/// A provider for IKE.
pub(crate) fn ike() -> Ike {
    Ike::new(UnwrapErr(SysRng), engine())
}
