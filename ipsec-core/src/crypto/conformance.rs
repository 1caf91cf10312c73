//! Known answers for any [`PacketCrypto`]: an integrator runs them against an own engine, `cargo test` against ours.

mod cases;
mod known;

use super::{AeadAlg, PacketCrypto, Purpose, verify};
use crate::error::texts;
pub use cases::{Aead, Cipher, Integ};
pub use known::{AEADS, CIPHERS, INTEGS};

/// How an engine deviates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deviation {
    /// It does not take the key, as none of an algorithm that it lacks.
    Key,
    /// `seal` gives another ciphertext or tag.
    Seal,
    /// `open` refuses what is right, or gives another plaintext.
    Open,
    /// `open` accepts what was changed.
    Forgery,
    /// The scratch buffer is shorter than ciphertext and tag.
    Scratch,
}

texts! {
    Deviation:
    Self::Key => "it does not take the key",
    Self::Seal => "what it seals is another",
    Self::Open => "it does not open what is right",
    Self::Forgery => "it opens what was changed",
    Self::Scratch => "the scratch buffer is too short",
}

/// Tries one known answer, and that no change of a bit in ciphertext, tag, nonce or associated data is accepted (one in
/// each of their octets). `scratch` must hold ciphertext and tag.
///
/// An engine that lacks an algorithm takes no key for it, which is [`Deviation::Key`]: leave out the cases of another `alg` than
/// those that it is to have.
///
/// ```
/// use ipsec_core::crypto::conformance::{SP800_38D, check};
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// use ipsec_core::crypto::AeadAlg::{Aes128Gcm16, Aes256Gcm16};
/// for case in SP800_38D.iter().filter(|case| [Aes128Gcm16, Aes256Gcm16].contains(&case.alg)) {
///     check(&mut RustCrypto, case, &mut [0; 76]).unwrap();
/// }
/// ```
///
/// # Errors
/// [`Deviation`].
pub fn check<P: PacketCrypto>(engine: &mut P, case: &Aead<'_>, scratch: &mut [u8]) -> Result<(), Deviation> {
    let key = engine.aead_key(case.alg, case.key).ok_or(Deviation::Key)?;
    let buffer = scratch.get_mut(..case.sealed.len()).ok_or(Deviation::Scratch)?;
    if !case.valid {
        buffer.copy_from_slice(case.sealed);
        return match engine.open(&key, &case.nonce, case.aad, buffer) {
            Ok(()) => Err(Deviation::Forgery),
            Err(_) => Ok(()),
        };
    }

    let (text, _) = buffer.split_at_mut_checked(case.text.len()).ok_or(Deviation::Scratch)?;
    text.copy_from_slice(case.text);
    engine.seal(&key, &case.nonce, case.aad, buffer);
    if buffer != case.sealed {
        return Err(Deviation::Seal);
    }
    let opened = engine.open(&key, &case.nonce, case.aad, buffer);
    if opened.is_err() || !buffer.starts_with(case.text) {
        return Err(Deviation::Open);
    }

    for octet in 0..case.sealed.len() {
        buffer.copy_from_slice(case.sealed);
        buffer.iter_mut().skip(octet).take(1).for_each(|octet| *octet ^= 0x80);
        if engine.open(&key, &case.nonce, case.aad, buffer).is_ok() {
            return Err(Deviation::Forgery);
        }
    }
    // CCM takes the last 11.
    for octet in 4_usize.saturating_sub(case.alg.salt_len())..case.nonce.len() {
        let mut nonce = case.nonce;
        nonce.iter_mut().skip(octet).take(1).for_each(|octet| *octet ^= 0x01);
        buffer.copy_from_slice(case.sealed);
        if engine.open(&key, &nonce, case.aad, buffer).is_ok() {
            return Err(Deviation::Forgery);
        }
    }
    if let Some((_, shorter)) = case.aad.split_last() {
        buffer.copy_from_slice(case.sealed);
        if engine.open(&key, &case.nonce, shorter, buffer).is_ok() {
            return Err(Deviation::Forgery);
        }
    }
    Ok(())
}

/// Tries one known answer of a cipher. `scratch` must hold the text.
///
/// ```
/// use ipsec_core::crypto::conformance::{CIPHERS, check_cipher};
/// # #[cfg(feature = "cipher-mac")]
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// for case in CIPHERS {
///     # #[cfg(feature = "cipher-mac")]
///     check_cipher(&mut RustCrypto, case, &mut [0; 32]).unwrap();
/// }
/// ```
///
/// # Errors
/// [`Deviation`].
pub fn check_cipher<P: PacketCrypto>(engine: &mut P, case: &Cipher<'_>, scratch: &mut [u8]) -> Result<(), Deviation> {
    let buffer = scratch.get_mut(..case.text.len()).ok_or(Deviation::Scratch)?;
    let key = engine.cipher_key(case.alg, Purpose::Encrypt, case.key).ok_or(Deviation::Key)?;
    buffer.copy_from_slice(case.text);
    engine.encrypt(&key, &case.iv, buffer);
    if buffer != case.sealed {
        return Err(Deviation::Seal);
    }
    let key = engine.cipher_key(case.alg, Purpose::Decrypt, case.key).ok_or(Deviation::Key)?;
    engine.decrypt(&key, &case.iv, buffer);
    if buffer == case.text { Ok(()) } else { Err(Deviation::Open) }
}

/// Tries one known answer of an integrity algorithm, whole and in pieces, and that no change of a bit is accepted (one in each
/// octet).
///
/// ```
/// use ipsec_core::crypto::conformance::{INTEGS, check_integ};
/// # #[cfg(feature = "cipher-mac")]
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// for case in INTEGS {
///     # #[cfg(feature = "cipher-mac")]
///     check_integ(&mut RustCrypto, case).unwrap();
/// }
/// ```
///
/// # Errors
/// [`Deviation`].
pub fn check_integ<P: PacketCrypto>(engine: &mut P, case: &Integ<'_>) -> Result<(), Deviation> {
    let key = engine.integ_key(case.alg, case.key).ok_or(Deviation::Key)?;
    if !case.valid {
        return match verify(engine, case.alg, &key, &[case.text], case.icv) {
            Ok(()) => Err(Deviation::Forgery),
            Err(_) => Ok(()),
        };
    }
    let mut octets = [0; 32];
    let icv = octets.get_mut(..case.icv.len()).ok_or(Deviation::Scratch)?;
    for cut in 0..=case.text.len() {
        let (first, second) = case.text.split_at_checked(cut).unwrap_or_default();
        engine.icv(&key, &[first, second], icv);
        if icv != case.icv {
            return Err(Deviation::Seal);
        }
    }
    verify(engine, case.alg, &key, &[case.text], case.icv).map_err(|_| Deviation::Open)?;
    for octet in 0..case.icv.len() {
        icv.copy_from_slice(case.icv);
        icv.iter_mut().skip(octet).take(1).for_each(|octet| *octet ^= 0x80);
        if verify(engine, case.alg, &key, &[case.text], icv).is_ok() {
            return Err(Deviation::Forgery);
        }
    }
    Ok(())
}

/// The self-test for when the power comes on: one known answer for each algorithm that the engine has, which is seen by its
/// taking a key. How many that are; none is no good sign.
///
/// ```
/// use ipsec_core::crypto::conformance::power_on;
/// use ipsec_core::crypto::rustcrypto::RustCrypto;
/// assert!(power_on(&mut RustCrypto).unwrap() >= 12); // AES-GCM and GMAC
/// ```
///
/// # Errors
/// The first [`Deviation`]: nothing may be entrusted to such an engine.
pub fn power_on<P: PacketCrypto>(engine: &mut P) -> Result<usize, Deviation> {
    let mut scratch = [0; 64];
    let mut passed = 0_usize;
    let mut count = |outcome| match outcome {
        Ok(()) => {
            passed = passed.saturating_add(1);
            Ok(())
        }
        Err(Deviation::Key) => Ok(()),
        Err(deviation) => Err(deviation),
    };
    AEADS.iter().try_for_each(|case| count(check(engine, case, &mut scratch)))?;
    CIPHERS.iter().try_for_each(|case| count(check_cipher(engine, case, &mut scratch)))?;
    INTEGS.iter().try_for_each(|case| count(check_integ(engine, case)))?;
    Ok(passed)
}

/// Key of the published cases; shorter keys are its beginning.
const KEY: [u8; 32] = [
    0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08, 0xfe, 0xff, 0xe9,
    0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08,
];
const KEY_192: [u8; 24] = [
    0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08, 0xfe, 0xff, 0xe9,
    0x92, 0x86, 0x65, 0x73, 0x1c,
];
const NONCE: [u8; 12] = [0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88];
const AAD: [u8; 20] = [
    0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab, 0xad, 0xda,
    0xd2,
];
const TEXT: [u8; 60] = [
    0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf, 0xf5, 0x26, 0x9a, 0x86, 0xa7, 0xa9,
    0x53, 0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c, 0x30, 0x3d, 0x8a, 0x31, 0x8a, 0x72, 0x1c, 0x3c, 0x0c, 0x95, 0x95, 0x68,
    0x09, 0x53, 0x2f, 0xcf, 0x0e, 0x24, 0x49, 0xa6, 0xb5, 0x25, 0xb1, 0x6a, 0xed, 0xf5, 0xaa, 0x0d, 0xe6, 0x57, 0xba,
    0x63, 0x7b, 0x39,
];

/// Cases 1, 4, 10, 13 and 16 of "The Galois/Counter Mode of Operation" (McGrew and Viega), the specification behind NIST
/// SP 800-38D: every key length, with and without text and associated data.
pub const SP800_38D: &[Aead<'static>] = &[
    Aead {
        alg: AeadAlg::Aes128Gcm16,
        key: &[0; 16],
        nonce: [0; 12],
        aad: &[],
        text: &[],
        sealed: &[0x58, 0xe2, 0xfc, 0xce, 0xfa, 0x7e, 0x30, 0x61, 0x36, 0x7f, 0x1d, 0x57, 0xa4, 0xe7, 0x45, 0x5a],
        valid: true,
    },
    Aead {
        alg: AeadAlg::Aes128Gcm16,
        key: &[0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08],
        nonce: NONCE,
        aad: &AAD,
        text: &TEXT,
        sealed: &[
            0x42, 0x83, 0x1e, 0xc2, 0x21, 0x77, 0x74, 0x24, 0x4b, 0x72, 0x21, 0xb7, 0x84, 0xd0, 0xd4, 0x9c, 0xe3, 0xaa,
            0x21, 0x2f, 0x2c, 0x02, 0xa4, 0xe0, 0x35, 0xc1, 0x7e, 0x23, 0x29, 0xac, 0xa1, 0x2e, 0x21, 0xd5, 0x14, 0xb2,
            0x54, 0x66, 0x93, 0x1c, 0x7d, 0x8f, 0x6a, 0x5a, 0xac, 0x84, 0xaa, 0x05, 0x1b, 0xa3, 0x0b, 0x39, 0x6a, 0x0a,
            0xac, 0x97, 0x3d, 0x58, 0xe0, 0x91, 0x5b, 0xc9, 0x4f, 0xbc, 0x32, 0x21, 0xa5, 0xdb, 0x94, 0xfa, 0xe9, 0x5a,
            0xe7, 0x12, 0x1a, 0x47,
        ],
        valid: true,
    },
    Aead {
        alg: AeadAlg::Aes192Gcm16,
        key: &KEY_192,
        nonce: NONCE,
        aad: &AAD,
        text: &TEXT,
        sealed: &[
            0x39, 0x80, 0xca, 0x0b, 0x3c, 0x00, 0xe8, 0x41, 0xeb, 0x06, 0xfa, 0xc4, 0x87, 0x2a, 0x27, 0x57, 0x85, 0x9e,
            0x1c, 0xea, 0xa6, 0xef, 0xd9, 0x84, 0x62, 0x85, 0x93, 0xb4, 0x0c, 0xa1, 0xe1, 0x9c, 0x7d, 0x77, 0x3d, 0x00,
            0xc1, 0x44, 0xc5, 0x25, 0xac, 0x61, 0x9d, 0x18, 0xc8, 0x4a, 0x3f, 0x47, 0x18, 0xe2, 0x44, 0x8b, 0x2f, 0xe3,
            0x24, 0xd9, 0xcc, 0xda, 0x27, 0x10, 0x25, 0x19, 0x49, 0x8e, 0x80, 0xf1, 0x47, 0x8f, 0x37, 0xba, 0x55, 0xbd,
            0x6d, 0x27, 0x61, 0x8c,
        ],
        valid: true,
    },
    Aead {
        alg: AeadAlg::Aes256Gcm16,
        key: &[0; 32],
        nonce: [0; 12],
        aad: &[],
        text: &[],
        sealed: &[0x53, 0x0f, 0x8a, 0xfb, 0xc7, 0x45, 0x36, 0xb9, 0xa9, 0x63, 0xb4, 0xf1, 0xc4, 0xcb, 0x73, 0x8b],
        valid: true,
    },
    Aead {
        alg: AeadAlg::Aes256Gcm16,
        key: &KEY,
        nonce: NONCE,
        aad: &AAD,
        text: &TEXT,
        sealed: &[
            0x52, 0x2d, 0xc1, 0xf0, 0x99, 0x56, 0x7d, 0x07, 0xf4, 0x7f, 0x37, 0xa3, 0x2a, 0x84, 0x42, 0x7d, 0x64, 0x3a,
            0x8c, 0xdc, 0xbf, 0xe5, 0xc0, 0xc9, 0x75, 0x98, 0xa2, 0xbd, 0x25, 0x55, 0xd1, 0xaa, 0x8c, 0xb0, 0x8e, 0x48,
            0x59, 0x0d, 0xbb, 0x3d, 0xa7, 0xb0, 0x8b, 0x10, 0x56, 0x82, 0x88, 0x38, 0xc5, 0xf6, 0x1e, 0x63, 0x93, 0xba,
            0x7a, 0x0a, 0xbc, 0xc9, 0xf6, 0x62, 0x76, 0xfc, 0x6e, 0xce, 0x0f, 0x4e, 0x17, 0x68, 0xcd, 0xdf, 0x88, 0x53,
            0xbb, 0x2d, 0x55, 0x1b,
        ],
        valid: true,
    },
];

#[cfg(all(test, feature = "rustcrypto"))]
mod tests {
    use super::*;
    use crate::crypto::rustcrypto::{AeadKey, RustCrypto};
    use crate::crypto::{Forged, InPlace};

    #[test]
    fn our_engine_conforms() {
        for case in SP800_38D {
            assert_eq!(check(&mut RustCrypto, case, &mut [0; 76]), Ok(()));
        }
        assert_eq!(check(&mut RustCrypto, &SP800_38D[1], &mut [0; 75]), Err(Deviation::Scratch));
    }

    #[test]
    #[cfg(all(feature = "suites", feature = "legacy"))]
    fn each_algorithm_has_a_known_answer_and_our_engine_knows_it() {
        use crate::crypto::{CipherAlg, IntegAlg};
        assert!(AEADS.iter().map(|case| case.alg).eq(AeadAlg::ALL.iter().copied()));
        assert!(CIPHERS.iter().map(|case| case.alg).eq(CipherAlg::ALL.iter().copied().skip(1)), "all but NULL");
        assert!(INTEGS.iter().map(|case| case.alg).eq(IntegAlg::ALL.iter().copied()));
        assert_eq!(power_on(&mut RustCrypto), Ok(22 + 7 + 7));
    }

    #[test]
    fn the_self_test_does_not_pass_over_a_fault_and_leaves_out_what_there_is_not() {
        for fault in [Deviation::Seal, Deviation::Open, Deviation::Forgery] {
            assert_eq!(power_on(&mut Faulty(fault)), Err(fault));
        }
        assert_eq!(power_on(&mut Faulty(Deviation::Key)), Ok(0));
    }

    /// An engine with one fault, so that the suite is seen to find it.
    struct Faulty(Deviation);

    impl PacketCrypto for Faulty {
        type AeadKey = AeadKey;
        type Place<T> = InPlace<T>;
        crate::aead_only!();

        fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<AeadKey> {
            if self.0 == Deviation::Key { None } else { RustCrypto.aead_key(alg, key) }
        }

        fn seal(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
            let aad = if self.0 == Deviation::Seal { &[][..] } else { aad };
            RustCrypto.seal(key, nonce, aad, text_and_tag);
        }

        fn open(&mut self, key: &AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) -> Result<(), Forged> {
            let opened = RustCrypto.open(key, nonce, aad, text_and_tag);
            match self.0 {
                Deviation::Open => Err(Forged),
                Deviation::Forgery => Ok(()),
                _ => opened,
            }
        }
    }

    #[test]
    fn the_suite_finds_every_fault() {
        for fault in [Deviation::Key, Deviation::Seal, Deviation::Open, Deviation::Forgery] {
            assert_eq!(check(&mut Faulty(fault), &SP800_38D[1], &mut [0; 76]), Err(fault));
        }
        let invalid = Aead { sealed: &[0; 76], valid: false, ..SP800_38D[1] };
        assert_eq!(check(&mut Faulty(Deviation::Forgery), &invalid, &mut [0; 76]), Err(Deviation::Forgery));
        assert_eq!(check(&mut RustCrypto, &invalid, &mut [0; 76]), Ok(()));
    }
}
