//! What a known answer consists of.

use crate::crypto::{AeadAlg, CipherAlg, IntegAlg};

/// One known answer.
///
/// ```
/// use ipsec_core::crypto::conformance::{Aead, SP800_38D, check};
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// let right = SP800_38D[1];
/// let forged = Aead { sealed: &[0; 76], valid: false, ..right }; // to be refused
/// assert_eq!(check(&mut RustCrypto, &forged, &mut [0; 76]), Ok(()));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Aead<'v> {
    /// Algorithm.
    pub alg: AeadAlg,
    /// Cipher key, without salt.
    pub key: &'v [u8],
    /// Nonce.
    pub nonce: [u8; 12],
    /// Additional authenticated data.
    pub aad: &'v [u8],
    /// Plaintext.
    pub text: &'v [u8],
    /// Ciphertext and tag.
    pub sealed: &'v [u8],
    /// Whether `sealed` is right. When not, only opening is tried, and must fail.
    pub valid: bool,
}

/// One known answer of a cipher.
///
/// ```
/// use ipsec_core::crypto::conformance::{CIPHERS, Cipher, Deviation, check_cipher};
/// # use ipsec_core::crypto::rustcrypto::RustCrypto;
/// let wrong = Cipher { sealed: &[0; 32], ..CIPHERS[0] };
/// # #[cfg(feature = "cipher-mac")]
/// assert_eq!(check_cipher(&mut RustCrypto, &wrong, &mut [0; 32]), Err(Deviation::Seal));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Cipher<'v> {
    /// Algorithm.
    pub alg: CipherAlg,
    /// Key, without salt.
    pub key: &'v [u8],
    /// What it begins with: the IV, or the first counter block.
    pub iv: [u8; 16],
    /// Plaintext; whole blocks where there are some.
    pub text: &'v [u8],
    /// Ciphertext.
    pub sealed: &'v [u8],
}

/// One known answer of an integrity algorithm.
///
/// ```
/// use ipsec_core::crypto::conformance::{INTEGS, Integ, check_integ};
/// # use ipsec_core::crypto::rustcrypto::RustCrypto;
/// let forged = Integ { icv: &[0; 12], valid: false, ..INTEGS[0] }; // to be refused
/// # #[cfg(feature = "cipher-mac")]
/// assert_eq!(check_integ(&mut RustCrypto, &forged), Ok(()));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Integ<'v> {
    /// Algorithm.
    pub alg: IntegAlg,
    /// Key.
    pub key: &'v [u8],
    /// What is authenticated.
    pub text: &'v [u8],
    /// The ICV.
    pub icv: &'v [u8],
    /// Whether it is right. When not, it must be refused.
    pub valid: bool,
}
