//! Stateless cookies against floods of half-open SAs (RFC 7296 §2.6).

use core::net::IpAddr;
use core::time::Duration;

use ipsec_core::time::Instant;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::crypto::{Digest64, IkeCrypto, PrfAlg};

/// Octets of a cookie: the generation of the secret, then a truncated HMAC.
pub(crate) const LEN: usize = 17;
const LIFE: Duration = Duration::from_secs(60);

/// The secrets that cookies are made of: the current one and the one before, so that a cookie handed out just before
/// the change is still good.
pub(crate) struct Jar {
    generation: u8,
    secrets: Zeroizing<[[u8; 32]; 2]>,
    renew_at: Instant,
}

impl Jar {
    pub(crate) fn new<C: IkeCrypto>(crypto: &mut C) -> Self {
        let mut secrets = Zeroizing::new([[0; 32]; 2]);
        for secret in secrets.iter_mut() {
            crypto.random(secret);
        }
        Self { generation: 0, secrets, renew_at: Instant::ZERO }
    }

    fn renew<C: IkeCrypto>(&mut self, crypto: &mut C, now: Instant) {
        if now < self.renew_at {
            return;
        }
        // Nobody may have come for long: then the current one is too old to be the one before.
        let outlived = self.renew_at + LIFE <= now;
        self.renew_at = now + LIFE;
        self.generation = self.generation.wrapping_add(1);
        let [current, previous] = &mut *self.secrets;
        if outlived {
            crypto.random(previous);
        } else {
            previous.copy_from_slice(current);
        }
        crypto.random(current);
    }

    /// The cookie for an initiator that says `nonce` and `spi_i` from `remote`.
    pub(crate) fn bake<C: IkeCrypto>(
        &mut self,
        crypto: &mut C,
        now: Instant,
        nonce: &[u8],
        remote: IpAddr,
        spi_i: u64,
    ) -> [u8; LEN] {
        self.renew(crypto, now);
        let [current, _] = &*self.secrets;
        mac(crypto, self.generation, current, nonce, remote, spi_i)
    }

    /// Whether the initiator returned the cookie that it was given.
    pub(crate) fn check<C: IkeCrypto>(
        &mut self,
        crypto: &mut C,
        now: Instant,
        cookie: &[u8],
        nonce: &[u8],
        remote: IpAddr,
        spi_i: u64,
    ) -> bool {
        self.renew(crypto, now);
        let [current, previous] = &*self.secrets;
        let secret = match cookie.first() {
            Some(&generation) if generation == self.generation => current,
            Some(&generation) if generation.wrapping_add(1) == self.generation => previous,
            _ => return false,
        };
        let expected = mac(crypto, cookie.first().copied().unwrap_or(0), secret, nonce, remote, spi_i);
        bool::from(expected.as_slice().ct_eq(cookie))
    }
}

fn mac<C: IkeCrypto>(
    crypto: &mut C,
    generation: u8,
    secret: &[u8],
    nonce: &[u8],
    remote: IpAddr,
    spi_i: u64,
) -> [u8; LEN] {
    let remote = match remote {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut digest = Digest64::new();
    crypto.prf(PrfAlg::HmacSha256, secret, &[&remote.octets(), &spi_i.to_be_bytes(), nonce], &mut digest);
    let mut cookie = [generation; LEN];
    for (to, from) in cookie.iter_mut().skip(1).zip(digest.as_slice()) {
        *to = *from;
    }
    cookie
}
