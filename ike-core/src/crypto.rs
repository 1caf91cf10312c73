//! The seam between IKEv2 and a crypto engine, and the algorithms that may stand in a suite.

use core::fmt;

use ipsec_core::crypto::{AeadAlg, PacketCrypto};
use zeroize::Zeroize;

use crate::error::BadPublic;
use crate::registry::{EncrId, GroupId, PrfId};

#[cfg(feature = "rustcrypto")]
pub mod rustcrypto;

/// A pseudorandom function (RFC 7296 §2.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PrfAlg {
    /// PRF_HMAC_SHA2_256 (RFC 4868).
    HmacSha256,
    /// PRF_HMAC_SHA2_384 (RFC 4868).
    HmacSha384,
    /// PRF_HMAC_SHA2_512 (RFC 4868).
    HmacSha512,
}

impl PrfAlg {
    /// Octets of the output, which is also the preferred key length (RFC 7296 §2.13).
    pub const fn output_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    /// The number on the wire.
    pub const fn id(self) -> PrfId {
        match self {
            Self::HmacSha256 => PrfId::HMAC_SHA2_256,
            Self::HmacSha384 => PrfId::HMAC_SHA2_384,
            Self::HmacSha512 => PrfId::HMAC_SHA2_512,
        }
    }

    /// The function with this number; `None` when it is not built.
    pub const fn from_id(id: PrfId) -> Option<Self> {
        match id {
            PrfId::HMAC_SHA2_256 => Some(Self::HmacSha256),
            PrfId::HMAC_SHA2_384 => Some(Self::HmacSha384),
            PrfId::HMAC_SHA2_512 => Some(Self::HmacSha512),
            _ => None,
        }
    }
}

/// A key exchange method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Group {
    /// Group 19, the NIST curve P-256 (RFC 5903).
    Ecp256,
    /// Group 31, X25519 (RFC 8031).
    Curve25519,
}

impl Group {
    /// The number on the wire.
    pub const fn id(self) -> GroupId {
        match self {
            Self::Ecp256 => GroupId::ECP_256,
            Self::Curve25519 => GroupId::CURVE25519,
        }
    }

    /// The group with this number; `None` when it is not built.
    pub const fn from_id(id: GroupId) -> Option<Self> {
        match id {
            GroupId::ECP_256 => Some(Self::Ecp256),
            GroupId::CURVE25519 => Some(Self::Curve25519),
            _ => None,
        }
    }

    /// Octets of a public value in the KE payload.
    pub const fn public_len(self) -> usize {
        match self {
            Self::Ecp256 => 64,
            Self::Curve25519 => 32,
        }
    }
}

/// The numbers of an AEAD on the wire: transform id and Key Length attribute in bits.
pub const fn aead_id(alg: AeadAlg) -> Option<(EncrId, u16)> {
    match alg {
        AeadAlg::Aes128Gcm16 => Some((EncrId::AES_GCM_16, 128)),
        AeadAlg::Aes192Gcm16 => Some((EncrId::AES_GCM_16, 192)),
        AeadAlg::Aes256Gcm16 => Some((EncrId::AES_GCM_16, 256)),
        _ => None,
    }
}

/// The AEAD with these numbers; `None` when it is not built.
pub const fn aead_from_id(id: EncrId, key_bits: u16) -> Option<AeadAlg> {
    match (id, key_bits) {
        (EncrId::AES_GCM_16, 128) => Some(AeadAlg::Aes128Gcm16),
        (EncrId::AES_GCM_16, 192) => Some(AeadAlg::Aes192Gcm16),
        (EncrId::AES_GCM_16, 256) => Some(AeadAlg::Aes256Gcm16),
        _ => None,
    }
}

/// What an IKE SA was negotiated to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IkeSuite {
    /// Protects the SK payload (RFC 5282).
    pub encr: AeadAlg,
    /// Derives keys and computes AUTH.
    pub prf: PrfAlg,
    /// The key exchange.
    pub group: Group,
}

/// What a Child SA was negotiated to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EspSuite {
    /// Protects the packets (RFC 4106).
    pub aead: AeadAlg,
    /// Extended sequence numbers.
    pub esn: bool,
    /// The key exchange of its own (PFS); `None` without one.
    pub group: Option<Group>,
}

/// Up to `N` secret octets: wiped on drop, never printed, never cloned.
pub struct Secret<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl<const N: usize> Secret<N> {
    /// Holds nothing yet.
    pub const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// A copy of `bytes`; `None` when there are more than `N`.
    pub fn copy_from(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self::new();
        secret.resize(bytes.len())?.copy_from_slice(bytes);
        Some(secret)
    }

    /// Wipes the content and makes room for `len` octets to be filled in; `None`, and empty, when `len` is above `N`.
    pub fn resize(&mut self, len: usize) -> Option<&mut [u8]> {
        self.bytes.zeroize();
        self.len = 0;
        let room = self.bytes.get_mut(..len)?;
        self.len = len;
        Some(room)
    }

    /// The octets.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl<const N: usize> Default for Secret<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl<const N: usize> zeroize::ZeroizeOnDrop for Secret<N> {}

/// The output of a PRF.
pub type Digest64 = Secret<64>;

/// A key exchange result, g^ir; the longest is that of a 2048-bit MODP group.
pub type SharedSecret = Secret<256>;

/// A public value as the KE payload carries it. Not secret.
pub type KePublic = heapless::Vec<u8, 64>;

/// What a crypto engine does for IKE, beside packets.
pub trait IkeCrypto: PacketCrypto {
    /// A private value of a key exchange. For one exchange (RFC 7296 §2.12: no reuse here), but lent: until IKE_AUTH an
    /// answer may be forged, and must not cost the value that the genuine one needs. Wiped on drop.
    type KeSecret;

    /// Fills `out` from a cryptographically secure generator.
    fn random(&mut self, out: &mut [u8]);

    /// Makes a key pair and writes the public value as it stands in the KE payload. `None`: this engine does not offer
    /// `group`.
    fn ke_generate(&mut self, group: Group, public: &mut KePublic) -> Option<Self::KeSecret>;

    /// Computes the shared secret (P-256: the x coordinate, RFC 5903 §7; X25519: the output, RFC 8031 §2).
    ///
    /// # Errors
    /// [`BadPublic`] when the peer's value has the wrong length, is not on the curve, or gives the all-zero result.
    fn ke_agree(
        &mut self,
        secret: &Self::KeSecret,
        peer_public: &[u8],
        shared: &mut SharedSecret,
    ) -> Result<(), BadPublic>;

    /// The PRF over the concatenation of `parts`; `out` gets `alg.output_len()` octets. Keys of any length are fine.
    fn prf(&mut self, alg: PrfAlg, key: &[u8], parts: &[&[u8]], out: &mut Digest64);

    /// SHA-1 over the concatenation of `parts`: for NAT detection (RFC 7296 §2.23) and nothing else.
    fn sha1(&mut self, parts: &[&[u8]]) -> [u8; 20];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_hold_what_fits_and_nothing_else() {
        assert_eq!(Secret::<4>::copy_from(&[1, 2, 3]).unwrap().as_slice(), [1, 2, 3]);
        assert!(Secret::<4>::copy_from(&[0; 5]).is_none());
        let mut secret = Secret::<4>::copy_from(&[1, 2, 3, 4]).unwrap();
        assert_eq!(secret.resize(2), Some(&mut [0, 0][..]));
        assert_eq!(secret.bytes, [0; 4]);
        assert!(secret.resize(5).is_none());
        assert!(secret.as_slice().is_empty());
    }

    #[test]
    fn numbers_and_algorithms_go_back_and_forth() {
        for id in 0..=u16::MAX {
            assert!(PrfAlg::from_id(PrfId(id)).is_none_or(|alg| alg.id() == PrfId(id)));
            assert!(Group::from_id(GroupId(id)).is_none_or(|group| group.id() == GroupId(id)));
        }
        for alg in [AeadAlg::Aes128Gcm16, AeadAlg::Aes192Gcm16, AeadAlg::Aes256Gcm16] {
            let (id, bits) = aead_id(alg).unwrap();
            assert_eq!(aead_from_id(id, bits), Some(alg));
            assert_eq!(usize::from(bits), 8 * alg.key_len());
        }
        assert_eq!(aead_from_id(EncrId::AES_GCM_16, 64), None);
        assert_eq!(aead_from_id(EncrId::AES_GCM_12, 128), None);
    }
}
