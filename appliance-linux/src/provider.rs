//! The crypto provider of this appliance, named once.

use gateway_core::crypto::Boxed;
use getrandom::SysRng;
use ipsec_core::crypto::rustcrypto::RustCrypto;
use rand_core::UnwrapErr;

/// What packets are protected with: portable Rust. SAs are on the heap, as most places for them are empty mostly.
pub(crate) type Engine = Boxed<RustCrypto>;

/// IKE's: the system's random numbers, everything else in portable Rust.
pub(crate) type Ike = ike_core::crypto::rustcrypto::RustCrypto<UnwrapErr<SysRng>, Engine>;

/// A provider for packets.
pub(crate) const ENGINE: Engine = Boxed(RustCrypto);

/// A provider for IKE.
pub(crate) fn ike() -> Ike {
    Ike::new(UnwrapErr(SysRng), ENGINE)
}
