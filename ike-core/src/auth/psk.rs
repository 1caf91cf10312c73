//! Shared Key Message Integrity Code (RFC 7296 §2.15).

use heapless::Vec;
use ipsec_core::wipe;
use subtle::ConstantTimeEq;

use super::signed::SignedOctets;
use crate::crypto::{Digest64, IkeCrypto, PrfAlg};
use crate::error::NoRoom;
use crate::keys::STACK;

const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// The AUTH value: prf(prf(psk, "Key Pad for IKEv2"), message | nonce | prf(SK_p, ID)).
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::auth::{SignedOctets, psk};
/// use ike_core::crypto::{Digest64, PrfAlg, rustcrypto::RustCrypto};
/// use ike_core::{registry::IdKind, wire::id::Id};
/// let mut crypto = RustCrypto::new(rand_core::UnwrapErr(SysRng), ipsec_core::crypto::rustcrypto::RustCrypto);
/// let sk_p = Digest64::copy_from(&[7; 32]).unwrap(); // SK_pi, in `IkeKeys`
/// let id = Id { kind: IdKind::FQDN, data: b"left.example" };
/// let signed = SignedOctets { message: &[b"IKE_SA_INIT"], nonce: &[1; 32], id, sk_p: &sk_p };
/// let mut value = Digest64::new();
/// psk::auth_value(&mut crypto, PrfAlg::HmacSha256, b"a key", &signed, &mut value).unwrap();
/// assert!(psk::verify(&mut crypto, PrfAlg::HmacSha256, b"a key", &signed, value.as_slice()));
/// ```
///
/// # Errors
/// [`NoRoom`] when the message has more than 6 parts.
pub fn auth_value<C: IkeCrypto>(
    crypto: &mut C,
    prf: PrfAlg,
    psk: &[u8],
    signed: &SignedOctets<'_>,
    out: &mut Digest64,
) -> Result<(), NoRoom> {
    wipe::after(STACK, || {
        let mut id_mac = Digest64::new();
        signed.maced_id(crypto, prf, &mut id_mac);
        let mut parts: Vec<&[u8], 8> = Vec::new();
        parts.extend_from_slice(signed.message).map_err(|_| NoRoom)?;
        parts.push(signed.nonce).map_err(|_| NoRoom)?;
        parts.push(id_mac.as_slice()).map_err(|_| NoRoom)?;
        let mut key = Digest64::new();
        crypto.prf(prf, psk, &[KEY_PAD], &mut key);
        crypto.prf(prf, key.as_slice(), &parts, out);
        Ok(())
    })
}

/// Whether `received` is the AUTH value, in constant time.
///
/// ```
/// use getrandom::SysRng;
/// use ike_core::auth::{SignedOctets, psk};
/// use ike_core::crypto::{Digest64, PrfAlg, rustcrypto::RustCrypto};
/// use ike_core::{registry::IdKind, wire::id::Id};
/// let mut crypto = RustCrypto::new(rand_core::UnwrapErr(SysRng), ipsec_core::crypto::rustcrypto::RustCrypto);
/// let sk_p = Digest64::copy_from(&[7; 32]).unwrap();
/// let id = Id { kind: IdKind::FQDN, data: b"right.example" };
/// let signed = SignedOctets { message: &[b"IKE_SA_INIT"], nonce: &[1; 32], id, sk_p: &sk_p };
/// assert!(!psk::verify(&mut crypto, PrfAlg::HmacSha256, b"a key", &signed, &[0; 32]));
/// ```
pub fn verify<C: IkeCrypto>(
    crypto: &mut C,
    prf: PrfAlg,
    psk: &[u8],
    signed: &SignedOctets<'_>,
    received: &[u8],
) -> bool {
    let mut expected = Digest64::new();
    auth_value(crypto, prf, psk, signed, &mut expected).is_ok()
        && !received.is_empty()
        && expected.as_slice().ct_eq(received).into()
}

#[cfg(test)]
mod tests {
    use ipsec_core::crypto::{AeadAlg, Forged, InPlace, PacketCrypto};

    use super::*;
    use crate::crypto::{Group, SharedSecret};
    use crate::error::BadPublic;
    use crate::registry::IdKind;
    use crate::wire::id::Id;

    /// An engine that fails without saying so.
    struct Dead;

    impl PacketCrypto for Dead {
        type AeadKey = ();
        type Place<T> = InPlace<T>;
        ipsec_core::aead_only!();
        fn aead_key(&mut self, _: AeadAlg, _: &[u8]) -> Option<()> {
            None
        }
        fn seal(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) {}
        fn open(&mut self, (): &(), _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Forged> {
            Err(Forged)
        }
    }

    impl IkeCrypto for Dead {
        type KeSecret = ();
        fn random(&mut self, _: &mut [u8]) {}
        fn ke_offer(&mut self, _: Group, _: &mut [u8]) -> Option<()> {
            None
        }
        fn ke_finish(&mut self, (): &(), _: &[u8], _: &mut SharedSecret) -> Result<(), BadPublic> {
            Err(BadPublic)
        }
        fn prf(&mut self, _: PrfAlg, _: &[u8], _: &[&[u8]], _: &mut Digest64) {}
        fn sha1(&mut self, _: &[&[u8]]) -> [u8; 20] {
            [0; 20]
        }
    }

    #[test]
    fn atk_29_an_empty_auth_never_verifies_even_where_the_engine_computes_nothing() {
        let sk_p = Digest64::new();
        let id = Id { kind: IdKind::FQDN, data: b"a" };
        let signed = SignedOctets { message: &[b"message"], nonce: b"nonce", id, sk_p: &sk_p };
        assert!(!verify(&mut Dead, PrfAlg::HmacSha256, b"psk", &signed, &[]));
        assert!(!verify(&mut Dead, PrfAlg::HmacSha256, b"psk", &signed, &[0; 32]));
        let too_many = SignedOctets { message: &[b"part".as_slice(); 7], ..signed };
        assert_eq!(auth_value(&mut Dead, PrfAlg::HmacSha256, b"psk", &too_many, &mut Digest64::new()), Err(NoRoom));
    }
}
