//! Keying material (RFC 7296 §2.13–§2.18).

use core::fmt;

use heapless::Vec;
use ipsec_core::wipe;

use crate::crypto::{Digest64, Group, IkeCrypto, IkeSuite, PrfAlg, Secret, SharedSecret};
use crate::error::{NoKey, NoRoom, Unkeyed};
use crate::failure::Failure;
pub use crate::wire::sk::{SkReceiver, SkSender};

/// Which end of the IKE SA we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Role {
    /// The IKE SA's initiator: it sends with SK_ei.
    Initiator,
    /// The IKE SA's responder: it sends with SK_er.
    Responder,
}

/// The keys of an IKE SA.
///
/// Both ends make them of the same secret and seed, and each opens what the other one seals:
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::crypto::rustcrypto::RustCrypto;
/// use ike_core::crypto::{Group, IkeSuite, PrfAlg, SharedSecret};
/// use ike_core::keys::{IkeKeys, IkeSeed, Role};
/// use ipsec_core::crypto::AeadAlg;
/// let mut crypto = RustCrypto::new(rand_core::UnwrapErr(SysRng), ipsec_core::crypto::rustcrypto::RustCrypto);
/// let suite = IkeSuite::new(AeadAlg::Aes256Gcm16.into(), PrfAlg::HmacSha256, Group::Curve25519);
/// let shared = SharedSecret::copy_from(&[7; 32]).unwrap(); // of the key exchange
/// let seed = IkeSeed { ni: &[1; 32], nr: &[2; 32], spi_i: 1, spi_r: 2 };
/// let mut ours = IkeKeys::derive(&mut crypto, suite, &shared, &seed, Role::Initiator).unwrap();
/// let theirs = IkeKeys::derive(&mut crypto, suite, &shared, &seed, Role::Responder).unwrap();
/// assert_eq!(ours.sk_d.as_slice(), theirs.sk_d.as_slice());
/// ours.forget_auth();
/// assert!(ours.sk_pi.as_slice().is_empty());
/// ```
pub struct IkeKeys<C: IkeCrypto> {
    /// The suite they are for.
    pub suite: IkeSuite,
    /// SK_d: from it come the keys of Child SAs and of the next IKE SA.
    pub sk_d: Digest64,
    /// SK_pi: goes into the initiator's AUTH.
    pub sk_pi: Digest64,
    /// SK_pr: goes into the responder's AUTH.
    pub sk_pr: Digest64,
    /// Protects what we send.
    pub sender: SkSender<C>,
    /// Opens what the peer sends.
    pub receiver: SkReceiver<C>,
}

impl<C: IkeCrypto> fmt::Debug for IkeKeys<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IkeKeys").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Begins a key exchange: the secret stays at `place`, what the peer gets goes to `public`.
pub(crate) fn offer<C: IkeCrypto>(
    crypto: &mut C,
    group: Group,
    public: &mut [u8],
    place: &mut Option<C::KeSecret>,
) -> Result<(), Failure> {
    wipe::after(STACK, || *place = crypto.ke_offer(group, public));
    place.as_ref().map(|_| ()).ok_or(Failure::CryptoRefused)
}

/// A key exchange whose other half has come: `theirs`, the peer's public value.
pub(crate) enum Exchange<'k, C: IkeCrypto> {
    /// We began it with this secret, which is only lent: the answer may be forged.
    Finish { secret: &'k C::KeSecret, theirs: &'k [u8] },
    /// The peer began it. What it gets goes to `public`.
    Answer { group: Group, theirs: &'k [u8], public: &'k mut [u8] },
}

impl<C: IkeCrypto> Exchange<'_, C> {
    /// Computes g^ir. Only where the stack is wiped after it.
    pub(crate) fn agree(self, crypto: &mut C, shared: &mut SharedSecret) -> Result<(), Unkeyed> {
        match self {
            Self::Finish { secret, theirs } => Ok(crypto.ke_finish(secret, theirs, shared)?),
            Self::Answer { group, theirs, public } => crypto.ke_answer(group, theirs, public, shared),
        }
    }
}

/// What the keys of an IKE SA are made of, beside the shared secret.
#[derive(Debug, Clone, Copy)]
pub struct IkeSeed<'a> {
    /// The initiator's nonce.
    pub ni: &'a [u8],
    /// The responder's nonce.
    pub nr: &'a [u8],
    /// The initiator's SPI.
    pub spi_i: u64,
    /// The responder's SPI.
    pub spi_r: u64,
}

/// Octets of the stack that are wiped after work that makes keys: what a handshake takes, with both of its key exchanges.
/// Words of half the size take half of it.
pub(crate) const STACK: usize = if cfg!(target_pointer_width = "64") { 8 * 1024 } else { 4 * 1024 };

/// Octets of SK_d, SK_ai, SK_ar, SK_ei, SK_er, SK_pi and SK_pr at most.
const KEYMAT_MAX: usize = 3 * 64 + 2 * (32 + 64);

impl<C: IkeCrypto> IkeKeys<C> {
    /// The keys of an initial IKE SA: SKEYSEED = prf(Ni | Nr, g^ir) (RFC 7296 §2.14).
    ///
    /// # Errors
    /// [`NoKey`] when the engine does not take the keys.
    pub fn derive(
        crypto: &mut C,
        suite: IkeSuite,
        shared: &SharedSecret,
        seed: &IkeSeed<'_>,
        role: Role,
    ) -> Result<Self, NoKey> {
        let mut keys = Self::without_keys(suite);
        wipe::after(STACK, || keys.fill(crypto, None, shared, seed, role))?;
        Ok(keys)
    }

    /// The keys of an IKE SA that takes the place of another: SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr) with the PRF
    /// of the old one (RFC 7296 §2.18).
    ///
    /// # Errors
    /// [`NoKey`] when the engine does not take the keys.
    pub fn derive_rekey(
        crypto: &mut C,
        suite: IkeSuite,
        old_prf: PrfAlg,
        old_sk_d: &Digest64,
        shared: &SharedSecret,
        seed: &IkeSeed<'_>,
        role: Role,
    ) -> Result<Self, NoKey> {
        let mut keys = Self::without_keys(suite);
        wipe::after(STACK, || keys.fill(crypto, Some((old_prf, old_sk_d)), shared, seed, role))?;
        Ok(keys)
    }

    /// Makes the keys of an IKE SA, in place of `old` if there is one, where they stay.
    pub(crate) fn make(
        crypto: &mut C,
        old: Option<&Self>,
        suite: IkeSuite,
        exchange: Exchange<'_, C>,
        seed: &IkeSeed<'_>,
        role: Role,
        place: &mut Option<Self>,
    ) -> Result<(), Unkeyed> {
        let keys = Self::put(place, suite);
        let made = wipe::after(STACK, || {
            let mut shared = SharedSecret::new();
            exchange.agree(crypto, &mut shared)?;
            Ok(keys.fill(crypto, old.map(|old| (old.suite.prf, &old.sk_d)), &shared, seed, role)?)
        });
        match made {
            Err(_) => *place = None,
            // Nobody proves who it is with these.
            Ok(()) if old.is_some() => keys.forget_auth(),
            Ok(()) => {}
        }
        made
    }

    /// Both ends have proved who they are: wipes SK_pi and SK_pr, which served for that.
    pub fn forget_auth(&mut self) {
        self.sk_pi.resize(0);
        self.sk_pr.resize(0);
    }

    /// Puts what is to get its keys there into its place: what a move leaves behind nobody wipes.
    #[inline(never)]
    fn put(place: &mut Option<Self>, suite: IkeSuite) -> &mut Self {
        place.insert(Self::without_keys(suite))
    }

    fn without_keys(suite: IkeSuite) -> Self {
        let (sender, receiver) = (SkSender::without_keys(suite.protection), SkReceiver::without_keys(suite.protection));
        Self { suite, sk_d: Digest64::new(), sk_pi: Digest64::new(), sk_pr: Digest64::new(), sender, receiver }
    }

    /// Makes the keys, in place of others with this PRF and this SK_d. Only where the stack is wiped after it.
    fn fill(
        &mut self,
        crypto: &mut C,
        old: Option<(PrfAlg, &Digest64)>,
        shared: &SharedSecret,
        seed: &IkeSeed<'_>,
        role: Role,
    ) -> Result<(), NoKey> {
        let mut skeyseed = Digest64::new();
        match old {
            None => {
                let mut nonces: Vec<u8, 512> = Vec::new();
                nonces.extend_from_slice(seed.ni).map_err(|_| NoKey)?;
                nonces.extend_from_slice(seed.nr).map_err(|_| NoKey)?;
                crypto.prf(self.suite.prf, &nonces, &[shared.as_slice()], &mut skeyseed);
            }
            Some((prf, sk_d)) => {
                crypto.prf(prf, sk_d.as_slice(), &[shared.as_slice(), seed.ni, seed.nr], &mut skeyseed);
            }
        }
        self.expand(crypto, &skeyseed, seed, role)
    }

    /// SK_d and so on out of SKEYSEED.
    fn expand(&mut self, crypto: &mut C, skeyseed: &Digest64, seed: &IkeSeed<'_>, role: Role) -> Result<(), NoKey> {
        let suite = self.suite;
        let prf_len = suite.prf.output_len();
        let (integ_len, encr_len) = (suite.protection.integ_key_len(), suite.protection.encr_key_len());
        let each = prf_len.saturating_add(integ_len).saturating_add(encr_len);
        let total = each.saturating_mul(2).saturating_add(prf_len);
        let mut keymat = Secret::<KEYMAT_MAX>::new();
        let spis = [seed.spi_i.to_be_bytes(), seed.spi_r.to_be_bytes()];
        let parts = [seed.ni, seed.nr, spis.as_flattened()];
        let room = keymat.resize(total).ok_or(NoKey)?;
        prf_plus(crypto, suite.prf, skeyseed.as_slice(), &parts, room).map_err(|NoRoom| NoKey)?;

        let mut rest = keymat.as_slice();
        let mut take = |len| {
            let (taken, left) = rest.split_at_checked(len).ok_or(NoKey)?;
            rest = left;
            Ok(taken)
        };
        self.sk_d.set(take(prf_len)?).ok_or(NoKey)?;
        let (sk_ai, sk_ar) = (take(integ_len)?, take(integ_len)?);
        let (sk_ei, sk_er) = (take(encr_len)?, take(encr_len)?);
        self.sk_pi.set(take(prf_len)?).ok_or(NoKey)?;
        self.sk_pr.set(take(prf_len)?).ok_or(NoKey)?;
        let (ours, theirs) = match role {
            Role::Initiator => ((sk_ei, sk_ai), (sk_er, sk_ar)),
            Role::Responder => ((sk_er, sk_ar), (sk_ei, sk_ai)),
        };
        self.sender.set_keys(crypto, ours.0, ours.1)?;
        self.receiver.set_keys(crypto, theirs.0, theirs.1)
    }
}

/// KEYMAT of a Child SA: prf+(SK_d, [g^ir (new) |] Ni | Nr) (RFC 7296 §2.17). The initiator's sending keys come first, each
/// the cipher key, then the salt or the integrity key.
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::crypto::{Digest64, PrfAlg, rustcrypto::RustCrypto};
/// use ike_core::keys::child_keymat;
/// let mut crypto = RustCrypto::new(rand_core::UnwrapErr(SysRng), ipsec_core::crypto::rustcrypto::RustCrypto);
/// let sk_d = Digest64::copy_from(&[7; 32]).unwrap();
/// let mut keymat = [0; 2 * 36]; // key and salt for each direction
/// child_keymat(&mut crypto, PrfAlg::HmacSha256, &sk_d, None, &[1; 32], &[2; 32], &mut keymat).unwrap();
/// assert_ne!(keymat[..36], keymat[36..]);
/// ```
///
/// # Errors
/// [`NoRoom`] when `out` is longer than prf+ can fill.
pub fn child_keymat<C: IkeCrypto>(
    crypto: &mut C,
    prf: PrfAlg,
    sk_d: &Digest64,
    shared: Option<&SharedSecret>,
    ni: &[u8],
    nr: &[u8],
    out: &mut [u8],
) -> Result<(), NoRoom> {
    let shared = shared.map(Secret::as_slice).unwrap_or_default();
    prf_plus(crypto, prf, sk_d.as_slice(), &[shared, ni, nr], out)
}

/// prf+ (RFC 7296 §2.13) over the concatenation of `seed`, at most 6 parts.
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::crypto::{Digest64, IkeCrypto, PrfAlg, rustcrypto::RustCrypto};
/// use ike_core::keys::prf_plus;
/// let mut crypto = RustCrypto::new(rand_core::UnwrapErr(SysRng), ipsec_core::crypto::rustcrypto::RustCrypto);
/// let (mut out, mut first) = ([0; 40], Digest64::new());
/// prf_plus(&mut crypto, PrfAlg::HmacSha256, b"key", &[b"seed"], &mut out).unwrap();
/// crypto.prf(PrfAlg::HmacSha256, b"key", &[b"seed", &[1]], &mut first); // T1 = prf (K, S | 0x01)
/// assert_eq!(out[..32], *first.as_slice());
/// ```
///
/// # Errors
/// [`NoRoom`] for more parts, or more than 255 blocks of output.
pub fn prf_plus<C: IkeCrypto>(
    crypto: &mut C,
    alg: PrfAlg,
    key: &[u8],
    seed: &[&[u8]],
    out: &mut [u8],
) -> Result<(), NoRoom> {
    let mut previous = Digest64::new();
    for (index, chunk) in out.chunks_mut(alg.output_len()).enumerate() {
        let number = [u8::try_from(index).ok().and_then(|index| index.checked_add(1)).ok_or(NoRoom)?];
        let mut block = Digest64::new();
        {
            let mut parts: Vec<&[u8], 8> = Vec::new();
            parts.push(previous.as_slice()).map_err(|_| NoRoom)?;
            parts.extend_from_slice(seed).map_err(|_| NoRoom)?;
            parts.push(&number).map_err(|_| NoRoom)?;
            crypto.prf(alg, key, &parts, &mut block);
        }
        for (to, from) in chunk.iter_mut().zip(block.as_slice()) {
            *to = *from;
        }
        previous = block;
    }
    Ok(())
}
