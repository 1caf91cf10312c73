//! The algorithms of ESP by name, and what they take of keys and packets.

/// An AEAD algorithm of ESP, and but for those that leave the text readable, of the IKEv2 SK payload (RFC 5282).
///
/// ```
/// use ipsec_core::crypto::AeadAlg;
/// let alg = AeadAlg::Aes256Gcm16;
/// assert_eq!(alg.key_len() + alg.salt_len(), 36); // octets of keying material for each direction
/// assert_eq!(alg.iv_len() + alg.tag_len(), 24); // octets that it adds to each packet
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AeadAlg {
    /// AES-128-GCM with an 8-octet ICV (RFC 4106).
    Aes128Gcm8,
    /// AES-128-GCM with a 12-octet ICV.
    Aes128Gcm12,
    /// AES-128-GCM with a 16-octet ICV.
    Aes128Gcm16,
    /// AES-192-GCM with an 8-octet ICV.
    Aes192Gcm8,
    /// AES-192-GCM with a 12-octet ICV.
    Aes192Gcm12,
    /// AES-192-GCM with a 16-octet ICV.
    Aes192Gcm16,
    /// AES-256-GCM with an 8-octet ICV.
    Aes256Gcm8,
    /// AES-256-GCM with a 12-octet ICV.
    Aes256Gcm12,
    /// AES-256-GCM with a 16-octet ICV.
    Aes256Gcm16,
    /// AES-128-CCM with an 8-octet ICV (RFC 4309).
    Aes128Ccm8,
    /// AES-128-CCM with a 12-octet ICV.
    Aes128Ccm12,
    /// AES-128-CCM with a 16-octet ICV.
    Aes128Ccm16,
    /// AES-192-CCM with an 8-octet ICV.
    Aes192Ccm8,
    /// AES-192-CCM with a 12-octet ICV.
    Aes192Ccm12,
    /// AES-192-CCM with a 16-octet ICV.
    Aes192Ccm16,
    /// AES-256-CCM with an 8-octet ICV.
    Aes256Ccm8,
    /// AES-256-CCM with a 12-octet ICV.
    Aes256Ccm12,
    /// AES-256-CCM with a 16-octet ICV.
    Aes256Ccm16,
    /// ChaCha20 and Poly1305 (RFC 7634).
    ChaCha20Poly1305,
    /// AES-128-GMAC (RFC 4543): the text stays readable.
    Aes128Gmac,
    /// AES-192-GMAC: the text stays readable.
    Aes192Gmac,
    /// AES-256-GMAC: the text stays readable.
    Aes256Gmac,
}

/// The construction behind an [`AeadAlg`].
///
/// ```
/// use ipsec_core::crypto::{AeadAlg, AeadMode};
/// assert_eq!(AeadAlg::Aes192Ccm8.mode(), AeadMode::Ccm);
/// assert!(AeadAlg::ALL.iter().all(|alg| alg.hides() != (alg.mode() == AeadMode::Gmac)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum AeadMode {
    /// Galois/Counter Mode (NIST SP 800-38D).
    Gcm,
    /// Counter with CBC-MAC (NIST SP 800-38C).
    Ccm,
    /// RFC 8439.
    ChaCha20Poly1305,
    /// GCM in which the text is associated data.
    Gmac,
}

impl AeadAlg {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Aes128Gcm8,
        Self::Aes128Gcm12,
        Self::Aes128Gcm16,
        Self::Aes192Gcm8,
        Self::Aes192Gcm12,
        Self::Aes192Gcm16,
        Self::Aes256Gcm8,
        Self::Aes256Gcm12,
        Self::Aes256Gcm16,
        Self::Aes128Ccm8,
        Self::Aes128Ccm12,
        Self::Aes128Ccm16,
        Self::Aes192Ccm8,
        Self::Aes192Ccm12,
        Self::Aes192Ccm16,
        Self::Aes256Ccm8,
        Self::Aes256Ccm12,
        Self::Aes256Ccm16,
        Self::ChaCha20Poly1305,
        Self::Aes128Gmac,
        Self::Aes192Gmac,
        Self::Aes256Gmac,
    ];

    /// Construction, octets of the key and of the ICV.
    #[inline]
    const fn parts(self) -> (AeadMode, usize, usize) {
        use AeadMode::{Ccm, ChaCha20Poly1305, Gcm, Gmac};
        match self {
            Self::Aes128Gcm8 => (Gcm, 16, 8),
            Self::Aes128Gcm12 => (Gcm, 16, 12),
            Self::Aes128Gcm16 => (Gcm, 16, 16),
            Self::Aes192Gcm8 => (Gcm, 24, 8),
            Self::Aes192Gcm12 => (Gcm, 24, 12),
            Self::Aes192Gcm16 => (Gcm, 24, 16),
            Self::Aes256Gcm8 => (Gcm, 32, 8),
            Self::Aes256Gcm12 => (Gcm, 32, 12),
            Self::Aes256Gcm16 => (Gcm, 32, 16),
            Self::Aes128Ccm8 => (Ccm, 16, 8),
            Self::Aes128Ccm12 => (Ccm, 16, 12),
            Self::Aes128Ccm16 => (Ccm, 16, 16),
            Self::Aes192Ccm8 => (Ccm, 24, 8),
            Self::Aes192Ccm12 => (Ccm, 24, 12),
            Self::Aes192Ccm16 => (Ccm, 24, 16),
            Self::Aes256Ccm8 => (Ccm, 32, 8),
            Self::Aes256Ccm12 => (Ccm, 32, 12),
            Self::Aes256Ccm16 => (Ccm, 32, 16),
            Self::ChaCha20Poly1305 => (ChaCha20Poly1305, 32, 16),
            Self::Aes128Gmac => (Gmac, 16, 16),
            Self::Aes192Gmac => (Gmac, 24, 16),
            Self::Aes256Gmac => (Gmac, 32, 16),
        }
    }

    /// The construction behind it.
    #[inline]
    pub const fn mode(self) -> AeadMode {
        self.parts().0
    }

    /// Whether it encrypts: GMAC only authenticates.
    #[inline]
    pub const fn hides(self) -> bool {
        !matches!(self.mode(), AeadMode::Gmac)
    }

    /// Octets of the cipher key, without the salt.
    #[inline]
    pub const fn key_len(self) -> usize {
        self.parts().1
    }

    /// Octets of the salt that follows the cipher key in keying material (RFC 4106 §8.1, RFC 4309 §7.1, RFC 5282 §7.1).
    #[inline]
    pub const fn salt_len(self) -> usize {
        match self.mode() {
            AeadMode::Ccm => 3,
            _ => 4,
        }
    }

    /// Octets of the explicit IV in the packet.
    #[inline]
    pub const fn iv_len(self) -> usize {
        8
    }

    /// Octets of the ICV.
    #[inline]
    pub const fn tag_len(self) -> usize {
        self.parts().2
    }

    /// Whether it has a form in which the IV is the sequence number and not sent (RFC 8750 §3).
    pub const fn has_implicit_iv(self) -> bool {
        matches!(self.parts(), (AeadMode::Gcm, _, 16) | (AeadMode::Ccm, _, 8) | (AeadMode::ChaCha20Poly1305, ..))
    }
}

/// A cipher that needs an integrity algorithm beside it.
///
/// ```
/// use ipsec_core::crypto::CipherAlg;
/// assert_eq!((CipherAlg::Aes256Cbc.key_len(), CipherAlg::Aes256Cbc.iv_len()), (32, 16));
/// assert_eq!(CipherAlg::Aes128Ctr.salt_len(), 4); // the nonce of RFC 3686 §5.1
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CipherAlg {
    /// No encryption (RFC 2410).
    Null,
    /// AES-128 in CBC mode (RFC 3602).
    Aes128Cbc,
    /// AES-192 in CBC mode.
    Aes192Cbc,
    /// AES-256 in CBC mode.
    Aes256Cbc,
    /// AES-128 in counter mode (RFC 3686).
    Aes128Ctr,
    /// AES-192 in counter mode.
    Aes192Ctr,
    /// AES-256 in counter mode.
    Aes256Ctr,
    /// Triple DES in CBC mode (RFC 2451). RFC 8221 §5: SHOULD NOT.
    #[cfg(feature = "legacy")]
    TripleDesCbc,
}

impl CipherAlg {
    /// All that are built.
    pub const ALL: &'static [Self] = &[
        Self::Null,
        Self::Aes128Cbc,
        Self::Aes192Cbc,
        Self::Aes256Cbc,
        Self::Aes128Ctr,
        Self::Aes192Ctr,
        Self::Aes256Ctr,
        #[cfg(feature = "legacy")]
        Self::TripleDesCbc,
    ];

    /// Octets of the key, without the salt.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Null => 0,
            Self::Aes128Cbc | Self::Aes128Ctr => 16,
            Self::Aes192Cbc | Self::Aes192Ctr => 24,
            Self::Aes256Cbc | Self::Aes256Ctr => 32,
            #[cfg(feature = "legacy")]
            Self::TripleDesCbc => 24,
        }
    }

    /// Octets behind the key in keying material: the nonce of counter mode (RFC 3686 §5.1).
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aes128Ctr | Self::Aes192Ctr | Self::Aes256Ctr => 4,
            _ => 0,
        }
    }

    /// Octets of the IV in the packet.
    pub const fn iv_len(self) -> usize {
        match self {
            Self::Null => 0,
            Self::Aes128Cbc | Self::Aes192Cbc | Self::Aes256Cbc => 16,
            Self::Aes128Ctr | Self::Aes192Ctr | Self::Aes256Ctr => 8,
            #[cfg(feature = "legacy")]
            Self::TripleDesCbc => 8,
        }
    }

    /// What the IV is made of: where blocks are chained, nobody may know it beforehand.
    pub const fn iv(self) -> Iv {
        if self.block_len() == 1 { Iv::Counter } else { Iv::Random }
    }

    /// Octets of a block; 1 where there are none.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Aes128Cbc | Self::Aes192Cbc | Self::Aes256Cbc => 16,
            #[cfg(feature = "legacy")]
            Self::TripleDesCbc => 8,
            _ => 1,
        }
    }
}

/// What an IV is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iv {
    /// The sequence number: it must not repeat, and may be known (RFC 4106 §3.1).
    Counter,
    /// Random octets: nobody may know it beforehand (RFC 3602 §3).
    Random,
}

/// An integrity algorithm.
///
/// ```
/// use ipsec_core::crypto::IntegAlg;
/// assert_eq!((IntegAlg::HmacSha256.key_len(), IntegAlg::HmacSha256.icv_len()), (32, 16));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum IntegAlg {
    /// AUTH_HMAC_SHA1_96 (RFC 2404).
    HmacSha1,
    /// AUTH_HMAC_SHA2_256_128 (RFC 4868).
    HmacSha256,
    /// AUTH_HMAC_SHA2_384_192 (RFC 4868).
    HmacSha384,
    /// AUTH_HMAC_SHA2_512_256 (RFC 4868).
    HmacSha512,
    /// AUTH_AES_XCBC_96 (RFC 3566).
    AesXcbc,
    /// AUTH_AES_CMAC_96 (RFC 4494).
    AesCmac,
    /// AUTH_HMAC_MD5_96 (RFC 2403). RFC 8221 §6: MUST NOT.
    #[cfg(feature = "legacy")]
    HmacMd5,
}

impl IntegAlg {
    /// All that are built.
    pub const ALL: &'static [Self] = &[
        Self::HmacSha1,
        Self::HmacSha256,
        Self::HmacSha384,
        Self::HmacSha512,
        Self::AesXcbc,
        Self::AesCmac,
        #[cfg(feature = "legacy")]
        Self::HmacMd5,
    ];

    /// Octets of the key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
            Self::AesXcbc | Self::AesCmac => 16,
            #[cfg(feature = "legacy")]
            Self::HmacMd5 => 16,
        }
    }

    /// Octets of the ICV.
    pub const fn icv_len(self) -> usize {
        match self {
            Self::HmacSha256 => 16,
            Self::HmacSha384 => 24,
            Self::HmacSha512 => 32,
            _ => 12,
        }
    }
}

/// What keeps packets or messages secret and whole (RFC 4303 §3.2).
///
/// ```
/// use ipsec_core::crypto::{AeadAlg, CipherAlg, IntegAlg, Protection};
/// let aead = Protection::Aead(AeadAlg::Aes256Gcm16);
/// assert_eq!((aead.encr_key_len(), aead.integ_key_len()), (36, 0)); // key and salt
/// let two = Protection::CipherMac(CipherAlg::Aes256Cbc, IntegAlg::HmacSha256);
/// assert_eq!((two.encr_key_len(), two.integ_key_len(), two.keymat_len()), (32, 32, 64));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Protection {
    /// One algorithm does both (RFC 4106, RFC 5282).
    Aead(AeadAlg),
    /// The same with the sequence number for an IV, which is not sent (RFC 8750). ESP only; for those that
    /// [have it](AeadAlg::has_implicit_iv).
    ImplicitIv(AeadAlg),
    /// A cipher, and an integrity algorithm over what it made.
    CipherMac(CipherAlg, IntegAlg),
}

impl Protection {
    /// Octets of the encryption key, with its salt.
    pub const fn encr_key_len(self) -> usize {
        match self {
            Self::Aead(alg) | Self::ImplicitIv(alg) => alg.key_len().saturating_add(alg.salt_len()),
            Self::CipherMac(cipher, _) => cipher.key_len().saturating_add(cipher.salt_len()),
        }
    }

    /// Octets of the salt, the last ones of the encryption key.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aead(alg) | Self::ImplicitIv(alg) => alg.salt_len(),
            Self::CipherMac(cipher, _) => cipher.salt_len(),
        }
    }

    /// Octets of the integrity key; an AEAD has none.
    pub const fn integ_key_len(self) -> usize {
        match self {
            Self::Aead(_) | Self::ImplicitIv(_) => 0,
            Self::CipherMac(_, integ) => integ.key_len(),
        }
    }

    /// Octets of keying material for one direction: encryption key with its salt, integrity key (RFC 7296 §2.17).
    pub const fn keymat_len(self) -> usize {
        self.encr_key_len().saturating_add(self.integ_key_len())
    }

    /// Whether nobody else can read what it protects.
    pub const fn hides(self) -> bool {
        match self {
            Self::Aead(alg) | Self::ImplicitIv(alg) => alg.hides(),
            Self::CipherMac(cipher, _) => !matches!(cipher, CipherAlg::Null),
        }
    }

    /// Whether a number that is used twice under one key gives the texts away, or lets others forge: all that count their IVs.
    pub const fn counts(self) -> bool {
        !matches!(self, Self::CipherMac(cipher, _) if cipher.salt_len() == 0)
    }
}

impl From<AeadAlg> for Protection {
    fn from(alg: AeadAlg) -> Self {
        Self::Aead(alg)
    }
}
