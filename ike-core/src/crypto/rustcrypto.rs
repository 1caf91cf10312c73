//! The default provider of what IKE needs beside packets, in portable Rust.

use core::fmt;

use hmac::{EagerHash, Hmac, KeyInit, Mac};
use ipsec_core::crypto::{AeadAlg, CipherAlg, Forged, IntegAlg, PacketCrypto, Purpose};
use p256::elliptic_curve::sec1::ToSec1Point;
use rand_core::CryptoRng;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha384, Sha512};
use x25519_dalek::StaticSecret;

use super::{Digest64, Group, IkeCrypto, PrfAlg, Secret, SharedSecret};
use crate::error::BadPublic;

#[cfg(test)]
mod no_random;

#[cfg(test)]
pub(crate) use no_random::NoRandom;

/// A random generator and the engine that protects packets, which may be hardware; hashes and key exchanges are software.
///
/// On a system with a random generator, for software that does packets too. A board has its own, which implements
/// [`TryRng`](rand_core::TryRng) and [`TryCryptoRng`](rand_core::TryCryptoRng) of `rand_core` 0.10 without errors:
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::crypto::rustcrypto::{KeSecret, RustCrypto};
/// use ike_core::crypto::{Group, IkeCrypto, SharedSecret};
/// use rand_core::UnwrapErr; // a system without random numbers has no keys to lose
/// let mut crypto = RustCrypto::new(UnwrapErr(SysRng), ipsec_core::crypto::rustcrypto::RustCrypto);
/// let (mut one, mut other) = ([0; 32], [0; 32]);
/// let secret: KeSecret = crypto.ke_offer(Group::Curve25519, &mut one).unwrap();
/// assert!(crypto.ke_offer(Group::Curve25519, &mut other).is_some());
/// assert_ne!(one, other);
/// crypto.ke_finish(&secret, &other, &mut SharedSecret::new()).unwrap();
/// ```
pub struct RustCrypto<R, P = ipsec_core::crypto::rustcrypto::RustCrypto> {
    rng: R,
    packets: P,
}

impl<R, P> fmt::Debug for RustCrypto<R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RustCrypto").finish_non_exhaustive()
    }
}

/// A private value of a key exchange.
pub struct KeSecret(Private);

impl fmt::Debug for KeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeSecret").finish_non_exhaustive()
    }
}

enum Private {
    Ecp256(p256::SecretKey),
    Curve25519(StaticSecret),
}

impl<R, P> RustCrypto<R, P> {
    /// An engine that draws from `rng` and leaves packets to `packets`.
    pub const fn new(rng: R, packets: P) -> Self {
        Self { rng, packets }
    }
}

impl<R, P: PacketCrypto> PacketCrypto for RustCrypto<R, P> {
    type AeadKey = P::AeadKey;
    type CipherKey = P::CipherKey;
    type IntegKey = P::IntegKey;
    type Place<T> = P::Place<T>;

    fn aead_key(&mut self, alg: AeadAlg, key: &[u8]) -> Option<Self::AeadKey> {
        self.packets.aead_key(alg, key)
    }

    fn seal(&mut self, key: &Self::AeadKey, nonce: &[u8; 12], aad: &[u8], text_and_tag: &mut [u8]) {
        self.packets.seal(key, nonce, aad, text_and_tag);
    }

    fn open(
        &mut self,
        key: &Self::AeadKey,
        nonce: &[u8; 12],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Forged> {
        self.packets.open(key, nonce, aad, text_and_tag)
    }

    fn cipher_key(&mut self, alg: CipherAlg, purpose: Purpose, key: &[u8]) -> Option<Self::CipherKey> {
        self.packets.cipher_key(alg, purpose, key)
    }

    fn encrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        self.packets.encrypt(key, iv, text);
    }

    fn decrypt(&mut self, key: &Self::CipherKey, iv: &[u8; 16], text: &mut [u8]) {
        self.packets.decrypt(key, iv, text);
    }

    fn integ_key(&mut self, alg: IntegAlg, key: &[u8]) -> Option<Self::IntegKey> {
        self.packets.integ_key(alg, key)
    }

    fn icv(&mut self, key: &Self::IntegKey, parts: &[&[u8]], icv: &mut [u8]) {
        self.packets.icv(key, parts, icv);
    }
}

impl<R: CryptoRng, P: PacketCrypto> IkeCrypto for RustCrypto<R, P> {
    type KeSecret = KeSecret;

    fn random(&mut self, out: &mut [u8]) {
        self.rng.fill_bytes(out);
    }

    fn ke_offer(&mut self, group: Group, public: &mut [u8]) -> Option<KeSecret> {
        match group {
            Group::Ecp256 => {
                let secret = self.p256_secret()?;
                p256_public(&secret, public)?;
                Some(KeSecret(Private::Ecp256(secret)))
            }
            Group::Curve25519 => {
                let mut octets = Secret::<32>::new();
                self.rng.fill_bytes(octets.resize(32)?);
                let secret = StaticSecret::from(*octets.as_slice().first_chunk()?);
                x25519_public(&secret, public)?;
                Some(KeSecret(Private::Curve25519(secret)))
            }
            Group::MlKem768 => None,
        }
    }

    fn ke_finish(
        &mut self,
        KeSecret(secret): &KeSecret,
        peer_public: &[u8],
        shared: &mut SharedSecret,
    ) -> Result<(), BadPublic> {
        let room = shared.resize(32).and_then(|room| room.first_chunk_mut()).ok_or(BadPublic)?;
        match secret {
            Private::Ecp256(secret) => p256_agree(secret, peer_public, room),
            Private::Curve25519(secret) => x25519_agree(secret, peer_public, room),
        }
    }

    fn prf(&mut self, alg: PrfAlg, key: &[u8], parts: &[&[u8]], out: &mut Digest64) {
        match alg {
            PrfAlg::HmacSha256 => hmac::<Sha256>(key, parts, out),
            PrfAlg::HmacSha384 => hmac::<Sha384>(key, parts, out),
            PrfAlg::HmacSha512 => hmac::<Sha512>(key, parts, out),
        }
    }

    fn sha1(&mut self, parts: &[&[u8]]) -> [u8; 20] {
        let mut hash = Sha1::new();
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().into()
    }
}

impl<R: CryptoRng, P> RustCrypto<R, P> {
    /// A number below the order of the group; each draw misses with a chance of 2^-32.
    fn p256_secret(&mut self) -> Option<p256::SecretKey> {
        (0..8).find_map(|_| {
            let mut octets = Secret::<32>::new();
            self.rng.fill_bytes(octets.resize(32)?);
            p256::SecretKey::from_slice(octets.as_slice()).ok()
        })
    }
}

// Each in a frame of its own: both together take twice the stack.

#[inline(never)]
fn p256_agree(secret: &p256::SecretKey, peer_public: &[u8], room: &mut [u8; 32]) -> Result<(), BadPublic> {
    let public = p256_point(peer_public)?;
    room.copy_from_slice(secret.diffie_hellman(&public).raw_secret_bytes());
    Ok(())
}

#[inline(never)]
fn p256_point(peer_public: &[u8]) -> Result<p256::PublicKey, BadPublic> {
    let coordinates: &[u8; 64] = peer_public.try_into().map_err(|_| BadPublic)?;
    let mut point = [4; 65];
    for (to, from) in point.iter_mut().skip(1).zip(coordinates) {
        *to = *from;
    }
    // Checks that the point is on the curve, which has cofactor 1, and not at infinity.
    p256::PublicKey::from_sec1_bytes(&point).map_err(|_| BadPublic)
}

#[inline(never)]
fn x25519_agree(secret: &StaticSecret, peer_public: &[u8], room: &mut [u8; 32]) -> Result<(), BadPublic> {
    let public: &[u8; 32] = peer_public.try_into().map_err(|_| BadPublic)?;
    let agreed = secret.diffie_hellman(&(*public).into());
    if !agreed.was_contributory() {
        return Err(BadPublic);
    }
    room.copy_from_slice(agreed.as_bytes());
    Ok(())
}

#[inline(never)]
fn x25519_public(secret: &StaticSecret, public: &mut [u8]) -> Option<()> {
    let room: &mut [u8; 32] = public.try_into().ok()?;
    *room = x25519_dalek::PublicKey::from(secret).to_bytes();
    Some(())
}

#[inline(never)]
fn p256_public(secret: &p256::SecretKey, public: &mut [u8]) -> Option<()> {
    // Uncompressed, without the octet 4 that says so (RFC 5903 §7).
    let point = secret.public_key().to_sec1_point(false);
    let room: &mut [u8; 64] = public.try_into().ok()?;
    *room = *point.as_bytes().split_first()?.1.first_chunk()?;
    Some(())
}

fn hmac<D: EagerHash>(key: &[u8], parts: &[&[u8]], out: &mut Digest64)
where
    Hmac<D>: Mac + KeyInit,
{
    // HMAC takes keys of every length: there is no error to come.
    let Ok(mut mac) = <Hmac<D> as KeyInit>::new_from_slice(key) else { return };
    parts.iter().for_each(|part| mac.update(part));
    let digest = mac.finalize().into_bytes();
    if let Some(room) = out.resize(digest.len()) {
        room.copy_from_slice(&digest);
    }
}
