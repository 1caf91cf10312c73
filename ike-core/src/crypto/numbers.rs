//! Ciphers and integrity algorithms, and their numbers on the wire (RFC 7296 §3.3.2).

use ipsec_core::crypto::{AeadAlg, AeadMode, CipherAlg, IntegAlg, Protection};

use crate::registry::{EncrId, IntegId};

/// What a transform of type ENCR stands for.
///
/// ```
/// use ike_core::crypto::{CipherAlg, Encryption, IntegAlg, Protection};
/// use ike_core::registry::EncrId;
/// use ipsec_core::crypto::AeadAlg;
/// let gcm = Encryption::Aead(AeadAlg::Aes256Gcm16);
/// assert_eq!(gcm.id(), Some((EncrId::AES_GCM_16, Some(256)))); // transform id and Key Length attribute in bits
/// assert_eq!(Encryption::from_id(EncrId::AES_GCM_16, Some(256)), Some(gcm));
/// let cbc = Encryption::from_id(EncrId::AES_CBC, Some(128)).unwrap();
/// assert_eq!(cbc.with(None), None); // it needs an integrity algorithm, and an AEAD has none
/// let both = Protection::CipherMac(CipherAlg::Aes128Cbc, IntegAlg::HmacSha256);
/// assert_eq!(cbc.with(Some(IntegAlg::HmacSha256)), Some(both));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Encryption {
    /// It needs no integrity algorithm.
    Aead(AeadAlg),
    /// Neither does this (RFC 8750).
    ImplicitIv(AeadAlg),
    /// It needs one.
    Cipher(CipherAlg),
}

impl Encryption {
    /// All that are built.
    fn all() -> impl Iterator<Item = Self> {
        let implicit = AeadAlg::ALL.iter().filter(|alg| alg.has_implicit_iv()).map(|alg| Self::ImplicitIv(*alg));
        let aeads = AeadAlg::ALL.iter().map(|alg| Self::Aead(*alg));
        aeads.chain(implicit).chain(CipherAlg::ALL.iter().map(|alg| Self::Cipher(*alg)))
    }

    /// The numbers on the wire: transform id, and the Key Length attribute in bits where there is a choice. `None`: it has none.
    pub const fn id(self) -> Option<(EncrId, Option<u16>)> {
        let (id, key_len) = match self {
            Self::Aead(alg) => {
                let id = match (alg.mode(), alg.tag_len()) {
                    (AeadMode::Gcm, 8) => EncrId::AES_GCM_8,
                    (AeadMode::Gcm, 12) => EncrId::AES_GCM_12,
                    (AeadMode::Gcm, _) => EncrId::AES_GCM_16,
                    (AeadMode::Ccm, 8) => EncrId::AES_CCM_8,
                    (AeadMode::Ccm, 12) => EncrId::AES_CCM_12,
                    (AeadMode::Ccm, _) => EncrId::AES_CCM_16,
                    (AeadMode::Gmac, _) => EncrId::NULL_AUTH_AES_GMAC,
                    (AeadMode::ChaCha20Poly1305, _) => return Some((EncrId::CHACHA20_POLY1305, None)),
                };
                (id, alg.key_len())
            }
            Self::ImplicitIv(alg) => match alg.mode() {
                AeadMode::Gcm => (EncrId::AES_GCM_16_IIV, alg.key_len()),
                AeadMode::Ccm => (EncrId::AES_CCM_8_IIV, alg.key_len()),
                AeadMode::ChaCha20Poly1305 => return Some((EncrId::CHACHA20_POLY1305_IIV, None)),
                AeadMode::Gmac => return None,
            },
            Self::Cipher(CipherAlg::Null) => return Some((EncrId::NULL, None)),
            Self::Cipher(alg @ (CipherAlg::Aes128Cbc | CipherAlg::Aes192Cbc | CipherAlg::Aes256Cbc)) => {
                (EncrId::AES_CBC, alg.key_len())
            }
            Self::Cipher(alg @ (CipherAlg::Aes128Ctr | CipherAlg::Aes192Ctr | CipherAlg::Aes256Ctr)) => {
                (EncrId::AES_CTR, alg.key_len())
            }
            #[cfg(feature = "legacy")]
            Self::Cipher(CipherAlg::TripleDesCbc) => return Some((EncrId::TRIPLE_DES, None)),
            Self::Cipher(_) => return None,
        };
        Some((id, Some((key_len as u16).saturating_mul(8))))
    }

    /// What has these numbers; `None` when it is not built.
    pub fn from_id(id: EncrId, key_bits: Option<u16>) -> Option<Self> {
        Self::all().find(|encryption| encryption.id() == Some((id, key_bits)))
    }

    /// Whether nobody else can read what it encrypts.
    pub const fn hides(self) -> bool {
        match self {
            Self::Aead(alg) | Self::ImplicitIv(alg) => alg.hides(),
            Self::Cipher(cipher) => !matches!(cipher, CipherAlg::Null),
        }
    }

    /// The encryption of a protection, and the integrity algorithm beside it.
    pub const fn of(protection: Protection) -> (Self, Option<IntegAlg>) {
        match protection {
            Protection::Aead(alg) => (Self::Aead(alg), None),
            Protection::ImplicitIv(alg) => (Self::ImplicitIv(alg), None),
            Protection::CipherMac(cipher, integ) => (Self::Cipher(cipher), Some(integ)),
        }
    }

    /// With an integrity algorithm or without. `None`: an AEAD stands alone, and a cipher never does.
    pub const fn with(self, integ: Option<IntegAlg>) -> Option<Protection> {
        match (self, integ) {
            (Self::Aead(alg), None) => Some(Protection::Aead(alg)),
            (Self::ImplicitIv(alg), None) => Some(Protection::ImplicitIv(alg)),
            (Self::Cipher(cipher), Some(integ)) => Some(Protection::CipherMac(cipher, integ)),
            _ => None,
        }
    }
}

/// The number of an integrity algorithm on the wire; `None`: it has none.
///
/// ```
/// use ike_core::crypto::{IntegAlg, integ_from_id, integ_id};
/// use ike_core::registry::IntegId;
/// assert_eq!(integ_id(IntegAlg::HmacSha256), Some(IntegId::HMAC_SHA2_256_128));
/// assert!(IntegAlg::ALL.iter().all(|alg| integ_id(*alg).and_then(integ_from_id) == Some(*alg)));
/// ```
pub const fn integ_id(alg: IntegAlg) -> Option<IntegId> {
    Some(match alg {
        IntegAlg::HmacSha1 => IntegId::HMAC_SHA1_96,
        IntegAlg::HmacSha256 => IntegId::HMAC_SHA2_256_128,
        IntegAlg::HmacSha384 => IntegId::HMAC_SHA2_384_192,
        IntegAlg::HmacSha512 => IntegId::HMAC_SHA2_512_256,
        IntegAlg::AesXcbc => IntegId::AES_XCBC_96,
        IntegAlg::AesCmac => IntegId::AES_CMAC_96,
        #[cfg(feature = "legacy")]
        IntegAlg::HmacMd5 => IntegId::HMAC_MD5_96,
        _ => return None,
    })
}

/// The integrity algorithm with this number; `None` when it is not built.
///
/// ```
/// use ike_core::crypto::integ_from_id;
/// use ike_core::registry::IntegId;
/// assert_eq!(integ_from_id(IntegId::NONE), None);
/// ```
pub fn integ_from_id(id: IntegId) -> Option<IntegAlg> {
    IntegAlg::ALL.iter().copied().find(|alg| integ_id(*alg) == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_has_a_number_and_goes_back_and_forth() {
        for encryption in Encryption::all() {
            let (id, bits) = encryption.id().unwrap();
            assert_eq!(Encryption::from_id(id, bits), Some(encryption));
        }
        for alg in IntegAlg::ALL {
            assert_eq!(integ_id(*alg).and_then(integ_from_id), Some(*alg));
        }
        assert_eq!(Encryption::from_id(EncrId::AES_GCM_16, Some(64)), None);
        assert_eq!(Encryption::from_id(EncrId::AES_GCM_16, None), None);
        assert_eq!(Encryption::from_id(EncrId::CHACHA20_POLY1305, Some(256)), None);
        assert_eq!(integ_from_id(IntegId::NONE), None);
    }
}
