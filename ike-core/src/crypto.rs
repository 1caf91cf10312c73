//! The seam between IKEv2 and a crypto engine, and the algorithms that may stand in a suite.

use core::fmt;

use ipsec_core::crypto::PacketCrypto;
use zeroize::Zeroize;

use crate::error::{BadPublic, Unkeyed};
use crate::registry::{GroupId, PrfId};

mod numbers;
#[cfg(feature = "rustcrypto")]
pub mod rustcrypto;

pub use ipsec_core::crypto::{CipherAlg, IntegAlg, Protection};
pub use numbers::{Encryption, integ_from_id, integ_id};

/// A pseudorandom function (RFC 7296 §2.13).
///
/// ```
/// use ike_core::crypto::PrfAlg;
/// assert_eq!(PrfAlg::from_id(PrfAlg::HmacSha384.id()), Some(PrfAlg::HmacSha384));
/// assert_eq!(PrfAlg::HmacSha384.output_len(), 48);
/// ```
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

    /// The function with the hash of an integrity algorithm; `None`: that has none, or it is not built.
    pub const fn of(integ: IntegAlg) -> Option<Self> {
        match integ {
            IntegAlg::HmacSha256 => Some(Self::HmacSha256),
            IntegAlg::HmacSha384 => Some(Self::HmacSha384),
            IntegAlg::HmacSha512 => Some(Self::HmacSha512),
            _ => None,
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
///
/// ```
/// use ike_core::crypto::Group;
/// assert_eq!(Group::Curve25519.id().0, 31);
/// assert_eq!((Group::MlKem768.offer_len(), Group::MlKem768.answer_len()), (1184, 1088));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Group {
    /// Group 19, the NIST curve P-256 (RFC 5903).
    Ecp256,
    /// Group 31, X25519 (RFC 8031).
    Curve25519,
    /// Method 36, ML-KEM-768 (FIPS 203): the two sides send values of different lengths. Not offered by the default engine.
    MlKem768,
}

impl Group {
    /// The number on the wire.
    pub const fn id(self) -> GroupId {
        match self {
            Self::Ecp256 => GroupId::ECP_256,
            Self::Curve25519 => GroupId::CURVE25519,
            Self::MlKem768 => GroupId::ML_KEM_768,
        }
    }

    /// The group with this number; `None` when it is not built.
    pub const fn from_id(id: GroupId) -> Option<Self> {
        match id {
            GroupId::ECP_256 => Some(Self::Ecp256),
            GroupId::CURVE25519 => Some(Self::Curve25519),
            GroupId::ML_KEM_768 => Some(Self::MlKem768),
            _ => None,
        }
    }

    /// Octets of the public value of whoever begins the key exchange.
    pub const fn offer_len(self) -> usize {
        match self {
            Self::Ecp256 => 64,
            Self::Curve25519 => 32,
            Self::MlKem768 => 1184,
        }
    }

    /// Octets of the public value of whoever answers it.
    pub const fn answer_len(self) -> usize {
        match self {
            Self::Ecp256 => 64,
            Self::Curve25519 => 32,
            Self::MlKem768 => 1088,
        }
    }
}

/// The key exchanges that follow the first one (RFC 9370 §2.2.1), at their places 1 to 7.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Additional(pub [Option<Group>; 7]);

impl Additional {
    /// No further key exchange.
    pub const NONE: Self = Self([None; 7]);
}

/// What an IKE SA was negotiated to use.
///
/// ```
/// use ike_core::crypto::{Additional, Group, IkeSuite, PrfAlg};
/// use ipsec_core::crypto::AeadAlg;
/// let suite = IkeSuite::new(AeadAlg::Aes256Gcm16.into(), PrfAlg::HmacSha384, Group::Curve25519);
/// assert_eq!(suite.to_string(), "aes256gcm16-prfsha384-x25519");
/// assert_eq!(suite.additional, Additional::NONE);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IkeSuite {
    /// Protects the SK payload.
    pub protection: Protection,
    /// Derives keys and computes AUTH.
    pub prf: PrfAlg,
    /// The key exchange.
    pub group: Group,
    /// Those after it.
    pub additional: Additional,
}

impl IkeSuite {
    /// A suite with one key exchange.
    pub const fn new(protection: Protection, prf: PrfAlg, group: Group) -> Self {
        Self { protection, prf, group, additional: Additional::NONE }
    }
}

/// What a Child SA was negotiated to use.
///
/// ```
/// use ike_core::crypto::{EspSuite, Group};
/// use ipsec_core::crypto::AeadAlg;
/// let suite = EspSuite::new(AeadAlg::Aes256Gcm16.into(), true, Some(Group::Curve25519));
/// assert_eq!(suite.to_string(), "aes256gcm16-x25519-esn");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EspSuite {
    /// Protects the packets.
    pub protection: Protection,
    /// Extended sequence numbers.
    pub esn: bool,
    /// The key exchange of its own (PFS); `None` without one.
    pub group: Option<Group>,
    /// Those after it.
    pub additional: Additional,
}

impl EspSuite {
    /// A suite with one key exchange at most.
    pub const fn new(protection: Protection, esn: bool, group: Option<Group>) -> Self {
        Self { protection, esn, group, additional: Additional::NONE }
    }
}

/// Up to `N` secret octets: wiped on drop, never printed, never cloned.
///
/// ```
/// use ike_core::crypto::Secret;
/// let mut secret = Secret::<32>::copy_from(b"a key").unwrap();
/// assert_eq!(secret.as_slice(), b"a key");
/// assert_eq!(format!("{secret:?}"), "Secret { .. }");
/// assert_eq!(secret.resize(2), Some(&mut [0, 0][..])); // wiped first
/// assert!(Secret::<4>::copy_from(b"a key").is_none());
/// ```
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
        secret.set(bytes)?;
        Some(secret)
    }

    /// Holds a copy of `bytes`, in place of what it held; `None`, and empty, when there are more than `N`.
    pub fn set(&mut self, bytes: &[u8]) -> Option<()> {
        self.resize(bytes.len()).map(|room| room.copy_from_slice(bytes))
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

/// What a crypto engine does for IKE, beside packets.
///
/// It need not have every algorithm, but the endpoint does not ask it which: it offers and agrees to what the
/// [proposals](crate::proposal::IkeProposal) list, so narrow these to what the engine has. With a cipher or a group that it
/// lacks, a connection of ours ends ([`CryptoRefused`](crate::failure::Failure::CryptoRefused)), a peer's is not answered, and
/// rekeys are refused, as are children with such a group. A PRF that it lacks it cannot even refuse: it must not be listed.
///
/// A key exchange has three steps, which fit Diffie-Hellman and a KEM: one side [offers](Self::ke_offer), the other one
/// [answers](Self::ke_answer) and has the shared secret, the first one [finishes](Self::ke_finish) and has it too.
///
/// Both ends of a key exchange, whatever the method:
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::crypto::rustcrypto::RustCrypto;
/// use ike_core::crypto::{Group, IkeCrypto, SharedSecret};
/// fn exchange(one: &mut impl IkeCrypto, other: &mut impl IkeCrypto, group: Group) -> [SharedSecret; 2] {
///     let (mut offer, mut answer) = (vec![0; group.offer_len()], vec![0; group.answer_len()]);
///     let mut shared = [SharedSecret::new(), SharedSecret::new()];
///     let secret = one.ke_offer(group, &mut offer).expect("a group that the engine offers");
///     other.ke_answer(group, &offer, &mut answer, &mut shared[1]).unwrap();
///     one.ke_finish(&secret, &answer, &mut shared[0]).unwrap();
///     shared
/// }
/// let crypto = || RustCrypto::new(rand_core::UnwrapErr(SysRng), ipsec_core::crypto::rustcrypto::RustCrypto);
/// let [ours, theirs] = exchange(&mut crypto(), &mut crypto(), Group::Ecp256);
/// assert_eq!(ours.as_slice(), theirs.as_slice());
/// ```
pub trait IkeCrypto: PacketCrypto {
    /// What whoever offers keeps until the answer comes. For one exchange (RFC 7296 §2.12: no reuse here), but lent: until
    /// IKE_AUTH an answer may be forged, and must not cost the secret that the genuine one needs. Wiped on drop.
    type KeSecret;

    /// Fills `out` from a cryptographically secure generator.
    fn random(&mut self, out: &mut [u8]);

    /// Begins a key exchange: fills `public` (`group.offer_len()` octets) as it stands in the KE payload. `None`: this
    /// engine does not offer `group`, or the length is another.
    fn ke_offer(&mut self, group: Group, public: &mut [u8]) -> Option<Self::KeSecret>;

    /// Answers a key exchange of the peer: fills `public` (`group.answer_len()` octets) and computes the shared secret. Of
    /// itself it does what suits Diffie-Hellman: offers, and finishes at once.
    ///
    /// # Errors
    /// [`Unkeyed::NoKey`] where [`Self::ke_offer`] gives none, [`Unkeyed::BadPublic`] as from [`Self::ke_finish`].
    fn ke_answer(
        &mut self,
        group: Group,
        peer_public: &[u8],
        public: &mut [u8],
        shared: &mut SharedSecret,
    ) -> Result<(), Unkeyed> {
        let secret = self.ke_offer(group, public).ok_or(Unkeyed::NoKey)?;
        Ok(self.ke_finish(&secret, peer_public, shared)?)
    }

    /// Computes the shared secret from the answer (P-256: the x coordinate, RFC 5903 §7; X25519: the output, RFC 8031 §2).
    ///
    /// # Errors
    /// [`BadPublic`] when the peer's value has the wrong length, is not on the curve, or gives the all-zero result.
    fn ke_finish(
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
    }
}
