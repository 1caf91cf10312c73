//! The crypto provider of this appliance, named once.

use std::io;

use chacha20::ChaCha20Rng;
use gateway_core::crypto::Boxed;
use getrandom::SysRng;
#[cfg(feature = "aws-lc")]
use ipsec_aws_lc::AwsLc as Software;
use ipsec_core::crypto::PacketCrypto;
use ipsec_core::crypto::conformance::power_on;
use ipsec_core::crypto::ivs::WithIvs;
#[cfg(not(feature = "aws-lc"))]
use ipsec_core::crypto::rustcrypto::RustCrypto as Software;
use rand_core::{SeedableRng, UnwrapErr};

/// What packets are protected with. SAs are on the heap, as most places for them are empty mostly. IVs come of a
/// generator of its own: asking the system for each packet would take longer than the packet.
pub(crate) type Engine = Boxed<WithIvs<Software, ChaCha20Rng>>;

/// IKE's: the system's random numbers, key exchanges and hashes in portable Rust.
pub(crate) type Ike = ike_core::crypto::rustcrypto::RustCrypto<UnwrapErr<SysRng>, Engine>;

/// A provider for packets that has shown that it computes right.
///
/// # Errors
/// It does not: nothing may be entrusted to it.
pub(crate) fn tested() -> io::Result<Engine> {
    trusted(engine())
}

/// A provider for IKE.
pub(crate) fn ike() -> Ike {
    Ike::new(UnwrapErr(SysRng), engine())
}

fn engine() -> Engine {
    Boxed(WithIvs::new(Software, ChaCha20Rng::from_rng(&mut UnwrapErr(SysRng))))
}

fn trusted<P: PacketCrypto>(mut engine: P) -> io::Result<P> {
    match power_on(&mut engine) {
        Ok(1..) => Ok(engine),
        Ok(0) => Err(io::Error::other("the crypto engine has no algorithm")),
        Err(deviation) => Err(io::Error::other(format!(
            "the crypto engine computes wrong ({deviation:?}): this processor or its memory may be broken, or the program on the disk"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use ipsec_core::crypto::{AeadAlg, Forged, InPlace};

    use super::*;

    #[test]
    fn b19_the_engine_has_every_suite_and_computes_right() {
        assert_eq!(power_on(&mut tested().unwrap()), Ok(22 + 6 + 6));
    }

    /// Encrypts nothing, and believes everything.
    struct Broken;

    impl PacketCrypto for Broken {
        type AeadKey = ();
        type Place<T> = InPlace<T>;
        ipsec_core::aead_only!();

        fn aead_key(&mut self, _: AeadAlg, _: &[u8]) -> Option<()> {
            Some(())
        }

        fn seal(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) {}

        fn open(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Forged> {
            Ok(())
        }
    }

    #[test]
    fn b19_an_engine_that_computes_wrong_is_entrusted_with_nothing() {
        assert!(trusted(Broken).err().unwrap().to_string().contains("computes wrong"));
    }
}
